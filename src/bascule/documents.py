"""Contract documents in files: YAML or JSON, one or many in a file, and folders of them.

Reads files and nothing else. An error names the file, the line and the field. YAML is read as its version
1.2 means it: `off`, `no` and `2026-11-01` are text, which is what the fields of a contract want.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from bascule.contract.model import Document
from bascule.errors import ConfigInvalid

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_VALUES: Final = 200_000  # in one document, with every alias written out
MAX_DEPTH: Final = 64


class Located(msgspec.Struct, frozen=True):
    """A document, and where it and its fields stand."""

    document: Document
    place: str  # `file:line`, or `file` where the line is not known
    lines: Mapping[str, int] = msgspec.field(default_factory=dict)  # of each dotted field

    def at(self, field: str) -> str:
        """The place of a dotted field; of the nearest one around it when it is not there itself."""
        file = self.place.rpartition(":")[0] if self.lines else self.place
        while field and field not in self.lines:
            field = field.rpartition(".")[0]
        return f"{file}:{self.lines[field]}" if field else self.place


def documents(path: Path) -> list[tuple[str, Document]]:
    """The contract documents in the file or folder *path*, each with its place. Raises ConfigInvalid."""
    return [(each.place, each.document) for each in read(path)]


def read(*paths: Path) -> list[Located]:
    """All documents of files and folders, in order. Raises ConfigInvalid.

    Two documents for the same version of the same thing are an error, whatever files they are in.
    """
    found = [each for file in _files(paths) for each in _of_file(file)]
    check_unique((each.place, each.document) for each in found)
    return found


def check_unique(documents: Iterable[tuple[str, Document]]) -> None:
    """Raises ConfigInvalid when two documents say what the same version of the same thing is."""
    places: dict[tuple[str, str, Any], str] = {}
    for place, document in documents:
        key = (document.kind, document.id, document.version)
        if (first := places.setdefault(key, place)) is not place:
            version = f" {document.version}" if isinstance(document.version, str) else ""
            raise ConfigInvalid(f"{document.id}{version} has a contract already, in {first}", place=place)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """Each file once, folders in the order of names; what is hidden in a folder is not looked at."""
    seen = set()
    for path in paths:
        files = inside(path) if path.is_dir() else [path]
        if not files:
            raise ConfigInvalid("there is no .yaml, .yml or .json file in this folder", place=str(path))
        for file in files:
            if (real := file.resolve()) not in seen:
                seen.add(real)
                yield file


def inside(folder: Path) -> list[Path]:
    """The files of *folder* that documents are read from. Raises ConfigInvalid where a part of it cannot be read."""

    def fail(error: OSError) -> None:
        # A folder that cannot be looked into is not an empty one: its contracts would no longer hold.
        raise ConfigInvalid(f"cannot be read: {error.strerror}", place=str(error.filename)) from error

    found = []
    for here, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [each for each in folders if not each.startswith(".")]
        paths = (Path(here, each) for each in files if not each.startswith("."))
        found += [path for path in paths if path.suffix in SUFFIXES and path.is_file()]
    return sorted(found)


def _of_file(path: Path) -> list[Located]:
    text = _text(path)
    values = _json(path, text) if path.suffix == ".json" else _yaml(path, text)
    return [_located(path, value, lines) for value, lines in values]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigInvalid(f"is larger than {MAX_FILE_BYTES} bytes", place=str(path))
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigInvalid(f"cannot be read: {error.strerror}", place=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"is not text in UTF-8: {error.reason} at byte {error.start}", place=str(path)) from error
    if not text.strip():
        raise ConfigInvalid("is empty; `bascule contract new` writes a contract to begin with", place=str(path))
    return text


def _located(path: Path, value: Any, lines: Mapping[str, int]) -> Located:
    place = f"{path}:{lines['']}" if "" in lines else str(path)
    try:
        _check_bounds(value)
        return Located(msgspec.convert(value, Document), place, {k: n for k, n in lines.items() if k})
    except msgspec.ValidationError as error:
        field, message = _explained(error, value)
        near = field
        while near and near not in lines:
            near = near.rpartition(".")[0]
        at = f"{path}:{lines[near]}" if near in lines else place
        raise ConfigInvalid(message, place=at, field=field) from error
    except ValueError as error:
        raise ConfigInvalid(str(error), place=place) from error


def _explained(error: msgspec.ValidationError, value: Any) -> tuple[str, str]:
    """(dotted field, what is wrong with it) of an error of msgspec's."""
    message, _, where = str(error).partition(" - at `")
    field = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", where.rstrip("`").removeprefix("$")).strip(".")
    if unknown := re.search(r"unknown field `([^`]*)`", message):
        field = ".".join(part for part in (field, unknown[1]) if part)
        message = "there is no such field in a contract"
        if "name" in unknown[1] and isinstance(value, dict) and "tool" not in value:
            message += "; a document begins with `tool:`, `prompt:` or `resource:` and an id such as crm/create_lead"
    if message.startswith(("Expected `str`, got `float`", "Expected `str`, got `int`")):
        message += "; write it in quotes, in full, such as '1.2.0'"
    return field, message + advice(message)


_ADVICE: Final = {
    "Expected `bool`": "write true or false",
    "Expected `array`, got `null`": "write [], or leave it out",
    "Expected `array`": "write a list, such as [a, b]",
    "Expected `object`, got `null`": "write {}, or leave it out",
    "Expected `str` matching regex '^[a-z0-9]{1,16}$'": "write 1 to 16 of a-z and 0-9",
}
_YAML_ADVICE: Final = {
    "could not determine a constructor for the tag": "a text that begins with `!` stands in quotes",
    "expected alphabetic or numeric character": "a text that begins with `*` or `&` stands in quotes",
    "found undefined alias": "a text that begins with `*` stands in quotes",
    "mapping values are not allowed here": "a text with `: ` in it stands in quotes",
    "found character '\\t'": "indent with spaces",
}


def advice(message: str) -> str:
    """What to write instead, for an error of msgspec's; "" where that goes without saying."""
    return next((f"; {said}" for begin, said in _ADVICE.items() if message.startswith(begin)), "")


def yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """What is wrong with a text in YAML, and what to write instead."""
    problem = error.problem or str(error)
    said = next((f"; {said}" for begin, said in _YAML_ADVICE.items() if problem.startswith(begin)), "")
    return f"not YAML: {problem}{said}"


def _check_bounds(value: Any) -> None:
    """Raises ValueError for what a few lines of YAML aliases can grow into, and for numbers that JSON has not."""
    waiting, count = [(value, 0)], 0
    while waiting:
        each, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if count > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values in one document")
        if isinstance(each, float) and not math.isfinite(each):
            raise ValueError(f"{each} is no number of JSON")
        inner = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        waiting += [(one, depth + 1) for one in inner]


# ---- JSON ----------------------------------------------------------------------------------------


def _json(path: Path, text: str) -> list[tuple[Any, Mapping[str, int]]]:
    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ConfigInvalid(f"not JSON: {error.msg}", place=f"{path}:{error.lineno}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigInvalid(f"not JSON: {error}", place=str(path)) from error
    try:
        root = yaml.compose(text.replace("\t", " "), Loader=PlainLoader)  # JSON is YAML, which knows its lines
        lines = [_lines(node) for node in _each_node(root)]
    except (yaml.YAMLError, RecursionError):
        lines = []
    values = value if isinstance(value, list) else [value]
    return [(each, lines[number] if number < len(lines) else {}) for number, each in enumerate(values)]


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands twice in one object")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


# ---- YAML ----------------------------------------------------------------------------------------


class PlainLoader(yaml.SafeLoader):
    """YAML 1.2's idea of what is not text: null, true and false, numbers. `no`, 2026-11-01, 12:30, 010 are text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # PyYAML's own name for them


_PLAIN: Final = {
    "null": ("(?:~|null|Null|NULL|)", "~nN"),
    "bool": ("(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
    "int": ("[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": ("<<", "<"),
}
for _name, (_pattern, _first) in _PLAIN.items():
    PlainLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), [*_first, *([""] if _name == "null" else [])]
    )


def _yaml(path: Path, text: str) -> list[tuple[Any, Mapping[str, int]]]:
    loader = PlainLoader(text)
    found: list[tuple[Any, Mapping[str, int]]] = []
    try:
        while loader.check_node():
            for node in _each_node(loader.get_node()):
                check_keys(node, 0, set())
                found.append((loader.construct_document(node), _lines(node)))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigInvalid(yaml_problem(error), place=f"{path}{line}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigInvalid(f"not YAML: {error}", place=str(path)) from error
    finally:
        loader.dispose()
    return found


def _each_node(root: yaml.Node | None) -> list[yaml.Node]:
    """The document, or each of a list of them; an empty one between two `---` is none."""
    if isinstance(root, yaml.SequenceNode):
        return list(root.value)
    if root is None or (isinstance(root, yaml.ScalarNode) and root.value == ""):
        return []
    return [root]


def check_keys(node: yaml.Node, depth: int, seen: set[int]) -> None:
    """Raises MarkedYAMLError for a key that stands twice or is no text: YAML itself would take the last one."""
    if depth > MAX_DEPTH:
        raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=node.start_mark)
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    keys = set()
    for each in node.value:
        if isinstance(each, yaml.Node):
            check_keys(each, depth + 1, seen)
            continue
        key, value = each
        if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            problem = f"the key {key.value!r} is not text; put it in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        if key.value in keys:
            raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands twice", problem_mark=key.start_mark)
        keys.add(key.value)
        check_keys(value, depth + 1, seen)


def _lines(root: yaml.Node) -> dict[str, int]:
    """The line of each dotted field; of the document itself under ""."""
    lines = {"": root.start_mark.line + 1}
    waiting, seen = [("", root)], set()
    while waiting:
        field, node = waiting.pop()
        if id(node) in seen:  # an alias has its lines where it was written out
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            inner = [(f"{field}.{key.value}" if field else str(key.value), key, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            inner = [(f"{field}.{number}", value, value) for number, value in enumerate(node.value)]
        else:
            continue
        for name, marked, value in inner:
            lines[name] = marked.start_mark.line + 1
            waiting.append((name, value))
    return lines
