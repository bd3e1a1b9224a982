"""Counters are exact, all or nothing, and gone when nobody needs them any more."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bascule.contract.model import Rate
from bascule.errors import Overloaded
from bascule.store.shared import MOST_NAMES, Account, MemoryState, SharedState, Short, Wait

Kind = TypeVar("Kind")
SECOND, MINUTE = Rate(2, 1.0), Rate(3, 60.0)


class Clock:
    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def at_once(work: Awaitable[Kind]) -> Kind:
    """What *work* gives; fails if it waits for anything."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as end:
        found: Kind = end.value
        return found
    raise AssertionError("it waits")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(clock: Clock) -> SharedState:
    return MemoryState(clock)


# ---- calls in time


async def test_a_refusal_by_one_limit_spends_no_call_of_the_others(state: SharedState, clock: Clock) -> None:
    limits = [("wide", MINUTE), ("narrow", Rate(1, 60.0))]
    assert await state.take_all(limits) is None
    for _ in range(5):
        assert await state.take_all(limits) == Wait(1, 60.0)
    assert await state.left(limits) == [2, 0]


async def test_the_longest_wait_is_told(state: SharedState, clock: Clock) -> None:
    limits = [("a", Rate(1, 1.0)), ("b", Rate(1, 60.0)), ("c", Rate(1, 10.0))]
    assert await state.take_all(limits) is None
    clock.now_s += 0.5
    assert await state.take_all(limits) == Wait(1, 59.5)
    clock.now_s += 59.5
    assert await state.take_all(limits) is None


async def test_nothing_to_take_is_granted(state: SharedState) -> None:
    assert await state.take_all([]) is None


async def test_to_look_takes_nothing(state: SharedState) -> None:
    for _ in range(5):
        assert await state.left([("a", MINUTE)]) == [3]


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)), max_size=60
    )
)
def test_several_limits_at_once_grant_what_each_would_alone(calls: list[tuple[float, list[str]]]) -> None:
    rates = {"a": Rate(3, 30.0), "b": Rate(1, 7.0), "c": Rate(5, 40.0)}
    clock = Clock()
    state = MemoryState(clock)
    granted: dict[str, list[float]] = {key: [] for key in rates}
    for gap_s, keys in calls:
        clock.now_s += gap_s
        limits = [(key, rates[key]) for key in keys]
        before = at_once(state.left(limits))
        wait = at_once(state.take_all(limits))
        assert (wait is None) == all(before)
        if wait is None:
            for key in keys:
                granted[key].append(clock.now_s)
        else:
            assert at_once(state.left(limits)) == before
    for key, times_s in granted.items():
        rate = rates[key]
        for first in range(len(times_s)):
            for last in range(first, len(times_s)):
                refill = (times_s[last] - times_s[first]) * rate.calls / rate.per_s
                assert last - first + 1 <= rate.calls + refill + 0.01


# ---- money


async def test_a_reservation_that_one_account_cannot_bear_burdens_none(state: SharedState) -> None:
    wide, narrow = Account("wide", 100, 60), Account("narrow", 10, 60)
    assert await state.reserve([wide, narrow], 8) == [8, 8]
    assert await state.reserve([wide, narrow], 3) == Short(1, 2)
    assert await state.used(["wide", "narrow", "unknown"]) == [8, 8, 0]


async def test_what_was_not_spent_comes_back_and_what_was_spent_beyond_it_counts(state: SharedState) -> None:
    account = Account("a", 10, 60)
    assert await state.reserve([account], 10) == [10]
    assert await state.reserve([account], 1) == Short(0, 0)
    assert await state.settle([account], 10, 4) == [4]
    assert await state.reserve([account], 6) == [10]
    assert await state.settle([account], 6, 26) == [30]
    assert await state.reserve([account], 1) == Short(0, 0), "never less than nothing is left"


async def test_an_account_without_a_ceiling_only_keeps_the_sum(state: SharedState) -> None:
    account = Account("a", None, 60)
    assert await state.reserve([account], 10**18) == [10**18]
    assert await state.settle([account], 10**18, 5) == [5]


