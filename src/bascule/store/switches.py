"""Which servers an operator has switched off. It outlives a restart, and all processes of a state folder see it."""

import sqlite3
import time
from collections.abc import Callable, Mapping

import msgspec

from bascule.store.generations import bump
from bascule.store.writer import Writer


class Switch(msgspec.Struct, frozen=True):
    """A server that is off."""

    at_s: float
    by: str
    note: str


class Switches:
    """Writing raises Unavailable when the disk refuses, reading too."""

    def __init__(self, writer: Writer, clock: Callable[[], float] = time.time) -> None:
        self._writer = writer
        self._clock = clock

    def all(self) -> Mapping[str, Switch]:
        """The servers that are off, by name."""
        rows = self._writer.read("SELECT server, at_s, switched_by, note FROM switches")
        return {server: Switch(*said) for server, *said in rows}

    async def off(self, server: str, by: str, note: str = "") -> None:
        """Switch *server* off; who has done so first stays on record."""
        values = (server, self._clock(), by, note[:500])

        def switched(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO switches (server, at_s, switched_by, note) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                values,
            )
            bump(connection, "switches")

        await self._writer.write(switched, durable=True)

    async def on(self, server: str) -> None:
        """Let *server* run again."""

        def switched(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM switches WHERE server = ?", (server,))
            bump(connection, "switches")

        await self._writer.write(switched, durable=True)
