"""The one writer of records: a thread with a connection of its own, and one transaction for all that waits.

Who asks for a durable write waits for one fsync, which it shares with everybody who asked meanwhile (group
commit). Works by hand-written SQL on the driver's connection: SQLAlchemy would cost a call more than the disk does.
Knows transactions, not what is written in them.
"""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from bascule.errors import BasculeError, Unavailable
from bascule.store import folder
from bascule.store.files import BUSY_S, FILE, is_newest, make

log = logging.getLogger("bascule.store")

Outcome = TypeVar("Outcome")
Work: TypeAlias = Callable[[sqlite3.Connection], Outcome]

_MOST_AT_ONCE: Final = 500  # works in one transaction
_PAUSE_S: Final = 1.0  # before the next try to write what nobody waits for, after the disk has refused it
_STOP: Final = object()


class Bulk(Protocol):
    """Records for which nobody waits: they are written with whatever is written next, and in order."""

    def waiting(self) -> bool: ...

    def begin(self, connection: sqlite3.Connection) -> None:
        """A transaction has begun: other processes may have written since the last one."""
        ...

    def write(self, connection: sqlite3.Connection) -> None:
        """Write all that waits."""
        ...

    def committed(self) -> None: ...

    def undone(self) -> None:
        """Nothing of what was written since `begin` has been kept."""
        ...


class _Wanted:
    """One work, and who waits for it."""

    __slots__ = ("durable", "future", "loop", "work")

    def __init__(self, work: Work[Any], *, durable: bool, loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.durable = durable
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()


class Writer:
    """Writes to `bascule.db` of a state folder, in the order in which it was asked to."""

    def __init__(self, state: Path) -> None:
        """Opens the database, which is created or migrated first. Raises ConfigInvalid if it cannot be used."""
        self.path = state / FILE
        make(state)
        if not is_newest(self.path):
            from bascule.store.database import Database  # which takes a second to load, once in the life of a folder

            Database(state).close()
            log.info("%s has been brought up to date", self.path)
        self._connection = _opened(self.path)
        self._reader = _opened(self.path)
        self._reader.execute("PRAGMA query_only = ON")
        self._queue: queue.SimpleQueue[_Wanted | object] = queue.SimpleQueue()
        self._bulk: Bulk | None = None
        self.broken: str | None = None  # why the last write failed; None while writes go through
        self._thread = threading.Thread(target=self._run, name="bascule-writer", daemon=True)

    def start(self, bulk: Bulk | None = None) -> None:
        """Begin to write; *bulk* goes along with every transaction."""
        self._bulk = bulk
        self._thread.start()

    async def write(self, work: Work[Outcome], *, durable: bool) -> Outcome:
        """What *work* returns, once it is committed; on disk, when it has to be *durable*.

        All of *work* is in one transaction. Raises what it raises, and Unavailable when the disk refuses.
        A caller that is cancelled does not know whether it was written.
        """
        if not self._thread.is_alive():
            raise Unavailable("the records are closed")
        wanted = _Wanted(work, durable=durable, loop=asyncio.get_running_loop())
        self._queue.put(wanted)
        return await wanted.future  # type: ignore[no-any-return]  # the queue holds works of every kind

    def wake(self) -> None:
        """There is bulk to be written now."""
        self._queue.put(None)

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a short query, read in the event loop's thread: microseconds, and no writer is waited for."""
        try:
            return self._reader.execute(sql, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _refused(error) from error

    def close(self) -> None:
        """Write what waits, then end. Blocks until that is done."""
        if self._thread.is_alive():
            self._queue.put(_STOP)
            self._thread.join()
        self._connection.close()
        self._reader.close()

    # ---- in the thread

    def _run(self) -> None:
        works: list[_Wanted] = []
        ends_well = False
        try:
            going = True
            while going:
                going, works = self._gathered()
                if works or (self._bulk is not None and self._bulk.waiting()):
                    self._commit_all(works)
            ends_well = True
        finally:
            if not ends_well:
                self._fall_silent(works)

    def _fall_silent(self, works: Sequence[_Wanted]) -> None:
        """A fault of ours has ended the thread: nobody may wait for it, and nothing is let through unrecorded."""
        self.broken = "the writer of records has failed; restart Bascule"
        refusal = Unavailable(self.broken)
        for each in works:
            _tell(each, None, refusal)
        while not self._queue.empty():
            waits = self._queue.get()
            if isinstance(waits, _Wanted):
                _tell(waits, None, refusal)

    def _gathered(self) -> tuple[bool, list[_Wanted]]:
        """(whether to go on, what is wanted): waits for the first, and takes along whatever is there by then."""
        works: list[_Wanted] = []
        retry = self.broken is not None and self._bulk is not None and self._bulk.waiting()
        try:
            each = self._queue.get(timeout=_PAUSE_S if retry else None)
            while True:
                if each is _STOP:
                    return False, works
                if isinstance(each, _Wanted):
                    works.append(each)
                if len(works) >= _MOST_AT_ONCE:
                    return True, works
                each = self._queue.get_nowait()
        except queue.Empty:
            return True, works

    def _commit_all(self, works: Sequence[_Wanted]) -> None:
        try:
            outcomes = self._committed(works)
        except (sqlite3.Error, BasculeError, ValueError) as error:
            if len(works) > 1:
                for each in works:  # one of them spoils it for the others: each for itself, then
                    self._commit_all([each])
                return
            self._failed(error, works)
            return
        if self.broken is not None:
            log.warning("%s can be written again", self.path)
            self.broken = None
        for each, outcome in zip(works, outcomes, strict=True):
            _tell(each, outcome, None)

    def _failed(self, error: Exception, works: Sequence[_Wanted]) -> None:
        refused = _refused(error) if isinstance(error, sqlite3.Error) else error
        if isinstance(error, sqlite3.Error):
            if self.broken is None:
                log.error("%s cannot be written: %s; calls that need it are refused. Is there room?", self.path, error)
            self.broken = str(error)
        for each in works:
            _tell(each, None, refused)

    def _committed(self, works: Sequence[_Wanted]) -> list[Any]:
        """What *works* come to, in one transaction."""
        connection, bulk = self._connection, self._bulk
        durable = any(each.durable for each in works)
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        is_committed = False
        try:
            if bulk is not None:
                bulk.begin(connection)
            outcomes = [each.work(connection) for each in works]
            if bulk is not None:
                bulk.write(connection)
            connection.execute("COMMIT")
            is_committed = True
        finally:
            if not is_committed and connection.in_transaction:
                connection.execute("ROLLBACK")
            if bulk is not None:
                (bulk.committed if is_committed else bulk.undone)()
        return outcomes


def _opened(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA foreign_keys = ON")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise folder.unusable(path, error) from error
    return connection


def _refused(error: Exception) -> Unavailable:
    refusal = Unavailable(f"records cannot be written or read now: {error}")
    refusal.retry_after_s = _PAUSE_S
    return refusal


def _tell(wanted: _Wanted, outcome: Any, error: Exception | None) -> None:
    def settle() -> None:
        if wanted.future.done():
            return  # cancelled
        if error is None:
            wanted.future.set_result(outcome)
        else:
            wanted.future.set_exception(error)

    try:
        wanted.loop.call_soon_threadsafe(settle)
    except RuntimeError:
        pass  # the loop is gone, and with it whoever waited
