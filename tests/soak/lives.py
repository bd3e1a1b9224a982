"""Processes of Bascule that are made to die, and the servers that outlive them."""

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Final, TypeAlias
from unittest import mock

from gateway import WITHIN_S, alive

from processes import ROOT, running
from processes import server as command_of
from soak import launch
from soak.launch import Plan

Json: TypeAlias = dict[str, Any]

ORPHANS_WITHIN_S: Final = 6.0  # a server that does not end with its Bascule is ended within 5 s


class Life:
    """One process of Bascule."""

    def __init__(self, name: str, folder: Path) -> None:
        self.trail = folder / f"trail-{name}"
        self.log = folder / "log"
        self._words = ["serve", "-c", str(folder / "bascule.json"), "--port", "0"]
        self._process: Any = None
        self._bare: asyncio.subprocess.Process | None = None
        self._ended = asyncio.Event()

    async def start(self, point: str, nth: int, *, patient: bool = False) -> str:
        """Bring it up; its URL. It may die in between: then ""."""
        if point == "bare":
            return await self._start_bare()
        reader, writer = _FORKS.Pipe(duplex=False)
        plan = Plan(str(self.trail), point, nth, patient)
        self._process = _FORKS.Process(target=launch.run, args=(self._words, plan, writer, str(self.log)), daemon=True)
        self._process.start()
        writer.close()
        asyncio.get_running_loop().add_reader(self._process.sentinel, self._has_ended)
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(os.dup(reader.fileno()), "rb", 0)
        )
        reader.close()
        line = await _line(stream)
        transport.close()
        return line

    async def _start_bare(self) -> str:
        with self.log.open("ab") as log:
            self._bare = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bascule", *self._words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )
        assert self._bare.stdout is not None
        return await _line(self._bare.stdout)

    def _has_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._ended.set()

    @property
    def pid(self) -> int:
        found: int = self._bare.pid if self._bare is not None else self._process.pid
        return found

    def signal(self, number: signal.Signals) -> None:
        """To a process that has ended already, nothing."""
        if self._ended.is_set():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

    async def tasks(self) -> dict[str, int]:
        """How many tasks of each kind it has now."""
        known = len(list(self.marks()))
        self.signal(signal.SIGUSR1)
        async with asyncio.timeout(WITHIN_S):
            while len(marks := list(self.marks())) == known:  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.01)
        found: dict[str, int] = json.loads(marks[-1][1])
        return found

    async def ended(self, within_s: float = WITHIN_S) -> int:
        """How it ended: minus the signal. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            if self._bare is not None:
                return await self._bare.wait()
            await self._ended.wait()
        # It has a status by now. In another thread, somebody who starts a process would look for it at the same time.
        self._process.join()
        status: int = self._process.exitcode
        self._process.close()
        return status

    def mark(self, key: str, mark: str) -> None:
        """Note what the process itself cannot."""
        with self.trail.open("a") as trail:
            trail.write(f"{key} {mark}\n")

    def marks(self) -> Iterator[tuple[str, str]]:
        """(key, mark) of all that calls passed."""
        if self.trail.exists():
            for line in self.trail.read_text().splitlines():
                key, _, mark = line.partition(" ")
                yield key, mark


async def _line(stream: asyncio.StreamReader) -> str:
    async with asyncio.timeout(WITHIN_S):
        line = await stream.readline()
    return line.split()[0].decode().removesuffix("/mcp") if line else ""


_FORKS: Final = multiprocessing.get_context("forkserver")


def prepare_forks() -> None:
    """Start the process that all lives are forked from, which alone finds our modules by PYTHONPATH."""
    _FORKS.set_forkserver_preload(launch.PRELOADED)
    ours = [str(ROOT / "tests"), str(ROOT / "tests" / "behaviour"), *filter(None, [os.environ.get("PYTHONPATH")])]
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(ours)):
        forkserver.ensure_running()


class Bank:
    """The servers that outlive every Bascule, what they have executed, and what they say meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.count = folder / "executions"
        self.socket = folder / "tell"
        self.urls: dict[str, str] = {}
        self._watched: dict[str, Callable[[], None]] = {}  # by `executed ORDER`

    def command(self, era: str, *more: str) -> list[str]:
        return command_of("counting", era, "--count", str(self.count), "--tell", str(self.socket), *more)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Bank"]:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening.bind(str(self.socket))
        listening.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(listening, self._hear, listening)
        try:
            with contextlib.ExitStack() as stack:
                for era in ("modern", "plain"):
                    self.urls[era] = stack.enter_context(running(self.command(era, "--http")))
                yield self
        finally:
            loop.remove_reader(listening)
            listening.close()

    def _hear(self, listening: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while said := listening.recv(1024).decode():
                if (then := self._watched.pop(said, None)) is not None:
                    then()

    def when(self, said: str, then: Callable[[], None]) -> None:
        self._watched[said] = then

    def executions(self) -> Counter[str]:
        """How often each order was executed."""
        lines = self.count.read_text().splitlines() if self.count.exists() else []
        return Counter(order for _, order, _ in (line.split() for line in lines))

    async def orphans(self) -> list[int]:
        """The servers on pipes that are still there long after their Bascules."""
        deadline = asyncio.get_running_loop().time() + ORPHANS_WITHIN_S
        while (left := self._on_pipes()) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.05)
        return left

    def _on_pipes(self) -> list[int]:
        ours, elsewhere, found = os.fsencode(self.count), b"--http", list[int]()
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                words = each.read_bytes().split(b"\0")
                if ours in words and elsewhere not in words and alive(int(each.parent.name)):
                    found.append(int(each.parent.name))
        return found

    def config(self, setting: str, state: Path) -> Json:
        """The configuration of a Bascule with one server, such as "modern http"."""
        era, transport = setting.split()
        server: Json = {"era": "modern" if era == "modern" else "legacy"}
        if transport == "http":
            server |= {"url": self.urls[era]}
        else:
            command, *args = self.command(era)
            server |= {"command": command, "args": args, "stop_grace_s": 0.3}
        return {
            "servers": {"bank": server},
            "state_dir": str(state),
            "drain": {"delay_s": 0},
            "overload": {"max_lag_s": 60},  # on a busy machine, a refusal would say nothing about the journal
            "contracts": [
                {"tool": "bank/pay", "side_effect": True, "idempotent": False},
                {"tool": "bank/pay_idempotent", "side_effect": True, "idempotent": True},
            ],
        }
