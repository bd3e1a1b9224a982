"""Where the cases of group F are tried: the database pack behind Bascule, on SQLite and on a real PostgreSQL.

The SQLite ground holds a database with a few traps in its schema, in a folder that is looked at whole. The one of
PostgreSQL is a server of its own (tests/packs/database/postgres.py), asked through Bascule and, as `bare`, without
the look at the statement that comes first, so that each wall is known to hold alone.
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec
from gateway import Bascule, Json, gateway

from bascule.packs.database import sample
from bascule.packs.pack import ToolFailed
from corpus import cases
from corpus.cases import Shape
from packs.database.postgres import Postgres

Engine: TypeAlias = Literal["sqlite", "postgres", "bare"]

TIMEOUT_S: Final = 1.5
CANARY_FILES: Final = ("canary.db", "canary.txt", "/tmp/canary", "/tmp/canary-f04", "/tmp/canary-f04.csv", "/tmp/x.so")
RSS_AT_MOST_BYTES: Final = 300 * 1024 * 1024  # of any process of the pack's, at its highest

_TRAPS: Final = """
CREATE VIEW trap_tokenizer AS SELECT hex(fts3_tokenizer('simple')) AS x;
CREATE VIEW trap_extension AS SELECT load_extension('/tmp/x.so') AS x;
CREATE VIEW trap_pragma AS SELECT * FROM pragma_database_list;
CREATE VIEW trap_endless AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) AS x FROM c;
CREATE TABLE bascule_keys (key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, result TEXT NOT NULL) WITHOUT ROWID;
"""


class Expected(Shape, frozen=True):
    """The one outcome: a refusal that *says* so, one of this *kind*, or a result."""

    says: str = ""
    kind: str = ""
    rows: Sequence[Mapping[str, Any]] | None = None
    row_count: int | None = None
    truncated: bool = False

    def __post_init__(self) -> None:
        if sum((bool(self.says), bool(self.kind), self.rows is not None, self.row_count is not None)) != 1:
            raise ValueError("an outcome is one of says, kind, rows, row_count")


class Case(Shape, frozen=True):
    id: str
    title: str
    why: str
    query: cases.Piece
    expect: Mapping[Engine, Expected]
    within_s: float = 5.0


def read(name: str) -> Sequence[Case]:
    """The cases of one file. Raises ValueError if it says anything that no case can say."""
    return cases.told(name, Case)


class Ground:
    """A Bascule with both databases, and what may not change."""

    def __init__(self, bascule: Bascule, folder: Path, server: Postgres | None) -> None:
        self.bascule = bascule
        self.folder = folder
        self.server = server

    async def ask(self, engine: Engine, query: str) -> Json:
        """The result of the tool; of one that refuses, the words, and the kind if it was Bascule that did."""
        query = query.replace("<FOLDER>", str(self.folder))
        if engine == "bare":
            return await self._bare(query)
        name = "shop" if engine == "sqlite" else "books"
        params = {"name": f"{name}__query_database", "arguments": {"query": query}}
        result: Json = (await self.bascule.modern().ask("tools/call", params))["result"]
        return result

    async def _bare(self, query: str) -> Json:
        from bascule.packs.database.found import Limits
        from bascule.packs.database.options import PostgresOptions
        from bascule.packs.database.postgres import PostgresStore

        assert self.server is not None
        options = msgspec.convert(self.server.settings(), PostgresOptions)
        limits = Limits(1000, 10_000, 1_000_000)
        store = PostgresStore(
            options, limits=limits, timeout_s=TIMEOUT_S, inserts=(), descriptions={}, looks_before=False
        )
        try:
            found = await store.query(query)
        except ToolFailed as error:
            return {"isError": True, "content": [{"type": "text", "text": str(error)}]}
        return {"structuredContent": msgspec.to_builtins(found)}

    async def digest(self, engine: Engine) -> object:
        """All that a case could change."""
        assert _strays() == []
        if engine != "sqlite":
            assert self.server is not None
            return await asyncio.to_thread(self.server.digest)
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.folder.iterdir()}

    async def pids(self, engine: Engine) -> list[int]:
        found: list[int] = (await self.bascule.server("shop" if engine == "sqlite" else "books"))["pids"]
        return found


def _strays() -> list[str]:
    return [name for name in CANARY_FILES if Path(name).exists()]


def rss_bytes(pid: int) -> int:
    """How large the process and each of its children have been, the largest of them."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return max([own, *(rss_bytes(int(child)) for child in children)])


@asynccontextmanager
async def ground(folder: Path, server: Postgres | None) -> AsyncIterator[Ground]:
    """The ground in *folder*; without a *server* there is only SQLite."""
    file = folder / "shop.sqlite"
    await asyncio.to_thread(_lay, file)
    settings: Json = {"sqlite": str(file), "timeout_s": TIMEOUT_S}
    servers: Json = {"shop": {"pack": "database", "sandbox": "required", "settings": settings}}
    if server is not None:
        books = {"postgres": server.settings(), "timeout_s": TIMEOUT_S}
        servers["books"] = {"pack": "database", "sandbox": "required", "settings": books}
    rules = {"rules": [{"match": "*", "rate_limit": "100000/minute"}]}
    async with AsyncExitStack() as stack:
        bascule = await stack.enter_async_context(gateway(servers, policy=rules))
        await bascule.up(*servers)
        yield Ground(bascule, folder, server)


def _lay(file: Path) -> None:
    sample.ensure(file)
    connection = sqlite3.connect(file)
    connection.executescript(_TRAPS)
    connection.close()
