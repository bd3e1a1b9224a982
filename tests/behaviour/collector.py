"""A collector of traces: OTLP over HTTP on loopback, decoded as its specification says."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS: Final = {1: "internal", 2: "server", 3: "client"}


@dataclass(frozen=True)
class Seen:
    """One span that arrived."""

    name: str
    kind: str
    trace_id: str
    id: str
    parent_id: str
    failed: bool
    facts: Mapping[str, Any]
    process: Mapping[str, Any]
    seconds: float


@dataclass
class Collector:
    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        whole = ExportTraceServiceRequest.FromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        for of_process in whole.resource_spans:
            process = _facts(of_process.resource.attributes)
            for of_scope in of_process.scope_spans:
                self.spans += [_seen(span, process) for span in of_scope.spans]
        self.came.set()
        return web.Response(body=b"", content_type="application/x-protobuf")

    async def trace(self, trace_id: str, *, spans: int) -> list[Seen]:
        """The spans of a trace, outermost first, once there are so many."""
        async with asyncio.timeout(15):
            while len(found := [span for span in self.spans if span.trace_id == trace_id]) < spans:
                self.came.clear()
                await self.came.wait()
        order = {"server": 0, "internal": 1, "client": 2}
        return sorted(found, key=lambda span: order[span.kind])


def _facts(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def _seen(span: Any, process: Mapping[str, Any]) -> Seen:
    return Seen(
        name=span.name,
        kind=KINDS[span.kind],
        trace_id=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        failed=span.status.code == 2,
        facts=_facts(span.attributes),
        process=process,
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
    )


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    application = web.Application()
    application.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server: Any = site._server
    collector.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()
