"""What makes two requests the same call, and two definitions the same tool: hashes that a yes and a key are bound to.

The fingerprint of a call leaves out what differs between two tries of it: the id, `_meta`, `inputResponses` and
`requestState`. Source: docs/reliability.md; RFC 8785.
"""

import hashlib
from typing import Any, Final

import msgspec
from msgspec import Raw

from bascule.call import Call
from bascule.contract.model import Contract
from bascule.errors import InvalidParams
from bascule.wire import jsonrpc
from bascule.wire.canonical import canonical
from bascule.wire.jsonrpc import Params

# Where each method says what it is about, and with which arguments: what stands elsewhere no server reads.
_NAMES: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_ARGUED: Final = frozenset({"tools/call", "prompts/get"})
_NO_ARGUMENTS: Final = Raw(b"{}")
_EACH_TRY: Final = frozenset({"_meta", "inputResponses", "requestState"})


def fingerprint_of(call: Call) -> bytes:
    """SHA-256 of the canonical server, method, name and arguments. Raises InvalidParams where they have none."""
    assert call.target is not None, "the resolve stage sets the target"
    params = call.target.params
    said = {
        "server": call.target.upstream.name,
        "method": call.method,
        "name": _name(call.method, params),
        "arguments": _arguments(call, params),
    }
    try:
        return hashlib.sha256(canonical(said, exact=True)).digest()
    except ValueError as error:
        raise InvalidParams(f"the arguments have no canonical form: {error}") from error


def arguments_in(call: Call) -> Raw:
    """The bytes of a call's arguments, as its server gets them; `{}` where there are none."""
    params = call.params if call.target is None else call.target.params
    if call.method in _ARGUED:
        return params.get("arguments", _NO_ARGUMENTS)
    return jsonrpc.encode(_others(params))


def pin_of(contract: Contract) -> bytes:
    """SHA-256 of what defines a tool: all that holds for it, whoever said it."""
    plain = msgspec.structs.replace(contract, sources={})
    return hashlib.sha256(msgspec.json.encode(plain, order="deterministic")).digest()


def _name(method: str, params: Params) -> str:
    return jsonrpc.text(params.get(_NAMES.get(method, "uri"))) or ""


def _arguments(call: Call, params: Params) -> Any:
    if call.method not in _ARGUED:
        return jsonrpc.decode(jsonrpc.encode(_others(params)))
    if call.args is not None:
        return call.args
    raw = params.get("arguments")
    return {} if raw is None else jsonrpc.decode(raw)


def _others(params: Params) -> Params:
    """All that a request without `arguments` says of itself."""
    return {key: value for key, value in params.items() if key not in _EACH_TRY}
