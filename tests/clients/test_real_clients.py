"""Real clients, each in its own environment and process, list and call through a real Bascule."""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import environments
import pytest

from processes import BRIDGE, running_bascule, server

pytestmark = pytest.mark.clients

LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
REFUSED: Final = "refused"
TEXT: Final = "Zuglbrücke ⇅ 😀"
WITHIN_S: Final = 60

Reported: TypeAlias = dict[str, Any]


class Failed(Exception):
    """A client that ended with an error; the message is all that it printed."""


@dataclass(frozen=True)
class Script:
    """A script next to this file and the environment that it runs in."""

    name: str
    environment: str
    mode: str | None = None

    def __str__(self) -> str:
        return "-".join(filter(None, (self.environment, self.mode)))

    def reports(self, url: str, *options: str) -> Reported:
        script = str(Path(__file__).parent / f"{self.name}.py")
        mode = ["--mode", self.mode] if self.mode else []
        return run(environments.python(self.environment), script, url, *mode, *options)


@dataclass(frozen=True)
class Inspector:
    """The MCP Inspector: a process for each method, whose results make up the report."""

    era: str

    def __str__(self) -> str:
        return f"inspector-{self.era}"

    def reports(self, url: str) -> Reported:
        if not environments.can_make_node():
            pytest.skip("the inspector needs npm")
        options = ("--quiet", "--format", "json", "--protocol-era", self.era, "--transport", "http")
        with tempfile.TemporaryDirectory(prefix="inspector-") as home:

            def result(method: str, *more: str) -> Reported:
                command = (*environments.inspector(), *options, "--server-url", url, "--method", method, *more)
                said: Reported = run(*command, HOME=home)["result"]
                return said

            listed = result("tools/list")["tools"]
            called = result("tools/call", "--tool-name", "echo", "--tool-args-json", json.dumps({"text": TEXT}))
            return {
                "protocol": result("initialize")["protocolVersion"],  # what it calls so in either era
                "tools": [tool["name"] for tool in listed],
                "echo": called["content"][0]["text"],
            }


# What each upstream speaks, and for each client the version that it works at in front of it.
UPSTREAMS: Final[Mapping[str, str]] = {"plain": LEGACY, "modern": MODERN}
CLIENTS: Final[Mapping[Script | Inspector, tuple[str, str]]] = {
    Script("sdk1", "sdk1"): (LEGACY, REFUSED),
    Script("sdk2", "sdk2", "legacy"): (LEGACY, REFUSED),
    Script("sdk2", "sdk2", "auto"): (LEGACY, MODERN),
    Script("sdk2", "sdk2", MODERN): (REFUSED, MODERN),
    Script("fastmcp_client", "fastmcp", "legacy"): (LEGACY, REFUSED),
    Script("fastmcp_client", "fastmcp", "auto"): (LEGACY, MODERN),
    Script("fastmcp_client", "fastmcp", MODERN): (REFUSED, MODERN),
    Script("openai_agents_client", "openai_agents"): (LEGACY, MODERN),
    Script("langchain_client", "langchain"): (LEGACY, REFUSED),
    Inspector("legacy"): (LEGACY, REFUSED),
    Inspector("auto"): (LEGACY, MODERN),
    Inspector("modern"): (REFUSED, MODERN),
}


class Case(NamedTuple):
    """One cell of the table."""

    client: Script | Inspector
    upstream: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.client}-{self.upstream}-{self.outcome}"


CASES: Final = [
    Case(client, upstream, outcome)
    for client, outcomes in CLIENTS.items()
    for upstream, outcome in zip(UPSTREAMS, outcomes, strict=True)
]
WORKING: Final = [case for case in CASES if case.outcome != REFUSED]
CROSSING: Final = [case for case in CASES if case.outcome == REFUSED]

YES: Final = {"action": "accept", "content": {"answer": "yes to sure?"}}
EVERYTHING: Final[dict[str, Any]] = {
    "progress": [[1, 3], [2, 3], [3, 3]],
    "ask": {"answers": [YES, YES]},
    "sample": {"role": "assistant", "content": {"type": "text", "text": "said the model"}, "model": "test"},
    "roots": {"roots": [{"uri": "file:///tmp/root"}]},
    "prompts": ["greet"],
    "prompt": "Greet Bo in a formal way.",
    "resources": ["test://notes/1", "test://notes/2", "test://notes/3", "test://pixel"],
    "read": "test://notes/1, revision 1 ✓",
    "completion": ["friendly", "french"],
    "updated": "test://notes/1",
    "cancelled": 1,
    "logged": ["hello"],
}


@pytest.fixture(scope="module")
def urls() -> Iterator[Mapping[str, str]]:
    """One Bascule for each upstream, for all clients that only list and echo. The upstreams list in pages."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(running_bascule(*BRIDGE, *server(name, "--page-size", "5"))) for name in UPSTREAMS
        }


@pytest.mark.parametrize("case", WORKING, ids=str)
def test_lists_all_tools_and_gets_its_text_back(case: Case, urls: Mapping[str, str]) -> None:
    reported = case.client.reports(urls[case.upstream])
    assert reported["protocol"] == case.outcome
    assert reported["tools"][:2] == ["echo", "add"]
    assert "env" in reported["tools"]  # the last one: on a later page of the upstream
    assert reported["echo"] == TEXT


@pytest.mark.parametrize("case", CROSSING, ids=str)
def test_is_told_which_versions_would_work(case: Case, urls: Mapping[str, str]) -> None:
    """At once, and in words that the client passes on to the person; a client that hangs has other words."""
    spoken = UPSTREAMS[case.upstream]
    (other,) = set(UPSTREAMS.values()) - {spoken}
    told = (
        rf"server '{case.upstream}' speaks MCP {spoken}\b.*; this client speaks {other}, and Bascule does not translate"
    )
    with pytest.raises(Failed, match=told):
        case.client.reports(urls[case.upstream])


@pytest.mark.parametrize("case", [each for each in WORKING if str(each.client).startswith("sdk")], ids=str)
def test_loses_nothing_of_the_protocol(case: Case) -> None:
    """Progress, questions in mid-call, prompts, resources, updates, completion, cancellation, logs."""
    assert isinstance(case.client, Script)
    with running_bascule(*BRIDGE, *server(case.upstream)) as url:
        reported = case.client.reports(url, "--everything")
    assert reported["protocol"] == case.outcome
    assert {key: reported[key] for key in EVERYTHING} == EVERYTHING


def run(*command: str, **env: str) -> Reported:
    """What *command* printed as its one line of JSON."""
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=WITHIN_S,
        env={**os.environ, **env},
        check=False,
    )
    if ran.returncode:
        raise Failed(f"exited with {ran.returncode}\n{ran.stdout}\n{ran.stderr}")
    printed: Reported = json.loads(ran.stdout.splitlines()[-1])
    return printed
