"""Untrusted files are read apart: in a fresh child that has one file, little time and little memory, and is killed.

`run` is the whole of it. What a reader is: a function of an importable module that takes the open file (and the open
file to write to, if there is one) and the arguments by name, and returns what JSON can say; it raises
cell.Unreadable for what it will not read. Its module is imported in the child, and imports nothing it can do without.
"""

import asyncio
import json
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final, cast
from weakref import WeakKeyDictionary

import msgspec

from bascule.options import Bytes, Options
from bascule.packs import cell
from bascule.packs.pack import ToolFailed

AT_ONCE: Final = 4  # children of one pack; the next ones wait
_STDERR_BYTES: Final = 4096

Whole = Annotated[int, msgspec.Meta(ge=1, le=600)]


class Limits(Options, frozen=True):
    """What reading one file may take. A file that needs more is refused."""

    file_bytes: Bytes = 64 * 1024 * 1024  # of the file as it is
    memory_bytes: Bytes = 512 * 1024 * 1024  # of address space, the interpreter and its libraries included
    cpu_s: Whole = 4
    wall_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 4.5
    result_bytes: Bytes = 4 * 1024 * 1024
    written_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0  # to the file that is made, where there is one


LIMITS: Final = Limits()

_slots: "WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]" = WeakKeyDictionary()


async def run(
    readers: Collection[str],
    reader: str,
    source: int | bytes,
    arguments: Mapping[str, Any],
    *,
    limits: Limits = LIMITS,
    into: int | None = None,
) -> Any:
    """What the function *reader* (`module:function`, one of *readers*) makes of *source*.

    *source* is an open descriptor of a regular file, or its bytes; *into* one that is open for writing. Neither is
    closed, both are left at another offset. Raises ToolFailed for what cannot be read within *limits*.
    """
    if reader not in readers:
        raise ValueError(f"no reader {reader!r}")  # ours to get right: no argument of a call names one
    if isinstance(source, bytes):
        with _memory(source) as file:
            return await run(readers, reader, file, arguments, limits=limits, into=into)
    _check(source, limits)
    order = {
        "reader": reader,
        "import_path": [path for path in sys.path if os.path.isabs(path)],
        "source": source,
        "into": into,
        "arguments": arguments,
        "limits": msgspec.to_builtins(limits),
    }
    async with _slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)):
        return _told(*await _child(json.dumps(order).encode(), [fd for fd in (source, into) if fd is not None], limits))


def _check(source: int, limits: Limits) -> None:
    status = os.fstat(source)
    if not stat.S_ISREG(status.st_mode):
        raise ToolFailed("It is no regular file.", "Name a file, not a folder or a device.")
    if status.st_size > limits.file_bytes:
        raise ToolFailed(
            f"The file has {status.st_size} bytes; at most {limits.file_bytes} are read.",
            "Take a part of it, or a smaller file.",
        )
    os.lseek(source, 0, os.SEEK_SET)


async def _child(order: bytes, files: list[int], limits: Limits) -> tuple[int, bytes, bytes]:
    """The exit code, the answer and the end of the standard error of a child; it is gone afterwards."""
    transport, child = await asyncio.get_running_loop().subprocess_exec(
        lambda: _Child(limits.result_bytes),
        *(sys.executable, "-I", "-m", cell.__name__),
        pass_fds=files,
        env={"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"},
        start_new_session=True,
    )
    try:
        stdin = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
        stdin.write(order)
        stdin.close()
        async with asyncio.timeout(limits.wall_s):
            await child.silent.wait()
    except TimeoutError as error:
        raise _too_slow() from error
    finally:
        _kill(transport)
        try:
            await child.exited.wait()
        finally:
            transport.close()
    if child.too_much:
        raise _too_much()
    code = transport.get_returncode()
    assert code is not None, "it has exited"
    return code, bytes(child.answer), bytes(child.complaint)


class _Child(asyncio.SubprocessProtocol):
    """What a child says, until it is silent or says too much.

    Its pipes are read to their end whatever comes: asyncio's streams stop at a limit, and as long as a pipe is not
    read to its end asyncio does not say that its process has ended.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.answer = bytearray()
        self.complaint = bytearray()  # the end of its standard error
        self.too_much = False
        self.silent = asyncio.Event()  # it has exited and all is read, or nothing more is wanted
        self.exited = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self.complaint += data
            del self.complaint[:-_STDERR_BYTES]
        elif len(self.answer) + len(data) <= self._limit_bytes:
            self.answer += data
        else:
            self.too_much = True
            self.silent.set()

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.silent.set()


def _kill(transport: asyncio.SubprocessTransport) -> None:
    """Kill it with what it has started, unless it is gone."""
    if transport.get_returncode() is None:
        try:
            os.killpg(transport.get_pid(), signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended in this moment


def _told(code: int, answer: bytes, said: bytes) -> Any:
    """The result in *answer*. Raises ToolFailed for what the exit *code* or the answer says went wrong."""
    if code == -signal.SIGXCPU:
        raise _too_slow()
    if code in (cell.EXIT_NO_MEMORY, -signal.SIGKILL):  # the latter: by the kernel, which had none left
        raise ToolFailed("Reading the file takes more memory than it may.", "Take a smaller file, or a part of it.")
    if code == cell.EXIT_TOO_DEEP:
        raise ToolFailed("The file is nested too deep to be read.", "Save it again with the program it is from.")
    if code == cell.EXIT_TOO_MUCH:
        raise _too_much()
    if code < 0:
        # Native code that gets no memory ends in ways of its own.
        raise ToolFailed("The file could not be read.", "It is damaged, or needs more memory than it may have.")
    if code:
        # For the operator, as of a fault of ours; the model is told what it can act on.
        sys.stderr.write(said.decode("utf-8", "replace"))
        raise _broken()
    try:
        match msgspec.json.decode(answer):
            case {"result": result}:
                return result
            case {"refused": [str(what), str(do)]}:
                raise ToolFailed(what, do)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _broken() from error
    raise _broken()


def _too_slow() -> ToolFailed:
    return ToolFailed("Reading the file took too long.", "Take a smaller file, or a part of it.")


def _too_much() -> ToolFailed:
    return ToolFailed("What was made of the file is too large.", "Ask for less of it.")


def _broken() -> ToolFailed:
    return ToolFailed("The file could not be read.", "It is damaged, or of another kind than its name says.")


@contextmanager
def _memory(content: bytes) -> Iterator[int]:
    """An open file with *content* that has no name."""
    with os.fdopen(os.memfd_create("source"), "w+b") if sys.platform == "linux" else tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.fileno()
