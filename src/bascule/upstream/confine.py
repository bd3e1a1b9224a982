"""The launcher: puts walls around its own process, and then becomes the command. Run by its path, by `python -I -S`.

Its first argument says which walls, as JSON (`Spec`); the rest is the command. All of them hold or nothing starts:
then it says why in one sentence on stderr and exits with REFUSED. It leaves the three pipes and the group as they are.
Knows Linux and its own argument; imports little, for every server waits for it, and of ours two files, by their path.
Sources: capabilities(7), prctl(2).
"""

import ctypes
import errno
import json
import os
import signal
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypedDict

if sys.platform != "win32":
    import resource

if TYPE_CHECKING or __name__ != "__main__":
    from bascule import landlock, seccomp
else:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # after all else: it is for two files
    import landlock
    import seccomp

REFUSED: Final = 240  # the exit code of a process around which the walls could not be put
SAYS: Final = "bascule: sandbox: "  # how its sentence begins


class Spec(TypedDict):
    """What this process is still to reach."""

    landlock: bool
    rules: list[tuple[str, str]]  # ("read" or "write", path), both to run; what is not there is passed over
    ports: list[int] | None  # the TCP ports that may be connected to; None: any
    sockets: str  # families of sockets: "any", "tcp" (and UDP), "none"; enforced if `filtered`
    unix: bool  # whether a socket of the machine may be connected to, which is a file, if `filtered`
    filtered: bool  # whether system calls are looked at
    own_proc: bool  # of /proc, this process alone
    limits: dict[str, int]  # resource -> the most


class CannotConfine(Exception):
    """A wall that was asked for cannot be put up: one sentence."""


def main(argv: list[str]) -> NoReturn:
    spec: Spec = json.loads(argv[1])
    try:
        confine(spec)
        _become(argv[2:])
    except CannotConfine as error:
        sys.stderr.write(f"{SAYS}{error}\n")
        sys.exit(REFUSED)


def confine(spec: Spec) -> None:
    """Put up all walls of *spec* around this process, for good. Raises CannotConfine."""
    if sys.platform == "linux":
        _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _drop_capabilities()
    if spec["landlock"]:
        _landlock(spec)
    if spec["filtered"]:
        _filter(spec)
    _limit(spec["limits"])


def _become(command: list[str]) -> NoReturn:
    # Python ignores the first two, and who is around us has SIGTERM ignored for himself; the command must not.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        hint = "; add the folder of what it needs to `read`" if error.errno == errno.EACCES else ""
        raise CannotConfine(f"{command[0]} cannot be run: {error.strerror}{hint}") from error


# ---- the kernel

_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38


def _call(name: str, *args: Any) -> int:
    """A function of the C library that gives -1 when it fails. Raises CannotConfine."""
    made: int = getattr(_libc(), name)(*(ctypes.c_long(each) if isinstance(each, int) else each for each in args))
    if made < 0:
        raise CannotConfine(f"{name} failed: {os.strerror(ctypes.get_errno())}")
    return made


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _drop_capabilities() -> None:
    """Root is still root afterwards, but only to its own files."""
    libc = _libc()
    for capability in range(64):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # takes a capability itself: who has none needs it not
    header, nothing = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    _call("capset", header, nothing)


def _filter(spec: Spec) -> None:
    try:
        seccomp.confine(sockets=spec["sockets"], unix=spec["unix"])
    except OSError as error:
        raise CannotConfine(f"its filter of system calls cannot be put up: {error}") from error


def _limit(limits: dict[str, int]) -> None:
    for name, most in limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(number)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(number, (bound, bound))
        except (OSError, ValueError) as error:
            raise CannotConfine(f"the limit {name} cannot be set to {most}: {error}") from error


# ---- Landlock


def _landlock(spec: Spec) -> None:
    rules = spec["rules"]
    read = [path for access, path in rules if access == "read"]
    write = [path for access, path in rules if access == "write"]
    if spec["own_proc"]:
        # Kept open: a rule belongs to what the kernel keeps of the folder, and only of an open one it keeps that.
        os.set_inheritable(os.open("/proc/self", os.O_PATH | os.O_DIRECTORY), True)
        read.append("/proc/self")
    ports = spec["ports"]
    bind = None if ports is None else ()
    try:
        done = landlock.confine(execute=[*read, *write], write=write, connect=ports, bind=bind)
    except OSError as error:
        raise CannotConfine(f"its rules for files cannot be enforced: {error}") from error
    if not done:
        raise CannotConfine("this kernel has no Landlock any more")


if __name__ == "__main__":
    main(sys.argv)
