"""Landlock: what a process, and all that it starts, may still open, change, run and connect to. Linux only.

Knows the kernel's interface and nothing of ours: the standard library alone, so that a launcher may load it by its
path. Source: the kernel's documentation, "Landlock: unprivileged access control"; linux/landlock.h, ABI 1 to 7.
"""

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from typing import Final

_CREATE_RULESET: Final = 444  # the same number on every architecture but Alpha
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NET_PORT: Final = 2
_PR_SET_NO_NEW_PRIVS: Final = 38

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_REMOVE_DIR: Final = 1 << 4
_REMOVE_FILE: Final = 1 << 5
_MAKE_CHAR: Final = 1 << 6
_MAKE_DIR: Final = 1 << 7
_MAKE_REG: Final = 1 << 8
_MAKE_SOCK: Final = 1 << 9
_MAKE_FIFO: Final = 1 << 10
_MAKE_BLOCK: Final = 1 << 11
_MAKE_SYM: Final = 1 << 12
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15

READ: Final = _READ_FILE | _READ_DIR
EXECUTE: Final = READ | _EXECUTE
# Everything but making devices, which nobody needs, and running, which is said apart.
WRITE: Final = (
    READ
    | _WRITE_FILE
    | (_REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SOCK | _MAKE_FIFO | _MAKE_SYM)
    | (_REFER | _TRUNCATE | _IOCTL_DEV)
)
_OF_A_FILE: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # the others are rights to a folder

_BIND: Final = 1 << 0
_CONNECT: Final = 1 << 1
_SCOPE_ABSTRACT_SOCKET: Final = 1 << 0
_SCOPE_SIGNAL: Final = 1 << 1

NETWORK_ABI: Final = 4  # the first that has rules for TCP ports
SCOPE_ABI: Final = 6


def abi() -> int:
    """The version of Landlock that the kernel has; 0 where there is none, or it is switched off."""
    if sys.platform != "linux":
        return 0
    version = _libc().syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    return max(0, int(version))


def confine(
    *,
    read: Iterable[str] = (),
    write: Iterable[str] = (),
    execute: Iterable[str] = (),
    connect: Iterable[int] | None = (),
    bind: Iterable[int] | None = (),
    scoped: bool = True,
) -> int:
    """Take everything else from this thread and whatever it starts, for ever; the ABI in force, 0 for nothing done.

    *read*, *write* (and read), *execute* (and read) are files, and folders with all below them; those that are not
    there are left out. *connect*, *bind*: TCP ports, None for any; before ABI 4 there is no rule for ports, and none
    for UDP in any. *scoped*: no abstract sockets of processes outside, no signals to them; before ABI 6 without
    effect. Call it while there is one thread. Raises OSError.
    """
    version = abi()
    if not version:
        return 0
    files = _files(version)
    ports = dict.fromkeys(bind or (), _BIND)
    for port in connect or ():
        ports[port] = ports.get(port, 0) | _CONNECT
    handled_ports = (_BIND if bind is not None else 0) | (_CONNECT if connect is not None else 0)
    scopes = _SCOPE_ABSTRACT_SOCKET | _SCOPE_SIGNAL if scoped else 0
    ruleset = _ruleset(version, files, handled_ports, scopes)
    try:
        for paths, rights in ((read, READ), (write, WRITE), (execute, EXECUTE)):
            for path in paths:
                _allow_path(ruleset, path, rights & files)
        for port, right in ports.items() if version >= NETWORK_ABI else ():
            _add(ruleset, _NET_PORT, struct.pack("=QQ", right, port))
        _enforce(ruleset)
    finally:
        os.close(ruleset)
    return version


def _files(version: int) -> int:
    """The rights to files and folders that this version can take away."""
    rights = (1 << 13) - 1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        rights |= right if version >= since else 0
    return rights


def _ruleset(version: int, files: int, ports: int, scopes: int) -> int:
    # A kernel takes the struct as long as it knows it, and a longer one only where the rest is zero.
    fields = (files, *((ports,) if version >= NETWORK_ABI else ()), *((scopes,) if version >= SCOPE_ABI else ()))
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    return _checked(
        _libc().syscall(
            ctypes.c_long(_CREATE_RULESET), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
        )
    )


def _allow_path(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # what cannot be reached anyway needs no right
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_A_FILE
        _add(ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, fd))
    finally:
        os.close(fd)


def _add(ruleset: int, kind: int, rule: bytes) -> None:
    _checked(
        _libc().syscall(ctypes.c_long(_ADD_RULE), ctypes.c_int(ruleset), ctypes.c_int(kind), rule, ctypes.c_uint32(0))
    )


def _enforce(ruleset: int) -> None:
    libc = _libc()
    zero = ctypes.c_ulong(0)
    _checked(libc.prctl(ctypes.c_int(_PR_SET_NO_NEW_PRIVS), ctypes.c_ulong(1), zero, zero, zero))
    _checked(libc.syscall(ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint32(0)))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
