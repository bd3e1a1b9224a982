"""Grants never exceed the burst and what has come back since, whatever the clock does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.contract.model import Rate
from bascule.policy.rates import NEVER_USED, left, take

rates = st.builds(Rate, st.integers(1, 50), st.floats(0.1, 3600))


def granted(rate: Rate, times_s: list[float]) -> list[float]:
    """At which of *times_s* a call is granted."""
    tat_s, at = NEVER_USED, []
    for now_s in times_s:
        tat_s, wait_s = take(tat_s, rate, now_s)
        if not wait_s:
            at.append(now_s)
    return at


def test_the_whole_allowance_may_be_used_at_once_and_comes_back_evenly() -> None:
    rate = Rate(600, 60.0)
    assert len(granted(rate, [1000.0] * 601)) == 600
    assert len(granted(rate, [1000.0] * 600 + [1000.09, 1000.1, 1000.11, 1000.2])) == 602


@pytest.mark.parametrize("calls", [1, 3, 7, 100, 999, 6000])
@pytest.mark.parametrize("per_s", [1.0, 60.0, 86_400.0])
@pytest.mark.parametrize("now_s", [0.0, 123.456, 1_900_000.7])
def test_rounding_costs_no_call_and_gives_none_away(calls: int, per_s: float, now_s: float) -> None:
    assert len(granted(Rate(calls, per_s), [now_s] * (calls + 2))) == calls


@given(rates, st.lists(st.floats(0, 100), max_size=150), st.floats(0, 1e6))
def test_grants_of_any_window_never_exceed_burst_plus_refill(rate: Rate, gaps_s: list[float], start_s: float) -> None:
    times_s = [start_s]
    for gap_s in gaps_s:
        times_s.append(times_s[-1] + gap_s * rate.per_s / rate.calls / 20)
    at = granted(rate, times_s)
    for first in range(len(at)):
        for last in range(first, len(at)):
            refill = (at[last] - at[first]) * rate.calls / rate.per_s
            assert last - first + 1 <= rate.calls + refill + 0.01


@given(rates, st.lists(st.floats(-50, 50), min_size=1, max_size=80))
def test_a_clock_that_steps_back_mints_nothing(rate: Rate, steps_s: list[float]) -> None:
    """Whatever the clock does, the grants are those of the time between its lowest and its highest reading."""
    now_s, times_s = 5000.0, []
    for step_s in steps_s:
        now_s += step_s
        times_s.append(now_s)
    refill = (max(times_s) - min(times_s)) * rate.calls / rate.per_s
    assert len(granted(rate, times_s)) <= rate.calls + refill + 0.01


@given(rates, st.lists(st.floats(0, 3), max_size=80))
def test_whoever_waits_as_told_is_let_in_and_not_much_later_than_need_be(rate: Rate, gaps_s: list[float]) -> None:
    tat_s, now_s = NEVER_USED, 100.0
    for gap_s in [*gaps_s, *[0.0] * 60]:
        now_s += gap_s
        spent = tat_s
        tat_s, wait_s = take(tat_s, rate, now_s)
        assert 0 <= wait_s <= rate.per_s / rate.calls * 1.001
        if wait_s:
            assert tat_s == spent, "a refusal spends nothing"
            assert take(tat_s, rate, now_s + wait_s)[1] == 0
            assert take(tat_s, rate, now_s + wait_s * 0.9)[1] > 0 or wait_s < rate.per_s / rate.calls / 50


@given(rates, st.integers(0, 60), st.floats(0, 4000))
def test_what_is_left_is_what_would_be_granted(rate: Rate, spent: int, later_s: float) -> None:
    tat_s = NEVER_USED
    for _ in range(spent):
        tat_s, _ = take(tat_s, rate, 100.0)
    now_s = 100.0 + later_s
    free = left(tat_s, rate, now_s)
    for _ in range(free):
        tat_s, wait_s = take(tat_s, rate, now_s)
        assert not wait_s
    assert take(tat_s, rate, now_s)[1] > 0 or left(tat_s, rate, now_s) <= 1
