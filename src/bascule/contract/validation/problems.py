"""What a validator found, as short sentences from which a model can mend its arguments. PURE.

A sentence says what was asked for, never the value that was sent: it may be a secret, and it goes to
logs and consoles too. Names of members and words of schemas come from strangers: cleaned and capped.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

import msgspec
from jsonschema_rs import ValidationError
from jsonschema_rs import ValidationErrorKind as Kind

MAX_PROBLEMS: Final = 10
MAX_TEXT: Final = 200  # characters of what a schema says
MAX_PART: Final = 80  # characters of one step of a path
MAX_PARTS: Final = 70  # steps of a path
MAX_NAMES: Final = 12  # options or names that are listed
MAX_NESTING: Final = 12  # alternatives within alternatives that are still told apart

Problem: TypeAlias = Mapping[str, str]
Path: TypeAlias = tuple[str | int, ...]

_TYPES: Final = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_FORMATS: Final = {
    "date-time": "a date and time such as 2026-11-20T19:00:00Z",
    "date": "a date such as 2026-11-20",
    "time": "a time such as 19:00:00Z",
    "duration": "an ISO 8601 duration such as P1DT2H",
    "email": "an email address",
    "uri": "an absolute URI such as https://example.com/a",
    "uuid": "a UUID",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "hostname": "a host name",
    "regex": "a regular expression",
    "json-pointer": "a JSON pointer such as /a/0",
}


def problems_of(errors: Sequence[ValidationError], schema: Mapping[str, Any], value: Any) -> list[Problem]:
    """At most MAX_PROBLEMS of `{"path": JSON pointer, "problem": sentence}`, each once, in the order of *errors*."""
    words = _Words(schema, value)
    found = (found for error in errors for found in words.of(error, 0))
    said: dict[tuple[str, str], None] = {}
    for path, sentence in islice(found, 10 * MAX_PROBLEMS):
        said[pointer(path), sentence] = None
        if len(said) == MAX_PROBLEMS:
            break
    return [{"path": path, "problem": sentence} for path, sentence in said]


def pointer(path: Sequence[str | int]) -> str:
    """*path* as a JSON pointer (RFC 6901), its names cleaned and capped."""
    parts = (clean(str(part).replace("~", "~0").replace("/", "~1"), MAX_PART) for part in path[:MAX_PARTS])
    return "".join(f"/{part}" for part in parts)


def clean(text: str, most: int = MAX_TEXT) -> str:
    """*text* without characters that hide, reorder or break lines, cut to *most* characters."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in cut)


class _Words:
    """Sentences about one value under one schema."""

    def __init__(self, schema: Mapping[str, Any], value: Any) -> None:
        self._schema = schema
        self._value = value

    def of(self, error: ValidationError, nesting: int) -> Iterator[tuple[Path, str]]:
        path: Path = tuple(error.instance_path)
        match error.kind:
            case Kind.AnyOf(context=branches) | Kind.OneOfNotValid(context=branches):
                yield from self._of_alternatives(path, branches, nesting)
            case Kind.Required(property=name):
                yield (*path, name), "is required"
            case Kind.AdditionalProperties(unexpected=names) | Kind.UnevaluatedProperties(unexpected=names):
                known = self._known(error)
                for name in names[:MAX_PROBLEMS]:
                    yield (*path, name), f"is not known here{known}"
            case Kind.Type(types=types):
                yield path, self._of_type(types, path)
            case Kind.PropertyNames(error=inner):
                yield path, f"has a member whose name {sentence(inner.kind)}"
            case Kind.Contains():
                yield path, self._of_contains(error)
            case kind:
                yield path, sentence(kind)

    def _of_alternatives(
        self, path: Path, branches: Sequence[Sequence[ValidationError]], nesting: int
    ) -> Iterator[tuple[Path, str]]:
        """The errors of the alternative that was most likely meant."""
        types = [_asked_type(branch, path) for branch in branches]
        if all(types):
            yield path, self._of_type([each for asked in types for each in asked or ()], path)
            return
        fitting = [branch for branch, asked in zip(branches, types, strict=True) if not asked and branch]
        choice = _choice(fitting)
        if choice is not None:
            yield choice
        elif not fitting or nesting >= MAX_NESTING:
            yield path, "fits none of the alternatives"
        else:
            for error in min(fitting, key=_distance):
                yield from self.of(error, nesting + 1)

    def _of_type(self, types: Sequence[str], path: Path) -> str:
        asked = _either(list(dict.fromkeys(_TYPES.get(each, clean(each)) for each in types)))
        found, there = _at(self._value, path)
        if not there:
            return f"must be {asked}"
        hint = ""
        if isinstance(found, str) and not {"string", *types} - {"string", "array", "object", "null"}:
            hint = "; send it as JSON, not as text that holds JSON"
        return f"must be {asked}, not {_type_of(found)}{hint}"

    def _known(self, error: ValidationError) -> str:
        """Which names would have been known, as a clause."""
        parent, there = _at(self._schema, error.schema_path[:-1])
        names = parent.get("properties") if there and isinstance(parent, dict) else None
        if not isinstance(names, dict) or not names:
            return ""
        return f"; known: {_listed([clean(name, MAX_PART) for name in islice(names, MAX_NAMES + 1)])}"

    def _of_contains(self, error: ValidationError) -> str:
        keyword = error.schema_path[-1] if error.schema_path else "contains"
        limit, there = _at(self._schema, error.schema_path)
        if keyword in ("minContains", "maxContains") and there:
            most = "at least" if keyword == "minContains" else "at most"
            return f"must hold {most} {_json(limit)} items of the kind that `contains` describes"
        return "must hold an item of the kind that `contains` describes"


