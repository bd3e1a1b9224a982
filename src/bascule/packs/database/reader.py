"""The child that runs queries of SQLite, one after the other, each on a connection of its own.

It is a process of its own because a few of the engine's functions look at no clock while they work (`instr` over two
long texts, say): who asks kills it when its time is over. A question is a line of JSON on standard input, and so is
the answer on standard output.
"""

import sqlite3
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from bascule.packs.database import walls
from bascule.packs.database.found import Collecting, Found, Limits

_OPERATOR: Final = "Tell the operator of this server."
BEFORE: Final = "\ufeff; \t\r\n"  # what may stand before a statement without being a part of it


class Question(msgspec.Struct, frozen=True):
    file: str
    query: str
    timeout_s: float
    memory_bytes: int
    limits: Limits


class Answer(msgspec.Struct, frozen=True):
    """What was found, or why nothing was."""

    found: Found | None = None
    refused: str = ""  # what is wrong, a sentence
    do: str = ""  # what to do about it, another one


def main() -> None:
    questions = msgspec.json.Decoder(Question)
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(answered(questions.decode(line))) + b"\n")
        sys.stdout.buffer.flush()


def answered(question: Question) -> Answer:
    try:
        connection = walls.opened(Path(question.file))
    except sqlite3.Error as error:
        return Answer(refused=f"The database cannot be opened: {error}.", do=_OPERATOR)
    try:
        tables = walls.tables_of(connection)
    except sqlite3.Error as error:
        connection.close()
        return Answer(refused=f"The database cannot be read: {error}.", do=_OPERATOR)
    authorizer = walls.Authorizer(tables)
    try:
        connection.text_factory = _shortening(question.limits.cell_chars)
        walls.enclose(connection, authorizer, walls.over_after(question.timeout_s), question.memory_bytes)
        return Answer(_found(connection, question))
    except (sqlite3.Error, sqlite3.Warning, MemoryError, ValueError) as error:
        what, do = authorizer.refused or _explained(error, question, tables)
        return Answer(refused=what, do=do)
    finally:
        connection.close()


def _found(connection: sqlite3.Connection, question: Question) -> Found:
    query = question.query.lstrip(BEFORE)
    if query.startswith("("):
        query = f"SELECT * FROM (\n{query}\n)"  # SQLite knows no brackets around a whole statement; others do
    cursor = connection.execute(query)
    if cursor.description is None:
        raise ValueError("The query is no SELECT.")
    collecting = Collecting((name for name, *_ in cursor.description), question.limits)
    for row in cursor:
        if not collecting.take(row):
            break
    return collecting.found()


def _shortening(chars: int) -> Callable[[bytes], str]:
    """Texts are cut as they come, so that a row of long ones is never held whole."""

    def text(content: bytes) -> str:
        return content[: 4 * (chars + 1)].decode("utf-8", "replace")

    return text


def _explained(error: Exception, question: Question, tables: Iterable[str]) -> tuple[str, str]:
    """What the engine said, and what to do about it, for a model to act on."""
    if isinstance(error, MemoryError):
        refused = f"The query needs more than {question.memory_bytes} bytes of memory."
        return refused, "Ask for less at once: WHERE, LIMIT, no sorting of long texts."
    match str(error):
        case "interrupted":
            return late(question.timeout_s), "Ask for less: WHERE, LIMIT; see that joins and recursion end."
        case said if "one statement" in said:
            return "There is more than one statement.", "Send one SELECT, without what follows."
        case said if said.startswith("no such table"):
            return sentence(said), walls.tables_sentence(tables)
        case said if said.startswith(("no such column", "ambiguous column")):
            return sentence(said), "get_table_schema says the columns of a table."
        case said:
            return sentence(said), "Send one SELECT in the SQL of SQLite."


def late(timeout_s: float) -> str:
    return f"The query took longer than {timeout_s:g} s and was stopped."


def sentence(said: str) -> str:
    return f"{said[:1].upper()}{said[1:].rstrip('.')}."


if __name__ == "__main__":
    main()
