"""Every client on every server: what works between a client and a server of one era works through Bascule in all.

A cell is a client, its way to Bascule, and a server with the way to it. Each cell is run once, with a Bascule of its
own: the client tries every feature that it has and prints a report, which the tests then read, a feature at a time.
The cells without Bascule show that what is expected is what the two say to each other.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import environments
import features
import pytest
from real import LEGACY, MODERN, Failed, Inspector, Report, Script, Way

from processes import ROOT, running, running_bascule, server

pytestmark = pytest.mark.clients

Client: TypeAlias = Script | Inspector

SDK1: Final = Script("sdk1", "sdk1")
SDK2_LEGACY: Final = Script("sdk2", "sdk2", "legacy")
SDK2_MODERN: Final = Script("sdk2", "sdk2", MODERN)
FASTMCP_LEGACY: Final = Script("fastmcp_client", "fastmcp", "legacy")
FASTMCP_MODERN: Final = Script("fastmcp_client", "fastmcp", MODERN)
INSPECTOR_LEGACY: Final = Inspector("legacy")
INSPECTOR_MODERN: Final = Inspector("modern")

SCRIPTS: Final = (SDK1, SDK2_LEGACY, FASTMCP_LEGACY, SDK2_MODERN, FASTMCP_MODERN)
LEGACY_CLIENTS: Final = (SDK1, SDK2_LEGACY, FASTMCP_LEGACY, INSPECTOR_LEGACY)


class Upstream(NamedTuple):
    """A server of tests/servers and how Bascule, or a client without it, reaches that."""

    name: str
    transport: str
    revision: str | None = None  # the newest that it speaks, if not that of its era

    def __str__(self) -> str:
        return ".".join(filter(None, (self.name, self.revision, self.transport)))

    @property
    def options(self) -> tuple[str, ...]:
        """Its command line. It lists in pages."""
        return ("--page-size", "5", *(("--revision", self.revision) if self.revision else ()))


PLAIN: Final = tuple(Upstream("plain", transport) for transport in ("stdio", "http", "sse"))
_ECHO, *_ARGS = server("hostile", "--mode", "silent")
OTHER: Final = {"other": {"command": _ECHO, "args": _ARGS}}  # a legacy server with one tool


class Cell(NamedTuple):
    """`door` is the client's way: http or sse to the server alone, all for /mcp, bridge; None leaves Bascule out."""

    client: Client
    door: str | None
    upstream: Upstream

    def __str__(self) -> str:
        return f"{self.client}-{self.door or 'alone'}-{self.upstream}"


STDIO: Final = (Upstream("plain", "stdio"), Upstream("modern", "stdio"))
OLD: Final = (Upstream("plain", "http", "2025-06-18"), Upstream("plain", "sse", "2024-11-05"))
UPSTREAMS: Final = (*PLAIN, Upstream("modern", "stdio"), Upstream("modern", "http"))
CELLS: Final = (
    *(Cell(client, "http", upstream) for client in SCRIPTS for upstream in UPSTREAMS),
    *(Cell(client, "http", upstream) for client in (INSPECTOR_LEGACY, INSPECTOR_MODERN) for upstream in STDIO),
    *(
        Cell(client, "all", each)
        for client in (SDK1, SDK2_LEGACY, SDK2_MODERN)
        for each in UPSTREAMS
        if each != PLAIN[2]
    ),
    *(Cell(client, "http", upstream) for client in (SDK1, SDK2_MODERN) for upstream in OLD),
    *(Cell(client, "sse", upstream) for client in (SDK1, SDK2_LEGACY) for upstream in STDIO),
    *(Cell(client, "bridge", upstream) for client in (SDK1, SDK2_LEGACY, SDK2_MODERN) for upstream in STDIO),
)
ALONE: Final = (
    *(Cell(client, None, upstream) for client in (SDK1, SDK2_LEGACY) for upstream in PLAIN),
    Cell(FASTMCP_LEGACY, None, Upstream("plain", "http")),
    Cell(SDK2_MODERN, None, Upstream("modern", "stdio")),
    Cell(SDK2_MODERN, None, Upstream("modern", "http")),
    Cell(FASTMCP_MODERN, None, Upstream("modern", "http")),
    Cell(INSPECTOR_LEGACY, None, Upstream("plain", "http")),
    Cell(INSPECTOR_MODERN, None, Upstream("modern", "http")),
)

