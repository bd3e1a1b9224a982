"""Servers that fail, over real sockets and pipes: they are not flooded, are left alone, and are found again.

The stages stand alone between a call and its server, but for the tests at the end.
"""

import asyncio
import json
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from foreign import Asked, Foreign, Handler, Visitor, far, reaching
from gateway import Json, failure_of, gateway, remote, text_of, until
from governed import tool, wide

from bascule.call import ANONYMOUS, Call, Forward, Result, Target
from bascule.contract.model import Contract
from bascule.crossing.bilingual import Bilingual
from bascule.crossing.parking import Parking
from bascule.errors import BasculeError, CircuitOpen, RateLimited, Unavailable, UpstreamBrokeProtocol
from bascule.pipeline.breaker import Breaker, Look
from bascule.pipeline.chain import Stage, compose
from bascule.pipeline.dispatch import Dispatch
from bascule.pipeline.health import Health, ServerHealth, outcome_of
from bascule.pipeline.retry import Retry
from bascule.policy.breaker import RULES, Rules
from bascule.upstream.base import Upstream, reach
from bascule.upstream.http import HttpOptions, HttpUpstream
from bascule.upstream.stdio import StdioOptions, StdioUpstream
from bascule.wire import jsonrpc, modern
from bascule.wire.seal import KEY_BYTES, KeyRing
from bascule.wire.versions import LATEST_MODERN
from processes import server as command_of

READ, WRITE = Contract(id="far/echo", side_effect=False), Contract(id="far/echo")
QUICK: Final = Rules(open_s=0.3, longest_s=0.3, jitter=0.0)
TOLERANT: Final = Rules(in_a_row=1_000_000, least=1_000_000)


class Served:
    """One upstream behind the stages."""

    def __init__(self, upstream: Upstream, rules: Rules = RULES, *, retrying: bool = True) -> None:
        self.upstream = upstream
        self.retrying = retrying
        self.health = Health(rules=rules)
        self.health.adopt({upstream.name: upstream})

    @property
    def server(self) -> ServerHealth:
        found = self.health.of(self.upstream)
        assert found is not None
        return found

    @property
    def state(self) -> str:
        return str(self.server.report()["state"])

    def chain(self, contract: Contract) -> Forward:
        health = self.health
        retry: list[Stage] = [Retry(contract, health)] if self.retrying else []
        return compose([Look(contract, health), *retry, Breaker(contract, health), Dispatch(None)], reach)

    async def call(self, contract: Contract = READ, tool: str = "echo", **arguments: Any) -> Result:
        raws = {"name": jsonrpc.encode(tool), "arguments": jsonrpc.encode(arguments or {"text": "x"})}
        params = modern.stamp(raws, info={"name": "t", "version": "1"}, capabilities={})
        call = Call(
            caller=ANONYMOUS,
            client=Visitor(),
            revision=LATEST_MODERN,
            method="tools/call",
            params=params,
            target=Target(self.upstream, params),
            contract=contract,
        )
        async with asyncio.timeout(30):
            return await self.chain(contract)(call)

    async def kind(self, contract: Contract = READ) -> str:
        """What a call comes to: "ok", or the kind of its error."""
        try:
            await self.call(contract)
        except BasculeError as error:
            return error.kind
        return "ok"

    async def fail_until_open(self, contract: Contract = WRITE) -> None:
        async with asyncio.timeout(15):
            while self.state == "closed":
                assert await self.kind(contract) in ("unavailable", "upstream_protocol")
                await asyncio.sleep(0.01)

    async def comes_to(self, state: str) -> None:
        async def now() -> str:
            return self.state

        await until(now, lambda found: found == state)


@asynccontextmanager
async def served(foreign: Foreign, rules: Rules = RULES, **options: Any) -> AsyncIterator[Served]:
    async with reaching(foreign, era="modern", **options) as upstream:
        found = Served(upstream, rules)
        try:
            yield found
        finally:
            found.health.stop()


def replying(status: int, **headers: str) -> Handler:
    return lambda asked: asked.reply(status, b"no", "text/plain", {k.replace("_", "-"): v for k, v in headers.items()})


async def offered(calls: int, per_s: float, call: Callable[[], Awaitable[str]]) -> Counter[str]:
    """What *calls* come to that are made at this rate, however long each takes."""
    loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    tasks = []
    for number in range(calls):
        await asyncio.sleep(max(0.0, began + number / per_s - loop.time()))
        tasks.append(asyncio.ensure_future(call()))
    return Counter(await asyncio.gather(*tasks))


