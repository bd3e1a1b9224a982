"""The records of a configuration, for commands that work on the state folder, beside gateways that run or without."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from bascule.config import Config
    from bascule.store.records import Records

Outcome = TypeVar("Outcome")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The file; default bascule.yaml, or what `bascule run` keeps.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def with_records(
    path: Path | None, work: "Callable[[Config, Records], Awaitable[Outcome]]", *, writes: bool = False
) -> Outcome:
    """What *work* makes of the records of the configuration at *path*. Raises ConfigInvalid where there are none.

    No secret of the servers has to be at hand: a call is denied, and a bad version rolled back, also without.
    """
    from bascule import config
    from bascule.store.files import require

    loaded = config.load_own_records(path, os.environ)
    require(Path(loaded.state_dir))
    return asyncio.run(opened(loaded, work, writes=writes))


async def opened(config: "Config", work: "Callable[[Config, Records], Awaitable[Outcome]]", *, writes: bool) -> Outcome:
    """What *work* makes of the records of *config*, which are there or are begun."""
    from bascule.config import audit_of
    from bascule.store.records import Records

    records = Records(Path(config.state_dir), audit_of(config), config.journal, config.approvals)
    try:
        if writes:
            await records.start()
        return await work(config, records)
    finally:
        await records.close()


def user() -> str:
    """The user of this process, as the system names them: not as their environment does."""
    try:
        if os.name == "posix":
            import pwd

            return pwd.getpwuid(os.getuid()).pw_name
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}" if os.name == "posix" else "somebody"
