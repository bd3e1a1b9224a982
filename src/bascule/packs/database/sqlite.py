"""A database in a file of SQLite. Queries go to children that can only read; a record is added here."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from bascule.packs.database import records, walls
from bascule.packs.database.found import Found, Limits
from bascule.packs.database.reader import Question, sentence
from bascule.packs.database.readers import Readers
from bascule.packs.database.store import Column, Inserted, Table
from bascule.packs.pack import ToolFailed

T = TypeVar("T")

_BUSY_S: Final = 5.0  # that a writer waits for another one
_KEYS: Final = (
    f"CREATE TABLE IF NOT EXISTS {records.KEYS_TABLE} "
    "(key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, result TEXT NOT NULL) WITHOUT ROWID"
)


class SqliteStore:
    """*before* is called once before the first look at *file*, in a thread: it may make it."""

    def __init__(
        self,
        file: Path,
        *,
        limits: Limits,
        timeout_s: float,
        memory_bytes: int,
        inserts: Collection[str],
        descriptions: Mapping[str, str],
        before: Callable[[Path], None] | None = None,
    ) -> None:
        self._file = file
        self._question = Question(str(file), "", timeout_s, memory_bytes, limits)
        self._inserts = inserts
        self._descriptions = descriptions
        self._before = before
        self._readers = Readers()
        self._writing = asyncio.Lock()

    async def query(self, query: str) -> Found:
        await self._ready()
        return await self._readers.ask(msgspec.structs.replace(self._question, query=query))

    async def tables(self) -> Sequence[Table]:
        found = await self._read(walls.tables_of)
        return [Table(name, kind, self._descriptions.get(name, "")) for name, kind in found.items()]

    async def columns(self, table: str) -> Sequence[Column]:
        tables, found = await self._read(
            lambda connection: (walls.tables_of(connection), columns_of(connection, table))
        )
        if table not in tables:
            raise ToolFailed(f"There is no table {table!r}.", walls.tables_sentence(tables))
        described = {name: self._descriptions.get(f"{table}.{name}", "") for name in (each.name for each in found)}
        return [msgspec.structs.replace(each, description=described[each.name]) for each in found]

    async def insert(self, table: str, record: Mapping[str, object], key: str | None) -> Inserted:
        records.allowed(table, self._inserts)
        columns = await self.columns(table)
        values = records.checked(table, columns, record)
        async with self._writing:
            return await asyncio.to_thread(self._insert, table, columns, values, key)

    async def close(self) -> None:
        await self._readers.close()

    def _insert(
        self, table: str, columns: Sequence[Column], values: Mapping[str, records.Value], key: str | None
    ) -> Inserted:
        try:
            connection = sqlite3.connect(
                f"{self._file.as_uri()}?mode=rw", uri=True, timeout=_BUSY_S, isolation_level=None
            )
        except sqlite3.Error as error:
            raise _unreadable(error) from error
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            inserted = _inserted_once(connection, table, columns, values, key)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise ToolFailed(f"The record was not inserted: {sentence(str(error))}", _advice(error, table)) from error
        finally:
            connection.close()  # which rolls back what is not committed
        return inserted

    async def _read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        await self._ready()
        return await asyncio.to_thread(self._asked, ask)

    def _asked(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = walls.opened(self._file)
            try:
                return ask(connection)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise _unreadable(error) from error

    async def _ready(self) -> None:
        if self._before is None:
            return
        async with self._writing:
            if self._before is not None:
                try:
                    await asyncio.to_thread(self._before, self._file)
                except (OSError, sqlite3.Error) as error:
                    raise ToolFailed(f"The sample database cannot be made: {error}.", "Tell the operator.") from error
                self._before = None


def columns_of(connection: sqlite3.Connection, table: str) -> list[Column]:
    """The columns of *table*, none if there is no such thing."""
    references = {
        start: f"{there}.{end}" if end else there
        for there, start, end in connection.execute(
            'SELECT "table", "from", "to" FROM pragma_foreign_key_list(?)', (table,)
        )
    }
    found = connection.execute('SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)', (table,))
    return [
        Column(name, type, bool(not_null), default, bool(pk), references.get(name, ""))
        for name, type, not_null, default, pk in found
    ]


def _inserted_once(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[Column],
    values: Mapping[str, records.Value],
    key: str | None,
) -> Inserted:
    """Within a transaction that the record and its key share: either both are there or neither is."""
    mark = records.fingerprint(table, values)
    if key is not None:
        connection.execute(_KEYS)
        row = connection.execute(
            f"SELECT fingerprint, result FROM {records.KEYS_TABLE} WHERE key = ?", (key,)
        ).fetchone()
        if row is not None:
            return records.repeated(row[0], mark, row[1])
    keys = [column.name for column in columns if column.primary_key]
    statement = records.insertion(table, list(values), keys, "?")
    row = connection.execute(statement, list(values.values())).fetchone()
    last = connection.execute("SELECT last_insert_rowid()").fetchone()[0]
    inserted = records.inserted(table, dict(zip(keys, row, strict=True)) if keys else {}, last)
    if key is not None:
        result = msgspec.json.encode(inserted).decode()
        connection.execute(f"INSERT INTO {records.KEYS_TABLE} VALUES (?, ?, ?)", (key, mark, result))
    return inserted


def _unreadable(error: sqlite3.Error) -> ToolFailed:
    return ToolFailed(f"The database cannot be opened: {error}.", "Tell the operator of this server.")


def _advice(error: sqlite3.Error, table: str) -> str:
    """What to do about a record that the engine did not take."""
    match str(error).partition(" constraint")[0]:
        case "UNIQUE":
            return "There is such a record already: look it up with query_database."
        case "FOREIGN KEY":
            return "What it refers to has to be there first."
        case "NOT NULL" | "CHECK" | "datatype mismatch":
            return f"get_table_schema says what {table} takes."
        case "database is locked":
            return "Try again with the same idempotency key."
    return "Nothing has changed."
