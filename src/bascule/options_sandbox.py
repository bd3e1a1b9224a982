"""What a local server may reach of this machine: the options, and nothing that acts on them (upstream/sandbox.py)."""

from typing import Annotated, Literal, TypeAlias

import msgspec

from bascule.options import Bytes, Options

Port: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class SandboxOptions(Options, frozen=True):
    """Walls around the process of a server.

    `off`: none but harmless limits. `auto`: the best that this machine has. `required`: the server does not start
    where the kernel has neither Landlock nor user namespaces for bubblewrap.
    """

    mode: Literal["off", "auto", "required"] = "auto"
    read: tuple[str, ...] = ()  # files and folders besides programs and libraries; `~` is the home folder
    write: tuple[str, ...] = ()  # files and folders that may be changed, and read
    make: tuple[
        str, ...
    ] = ()  # folders that are made, for this user alone, where they are missing; they may be changed
    network: Literal["none", "any"] | tuple[Port, ...] = "any"  # the TCP ports that may be connected to
    memory_bytes: Bytes | None = (
        None  # of address space, for each process; programs on V8 reserve far more than they use
    )
    open_files: Whole = 1024
    processes: Whole | None = None  # of this user, on the whole machine
    file_bytes: Bytes | None = None  # of any file that is written


SANDBOX_OFF = SandboxOptions(mode="off")
