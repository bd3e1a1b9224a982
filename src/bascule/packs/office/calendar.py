"""The tool for the calendar: an event as a file that every calendar opens."""

import asyncio
import hashlib
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import NAMESPACE_URL, uuid5
from zoneinfo import ZoneInfo

import msgspec

from bascule.packs.deeds import Deeds
from bascule.packs.office.addresses import Mailbox, mailbox, mailboxes
from bascule.packs.office.ics import Event, ics
from bascule.packs.office.options import OfficeOptions
from bascule.packs.pack import Asked, Pack, ToolFailed
from bascule.packs.rooted import Root

CREATE_EVENT: Final = "calendar/create_event"
EVENTS: Final = "events"
LONGEST: Final = timedelta(days=366)
YEARS: Final = range(1970, 2200)

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MOMENT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?", re.ASCII)

When: TypeAlias = datetime | date
Clock = Callable[[], datetime]


class CreateEvent(msgspec.Struct, frozen=True):
    title: str
    start: str
    end: str
    time_zone: str | None = None
    attendees: list[str] = []
    organizer: str | None = None
    location: str = ""
    description: str = ""
    remind_minutes: int | None = None


def when(text: str, zone: str | None) -> When:
    """`2026-12-01` as a day, `2026-12-01T09:30` as a moment in *zone*, or with its own offset. Raises ToolFailed."""
    if not (_DAY.fullmatch(text) or _MOMENT.fullmatch(text)):
        raise _no_time(text)
    try:
        found = date.fromisoformat(text) if _DAY.fullmatch(text) else datetime.fromisoformat(text)
    except ValueError as error:
        raise _no_time(text) from error
    if found.year not in YEARS:
        raise ToolFailed(f"The year of {text} is out of reach.", f"Use {YEARS.start} to {YEARS.stop - 1}.")
    if isinstance(found, datetime) and found.tzinfo is None:
        return _local(found, zone)
    return found


def _local(naive: datetime, zone: str | None) -> datetime:
    """*naive* on the clocks of *zone*. Raises ToolFailed where they do not show it, or show it twice."""
    if zone is None:
        raise ToolFailed(
            f"{naive.isoformat()} may be any moment: it has no offset, and there is no time_zone.",
            "Give time_zone, such as Asia/Ho_Chi_Minh, or an offset, such as +07:00.",
        )
    there = naive.replace(tzinfo=_zone(zone))
    later = there.replace(fold=1)
    if there.utcoffset() != later.utcoffset():
        shown = there.astimezone(UTC).astimezone(there.tzinfo).replace(tzinfo=None, fold=0)
        what = "is shown twice by" if shown == naive else "is never shown by"
        raise ToolFailed(
            f"{naive.isoformat()} {what} clocks in {zone}, as they are put back or forward then.",
            "Choose another time, or write it with an offset, such as +01:00.",
        )
    return there


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # unknown, no name at all, a folder of names
        raise ToolFailed(
            f"{name!r:.80} is no time zone that is known here.",
            "Use a name such as Europe/Berlin or UTC, or write the times with an offset, such as +01:00.",
        ) from error


def check_span(start: When, end: When) -> None:
    """Raises ToolFailed unless *end* is later than *start*, and both are days or both are moments."""
    if isinstance(start, datetime) and isinstance(end, datetime):
        begins, ends = start.astimezone(UTC), end.astimezone(UTC)
        lasts, is_over = ends - begins, ends <= begins
    elif isinstance(start, datetime) or isinstance(end, datetime):
        raise ToolFailed("One of start and end is a day and the other a moment.", "Write both in the same way.")
    else:
        lasts, is_over = end - start, end < start
    if is_over:
        raise ToolFailed("The event ends before it begins, or in the same moment.", "Give an end after its start.")
    if lasts > LONGEST:
        raise ToolFailed("The event is longer than a year.", "Look at the years of start and end.")


class Calendar:
    """The tool, and what it needs."""

    def __init__(self, options: OfficeOptions, root: Root, deeds: Deeds, now: Clock) -> None:
        self._root = root
        self._deeds = deeds
        self._now = now
        self._organizer = None if options.smtp is None else mailbox(options.smtp.sender)

    async def create_event(self, wanted: CreateEvent, asked: Asked) -> dict[str, Any]:
        """The same event for the same key, or without one for the same arguments."""
        uid = uuid5(NAMESPACE_URL, hashlib.sha256(msgspec.json.encode(asked.key or wanted)).hexdigest())
        event = self._event(wanted, str(uid))

        async def put() -> dict[str, Any]:
            return await asyncio.to_thread(self._put, event)

        if asked.key is None:
            return await put()
        made, _ = await self._deeds.once(CREATE_EVENT, asked.key, wanted, put, again=True)
        found: dict[str, Any] = made
        return found

    def _event(self, wanted: CreateEvent, uid: str) -> Event:
        start, end = when(wanted.start, wanted.time_zone), when(wanted.end, wanted.time_zone)
        check_span(start, end)
        organizer: Mailbox | None = self._organizer
        if wanted.organizer is not None:
            organizer = mailbox(wanted.organizer)
        return Event(
            uid=uid,
            stamp=self._now(),
            title=_line(wanted.title, "title"),
            start=start,
            end=end,
            description=wanted.description,
            location=_line(wanted.location, "location"),
            organizer=organizer if wanted.attendees or wanted.organizer else None,
            attendees=mailboxes(wanted.attendees),
            remind_minutes=wanted.remind_minutes,
        )

    def _put(self, event: Event) -> dict[str, Any]:
        path = f"{EVENTS}/{event.uid}.ics"
        content = ics(event)
        try:
            self._root.stat(path)  # it is this very event, which a person may have changed
        except ToolFailed:
            self._root.write(path, content, make_folders=True)
        moments = (event.start, event.end)
        start, end = (each.astimezone(UTC) if isinstance(each, datetime) else each for each in moments)
        return {
            "uid": event.uid,
            "path": path,
            "status": "created",
            "start": start.isoformat(),
            "end": end.isoformat(),
            "attendees": [each.address for each in event.attendees],
        }


def add(pack: Pack, options: OfficeOptions, root: Root, deeds: Deeds, now: Clock = lambda: datetime.now(UTC)) -> None:
    """Have *pack* keep the contract for the calendar."""
    pack.tool(CREATE_EVENT, Calendar(options, root, deeds, now).create_event)


def _line(text: str, field: str) -> str:
    if "\n" in text or "\r" in text:
        raise ToolFailed(f"The {field} has more than one line.", "Put details into the description.")
    return text


def _no_time(text: str) -> ToolFailed:
    return ToolFailed(
        f"{text!r:.60} is neither a day nor a moment.",
        "Write 2026-12-01, or 2026-12-01T09:30 with time_zone, or 2026-12-01T09:30+07:00.",
    )
