"""What is left to do, as the records say: read from the database, while gateways write to it, or asked of one."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from bascule.admin.doctor.finding import Finding, finding, names, plural
from bascule.store import folder
from bascule.store.files import BUSY_S, FILE, is_newest

WAITS_S: Final = 60.0  # a question that nobody has answered for so long has found nobody
Json = Mapping[str, Any]

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


def of_answers(calls: Sequence[Json], questions: Sequence[Json], definitions: Sequence[Json], now_s: float) -> Kept:
    """The same, of what a gateway answers where its database is out of reach."""
    asked = sorted((_seconds(each.get("created")), str(each.get("id")), str(each.get("tool"))) for each in questions)
    return Kept(
        unknown=[(str(each.get("id")), str(each.get("tool"))) for each in calls if each.get("state") == "UNKNOWN"],
        waiting=[(id, tool, since_s) for since_s, id, tool in asked if since_s < now_s - WAITS_S],
        pending=sorted(Counter(str(each.get("server")) for each in definitions).items()),
    )


def _seconds(text: Any) -> float:
    """Of a time in RFC 3339; what is none is long ago."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0


def findings(kept: Kept, config: str, at: str, now_s: float) -> Iterator[Finding]:
    """*at* is where the records are."""
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