async def test_a_sum_is_forgotten_some_time_after_its_last_use(state: SharedState, clock: Clock) -> None:
    account = Account("a", 10, 60)
    await state.reserve([account], 10)
    clock.now_s += 59
    assert await state.reserve([account], 1) == Short(0, 0)
    clock.now_s += 59
    assert await state.used(["a"]) == [10]
    clock.now_s += 1
    assert await state.used(["a"]) == [0]
    assert await state.reserve([account], 10) == [10]


async def test_a_reservation_that_was_forgotten_comes_back_as_no_gift(state: SharedState, clock: Clock) -> None:
    account = Account("a", 10, 60)
    await state.reserve([account], 10)
    clock.now_s += 61
    assert await state.settle([account], 10, 0) == [0]
    assert await state.reserve([account], 11) == Short(0, 10)


class Budgets(RuleBasedStateMachine):
    """Calls that reserve, settle, fail and are cancelled in any order, at two budgets and a sum."""

    CEILINGS: ClassVar[dict[str, int | None]] = {"caller": 100, "session": 60, "sum": None}

    def __init__(self) -> None:
        super().__init__()
        self.state = MemoryState(Clock())
        self.running: list[tuple[list[Account], int]] = []
        self.spent = dict.fromkeys(self.CEILINGS, 0)

    @rule(
        keys=st.lists(st.sampled_from(sorted(CEILINGS)), min_size=1, unique=True),
        amount=st.integers(0, 40),
    )
    def begin(self, keys: list[str], amount: int) -> None:
        accounts = [Account(key, self.CEILINGS[key], 60) for key in keys]
        after = at_once(self.state.reserve(accounts, amount))
        fits = [(ceiling := self.CEILINGS[key]) is None or self.charged()[key] + amount <= ceiling for key in keys]
        if isinstance(after, Short):
            assert not fits[after.index]
            assert after.left < amount
        else:
            assert all(fits)
            self.running.append((accounts, amount))
            assert after == [self.charged()[key] for key in keys]

    @precondition(lambda self: self.running)
    @rule(pick=st.integers(0, 1000), part=st.floats(0, 1))
    def end(self, pick: int, part: float) -> None:
        """A call ends, for its price, for a part of it, or for nothing."""
        accounts, reserved = self.running.pop(pick % len(self.running))
        actual = round(reserved * part)
        for account in accounts:
            self.spent[account.key] += actual
        after = at_once(self.state.settle(accounts, reserved, actual))
        assert after == [self.charged()[account.key] for account in accounts]

    def charged(self) -> dict[str, int]:
        reserved = dict.fromkeys(self.CEILINGS, 0)
        for accounts, amount in self.running:
            for account in accounts:
                reserved[account.key] += amount
        return {key: self.spent[key] + reserved[key] for key in self.CEILINGS}

    @invariant()
    def no_budget_is_overspent_and_no_sum_drifts(self) -> None:
        keys = list(self.CEILINGS)
        used = dict(zip(keys, at_once(self.state.used(keys)), strict=True))
        assert used == self.charged()
        assert all(ceiling is None or used[key] <= ceiling for key, ceiling in self.CEILINGS.items())


TestBudgets = Budgets.TestCase
TestBudgets.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# ---- counts


async def test_counts_are_kept_until_some_time_after_the_last(state: SharedState, clock: Clock) -> None:
    assert await state.count("s", ["calls", "a"], 60) == [1, 1]
    clock.now_s += 59
    assert await state.count("s", ["calls", "b"], 60) == [2, 1]
    clock.now_s += 59
    assert await state.counts("s") == {"calls": 2, "a": 1, "b": 1}
    clock.now_s += 1
    assert await state.counts("s") == {}
    assert await state.count("s", ["calls"], 60) == [1]
    assert await state.counts("other") == {}


async def test_a_count_that_is_taken_back_never_goes_below_zero(state: SharedState) -> None:
    await state.count("s", ["a"], 60)
    assert await state.count("s", ["a", "b"], 60, -1) == [0, 0]


async def test_what_is_read_is_not_what_is_kept(state: SharedState) -> None:
    await state.count("s", ["a"], 60)
    read: Any = await state.counts("s")
    read["a"] = 100
    assert await state.counts("s") == {"a": 1}


