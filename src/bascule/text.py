"""A configuration file as values: YAML, JSON or TOML, with file, line and field of what is wrong.

YAML is read as its version 1.2 means it, as in contracts (documents.py): `off` and `no` are text.
"""

import json
import re
import tomllib
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml

from bascule.documents import PlainLoader, advice, check_keys, unique, yaml_problem
from bascule.errors import ConfigInvalid

Kind = TypeVar("Kind")

_VALUE: Final = re.compile(r"Invalid enum value '(.*)'", re.DOTALL)


class Text:
    """One file: its text for line numbers, its value for content."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text

    def value(self) -> Any:
        """What the text says. Raises ConfigInvalid."""
        try:
            match self.path.suffix:
                case ".json":
                    return json.loads(self.text, object_pairs_hook=unique)
                case ".toml":
                    return tomllib.loads(self.text)
                case _:
                    return yaml_value(self.text) or {}
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigInvalid(yaml_problem(error), place=f"{self.path}:{line}") from error
        except json.JSONDecodeError as error:
            raise ConfigInvalid(f"not JSON: {error.msg}", place=f"{self.path}:{error.lineno}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigInvalid(f"not TOML: {error}", place=str(self.path)) from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # a control character, a number of 5,000 digits
            raise ConfigInvalid(f"cannot be read: {error}", place=str(self.path)) from error

    def convert(self, value: Any, kind: type[Kind], field: str) -> Kind:
        """*value*, which stands at *field*, as a *kind*. Raises ConfigInvalid."""
        try:
            return msgspec.convert(value, kind)
        except UnicodeEncodeError as error:
            raise self.wrong("a text holds half of a surrogate pair", field) from error
        except msgspec.ValidationError as error:
            message, _, where = str(error).partition(" - at `")
            inner = named(value, kind, where.rstrip("`").removeprefix("key` in `").removeprefix("$"))
            unknown = re.search(r"unknown field `(\w+)`", message)
            path = ".".join(part for part in (field, inner, unknown[1] if unknown else "") if part)
            choices = _choices(kind, inner) if message.startswith("Invalid enum value") else []
            if (value := _VALUE.match(message)) and value[1] not in self.text:
                message = "Invalid enum value"  # a reference stood there, perhaps for a secret
            message += f"; there are {', '.join(choices)}" if choices else advice(message)
            raise self.wrong(message, path) from error

    def wrong(self, message: str, field: str) -> ConfigInvalid:
        """What is wrong with *field*, with its place."""
        return ConfigInvalid(message, place=self.place(field), field=field)

    def place(self, field: str) -> str:
        """`file:line` of *field*; the file alone where the line cannot be told."""
        line = None if self.path.suffix == ".toml" else _line_of(self.text, field)
        return str(self.path) if line is None else f"{self.path}:{line}"


def named(value: Any, kind: type[Any], where: str) -> str:
    """The dotted path of an error of msgspec's, which writes `[...]` for whichever entry of a map it is in."""
    before, found, after = where.partition("[...]")
    path = [part for part in re.split(r"[.\[\]]+", before) if part]
    if not found:
        return ".".join(path)
    entries = _at(value, path)
    for name in entries if isinstance(entries, dict) else ():
        try:
            msgspec.convert(_with(value, path, {name: entries[name]}), kind)
        except msgspec.ValidationError:
            return ".".join([*path, str(name), *filter(None, re.split(r"[.\[\]]+", after))])
    return ".".join(path)


def _choices(kind: Any, path: str) -> list[str]:
    """The words that may stand at the dotted *path* of a *kind*; none where others may, too."""
    kinds = [kind]
    for part in filter(None, path.split(".")):
        kinds = [inner for each in kinds for plain in _plain(each) for inner in _inner(plain, part)]
    words = [
        word for each in kinds for plain in _plain(each) if get_origin(plain) is Literal for word in get_args(plain)
    ]
    return list(dict.fromkeys(map(str, words)))


def _plain(kind: Any) -> list[Any]:
    """The types that the union *kind* is of, without annotations."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [plain for each in get_args(kind) for plain in _plain(each)]
    return [kind]


def _inner(kind: Any, part: str) -> list[Any]:
    """The type of the member or the item *part* of a *kind*."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [hint for name, hint in get_type_hints(kind, include_extras=True).items() if name == part]
    return [each for each in get_args(kind)[-1:] if each is not Ellipsis] or list(get_args(kind)[:1])


def _at(value: Any, path: list[str]) -> Any:
    for part in path:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def _with(value: Any, path: list[str], inner: Any) -> Any:
    """*value* with *inner* at *path*."""
    if not path:
        return inner
    changed = _with(_at(value, path[:1]), path[1:], inner)
    if isinstance(value, list):
        return [*value[: int(path[0])], changed, *value[int(path[0]) + 1 :]]
    return {**value, path[0]: changed}


def yaml_value(text: str) -> Any:
    """The one document in *text*, each of whose keys stands once. Raises YAMLError."""
    loader = PlainLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        check_keys(node, 0, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def read_text(path: Path, advice: str = "") -> str:
    """The file's text. Raises ConfigInvalid, with *advice* if there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise ConfigInvalid(f"no such file{advice}", place=str(path)) from error
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigInvalid(f"cannot be read: {why}", place=str(path)) from error


def _line_of(text: str, field: str) -> int | None:
    """The line of a dotted *field* in YAML or JSON; of its nearest ancestor when it is not there itself."""
    try:
        node = yaml.compose(text.replace("\t", " "), Loader=PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: half of a surrogate pair
        return None
    line: int | None = None
    for part in re.split(r"[.\[\]]+", field):
        found = _child(node, part)
        if found is None:
            break
        line, node = found
    return line


def _child(node: yaml.Node | None, part: str) -> tuple[int, yaml.Node] | None:
    """The line and the value of member *part*, or of the item of that number."""
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark.line + 1, inner) for key, inner in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        item = node.value[int(part)]
        return item.start_mark.line + 1, item
    return None
