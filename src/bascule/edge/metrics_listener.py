"""`/metrics` on a socket of its own, where nobody is asked who they are: for Prometheus beside us, or in our network.

Bound to this machine it answers to the names of this machine alone: a web page that has another name resolve to
127.0.0.1 gets nothing. Bound elsewhere, which an operator has to say, it answers to whoever reaches it.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from uvicorn.server import ServerState

from bascule.config import is_loopback
from bascule.edge import engine
from bascule.edge.door import LOOPBACK, Refused, hostname, read_head
from bascule.edge.http import Scope
from bascule.edge.replies import Receive, respond
from bascule.edge.streams import Send
from bascule.errors import ConfigInvalid

Scrape: TypeAlias = Callable[[str], Awaitable[tuple[str, bytes]]]  # the Accept header -> (content type, body)

PATH: Final = "/metrics"
_MOST_CONNECTIONS: Final = 32
_PLAIN: Final = (b"content-type", b"text/plain; charset=utf-8")


class MetricsListener:
    """A second, smaller server in the same loop."""

    def __init__(self, host: str, port: int, scrape: Scrape) -> None:
        """Binds at once. Raises ConfigInvalid when the address cannot be had."""
        self._scrape = scrape
        self._local = is_loopback(host)
        self._socket = _bound(host, port)
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return host, port

    async def start(self) -> None:
        config = engine.settings(self, limit_concurrency=_MOST_CONNECTIONS)
        config.load()
        make: Any = config.http_protocol_class
        self._server = await asyncio.get_running_loop().create_server(
            lambda: make(config=config, server_state=self._state, app_state={}), sock=self._socket
        )

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        self._socket.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve(scope, send)
        except Refused as refused:
            await respond(send, refused.status, [_PLAIN, *refused.headers], f"{refused.reason}\n".encode())

    async def _serve(self, scope: Scope, send: Send) -> None:
        head = read_head(scope["headers"])
        if self._local and hostname(head.get("host", "")) not in LOOPBACK:
            raise Refused(421, "only this machine is served here; metrics.listen says where")
        if scope["path"] != PATH:
            raise Refused(404, f"there is nothing here but {PATH}")
        if scope["method"] not in ("GET", "HEAD"):
            raise Refused(405, f"{PATH} is read with GET", [(b"allow", b"GET, HEAD")])
        kind, body = await self._scrape(head.get("accept", ""))
        said = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
        await respond(send, 200, said, body if scope["method"] == "GET" else b"")


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigInvalid(f"cannot listen on {host}:{port}: {error.strerror}", field="metrics.listen") from error
    return sock
