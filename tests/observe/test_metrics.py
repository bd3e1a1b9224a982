"""Calls are counted by labels that nobody outside can add to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bascule.observe import metrics
from bascule.observe.metrics import BUCKETS_S, METHODS, OTHER, CallMetrics, Labels, Series
from bascule.policy.outcome import CATEGORIES, UNTIMED, category_of
from bascule.store.record import Record

LISTED = frozenset({"crm/create_lead", "crm/find"})
OUTCOMES = ("answered", "failed", "refused", "cancelled", "unavailable", "scope_denied", "internal", "parse_failed")


def over(
    thing: str = "crm/create_lead",
    method: str = "tools/call",
    outcome: str = "answered",
    took_us: int = 0,
    cost_nano_usd: int = 0,
) -> Record:
    version = "1.0.0" if thing in LISTED else ""
    said = {"method": method, "thing": thing, "server": "crm", "outcome": outcome, "version": version}
    return Record(kind="call", at_us=0, took_us=took_us, cost_nano_usd=cost_nano_usd, **said)  # type: ignore[arg-type]  # texts alone


def counted(*records: Record) -> dict[Labels, Series]:
    calls = CallMetrics()
    for record in records:
        calls.count(record)
    return dict(calls.read())


def test_a_call_is_counted_under_its_category() -> None:
    series = counted(over(), over(outcome="unavailable"), over(outcome="timeout"))[
        "tools/call", "crm/create_lead", "crm"
    ]
    assert {name: count for name, count in zip(CATEGORIES, series.calls, strict=True) if count} == {
        "ok": 1,
        "transient": 2,
    }


@pytest.mark.parametrize(("took_us", "bucket"), [(0, 0), (1000, 0), (1001, 1), (60_000_000, 14), (60_000_001, 15)])
def test_a_bucket_holds_what_took_at_most_its_bound(took_us: int, bucket: int) -> None:
    series = counted(over(took_us=took_us))["tools/call", "crm/create_lead", "crm"]
    assert series.took.index(1) == bucket
    assert series.took_us == took_us


@given(st.lists(st.tuples(st.sampled_from(OUTCOMES), st.integers(0, 10**9), st.integers(0, 10**12)), min_size=1))
def test_each_call_is_counted_once_and_timed_if_it_got_as_far_as_its_tool(
    calls: list[tuple[str, int, int]],
) -> None:
    series = counted(*(over(outcome=o, took_us=us, cost_nano_usd=nano) for o, us, nano in calls))
    (found,) = series.values()
    timed = [us for outcome, us, _ in calls if category_of(outcome) not in UNTIMED]
    assert sum(found.calls) == len(calls)
    assert sum(found.took) == len(timed)
    assert found.took_us == sum(timed)
    assert found.cost_nano_usd == sum(nano for _, _, nano in calls)
    assert len(found.took) == len(BUCKETS_S) + 1


# Names of every kind: made up, known, and close to those that are known.
things = st.text(max_size=8) | st.sampled_from([*LISTED, "crm/find ", "crm/", "CRM/find"])
methods = st.text(max_size=8) | st.sampled_from(["tools/call", "TOOLS/CALL", "ping"])


@given(st.lists(st.tuples(things, methods), max_size=50))
def test_names_that_clients_make_up_are_no_labels(said: list[tuple[str, str]]) -> None:
    series = counted(*(over(thing=thing, method=method) for thing, method in said))
    assert all(tool in LISTED | {""} and method in METHODS | {OTHER} for method, tool, _ in series)
    assert sum(sum(each.calls) for each in series.values()) == len(said)


def test_servers_that_list_ever_new_names_do_not_fill_our_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_SERIES", 10)
    calls = CallMetrics()
    for number in range(100):
        calls.count(replace(over(), thing=f"crm/tool{number}"))
    assert len(calls.read()) == 11
    assert dict(calls.read())["tools/call", "", "crm"].calls[0] == 90


def test_what_was_read_stays_as_it_was() -> None:
    calls = CallMetrics()
    calls.count(over())
    before = calls.read()
    calls.count(over())
    assert dict(before)["tools/call", "crm/create_lead", "crm"].calls[0] == 1
