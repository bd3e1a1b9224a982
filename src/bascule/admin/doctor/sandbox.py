"""Walls: what is around each local server, or would be if it started now, and which has fewer than it could have."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from bascule.admin.doctor.finding import Finding, finding
from bascule.admin.doctor.setup import Setup
from bascule.errors import Unavailable
from bascule.options_sandbox import SandboxOptions
from bascule.upstream import docker
from bascule.upstream.sandbox import Machine, Reach, machine, options_of, walls
from bascule.upstream.stdio import StdioOptions


def findings(setup: Setup, here: Machine | None = None) -> Iterator[Finding]:
    """*here*: what there is for walls, if not what this machine has."""
    for name, options in _local(setup):
        if options.runtime == "docker":
            yield from _contained(setup, name, options)
        else:
            yield from _walled(setup, name, options, machine() if here is None else here)


def layers(setup: Setup, here: Machine | None = None) -> dict[str, str]:
    """What is around each local server, or would be, in words."""
    found = {}
    for name, options in _local(setup):
        contained = options.runtime == "docker"
        wanted = options_of(options)
        around = docker.walls(wanted) if contained else walls(wanted, machine() if here is None else here)
        found[name] = around.said
    return found


def _local(setup: Setup) -> Iterator[tuple[str, StdioOptions]]:
    for name, options in setup.config.servers.items():
        if isinstance(options, StdioOptions):
            yield name, options


def _walled(setup: Setup, name: str, options: StdioOptions, here: Machine) -> Iterator[Finding]:
    field = f"servers.{name}.sandbox"
    wanted = options_of(options)
    could = walls(SandboxOptions(mode="auto", network=wanted.network), here)
    possible = bool(here.landlock or here.bubblewrap)
    if reason := walls(wanted, here).missing:
        fix = "apt install bubblewrap   # or a kernel of 5.13 or newer that has Landlock"
        yield finding("sandbox-missing", setup.at(field), f"{name} {reason}", fix)
    elif wanted.mode != "off" and (reason := _undeclarable(setup, options)):
        yield finding("sandbox-missing", setup.at(field), f"{name}: {reason}", f"bascule validate   # after {field}")
    elif wanted.mode == "off" and possible:
        what = f"{field}: it reads and writes whatever Bascule may; here it could have {could.said}"
        yield finding("sandbox-off", setup.at(field), what, f"{field}: auto   # and declare what it reads and writes")
    elif wanted.mode == "auto" and not possible:
        what = f"{field}: this machine has nothing to make walls of: {here.why_not}"
        yield finding("sandbox-none", setup.at(field), what, "apt install bubblewrap   # or a kernel that has Landlock")


def _undeclarable(setup: Setup, options: StdioOptions) -> str:
    """Why what is declared cannot be given, as the server would say when it starts; "" if it can."""
    home = setup.environ.get("HOME") or str(Path.home())
    wanted = msgspec.structs.replace(options_of(options), make=())  # is made when it starts
    try:
        Reach(home, [Path(home, ".ssh"), Path(setup.config.state_dir)]).declared(options, wanted)
    except Unavailable as error:
        return str(error)
    return ""


def _contained(setup: Setup, name: str, options: StdioOptions) -> Iterator[Finding]:
    if reason := docker.walls(options_of(options)).missing or docker.problem(setup.environ):
        yield finding("sandbox-missing", setup.at(f"servers.{name}.runtime"), f"{name}: {reason}", "docker info")
