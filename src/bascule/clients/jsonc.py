"""JSON with comments and trailing commas, as editors keep it: read, and changed in one member. PURE.

Changing one member leaves every other character as it was. What a change comes to is read again: if anything but
that member became different, Unchangeable is raised and the caller has the old text still.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from bascule.documents import unique

# Each alternative takes all that it begins: nothing is looked at twice, however hostile the text is.
_NOT_CODE: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|//[^\n]*|/\*(?:.*?\*/|.*)', re.DOTALL)
_COMMA_OR_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?|,(?=\s*+[}\]])', re.DOTALL)
_INVISIBLE: Final = re.compile(r"[^\n\r]")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_FIRST_INDENT: Final = re.compile(r"\{[ \t]*\r?\n([ \t]+)\S")
_DECODER: Final = json.JSONDecoder()


class Unreadable(Exception):
    """Why a text is not JSON, and in which line; never what stands there."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class Unchangeable(Exception):
    """Why a member cannot be changed without touching others."""


class _Member(NamedTuple):
    name: str
    begin: int  # of its name
    value: int
    end: int


class _Object(NamedTuple):
    begin: int  # its brace
    end: int  # its closing brace
    members: Sequence[_Member]


def value_of(text: str) -> Any:
    """What *text* says; an empty one says `{}`. Raises Unreadable."""
    bare = _blanked(text)
    if not bare.strip():
        return {}
    try:
        return json.loads(bare, object_pairs_hook=unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error.msg}", error.lineno) from error
    except RecursionError as error:
        raise Unreadable("not JSON that can be read: it is nested too deep") from error
    except ValueError as error:
        raise Unreadable(f"not JSON: {error}") from error


def with_member(text: str, path: Sequence[str], name: str, value: Any) -> str:
    """*text* with the member *name* of the object at *path* being *value*; objects on the way are made.

    Raises Unreadable, or Unchangeable where something on the way is no object.
    """
    before = value_of(text)
    wanted = _merged(before, path, name, value)
    if not text.strip():
        changed = json.dumps(wanted, indent=2, ensure_ascii=False) + "\n"
    else:
        changed = _changed(text, [*path, name], value)
    if value_of(changed) != wanted:
        raise Unchangeable("its other content would become different")
    return changed


def without_member(text: str, path: Sequence[str], name: str) -> str:
    """*text* without the member *name* of the object at *path*; as it is if there is none. Raises as `with_member`."""
    wanted = value_of(text)
    around = _at(wanted, path)
    if not isinstance(around, dict) or name not in around:
        return text
    del around[name]
    bare = _blanked(text)
    found = _object(bare, bare.index("{"))
    for part in path:
        found = _object(bare, next(each.value for each in found.members if each.name == part))
    changed = _taken_out(text, bare, found, name)
    if value_of(changed) != wanted:
        raise Unchangeable("its other content would become different")
    return changed


def _taken_out(text: str, bare: str, found: _Object, name: str) -> str:
    number = next(number for number, each in enumerate(found.members) if each.name == name)
    member = found.members[number]
    last = number == len(found.members) - 1
    if not last:
        return text[: member.begin] + text[found.members[number + 1].begin :]
    # The comma before it goes, and a trailing one behind it; comments on the way stay.
    end = member.end
    if (comma := _trailing_comma(text, end, found.end)) is not None:
        end = comma + 1
    if number == 0:
        rest = text[end : found.end]
        return text[: found.begin + 1].rstrip() + ("" if not rest.strip() else rest) + text[found.end :]
    before = found.members[number - 1].end
    comma = bare.index(",", before)
    return text[:before] + text[before:comma] + text[comma + 1 : member.begin].rstrip() + text[end:]


