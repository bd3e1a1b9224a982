"""A local MCP server: a command that we start, share, restart and end.

One process serves every client of one era (`sharing: shared`), because SDK servers settle their era
with the first message they get. Source: MCP 2026-07-28 and 2025-11-25, "stdio".
"""

import asyncio
import logging
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Raw

from bascule.call import ANONYMOUS, BASCULE, Call, Result, Session
from bascule.errors import BasculeError, TimedOut, Unavailable, UpstreamBrokeProtocol
from bascule.options import Bytes, Count, Options, Seconds
from bascule.upstream.base import INFO, State, Status
from bascule.upstream.multiplexer import Multiplexer
from bascule.upstream.process import Child, child_environment
from bascule.upstream.shared import NOBODY, Attached
from bascule.wire import headers, jsonrpc, legacy, modern, translate
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import LATEST_LEGACY, LATEST_MODERN, Era

log = logging.getLogger("bascule.upstream")

_CRASHES: Final = 5  # within _CRASH_WINDOW_S: from then on only a call starts the server again
_CRASH_WINDOW_S: Final = 60.0
_COOL_DOWN_S: Final = 30.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
_PROBE_S: Final = 3.0  # a server that is silent to the probe for so long gets the old handshake


class StdioOptions(Options, frozen=True):
    """A server that Bascule starts: `command` and `args`, as in any `mcpServers` file."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    cwd: str | None = None
    pass_environment: bool = False  # the child sees all of Bascule's environment, secrets included
    start: Literal["eager", "lazy"] = "eager"
    sharing: Literal["shared", "per_caller", "per_session"] = "shared"
    era: Literal["auto", "legacy", "modern"] = "auto"
    required: bool = False  # /health/ready is 503 while this server is down
    call_timeout_s: Seconds = 300.0
    start_timeout_s: Seconds = 60.0  # `npx -y` may have to download first
    idle_stop_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # stop after so long without a call; 0 = never
    stop_grace_s: Seconds = 5.0  # from the end of its input to SIGTERM; as long again, at most 3 s, to SIGKILL
    max_message_bytes: Bytes = 4 * 1024 * 1024
    max_processes: Count = 32  # of one server, when it is not shared


Key = tuple[Era, str]


class StdioUpstream:
    """An upstream made of child processes: one for each era in use and, unless shared, for each user."""

    def __init__(self, name: str, options: StdioOptions, environ: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._options = options
        self._environ = os.environ if environ is None else environ
        self._servers: dict[Key, _Server] = {}
        self._eras: frozenset[Era] | None = None if options.era == "auto" else frozenset({Era(options.era)})
        self._verdict = asyncio.Lock()
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        if self._options.start == "eager":
            self._spawn_task(self._warm())
        if self._options.idle_stop_s:
            self._spawn_task(self._stop_idle())

    async def _warm(self) -> None:
        try:
            await self.eras()
        except BasculeError:
            pass  # the server's own status says it; whoever calls is told

    async def stop(self) -> None:
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(server.stop() for server in self._servers.values()))

    async def eras(self) -> Collection[Era]:
        if self._eras is None:
            async with self._verdict:
                if self._eras is None:
                    self._eras = await self._probe()
        elif not self._servers:
            await self._server((next(iter(self._eras)), "")).ready()
        return self._eras

    async def _probe(self) -> frozenset[Era]:
        """Ask the server itself, in the order of MCP 2026-07-28, stdio, "Backward Compatibility"."""
        old = self._servers.get((Era.LEGACY, ""))  # probed before, but its handshake failed
        if old is not None:
            await self._shake_hands(old)
            return frozenset({Era.LEGACY})
        server = self._server((Era.MODERN, ""))
        try:
            await server.ready()
        except _SpeaksLegacy:
            server.key = Era.LEGACY, ""  # the process that was probed goes on as what it is
            self._servers[server.key] = self._servers.pop((Era.MODERN, ""))
            await self._shake_hands(server)
            return frozenset({Era.LEGACY})
        # Whether it also knows the handshake is found out when a legacy client first asks.
        return frozenset({Era.MODERN, Era.LEGACY}) if self._options.era == "auto" else frozenset({Era.MODERN})

    async def _shake_hands(self, server: "_Server") -> None:
        try:
            await server.ready()
        except _SpeaksModern:
            # It died of the probe, or was too slow for it, and says otherwise now: probe anew next time.
            del self._servers[server.key]
            await server.stop()
            raise

    async def _greet(self, session: Session) -> Result:
        server = self._for(Era.LEGACY, session)
        try:
            await server.ready()
        except _SpeaksModern:
            self._eras = frozenset({Era.MODERN})
            del self._servers[server.key]
            await server.stop()
            translate.era_for(Era.LEGACY, self._eras, self.name, session.revision.version)
            raise
        server.attached.add(session)
        return Result(server.greeting)

    async def send(self, call: Call) -> Result:
        assert call.target is not None
        if call.method == legacy.INITIALIZE and call.session is not None:
            return await self._greet(call.session)
        server = self._for(call.era, call.session, call)
        if server.state is not State.READY:
            await server.ready()
        if call.session is not None:
            server.attached.add(call.session)
            if local := await server.attached.local(call.session, call.method, call.target.params):
                return local
        return await server.request(call, call.target.params)

    async def tell(self, session: Session, method: str, params: Params) -> None:
        server = self._servers.get(self._key(Era.LEGACY, session))
        # `initialized` was said once for all at the start; a cancellation names ids that only we know.
        if server is not None and server.state is State.READY and method not in (legacy.INITIALIZED, legacy.CANCELLED):
            server.tell(method, params)

    async def watch(self, session: Session) -> None:
        server = self._for(Era.LEGACY, session)
        await server.ready()
        server.attached.add(session, watching=True)

    async def forget(self, session: Session) -> None:
        server = self._servers.get(self._key(Era.LEGACY, session))
        if server is None:
            return
        if self._options.sharing == "per_session":
            del self._servers[server.key]
            await server.stop()
        else:
            await server.attached.remove(session)

    def learn(self, mirrored: Mapping[str, Sequence[headers.MirroredParam]]) -> None:
        pass  # a pipe has no headers

    def status(self) -> Status:
        servers = list(self._servers.values())
        worst = max(servers, key=lambda each: _GRAVITY.index(each.state), default=None)
        dropped: Counter[str] = Counter()
        for each in servers:
            dropped.update(each.dropped)
        return Status(
            name=self.name,
            kind="stdio",
            state=State.STOPPED if self._stopped else worst.state if worst else State.IDLE,
            eras=[era.value for era in Era if any(key[0] is era for key in self._servers)],
            pids=[each.pid for each in servers if each.pid],
            restarts=sum(each.restarts for each in servers),
            in_flight=sum(each.in_flight for each in servers),
            since_s=worst.since_s if worst else None,
            retry_in_s=worst.retry_in_s if worst else None,
            last_error=worst.last_error if worst else None,
            stderr=worst.stderr if worst else (),
            dropped=dropped,
            server=worst.server_info if worst else {},
        )

    # ---- which process serves whom

    def _key(self, era: Era, session: Session | None, call: Call | None = None) -> Key:
        caller = session.caller if session else call.caller if call else ANONYMOUS
        if caller is BASCULE or self._options.sharing == "shared":
            return era, ""
        if self._options.sharing == "per_session" and session is not None:
            return era, session.id
        return era, caller.name

    def _for(self, era: Era, session: Session | None, call: Call | None = None) -> "_Server":
        return self._server(self._key(era, session, call))

    def _server(self, key: Key) -> "_Server":
        if self._stopped:
            raise Unavailable("is stopped").at(self.name)
        server = self._servers.get(key)
        if server is None:
            if len(self._servers) >= max(2, self._options.max_processes):
                raise Unavailable(f"already runs max_processes={self._options.max_processes}").at(self.name)
            server = self._servers[key] = _Server(self.name, key, self._options, self._environ)
        return server

    async def _stop_idle(self) -> None:
        while True:
            await asyncio.sleep(min(self._options.idle_stop_s, 5.0))
            for server in list(self._servers.values()):
                if server.state is State.READY and server.idle_s >= self._options.idle_stop_s:
                    await server.rest()

    def _spawn_task(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _SpeaksLegacy(Unavailable):
    """The probe's verdict: this server wants the handshake."""


