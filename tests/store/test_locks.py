"""What a process does with the database must not cost it its locks: another one would take it for dead."""

import asyncio
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final

from bascule.store import files
from bascule.store.database import Database
from bascule.store.writer import Writer

# Another process that writes, and ends: as the last one to have the database open, it would remove the log.
ELSEWHERE: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO generations (kind, number) VALUES (?, 1)", (sys.argv[2],))
connection.commit()
connection.close()
"""


def kinds(connection: sqlite3.Connection) -> list[str]:
    return [kind for (kind,) in connection.execute("SELECT kind FROM generations ORDER BY kind")]


def add(connection: sqlite3.Connection, kind: str) -> None:
    connection.execute("INSERT INTO generations (kind, number) VALUES (?, 1)", (kind,))


async def test_two_ways_to_the_database_in_one_process_keep_its_locks(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.start()

    await writer.write(partial(add, kind="ours"), durable=True)
    database = Database(tmp_path)  # as the key store does, beside the records
    version = database.version()
    for kind in ("a", "b", "c"):
        await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", ELSEWHERE, str(tmp_path / files.FILE), kind], check=True
        )
        assert (tmp_path / f"{files.FILE}-wal").exists()  # not the last one: nobody may tidy up behind us
        assert database.version() != version
        version = database.version()
        await writer.write(partial(add, kind=f"after {kind}"), durable=True)
    writer.close()
    database.close()
    with sqlite3.connect(tmp_path / files.FILE) as connection:
        found = kinds(connection)
    connection.close()
    assert {"ours", "a", "b", "c"} <= set(found)
    assert len(found) == 7
