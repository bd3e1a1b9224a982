"""The stages of a gateway that traces; one that does not has none of them.

begin     outermost, before `observe`: a call has its span before anything happens to it
attempt   innermost: each request that goes to a server is a span, which the server hears of as its parent
waits     around those stages that may make a call wait, from when it comes to when they let it go on
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from bascule.call import Call, Forward, Result
from bascule.errors import BasculeError
from bascule.observe import context, semconv
from bascule.observe.traces import Fact, Tracing, error_of, new_id
from bascule.pipeline.chain import Stage
from bascule.pipeline.confirm import Confirm
from bascule.pipeline.place import Place
from bascule.pipeline.reserve import Reserve
from bascule.wire import modern, translate

_WORTH_NS: Final = 1_000_000  # a wait that is shorter explains nothing
_CALL: Final = "tools/call"
# Stages that wait for something that is not the server: a person, a place, the disk.
WAITS: Final[Mapping[type, str]] = {Confirm: "confirm", Place: "queue", Reserve: "reserve"}


class Begin:
    """Gives a call its span. `observe` ends it, which knows what came of the call."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def __call__(self, call: Call, forward: Forward) -> Result:
        call.trip.span = self._tracing.begin(call)
        return await forward(call)


class Attempt:
    """One request to a server."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def __call__(self, call: Call, forward: Forward) -> Result:
        whole, target = call.trip.span, call.target
        if whole is None or target is None or not target.upstream.name:
            return await forward(call)  # the aggregate answers itself
        server = target.upstream.name
        id, state, began_ns = new_id(), whole.state, self._tracing.clock()
        said = context.traceparent(whole.trace_id, id, whole.flags)
        params = context.going_on(target.params, said, state, trusted=self._tracing.trusts(server))
        whole.head = {context.PARENT: said, context.STATE: state} if state else {context.PARENT: said}
        call = msgspec.structs.replace(call, target=msgspec.structs.replace(target, params=params))
        outcome, code = "cancelled", None  # unless we hear otherwise
        try:
            result = await forward(call)
            if whole.sampled:
                outcome, code = _came_of(call.method, result)
            return result
        except BasculeError as error:
            outcome = error.kind
            raise
        finally:
            whole.head = {}
            if whole.sampled:
                name, facts = self._told(call, server, code)
                self._tracing.tell(whole, id, name, "client", began_ns, facts, error_of(outcome))

    def _told(self, call: Call, server: str, code: int | None) -> tuple[str, Mapping[str, Fact]]:
        """The name of the span, and what is said of it."""
        facts: dict[str, Fact] = {
            semconv.MCP_METHOD: call.method,
            semconv.MCP_VERSION: call.revision.version,
            semconv.SERVER: server,
        }
        if code is not None:
            facts[semconv.RPC_STATUS] = str(code)
        named, contract = semconv.NAMED.get(call.method), call.contract
        if named is None or contract is None:
            return call.method, facts
        facts[named] = contract.id
        # What a client made up is no name of a span: there would be too many.
        return f"{call.method} {contract.id}" if call.trip.listed else call.method, facts


def _came_of(method: str, result: Result) -> tuple[str, int | None]:
    """The outcome of a request, "" for a good one, and the code of a JSON-RPC error."""
    if result.refused:
        return "refused", modern.error_code(result.value)
    return "failed" if method == _CALL and translate.failed(result.value) else "", None


class Waits:
    """A stage, and a span for the time that it makes calls wait."""

    def __init__(self, stage: Stage, name: str, tracing: Tracing) -> None:
        self._stage = stage
        self._name = name
        self._tracing = tracing

    async def __call__(self, call: Call, forward: Forward) -> Result:
        span = call.trip.span
        if span is None or not span.sampled:
            return await self._stage(call, forward)
        began_ns = self._tracing.clock()
        waiting, error = True, "cancelled"

        def over(error: str) -> None:
            nonlocal waiting
            if waiting and self._tracing.clock() - began_ns >= _WORTH_NS:
                self._tracing.tell(span, new_id(), self._name, "internal", began_ns, {}, error)
            waiting = False

        async def let_go(call: Call) -> Result:
            over("")
            return await forward(call)

        try:
            result = await self._stage(call, let_go)
            error = ""
            return result
        except BasculeError as failure:
            error = failure.kind
            raise
        finally:
            over(error)


def traced(stages: Sequence[Stage], tracing: Tracing) -> Sequence[Stage]:
    """*stages*, those that wait with a span around them."""
    names = [(stage, WAITS.get(type(stage))) for stage in stages]
    return [stage if name is None else Waits(stage, name, tracing) for stage, name in names]
