"""The launcher: puts walls around its own process, and then becomes the command. Run by its path, by `python -I -S`.

Its first argument says which walls, as JSON (`Spec`); the rest is the command. All of them hold or nothing starts:
then it says why in one sentence on stderr and exits with REFUSED. It leaves the three pipes and the group as they are.
Knows Linux and its own argument; imports little, for every server waits for it, and of ours one file, by its path.
Sources: seccomp(2), capabilities(7), prctl(2).
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
    from bascule import landlock
else:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # after all else: it is for one file
    import landlock

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
        _filter(spec["sockets"], unix=spec["unix"])
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

_PR_SET_SECCOMP: Final = 22
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


# ---- seccomp: what Landlock does not see of sockets

# By machine: its number for the kernel, and those of socket, sendto, sendmsg, sendmmsg.
_ARCHITECTURES: Final = {"x86_64": (0xC000003E, 41, 44, 46, 307), "aarch64": (0xC00000B7, 198, 206, 211, 269)}
_IO_URING_SETUP: Final = 425  # it could do all of it unseen
_X32: Final = 0x40000000  # numbers from here on are a second set of the same calls
_MSG_FASTOPEN: Final = 0x20000000  # connects without `connect`
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_TCP, _UDP = (1, 6), (2, 17)  # type and protocol; others, such as multipath TCP, are let through by Landlock
_LOAD, _AND, _IF_EQUAL, _IF_LEAST, _IF_SET, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_ALLOW: Final = 0x7FFF0000
_NUMBER, _ARCHITECTURE = 0, 4  # where it stands in what a filter is shown
_FIRST: Final = 16  # and the arguments, of eight bytes each

Instruction = tuple[int, int, int, int]  # code, to skip if so, to skip if not, operand


def can_filter() -> bool:
    """Whether the kernel takes filters, and the numbers of this machine's system calls are known here. Linux only."""
    if os.uname().machine not in _ARCHITECTURES or sys.maxsize < 1 << 32:
        return False
    nowhere = ctypes.c_void_p(0)  # looked at only by a kernel that has filters
    _libc().prctl(_PR_SET_SECCOMP, ctypes.c_ulong(2), nowhere, ctypes.c_ulong(0), ctypes.c_ulong(0))
    return ctypes.get_errno() == errno.EFAULT


def _filter(sockets: str, *, unix: bool) -> None:
    program = _program(_ARCHITECTURES[os.uname().machine], sockets, unix=unix)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    _call("prctl", _PR_SET_SECCOMP, 2, struct.pack("@HP", len(program), ctypes.addressof(code)), 0, 0)


def _program(numbers: tuple[int, ...], sockets: str, *, unix: bool) -> list[Instruction]:
    architecture, socket, sendto, sendmsg, sendmmsg = numbers
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        *_unless(_IF_EQUAL, architecture, _refuse(errno.ENOSYS)),
        (_LOAD, 0, 0, _NUMBER),
        *_when(_IF_LEAST, _X32, _refuse(errno.ENOSYS)),
        *_when(_IF_EQUAL, _IO_URING_SETUP, _refuse(errno.ENOSYS)),
        *(
            each
            for number, flags in ((sendto, 3), (sendmsg, 2), (sendmmsg, 3))
            for each in _when(_IF_EQUAL, number, _no_fast_open(flags) if sockets != "any" else _allow())
        ),
        *_when(_IF_EQUAL, socket, _families(sockets, unix=unix)),
        *_allow(),
    ]


def _families(sockets: str, *, unix: bool) -> list[Instruction]:
    """A call of `socket`, whose arguments are family, type and protocol."""
    judged: list[Instruction] = [(_LOAD, 0, 0, _FIRST)]
    judged += _when(_IF_EQUAL, _AF_UNIX, _allow() if unix else _refuse(errno.EACCES))
    if sockets == "any":
        return judged + _allow()
    judged += _when(_IF_EQUAL, _AF_NETLINK, _allow())  # of the kernel alone: which addresses there are
    if sockets == "tcp":
        for family in (_AF_INET, _AF_INET6):
            judged += _when(_IF_EQUAL, family, _plain())
    return judged + _refuse(errno.EACCES)


def _plain() -> list[Instruction]:
    """TCP or UDP, whether the protocol is named or is the usual one of the type."""
    judged: list[Instruction] = []
    for kind, protocol in (_TCP, _UDP):
        usual = _when(_IF_EQUAL, 0, _allow()) + _when(_IF_EQUAL, protocol, _allow())
        load: list[Instruction] = [(_LOAD, 0, 0, _FIRST + 8), (_AND, 0, 0, 0xF)]
        judged += load + _when(_IF_EQUAL, kind, [(_LOAD, 0, 0, _FIRST + 16), *usual, *_refuse(errno.EACCES)])
    return judged + _refuse(errno.EACCES)


def _no_fast_open(flags: int) -> list[Instruction]:
    return [(_LOAD, 0, 0, _FIRST + 8 * flags), *_when(_IF_SET, _MSG_FASTOPEN, _refuse(errno.EOPNOTSUPP)), *_allow()]


def _when(test: int, operand: int, then: list[Instruction]) -> list[Instruction]:
    return [(test, 0, len(then), operand), *then]


def _unless(test: int, operand: int, then: list[Instruction]) -> list[Instruction]:
    return [(test, len(then), 0, operand), *then]


def _allow() -> list[Instruction]:
    return [(_RETURN, 0, 0, _ALLOW)]


def _refuse(number: int) -> list[Instruction]:
    return [(_RETURN, 0, 0, 0x50000 | number)]


if __name__ == "__main__":
    main(sys.argv)
