"""Where the cases of group G are tried: the files pack behind Bascule, within its walls, and a folder beside its root.

A case is a path, or the URI of a resource, or a tool; it is tried with every use of a path that it does not leave out.
"""

import asyncio
import os
import socket
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from gateway import Bascule, Json, gateway, until

from bascule.store.files import FILE
from corpus import cases
from corpus.cases import Shape

CANARY: Final = "canary-outside-0c9e4f7a1b"
OUTSIDE: Final = "is not a path below the folder of this pack"

# Every argument that is a path, by what is done with it.
USES: Final[Mapping[str, tuple[str, Json]]] = {
    "read": ("read_file", {"path": "<PATH>"}),
    "base64": ("read_file", {"path": "<PATH>", "as": "base64"}),
    "list": ("list_folder", {"path": "<PATH>"}),
    "search": ("search_files", {"path": "<PATH>"}),
    "write": ("write_file", {"path": "<PATH>", "content": "mine", "make_folders": True}),
    "overwrite": ("write_file", {"path": "<PATH>", "content": "mine", "overwrite": True}),
    "make_folder": ("make_folder", {"path": "<PATH>"}),
    "move": ("move_file", {"path": "<PATH>", "to": "moved.txt"}),
    "move_to": ("move_file", {"path": "reports/q1.md", "to": "<PATH>", "make_folders": True}),
    "delete": ("delete_file", {"path": "<PATH>"}),
    "restore": ("restore_file", {"kept_as": ".trash/1/<PATH>"}),
    "moved_back": ("move_file", {"path": "moved.txt", "to": "<PATH>"}),
}
ROUND: Final = ("write", "read", "move", "moved_back", "list", "delete")  # the life of a file; `list` fails on one
ALL: Final = tuple(use for use in USES if use != "moved_back")


class Expected(Shape, frozen=True):
    """The one outcome of every call: a refusal that *says* so, one of this *kind*, an error, or a result."""

    says: str = ""
    kind: str = ""
    code: int | None = None
    result: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if sum((bool(self.says), bool(self.kind), self.code is not None, self.result is not None)) != 1:
            raise ValueError("an outcome is one of says, kind, code, result")


class Case(Shape, frozen=True):
    id: str
    title: str
    why: str
    expect: Expected
    path: cases.Piece = None
    uri: str = ""
    tool: str = ""
    over: Sequence[str] = ALL
    links: Mapping[str, str] = msgspec.field(default_factory=dict)  # name in the root -> target
    hard: Mapping[str, str] = msgspec.field(default_factory=dict)  # name in the root -> name outside
    special: bool = False  # there are a FIFO and a socket

    def __post_init__(self) -> None:
        if sum((self.path is not None, bool(self.uri), bool(self.tool))) != 1:
            raise ValueError(f"{self.id}: a case is about a path, a uri or a tool")
        if unknown := set(self.over) - {*USES, "round"}:
            raise ValueError(f"{self.id}: no use {', '.join(unknown)}")


def read(name: str) -> Sequence[Case]:
    """The cases of one file. Raises ValueError if it says anything that no case can say."""
    return cases.told(name, Case)


class Ground:
    """A Bascule with the files pack; the root, and what stands beside it."""

    def __init__(self, bascule: Bascule, top: Path) -> None:
        self.bascule = bascule
        self.top = top
        self.root = top / "root"
        self.outside = top / "outside"
        self.traces: list[str] = []

    def worded(self, said: Any) -> Any:
        """*said* with the words for the two folders replaced."""
        if isinstance(said, str):
            return said.replace("<ROOT>", str(self.root)).replace("<OUTSIDE>", str(self.outside))
        if isinstance(said, Mapping):
            return {name: self.worded(value) for name, value in said.items()}
        return said

    async def call(self, tool: str, arguments: Json) -> Json:
        """The whole answer."""
        params = {"name": f"files__{tool}", "arguments": arguments}
        return self._traced(await self.bascule.modern().ask("tools/call", params))

    async def read(self, uri: str) -> Json:
        return self._traced(await self.bascule.modern().ask("resources/read", {"uri": uri}))

    def _traced(self, answer: Json) -> Json:
        said = answer.get("result", {}).get("_meta", {})
        told = said.get("dev.bascule/call") or said.get("dev.bascule/error") or answer["error"]["data"]
        self.traces.append(told["trace_id"])
        return answer

    async def pids(self) -> list[int]:
        found: list[int] = (await self.bascule.server("files"))["pids"]
        return found

    def trees(self) -> dict[str, object]:
        """All there is, with the content of files, the targets of links and the number of names."""
        return {str(path.relative_to(self.top)): _what(path) for path in self.top.rglob("*")}

    @contextmanager
    def laid(self, case: Case) -> Iterator[None]:
        """What *case* wants to stand in the root, and no longer."""
        with ExitStack() as stack:
            for name, target in self.worded(case.links).items():
                (self.root / name).symlink_to(target)
                stack.callback((self.root / name).unlink)
            for name, target in case.hard.items():
                os.link(self.outside / target, self.root / name)
                stack.callback((self.root / name).unlink)
            if case.special:
                os.mkfifo(self.root / "fifo")
                stack.callback((self.root / "fifo").unlink)
                bound = stack.enter_context(socket.socket(socket.AF_UNIX))
                bound.bind(str(self.root / "socket"))
                stack.callback((self.root / "socket").unlink)
            yield

    async def audited(self) -> list[int]:
        """How many records the audit has of each call that was answered with a trace."""
        assert self.bascule.gateway is not None
        state = Path(self.bascule.gateway.config.state_dir)

        def look() -> list[int]:
            with closing(sqlite3.connect(state / FILE)) as audit:
                found = Counter(trace for (trace,) in audit.execute("SELECT trace_id FROM audit WHERE kind = 'call'"))
            return [found[trace] for trace in self.traces]

        return await asyncio.to_thread(look)


def _what(path: Path) -> object:
    if path.is_symlink():
        return path.readlink()
    return (path.read_bytes(), path.stat().st_nlink) if path.is_file() else None


@asynccontextmanager
async def ground(top: Path) -> AsyncIterator[Ground]:
    """The ground below *top*. Nobody is asked here: what a gate holds back, the pack has to refuse by itself."""
    for folder in ("root/reports", "root-twin", "outside"):
        (top / folder).mkdir(parents=True)
    for name in ("root-twin/key.txt", "outside/key.txt"):
        (top / name).write_text(CANARY)
    for name in ("a.txt", "reports/q1.md", "mục lục.txt"):
        (top / "root" / name).write_text("inside")
    settings = {"root": str(top / "root"), "trash": False}
    servers = {"files": {"pack": "files", "sandbox": "required", "settings": settings}}
    rules = {"rules": [{"match": "files/*", "confirm_gate": False, "rate_limit": "100000/minute"}]}
    async with gateway(servers, policy=rules) as bascule:
        await bascule.up("files")
        yield (place := Ground(bascule, top))
        await until(place.audited, lambda times: set(times) == {1})
