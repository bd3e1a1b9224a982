"""A real Bascule on a real socket, with real servers behind it, and clients of both eras that wait with deadlines.

`gateway(servers)` runs the Gateway and uvicorn in the loop of the test; `serving(path)` runs `bascule serve`.
A `Legacy` client is one session, a `Modern` one keeps nothing. Both `open` a request and read its answer message
by message, or `call` it and take the last.
"""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import aiohttp

from bascule import config as configuration
from bascule.app import Gateway
from bascule.edge.server import GatewayServer, bind
from processes import ROOT
from processes import server as command_of

Json: TypeAlias = dict[str, Any]
Headers: TypeAlias = Mapping[str, str | None]

WITHIN_S: Final = 15.0  # nothing that a test waits for takes longer
LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
META: Final = "io.modelcontextprotocol/"
KINDLY: Final = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
NAMED_BY: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
SOON: Final = {"delay_s": 0, "calls_s": 5}  # a `drain` for tests that are about something else
# What tests that are about something else run with: the machine may be busy, and no balancer looks at it.
CALMLY: Final[Json] = {"drain": SOON, "overload": {"max_lag_s": 60}}
ELICITS: Final[Json] = {"elicitation": {}}


# ---- servers -------------------------------------------------------------------------------------


def local(name: str, *options: str, **more: Any) -> Json:
    """The configuration of tests/servers/{name}.py as a stdio server, which is soon killed when it does not end."""
    command, *args = command_of(name, *options)
    return {"command": command, "args": args, "stop_grace_s": 0.3, **more}


def hostile(mode: str, **more: Any) -> Json:
    return local("hostile", "--mode", mode, **more)


def remote(url: str, **more: Any) -> Json:
    return {"url": url, **more}


# ---- Bascule -------------------------------------------------------------------------------------


@dataclass
class Bascule:
    """A Bascule that runs, and one HTTP client to it."""

    url: str
    http: aiohttp.ClientSession
    gateway: Gateway | None = None
    process: asyncio.subprocess.Process | None = None

    async def get(self, path: str, headers: Headers | None = None) -> tuple[int, Any]:
        """(status, JSON) of a page."""
        async with self.http.get(self.url + path, headers=_present(headers or {})) as response:
            return response.status, await response.json()

    async def status(self) -> Json:
        _, report = await self.get("/status")
        found: Json = report
        return found

    async def server(self, name: str) -> Json:
        found: Json = (await self.status())["servers"][name]
        return found

    async def until(self, name: str, holds: Callable[[Json], bool], within_s: float = WITHIN_S) -> Json:
        """What /status says of server *name*, once it *holds*. Fails, showing it, when that takes too long."""
        found: Json = await until(lambda: self.server(name), holds, within_s)
        return found

    async def up(self, *names: str) -> None:
        """Wait until the lists of these servers are known."""
        for name in names:
            await self.until(name, lambda said: said["lists"] == "fresh")

    async def session(
        self,
        path: str = "/mcp",
        version: str = LEGACY,
        capabilities: Json | None = None,
        headers: Headers | None = None,
    ) -> "Legacy":
        """A client after its handshake."""
        client = Legacy(self, path, version, dict(headers or {}))
        await client.initialize(capabilities or {})
        return client

    def modern(self, path: str = "/mcp", capabilities: Json | None = None) -> "Modern":
        return Modern(self, path, capabilities or {})

    @asynccontextmanager
    async def request(
        self, method: str, path: str, headers: Headers | None = None, body: bytes | None = None
    ) -> "AsyncIterator[Exchange]":
        async with (
            asyncio.timeout(WITHIN_S * 2),
            self.http.request(method, self.url + path, headers=_present(headers or {}), data=body) as response,
        ):
            yield Exchange(response)


async def until(look: Callable[[], Any], holds: Callable[[Any], bool], within_s: float = WITHIN_S) -> Any:
    """Look again and again, at what has no event to wait for, until it *holds*."""
    seen: Any = None
    try:
        async with asyncio.timeout(within_s):
            while not holds(seen := await look()):  # noqa: ASYNC110 - a page has no event
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"after {within_s} s still: {json.dumps(seen)}") from None
    return seen