# ---- a server that fails for everybody -----------------------------------------------------------


async def test_a_server_that_fails_all_calls_sees_at_most_a_fifth_more_than_is_offered() -> None:
    """security.md 2.4: at 200 calls in a second. The circuit would keep nearly all of them away, so it is held."""
    async with far(modern=True) as foreign, served(foreign, TOLERANT) as it:
        foreign.on["tools/call"] = replying(503)
        outcomes = await offered(600, 200.0, it.kind)
        assert outcomes == {"upstream_protocol": 600}
        seen = len(foreign.asked("tools/call"))
        assert 620 <= seen <= 720  # it is retried, and not much


async def test_with_its_circuit_it_sees_hardly_any() -> None:
    async with far(modern=True) as foreign, served(foreign) as it:
        foreign.on["tools/call"] = replying(500)
        outcomes = await offered(300, 200.0, it.kind)
        assert outcomes["circuit_open"] > 250
        assert len(foreign.asked("tools/call")) < 40
        began = asyncio.get_running_loop().time()
        with pytest.raises(CircuitOpen) as refused:
            await it.call()
        assert asyncio.get_running_loop().time() - began < 0.005
        assert 20 < (refused.value.retry_after_s or 0) <= 36


# ---- a server that goes and comes back -----------------------------------------------------------


async def test_a_server_that_was_away_is_found_by_probes_and_by_no_write() -> None:
    async with far(modern=True) as foreign, served(foreign, QUICK) as it:
        assert await it.kind(WRITE) == "ok"
        foreign.on["*"] = replying(502)
        await it.fail_until_open()
        writes = len(foreign.asked("tools/call"))
        while it.server.opened < 3:
            assert await it.kind(WRITE) == "circuit_open"
            await asyncio.sleep(0.01)
        assert len(foreign.asked("tools/call")) == writes
        assert len(foreign.asked("server/discover")) >= 2
        del foreign.on["*"]
        await it.comes_to("closed")
        assert len(foreign.asked("tools/call")) == writes
        assert await it.kind(WRITE) == "ok"


async def test_a_connection_that_is_refused_has_sent_nothing_and_is_tried_three_times() -> None:
    async with far(modern=True) as foreign:
        port = int(foreign.url.split(":")[2].split("/")[0])
        handler = foreign.serve
        foreign.listener.close()
        async with served(foreign, QUICK) as it:
            with pytest.raises(Unavailable) as refused:
                await it.call(WRITE)
            assert refused.value.unsent
            assert it.server.report()["failures_in_a_row"] == 3
            await it.fail_until_open()
            again = await asyncio.start_server(handler, "127.0.0.1", port)
            async with again:
                await it.comes_to("closed")
                assert await it.kind(WRITE) == "ok"


async def test_a_process_that_cannot_start_is_left_alone_and_is_back_when_it_can(tmp_path: Path) -> None:
    flag = tmp_path / "may-start"
    command, *args = command_of("once", "--while", str(flag))
    options = StdioOptions(command=command, args=tuple(args), start="lazy", stop_grace_s=0.3)
    parking = Parking(lambda: KeyRing([secrets.token_bytes(KEY_BYTES)]), ttl_s=60, max_per_caller=10)
    upstream = Bilingual(StdioUpstream("far", options), parking)
    rules = Rules(in_a_row=2, open_s=0.3, longest_s=0.3, jitter=0.0)
    it = Served(upstream, rules, retrying=False)
    try:
        assert await it.kind(WRITE) == "unavailable"
        # While the supervisor pauses it refuses by itself: that says nothing new of the server.
        assert Counter([await it.kind(WRITE) for _ in range(20)]) == {"unavailable": 20}
        assert (it.state, it.server.report()["failures_in_a_row"]) == ("closed", 1)
        await it.fail_until_open()
        assert "exited" in it.server.last_failure
        assert await it.kind(WRITE) == "circuit_open"
        flag.touch()
        await it.comes_to("closed")
        assert await it.kind(WRITE) == "ok"
    finally:
        it.health.stop()
        await upstream.stop()


# ---- what the status of HTTP says ----------------------------------------------------------------


