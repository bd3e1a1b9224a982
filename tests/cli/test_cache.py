"""`bascule cache`: what a running gateway keeps, for whoever has the scopes to ask it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from command import Done, bascule

from processes import ROOT, running_bascule, server

TOKEN: Final = "a-token-that-nobody-guesses-0123456789"
CONFIG: Final = """
servers:
  it:
    command: {command}
    args: {args}
http:
  bearer: ${{env:TOKEN}}
policy:
  rules:
    - {{match: "it/*", side_effect: false, cache_policy: {{ttl_seconds: 60}}}}
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a gateway that has answered one call twice."""
    folder = tmp_path_factory.mktemp("cache")
    command, *args = server("plain")
    path = folder / "bascule.yaml"
    path.write_text(CONFIG.format(command=command, args=json.dumps(args)))
    with running_bascule("serve", "-c", str(path), "--port", "0", env={"TOKEN": TOKEN}) as url:
        for _ in range(2):
            done = bascule("call", url, "it__add", '{"a": 1, "b": 2}', env={"BASCULE_TOKEN": TOKEN})
            assert done.code == 0, done.err
        yield url


def cache(*words: str, token: str = TOKEN, cwd: Path = ROOT) -> Done:
    return bascule("cache", *words, env={"BASCULE_TOKEN": token}, cwd=cwd)


def test_stats_are_rows_for_a_program_and_json_with_everything(url: str) -> None:
    done = cache("stats", url)
    assert (done.code, len(done.lines)) == (0, 1), done.err
    assert done.lines[0].split("\t")[:5] == ["it/add", "1", "0", "1", "50.0%"]
    assert "hit rate 50.0%" in done.err
    found = json.loads(cache("stats", url, "--json").out)
    assert (found["hits"], found["misses"], found["max_bytes"]) == (1, 1, 67_108_864)
    assert found["tools"][0]["server"] == "it"
    assert json.loads(cache("stats", url, "--json", "--tool", "it/other").out)["tools"] == []


def test_any_url_of_the_gateway_will_do(url: str) -> None:
    base = url.removesuffix("/mcp")
    for each in (base, f"{base}/", f"{base}/mcp", f"{base}/servers/it/mcp", f"{base}/status"):
        assert cache("stats", each).code == 0, each


def test_without_a_url_the_configuration_says_where_to_look(url: str, tmp_path: Path) -> None:
    port = url.rsplit(":", 1)[1].removesuffix("/mcp")
    (tmp_path / "bascule.yaml").write_text(f"http: {{port: {port}, host: 127.0.0.1}}")
    assert cache("stats", cwd=tmp_path).code == 0
    assert cache("stats", "-c", str(tmp_path / "bascule.yaml")).code == 0


def test_clearing_says_how_many_went(url: str) -> None:
    assert cache("clear", url, "--server", "other").out == "0\n"
    assert cache("clear", url, "--tool", "it/add").out == "1\n"
    assert cache("clear", url).out == "0\n"


def test_what_goes_wrong_is_said_in_words(url: str, tmp_path: Path) -> None:
    wrong = cache("stats", url, token="wrong")
    assert (wrong.code, wrong.out) == (1, "")
    assert "it wants a credential: export BASCULE_TOKEN" in wrong.err
    absent = cache("stats", "http://127.0.0.1:9")
    assert absent.code == 1
    assert "cannot be reached" in absent.err
    assert TOKEN not in absent.err + wrong.err
    assert cache("stats", "ftp://127.0.0.1").code == 2
