"""How a process ends: with real signals, real children, and clients in the middle of something."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway import Bascule, Json, Legacy, Modern, alive, failure_of, gone, hostile, local, serving, text_of, until

PROGRESS = "notifications/progress"


@asynccontextmanager
async def served(
    folder: Path, servers: Json, *, delay_s: float = 0, calls_s: float = 10, stderr: int | None = None
) -> AsyncIterator[Bascule]:
    path = folder / "bascule.json"
    path.write_text(json.dumps({"servers": servers, "drain": {"delay_s": delay_s, "calls_s": calls_s}}))
    async with serving(path, stderr=stderr) as bascule:
        await bascule.up(*servers)
        yield bascule


def tell(bascule: Bascule, sign: signal.Signals) -> None:
    assert bascule.process
    bascule.process.send_signal(sign)


async def ended(bascule: Bascule, within_s: float = 15) -> int:
    assert bascule.process
    async with asyncio.timeout(within_s):
        return await bascule.process.wait()


async def pids(bascule: Bascule, *servers: str) -> list[int]:
    return [pid for name in servers for pid in (await bascule.server(name))["pids"]]


@asynccontextmanager
async def sleeping(client: Legacy | Modern, seconds: float) -> AsyncIterator[Any]:
    """A call that has reached its server and takes so long."""
    params = {"name": "it__sleep", "arguments": {"seconds": seconds}}
    more: Any = {}
    if isinstance(client, Legacy):
        params["_meta"] = {"progressToken": 1}
    else:
        more = {"meta": {"progressToken": 1}}
    async with client.open("tools/call", params, id=77, **more) as call:
        await call.next_of(PROGRESS)
        yield call


async def until_draining(bascule: Bascule) -> None:
    async def told() -> Any:
        return (await bascule.modern().ask("tools/list")).get("error", {}).get("data", {}).get("code")

    assert await until(told, bool, 5) == 50005


async def test_readiness_goes_first_and_calls_are_still_served(tmp_path: Path) -> None:
    async with served(tmp_path, {"it": local("plain")}, delay_s=2) as bascule:
        children = await pids(bascule, "it")
        tell(bascule, signal.SIGTERM)
        told = time.monotonic()
        await until(lambda: bascule.get("/health/ready"), lambda said: said[0] == 503, 1)
        assert (await bascule.get("/health/live"))[0] == 200
        assert (await bascule.status())["status"] == "draining"
        assert text_of(await bascule.modern().call("it__echo", text="still")) == "still"
        assert text_of(await (await bascule.session()).call("it__echo", text="too")) == "too"
        assert await ended(bascule) == 0
        assert 2 <= time.monotonic() - told < 6
        assert not any(map(alive, children))


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_call_in_flight_is_answered_and_a_new_one_is_sent_on(era: str, tmp_path: Path) -> None:
    async with served(tmp_path, {"it": local("plain")}) as bascule:
        client: Any = await bascule.session() if era == "legacy" else bascule.modern()
        other = await bascule.session()
        async with sleeping(client, 2) as call:
            tell(bascule, signal.SIGTERM)
            await until_draining(bascule)
            params = {"name": "it__echo", "arguments": {"text": "late"}}
            for each in (client, other, bascule.modern()):
                async with each.open("tools/call", params, id=78) as late:
                    assert late.headers["connection"] == "close"
                    error = failure_of((await late.last())["result"])
                assert (error["code"], error["kind"], error["retryable"]) == (50005, "draining", True)
                assert error["retry_after_ms"] > 0
            assert text_of((await call.last())["result"]) == "slept 2 s"
        assert await ended(bascule) == 0


async def test_an_answer_to_a_question_still_arrives(tmp_path: Path) -> None:
    async with served(tmp_path, {"it": local("plain")}) as bascule:
        client = await bascule.session(capabilities={"elicitation": {}})
        async with client.open("tools/call", {"name": "it__ask", "arguments": {"question": "well?"}}) as call:
            question = await call.next_of("elicitation/create")
            tell(bascule, signal.SIGTERM)
            await until_draining(bascule)
            await client.answer(question, {"action": "accept", "content": {"answer": "yes"}})
            assert not (await call.last())["result"].get("isError")
        assert await ended(bascule) == 0


async def test_a_call_that_takes_too_long_ends_with_an_answer_and_its_server_hears_of_it(tmp_path: Path) -> None:
    async with served(tmp_path, {"it": local("plain")}, calls_s=0.5) as bascule:
        children = await pids(bascule, "it")
        client = await bascule.session()
        async with sleeping(client, 60) as call, sleeping(bascule.modern(), 60) as other:
            tell(bascule, signal.SIGTERM)
            for each in (call, other):
                error = failure_of((await each.last())["result"])
                assert (error["code"], error["details"]["limit"]) == (50002, "drain")
                assert not error["retryable"], "it may have been run"
        assert await ended(bascule) == 0
        assert not any(map(alive, children))


async def test_subscriptions_and_streams_end_well(tmp_path: Path) -> None:
    async with served(tmp_path, {"it": local("plain")}) as bascule:
        client = await bascule.session()
        wanted = {"notifications": {"toolsListChanged": True}}
        async with client.listen() as ear, bascule.modern().open("subscriptions/listen", wanted, id=5) as news:
            await news.next_of("notifications/subscriptions/acknowledged")
            tell(bascule, signal.SIGTERM)
            last = await news.last()
            assert last["id"] == 5
            assert last["result"]["resultType"] == "complete"
            await news.ended()
            await ear.ended()
        assert await ended(bascule) == 0


async def test_servers_that_do_not_want_to_end_are_gone_with_it(tmp_path: Path) -> None:
    servers = {
        "stubborn": hostile("ignores-eof-and-sigterm"),
        "parent": hostile("grandchild"),
        "daemon": hostile("daemon"),
    }
    async with served(tmp_path, servers) as bascule:
        everybody = await pids(bascule, *servers) + [await grandchild(bascule, name) for name in ("parent", "daemon")]
        tell(bascule, signal.SIGTERM)
        assert await ended(bascule) == 0
        assert [pid for pid in everybody if alive(pid)] == []


async def grandchild(bascule: Bascule, server: str) -> int:
    said = (await bascule.server(server))["stderr"]
    return next(int(line.split()[1]) for line in said if line.startswith("grandchild"))


async def test_a_killed_bascule_leaves_nobody(tmp_path: Path) -> None:
    servers = {
        "it": local("plain"),
        "stubborn": hostile("ignores-eof-and-sigterm"),
        "parent": hostile("grandchild"),
        "daemon": hostile("daemon"),
    }
    async with served(tmp_path, servers) as bascule:
        everybody = await pids(bascule, *servers) + [await grandchild(bascule, name) for name in ("parent", "daemon")]
        assert len(everybody) >= 6
        assert all(map(alive, everybody))
        tell(bascule, signal.SIGKILL)
        assert await ended(bascule) == -signal.SIGKILL
        await gone(*everybody, within_s=5)


async def test_a_person_is_told_what_is_waited_for_and_may_say_now(tmp_path: Path) -> None:
    servers = {"it": local("plain"), "stubborn": hostile("ignores-eof-and-sigterm", stop_grace_s=5)}
    async with served(tmp_path, servers, delay_s=5, calls_s=30, stderr=asyncio.subprocess.PIPE) as bascule:
        assert bascule.process
        assert bascule.process.stderr
        children = await pids(bascule, *servers)
        async with sleeping(bascule.modern(), 60) as call:
            tell(bascule, signal.SIGINT)
            began = time.monotonic()
            async with asyncio.timeout(5):
                while b"waiting for 1 call to end (Ctrl-C again: now)" not in await bascule.process.stderr.readline():
                    pass
            assert time.monotonic() - began < 0.6  # 0.3 s on a machine that does nothing else
            await asyncio.sleep(0.3)  # a second one within a moment is the same Ctrl-C, passed on twice
            tell(bascule, signal.SIGINT)
            began = time.monotonic()
            error = failure_of((await call.last())["result"])
            assert error["details"]["limit"] == "drain"
        assert await ended(bascule) == 0
        assert time.monotonic() - began < 3
        assert not any(map(alive, children))


async def test_a_person_with_nothing_in_flight_does_not_wait(tmp_path: Path) -> None:
    async with served(tmp_path, {"it": local("plain")}, delay_s=20) as bascule:
        tell(bascule, signal.SIGINT)
        began = time.monotonic()
        assert await ended(bascule) == 0
        assert time.monotonic() - began < 3


async def test_ctrl_c_that_arrives_twice_at_once_is_one(tmp_path: Path) -> None:
    async with served(tmp_path, {"it": local("plain")}) as bascule:
        async with sleeping(bascule.modern(), 1) as call:
            tell(bascule, signal.SIGINT)
            tell(bascule, signal.SIGINT)
            assert text_of((await call.last())["result"]) == "slept 1 s"
        assert await ended(bascule) == 0


async def test_when_it_has_ended_connections_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path, {}) as bascule:
        tell(bascule, signal.SIGTERM)
        assert await ended(bascule) == 0
        with pytest.raises(aiohttp.ClientError):
            await bascule.get("/status")
