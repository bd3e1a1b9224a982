"""How the console writes what it shows: times, durations, amounts, counts. Plain functions, filters of templates."""

import difflib
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import jinja2
import msgspec
from markupsafe import Markup

from bascule.policy.approvals import seen

_NONE: Final = "\N{EN DASH}"
_SPANS: Final = ((86_400, "d"), (3600, "h"), (60, "min"))


def moment(at: float | str | None) -> float | None:
    """Unix time of what an operation says: seconds, or RFC 3339. None for nothing, and for what is no time."""
    if at is None or isinstance(at, int | float):
        return at
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return None


def date(at: float | str | None) -> str:
    """`2026-11-21 01:40:07` in UTC."""
    at_s = moment(at)
    return _NONE if at_s is None else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def rfc3339(at: float | str | None) -> str:
    at_s = moment(at)
    return (
        "" if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )


def ago(at: float | str | None) -> str:
    """`just now`, `4 min ago`, `in 2 h`, `never`."""
    at_s = moment(at)
    if at_s is None:
        return "never"
    seconds = time.time() - at_s
    if abs(seconds) < 5:
        return "just now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def span(seconds: float | None) -> str:
    """`42 s`, `7 min`, `3 h`, `12 d`: one unit is enough to look at."""
    if seconds is None:
        return _NONE
    for unit_s, unit in _SPANS:
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)} {unit}"
    return f"{int(seconds)} s"


def took(seconds: float | None) -> str:
    """How long something took: `0.4 ms`, `18 ms`, `1.25 s`, `3 min`."""
    if seconds is None:
        return _NONE
    if seconds >= 60:
        return span(seconds)
    if seconds >= 1:
        return f"{seconds:.2f} s"
    ms = seconds * 1000
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def took_ms(ms: float | None) -> str:
    """The same of milliseconds, as operations say them."""
    return took(None if ms is None else ms / 1000)


def parted(text: str) -> Markup:
    """*text*, which a line may break behind each of its parts."""
    return Markup("<wbr>").join(part for part in re.split(r"(?<=[/_.:-])", text) if part)


def money(usd: float | None) -> str:
    """`$0.0021`, `$12.50`, `$1,204`: what is small keeps its digits."""
    if usd is None:
        return _NONE
    if usd and abs(usd) < 0.01:
        return f"${usd:.6f}".rstrip("0")
    return f"${usd:,.2f}" if abs(usd) < 1000 else f"${usd:,.0f}"


def count(number: float | None) -> str:
    """`0`, `950`, `12.4k`, `3.1M`."""
    if number is None:
        return _NONE
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(number) >= size:
            return f"{number / (1000 if unit == 'k' else size):.1f}{unit}"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


def percent(share: float | None, digits: int = 1) -> str:
    """Of a share between 0 and 1: `99.3 %`."""
    if share is None:
        return _NONE
    said = f"{share * 100:.{digits}f}"
    return f"{said.rstrip('0').rstrip('.') if '.' in said else said} %"


def pretty(value: Any) -> str:
    """JSON in lines, of a value or of JSON bytes; what is no JSON stays as it is."""
    if isinstance(value, bytes | str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError):
            return value if isinstance(value, str) else value.decode(errors="replace")
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def diff(before: str, after: str) -> Sequence[tuple[str, str]]:
    """("same" | "gone" | "new" | "skip", line) of two texts, with three lines around each change."""
    return list(_marked(before.splitlines(), after.splitlines()))


def _marked(before: list[str], after: list[str]) -> Iterator[tuple[str, str]]:
    is_first = True
    for group in difflib.SequenceMatcher(a=before, b=after, autojunk=False).get_grouped_opcodes(3):
        if not is_first:
            yield "skip", "…"
        is_first = False
        for tag, a_from, a_to, b_from, b_to in group:
            if tag == "equal":
                yield from (("same", line) for line in before[a_from:a_to])
                continue
            yield from (("gone", line) for line in before[a_from:a_to])
            yield from (("new", line) for line in after[b_from:b_to])


FILTERS: Final = {
    each.__name__: each
    for each in (ago, count, date, diff, money, percent, parted, pretty, rfc3339, seen, span, took, took_ms)
}


def environment(templates: str) -> jinja2.Environment:
    """What templates are made with: everything is escaped, and a name that nobody gave is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(FILTERS)
    return made
