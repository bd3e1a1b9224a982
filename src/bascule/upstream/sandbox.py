"""Walls around the process of a local server: what this machine has for them, and how a command starts within.

`walls` says which layers there would be, and what they do not hold; `furnish` makes the command that puts them up.
bubblewrap gives a file system, processes and a network of its own; within, as well as without it, the launcher
(confine.py) adds Landlock, a filter of system calls and limits, and becomes the command. Knows nothing of MCP.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from bascule import landlock, seccomp
from bascule.errors import Unavailable
from bascule.options_sandbox import SandboxOptions
from bascule.upstream import confine, needs, rooms
from bascule.upstream.process import child_environment
from bascule.upstream.rooms import Room

if TYPE_CHECKING:
    from bascule.upstream.stdio import StdioOptions

_PROBE_S: Final = 5.0
_TCP_ABI: Final = 4
_TRUNCATE_ABI: Final = 3
_SCOPED_ABI: Final = 6
_INHERITED: Final = re.compile(r"PATH|LANG|LC_\w+|TZ")  # all that a walled server gets of our environment
_MOST_FILES_UNWALLED: Final = 65_536
_DEVICES: Final = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))
# Of /proc and /sys: what runtimes ask of the machine, and nothing of its processes.
_FACTS: Final = (
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/version"),
    *("/proc/filesystems", "/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/net/core"),
)
_PROCESSORS: Final = "/sys/devices/system/cpu"
_SHARED: Final = ("/tmp", "/var/tmp", "/var", "/etc", "/opt", "/srv", "/run", "/mnt", "/media")

Rule: TypeAlias = tuple[str, str]  # what may be done ("read" or "write", both to run), and with which path


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What there is here to make walls of."""

    landlock: int = 0  # the ABI; 0: none
    bubblewrap: str = ""  # the program, if it works here
    why_not: str = ""  # it does not
    private_network: bool = False  # bubblewrap can give one
    filters: bool = False  # of system calls
    root: bool = False  # we are; the kernel does not count processes of root


class Walls(msgspec.Struct, frozen=True, kw_only=True):
    """What is around a server, or would be."""

    layers: Sequence[str]
    loose: Sequence[str] = ()  # what they do not hold of what was asked for
    missing: str = ""  # why a server that requires them does not start: one sentence, and what to do

    @property
    def said(self) -> str:
        """`bubblewrap + Landlock 7 + limits (not held: UDP)`."""
        return " + ".join(self.layers) + (f" (not held: {', '.join(self.loose)})" if self.loose else "")


def _nothing() -> None:
    """There is nothing to remove."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How a server's process is started."""

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None
    sandbox: str  # what is around it, in words
    limits: Mapping[str, tuple[int, int]] = {}  # resource -> (soft, hard), set by us and not by the launcher
    relayed: bool = False  # another process is around it, which passes its exit code on
    end: Callable[[], None] = _nothing  # when the process is gone: remove what was there for it alone; it blocks


def complaint(exit_code: int | None, stderr: Sequence[str]) -> str | None:
    """Why the walls could not be put up, if that is how the process ended."""
    said = [line.removeprefix(confine.SAYS) for line in stderr if line.startswith(confine.SAYS)]
    if exit_code == confine.REFUSED and said:
        return f"its sandbox cannot be made: {said[-1]}"
    outer = [line for line in stderr if line.startswith("bwrap: ")]
    return f"its sandbox cannot be made: {outer[-1]}" if exit_code == 1 and outer else None


def options_of(options: "StdioOptions") -> SandboxOptions:
    """What is said of the sandbox, in full."""
    said = options.sandbox
    return SandboxOptions(mode=said) if isinstance(said, str) else said


# ---- what there is


@cache
def machine() -> Machine:
    """This one, looked at once. Blocks for some milliseconds: it starts bubblewrap to see whether it can."""
    if sys.platform != "linux":
        return Machine(why_not="bubblewrap and Landlock are of Linux")
    program, why_not, private_network = _bubblewrap()
    return Machine(
        landlock=landlock.abi(),
        bubblewrap=program,
        why_not=why_not,
        private_network=private_network,
        filters=seccomp.can_filter(),
        root=os.geteuid() == 0,
    )