@asynccontextmanager
async def gateway(
    servers: Mapping[str, Json], *, sole: str | None = None, environ: Mapping[str, str] | None = None, **more: Any
) -> AsyncIterator[Bascule]:
    """The Gateway on a free port. *more* are further members of the configuration file."""
    with TemporaryDirectory(prefix="bascule-") as folder:
        path = Path(folder) / "bascule.json"
        path.write_text(json.dumps({"servers": servers, "state_dir": f"{folder}/state", **CALMLY, **more}))
        config = configuration.load(path, environ or {})
        async with running(Gateway(config, sole=sole)) as bascule:
            yield bascule


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator["Bascule"]:
    """*gateway* on a free port, until the block ends."""
    with bind("127.0.0.1", 0) as socket:
        server = GatewayServer(gateway, lambda: None)
        # The parts of uvicorn's serve() that matter: it would take over pytest's signals, and tick ten times a second.
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup([socket])
        try:
            async with _http() as http:
                yield Bascule(f"http://127.0.0.1:{socket.getsockname()[1]}", http, gateway)
        finally:
            async with asyncio.timeout(40):
                await server.shutdown([socket])


@asynccontextmanager
async def serving(
    path: Path, *options: str, env: Mapping[str, str] | None = None, stderr: int | None = None
) -> AsyncIterator[Bascule]:
    """`bascule serve -c path` as a process of its own; killed if the test leaves it running."""
    folder = str(path.parent)
    isolated = {"HOME": folder, "XDG_STATE_HOME": f"{folder}/state", "XDG_CONFIG_HOME": f"{folder}/config"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bascule", "serve", "-c", str(path), "--port", "0", *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, **isolated, **(env or {})},
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        assert process.stdout
        async with asyncio.timeout(WITHIN_S):
            line = await process.stdout.readline()
        async with _http() as http:
            yield Bascule(line.split()[0].decode().removesuffix("/mcp"), http, process=process)
    finally:
        for _ in range(2):  # as a person ends it, who waits for no balancer, and not for calls that hang
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
                with suppress(TimeoutError):
                    async with asyncio.timeout(WITHIN_S / 2):
                        await process.wait()
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(WITHIN_S):
            await process.communicate()  # to the end of its output, which nobody holds open


def _http() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=WITHIN_S * 2),
        auto_decompress=False,
    )


def _present(headers: Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if value is not None}


# ---- one answer ----------------------------------------------------------------------------------


