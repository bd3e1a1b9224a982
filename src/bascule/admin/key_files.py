"""A key of a caller in a file of its own, for clients of this machine: no configuration of theirs has to hold it."""

import re
from pathlib import Path
from typing import Final

from bascule.admin import keys
from bascule.clients import files
from bascule.config import Config
from bascule.errors import ConfigInvalid
from bascule.policy.keys import parse, state_of
from bascule.store import folder
from bascule.store.keys import KeyStore

FOLDER: Final = "clients"  # of the state folder
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def path_of(config: Config, caller: str) -> Path:
    """Where the key of *caller* lies, or would. Raises ConfigInvalid for a name that is no name of a file."""
    if not _NAME.fullmatch(caller):
        raise ConfigInvalid(f"{caller!r} cannot be the name of a file: use letters, digits, `-` and `_`")
    return Path(config.state_dir) / FOLDER / f"{caller}.key"


def key_file_of(config: Config, caller: str, now_s: float) -> Path:
    """The file with a key of *caller* that is good; made if there is none, or one that was revoked or has expired.

    Raises ConfigInvalid, also if others can read it.
    """
    path = path_of(config, caller)
    folder.prepare(Path(config.state_dir))
    folder.prepare(path.parent)
    with folder.locked(path.parent), KeyStore(Path(config.state_dir)) as store:
        text = files.read(path)
        if text is not None and not folder.is_private(path):
            raise ConfigInvalid(f"others can read the key in it; chmod 600 {path}", place=str(path))
        if not _is_good(store, text, caller, now_s):
            issued = keys.create(store, config, caller, note=f"in {path.name}, for a client of this machine")
            folder.create(path, issued.key.encode() + b"\n")
    return path


def _is_good(store: KeyStore, text: str | None, caller: str, now_s: float) -> bool:
    parts = parse(text.strip()) if text else None
    if parts is None:
        return False
    record = next((each for each in store.list() if each.id == parts.id), None)
    return record is not None and record.caller == caller and state_of(record, now_s) == "active"
