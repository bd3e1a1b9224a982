"""API keys that outlive the process: made, listed, rotated, revoked. What a key is, is in policy/keys.py.

Importing this costs nothing, and neither does a store that nobody has put a key into: SQLAlchemy comes with
the first key. No secret is kept, only its HMAC under the pepper of the state folder.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from msgspec.structs import replace

from bascule.errors import ConfigInvalid
from bascule.policy.addresses import network_of
from bascule.policy.keys import (
    PEPPER_BYTES,
    RANDOM_BYTES,
    KeyRecord,
    KeySnapshot,
    digest,
    new_key,
    pepper_id,
    state_of,
)
from bascule.policy.scopes import Scopes, is_scope
from bascule.store import pepper as peppers
from bascule.store.folder import DATABASE

if TYPE_CHECKING:
    from bascule.store.key_table import KeyTable

MAX_NOTE: Final = 200
_NONE_YET: Final = -1
_log = logging.getLogger(__name__)


class KeyStore:
    """The keys of a state folder. Threads may share it.

    Everything may raise ConfigInvalid (the folder, the pepper or the database cannot be used, or what was asked
    for makes no sense) and Overloaded (another process holds the database for too long).
    """

    def __init__(self, state: Path, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = clock
        self._opening = threading.Lock()
        self._table: KeyTable | None = None
        self._version = _NONE_YET  # of the database, when it was last looked at
        self._latest = 0  # the generation of the keys at that version
        self._taken = 0  # the generation of the last snapshot
        self._spare_pepper = secrets.token_bytes(PEPPER_BYTES)  # where nothing has to outlive the process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        with self._opening:
            if self._table is not None:
                self._table.close()
                self._table = None

    # ---- for whoever looks after keys

    def create(
        self,
        caller: str,
        environment: str,
        *,
        scopes: Scopes | None = None,
        expires_at_s: float | None = None,
        networks: Sequence[str] = (),
        note: str = "",
    ) -> tuple[KeyRecord, str]:
        """A new key: what is kept of it, and its text, which nobody can show a second time."""
        now_s = self._clock()
        _check(scopes, expires_at_s, note, now_s)
        wanted = KeyRecord(
            id="",
            caller=caller,
            environment=environment,
            digest=b"",
            pepper_id="",
            scopes=scopes,
            expires_at_s=expires_at_s,
            networks=tuple(_network(each) for each in networks),
            note=note,
        )
        record, text = self._minted(wanted, now_s)
        self._open().add(record)
        return record, text

    def list(self) -> tuple[KeyRecord, ...]:
        """All keys that were ever made, the oldest first."""
        table = self._opened()
        return table.all()[1] if table else ()

    def get(self, id: str) -> KeyRecord:
        """The key of that id. Raises ConfigInvalid if there is none."""
        found = next((record for record in self.list() if record.id == id), None)
        if found is None:
            raise ConfigInvalid(f"there is no key {id!r}; `bascule keys list` shows them")
        return found

    def rotate(self, id: str, overlap_s: float) -> tuple[KeyRecord, str]:
        """A new key with the same rights, and the same end; the old one is good for *overlap_s* more seconds."""
        now_s = self._clock()
        old = self.get(id)
        state = state_of(old, now_s)
        if state != "active":
            raise ConfigInvalid(f"key {id} is {state}: make a new one with `bascule keys create {old.caller}`")
        if old.replaced_by is not None:
            raise ConfigInvalid(f"key {id} was rotated to {old.replaced_by} already; rotate that one")
        record, text = self._minted(old, now_s)
        ends_at_s = now_s + overlap_s
        ends_at_s = ends_at_s if old.expires_at_s is None else min(ends_at_s, old.expires_at_s)
        if not self._open().supersede(id, ends_at_s, by=record):
            raise ConfigInvalid(f"key {id} was revoked or rotated by somebody else just now")
        return record, text

    def revoke(self, id: str) -> KeyRecord:
        """The key, of no use from now on. Revoking it again changes nothing."""
        if self.get(id).revoked_at_s is None:
            self._open().revoke(id, self._clock())
        return self.get(id)

    # ---- for a gateway that runs

    def touch(self, ids: Iterable[str], at_s: float) -> None:
        """Note that keys were used at *at_s* seconds since 1970. For batches: each call waits for the disk."""
        table, unique = self._opened(), set(ids)
        if table and unique:
            table.touch(sorted(unique), at_s)

    def changed(self, since: int | None = None) -> bool:
        """Whether keys are others than in the snapshot of generation *since*, whichever process changed them.

        By default *since* is the last snapshot that was taken. Whoever names the one in use cannot miss a change,
        in whatever order snapshots are taken up. Cheap enough for once a second: without a database a look at
        the folder, with one some microseconds.
        """
        table = self._opened()
        if table is None:
            return False
        version = table.version()
        if version != self._version:
            # The version from before the look: what is written in between is another version again.
            self._latest, self._version = table.generation(), version
        return self._latest != (self._taken if since is None else since)

    def snapshot(self) -> KeySnapshot:
        """All keys as they are now."""
        table = self._opened()
        if table is None:
            return KeySnapshot(self._spare_pepper)
        generation, records = table.all()
        pepper = peppers.read(self._state)
        self._warn_of_others(records, pepper)
        self._taken = generation
        return KeySnapshot(pepper or self._spare_pepper, records, generation)

    # ---- inside

    def _opened(self) -> "KeyTable | None":
        """The keys, if there is a database."""
        self._leave_replaced()
        # A folder that cannot even be looked into, such as the home of another user, holds no keys of ours.
        return self._open() if self._table or os.path.exists(self._state / DATABASE) else None

    def _leave_replaced(self) -> None:
        """Let go of a file that is no longer the one at the path: a backup was put there, or it was removed.

        What is done to the new one would never be seen in the old. Raises ConfigInvalid where there is none now.
        """
        if self._table is not None and not self._table.is_current():
            self.close()
            self._version = _NONE_YET
            if not os.path.exists(self._state / DATABASE):
                raise ConfigInvalid("it is gone, and with it all keys", place=str(self._state / DATABASE))
            _log.warning("%s is another file than before: its keys hold from now on", self._state / DATABASE)
        if os.path.exists(self._state) and not os.path.isdir(self._state):
            raise ConfigInvalid("this is no folder; is state_dir right?", place=str(self._state))

    def _open(self) -> "KeyTable":
        with self._opening:
            if self._table is None:
                from bascule.store.database import Database
                from bascule.store.key_table import KeyTable

                self._table = KeyTable(Database(self._state))
            return self._table

    def _minted(self, wanted: KeyRecord, now_s: float) -> tuple[KeyRecord, str]:
        """A key with the rights of *wanted*."""
        parts, text = new_key(wanted.environment, secrets.token_bytes(RANDOM_BYTES))
        pepper = self._pepper(now_s)
        record = replace(
            wanted,
            id=parts.id,
            digest=digest(pepper, parts.secret),
            pepper_id=pepper_id(pepper),
            created_at_s=now_s,
            last_used_at_s=None,
        )
        return record, text

    def _pepper(self, now_s: float) -> bytes:
        """The pepper for new keys. It is made with the first of them, and never in place of one that was lost."""
        self._open()  # makes the folder
        found = peppers.read(self._state)
        if found is not None:
            return found
        active = [record.id for record in self.list() if state_of(record, now_s) == "active"]
        if active:
            raise ConfigInvalid(
                f"it is gone, and no key can be checked without it: restore it. If it is lost, revoke the"
                f" {len(active)} keys that were made with it and make new ones",
                place=str(self._state / peppers.FILE),
            )
        return peppers.create(self._state)

    def _warn_of_others(self, records: Sequence[KeyRecord], pepper: bytes | None) -> None:
        own, now_s = pepper_id(pepper) if pepper else "", self._clock()
        others = [each.id for each in records if each.pepper_id != own and state_of(each, now_s) == "active"]
        if others:
            _log.warning(
                "%d API keys are refused: %s is not the pepper that they were made with, restore it: %s",
                len(others),
                self._state / peppers.FILE,
                ", ".join(others[:5]),
            )


def _check(scopes: Scopes | None, expires_at_s: float | None, note: str, now_s: float) -> None:
    for scope in scopes or ():
        if not is_scope(scope):
            raise ConfigInvalid(f"{scope!r} is not a scope such as crm:write:lead, crm:*:lead or *")
    if expires_at_s is not None and not now_s < expires_at_s < float("inf"):
        raise ConfigInvalid("a key that has expired already is of no use")
    if len(note) > MAX_NOTE or not note.isprintable():
        raise ConfigInvalid(f"a note is one line of at most {MAX_NOTE} characters")


def _network(text: str) -> str:
    try:
        return str(network_of(text))
    except ValueError as error:
        raise ConfigInvalid(str(error)) from error
