"""A server that misbehaves harms its own callers only, for a bounded time, and says why in /status."""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gateway import Bascule, Json, Legacy, alive, failure_of, gateway, gone, hostile, local, serving, text_of, until

BOUND_S = 5.0


@asynccontextmanager
async def beside_a_good_one(mode: str, **more: object) -> AsyncIterator[Bascule]:
    async with gateway({"good": local("plain"), "bad": hostile(mode, **more)}) as bascule:
        await bascule.up("good")
        yield bascule


async def quick(client: Legacy, tool: str = "echo") -> None:
    """A call of the good server is answered at once."""
    began = time.monotonic()
    assert text_of(await client.call(tool, text="still here")) == "still here"
    assert time.monotonic() - began < 2


# What each way of answering must become. None: the call succeeds.
ANSWERS: dict[str, tuple[Json, str | None]] = {
    "banner": ({}, None),
    "stderr-flood": ({}, None),
    "answers-twice": ({}, None),
    "daemon": ({}, None),
    "grandchild": ({}, None),
    "ignores-eof-and-sigterm": ({}, None),
    "long-line": ({}, "upstream_protocol"),
    "huge-result": ({}, "upstream_protocol"),
    "both": ({}, "upstream_protocol"),
    "neither": ({}, "upstream_protocol"),
    "dies": ({}, "upstream_protocol"),
    "silent": ({"call_timeout_s": 0.5}, "timeout"),
    "deaf": ({"call_timeout_s": 0.5}, "timeout"),
    "wrong-id": ({"call_timeout_s": 0.5}, "timeout"),
    "id-as-string": ({"call_timeout_s": 0.5}, "timeout"),
    "bad-utf8": ({}, "upstream_protocol"),
    "not-json": ({}, "upstream_protocol"),
    "nan": ({}, "upstream_protocol"),
    "batch-reply": ({}, "upstream_protocol"),
}


@pytest.mark.parametrize(("mode", "expected"), ANSWERS.items(), ids=ANSWERS)
async def test_a_bad_answer_is_a_clear_error_and_the_server_beside_it_answers_all_the_while(
    mode: str, expected: tuple[Json, str | None]
) -> None:
    options, kind = expected
    async with beside_a_good_one(mode, **options) as bascule:
        bad, good = await bascule.session("/servers/bad/mcp"), await bascule.session("/servers/good/mcp")
        began = time.monotonic()
        call = asyncio.ensure_future(bad.call("echo", text="hello"))
        await quick(good)
        result = await call
        assert time.monotonic() - began < BOUND_S
        if kind is None:
            assert text_of(result) == "hello"
        else:
            error = failure_of(result)
            assert (error["kind"], error["source"]) == (kind, "bad")
            assert "bad" in result["content"][0]["text"]
        await quick(good)


async def test_an_error_for_nobody_is_the_answer_to_the_only_call() -> None:
    async with beside_a_good_one("null-id-error") as bascule:
        client = await bascule.session("/servers/bad/mcp")
        answer = await client.ask("tools/call", {"name": "echo", "arguments": {"text": "x"}}, id="mine")
        assert (answer["id"], answer["error"]["message"]) == ("mine", "Parse error")


async def test_an_unknown_result_type_is_not_taken_for_a_success() -> None:
    async with beside_a_good_one("unknown-result-type") as bascule:
        await bascule.up("bad")
        result = await bascule.modern("/servers/bad/mcp").ask(
            "tools/call", {"name": "echo", "arguments": {"text": "x"}}
        )
        assert failure_of(result["result"])["kind"] == "upstream_protocol"


async def test_a_wrong_answer_fails_its_own_call_only_and_the_next_ones_are_right() -> None:
    async with beside_a_good_one("answers-twice") as bascule:
        client = await bascule.session("/servers/bad/mcp")
        for number in range(5):
            assert text_of(await client.call("echo", text=f"{number}")) == f"{number}"
        await bascule.until("bad", lambda said: said["dropped"]["unmatched_answer"] == 5)


