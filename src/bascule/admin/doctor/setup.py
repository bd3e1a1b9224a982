"""What is looked at: a configuration as it is written and as it is meant, and the machine that it stands on.

Secrets that this shell has no variable for do not stop it: in a pipeline there are none, and the rest can still be
looked at. Nothing is started, and nothing is written.
"""

import base64
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from bascule import config as configuration
from bascule.config import Config, identifies, is_loopback
from bascule.contract.derive import Sources
from bascule.contract.model import Contract
from bascule.text import Text, read_text

# References without a default, to a variable: ${NAME} or ${env:NAME}.
_VARIABLE: Final = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)\}")
_ADDRESSES: Final = frozenset({"url", "public_url", "issuer", "jwks_url"})
_SOME_ADDRESS: Final = "https://unset.invalid"


class Room(NamedTuple):
    """Of a disk."""

    total_bytes: int
    free_bytes: int


def room_of(path: Path) -> Room:
    """The room on the disk of *path*, which may not be there yet. Raises OSError."""
    there = next((each for each in (path, *path.absolute().parents) if each.exists()), Path("/"))
    usage = shutil.disk_usage(there)
    return Room(usage.total, usage.free)


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration, and where it is looked at."""

    path: Path
    text: Text
    raw: Mapping[str, Any]  # as it is written, references and all
    config: Config
    unset: Mapping[str, str]  # field -> variable that it refers to, and that is not set here
    environ: Mapping[str, str]
    now_s: float
    room: Callable[[Path], Room] = room_of

    @property
    def state(self) -> Path:
        return Path(self.config.state_dir)

    @property
    def can_look_inside(self) -> bool:
        """Whether this user may see what the state folder holds; a folder that is not there holds nothing."""
        effective = os.access in os.supports_effective_ids
        return not self.state.exists() or os.access(self.state, os.R_OK | os.X_OK, effective_ids=effective)

    @property
    def exposed(self) -> bool:
        """Whether others than the people on this machine can reach it: through its own address, or a proxy's."""
        return not is_loopback(self.config.http.host) or self.config.http.public_url is not None

    @property
    def shared(self) -> bool:
        """Whether it is more than one person's own."""
        return self.exposed or identifies(self.config)

    @property
    def sources(self) -> Sources:
        return configuration.sources_of(self.config)

    def at(self, field: str) -> str:
        """`file:line` of *field*."""
        return self.text.place(field)

    def contracts(self) -> Iterator[tuple[str, Contract]]:
        """(place, what holds) of each contract that somebody wrote, without asking any server."""
        sources = self.sources
        for place, document in self.config.documents:
            version = document.version if isinstance(document.version, str) else ""
            yield place, sources.effective(document.kind, document.id, None, version=version)


def read(path: Path, environ: Mapping[str, str], now_s: float) -> Setup:
    """The configuration in *path*. Raises ConfigInvalid, as Bascule would when it starts with it."""
    text = Text(path, read_text(path, "; give -c FILE"))
    value = text.value()
    raw = value if isinstance(value, dict) else {}
    missing = {field: name for field, name in _variables(raw) if name not in environ}
    stand_ins = {name: _stand_in(field, name) for field, name in missing.items()}
    config = configuration.load(path, {**stand_ins, **environ})
    return Setup(path=path, text=text, raw=raw, config=config, unset=missing, environ=environ, now_s=now_s)


def strings(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """(dotted field, text) of every text in *value*."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from strings(inner, f"{field}.{name}" if field else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from strings(inner, f"{field}.{number}")


def _variables(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field, text in strings(dict(raw)):
        if not field.startswith("contracts."):  # where nothing is replaced
            yield from ((field, name) for name in _VARIABLE.findall(text))


def _stand_in(field: str, name: str) -> str:
    """A value of the form that *field* asks for: an address, or what can be a key as well as any other text."""
    if field.rpartition(".")[2] in _ADDRESSES:
        return _SOME_ADDRESS
    return base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()
