"""One table from our errors to what a client sees: HTTP status, JSON-RPC error, or an `isError` result.

On `tools/call` a refusal is by default a result, because a model can read it and react; errors of
the protocol and of identity always are errors (design §6).
"""

import math
import random
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec import Raw

from bascule.call import Call
from bascule.errors import (
    BasculeError,
    InFlight,
    InvalidRequest,
    KeyMismatch,
    OutcomeUnknown,
    ProtocolError,
    ResourceNotFound,
    ScopeDenied,
    Unauthenticated,
    to_data,
)
from bascule.policy.scopes import OPERATORS
from bascule.wire import jsonrpc, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import Era
from bascule.wire.wishes import KEY_HEADER

ERROR_META = "dev.bascule/error"
WISHES_META = "dev.bascule/errors"  # `result` or `jsonrpc`


# Never told as a result: who is not known, or lacks a scope, has to log in, and the status says so.
_OF_IDENTITY: Final = (Unauthenticated, ScopeDenied)
# Nor what an idempotency key came to: it is for the program that sends the key, and no model can mend it.
_OF_KEYS: Final = (KeyMismatch, InFlight, OutcomeUnknown)


class Answer(NamedTuple):
    """What a client hears of its request: the HTTP status, the message, and our error if it is one."""

    status: int
    message: bytes
    error: BasculeError | None = None
    replayed: bool = False  # it is what an earlier request of the same idempotency key was answered


def error_object(
    error: BasculeError,
    params: Params | None = None,
    *,
    era: Era = Era.MODERN,
    trace_id: str = "",
    operator: bool = False,
) -> Raw:
    """The JSON-RPC error object for *error*, with what only an *operator* may see."""
    # Until 2025-11-25 a missing resource had a code of its own (Resources, "Error Handling").
    old = era is Era.LEGACY and isinstance(error, ResourceNotFound)
    return jsonrpc.encode({
        "code": -32002 if old else error.family,
        "message": in_words(error),
        "data": to_data(error, trace_id or trace_id_of(params or {}), operator=operator),
    })  # fmt: skip


def answer_to(call: Call, error: BasculeError) -> Answer:
    """What tells the client of *call* what went wrong."""
    of_identity, of_keys = isinstance(error, _OF_IDENTITY), isinstance(error, _OF_KEYS)
    is_result = not (of_identity or of_keys or isinstance(error, ProtocolError) or _wants_errors(call))
    if call.method == "tools/call" and is_result:
        return Answer(200, jsonrpc.answer(call.id, _as_result(call, error)), error)
    # Who sends a key as a header hears of it by HTTP's own means, of whatever era (docs/reliability.md).
    of_head = isinstance(error, InvalidRequest) and KEY_HEADER in call.headers
    spoken = call.wishes.key_in_header if of_keys else call.era is Era.MODERN or of_identity or of_head
    status = error.http if spoken else 200
    told = error_object(error, call.params, era=call.era, trace_id=call.trace_id, operator=_is_operator(call))
    return Answer(status, jsonrpc.refusal(call.id, told), error)


def in_words(error: BasculeError) -> str:
    """The message, with the server that it happened at."""
    return error.message if error.source == "bascule" else f"{error.source}: {error.message}"


def _as_result(call: Call, error: BasculeError) -> Raw:
    data = {"message": in_words(error), **to_data(error, call.trace_id, operator=_is_operator(call))}
    wait_s = error.retry_after_s
    advice = error.advice if wait_s is None else f"try again in {math.ceil(wait_s)} s"
    result: dict[str, Any] = {
        "content": [{"type": "text", "text": f"{in_words(error)} ({error.kind}; {advice})"}],
        "isError": True,
        "_meta": {ERROR_META: data},
    }
    return modern.complete(result) if call.era is Era.MODERN else jsonrpc.encode(result)


def _is_operator(call: Call) -> bool:
    return call.caller.authority.covers(OPERATORS)


def _wants_errors(call: Call) -> bool:
    return jsonrpc.text(modern.meta_of(call.params).get(WISHES_META)) == "jsonrpc"


def trace_id_of(params: Params, head: Mapping[str, str] | None = None) -> str:
    """The trace id of the caller's `traceparent` (W3C Trace Context, 2.2.3), or a fresh one."""
    raw = params.get("_meta")
    said = jsonrpc.text(modern.meta_of(params).get("traceparent")) if raw and b"traceparent" in bytes(raw) else None
    found = _TRACEPARENT.fullmatch(said or (head or {}).get("traceparent", ""))
    # A fresh one tells calls apart and nothing else, so it need not be hard to guess.
    return found[1] if found else f"{random.getrandbits(128):032x}"


_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
