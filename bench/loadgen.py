"""A closed-loop MCP load generator: each connection sends `tools/call`, checks the reply and sends the next.

A reply is good when it has the id of the request, a result that is not `isError`, and the text that was sent.
Everything else is counted by kind. A closed loop sends nothing while the target stalls, so the stall would be
under-represented (coordinated omission); `p99_stall_ms` counts the calls that would have waited.

    python bench/loadgen.py --url http://127.0.0.1:8000/mcp --era legacy -c 1,16,64
    python bench/loadgen.py --stdio "python bench/echo.py stdio" --era modern

Knows sockets, pipes and clocks; the bytes are `exchange.py`'s business, starting targets `targets.py`'s.
Standard library only, uvloop when it can be imported.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import shlex
import time
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

from echo import MODERN, new_loop
from exchange import (
    INITIALIZE,
    INITIALIZED,
    SESSION_ID,
    Era,
    Load,
    Reply,
    call,
    call_tail,
    compact,
    fault,
    http_fault,
    messages,
    split_reply,
)
from proc import Meter
from sample import Look, Sample, summary

ECHO: Final = str(Path(__file__).with_name("echo.py"))
# Ids of equal length make every request of a run equally long, so its HTTP head is built only once.
FIRST_ID: Final = 1_000_000
# Gateways that start a process per session would otherwise start 64 at once, which no client does.
HANDSHAKES_AT_ONCE: Final = 8
FAILING_PAUSE_S: Final = 0.01
NO_HEADERS: Final[Mapping[str, str]] = {}

now: Final = time.perf_counter


class SetupError(Exception):
    """The target did not get as far as the first call."""


# ------------------------------------------------------------------ recording


class Recorder:
    """Latencies and errors of the calls that are in flight at some time inside the measured window."""

    def __init__(self) -> None:
        self.latencies_s = array("d")
        self.errors: Counter[str] = Counter()
        self.stopping = False
        self.idle = asyncio.Event()
        self._in_flight = 0
        self._since, self._until = math.inf, math.inf

    def open_window(self) -> float:
        self._since = now()
        return self._since

    def close_window(self) -> float:
        """End the window; the calls in flight still count, so that a stall at the end is not lost."""
        self._until, self.stopping = now(), True
        return self._until

    def sent(self) -> None:
        self._in_flight += 1

    def done(self, began: float, ended: float, error: str | None) -> None:
        self._in_flight -= 1
        if self.stopping and not self._in_flight:
            self.idle.set()
        if ended < self._since or began >= self._until:
            return
        if error:
            self.errors[error] += 1
        else:
            # What came before the window, reading /proc for one, is not the target's doing.
            self.latencies_s.append(ended - max(began, self._since))


class Caller(Protocol):
    """A connection, or a pipe, with calls in flight."""

    def fire(self) -> None:
        """Send the first calls; each reply sends the next."""

    def give_up(self, before: float) -> None:
        """Fail the calls sent before *before*."""

    async def close(self) -> None: ...


async def record(callers: Sequence[Caller], load: Load, recorder: Recorder, meter: Meter) -> Sample:
    """Warm up, measure one window, wait for the calls in flight. Closes *callers*."""
    watch = asyncio.create_task(give_up_late(callers, load.timeout_s))
    try:
        for caller in callers:
            caller.fire()
        await asyncio.sleep(load.warmup_s)
        target = meter.read()
        before = Look(recorder.open_window(), time.process_time(), target)
        await asyncio.sleep(load.seconds)
        ended = recorder.close_window()
        with suppress(TimeoutError):
            await asyncio.wait_for(recorder.idle.wait(), load.timeout_s + 2)
        after = Look(ended, time.process_time(), meter.read())
    finally:
        watch.cancel()
        for caller in callers:
            await caller.close()
    return summary(load, recorder.latencies_s, recorder.errors, before, after)


async def give_up_late(callers: Sequence[Caller], timeout_s: float) -> None:
    while True:
        await asyncio.sleep(0.5)
        for caller in callers:
            caller.give_up(now() - timeout_s)


# ------------------------------------------------------------------ HTTP


class HttpCaller(asyncio.Protocol):
    """One keep-alive connection with one request in flight; it reconnects when the connection is lost."""

    _transport: asyncio.Transport

    def __init__(self, url: str, load: Load, recorder: Recorder, headers: Mapping[str, str] = NO_HEADERS) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "127.0.0.1", parts.port or 80, parts.path
        self._load, self._recorder = load, recorder
        self._tail, self._text = call_tail(load), load.text
        self._headers = dict(headers)
        self._unread = b""
        self._answer: asyncio.Future[Reply] | None = None  # what `_ask` waits for, outside the loop
        self._request_id = FIRST_ID
        self._began: float | None = None  # when the call in flight was sent
        self._closing = False
        self._lost_because = "connection lost"
        self._reconnecting: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect and, in the legacy era, begin a session. Raises SetupError."""
        try:
            async with asyncio.timeout(self._load.timeout_s):
                await self._connect()
                if self._load.era == "legacy":
                    await self._begin_session()
                else:
                    self._headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call"}
                    self._headers["Mcp-Name"] = "echo"
        except (OSError, ValueError) as error:
            self._shut()
            raise SetupError(f"{type(error).__name__}: {error}") from error
        body = call(FIRST_ID, self._tail)
        self._head = self._request("POST", body).removesuffix(body)

    async def call_once(self) -> None:
        """One good call, outside any measurement. Raises SetupError."""
        try:
            async with asyncio.timeout(self._load.timeout_s):
                reply = await self._ask("POST", call(self._request_id, self._tail))
        except OSError as error:
            raise SetupError(f"{type(error).__name__}: {error}") from error
        if wrong := http_fault(reply, self._request_id, self._text):
            raise SetupError(wrong)

    async def _connect(self) -> None:
        self._unread = b""
        await asyncio.get_running_loop().create_connection(lambda: self, self._host, self._port)

    async def _begin_session(self) -> None:
        reply = await self._ask("POST", compact(INITIALIZE))
        if reply.status != 200:
            raise ValueError(f"initialize: HTTP {reply.status} {reply.body[:100]!r}")
        answer = next(message for message in messages(reply) if "method" not in message)
        if "result" not in answer:
            raise ValueError(f"initialize: {answer}")
        self._headers["MCP-Protocol-Version"] = answer["result"]["protocolVersion"]
        if session := SESSION_ID.search(reply.head):
            self._headers["Mcp-Session-Id"] = session[1].strip().decode()
        await self._ask("POST", compact(INITIALIZED))

    async def _ask(self, method: str, body: bytes = b"") -> Reply:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(self._request(method, body))
        try:
            return await self._answer
        finally:
            self._answer = None

    def _request(self, method: str, body: bytes) -> bytes:
        headers = {
            "Host": f"{self._host}:{self._port}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **self._headers,
        }
        lines = [f"{method} {self._path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        self._unread += data
        try:
            split = split_reply(self._unread)
        except ValueError:
            self._lost_because = "not HTTP"
            self._transport.abort()
            return
        if split is None:
            return
        reply, self._unread = split
        if self._answer is not None:
            self._answer.set_result(reply)
        else:
            self._replied(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.set_exception(ConnectionError(self._lost_because))
        elif not self._closing:
            if self._began is not None:
                began, self._began = self._began, None
                self._recorder.done(began, now(), self._lost_because)
            self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect())

    async def _reconnect(self) -> None:
        self._lost_because = "connection lost"
        while not self._recorder.stopping:
            await asyncio.sleep(FAILING_PAUSE_S)
            try:
                await self._connect()
            except OSError:
                self._recorder.sent()
                self._recorder.done(now(), now(), "cannot connect")
            else:
                self.fire()
                return

    def fire(self) -> None:
        if self._recorder.stopping:
            return
        self._request_id += 1
        self._recorder.sent()
        self._began = now()
        self._transport.write(self._head + call(self._request_id, self._tail))

    def _replied(self, reply: Reply) -> None:
        if self._began is None:
            self._lost_because = "a reply to nothing"
            self._transport.abort()
            return
        began, ended, self._began = self._began, now(), None
        error = http_fault(reply, self._request_id, self._text)
        self._recorder.done(began, ended, error)
        if error:
            asyncio.get_running_loop().call_later(FAILING_PAUSE_S, self.fire)
        else:
            self.fire()

    def give_up(self, before: float) -> None:
        if self._began is not None and self._began < before:
            self._lost_because = "timeout"
            self._transport.abort()

    async def close(self) -> None:
        """End the session, as a client should, and the connection."""
        if self._reconnecting:
            self._reconnecting.cancel()
        if "Mcp-Session-Id" in self._headers and self._began is None and not self._transport.is_closing():
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(self._ask("DELETE"), 2)
        self._shut()

    def _shut(self) -> None:
        self._closing = True
        if hasattr(self, "_transport"):
            self._transport.abort()


async def call_once(url: str, era: Era, headers: Mapping[str, str] = NO_HEADERS) -> None:
    """One connection, one good call, every request with *headers*. Raises SetupError."""
    caller = HttpCaller(url, Load(era, connections=1), Recorder(), headers)
    await caller.open()
    try:
        await caller.call_once()
    finally:
        await caller.close()


async def measure_http(url: str, load: Load, meter: Meter, headers: Mapping[str, str] = NO_HEADERS) -> Sample:
    """Measure `load.connections` connections to *url*, every request with *headers*. Raises SetupError."""
    recorder = Recorder()
    callers = [HttpCaller(url, load, recorder, headers) for _ in range(load.connections)]
    turns = asyncio.Semaphore(HANDSHAKES_AT_ONCE)

    async def open_in_turn(caller: HttpCaller) -> None:
        async with turns:
            await caller.open()

    try:
        await asyncio.gather(*map(open_in_turn, callers))
    except SetupError:
        for caller in callers:
            await caller.close()
        raise
    return await record(callers, load, recorder, meter)


# ------------------------------------------------------------------ stdio


class StdioCaller(asyncio.SubprocessProtocol):
    """One child process whose pipe carries `load.connections` calls at a time."""

    def __init__(self, load: Load, recorder: Recorder) -> None:
        self._load, self._recorder = load, recorder
        self._tail, self._text = call_tail(load) + b"\n", load.text
        self._unread = b""
        self._began: dict[int, float] = {}
        self._request_id = FIRST_ID
        self._initialized: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._exited = asyncio.Event()
        self.pid = 0

    async def open(self, command: Sequence[str]) -> None:
        """Start the child and, in the legacy era, shake hands. Raises SetupError."""
        try:
            await asyncio.get_running_loop().subprocess_exec(lambda: self, *command, stderr=None)
            if self._load.era == "legacy":
                self._stdin.write(compact(INITIALIZE) + b"\n")
                await asyncio.wait_for(self._initialized, self._load.timeout_s)
                self._stdin.write(compact(INITIALIZED) + b"\n")
        except (OSError, TimeoutError) as error:
            raise SetupError(f"{type(error).__name__}: {error}") from error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._child = cast(asyncio.SubprocessTransport, transport)
        self._stdin = cast(asyncio.WriteTransport, self._child.get_pipe_transport(0))
        self.pid = self._child.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        ended, answered = now(), 0
        for line in lines:
            message = json.loads(line)
            began = self._began.pop(message.get("id"), None)
            if began is not None:
                self._recorder.done(began, ended, fault(message, message["id"], self._text))
                answered += 1
            elif message.get("id") == INITIALIZE["id"] and not self._initialized.done():
                self._initialized.set_result(message)
        self._send(answered)

    def process_exited(self) -> None:
        self._exited.set()
        for began in self._began.values():
            self._recorder.done(began, now(), "process exited")
        self._began.clear()

    def fire(self) -> None:
        self._send(self._load.connections)

    def _send(self, count: int) -> None:
        if not count or self._recorder.stopping:
            return
        ids = range(self._request_id + 1, self._request_id + 1 + count)
        self._request_id += count
        self._began |= dict.fromkeys(ids, now())
        for _ in ids:
            self._recorder.sent()
        self._stdin.write(b"".join(call(request_id, self._tail) for request_id in ids))

    def give_up(self, before: float) -> None:
        if any(began < before for began in self._began.values()):
            self._child.kill()

    async def close(self) -> None:
        self._stdin.close()
        try:
            await asyncio.wait_for(self._exited.wait(), 3)
        except TimeoutError:
            self._child.kill()
        self._child.close()


async def measure_stdio(command: Sequence[str], load: Load) -> Sample:
    """Measure *command* itself, no gateway between. Raises SetupError."""
    recorder = Recorder()
    caller = StdioCaller(load, recorder)
    await caller.open(command)
    return await record([caller], load, recorder, Meter((caller.pid,), ECHO))


# ------------------------------------------------------------------ command line

COLUMNS: Final = (
    "calls_per_s",
    "p50_ms",
    "p99_ms",
    "p99_stall_ms",
    "max_ms",
    "gateway_cpu_us",
    "upstream_cpu_us",
    "client_cpu_us",
    "gateway_rss_mb",
    "strangers_cores",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--url")
    target.add_argument("--stdio", metavar="COMMAND", type=shlex.split)
    parser.add_argument("--pid", type=int, action="append", default=[], help="account for this process tree")
    parser.add_argument("--era", choices=("legacy", "modern"), default="legacy")
    parser.add_argument("-c", "--connections", default="1,16,64")
    parser.add_argument("--chars", type=int, default=Load._field_defaults["chars"])
    parser.add_argument("--seconds", type=float, default=Load._field_defaults["seconds"])
    options = parser.parse_args()
    print(f"{'connections':>15} " + " ".join(f"{column:>15}" for column in COLUMNS))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        for connections in map(int, options.connections.split(",")):
            load = Load(options.era, connections, options.chars, options.seconds)
            if options.stdio:
                seen = runner.run(measure_stdio(options.stdio, load))
            else:
                seen = runner.run(measure_http(options.url, load, Meter(tuple(options.pid), ECHO)))
            cells = [connections, *(getattr(seen, column) for column in COLUMNS)]
            print(" ".join(f"{cell:>15}" for cell in cells), seen.errors or "", flush=True)


if __name__ == "__main__":
    main()
