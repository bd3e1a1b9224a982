"""Real processes within walls, for tests: each layer by itself, and what a process there found out."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from bascule.options_sandbox import SandboxOptions
from bascule.upstream import sandbox
from bascule.upstream.sandbox import Machine
from bascule.upstream.stdio import StdioOptions

WITHIN_S: Final = 30.0
HERE: Final = sandbox.machine()

# What this machine has of each way to be walled in. Landlock alone is what a container without user namespaces has.
LAYERS: Final[dict[str, Machine]] = {
    "bubblewrap and Landlock": HERE,
    "Landlock": msgspec.structs.replace(HERE, bubblewrap="", private_network=False),
    "bubblewrap": msgspec.structs.replace(HERE, landlock=0),
}


def why_not(layer: str) -> str:
    """Why *layer* cannot be tried here; "" if it can."""
    if "bubblewrap" in layer and not HERE.bubblewrap:
        return HERE.why_not
    if "Landlock" in layer and HERE.landlock < 6:
        return f"this kernel has Landlock {HERE.landlock}, and not 6"
    return ""


def walled(
    command: Sequence[str],
    machine: Machine,
    home: Path,
    *,
    hidden: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    **wanted: Any,
) -> "subprocess.CompletedProcess[str]":
    """What became of *command* within the walls that *wanted* asks for, started as Bascule starts it."""
    options = StdioOptions(
        command=command[0],
        args=tuple(command[1:]),
        env=env or {},
        cwd=cwd,
        sandbox=SandboxOptions(**{"mode": "required", **wanted}),
    )
    launch = sandbox.furnish(options, command, {**os.environ, "HOME": str(home)}, machine, hidden)
    try:
        return subprocess.run(
            launch.command, env=dict(launch.env), cwd=launch.cwd, capture_output=True, text=True, timeout=WITHIN_S
        )
    finally:
        launch.end()


def reached(code: str, machine: Machine, home: Path, **wanted: Any) -> str:
    """What Python *code* printed within the walls, or the last line of what it died of."""
    done = walled((sys.executable, "-c", code), machine, home, **wanted)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]


class Honeypot:
    """Listens on a free port, for TCP and UDP, and answers nobody."""

    def __init__(self, tcp: socket.socket, udp: socket.socket) -> None:
        self._tcp = tcp
        self._udp = udp
        self.port: int = tcp.getsockname()[1]

    @property
    def visits(self) -> int:
        """How many connections and datagrams have come since it was asked last."""
        count = 0
        for look in (lambda: self._tcp.accept()[0].close(), lambda: self._udp.recv(1)):
            try:
                while True:
                    look()
                    count += 1
            except BlockingIOError:
                pass  # nobody is left
        return count


@contextmanager
def honeypot() -> Iterator[Honeypot]:
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        tcp.listen()
        for each in (tcp, udp):
            each.setblocking(False)
        yield Honeypot(tcp, udp)
