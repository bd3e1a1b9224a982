"""What a running gateway follows: its configuration file, and the registry that other processes change too."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from bascule.config import Config, contract_paths
from bascule.errors import BasculeError, ConfigInvalid
from bascule.store.generations import Generations

if TYPE_CHECKING:
    from bascule.app import Gateway

Load: TypeAlias = Callable[[], Config]

log = logging.getLogger("bascule")

_LOOK_EVERY_S: Final = 1.0  # whether another process has changed the registry


async def watch(gateway: "Gateway", load: Load, path: Path, *, every_s: float = 1.0) -> None:
    """Reload when *path* changes, or a file with contracts that it names.

    A broken edit keeps the old configuration running and says why.
    """
    seen = await asyncio.to_thread(_stamps, path, gateway.config)
    while True:
        await asyncio.sleep(every_s)
        stamps = await asyncio.to_thread(_stamps, path, gateway.config)
        if stamps == seen:
            continue
        seen = stamps
        if stamps[path] is None:
            log.warning("%s is gone; the old configuration keeps running", path)
        else:
            # It may name other files than before; then the next look loads it once more, and finds it the same.
            await try_reload(gateway, load)


async def try_reload(gateway: "Gateway", load: Load) -> None:
    """Adopt what *load* reads, or say what is wrong with it and go on as before."""
    try:
        config = await asyncio.to_thread(load)  # with many contracts it takes a second or two
    except ConfigInvalid as error:
        gateway.config_error = str(error)
        log.error("the configuration was changed but not adopted, the old one keeps running: %s", error)
        return
    if config != gateway.config or list(config.servers) != list(gateway.config.servers):
        try:
            changed = await gateway.reload(config)
        except BasculeError as error:
            gateway.config_error = str(error)
            log.error("the configuration was changed but not adopted: %s", error)
            return
        log.info("configuration reloaded: %s", changed)
    elif gateway.config_error is not None:
        log.info("the configuration is whole again")
    gateway.config_error = None


async def follow_registry(gateway: "Gateway") -> None:
    """Adopt what others change in the registry within a second, and what ends with the day."""
    assert gateway.records is not None, "only then there is something to follow"
    generations, day = Generations(gateway.records.writer), today()
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        try:
            if generations.changed() - {"definitions"} or day != today():
                await gateway.relearn()
                day = today()
        except BasculeError as error:
            log.error("what was changed in the registry cannot be read, the old state holds: %s", error)


def today() -> str:
    """The date in UTC, as contracts write it."""
    return datetime.now(UTC).date().isoformat()


def _stamps(path: Path, config: Config) -> Mapping[Path, tuple[int, int, int] | None]:
    """The stamps of the file that *config* was read from, and of all that it takes contracts from."""
    named = contract_paths(path, config)
    return {each: _stamp(each) for each in (path, *named, *(inner for root in named for inner in root.rglob("*")))}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does, also when it is replaced by a rename or a symlink swap."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
