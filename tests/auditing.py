"""An audit with something in it, and hands that change it: for the tests of all who read or write one."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bascule.store.audit import Audit
from bascule.store.files import FILE
from bascule.store.options import AuditOptions
from bascule.store.record import Record
from bascule.store.writer import Writer


def call(number: int, **fields: Any) -> Record:
    """The end of a call, with a trace of its own."""
    said = {
        "kind": "call",
        "at_us": 1_800_000_000_000_000 + number * 1000,
        "call": f"{number:032x}",
        "trace_id": f"{number:032x}",
        "caller": "agent",
        "method": "tools/call",
        "thing": "crm/create_lead",
        "decision": "allow",
        "outcome": "answered",
    }
    return Record(**{**said, **fields})


class Life:
    """One process that keeps an audit in a folder."""

    def __init__(
        self, state: Path, *, boot: str = "", clock: Callable[[], float] | None = None, **options: Any
    ) -> None:
        self.state = state
        self.writer = Writer(state)
        more: dict[str, Any] = {} if clock is None else {"clock": clock}
        self.audit = Audit(self.writer, state, AuditOptions(**options), boot=boot, **more)
        self.ended = False

    async def start(self, alive: Callable[[str], bool] = lambda boot: False) -> "Life":
        self.writer.start(self.audit)
        await self.audit.start(alive)
        return self

    async def append(self, record: Record, arguments: bytes | None = None) -> None:
        """As the journal does it: in a transaction that is waited for."""
        await self.writer.write(lambda connection: self.audit.append(connection, record, arguments), durable=True)

    async def settled(self) -> None:
        """All that was posted before is written."""
        await self.writer.write(lambda connection: None, durable=False)

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self.audit.stop()
            self.writer.close()
            self.audit.close()

    def die(self) -> None:
        """As a crash leaves it: no last head."""
        self.ended = True
        self.writer.close()


async def recorded(state: Path, records: Sequence[Record], **options: Any) -> None:
    """A state folder with *records*, which a process has written and signed that has ended."""
    life = await Life(state, **options).start()
    for record in records:
        life.audit.post(record)
    life.end()


def hands(state: Path, *statements: str) -> None:
    """Somebody changes the database by hand."""
    connection = sqlite3.connect(state / FILE, isolation_level=None)
    try:
        connection.execute("BEGIN")
        for each in statements:
            connection.execute(each)
        connection.execute("COMMIT")
    finally:
        connection.close()


def rows(state: Path, sql: str = "SELECT seq, entry, hash FROM audit ORDER BY seq") -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(state / FILE)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
