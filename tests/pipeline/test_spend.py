"""Money is reserved before a call and settled after it, however it ends; a budget is never overspent."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract, CostModel
from bascule.errors import BudgetExceeded, GuardrailDenied, Overloaded, TimedOut, UpstreamBrokeProtocol
from bascule.pipeline.chain import Stage, compose
from bascule.pipeline.dispatch import Dispatch
from bascule.pipeline.spend import Spend
from bascule.pipeline.tally import Tally
from bascule.policy.allowances import Allowances
from bascule.policy.options import Budget, CallerLimits
from bascule.store.shared import Account, MemoryState
from pipeline.calls import ANSWER, Server, call, settled

EVENING = datetime(2026, 11, 20, 19, 30, tzinfo=UTC).timestamp()
DAILY = CallerLimits(budget=Budget(usd=1.0, per="day"))
PRICED = Contract(id="crm/find", cost_model=CostModel(price_usd=0.1))


class World:
    """One store, the limits of callers, and the time: *now_s* passes for all, *stepped_s* is the calendar's own."""

    def __init__(self, limits: CallerLimits = DAILY, **own: CallerLimits) -> None:
        self.now_s = EVENING
        self.stepped_s = 0.0
        self.state = MemoryState(lambda: self.now_s)
        self.tally = Tally(self.state)
        self.allowances = Allowances(limits, own)
        self.server = Server()

    def spend(self, contract: Contract = PRICED) -> Spend:
        return Spend(
            contract, allowance_of=self.allowances.of, state=self.state, clock=lambda: self.now_s + self.stepped_s
        )

    def chain(self, contract: Contract = PRICED, last: Forward | None = None, *between: Stage) -> Forward:
        stages: Sequence[Stage] = [self.spend(contract), *between, Dispatch(self.tally)]
        return compose(stages, last or self.server)

    async def spent(self, caller: str = "me", session: str = "") -> float:
        facts = await self.tally.session_facts(call(caller, session=session))
        assert isinstance(facts["spent"], float)
        return facts["spent"]


def priced(unit: Any = "call", price_usd: float = 0.1, units: float = 1.0) -> Contract:
    return Contract(id="crm/find", cost_model=CostModel(unit=unit, price_usd=price_usd, estimated_units=units))


def reports(**said: Any) -> Result:
    return Result(Raw(msgspec.json.encode({"content": [], "_meta": {"dev.bascule/cost": said}})))


def fails(error: Callable[[], BaseException]) -> Forward:
    async def last(call: Call) -> Result:
        raise error()

    return last


# ---- what a call costs


async def test_a_result_says_what_the_call_cost() -> None:
    world = World()
    result = await world.chain()(call())
    assert (result.value, result.cost_usd, result.warnings) == (ANSWER.value, 0.1, ())
    assert await world.spent() == pytest.approx(0.1)


async def test_a_tool_without_a_price_costs_nothing_that_is_known() -> None:
    world = World()
    assert await world.chain(Contract(id="crm/free"))(call()) == ANSWER
    assert len(world.state) == 1, "its call was counted, and no money"


async def test_what_the_server_reports_goes_before_the_price() -> None:
    world = World()
    result = await world.chain(last=Server(reports(usd=0.035)))(call())
    assert result.cost_usd == 0.035
    assert await world.spent() == pytest.approx(0.035)
    result = await world.chain(priced("token", 0.000001, 500), Server(reports(units=20_000)))(call())
    assert result.cost_usd == 0.02


async def test_an_absurd_report_is_not_charged_and_the_client_is_told() -> None:
    world = World()
    result = await world.chain(last=Server(reports(usd=-50)))(call())
    assert result.cost_usd == 0.1
    assert "not believed" in result.warnings[0]


async def test_the_time_that_the_server_took_is_charged_and_not_the_wait_before_it() -> None:
    world = World()

    class Waits:
        async def __call__(self, call: Call, forward: Forward) -> Result:
            trip = call.trip
            assert trip is not None
            before = trip.sent
            result = await forward(call)
            assert (before, trip.sent) == (False, True)
            assert trip.seconds < 5
            trip.seconds = 3.0  # so long it has taken
            return result

    result = await world.chain(priced("second", 0.01), None, Waits())(call())
    assert result.cost_usd == 0.03


