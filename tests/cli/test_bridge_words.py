"""The words of `bascule bridge`: what it needs, what it refuses, and how little it imports to begin."""

import json
import subprocess
import sys

import pytest
from command import bascule

from bascule.cli.bridge import WAIT_S, Wish, plain
from processes import BRIDGE, running_bascule, server

URL = "http://127.0.0.1:1/mcp"
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
# Other commands need these; each would make every start of a client longer.
HEAVY = ("typer", "rich", "click", "yaml", "uvicorn", "uvloop", "bascule.app", "bascule.config", "bascule.edge.http")


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        ([URL], Wish(URL, [], WAIT_S)),
        ([URL, "--header-env", "A=B", "--header-env=C=D"], Wish(URL, ["A=B", "C=D"], WAIT_S)),
        (["--header-env", "A=B", URL], Wish(URL, ["A=B"], WAIT_S)),
        ([], None),
        ([URL, URL], None),
        ([URL, "--header-env"], None),
        (["--help"], None),
        ([URL, "--wait", "1"], None),
        ([URL, "--bearer", "x"], None),
    ],
)
def test_usual_words_are_understood_without_the_command_line_library(words: list[str], wish: Wish | None) -> None:
    assert plain(words) == wish


def test_help_tells_of_it() -> None:
    assert "bridge" in bascule("--help").out
    shown = bascule("bridge", "--help", env={"COLUMNS": "200"}).out
    assert all(word in shown for word in ("URL", "--header-env", "NAME=VARIABLE", "--wait", "BASCULE_TOKEN"))
    assert "--bearer" not in shown


@pytest.mark.parametrize(
    "words",
    [
        ["--bearer", "s3cret-value"],
        ["--header", "Authorization: Bearer s3cret-value"],
        ["-H", "Authorization: Bearer s3cret-value"],
        ["--token", "s3cret-value"],
        ["--header-env", "Authorization=Bearer s3cret-value"],
        ["--header-env", "Authorization=s3cret-value"],
        ["--header-env", "Authorization: s3cret-value"],
    ],
)
def test_a_secret_among_the_words_is_refused_and_not_repeated(words: list[str]) -> None:
    done = bascule("bridge", URL, *words)
    assert (done.code, done.out) == (2, "")
    assert "s3cret" not in done.err
    assert "environment variable" in done.err or "BASCULE_TOKEN" in done.err


def test_a_secret_in_the_url_is_refused_and_not_repeated() -> None:
    done = bascule("bridge", "https://user:s3cret-value@example.com/mcp")
    assert done.code == 2
    assert "s3cret" not in done.err
    assert "BASCULE_TOKEN" in done.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "Missing argument 'URL'"),
        (["not-a-url"], "'not-a-url' is not an http or https URL"),
        (["ftp://example.com/mcp"], "is not an http or https URL"),
        (["http://"], "is not an http or https URL"),
        (["http://[::1/mcp"], "is not a URL"),
        (["http://127.0.0.1:99999/mcp"], "is not a URL"),
        ([URL, "--header-env", "X-Key=NOT_SET_ANYWHERE"], "--header-env X-Key=NOT_SET_ANYWHERE: that variable is not"),
        ([URL, "--header-env", "X Key=HOME"], "--header-env is NAME=VARIABLE"),
        ([URL, "--header-env", "X-Key=BROKEN"], "what an HTTP header cannot carry"),
    ],
)
def test_wrong_words_are_explained(words: list[str], complaint: str) -> None:
    done = bascule("bridge", *words, env={"BROKEN": "a\nb"})
    assert (done.code, done.out) == (2, "")
    assert complaint in done.err


def test_the_token_is_not_sent_in_the_clear_over_a_network() -> None:
    done = bascule("bridge", "http://gateway.invalid:8777/mcp", env={"BASCULE_TOKEN": "the-token"})
    assert done.code == 0  # its input has ended
    assert "BASCULE_TOKEN is not sent" in done.err
    assert "the-token" not in done.err


def test_no_more_is_imported_than_what_the_first_answer_needs() -> None:
    with running_bascule(*BRIDGE, *server("plain")) as url:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "bascule", "bridge", url],
            input=json.dumps(HELLO) + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert json.loads(done.stdout)["result"]["serverInfo"]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "aiohttp" in imported
    assert not imported & set(HEAVY)