async def test_a_server_that_asks_for_a_pause_gets_it_and_then_the_call() -> None:
    async with far(modern=True) as foreign, served(foreign) as it:
        times = []

        async def busy_once(asked: Asked) -> None:
            times.append(asyncio.get_running_loop().time())
            await (replying(429, retry_after="1")(asked) if len(times) == 1 else foreign.answer(asked))

        foreign.on["tools/call"] = busy_once
        await it.call(WRITE)  # 429 says that it was not run
        assert 1.0 <= times[1] - times[0] < 2.5


async def test_too_many_requests_is_an_error_of_its_own_and_no_failure_of_the_server() -> None:
    async with far(modern=True) as foreign, served(foreign) as it:
        foreign.on["tools/call"] = replying(429, retry_after="3600")
        for _ in range(8):
            with pytest.raises(RateLimited) as ended:
                await it.call(WRITE)
            assert (ended.value.source, ended.value.retry_after_s, ended.value.unsent) == ("far", 3600.0, True)
        assert it.state == "closed"
        assert len(foreign.asked("tools/call")) == 8  # nobody waits for an hour


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
async def test_what_a_guard_refuses_is_not_sent_again_and_no_failure_of_the_server(status: int) -> None:
    async with far(modern=True) as foreign, served(foreign) as it:
        foreign.on["tools/call"] = replying(status)
        assert {await it.kind(READ) for _ in range(8)} == {"upstream_protocol"}
        assert it.state == "closed"
        assert len(foreign.asked("tools/call")) == 8


async def test_unavailable_with_a_time_to_come_back_may_have_been_run() -> None:
    async with far(modern=True) as foreign, served(foreign) as it:
        foreign.on["tools/call"] = replying(503, retry_after="1")
        with pytest.raises(UpstreamBrokeProtocol) as ended:
            await it.call(WRITE)
        assert (ended.value.retry_after_s, ended.value.unsent) == (1.0, False)
        assert len(foreign.asked("tools/call")) == 1


async def test_a_server_that_is_cut_off_in_the_middle_is_asked_again_only_for_what_it_reads() -> None:
    async with far(modern=True) as foreign, served(foreign) as it:

        async def dies(asked: Asked) -> None:
            asked.reset()

        foreign.on["tools/call"] = dies
        assert await it.kind(WRITE) == "upstream_protocol"
        assert len(foreign.asked("tools/call")) == 1
        assert await it.kind(READ) == "upstream_protocol"
        assert len(foreign.asked("tools/call")) == 4


async def test_an_answer_that_is_too_large_is_not_held_against_the_server() -> None:
    async with far(modern=True) as foreign, served(foreign, max_message_bytes=2000) as it:

        async def much(asked: Asked) -> None:
            await asked.answer({"resultType": "complete", "content": [{"type": "text", "text": "x" * 4000}]})

        foreign.on["tools/call"] = much
        for _ in range(8):
            with pytest.raises(UpstreamBrokeProtocol) as ended:
                await it.call(READ)
            assert outcome_of(ended.value, "far").value == "answered"
        assert len(foreign.asked("tools/call")) == 8


# ---- others --------------------------------------------------------------------------------------


async def test_one_server_that_swallows_everything_does_not_slow_another_down() -> None:
    async with far(modern=True) as hole, far(modern=True) as good:

        async def swallow(asked: Asked) -> None:
            await asked.left()

        hole.on["tools/call"] = swallow
        async with served(hole) as bad, served(good) as it:
            loop = asyncio.get_running_loop()
            waiting = [asyncio.ensure_future(bad.kind()) for _ in range(100)]
            took_s = []
            for _ in range(200):
                began = loop.time()
                assert await it.kind() == "ok"
                took_s.append(loop.time() - began)
            assert sorted(took_s)[190] < 0.1
            assert not any(task.done() for task in waiting)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert bad.server.report()["failures_in_a_row"] == 0  # they left by themselves
            assert bad.server.retries.active == 0


