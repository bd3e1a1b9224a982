"""`label`: what every result says of its call, in `_meta["dev.bascule/call"]` (docs/contracts.md).

The server's own bytes stay as they are: the label is put in between them.
"""

import time
from typing import Final

import msgspec
from msgspec import Raw

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract
from bascule.errors import BasculeError, InvalidParams
from bascule.policy.spending import COST_META
from bascule.wire import jsonrpc
from bascule.wire.translate import CALL_META

_KEY: Final = b'"dev.bascule/call":'
_OURS: Final = "dev.bascule/"
_TRUTH: Final = {False: b"false", True: b"true"}
_LABELLED: Final = frozenset({"tools/call", "prompts/get", "resources/read", "completion/complete"})


class Label:
    """Says where a result comes from, under which version, at what price, and what was noticed on the way."""

    def __init__(self, contract: Contract, source: str) -> None:
        self._version = contract.version if "version" in contract.sources else None
        self._known = self._said(source)
        self._noted = _notes(contract)

    async def __call__(self, call: Call, forward: Forward) -> Result:
        began = time.perf_counter()
        try:
            result = await forward(call)
        except InvalidParams:
            raise  # what does not exist for its caller has no version either
        except BasculeError as error:
            error.version = self._version
            raise
        if result.refused or call.method not in _LABELLED:
            return result
        took_ms = round((time.perf_counter() - began) * 1000)
        label = b'{"trace_id":"%b",%b,"warnings":%b,"cost_usd":%b,"cached":%b,"replayed":%b,"took_ms":%d}' % (
            call.trace_id.encode(),
            self._said(call.trip.served_by) if call.trip.served_by else self._known,
            b"[]" if not (result.warnings or self._noted) else bytes(jsonrpc.encode((*self._noted, *result.warnings))),
            b"null" if result.cost_usd is None else bytes(jsonrpc.encode(result.cost_usd)),
            _TRUTH[call.trip.cached],
            _TRUTH[call.trip.replayed],
            took_ms,
        )
        return msgspec.structs.replace(result, value=labelled(result.value, label))

    def _said(self, source: str) -> bytes:
        """Two members of the label: where the result comes from, and under which version."""
        return bytes(jsonrpc.encode({"source": source, "version": self._version}))[1:-1]


def labelled(result: Raw, label: bytes) -> Raw:
    """*result* with *label* in its `_meta`; one that the server wrote itself counts for nothing."""
    value = bytes(result)
    members = jsonrpc.members(result) if b'"_meta"' in value else jsonrpc.EMPTY
    meta = members.get("_meta")
    if meta is None:
        return Raw(_joined(value, b'"_meta":{%b%b}' % (_KEY, label)))
    inner = jsonrpc.members(meta) if bytes(meta).startswith(b"{") else {}
    # Our own words: clients act on what they find under them, and a server must not say it in our name.
    inner = {key: value for key, value in inner.items() if not key.startswith(_OURS) or key == COST_META}
    inner[CALL_META] = Raw(label)
    return jsonrpc.encode({**members, "_meta": inner})


def _joined(value: bytes, member: bytes) -> bytes:
    """The JSON object *value* with one more *member* at its end."""
    inside = value[:-1].rstrip()
    return inside + (b"" if inside == b"{" else b",") + member + b"}"


def _notes(contract: Contract) -> tuple[str, ...]:
    if contract.status != "deprecated":
        return ()
    said = contract.deprecation
    until = f" and will be withdrawn on {said.sunset}" if said and said.sunset else ""
    return (f"{contract.named} is deprecated{until}{said.advice if said else ''}",)
