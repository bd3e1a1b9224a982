"""One local server in one era: started, shaken hands with, brought back when it dies, ended.

Source: MCP 2026-07-28, stdio, "Backward Compatibility" and "Unexpected Termination".
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw

from bascule.call import BASCULE, Call, Result, Session
from bascule.errors import BasculeError, TimedOut, Unavailable, UpstreamBrokeProtocol
from bascule.upstream.base import INFO, State, shared
from bascule.upstream.multiplexer import Multiplexer
from bascule.upstream.process import Child
from bascule.upstream.sandbox import Launch, complaint
from bascule.upstream.shared import NOBODY, Attached
from bascule.upstream.untried import Untried
from bascule.upstream.verdict import era_told_by
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import LATEST_LEGACY, LATEST_MODERN, Era

if TYPE_CHECKING:
    from bascule.upstream.stdio import StdioOptions

log = logging.getLogger("bascule.upstream")

_CRASHES: Final = 5  # within _CRASH_WINDOW_S: from then on only a call starts the server again
_CRASH_WINDOW_S: Final = 60.0
_COOL_DOWN_S: Final = 30.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
_PROBE_S: Final = 3.0  # a server that is silent to the probe for so long gets the old handshake

Key = tuple[Era, str]


class OtherEra(Unavailable):
    """The server itself says that it speaks another era than the one it was started for."""


class SpeaksLegacy(OtherEra):
    """The probe's verdict: this server wants the handshake."""


class SpeaksModern(OtherEra):
    """The handshake's verdict: this server knows only the stateless protocol."""


