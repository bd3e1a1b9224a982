"""seccomp: which sockets a process, and all that it starts, may still ask for: what Landlock does not see. Linux only.

Knows the kernel's interface and nothing of ours: the standard library alone, so that a launcher may load it by its
path. Source: seccomp(2); linux/seccomp.h, linux/filter.h.
"""

import ctypes
import errno
import os
import struct
import sys
from typing import Final

_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38

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
    """Whether the kernel takes filters, and the numbers of this machine's system calls are known here."""
    if sys.platform != "linux" or os.uname().machine not in _ARCHITECTURES or sys.maxsize < 1 << 32:
        return False
    nowhere = ctypes.c_void_p(0)  # looked at only by a kernel that has filters
    _libc().prctl(_PR_SET_SECCOMP, ctypes.c_ulong(2), nowhere, ctypes.c_ulong(0), ctypes.c_ulong(0))
    return ctypes.get_errno() == errno.EFAULT


def confine(*, sockets: str, unix: bool) -> None:
    """Take all other sockets from this thread and whatever it starts, for ever. Raises OSError.

    *sockets*: families, "any", "tcp" (and UDP), or "none"; *unix*: whether one of the machine may be asked for.
    """
    program = _program(_ARCHITECTURES[os.uname().machine], sockets, unix=unix)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    zero = ctypes.c_ulong(0)
    _checked(_libc().prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero))
    filters = struct.pack("@HP", len(program), ctypes.addressof(code))
    _checked(_libc().prctl(_PR_SET_SECCOMP, ctypes.c_ulong(2), filters, zero, zero))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


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
