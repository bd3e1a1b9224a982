"""`python -I -m bascule.packs.cell`: the child in which an untrusted file is read, and nothing else is done.

It shuts itself in before it looks at the file: limits of the kernel, no file but the installed code, no connection.
The standard library alone, so that it starts fast. apart.py is who starts it, and what is said between the two.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from bascule import landlock, seccomp

EXIT_NO_MEMORY: Final = 11
EXIT_TOO_DEEP: Final = 12
EXIT_TOO_MUCH: Final = 13  # the answer is longer than it may be, or the file that is written

_OPEN_FILES: Final = 32  # enough to import code; sockets count as well
_PR_SET_PDEATHSIG: Final = 1
# Where interpreters and libraries stand, besides the import path; and what some libraries look at when imported.
_CODE: Final = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache")
_LOOKED_AT: Final = ("/etc/mime.types", "/etc/localtime", "/dev/null", "/dev/urandom")


class Unreadable(Exception):
    """What a reader raises for a file that it does not read: *what* is wrong, and what to *do* about it."""

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(f"{what} {do}".strip())
        self.what = what
        self.do = do


def main() -> None:
    """Read the file that is open as the descriptor on the command line, as the order on standard input says."""
    order = json.loads(sys.stdin.buffer.read())
    sys.path[:] = order["import_path"]
    _shut_in(order["limits"])
    try:
        answer = _answer(order)
        if len(answer) > order["limits"]["result_bytes"]:
            os._exit(EXIT_TOO_MUCH)
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    except MemoryError:
        os._exit(EXIT_NO_MEMORY)
    except RecursionError:
        os._exit(EXIT_TOO_DEEP)
    os._exit(0)  # the objects of a large file are many: the kernel is faster at clearing them away


def _answer(order: Mapping[str, Any]) -> bytes:
    module, _, name = order["reader"].partition(":")
    read: Callable[..., object] = getattr(import_module(module), name)
    files = [os.fdopen(fd, mode) for fd, mode in ((order["source"], "rb"), (order["into"], "wb")) if fd is not None]
    try:
        said: dict[str, object] = {"result": read(*files, **order["arguments"])}
        for file in files:
            file.close()
    except Unreadable as error:
        said = {"refused": [error.what, error.do]}
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        os._exit(EXIT_TOO_MUCH)
    # What is half a character to UTF-16 is none to JSON: it becomes a question mark.
    return json.dumps(said, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _shut_in(limits: Mapping[str, int]) -> None:
    _die_with_parent()
    sys.setrecursionlimit(1000)
    for what, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
        (resource.RLIMIT_NPROC, 0, 0),  # no other process and no thread; root is not bound by it
        (resource.RLIMIT_FSIZE, limits["written_bytes"], limits["written_bytes"]),
        # At the first of the two it ends with a signal that says why.
        (resource.RLIMIT_CPU, limits["cpu_s"], limits["cpu_s"] + 1),
        (resource.RLIMIT_AS, limits["memory_bytes"], limits["memory_bytes"]),
    ):
        _, ceiling = resource.getrlimit(what)
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(what, (soft, hard))
    landlock.confine(read=(*sys.path, f"{sys.base_prefix}/lib", *_CODE, *_LOOKED_AT))
    if seccomp.can_filter():
        seccomp.confine(sockets="none", unix=False)  # Landlock sees neither UDP nor sockets of the machine


def _die_with_parent() -> None:
    """Be killed when who started us is; at once if it is gone already."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    # By its name: what readers raise is of the module that they import, not of the one that is run.
    import_module("bascule.packs.cell").main()
