"""What is bounded stays bounded: clients that do not read, clients that leave, and what piles up over time."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from foreign import Asked, Foreign, far
from gateway import KINDLY, Bascule, Legacy, Modern, failure_of, gateway, local, remote, serving, text_of, until

CHUNK = 256 * 1024
FLOOD = 128  # notifications of a chunk each: 32 MiB, far more than sockets and bounds hold
KEPT = 16 * 1024 * 1024


async def flood(asked: Asked) -> None:
    """Say far more than the client will read, then answer."""
    await asked.stream()
    for number in range(FLOOD):
        params = {"level": "info", "data": f"{number:04}" + "x" * CHUNK}
        await asked.event({"jsonrpc": "2.0", "method": "notifications/message", "params": params})
    result = {"content": [{"type": "text", "text": "all said"}], "resultType": "complete"}
    await asked.event({"jsonrpc": "2.0", "id": asked.id, "result": result})
    await asked.end()


@asynccontextmanager
async def flooding(*, modern: bool) -> AsyncIterator[tuple[Foreign, Bascule]]:
    async with (
        far(modern=modern) as foreign,
        gateway({"far": remote(foreign.url), "good": local("plain")}) as bascule,
    ):
        await bascule.up("far", "good")
        foreign.on["tools/call"] = flood
        yield foreign, bascule


@asynccontextmanager
async def a_bare_call(
    bascule: Bascule, client: Legacy | Modern, tool: str, /, **arguments: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A call over a socket that reads only what it is told to."""
    params: dict[str, Any] = {"name": tool, "arguments": arguments, "_meta": {"progressToken": 1}}
    if isinstance(client, Modern):
        params = client.stamped(params, {"progressToken": 1})
        head = client.head("tools/call", params)
    else:
        head = {**KINDLY, **client.headers}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    host, port = bascule.url.removeprefix("http://").split(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=sock, limit=16 * 1024)
    lines = [f"POST {client.path} HTTP/1.1", f"host: {host}:{port}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in head.items() if value is not None]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_a_modern_client_that_stops_reading_loses_its_call_and_nobody_else_is_disturbed() -> None:
    async with flooding(modern=True) as (foreign, bascule):
        good = await bascule.session("/servers/good/mcp")
        async with a_bare_call(bascule, bascule.modern("/servers/far/mcp"), "echo"):
            await bascule.until("far", lambda _: bool(foreign.asked("tools/call")))
            async with asyncio.timeout(5):
                await foreign.asked("tools/call")[0].left()  # cancelled, as its client cannot be told any more
                assert text_of(await good.call("echo", text="x")) == "x"
            await bascule.until("far", lambda said: said["in_flight"] <= 1)


async def test_a_legacy_client_that_stops_reading_gets_a_bounded_rest_and_its_answer() -> None:
    async with flooding(modern=False) as (foreign, bascule):
        good = await bascule.session("/servers/good/mcp")
        client = await bascule.session("/servers/far/mcp")
        async with a_bare_call(bascule, client, "echo") as (reader, _):
            await bascule.until("far", lambda _: bool(foreign.asked("tools/call")))
            await bascule.until("far", lambda said: said["in_flight"] <= 1)  # the server is not held up
            assert text_of(await good.call("echo", text="x")) == "x"
            read, tail = 0, b""
            async with asyncio.timeout(10):
                while b"all said" not in tail:
                    chunk = await reader.read(1 << 20)
                    assert chunk
                    read, tail = read + len(chunk), (tail + chunk)[-1000:]
        assert read < KEPT < FLOOD * CHUNK


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", ["/mcp", "/servers/new/mcp"])
async def test_a_modern_client_that_is_reset_cancels_its_call_within_a_second(path: str, over: str) -> None:
    async with gateway({"new": local("modern")}) as inner:
        await inner.up("new")
        async with gateway({"new": remote(f"{inner.url}/servers/new/mcp")}) as outer:
            await outer.up("new")
            bascule = inner if over == "stdio" else outer
            client = bascule.modern(path)
            name = "new__sleep" if path == "/mcp" else "sleep"
            async with a_bare_call(bascule, client, name, seconds=30) as (reader, writer):
                await reader.readuntil(b"notifications/progress")
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                async with asyncio.timeout(1):
                    ids = (await inner.modern("/servers/new/mcp").call("cancelled", at_least=1))["structuredContent"]
            assert len(ids["ids"]) == 1
            await bascule.until("new", lambda said: said["in_flight"] <= 1)


async def test_nothing_piles_up_over_many_sessions_and_calls(tmp_path: Path) -> None:
    path = tmp_path / "bascule.json"
    async with far() as foreign:
        servers = {"it": local("plain"), "far": remote(foreign.url)}
        path.write_text(json.dumps({"servers": servers}))
        async with serving(path) as bascule:
            await bascule.up("it", "far")
            await use(bascule, 20)  # what is made once is made by now
            before = belongings(bascule)
            await use(bascule, 300)

            async def now() -> dict[str, int]:
                return belongings(bascule)

            # Idle connections of both sides may differ by a few.
            await until(now, lambda has: has["children"] == before["children"] and has["fds"] <= before["fds"] + 8)
            said = await bascule.status()
            assert said["sessions"] == 0
            assert said["calls"]["in_flight"] == 0
            assert belongings(bascule)["rss_mib"] < before["rss_mib"] + 32
            assert foreign.sessions == 1 + len(foreign.asked("DELETE"))  # one is the gateway's own


async def use(bascule: Bascule, times: int) -> None:
    """So many sessions, ten at once, each with a call or two and a stream, ended in one way or another."""

    async def visit(number: int) -> None:
        path = ("/mcp", "/servers/it/mcp", "/servers/far/mcp")[number % 3]
        client = await bascule.session(path)
        for server in ("it", "far") if path == "/mcp" else ("",):
            name = f"{server}__echo" if server else "echo"
            assert text_of(await client.call(name, text=f"{number}")) == f"{number}"
        if number % 2:
            async with client.listen() as ear:
                assert ear.status == 200
        assert await client.end() == 204

    for start in range(0, times, 10):
        await asyncio.gather(*(visit(number) for number in range(start, min(start + 10, times))))


def belongings(bascule: Bascule) -> dict[str, int]:
    """What the process of *bascule* has."""
    assert bascule.process
    proc = Path(f"/proc/{bascule.process.pid}")
    children = (proc / "task" / str(bascule.process.pid) / "children").read_text().split()
    pages = int((proc / "statm").read_text().split()[1])
    return {"fds": len(list((proc / "fd").iterdir())), "children": len(children), "rss_mib": pages * 4 // 1024}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_nothing_is_left_of_sessions_with_processes_of_their_own() -> None:
    async with gateway({"it": local("plain", sharing="per_session")}) as bascule:
        before = 0
        for _ in range(3):
            clients = await asyncio.gather(*(bascule.session("/servers/it/mcp") for _ in range(4)))
            await asyncio.gather(*(client.call("echo", text="x") for client in clients))
            assert len((await bascule.server("it"))["pids"]) >= 4
            await asyncio.gather(*(client.end() for client in clients))
            await bascule.until("it", lambda said: len(said["pids"]) <= 1)
            before = before or descriptors()  # of the first round: what is made once is made by now

        async def now() -> int:
            return descriptors()

        await until(now, lambda count: count <= before + 3)  # less than one process has


async def test_no_more_processes_than_allowed_and_the_refusal_says_so() -> None:
    async with gateway({"it": local("plain", sharing="per_session", max_processes=3)}) as bascule:
        await bascule.up("it")
        clients = [await bascule.session("/servers/it/mcp") for _ in range(2)]  # the third is the gateway's own
        late = await bascule.session("/servers/it/mcp")
        error = failure_of(await late.call("echo", text="x"))
        assert (error["kind"], error["retryable"]) == ("unavailable", True)
        assert "max_processes" in error["message"]
        await clients[0].end()
        assert text_of(await late.call("echo", text="x")) == "x"


async def test_when_every_session_is_in_use_one_more_is_refused_and_may_come_again() -> None:
    async with gateway({"it": local("plain")}, http={"max_sessions": 2}) as bascule:
        clients = [await bascule.session() for _ in range(2)]
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        async with clients[0].listen(), clients[1].listen():
            answer = await Legacy(bascule, "/mcp", "2025-11-25").ask("initialize", hello)
            data = answer["error"]["data"]
            assert (data["kind"], data["retryable"]) == ("overloaded", True)
            assert "max_sessions" in answer["error"]["message"]
        assert (await bascule.status())["sessions"] == 2
