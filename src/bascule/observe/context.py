"""Where a call stands in a trace: what its client says of it, and what its server is told. PURE.

What stands in `_meta` goes before HTTP headers: of the two it is the one that crosses every transport.
Source: W3C Trace Context (level 2), 2.2 and 2.3; MCP 2026-07-28, "_meta" (SEP-414: the keys stand in it unprefixed).
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from bascule.wire import jsonrpc, modern
from bascule.wire.jsonrpc import Params

PARENT: Final = "traceparent"
STATE: Final = "tracestate"
BAGGAGE: Final = "baggage"

_SAID: Final = re.compile(r"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_STATE: Final = re.compile(r"[\x20-\x7e\t]{1,512}")  # 512 is what everybody has to pass on (3.3.1.5)
_SAMPLED: Final = 0x01
_RANDOM: Final = 0x02  # the trace id is random: said by who made it, passed on by all (level 2, 3.2.2.3.2)
_HALF: Final = 1 << 64
_OWN_BAGGAGE: Final = "bascule."  # how deep a chain of gateways is, for the gateways in it (pipeline/depth.py)


class Parent(msgspec.Struct, frozen=True):
    """The span of a client that a call belongs to."""

    trace_id: str
    id: str
    flags: int
    state: str = ""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)


def parent_of(params: Params, head: Mapping[str, str]) -> Parent | None:
    """What a request says of the span that it comes from; None if it says nothing, or nothing that can be read."""
    raw = params.get("_meta")
    if raw is not None and PARENT.encode() in bytes(raw):
        meta = modern.meta_of(params)
        said = jsonrpc.text(meta.get(PARENT))
        if said:
            return _read(said, jsonrpc.text(meta.get(STATE)) or "")
    said = head.get(PARENT)
    return None if said is None else _read(said, head.get(STATE, ""))


def _read(said: str, state: str) -> Parent | None:
    found = _SAID.fullmatch(said)
    if found is None:
        return None
    return Parent(found[1], found[2], int(found[3], 16), state if _STATE.fullmatch(state) else "")


def is_sampled(trace_id: str, parent: Parent | None, part: float) -> bool:
    """Whether a call's spans are kept: as its parent's are, and without one for *part* of all trace ids.

    By the id, so that everybody who takes the same part takes the same traces (OpenTelemetry, TraceIdRatioBased).
    """
    if parent is not None:
        return parent.sampled
    return int(trace_id[16:], 16) < round(part * _HALF)


def traceparent(trace_id: str, id: str, flags: int) -> str:
    return f"00-{trace_id}-{id}-{flags & (_SAMPLED | _RANDOM):02x}"


def flags_of(parent: Parent | None, *, sampled: bool) -> int:
    return (0 if parent is None else parent.flags & _RANDOM) | (_SAMPLED if sampled else 0)


def going_on(params: Params, said: str, state: str, *, trusted: bool) -> Params:
    """*params* as a server gets them: it hears of our span, *said*, as its parent.

    Baggage is what a client's own services say to one another, so that a server that is not *trusted* gets none of it.
    """
    meta = dict(modern.meta_of(params))
    if not trusted and BAGGAGE in meta:
        ours = _ours(jsonrpc.text(meta.pop(BAGGAGE)) or "")
        if ours:
            meta[BAGGAGE] = jsonrpc.encode(ours)
    meta.pop(STATE, None)  # it is of another trace, unless it came with the parent
    if state:
        meta[STATE] = jsonrpc.encode(state)
    meta[PARENT] = jsonrpc.encode(said)
    return jsonrpc.replaced(params, meta_=meta)


def _ours(baggage: str) -> str:
    members = (each.strip() for each in baggage.split(","))
    return ",".join(each for each in members if each.startswith(_OWN_BAGGAGE))
