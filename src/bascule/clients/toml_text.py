"""TOML, read, and changed in one table by appending it or by cutting it out. PURE.

Nothing is laid out anew: every other line stays as it was, which is looked at after each change.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bascule.clients.jsonc import Unchangeable, Unreadable

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_LINE: Final = re.compile(r"\(at line (\d+),")
_HEADER: Final = re.compile(r"^[ \t]*\[\[?[ \t]*([^\]\n]+?)[ \t]*\]\]?[ \t]*(?:#.*)?$", re.MULTILINE)


def value_of(text: str) -> dict[str, Any]:
    """What *text* says. Raises Unreadable."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        line = _LINE.search(str(error))
        raise Unreadable("not TOML", int(line[1]) if line else None) from error
    except (RecursionError, ValueError) as error:  # ValueError: a number of 5,000 digits
        raise Unreadable("not TOML that can be read") from error


def with_table(text: str, path: Sequence[str], table: Mapping[str, Any]) -> str:
    """*text* with the table at *path* being *table*. Raises Unreadable, or Unchangeable."""
    before = value_of(text)
    wanted = _merged(before, path, dict(table))
    if _at(before, path) is not None:
        text = without_table(text, path)
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text.strip() else newline if text.endswith("\n") else newline * 2
    changed = text + gap + written(path, table).replace("\n", newline)
    return _checked(changed, wanted)


def without_table(text: str, path: Sequence[str]) -> str:
    """*text* without the table at *path* and those inside; as it is if there is none. Raises as `with_table`."""
    wanted = value_of(text)
    around = _at(wanted, path[:-1])
    if not isinstance(around, dict) or path[-1] not in around:
        return text
    del around[path[-1]]
    headers = list(_HEADER.finditer(text))
    ends = [*(each.start() for each in headers[1:]), len(text)]
    kept, at = [], 0
    for header, end in zip(headers, ends, strict=True):
        if _keys(header[1])[: len(path)] == list(path):
            kept.append(text[at : header.start()])
            at = end
    changed = "".join([*kept, text[at:]])
    if at == len(text):
        changed = changed.rstrip() + ("\n" if changed.strip() else "")
    return _checked(changed, wanted, emptied=path[:-1])


def written(path: Sequence[str], table: Mapping[str, Any]) -> str:
    """The table as a file has it, tables inside it behind it."""
    lines = [f"[{'.'.join(_key(each) for each in path)}]"]
    inner = {name: each for name, each in table.items() if isinstance(each, Mapping)}
    lines += [f"{_key(name)} = {_value(each)}" for name, each in table.items() if name not in inner]
    text = "\n".join(lines) + "\n"
    return text + "".join("\n" + written([*path, name], each) for name, each in inner.items())


def _checked(changed: str, wanted: Any, emptied: Sequence[str] = ()) -> str:
    try:
        found = value_of(changed)
    except Unreadable as error:
        raise Unchangeable("it would no longer be TOML") from error
    if found != wanted and _without_empty(wanted, emptied) != found:
        raise Unchangeable("its other content would become different")
    return changed


def _without_empty(value: Mapping[str, Any], path: Sequence[str]) -> Any:
    """*value* without the table at *path* if that is empty: one that nothing stands in has no line of its own."""
    if len(path) == 1 and value.get(path[0]) == {}:
        return {name: each for name, each in value.items() if name != path[0]}
    return value


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _merged(value: Any, path: Sequence[str], table: Any) -> Any:
    if not path:
        return table
    if not isinstance(value, dict):
        raise Unchangeable("a table was expected here, and something else stands there")
    return {**value, path[0]: _merged(value.get(path[0], {}), path[1:], table)}


def _keys(header: str) -> list[str]:
    try:
        found: Any = tomllib.loads(f"[{header}]")
    except tomllib.TOMLDecodeError:
        return []
    keys = []
    while isinstance(found, dict) and found:
        ((key, found),) = found.items()
        keys.append(key)
    return keys


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    """A text, a number, a boolean or a list of them. JSON's way to write these is TOML's, too."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(each) for each in value)}]"
    return json.dumps(value, ensure_ascii=False)
