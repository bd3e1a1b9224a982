"""`bascule.db` in the state folder: opened at the newest schema, read and written in whole transactions.

The one file that knows SQLite. Importing it takes the time of importing SQLAlchemy: import it when there is
something to store, and not before.
"""

import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DatabaseError, OperationalError

from bascule.errors import ConfigInvalid, Overloaded
from bascule.store import folder
from bascule.store.files import BUSY_S, FILE, HEAD

log = logging.getLogger("bascule.store")

_WRITES: Final = "bascule_writes"
_MIGRATIONS: Final = "bascule.store:migrations"


class Database:
    """The database of a state folder, which is created or migrated first. Threads may share it.

    Raises ConfigInvalid if it cannot be opened, and Overloaded if another process holds it for too long.
    """

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        folder.prepare(state)
        # Two processes that start together: one migrates, the other waits and finds it done.
        with folder.locked(state), _as_ours(self._path):
            _make_private(self._path)
            self._engine = _engine(self._path)
            self._watching: Any = None  # the connection that watches; it never writes
            self._watch = threading.Lock()
            with self._engine.connect() as connection:
                revision = _revision(connection)
            if revision != HEAD:
                _migrate(self._path, revision)
            self._file = _identity(self._path)

    def is_current(self) -> bool:
        """Whether the path still leads to the file that is open: another may have been put in its place, or none."""
        return _identity(self._path) == self._file

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One moment of the database."""
        with _as_ours(self._path), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, durable when the block ends, undone when it raises. One at a time, of all processes."""
        with _as_ours(self._path), self._engine.execution_options(**{_WRITES: True}).begin() as connection:
            yield connection

    def version(self) -> int:
        """A number that is another one when somebody else has written. Costs microseconds, reads no table.

        Source: SQLite, "PRAGMA data_version", which is true for one connection only: so this keeps one.
        """
        with self._watch, _as_ours(self._path):
            if self._watching is None:
                self._watching = self._engine.raw_connection()
            (version,) = self._watching.driver_connection.execute("PRAGMA data_version").fetchone()
            return int(version)

    def close(self) -> None:
        with self._watch:
            if self._watching is not None:
                self._watching.close()
                self._watching = None
        self._engine.dispose()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _engine(path: Path, *, migrates: bool = False) -> Engine:
    """*migrates*: without foreign keys, as a batch drops and renames tables that others point at."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_S, "check_same_thread": False},
        hide_parameters=True,  # digests are no business of whoever reads an error
        **({"poolclass": NullPool} if migrates else {}),
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late for reads and for tables
        connection.execute(f"PRAGMA foreign_keys = {'OFF' if migrates else 'ON'}")
        connection.execute("PRAGMA synchronous = FULL")  # a revocation outlives a power cut

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and then writes could not wait for another writer: it would fail.
        writes = connection.get_execution_options().get(_WRITES, migrates)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _make_private(path: Path) -> None:
    """An empty file, which SQLite takes for a new database: it would make one that others can read."""
    try:
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, folder.PRIVATE_FILE))
        elif path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        # One that is there is never opened by us: to close it would give up the locks of all connections that this
        # process has to it (fcntl, F_SETLK), and the next process to end would take itself for the last one.
        if not folder.is_private(path):
            log.warning("%s could be read or written by others until now: look through what is in it", path)
            path.chmod(folder.PRIVATE_FILE)
    except OSError as error:
        raise folder.unusable(path, error) from error
    with sqlite3.connect(path, timeout=BUSY_S) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.close()
    if mode != "wal":
        raise ConfigInvalid("this file system cannot hold it: set state_dir to a local disk", place=str(path))


def _revision(connection: Connection) -> str | None:
    """The schema of the database, None for a new one."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def _migrate(path: Path, revision: str | None) -> None:
    """Bring the database to HEAD, in one transaction."""
    # It would tell of every step of every new database, and of its own plugins while it is imported.
    logging.getLogger("alembic").setLevel(logging.WARNING)

    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    config.set_main_option("path_separator", "os")
    try:
        ScriptDirectory.from_config(config).get_revision(revision or HEAD)
    except CommandError as error:
        raise ConfigInvalid(
            f"a newer Bascule has written it (schema {revision}, this one knows {HEAD}): update Bascule,"
            " or restore an older copy",
            place=str(path),
        ) from error
    engine = _engine(path, migrates=True)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)
    engine.dispose()


@contextmanager
def _as_ours(path: Path) -> Iterator[None]:
    """What the database says goes wrong, in our words."""
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError, UnicodeDecodeError) as error:
        why = str(error.orig if isinstance(error, DatabaseError) else error)
        if isinstance(error, OperationalError | sqlite3.OperationalError) and "locked" in why:
            raise Overloaded(f"{path}: another process has held it for {BUSY_S:g} s") from error
        raise ConfigInvalid(f"cannot be used: {why}", place=str(path)) from error