def _blanked(text: str) -> str:
    """*text* with spaces in place of comments and of trailing commas: JSON proper, every character in its place."""
    text = text.replace("\ufeff", " ", 1) if text.startswith("\ufeff") else text
    bare = _NOT_CODE.sub(lambda found: found[0] if found[0][0] == '"' else _INVISIBLE.sub(" ", found[0]), text)
    return _COMMA_OR_STRING.sub(lambda found: found[0] if found[0][0] == '"' else " ", bare)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _merged(value: Any, path: Sequence[str], name: str, inner: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unchangeable("an object was expected here, and something else stands there")
    if not path:
        return {**value, name: inner}
    return {**value, path[0]: _merged(value.get(path[0], {}), path[1:], name, inner)}


def _object(bare: str, begin: int) -> _Object:
    """The object whose brace is at *begin* of text that has been read before, so that it is well-formed."""
    members = []
    at = _past_space(bare, begin + 1)
    while bare[at] != "}":
        name, end = _DECODER.raw_decode(bare, at)
        value = _past_space(bare, _past_space(bare, end) + 1)
        _, end = _DECODER.raw_decode(bare, value)
        members.append(_Member(name, at, value, end))
        at = _past_space(bare, end)
        if bare[at] == ",":
            at = _past_space(bare, at + 1)
    return _Object(begin, at, members)


def _past_space(bare: str, at: int) -> int:
    found = _SPACE.match(bare, at)
    assert found is not None
    return found.end()


def _changed(text: str, path: Sequence[str], value: Any) -> str:
    bare = _blanked(text)
    found, depth = _object(bare, bare.index("{")), 0
    while depth < len(path) - 1:
        member = next((each for each in found.members if each.name == path[depth]), None)
        if member is None:
            break
        found, depth = _object(bare, member.value), depth + 1
    name = path[depth]
    for missing in reversed(path[depth + 1 :]):
        value = {missing: value}
    style = _Style.of(text)
    present = next((each for each in found.members if each.name == name), None)
    if present is not None:
        return text[: present.value] + style.written(value, style.depth_at(text, present.begin)) + text[present.end :]
    return _inserted(text, found, name, value, style)


class _Style(NamedTuple):
    """How a file is laid out."""

    unit: str  # of indentation; "": all in one line
    newline: str

    @classmethod
    def of(cls, text: str) -> "_Style":
        newline = "\r\n" if "\r\n" in text else "\n"
        first = _FIRST_INDENT.search(text)
        if first is not None:
            return cls(first[1], newline)
        # `{}`, or all in one line.
        return cls("  " if len(text.strip()) <= 2 or "\n" in text.strip() else "", newline)

    def written(self, value: Any, indent: str) -> str:
        """*value* as it stands behind its name in a line that is indented by *indent*."""
        if not self.unit:
            return json.dumps(value, ensure_ascii=False)
        lines = json.dumps(value, indent=self.unit, ensure_ascii=False).split("\n")
        return f"{self.newline}{indent}".join(lines)

    def depth_at(self, text: str, at: int) -> str:
        """The white space that the line of *at* begins with."""
        line = text[text.rfind("\n", 0, at) + 1 : at]
        return line[: len(line) - len(line.lstrip())]


def _inserted(text: str, found: _Object, name: str, value: Any, style: _Style) -> str:
    head = f"{json.dumps(name, ensure_ascii=False)}: "
    outer = style.depth_at(text, found.begin)
    inside = text[found.begin + 1 : found.end]
    spread = "\n" in inside or (bool(style.unit) and not found.members)
    indent = style.depth_at(text, found.members[0].begin) if found.members and spread else outer + style.unit
    if not spread:
        style = style._replace(unit="")
    body = head + style.written(value, indent)
    if not found.members and not inside.strip():
        inner = f"{style.newline}{indent}{body}{style.newline}{outer}" if spread else body
        return text[: found.begin + 1] + inner + text[found.end :]
    # Behind the last member, and behind what is said of it in comments.
    end = found.begin + 1 + len(inside.rstrip())
    before, after = text[:end], text[end:]
    if found.members:
        last = found.members[-1].end
        if _trailing_comma(text, last, found.end) is None:
            before = text[:last] + "," + text[last:end]
    return f"{before}{style.newline}{indent}{body}{after}" if spread else f"{before} {body}{after}"


def _trailing_comma(text: str, begin: int, end: int) -> int | None:
    """Where a comma stands between *begin* and *end*, outside of comments."""
    for found in re.finditer(r"//[^\n]*|/\*.*?\*/|,", text[begin:end], re.DOTALL):
        if found[0] == ",":
            return begin + found.start()
    return None
