"""Spans are told elsewhere, in order, and only of calls that somebody wants to keep."""

from collections.abc import Sequence

import pytest
from msgspec import Raw
from msgspec.structs import replace

from bascule.call import Call
from bascule.observe import context
from bascule.observe.options import TracingOptions
from bascule.observe.traces import CallSpan, Span, Tracing, error_of, tracing_of
from bascule.store.record import Record
from bascule.wire import jsonrpc
from pipeline.calls import call

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Told:
    """Hears of spans."""

    lost = 0

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def __call__(self, spans: Sequence[Span]) -> None:
        self.spans += spans


def coming(flags: str = "01", trace_id: str = TRACE, **meta: str) -> Call:
    said = {"traceparent": f"00-{TRACE}-{SPAN}-{flags}", **meta}
    return replace(call(), params={"_meta": jsonrpc.encode(said)}, trace_id=trace_id, id=Raw(b'"a-1"'))


def over(**fields: object) -> Record:
    said = {"kind": "call", "at_us": 1, "method": "tools/call", "thing": "crm/find", "version": "1.0.0",
            "outcome": "answered"}  # fmt: skip
    return Record(**{**said, **fields})  # type: ignore[arg-type]  # fields of all types


async def told(made: Call, record: Record, sample: float = 1.0) -> list[Span]:
    hears = Told()
    tracing = Tracing(hears, sample=sample)
    made.trip.span = tracing.begin(made)
    tracing.end(made, record)
    tracing.close()
    return hears.spans


async def test_a_call_is_a_child_of_its_clients_span() -> None:
    (span,) = await told(coming(tracestate="a=1"), over())
    assert (span.trace_id, span.parent_id, span.remote, span.state) == (TRACE, SPAN, True, "a=1")
    assert (span.kind, span.name, span.error) == ("server", "tools/call crm/find", "")
    assert span.facts["jsonrpc.request.id"] == "a-1"


async def test_without_a_client_that_traces_it_is_the_first_of_its_trace() -> None:
    (span,) = await told(replace(call(), trace_id=TRACE), over())
    assert (span.trace_id, span.parent_id, span.remote) == (TRACE, "", False)


async def test_a_parent_of_another_trace_than_the_calls_is_none() -> None:
    (span,) = await told(coming(trace_id="1" * 32), over())
    assert (span.trace_id, span.parent_id) == ("1" * 32, "")


async def test_what_a_client_does_not_keep_is_not_told() -> None:
    assert await told(coming("00"), over()) == []
    assert await told(replace(call(), trace_id=TRACE), over(), sample=0.0) == []
    assert len(await told(coming("01"), over(), sample=0.0)) == 1


async def test_a_name_that_no_server_lists_is_no_name_of_a_span() -> None:
    (span,) = await told(coming(), over(thing="crm/made_up", version="", outcome="tool_not_found"))
    assert span.name == "tools/call"
    assert (span.error, span.facts["bascule.category"]) == ("tool_not_found", "protocol")


async def test_a_resource_is_told_by_its_uri_and_not_in_the_name() -> None:
    (span,) = await told(coming(), over(method="resources/read", thing="crm/file:///a/b"))
    assert span.name == "resources/read"
    assert span.facts["mcp.resource.uri"] == "file:///a/b"


async def test_of_a_part_its_place_is_told() -> None:
    hears = Told()
    tracing = Tracing(hears, sample=1.0)
    whole = CallSpan(TRACE, None, 1, sampled=True)
    tracing.tell(whole, "1" * 16, "queue", "internal", whole.began_ns, {}, "overloaded")
    tracing.close()
    (span,) = hears.spans
    assert (span.parent_id, span.name, span.error) == (whole.id, "queue", "overloaded")
    assert span.ended_ns >= span.began_ns


async def test_what_finds_no_room_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing = Tracing(Told(), sample=1.0)
    monkeypatch.setattr(tracing._batches, "_most", 1)
    for _ in range(3):
        tracing.end(coming(), over())
    assert tracing.dropped == 2
    tracing.close()


def test_a_span_that_is_passed_on_says_whether_it_is_kept() -> None:
    for sampled in (True, False):
        span = CallSpan(TRACE, None, 1, sampled=sampled)
        assert context.traceparent(TRACE, span.id, span.flags).endswith("-01" if sampled else "-00")


@pytest.mark.parametrize(
    ("outcome", "error"), [("answered", ""), ("failed", "tool_error"), ("refused", "refused"), ("timeout", "timeout")]
)
def test_an_error_has_the_name_that_others_use_for_it(outcome: str, error: str) -> None:
    assert error_of(outcome) == error


def test_without_a_collector_there_is_no_tracing() -> None:
    assert tracing_of(TracingOptions(), lambda server: False) is None
