"""The socket and the process: uvicorn around a gateway, signals, start and end."""

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import uvicorn

from bascule.app import Gateway
from bascule.edge.tls import uvicorn_options
from bascule.errors import ConfigInvalid

log = logging.getLogger("bascule")


_LAST_CALLS_S: Final = 9.0  # of the 10 s that uvicorn leaves to connections


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
    sock.set_inheritable(True)
    return sock


class GatewayServer(uvicorn.Server):
    """Tells when it is up, and lets the gateway go first when it goes down."""

    def __init__(self, gateway: Gateway, up: Callable[[], None]) -> None:
        super().__init__(_settings(gateway))
        self._gateway = gateway
        self._up = up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._gateway.start()
        await super().startup(sockets)
        # What is loaded by now stays. Left to the collector, it would be walked through again and
        # again, and each full walk is a pause of 20 ms for whoever calls at that moment.
        gc.collect()
        gc.freeze()
        self._up()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Without uvicorn's last step, which raises the signal again: an end that was asked for is no failure."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Streams would keep uvicorn waiting; the gateway ends them, and its children with them.
        self._gateway.edge.drain()
        cutting = asyncio.ensure_future(self._cut_off_late_calls())
        await super().shutdown(sockets)
        cutting.cancel()
        await self._gateway.stop()

    async def _cut_off_late_calls(self) -> None:
        """Calls get an answer, if only that their server was stopped, before uvicorn cuts their connections."""
        await asyncio.sleep(_LAST_CALLS_S)
        await self._gateway.cut_off()


def _settings(gateway: Gateway) -> uvicorn.Config:
    """uvicorn as a plain HTTP engine: what it would log, add or upgrade is done by us or not at all."""
    return uvicorn.Config(
        gateway.edge,
        loop="none",
        **uvicorn_options(gateway.tls),
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )


async def serve(
    gateway: Gateway,
    sock: socket.socket,
    *,
    up: Callable[[], None],
    reload: Callable[[], Awaitable[None]] | None = None,
    watch: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. SIGHUP calls *reload*; *watch* runs alongside."""
    tasks: list[asyncio.Future[Any]] = []
    if watch is not None:
        tasks.append(asyncio.ensure_future(watch()))
    server = GatewayServer(gateway, up)

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
