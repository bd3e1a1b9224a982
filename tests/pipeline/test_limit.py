"""A call takes from every limit that holds for it, or from none; and hears of its own limits only."""

import asyncio

import pytest

from bascule.call import Forward
from bascule.contract.model import Contract, Rate
from bascule.errors import RateLimited, to_data
from bascule.pipeline.chain import compose
from bascule.pipeline.limit import Limit
from bascule.policy.allowances import Allowances
from bascule.policy.options import CallerLimits
from bascule.store.shared import MemoryState
from pipeline.calls import Server, call


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class World:
    """One store, and the limits of callers."""

    def __init__(self, common: CallerLimits | None = None, **own: CallerLimits) -> None:
        self.clock = Clock()
        self.state = MemoryState(self.clock)
        self.allowances = Allowances(common or CallerLimits(), own)
        self.server = Server()

    def stage(self, contract: Contract, server: Rate | None = None) -> Limit:
        return Limit(contract, contract.namespace, server, allowance_of=self.allowances.of, state=self.state)

    def chain(self, contract: Contract, server: Rate | None = None) -> Forward:
        return compose([self.stage(contract, server)], self.server)


def tool(id: str = "crm/find", *, pair: Rate | None = None, total: Rate | None = None) -> Contract:
    return Contract(id=id, rate_limit=pair, total_rate_limit=total)


async def passed(forward: Forward, caller: str, times: int) -> int:
    """How many of so many calls get through."""
    through = 0
    for _ in range(times):
        try:
            await forward(call(caller))
        except RateLimited:
            continue
        through += 1
    return through


async def test_without_a_limit_every_call_passes_and_nothing_is_counted() -> None:
    world = World()
    assert await passed(world.chain(tool()), "me", 100) == 100
    assert len(world.state) == 0


async def test_one_noisy_caller_does_not_spend_anothers_allowance() -> None:
    world = World(CallerLimits(rate="5/minute"))
    forward = world.chain(tool(pair=Rate(4, 60.0)))
    assert await passed(forward, "noisy", 50) == 4
    assert await passed(forward, "quiet", 50) == 4


async def test_a_callers_own_limit_holds_for_all_tools_together() -> None:
    world = World(CallerLimits(rate="5/minute"), big=CallerLimits(rate="7/minute"))
    forwards = [world.chain(tool("crm/find")), world.chain(tool("mail/send"))]
    for caller, rate in (("me", 5), ("big", 7)):
        assert sum([await passed(forwards[turn % 2], caller, 1) for turn in range(20)]) == rate


async def test_a_limit_of_the_pair_is_of_each_caller_at_each_tool() -> None:
    world = World()
    find, send = world.chain(tool("crm/find", pair=Rate(2, 60.0))), world.chain(tool("crm/send", pair=Rate(3, 60.0)))
    assert [await passed(find, who, 9) for who in ("a", "b")] == [2, 2]
    assert [await passed(send, who, 9) for who in ("a", "b")] == [3, 3]


async def test_a_tools_total_and_a_servers_limit_are_of_all_callers_together() -> None:
    world = World()
    server = Rate(6, 60.0)
    find, send = world.chain(tool("crm/find", total=Rate(4, 60.0)), server), world.chain(tool("crm/send"), server)
    assert [await passed(find, who, 3) for who in ("a", "b")] == [3, 1]
    assert [await passed(send, who, 3) for who in ("a", "b")] == [2, 0]


async def test_a_refusal_by_one_limit_spends_nothing_of_another() -> None:
    world = World(CallerLimits(rate="10/minute"))
    narrow, wide = world.chain(tool("crm/find", pair=Rate(1, 60.0))), world.chain(tool("crm/send"))
    assert await passed(narrow, "me", 50) == 1
    assert await passed(wide, "me", 50) == 9


async def test_a_prompt_and_a_tool_of_one_name_have_limits_of_their_own() -> None:
    world = World()
    rate = Rate(1, 60.0)
    for kind in ("tool", "prompt"):
        contract = Contract(id="crm/find", kind=kind, rate_limit=rate, total_rate_limit=rate)
        assert await passed(world.chain(contract), "me", 3) == 1


async def test_names_that_hold_separators_share_no_limit() -> None:
    world = World()
    rate = Rate(1, 60.0)
    assert await passed(world.chain(tool("crm/a:b", pair=rate)), "c", 3) == 1
    assert await passed(world.chain(tool("crm/a", pair=rate)), "b:c", 3) == 1
    assert await passed(world.chain(tool("crm/a", pair=rate)), "7:crm/a:c", 3) == 1


async def test_a_refusal_says_which_limit_and_when_and_names_nobody_else() -> None:
    world = World(CallerLimits(rate="600/minute"), batch=CallerLimits(rate="2/minute"))
    forward = world.chain(tool(total=Rate(3, 30.0)))
    await passed(forward, "batch", 2)
    with pytest.raises(RateLimited) as refused:
        await forward(call("batch"))
    assert refused.value.message == "the limit of this caller: 2 in 60 s"
    assert refused.value.details == {"limit": "caller", "calls": 2, "per_s": 60.0}
    assert to_data(refused.value, "")["retry_after_ms"] == 30_000
    await passed(forward, "secret-other", 1)
    with pytest.raises(RateLimited) as refused:
        await forward(call("me"))
    assert refused.value.message == "the limit of this tool, for all callers together: 3 in 30 s"
    assert refused.value.details["limit"] == "tool"
    assert "secret-other" not in str(to_data(refused.value, ""))
    world.clock.now_s += 10
    assert await passed(forward, "me", 5) == 1


async def test_peek_tells_what_is_left_and_takes_nothing() -> None:
    world = World(CallerLimits(rate="5/minute"))
    stage = world.stage(tool(pair=Rate(1, 60.0)), Rate(9, 60.0))
    for _ in range(9):
        assert await stage.peek(call()) == (
            "the limit of this caller: 5 in 60 s, 5 left now",
            "the limit of this caller at this tool: 1 in 60 s, 1 left now",
            "the limit of this server, for all callers together: 9 in 60 s, 9 left now",
        )
    await stage(call(), world.server)
    with pytest.raises(RateLimited, match="this caller at this tool"):
        await stage.peek(call())
    assert world.server.calls == 1


async def test_calls_of_many_tasks_at_one_time_get_no_more_than_there_is() -> None:
    world = World(CallerLimits(rate="20/minute"))
    forward = world.chain(tool(total=Rate(50, 60.0)))
    through = await asyncio.gather(*(passed(forward, f"caller-{number % 4}", 1) for number in range(400)))
    assert sum(through) == world.server.calls == 50
