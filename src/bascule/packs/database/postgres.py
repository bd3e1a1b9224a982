"""A database of PostgreSQL. Each query has a session of its own, which is thrown away.

The engine refuses, in three ways that do not know of one another. The statement is sent as one (the extended protocol
takes no second one), as the query of a cursor (of which the grammar wants a SELECT that changes nothing), in a
transaction that is READ ONLY and, once it has a snapshot, cannot be made otherwise. And the role may do no more than
read (postgres_role.py). Cells are cut by the server, rows are fetched a few at a time.
Sources: PostgreSQL 15, "DECLARE", "SET TRANSACTION", "Extended Query".
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import psycopg

from bascule.packs.database import postgres_role, records, statement
from bascule.packs.database.found import Collecting, Found, Limits
from bascule.packs.database.options import PostgresOptions
from bascule.packs.database.reader import BEFORE, late, sentence
from bascule.packs.database.store import Column, Inserted, Table
from bascule.packs.pack import ToolFailed

Connection = psycopg.AsyncConnection[Any]

GRACE_S: Final = 3.0  # for the server to say that a statement took too long, before its session is left
ROLE_TTL_S: Final = 60.0  # that a look at the role holds
MAX_COLUMNS: Final = 500
_BATCH_CELLS: Final = 500  # fetched at once: 500 cells of 10,000 characters are 20 MB at most
_SELECT: Final = "Send one SELECT in the SQL of PostgreSQL."
_RECORD: Final = "Nothing was inserted; get_table_schema says what the table takes."
_SSL: Final = {"verify": "verify-full", "require": "require", "off": "disable"}

_TABLES: Final = b"""
SELECT c.relname, CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' END,
       coalesce(obj_description(c.oid, 'pg_class'), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname NOT LIKE 'bascule\\_%%'
  AND has_any_column_privilege(c.oid, 'SELECT') ORDER BY c.relname LIMIT 1000
"""
_COLUMNS: Final = b"""
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       CASE WHEN a.attidentity <> '' THEN 'identity' ELSE pg_get_expr(d.adbin, d.adrelid) END,
       coalesce(i.indisprimary, false), coalesce(f.confrelid::regclass::text || '.' || r.attname, ''),
       coalesce(col_description(a.attrelid, a.attnum), '')
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY(i.indkey)
LEFT JOIN pg_constraint f ON f.conrelid = a.attrelid AND f.contype = 'f' AND f.conkey = ARRAY[a.attnum]
LEFT JOIN pg_attribute r ON r.attrelid = f.confrelid AND r.attnum = f.confkey[1]
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEYS: Final = f"""
CREATE TABLE {records.KEYS_TABLE} (key text PRIMARY KEY, fingerprint text NOT NULL, result text)
""".encode()


class PostgresStore:
    def __init__(
        self,
        options: PostgresOptions,
        *,
        limits: Limits,
        timeout_s: float,
        inserts: Collection[str],
        descriptions: Mapping[str, str],
        looks_before: bool | None = None,
    ) -> None:
        """*looks_before*: whether statement.py sees a query first; default: if what it needs is installed."""
        self._options = options
        self._limits = limits
        self._timeout_s = timeout_s
        self._inserts = inserts
        self._descriptions = descriptions
        self._role_checked_s = float("-inf")
        self._looks_before = statement.is_installed() if looks_before is None else looks_before
        self._making_keys = asyncio.Lock()

    async def query(self, query: str) -> Found:
        plain = query.lstrip(BEFORE).rstrip("; \t\r\n")
        if not plain or "\0" in plain:
            raise ToolFailed("The query is no SELECT.", _SELECT)
        if self._looks_before:
            await asyncio.to_thread(statement.check, plain, self._options.schema)
        async with self._reading() as connection:
            return await found(connection, plain, self._limits)

    async def tables(self) -> Sequence[Table]:
        async with self._reading() as connection:
            cursor = await connection.execute(_TABLES, {"schema": self._options.schema})
            rows = await cursor.fetchall()
        return [Table(name, kind, self._descriptions.get(name, said)) for name, kind, said in rows]

    async def columns(self, table: str) -> Sequence[Column]:
        names = [each.name for each in await self.tables()]
        if table not in names:
            raise ToolFailed(f"There is no table {table!r}.", f"Tables: {', '.join(names) or 'none'}.")
        async with self._reading() as connection:
            cursor = await connection.execute(_COLUMNS, {"schema": self._options.schema, "table": table})
            rows = await cursor.fetchall()
        return [
            Column(name, type, not_null, default, key, refers, self._descriptions.get(f"{table}.{name}", said))
            for name, type, not_null, default, key, refers, said in rows
        ]

    async def insert(self, table: str, record: Mapping[str, object], key: str | None) -> Inserted:
        records.allowed(table, self._inserts)
        columns = await self.columns(table)
        values = records.checked(table, columns, record)
        keys = [column.name for column in columns if column.primary_key]
        async with self._writing() as connection:
            if key is not None:
                await self._ensure_keys(connection)
            async with connection.transaction():
                return await inserted_once(connection, table, values, keys, key)

    async def close(self) -> None:
        pass  # every session ends with its call

    # ---- sessions

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Connection]:
        """A session that reads, and only for so long. What goes wrong in it becomes ToolFailed."""
        options = self._options
        async with self._session(options.user, options.password, _SELECT) as connection:
            await connection.execute(b"BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            await self._set(connection)
            if time.monotonic() - self._role_checked_s > ROLE_TTL_S:
                await postgres_role.check(connection)
                self._role_checked_s = time.monotonic()
            yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Connection]:
        writer = self._options.writer
        assert writer is not None  # the options say so: no table takes records without it
        async with self._session(writer.user, writer.password, _RECORD) as connection:
            await self._set(connection)
            yield connection

    @asynccontextmanager
    async def _session(self, user: str, password: str, otherwise: str) -> AsyncIterator[Connection]:
        """*otherwise*: what to do about an error that says nothing of it."""
        connection = await self._connected(user, password)
        try:
            async with asyncio.timeout(self._timeout_s + GRACE_S):
                yield connection
        except psycopg.Error as error:
            raise ToolFailed(*_explained(error, self._timeout_s, otherwise)) from error
        except TimeoutError as error:
            raise ToolFailed(late(self._timeout_s), "Ask for less: WHERE, LIMIT.") from error
        finally:
            await connection.close()  # which rolls back what is open

    async def _connected(self, user: str, password: str) -> Connection:
        options = self._options
        try:
            async with asyncio.timeout(self._timeout_s):
                return await psycopg.AsyncConnection.connect(
                    host=options.host,
                    port=options.port,
                    dbname=options.database,
                    user=user,
                    password=password,
                    sslmode=_SSL[options.tls],
                    sslrootcert=(options.ca or "system") if options.tls == "verify" else None,
                    gssencmode="disable",
                    application_name="bascule",
                    autocommit=True,  # transactions are begun in full
                )
        except (psycopg.Error, TimeoutError) as error:
            # The driver's own words name hosts and users.
            raise ToolFailed("The database cannot be reached.", "Try again later, or tell its operator.") from error

    async def _set(self, connection: Connection) -> None:
        """Names mean what is in the schema; nothing takes longer than it may. Takes the transaction's snapshot."""
        milliseconds = str(round(self._timeout_s * 1000))
        await connection.execute(
            b"SELECT set_config('search_path', %s, false), set_config('statement_timeout', %s, false),"
            b" set_config('lock_timeout', %s, false), set_config('idle_in_transaction_session_timeout', '60s', false)",
            (records.quoted(self._options.schema), milliseconds, milliseconds),
        )

    async def _ensure_keys(self, connection: Connection) -> None:
        async with self._making_keys:
            cursor = await connection.execute(b"SELECT to_regclass(%s)", (records.KEYS_TABLE,))
            if (await cursor.fetchone()) != (None,):
                return
            try:
                await connection.execute(_KEYS)
            except psycopg.errors.DuplicateTable:
                pass  # another process was faster
            except psycopg.errors.InsufficientPrivilege as error:
                what = f"A record with an idempotency key needs the table {records.KEYS_TABLE}, which is not there."
                raise ToolFailed(what, "The operator makes it; docs/packs/database.md has the command.") from error


