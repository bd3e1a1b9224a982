"""System calls that cannot leave a folder: open below it, and rename without replacing. POSIX.

Where the kernel has openat2 (Linux 5.6) it resolves the whole path; elsewhere each name is opened in the folder
before it, and no symbolic link is followed. Neither ever compares the text of two paths.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

# (folder, names, flags of open) -> descriptor. Raises OSError; ELOOP where any of the names is a symbolic link.
Resolve: TypeAlias = Callable[[int, Sequence[str], int], int]

ALWAYS: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
AS_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
# A FIFO without a writer would hold us up, a terminal would become ours.
AS_FILE: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)

# linux/openat2.h, linux/fs.h; the number is the same on every architecture that has it.
_OPENAT2: Final = 437
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_NOREPLACE: Final = 1
_TRIES: Final = 16

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def best(folder: int) -> Resolve:
    """The way that this kernel allows, and what guards it: an old seccomp filter refuses calls that are newer."""
    try:
        os.close(at_once(folder, (), AS_FOLDER))
    except OSError:
        return step_by_step
    return at_once


def at_once(folder: int, names: Sequence[str], flags: int) -> int:
    """By openat2."""
    # Without O_NOFOLLOW: with it a link where a folder should be is said to be no folder, and not to be a link.
    how = _How(flags | os.O_CLOEXEC, 0, _BENEATH | _NO_MAGICLINKS | _NO_SYMLINKS)
    path = os.fsencode("/".join(names) or ".")
    for _ in range(_TRIES):
        fd = _libc.syscall(_OPENAT2, folder, path, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        number = ctypes.get_errno()
        if number not in (errno.EINTR, errno.EAGAIN):  # EAGAIN: something was renamed meanwhile
            break
    raise OSError(number, os.strerror(number), os.fsdecode(path))


def step_by_step(folder: int, names: Sequence[str], flags: int) -> int:
    """By openat for each name."""
    passing = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)
    here = os.dup(folder)
    try:
        for name in names[:-1]:
            below = _enter(here, name, passing)
            os.close(here)
            here = below
        return _enter(here, names[-1] if names else ".", flags)
    finally:
        os.close(here)


def _enter(folder: int, name: str, flags: int) -> int:
    try:
        return os.open(name, flags | ALWAYS, dir_fd=folder)
    except NotADirectoryError as error:  # what O_DIRECTORY makes of a symbolic link, too
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from error
        raise


def rename_new(source: int, name: str, target: int, new: str) -> None:
    """Rename *name* in the folder *source* to *new* in *target*. Raises OSError; FileExistsError if it is there."""
    if hasattr(_libc, "renameat2"):
        if not _libc.renameat2(source, os.fsencode(name), target, os.fsencode(new), _NOREPLACE):
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number), name)
    rename_by_link(source, name, target, new)


def rename_by_link(source: int, name: str, target: int, new: str) -> None:
    """The same where the system or the file system has no such call: a link is never made over another name."""
    if not _is_folder(source, name):
        os.link(name, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        os.unlink(name, dir_fd=source)
        return
    os.mkdir(new, 0o700, dir_fd=target)  # ours, and empty: a folder may be renamed over it
    try:
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
    except OSError:
        os.rmdir(new, dir_fd=target)
        raise


def _is_folder(folder: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
