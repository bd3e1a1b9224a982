"""Forms out of JSON Schemas: what is asked for, what somebody has written into it, and where a mistake belongs. PURE.

Only what a plain form can say is made into fields: texts, numbers, truth, dates, choices, lists of those, objects.
Anything else is one field for JSON, and a schema that is odd as a whole is one such field.
Nothing here says whether arguments are right: the call itself does. A schema comes from a server, so its depth and
size are bounded here. Source: JSON Schema 2020-12, Core and Validation; MCP 2026-07-28, Tools, "Data Types".
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

Schema: TypeAlias = Mapping[str, Any]
Kind: TypeAlias = Literal["text", "area", "date", "number", "integer", "choice", "choices", "lines", "group", "json"]
Texts: TypeAlias = Mapping[str, Sequence[str]]  # what is written in the field at a place; several of `choices`

_DEEPEST: Final = 4  # groups in groups
_MOST_FIELDS: Final = 150  # of a form; a schema with more is one field for JSON
_MOST_OPTIONS: Final = 200
_MOST_BOXES: Final = 24  # of a list with choices
_MOST_REFERENCES: Final = 16
_LONG: Final = 200  # characters: for more than that there are several lines
_LONG_NAMES: Final = frozenset({"body", "content", "text", "message", "sql", "code", "prompt", "html", "markdown"})
# What says more of a value than one field can: then it is JSON.
_INTRICATE: Final = ("allOf", "anyOf", "oneOf", "not", "if", "patternProperties", "dependentSchemas", "$dynamicRef")
_MOST_DIGITS: Final = 400
_SAMPLES: Final[Mapping[str, Any]] = {
    "text": "…",
    "area": "…",
    "date": "2026-11-20",
    "number": 1,
    "integer": 1,
    "choices": [],
    "lines": [],
}
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?")
_INTEGER: Final = re.compile(r"-?(?:0|[1-9]\d*)")
_FORMATS: Final = {
    "date-time": "a date and time such as 2026-11-20T19:00:00Z",
    "time": "a time such as 19:00:00Z",
    "duration": "a duration such as P1DT2H",
    "email": "an email address",
    "uri": "a URL",
    "uuid": "a UUID",
}


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is asked for."""

    place: str  # a JSON pointer into the arguments; "" is all of them
    kind: Kind
    name: str = ""
    about: str = ""
    rules: tuple[str, ...] = ()  # in words, such as `1 to 100`
    needed: bool = False
    options: tuple[tuple[str, str], ...] = ()  # (JSON, how it is shown)
    items: Kind = "text"  # of what a list is made
    example: str = ""
    default: str = ""  # JSON of what holds when it is left out; "" if nothing is said
    fields: tuple["Field", ...] = ()  # of a group

    @property
    def id(self) -> str:
        """What pages call it by: names of properties may hold anything."""
        return "a" + "".join(each if each.isascii() and each.isalnum() else f"-{ord(each):x}-" for each in self.place)

    def everything(self) -> Iterator["Field"]:
        yield self
        for each in self.fields:
            yield from each.everything()


class Filled(msgspec.Struct, frozen=True):
    """What somebody has written into a form: the arguments, or what is wrong with them at which place."""

    value: Any = None
    wrong: Mapping[str, str] = {}


# ---- from a schema to a form ---------------------------------------------------------------------


def form_of(schema: Any) -> Field:
    """The form for arguments of a *schema*: a group of fields, or one field for JSON."""
    whole = Field(place="", kind="json", needed=True)
    if not isinstance(schema, Mapping):
        return whole
    reader = _Reader(schema)
    resolved = reader.resolved(schema)
    if resolved is None or resolved.get("type", "object") != "object" or any(word in resolved for word in _INTRICATE):
        return whole
    if not resolved.get("properties") and resolved.get("additionalProperties") not in (None, False):
        return whole
    group = reader.group("", "", resolved, needed=True, depth=0)
    return whole if group.kind == "json" or sum(1 for _ in group.everything()) > _MOST_FIELDS else group


