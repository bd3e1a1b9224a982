"""What a collector does not take is lost and counted, told once, and sent nowhere else."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from bascule.observe.collector import Collector
from bascule.observe.options import TracingOptions
from bascule.observe.traces import Span

SPAN = Span(trace_id="ab" * 16, id="cd" * 8, parent_id="", name="x", kind="server", began_ns=1, ended_ns=2, facts={})
Answer = Callable[[], web.Response]


@asynccontextmanager
async def answering(answer: Answer, seen: list[web.Request]) -> AsyncIterator[Collector]:
    """A collector of ours in front of a server that answers like this."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        seen.append(request)
        return answer()

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        (host, port, *_), *_ = runner.addresses
        options = TracingOptions(endpoint=f"http://{host}:{port}", headers={"authorization": "Bearer s3cret"})
        yield Collector(options)
    finally:
        await runner.cleanup()


async def test_what_is_not_taken_is_lost_and_told_once_until_it_is_taken_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    statuses, seen = [503, 503, 200, 200], list[web.Request]()
    with caplog.at_level(logging.INFO, "bascule.observe"):
        async with answering(lambda: web.Response(status=statuses.pop(0)), seen) as collector:
            for _ in range(4):
                await asyncio.to_thread(collector, [SPAN, SPAN])
    assert collector.lost == 4
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "503" in caplog.records[0].message
    assert "s3cret" not in caplog.text
    assert seen[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_our_credentials_go_nowhere_else(status: int) -> None:
    seen: list[web.Request] = []
    elsewhere = {"location": "/stolen"}
    async with answering(lambda: web.Response(status=status, headers=elsewhere), seen) as collector:
        await asyncio.to_thread(collector, [SPAN])
    assert [request.path for request in seen] == ["/v1/traces"]
    assert collector.lost == 1


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    seen: list[web.Request] = []
    async with answering(web.Response, seen) as collector:
        await asyncio.to_thread(collector, [SPAN])
    assert (len(seen), collector.lost) == (1, 0)


async def test_nobody_who_listens_is_no_reason_to_fail() -> None:
    collector = Collector(TracingOptions(endpoint="http://127.0.0.1:9"))
    await asyncio.to_thread(collector, [SPAN])
    assert collector.lost == 1