# What a client has no way to do, and why: no cell has it.
NOBODY_ASKED: Final = "one command is one request; it declares neither elicitation nor sampling"
RESULT_ONLY: Final = "prints the result of a request, nothing that comes before or besides it"
INSPECTOR_CANNOT: Final = {
    "unknown_tool": "looks for the tool in the list and does not call it",
    "unknown_resource": "prints the message of an error, but not its code",
    "completion": "not one of the methods of a single command",
    "prompt_that_asks": NOBODY_ASKED,
    "question": NOBODY_ASKED,
    "declined_question": NOBODY_ASKED,
    "questions_in_a_row": NOBODY_ASKED,
    "questions_at_once": NOBODY_ASKED,
    "url_question": NOBODY_ASKED,
    "url_first": NOBODY_ASKED,
    "sampling": NOBODY_ASKED,
    "progress": RESULT_ONLY,
    "log_level": RESULT_ONLY,
    "list_changed": RESULT_ONLY,
    "resource_updated": RESULT_ONLY,
    "cancel": "nothing but the end of its process takes a call back",
}
CANNOT: Final[Mapping[Client, dict[str, str]]] = {
    SDK1: {},
    SDK2_LEGACY: {},
    SDK2_MODERN: {},
    FASTMCP_LEGACY: {"resource_updated": "has no method to subscribe to a resource"},
    FASTMCP_MODERN: dict.fromkeys(("list_changed", "resource_updated"), "has no subscriptions/listen"),
    INSPECTOR_LEGACY: INSPECTOR_CANNOT,
    INSPECTOR_MODERN: INSPECTOR_CANNOT,
}
DOOR_CANNOT: Final[Mapping[str, dict[str, str]]] = {
    "all": {"prompt_that_asks": "the server does not list that prompt, and /mcp knows what is listed"},
}
ELICITATION: Final = dict.fromkeys(
    ("prompt_that_asks", "question", "declined_question", "questions_in_a_row", "questions_at_once"),
    "elicitation came with 2025-06-18",
)
URLS: Final = dict.fromkeys(("url_question", "url_first"), "URLs in elicitation came with 2025-11-25")
REVISION_CANNOT: Final[Mapping[str, dict[str, str]]] = {
    "2025-06-18": URLS,
    "2024-11-05": URLS | ELICITATION | {"structured": "structured content came with 2025-06-18"},
}


def yes(question: str) -> Report:
    return {"action": "accept", "content": {"answer": f"yes to {question}"}}


SAMPLE: Final = {
    "role": "assistant",
    "content": {"type": "text", "text": features.SAID},
    "model": features.MODEL,
}
ROOTS: Final = {"roots": [{"uri": features.ROOT}]}
NOTE_BEFORE: Final = "test://notes/1, revision 1 ✓"
EXPECTED: Final[Mapping[str, Any]] = {
    "echo": features.TEXT,
    "structured": {"sum": 3},
    "failure": [True, "no luck"],
    "unknown_tool": -32602,
    "prompts": ["greet", "Greet Bo in a formal way."],
    "prompt_that_asks": "Greet yes to whom?.",
    "resources": [*(f"test://notes/{n}" for n in (1, 2, 3)), "test://pixel", "test://notes/{number}"],
    "reading": ["test://notes/2, revision 1 ✓", "R0lGODlhAQABAAAAADs="],
    "unknown_resource": -32602,
    "completion": [["friendly", "french"], ["1", "2", "3"]],
    "progress": [[1, 3, "step 1"], [2, 3, "step 2"], [3, 3, "step 3"]],
    "log_level": ["said"],
    "question": {"answers": [yes("sure?")]},
    "declined_question": {"answers": [{"action": "decline"}]},
    "questions_in_a_row": {"answers": [yes("still?")] * 3},
    "questions_at_once": {"one": yes("one?"), "other": yes("other?"), "said": SAMPLE, "roots": ROOTS},
    "url_question": [{"action": "accept"}, [features.PAGE]],
    "url_first": [[features.PAGE], f"welcome back from {features.PAGE}"],
    "sampling": SAMPLE,
    "roots": ROOTS,
    "list_changed": [features.NEWS],
    "resource_updated": [NOTE_BEFORE, NOTE_BEFORE.replace("revision 1", "revision 2")],
    "cancel": 1,
}


