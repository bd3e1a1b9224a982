"""The socket and the process: uvicorn around a gateway, signals, start and end."""

import asyncio
import contextlib
import errno
import gc
import logging
import math
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from types import FrameType
from typing import Any, Final

import uvicorn

from bascule.app import Gateway
from bascule.edge import engine
from bascule.edge.tls import uvicorn_options
from bascule.errors import ConfigInvalid
from bascule.upstream.process import kill_all

log = logging.getLogger("bascule")


HANDSHAKE_WITHIN_S: Final = 10.0  # of TLS; asyncio would wait for a minute
_LAST_WORDS_S: Final = 8.0  # for calls that were cancelled: a server that is told may still answer, and it is recorded
_LAST_STEPS_S: Final = 2.0  # for what has to be done even when nobody waits any more
_FLUSH_S: Final = 5  # for the last answers to leave
_SAME_S: Final = 0.25  # of a terminal, the whole group hears Ctrl-C, and what started us may pass it on once more


def bind(host: str, port: int) -> socket.socket:
    """A bound socket. Raises ConfigInvalid when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, because asyncio turns off delays (TCP_NODELAY) only where it sees TCP: an answer would wait 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        option = "port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
        raise ConfigInvalid(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --{option}", field=f"http.{option}"
        ) from error
    return sock


class GatewayServer(uvicorn.Server):
    """Tells when it is up, and ends the gateway in an order that loses nothing (docs/operations.md, "Signals")."""

    def __init__(self, gateway: Gateway, up: Callable[[], None], waiting: Callable[[int], None] | None = None) -> None:
        """*waiting* is told how many calls the person who wants it to end has to wait for."""
        super().__init__(_settings(gateway))
        self._gateway = gateway
        self._up = up
        self._waiting = waiting
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told_by: int | None = None  # the first signal to end
        self._told_at = 0.0
        self._at_once = asyncio.Event()  # a person has lost patience

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await self._gateway.start()
        self._gateway.edge.pressure.start(lambda: self._gateway.config.overload)
        await self._listen(sockets or ())
        # What is loaded by now stays. Left to the collector, it would be walked through again and
        # again, and each full walk is a pause of 20 ms for whoever calls at that moment.
        gc.collect()
        gc.freeze()
        self._up()

    async def _listen(self, sockets: Sequence[socket.socket]) -> None:
        """As uvicorn does it, but for one thing: it sets no bound on how long a TLS handshake may take."""
        loop = asyncio.get_running_loop()
        tls = self.config.ssl
        within_s = None if tls is None else HANDSHAKE_WITHIN_S
        self.servers = [
            await loop.create_server(
                self._protocol, sock=each, ssl=tls, backlog=self.config.backlog, ssl_handshake_timeout=within_s
            )
            for each in sockets
        ]
        self.started = True

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        made: asyncio.Protocol = make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made

    # ---- signals

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Without uvicorn's last step, which raises the signal again: an end that was asked for is no failure."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks for an end, another SIGINT for one at once."""
        if self._told_by is None:
            self._told_by, self._told_at = sig, time.monotonic()
            self.should_exit = True
        elif sig == signal.SIGINT and time.monotonic() - self._told_at > _SAME_S and self._loop is not None:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self._at_once.set)

    # ---- the end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        edge, times = self._gateway.edge, self._gateway.config.drain
        edge.leave()
        if self._told_by == signal.SIGTERM:  # else a person waits, and no balancer
            log.info("ends: not ready from now on, serves for %g s more", times.delay_s)
            await self._unless_at_once(asyncio.sleep(times.delay_s), math.inf)
        edge.drain()
        if self._waiting is not None and self._told_by == signal.SIGINT and edge.flights:
            self._waiting(len(edge.flights))
        await self._unless_at_once(edge.flights.landed(), times.calls_s)
        if late := edge.flights.strike():
            log.warning("%d calls did not end in time, and were cancelled", late)
            await self._unless_at_once(edge.flights.landed(), _LAST_WORDS_S)
            await _within(edge.flights.landed(), _LAST_STEPS_S)  # nobody is so impatient that a journal may be wrong
        await super().shutdown(sockets)
        edge.pressure.stop()
        await self._stop_gateway()

    async def _stop_gateway(self) -> None:
        """End what is behind us; a person who has lost patience waits for no server."""
        stopping = asyncio.ensure_future(self._gateway.stop())
        try:
            await self._unless_at_once(asyncio.shield(stopping), math.inf)
        finally:
            if self._at_once.is_set():
                kill_all()
                await _within(stopping, _LAST_STEPS_S)
            else:
                await stopping

    async def _unless_at_once(self, work: Coroutine[Any, Any, None] | asyncio.Future[None], most_s: float) -> None:
        """Wait for *work*, at most so long, and only while nobody has lost patience."""
        ends = [asyncio.ensure_future(work), asyncio.ensure_future(self._at_once.wait())]
        timeout = None if most_s == math.inf else most_s
        try:
            await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in ends:
                each.cancel()


async def _within(work: Coroutine[Any, Any, None] | asyncio.Future[None], seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await work


def _settings(gateway: Gateway) -> uvicorn.Config:
    return engine.settings(
        gateway.edge, **uvicorn_options(gateway.tls), backlog=2048, timeout_graceful_shutdown=_FLUSH_S
    )


async def serve(
    gateway: Gateway,
    sock: socket.socket,
    *,
    up: Callable[[], None],
    reload: Callable[[], Awaitable[None]] | None = None,
    watch: Callable[[], Awaitable[None]] | None = None,
    waiting: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. SIGHUP calls *reload*; *watch* runs alongside; *waiting*: see GatewayServer."""
    tasks: list[asyncio.Future[Any]] = []
    if watch is not None:
        tasks.append(asyncio.ensure_future(watch()))
    server = GatewayServer(gateway, up, waiting)

    def hang_up() -> None:
        """SIGHUP: read the configuration again; without one, the terminal is gone and so are we."""
        if reload is None:
            server.handle_exit(signal.SIGHUP, None)
        else:
            tasks.append(asyncio.ensure_future(reload()))

    # Under nohup the signal is ignored, and stays so unless there is something to reload.
    if hasattr(signal, "SIGHUP") and (reload is not None or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)
    try:
        await server.serve([sock])
    finally:
        for task in tasks:
            task.cancel()


def run(main: Awaitable[None]) -> None:
    """Run *main* on uvloop where it exists."""
    try:
        import uvloop
    except ImportError:
        factory = asyncio.new_event_loop
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_as_coroutine(main))


async def _as_coroutine(main: Awaitable[None]) -> None:
    await main
