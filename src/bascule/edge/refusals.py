"""One table from our errors to what a client sees: HTTP status, JSON-RPC error, or an `isError` result.

On `tools/call` a refusal is by default a result, because a model can read it and react; errors of
the protocol and of identity always are errors (design §6).
"""

import secrets
from typing import Any

from msgspec import Raw

from bascule.call import Call
from bascule.errors import BasculeError, ProtocolError, ResourceNotFound, Unauthenticated, to_data
from bascule.wire import jsonrpc, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import Era

ERROR_META = "dev.bascule/error"
WISHES_META = "dev.bascule/errors"  # `result` or `jsonrpc`


def error_object(error: BasculeError, params: Params | None = None, *, era: Era = Era.MODERN) -> Raw:
    """The JSON-RPC error object for *error*."""
    # Until 2025-11-25 a missing resource had a code of its own (Resources, "Error Handling").
    old = era is Era.LEGACY and isinstance(error, ResourceNotFound)
    return jsonrpc.encode({
        "code": -32002 if old else error.family,
        "message": in_words(error),
        "data": to_data(error, trace_id_of(params or {})),
    })  # fmt: skip


def answer_to(call: Call, error: BasculeError) -> tuple[int, bytes]:
    """(HTTP status, message) that tells the client of *call* what went wrong."""
    if call.method == "tools/call" and not isinstance(error, ProtocolError) and not _wants_errors(call):
        return 200, jsonrpc.answer(call.id, _as_result(call, error))
    status = error.http if call.era is Era.MODERN else 200
    return status, jsonrpc.refusal(call.id, error_object(error, call.params, era=call.era))


def in_words(error: BasculeError) -> str:
    """The message, with the server that it happened at."""
    return error.message if error.source == "bascule" else f"{error.source}: {error.message}"


def _as_result(call: Call, error: BasculeError) -> Raw:
    data = {"message": in_words(error), **to_data(error, trace_id_of(call.params))}
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": f"{in_words(error)} ({error.kind}; {error.advice})"}],
        "isError": True,
        "_meta": {ERROR_META: data},
    }
    return modern.complete(result) if call.era is Era.MODERN else jsonrpc.encode(result)


def _wants_errors(call: Call) -> bool:
    return jsonrpc.text(modern.meta_of(call.params).get(WISHES_META)) == "jsonrpc"


def trace_id_of(params: Params) -> str:
    """The trace id of the caller's `traceparent` (W3C Trace Context), or a fresh one."""
    raw = params.get("_meta")
    if raw is not None and b"traceparent" in bytes(raw):
        parts = (jsonrpc.text(modern.meta_of(params).get("traceparent")) or "").split("-")
        if len(parts) == 4 and len(parts[1]) == 32:
            return parts[1]
    return secrets.token_hex(16)


def challenge(error: BasculeError) -> list[tuple[bytes, bytes]]:
    """Extra headers that go with *error*."""
    if not isinstance(error, Unauthenticated):
        return []
    return [(b"www-authenticate", b'Bearer realm="bascule", error="invalid_token"')]