async def test_a_round_of_a_call_that_goes_on_is_not_the_call() -> None:
    world = World()
    asks = Result(Raw(b'{"resultType":"input_required","inputRequests":{},"requestState":"x"}'))
    assert (await world.chain(last=Server(asks))(call())).cost_usd == 0
    assert await world.spent() == 0
    assert (await world.tally.session_facts(call()))["calls"] == 0


# ---- how a call ends


async def test_a_call_that_never_reached_its_server_costs_nothing() -> None:
    world = World()

    class Refuses:
        async def __call__(self, call: Call, forward: Forward) -> Result:
            raise GuardrailDenied("no")

    class Answers:
        async def __call__(self, call: Call, forward: Forward) -> Result:
            return ANSWER

    with pytest.raises(GuardrailDenied):
        await world.chain(PRICED, None, Refuses())(call())
    assert (await world.chain(PRICED, None, Answers())(call())).cost_usd == 0.0
    assert await world.spent() == 0
    assert (await world.tally.session_facts(call()))["calls"] == 0


async def test_one_that_is_cancelled_before_it_reaches_its_server_costs_nothing() -> None:
    world, held = World(), asyncio.Event()

    class Asks:
        async def __call__(self, call: Call, forward: Forward) -> Result:
            await held.wait()
            return await forward(call)

    task = asyncio.ensure_future(world.chain(PRICED, None, Asks())(call()))
    await settled()
    assert await world.spent() == pytest.approx(0.1), "reserved"
    task.cancel()
    await asyncio.wait({task})
    assert await world.spent() == 0


@pytest.mark.parametrize(
    "error", [lambda: UpstreamBrokeProtocol("gone"), lambda: TimedOut("late"), lambda: KeyError("bug")]
)
async def test_one_that_failed_at_its_server_costs_its_estimate(error: Callable[[], BaseException]) -> None:
    world = World()
    with pytest.raises(type(error())):
        await world.chain(last=fails(error))(call())
    assert await world.spent() == pytest.approx(0.1)


async def test_one_that_is_cancelled_at_its_server_costs_its_estimate() -> None:
    world, server = World(), Server(held=True)
    task = asyncio.ensure_future(world.chain(last=server)(call()))
    await settled()
    assert server.running == 1
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert await world.spent() == pytest.approx(0.1)


async def test_an_error_that_the_server_answers_with_is_an_answer() -> None:
    world = World()
    refused = Result(Raw(b'{"code":-32602,"message":"no"}'), refused=True)
    assert (await world.chain(last=Server(refused))(call())).cost_usd == 0.1


async def test_a_store_that_fails_after_the_call_does_not_hide_its_outcome() -> None:
    class Broken(MemoryState):
        async def settle(self, accounts: Sequence[Account], reserved: int, actual: int) -> Sequence[int]:
            raise UpstreamBrokeProtocol("the store is down")

    world = World()
    world.state = Broken(lambda: world.now_s)
    answer = reports(usd=0.035)
    result = await world.chain(last=Server(answer))(call())
    assert (result.value, result.cost_usd) == (answer.value, 0.035)
    assert result.warnings == ("the cost was not recorded, only its estimate: the store is down",)
    assert await world.state.used(["window:2026-11-20:me"]) == [100_000_000]


async def test_what_costs_just_what_was_reserved_for_it_takes_one_round_trip_to_the_store() -> None:
    class Counting(MemoryState):
        settled = 0

        async def settle(self, accounts: Sequence[Account], reserved: int, actual: int) -> Sequence[int]:
            self.settled += 1
            return await super().settle(accounts, reserved, actual)

    world = World()
    world.state = state = Counting(lambda: world.now_s)
    assert (await world.chain()(call())).cost_usd == 0.1
    assert state.settled == 0
    assert await state.used(["window:2026-11-20:me"]) == [100_000_000]
    await world.chain(last=Server(reports(usd=0.035)))(call())
    assert state.settled == 1
    assert await state.used(["window:2026-11-20:me"]) == [135_000_000]


async def test_what_a_session_has_spent_is_kept_only_where_it_is_asked_for() -> None:
    world = World()
    spend = Spend(PRICED, allowance_of=world.allowances.of, state=world.state, clock=lambda: world.now_s, summing=False)
    forward = compose([spend, Dispatch(None)], world.server)
    assert (await forward(call(session="s"))).cost_usd == 0.1
    assert await world.state.used(["window:2026-11-20:me"]) == [100_000_000]
    assert len(world.state) == 1, "the window, and neither a sum nor a count of the session"


