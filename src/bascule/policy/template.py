"""The words that a person is asked with, and values put into them so that nothing in them deceives. PURE.

`Create a lead worth {args.value}?`: a text is shown in quotes, with every character that cannot be seen, or that
turns the direction of others, as its code. `{{` and `}}` stand for braces.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from bascule.policy.facts import Facts

MAX_SHOWN: Final = 200  # characters of one value
MAX_TEMPLATE: Final = 2000
ABSENT: Final = object()

_PART: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PATH: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*")
# What prints, as far as Python knows, but leaves no mark: fillers, joiners, variation selectors.
_UNSEEN: Final = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0)),
) | frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
_MAX_SEQUENCE: Final = 50  # items of a list or an object that are looked at
_MAX_NESTED: Final = 4


class BadTemplate(Exception):
    """The words cannot be read as a template."""


class Template(msgspec.Struct, frozen=True):
    """Fixed words (str) and paths to values (tuple), in order."""

    parts: tuple[str | tuple[str, ...], ...]

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        return tuple(part for part in self.parts if isinstance(part, tuple))

    def render(self, facts: Facts) -> str:
        return "".join(part if isinstance(part, str) else shown(_at(part, facts)) for part in self.parts)


def parse_template(text: str) -> Template:
    """Raises BadTemplate."""
    if len(text) > MAX_TEMPLATE:
        raise BadTemplate(f"the message is longer than {MAX_TEMPLATE} characters")
    parts: list[str | tuple[str, ...]] = []
    at = 0
    for found in _PART.finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        if found[0] in ("{{", "}}"):
            parts.append(found[0][0])
            continue
        path = (found[1] or "").strip()
        if not _PATH.fullmatch(path):
            raise BadTemplate(
                f"{found[0]!r} is not a place for a value such as {{args.amount}}; a brace is written twice"
            )
        parts.append(tuple(path.split(".")))
    return Template(tuple(part for part in (*parts, text[at:]) if part))


def shown(value: Any) -> str:
    """*value* in one line: JSON, in which every character can be seen, cut at MAX_SHOWN characters."""
    if value is ABSENT:
        return "(none)"
    text = _json(value, 0)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}… ({len(text)} characters)"


def visible(text: str) -> str:
    """*text* with the code in the place of each character that cannot be seen."""
    return "".join(char if char.isprintable() and char not in _UNSEEN else f"\\u{{{ord(char):x}}}" for char in text)


def _json(value: Any, depth: int) -> str:
    match value:
        case str():
            # What is cut off is never escaped, however long it is; its length is told all the same.
            return '"' + visible(value[:MAX_SHOWN]).replace('"', '\\"') + "x" * max(0, len(value) - MAX_SHOWN) + '"'
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case list() | tuple() if depth < _MAX_NESTED:
            items = [_json(item, depth + 1) for item in value[:_MAX_SEQUENCE]]
            return f"[{', '.join(items)}{', …' if len(value) > _MAX_SEQUENCE else ''}]"
        case dict() if depth < _MAX_NESTED:
            pairs = [
                f"{_json(str(key), depth)}: {_json(item, depth + 1)}"
                for key, item in list(value.items())[:_MAX_SEQUENCE]
            ]
            return f"{{{', '.join(pairs)}{', …' if len(value) > _MAX_SEQUENCE else ''}}}"
        case int() if abs(value) >= 10**MAX_SHOWN:
            return f"a number of more than {MAX_SHOWN} digits"
        case list() | tuple() | dict():
            return "…"
    return visible(str(value))


def _at(path: tuple[str, ...], facts: Facts) -> Any:
    found: Any = getattr(facts, path[0], ABSENT)
    for name in path[1:]:
        found = found.get(name, ABSENT) if isinstance(found, Mapping) else ABSENT
    return found
