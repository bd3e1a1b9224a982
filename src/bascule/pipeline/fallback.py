"""`fallback`: another server answers for one that fails, where its tool keeps the same promise.

What was decided of the call on its way here holds there too, because the contracts are the same in everything that
was judged (policy/fallbacks.py). Asked again are the scopes of the other tool, its limits and its server's circuit.
It is one attempt, and nobody stands in for whoever stands in.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from bascule.call import Call, Forward, Result, Target
from bascule.contract.model import Contract
from bascule.errors import BasculeError, Draining, Transient
from bascule.pipeline.chain import Stage, compose
from bascule.pipeline.health import Health, Outcome, outcome_of
from bascule.pipeline.retry import has_asked
from bascule.pipeline.ways import Way, Ways
from bascule.policy.fallbacks import differences
from bascule.upstream.base import Upstream

log = logging.getLogger("bascule.policy")


class Other(msgspec.Struct, frozen=True):
    """The tool of the same name at the other server."""

    upstream: Upstream
    contract: Contract
    scopes: tuple[str, ...]
    forward: Forward  # its limits, its circuit, and the server


class Others(Protocol):
    def find(self, server: str, tool: str) -> Other | None:
        """What *server* lists under its own name *tool*; None if that is nothing that may be called."""
        ...


class Fallback:
    """Sends a call that failed to the other server, and says so in its result."""

    def __init__(
        self, contract: Contract, server: str, other: str, others: Others, health: Health, *, reruns: bool = False
    ) -> None:
        """*reruns*: a call with a key is made again when nobody knows what became of it; so it stays at one server, or
        each of the two would have run it once."""
        self._reruns = reruns
        self._contract = contract
        self._server = server
        self._other = other
        self._others = others
        self._health = health

    async def __call__(self, call: Call, forward: Forward) -> Result:
        try:
            return await forward(call)
        except Transient as error:
            other = self._stand_in(call) if self._may_repeat(call, error) else None
            if other is None:
                raise
            return await self._instead(call, other, error)

    def ready(self, call: Call) -> bool:
        """Whether the other server could take *call* now; nothing is taken."""
        other = self._stand_in(call)
        server = None if other is None else self._health.of(other.upstream)
        return other is not None and (server is None or server.passing)

    def _may_repeat(self, call: Call, error: Transient) -> bool:
        """Whether the first server has certainly not run it, or it makes no difference if it has.

        To be idempotent is not enough: what ran once at each of two servers was done twice.
        """
        if has_asked(call) or isinstance(error, Draining):
            return False
        reads = not self._contract.side_effect and not call.wishes.key
        return error.unsent or (reads and outcome_of(error, self._server) is Outcome.FAILED)

    def _stand_in(self, call: Call) -> Other | None:
        # A session on a server's own endpoint is with that server; no other would ever hear of its end.
        if call.method != "tools/call" or has_asked(call) or (call.session is not None and call.view):
            return None
        if call.wishes.key and self._reruns:
            return None
        other = self._others.find(self._other, self._contract.name)
        if other is None or differences(self._contract, other.contract):
            return None
        return other if call.caller.authority.covers(other.scopes) else None

    async def _instead(self, call: Call, other: Other, error: Transient) -> Result:
        assert call.target is not None, "the resolve stage sets the target"
        target = Target(other.upstream, call.target.params)
        there = msgspec.structs.replace(call, target=target, contract=other.contract)
        try:
            result = await other.forward(there)
        except BasculeError as failure:
            error.details["fallback"] = {"server": self._other, "kind": failure.kind, "message": failure.message}
            if isinstance(failure, Transient) and not failure.unsent:
                error.half_way()
            raise error from failure
        call.trip.served_by = self._other
        said = f"{self._server} failed; answered by {self._other}"
        return msgspec.structs.replace(result, warnings=(*result.warnings, said))


class Listed:
    """The tools of all servers, as those that stand in (`Others`)."""

    def __init__(
        self,
        ways: Callable[[], Ways],
        upstreams: Callable[[], Mapping[str, Upstream]],
        stages: Callable[[Contract, str], Sequence[Stage]],
        last: Forward,
    ) -> None:
        """*ways* and *upstreams* give the present ones; *stages* makes those of a call that comes from another server
        (limits without the caller's own, which it has passed; circuit; dispatch), *last* is what follows them."""
        self._ways = ways
        self._upstreams = upstreams
        self._stages = stages
        self._last = last
        self._made: dict[tuple[str, str], tuple[Way, Other]] = {}

    def find(self, server: str, tool: str) -> Other | None:
        upstream = self._upstreams().get(server)
        if upstream is None:
            return None
        way = self._ways().way("tool", server, tool)
        if not way.listed or way.withheld or way.contract.status == "gone":
            return None
        made = self._made.get((server, tool))
        if made is None or made[0] is not way or made[1].upstream is not upstream:
            forward = compose(self._stages(way.contract, server), self._last)
            made = self._made[server, tool] = way, Other(upstream, way.contract, way.scopes, forward)
        return made[1]
