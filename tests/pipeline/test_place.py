"""A call holds its places as long as it runs, however it ends; a noisy caller waits in its own line."""

import asyncio

import pytest

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract
from bascule.errors import Overloaded, Unavailable
from bascule.pipeline.chain import compose
from bascule.pipeline.gates import Gates
from bascule.pipeline.place import Place
from bascule.policy.allowances import Allowances
from bascule.policy.options import CallerLimits
from pipeline.calls import ANSWER, Server, call, settled

FIND, SEND = Contract(id="crm/find", max_concurrent=3), Contract(id="crm/send")
LIMITED = Allowances(CallerLimits(concurrent=2), {"batch": CallerLimits(concurrent=4)})


def chain(
    contract: Contract, last: Forward, gates: Gates, allowances: Allowances = LIMITED, server: int | None = None
) -> Forward:
    return compose([Place(contract, "crm", server, allowance_of=allowances.of, gates=gates)], last)


@pytest.mark.parametrize(
    ("contract", "callers", "server", "most"),
    [
        (FIND, ["me"] * 6, None, 2),
        (FIND, ["batch"] * 6, None, 3),
        (SEND, ["batch"] * 6, None, 4),
        (FIND, ["a", "b", "c", "d"] * 3, None, 3),
        (SEND, ["a", "b", "c", "d"] * 3, 5, 5),
        (SEND, ["a", "b", "c", "d"] * 3, None, 8),
    ],
)
async def test_no_more_run_at_one_time_than_each_bound_allows(
    contract: Contract, callers: list[str], server: int | None, most: int
) -> None:
    end, gates = Server(held=True), Gates(100, 60.0)
    forward = chain(contract, end, gates, server=server)
    tasks = [asyncio.ensure_future(forward(call(caller))) for caller in callers]
    await settled()
    assert end.running == most
    end.let_go()
    assert await asyncio.gather(*tasks) == [ANSWER] * len(callers)
    assert end.most == most


async def test_a_place_is_given_back_however_the_call_ends() -> None:
    async def fails(_: Call) -> Result:
        raise Unavailable("it is down")

    gates = Gates(0, 60.0)
    for _ in range(5):
        with pytest.raises(Unavailable):
            await chain(FIND, fails, gates)(call())
    held = Server(held=True)
    for _ in range(5):
        task = asyncio.ensure_future(chain(FIND, held, gates)(call()))
        await settled()
        task.cancel()
        await asyncio.wait({task})
    assert held.calls == 5
    assert held.running == 0
    await asyncio.gather(*(chain(FIND, Server(), gates)(call()) for _ in range(2)))


async def test_a_noisy_caller_waits_in_its_own_line_and_fills_no_other() -> None:
    end, gates = Server(held=True), Gates(3, 60.0)
    forward = chain(SEND, end, gates, server=2)
    noisy = [asyncio.ensure_future(forward(call("noisy"))) for _ in range(50)]
    await settled()
    quiet = asyncio.ensure_future(forward(call("quiet")))
    await settled()
    assert end.running == 2
    assert not quiet.done(), "it has been put out of no line"
    end.let_go()
    assert await quiet == ANSWER
    ends = await asyncio.gather(*noisy, return_exceptions=True)
    assert [isinstance(each, Overloaded) for each in ends] == [False] * 5 + [True] * 45


async def test_a_slow_server_keeps_no_caller_from_another_server() -> None:
    slow, quick, gates = Server(held=True), Server(), Gates(100, 60.0)
    at_slow = compose(
        [Place(SEND, "slow", 1, allowance_of=Allowances(CallerLimits(concurrent=3), {}).of, gates=gates)], slow
    )
    at_quick = compose(
        [Place(SEND, "quick", 1, allowance_of=Allowances(CallerLimits(concurrent=3), {}).of, gates=gates)], quick
    )
    waiting = [asyncio.ensure_future(at_slow(call())) for _ in range(10)]
    await settled()
    for _ in range(20):
        assert await asyncio.wait_for(at_quick(call()), 5) == ANSWER
    slow.let_go()
    await asyncio.gather(*waiting)


async def test_a_refusal_says_whose_places_are_taken() -> None:
    end, gates = Server(held=True), Gates(0, 60.0)
    forward = chain(FIND, end, gates, Allowances(CallerLimits(), {}))
    running = [asyncio.ensure_future(forward(call(f"secret-{number}"))) for number in range(3)]
    await settled()
    with pytest.raises(Overloaded) as refused:
        await forward(call())
    assert refused.value.details == {"limit": "tool", "concurrent": 3, "reason": "queue_full"}
    assert "secret" not in refused.value.message
    end.let_go()
    await asyncio.gather(*running)


async def test_peek_tells_where_a_call_would_wait_and_takes_no_place() -> None:
    end, gates = Server(held=True), Gates(10, 60.0)
    stage = Place(FIND, "crm", 9, allowance_of=LIMITED.of, gates=gates)
    for _ in range(9):
        assert stage.peek(call()) == ("there is a place for it",)
    running = [asyncio.ensure_future(stage(call(), end)) for _ in range(2)]
    await settled()
    assert stage.peek(call()) == ("it would wait: all places of this caller are taken",)
    assert stage.peek(call("other")) == ("there is a place for it",)
    end.let_go()
    await asyncio.gather(*running)
