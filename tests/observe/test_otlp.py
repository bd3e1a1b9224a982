"""Spans that are written out by hand are read by OpenTelemetry's own code as what they were."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bascule.observe.otlp import request_of
from bascule.observe.traces import Fact, Span

facts = st.dictionaries(
    st.text(max_size=20),
    st.text(max_size=300) | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
    max_size=5,
)
ids = st.integers(1, 2**64 - 1).map("{:016x}".format)
moments = st.integers(0, 2**63)
spans = st.builds(
    Span,
    trace_id=ids.map(lambda half: half * 2),
    id=ids,
    parent_id=ids | st.just(""),
    remote=st.booleans(),
    state=st.just("") | st.text("abc=,1", max_size=200),
    flags=st.integers(0, 255),
    name=st.text(max_size=300),
    kind=st.sampled_from(["server", "client", "internal"]),
    began_ns=moments,
    ended_ns=moments,
    facts=facts,
    error=st.just("") | st.text(min_size=1, max_size=20),
)


def read(body: bytes) -> Any:
    (whole,) = ExportTraceServiceRequest.FromString(body).resource_spans
    return whole


def told(attributes: Any) -> dict[str, Fact]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def written(text: str) -> str:
    """As it can be written: half of a surrogate pair cannot."""
    return text.encode("utf-8", "replace").decode()


@given(st.lists(spans, max_size=4), facts)
def test_what_is_written_is_what_is_read(some: list[Span], process: dict[str, Fact]) -> None:
    whole = read(request_of(some, process, "1.2.3"))
    assert told(whole.resource.attributes) == {written(name): _written(fact) for name, fact in process.items()}
    (scope,) = whole.scope_spans
    assert (scope.scope.name, scope.scope.version) == ("bascule", "1.2.3")
    assert len(scope.spans) == len(some)
    for seen, span in zip(scope.spans, some, strict=True):
        assert (seen.trace_id.hex(), seen.span_id.hex()) == (span.trace_id, span.id)
        assert (seen.parent_span_id.hex(), seen.trace_state) == (span.parent_id, span.state)
        assert (seen.name, seen.kind) == (written(span.name), {"internal": 1, "server": 2, "client": 3}[span.kind])
        assert (seen.start_time_unix_nano, seen.end_time_unix_nano) == (span.began_ns, span.ended_ns)
        assert seen.flags == span.flags | 0x100 | (0x200 if span.remote else 0)
        assert (seen.status.code, seen.status.message) == (2 if span.error else 0, written(span.error))
        error = {"error.type": written(span.error)} if span.error else {}
        assert told(seen.attributes) == {**{written(n): _written(f) for n, f in span.facts.items()}, **error}


def _written(fact: Fact) -> Fact:
    return written(fact) if isinstance(fact, str) else fact


def test_a_number_that_is_none_is_carried_too() -> None:
    (fact,) = told(read(request_of([], {"x": math.nan}, "")).resource.attributes).values()
    assert isinstance(fact, float)
    assert math.isnan(fact)
