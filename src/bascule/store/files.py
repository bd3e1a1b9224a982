"""The database file, looked at without what it takes to change it: only a migration loads SQLAlchemy."""

import os
import sqlite3
from pathlib import Path
from typing import Final

from bascule.store import folder

FILE: Final = "bascule.db"
BUSY_S: Final = 10.0  # how long a transaction waits for another process
HEAD: Final = "0002"  # the revision of the newest migration: a database that has it is opened without alembic


def is_newest(path: Path) -> bool:
    """Whether *path* is a database of the newest schema, private, in WAL mode; False where that cannot be told."""
    try:
        if not (os.path.exists(path) and folder.is_private(path)):
            return False
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_S) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.close()
    except (OSError, sqlite3.Error):
        return False  # whoever opens it to migrate it finds out what is wrong, and says it
    return bool(mode == "wal" and found == (HEAD,))
