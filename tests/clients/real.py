"""Real clients as tests use them: a process each, in the environment of that client, which prints one JSON report."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import environments
import features
import pytest

LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
WITHIN_S: Final = 240  # for a client that cannot even time out
TOOL_FAILED: Final = 5  # how the inspector exits then

Report: TypeAlias = dict[str, Any]


class Failed(Exception):
    """A client that ended with an error; the message is all that it printed."""


class Way(NamedTuple):
    """Where a client goes, and by which transport; *prefix* is what names begin with there."""

    where: Sequence[str]
    transport: str = "http"
    prefix: str = ""


@dataclass(frozen=True)
class Script:
    """A script next to this file and the environment that it runs in."""

    name: str
    environment: str
    mode: str | None = None

    def __str__(self) -> str:
        return "-".join(filter(None, (self.environment, self.mode)))

    def report(self, way: Way, *, everything: bool = False) -> Report:
        """What came of *everything*, or of the list and one call."""
        script = str(Path(__file__).parent / f"{self.name}.py")
        mode = ("--mode", self.mode) if self.mode else ()
        options = (*mode, *(("--everything",) if everything else ()), "--prefix", way.prefix)
        command = (environments.python(self.environment), script, *options, "--transport", way.transport)
        with tempfile.TemporaryDirectory(prefix="client-") as home:
            report: Report = run((*command, "--", *way.where), home)
            return report


@dataclass(frozen=True)
class Inspector:
    """The MCP Inspector's command line: a process for each method, whose results make up the report."""

    era: str

    def __str__(self) -> str:
        return f"inspector-{self.era}"

    def report(self, way: Way, *, everything: bool = False) -> Report:
        assert way.transport == "http"
        if not environments.can_make_node():
            pytest.skip("the inspector needs npm")
        with tempfile.TemporaryDirectory(prefix="inspector-") as home:
            entry = {"type": "streamable-http", "url": way.where[0], "protocolEra": self.era}
            file = Path(home) / "servers.json"
            file.write_text(json.dumps({"mcpServers": {"it": entry | {"roots": [{"uri": features.ROOT}]}}}))
            exercise = InspectorExercise(str(file), home)
            names = features.BASICS + (features.EVERYTHING if everything else ())
            tried = {name: exercise.tried(name) for name in names if hasattr(exercise, name)}
            return {"protocol": exercise.result("initialize")["protocolVersion"], "features": tried}


@dataclass(frozen=True)
class InspectorExercise:
    """Each of features.EVERYTHING that one command can do, by that name."""

    servers: str
    home: str

    def tried(self, name: str) -> Report:
        try:
            return {"got": getattr(self, name)()}
        except Failed as error:
            return {"failed": str(error)}

    def result(self, method: str, *options: str, status: int = 0) -> Any:
        chosen = ("--quiet", "--format", "json", "--config", self.servers, "--server", "it", "--method", method)
        return run((*environments.inspector(), *chosen, *options), self.home, status)["result"]

    def call(self, name: str, /, *, status: int = 0, **arguments: Any) -> Any:
        options = ("--tool-name", name, "--tool-args-json", json.dumps(arguments))
        return self.result("tools/call", *options, status=status)

    def tools(self) -> list[str]:
        return [tool["name"] for tool in self.result("tools/list")["tools"]]

    def echo(self) -> Any:
        return self.call("echo", text=features.TEXT)["content"][0]["text"]

    def structured(self) -> Any:
        return self.call("add", a=1, b=2)["structuredContent"]

    def failure(self) -> list[Any]:
        result = self.call("fail", reason="no luck", status=TOOL_FAILED)
        return [result["isError"], result["content"][0]["text"]]

    def prompts(self) -> list[Any]:
        listed = [prompt["name"] for prompt in self.result("prompts/list")["prompts"]]
        got = self.result("prompts/get", "--prompt-name", "greet", "--prompt-args", "name=Bo")
        return [*listed, got["messages"][0]["content"]["text"]]

    def resources(self) -> list[str]:
        listed = [resource["uri"] for resource in self.result("resources/list")["resources"]]
        templates = self.result("resources/templates/list")["resourceTemplates"]
        return [*listed, *(template["uriTemplate"] for template in templates)]

    def reading(self) -> list[str]:
        note = self.result("resources/read", "--uri", "test://notes/2")["contents"][0]["text"]
        return [note, self.result("resources/read", "--uri", "test://pixel")["contents"][0]["blob"]]

    def roots(self) -> Any:
        return json.loads(self.call("roots")["content"][0]["text"])


def run(command: Sequence[str], home: str, status: int = 0) -> Any:
    """What *command* printed as its last line, which is JSON; *status* is how it has to exit."""
    at_home = {"HOME": home, "XDG_STATE_HOME": f"{home}/state", "XDG_CONFIG_HOME": f"{home}/config"}
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=WITHIN_S,
            env={**os.environ, **at_home},
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise Failed(f"did not end within {WITHIN_S} s\n{late.stdout!r}\n{late.stderr!r}") from None
    if ran.returncode != status or not ran.stdout:
        raise Failed(f"exited with {ran.returncode}\n{ran.stdout}\n{ran.stderr}")
    return json.loads(ran.stdout.splitlines()[-1])
