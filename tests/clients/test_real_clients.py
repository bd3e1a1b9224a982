"""Real clients, each in its own environment and process, list and call through a real Bascule."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import environments
import pytest

from processes import BRIDGE, running_bascule, server

pytestmark = pytest.mark.clients

LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
TEXT: Final = "Zuglbrücke ⇅ 😀"
WITHIN_S: Final = 60
UPSTREAMS: Final = ("plain", "modern")


@dataclass(frozen=True)
class Client:
    """A client script, where it runs, and the revision that it must end up with."""

    script: str
    environment: str
    protocol: str
    mode: str | None = None

    def __str__(self) -> str:
        return "-".join(filter(None, (self.environment, self.mode)))

    def reports(self, url: str, *options: str) -> dict[str, Any]:
        script = str(Path(__file__).parent / f"{self.script}.py")
        mode = ["--mode", self.mode] if self.mode else []
        return run(environments.python(self.environment), script, url, *mode, *options)


CLIENTS: Final = (
    Client("sdk1", "sdk1", LEGACY),
    Client("sdk2", "sdk2", LEGACY, "legacy"),
    Client("sdk2", "sdk2", MODERN, "auto"),
    Client("sdk2", "sdk2", MODERN, MODERN),
    Client("fastmcp_client", "fastmcp", LEGACY, "legacy"),
    Client("fastmcp_client", "fastmcp", MODERN, "auto"),
    Client("openai_agents_client", "openai_agents", MODERN),
    Client("langchain_client", "langchain", LEGACY),
)

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


@pytest.fixture(scope="module", params=UPSTREAMS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """One Bascule for all clients that only list and echo. The upstream lists in pages."""
    with running_bascule(*BRIDGE, *server(request.param, "--page-size", "5")) as url:
        yield url


@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_lists_all_tools_and_gets_its_text_back(client: Client, url: str) -> None:
    reported = client.reports(url)
    assert reported["protocol"] == client.protocol
    assert reported["tools"][:2] == ["echo", "add"]
    assert "env" in reported["tools"]  # the last one: on a later page of the upstream
    assert reported["echo"] == TEXT


@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
def test_the_inspector_lists_all_tools_and_gets_its_text_back(era: str, url: str, tmp_path: Path) -> None:
    if not environments.can_make_node():
        pytest.skip("the inspector needs npm")
    command = [*environments.inspector(), "--quiet", "--format", "json", "--protocol-era", era]
    command += ["--transport", "http", "--server-url", url, "--method"]
    listed = run(*command, "tools/list", HOME=str(tmp_path))["result"]["tools"]
    assert {"echo", "env"} <= {tool["name"] for tool in listed}
    arguments = json.dumps({"text": TEXT})
    called = run(*command, "tools/call", "--tool-name", "echo", "--tool-args-json", arguments, HOME=str(tmp_path))
    assert called["result"]["content"] == [{"type": "text", "text": TEXT}]


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", [each for each in CLIENTS if each.script.startswith("sdk")], ids=str)
def test_loses_nothing_of_the_protocol(client: Client, upstream: str) -> None:
    """Progress, questions in mid-call, prompts, resources, updates, completion, cancellation, logs."""
    with running_bascule(*BRIDGE, *server(upstream)) as url:
        reported = client.reports(url, "--everything")
    assert {key: reported[key] for key in EVERYTHING} == EVERYTHING


def run(*command: str, **env: str) -> dict[str, Any]:
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
    assert ran.returncode == 0, f"exited with {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    printed: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return printed
