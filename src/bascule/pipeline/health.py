"""How the servers are: one circuit for each, the outcomes of its calls, and the probe that closes it again.

A circuit belongs to an upstream as it is configured: another one in its place begins anew (`Health.adopt`).
In this process only: what one gateway meets may be its own network.
"""

import asyncio
import logging
import random
import time
import weakref
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from bascule.call import BASCULE, Call, Target
from bascule.errors import (
    BasculeError,
    CircuitOpen,
    RateLimited,
    TimedOut,
    Unavailable,
    UpstreamBrokeProtocol,
)
from bascule.policy import breaker
from bascule.policy.backoff import RetryBudget
from bascule.policy.breaker import RULES, Answered, Began, Circuit, Event, Failed, Held, Hold, Rules, Withdrawn, step
from bascule.upstream.base import INFO, Upstream, WrongEra, reach
from bascule.upstream.exchange import NotMcp
from bascule.upstream.linked import NoHandshake
from bascule.upstream.shared import NOBODY, Nobody
from bascule.upstream.untried import Untried
from bascule.wire import legacy, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import LATEST_LEGACY, LATEST_MODERN, Era

log = logging.getLogger("bascule.upstream")

_PROBE_S: Final = 10.0  # a server that is silent for so long is not back
_PAUSE_S: Final = 1.0  # until the next look, where a probe told nothing or another one is under way
_NEVER: Final = -1  # the epoch of no circuit


class Outcome(Enum):
    """What the end of a call says of its server."""

    ANSWERED = "answered"  # it is there, whatever it said
    FAILED = "failed"
    NOTHING = "nothing"


def outcome_of(error: BasculeError, server: str) -> Outcome:
    """What *error* says of *server*: only what it did itself, or failed to do, counts for or against it.

    Not refusals of our own, nor questions that a client did not answer: those do not happen *at* the server.
    """
    if error.source != server:
        return Outcome.NOTHING
    match error:
        case Untried() | WrongEra():
            return Outcome.NOTHING
        case NoHandshake() | RateLimited():
            return Outcome.ANSWERED
        case NotMcp(status=status) if 400 <= status < 500:
            return Outcome.ANSWERED
        case UpstreamBrokeProtocol() if "too_large" in error.details:
            return Outcome.ANSWERED  # our own bound; a tool that gives much must not stop the others
        case Unavailable() | TimedOut() | UpstreamBrokeProtocol():
            return Outcome.FAILED
        case _:
            return Outcome.NOTHING


