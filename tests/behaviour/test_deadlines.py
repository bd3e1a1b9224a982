"""No call waits for ever, whatever its server does, and nobody is cut off who shows that he works."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from foreign import Asked
from gateway import Bascule, Json, failure_of, gateway, hostile, local, remote, text_of
from governed import Wide, tool, wide

META = "dev.bascule/deadlineMs"
HEADER = "x-request-timeout-ms"
WORK: Json = {"name": "far__work", "arguments": {"text": "x"}}


@asynccontextmanager
async def far(call_timeout_s: float, **more: Any) -> AsyncIterator[tuple[Wide, Bascule]]:
    async with (
        wide(modern=True, tools=[tool("work")]) as server,
        gateway({"far": remote(server.url, call_timeout_s=call_timeout_s)}, **more) as bascule,
    ):
        await bascule.up("far")
        yield server, bascule


def dripping(times: int, every_s: float, ends: asyncio.Event | None = None) -> Any:
    """A server that reports progress so often, and then answers. *ends* happens when nobody listens any more."""

    async def drip(asked: Asked) -> None:
        token = asked.message["params"]["_meta"]["progressToken"]
        await asked.stream()
        for number in range(times):
            await asyncio.sleep(every_s)
            params = {"progressToken": token, "progress": number}
            try:
                await asked.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            except ConnectionError:
                break
        else:
            result = {"resultType": "complete", "content": [{"type": "text", "text": "done"}]}
            await asked.event({"jsonrpc": "2.0", "id": asked.id, "result": result})
            await asked.end()
        if ends is not None:
            await asked.left()
            ends.set()

    return drip


async def worked(bascule: Bascule, **more: Any) -> tuple[float, Json]:
    """How long a call took, and its result."""
    began = time.monotonic()
    async with bascule.modern().open("tools/call", WORK, meta={"progressToken": 7}, **more) as exchange:
        result = (await exchange.last())["result"]
    return time.monotonic() - began, result


async def test_a_local_server_that_never_answers_is_given_up_and_called_again() -> None:
    async with gateway({"mute": hostile("silent", call_timeout_s=0.5)}) as bascule:
        await bascule.up("mute")
        for client in (bascule.modern(), await bascule.session()):
            began = time.monotonic()
            error = failure_of(await client.call("mute__echo", text="x"))
            assert 0.5 <= time.monotonic() - began < 3
            assert (error["code"], error["details"]) == (50002, {"limit": "server", "seconds": 0.5})
            assert not error["retryable"]
            assert "servers.mute.call_timeout_s" in error["message"]
        assert (await bascule.server("mute"))["in_flight"] == 0


async def test_progress_keeps_a_call_alive() -> None:
    async with far(0.6) as (server, bascule):
        server.on["tools/call"] = dripping(6, 0.3)
        took_s, result = await worked(bascule)
        assert text_of(result) == "done"
        assert took_s > 1.8


async def test_a_drip_does_not_keep_it_alive_beyond_its_contract() -> None:
    ends = asyncio.Event()
    policy = {"rules": [{"match": "far/work", "max_timeout_seconds": 1.5}]}
    async with far(1.0, policy=policy) as (server, bascule):
        server.on["tools/call"] = dripping(10**6, 0.2, ends)
        took_s, result = await worked(bascule)
        error = failure_of(result)
        assert (error["code"], error["details"]) == (50002, {"limit": "contract", "seconds": 1.5})
        assert 1.5 <= took_s < 4
        async with asyncio.timeout(2):
            await ends.wait()  # the server is told, by the end of the stream


async def test_a_person_may_think_three_times_as_long_as_a_server_may_be_silent() -> None:
    async with gateway({"it": local("plain", call_timeout_s=0.5)}) as bascule:
        await bascule.up("it")
        client = await bascule.session(capabilities={"elicitation": {}})
        async with client.open("tools/call", {"name": "it__ask", "arguments": {"question": "well?"}}) as call:
            question = await call.next_of("elicitation/create")
            await asyncio.sleep(1.5)
            await client.answer(question, {"action": "accept", "content": {"answer": "at last"}})
            assert not (await call.last())["result"].get("isError")


@asynccontextmanager
async def busy(**more: Any) -> AsyncIterator[Bascule]:
    """A server whose only place is taken for a second."""
    async with gateway(
        {"it": local("plain", call_timeout_s=0.8)}, limits={"servers": {"it": {"concurrent": 1}}}
    ) as bascule:
        await bascule.up("it")
        nap = {"name": "it__sleep", "arguments": {"seconds": 0.7}}
        async with bascule.modern().open("tools/call", nap, meta={"progressToken": 1}) as call:
            await call.next_of("notifications/progress")
            yield bascule
            await call.last()


async def test_waiting_for_a_place_is_not_the_servers_time() -> None:
    async with busy() as bascule:
        first = asyncio.ensure_future(bascule.modern().call("it__sleep", seconds=0.6))
        second = asyncio.ensure_future(bascule.modern().call("it__sleep", seconds=0.6))
        assert text_of(await first) == text_of(await second) == "slept 0.6 s"


async def test_waiting_for_a_place_is_the_callers_time_and_nothing_was_sent() -> None:
    async with busy() as bascule:
        began = time.monotonic()
        params = {"name": "it__echo", "arguments": {"text": "x"}}
        async with bascule.modern().open("tools/call", params, headers={HEADER: "300"}) as exchange:
            error = failure_of((await exchange.last())["result"])
        assert 0.3 <= time.monotonic() - began < 0.65
        assert (error["code"], error["details"]) == (50002, {"limit": "caller", "seconds": 0.3})
        assert error["retryable"] is True


@pytest.mark.parametrize("carried", ["header", "meta"])
async def test_the_callers_time_ends_a_call_that_runs(carried: str) -> None:
    async with gateway({"mute": hostile("silent")}) as bascule:
        await bascule.up("mute")
        more: Any = {"headers": {HEADER: "400"}} if carried == "header" else {"meta": {META: 400}}
        began = time.monotonic()
        params = {"name": "mute__echo", "arguments": {"text": "x"}}
        async with bascule.modern().open("tools/call", params, **more) as exchange:
            error = failure_of((await exchange.last())["result"])
        assert 0.4 <= time.monotonic() - began < 2
        assert (error["code"], error["details"]["limit"]) == (50002, "caller")
        assert error["retryable"] is False


async def test_a_server_is_told_what_is_left_and_only_where_somebody_said_it() -> None:
    async with gateway({"it": local("modern")}) as bascule:
        await bascule.up("it")
        params = {"name": "it__meta", "arguments": {}}
        mores: Any = ({"headers": {HEADER: "5000"}}, {"meta": {META: 5000, "dev.example/kept": [1]}}, {})
        seen = []
        for more in mores:
            async with bascule.modern().open("tools/call", params, **more) as exchange:
                seen.append((await exchange.last())["result"]["structuredContent"]["meta"])
        assert 4000 < seen[0][META] <= 4950
        assert 4000 < seen[1][META] <= 4950
        assert seen[1]["dev.example/kept"] == [1]
        assert META not in seen[2]
