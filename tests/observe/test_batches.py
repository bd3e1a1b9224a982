"""What is told of calls waits in a bounded queue, and whoever takes it holds nobody up."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from bascule.observe import batches
from bascule.observe.batches import BATCH, Batches


class Taker:
    """Takes what comes, once it is let; tells the loop."""

    def __init__(self) -> None:
        self.taken: list[list[int]] = []
        self.threads: set[str] = set()
        self.may = threading.Event()
        self.may.set()
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()

    def __call__(self, items: Sequence[int]) -> None:
        self.may.wait()
        self.threads.add(threading.current_thread().name)
        self.taken.append(list(items))
        self._loop.call_soon_threadsafe(self._came.set)

    @property
    def all(self) -> list[int]:
        return [item for batch in self.taken for item in batch]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.all) < count:
                self._came.clear()
                await self._came.wait()


async def test_items_are_taken_in_order_by_another_thread() -> None:
    taker = Taker()
    queue = Batches("test", taker, every_s=0.01)
    for number in range(10):
        queue.put(number)
    await taker.until(10)
    assert taker.all == list(range(10))
    assert taker.threads == {"bascule test"}
    queue.close()


async def test_many_are_taken_without_waiting_for_more() -> None:
    taker = Taker()
    queue = Batches("test", taker, every_s=3600)
    for number in range(BATCH):
        queue.put(number)
    await taker.until(BATCH)
    queue.close()


async def test_what_finds_no_room_is_counted() -> None:
    taker = Taker()
    taker.may.clear()
    queue = Batches("test", taker, every_s=3600, most=3)
    for number in range(5):
        queue.put(number)
    assert queue.dropped == 2
    taker.may.set()
    queue.close()
    assert taker.all == [0, 1, 2]


async def test_the_end_takes_what_waits() -> None:
    taker = Taker()
    queue = Batches("test", taker, every_s=3600)
    queue.put(1)
    await asyncio.to_thread(queue.close)
    assert taker.all == [1]


async def test_who_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LAST_WORDS_S", 0.01)
    taker = Taker()
    taker.may.clear()
    queue = Batches("test", taker, every_s=3600)
    for number in range(BATCH + 1):
        queue.put(number)
    async with asyncio.timeout(10):
        await asyncio.to_thread(queue.close)
    assert taker.all == []
    taker.may.set()
    await taker.until(BATCH + 1)


async def test_nothing_runs_where_nothing_came() -> None:
    before = threading.active_count()
    queue = Batches("test", Taker())
    assert threading.active_count() == before
    queue.close()
