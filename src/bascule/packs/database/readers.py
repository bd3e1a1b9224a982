"""The children that run queries of SQLite: started when they are needed, kept for the next one, killed when late."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from typing import Final

import msgspec

from bascule.packs.database.found import Found
from bascule.packs.database.reader import Answer, Question, late
from bascule.packs.pack import ToolFailed

AT_ONCE: Final = 4
GRACE_S: Final = 2.0  # for a child to begin, and to say itself that its time is over
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
_COMMAND: Final = (sys.executable, "-P", "-m", "bascule.packs.database.reader")


class Readers:
    """Up to AT_ONCE children; more questions than that wait for one another."""

    def __init__(self) -> None:
        self._idle: list[Process] = []
        self._room = asyncio.Semaphore(AT_ONCE)

    async def ask(self, question: Question) -> Found:
        """Raises ToolFailed with what the engine said, also if it had to be killed."""
        async with self._room:
            reader = self._idle.pop() if self._idle else await self._started()
            answer = None
            try:
                async with asyncio.timeout(question.timeout_s + GRACE_S):
                    answer = await _asked(reader, question)
            except TimeoutError:
                raise ToolFailed(late(question.timeout_s), "Ask for less, or with shorter texts.") from None
            finally:
                if answer is None:  # late, broken, or nobody waits for it any longer
                    await _ended(reader)
                else:
                    self._idle.append(reader)
        if answer.found is None:
            raise ToolFailed(answer.refused, answer.do)
        return answer.found

    async def close(self) -> None:
        for reader in self._idle:
            await _ended(reader)
        self._idle.clear()

    async def _started(self) -> Process:
        return await asyncio.create_subprocess_exec(*_COMMAND, stdin=PIPE, stdout=PIPE, env={}, limit=MAX_ANSWER_BYTES)


async def _asked(reader: Process, question: Question) -> Answer:
    assert reader.stdin is not None
    assert reader.stdout is not None
    try:
        reader.stdin.write(msgspec.json.encode(question) + b"\n")
        await reader.stdin.drain()
        return msgspec.json.decode(await reader.stdout.readline(), type=Answer)
    except (OSError, ValueError) as error:
        raise ToolFailed("The query ended the process that ran it.", "Ask for less at once.") from error


async def _ended(reader: Process) -> None:
    try:
        reader.kill()
    except ProcessLookupError:
        pass  # it ended of itself
    # Not `wait`: asyncio does not say that a process has ended as long as a pipe of it is not read to its end.
    await reader.communicate()