class Supervisor:
    """One process at a time, in one era, brought back when it dies."""

    def __init__(
        self,
        name: str,
        key: Key,
        options: "StdioOptions",
        launch: Callable[[], Launch],
        session: Session | None = None,
    ) -> None:
        """*launch* says how a process is started; it blocks. *session*: the only one it will ever serve, if known."""
        self.key = key
        self.state = State.IDLE
        self.restarts = 0
        self.last_error: str | None = None
        self.greeting: Raw = jsonrpc.NOTHING
        self.server_info: Mapping[str, Any] = {}
        self.sandbox: str | None = None  # what is around the present process, or was around the last
        self.attached = Attached(self)
        self._name = name
        self._options = options
        self._launch = launch
        self._session = session
        self._child: Child | None = None
        self._launched: dict[Child, Launch] = {}
        self._leaving: Child | None = None  # told to end, and not gone yet
        self._stderr: Sequence[str] = ()
        self._mux = Multiplexer(name, self._write, self.attached)
        self.probed = False  # the present process has been asked server/discover
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
    def private(self) -> bool:
        """Whether it serves one session only, and always will."""
        return self._session is not None

    @property
    def expendable(self) -> bool:
        """Whether it is only there for stateless clients, which will not miss it, and none of them uses it now."""
        stateless = self._session is not None and self._session.family != self._session.id
        return stateless and self.idle_s > 0

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
            raise Untried("is stopped").at(self._name)
        if self.state in (State.DOWN, State.FAILED) and (self.retry_in_s or 0) > 0:
            raise self._why_down(Untried)
        # Shielded: one impatient caller must not stop the start that the others wait for.
        await shared(self._starting or self._begin(), self._name)

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

    def _begin(self) -> "asyncio.Future[None]":
        self._starting = asyncio.ensure_future(self._start())
        self._starting.add_done_callback(self._started)
        return self._starting

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
        except OtherEra as told:
            if self._options.era == "auto":
                self._enter(State.IDLE)  # and lives on, for whoever corrects the verdict
                raise
            told.message += f", but its configuration says `era: {self._options.era}`"
            await self._fail_start(told)
            raise self._why_down() from told
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
        launch = await self._furnished()
        self.sandbox = launch.sandbox
        self._life += 1
        self.probed = False
        try:
            self._child = await Child.spawn(
                launch.command,
                env=launch.env,
                cwd=launch.cwd,
                limits=launch.limits,
                relayed=launch.relayed,
                max_line_bytes=self._options.max_message_bytes,
                on_line=self._mux.receive,
                on_overlong=self._mux.overlong,
                on_exit=partial(self._ended, self._life),
            )
        except (Unavailable, asyncio.CancelledError):
            await asyncio.to_thread(launch.end)
            raise
        self._launched[self._child] = launch

    async def _furnished(self) -> Launch:
        """How the process is to be started; what was made for one that is not wanted any more is removed."""
        making = asyncio.ensure_future(asyncio.to_thread(self._launch))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.wait([making])
            if making.exception() is None:
                await asyncio.to_thread(making.result().end)
            raise
        except BasculeError as error:
            raise error.at(self._name) from None

    async def _open_modern(self) -> None:
        """Probe with server/discover. A server that answers the old way, or not at all, speaks legacy."""
        patience_s = self._options.start_timeout_s
        if self._options.era != "modern":
            patience_s = min(_PROBE_S, patience_s / 2)  # the handshake needs its share of the time
        found = await self._discover(patience_s)
        if era_told_by(found) is Era.LEGACY:
            raise SpeaksLegacy("does not answer server/discover as a stateless server does").at(self._name)
        if not found.refused:
            self.greeting = found.value
            self.server_info = modern.server_info(jsonrpc.members(found.value))

    async def _discover(self, patience_s: float) -> Result:
        """The answer to server/discover. Raises SpeaksLegacy when there is none."""
        self.probed = True
        try:
            async with asyncio.timeout(patience_s):
                return await self.own(modern.DISCOVER, modern.stamp({}, info=INFO, capabilities={}))
        except TimeoutError:
            raise SpeaksLegacy("is silent to server/discover").at(self._name) from None
        except UpstreamBrokeProtocol as error:
            # Some old servers die of a request that comes before `initialize`.
            raise SpeaksLegacy("ended at server/discover").at(self._name) from error

    async def _open_legacy(self) -> None:
        # Who serves one session alone is offered what that client offers, and nothing else.
        ours = legacy.initialize_params(INFO, legacy.RELAYED_CAPABILITIES)
        answer = await self.own(legacy.INITIALIZE, self._session.hello if self._session else ours)
        if answer.refused:
            configured = self._options.era != "auto"
            if not configured and await self._is_modern(answer):
                raise SpeaksModern("refuses the handshake, and speaks the stateless protocol only").at(self._name)
            wanted = ", which its `era: legacy` asks for" if configured else ""
            raise Unavailable(f"refused the handshake{wanted}: {modern.error_message(answer.value)}").at(self._name)
        self.tell(legacy.INITIALIZED, {})
        self.greeting = answer.value
        self.server_info = legacy.server_info(jsonrpc.members(answer.value))

    async def _is_modern(self, refusal: Result) -> bool:
        """Whether the handshake was refused because there is none; what the code does not say, the probe does."""
        if modern.error_code(refusal.value) in modern.ERROR_CODES:
            return True
        try:
            return era_told_by(await self._discover(_PROBE_S)) is Era.MODERN
        except SpeaksLegacy:
            return False

    def doubt(self) -> None:
        """Have the process prove its era once more before the next call."""
        if self.state is State.READY:
            self._enter(State.IDLE)

    def _ended(self, life: int, how: str) -> None:
        """The process is gone, or as good as gone."""
        if life != self._life or self._child is None:
            return  # of an earlier life, or ended by us
        child, self._child = self._child, None
        self._stderr = child.stderr_tail()
        self.last_error = complaint(child.exit_code, self._stderr) or f"the process {how}"
        # Not Unavailable: the calls in flight had been sent, and nobody knows whether they were run.
        self._mux.fail(UpstreamBrokeProtocol(self.last_error, pid=child.pid, stderr=self._stderr[-5:]).at(self._name))
        self._sweep = asyncio.ensure_future(self._end(child))  # whatever it left behind
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
            return f"failed {_CRASHES} times within {_CRASH_WINDOW_S:g} s; left alone for {pause_s:g} s"
        again = f"next try in {pause_s:g} s" if self._options.start == "eager" else "the next call starts it again"
        return again + (f"; it said: {self.stderr[-1]}" if self.stderr else "")

    def _revive(self) -> None:
        self._retry_at = None
        if self.state is State.DOWN and self._starting is None:
            self._begin()

    def _why_down(self, kind: type[Unavailable] = Unavailable) -> Unavailable:
        error = kind(f"is down: {self.last_error}", stderr=list(self.stderr)[-5:])
        error.retry_after_s = self.retry_in_s
        error.source = self._name
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
        starting = self._starting
        if starting is not None:
            starting.cancel()
        self._enter(State.STOPPED)
        await self._kill()
        if starting is not None:
            await asyncio.wait([starting])  # it removes what was made for a process that will not be

    async def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            self._stderr = child.stderr_tail()
            self._mux.fail(UpstreamBrokeProtocol("was stopped during the call").at(self._name))
            self._leaving = child
            await self._end(child)
            self._leaving = None
        if self._sweep is not None:
            await self._sweep

    async def _end(self, child: Child) -> None:
        """End it, its family, and what was there for it alone."""
        try:
            await child.end(self._options.stop_grace_s)
        finally:
            if launch := self._launched.pop(child, None):
                await asyncio.to_thread(launch.end)

    def _write(self, line: bytes) -> None:
        if self._child is None:
            raise Unavailable("is not running").at(self._name)
        try:
            self._child.write(line)
        except BasculeError as error:
            raise error.at(self._name) from None
