"""SQLite as a reader of one query: what it may do, by its own authorizer and its own limits.

Nothing here looks at the text of a query. The engine asks about each action and each function while it prepares
the statement, and whatever is not on the lists is refused. Sources: sqlite.org, "Defense Against The Dark Arts",
"Compile-Time Authorization Callbacks", "Run-Time Limits", "PRAGMA hard_heap_limit"; security.md, T23.
"""

import re
import sqlite3
import sys
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

# Functions of the engine that compute and do nothing else. What a program may have loaded into SQLite besides them
# (readfile, edit, fts3_tokenizer) is not known to be harmless, and whatever comes with a later release is not either.
FUNCTIONS: Final = frozenset((
    *("->", "->>", "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "avg", "ceil", "ceiling", "char"),
    *("coalesce", "concat", "concat_ws", "cos", "cosh", "count", "cume_dist", "current_date", "current_time"),
    *("current_timestamp", "date", "datetime", "degrees", "dense_rank", "exp", "first_value", "floor", "format"),
    *("glob", "group_concat", "hex", "ifnull", "iif", "instr", "json", "json_array", "json_array_length"),
    *("json_extract", "json_group_array", "json_group_object", "json_object", "json_type", "json_valid", "julianday"),
    *("lag", "last_value", "lead", "length", "like", "likelihood", "likely", "ln", "log", "log10", "log2", "lower"),
    *("ltrim", "max", "median", "min", "mod", "nth_value", "ntile", "nullif", "octet_length", "percent_rank", "pi"),
    *("pow", "power", "printf", "quote", "radians", "random", "rank", "replace", "round", "row_number", "rtrim"),
    *("sign", "sin", "sinh", "sqrt", "strftime", "string_agg", "substr", "substring", "sum", "tan", "tanh", "time"),
    *("timediff", "total", "trim", "trunc", "typeof", "unicode", "unixepoch", "unlikely", "upper", "zeroblob"),
))  # fmt: skip

SqlValue = str | bytes | int | float | None

LIMITS: Final = {
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 500,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 32,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
HIDDEN: Final = ("sqlite_", "bascule_")  # what the engine, and insert_record, keep for themselves
_STEPS: Final = 1_000  # of the engine's between two looks at the clock
_BUSY_S: Final = 1.0  # that a reader waits for a writer

_ACTIONS: Final = {
    getattr(sqlite3, f"SQLITE_{name}"): name.replace("_", " ")
    for name in (
        *("ALTER_TABLE", "ANALYZE", "ATTACH", "CREATE_INDEX", "CREATE_TABLE", "CREATE_TEMP_INDEX", "CREATE_TEMP_TABLE"),
        *("CREATE_TEMP_TRIGGER", "CREATE_TEMP_VIEW", "CREATE_TRIGGER", "CREATE_VIEW", "CREATE_VTABLE", "DELETE"),
        *("DETACH", "DROP_INDEX", "DROP_TABLE", "DROP_TEMP_INDEX", "DROP_TEMP_TABLE", "DROP_TEMP_TRIGGER"),
        *("DROP_TEMP_VIEW", "DROP_TRIGGER", "DROP_VIEW", "DROP_VTABLE", "INSERT", "PRAGMA", "REINDEX", "SAVEPOINT"),
        *("TRANSACTION", "UPDATE"),
    )
}


class Authorizer:
    """Says yes to reading the *tables* and to the functions of the list; remembers what it said no to."""

    def __init__(self, tables: Collection[str]) -> None:
        self._tables = frozenset(each.casefold() for each in tables)
        self.refused: tuple[str, str] | None = None  # the first of them: what, and what to do

    def __call__(self, action: int, first: str | None, second: str | None, database: str | None, by: str | None) -> int:
        if self._allows(action, first or "", second or "", database):
            return sqlite3.SQLITE_OK
        self.refused = self.refused or self._explained(action, first or "", second or "")
        return sqlite3.SQLITE_DENY

    def _allows(self, action: int, first: str, second: str, database: str | None) -> bool:
        if action == sqlite3.SQLITE_READ:
            # Without a database and a column: rows are counted, also those of a WITH.
            return (database == "main" and first.casefold() in self._tables) or (database is None and not second)
        if action == sqlite3.SQLITE_FUNCTION:
            return second.casefold() in FUNCTIONS
        return action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE)

    def _explained(self, action: int, first: str, second: str) -> tuple[str, str]:
        if action == sqlite3.SQLITE_READ:
            return f"There is no table {first!r} that may be read.", tables_sentence(self._tables)
        if action == sqlite3.SQLITE_FUNCTION:
            return f"The function {second}() may not be used here.", "Use another one, or work it out from the rows."
        if action == sqlite3.SQLITE_UPDATE and first in ("sqlite_master", "sqlite_schema"):
            what = "Only tables and views of the database can be read: no json_each, no pragma_… and no virtual table."
            return what, tables_sentence(self._tables)
        name = _ACTIONS.get(action, "this")
        return f"A query can only read here: {name} is refused.", "Send one SELECT over the tables."


def tables_sentence(tables: Iterable[str]) -> str:
    return f"Tables: {', '.join(sorted(tables)) or 'none'}."


def tables_of(connection: sqlite3.Connection) -> dict[str, str]:
    """The kind, `table` or `view`, of each thing that may be read, by its name."""
    found = connection.execute("SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name")
    return {name: kind for name, kind in found if not name.casefold().startswith(HIDDEN)}


def opened(file: Path) -> sqlite3.Connection:
    """A new connection that reads *file* and cannot make one. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        f"{file.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_S, cached_statements=0
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA temp_store = MEMORY")  # no file of ours anywhere; the heap has its limit
    return connection


def enclose(
    connection: sqlite3.Connection, authorizer: Authorizer, over: Callable[[], bool], memory_bytes: int
) -> None:
    """Have *connection* do nothing but read from now on, until *over* says that its time is up."""
    connection.execute(f"PRAGMA hard_heap_limit = {memory_bytes:d}")  # of the whole process, and never more again
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, False)
    for limit, value in LIMITS.items():
        connection.setlimit(limit, value)
    for name in ("printf", "format"):
        connection.create_function(name, -1, _formatted, deterministic=True)
    connection.set_progress_handler(over, _STEPS)
    connection.set_authorizer(authorizer)


def over_after(seconds: float, clock: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """Whether *seconds* have passed since now."""
    end = clock() + seconds
    return lambda: clock() > end


_PLACE: Final = re.compile(r"%[-+ 0#,!]*(\d*)(?:\.(\d*))?l*[a-zA-Z%]")
_WIDEST: Final = 3  # digits


def _formatted(pattern: SqlValue = None, *values: SqlValue) -> SqlValue:
    """`printf` of the engine, or NULL, as it has it for what is too long: it counts to any width without a clock."""
    if not isinstance(pattern, str):
        return None
    places = list(_PLACE.finditer(pattern))
    if len(places) != pattern.replace("%%", "").count("%") + pattern.count("%%"):
        return None  # `%*d` takes its width from a value
    if any(len(digits or "") > _WIDEST for place in places for digits in place.groups()):
        return None
    blank = sqlite3.connect(":memory:")
    try:
        asked = ", ".join("?" * (1 + len(values)))
        shown: SqlValue = blank.execute(f"SELECT printf({asked})", (pattern, *values)).fetchone()[0]
        return shown
    finally:
        blank.close()