def _bubblewrap() -> tuple[str, str, bool]:
    """(program, or "", and why not; whether it gives a network of its own)."""
    program = shutil.which("bwrap")
    if program is None:
        return "", "bubblewrap is not installed", False
    if not _tried(program, ("--unshare-net",)):
        return program, "", True
    problem = _tried(program, ())
    return ("", f"bubblewrap does not work here: {problem}", False) if problem else (program, "", False)


def _tried(program: str, more: Sequence[str]) -> str:
    """What bubblewrap says when it cannot start anything; "" if it can."""
    walls = (*_NAMESPACES, *more, "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
    try:
        done = subprocess.run((program, *walls, "--", "true"), capture_output=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.decode(errors="replace").strip() if done.returncode else ""


# ---- what there would be


def walls(options: SandboxOptions, machine: Machine) -> Walls:
    """The layers around a server with *options* on this *machine*. PURE."""
    if options.mode == "off":
        return Walls(layers=["limits"])
    layers = ["bubblewrap"] if machine.bubblewrap else []
    layers += [f"Landlock {machine.landlock}"] if machine.landlock else []
    walled = bool(layers)
    layers += ["seccomp"] if machine.filters and _is_filtered(options, machine) else []
    loose = [*(_loose_files(machine) if walled else ["files"]), *_loose_network(options, machine)]
    if options.processes is not None and machine.root:
        loose.append("processes, which the kernel does not count for root")
    missing = "" if options.mode != "required" else _missing(options, machine, loose, walled=walled)
    return Walls(layers=[*layers, "limits"], loose=loose, missing=missing)


def _loose_files(machine: Machine) -> Iterator[str]:
    if not machine.bubblewrap:
        if machine.landlock < _TRUNCATE_ABI:
            yield "emptying files"
        if machine.landlock < _SCOPED_ABI:
            yield "signals to other processes"
        if not machine.filters:
            yield "unix sockets"


def _loose_network(options: SandboxOptions, machine: Machine) -> Iterator[str]:
    if options.network == "none":
        if not machine.filters and not (machine.bubblewrap and machine.private_network):
            yield "UDP" if machine.landlock >= _TCP_ABI else "network"
    elif options.network != "any":
        if machine.landlock < _TCP_ABI:
            yield "TCP ports"
        elif not machine.filters:
            yield "multipath TCP"
        yield "UDP"


def _missing(options: SandboxOptions, machine: Machine, loose: Sequence[str], *, walled: bool) -> str:
    if not walled:
        return (
            f"requires a sandbox, and there is neither Landlock in this kernel nor bubblewrap ({machine.why_not}): "
            "install bubblewrap, or run a kernel of 5.13 or newer with Landlock"
        )
    for what in loose:
        if what in ("network", "TCP ports", "multipath TCP") or (what == "UDP" and options.network == "none"):
            return (
                f"requires a sandbox with network: {_network_said(options)}, and {what} cannot be held here: "
                "install bubblewrap for `none`; a list of ports takes a kernel of 6.7 or newer, on x86_64 or aarch64"
            )
        if what.startswith("processes"):
            return "requires a bound on processes, which the kernel does not hold for root: run Bascule as another user"
    return ""


def _network_said(options: SandboxOptions) -> str:
    return options.network if isinstance(options.network, str) else json.dumps(options.network)


def _unix_is_open(options: SandboxOptions, machine: Machine) -> bool:
    """Whether sockets of the machine may be asked for: bubblewrap shows none but what was declared."""
    own_network = options.network == "none" and machine.private_network
    if machine.bubblewrap and (own_network or machine.landlock >= _SCOPED_ABI):
        return True
    return any(Path(path).expanduser().is_socket() for path in (*options.read, *options.write))


def _is_filtered(options: SandboxOptions, machine: Machine) -> bool:
    return options.network != "any" or not _unix_is_open(options, machine)


# ---- how it starts


def furnish(
    options: "StdioOptions",
    command: Sequence[str],
    environ: Mapping[str, str],
    here: Machine | None = None,
    hidden: Iterable[Path] = (),
) -> Launch:
    """How *command*, whose program is an absolute path, starts with the walls that *options* ask for.

    *hidden*: what no walled server may ever read, whatever it declares. Blocks: it looks at files and makes a room.
    Raises Unavailable for what cannot be done, or cannot be held and is required.
    """
    wanted = options_of(options)
    if wanted.mode == "off":
        return _unwalled(options, wanted, command, environ)
    here = machine() if here is None else here
    found = walls(wanted, here)
    if found.missing:
        raise Unavailable(found.missing)
    home = environ.get("HOME") or str(Path.home())
    rules = Reach(home, [Path(home, ".ssh"), *hidden]).rules(options, wanted, command, environ)
    try:
        room = rooms.make()
    except OSError as error:
        raise Unavailable(f"cannot make a private folder for it: {error}") from error
    tmp = "/tmp" if here.bubblewrap else str(room.tmp)
    env = {name: value for name, value in environ.items() if _INHERITED.fullmatch(name)}
    env |= {"HOME": str(room.home), "TMPDIR": tmp, **options.env}
    wrapped = _wrapped(here, wanted, rules, room, os.path.abspath(options.cwd or "")) if here.bubblewrap else []
    rules = [*rules, ("write", str(room.home)), ("write", tmp), *_of_system(here)]
    return Launch(
        command=[*wrapped, *_launcher(wanted, here, rules), *command],
        env=env,
        cwd=options.cwd,
        sandbox=found.said,
        relayed=bool(wrapped),
        end=room.remove,
    )


def _unwalled(
    options: "StdioOptions", wanted: SandboxOptions, command: Sequence[str], environ: Mapping[str, str]
) -> Launch:
    return Launch(
        command=command,
        env=child_environment(options.env, environ, everything=options.pass_environment),
        cwd=options.cwd,
        sandbox=walls(wanted, Machine()).said,
        limits={"CORE": (0, 0), "NOFILE": (wanted.open_files, max(wanted.open_files, _MOST_FILES_UNWALLED))},
    )


def _launcher(options: SandboxOptions, machine: Machine, rules: Sequence[Rule]) -> list[str]:
    network = options.network
    spec: confine.Spec = {
        "landlock": bool(machine.landlock),
        "rules": list(rules),
        "ports": None if network == "any" else [] if network == "none" else list(network),
        "sockets": network if isinstance(network, str) else "tcp",
        "unix": _unix_is_open(options, machine),
        "filtered": machine.filters and _is_filtered(options, machine),
        "own_proc": not machine.bubblewrap,
        "limits": _limits(options),
    }
    # -I -S: no path, no site, nothing of the user's; it starts in milliseconds.
    return [sys.executable, "-I", "-S", confine.__file__, json.dumps(spec, separators=(",", ":"))]


def _limits(options: SandboxOptions) -> dict[str, int]:
    bounds = {
        "CORE": 0,
        "NOFILE": options.open_files,
        "NPROC": options.processes,
        "FSIZE": options.file_bytes,
        "AS": options.memory_bytes,
    }
    return {name: bound for name, bound in bounds.items() if bound is not None}


# ---- what it reaches of the file system


class Reach:
    """From what is declared and what a program needs to paths, none of which holds what is hidden."""

    def __init__(self, home: str, hidden: Iterable[Path]) -> None:
        self._home = home
        self._hidden = [os.path.realpath(each) for each in hidden]
        self._ground: list[str] = []  # what the server may change
        self._not_all_of = {os.path.realpath(each) for each in (home, tempfile.gettempdir(), *_SHARED)}

    def rules(
        self, options: "StdioOptions", wanted: SandboxOptions, command: Sequence[str], environ: Mapping[str, str]
    ) -> list[Rule]:
        """What is given to the server, besides its room and the system. Raises Unavailable."""
        path = options.env.get("PATH", environ.get("PATH"))
        needed = (*needs.of_python(), *needs.of_command(command[0], self._arguments(options, command), path))
        return _sorted(*self.declared(options, wanted), *(("read", each) for each in needed if self._is_modest(each)))

    def declared(self, options: "StdioOptions", wanted: SandboxOptions) -> list[Rule]:
        """What the configuration gives it. Raises Unavailable for what is not there, or is hidden."""
        ground = _topmost(self._meant(path) for path in (*wanted.write, *wanted.make))
        self._ground = _topmost([*ground, *map(os.path.realpath, ground)])
        write = [each for at, path in enumerate(wanted.write) for each in self._paths(path, f"sandbox.write[{at}]")]
        write += [each for at, path in enumerate(wanted.make) for each in self._paths(path, f"sandbox.make[{at}]")]
        read = [each for at, path in enumerate(wanted.read) for each in self._paths(path, f"sandbox.read[{at}]")]
        read += self._paths(options.cwd, "cwd") if options.cwd is not None else []
        return _sorted(*(("write", each) for each in write), *(("read", each) for each in read))

    def _arguments(self, options: "StdioOptions", command: Sequence[str]) -> list[str]:
        folder = os.path.abspath(options.cwd or "")
        return [arg if arg.startswith("-") else os.path.join(folder, arg) for arg in command[1:]]

    def _paths(self, said: str, field: str) -> list[str]:
        """The path itself, and where it leads. Raises Unavailable if it is not there, or holds what is hidden."""
        path = self._meant(said)
        real = os.path.realpath(path)
        if not os.path.exists(real):
            raise Unavailable(f"{field}: there is no {path}: make it, or take it out", field=field)
        for hidden in self._hidden:
            if _within(real, hidden):
                raise Unavailable(f"{field}: no server is let into {hidden}: take {said} out", field=field)
            if _within(hidden, real):
                raise Unavailable(
                    f"{field}: {said} holds {hidden}: name the folders in it that are needed", field=field
                )
        return [real] if real == path else [] if self._is_of(path, real, field) else [path, real]

    def _is_of(self, path: str, real: str, field: str) -> bool:
        """Whether *path*, a link, is in a folder that the server may change: who knows who has made it.

        Raises Unavailable if it leads out of that folder.
        """
        ground = next((each for each in self._ground if path != each and _within(path, each)), None)
        if ground is not None and not _within(real, os.path.realpath(ground)):
            raise Unavailable(
                f"{field}: {path}, which the server could have made itself, leads to {real}: name that, if it is meant",
                field=field,
            )
        return ground is not None

    def _meant(self, said: str) -> str:
        told = os.path.abspath(os.path.join(self._home, said[2:]) if said.startswith("~/") else said)
        return self._home if said == "~" else told

    def _is_modest(self, path: str) -> bool:
        """Whether *path* may be given without anybody's having asked for it."""
        real = os.path.realpath(path)
        if any(_within(above, real) for above in self._not_all_of):
            return False
        return not any(_within(real, hidden) or _within(hidden, real) for hidden in self._hidden)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _sorted(*rules: Rule) -> list[Rule]:
    """*rules* without those that others make needless; what may be written may be read."""
    write = _topmost(path for access, path in rules if access == "write")
    read = _topmost(path for access, path in rules if access == "read")
    return [
        *(("write", path) for path in write),
        *(("read", path) for path in read if not any(_within(path, above) for above in write)),
    ]


def _topmost(paths: Iterable[str]) -> list[str]:
    """*paths* without those within others, sorted."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(_within(path, above) for above in kept):
            kept.append(path)
    return kept


def _of_system(machine: Machine) -> Iterator[Rule]:
    """What every program may use. With bubblewrap /proc and /dev are its own."""
    yield from (("read", path) for path in (*needs.SYSTEM, *needs.ETC, _PROCESSORS) if os.path.exists(path))
    yield from (("write", path) for path in _DEVICES)
    if machine.bubblewrap:
        yield "read", "/proc"
        yield "write", "/dev/shm"
        yield "read", needs.above_package()  # in which there is nothing else
    else:
        yield from (("read", path) for path in _FACTS)


# ---- bubblewrap

_NAMESPACES: Final = ("--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts")


def _wrapped(machine: Machine, options: SandboxOptions, rules: Sequence[Rule], room: Room, cwd: str) -> list[str]:
    """bubblewrap, with a file system in which there is nothing but what *rules* name, the system and *room*."""
    private = ["--unshare-net"] if options.network == "none" and machine.private_network else []
    mounts = ["--proc", "/proc", "--dev", "/dev", "--bind", str(room.tmp), "/tmp"]
    for path in needs.SYSTEM:
        if os.path.islink(path):
            mounts += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            mounts += ["--ro-bind", path, path]
    mounts += ["--dir", cwd]
    for path in filter(os.path.exists, (*needs.ETC, _PROCESSORS)):
        mounts += ["--ro-bind", path, path]
    # What lies deeper is mounted later, or it would be hidden by what it lies in.
    for access, path in sorted([*rules, ("write", str(room.home))], key=lambda rule: rule[1].count("/")):
        mounts += ["--bind" if access == "write" else "--ro-bind", path, path]
    return [machine.bubblewrap, *_NAMESPACES, *private, *mounts, "--chdir", cwd, "--"]
