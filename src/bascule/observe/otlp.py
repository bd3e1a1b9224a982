"""Spans as a collector takes them, by OTLP over HTTP. The only file that knows OpenTelemetry.

Imported where `tracing.endpoint` is set, and nowhere else: it takes longer to load than all of Bascule.
"""

from collections.abc import Sequence
from typing import Final

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

import bascule
from bascule.observe import semconv
from bascule.observe.options import TracingOptions
from bascule.observe.traces import Kind, Span

_TIMEOUT_S: Final = 5.0  # of one delivery, all its attempts together
_KINDS: Final[dict[Kind, SpanKind]] = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}
_OK: Final = Status(StatusCode.UNSET)


class Otlp:
    """`tell` of Tracing, for one collector."""

    def __init__(self, options: TracingOptions) -> None:
        session = requests.Session()
        session.trust_env = False  # what is not in the configuration is not sent: no credentials of a .netrc
        self._exporter = OTLPSpanExporter(
            endpoint=options.url,
            headers=dict(options.headers),
            timeout=_TIMEOUT_S,
            compression=Compression.Gzip,
            session=session,
        )
        self._resource = Resource.create(
            {semconv.SERVICE: options.service_name, semconv.SERVICE_VERSION: bascule.__version__}
        )
        self._scope = InstrumentationScope("bascule", bascule.__version__)

    def __call__(self, spans: Sequence[Span]) -> None:
        """Deliver *spans*; what cannot be delivered is lost, which the exporter logs."""
        self._exporter.export([self._readable(span) for span in spans])

    def close(self) -> None:
        """Wait for nothing more."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK gives it no type

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.id, span, remote=False),
            parent=_context(span.trace_id, span.parent_id, span, remote=span.remote) if span.parent_id else None,
            resource=self._resource,
            attributes={**span.facts, semconv.ERROR: span.error} if span.error else span.facts,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else _OK,
            start_time=span.began_ns,
            end_time=span.ended_ns,
            instrumentation_scope=self._scope,
        )


def _context(trace_id: str, id: str, span: Span, *, remote: bool) -> SpanContext:
    state = TraceState.from_header([span.state]) if span.state else None
    return SpanContext(
        int(trace_id, 16), int(id, 16), is_remote=remote, trace_flags=TraceFlags(span.flags), trace_state=state
    )
