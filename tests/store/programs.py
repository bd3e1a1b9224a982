"""Programs that other processes run on a state folder: `python programs.py NAME FOLDER`."""

import sys
from pathlib import Path

from bascule.store.keys import KeyStore


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def create(folder: Path) -> None:
    """Wait for a line on stdin, then make one key, and print its id."""
    say("ready")
    sys.stdin.readline()
    with KeyStore(folder) as store:
        say(store.create("ci", "live")[0].id)


def create_for_ever(folder: Path) -> None:
    """Make keys until somebody ends it, and print the id of each when it is stored."""
    with KeyStore(folder) as store:
        while True:
            say(store.create("ci", "live")[0].id)


def hold(folder: Path) -> None:
    """Keep the database for itself until stdin ends."""
    import sqlite3

    connection = sqlite3.connect(folder / "bascule.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say("held")
    sys.stdin.read()
    connection.close()


def revoke(folder: Path) -> None:
    """Revoke every key of the folder."""
    with KeyStore(folder) as store:
        for record in store.list():
            store.revoke(record.id)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