class _Reader:
    """Reads one schema. What cannot be read is JSON."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def group(self, place: str, name: str, schema: Schema, *, needed: bool, depth: int) -> Field:
        properties, required = schema.get("properties"), schema.get("required")
        if depth > _DEEPEST or not isinstance(properties or {}, Mapping) or len(properties or ()) > _MOST_FIELDS:
            return _json(place, name, schema, needed)
        names = required if isinstance(required, list) else []
        fields = tuple(
            self.field(f"{place}/{_escaped(each)}", each, inner, needed=each in names, depth=depth)
            for each, inner in (properties or {}).items()
        )
        return Field(place=place, kind="group", name=name, about=_about(schema), needed=needed, fields=fields)

    def field(self, place: str, name: str, said: Any, *, needed: bool, depth: int) -> Field:
        schema = self.resolved(said)
        if schema is None:
            return _json(place, name, said if isinstance(said, Mapping) else {}, needed)
        kind = self._kind(name, schema)
        if kind == "group":
            return self.group(place, name, schema, needed=needed, depth=depth + 1)
        items: Kind = "text"
        options = _options(schema)
        if kind in ("lines", "choices"):
            inner = self.resolved(schema.get("items", {})) or {}
            found = self._kind("", inner)
            items, options = ("text" if found in ("area", "date") else found), _options(inner)
        return Field(
            place=place,
            kind=kind,
            name=name,
            about=_about(schema),
            rules=tuple(_rules(schema)),
            needed=needed,
            options=options,
            items=items,
            example=_example(schema),
            default=_compact(schema["default"]) if "default" in schema else "",
        )

    def _kind(self, name: str, schema: Schema) -> Kind:
        if "enum" in schema or "const" in schema:
            return "choice" if 0 < len(_options(schema)) <= _MOST_OPTIONS else "json"
        if any(word in schema for word in _INTRICATE):
            return "json"
        match schema.get("type"):
            case "string":
                return _kind_of_text(name, schema)
            case "number":
                return "number"
            case "integer":
                return "integer"
            case "boolean":
                return "choice"
            case "object" if schema.get("properties"):
                return "group"
            case "array":
                return self._kind_of_list(schema)
            case _:
                return "json"

    def _kind_of_list(self, schema: Schema) -> Kind:
        inner = self.resolved(schema.get("items"))
        if inner is None or "prefixItems" in schema or "contains" in schema:
            return "json"
        kind = self._kind("", inner)
        if kind == "choice" and len(_options(inner)) <= _MOST_BOXES:
            return "choices"
        return "lines" if kind in ("text", "area", "date", "number", "integer") else "json"

    def resolved(self, said: Any) -> Schema | None:
        """*said* without references, and without the alternative to be null; None for what is no schema to read."""
        schema = said
        for _ in range(_MOST_REFERENCES):
            if not isinstance(schema, Mapping):
                return None
            if "$ref" in schema:
                target = self._at(schema["$ref"])
                if target is None:
                    return None
                schema = {**target, **{word: value for word, value in schema.items() if word != "$ref"}}
            elif (inner := _only_alternative(schema)) is not None:
                schema = {**inner, **{w: v for w, v in schema.items() if w not in ("anyOf", "oneOf", "allOf")}}
            else:
                return _without_null(schema)
        return None

    def _at(self, reference: Any) -> Schema | None:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        found: Any = self._root
        for part in reference[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or name not in found:
                return None
            found = found[name]
        return found if isinstance(found, Mapping) else None


def _only_alternative(schema: Schema) -> Schema | None:
    """What is left of alternatives when null is none: Pydantic says `Optional` so."""
    for word in ("anyOf", "oneOf", "allOf"):
        branches = schema.get(word)
        if isinstance(branches, list):
            left = [each for each in branches if not (isinstance(each, Mapping) and each.get("type") == "null")]
            if len(left) == 1 and isinstance(left[0], Mapping) and (word != "allOf" or len(branches) == 1):
                return left[0]
    return None


def _without_null(schema: Schema) -> Schema:
    types = schema.get("type")
    left = [each for each in types if each != "null"] if isinstance(types, list) else []
    return {**schema, "type": left[0]} if len(left) == 1 else schema


def _json(place: str, name: str, schema: Schema, needed: bool) -> Field:
    example = _example(schema)
    return Field(place=place, kind="json", name=name, about=_about(schema), needed=needed, example=example)


def _kind_of_text(name: str, schema: Schema) -> Kind:
    longest = schema.get("maxLength")
    if schema.get("format") == "date":
        return "date"
    is_long = isinstance(longest, int) and longest > _LONG
    return "area" if is_long or (name.lower() in _LONG_NAMES and longest is None) else "text"


def _options(schema: Schema) -> tuple[tuple[str, str], ...]:
    if "const" in schema:
        values: Any = [schema["const"]]
    elif schema.get("type") == "boolean" and "enum" not in schema:
        values = [True, False]
    else:
        values = schema.get("enum")
    if not isinstance(values, list):
        return ()
    return tuple((_compact(each), each if isinstance(each, str) and each else _compact(each)) for each in values)


def _about(schema: Schema) -> str:
    said = [schema.get("title"), schema.get("description")]
    return ": ".join(dict.fromkeys(each.strip() for each in said if isinstance(each, str) and each.strip()))[:1000]


def _example(schema: Schema) -> str:
    examples = schema.get("examples")
    found = examples[0] if isinstance(examples, list) and examples else schema.get("example")
    if found is None:
        return ""
    return (found if isinstance(found, str) else _compact(found))[:200]


def _rules(schema: Schema) -> Iterator[str]:
    """What is asked of a value, as far as it can be said in a few words."""
    if isinstance(form := schema.get("format"), str) and form in _FORMATS:
        yield _FORMATS[form]
    yield from _between(schema, "minimum", "maximum", "")
    yield from (f"more than {_compact(schema[word])}" for word in ("exclusiveMinimum",) if word in schema)
    yield from (f"less than {_compact(schema[word])}" for word in ("exclusiveMaximum",) if word in schema)
    yield from _between(schema, "minLength", "maxLength", " characters")
    yield from _between(schema, "minItems", "maxItems", " items")
    if isinstance(pattern := schema.get("pattern"), str):
        yield f"fits {pattern[:100]}"


def _between(schema: Schema, low: str, high: str, unit: str) -> Iterator[str]:
    least, most = (schema.get(word) for word in (low, high))
    if least is not None and most is not None:
        yield f"{_compact(least)} to {_compact(most)}{unit}"
    elif least is not None:
        yield f"at least {_compact(least)}{unit}"
    elif most is not None:
        yield f"at most {_compact(most)}{unit}"


# ---- from what was written to arguments ----------------------------------------------------------


def filled(form: Field, texts: Texts, *, complete: bool = True) -> Filled:
    """The arguments that *texts* say, or what is wrong with them. What is left empty is left out.

    Unless they have to be *complete*, nothing is missing.
    """
    reading = _Reading(texts, complete)
    value = reading.value(form)
    return Filled(None, reading.wrong) if reading.wrong else Filled({} if value is _NOTHING else value)


_NOTHING: Final = object()  # the value of a field that is left out


class _Reading:
    """Reads what is written in fields, and notes what is wrong with it."""

    def __init__(self, texts: Texts, complete: bool) -> None:
        self.wrong: dict[str, str] = {}
        self._texts = texts
        self._complete = complete

    def value(self, field: Field) -> Any:
        if field.kind == "group":
            return self._group(field)
        said = [each.replace("\r\n", "\n") for each in self._texts.get(field.place, ())]
        if field.kind == "choices":
            return self._choices(field, said)
        text = said[0] if said else ""
        if not (text if field.kind in ("text", "area") else text.strip()):
            return self._nothing(field)
        if field.kind == "lines":
            return [self._one(field, field.items, line.strip()) for line in text.split("\n") if line.strip()]
        return self._one(field, field.kind, text)

    def _nothing(self, field: Field) -> Any:
        if field.needed and self._complete:
            empty = "; for an empty text, edit it as JSON" if field.kind in ("text", "area") else ""
            self.wrong[field.place] = f"is required{empty}"
        return _NOTHING

    def _group(self, field: Field) -> Any:
        if field.place and not field.needed and not self._is_begun(field):
            return _NOTHING
        found = {each.name: self.value(each) for each in field.fields}
        return {name: value for name, value in found.items() if value is not _NOTHING}

    def _is_begun(self, field: Field) -> bool:
        return any(text.strip() for each in field.everything() for text in self._texts.get(each.place, ()))

    def _choices(self, field: Field, said: Sequence[str]) -> Any:
        chosen = [each for each in said if each]
        if chosen:
            return [self._one(field, "choice", each) for each in chosen]
        # Boxes of which none is ticked say as much as an empty list; what need not be there is left out.
        return [] if field.needed and self._complete else _NOTHING

    def _one(self, field: Field, kind: Kind, text: str) -> Any:
        match kind:
            case "text" | "area" | "date":
                return text
            case "integer" | "number":
                return self._number(field, kind, text.strip())
            case _:
                return self._parsed(field, text)

    def _number(self, field: Field, kind: Kind, text: str) -> Any:
        pattern = _INTEGER if kind == "integer" else _NUMBER
        if len(text) > _MOST_DIGITS or not pattern.fullmatch(text):
            asked = "a whole number, such as 3" if kind == "integer" else "a number, such as 3.5"
            self.wrong[field.place] = f"must be {asked}"
            return _NOTHING
        return int(text) if _INTEGER.fullmatch(text) else float(text)

    def _parsed(self, field: Field, text: str) -> Any:
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            said = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
            self.wrong[field.place] = f"is no JSON: {said}"
            return _NOTHING
        if field.place == "" and not isinstance(value, dict):
            self.wrong[field.place] = "has to be a JSON object, such as {}"
            return _NOTHING
        return value


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number in JSON")


# ---- from arguments to what is written -----------------------------------------------------------


def written(form: Field, value: Any) -> dict[str, list[str]] | None:
    """What stands in the fields of *form* for arguments; None where a form cannot say them."""
    texts: dict[str, list[str]] = {}
    said = _write(form, value, texts) and filled(form, texts, complete=False) == Filled(value)
    return texts if said else None


def sample(field: Field) -> Any:
    """A value such as the schema's examples: what has to be there, and what has an example."""
    if field.kind == "group":
        found = {each.name: sample(each) for each in field.fields if each.needed or each.example}
        return {name: value for name, value in found.items() if value is not None}
    if field.options and field.kind == "choice":
        return json.loads(field.options[0][0])
    read = _Reading({field.place: [field.example]}, complete=False).value(field) if field.example else _NOTHING
    if read is not _NOTHING:
        return read
    return {} if field.kind == "json" else _SAMPLES.get(field.kind)


