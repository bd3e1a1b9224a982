"""What reviewers said of something, each for an aspect of it: `security`, `business`. Within others' transactions.

A subject is the id of a wording (store/definitions.py), or a version of a contract. The last word of an aspect holds.
Nobody speaks for two aspects of one subject: that is what two of them are for.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from bascule.store.writer import Writer

Decision: TypeAlias = Literal["approved", "denied"]
MAX_NOTE: Final = 500  # characters

_COLUMNS: Final = ("subject", "aspect", "decision", "signer", "at_s", "note")
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM sign_offs"
_SIGN: Final = (
    f"INSERT INTO sign_offs ({', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (subject, aspect) DO UPDATE"
    " SET decision = excluded.decision, signer = excluded.signer, at_s = excluded.at_s, note = excluded.note"
)


class SignOff(msgspec.Struct, frozen=True, kw_only=True):
    """What one person said for one aspect."""

    subject: str
    aspect: str
    decision: Decision
    signer: str  # `caller:ann`, `cli:ann`
    at_s: float
    note: str


def sign(connection: sqlite3.Connection, said: SignOff) -> Sequence[SignOff] | None:
    """All that is said of its subject by now; None, and nothing changes, if *said* is by who speaks for another aspect.

    Within a transaction.
    """
    before = of(connection, said.subject)
    if any(each.aspect != said.aspect and same_person(each.signer, said.signer) for each in before):
        return None
    connection.execute(_SIGN, tuple(getattr(said, name) for name in _COLUMNS))
    return of(connection, said.subject)


def of(connection: sqlite3.Connection, subject: str) -> Sequence[SignOff]:
    """All that is said of *subject*, by aspect. Within a transaction."""
    rows = connection.execute(f"{_SELECT} WHERE subject = ? ORDER BY aspect", (subject,))
    return [_sign_off(row) for row in rows]


def read(writer: Writer, subject: str) -> Sequence[SignOff]:
    """`of`, outside of any transaction. Raises Unavailable."""
    return [_sign_off(row) for row in writer.read(f"{_SELECT} WHERE subject = ? ORDER BY aspect", (subject,))]


def forget(connection: sqlite3.Connection, subjects: Iterable[str]) -> None:
    """Of subjects that are not there any more, or have to be judged anew. Within a transaction."""
    connection.executemany("DELETE FROM sign_offs WHERE subject = ?", [(each,) for each in subjects])


def take_back(connection: sqlite3.Connection, subject: str, decision: Decision) -> None:
    """What was said for *decision*, which is being decided otherwise. Within a transaction."""
    connection.execute("DELETE FROM sign_offs WHERE subject = ? AND decision = ?", (subject, decision))


def missing(said: Sequence[SignOff], needed: Sequence[str]) -> list[str]:
    """The aspects of *needed* for which nobody has approved yet."""
    approved = {each.aspect for each in said if each.decision == "approved"}
    return [aspect for aspect in needed if aspect not in approved]


def same_person(one: str, other: str) -> bool:
    """Whether two signers are the same one, as far as names tell: `cli:ann` is the `ann` of `caller:ann`."""
    return one.partition(":")[2].casefold() == other.partition(":")[2].casefold()


def _sign_off(row: Sequence[object]) -> SignOff:
    return msgspec.convert(dict(zip(_COLUMNS, row, strict=True)), SignOff)
