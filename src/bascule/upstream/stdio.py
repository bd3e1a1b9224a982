"""A local MCP server: a command that we start, share, restart and end.

One process serves every client of one era (`sharing: shared`), because SDK servers settle their era
with the first message they get. Source: MCP 2026-07-28 and 2025-11-25, "stdio".
"""

import asyncio
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from bascule.call import ANONYMOUS, BASCULE, Call, Result, Session
from bascule.errors import BasculeError, UnsupportedVersion
from bascule.options import Bytes, Count, Options, Seconds
from bascule.options_sandbox import SandboxOptions
from bascule.upstream.base import State, Status, WrongEra
from bascule.upstream.launch import launch
from bascule.upstream.sandbox import Machine
from bascule.upstream.shared import SHARED_EFFECTS
from bascule.upstream.supervisor import Key, SpeaksLegacy, SpeaksModern, Supervisor
from bascule.upstream.untried import Untried
from bascule.upstream.verdict import ONLY_LEGACY, ONLY_MODERN, PERHAPS_BOTH, Eras, Verdict
from bascule.wire import headers, legacy, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import Era

# The state that is shown, of several processes: the worst.
_GRAVITY: Final = (State.IDLE, State.STOPPED, State.READY, State.STARTING, State.DOWN, State.FAILED)


