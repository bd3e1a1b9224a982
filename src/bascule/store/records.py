"""All that a running gateway keeps in its state folder, opened and closed together."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

from bascule.contract.versions import Registered
from bascule.store.approvals import Approvals
from bascule.store.audit import Audit
from bascule.store.boots import Boot
from bascule.store.contracts import Contracts
from bascule.store.definitions import Definitions
from bascule.store.journal_sqlite import SqliteJournal
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.routes import Routes
from bascule.store.switches import Switches
from bascule.store.usage import Usage
from bascule.store.vault import vault_of
from bascule.store.writer import Writer

log = logging.getLogger("bascule.store")

_SWEEP_EVERY_S: Final = 60.0


class Records:
    """The journal, approvals and the audit of one state folder."""

    def __init__(self, state: Path, audit: AuditOptions, journal: JournalOptions, approvals: ApprovalOptions) -> None:
        """Opens everything, and makes what is not there yet. Raises ConfigInvalid if that cannot be."""
        self.state = state
        self.writer = Writer(state)
        self.boot = Boot(state)
        used = self.writer.read("SELECT 1 FROM journal UNION ALL SELECT 1 FROM approvals LIMIT 1")
        self.vault = vault_of(state, is_used=bool(used))
        self.usage = Usage(self.writer.path)
        self.audit = (
            None if audit.mode == "off" else Audit(self.writer, state, audit, boot=self.boot.id, sums=self.usage)
        )
        self.journal = SqliteJournal(self.writer, self.vault, self.boot, journal, self.audit)
        self.approvals = Approvals(self.writer, self.vault, self.audit, approvals)
        self.definitions = Definitions(self.writer, self.audit)
        self.contracts = Contracts(self.writer, self.audit)
        self.routes = Routes(self.writer, self.audit)
        self.switches = Switches(self.writer)
        self._tasks: list[asyncio.Task[None]] = []

    def registered(self) -> Registered:
        """What the registry says of contracts now. Raises Unavailable when that cannot be read."""
        return Registered(tuple(self.contracts.active()), self.routes.known())

    async def start(self) -> None:
        """Begin to write: first of all, what is known of calls that a process which died left behind."""
        self.writer.start(self.audit)
        dead = self.boot.dead()
        if self.audit is not None and dead:
            await self.audit.start(lambda boot: boot not in dead)
        if self.audit is not None:
            self.audit.sign_soon()  # what a life that ended badly could not
        await self._sweep()
        self.boot.bury(dead)
        self._tasks.append(asyncio.ensure_future(self._sweep_again()))
        if self.audit is not None:
            self._tasks.append(asyncio.ensure_future(self.audit.keep_heads()))
            self._tasks.append(asyncio.ensure_future(self.usage.keep_up(self.writer)))

    async def close(self) -> None:
        """Write what waits, sign the end of the audit, and end this life."""
        for task in self._tasks:
            task.cancel()
        if self.audit is not None:
            self.audit.stop()
        await asyncio.to_thread(self.writer.close)
        if self.audit is not None:
            self.audit.close()
        self.usage.close()
        self.boot.end()

    async def _sweep_again(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            await self._sweep()

    async def _sweep(self) -> None:
        lost, _ = await self.journal.sweep()
        await self.usage.sweep(self.writer, time.time())
        if lost:
            log.warning("calls that ran when a process died: %d; see `bascule journal list --state UNKNOWN`", lost)
