"""Walls: what is around each local server, or would be if it started now, and which could have more."""

from collections.abc import Iterator

from bascule.admin.doctor.finding import Finding, Severity, finding
from bascule.admin.doctor.setup import Setup
from bascule.options_sandbox import SandboxOptions
from bascule.upstream import docker
from bascule.upstream.sandbox import Machine, Walls, machine, options_of, walls
from bascule.upstream.stdio import StdioOptions

_INSTALL = "apt install bubblewrap   # or run a kernel that has Landlock, 5.13 or newer"


def findings(setup: Setup, here: Machine | None = None) -> Iterator[Finding]:
    """*here*: what there is for walls, if not what this machine has."""
    for name, options in setup.config.servers.items():
        if not isinstance(options, StdioOptions):
            continue
        if options.runtime == "docker":
            yield _contained(setup, name, options)
        else:
            yield _walled(setup, name, options, machine() if here is None else here)


def _walled(setup: Setup, name: str, options: StdioOptions, here: Machine) -> Finding:
    wanted = options_of(options)
    found = walls(wanted, here)
    if found.missing:
        return finding("sandbox-missing", setup.at(f"servers.{name}.sandbox"), f"{name}: {found.missing}", _INSTALL)
    if wanted.mode == "off":
        could = walls(SandboxOptions(mode="auto"), here)
        return _said(setup, name, found, f"; {could.said} can be had here" if here.landlock or here.bubblewrap else "")
    severity: Severity | None = None if here.landlock or here.bubblewrap else "warning"
    return _said(setup, name, found, "", severity, wanted.mode)


def _said(
    setup: Setup, name: str, found: Walls, more: str = "", severity: Severity | None = None, mode: str = "off"
) -> Finding:
    field = f"servers.{name}.sandbox"
    fix = {"off": f"{field}: auto   # declare what it reads and writes: docs/sandbox.md", "auto": f"{field}: required"}
    around = "no walls around it" if mode == "off" else "around it"
    what = f"{name}: {around}: {found.said}{more}"
    return finding(
        "sandbox", setup.at(field), what, fix.get(mode, f"{field}: required   # as it is"), severity=severity
    )


def _contained(setup: Setup, name: str, options: StdioOptions) -> Finding:
    found, at = docker.walls(options_of(options)), setup.at(f"servers.{name}.runtime")
    if reason := found.missing or docker.problem(setup.environ):
        return finding("sandbox-missing", at, f"{name}: {reason}", "docker info   # must answer")
    return finding(
        "sandbox", at, f"{name}: around it: {found.said}, of {options.image}", f"docker pull {options.image}"
    )