def expected(cell: Cell, feature: str) -> Any:
    match feature:
        case "unknown_resource" if cell.client in LEGACY_CLIENTS:
            return -32002  # the code of 2025-11-25; its successor has another
        case "log_level" if cell.client == FASTMCP_MODERN:
            return ["whispered", "said"]  # it asks for everything, with each request, and has its handler choose
        case "prompts" if cell.door == "all":
            return ["up__greet", *EXPECTED[feature][1:]]
    return EXPECTED[feature]


def features_of(cell: Cell) -> Iterator[str]:
    cannot = (
        CANNOT[cell.client]
        | DOOR_CANNOT.get(cell.door or "", {})
        | REVISION_CANNOT.get(cell.upstream.revision or "", {})
    )
    return (feature for feature in EXPECTED if feature not in cannot)


Case: TypeAlias = tuple[Cell, str]
CASES: Final = [(cell, feature) for cell in (*ALONE, *CELLS) for feature in features_of(cell)]


@dataclass(frozen=True)
class Reports:
    """The report of each cell, made by whichever of parallel test runners is the first to want it."""

    folder: Path
    cells: Sequence[Cell]

    def __getitem__(self, cell: Cell) -> Report:
        if not self._file(cell).exists() and not self._make(cell, wait=False):
            for other in self.cells:  # while another runner makes this one
                if not self._file(other).exists() and self._make(other, wait=False):
                    break
            self._make(cell, wait=True)
        found: Report = json.loads(self._file(cell).read_text())
        return found

    def _make(self, cell: Cell, *, wait: bool) -> bool:
        """Whether the report is there now. It is not if others are at it and this may not wait."""
        try:
            with environments.locked(self.folder / f"{cell}.lock", wait=wait):
                if not (file := self._file(cell)).exists():
                    file.with_suffix(".new").write_text(json.dumps(run(cell)))
                    file.with_suffix(".new").rename(file)
        except BlockingIOError:
            return False
        return True

    def _file(self, cell: Cell) -> Path:
        return self.folder / f"{cell}.json"


@pytest.fixture(scope="session")
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    wanted = {item.callspec.params.get("cell"): None for item in request.session.items if hasattr(item, "callspec")}
    return Reports(folder, [cell for cell in wanted if cell is not None])


def run(cell: Cell) -> Report:
    """What the client of *cell* reports; one that could not even start reports why, for every feature."""
    try:
        with way(cell.door, cell.upstream) as there:
            return cell.client.report(there, everything=True)
    except Failed as error:
        return {"protocol": None, "features": {}, "failed": str(error)}


