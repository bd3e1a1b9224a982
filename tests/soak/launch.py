"""Bascule as it is, in a process of its own, which dies by SIGKILL at one point of its code.

The product has no hooks for tests: what it calls is wrapped here, before it starts. Everything that a call with a
key passes leaves a line in a file, `KEY MARK`, which survives the kill: so it is known how far each call had come.
Crash points: docs/reliability.md.
"""

import asyncio
import importlib
import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import wraps
from multiprocessing.connection import Connection
from typing import Any, Final

import msgspec

# What a fresh process takes half a second to load. Processes are forked from one that has it all (forkserver).
PRELOADED: Final = [
    *("soak.launch", "bascule.__main__", "bascule.cli.commands", "bascule.app", "bascule.edge.server"),
    *("uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.off", "bascule.store.database", "uvloop"),
]

_KEY: Final = re.compile(rb"kill-[A-Za-z0-9.-]{11,64}")
_RECEIPT: Final = b'"receipt"'
_CALL: Final = b'"tools/call"'
# What is handed to the loop is in the kernel a moment later. No server of ours answers sooner where that matters.
_WRITTEN_WITHIN_S: Final = 0.003


class Plan(msgspec.Struct, frozen=True):
    """Where to die."""

    trail: str  # the file of marks
    point: str = ""  # "CP0" … "CP7", "TX" in a transaction; "" for never
    nth: int = 1  # pass of that point
    patient: bool = False  # no circuit ever opens: what a bad network does would be met by a few calls only