def _write(field: Field, value: Any, texts: dict[str, list[str]]) -> bool:
    match field.kind:
        case "group":
            if not isinstance(value, Mapping):
                return False
            by_name = {each.name: each for each in field.fields}
            return all(name in by_name and _write(by_name[name], inner, texts) for name, inner in value.items())
        case "lines" | "choices":
            if not isinstance(value, list):
                return False
            lines = [each if isinstance(each, str) and field.kind == "lines" else _compact(each) for each in value]
            texts[field.place] = lines if field.kind == "choices" else ["\n".join(lines)]
        case "json":
            texts[field.place] = [json.dumps(value, indent=2, ensure_ascii=False)]
        case "choice":
            texts[field.place] = [_compact(value)]
        case _:
            texts[field.place] = [value if isinstance(value, str) else _compact(value)]
    return True


# ---- where a mistake belongs ---------------------------------------------------------------------


def placed(form: Field, problems: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What is wrong, by the place of the field that it is shown at; "" is the form as a whole."""
    known = {each.place for each in form.everything() if each.kind != "group"}
    found: dict[str, list[str]] = {}
    for each in problems:
        path, said = str(each.get("path", "")), str(each.get("problem", ""))
        place = path
        while place and place not in known:
            place = place.rpartition("/")[0]
        inside = path.removeprefix(place)
        found.setdefault(place, []).append(f"{inside} {said}".strip() if inside else said)
    return {place: "; ".join(said) for place, said in found.items()}


# ---- words ---------------------------------------------------------------------------------------


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
