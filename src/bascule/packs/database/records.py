"""A record that is to be added, against the columns of its table. PURE.

Values never become SQL: they are bound. Names do, and only names that the database itself says it has.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from bascule.packs.database.store import Column, Inserted
from bascule.packs.pack import ToolFailed

MAX_COLUMNS: Final = 200
KEYS_TABLE: Final = "bascule_keys"  # which key has inserted which record

Value = str | int | float | bool | None


def allowed(table: str, allowed_tables: Collection[str]) -> None:
    """Raises ToolFailed if no record may be added to *table*."""
    if table not in allowed_tables:
        names = ", ".join(sorted(allowed_tables))
        do = f"Tables that take records: {names}." if names else "The operator allows it in the settings, `inserts`."
        raise ToolFailed(f"Nothing may be inserted into {table!r} here.", do)


def checked(table: str, columns: Sequence[Column], record: Mapping[str, object]) -> dict[str, Value]:
    """*record* with the names and values that *columns* take. Raises ToolFailed, naming the column."""
    known = {column.name: column for column in columns}
    names = f"Columns of {table}: {', '.join(known)}."
    if not record:
        raise ToolFailed("The record is empty.", names)
    if unknown := [name for name in record if name not in known]:
        raise ToolFailed(f"{table} has no column {unknown[0]!r}.", names)
    values = {name: _value(known[name], value) for name, value in record.items()}
    missing = [column.name for column in columns if _needed(column) and values.get(column.name) is None]
    if missing:
        raise ToolFailed(f"{table} needs {', '.join(missing)}.", names)
    return values


def _needed(column: Column) -> bool:
    # A primary key of the database's own making (INTEGER PRIMARY KEY, serial) is not asked for.
    return column.not_null and column.default is None and not column.primary_key


def _value(column: Column, value: object) -> Value:
    """*value* itself, if it is one that *column* can hold."""
    if value is None or isinstance(value, bool | int | float | str):
        if (wants := _wants(column.type, value)) is not None:
            shown = msgspec.json.encode(value).decode()[:60]
            raise ToolFailed(f"{column.name} is {column.type} and cannot be {shown}.", f"Give {wants}.")
        return value
    raise ToolFailed(f"{column.name} cannot be a list or an object.", "Give a text, a number, true, false or null.")


def _wants(declared: str, value: Value) -> str | None:
    """What a column that is *declared* so wants in place of *value*; None if that is fine.

    The kinds are those of SQLite's "type affinity" (sqlite.org/datatype3.html, 3.1), which covers PostgreSQL's names.
    """
    kind = declared.upper()
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or not kind or "JSON" in kind:
        return None
    if "BOOL" in kind:
        return None if isinstance(value, bool) or value in (0, 1) else "true or false"
    if any(part in kind for part in ("DATE", "TIME", "INTERVAL", "UUID", "INET")):
        return None if isinstance(value, str) else "a text, such as '2026-11-21' for a date"
    if "INT" in kind or "SERIAL" in kind:
        whole = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
        return None if whole else "a whole number"
    if any(part in kind for part in ("CHAR", "CLOB", "TEXT")):
        return None if isinstance(value, str) else "a text"
    if any(part in kind for part in ("REAL", "FLOA", "DOUB", "NUM", "DEC", "MONEY")):
        return None if number else "a number"
    if "BLOB" in kind or "BYTEA" in kind:
        return "nothing: bytes cannot be inserted here"
    return None


def fingerprint(table: str, record: Mapping[str, object]) -> str:
    """The same for the same record, whatever the order of its columns."""
    return hashlib.sha256(msgspec.json.encode([table, record], order="sorted")).hexdigest()


def insertion(table: str, names: Sequence[str], keys: Sequence[str], place: str) -> str:
    """The statement that adds a record and returns the columns *keys*; *place* stands for each value."""
    columns, places = ", ".join(quoted(name) for name in names), ", ".join([place] * len(names))
    returning = ", ".join(quoted(name) for name in keys)
    return f"INSERT INTO {quoted(table)} ({columns}) VALUES ({places}) RETURNING {returning or 1}"


def quoted(name: str) -> str:
    """*name* as an identifier of SQL, whatever is in it.

    >>> quoted('a"; DROP TABLE b')
    '"a""; DROP TABLE b"'
    """
    return '"' + name.replace('"', '""') + '"'


def inserted(table: str, key: Mapping[str, int | str | float | None], row_id: int | None = None) -> Inserted:
    """What to say of a record with this primary *key*; *row_id* is the engine's own number where there is no key."""
    only = next(iter(key.values())) if len(key) == 1 else row_id if not key else None
    return Inserted(table, only if isinstance(only, int | str) else None, key)


def repeated(then: str, now: str, result: str) -> Inserted:
    """What was said of the record that a key has inserted. Raises ToolFailed if it was another one."""
    if then != now:
        raise ToolFailed(
            "This idempotency key has inserted another record.", "Use a new key for a new record; nothing has changed."
        )
    return msgspec.json.decode(result, type=Inserted)
