"""What the audit of a state folder says, read by the product's own functions while processes may write to it."""

import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bascule.admin.audit import Filters, Log, keys_of
from bascule.store.anchor import FILE
from bascule.store.database import Database

_ENDS: Final = frozenset({"call", "outcome_recovered"})


def make_template(state: Path) -> None:
    """A state folder with an empty database: to make one takes longer than a life."""
    Database(state).close()


def fault_of_chain(state: Path) -> str | None:
    """What `bascule audit verify` would say, if it is not ok."""
    with Log(state) as log:
        problem = log.verify(state / FILE, keys_of(state)).problem
    return None if problem is None else f"entry {problem.seq}: {problem.fault}: {problem.message}"


@dataclass(frozen=True)
class Ends:
    """How calls that were announced have ended."""

    faults: tuple[str, ...]  # intents that have not exactly one end
    by_row: dict[str, list[tuple[str, str]]]  # (kind, outcome), by the id in the journal


def ends_of(state: Path) -> Ends:
    """To be asked when no process lives any more and one has ended well: then every intent has its end."""
    intents: dict[str, str] = {}
    ends: dict[str, list[tuple[str, str]]] = defaultdict(list)
    with Log(state) as log:
        for each in log.everything(Filters()):
            entry: Any = each.entry
            if entry["kind"] == "intent":
                intents[entry["call"]] = entry["journal"]
            elif entry["kind"] in _ENDS and entry.get("call"):
                ends[entry["call"]].append((entry["kind"], entry.get("outcome", "")))
    by_row: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for call, row in intents.items():
        by_row[row] += ends[call]
    faults = [f"the intent of {row} has the ends {ends[call]}" for call, row in intents.items() if len(ends[call]) != 1]
    return Ends(tuple(faults), dict(by_row))


def is_whole(state: Path) -> bool:
    """Whether SQLite finds nothing wrong with the database."""
    with sqlite3.connect(f"file:{state / 'bascule.db'}?mode=ro", uri=True) as connection:
        (said,) = connection.execute("PRAGMA quick_check").fetchone()
    connection.close()
    return bool(said == "ok")
