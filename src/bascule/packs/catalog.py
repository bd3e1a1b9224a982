"""Which packs there are: ours, and those that other packages declare as entry points of the group `bascule.packs`.

A pack is a Python package with `options.OPTIONS` (its PackOptions), `contracts/`, and `pack.build(options)`.
"""

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from bascule.errors import ConfigInvalid
from bascule.packs.pack import Pack, PackOptions

GROUP: Final = "bascule.packs"
_WORDS: Final[Mapping[Any, str]] = {str: "text", int: "integer", float: "number", bool: "true or false"}

# What each is for, in the order of the help.
OURS: Final = {
    "office": "documents, tables, mail, calendar, reports",
    "files": "files under one folder",
    "database": "SQLite and PostgreSQL: look up, insert",
    "crm": "contacts, opportunities, leads, sales",
    "finance": "prices, statements, valuation, payments of invoices",
    "media": "images: resize, compress, convert",
    "research": "papers, and documents from the web",
    "communication": "messages to a team, and how its projects stand",
}


def names() -> list[str]:
    """All packs of this installation: ours first."""
    return [*OURS, *(name for name in _declared() if name not in OURS)]


def module_of(name: str) -> str:
    """The package that *name* is. Raises ConfigInvalid."""
    if name in OURS:
        return f"bascule.packs.{name}"
    declared = _declared()
    if name not in declared:
        raise ConfigInvalid(f"there is no pack {name!r}; there are {', '.join(names())}", field="pack")
    return declared[name]


def options_of(name: str, settings: object) -> PackOptions:
    """*settings*, plain values, as the options of the pack *name*. Raises ConfigInvalid, with the field."""
    kind: type[PackOptions] = import_module(f"{module_of(name)}.options").OPTIONS
    try:
        options = msgspec.convert(settings, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise ConfigInvalid(message, field="settings" + where.rstrip("`")) from error
    options.check()
    return options


class Setting(NamedTuple):
    """One thing that can be set of a pack."""

    name: str  # dotted, where it is a part of another
    type: str
    default: str  # "required" for what has none


def settings_of(name: str) -> list[Setting]:
    """What can be set of the pack *name*, in the order of its options."""
    return list(_settings(import_module(f"{module_of(name)}.options").OPTIONS, ""))


def _settings(kind: type[Any], prefix: str) -> Iterator[Setting]:
    hints = get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        inner = [each for each in (hints[field.name], *get_args(hints[field.name])) if _is_struct(each)]
        if inner:
            yield Setting(f"{prefix}{field.name}", "map", "required" if field.required else "none")
            yield from _settings(inner[0], f"{prefix}{field.name}.")
        else:
            default = "required" if field.required else json.dumps(msgspec.to_builtins(_default(field)))
            yield Setting(f"{prefix}{field.name}", _in_words(hints[field.name]), default)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _in_words(kind: Any) -> str:
    """A type as people say it: `text`, `list of text`, `starttls or none`."""
    origin, inner = get_origin(kind), [each for each in get_args(kind) if each not in (type(None), Ellipsis)]
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (UnionType, Union):
        return " or ".join(map(_in_words, inner))
    if origin is Annotated:
        return _in_words(inner[0])
    if origin is None:
        return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))
    return f"{'map' if issubclass(origin, Mapping) else 'list'} of {_in_words(inner[-1])}"


def contracts_of(name: str) -> Path:
    """The folder with the contracts of the pack *name*."""
    spec = find_spec(module_of(name))
    if spec is None or spec.origin is None:
        raise ConfigInvalid(f"the pack {name!r} is declared, but {module_of(name)} is no package", field="pack")
    return Path(spec.origin).parent / "contracts"


def samples_of(name: str) -> list[Path]:
    """Files to try the pack *name* with."""
    return sorted(path for path in (contracts_of(name).parent / "samples").glob("*") if path.is_file())


def build(name: str, options: PackOptions) -> Pack:
    """The pack itself. Raises ConfigInvalid, also for what is not installed that its options ask for."""
    pack: Pack = import_module(f"{module_of(name)}.pack").build(options)
    return pack.finished()


def _declared() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=GROUP)}