class Trail:
    """The marks of this process, and its end."""

    def __init__(self, plan: Plan) -> None:
        self._file = os.open(plan.trail, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._point = plan.point
        self._left = plan.nth

    def mark(self, key: str, mark: str) -> None:
        os.write(self._file, f"{key} {mark}\n".encode())

    def is_now(self, point: str) -> bool:
        """Whether this pass of *point* is the one to die at. Each question is a pass."""
        if point != self._point:
            return False
        self._left -= 1
        return self._left == 0

    def die(self, key: str, point: str) -> None:
        self.mark(key, f"killed {point}")
        os.kill(os.getpid(), signal.SIGKILL)

    def pass_(self, point: str, key: str) -> None:
        """Die here, if it is planned."""
        if self.is_now(point):
            self.die(key, point)

    def pass_soon(self, point: str, key: str) -> None:
        """Die here, if it is planned, once the loop has written what it was given."""
        if self.is_now(point):
            asyncio.get_running_loop().call_later(_WRITTEN_WITHIN_S, self.die, key, point)


def run(words: list[str], plan: Plan, out: Connection, log: str) -> None:
    """`bascule WORDS…` in this process, which has to be a fresh one. Its stdout is *out*, its stderr the file *log*."""
    os.setsid()
    os.dup2(out.fileno(), 1)
    out.close()
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    arm(Trail(plan))
    if plan.patient:
        _never_open()
    sys.argv = ["bascule", *words]
    from bascule.__main__ import main

    main()


def arm(trail: Trail) -> None:
    """Put *trail* around what a call passes, from the journal to its reply."""
    _tell_tasks(trail)
    _watch_writer(trail)
    _watch_journal(trail)
    _watch_servers(trail)
    _watch_replies(trail)


def _tell_tasks(trail: Trail) -> None:
    """On SIGUSR1 a mark says which tasks there are."""
    from bascule.edge.server import GatewayServer

    def tell() -> None:
        names = (getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
        trail.mark("-", json.dumps(Counter(names)))

    async def startup(original: Callable[..., Awaitable[None]], self: Any, *args: Any, **more: Any) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
        await original(self, *args, **more)

    _wrap(GatewayServer, "startup", startup)


def _never_open() -> None:
    from bascule.pipeline.health import Health
    from bascule.policy.breaker import Rules

    never = 1_000_000_000

    def init(original: Callable[..., None], self: Any, **more: Any) -> None:
        original(self, **{**more, "rules": Rules(in_a_row=never, least=never)})

    _wrap(Health, "__init__", init)


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace *owner*'s function by *around*, which is called with the original first."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*args: Any, **more: Any) -> Any:
        return around(original, *args, **more)

    setattr(owner, name, wrapped)


def _watch_journal(trail: Trail) -> None:
    from bascule.store.journal import Hold
    from bascule.store.journal_sqlite import SqliteJournal

    keys: dict[str, str] = {}  # by the id of the row

    async def reserve(original: Callable[..., Awaitable[Any]], self: Any, wanted: Any) -> Any:
        trail.pass_("CP0", wanted.key)
        trail.mark(wanted.key, "reserve?")
        found = await original(self, wanted)
        if isinstance(found, Hold):
            keys[found.id] = wanted.key
            trail.mark(wanted.key, f"reserved {found.id}")
            trail.pass_("CP1", wanted.key)
        return found

    async def start(original: Callable[..., Awaitable[bool]], self: Any, start: Any) -> bool:
        if start.hold is None:
            return await original(self, start)
        key = keys[start.hold.id]
        trail.mark(key, "start?")
        started = await original(self, start)
        if started:
            trail.mark(key, "started")
            trail.pass_("CP2", key)
        return started

    async def complete(original: Callable[..., Awaitable[bool]], self: Any, hold: Any, *rest: Any) -> bool:
        key = keys[hold.id]
        trail.pass_("CP5", key)
        trail.mark(key, "complete?")
        stored = await original(self, hold, *rest)
        trail.mark(key, "completed" if stored else "fenced")
        trail.pass_("CP6", key)
        return stored

    async def settle(name: str, original: Callable[..., Awaitable[Any]], self: Any, hold: Any, *rest: Any) -> Any:
        if hold is None:
            return await original(self, hold, *rest)
        trail.mark(keys[hold.id], f"{name}?")
        settled = await original(self, hold, *rest)
        trail.mark(keys[hold.id], f"{name}d")
        return settled

    async def lose(original: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        return await settle("lose", original, *args)

    async def release(original: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        return await settle("release", original, *args)

    for each in (reserve, start, complete, lose, release):
        _wrap(SqliteJournal, each.__name__, each)


def _watch_writer(trail: Trail) -> None:
    """In the middle of a transaction, in the thread that writes: what was done in it must not have happened."""
    from bascule.store.writer import Writer

    async def write(original: Callable[..., Awaitable[Any]], self: Any, work: Callable[[Any], Any], **more: Any) -> Any:
        def torn(connection: Any) -> Any:
            outcome = work(connection)
            trail.pass_("TX", "-")
            return outcome

        return await original(self, torn, **more)

    _wrap(Writer, "write", write)


def _watch_servers(trail: Trail) -> None:
    """CP3: the bytes of a call have been written, to a socket or to a pipe."""
    from aiohttp.client_reqrep import ClientRequest

    from bascule.upstream.process import Child

    async def write_bytes(original: Callable[..., Awaitable[None]], self: Any, *args: Any) -> None:
        body = bytes(getattr(self._body, "_value", b""))
        await original(self, *args)
        if _CALL in body and (key := _key_in(body)):
            trail.pass_soon("CP3", key)

    def flush(original: Callable[[Any], None], self: Any) -> None:
        lines = b"\n".join(self._outgoing)
        original(self)
        if _CALL in lines and (key := _key_in(lines)):
            trail.pass_soon("CP3", key)

    _wrap(ClientRequest, "write_bytes", write_bytes)
    _wrap(Child, "_flush", flush)


def _watch_replies(trail: Trail) -> None:
    """CP7: a result is on its way to its client. Nothing else that is said to clients counts."""
    from bascule.edge.replies import Reply

    async def finish(original: Callable[..., Awaitable[None]], self: Any, messages: Any, **more: Any) -> None:
        await original(self, messages, **more)
        said = b"".join(messages)
        if _RECEIPT in said and (key := _key_in(said)):
            trail.mark(key, "replied")
            if b'"replayed":true' not in said:
                trail.pass_soon("CP7", key)

    _wrap(Reply, "finish", finish)


def _key_in(text: bytes) -> str:
    found = _KEY.search(text)
    return found[0].decode() if found else ""


def preload() -> None:
    """For the process that all others are forked from."""
    for name in PRELOADED:
        importlib.import_module(name)
