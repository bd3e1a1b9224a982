"""What a session at a remote server is, whichever transport carries it, and what outlives a loss of it."""

from typing import Final, Protocol

from msgspec import Raw

from bascule.call import Call, Result
from bascule.errors import UpstreamBrokeProtocol
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params

SETTERS: Final = frozenset({"resources/subscribe", "resources/unsubscribe", "logging/setLevel"})


class NoHandshake(UpstreamBrokeProtocol):
    """The server refused `initialize`, so that nothing else has been asked of it. *status* is that of HTTP."""

    def __init__(self, message: str, *, status: int, modern: bool = False) -> None:
        """*modern*: the refusal itself is one that only a stateless server gives."""
        super().__init__(message, http_status=status)
        self.status = status
        self.modern = modern


class Settings:
    """What a session has set at its server, to be set again when the server has forgotten it."""

    def __init__(self) -> None:
        self._level: Raw | None = None
        self._subscribed: dict[bytes, Raw] = {}

    def note(self, method: str, params: Params) -> None:
        """One of SETTERS was carried out."""
        if method == "logging/setLevel":
            self._level = params.get("level")
            return
        uri = params.get("uri", jsonrpc.NOTHING)
        if method == "resources/subscribe":
            self._subscribed[bytes(uri)] = uri
        else:
            self._subscribed.pop(bytes(uri), None)

    def requests(self) -> list[tuple[str, Params]]:
        """What to send to a fresh session."""
        level: list[tuple[str, Params]] = [("logging/setLevel", {"level": self._level})] if self._level else []
        return level + [("resources/subscribe", {"uri": uri}) for uri in self._subscribed.values()]


class Linked(Protocol):
    """One legacy client's session at a remote server."""

    settings: Settings

    @property
    def watching(self) -> bool: ...

    async def greeting(self) -> Raw:
        """The server's InitializeResult; the handshake is made when first needed. Raises NoHandshake."""
        ...

    async def send(self, call: Call, params: Params) -> Result: ...

    async def tell(self, method: str, params: Params) -> None: ...

    def watch(self) -> None:
        """From now on keep up what brings the news, and hand them to the session."""
        ...

    async def close(self) -> None: ...
