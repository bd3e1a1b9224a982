"""JSON-RPC envelopes: the strict door for what clients send, a tolerant one for what servers answer.

Only the envelope is decoded. `params`, `result` and `error` stay the bytes that arrived
(`msgspec.Raw`), so numbers, nulls, key order and unknown fields cross untouched.
Source: JSON-RPC 2.0; MCP 2026-07-28, "Messages"; hostile cases in docs/security.md.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, TypeVar

import jiter
import msgspec
from msgspec import Raw

from bascule.errors import InvalidParams, InvalidRequest, ParseFailed

Kind = TypeVar("Kind")

MAX_DEPTH: Final = 64  # of arrays and objects in one message; deeper is an attack, not data

Params: TypeAlias = Mapping[str, Raw]
Id: TypeAlias = Raw  # the id's own bytes: `1` and `"1"` stay two ids, and 2**63 keeps its digits

# As Python values two bytes of JSON become sixty-four: without these bounds 4 MiB hold up everybody for seconds.
MAX_CONTAINERS: Final = 120_000  # arrays and objects in one message
MAX_VALUES: Final = 500_000  # of any kind

_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)  # one that does not end reaches to the end

NOTHING: Final = Raw(b"")
NULL: Final = Raw(b"null")
EMPTY: Final[Params] = {}

_INTEGER: Final = re.compile(rb"-?[1-9][0-9]*|0")


def _folded(name: str) -> str:
    return name.casefold()


# Reserved member names by their folded form: what a parser that ignores case would take them for.
_MEMBERS: Final = {_folded(name): name for name in ("jsonrpc", "id", "method", "params", "result", "error")}
_PARAMETERS: Final = {
    _folded(name): name
    for name in (
        *("_meta", "name", "arguments", "uri", "cursor", "ref", "argument", "context", "level", "taskId"),
        *("requestState", "inputResponses", "notifications", "requestId", "progressToken"),
        *("protocolVersion", "capabilities", "clientInfo"),
    )
}

_EXACT: Final = frozenset(_MEMBERS.values()) | frozenset(_PARAMETERS.values())


class Envelope(msgspec.Struct, frozen=True):
    """The members of a JSON-RPC message; an absent one is empty bytes."""

    id: Raw = NOTHING
    method: str = ""
    params: Raw = NOTHING
    result: Raw = NOTHING
    error: Raw = NOTHING


class Request(msgspec.Struct, frozen=True):
    id: Id
    method: str
    params: Params


class Notification(msgspec.Struct, frozen=True):
    method: str
    params: Params


class Response(msgspec.Struct, frozen=True):
    """An answer; exactly one of *result* and *error* has bytes."""

    id: Id
    result: Raw
    error: Raw


Message: TypeAlias = Request | Notification | Response

_envelope = msgspec.json.Decoder(Envelope)
_members = msgspec.json.Decoder(dict[str, Raw])
_items = msgspec.json.Decoder(list[Raw])
_encode = msgspec.json.Encoder().encode


def members(raw: Raw | bytes) -> dict[str, Raw]:
    """The members of a JSON object, values untouched, in the order they came.

    Raises InvalidParams if *raw* is anything but an object.
    """
    try:
        return _members.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParams(f"expected a JSON object: {error}") from error


def items(raw: Raw | bytes) -> list[Raw]:
    """The elements of a JSON array, untouched. Raises InvalidParams if *raw* is not an array."""
    try:
        return _items.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParams(f"expected a JSON array: {error}") from error


def text(raw: Raw | None) -> str | None:
    """The string that *raw* holds, or None for anything else."""
    if not raw or bytes(raw)[:1] != b'"':
        return None
    value = decode(raw)
    return value if isinstance(value, str) else None


def decode(raw: Raw | bytes) -> Any:
    """*raw* as Python values. Raises InvalidParams where Python has none: `1e400`, a thousand levels."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParams(f"cannot be read: {error}") from error


def value_of(raw: Raw | None, kind: type[Kind]) -> Kind | None:
    """What *raw* holds if it is of *kind*, else None: what a peer got wrong counts as not said."""
    value = decode(raw) if raw else None
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def encode(value: object) -> Raw:
    """*value* as compact JSON; `Raw` parts inside are copied as they are."""
    return Raw(_encode(value))


def replaced(base: Params, **changes: object) -> dict[str, Raw]:
    """A copy of *base* with some members encoded anew; `_meta` is spelled `meta_`."""
    fresh = dict(base)
    for key, value in changes.items():
        name = "_meta" if key == "meta_" else key
        fresh[name] = value if isinstance(value, Raw) else encode(value)
    return fresh


def request(id: int | Raw, method: str, params: Params | Raw | None = None) -> bytes:
    return _message(b'"id":%b,"method":%b' % (_id(id), _encode(method)), params)


def notification(method: str, params: Params | Raw | None = None) -> bytes:
    return _message(b'"method":%b' % _encode(method), params)


def answer(id: Id | int, result: Raw) -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (_id(id), bytes(result))


def refusal(id: Id | int | None, error: Raw) -> bytes:
    """An error response. The member `id` is left out when it could not be read (MCP schema, JSONRPCErrorResponse)."""
    if id is None:
        return b'{"jsonrpc":"2.0","error":%b}' % bytes(error)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (_id(id), bytes(error))


def _id(id: int | Raw) -> bytes:
    return b"%d" % id if isinstance(id, int) else bytes(id)


def _message(head: bytes, params: Params | Raw | None) -> bytes:
    if params is None or (isinstance(params, Raw) and not params):
        return b'{"jsonrpc":"2.0",%b}' % head
    return b'{"jsonrpc":"2.0",%b,"params":%b}' % (head, bytes(params) if isinstance(params, Raw) else _encode(params))


