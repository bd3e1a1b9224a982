"""Slots are taken at once while some are free, then in line, and none is ever lost."""

import asyncio

from bascule.upstream.slots import Slots


async def test_who_finds_none_gets_the_next_that_is_given_back_in_line() -> None:
    slots, order = Slots(2), []

    async def visit(name: int) -> None:
        if not slots.take():
            await slots.wait()
        order.append(name)

    visits = [asyncio.ensure_future(visit(name)) for name in range(5)]
    await asyncio.sleep(0)
    assert order == [0, 1]
    for expected in (2, 3, 4):
        slots.give()
        await visits[expected]
    assert order == [0, 1, 2, 3, 4]
    assert not slots.take()
    slots.give()
    assert slots.take()


async def test_who_stops_waiting_leaves_the_line_even_at_the_moment_of_its_turn() -> None:
    slots = Slots(1)
    assert slots.take()
    gone, late, last = [asyncio.ensure_future(slots.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait({gone})
    slots.give()  # to `late`, which is cancelled before it hears of it
    late.cancel()
    await asyncio.wait({late})
    await last
    slots.give()
    assert slots.take()
