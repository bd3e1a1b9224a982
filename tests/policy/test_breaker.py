"""The circuit of a server, checked against plain sentences: every short history, and long random ones."""

import itertools
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bascule.policy.breaker import (
    RULES,
    Answered,
    Began,
    Circuit,
    Event,
    Failed,
    Hold,
    Rules,
    Withdrawn,
    admission,
    counted,
    is_calm,
    step,
)

SMALL: Final = Rules(in_a_row=2, window_s=3, least=4, share=0.5, open_s=2.0, longest_s=5.0, jitter=0.0, to_close=2)


def failed(circuit: Circuit, times: int, now_s: float = 0.0, jitter: float = 0.0) -> Circuit:
    for _ in range(times):
        circuit = step(circuit, Failed(circuit.epoch), now_s, jitter)
    return circuit


def probed(circuit: Circuit, now_s: float, *, answered: bool) -> Circuit:
    circuit = step(circuit, Began(), now_s)
    return step(circuit, Answered(circuit.epoch) if answered else Failed(circuit.epoch), now_s)


# ---- sentences of the specification (security.md 2.5)


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    four = failed(Circuit(), 4)
    assert four.mode == "closed"
    assert failed(four, 1).mode == "open"


def test_an_answer_in_between_begins_the_row_anew() -> None:
    circuit = failed(Circuit(), 4)
    assert failed(step(circuit, Answered(0), 0), 4).mode == "closed"


@pytest.mark.parametrize(
    ("calls", "failures", "opens"), [(20, 10, True), (20, 9, False), (19, 12, False), (100, 50, True)]
)
def test_half_of_at_least_twenty_calls_open_it(calls: int, failures: int, opens: bool) -> None:
    # Answers first, failures four at a time, so that it is never the row that opens it.
    spread = [Failed(0) if number % 5 else Answered(0) for number in range(1, 1000)]
    events: list[Event] = []
    left_failures, left_answers = failures, calls - failures
    for each in spread:
        if isinstance(each, Failed) and left_failures:
            events.append(each)
            left_failures -= 1
        elif isinstance(each, Answered) and left_answers:
            events.append(each)
            left_answers -= 1
    events += [Answered(0)] * left_answers
    assert sum(isinstance(event, Failed) for event in events) == failures
    assert len(events) == calls
    circuit = Circuit()
    for event in events:
        circuit = step(circuit, event, 5.0, rules=Rules(in_a_row=1000))
    assert (circuit.mode == "open") is opens


def test_what_is_older_than_ten_seconds_does_not_count() -> None:
    rules = Rules(in_a_row=1000)
    circuit = Circuit()
    for _ in range(15):
        circuit = step(circuit, Failed(0), 0.0, rules=rules)
    for _ in range(15):
        circuit = step(circuit, Answered(0), 10.0, rules=rules)
    assert (circuit.mode, counted(circuit)) == ("closed", (15, 0))


@pytest.mark.parametrize(("jitter", "opens_for_s"), [(-1.0, 24.0), (0.0, 30.0), (1.0, 36.0)])
def test_it_stays_open_for_thirty_seconds_give_or_take_a_fifth(jitter: float, opens_for_s: float) -> None:
    circuit = failed(Circuit(), 5, 100.0, jitter)
    assert circuit.until_s == pytest.approx(100.0 + opens_for_s)
    assert admission(circuit, circuit.until_s - 0.001) == "refuse"
    assert admission(circuit, circuit.until_s) == "probe"


def test_each_failed_probe_doubles_the_wait_up_to_five_minutes_and_closing_forgets_it() -> None:
    circuit, waits_s = failed(Circuit(), 5), []
    for _ in range(6):
        waits_s.append(circuit.until_s - circuit.since_s)
        circuit = probed(circuit, circuit.until_s, answered=False)
    assert waits_s == pytest.approx([30, 60, 120, 240, 300, 300])
    circuit = probed(probed(circuit, circuit.until_s, answered=True), circuit.until_s, answered=True)
    assert circuit.mode == "closed"
    again = failed(circuit, 5, 5000.0)
    assert again.until_s - again.since_s == pytest.approx(30)


