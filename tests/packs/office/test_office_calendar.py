"""Events of the office pack, read by another reader of iCalendar."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.packs.office.addresses import Mailbox
from bascule.packs.office.ics import MAX_LINE_OCTETS, Event, escaped, folded, ics
from bascule.packs.pack import ToolFailed
from packs.promised import check
from packs.talking import talking

CREATE = "calendar__create_event"
EVENT: dict[str, Any] = {
    "title": "Q4; review, họp",
    "start": "2026-12-01T09:30",
    "end": "2026-12-01T10:30",
    "time_zone": "Asia/Ho_Chi_Minh",
}


def parsed(content: bytes) -> Any:
    """The only event of a calendar."""
    icalendar = pytest.importorskip("icalendar")
    (event,) = icalendar.Calendar.from_ical(content).walk("VEVENT")
    return event


async def test_an_event_is_a_file_that_calendars_read(tmp_path: Path) -> None:
    async with talking("office", root=str(tmp_path)) as office:
        made = await office.call(
            CREATE,
            **EVENT,
            attendees=["Ann Lee <ann@company.test>"],
            organizer="boss@company.test",
            remind_minutes=15,
            location="Room 1, 2nd floor",
            description="a\nb;c",
        )
    check("office", "calendar/create_event", made)
    assert (made["start"], made["end"]) == ("2026-12-01T02:30:00+00:00", "2026-12-01T03:30:00+00:00")
    event = parsed((tmp_path / made["path"]).read_bytes())
    assert event["UID"] == made["uid"]
    assert event["SUMMARY"] == EVENT["title"]
    assert event["DESCRIPTION"] == "a\nb;c"
    assert event["LOCATION"] == "Room 1, 2nd floor"
    assert event.decoded("DTSTART") == datetime(2026, 12, 1, 2, 30, tzinfo=UTC)
    assert event["ORGANIZER"] == "mailto:boss@company.test"
    assert event["ATTENDEE"] == "mailto:ann@company.test"
    assert event["ATTENDEE"].params["CN"] == "Ann Lee"
    (alarm,) = event.walk("VALARM")
    assert alarm.decoded("TRIGGER") == timedelta(minutes=-15)


async def test_days_are_days_and_the_last_one_is_one_of_them(tmp_path: Path) -> None:
    async with talking("office", root=str(tmp_path)) as office:
        made = await office.call(CREATE, title="Away", start="2026-12-24", end="2026-12-26")
    event = parsed((tmp_path / made["path"]).read_bytes())
    assert event.decoded("DTSTART") == date(2026, 12, 24)
    assert event.decoded("DTEND") == date(2026, 12, 27)
    assert made["end"] == "2026-12-26"


async def test_the_same_event_is_one_event_and_the_same_key_too(tmp_path: Path) -> None:
    async with talking("office", root=str(tmp_path)) as office:
        first = await office.call(CREATE, **EVENT)
        assert await office.call(CREATE, **EVENT) == first
        keyed = await office.call(CREATE, "key-of-a-call-0001", **EVENT)
        assert keyed["uid"] != first["uid"]
        assert await office.call(CREATE, "key-of-a-call-0001", **EVENT) == keyed
        said = await office.refusal(CREATE, "key-of-a-call-0001", **{**EVENT, "title": "Another"})
        assert "used for something else" in said
    async with talking("office", root=str(tmp_path)) as office:
        assert await office.call(CREATE, "key-of-a-call-0001", **EVENT) == keyed
    assert len(list((tmp_path / "events").iterdir())) == 2


NO_EVENTS: list[Any] = [
    ({"end": "2026-12-01T09:30"}, "ends before"),
    ({"end": "2026-12-01T09:00"}, "ends before"),
    ({"start": "2026-12-02", "end": "2026-12-01"}, "ends before"),
    ({"start": "2026-12-01"}, "a day and the other a moment"),
    ({"end": "2028-12-01T10:30"}, "longer than a year"),
    ({"start": "2026-02-30T09:30"}, "neither a day nor a moment"),
    ({"start": "2026-12-01T24:30"}, "neither a day nor a moment"),
    ({"start": "tomorrow at 9"}, "neither a day nor a moment"),
    ({"start": "2026-12-01T09:30\r\nX:1"}, "neither a day nor a moment"),
    ({"start": "0001-01-01"}, "out of reach"),
    ({"time_zone": None}, "no time_zone"),
    ({"time_zone": "Mars/Olympus"}, "no time zone"),
    ({"time_zone": "../../../etc/passwd"}, "no time zone"),
    ({"time_zone": "/etc/localtime"}, "no time zone"),
    ({"time_zone": "Europe"}, "no time zone"),
    ({"time_zone": "Europe/Berlin", "start": "2026-10-25T02:30", "end": "2026-10-25T05:00"}, "shown twice"),
    ({"time_zone": "Europe/Berlin", "start": "2026-03-29T02:30", "end": "2026-03-29T05:00"}, "never shown"),
    ({"attendees": ["ann"]}, "is not a mail address"),
    ({"attendees": ["Ann\r\nATTENDEE:mailto:eve@evil.test <ann@company.test>"]}, "name"),
    ({"attendees": ['Ann";X="1 <ann@company.test>']}, "name"),
    ({"title": "a\nb"}, "more than one line"),
    ({"title": "a\x07b"}, "control"),
    ({"location": "a\rb"}, "more than one line"),
    ({"description": "a\x00b"}, "control"),
]


async def test_what_is_no_event_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    async with talking("office", root=str(tmp_path)) as office:
        for change, word in NO_EVENTS:
            wanted = {name: value for name, value in {**EVENT, **change}.items() if value is not None}
            assert word in await office.refusal(CREATE, **wanted), change
    assert not (tmp_path / "events").exists()


OUTSIDE: list[Any] = [
    {"title": ""},
    {"title": "x" * 301},
    {"remind_minutes": -1},
    {"remind_minutes": 40_321},
    {"repeat": "daily"},
]


async def test_arguments_outside_of_the_schema_are_refused(tmp_path: Path) -> None:
    async with talking("office", root=str(tmp_path)) as office:
        for change in OUTSIDE:
            await office.refusal(CREATE, **{**EVENT, **change})
        await office.call(CREATE, **{**EVENT, "title": "x" * 300, "remind_minutes": 40_320})


async def test_an_offset_decides_where_clocks_show_an_hour_twice(tmp_path: Path) -> None:
    async with talking("office", root=str(tmp_path)) as office:
        made = await office.call(CREATE, title="Late", start="2026-10-25T02:30+01:00", end="2026-10-25T03:00+01:00")
    assert made["start"] == "2026-10-25T01:30:00+00:00"


# ---- the writer


def event(**more: Any) -> Event:
    said: dict[str, Any] = {
        "uid": "0123",
        "stamp": datetime(2026, 11, 21, tzinfo=UTC),
        "title": "Review",
        "start": datetime(2026, 12, 1, 9, tzinfo=UTC),
        "end": datetime(2026, 12, 1, 10, tzinfo=UTC),
    }
    return Event(**{**said, **more})


@settings(deadline=None)  # the other reader takes its time
@given(st.text(), st.text(), st.lists(st.from_regex(r"[A-Za-z .'éạ漢🙂-]{0,50}", fullmatch=True), max_size=3))
def test_no_text_adds_a_line_that_is_not_its_own(title: str, description: str, names: list[str]) -> None:
    attendees = tuple(Mailbox(f"p{number}@company.test", name.strip()) for number, name in enumerate(names))
    try:
        content = ics(event(title=title, description=description, attendees=attendees))
    except ToolFailed:
        return
    assert content.endswith(b"END:VEVENT\r\nEND:VCALENDAR\r\n")
    lines = content.split(b"\r\n")
    assert all(len(line) <= MAX_LINE_OCTETS and b"\r" not in line and b"\n" not in line for line in lines)
    unfolded = content.decode().replace("\r\n ", "").split("\r\n")
    names_of_lines = [line.partition(":")[0].partition(";")[0] for line in unfolded if line]
    assert names_of_lines.count("BEGIN") == 2
    assert names_of_lines.count("ATTENDEE") == len(attendees)
    found = parsed(content)
    assert str(found["SUMMARY"]) == title.replace("\r\n", "\n")


@given(st.text(st.characters(codec="utf-8")))
def test_folding_is_undone_by_taking_the_folds_away(text: str) -> None:
    line = text.replace("\r", "").replace("\n", "")
    found = folded(line)
    assert found.replace("\r\n ", "") == f"{line}\r\n"
    assert all(len(piece.encode()) <= MAX_LINE_OCTETS for piece in found.split("\r\n"))


@given(st.text(st.sampled_from('ab\\;,\n:"')))
def test_escaping_is_undone_by_reading(text: str) -> None:
    found = escaped(text)
    assert "\n" not in found
    back, rest = "", iter(found)
    for each in rest:
        following = next(rest) if each == "\\" else ""
        back += {"n": "\n"}.get(following, following) or each
    assert back == text
