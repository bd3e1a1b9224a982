"""The requests that are being answered: how many there are, when the last one is over, and an end for those that stay.

Knows nothing of what they ask for; the rim takes each off and lands it.
"""

import asyncio
from typing import Any, TypeAlias

Flying: TypeAlias = "asyncio.Task[Any]"


class Flights:
    """Each is known by the task that answers it."""

    def __init__(self) -> None:
        self._aloft: set[Flying] = set()
        self._struck: set[Flying] = set()
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return len(self._aloft)

    def take_off(self) -> Flying:
        """The current task answers a request from now on."""
        task = asyncio.current_task()
        assert task is not None, "a coroutine always runs in a task"
        self._aloft.add(task)
        self._none.clear()
        return task

    def land(self, task: Flying) -> None:
        self._aloft.discard(task)
        if not self._aloft:
            self._none.set()

    async def landed(self) -> None:
        """Wait until none is left."""
        await self._none.wait()

    def strike(self) -> int:
        """Cancel all that are left, so that their clients get an answer at least; how many that were."""
        late = self._aloft - self._struck
        self._struck |= late
        for task in late:
            task.cancel()
        return len(late)

    def was_struck(self, task: Flying) -> bool:
        """Whether the cancellation that *task* has just met is `strike`'s. One from elsewhere comes first."""
        if task not in self._struck:
            return False
        self._struck.discard(task)
        return task.uncancel() == 0