class Exchange:
    """The response to one request: a body, or events as they come."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.status = response.status
        self.headers = response.headers
        self.last_id = ""
        self._buffer = b""
        self._read = False

    @property
    def streams(self) -> bool:
        return self.response.content_type == "text/event-stream"

    async def body(self) -> bytes:
        async with asyncio.timeout(WITHIN_S):
            return await self.response.read()

    async def json(self) -> Json:
        found: Json = json.loads(await self.body())
        return found

    async def raw(self) -> bytes | None:
        """The bytes of the next message; None at the end."""
        async with asyncio.timeout(WITHIN_S):
            if not self.streams:
                again, self._read = self._read, True
                return None if again else await self.response.read() or None
            while (event := await self._event()) is not None:
                if data := self._data(event):
                    return data
            return None

    async def _event(self) -> bytes | None:
        while b"\n\n" not in self._buffer:
            chunk = await self.response.content.readany()
            if not chunk:
                return None
            self._buffer += chunk
        event, _, self._buffer = self._buffer.partition(b"\n\n")
        return event

    def _data(self, event: bytes) -> bytes:
        fields = [line.partition(b": ") for line in event.split(b"\n")]
        for name, _, value in fields:
            if name == b"id":
                self.last_id = value.decode()
        return b"\n".join(value for name, _, value in fields if name == b"data")

    async def next(self) -> Json:
        """The next message. Fails at the end of the stream."""
        raw = await self.raw()
        assert raw is not None, "the stream ended"
        found: Json = json.loads(raw)
        return found

    async def next_of(self, method: str) -> Json:
        """The next message, which has to be this request or notification."""
        message = await self.next()
        assert message.get("method") == method, message
        return message

    async def last(self) -> Json:
        """The answer: the first message that is a response, after whatever comes before it."""
        while True:
            message = await self.next()
            if "method" not in message:
                return message

    async def ended(self) -> None:
        """Wait for the end; nothing may come before it."""
        assert await self.raw() is None


# ---- clients -------------------------------------------------------------------------------------


@dataclass
class Legacy:
    """A client of 2024-11-05 to 2025-11-25 in one session."""

    bascule: Bascule
    path: str
    version: str
    headers: dict[str, str | None] = field(default_factory=dict)
    greeting: Json = field(default_factory=dict)

    async def initialize(self, capabilities: Json) -> None:
        hello = {
            "protocolVersion": self.version,
            "capabilities": capabilities,
            "clientInfo": {"name": "t", "version": "1"},
        }
        async with self.open("initialize", hello, id=0) as exchange:
            answer = await exchange.last()
            assert "result" in answer, answer
            self.greeting = answer["result"]
            self.headers["mcp-session-id"] = exchange.headers["mcp-session-id"]
            self.headers["mcp-protocol-version"] = self.greeting["protocolVersion"]
        assert await self.notify("notifications/initialized") == 202

    @asynccontextmanager
    async def open(
        self, method: str, params: Json | None = None, *, id: Any = 1, headers: Headers | None = None
    ) -> AsyncIterator[Exchange]:
        message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}
        async with self.post(message, headers) as exchange:
            yield exchange

    @asynccontextmanager
    async def post(self, message: Any, headers: Headers | None = None) -> AsyncIterator[Exchange]:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        head = {**KINDLY, **self.headers, **(headers or {})}
        async with self.bascule.request("POST", self.path, head, body) as exchange:
            yield exchange

    async def ask(self, method: str, params: Json | None = None, *, id: Any = 1) -> Json:
        """The whole response message."""
        async with self.open(method, params, id=id) as exchange:
            return await exchange.last()

    async def result(self, method: str, params: Json | None = None, *, id: Any = 1) -> Json:
        answer = await self.ask(method, params, id=id)
        assert "result" in answer, answer
        found: Json = answer["result"]
        return found

    async def call(self, tool: str, /, *, id: Any = 1, **arguments: Any) -> Json:
        return await self.result("tools/call", {"name": tool, "arguments": arguments}, id=id)

    async def notify(self, method: str, params: Json | None = None) -> int:
        """The HTTP status that a notification gets."""
        async with self.post({"jsonrpc": "2.0", "method": method, "params": params or {}}) as exchange:
            return exchange.status

    async def answer(self, question: Json, result: Json) -> None:
        async with self.post({"jsonrpc": "2.0", "id": question["id"], "result": result}) as exchange:
            assert exchange.status == 202

    @asynccontextmanager
    async def listen(self, last_id: str | None = None) -> AsyncIterator[Exchange]:
        """The stream that GET opens, or with *last_id* the rest of another."""
        head = {"accept": "text/event-stream", **self.headers, "last-event-id": last_id}
        async with self.bascule.request("GET", self.path, head) as exchange:
            yield exchange

    async def end(self) -> int:
        async with self.bascule.request("DELETE", self.path, self.headers) as exchange:
            return exchange.status


@dataclass
class Modern:
    """A client of 2026-07-28."""

    bascule: Bascule
    path: str
    capabilities: Json

    def stamped(self, params: Json | None, meta: Json | None = None) -> Json:
        stamp = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": self.capabilities}
        return {**(params or {}), "_meta": {**stamp, **(meta or {})}}

    def head(self, method: str, params: Json | None = None) -> dict[str, str | None]:
        name = (params or {}).get(NAMED_BY.get(method, ""))
        return {**KINDLY, "mcp-protocol-version": MODERN, "mcp-method": method, "mcp-name": name}

    @asynccontextmanager
    async def open(
        self,
        method: str,
        params: Json | None = None,
        *,
        id: Any = 1,
        meta: Json | None = None,
        headers: Headers | None = None,
    ) -> AsyncIterator[Exchange]:
        message = {"jsonrpc": "2.0", "id": id, "method": method, "params": self.stamped(params, meta)}
        head = {**self.head(method, params), **(headers or {})}
        async with self.bascule.request("POST", self.path, head, json.dumps(message).encode()) as exchange:
            yield exchange

    async def ask(self, method: str, params: Json | None = None, *, id: Any = 1) -> Json:
        async with self.open(method, params, id=id) as exchange:
            return await exchange.last()

    async def result(self, method: str, params: Json | None = None, *, id: Any = 1) -> Json:
        answer = await self.ask(method, params, id=id)
        assert "result" in answer, answer
        found: Json = answer["result"]
        return found

    async def call(self, tool: str, /, *, id: Any = 1, **arguments: Any) -> Json:
        return await self.result("tools/call", {"name": tool, "arguments": arguments}, id=id)


def text_of(result: Json) -> str:
    """The text of a tool's result that did not fail."""
    assert not result.get("isError"), result
    said: str = result["content"][0]["text"]
    return said


def unlabelled(answer: str) -> str:
    """*answer* without what Bascule says of the call in it; fails if it says nothing."""
    bare, count = re.subn(r',?"dev\.bascule/call":\{[^{}]*\}', "", answer)
    assert count == 1, answer
    return re.sub(r',?"_meta":\{\}', "", bare)


def failure_of(result: Json) -> Json:
    """What went wrong, of a result that says so."""
    assert result.get("isError") is True, result
    found: Json = result["_meta"]["dev.bascule/error"]
    return found


# ---- processes -----------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    """Whether *pid* runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def gone(*pids: int, within_s: float = WITHIN_S) -> None:
    """Wait until none of *pids* runs."""

    async def left() -> list[int]:
        return [pid for pid in pids if alive(pid)]

    await until(left, lambda some: not some, within_s)
