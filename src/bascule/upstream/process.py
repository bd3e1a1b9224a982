"""One child process: its own group, its pipes as callbacks, and an end that leaves nobody behind.

Knows nothing of MCP: lines come out, lines go in.
"""

import asyncio
import os
import re
import secrets
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, cast

from bascule.errors import Overloaded, Unavailable
from bascule.upstream import family
from bascule.upstream.family import MARK, WARDEN
from bascule.wire.lines import Lines

if sys.platform != "win32":
    import resource

STDERR_LINES: Final = 50
STDERR_BYTES: Final = 64 * 1024
_STDERR_CHUNKS: Final = 256
# A line so many times as long as a message may be is no message: what has not ended by then never will.
_ENDLESS: Final = 8
MAX_UNREAD_BYTES: Final = 8 * 1024 * 1024  # written to a child that does not read; then calls are refused
_LONGEST_KILL_S: Final = 5.0
_BY_SIGNAL: Final = 128  # to which who passes an exit code on adds the number of the signal

NO_LIMITS: Final[Mapping[str, tuple[int, int]]] = {}

_alive: "set[Child]" = set()  # of this process

# What a child may inherit. Everything else in our environment, secrets above all, stays with us.
_INHERITED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|TZ|LANG|LC_\w+|TMPDIR|TMP|TEMP|XDG_\w+|(?i:(http|https|no|all)_proxy)"
    r"|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|SYSTEMROOT|APPDATA|PATHEXT"
)


def child_environment(declared: Mapping[str, str], inherited: Mapping[str, str], *, everything: bool) -> dict[str, str]:
    """The environment of a child: the harmless part of ours (or all of it), then what is declared."""
    base = {k: v for k, v in inherited.items() if everything or _INHERITED.fullmatch(k)}
    return base | dict(declared)


