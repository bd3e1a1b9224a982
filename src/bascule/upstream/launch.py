"""How the process of a local server is started: as it is, within walls, or in a container."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bascule.errors import Unavailable
from bascule.upstream import docker, sandbox
from bascule.upstream.sandbox import Launch, Machine

if TYPE_CHECKING:
    from bascule.upstream.stdio import StdioOptions


def launch(
    options: "StdioOptions", environ: Mapping[str, str], machine: Machine | None, hidden: Iterable[Path]
) -> Launch:
    """The command of *options* as it is to be started. Raises Unavailable. Blocks, for milliseconds.

    *machine*: what there is for walls; None: what this one has. *hidden*: what nobody within them ever sees.
    """
    if options.cwd is not None and not os.path.isdir(options.cwd):
        raise Unavailable(f"its working directory {options.cwd!r} does not exist")
    for folder in sandbox.options_of(options).make:
        _make(Path(folder).expanduser())
    if options.runtime == "docker":
        return docker.furnish(options, environ, hidden)
    command = shutil.which(options.command, path=options.env.get("PATH", environ.get("PATH")))
    if command is None:
        raise Unavailable(f"command {options.command!r} is not on PATH")
    command = os.path.abspath(command)  # as it was found here: it is started from elsewhere, perhaps
    return sandbox.furnish(options, (command, *options.args), environ, machine, hidden)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"its folder {folder} cannot be made: {error.strerror}") from error
