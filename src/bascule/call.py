"""The frozen values that travel the pipeline: who calls, what is called, what came back."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec
from msgspec import Raw

from bascule.wire.jsonrpc import NOTHING, Id, Params
from bascule.wire.versions import Era, Revision

if TYPE_CHECKING:
    from bascule.upstream.base import Upstream


class Caller(msgspec.Struct, frozen=True):
    """Who calls. Until callers are configured there are two: anyone, and the bearer of the token."""

    name: str


ANONYMOUS = Caller("anonymous")
BEARER = Caller("bearer")
BASCULE = Caller("bascule")  # the gateway's own housekeeping: listing, watching


class Result(msgspec.Struct, frozen=True):
    """What an MCP server answered, byte for byte: a result, or a JSON-RPC error when *refused*."""

    value: Raw
    refused: bool = False


class Client(Protocol):
    """The way back to a client: for one call its own stream, for a session its standing one."""

    def notify(self, method: str, params: Params) -> None:
        """Hand over a notification. Never blocks; a client that stopped reading loses its stream."""
        ...

    async def ask(self, method: str, params: Params) -> Result:
        """Send the client a request and wait for its answer. Raises Unavailable if it cannot be reached."""
        ...


class Session(Client, Protocol):
    """A legacy client's session, as upstreams see it."""

    id: str
    family: str  # sessions of one family answer for one another; most are a family of one
    caller: Caller
    revision: Revision
    hello: Params  # the parameters of its `initialize`
    capabilities: Mapping[str, Any]

    def announce(self, method: str, params: Params) -> None:
        """Hand over a notification of Bascule's own, which `notify` would leave to the aggregate."""
        ...


class Target(msgspec.Struct, frozen=True):
    """Where a call goes: the server, and the parameters under the server's own names."""

    upstream: "Upstream"
    params: Params


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request on its way."""

    caller: Caller
    client: Client
    revision: Revision
    method: str
    params: Params = msgspec.field(default_factory=dict)
    id: Id = NOTHING  # as the client wrote it
    session: Session | None = None  # legacy only
    view: str = ""  # the server whose own endpoint was called; "" for the aggregate
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    target: Target | None = None  # set by the `resolve` stage

    @property
    def era(self) -> Era:
        return self.revision.era


Forward: TypeAlias = Callable[[Call], Awaitable[Result]]
