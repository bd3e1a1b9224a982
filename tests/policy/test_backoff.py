"""A call is repeated only when that does no harm; never much, and not in step with others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.errors import (
    BasculeError,
    Business,
    CircuitOpen,
    Draining,
    Overloaded,
    RateLimited,
    TimedOut,
    Unavailable,
    UpstreamBrokeProtocol,
)
from bascule.policy.backoff import RETRIES, RetryBudget, fits, pause_s, repeatable

chances = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("error", "failed", "always", "if_harmless"),
    [
        (Unavailable("refused"), True, True, True),
        (RateLimited("429", 1.0), False, True, True),
        (Overloaded("its pipe is full"), False, True, True),
        (TimedOut("silent"), True, False, True),
        (UpstreamBrokeProtocol("HTTP 502"), True, False, True),
        (UpstreamBrokeProtocol("HTTP 403"), False, False, False),
        (Unavailable("half-way").half_way(), True, False, True),
        (CircuitOpen("open"), False, False, False),
        (Draining("ends"), False, False, False),
        (Business("no"), False, False, False),
    ],
)
def test_what_was_sent_is_sent_again_only_where_that_does_no_harm(
    error: BasculeError, failed: bool, always: bool, if_harmless: bool
) -> None:
    assert repeatable(error, failed=failed, harmless=False) is always
    assert repeatable(error, failed=failed, harmless=True) is if_harmless


@given(st.integers(1, 60), chances)
def test_the_wait_is_drawn_from_nothing_up_to_a_bound_that_doubles(retry: int, chance: float) -> None:
    bound_s = min(2.0, 0.1 * 2 ** (retry - 1))
    assert 0 <= pause_s(retry, chance, None) <= bound_s
    assert pause_s(retry, 0.0, None) == 0
    assert pause_s(retry, 0.5, None) == pytest.approx(bound_s / 2)


@given(st.integers(1, 2), chances, st.floats(0, 1e5))
def test_nobody_comes_back_before_the_server_said(retry: int, chance: float, asked_s: float) -> None:
    assert asked_s <= pause_s(retry, chance, asked_s) <= asked_s + 2.0


@given(st.floats(0, 100), st.floats(0, 1e6), st.floats(0, 1e6))
def test_no_wait_begins_that_cannot_end_in_time(wait_s: float, now_s: float, due_s: float) -> None:
    assert not fits(wait_s, now_s, due_s) or (now_s + wait_s < due_s and wait_s <= RETRIES.longest_s)
    assert fits(1.0, 0.0, None)


def test_at_most_three_retries_at_one_time_of_few_calls_and_a_fifth_of_many() -> None:
    few, many = RetryBudget(0.0), RetryBudget(0.0)
    few.active, many.active = 4, 40
    assert [few.take(0.0) for _ in range(4)] == [True, True, True, False]
    few.give()
    assert few.take(0.0)
    assert [many.take(0.0) for _ in range(9)] == [True] * 8 + [False]


def test_retries_that_are_spent_come_back_one_for_ten_calls() -> None:
    budget = RetryBudget(0.0)

    def spend() -> int:
        count = 0
        while budget.take(0.0):
            budget.give()
            count += 1
        return count

    assert spend() == 10
    budget.calls += 9
    assert spend() == 0
    budget.calls += 1
    assert spend() == 1
    budget.calls += 100_000
    assert spend() == 10  # what is saved has a bound


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1)), min_size=1, max_size=100))
def test_retries_are_at_most_a_tenth_of_the_calls_and_what_was_saved(turns: list[tuple[int, float]]) -> None:
    budget, now_s, taken, calls = RetryBudget(0.0), 0.0, 0, 0
    for more, gap_s in turns:
        now_s += gap_s
        calls += more
        budget.calls += more
        for _ in range(5):
            if budget.take(now_s):
                taken += 1
                budget.give()
    assert taken <= 10 + 0.1 * calls + 0.1 * now_s + 0.01
    assert budget.taken == taken
