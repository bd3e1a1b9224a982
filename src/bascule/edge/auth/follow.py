"""Keys that are made or revoked elsewhere, by the command line or another process, count here within a second."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from bascule.edge.auth.identify import Identify
from bascule.edge.auth.keys import KeyBook
from bascule.errors import BasculeError
from bascule.store.keys import KeyStore

log = logging.getLogger("bascule.edge")

_EVERY_S: Final = 1.0
_HOLD_S: Final = 60.0  # how long keys are believed while their store cannot be read
_NOTE_EVERY_S: Final = 30.0  # how often it is written down which keys are in use


class KeyFollower:
    """Keeps what `Identify` knows of keys as the store has it. The store, and who identifies, may change meanwhile."""

    def __init__(
        self,
        store: Callable[[], KeyStore | None],
        identify: Callable[[], Identify],
        book: Callable[[KeyStore | None], KeyBook],
    ) -> None:
        """*store* gives None while nobody could have a key of it; *book* makes a book with the keys of a store."""
        self._store = store
        self._identify = identify
        self._book = book
        self._noted_at = time.monotonic()
        self._lost_at: float | None = None  # since when the store cannot be read

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            store = self._store()
            if store is None:
                continue
            try:
                await self._look(store)
            except BasculeError as error:
                self._go_without(error)
            else:
                if self._lost_at is not None:
                    log.info("API keys can be read again")
                self._lost_at = None

    async def _look(self, store: KeyStore) -> None:
        identify = self._identify()
        if self._lost_at is not None or await asyncio.to_thread(store.changed, identify.keys_known):
            identify.adopt_keys(await asyncio.to_thread(self._book, store))
        if identify.used and time.monotonic() - self._noted_at > _NOTE_EVERY_S:
            used, identify.used, self._noted_at = identify.used, set(), time.monotonic()
            await asyncio.to_thread(store.touch, used, time.time())

    def _go_without(self, error: BasculeError) -> None:
        """The last known keys hold for a minute; then none does, because any of them may have been revoked."""
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
            log.error("API keys cannot be read, the last known ones hold for %g s more: %s", _HOLD_S, error)
        elif now - self._lost_at > _HOLD_S and self._identify().keys_known:
            log.error("API keys could not be read for %g s, none of the store is taken any more: %s", _HOLD_S, error)
            self._identify().adopt_keys(self._book(None))
