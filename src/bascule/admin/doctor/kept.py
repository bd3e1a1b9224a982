"""What the records of a state folder say is left to do. Reads the database beside a gateway that writes to it."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from bascule.admin.doctor.finding import Finding, finding, names, plural
from bascule.store import folder
from bascule.store.files import BUSY_S, FILE, is_newest

WAITS_S: Final = 60.0  # a question that nobody has answered for so long has found nobody
FAT_BYTES: Final = 100_000  # of a result: some 25,000 tokens

_UNKNOWN: Final = "SELECT id, thing FROM journal WHERE state = 'UNKNOWN' ORDER BY changed_at_s DESC LIMIT 1000"
_WAITING: Final = (
    "SELECT id, thing, created_at_s FROM approvals WHERE state = 'pending' AND channel <> 'round'"
    " AND expires_at_s > ? AND created_at_s < ? ORDER BY created_at_s LIMIT 1000"
)
_PENDING: Final = "SELECT server, count(*) FROM definitions WHERE state = 'pending' GROUP BY server"
_FAT: Final = (
    "SELECT thing, max(result_bytes), count(*) FROM journal WHERE result_bytes > ? GROUP BY thing"
    " ORDER BY max(result_bytes) DESC LIMIT 100"
)


class Kept(msgspec.Struct, frozen=True):
    """What was found."""

    unknown: Sequence[tuple[str, str]] = ()  # id, tool
    waiting: Sequence[tuple[str, str, float]] = ()  # id, tool, since when
    pending: Sequence[tuple[str, int]] = ()  # server, definitions that nobody has looked at
    fat: Sequence[tuple[str, int, int]] = ()  # tool, bytes of its largest result, how many are fat


def read(state: Path, now_s: float) -> Kept:
    """Nothing, where no gateway has been. Raises ConfigInvalid for what cannot be read."""
    path = state / FILE
    if not is_newest(path):
        return Kept()
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
            return Kept(
                unknown=_rows(connection, _UNKNOWN),
                waiting=_rows(connection, _WAITING, now_s, now_s - WAITS_S),
                pending=_rows(connection, _PENDING),
                fat=_rows(connection, _FAT, FAT_BYTES),
            )
    except sqlite3.Error as error:
        raise folder.unusable(path, OSError(str(error))) from error


def _rows(connection: sqlite3.Connection, sql: str, *values: float) -> list[Any]:
    return connection.execute(sql, values).fetchall()


def findings(kept: Kept, config: Path, state: Path, now_s: float) -> Iterator[Finding]:
    at = str(state / FILE)
    if kept.unknown:
        what = f"{plural(len(kept.unknown), 'call')} of unknown outcome: {names(tool for _, tool in kept.unknown)}"
        yield finding("outcome-unknown", at, what, f"bascule journal list --state UNKNOWN -c {config}")
    if kept.waiting:
        _, tool, since_s = kept.waiting[0]
        what = f"{plural(len(kept.waiting), 'question')} waiting for a person, {tool} for {now_s - since_s:.0f} s"
        yield finding("approval-waits", at, what, f"bascule approvals list -c {config}")
    for server, count in kept.pending:
        what = f"{plural(count, 'definition')} of {server} withheld until somebody has looked at the difference"
        yield finding("definitions-pending", at, what, f"bascule review list -c {config}")
    for tool, largest, count in kept.fat:
        what = f"{tool}: results of up to {largest // 1000} kB, {plural(count, 'time')}: a model reads all of it"
        fix = f"bascule contract show {tool} -c {config}   # ask its owner for a `limit` argument"
        yield finding("result-fat", at, what, fix)
