"""The database file, looked at without what it takes to change it: only a migration loads SQLAlchemy."""

import os
import sqlite3
from importlib import resources
from pathlib import Path
from typing import Final

from bascule.errors import ConfigInvalid
from bascule.store import folder

FILE: Final = folder.DATABASE
BUSY_S: Final = 10.0  # how long a transaction waits for another process
HEAD: Final = "0003"  # the revision of the newest migration: a database that has it is opened without alembic


def make(state: Path) -> None:
    """The database of a state folder, if it has none yet: with what all migrations come to, in one step.

    Raises ConfigInvalid if that cannot be.
    """
    folder.prepare(state)
    path = state / FILE
    with folder.locked(state):
        if path.exists():
            return
        beside = path.with_name(f"{FILE}.new")
        try:
            beside.unlink(missing_ok=True)  # of a process that died here
            os.close(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, folder.PRIVATE_FILE))
            connection = sqlite3.connect(beside, isolation_level=None)
            try:
                connection.executescript(f"BEGIN; {_script()} COMMIT; PRAGMA journal_mode = WAL;")
            finally:
                connection.close()
            beside.rename(path)
        except (OSError, sqlite3.Error) as error:
            raise folder.unusable(path, error) from error


def require(state: Path) -> None:
    """Raises ConfigInvalid unless something has been recorded in *state*: to look at nothing is no good sign."""
    if not (state / FILE).exists():
        raise ConfigInvalid(
            f"there is no {FILE} here, so no gateway has kept its records in it; is state_dir right, and are you the"
            " user that the gateway runs as?",
            place=str(state),
        )
    if not is_newest(state / FILE):
        raise ConfigInvalid(
            "it is of an older Bascule, or damaged; the gateway brings it up to date when it starts, and no other"
            " command does",
            place=str(state / FILE),
        )


def _script() -> str:
    return (resources.files("bascule.store") / "newest.sql").read_text(encoding="utf-8")


def is_newest(path: Path) -> bool:
    """Whether *path* is a database of the newest schema, private, in WAL mode; False where that cannot be told."""
    try:
        if not (os.path.exists(path) and folder.is_private(path)):
            return False
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_S) as connection:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        connection.close()
    except (OSError, sqlite3.Error, UnicodeDecodeError):  # of a damaged file SQLite may quote what is no text
        return False  # whoever opens it to migrate it finds out what is wrong, and says it
    return bool(mode == "wal" and found == (HEAD,))
