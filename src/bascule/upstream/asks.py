"""The questions of one server that wait for clients: bounded in number, one for each id, withdrawn by id."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec import Raw

from bascule.upstream.base import error_object
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Request

MAX_ASKS: Final = 1000  # more are refused; each call has a bound of its own where it waits long


class Asks:
    """Each question in a task of its own, so that it holds up nothing else that the server sends."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(
        self,
        question: Request,
        answer: Callable[[Request], Coroutine[Any, Any, None]],
        over: Callable[[], None] = lambda: None,
    ) -> bytes | None:
        """Run *answer*, which also sends what it found; or give the line that refuses the question."""
        key = bytes(question.id)
        # A second question under an id that still waits would slip past the bound, and past cancellation.
        if len(self._waiting) >= MAX_ASKS or key in self._waiting:
            why = "too many questions are waiting, or this one twice"
            return jsonrpc.refusal(question.id, error_object(-32603, why))
        task = asyncio.ensure_future(answer(question))
        self._waiting[key] = task
        task.add_done_callback(lambda _: self._waiting.pop(key, None))
        task.add_done_callback(lambda _: over())  # also of one that was withdrawn before it began
        return None

    def withdraw(self, id: Raw) -> bool:
        """The server gives up the question *id*. False if none of that id waits."""
        task = self._waiting.get(bytes(id))
        if task is not None:
            task.cancel()
        return task is not None

    def stop(self) -> None:
        for task in list(self._waiting.values()):
            task.cancel()
