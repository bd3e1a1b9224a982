"""Ten times more calls than can be done: what can is done, the rest is told so at once (tests/soak/overload.py)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from gateway import Bascule, Modern, gateway, local

from soak.overload import percentile, run

NAP = {"name": "it__sleep", "arguments": {"seconds": 1}}
ECHO = {"name": "it__echo", "arguments": {"text": "x"}}


@pytest.mark.parametrize(("bound", "slower"), [("server", 2.5), ("process", 1.8)])
async def test_under_ten_times_the_load_the_server_is_busy_and_nobody_waits_for_nothing(
    bound: str, slower: float
) -> None:
    unloaded, loaded, pressure = await run(4, factor=10, bound=bound)
    assert unloaded.ends["done"] == unloaded.offered
    assert loaded.offered >= 1900
    assert set(loaded.ends) == {"done", "queue_full" if bound == "server" else "calls"}, loaded.ends
    assert loaded.goodput >= 0.8
    assert percentile(loaded.took_s, 99) <= slower * percentile(unloaded.took_s, 99)
    assert percentile(loaded.refused_s, 99) < 0.25
    assert percentile(loaded.lists_s, 99) < 0.5, "lists are served all the time"
    assert max(loaded.rss_kib) - loaded.rss_kib[0] < 16 * 1024
    assert loaded.oddities == []
    assert pressure["now"] == "none"
    assert bool(pressure["shed"]["calls"]) == (bound == "process")


@asynccontextmanager
async def full() -> AsyncIterator[Bascule]:
    """A gateway that has as many calls as it may."""
    async with gateway({"it": local("plain")}, overload={"max_calls": 1}) as bascule:
        await bascule.up("it")
        async with bascule.modern().open("tools/call", NAP, meta={"progressToken": 1}) as nap:
            await nap.next_of("notifications/progress")
            yield bascule
            await nap.last()


async def test_work_is_turned_away_before_it_is_read() -> None:
    async with full() as bascule:
        modern = bascule.modern()
        head = modern.head("tools/call", ECHO)
        async with bascule.request("POST", "/mcp", head, b"this is no JSON") as exchange:
            assert exchange.status == 503
            assert exchange.headers["retry-after"] == "1"
            error = (await exchange.json())["error"]
        assert error["data"]["code"] == 50004
        assert error["data"]["kind"] == "overloaded"
        assert error["data"]["retryable"] is True
        assert error["data"]["details"] == {"limit": "process", "reason": "calls"}
        assert (await bascule.status())["pressure"]["shed"]["calls"] == 1


async def test_lists_discovery_pings_and_health_are_not() -> None:
    async with full() as bascule:
        modern = bascule.modern()
        for method in ("tools/list", "server/discover"):
            assert "result" in await modern.ask(method)
        client = await bascule.session()
        assert "result" in await client.ask("ping")
        assert "result" in await client.ask("tools/list")
        assert (await bascule.get("/health/live"))[0] == 200
        assert (await bascule.get("/health/ready"))[0] == 200


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
async def test_what_a_session_wants_done_is_turned_away_too(method: str) -> None:
    async with full() as bascule:
        client = await bascule.session()
        async with client.open(method, ECHO) as exchange:
            assert exchange.status == 503
            assert exchange.headers["retry-after"] == "1"
            assert (await exchange.json())["error"]["data"]["code"] == 50004


async def test_the_answer_to_a_question_gets_through() -> None:
    async with gateway({"it": local("plain")}, overload={"max_calls": 1}) as bascule:
        await bascule.up("it")
        client = await bascule.session(capabilities={"elicitation": {}})
        async with client.open("tools/call", {"name": "it__ask", "arguments": {"question": "x"}}) as call:
            question = await call.next_of("elicitation/create")
            said = 'they said "tools/call" and {"method":"tools/call"}'
            await client.answer(question, {"action": "accept", "content": {"answer": said}})
            assert said in json.dumps((await call.last())["result"]["structuredContent"]).replace('\\"', '"')


async def test_calls_of_a_subscriber_are_not_counted() -> None:
    async with gateway({"it": local("plain")}, overload={"max_calls": 1}) as bascule:
        await bascule.up("it")
        modern = bascule.modern()
        wanted: Any = {"notifications": {"toolsListChanged": True}}
        async with modern.open("subscriptions/listen", wanted) as news:
            await news.next_of("notifications/subscriptions/acknowledged")
            assert "content" in await modern.call("it__echo", text="x")


async def test_who_waits_for_one_server_holds_no_place_at_another() -> None:
    limits = {"servers": {"it": {"concurrent": 1}}, "caller": {"concurrent": 2}, "queue_timeout_s": 10}
    async with gateway({"it": local("plain"), "other": local("plain")}, limits=limits) as bascule:
        await bascule.up("it", "other")
        modern = bascule.modern()
        async with modern.open("tools/call", NAP, meta={"progressToken": 1}) as nap:
            await nap.next_of("notifications/progress")
            waiting = asyncio.ensure_future(modern.call("it__echo", text="later"))
            async with asyncio.timeout(0.8):
                assert "content" in await modern.call("other__echo", text="now")
            assert not waiting.done()
            await nap.last()
        assert "content" in await waiting


async def test_a_line_that_is_full_or_too_slow_says_so() -> None:
    limits = {"servers": {"it": {"concurrent": 1}}, "queued": 1, "queue_timeout_s": 0.2}
    async with gateway({"it": local("plain")}, limits=limits) as bascule:
        await bascule.up("it")
        modern: Modern = bascule.modern()
        async with modern.open("tools/call", NAP, meta={"progressToken": 1}) as nap:
            await nap.next_of("notifications/progress")
            answers = await asyncio.gather(*(modern.call("it__echo", text="x") for _ in range(3)))
            errors = [each["_meta"]["dev.bascule/error"] for each in answers]
            assert sorted(each["details"]["reason"] for each in errors) == ["queue_full", "queue_full", "queue_timeout"]
            assert {each["code"] for each in errors} == {50004}
            await nap.last()