async def test_a_store_that_fails_before_the_call_refuses_it() -> None:
    world = World()
    world.state = MemoryState(lambda: world.now_s, most_keys=0)
    with pytest.raises(Overloaded):
        await world.chain()(call())
    assert world.server.calls == 0


# ---- budgets


async def test_a_budget_ends_and_begins_anew_with_its_window() -> None:
    world = World()
    forward = world.chain()
    for _ in range(10):
        await forward(call())
    with pytest.raises(BudgetExceeded) as refused:
        await forward(call())
    assert world.server.calls == 10
    assert refused.value.http == 402
    assert refused.value.details == {
        "budget": "day",
        "limit_usd": 1.0,
        "left_usd": 0.0,
        "needed_usd": 0.1,
        "renews_at": "2026-11-21T00:00:00Z",
    }
    assert refused.value.message == (
        "the call needs 0.1 USD, and 0 USD are left of the budget of this caller for this day (1 USD);"
        " it renews at 2026-11-21T00:00:00Z"
    )
    await forward(call("other"))
    world.now_s += 4.5 * 3600
    await forward(call())


async def test_a_clock_that_steps_back_gives_no_budget_twice() -> None:
    world = World()
    forward = world.chain()
    for _ in range(10):
        await forward(call())
    world.stepped_s = 24 * 3600
    await forward(call())
    world.stepped_s = 0
    with pytest.raises(BudgetExceeded):
        await forward(call())
    world.now_s += 4.6 * 3600  # past midnight, and back before it
    world.stepped_s = -600
    with pytest.raises(BudgetExceeded):
        await forward(call())


async def test_a_session_has_a_budget_of_its_own() -> None:
    world = World(CallerLimits(session_usd=0.25))
    forward = world.chain()
    for session in ("one", "two", ""):
        for _ in range(2):
            await forward(call(session=session))
        with pytest.raises(BudgetExceeded) as refused:
            await forward(call(session=session))
        assert refused.value.details["budget"] == "session"
        assert refused.value.details["renews_at"] is None
        assert refused.value.details["left_usd"] == 0.05
    await forward(call("other", session="one"))


async def test_a_stateless_callers_session_ends_half_an_hour_after_its_last_call() -> None:
    world = World(CallerLimits(session_usd=0.1))
    forward = world.chain()
    await forward(call())
    world.now_s += 1700
    with pytest.raises(BudgetExceeded, match="30 minutes after its last call"):
        await forward(call())
    world.now_s += 1801
    await forward(call())


async def test_a_refusal_by_one_budget_burdens_no_other() -> None:
    world = World(CallerLimits(budget=Budget(usd=1.0), session_usd=0.1))
    forward = world.chain()
    await forward(call(session="a"))
    for _ in range(20):
        with pytest.raises(BudgetExceeded):
            await forward(call(session="a"))
    assert await world.state.used(["window:2026-11-20:me"]) == [100_000_000]


async def test_a_warning_comes_when_most_of_a_budget_is_spent() -> None:
    forward = World().chain()
    warnings = [(await forward(call())).warnings for _ in range(10)]
    assert warnings[:7] == [()] * 7
    assert warnings[7] == (
        "80% of the budget of this caller for this day (1 USD) are spent; it renews at 2026-11-21T00:00:00Z",
    )
    assert warnings[9][0].startswith("100%")


async def test_a_tool_without_a_price_is_stopped_too_once_its_reports_have_spent_the_budget() -> None:
    world = World()
    forward = world.chain(Contract(id="crm/free"), Server(reports(usd=0.4)))
    for _ in range(2):
        assert (await forward(call())).cost_usd == 0.4
    with pytest.raises(BudgetExceeded):
        await forward(call())


