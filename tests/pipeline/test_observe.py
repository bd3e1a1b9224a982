"""Whoever wants to know of calls hears the same of each; where nobody does, nothing is written down."""

from contextlib import suppress
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from bascule.call import Call, Result
from bascule.contract.model import Contract
from bascule.errors import BasculeError, GuardrailDenied, Overloaded, Unauthenticated, Unavailable
from bascule.observe.metrics import CallMetrics
from bascule.pipeline import observe
from bascule.pipeline.chain import compose
from bascule.pipeline.observe import Observe
from bascule.store.record import Record
from pipeline.calls import ANSWER, call

CONTRACT = Contract(id="crm/find", version="1.2.0")


class Heard:
    """In the place of the audit, the log and traces at once: all of them only listen."""

    full = False

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.arguments: list[bytes | None] = []

    def post(self, record: Record, arguments: bytes | None = None) -> None:
        self.records.append(record)
        self.arguments.append(arguments)

    def end(self, call: Call, record: Record) -> None:
        self.records.append(record)


def observing(**who: Any) -> Observe:
    return Observe(who.pop("audit", None), **who)


async def passed(stage: Observe, *, answer: Result = ANSWER, error: BasculeError | None = None) -> None:
    async def server(call: Call) -> Result:
        call.trip.contract, call.trip.listed, call.trip.server = CONTRACT, True, "crm"
        if error is not None:
            raise error
        return answer

    made = replace(call(), params={"name": Raw(b'"find"'), "arguments": Raw(b'{"a":1}')}, trace_id="ab" * 16)
    with suppress(BasculeError):
        await compose([stage], server)(made)


async def test_all_hear_of_one_and_the_same_record() -> None:
    audit, log, tracing, metrics = Heard(), Heard(), Heard(), CallMetrics()
    await passed(observing(audit=audit, log=log, tracing=tracing, metrics=metrics))
    assert audit.records == log.records == tracing.records
    assert audit.records[0] is log.records[0] is tracing.records[0]
    (record,) = audit.records
    assert (record.thing, record.version, record.server, record.outcome) == ("crm/find", "1.2.0", "crm", "answered")
    assert [labels for labels, _ in metrics.read()] == [("tools/call", "crm/find", "crm")]


async def test_only_the_audit_gets_the_arguments() -> None:
    audit, log = Heard(), Heard()
    await passed(observing(audit=audit, log=log))
    assert (audit.arguments, log.arguments) == ([b'{"a":1}'], [None])


async def test_where_nobody_listens_nothing_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "recorded", None)
    stage = observing()
    await passed(stage)
    assert stage.outcomes == {"answered": 1}
    assert stage.calls == {"tools/call": 1}


async def test_the_log_can_be_turned_on_while_it_runs() -> None:
    stage, log = observing(), Heard()
    await passed(stage)
    stage.listen(log)  # type: ignore[arg-type]  # it listens as a log does
    await passed(stage)
    stage.listen(None)
    await passed(stage)
    assert len(log.records) == 1


@pytest.mark.parametrize(
    ("error", "outcome", "decision"),
    [
        (GuardrailDenied("no", rule="guardrails.2"), "guardrail_denied", "deny"),
        (Unavailable("x"), "unavailable", "deny"),
    ],
)
async def test_a_refusal_is_recorded_with_the_rule_that_refused(
    error: BasculeError, outcome: str, decision: str
) -> None:
    audit = Heard()
    await passed(observing(audit=audit), error=error)
    (record,) = audit.records
    assert (record.outcome, record.decision, record.code) == (outcome, decision, error.code)
    assert record.rule == error.details.get("rule", "")


async def test_a_tool_that_says_that_it_failed_has_failed() -> None:
    audit = Heard()
    stage = observing(audit=audit)
    await passed(stage, answer=Result(Raw(b'{"isError":true,"content":[]}')))
    assert audit.records[0].outcome == "failed"
    assert stage.outcomes == {"answered": 1}  # of /status: the server did answer


async def test_of_very_many_that_are_turned_away_only_the_number_is_told() -> None:
    audit, log = Heard(), Heard()
    stage = observing(audit=audit, log=log)
    for _ in range(150):
        stage.turned_away(Unauthenticated("no credential"), "x" * 1000)
    assert len(audit.records) == len(log.records) == 100
    assert all(record.kind == "refused" and len(record.note) == 256 for record in audit.records)
    assert stage.turned_away_by_kind == {"unauthenticated": 150}
    stage._next_second()
    assert audit.records[-1].note.startswith("50 more requests")


async def test_what_is_shed_is_counted_alone() -> None:
    audit = Heard()
    stage = observing(audit=audit)
    stage.turned_away(Overloaded("too much"), "too much")
    assert audit.records == []
    assert stage.turned_away_by_kind == {"overloaded": 1}


async def test_a_call_that_never_came_this_far_is_told_too() -> None:
    audit, metrics = Heard(), CallMetrics()
    observing(audit=audit, metrics=metrics).refused(call(), Overloaded("draining"))
    assert audit.records[0].outcome == "overloaded"
    ((labels, series),) = metrics.read()
    assert labels[1] == ""
    assert sum(series.calls) == 1