class StdioOptions(Options, frozen=True):
    """A server that Bascule starts: `command` and `args`, as in any `mcpServers` file."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    cwd: str | None = None
    sandbox: Literal["off", "auto", "required"] | SandboxOptions = "off"
    runtime: Literal["process", "docker"] = "process"
    image: str | None = None  # of the container, where `runtime` is docker; `command` and `args` run in it
    names: Literal["prefixed", "own"] = "prefixed"  # own: a tool `document__compare` is `document/compare`
    pass_environment: bool = False  # the child sees all of Bascule's environment, secrets included
    start: Literal["eager", "lazy"] = "eager"
    sharing: Literal["shared", "per_caller", "per_session"] = "shared"
    era: Literal["auto", "legacy", "modern"] = "auto"
    required: bool = False  # /health/ready is 503 while this server is down
    trusted: bool = False  # what it says of its tools' side effects, and the contracts it declares, are believed
    trust: Literal["auto", "pin", "review"] = "pin"  # which of the definitions that it lists need an approval
    call_timeout_s: Seconds = 60.0  # without a sign of life: progress, or a question, starts it anew
    fallback: str | None = None  # the server that takes over while this one fails, for tools of the same contract
    deduplicates: bool = False  # runs calls that have the same key once by itself, so that keys are passed on to it
    start_timeout_s: Seconds = 60.0  # `npx -y` may have to download first
    idle_stop_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # stop after so long without a call; 0 = never
    stop_grace_s: Seconds = 5.0  # from the end of its input to SIGTERM; as long again, at most 3 s, to SIGKILL
    max_message_bytes: Bytes = 4 * 1024 * 1024
    max_processes: Count = 32  # of one server, when it is not shared

    def __post_init__(self) -> None:
        """Raises ValueError for values that do not go together."""
        if self.runtime == "docker" and not self.image:
            raise ValueError("`runtime: docker` needs an `image`")
        if self.runtime != "docker" and self.image is not None:
            raise ValueError("`image` is for `runtime: docker`")
        mode = self.sandbox if isinstance(self.sandbox, str) else self.sandbox.mode
        if self.pass_environment and (mode != "off" or self.runtime == "docker"):
            raise ValueError("`pass_environment` does not go with a sandbox: declare in `env` what the server needs")


class StdioUpstream:
    """An upstream made of child processes: one for each era in use and, unless shared, for each user."""

    def __init__(
        self,
        name: str,
        options: StdioOptions,
        environ: Mapping[str, str] | None = None,
        *,
        machine: Machine | None = None,
        hidden: Sequence[Path] = (),
    ) -> None:
        """*machine*: what there is for walls, if not what this one has; *hidden*: what nobody within them ever sees."""
        self.name = name
        self._options = options
        self._launch = partial(launch, options, os.environ if environ is None else environ, machine, hidden)
        self._servers: dict[Key, Supervisor] = {}
        self._verdict = Verdict(options.era, self._probe)
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: set[asyncio.Future[None]] = set()  # servers of an era that proved wrong, as they end

    @property
    def spare(self) -> int | None:
        return self._most - len(self._servers) if self._options.sharing == "per_session" else None

    @property
    def _most(self) -> int:
        return max(2, self._options.max_processes)

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
        self._verdict.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._leaving, *(server.stop() for server in self._servers.values()))

    async def eras(self) -> Collection[Era]:
        if self._verdict.fixed and not self._servers:
            await self._server((next(iter(await self._verdict.ask())), "")).ready()
        return await self._verdict.ask()

    async def _probe(self) -> Eras:
        """Ask the server itself, in the order of MCP 2026-07-28, stdio, "Backward Compatibility"."""
        old = self._servers.get((Era.LEGACY, ""))  # probed before, but its handshake failed
        if old is not None:
            await self._ready(old)
            return ONLY_LEGACY
        server = self._server((Era.MODERN, ""))
        try:
            await server.ready()
        except SpeaksLegacy:
            try:
                await self._ready(self._go_on(server, Era.LEGACY))
            except WrongEra:
                return ONLY_MODERN  # it was only too slow for the probe
            return ONLY_LEGACY
        return PERHAPS_BOTH

    def _go_on(self, server: Supervisor, era: Era) -> Supervisor:
        """The one that serves in *era* whom *server* served: itself, with its process, if there is none yet."""
        self._drop(server)
        key = era, server.key[1]
        if key in self._servers:
            leaving = asyncio.ensure_future(server.stop())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        else:
            server.key = key
            self._servers[key] = server
        return self._servers[key]

    async def _ready(self, server: Supervisor) -> None:
        """Wait until *server* can be called. Raises WrongEra, with the verdict corrected, if it speaks another era."""
        try:
            await server.ready()
        except SpeaksLegacy as error:
            self._verdict.settle(ONLY_LEGACY)
            if server.key[0] is Era.MODERN:  # else another call has learnt it before us
                self._go_on(server, Era.LEGACY)
            raise WrongEra(error.message).at(self.name) from error
        except SpeaksModern as error:
            self._verdict.settle(ONLY_MODERN)
            if server.key[0] is Era.LEGACY and server.probed:
                self._go_on(server, Era.MODERN)
            elif server.key[0] is Era.LEGACY:
                # SDK servers settle their era with the first message, and that was `initialize`.
                self._drop(server)
                await server.stop()
            raise WrongEra(error.message).at(self.name) from error

    def _drop(self, server: Supervisor) -> None:
        if self._servers.get(server.key) is server:  # several calls may have learnt it at the same time
            del self._servers[server.key]

    async def send(self, call: Call) -> Result:
        assert call.target is not None
        if call.method == legacy.INITIALIZE and call.session is not None:
            return Result((await self._attach(call.session)).greeting)
        server = self._for(call.era, call.session, call)
        if server.state is not State.READY:
            await self._ready(server)
        if call.session is not None:
            server.attached.add(call.session)
            if call.method in SHARED_EFFECTS:
                return await server.attached.local(call.session, call.method, call.target.params)
        result = await server.request(call, call.target.params)
        if result.refused and call.session is None and modern.error_code(result.value) == UnsupportedVersion.code:
            server.doubt()
            await self._ready(server)  # if it proves to be modern, it refuses this call for a reason of its own
        return result

    async def _attach(self, session: Session, *, watching: bool = False) -> Supervisor:
        server = self._for(Era.LEGACY, session)
        if server.private:
            server.attached.add(session)  # some servers ask for roots as soon as hands are shaken
        await self._ready(server)
        server.attached.add(session, watching=watching)
        return server

    async def tell(self, session: Session, method: str, params: Params) -> None:
        server = self._servers.get(self._key(Era.LEGACY, session))
        # `initialized` was said once for all at the start; a cancellation names ids that only we know.
        if server is not None and server.state is State.READY and method not in (legacy.INITIALIZED, legacy.CANCELLED):
            server.tell(method, params)

    async def watch(self, session: Session) -> None:
        await self._attach(session, watching=True)

    async def forget(self, session: Session) -> None:
        server = self._servers.get(self._key(Era.LEGACY, session))
        if server is None:
            return
        if self._options.sharing == "per_session":
            self._drop(server)
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
            sandbox=worst.sandbox if worst else None,
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

    def _for(self, era: Era, session: Session | None, call: Call | None = None) -> Supervisor:
        return self._server(self._key(era, session, call), session)

    def _server(self, key: Key, session: Session | None = None) -> Supervisor:
        if self._stopped:
            raise Untried("is stopped").at(self.name)
        server = self._servers.get(key)
        if server is None:
            if len(self._servers) >= self._most and not self._made_room():
                raise Untried(f"already runs max_processes={self._options.max_processes}").at(self.name)
            own = session if session is not None and key[1] == session.id else None
            server = self._servers[key] = Supervisor(self.name, key, self._options, self._launch, own)
        return server

    def _made_room(self) -> bool:
        """Whether a process could be ended that only stateless clients used, and none uses now."""
        idle = [server for server in self._servers.values() if server.expendable]
        if idle:
            longest = max(idle, key=lambda server: server.idle_s)
            del self._servers[longest.key]
            self._spawn_task(longest.stop())
        return bool(idle)

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
