"""How often the rows of a kind were changed, by whichever process: what a gateway looks at to learn of it."""

import sqlite3
from typing import Final, Literal, TypeAlias

from bascule.store.writer import Writer

Kind: TypeAlias = Literal["definitions", "contracts", "routes", "switches"]

_GROW: Final = (
    "INSERT INTO generations (kind, number) VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET number = number + 1"
)


def bump(connection: sqlite3.Connection, kind: Kind) -> None:
    """Within a transaction that changes rows of *kind*."""
    connection.execute(_GROW, (kind,))


class Generations:
    """Tells what has changed since it was asked last."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._version: int | None = None
        self._numbers = self._read()

    def changed(self) -> frozenset[str]:
        """The kinds that anybody has changed since. Microseconds while nobody writes. Raises Unavailable."""
        # Another number once anybody has committed through another connection (SQLite, "PRAGMA data_version").
        version = int(self._writer.read("PRAGMA data_version")[0][0])
        if version == self._version:
            return frozenset()
        self._version = version
        before, self._numbers = self._numbers, self._read()
        return frozenset(kind for kind, number in self._numbers.items() if before.get(kind) != number)

    def _read(self) -> dict[str, int]:
        return dict(self._writer.read("SELECT kind, number FROM generations"))