class ServerHealth:
    """One server's circuit and its budget of retries, kept up by the calls that it gets."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        rules: Rules = RULES,
    ) -> None:
        """*clock* gives seconds, *chance* a number from 0 to 1."""
        self.upstream = upstream
        self.server = upstream.name
        self.retries = RetryBudget(clock())
        self.passing = True  # all calls pass: what most of them have to know
        self.refused = 0  # calls
        self.opened = 0  # times
        self.closed = 0
        self.last_failure = ""
        self._clock = clock
        self._chance = chance
        self._rules = rules
        self._circuit = Circuit(since_s=clock())
        # Answers are what there is most of. While nothing else happens they are counted here, a second's at a time.
        self._calm_epoch = 0
        self._second_ends = 0
        self._uncounted = 0
        self._counted_last: Callable[[], BasculeError | None] = lambda: None
        self._prober: asyncio.Task[None] | None = None

    # ---- calls

    def look(self, *, harmless: bool) -> None:
        """Nothing, if a call may go now. Raises CircuitOpen; nothing is taken."""
        if not self.passing and not self._admits(harmless=harmless):
            raise self._refusal()

    def enter(self, *, harmless: bool) -> int:
        """The epoch that the call belongs to; `leave` with it, whatever comes. Raises CircuitOpen.

        *harmless*: it may be the probe of a server that is perhaps back. A call with a side effect never is.
        """
        if not self.passing:
            if not self._admits(harmless=harmless):
                raise self._refusal()
            if breaker.admission(self._circuit, self._clock()) == "probe":
                self._take(Began())
        return self._circuit.epoch

    def leave(self, epoch: int, outcome: Outcome) -> None:
        """A call of *epoch* has ended."""
        if outcome is Outcome.ANSWERED:
            if epoch == self._calm_epoch and self._clock() < self._second_ends:
                self._uncounted += 1
            else:
                self._answered(epoch)
        elif outcome is Outcome.FAILED:
            self._take(Failed(epoch))
        elif not self.passing:
            self._take(Withdrawn(epoch))

    def judged(self, error: BasculeError) -> Outcome:
        """What the *error* of a call says. One error that ends many calls, such as a death, is one failure."""
        outcome = outcome_of(error, self.server)
        if outcome is not Outcome.FAILED:
            return outcome
        if self.passing and self._counted_last() is error:
            return Outcome.NOTHING
        self._counted_last = weakref.ref(error)
        self.last_failure = error.message
        return outcome

    def timed_out(self) -> Outcome:
        """The time that the server has for a call is over."""
        self.last_failure = "no answer in time"
        return Outcome.FAILED

    # ---- operators

    def hold(self, held: Held | None) -> None:
        """Keep the circuit open or closed, whatever happens; None: as it was, and closed to begin with."""
        self._take(Hold(held))

    def report(self) -> dict[str, Any]:
        """What /status says of it."""
        self._flush()
        circuit, now_s = self._circuit, self._clock()
        calls, failures = breaker.counted(circuit)
        return {
            "state": f"held_{circuit.held}" if circuit.held else circuit.mode,
            "since_s": round(now_s - circuit.since_s, 1),
            "failures_in_a_row": circuit.in_a_row,
            "window": {"calls": calls, "failures": failures},
            "retry_in_s": round(max(0.0, circuit.until_s - now_s), 1) if circuit.mode == "open" else None,
            "last_failure": self.last_failure or None,
            "opened": self.opened,
            "closed": self.closed,
            "refused": self.refused,
            "retries": {"made": self.retries.taken, "refused": self.retries.refused, "now": self.retries.retrying},
        }

    def stop(self) -> None:
        """No probe any more."""
        if self._prober is not None:
            self._prober.cancel()

    # ---- the circuit

    def _admits(self, *, harmless: bool) -> bool:
        admission = breaker.admission(self._circuit, self._clock())
        return admission == "pass" or (admission == "probe" and harmless)

    def _refusal(self) -> CircuitOpen:
        self.refused += 1
        circuit = self._circuit
        if circuit.held:
            error = CircuitOpen("an operator has cut it off")
        else:
            error = CircuitOpen(
                f"failed too often and is left alone for a while; the last failure: {self.last_failure}"
            )
            error.retry_after_s = max(_PAUSE_S, circuit.until_s - self._clock())
        error.source = self.server
        return error

    def _answered(self, epoch: int) -> None:
        self._take(Answered(epoch))
        self._second_ends = int(self._clock()) + 1

    def _flush(self) -> None:
        """Tell the circuit of the answers that it has not heard of."""
        if self._uncounted:
            calls, self._uncounted = self._uncounted, 0
            self._circuit = step(
                self._circuit, Answered(self._calm_epoch, calls), self._second_ends - 1, 0.0, self._rules
            )

    def _take(self, event: Event) -> None:
        self._flush()
        before = self._circuit
        after = self._circuit = step(before, event, self._clock(), 2 * self._chance() - 1, self._rules)
        self._calm_epoch = after.epoch if breaker.is_calm(after) and after.held is None else _NEVER
        self._second_ends = int(self._clock()) + 1
        self.passing = after.mode == "closed" and after.held != "open"
        if before.mode != after.mode or before.held != after.held:
            self._changed(before, after)

    def _changed(self, before: Circuit, after: Circuit) -> None:
        if after.held is not None:
            log.warning("%s: its circuit is held %s by an operator", self.server, after.held)
        elif after.mode == "open":
            self.opened += 1
            wait_s = after.until_s - after.since_s
            log.warning("%s: left alone for %.0f s, because it fails: %s", self.server, wait_s, self.last_failure)
            if self._prober is None or self._prober.done():
                self._prober = asyncio.ensure_future(self._probe_until_closed())
                self._prober.add_done_callback(_say_why_it_ended)
        elif after.mode == "closed":
            self.closed += before.mode != "closed"
            log.info("%s: gets its calls again", self.server)

    # ---- probes

    async def _probe_until_closed(self) -> None:
        """No call with a side effect is the probe, so that there has to be one without a call."""
        while self._circuit.mode != "closed" and self._circuit.held is None:
            wait_s = self._circuit.until_s - self._clock() if self._circuit.mode == "open" else 0.0
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            elif breaker.admission(self._circuit, self._clock()) != "probe" or not await self._probe():
                await asyncio.sleep(_PAUSE_S)

    async def _probe(self) -> bool:
        """Ask the server for a sign of life; whether that told anything."""
        epoch = self.enter(harmless=True)
        outcome = Outcome.NOTHING
        try:
            async with asyncio.timeout(_PROBE_S) as scope:
                await sign_of_life(self.upstream)
            outcome = Outcome.ANSWERED
        except BasculeError as error:
            outcome = self.judged(error)
        except TimeoutError:
            if not scope.expired():
                raise
            outcome = self.timed_out()
        finally:
            self.leave(epoch, outcome)
        return outcome is not Outcome.NOTHING


class Health:
    """The health of every configured server."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        rules: Rules = RULES,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._rules = rules
        self._servers: dict[str, ServerHealth] = {}

    def adopt(self, upstreams: Mapping[str, Upstream]) -> None:
        """From now on these are the servers; what is known of those that stay the same object is kept."""
        before, self._servers = self._servers, {}
        for name, upstream in upstreams.items():
            known = before.get(name)
            if known is not None and known.upstream is upstream:
                self._servers[name] = before.pop(name)
            else:
                self._servers[name] = ServerHealth(upstream, clock=self._clock, chance=self._chance, rules=self._rules)
        for gone in before.values():
            gone.stop()

    def of(self, upstream: Upstream) -> ServerHealth | None:
        """None for what is no configured server, or is one no longer."""
        found = self._servers.get(upstream.name)
        return found if found is not None and found.upstream is upstream else None

    def named(self, server: str) -> ServerHealth | None:
        return self._servers.get(server)

    def report(self) -> dict[str, dict[str, Any]]:
        return {name: server.report() for name, server in self._servers.items()}

    def stop(self) -> None:
        for server in self._servers.values():
            server.stop()


