"""What was changed in files of configurations, so that it can be taken back: a list in the state folder."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from bascule.errors import ConfigInvalid
from bascule.store import folder

_FILE: Final = "changes.json"
_MOST: Final = 200  # of the newest


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one file."""

    by: str  # `import`, or `connect` and the client
    file: str
    backup: str | None  # what was there before; None: there was no file
    after: str  # SHA-256 of what was written
    names: tuple[str, ...]  # of the servers that were put in
    section: tuple[str, ...] = ()  # where they stand
    form: str = "json"
    secrets: dict[str, str] = msgspec.field(default_factory=dict)  # files that were made, and their SHA-256


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def last(state: Path, holds: Callable[[Change], bool]) -> Change | None:
    """The newest change that is one of those looked for. Raises ConfigInvalid."""
    return next((each for each in reversed(_read(state)) if holds(each)), None)


def add(state: Path, change: Change) -> None:
    """Raises ConfigInvalid."""
    _update(state, lambda changes: [*changes, change][-_MOST:])


def forget(state: Path, change: Change) -> None:
    """Raises ConfigInvalid."""
    _update(state, lambda changes: [each for each in changes if each != change])


def _update(state: Path, revise: Callable[[list[Change]], list[Change]]) -> None:
    folder.prepare(state)
    with folder.locked(state):
        folder.create(state / _FILE, msgspec.json.format(msgspec.json.encode(revise(_read(state)))))


def _read(state: Path) -> list[Change]:
    try:
        found: Any = (state / _FILE).read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise folder.unusable(state / _FILE, error) from error
    try:
        return msgspec.json.decode(found, type=list[Change])
    except msgspec.DecodeError as error:
        raise ConfigInvalid(f"is damaged: {error}; restore backups by hand", place=str(state / _FILE)) from error
