"""What a value in a rule may be, as far as a JSON Schema or the gateway itself says. PURE.

Where a schema is too clever to follow (conditions, several alternatives, references elsewhere) the type is
ANY: the checker then says nothing, and the engine decides at the call.
Source: JSON Schema 2020-12; cel-spec, "Values".
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

Presence: TypeAlias = Literal["required", "optional", "undeclared", "forbidden", "unknown"]
Kinds: TypeAlias = frozenset[str]

NUMBERS: Final[Kinds] = frozenset({"int", "uint", "double"})
COLLECTIONS: Final[Kinds] = frozenset({"list", "map"})
EVERY: Final[Kinds] = NUMBERS | COLLECTIONS | {"bool", "string", "null", "timestamp", "duration"}

_JSON: Final[Mapping[str, Kinds]] = {
    "string": frozenset({"string"}),
    "integer": frozenset({"int"}),
    "number": frozenset({"int", "double"}),
    "boolean": frozenset({"bool"}),
    "null": frozenset({"null"}),
    "array": frozenset({"list"}),
    "object": frozenset({"map"}),
}
# Beside a reference or an alternative these say more than is followed here.
_STRUCTURE: Final = frozenset({
    *("type", "enum", "const", "properties", "required", "additionalProperties", "patternProperties", "items"),
    *("prefixItems", "allOf", "anyOf", "oneOf", "not", "if", "$ref", "$dynamicRef", "dependentSchemas"),
    *("propertyNames", "unevaluatedProperties", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
})  # fmt: skip
_BRANCHING: Final = ("allOf", "anyOf", "oneOf", "if", "$ref", "$dynamicRef", "dependentSchemas")
_MAX_HOPS: Final = 32  # references and alternatives one after the other; a circle ends there


class Type(msgspec.Struct, frozen=True):
    """*kinds* are all that a value may be; the rest narrows it where it is known."""

    kinds: Kinds = EVERY
    values: tuple[Any, ...] | None = None  # the only ones, by `enum` or `const`
    schema: Mapping[str, Any] | None = None
    document: Mapping[str, Any] | None = None  # where references of *schema* lead into
    fixed: Mapping[str, "Type"] | None = None  # all members, of what the gateway makes itself
    element: "Type | None" = None  # of a list, or each value of a map

    @property
    def is_any(self) -> bool:
        return self.kinds == EVERY

    def only(self, *kinds: str) -> bool:
        return self.kinds <= frozenset(kinds)


class Member(NamedTuple):
    type: Type
    presence: Presence


ANY: Final = Type()


def kind(*names: str, element: Type | None = None) -> Type:
    return Type(frozenset(names), element=element)


BOOL: Final = kind("bool")
INT: Final = kind("int")
STRING: Final = kind("string")
TIMESTAMP: Final = kind("timestamp")
_STRINGS: Final = kind("list", element=STRING)

ROOTS: Final[Mapping[str, Type]] = {
    "caller": Type(
        frozenset({"map"}),
        fixed={"name": STRING, "roles": _STRINGS, "scopes": _STRINGS, "attributes": kind("map"), "proof": STRING},
    ),
    "tool": Type(
        frozenset({"map"}),
        fixed=dict.fromkeys(("id", "name", "namespace", "version"), STRING)
        | {
            "side_effect": BOOL,
            "idempotent": BOOL,
            "security_level": Type(frozenset({"string"}), ("LOW", "MEDIUM", "HIGH", "")),
        },
    ),
    "session": Type(
        frozenset({"map"}),
        fixed=dict.fromkeys(("calls", "tool_calls", "depth"), INT)
        | {"spent": kind("double"), "counts": kind("map", element=INT)},
    ),
    "now": TIMESTAMP,
}


def args_type(schema: Any) -> Type:
    """The type of `args`, of a tool with the input schema *schema* (None where it has none)."""
    if not isinstance(schema, Mapping):
        return kind("map")
    return msgspec.structs.replace(of_schema(schema, schema), kinds=frozenset({"map"}), values=None)


def of_schema(schema: Any, document: Mapping[str, Any], hops: int = 0) -> Type:
    """What *schema* lets through, or something wider."""
    if not isinstance(schema, Mapping) or hops > _MAX_HOPS:
        return ANY
    structure = _STRUCTURE & schema.keys()
    if "$ref" in structure:
        return of_schema(_target(schema["$ref"], document), document, hops + 1) if len(structure) == 1 else ANY
    for word in ("anyOf", "oneOf", "allOf"):
        if word in structure:
            alternatives = schema[word]
            if len(structure) > 1 or not isinstance(alternatives, list) or (word == "allOf" and len(alternatives) != 1):
                return Type(_kinds(schema), schema=schema, document=document)
            return _either([of_schema(one, document, hops + 1) for one in alternatives])
    values = _values(schema)
    kinds = _kinds(schema) if values is None else _kinds(schema) & frozenset(kind_of(value) for value in values)
    return Type(kinds or EVERY, values, schema, document)


def member(owner: Type, name: str) -> Member:
    """What `owner.name` is, and whether it is there."""
    if owner.fixed is not None:
        found = owner.fixed.get(name)
        return Member(found, "required") if found is not None else Member(ANY, "forbidden")
    if owner.schema is None or owner.document is None:
        # What the gateway counts is not there before the first time.
        return Member(ANY, "unknown") if owner.element is None else Member(owner.element, "optional")
    schema, properties = owner.schema, owner.schema.get("properties")
    if isinstance(properties, Mapping) and name in properties:
        required = schema.get("required")
        presence: Presence = "required" if isinstance(required, list) and name in required else "optional"
        return Member(of_schema(properties[name], owner.document), presence)
    if "patternProperties" in schema:
        return Member(ANY, "unknown")
    extra = schema.get("additionalProperties")
    if extra is False:
        return Member(ANY, "forbidden")
    if any(word in schema for word in _BRANCHING):
        return Member(ANY, "unknown")
    if schema.get("unevaluatedProperties") is False:
        return Member(ANY, "forbidden")
    if isinstance(extra, Mapping):
        return Member(of_schema(extra, owner.document), "unknown")
    return Member(ANY, "undeclared" if isinstance(properties, Mapping) else "unknown")


def element(owner: Type) -> Type:
    """What each element of a list is; over a map, macros see its keys."""
    if owner.only("map"):
        return STRING
    if owner.element is not None or owner.schema is None or owner.document is None or "map" in owner.kinds:
        return owner.element or ANY
    if "prefixItems" in owner.schema or "items" not in owner.schema:
        return ANY
    return of_schema(owner.schema["items"], owner.document)


def declared(owner: Type) -> tuple[str, ...]:
    """The members that are known by name."""
    properties = owner.fixed if owner.schema is None else owner.schema.get("properties")
    return tuple(properties) if isinstance(properties, Mapping) else ()


def kind_of(value: Any) -> str:
    """The kind of a JSON value, "" for what is none."""
    names = {bool: "bool", int: "int", float: "double", str: "string", type(None): "null", list: "list", dict: "map"}
    return names.get(type(value), "")


def family(kinds: Kinds) -> Kinds:
    """*kinds*, with the numbers as one: they compare with each other."""
    return (kinds - NUMBERS) | {"number"} if kinds & NUMBERS else kinds


def _either(alternatives: list[Type]) -> Type:
    kinds = frozenset[str]().union(*(one.kinds for one in alternatives)) or EVERY
    solid = [one for one in alternatives if not one.only("null")]
    if len(solid) == 1:
        values = solid[0].values
        values = (*values, None) if values is not None and "null" in kinds else values
        return msgspec.structs.replace(solid[0], kinds=kinds, values=values)
    if solid and all(one.values is not None for one in solid):
        nulls = (None,) if len(solid) < len(alternatives) else ()
        return Type(kinds, tuple(value for one in solid for value in one.values or ()) + nulls)
    return Type(kinds)


def _kinds(schema: Mapping[str, Any]) -> Kinds:
    said = schema.get("type")
    kinds = [
        _JSON.get(name) if isinstance(name, str) else None for name in (said if isinstance(said, list) else [said])
    ]
    return frozenset[str]().union(*(some or EVERY for some in kinds)) or EVERY


def _values(schema: Mapping[str, Any]) -> tuple[Any, ...] | None:
    said = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(said, list) or not said or any(kind_of(value) in ("", "list", "map") for value in said):
        return None
    return tuple(said)


def _target(reference: Any, document: Mapping[str, Any]) -> Any:
    """What a reference within the document leads to, None for any other."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found: Any = document
    for part in reference[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if reference == "#" or reference.startswith("#/") else None
