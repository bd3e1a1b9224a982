"""Spans as a collector takes them: OTLP, in protobuf. PURE.

Written out by hand: it is one message with a dozen fields, and OpenTelemetry's own library takes many times as long
for a span as all else that is done for it, besides being larger and slower to load than Bascule.
Source: opentelemetry-proto 1.x, trace.proto, common.proto; Protocol Buffers, "Encoding".
"""

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from bascule.observe import semconv
from bascule.observe.traces import Fact, Kind, Span

_KINDS: Final[Mapping[Kind, int]] = {"internal": 1, "server": 2, "client": 3}
_ERROR: Final = b"\x18\x02"  # Status.code = STATUS_CODE_ERROR
_KNOWN: Final = 0x100  # of flags: whether the parent is remote is known
_REMOTE: Final = 0x200
_TIMES: Final = struct.Struct("<BQBQ")
_FLAGS: Final = struct.Struct("<BBI")
_DOUBLE: Final = struct.Struct("<Bd")


def request_of(spans: Iterable[Span], process: Mapping[str, Fact], version: str) -> bytes:
    """An ExportTraceServiceRequest with *spans* of the *process* that is told by those facts."""
    scope = _text(1, "bascule") + _text(2, version)
    of_scope = _part(1, scope) + b"".join(_part(2, span_of(span)) for span in spans)
    return _part(1, _part(1, _facts(1, process)) + _part(2, of_scope))


def span_of(span: Span) -> bytes:
    """One Span."""
    flags = span.flags | _KNOWN | (_REMOTE if span.remote else 0)
    error = {semconv.ERROR: span.error} if span.error else {}
    return b"".join((
        _part(1, bytes.fromhex(span.trace_id)),
        _part(2, bytes.fromhex(span.id)),
        _text(3, span.state) if span.state else b"",
        _part(4, bytes.fromhex(span.parent_id)) if span.parent_id else b"",
        _text(5, span.name),
        bytes((6 << 3, _KINDS[span.kind])),
        _TIMES.pack(7 << 3 | 1, span.began_ns, 8 << 3 | 1, span.ended_ns),
        _facts(9, span.facts),
        _facts(9, error),
        _part(15, _text(2, span.error) + _ERROR) if span.error else b"",
        _FLAGS.pack(0x85, 0x01, flags),  # field 16
    ))  # fmt: skip


def _facts(field: int, facts: Mapping[str, Fact]) -> bytes:
    return b"".join([_part(field, _name(name) + _part(2, _value(fact))) for name, fact in facts.items()])


@lru_cache(256)  # names are few, and each span has most of them
def _name(name: str) -> bytes:
    return _text(1, name)


def _value(fact: Fact) -> bytes:
    """An AnyValue."""
    if isinstance(fact, str):
        return _text(1, fact)
    if isinstance(fact, bool):
        return bytes((2 << 3, fact))
    if isinstance(fact, int):
        return b"\x18" + _varint(fact & 0xFFFF_FFFF_FFFF_FFFF)  # negative ones as two's complement
    return _DOUBLE.pack(4 << 3 | 1, fact)


def _text(field: int, text: str) -> bytes:
    return _part(field, text.encode("utf-8", "replace"))


def _part(field: int, content: bytes) -> bytes:
    """A field that says its length; of numbers up to 15, which fit into one byte."""
    size = len(content)
    return (
        bytes((field << 3 | 2, size)) + content if size < 0x80 else bytes((field << 3 | 2,)) + _varint(size) + content
    )


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
