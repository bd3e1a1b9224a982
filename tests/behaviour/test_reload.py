"""Editing the file and ending the process, while people work."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway import SOON, Bascule, Json, alive, failure_of, gone, hostile, local, serving, text_of, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bascule.json"


def write(path: Path, text: str) -> None:
    """Replace the file as editors do: another one takes its name."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)


def write_servers(path: Path, **servers: Json) -> None:
    write(path, json.dumps({"servers": servers, "drain": SOON}))


@pytest.fixture
async def one(path: Path) -> AsyncIterator[Bascule]:
    write_servers(path, it=local("plain"))
    async with serving(path) as bascule:
        await bascule.up("it")
        yield bascule


def nudge(bascule: Bascule) -> None:
    assert bascule.process
    bascule.process.send_signal(signal.SIGHUP)


async def servers(bascule: Bascule) -> list[str]:
    return list((await bascule.status())["servers"])


async def test_an_edit_adds_a_server_without_touching_the_running_one(one: Bascule, path: Path) -> None:
    client = await one.session()
    pid = (await client.call("it__pid"))["structuredContent"]["pid"]
    async with client.listen() as ear:
        write_servers(path, it=local("plain"), more=local("plain"))
        changed = {(await ear.next())["method"] for _ in range(3)}  # its resources are shadowed
    assert changed == {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}
    await one.up("more")
    assert text_of(await client.call("more__echo", text="x")) == "x"
    assert (await client.call("it__pid"))["structuredContent"]["pid"] == pid
    assert (await one.server("it"))["restarts"] == 0


async def test_an_edit_that_is_only_seen_by_its_time_is_adopted_without_a_signal(one: Bascule, path: Path) -> None:
    write_servers(path, it=local("plain"), more=local("plain"))
    await until(lambda: servers(one), lambda names: names == ["it", "more"], within_s=10)


async def test_a_call_that_runs_on_a_removed_server_ends_as_it_should_and_then_its_process_does(
    one: Bascule, path: Path
) -> None:
    client = await one.session()
    (pid,) = (await one.server("it"))["pids"]
    params = {"name": "it__sleep", "arguments": {"seconds": 2}, "_meta": {"progressToken": 1}}
    async with client.open("tools/call", params) as call:
        await call.next_of("notifications/progress")
        write_servers(path, other=local("plain"))
        nudge(one)
        await until(lambda: servers(one), lambda names: names == ["other"])
        assert alive(pid)
        assert text_of((await call.last())["result"]) == "slept 2 s"
    await gone(pid)
    answer = await client.ask("tools/call", {"name": "it__echo", "arguments": {"text": "x"}})
    assert answer["error"]["code"] == -32602
    async with one.request("GET", "/servers/it/mcp") as exchange:
        assert exchange.status == 404


async def test_a_changed_server_is_replaced_and_its_running_call_is_not_dropped(one: Bascule, path: Path) -> None:
    client = await one.session()
    (pid,) = (await one.server("it"))["pids"]
    params = {"name": "it__sleep", "arguments": {"seconds": 2}, "_meta": {"progressToken": 1}}
    async with client.open("tools/call", params) as call:
        await call.next_of("notifications/progress")
        write_servers(path, it=local("plain", env={"CHANGED": "yes"}))
        nudge(one)
        await one.until("it", lambda said: said["pids"] and pid not in said["pids"] and said["lists"] == "fresh")
        assert (await client.call("it__env", name="CHANGED"))["structuredContent"] == {"value": "yes"}
        assert text_of((await call.last())["result"]) == "slept 2 s"
    await gone(pid)


async def test_a_session_of_a_single_server_survives_its_change(one: Bascule, path: Path) -> None:
    client = await one.session("/servers/it/mcp")
    (pid,) = (await one.server("it"))["pids"]
    write_servers(path, it=local("plain", env={"CHANGED": "yes"}))
    nudge(one)
    await one.until("it", lambda said: said["pids"] and pid not in said["pids"])
    assert (await client.call("env", name="CHANGED"))["structuredContent"] == {"value": "yes"}


async def test_a_change_of_one_server_leaves_the_others_alone(one: Bascule, path: Path) -> None:
    write_servers(path, it=local("plain"), more=local("plain"))
    nudge(one)
    await until(lambda: servers(one), lambda names: names == ["it", "more"])
    await one.up("more")
    (it,), (more,) = (await one.server("it"))["pids"], (await one.server("more"))["pids"]
    write_servers(path, it=local("plain"), more=local("plain", env={"A": "b"}))
    nudge(one)
    await one.until("more", lambda said: said["pids"] and more not in said["pids"])
    assert (await one.server("it"))["pids"] == [it]