@pytest.mark.parametrize("view", ["/mcp", "/servers/bad/mcp"])
async def test_a_deaf_server_blocks_nobody_and_its_other_calls_get_an_answer(view: str) -> None:
    async with beside_a_good_one("deaf", call_timeout_s=1) as bascule:
        await bascule.up("bad")
        clients = [await bascule.session(view) for _ in range(12)]
        good = await bascule.session("/servers/good/mcp")
        name = "bad__echo" if view == "/mcp" else "echo"
        calls = [asyncio.ensure_future(client.call(name, text="x" * 1_000_000)) for client in clients]
        await quick(good)
        kinds = {failure_of(result)["kind"] for result in await asyncio.gather(*calls)}
        assert kinds <= {"timeout", "overloaded"}
        await quick(good)


async def test_a_server_that_never_shakes_hands_is_an_error_within_its_start_timeout() -> None:
    async with beside_a_good_one("silent-init", start_timeout_s=1) as bascule:
        began = time.monotonic()
        client = Legacy(bascule, "/servers/bad/mcp", "2025-11-25")
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        answer = await client.ask("initialize", hello)
        assert time.monotonic() - began < BOUND_S
        assert answer["error"]["data"]["kind"] in ("timeout", "unavailable")
        assert answer["error"]["data"]["source"] == "bad"
        assert await (await bascule.session("/servers/good/mcp")).call("echo", text="x")


async def test_a_command_that_does_not_exist_is_named() -> None:
    async with gateway({"bad": {"command": "no-such-command-here"}}) as bascule:
        said = await bascule.until("bad", lambda said: said["last_error"])
        assert "no-such-command-here" in said["last_error"]
        answer = await Legacy(bascule, "/servers/bad/mcp", "2025-11-25").ask(
            "initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}
        )
        assert answer["error"]["data"]["kind"] == "unavailable"
        assert "no-such-command-here" in answer["error"]["message"]


async def test_many_clients_share_one_process() -> None:
    async with gateway({"it": local("plain")}) as bascule:
        clients = await asyncio.gather(*(bascule.session(f"{'/servers/it' * (n % 2)}/mcp") for n in range(40)))
        names = ["echo" if client.path != "/mcp" else "it__echo" for client in clients]
        await asyncio.gather(*(c.call(name, text="x") for c, name in zip(clients, names, strict=True)))
        assert len((await bascule.server("it"))["pids"]) == 1


async def test_a_crashed_server_comes_back_with_another_pid_and_the_restart_is_counted() -> None:
    async with gateway({"it": local("plain")}) as bascule:
        client = await bascule.session("/servers/it/mcp")
        old = (await client.call("pid"))["structuredContent"]["pid"]
        error = failure_of(await client.call("crash", code=7))
        assert (error["kind"], error["code"], error["source"]) == ("upstream_protocol", 50006, "it")
        assert not error["retryable"]  # it may have run
        assert "7" in error["message"]
        said = await bascule.until("it", lambda said: said["state"] == "ready" and said["restarts"] == 1)
        new = (await client.call("pid"))["structuredContent"]["pid"]
        assert new != old
        assert said["pids"] == [new]
        assert "exited with code 7" in said["last_error"]
        assert not alive(old)


async def test_calls_in_flight_when_a_server_dies_all_get_an_answer() -> None:
    async with gateway({"it": local("plain")}) as bascule:
        clients = [await bascule.session("/servers/it/mcp") for _ in range(10)]
        calls = [asyncio.ensure_future(client.call("sleep", seconds=30)) for client in clients]
        await bascule.until("it", lambda said: said["in_flight"] == 10)
        await (await bascule.session("/servers/it/mcp")).call("crash", code=1)
        assert {failure_of(result)["kind"] for result in await asyncio.gather(*calls)} == {"upstream_protocol"}