def test_one_probe_at_a_time_and_two_answers_close_it() -> None:
    circuit = failed(Circuit(), 5)
    circuit = step(circuit, Began(), circuit.until_s)
    assert (circuit.mode, admission(circuit, 1e9)) == ("half_open", "refuse")
    circuit = step(circuit, Answered(circuit.epoch), 40)
    assert (circuit.mode, admission(circuit, 41)) == ("half_open", "probe")
    assert probed(circuit, 41, answered=True).mode == "closed"


def test_a_probe_that_tells_nothing_makes_room_for_the_next() -> None:
    circuit = step(failed(Circuit(), 5), Began(), 40)
    circuit = step(circuit, Withdrawn(circuit.epoch), 41)
    assert (circuit.mode, admission(circuit, 41)) == ("half_open", "probe")


def test_what_began_before_it_changed_says_nothing() -> None:
    opened = failed(Circuit(), 5)
    half = step(opened, Began(), 40)
    for late in (Answered(0), Failed(0), Withdrawn(0), Answered(opened.epoch), Failed(opened.epoch)):
        assert step(half, late, 41) == half
        assert step(opened, late, 41) == opened


def test_an_operator_is_stronger_than_any_outcome() -> None:
    open_, closed = (step(failed(Circuit(), 3), Hold(held), 1) for held in ("open", "closed"))
    assert admission(open_, 1e9) == "refuse"
    assert admission(failed(closed, 50), 0) == "pass"
    assert step(open_, Began(), 1e9) == open_
    assert step(open_, Hold(None), 2) == Circuit(epoch=open_.epoch + 1, since_s=2)


# ---- the model: every history of a few events


def invariants(before: Circuit, event: Event, after: Circuit, now_s: float, rules: Rules) -> None:
    """What holds of every step, in plain words."""
    # A change of mode is a new epoch, and nothing else is.
    changed = before.mode != after.mode or before.held != after.held or isinstance(event, Hold)
    assert after.epoch == before.epoch + changed
    # It never goes from open to closed, nor from closed to half open: a probe comes in between.
    if not isinstance(event, Hold):
        assert (before.mode, after.mode) not in {("open", "closed"), ("closed", "half_open")}
    # Whoever is told of another epoch changes nothing.
    if isinstance(event, Answered | Failed | Withdrawn) and event.epoch != before.epoch:
        assert after == before
    # An answer never opens it but by completing the twenty; a failure never closes it.
    if isinstance(event, Failed):
        assert not (before.mode != "closed" and after.mode == "closed")
    # Open, it lets nobody in before its time, and its time comes.
    if after.mode == "open":
        assert after.until_s <= after.since_s + rules.longest_s * (1 + rules.jitter)
        assert admission(after, after.until_s) == "probe"
        assert not after.probing
    # While a probe is under way there is no other.
    if after.probing:
        assert after.mode == "half_open"
        assert admission(after, 1e12) == "refuse"
    # Half open without a probe, the next one may go: it can always get out.
    if after.mode == "half_open" and not after.probing:
        assert admission(after, now_s) == "probe"
    # Calm is when an answer changes nothing but counts.
    if is_calm(after):
        answered = step(after, Answered(after.epoch), now_s, rules=rules)
        assert (answered.mode, answered.epoch, answered.in_a_row) == ("closed", after.epoch, 0)
    # The window is short, in order, and holds no more than its seconds.
    ats = [second.at for second in after.seconds]
    assert ats == sorted(set(ats))
    assert not ats or ats[-1] - ats[0] < rules.window_s
    # Closed, it is never past its own bounds.
    if after.mode == "closed" and after.held is None:
        calls, failures = counted(after)
        assert after.in_a_row < rules.in_a_row
        assert calls < rules.least or failures < rules.share * calls


def test_every_history_of_six_events_keeps_the_invariants() -> None:
    """Of each kind, in this epoch and in the one before, with no time and with much between them."""
    states = {Circuit(): 0.0}
    seen = 0
    for _ in range(6):
        following: dict[Circuit, float] = {}
        for (circuit, now_s), gap_s in itertools.product(states.items(), (0.0, 1.0, 2.5, 10.0)):
            for event in possible(circuit):
                at_s = now_s + gap_s
                after = step(circuit, event, at_s, rules=SMALL)
                invariants(circuit, event, after, at_s, SMALL)
                # What came to the same is the same from here on: one of each is kept, in times relative to now.
                following[relative(after, int(at_s))] = at_s - int(at_s)
                seen += 1
        states = following
    assert seen > 5000
    assert {"closed", "open", "half_open"} == {circuit.mode for circuit in states}


