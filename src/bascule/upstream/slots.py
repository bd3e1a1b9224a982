"""How many requests a server may work at, one time: taken and given back without waiting while some are free.

A semaphore, but for what it costs a call that does not have to wait, which is every call but a few.
"""

import asyncio
from collections import deque


class Slots:
    """So many slots; who finds none waits in line."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a slot, if one is free."""
        if self._free:
            self._free -= 1
            return True
        return False

    async def wait(self) -> None:
        """Take a slot as soon as it is one's turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()  # it came at the same moment
            raise

    def give(self) -> None:
        """Give a slot back, to whoever has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