async def test_whatever_a_server_does_the_books_are_even_when_all_calls_have_ended() -> None:
    async with far(modern=True) as foreign, served(foreign, QUICK) as it:
        rng = random.Random(7)

        async def anything(asked: Asked) -> None:
            match rng.randrange(6):
                case 0:
                    await replying(rng.choice([429, 500, 503, 404]))(asked)
                case 1:
                    asked.reset()
                case 2:
                    await asked.refuse(-32000, "no")
                case 3:
                    await asked.reply(200, json.dumps([1]).encode())
                case _:
                    await foreign.answer(asked)

        foreign.on["tools/call"] = anything
        calls = [asyncio.ensure_future(it.kind(rng.choice([READ, WRITE]))) for _ in range(300)]
        for task in rng.sample(calls, 40):
            asyncio.get_running_loop().call_later(rng.random() / 5, task.cancel)
        await asyncio.gather(*calls, return_exceptions=True)
        assert (it.server.retries.active, it.server.retries.retrying) == (0, 0)
        del foreign.on["tools/call"]
        await it.comes_to("closed")
        assert await it.kind(WRITE) == "ok"


async def test_an_upstream_that_is_stopped_is_no_failure() -> None:
    upstream = HttpUpstream("far", HttpOptions(url="http://127.0.0.1:9/mcp", era="modern"))
    it = Served(upstream)
    await upstream.stop()
    assert {await it.kind(WRITE) for _ in range(4)} == {"unavailable"}
    assert it.server.report()["failures_in_a_row"] == 0


# ---- a whole gateway ------------------------------------------------------------------------------

READING: Json = {"rules": [{"match": "*/read", "side_effect": False}]}
TOOLS = [tool("read"), tool("write")]


async def test_another_server_answers_and_clients_are_told() -> None:
    async with wide(modern=True, tools=TOOLS) as crm, wide(modern=True, tools=TOOLS) as eu:
        servers = {"crm": remote(crm.url, fallback="eu"), "eu": remote(eu.url)}
        async with gateway(servers, policy=READING) as bascule:
            await bascule.up("crm", "eu")
            client = bascule.modern()
            crm.on["tools/call"] = replying(502)
            result = await client.call("crm__read", text="x")
            assert text_of(result) == "x"
            label = result["_meta"]["dev.bascule/call"]
            assert (label["source"], label["warnings"]) == ("eu", ["crm failed; answered by eu"])
            assert len(crm.calls("read")) == 3
            assert len(eu.calls("read")) == 1
            error = failure_of(await client.call("crm__write", text="x"))
            assert (error["kind"], len(crm.calls("write")), len(eu.calls("write"))) == ("upstream_protocol", 1, 0)
            crm.on["tools/call"] = replying(429)
            assert text_of(await client.call("crm__write", text="x")) == "x"
            legacy = await bascule.session()
            assert text_of(await legacy.call("crm__write", text="y")) == "y"
            assert len(eu.calls("write")) == 2


@pytest.mark.parametrize("modern", [False, True])
async def test_a_server_that_fails_too_often_is_left_alone_and_clients_know_for_how_long(modern: bool) -> None:
    async with (
        wide(modern=modern, tools=TOOLS) as crm,
        wide(modern=modern, tools=TOOLS) as good,
        gateway({"crm": remote(crm.url), "good": remote(good.url)}, policy=READING) as bascule,
    ):
        await bascule.up("crm", "good")
        client = bascule.modern() if modern else await bascule.session()
        crm.on["tools/call"] = replying(500)
        for _ in range(5):
            assert failure_of(await client.call("crm__write", text="x"))["kind"] == "upstream_protocol"
        error = failure_of(await client.call("crm__write", text="x"))
        facts = error["kind"], error["code"], error["retryable"], error["source"]
        assert facts == ("circuit_open", 50003, True, "crm")
        assert 20_000 < error["retry_after_ms"] <= 36_000
        assert len(crm.calls("write")) == 5
        assert text_of(await client.call("good__write", text="x")) == "x"


async def test_a_timeout_of_the_server_counts_and_that_of_a_hurried_caller_does_not() -> None:
    async with (
        wide(modern=True, tools=TOOLS) as crm,
        gateway({"crm": remote(crm.url, call_timeout_s=0.5)}, policy=READING) as bascule,
    ):
        await bascule.up("crm")
        assert bascule.gateway is not None

        async def silent(asked: Asked) -> None:
            await asked.left()

        crm.on["tools/call"] = silent
        client = bascule.modern()
        params = {"name": "crm__read", "arguments": {"text": "x"}}
        for hurry, failures in (({"x-request-timeout-ms": "100"}, 0), ({}, 1)):
            async with client.open("tools/call", params, headers=hurry) as exchange:
                assert failure_of((await exchange.last())["result"])["kind"] == "timeout"
            assert bascule.gateway.parts.health.report()["crm"]["failures_in_a_row"] == failures