class Tail:
    """The end of a byte stream that may be a flood: keeping it costs the same whatever is in it."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        self._chunks.append(chunk[-STDERR_BYTES:])
        self._size += len(self._chunks[-1])
        # Many small chunks are joined now and then, or each would be kept as an object of its own.
        if self._size > 2 * STDERR_BYTES or len(self._chunks) > _STDERR_CHUNKS:
            whole = b"".join(self._chunks)[-STDERR_BYTES:]
            self._chunks, self._size = deque((whole,)), len(whole)

    def lines(self) -> list[str]:
        """The last STDERR_LINES lines that are not blank, each cut to 1000 characters."""
        whole = b"".join(self._chunks)[-STDERR_BYTES:]
        lines = [line for line in whole.split(b"\n") if line and not line.isspace()]
        return [line[:1000].decode(errors="replace") for line in lines[-STDERR_LINES:]]


class Child(asyncio.SubprocessProtocol):
    """A running command. *on_line* sees each line of its stdout, *on_exit* its end, once."""

    def __init__(
        self,
        max_line_bytes: int,
        on_line: Callable[[bytes], None],
        on_overlong: Callable[[bytes], None],
        on_exit: Callable[[str], None],
    ) -> None:
        self._stdout = Lines(max_line_bytes, on_line, on_overlong)
        self._endless_bytes = _ENDLESS * max_line_bytes
        self._killed_for = ""  # why we have ended it, if it was not asked to
        self._stderr = Tail()
        self._on_exit = on_exit
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._outgoing: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._exited = asyncio.Event()
        self._reported = False
        self._relayed = False
        self._mark = ""
        self.pid = 0

    @classmethod
    async def spawn(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None,
        max_line_bytes: int,
        on_line: Callable[[bytes], None],
        on_overlong: Callable[[bytes], None],
        on_exit: Callable[[str], None],
        limits: Mapping[str, tuple[int, int]] = NO_LIMITS,
        relayed: bool = False,
    ) -> "Child":
        """Start *command* in a session and group of its own. Raises Unavailable if it cannot start.

        *limits*: (soft, hard) of resources of the process, at the most. *relayed*: another process is around the
        server, which passes its exit code on, and must not end at SIGTERM before it.
        """
        loop = asyncio.get_running_loop()
        mark = secrets.token_hex(8)
        WARDEN.watch(mark)
        try:
            _, child = await loop.subprocess_exec(
                lambda: cls(max_line_bytes, on_line, on_overlong, on_exit),
                *command,
                env={**env, MARK: mark},
                cwd=cwd,
                start_new_session=True,
                preexec_fn=partial(_prepare, limits, relayed=relayed),
            )
        except (OSError, ValueError) as error:
            WARDEN.forget(mark)
            raise Unavailable(f"cannot start {command[0]!r}: {error}", command=command[0]) from error
        child._mark, child._relayed = mark, relayed
        WARDEN.watch(mark, child.pid)
        _alive.add(child)
        return child

    # ---- asyncio.SubprocessProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.pid = self._transport.get_pid()
        self._stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd != 1:
            self._stderr.feed(data)
            return
        self._stdout.feed(data)
        if self._stdout.skipped_bytes > self._endless_bytes and not self._killed_for:
            self._killed_for = f"was killed after {self._endless_bytes} bytes without a newline"
            self.kill()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        # A server whose stdout is closed can answer nothing more, whatever else it still does. If that
        # is because it ended, the way it ended is known in a moment, and says more.
        if fd == 1:
            self._loop.call_later(0.05, self._report)

    def process_exited(self) -> None:
        self._exited.set()
        # Give the pipes a turn: what the process wrote before it died is still in them.
        self._loop.call_later(0.05, self._report)

    # ---- ours

    def write(self, line: bytes) -> None:
        """Queue one line; all lines of one turn of the loop leave in one system call.

        Raises Overloaded when the child has stopped reading, Unavailable when it is gone.
        """
        if self._stdin is None or self._stdin.is_closing() or self._reported:
            raise Unavailable(f"the process {self._end_in_words()}")
        if not self._outgoing:
            if self._stdin.get_write_buffer_size() > MAX_UNREAD_BYTES:
                raise Overloaded("the server process does not read its input")
            self._loop.call_soon(self._flush)
        # A raw newline can only be white space between JSON tokens; on stdio it would end the message.
        self._outgoing.append(
            line.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in line or b"\r" in line else line
        )

    def _flush(self) -> None:
        lines, self._outgoing = self._outgoing, []
        if self._stdin is not None and not self._stdin.is_closing():
            lines.append(b"")
            self._stdin.write(b"\n".join(lines))

    def stderr_tail(self) -> list[str]:
        return self._stderr.lines()

    def _report(self) -> None:
        if not self._reported:
            self._reported = True
            self._on_exit(self._end_in_words())

    def _end_in_words(self) -> str:
        if self._killed_for:
            return self._killed_for
        code = self.exit_code
        if code is None:
            return "closed its output"
        if code < 0:
            return f"was killed by {_signal_name(-code)}"
        return f"exited with code {code}"

    @property
    def exit_code(self) -> int | None:
        """Negative: the number of the signal that killed it; None while it runs."""
        code = self._transport.get_returncode() if self._transport else None
        by_signal = self._relayed and code is not None and _BY_SIGNAL < code <= _BY_SIGNAL + max(signal.Signals)
        return _BY_SIGNAL - code if by_signal and code is not None else code

    async def end(self, grace_s: float) -> None:
        """Ask, insist, force: stdin EOF, *grace_s* later SIGTERM, then SIGKILL, each to the whole family.

        Returns when the process is reaped and nobody of its group or descent is left.
        """
        self._flush()
        relatives = family.marked(self._mark)
        if self._stdin is not None:
            self._stdin.close()
        try:
            if not await self._gone_within(grace_s):
                relatives |= family.marked(self._mark)
                family.deliver(relatives, self.pid, signal.SIGTERM)
                await self._gone_within(min(grace_s, _LONGEST_KILL_S))
        finally:
            family.deliver(relatives | family.marked(self._mark), self.pid, signal.SIGKILL)
            if self._transport is not None:
                await self._gone_within(min(grace_s, _LONGEST_KILL_S))
                self._transport.close()
            _alive.discard(self)
            WARDEN.forget(self._mark)

    def kill(self) -> None:
        """Force at once, without asking; whoever waits in `end` goes on."""
        family.deliver(family.marked(self._mark), self.pid, signal.SIGKILL)

    async def _gone_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        except TimeoutError:
            return False
        return True


def kill_all() -> None:
    """Kill every child of this process that is left, and its family. Nobody has time to wait any more."""
    for child in _alive:
        child.kill()


def _prepare(limits: Mapping[str, tuple[int, int]], *, relayed: bool) -> None:
    """In the child, before it becomes the command."""
    for name, (soft, hard) in limits.items():
        _limit(getattr(resource, f"RLIMIT_{name}"), soft, hard)
    if relayed:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher, which is within, undoes that for the server
    _keep_our_files()


def _limit(number: int, soft: int, hard: int) -> None:
    _, most = resource.getrlimit(number)
    if most != resource.RLIM_INFINITY:
        hard = min(hard, most)
    resource.setrlimit(number, (min(soft, hard), hard))


def _keep_our_files() -> None:
    """In the child, before it becomes the command: nothing of ours stays open in there but its three pipes.

    asyncio sees to that, uvloop does not. A server that has the socket we listen on can take our clients, and one that
    has copies of its own pipes cannot close its stdout for us to see.
    """
    for name in os.listdir("/dev/fd"):
        try:
            if int(name) > 2:  # these three are made from the others, after this
                os.set_inheritable(int(name), False)
        except OSError:
            pass  # it was that of the listing


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