async def test_a_crash_loop_ends_as_failed_with_its_reason_and_stderr() -> None:
    async with beside_a_good_one("dies-at-start") as bascule:
        said = await bascule.until("bad", lambda said: said["state"] == "failed", within_s=20)
        assert "exited with code 1" in said["last_error"]
        assert any("no such database" in line for line in said["stderr"])
        answer = await Legacy(bascule, "/servers/bad/mcp", "2025-11-25").ask(
            "initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}
        )
        assert answer["error"]["data"]["kind"] == "unavailable"
        assert "no such database" in str(answer["error"])
        await quick(await bascule.session("/servers/good/mcp"))


@asynccontextmanager
async def that_went_down(tmp_path: Path, required: bool = False) -> AsyncIterator[tuple[Bascule, Legacy, Legacy]]:
    """A server that was listed, crashed, and cannot start again; clients of both endpoints from before."""
    flag = tmp_path / "up"
    flag.touch()
    servers = {"it": local("once", "--while", str(flag), required=required), "good": local("plain")}
    async with gateway(servers) as bascule:
        await bascule.up("it", "good")
        clients = await bascule.session("/mcp"), await bascule.session("/servers/it/mcp")
        await clients[1].result("tools/list")
        flag.unlink()
        failure_of(await clients[1].call("crash", code=1))
        await bascule.until("it", lambda said: said["state"] in ("down", "failed"))
        yield bascule, *clients


async def test_the_last_known_lists_are_served_while_a_server_is_down(tmp_path: Path) -> None:
    async with that_went_down(tmp_path) as (bascule, aggregate, single):
        for client, name in ((aggregate, "it__echo"), (single, "echo")):
            tools = (await client.result("tools/list"))["tools"]
            assert name in {tool["name"] for tool in tools}
            began = time.monotonic()
            error = failure_of(await client.call(name, text="x"))
            assert (error["kind"], error["source"], error["retryable"]) == ("unavailable", "it", True)
            assert time.monotonic() - began < BOUND_S
        for method, member in (("prompts/list", "prompts"), ("resources/list", "resources")):
            assert (await single.result(method))[member]
            assert (await aggregate.result(method))[member]
        assert text_of(await aggregate.call("good__echo", text="x")) == "x"
        assert (await bascule.server("it"))["lists"] == "stale"


async def test_a_new_client_of_a_server_that_is_down_still_gets_its_lists_and_no_empty_success(
    tmp_path: Path,
) -> None:
    async with that_went_down(tmp_path) as (bascule, _, _):
        for path, name in (("/mcp", "it__echo"), ("/servers/it/mcp", "echo")):
            client = await bascule.session(path)
            assert "tools" in client.greeting["capabilities"]
            assert name in {tool["name"] for tool in (await client.result("tools/list"))["tools"]}
            # Its death has been counted; the circuit may be open by now, and says so sooner.
            assert failure_of(await client.call(name, text="x"))["kind"] in ("unavailable", "circuit_open")
            greet = name.replace("echo", "greet")
            completion = {"ref": {"type": "ref/prompt", "name": greet}, "argument": {"name": "style", "value": ""}}
            for method, params in (
                ("prompts/get", {"name": greet, "arguments": {"name": "Bo"}}),
                ("completion/complete", completion),
            ):
                failure = (await client.ask(method, params))["error"]["data"]
                assert failure["kind"] in ("unavailable", "circuit_open")


async def test_a_server_that_never_came_up_is_no_empty_list_on_its_own_endpoint() -> None:
    async with gateway({"bad": hostile("dies-at-start")}) as bascule:
        modern = bascule.modern("/servers/bad/mcp")
        for method in ("tools/list", "server/discover"):
            answer = await modern.ask(method)
            assert answer["error"]["data"]["kind"] == "unavailable"


async def test_a_slow_server_does_not_delay_the_tools_of_the_others() -> None:
    servers = {"good": local("plain"), "bad": hostile("silent-init")}
    async with gateway(servers, patience_s=1) as bascule:
        await bascule.up("good")
        began = time.monotonic()
        client = await bascule.session("/mcp")
        tools = (await client.result("tools/list"))["tools"]
        assert time.monotonic() - began < 4
        assert "good__echo" in {tool["name"] for tool in tools}
        assert text_of(await client.call("good__echo", text="x")) == "x"