class _Visitor(Nobody):
    """The gateway's own session at a server with a handshake, for one question."""

    caller = BASCULE
    revision = LATEST_LEGACY
    hello: Params = legacy.initialize_params(INFO, {})
    capabilities: Mapping[str, Any] = {}

    def __init__(self, server: str) -> None:
        self.id = self.family = f"bascule-probe-{server}"

    def announce(self, method: str, params: Params) -> None:
        pass  # nobody is there


async def sign_of_life(upstream: Upstream) -> None:
    """Ask a server what costs it nothing and changes nothing there. Raises what the call raises; any answer is good."""
    if Era.MODERN in await upstream.eras():
        params = modern.stamp({}, info=INFO, capabilities={})
        await reach(
            Call(
                caller=BASCULE,
                client=NOBODY,
                revision=LATEST_MODERN,
                method=modern.DISCOVER,
                params=params,
                target=Target(upstream, params),
            )
        )
        return
    visitor = _Visitor(upstream.name)
    try:
        await reach(
            Call(
                caller=BASCULE,
                client=visitor,
                revision=LATEST_LEGACY,
                method="ping",
                session=visitor,
                target=Target(upstream, {}),
            )
        )
    finally:
        # Over a pipe it shares the gateway's own process, whose end this would be.
        if upstream.status().kind == "http":
            await upstream.forget(visitor)


def _say_why_it_ended(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the probe of a server has stopped working; restart Bascule", exc_info=error)
