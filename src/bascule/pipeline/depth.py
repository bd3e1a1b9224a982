"""How deep a chain of gateways a call comes from: a count that travels in the baggage of its trace.

Source: W3C Baggage; MCP 2026-07-28, "_meta" (SEP-414: `traceparent`, `tracestate`, `baggage` stand in it unprefixed).
"""

import re
from typing import Final

import msgspec

from bascule.call import Call, Forward, Result
from bascule.wire import jsonrpc, modern

_KEY: Final = "bascule.depth"
_DEEPEST: Final = 1000  # what claims to be deeper, or is no number, counts as this
_LONGEST: Final = 8192  # bytes of baggage that a platform has to pass on (W3C Baggage, 3.3.2); no more is read
_DEPTH: Final = re.compile(r"[0-9]{1,3}")


def depth_of(call: Call) -> int:
    """How many gateways have passed the call on before us, as far as its baggage says."""
    return _depth_in(_baggage(call))


def _depth_in(baggage: str) -> int:
    if len(baggage) > _LONGEST:
        return _DEEPEST
    found = [int(value) if _DEPTH.fullmatch(value) else _DEEPEST for value in _values(baggage)]
    return max(found, default=0)  # said twice, the deeper one counts


class Deepen:
    """Tells the server, and whatever it calls, that one gateway more has passed the call on."""

    async def __call__(self, call: Call, forward: Forward) -> Result:
        target = call.target
        assert target is not None, "the resolve stage sets the target"
        baggage = _baggage(call)
        kept = baggage.split(",") if len(baggage) <= _LONGEST else []
        others = [each.strip() for each in kept if each.strip() and _name(each) != _KEY]
        said = ",".join([*others, f"{_KEY}={min(_depth_in(baggage) + 1, _DEEPEST - 1)}"])
        meta = {**modern.meta_of(target.params), "baggage": said}
        params = jsonrpc.replaced(target.params, meta_=meta)
        return await forward(msgspec.structs.replace(call, target=msgspec.structs.replace(target, params=params)))


def _baggage(call: Call) -> str:
    raw = call.params.get("_meta")
    said = jsonrpc.text(modern.meta_of(call.params).get("baggage")) if raw and b"baggage" in bytes(raw) else None
    return said if said is not None else call.headers.get("baggage", "")


def _values(baggage: str) -> list[str]:
    return [each.partition("=")[2].partition(";")[0].strip() for each in baggage.split(",") if _name(each) == _KEY]


def _name(member: str) -> str:
    return member.partition("=")[0].strip()
