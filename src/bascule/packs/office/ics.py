"""An event as the text of an iCalendar file: the few lines of RFC 5545 that every calendar reads. PURE.

Times are written in UTC, which needs no rules of time zones beside it. Strict: a text has no control characters, a
line has at most 75 octets.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec

from bascule.packs.office.addresses import Mailbox
from bascule.packs.pack import ToolFailed

MAX_LINE_OCTETS: Final = 75  # without the end of the line; RFC 5545, 3.1
_UNWRITABLE: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """*start* and *end* are both moments with a zone, or both days, the last one included."""

    uid: str
    stamp: datetime
    title: str
    start: datetime | date
    end: datetime | date
    description: str = ""
    location: str = ""
    organizer: Mailbox | None = None
    attendees: tuple[Mailbox, ...] = ()
    remind_minutes: int | None = None  # before it begins


def ics(event: Event) -> bytes:
    """*event* as a calendar of its own. Raises ToolFailed for a text that does not go into one."""
    return "".join(map(folded, _lines(event))).encode()


def _lines(event: Event) -> Iterator[str]:
    yield "BEGIN:VCALENDAR"
    yield "VERSION:2.0"
    yield "PRODID:-//Bascule//Office//EN"
    yield "CALSCALE:GREGORIAN"
    yield "BEGIN:VEVENT"
    yield f"UID:{escaped(event.uid)}"
    yield f"DTSTAMP:{_moment(event.stamp)}"
    if isinstance(event.start, datetime) and isinstance(event.end, datetime):
        yield f"DTSTART:{_moment(event.start)}"
        yield f"DTEND:{_moment(event.end)}"
    else:
        yield f"DTSTART;VALUE=DATE:{event.start:%Y%m%d}"
        yield f"DTEND;VALUE=DATE:{event.end + timedelta(days=1):%Y%m%d}"  # the day after it, 3.6.1
    yield f"SUMMARY:{escaped(event.title)}"
    if event.description:
        yield f"DESCRIPTION:{escaped(event.description)}"
    if event.location:
        yield f"LOCATION:{escaped(event.location)}"
    if event.organizer is not None:
        yield f"ORGANIZER{_called(event.organizer)}:mailto:{event.organizer.address}"
    for each in event.attendees:
        yield f"ATTENDEE;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE{_called(each)}:mailto:{each.address}"
    if event.remind_minutes is not None:
        yield from ("BEGIN:VALARM", "ACTION:DISPLAY", f"DESCRIPTION:{escaped(event.title)}")
        yield from (f"TRIGGER:-PT{event.remind_minutes}M", "END:VALARM")
    yield "END:VEVENT"
    yield "END:VCALENDAR"


def escaped(text: str) -> str:
    """*text* as a value of the type TEXT (3.3.11). Raises ToolFailed for control characters.

    >>> escaped("a;b,c\\nd")
    'a\\\\;b\\\\,c\\\\nd'
    """
    plain = text.replace("\r\n", "\n")
    if _UNWRITABLE.search(plain):
        raise ToolFailed("A text of the event has control characters.", "Write plain text; lines end in a line feed.")
    for special in ("\\", ";", ","):
        plain = plain.replace(special, f"\\{special}")
    return plain.replace("\n", "\\n")


def folded(line: str) -> str:
    """*line* with its end, in pieces of at most 75 octets, none of which ends inside of a character (3.1)."""
    pieces, room = [""], MAX_LINE_OCTETS
    for each in line:
        octets = len(each.encode())
        if octets > room:
            pieces.append("")
            room = MAX_LINE_OCTETS - 1  # the space that says that the line goes on
        pieces[-1] += each
        room -= octets
    return "\r\n ".join(pieces) + "\r\n"


def _called(who: Mailbox) -> str:
    # Names hold no quotes and no controls (addresses.py), so that quotes around them are enough (3.2).
    return f';CN="{who.name}"' if who.name else ""


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