async def found(connection: Connection, query: str, limits: Limits) -> Found:
    """What *query* finds, in a transaction that reads. Raises psycopg.Error, ToolFailed."""
    text = query.encode("utf-8", "replace")
    await connection.execute(b"DECLARE looked NO SCROLL CURSOR FOR\n" + text, prepare=True)
    # Nothing has run yet: a cursor is asked for its columns, so that the server can cut the cells of the next one.
    description = (await connection.execute(b"FETCH 0 FROM looked")).description or []
    if len(description) > MAX_COLUMNS:
        raise ToolFailed(f"There are more than {MAX_COLUMNS} columns.", "Name the ones that you need.")
    collecting = Collecting((column.name for column in description), limits)
    if not description:
        return collecting.found()
    names = [f"c{number}" for number in range(len(description))]
    cells = ", ".join(f"left(found.{name}::text, {limits.cell_chars + 1})" for name in names)
    await connection.execute(
        f"DECLARE cut NO SCROLL CURSOR FOR SELECT {cells} FROM (\n".encode()
        + text
        + f"\n) AS found({', '.join(names)})".encode(),
        prepare=True,
    )
    types = [column.type_code for column in description]
    rows_at_once = max(1, min(_BATCH_CELLS // len(names), limits.rows + 1))
    while True:
        rows = await (await connection.execute(f"FETCH FORWARD {rows_at_once} FROM cut".encode())).fetchall()
        for row in rows:
            if not collecting.take([value(cell, type) for cell, type in zip(row, types, strict=True)]):
                return collecting.found()
        if len(rows) < rows_at_once:
            return collecting.found()


_BOOL, _BYTES, _WHOLE, _FLOATING = 16, 17, (20, 21, 23, 26), (700, 701)  # pg_type.oid, which never change


def value(text: str | None, type: int) -> str | int | float | bool | None:
    """A cell as PostgreSQL writes it, as what it is. A `numeric` stays text: no number of JSON holds it."""
    if text is None:
        return None
    if type in _WHOLE:
        return int(text)
    if type in _FLOATING:
        return float(text)
    if type == _BOOL:
        return text == "true"
    return f"x'{text[2:]}'" if type == _BYTES else text


async def inserted_once(
    connection: Connection, table: str, values: Mapping[str, records.Value], keys: Sequence[str], key: str | None
) -> Inserted:
    """Within a transaction that the record and its key share. Who comes second with a key waits for the first."""
    mark = records.fingerprint(table, values)
    if key is not None:
        claim = f"INSERT INTO {records.KEYS_TABLE} (key, fingerprint) VALUES (%s, %s) ON CONFLICT DO NOTHING".encode()
        if (await connection.execute(claim, (key, mark))).rowcount == 0:
            known = f"SELECT fingerprint, result FROM {records.KEYS_TABLE} WHERE key = %s".encode()
            then, result = await (await connection.execute(known, (key,))).fetchone() or ("", "")
            return records.repeated(then, mark, result)
    statement = records.insertion(table, list(values), keys, "%s").encode()
    row = await (await connection.execute(statement, [_bound(each) for each in values.values()])).fetchone() or ()
    inserted = records.inserted(table, {name: _plain(each) for name, each in zip(keys, row, strict=bool(keys))})
    if key is not None:
        result = msgspec.json.encode(inserted).decode()
        await connection.execute(f"UPDATE {records.KEYS_TABLE} SET result = %s WHERE key = %s".encode(), (result, key))
    return inserted


def _bound(value: records.Value) -> records.Value:
    """Numbers as text, too: the server reads them as what the column is, a `numeric` exactly."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _plain(value: object) -> int | str | None:
    return value if isinstance(value, int | str | None) else str(value)


def _explained(error: psycopg.Error, timeout_s: float, otherwise: str) -> tuple[str, str]:
    """What the engine said, and what to do about it, for a model to act on."""
    said = sentence(error.diag.message_primary or "the connection was lost")
    if error.diag.message_detail and error.sqlstate in ("23505", "23503"):
        said += f" {sentence(error.diag.message_detail)}"
    match error.sqlstate:
        case "57014":
            return late(timeout_s), "Ask for less: WHERE, LIMIT; see that joins and recursion end."
        case "25006":
            return f"A query can only read here: {said}", _SELECT
        case "42P01" | "42501":
            return said, "list_tables says what there is to read."
        case "42703":
            return said, "get_table_schema says the columns of a table."
        case "23505":
            return said, "There is such a record already: look it up with query_database."
        case "23503":
            return said, "What it refers to has to be there first."
        case None | "57P01" | "57P02" | "57P03":
            return said, "Try again later."
    return said, otherwise
