"""Spans of calls: begun and ended here, told elsewhere (collector.py), in a thread.

OpenTelemetry's own spans cost a call 20 µs each; these are a few values in a queue, and become what a collector
understands where no call waits for it.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

import msgspec

from bascule.observe import context, semconv
from bascule.observe.batches import Batches
from bascule.observe.context import Parent
from bascule.observe.options import TracingOptions
from bascule.policy.outcome import category_of
from bascule.store.record import Record
from bascule.unhurried import unhurried

if TYPE_CHECKING:
    from bascule.call import Call

Kind: TypeAlias = Literal["server", "client", "internal"]
Fact: TypeAlias = str | int | float | bool

EVERY_S: Final = 1.0  # between two deliveries
_NO_KINDS: Final = {"answered": "", "failed": semconv.TOOL_ERROR}
_MOST_REQUEST_ID: Final = 64  # characters: a client makes it up


class CallSpan:
    """The span of a whole call, while it runs. One that is not *sampled* is passed on, and never told."""

    __slots__ = ("began_ns", "flags", "head", "id", "parent", "sampled", "trace_id")

    def __init__(self, trace_id: str, parent: Parent | None, began_ns: int, *, sampled: bool) -> None:
        self.trace_id = trace_id
        self.parent = parent
        self.sampled = sampled
        self.flags = context.flags_of(parent, sampled=sampled)
        self.id = new_id()
        self.head: Mapping[str, str] = {}  # HTTP headers of the request to its server that is under way
        self.began_ns = began_ns

    @property
    def state(self) -> str:
        return "" if self.parent is None else self.parent.state


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A span that is over."""

    trace_id: str
    id: str
    parent_id: str  # "" for none
    remote: bool = False  # its parent is a span of somebody else
    state: str = ""
    flags: int = 1
    name: str
    kind: Kind
    began_ns: int
    ended_ns: int
    facts: Mapping[str, Fact]
    error: str = ""  # what went wrong, "" if nothing did


class Teller(Protocol):
    """Whoever hears of spans."""

    lost: int  # spans that it could not deliver

    def __call__(self, spans: Sequence[Span]) -> None:
        """Deliver *spans*; called in a thread, raises nothing."""
        ...


class _Over(msgspec.Struct, frozen=True):
    """A call that is over, and has not been made a span of yet."""

    span: CallSpan
    ended_ns: int
    record: Record
    revision: str  # of the protocol
    request_id: bytes
    over_http: bool


class Tracing:
    """Begins and ends spans. Of a call that is not sampled it only passes the trace on."""

    def __init__(
        self,
        tell: Teller,
        *,
        sample: float,
        trusts: Callable[[str], bool] = lambda server: False,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """*tell* delivers spans, in a thread; *sample* is the part of the calls that have any.

        *trusts* tells whether a server may read what clients say to their own services; *clock* gives nanoseconds
        since 1970."""
        self.clock = clock
        self.sample = sample
        self.trusts = trusts
        self._tell = tell
        self._batches: Batches[Span | _Over] = Batches("spans", self._deliver, every_s=EVERY_S)

    @property
    def dropped(self) -> int:
        """Spans that nobody gets to see: there was no room for them, or they could not be delivered."""
        return self._batches.dropped + self._tell.lost

    def close(self) -> None:
        """Deliver what waits. Blocks for some seconds at most."""
        self._batches.close()

    def begin(self, call: "Call") -> CallSpan:
        """The span of *call*, in the trace that everybody else knows it by."""
        parent = context.parent_of(call.params, call.headers)
        if parent is not None and parent.trace_id != call.trace_id:
            parent = None
        sampled = context.is_sampled(call.trace_id, parent, self.sample)
        return CallSpan(call.trace_id, parent, self.clock(), sampled=sampled)

    def end(self, call: "Call", record: Record) -> None:
        """Tell of *call*, which is over, as its *record* does. Never waits, never raises."""
        span = call.trip.span or self.begin(call)
        if span.sampled:
            id = bytes(call.id)[:_MOST_REQUEST_ID]
            self._batches.put(_Over(span, self.clock(), record, call.revision.version, id, bool(call.headers)))

    def tell(
        self, whole: CallSpan, id: str, name: str, kind: Kind, began_ns: int, facts: Mapping[str, Fact], error: str = ""
    ) -> None:
        """Tell of a part of *whole*, the span called *id*, which is over now."""
        if whole.sampled:
            self._batches.put(
                Span(
                    trace_id=whole.trace_id,
                    id=id,
                    parent_id=whole.id,
                    state=whole.state,
                    flags=whole.flags,
                    name=name,
                    kind=kind,
                    began_ns=began_ns,
                    ended_ns=max(began_ns, self.clock()),
                    facts=facts,
                    error=error,
                )
            )

    def _deliver(self, spans: Sequence[Span | _Over]) -> None:
        self._tell([_whole(each) if isinstance(each, _Over) else each for each in unhurried(spans)])


def tracing_of(options: TracingOptions, trusts: Callable[[str], bool]) -> Tracing | None:
    """What traces calls under *options*; None without an endpoint."""
    if options.endpoint is None:
        return None
    from bascule.observe.collector import Collector  # which others need not load

    return Tracing(Collector(options), sample=options.sample, trusts=trusts)


def new_id() -> str:
    # It tells spans apart and nothing else, so it need not be hard to guess; zero is no id.
    return f"{random.getrandbits(64) or 1:016x}"


def _whole(over: _Over) -> Span:
    """The span of a call, as its record tells it."""
    span, record, parent = over.span, over.record, over.span.parent
    return Span(
        trace_id=span.trace_id,
        id=span.id,
        parent_id="" if parent is None else parent.id,
        remote=parent is not None,
        state=span.state,
        flags=span.flags,
        # What a client made up is no name of a span, and a URI is none: there would be too many.
        name=f"{record.method} {record.thing}" if record.version and record.method in semconv.NAMED else record.method,
        kind="server",
        began_ns=span.began_ns,
        ended_ns=max(over.ended_ns, span.began_ns),
        facts=_facts(over),
        error=error_of(record.outcome),
    )


def error_of(outcome: str) -> str:
    """The `error.type` of an outcome; "" of a good one."""
    return _NO_KINDS.get(outcome, outcome)


def _facts(over: _Over) -> Mapping[str, Fact]:
    record = over.record
    said: dict[str, Fact] = {
        semconv.MCP_METHOD: record.method,
        semconv.MCP_VERSION: over.revision,
        semconv.MCP_SESSION: record.session,
        semconv.JSONRPC_REQUEST: over.request_id.decode(errors="replace").strip('"'),
        semconv.OPERATION: semconv.EXECUTE_TOOL if record.method == "tools/call" else "",
        semconv.TRANSPORT: "tcp" if over.over_http else "pipe",
        semconv.CALLER: record.caller,
        semconv.SERVER: record.server,
        semconv.VERSION: record.version,
        semconv.CATEGORY: category_of(record.outcome),
        semconv.DECISION: record.decision,
        semconv.RULE: record.rule,
    }
    if record.method.startswith("resources/"):
        said[semconv.MCP_RESOURCE] = record.thing.partition("/")[2]
    elif record.method in semconv.NAMED:
        said[semconv.NAMED[record.method]] = record.thing
    numbers: dict[str, Fact] = {
        semconv.CODE: record.code,
        semconv.COST: record.cost_nano_usd / 1_000_000_000,
        semconv.ATTEMPTS: record.attempts,
        semconv.CACHED: record.cached,
        semconv.REPLAYED: record.replayed,
    }
    return {name: fact for name, fact in {**said, **numbers}.items() if fact}
