"""How it starts: the first line, the names of unnamed servers, help, completion, and how soon it is there."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from typing import Any

import pytest
from command import BASCULE, bascule

from bascule.cli.serve import named_after
from processes import BRIDGE, running, running_bascule, server

RUNTIME = (
    *("aiohttp", "msgspec", "uvicorn", "uvloop", "yaml", "sqlalchemy", "alembic", "cel", "joserfc", "jsonschema_rs"),
    *("bascule.app", "bascule.call"),
)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("npx -y @modelcontextprotocol/server-everything", "everything"),
        ("npx -y @playwright/mcp@latest", "mcp"),
        ("uvx mcp-server-time --local-timezone=UTC", "time"),
        ("uvx github-mcp-server", "github"),
        ("python3 /opt/tools/weather.py", "weather"),
        ("python -m mcp_server_git", "mcp_server_git"),
        ("node dist/index.js", "index"),
        ("docker run -i --rm mcp/fetch", "run"),
        ("/usr/local/bin/my-server", "my"),
        ("node", "node"),
        ("./ü", "server"),
    ],
)
def test_a_server_without_a_name_gets_one_from_its_command(command: str, name: str) -> None:
    assert named_after(command.split()) == name


def test_the_first_line_is_the_url_and_what_to_paste_into_a_client() -> None:
    with running([*BASCULE, *BRIDGE, *server("plain")]) as line:
        url = line.split()[0]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/mcp", url)
        assert line == f"{url}  ready; add it with: claude mcp add --transport http plain {url}"


def test_named_servers_share_one_url_and_have_one_each() -> None:
    command = " ".join(server("plain"))
    with running_bascule("run", "--port", "0", "-s", f"a={command}", "-s", f"b={command}") as url:
        assert set(_status(url)["servers"]) == {"a", "b"}
        assert bascule("call", url, "b/echo", "-a", "text=b").out == "b\n"
        assert bascule("call", url.replace("/mcp", "/servers/a/mcp"), "echo", "-a", "text=a").out == "a\n"


def test_the_environment_of_servers_is_what_was_given() -> None:
    where = ("run", "--port", "0", "-e", "SHOWN=1=2", "--", *server("plain"))
    with running_bascule(*where, env={"HIDDEN": "secret"}) as url:
        assert json.loads(bascule("call", url, "env", "-a", "name=SHOWN").out) == {"value": "1=2"}
        assert json.loads(bascule("call", url, "env", "-a", "name=HIDDEN").out) == {"value": None}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "nothing to run"),
        (["--server", "no-equals-sign"], "--server 'no-equals-sign': write NAME="),
        (["--server", "a= "], "write NAME="),
        (["--server", "a=x", "--", "y"], "not both"),
        (["--env", "=1", "--", "y"], "'=1' is not NAME=VALUE"),
        (["--host", "0.0.0.0", "--", "y"], "opens every server to the network"),
    ],
)
def test_run_says_what_is_wrong_with_its_words(words: list[str], complaint: str) -> None:
    done = bascule("run", *words)
    assert (done.code, done.out) == (2, "")
    assert complaint in done.err


def test_version_and_help_name_what_there_is() -> None:
    assert re.fullmatch(r"bascule \d+\.\d+\.\d+\n", bascule("--version").out)
    assert bascule("-V").out == bascule("--version").out
    shown = bascule("--help").out
    assert all(name in shown for name in ("run", "serve", "validate", "list", "call", "inspect", "ping", "--version"))
    assert "[-- COMMAND…]" in bascule("call", "--help", env={"COLUMNS": "200"}).out


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["call", "--help"], ["completion"]])
def test_nothing_of_the_runtime_is_imported_before_it_is_needed(words: list[str]) -> None:
    typed = {"_BASCULE_COMPLETE": "complete_bash", "COMP_WORDS": "bascule list --", "COMP_CWORD": "2"}
    completing = words == ["completion"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *BASCULE, *([] if completing else words)],
        capture_output=True,
        text=True,
        env={**os.environ, **(typed if completing else {})},
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "site" in imported
    assert not imported & set(RUNTIME)


def test_the_version_is_there_at_once() -> None:
    started_s = time.perf_counter()
    bascule("--version")
    assert time.perf_counter() - started_s < 0.25


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("bascule pi", {"ping"}), ("bascule list --e", {"--era", "--env"}), ("bascule list --era l", {"legacy"})],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_and_choices(shell: str, typed: str, offered: set[str]) -> None:
    asked = {
        "_BASCULE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
        "_TYPER_COMPLETE_ARGS": typed,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    said = bascule(env=asked).out
    assert all(each in said for each in offered)


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/bascule.sh"),
        ("zsh", ".zfunc/_bascule"),
        ("fish", ".config/fish/completions/bascule.fish"),
    ],
)
def test_completion_installs_itself(shell: str, file: str, tmp_path: Any) -> None:
    # Told which shell, instead of looking at the process that started the test.
    env = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert bascule("--install-completion", shell, env=env).code == 0
    assert "_BASCULE_COMPLETE" in (tmp_path / file).read_text()


def _status(url: str) -> Any:
    with urllib.request.urlopen(url.replace("/mcp", "/status"), timeout=10) as response:
        return json.load(response)
