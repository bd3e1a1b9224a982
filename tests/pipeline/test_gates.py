"""Nobody passes a full gate, nobody waits at one that has room, and no place is ever lost."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.errors import Overloaded
from bascule.pipeline.gates import Gates, Wanted
from pipeline.calls import settled

A, B, C = ("caller:a", 1), ("server:b", 2), ("thing:tool:c", 3)


class Visit:
    """A task that enters, stays until it is told to leave, and leaves."""

    def __init__(self, gates: Gates, wanted: Wanted, owner: str = "me") -> None:
        self.owner = owner
        self.wanted = wanted
        self.inside = False
        self._leave = asyncio.Event()
        self.task = asyncio.ensure_future(self._run(gates))

    async def _run(self, gates: Gates) -> None:
        entered = await gates.enter(self.owner, self.wanted)
        self.inside = True
        try:
            await self._leave.wait()
        finally:
            self.inside = False
            gates.leave(entered)

    def leave(self) -> None:
        self._leave.set()

    async def end(self) -> None:
        self._leave.set()
        self.task.cancel()
        await asyncio.wait({self.task})


def inside(visits: Sequence[Visit]) -> list[int]:
    return [number for number, visit in enumerate(visits) if visit.inside]


async def test_who_finds_it_full_gets_in_by_age() -> None:
    gates = Gates(10, 60.0)
    visits = [Visit(gates, [B]) for _ in range(5)]
    await settled()
    assert inside(visits) == [0, 1]
    visits[1].leave()
    await settled()
    assert inside(visits) == [0, 2]
    visits[0].leave()
    visits[2].leave()
    await settled()
    assert inside(visits) == [3, 4]
    for visit in visits:
        await visit.end()


async def test_a_new_call_never_passes_one_in_line() -> None:
    gates = Gates(10, 60.0)
    visits = [Visit(gates, [A]) for _ in range(2)]
    await settled()
    visits[0].leave()  # and before anybody else runs:
    visits.append(Visit(gates, [A]))
    await settled()
    assert inside(visits) == [1]
    for visit in visits:
        await visit.end()


async def test_who_waits_for_one_gate_holds_no_place_at_another() -> None:
    gates = Gates(10, 60.0)
    slow = [Visit(gates, [("caller:me", 3), ("server:slow", 1)]) for _ in range(5)]
    await settled()
    quick = [Visit(gates, [("caller:me", 3), ("server:quick", 5)]) for _ in range(2)]
    await settled()
    assert (inside(slow), inside(quick)) == ([0], [0, 1])
    for visit in [*slow, *quick]:
        await visit.end()


async def test_callers_take_turns_in_a_line_and_each_keeps_its_order() -> None:
    gates = Gates(10, 60.0)
    holder = Visit(gates, [A])
    await settled()
    visits = [Visit(gates, [A], owner) for owner in ("noisy", "noisy", "noisy", "quiet", "third", "quiet")]
    order: list[int] = []
    while len(order) < len(visits):
        await settled()
        holder.leave()
        await settled()
        (number,) = inside(visits)
        order.append(number)
        holder = visits[number]
        if len(order) == 5:
            visits.append(Visit(gates, [A], "late"))  # it comes into the round that is served, not before it
    assert order == [0, 3, 4, 1, 5, 2, 6]
    for visit in visits:
        await visit.end()


async def test_a_full_line_puts_out_the_last_of_whoever_has_most_in_it() -> None:
    gates = Gates(3, 60.0)
    holder = Visit(gates, [A])
    await settled()
    noisy = [Visit(gates, [A], "noisy") for _ in range(4)]
    await settled()
    assert noisy[3].task.done()
    quiet = Visit(gates, [A], "quiet")
    await settled()
    assert [visit.task.done() for visit in (*noisy, quiet)] == [False, False, True, True, False]
    holder.leave()
    await settled()
    noisy[0].leave()
    await settled()
    assert quiet.inside
    with pytest.raises(Overloaded):
        await noisy[2].task
    with pytest.raises(Overloaded):
        await noisy[3].task
    for visit in (holder, *noisy[:2], quiet):
        await visit.end()


async def test_who_leaves_two_gates_lets_in_who_needs_both() -> None:
    gates = Gates(10, 60.0)
    both = [("caller:me", 1), ("server:s", 1)]
    visits = [Visit(gates, both) for _ in range(2)]
    await settled()
    visits.append(Visit(gates, [("caller:you", 1), ("server:s", 1)], "you"))
    await settled()
    visits[0].leave()
    await settled()
    assert inside(visits) == [2], "it waited at the server, the other only at its own gate"
    visits[2].leave()
    await settled()
    assert inside(visits) == [1]
    for visit in visits:
        await visit.end()


async def test_a_line_is_bounded_and_the_refusal_says_where_and_when_to_come_back() -> None:
    gates = Gates(2, 60.0)
    visits = [Visit(gates, [A]) for _ in range(4)]
    await settled()
    with pytest.raises(Overloaded, match="this caller has at most 1 calls at one time") as refused:
        await visits[3].task
    assert refused.value.details == {"limit": "caller", "concurrent": 1, "reason": "queue_full"}
    assert refused.value.retry_after_s == 1.0
    assert [visit.task.done() for visit in visits[:3]] == [False] * 3
    for visit in visits:
        await visit.end()


async def test_with_no_line_at_all_a_call_gets_in_at_once_or_not() -> None:
    gates = Gates(0, 60.0)
    entered = await gates.enter("me", [A])
    with pytest.raises(Overloaded):
        await gates.enter("me", [A])
    gates.leave(entered)
    gates.leave(await gates.enter("me", [A]))


async def test_who_changes_lines_goes_before_the_younger_ones_of_its_caller() -> None:
    gates = Gates(10, 60.0)
    tool, server = ("thing:tool:t", 1), ("server:s", 1)
    holders = [Visit(gates, [tool]), Visit(gates, [server])]
    await settled()
    old = Visit(gates, [tool, server])
    await settled()
    young = [Visit(gates, [server]) for _ in range(2)]
    await settled()
    holders[0].leave()  # `old` goes over to the line of the server
    await settled()
    holders[1].leave()
    await settled()
    assert (old.inside, inside(young)) == (True, [])
    for visit in (*holders, old, *young):
        await visit.end()


async def test_who_waits_too_long_is_refused_and_leaves_the_line() -> None:
    gates = Gates(1, 0.01)
    entered = await gates.enter("me", [A])
    for _ in range(3):
        with pytest.raises(Overloaded) as refused:
            await asyncio.wait_for(gates.enter("me", [A]), 10)
        assert refused.value.details["reason"] == "queue_timeout"
        assert refused.value.retry_after_s is not None
    gates.leave(entered)
    gates.leave(await gates.enter("me", [A]))


async def test_a_place_that_comes_at_the_moment_of_a_cancellation_goes_to_the_next() -> None:
    gates = Gates(10, 60.0)
    first, gone, last = (Visit(gates, [A]) for _ in range(3))
    await settled()
    gates.leave([])  # nothing is nothing
    first.leave()
    await asyncio.sleep(0)  # `first` has left, and `gone` not heard of it yet
    gone.task.cancel()
    await settled()
    assert last.inside
    for visit in (first, gone, last):
        await visit.end()


async def test_a_place_that_comes_just_after_a_cancellation_goes_to_the_next() -> None:
    gates = Gates(10, 60.0)
    first, gone, last = (Visit(gates, [A]) for _ in range(3))
    await settled()
    first.leave()
    gone.task.cancel()  # it hears of that after `first` has left
    await first.task
    await settled()
    assert last.inside
    for visit in (first, gone, last):
        await visit.end()


async def test_who_is_cancelled_makes_room_in_the_line() -> None:
    gates = Gates(1, 60.0)
    visits = [Visit(gates, [A]) for _ in range(2)]
    await settled()
    visits[1].task.cancel()
    await settled()
    visits.append(Visit(gates, [A]))
    await settled()
    visits[0].leave()
    await settled()
    assert inside(visits) == [2]
    for visit in visits:
        await visit.end()


async def test_more_places_after_a_reload_let_in_who_waits() -> None:
    gates = Gates(10, 60.0)
    visits = [Visit(gates, [("server:s", 1)]) for _ in range(3)]
    await settled()
    visits.append(Visit(gates, [("server:s", 3)]))
    await settled()
    assert inside(visits) == [0, 1, 2]
    visits[0].leave()
    await settled()
    visits.append(Visit(gates, [("server:s", 1)]))
    visits[1].leave()
    await settled()
    assert inside(visits) == [2, 3]
    for visit in visits:
        await visit.end()


async def test_gates_that_nobody_uses_are_forgotten() -> None:
    gates = Gates(10, 60.0)
    for number in range(5000):
        gates.leave(await gates.enter("me", [(f"caller:{number}", 1)]))
    assert len(gates) <= 1001


wanted = st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=3, unique=True).map(
    lambda gates: sorted(gates, key=lambda gate: gate[0])
)
steps = st.one_of(
    st.tuples(st.just("enter"), st.tuples(wanted, st.sampled_from(["me", "you"]))),
    st.tuples(st.sampled_from(["leave", "cancel"]), st.integers(0, 100)),
    st.tuples(st.just("run"), st.just(0)),
)


def check(gates: Gates) -> None:
    for gate in gates._gates.values():
        waiting = [ticket for ticket in gate.line if not ticket.turn.done()]
        assert 0 <= gate.taken <= gate.places
        assert gate.taken == gate.places or not waiting, "somebody waits at a gate that has room"
        assert (ranks := [ticket.rank for ticket in gate.line]) == sorted(ranks)
        assert len(gate.line) <= gates.queued


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=60), st.sampled_from([0.0, 1000.0]), st.integers(0, 4))
def test_whatever_comes_goes_or_gives_up_in_any_order(
    orders: list[tuple[str, object]], timeout_s: float, queued: int
) -> None:
    async def play() -> None:
        gates = Gates(queued, timeout_s)
        visits: list[Visit] = []
        for order, what in orders:
            if order == "enter":
                assert isinstance(what, tuple)
                visits.append(Visit(gates, *what))
            elif order == "run":
                await settled()
            elif visits:
                assert isinstance(what, int)
                visit = visits[what % len(visits)]
                visit.leave() if order == "leave" else visit.task.cancel()
            if order == "enter":
                await asyncio.sleep(0)
            check(gates)
        for visit in visits:
            visit.leave()
        await settled()
        done = [visit.task for visit in visits]
        if done:
            await asyncio.wait_for(asyncio.wait(done), 10)
        for task in done:
            assert task.cancelled() or isinstance(task.exception(), Overloaded | None)
        assert all(gate.taken == gate.users == 0 and not gate.line for gate in gates._gates.values())

    asyncio.run(play())


async def test_a_thousand_calls_of_real_tasks_all_pass_and_never_too_many() -> None:
    gates = Gates(1000, 60.0)
    running, most = 0, 0

    async def visit(number: int) -> None:
        nonlocal running, most
        entered = await gates.enter(
            "me", [(f"caller:{number % 10}", 2), ("server:s", 5), (f"thing:tool:{number % 3}", 4)]
        )
        running += 1
        most = max(most, running)
        for _ in range(number % 4):
            await asyncio.sleep(0)
        running -= 1
        gates.leave(entered)

    await asyncio.wait_for(asyncio.gather(*(visit(number) for number in range(1000))), 30)
    assert most == 5