@contextmanager
def way(door: str | None, upstream: Upstream, **more: Any) -> Iterator[Way]:
    """To a new *upstream*, with *more* configuration, through *door* of a new Bascule, or without one."""
    with ExitStack() as stack:
        if upstream.transport == "stdio":
            there = server(upstream.name, *upstream.options)
        else:
            there = [stack.enter_context(running(web_server(upstream)))]
        if door is None:
            yield Way(there, upstream.transport)
            return
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="matrix-"))
        file = Path(folder) / "bascule.json"
        # Its tools change while it runs, and clients have to hear of it at once.
        trusted = {"trust": "auto", **more}
        servers = {"up": entry(upstream, there) | trusted} | (OTHER if door == "all" else {})
        file.write_text(json.dumps({"servers": servers}))
        url = stack.enter_context(running_bascule("serve", "-c", str(file), "--port", "0"))
        alone = url.removesuffix("/mcp") + "/servers/up"
        match door:
            case "all":
                yield Way([url], prefix="up__")
            case "bridge":
                yield Way([sys.executable, "-m", "bascule", "bridge", f"{alone}/mcp"], "stdio")
            case "sse":
                yield Way([f"{alone}/sse"], "sse")
            case _:
                yield Way([f"{alone}/mcp"])


def web_server(upstream: Upstream) -> list[str]:
    if upstream.transport == "sse":
        return [environments.python("sdk1"), str(ROOT / "tests" / "clients" / "sse_server.py"), *upstream.options]
    return server("web", upstream.name, *upstream.options)


def entry(upstream: Upstream, there: list[str]) -> dict[str, Any]:
    """The server in Bascule's configuration."""
    match upstream.transport:
        case "stdio":
            command, *args = there
            return {"command": command, "args": args}
        case "sse":
            return {"url": there[0], "transport": "sse"}
    return {"url": there[0]}


@pytest.mark.parametrize("cell", [*ALONE, *CELLS], ids=str)
def test_version_and_every_page_of_the_list(cell: Cell, reports: Reports) -> None:
    report = reports[cell]
    assert "failed" not in report, report["failed"]
    assert report["protocol"] == ((cell.upstream.revision or LEGACY) if cell.client in LEGACY_CLIENTS else MODERN)
    prefix = "up__" if cell.door == "all" else ""
    tools = [name.removeprefix(prefix) for name in report["features"]["tools"]["got"] if name.startswith(prefix)]
    assert [*tools[:2], tools[-1]] == ["echo", "add", "params"]
    assert len(set(tools)) == len(tools)


@pytest.mark.parametrize(("cell", "feature"), CASES, ids=str)
def test_works(cell: Cell, feature: str, reports: Reports) -> None:
    report = reports[cell]
    assert "failed" not in report, report["failed"]
    assert report["features"][feature] == {"got": expected(cell, feature)}


class Crowd(NamedTuple):
    """Clients of one Bascule at the same time, and what else its configuration says of the server."""

    upstream: Upstream
    clients: Sequence[Script]
    more: Mapping[str, Any]

    def __str__(self) -> str:
        return "-".join((str(self.upstream), *self.more.values()))


# A process for all cannot say in which of two calls it asks; with more of them, no stateless client knows its own.
CROWDS: Final = (
    Crowd(Upstream("plain", "stdio"), (SDK1, SDK2_LEGACY, FASTMCP_LEGACY), {"sharing": "per_session"}),
    Crowd(Upstream("plain", "http"), SCRIPTS, {}),
    Crowd(Upstream("modern", "http"), SCRIPTS, {}),
)


@pytest.mark.parametrize("crowd", CROWDS, ids=str)
def test_nobody_gets_what_is_meant_for_another(crowd: Crowd) -> None:
    with way("http", crowd.upstream, **crowd.more) as there, ThreadPoolExecutor(len(crowd.clients)) as pool:
        reports = list(pool.map(lambda client: client.report(there, everything=True), crowd.clients))
    wrong = {}
    for client, report in zip(crowd.clients, reports, strict=True):
        cell = Cell(client, "http", crowd.upstream)
        for feature in features_of(cell):
            found = report["features"][feature]
            match feature, found.get("got"):
                case "resource_updated", [before, after]:  # by others too
                    right = before != after
                case "cancel", int(calls):  # of others too
                    right = calls >= 1
                case "url_first", [_, said]:  # others may have been there before
                    right = said == expected(cell, feature)[1]
                case _:
                    right = found == {"got": expected(cell, feature)}
            if not right:
                wrong[str(client), feature] = found
    assert wrong == {}