BROKEN = (
    '{"servers": ',
    '{"servers": {"it": {"comand": "x"}}}',
    '{"servers": {"it": {"command": 1}}}',
    '{"servers": {"it": {"command": "x", "args": ["${env:NOT_SET_ANYWHERE}"]}}}',
    '{"http": {"host": "0.0.0.0"}}',
    "[]",
    "",
)


async def test_a_broken_edit_keeps_the_old_configuration_and_the_status_says_why(one: Bascule, path: Path) -> None:
    client = await one.session()
    before = (await one.status())["servers"]["it"]["pids"]

    async def error() -> Any:
        return (await one.status())["config"]["error"]

    for broken in BROKEN:
        write(path, broken)
        nudge(one)
        said = await until(error, bool)
        assert "bascule.json" in said
        assert text_of(await client.call("it__echo", text="x")) == "x"
        assert (await one.status())["servers"]["it"]["pids"] == before
        write_servers(path, it=local("plain"))
        nudge(one)
        await until(error, lambda said: said is None)


async def test_a_file_that_vanishes_keeps_the_old_configuration(one: Bascule, path: Path) -> None:
    path.unlink()  # noqa: ASYNC240 - a moment
    nudge(one)
    assert text_of(await (await one.session()).call("it__echo", text="x")) == "x"
    write_servers(path, it=local("plain"), more=local("plain"))
    await until(lambda: servers(one), lambda names: names == ["it", "more"])


async def test_sigterm_answers_what_is_in_flight_and_leaves_nobody(one: Bascule) -> None:
    assert one.process
    client = await one.session()
    (pid,) = (await one.server("it"))["pids"]
    params = {"name": "it__sleep", "arguments": {"seconds": 1}, "_meta": {"progressToken": 1}}
    async with client.open("tools/call", params) as call:
        await call.next_of("notifications/progress")
        one.process.terminate()
        result = (await call.last())["result"]
    if result.get("isError"):
        assert failure_of(result)["kind"] in ("draining", "unavailable")
    else:
        assert text_of(result) == "slept 1 s"
    async with asyncio.timeout(15):
        assert await one.process.wait() == 0
    assert not alive(pid)


async def test_sigterm_answers_a_modern_call_that_is_in_flight(path: Path) -> None:
    write_servers(path, it=local("modern"))
    async with serving(path) as bascule:
        assert bascule.process
        await bascule.up("it")
        params = {"name": "it__sleep", "arguments": {"seconds": 1}}
        async with bascule.modern().open("tools/call", params, meta={"progressToken": 1}) as call:
            await call.next_of("notifications/progress")
            bascule.process.terminate()
            result = (await call.last())["result"]
            assert result.get("isError") or text_of(result) == "slept 1 s"
        async with asyncio.timeout(15):
            assert await bascule.process.wait() == 0


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_code_0_although_streams_are_open(sign: signal.Signals, one: Bascule) -> None:
    assert one.process
    client = await one.session()
    (pid,) = (await one.server("it"))["pids"]
    async with client.listen():
        one.process.send_signal(sign)
        async with asyncio.timeout(15):
            assert await one.process.wait() == 0
    assert not alive(pid)


async def test_sigterm_during_a_start_that_hangs_leaves_nobody(path: Path) -> None:
    write_servers(path, it=hostile("silent-init"))
    async with serving(path) as bascule:
        assert bascule.process
        said = await bascule.until("it", lambda said: said["pids"])
        bascule.process.terminate()
        async with asyncio.timeout(15):
            assert await bascule.process.wait() == 0
        await gone(*said["pids"])


async def test_after_sigterm_new_connections_are_refused(one: Bascule) -> None:
    assert one.process
    one.process.terminate()
    await one.process.wait()
    with pytest.raises(aiohttp.ClientError):
        await one.get("/status")


async def test_the_console_is_gone_as_soon_as_the_configuration_says_so(one: Bascule, path: Path) -> None:
    async def status() -> int:
        async with one.http.get(f"{one.url}/console/sign-in", allow_redirects=False) as response:
            return response.status

    assert await status() < 400
    write(path, json.dumps({"servers": {"it": local("plain")}, "drain": SOON, "console": {"enabled": False}}))
    nudge(one)
    await until(status, lambda found: found == 404, within_s=10)
