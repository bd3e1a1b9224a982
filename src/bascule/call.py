"""The frozen values that travel the pipeline: who calls, what is called, what came back."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec
from msgspec import Raw

from bascule.policy.scopes import UNLIMITED, Authority
from bascule.wire.jsonrpc import NOTHING, Id, Params
from bascule.wire.versions import Era, Revision
from bascule.wire.wishes import NO_WISHES, Wishes

if TYPE_CHECKING:
    from bascule.contract.model import Contract
    from bascule.observe.traces import CallSpan
    from bascule.store.journal import Yes
    from bascule.upstream.base import Upstream


class Caller(msgspec.Struct, frozen=True, eq=False):
    """Who calls, and what they may do. The name is the identity: two callers of one name are one caller.

    What they may do comes with each request, from the credential it carries, and may change in between.
    """

    name: str
    authority: Authority = Authority()
    roles: frozenset[str] = frozenset()
    attributes: Mapping[str, Any] = msgspec.field(default_factory=dict)  # facts for rules, such as `email`
    proof: str = ""  # how it is known: "key", "token", "introspection", "certificate", "bearer", "anonymous"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Caller) and other.name == self.name

    def __ne__(self, other: object) -> bool:
        return not self == other  # a Struct brings one of its own, which compares identities

    def __hash__(self) -> int:
        return hash(self.name)


ANONYMOUS = Caller("anonymous", UNLIMITED, proof="anonymous")
BEARER = Caller("bearer", UNLIMITED, proof="bearer")
BASCULE = Caller("bascule", UNLIMITED)  # the gateway's own housekeeping: listing, watching


class Result(msgspec.Struct, frozen=True):
    """What an MCP server answered, byte for byte: a result, or a JSON-RPC error when *refused*."""

    value: Raw
    refused: bool = False
    warnings: tuple[str, ...] = ()  # what the stages say of the call beside its result
    cost_usd: float | None = None  # what it cost, where that is known


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
    version: str = ""  # that the client's name for it asks for


class Question(msgspec.Struct, frozen=True):
    """What a person has to say yes to before a call may go."""

    rule: str  # that asks, such as `confirm_gate`
    message: str
    four_eyes: bool = False  # it has to be another person than the one at the calling client


class Trip:
    """How far a call has come: written by the stages that it passes, read by those that sent it on its way.

    A frozen call cannot tell a stage further out what happened to it further in; this does.
    """

    __slots__ = (
        "approval",
        "asked",
        "attempts",
        "cached",
        "call_id",
        "contract",
        "cost_nano_usd",
        "counted",
        "due",
        "listed",
        "overdue",
        "record",
        "replayed",
        "rule",
        "seconds",
        "sent",
        "served_by",
        "server",
        "span",
    )

    def __init__(self) -> None:
        self.contract: Contract | None = None  # of what was called, once that is known
        self.rule = ""  # the guardrail or gate that decided, such as `guardrails.2`
        self.approval = ""  # the id of the yes that lets it through
        self.record = ""  # its id in the journal
        self.call_id = ""  # under which its intent is in the audit
        self.counted = False  # in its session
        self.sent = False  # whether its server may have seen it
        self.attempts = 0  # to send it
        self.due: float | None = None  # when it ends at the latest, by the clock of the event loop
        self.overdue = False  # its server's time is over; that of a caller who is in a hurry does not count
        self.seconds = 0.0  # that the server took, all attempts together
        self.cost_nano_usd = 0  # that was paid for it
        self.asked = False  # whether its server has asked the client something
        self.server = ""  # where it goes, whatever namespace its name is in
        self.served_by = ""  # the server that answered in the place of the one that was called
        self.replayed = False
        self.cached = False
        self.span: CallSpan | None = None  # where calls are traced
        self.listed = False  # by its server: the name of what was called is not made up


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
    trace_id: str = ""  # 32 hex digits, of the client's `traceparent` or our own
    target: Target | None = None  # set by the `resolve` stage
    contract: "Contract | None" = None  # set by the `govern` stage, for what has one
    trip: Trip = msgspec.field(default_factory=Trip)
    wishes: Wishes = NO_WISHES
    question: Question | None = None  # set by the `guard` stage; the `confirm` stage lets it through with a yes alone
    yes: "Yes | None" = None  # the confirmation that is used up when it goes out
    args: Any = None  # the arguments as Python values, set by the first stage that had to decode them

    @property
    def era(self) -> Era:
        return self.revision.era

    @property
    def arguments(self) -> bytes | None:
        """The arguments as their client wrote them."""
        raw = self.params.get("arguments")
        return None if raw is None else bytes(raw)


Forward: TypeAlias = Callable[[Call], Awaitable[Result]]