def sentence(kind: Kind) -> str:
    """What *kind* of error asks for."""
    match kind:
        case Kind.Enum(options=options):
            return f"must be one of {_options(options)}"
        case Kind.Constant(expected_value=expected):
            return f"must be {_json(expected)}"
        case Kind.Pattern(pattern=pattern):
            return f"must match the pattern {clean(pattern)}"
        case Kind.Format(format=name):
            return f"must be {_FORMATS.get(name, f'in the format {clean(name)}')}"
        case Kind.FalseSchema():
            return "is not allowed here"
        case Kind.Not(schema=schema):
            return f"must not fit {_json(schema)}"
        case Kind.OneOfMultipleValid():
            return "fits more than one of the alternatives, and must fit exactly one"
        case Kind.UniqueItems():
            return "must not hold the same item twice"
        case Kind.UnevaluatedItems() | Kind.AdditionalItems():
            return "holds more items than are known here"
        case Kind.BacktrackLimitExceeded() | Kind.RegexEngineFailure():
            return "is too intricate for the pattern it must match"
        case Kind.ContentEncoding(content_encoding=name) | Kind.ContentMediaType(content_media_type=name):
            return f"must be valid {clean(name)}"
        case Kind.Type(types=types):
            return f"must be {_either([_TYPES.get(each, clean(each)) for each in types])}"
        case _:
            return _of_limit(kind)


def _of_limit(kind: Kind) -> str:
    match kind:
        case Kind.Minimum(limit=limit):
            return f"must be at least {_json(limit)}"
        case Kind.Maximum(limit=limit):
            return f"must be at most {_json(limit)}"
        case Kind.ExclusiveMinimum(limit=limit):
            return f"must be more than {_json(limit)}"
        case Kind.ExclusiveMaximum(limit=limit):
            return f"must be less than {_json(limit)}"
        case Kind.MultipleOf(multiple_of=step):
            return f"must be a multiple of {_json(step)}"
        case Kind.MinLength(limit=limit):
            return f"must have at least {_counted(limit, 'character')}"
        case Kind.MaxLength(limit=limit):
            return f"must have at most {_counted(limit, 'character')}"
        case Kind.MinItems(limit=limit):
            return f"must have at least {_counted(limit, 'item')}"
        case Kind.MaxItems(limit=limit):
            return f"must have at most {_counted(limit, 'item')}"
        case Kind.MinProperties(limit=limit):
            return f"must have at least {_counted(limit, 'member')}"
        case Kind.MaxProperties(limit=limit):
            return f"must have at most {_counted(limit, 'member')}"
        case _:
            return f"does not fit what `{clean(kind.name)}` asks for"


# ---- choosing among alternatives


def _asked_type(branch: Sequence[ValidationError], path: Path) -> Sequence[str] | None:
    """The types that *branch* wants the value itself to have, if it has none of them."""
    for error in branch:
        if isinstance(error.kind, Kind.Type) and len(error.instance_path) == len(path):
            return error.kind.types
    return None


def _options_of(error: ValidationError) -> Sequence[Any] | None:
    match error.kind:
        case Kind.Constant(expected_value=expected):
            return (expected,)
        case Kind.Enum(options=options):
            return options
        case _:
            return None


def _choice(branches: Sequence[Sequence[ValidationError]]) -> tuple[Path, str] | None:
    """What to put where all *branches* miss a constant in one place: the member that tells them apart."""
    options: list[Any] = []
    place: Path | None = None
    for branch in branches:
        missed = {tuple(error.instance_path): found for error in branch if (found := _options_of(error)) is not None}
        if place is None:
            place = next(iter(missed), None)
        if place is None or place not in missed:
            return None
        options.extend(missed[place])
    return None if place is None or len(branches) < 2 else (place, f"must be one of {_options(options)}")


def _distance(branch: Sequence[ValidationError]) -> tuple[int, int, int]:
    """How far a value is from *branch*: constants missed first, then errors; what went deep was nearly right."""
    constants = sum(_options_of(error) is not None for error in branch)
    return constants, len(branch), -max((len(error.instance_path) for error in branch), default=0)


# ---- words


def _at(value: Any, path: Sequence[str | int]) -> tuple[Any, bool]:
    """What stands at *path* in *value*, and whether anything does."""
    for part in path:
        if not isinstance(value, dict | list):
            return None, False
        try:
            value = value[part]  # type: ignore[index]  # a name in a list is a TypeError, and says that nothing is there
        except (KeyError, IndexError, TypeError):
            return None, False
    return value, True


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a string"
        case int():
            return "an integer"
        case float():
            return "a number" if value.is_integer() else "a number with a fraction"
        case dict():
            return "an object"
        case _:
            return "an array"


def _either(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _options(options: Sequence[Any]) -> str:
    return _listed([_json(each, MAX_PART) for each in islice(options, MAX_NAMES + 1)])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")


def _counted(limit: int, noun: str) -> str:
    return f"{limit} {noun}{'' if limit == 1 else 's'}"


def _json(value: Any, most: int = MAX_TEXT) -> str:
    """Something out of a schema as JSON; numbers as Python writes them, since they may be of any size."""
    if not isinstance(value, str | dict | list | bool | None):
        return clean(str(value), most)
    try:
        return clean(msgspec.json.encode(value).decode(), most)
    except (OverflowError, msgspec.MsgspecError, RecursionError):
        return "what the schema says"