async def test_five_slow_starters_start_side_by_side() -> None:
    servers = {f"s{n}": local("once", "--delay", "1") for n in range(5)}
    began = time.monotonic()
    async with gateway(servers) as bascule:
        await bascule.up(*servers)
        assert time.monotonic() - began < 4


async def test_a_lazy_server_starts_with_its_first_call_and_stops_when_idle() -> None:
    async with gateway({"it": local("plain", start="lazy", idle_stop_s=0.3)}) as bascule:
        said = await bascule.server("it")
        assert (said["state"], said["pids"]) == ("idle", [])
        client = await bascule.session("/servers/it/mcp")
        first = (await client.call("pid"))["structuredContent"]["pid"]
        said = await bascule.until("it", lambda said: said["state"] == "idle" and not said["pids"])
        assert not alive(first)
        assert said["restarts"] == 0
        assert (await client.call("pid"))["structuredContent"]["pid"] != first


async def test_an_idle_stop_does_not_cut_a_call_that_takes_longer() -> None:
    async with gateway({"it": local("plain", start="lazy", idle_stop_s=0.3)}) as bascule:
        client = await bascule.session("/servers/it/mcp")
        assert text_of(await client.call("sleep", seconds=1.5)) == "slept 1.5 s"


async def test_the_tools_of_a_lazy_server_are_listed_on_the_aggregate() -> None:
    async with gateway({"it": local("plain", start="lazy")}) as bascule:
        client = await bascule.session("/mcp")
        assert "it__echo" in {tool["name"] for tool in (await client.result("tools/list"))["tools"]}
        assert text_of(await client.call("it__echo", text="x")) == "x"


@pytest.mark.parametrize("mode", ["grandchild", "daemon", "ignores-eof-and-sigterm", "deaf", "stderr-flood"])
async def test_shutdown_leaves_no_descendant(mode: str) -> None:
    began = time.monotonic()
    async with gateway({"it": hostile(mode, call_timeout_s=0.3)}) as bascule:
        client = await bascule.session("/servers/it/mcp")
        await client.call("echo", text="x")
        said = await bascule.server("it")
        pids = [*said["pids"], *(int(pid) for pid in re.findall(r"grandchild (\d+)", " ".join(said["stderr"])))]
        assert len(pids) == 1 + (mode in ("grandchild", "daemon"))
        assert all(map(alive, pids))
    await gone(*pids, within_s=1)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("mode", ["grandchild", "daemon"])
async def test_what_a_crashed_server_leaves_behind_is_swept(mode: str) -> None:
    async with gateway({"it": hostile(mode)}) as bascule:
        client = await bascule.session("/servers/it/mcp")
        await client.call("echo", text="x")
        said = await bascule.server("it")
        (left,) = re.findall(r"grandchild (\d+)", " ".join(said["stderr"]))
        os.kill(said["pids"][0], 9)
        await gone(int(left))
        await bascule.until("it", lambda said: said["state"] == "ready" and said["restarts"] == 1)


async def test_a_killed_bascule_leaves_servers_that_end_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "bascule.json"
    path.write_text(json.dumps({"servers": {"it": local("plain")}}))
    async with serving(path) as bascule:
        await bascule.up("it")
        (pid,) = (await bascule.server("it"))["pids"]
        assert bascule.process
        bascule.process.kill()
        await bascule.process.wait()
        await gone(pid)


async def test_a_client_that_leaves_does_not_end_the_server(tmp_path: Path) -> None:
    async with gateway({"it": local("plain")}) as bascule:
        client = await bascule.session("/servers/it/mcp")
        pid = (await client.call("pid"))["structuredContent"]["pid"]
        assert await client.end() == 204
        other = await bascule.session("/servers/it/mcp")
        assert (await other.call("pid"))["structuredContent"]["pid"] == pid
        assert await until(lambda: bascule.server("it"), lambda said: said["restarts"] == 0)
