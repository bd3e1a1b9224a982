"""All that a running gateway keeps in its state folder, opened and closed together."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from bascule.store.boots import Boot
from bascule.store.journal_sqlite import SqliteJournal
from bascule.store.options import AuditOptions, JournalOptions
from bascule.store.vault import vault_of
from bascule.store.writer import Writer

log = logging.getLogger("bascule.store")

_SWEEP_EVERY_S: Final = 60.0


class Records:
    """The journal, approvals and the audit of one state folder."""

    def __init__(self, state: Path, audit: AuditOptions, journal: JournalOptions) -> None:
        """Opens everything, and makes what is not there yet. Raises ConfigInvalid if that cannot be."""
        self.writer = Writer(state)
        self.boot = Boot(state)
        self.vault = vault_of(state)
        self.journal = SqliteJournal(self.writer, self.vault, self.boot, journal, None)
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write; first of all, what is known of calls that another life left behind."""
        self.writer.start()
        await self._sweep()
        self._sweeping = asyncio.ensure_future(self._sweep_again())

    async def close(self) -> None:
        """Write what waits, and end this life."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.to_thread(self.writer.close)
        self.boot.end()

    async def _sweep_again(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            await self._sweep()

    async def _sweep(self) -> None:
        lost, _ = await self.journal.sweep()
        if lost:
            log.warning(
                "%d calls were under way when a process ended; see `bascule journal list --state UNKNOWN`", lost
            )