async def test_peek_tells_what_is_left_and_reserves_nothing() -> None:
    world = World(CallerLimits(budget=Budget(usd=1.0), session_usd=0.15))
    stage = world.spend()
    for _ in range(20):
        assert await stage.peek(call()) == (
            "0.1 USD are reserved for it",
            "1 USD are left of the budget of this caller for this day (1 USD)",
            "0.15 USD are left of the budget of this session (0.15 USD)",
        )
    await world.chain()(call())
    with pytest.raises(BudgetExceeded, match="this session"):
        await stage.peek(call())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["answered", "failed", "refused", "cancelled"]),
            st.floats(0, 0.1),
            st.integers(0, 3),
            st.sampled_from(["", "a", "b"]),
        ),
        max_size=40,
    )
)
def test_no_budget_is_overspent_whatever_order_calls_begin_and_end_in(
    calls: list[tuple[str, float, int, str]],
) -> None:
    """Calls that report no more than their estimate never come to more than the budget."""

    async def play() -> None:
        world = World(CallerLimits(budget=Budget(usd=1.0), session_usd=0.5))
        paid = 0.0

        async def one(how: str, usd: float, turns: int, session: str) -> None:
            nonlocal paid

            async def last(_: Call) -> Result:
                for _turn in range(turns):
                    await asyncio.sleep(0)
                if how == "failed":
                    raise UpstreamBrokeProtocol("gone")
                return reports(usd=usd)

            class Guards:
                async def __call__(self, call: Call, forward: Forward) -> Result:
                    if how == "refused":
                        raise GuardrailDenied("no")
                    return await forward(call)

            try:
                result = await world.chain(PRICED, last, Guards())(call(session=session))
                paid += result.cost_usd or 0
            except UpstreamBrokeProtocol:
                paid += 0.1
            except (BudgetExceeded, GuardrailDenied):
                pass

        tasks = []
        for how, usd, turns, session in calls:
            tasks.append(asyncio.ensure_future(one(how, usd, turns, session)))
            await asyncio.sleep(0)
            if how == "cancelled" and not tasks[-1].done():
                tasks[-1].cancel()
                if turns:
                    paid += 0.1  # it was at its server
            used = await world.state.used(["window:2026-11-20:me", *(f"session:2:me:{s}" for s in ("", "a", "b"))])
            assert used[0] <= 1_000_000_000
            assert all(each <= 500_000_000 for each in used[1:])
        if tasks:
            await asyncio.wait(tasks)
        (used_up,) = await world.state.used(["window:2026-11-20:me"])
        assert used_up / 1e9 == pytest.approx(paid, abs=1e-6)

    asyncio.run(play())


# ---- what a session has done


async def test_sessions_are_counted_when_a_call_really_goes_to_its_server() -> None:
    world = World(CallerLimits())
    find, send = world.chain(), world.chain(Contract(id="mail/send"))
    for session in ("", "a"):
        await find(call(contract=PRICED, session=session))
        await find(call(contract=PRICED, session=session))
        await send(call(contract=Contract(id="mail/send"), session=session))
        prompt = Contract(id="mail/hello", kind="prompt")
        await send(call(contract=prompt, session=session, method="prompts/get"))
        resource = Contract(id="mail/file:///x", kind="resource")
        await send(call(contract=resource, session=session, method="resources/read"))
        assert await world.tally.session_facts(call(session=session)) == {
            "calls": 5,
            "tool_calls": 3,
            "spent": 0.2,
            "counts": {"crm/find": 2, "mail/send": 1, "mail/hello": 1},
        }
    nothing = {"calls": 0, "tool_calls": 0, "spent": 0.0, "counts": {}}
    assert await world.tally.session_facts(call("other", session="a")) == nothing
    world.now_s += 1801
    assert await world.tally.session_facts(call()) == nothing


async def test_an_attempt_more_is_no_call_more() -> None:
    world = World()

    class Retries:
        async def __call__(self, call: Call, forward: Forward) -> Result:
            await forward(call)
            return await forward(call)

    await world.chain(PRICED, None, Retries())(call(contract=PRICED))
    assert world.server.calls == 2
    facts = await world.tally.session_facts(call())
    assert (facts["calls"], facts["counts"], facts["spent"]) == (1, {"crm/find": 1}, 0.1)


async def test_without_a_stage_that_asks_for_its_trip_a_call_is_counted_all_the_same() -> None:
    world = World()
    await compose([Dispatch(world.tally)], world.server)(call(contract=PRICED))
    assert (await world.tally.session_facts(call()))["calls"] == 1


async def test_a_call_that_cannot_be_counted_does_not_go() -> None:
    world = World()
    tally = Tally(MemoryState(lambda: world.now_s, most_keys=0))
    with pytest.raises(Overloaded):
        await compose([world.spend(), Dispatch(tally)], world.server)(call())
    assert world.server.calls == 0
    assert await world.spent() == 0


async def test_a_call_made_from_within_another_has_a_trip_of_its_own() -> None:
    world = World()

    async def calls_another(_: Call) -> Result:
        return await world.chain()(call("inner"))

    await world.chain(last=calls_another)(call("outer"))
    assert [await world.spent(who) for who in ("inner", "outer")] == [0.1, 0.1]