class _SpeaksModern(Unavailable):
    """The handshake's verdict: this server knows only the stateless protocol."""


_GRAVITY: Final = (State.IDLE, State.STOPPED, State.READY, State.STARTING, State.DOWN, State.FAILED)


class _Server:
    """One process at a time, in one era, brought back when it dies."""

    def __init__(self, name: str, key: Key, options: StdioOptions, environ: Mapping[str, str]) -> None:
        self.key = key
        self.state = State.IDLE
        self.restarts = 0
        self.last_error: str | None = None
        self.greeting: Raw = jsonrpc.NOTHING
        self.server_info: Mapping[str, Any] = {}
        self.attached = Attached(self)
        self._name = name
        self._options = options
        self._environ = environ
        self._child: Child | None = None
        self._leaving: Child | None = None  # told to end, and not gone yet
        self._stderr: Sequence[str] = ()
        self._mux = Multiplexer(name, self._write, self.attached)
        self._life = 0  # which start the present process belongs to
        self._starting: asyncio.Future[None] | None = None
        self._crashes: deque[float] = deque(maxlen=_CRASHES)
        self._pause_s = _FIRST_PAUSE_S
        self._retry_at: float | None = None
        self._changed_at = time.monotonic()
        self._used_at = time.monotonic()
        self._revival: asyncio.TimerHandle | None = None
        self._sweep: asyncio.Future[None] | None = None

    # ---- facts for /status

    @property
    def pid(self) -> int:
        child = self._child or self._leaving
        return child.pid if child else 0

    @property
    def in_flight(self) -> int:
        return self._mux.in_flight

    @property
    def dropped(self) -> Mapping[str, int]:
        return self._mux.dropped

    @property
    def stderr(self) -> Sequence[str]:
        return self._child.stderr_tail() if self._child else self._stderr

    @property
    def since_s(self) -> float:
        return time.monotonic() - self._changed_at

    @property
    def retry_in_s(self) -> float | None:
        return max(0.0, self._retry_at - time.monotonic()) if self._retry_at is not None else None

    @property
    def idle_s(self) -> float:
        return 0.0 if self._mux.busy or self.attached.watched else time.monotonic() - self._used_at

    # ---- calls

    async def ready(self) -> None:
        """Wait until the server can be called. Raises Unavailable with the reason, at once while it pauses."""
        if self.state is State.READY:
            return
        if self.state is State.STOPPED:
            raise Unavailable("is stopped").at(self._name)
        if self.state in (State.DOWN, State.FAILED) and (self.retry_in_s or 0) > 0:
            raise self._why_down()
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
            self._starting.add_done_callback(self._started)
        # Shielded: one impatient caller must not stop the start that the others wait for.
        await asyncio.shield(self._starting)

    async def request(self, call: Call, params: Params) -> Result:
        self._used_at = time.monotonic()
        try:
            return await self._mux.request(call, params)
        finally:
            self._used_at = time.monotonic()

    async def own(self, method: str, params: Params) -> Result:
        """A request of the gateway itself, such as the handshake."""
        revision = LATEST_MODERN if self.key[0] is Era.MODERN else LATEST_LEGACY
        return await self._mux.request(Call(caller=BASCULE, client=NOBODY, revision=revision, method=method), params)

    def tell(self, method: str, params: Params) -> None:
        self._mux.tell(method, params)

    def sessions_in_flight(self) -> set[str]:
        return self._mux.sessions_in_flight()

    def count_dropped(self, what: str) -> None:
        self._mux.dropped[what] += 1

    # ---- life

    def _started(self, done: "asyncio.Future[None]") -> None:
        self._starting = None
        if not done.cancelled():
            done.exception()  # told to whoever waited; nobody else has to hear it

    async def _start(self) -> None:
        again = self.state in (State.DOWN, State.FAILED)
        self.restarts += again
        self._enter(State.STARTING)
        try:
            async with asyncio.timeout(self._options.start_timeout_s):
                if self._child is None:
                    await self._spawn()
                await (self._open_modern() if self.key[0] is Era.MODERN else self._open_legacy())
        except (_SpeaksLegacy, _SpeaksModern):
            self._enter(State.IDLE)
            raise
        except TimeoutError:
            error = TimedOut(f"no answer to the handshake within {self._options.start_timeout_s:g} s").at(self._name)
            await self._fail_start(error)
            raise error from None
        except BasculeError as error:
            await self._fail_start(error)
            raise self._why_down() from error
        self._enter(State.READY)
        self._pause_s = _FIRST_PAUSE_S
        if again:
            log.info("%s: runs again, pid %d", self._name, self.pid)
        await self.attached.resume()

    async def _spawn(self) -> None:
        command = shutil.which(self._options.command, path=self._options.env.get("PATH", self._environ.get("PATH")))
        if command is None:
            raise Unavailable(f"command {self._options.command!r} is not on PATH").at(self._name)
        self._life += 1
        self._child = await Child.spawn(
            (command, *self._options.args),
            env=child_environment(self._options.env, self._environ, everything=self._options.pass_environment),
            cwd=self._options.cwd,
            max_line_bytes=self._options.max_message_bytes,
            on_line=self._mux.receive,
            on_overlong=self._mux.overlong,
            on_exit=partial(self._ended, self._life),
        )

    async def _open_modern(self) -> None:
        """Probe with server/discover. A server that answers the old way, or not at all, speaks legacy."""
        probe = asyncio.ensure_future(self.own(modern.DISCOVER, modern.stamp({}, info=INFO, capabilities={})))
        patience_s = self._options.start_timeout_s
        if self._options.era != "modern":
            patience_s = min(_PROBE_S, patience_s / 2)  # the handshake needs its share of the time
        await asyncio.wait({probe}, timeout=patience_s)
        if not probe.done():
            probe.cancel()
            raise _SpeaksLegacy("silent to server/discover")
        try:
            found = probe.result()
        except UpstreamBrokeProtocol as error:
            # Some old servers die of a request that comes before `initialize`.
            raise _SpeaksLegacy("ended at server/discover") from error
        if found.refused and modern.error_code(found.value) not in modern.ERROR_CODES:
            raise _SpeaksLegacy("does not know server/discover")
        if found.refused:
            raise Unavailable(f"speaks only MCP {', '.join(modern.supported_by(found.value))}").at(self._name)
        self.greeting = found.value
        self.server_info = _server_info(found.value)

    async def _open_legacy(self) -> None:
        answer = await self.own(legacy.INITIALIZE, legacy.initialize_params(INFO, legacy.RELAYED_CAPABILITIES))
        if answer.refused:
            if modern.error_code(answer.value) in modern.ERROR_CODES:
                raise _SpeaksModern("refuses initialize")
            raise Unavailable(f"refused the handshake: {bytes(answer.value).decode()}").at(self._name)
        self.tell(legacy.INITIALIZED, {})
        self.greeting = answer.value
        info = jsonrpc.members(answer.value).get("serverInfo")
        self.server_info = jsonrpc.decode(info) if info else {}

    def _ended(self, life: int, how: str) -> None:
        """The process is gone, or as good as gone."""
        if life != self._life or self._child is None:
            return  # of an earlier life, or ended by us
        child, self._child = self._child, None
        self._stderr = child.stderr_tail()
        self.last_error = f"the process {how}"
        # Not Unavailable: the calls in flight had been sent, and nobody knows whether they were run.
        self._mux.fail(UpstreamBrokeProtocol(self.last_error, pid=child.pid, stderr=self._stderr[-5:]).at(self._name))
        self._sweep = asyncio.ensure_future(child.end(self._options.stop_grace_s))  # whatever it left behind
        if self.state is State.READY:
            self._pause()

    async def _fail_start(self, error: BasculeError) -> None:
        self.last_error = error.message
        await self._kill()
        self._pause()

    def _pause(self) -> None:
        """Wait before the next try, longer each time; after too many, only a call tries again."""
        now = time.monotonic()
        self._crashes.append(now)
        looping = len(self._crashes) == _CRASHES and now - self._crashes[0] < _CRASH_WINDOW_S
        pause_s = _COOL_DOWN_S if looping else self._pause_s
        self._pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2)
        self._retry_at = now + pause_s
        self._enter(State.FAILED if looping else State.DOWN)
        log.warning("%s: %s; %s", self._name, self.last_error, self._prospect(pause_s, looping=looping))
        if not looping and self._options.start == "eager":
            self._revival = asyncio.get_running_loop().call_later(pause_s, self._revive)

    def _prospect(self, pause_s: float, *, looping: bool) -> str:
        if looping:
            return f"{_CRASHES} times within {_CRASH_WINDOW_S:g} s, so the next try is a call after {pause_s:g} s"
        return f"next try in {pause_s:g} s" + (f"; it said: {self.stderr[-1]}" if self.stderr else "")

    def _revive(self) -> None:
        self._retry_at = None
        if self.state is State.DOWN and self._starting is None:
            self._starting = asyncio.ensure_future(self._start())
            self._starting.add_done_callback(self._started)

    def _why_down(self) -> Unavailable:
        error = Unavailable(f"is down: {self.last_error}", stderr=list(self.stderr)[-5:])
        error.retry_after_s = self.retry_in_s
        error.at(self._name)
        return error

    def _enter(self, state: State) -> None:
        self.state = state
        self._changed_at = time.monotonic()
        if state in (State.READY, State.IDLE):
            self._retry_at = None

    async def rest(self) -> None:
        """End the process for want of work; the next call starts it again."""
        self._enter(State.IDLE)
        await self._kill()

    async def stop(self) -> None:
        if self._revival is not None:
            self._revival.cancel()
        if self._starting is not None:
            self._starting.cancel()
        self._enter(State.STOPPED)
        await self._kill()

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            self._stderr = child.stderr_tail()
            self._mux.fail(Unavailable("is being stopped").at(self._name))
            self._leaving = child
            await child.end(self._options.stop_grace_s)
            self._leaving = None
        if self._sweep is not None:
            await self._sweep

    def _write(self, line: bytes) -> None:
        if self._child is None:
            raise Unavailable("is not running").at(self._name)
        self._child.write(line)


def _server_info(discovered: Raw) -> Mapping[str, Any]:
    info = modern.meta_of(jsonrpc.members(discovered)).get(modern.SERVER_INFO)
    return jsonrpc.decode(info) if info else {}