# ---- the strict door -----------------------------------------------------------------------------


def parse(body: bytes, *, batches: bool = False) -> list[Message]:
    """The messages in a client's POST body: one, or those of a batch where *batches* are legal.

    Raises ParseFailed (not JSON), InvalidRequest (JSON that is not a message: duplicate or disguised
    member names, a bad id, an illegal batch, too deep) or InvalidParams (`params` is not an object).
    """
    value = _load(body)
    if isinstance(value, dict):
        return [_message_of(value, body)]
    if not isinstance(value, list):
        raise InvalidRequest("a message is a JSON object")
    if not batches:
        raise InvalidRequest("batches are not part of this protocol revision; send one message at a time")
    if not value:
        raise InvalidRequest("a batch holds at least one message")
    if not all(isinstance(each, dict) for each in value):
        raise InvalidRequest("every message of a batch is a JSON object")
    return [_message_of(each, raw) for each, raw in zip(value, items(body), strict=True)]


def _load(body: bytes) -> Any:
    _refuse_swarms(body)
    try:
        value = jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        reason = str(error)
        if "duplicate key" in reason:
            raise InvalidRequest(reason) from error
        if "hex escape" in reason or "surrogate" in reason:
            raise InvalidRequest(f"a string holds half of a surrogate pair: {reason}") from error
        raise ParseFailed(reason) from error
    # Counting brackets bounds the depth from above, so ordinary messages are never walked.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise InvalidRequest(f"nested deeper than {MAX_DEPTH} levels")
    return value


def _refuse_swarms(body: bytes) -> None:
    """Raise InvalidRequest for more values than a message may hold, before any of them is made."""
    if _is_few(body):
        return
    # Marks within strings are no values. Strings are counted first, or looking for them would cost the most.
    strings = (body.count(b'"') - body.count(b'\\"')) // 2
    if strings > 2 * MAX_CONTAINERS or not _is_few(_STRING.sub(b"", body)):
        raise InvalidRequest(f"holds more than {MAX_CONTAINERS} arrays and objects, or {MAX_VALUES} values")


def _is_few(text: bytes) -> bool:
    containers = text.count(b"[") + text.count(b"{")
    return containers <= MAX_CONTAINERS and containers + text.count(b",") < MAX_VALUES


def _deeper_than(value: Any, limit: int) -> bool:
    layer = [value]
    for _ in range(limit):
        layer = [
            child
            for parent in layer
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not layer:
            return False
    return True


def _message_of(value: dict[str, Any], raw: bytes | Raw) -> Message:
    _refuse_disguises(value, _MEMBERS)
    if value.get("jsonrpc") != "2.0":
        raise InvalidRequest('"jsonrpc" is "2.0"')
    envelope = _envelope.decode(raw) if isinstance(value.get("method", ""), str) else None
    if envelope is None:
        raise InvalidRequest('"method" is a string')
    if "method" not in value:
        return _response_of(value, envelope)
    if "result" in value or "error" in value:
        raise InvalidRequest("a message with a method has neither a result nor an error")
    id = _checked_id(envelope.id) if "id" in value else None
    if "params" in value:
        if not isinstance(value["params"], dict):
            raise InvalidParams('"params" is an object').of(id)
        _refuse_disguises(value["params"], _PARAMETERS)
    params = _members.decode(envelope.params) if envelope.params else EMPTY
    return Notification(envelope.method, params) if id is None else Request(id, envelope.method, params)


def _response_of(value: dict[str, Any], envelope: Envelope) -> Response:
    if ("result" in value) == ("error" in value) or "id" not in value:
        raise InvalidRequest("a message has a method, or an id and either a result or an error")
    return Response(_checked_id(envelope.id), envelope.result, envelope.error)


def _checked_id(raw: Raw) -> Id:
    id = bytes(raw)
    if id[:1] != b'"' and not _INTEGER.fullmatch(id):
        raise InvalidRequest("an id is a string or an integer")
    return Raw(id)


def _refuse_disguises(value: Mapping[str, Any], reserved: Mapping[str, str]) -> None:
    """Raise InvalidRequest if a member's name is a reserved one but for case or a look-alike letter.

    Parsers that fold case would read it as the reserved member while ours does not: what policy
    looked at would not be what the server runs (CVE-2026-27896 and its kin).
    """
    for key in value:
        if key not in _EXACT:  # nearly always they are just what they should be
            meant = reserved.get(_folded(key))
            if meant is not None and meant != key:
                raise InvalidRequest(f"member {key!r} imitates {meant!r}")


# ---- what servers send ---------------------------------------------------------------------------


def read(line: bytes) -> Message:
    """One message of a server. Raises ValueError with the reason if it is not one.

    Tolerant where nothing is at stake (member order, unknown members, `jsonrpc` missing), strict
    where a wrong guess could give one caller another's answer.
    """
    try:
        if not line.isascii():
            line.decode()
        envelope = _envelope.decode(line)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not a JSON-RPC message: {error}") from error
    if envelope.method:
        params = _params_of(envelope.params)
        has_id = envelope.id and envelope.id != NULL
        return Request(envelope.id, envelope.method, params) if has_id else Notification(envelope.method, params)
    if not envelope.id and not envelope.error:
        raise ValueError("neither a method nor an id nor an error")
    # Some servers write every member: `"error": null` beside a result says that there is none.
    no_error = envelope.result and envelope.error == NULL
    return Response(envelope.id, envelope.result, NOTHING if no_error else envelope.error)


def _params_of(raw: Raw) -> Params:
    if not raw or raw == NULL:
        return EMPTY
    try:
        return _members.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f'"params" is not an object: {error}') from error
