"""Standard input and output, by a thread each.

An event loop can only watch pipes; these may also be files, or a terminal that the shell wants back unchanged.
The threads are daemons and wait in system calls only: a process that ends does not wait for them.
"""

import asyncio
import os
import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_CHUNK_BYTES: Final = 64 * 1024
# So much may wait for a client before we stop listening to it …
_ROOMY_BYTES: Final = 1024 * 1024
# … and so much, with what was already under way then, before we give it up.
MAX_UNREAD_BYTES: Final = 64 * 1024 * 1024


class Input:
    """What comes in at a file descriptor, read only when it is asked for: who is slow holds up the sender."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._wanted = threading.Semaphore(0)
        self._given: asyncio.Future[bytes] | None = None
        threading.Thread(target=self._run, name="input", daemon=True).start()

    async def read(self) -> bytes:
        """The next bytes; b"" at the end."""
        if self._given is None:  # else a reader before us was cancelled, and left what it waited for
            self._given = self._loop.create_future()
            self._wanted.release()
        chunk = await asyncio.shield(self._given)
        self._given = None
        return chunk

    def _run(self) -> None:
        while True:
            self._wanted.acquire()
            try:
                chunk = os.read(self._fd, _CHUNK_BYTES)
            except OSError:
                chunk = b""  # closed under us: it ends all the same
            if not _on(self._loop, self._give, chunk) or not chunk:
                return

    def _give(self, chunk: bytes) -> None:
        if self._given is not None and not self._given.done():
            self._given.set_result(chunk)


class Output:
    """Messages on their way to a file descriptor, a line each."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._unread = 0
        self._moved = asyncio.Event()
        self.lost = asyncio.Event()  # nobody reads any more
        self.why_lost = ""  # in words, unless the client has just gone
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def put(self, message: bytes) -> None:
        """Append one message. Never blocks."""
        if self.lost.is_set():
            return
        if b"\n" in message or b"\r" in message:  # between tokens only: JSON has no other place for them
            message = message.replace(b"\n", b" ").replace(b"\r", b" ")
        self._unread += len(message) + 1
        if self._unread > MAX_UNREAD_BYTES:
            self._lose(f"the client has not read {MAX_UNREAD_BYTES} bytes of answers; it is given up")
        else:
            self._lines.put(message + b"\n")

    async def room(self) -> None:
        """Wait until the client has read most of what there is."""
        await self._until(_ROOMY_BYTES)

    async def flushed(self) -> None:
        """Wait until everything is written."""
        await self._until(0)

    async def _until(self, most: int) -> None:
        while self._unread > most and not self.lost.is_set():
            self._moved.clear()
            await self._moved.wait()

    def _run(self) -> None:
        while True:
            rest = memoryview(self._lines.get())
            while rest:
                try:
                    written = os.write(self._fd, rest)
                except OSError:
                    _on(self._loop, self._lose, "")
                    return
                rest = rest[written:]
                if not _on(self._loop, self._wrote, written):
                    return

    def _wrote(self, count: int) -> None:
        self._unread -= count
        self._moved.set()

    def _lose(self, why: str) -> None:
        self.why_lost = why
        self.lost.set()
        self._moved.set()


def _on(loop: asyncio.AbstractEventLoop, act: Callable[[T], None], what: T) -> bool:
    """Do it in *loop*, from another thread; False if that has ended."""
    try:
        loop.call_soon_threadsafe(act, what)
    except RuntimeError:
        return False
    return True
