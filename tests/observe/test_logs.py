"""A line for each call: the same keys for all, nothing that a client can forge, and no arguments."""

import io
import json
import logging
import shlex
import sys
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bascule.observe import logs
from bascule.observe.logs import CallLog, JsonFormatter, as_json, as_text, event_of
from bascule.observe.options import LogsOptions
from bascule.store.record import Record

KEYS = [
    *("time", "level", "event", "trace_id", "caller", "method", "tool", "version", "server", "category", "kind"),
    *("code", "decision", "rule", "took_ms", "cost_usd", "attempts", "cached", "replayed"),
]


def over(**fields: object) -> Record:
    said = {"kind": "call", "at_us": 1_800_000_000_123_456, "method": "tools/call", "thing": "crm/find",
            "caller": "ada", "outcome": "answered", "decision": "allow", "took_us": 1234}  # fmt: skip
    return Record(**{**said, **fields})  # type: ignore[arg-type]  # fields of all types


def test_every_call_has_the_same_keys() -> None:
    for record in (over(), over(outcome="scope_denied", code=40301, decision="deny"), over(outcome="cancelled")):
        assert list(json.loads(as_json(event_of(record)))) == KEYS


def test_a_call_says_what_came_of_it() -> None:
    said = json.loads(as_json(event_of(over(outcome="unavailable", code=50001, cost_nano_usd=2_000_000))))
    assert said["time"] == "2027-01-15T08:00:00.123Z"
    assert (said["level"], said["category"], said["kind"], said["code"]) == (
        "warning",
        "transient",
        "unavailable",
        50001,
    )
    assert (said["took_ms"], said["cost_usd"]) == (1.234, 0.002)


@pytest.mark.parametrize(
    ("outcome", "level"), [("answered", "info"), ("failed", "warning"), ("timeout", "warning"), ("internal", "error")]
)
def test_what_somebody_has_to_look_at_has_a_level_of_its_own(outcome: str, level: str) -> None:
    assert json.loads(as_json(event_of(over(outcome=outcome))))["level"] == level


def test_a_request_that_was_turned_away_is_no_call() -> None:
    said = json.loads(as_json(event_of(over(kind="refused", outcome="unauthenticated", code=40101, note="no token"))))
    assert (said["event"], said["kind"], said["note"]) == ("turned_away", "unauthenticated", "no token")
    assert "caller" not in said


@given(st.text(), st.text())
@example("\x7f", "a\x7fb")
def test_whatever_a_client_calls_itself_it_is_one_line_and_one_field(caller: str, tool: str) -> None:
    event = event_of(over(caller=caller, thing=tool))
    spelt, text = as_json(event), as_text(event)
    assert spelt.isascii()
    assert text.isascii()
    assert spelt.isprintable()
    assert text.isprintable()
    assert json.loads(spelt)["caller"] == caller
    fields = [each.partition("=") for each in shlex.split(text)[2:]]
    assert [name for name, _, _ in fields].count("method") == 1


def test_half_of_a_surrogate_pair_does_not_lose_the_line() -> None:
    assert json.loads(as_json(event_of(over(caller="\ud800"))))["caller"] == "\ud800"


def test_a_line_of_text_leaves_out_what_is_empty() -> None:
    line = as_text(event_of(over(trace_id="ab" * 16)))
    assert line.startswith("bascule: call level=info trace_id=abab")
    assert "rule=" not in line
    assert "tool=crm/find" in line


async def written(options: LogsOptions, *records: Record) -> list[str]:
    stream = io.StringIO()
    log = CallLog(options, stream)
    for record in records:
        log.post(record)
    log.close()
    return stream.getvalue().splitlines()


LEFT = over(method="subscriptions/listen", outcome="cancelled")  # as subscriptions end
ALL = (over(), over(outcome="failed"), over(outcome="guardrail_denied"), LEFT)


@pytest.mark.parametrize(("calls", "lines"), [("off", 0), ("errors", 2), ("all", 4)])
async def test_which_calls_have_a_line_is_for_the_operator_to_say(calls: str, lines: int) -> None:
    assert len(await written(LogsOptions(format="json", calls=calls), *ALL)) == lines  # type: ignore[arg-type]  # of a table


async def test_calls_that_there_was_no_room_for_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    log = CallLog(LogsOptions(format="json", calls="all"), stream)
    monkeypatch.setattr(log._batches, "_most", 2)
    for _ in range(5):
        log.post(over())
    assert log.dropped == 3
    log.close()
    *calls, last = map(json.loads, stream.getvalue().splitlines())
    assert [call["event"] for call in calls] == ["call", "call"]
    assert (last["event"], last["calls"]) == ("dropped", 3)


async def test_nobody_who_reads_is_no_reason_to_fail() -> None:
    stream = io.StringIO()
    stream.close()
    log = CallLog(LogsOptions(calls="all"), stream)
    log.post(over())
    log.close()


@pytest.fixture
def handlers() -> Iterator[None]:
    """The root logger as it was before."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("handlers")
def test_messages_change_their_shape_while_the_process_runs() -> None:
    stream = io.StringIO()
    logs.listen(LogsOptions(), stream)
    logging.getLogger("bascule").warning("one %s", "two")
    logs.listen(LogsOptions(format="json"), stream)
    logging.getLogger("bascule").warning("three\nfour")
    text, spelt = stream.getvalue().splitlines()
    assert text == "bascule: one two"
    said = json.loads(spelt)
    assert (said["event"], said["level"], said["logger"]) == ("message", "warning", "bascule")
    assert said["message"] == "three\nfour"


def test_a_fault_of_ours_comes_with_its_traceback_in_the_same_line() -> None:
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        record = logging.LogRecord("bascule", logging.ERROR, __file__, 1, "it %s", ("broke",), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "RuntimeError: boom" in json.loads(line)["exception"]
