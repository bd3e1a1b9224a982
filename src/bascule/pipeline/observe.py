"""`observe`: what comes of each call is written down once, and told to all who want to know: refusals too.

The audit, metrics, the log and traces all hear of the same record, so that they cannot disagree.
"""

import asyncio
import time
from collections import Counter
from typing import Final

from bascule.call import Call, Forward, Result
from bascule.errors import BasculeError, Overloaded
from bascule.observe.logs import CallLog
from bascule.observe.metrics import CallMetrics
from bascule.observe.traces import Tracing
from bascule.store.audit import Audit
from bascule.store.record import Record
from bascule.wire import jsonrpc, translate

_MOST_TURNED: Final = 100  # requests that are no calls, recorded one by one within a second
_MOST_NAME: Final = 256  # characters of a name that a client made up


class Observe:
    """Outermost: a call that any later stage refuses is seen here too."""

    def __init__(
        self,
        audit: Audit | None = None,
        *,
        metrics: CallMetrics | None = None,
        log: CallLog | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """None for who does not want to hear of calls."""
        self._audit = audit
        self._metrics = metrics
        self._log = log
        self._tracing = tracing
        self._told = False
        self.listen(log)
        self.calls: Counter[str] = Counter()  # by method
        self.outcomes: Counter[str] = Counter()  # "answered", "refused" by the server, or the kind of our error
        self.turned_away_by_kind: Counter[str] = Counter()  # of error: requests that are no call, or nobody's
        self.in_flight = 0
        self._turned = 0  # away, in the present second
        self.started_at = time.time()

    def listen(self, log: CallLog | None) -> None:
        """From now on *log* hears of calls, or no log does."""
        self._log = log
        self._told = any(each is not None for each in (self._audit, self._metrics, self._log, self._tracing))

    async def __call__(self, call: Call, forward: Forward) -> Result:
        audit = self._audit
        if audit is not None and audit.full:
            await audit.room()
        self.in_flight += 1
        outcome, result, failure = "cancelled", None, None
        began_ns = time.perf_counter_ns()
        try:
            result = await forward(call)
            outcome = "refused" if result.refused else "answered"
            return result
        except BasculeError as error:
            outcome, failure = error.kind, error
            raise
        finally:
            self.in_flight -= 1
            # Methods that no server knows share one counter: a client must not fill our memory with names.
            self.calls[call.method if outcome == "answered" else "(not answered)"] += 1
            self.outcomes[outcome] += 1
            if self._told:
                self._tell(call, recorded(call, outcome, result, failure, time.perf_counter_ns() - began_ns))

    def refused(self, call: Call, error: BasculeError) -> None:
        """Count and record a call that was refused before it came this far."""
        self.calls["(not answered)"] += 1
        self.outcomes[error.kind] += 1
        if self._told:
            self._tell(call, recorded(call, error.kind, None, error, 0))

    def _tell(self, call: Call, record: Record) -> None:
        """None of those who hear of it waits, or raises anything."""
        if self._audit is not None:
            self._audit.post(record, call.arguments)
        if self._metrics is not None:
            self._metrics.count(record)
        if self._log is not None:
            self._log.post(record)
        if self._tracing is not None:
            self._tracing.end(call, record)

    def turned_away(self, error: BasculeError, why: str) -> None:
        """Record a request that was refused at the door: nobody knows whose it is, or it is no call at all.

        Of very many in one second only their number is recorded: who is not known must not fill the disk.
        """
        self.outcomes[error.kind] += 1
        self.turned_away_by_kind[error.kind] += 1
        if not self._told or isinstance(error, Overloaded):
            return  # what is shed is counted in /status; to record it would cost what is missing
        self._turned += 1
        if self._turned == 1:
            asyncio.get_running_loop().call_later(1.0, self._next_second)
        if self._turned <= _MOST_TURNED:
            self._note(error.kind, error.code, why[:_MOST_NAME])

    def _next_second(self) -> None:
        more, self._turned = self._turned - _MOST_TURNED, 0
        if more > 0:
            self._note("turned_away", 0, f"{more} more requests were turned away within the same second")

    def _note(self, outcome: str, code: int, note: str) -> None:
        at_us = time.time_ns() // 1000
        record = Record(kind="refused", at_us=at_us, decision="deny", outcome=outcome, code=code, note=note)
        if self._audit is not None:
            self._audit.post(record)
        if self._log is not None:
            self._log.post(record)


def recorded(call: Call, outcome: str, result: Result | None, failure: BasculeError | None, took_ns: int) -> Record:
    """What there is to say of a call that is over."""
    trip = call.trip
    contract = trip.contract
    if outcome == "answered" and call.method == "tools/call" and result is not None and translate.failed(result.value):
        outcome = "failed"
    return Record(
        kind="call",
        at_us=time.time_ns() // 1000,
        call=trip.call_id,
        trace_id=call.trace_id,
        caller=call.caller.name,
        proof=call.caller.proof,
        method=call.method,
        thing=contract.id if contract is not None else _named(call),
        version=contract.version if contract is not None and trip.listed else "",
        server=trip.server or call.view,
        era=call.era.value,
        session="" if call.session is None else call.session.id,
        decision="deny" if failure is not None and not trip.sent else "allow",
        rule=trip.rule or _rule_of(failure),
        approval=trip.approval,
        outcome=outcome,
        code=0 if failure is None else failure.code,
        sent=trip.sent,
        attempts=trip.attempts,
        replayed=trip.replayed,
        cached=trip.cached,
        journal=trip.record,
        cost_nano_usd=trip.cost_nano_usd,
        took_us=took_ns // 1000,
    )


def _rule_of(failure: BasculeError | None) -> str:
    """The rule that refused a call, where one did."""
    said = None if failure is None else failure.details.get("rule")
    return said if isinstance(said, str) else ""


def _named(call: Call) -> str:
    """What the client called it, who may have made that up."""
    for member in ("name", "uri"):
        name = jsonrpc.text(call.params.get(member))
        if name is not None:
            return name[:_MOST_NAME]
    return ""
