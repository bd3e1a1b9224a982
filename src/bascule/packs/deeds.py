"""What a pack has done, by idempotency key: one key is one deed, also after the process has died.

A deed is written down before anything leaves the process, and its result after it. What was begun and has no end, as
the process died or the other side fell silent, is of unknown outcome: it is said so, and never done again by itself.
"""

import asyncio
import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from bascule.errors import ConfigInvalid
from bascule.packs.pack import ToolFailed
from bascule.packs.paths import RECORDS

KEPT_S: Final = 90 * 24 * 3600.0  # nobody repeats a call after that
MAX_KEY_CHARS: Final = 600
_BUSY_S: Final = 2.0  # another process of the same pack may be writing

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS deeds (
    tool TEXT NOT NULL, key TEXT NOT NULL, wanted TEXT NOT NULL, at_s REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'begun', said TEXT NOT NULL DEFAULT '', PRIMARY KEY (tool, key)
) WITHOUT ROWID
"""


class OutcomeUnknown(ToolFailed):
    """It may have been done or not, and nobody here can tell."""


class Deeds:
    """The record of one pack. Its calls are short and block; use it from one thread."""

    def __init__(self, folder: Path | None, pack: str, clock: Callable[[], float] = time.time) -> None:
        """The record is kept below *folder*, where no model can name it; None: in memory, until the process ends.

        Raises ConfigInvalid.
        """
        self._clock = clock
        self._running: dict[tuple[str, str], asyncio.Task[Any]] = {}
        try:
            path = ":memory:" if folder is None else str(_made(folder / RECORDS, f"{pack}.sqlite"))
            self._base = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            self._base.execute(_TABLE)
            self._base.execute("DELETE FROM deeds WHERE at_s < ?", (clock() - KEPT_S,))
        except (OSError, sqlite3.Error) as error:
            raise ConfigInvalid(
                f"the record of what was done cannot be kept: {error}", field="settings.root"
            ) from error

    async def once(
        self, tool: str, key: str, wanted: object, act: Callable[[], Awaitable[Any]], *, again: bool = False
    ) -> tuple[Any, bool]:
        """(what *act* gives, false), or (what it gave when it was done before, true).

        *wanted* is what is asked for, by which another deed with the same key is told from this one. *again*: doing
        it twice does no harm, so that an unknown outcome is no obstacle. The deed goes on when the caller is gone.
        Raises ToolFailed: for another deed with this key, or one that runs or is of unknown outcome, and as *act* does.
        """
        if (earlier := self._begin(tool, key, _digest(wanted), again)) is not None:
            return msgspec.json.decode(earlier), True
        task = asyncio.ensure_future(self._act(tool, key, act))
        self._running[tool, key] = task
        task.add_done_callback(lambda ended: self._ended(tool, key, ended))
        return await asyncio.shield(task), False

    async def close(self) -> None:
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._base.close()

    def _ended(self, tool: str, key: str, task: asyncio.Task[Any]) -> None:
        del self._running[tool, key]
        if not task.cancelled():
            task.exception()  # whoever asked has heard it, or is gone

    async def _act(self, tool: str, key: str, act: Callable[[], Awaitable[Any]]) -> Any:
        try:
            result = await act()
        except OutcomeUnknown as error:
            self._write(
                "UPDATE deeds SET state = 'unknown', said = ? WHERE tool = ? AND key = ?", str(error), tool, key
            )
            raise
        except ToolFailed:
            self._write("DELETE FROM deeds WHERE tool = ? AND key = ?", tool, key)  # it surely did nothing
            raise
        said = msgspec.json.encode(result).decode()
        self._write("UPDATE deeds SET state = 'done', said = ? WHERE tool = ? AND key = ?", said, tool, key)
        return result

    def _begin(self, tool: str, key: str, wanted: str, again: bool) -> str | None:
        """What was said when it was done; None if it is to be done now."""
        if not 0 < len(key) <= MAX_KEY_CHARS:
            raise ToolFailed("The idempotency key is empty or too long.", f"Use 16 to {MAX_KEY_CHARS // 2} characters.")
        row = (tool, key, wanted, self._clock())
        try:
            added = self._base.execute(
                "INSERT INTO deeds (tool, key, wanted, at_s) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row
            )
            if added.rowcount:
                return None
            found = self._base.execute("SELECT wanted, state, said FROM deeds WHERE tool = ? AND key = ?", (tool, key))
            before, state, said = found.fetchone() or (wanted, "gone", "")
        except sqlite3.Error as error:
            what = f"The record of what was done cannot be written ({error}), so nothing was done."
            raise ToolFailed(what, "Tell the person who runs this server.") from error
        if before != wanted:
            raise ToolFailed(
                "This idempotency key was used for something else before.", "Nothing was done. Use a new key for it."
            )
        if state == "done":
            return str(said)
        if state == "gone" or (tool, key) in self._running:  # gone: another process has just given it up
            raise ToolFailed(
                "This very call is being carried out right now.", "Ask again in a few seconds, with the same key."
            )
        if again:
            return None
        raise OutcomeUnknown(said or _UNKNOWN)

    def _write(self, statement: str, *values: str) -> None:
        """Write down how a deed ended. What cannot be written stays of unknown outcome, which harms nobody."""
        try:
            self._base.execute(statement, values)
        except sqlite3.Error:
            pass  # the deed itself is over, and its result is what the caller has to hear


_UNKNOWN: Final = (
    "It is not known whether this was done: the process ended in the middle of it. Nothing is done again with this key."
    " Look whether it has arrived; only if it has not, ask for it with a new key."
)


def _digest(wanted: object) -> str:
    return hashlib.sha256(msgspec.json.encode(wanted, order="sorted")).hexdigest()


def _made(folder: Path, name: str) -> Path:
    """The file *name* in *folder*, both for this user alone. Raises OSError."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass  # the usual case
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise NotADirectoryError(f"{folder} is no folder of its own")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    fd = os.open(folder / name, flags, 0o600)
    os.close(fd)
    return folder / name
