"""A bounded queue, and a thread that takes what is in it, many at a time.

For what is told of calls and must not hold any up: what finds no room is counted and gone. The audit, of which
nothing may be lost, has a queue of its own.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

log = logging.getLogger("bascule.observe")

MOST: Final = 10_000  # items that wait
BATCH: Final = 500  # items that are taken without waiting for more
_LAST_WORDS_S: Final = 3.0  # for what still waits at the end; nobody may hold up the end of a process


class Batches(Generic[Item]):
    """`put` is for the event loop, and costs it next to nothing."""

    def __init__(
        self, name: str, take: Callable[[Sequence[Item]], None], *, every_s: float = 0.2, most: int = MOST
    ) -> None:
        """*take* is called in the thread, and raises nothing. An item waits at most *every_s* for others."""
        self._name = name
        self._take = take
        self._every_s = every_s
        self._most = most
        self._waiting: deque[Item] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._ending = False
        self.dropped = 0  # that found no room, since the start

    def put(self, item: Item) -> None:
        waiting = self._waiting
        if len(waiting) >= self._most:
            self.dropped += 1
            return
        waiting.append(item)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._flush)
        elif len(waiting) == BATCH:
            self._flush()

    def close(self) -> None:
        """Take what waits, and end. Waits some seconds at most: who takes may hang for ever."""
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is None and self._waiting:
            self._start()
        self._ending = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_LAST_WORDS_S)
        if self._waiting:
            log.warning("%s: %d were not written before the end", self._name, len(self._waiting))

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is None:
            self._start()
        self._wake.set()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"bascule {self._name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not (self._ending and not self._waiting):
            self._wake.wait()
            if not self._ending:
                self._wake.clear()
            while self._waiting:
                # Only this thread takes anything out, so that what was there still is.
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                self._take(batch)