def possible(circuit: Circuit) -> list[Event]:
    now, before = circuit.epoch, circuit.epoch - 1
    of_calls: list[Event] = [
        Answered(now),
        Answered(before),
        Failed(now),
        Failed(before),
        Withdrawn(now),
        Withdrawn(before),
    ]
    return [*of_calls, Began(), Hold("open"), Hold("closed"), Hold(None)]


def relative(circuit: Circuit, now_s: int) -> Circuit:
    """The circuit as it would be if it were zero o'clock now, and its epoch one of the first."""
    seconds = tuple(msgspec.structs.replace(each, at=each.at - now_s) for each in circuit.seconds)
    times = {"since_s": circuit.since_s - now_s, "until_s": circuit.until_s - now_s}
    return msgspec.structs.replace(circuit, seconds=seconds, epoch=1, **times)


# ---- long histories


class Served(RuleBasedStateMachine):
    """A server with a circuit, and the calls that are at it: what a shell does, and what must be true of it."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit()
        self.now_s = 0.0
        self.at_it: list[tuple[int, bool]] = []  # (epoch, whether it is the probe) of calls under way

    def take(self, event: Event, jitter: float = 0.0) -> None:
        before = self.circuit
        self.circuit = step(before, event, self.now_s, jitter)
        invariants(before, event, self.circuit, self.now_s, RULES)

    @rule(seconds=st.floats(0, 40))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def a_call_comes(self) -> None:
        may = admission(self.circuit, self.now_s)
        if may == "probe":
            self.take(Began())
        if may != "refuse":
            self.at_it.append((self.circuit.epoch, may == "probe"))

    @precondition(lambda self: self.at_it)
    @rule(which=st.integers(0), how=st.sampled_from(["answered", "failed", "nothing"]), jitter=st.floats(-1, 1))
    def a_call_ends(self, which: int, how: str, jitter: float) -> None:
        epoch, probe = self.at_it.pop(which % len(self.at_it))
        if how == "nothing":
            if probe:
                self.take(Withdrawn(epoch))
        else:
            self.take(Answered(epoch) if how == "answered" else Failed(epoch), jitter)

    @rule(held=st.sampled_from(["open", "closed", None]))
    def an_operator_decides(self, held: str | None) -> None:
        self.take(Hold(held))  # type: ignore[arg-type]  # hypothesis does not know of literals

    @invariant()
    def a_probe_is_under_way_exactly_when_it_is_said(self) -> None:
        probes = [epoch for epoch, probe in self.at_it if probe and epoch == self.circuit.epoch]
        assert len(probes) == self.circuit.probing

    @invariant()
    def nobody_is_locked_out_for_ever(self) -> None:
        if self.circuit.held is None and not self.circuit.probing:
            assert admission(self.circuit, max(self.now_s, self.circuit.until_s)) != "refuse"


TestServed = Served.TestCase
TestServed.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=80))
def test_answers_that_are_counted_together_come_to_the_same(history: list[tuple[bool, float]]) -> None:
    """What the shell does for speed: in calm times it tells of a second's answers at once."""
    one, batched, waiting, second, now_s = Circuit(), Circuit(), 0, 0, 0.0
    for is_failure, gap_s in history:
        now_s += gap_s
        if waiting and (is_failure or int(now_s) != second):
            batched, waiting = step(batched, Answered(batched.epoch, waiting), float(second)), 0
        if is_failure:
            one, batched = (step(each, Failed(each.epoch), now_s) for each in (one, batched))
        else:
            one = step(one, Answered(one.epoch), now_s)
            if is_calm(batched):
                waiting, second = waiting + 1, int(now_s)
            else:
                batched = step(batched, Answered(batched.epoch), now_s)
    if waiting:
        batched = step(batched, Answered(batched.epoch, waiting), float(second))
    assert one == batched
