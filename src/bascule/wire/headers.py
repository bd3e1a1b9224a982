"""The HTTP headers that mirror a modern request's body: made for upstreams, checked for clients.

Source: MCP 2026-07-28, Streamable HTTP, "Request Metadata" (SEP-2243); RFC 9110, 5.6.2.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from bascule.errors import HeaderMismatch, InvalidParams
from bascule.wire.jsonrpc import Params, decode, text

VERSION: Final = "mcp-protocol-version"
METHOD: Final = "mcp-method"
NAME: Final = "mcp-name"
PARAM: Final = "mcp-param-"
SESSION: Final = "mcp-session-id"

# Which parameter Mcp-Name mirrors; tasks are routed by their id (SEP-2663, "Routing Headers").
NAMED_BY: Final = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}

_SENTINEL: Final = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
_PLAIN: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SAFE_INTEGER: Final = 2**53 - 1
# Keywords whose value maps names to schemas: those names are no keywords.
_NAMED: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})


class MirroredParam(msgspec.Struct, frozen=True):
    """One argument that clients repeat in a header: its place in the arguments, and the header."""

    path: tuple[str, ...]
    header: str  # lower case, with the prefix


def encode_value(value: str) -> str:
    """*value* as a header value: itself where HTTP can carry it, else the base64 sentinel."""
    if _PLAIN.fullmatch(value) and not _SENTINEL.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_value(value: str) -> str:
    """The inverse of `encode_value`. Raises HeaderMismatch for a value that it could not have made."""
    sentinel = _SENTINEL.fullmatch(value)
    if sentinel is None:
        if value and not _PLAIN.fullmatch(value):
            raise HeaderMismatch("a header value holds characters that need the base64 form")
        return value
    try:
        return base64.b64decode(sentinel[1], validate=True).decode()
    except ValueError as error:  # of base64 or of UTF-8
        raise HeaderMismatch("a header value in base64 form does not decode to UTF-8") from error


def mirrored_params(schema: Any) -> tuple[MirroredParam, ...]:
    """The annotated properties of a tool's input schema.

    Raises ValueError with the reason if an annotation breaks the rules of SEP-2243: then clients
    over HTTP must not see the tool at all.
    """
    found = list(_annotated(schema, ()))
    seen: set[str] = set()
    for each in found:
        if each.header in seen:
            raise ValueError(f"x-mcp-header {each.header[len(PARAM) :]!r} stands twice")
        seen.add(each.header)
    if _count(schema) != len(found):
        raise ValueError("x-mcp-header stands where it cannot be reached through `properties` alone")
    return tuple(found)


def mirrored_of(tool: Raw) -> tuple[MirroredParam, ...]:
    """The same for a whole tool definition as bytes; cheap for the many that have no annotation.

    Raises ValueError too.
    """
    if b"x-mcp-header" not in bytes(tool):
        return ()
    try:
        value = decode(tool)
        return mirrored_params(value.get("inputSchema") if isinstance(value, dict) else None)
    except (InvalidParams, RecursionError) as error:
        raise ValueError("the definition cannot be read, or is nested too deep") from error


def _annotated(schema: Any, path: tuple[str, ...]) -> Iterator[MirroredParam]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return
    for name, inner in properties.items():
        if isinstance(inner, dict):
            if "x-mcp-header" in inner:
                yield MirroredParam((*path, name), PARAM + _header_name(inner))
            yield from _annotated(inner, (*path, name))


def _header_name(schema: Mapping[str, Any]) -> str:
    name = schema["x-mcp-header"]
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"x-mcp-header {name!r} is not a header name")
    if schema.get("type") not in ("string", "integer", "boolean"):
        raise ValueError(f"x-mcp-header {name!r} is on a {schema.get('type')!r}; string, integer or boolean it must be")
    return name.lower()


def _count(schema: Any, *, named: bool = False) -> int:
    """Annotations anywhere in *schema*; with *named*, its keys are property names and not keywords."""
    if isinstance(schema, list):
        return sum(map(_count, schema))
    if not isinstance(schema, dict):
        return 0
    # Only schemas count: an example or a default may hold the same key as plain data.
    here = int("x-mcp-header" in schema and not named)
    return here + sum(
        _count(inner, named=key in _NAMED and not named)
        for key, inner in schema.items()
        if named or key not in ("default", "const", "enum", "examples")
    )


def for_request(method: str, params: Params, mirrored: Sequence[MirroredParam] = ()) -> dict[str, str]:
    """The `Mcp-*` headers for a request that is sent to a modern server over HTTP."""
    headers = {METHOD: method}
    key = NAMED_BY.get(method)
    name = text(params.get(key)) if key else None
    if name is not None:
        headers[NAME] = encode_value(name)
    if mirrored:
        arguments = _arguments(params)
        for param in mirrored:
            value = _at(arguments, param.path)
            if value is not None:
                headers[param.header] = encode_value(_shown(value))
    return headers


def check(headers: Mapping[str, str], method: str, params: Params, mirrored: Sequence[MirroredParam] = ()) -> None:
    """Raise HeaderMismatch unless the `Mcp-*` headers of a client's request say what its body says.

    *headers* have lower-case names; a repeated one is the business of the caller.
    """
    _expect(headers, METHOD, method, decoded=False)
    key = NAMED_BY.get(method)
    name = text(params.get(key)) if key else None
    if name is not None:
        _expect(headers, NAME, name)
    if mirrored:
        arguments = _arguments(params)
        for param in mirrored:
            _check_param(headers.get(param.header), param, _at(arguments, param.path))


def _expect(headers: Mapping[str, str], header: str, body: str, *, decoded: bool = True) -> None:
    value = headers.get(header)
    if value is None:
        raise HeaderMismatch(f"the {header} header is missing")
    if (decode_value(value) if decoded else value) != body:
        raise HeaderMismatch(f"the {header} header says {value!r}, the body {body!r}")


def _check_param(value: str | None, param: MirroredParam, body: Any) -> None:
    where = ".".join(param.path)
    if body is None:
        if value is not None:
            raise HeaderMismatch(f"the {param.header} header is there, but argument {where!r} is not")
        return
    if value is None:
        raise HeaderMismatch(f"the {param.header} header is missing; it mirrors argument {where!r}")
    said = decode_value(value)
    if said != _shown(body) and not _same_number(said, body):
        raise HeaderMismatch(f"the {param.header} header and argument {where!r} differ")


def _same_number(said: str, body: Any) -> bool:
    """Integers are compared by value: `42.0` says `42`."""
    if isinstance(body, bool) or not isinstance(body, int | float) or abs(body) > _SAFE_INTEGER:
        return False
    # float() also takes spaces, underscores and other scripts' digits, which the next reader may not.
    return _NUMBER.fullmatch(said) is not None and float(said) == body


def _arguments(params: Params) -> Any:
    raw: Raw | None = params.get("arguments")
    return decode(raw) if raw else None


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