async def test_one_session_cannot_fill_the_memory_with_names(state: SharedState) -> None:
    for number in range(MOST_NAMES):
        await state.count("s", [str(number)], 60)
    with pytest.raises(Overloaded):
        await state.count("s", ["one more"], 60)
    assert await state.count("s", ["5"], 60) == [2]


# ---- bounds

Work = Callable[[MemoryState, str], Awaitable[object]]
WORKS: dict[str, Work] = {
    "rates": lambda state, key: state.take_all([(key, Rate(10, 1.0))]),
    "budgets": lambda state, key: state.reserve([Account(key, 100, 1.0)], 1),
    "counts": lambda state, key: state.count(key, ["calls"], 1.0),
}


@pytest.mark.parametrize("kind", WORKS)
def test_a_hundred_thousand_callers_come_and_go_and_the_memory_stays_flat(kind: str) -> None:
    """A thousand new ones in each second, each of whom stays for one."""
    clock = Clock()
    state = MemoryState(clock)
    most = 0
    for number in range(100_000):
        clock.now_s += 0.001
        at_once(WORKS[kind](state, f"caller-{number}"))
        most = max(most, len(state))
    assert most < 3000


@pytest.mark.parametrize("kind", WORKS)
def test_a_hundred_thousand_callers_at_one_time_are_all_remembered(kind: str) -> None:
    state = MemoryState(Clock())
    for number in range(100_000):
        at_once(WORKS[kind](state, f"caller-{number}"))
    assert len(state) == 100_000


@pytest.mark.parametrize("kind", WORKS)
def test_when_there_is_no_room_for_more_a_new_caller_is_refused_and_the_old_ones_are_not_forgotten(kind: str) -> None:
    clock = Clock()
    state = MemoryState(clock, most_keys=100)
    for number in range(100):
        at_once(WORKS[kind](state, f"old-{number}"))
    with pytest.raises(Overloaded):
        at_once(WORKS[kind](state, "new"))
    for number in range(100):
        at_once(WORKS[kind](state, f"old-{number}"))
    clock.now_s += 2
    at_once(WORKS[kind](state, "new"))


async def test_of_several_new_limits_all_or_none_find_room() -> None:
    state = MemoryState(Clock(), most_keys=2)
    await state.take_all([("a", MINUTE)])
    with pytest.raises(Overloaded):
        await state.take_all([("a", MINUTE), ("b", MINUTE), ("c", MINUTE)])
    assert await state.left([("a", MINUTE), ("b", MINUTE)]) == [2, 3]


@given(st.lists(st.tuples(st.integers(0, 12), st.floats(0, 3)), max_size=200))
def test_what_is_forgotten_is_only_what_makes_no_difference(calls: list[tuple[int, float]]) -> None:
    """A store that sweeps grants exactly what one that forgets nothing would."""
    clock = Clock()
    swept, kept = MemoryState(clock), MemoryState(clock)
    kept._tats._dead = kept._sums._dead = lambda entry, now_s: False  # type: ignore[assignment]  # one for both kinds of entry
    for number, gap_s in calls:
        clock.now_s += gap_s
        key, rate = f"key-{number}", Rate(2, 1.0 + number % 3)
        account = Account(key, 10, 1.0 + number % 3)
        assert at_once(swept.take_all([(key, rate)])) == at_once(kept.take_all([(key, rate)]))
        assert at_once(swept.reserve([account], 4)) == at_once(kept.reserve([account], 4))


async def test_many_tasks_at_one_time_never_overspend(state: SharedState) -> None:
    account = Account("a", 100, 60)
    most = 0

    async def call(number: int) -> None:
        nonlocal most
        if not isinstance(await state.reserve([account], 7), Short):
            most = max(most, (await state.used(["a"]))[0])
            for _ in range(number % 4):
                await asyncio.sleep(0)
            await state.settle([account], 7, number % 3)

    await asyncio.gather(*(call(number) for number in range(60)))
    assert 90 < most <= 100
    assert (await state.used(["a"]))[0] <= 100
