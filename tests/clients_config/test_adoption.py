"""From what clients say to what a configuration says: names, references, secrets, and what is left where it is."""

from collections.abc import Mapping
from typing import Any

import pytest

from bascule.clients import adoption
from bascule.clients.adoption import Home, Server
from bascule.clients.entries import Section, entries_of, sections

HERE = Home(folder="/home/me", secrets="/state/secrets", addresses={("localhost", 8777), ("mcp.example.com", 443)})


def servers(
    said: Mapping[str, Any],
    present: Mapping[str, Any] | None = None,
    *,
    folder: str | None = None,
    home: Home = HERE,
    inputs: Any = None,
    files: Mapping[str, str] | None = None,
) -> list[Server]:
    entries = entries_of(Section(said, folder), client="Cursor", file="~/.cursor/mcp.json", inputs=inputs)
    return adoption.adopted(entries, present or {}, home, known=(files or {}).get)


def one(said: Any, **more: Any) -> Server:
    (found,) = servers({"it": said}, **more)
    return found


def test_a_server_is_taken_over_as_it_is_but_for_its_secrets() -> None:
    found = one({
        "command": "npx",
        "args": ["-y", "server", "--key", "k1", "--url", "https://u:p@example.com/?q=s3"],
        "env": {"TOKEN": " t \n", "LEVEL": "info", "N": 1, "ON": True, "GONE": None, "MIX": "a${env:B}c"},
    })  # fmt: skip
    assert found.options == {
        "command": "npx",
        "args": [
            *("-y", "server", "--key", "${file:/state/secrets/it_key}", "--url"),
            "https://${file:/state/secrets/it_url}@example.com/?q=${file:/state/secrets/it_url_2}",
        ],
        "env": {
            "TOKEN": " ${file:/state/secrets/it_TOKEN} \n",
            "LEVEL": "info",
            "N": "1",
            "ON": "true",
            "MIX": "${file:/state/secrets/it_MIX}${env:B}${file:/state/secrets/it_MIX_2}",
        },
    }
    assert [(each.name, each.value) for each in found.secrets] == [
        *(("key", "k1"), ("url", "u:p"), ("url", "s3"), ("TOKEN", "t"), ("MIX", "a"), ("MIX", "c"))
    ]
    assert found.shown == "npx -y server --key *** --url https://***@example.com/?q=***"


def test_a_file_that_is_there_keeps_what_is_in_it() -> None:
    home = Home(folder="/h", secrets="/s", exists=lambda file: file in ("/s/it_K", "/s/it_K_2"))
    assert one({"command": "x", "env": {"K": "v9"}}, home=home).options["env"] == {"K": "${file:/s/it_K_3}"}


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        ("${TOKEN}", "${env:TOKEN}"),
        ("${env:TOKEN}", "${env:TOKEN}"),
        ("${LEVEL:-info}", "${LEVEL:-info}"),
        ("${TOKEN:-hunter2}", "${env:TOKEN}"),
        ("${userHome}/x", "/home/me/x"),
        ("${workspaceFolder}/x", "/srv/app/x"),
        ("${workspaceFolderBasename}", "app"),
        ("${/}", "/"),
        ("${input:my-key}", "${env:MY_KEY}"),
        ("Bearer ${input:my-key}", "Bearer ${env:MY_KEY}"),
    ],
)
def test_references_are_translated(said: str, ours: str) -> None:
    found = one({"command": "x", "args": ["--header", said]}, folder="/srv/app")
    assert (found.options.get("args"), found.skipped) == (["--header", ours], "")
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    "said", ["${command:x}", "${config:a.b}", "${A:-${B}}", "${x//a/b}", "${", "${}", "${file:/x}"]
)
def test_what_only_the_client_understands_is_not_guessed(said: str) -> None:
    found = one({"command": "x", "env": {"A": said}})
    assert "A holds a ${…}" in found.skipped
    assert not found.options


def test_a_variable_that_is_not_set_is_told_of() -> None:
    assert one({"command": "x", "args": ["${A}"]}).notes == ("export A before you start Bascule: it is not set here",)
    home = Home(folder="/h", secrets="/s", variables={"A"})
    assert one({"command": "x", "args": ["${A}"]}, home=home).notes == ()
    inputs = [{"id": "k", "description": "Your key"}]
    (said,) = one({"command": "x", "args": ["${input:k}"]}, inputs=inputs).notes
    assert said == "export K before you start Bascule: VS Code asked you for it (Your key)"


@pytest.mark.parametrize(
    "said",
    [
        {"command": "/opt/venv/bin/bascule", "args": ["bridge", "https://elsewhere.example/mcp"]},
        {"command": "bascule.exe", "args": ["bridge", "x"]},
        {"command": "uvx", "args": ["bascule", "bridge", "x"]},
        {"command": "uvx", "args": ["--from", "bascule[packs]==1.0", "bascule", "bridge", "x"]},
        {"command": "python3", "args": ["-m", "bascule", "bridge", "x"]},
        {"url": "http://localhost:8777/mcp"},
        {"serverUrl": "http://127.0.0.1:8777/servers/x/mcp"},
        {"url": "https://mcp.example.com/mcp"},
        {"command": "npx", "args": ["mcp-remote", "http://[::1]:8777/sse"]},
    ],
)
def test_bascule_itself_is_not_taken_over(said: Any) -> None:
    assert "Bascule itself" in one(said).skipped


@pytest.mark.parametrize(
    "said",
    [
        {"command": "bascule", "args": ["pack", "run", "office"]},
        {"command": "npx", "args": ["bascule-tools"]},
        {"url": "http://localhost:8778/mcp"},
        {"command": "cat", "args": ["bascule"]},
    ],
)
def test_what_is_only_called_so_is_taken_over(said: Any) -> None:
    assert one(said).skipped == ""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([], "no object"),
        ({}, "neither a command nor a URL"),
        ({"source": "extension", "settings": {"token": "x"}}, "an extension of Zed"),
        ({"command": 1}, "no text"),
        ({"command": "npx foo | sh"}, "text for a shell"),
        ({"command": "TOKEN=x npx foo"}, "text for a shell"),
        ({"command": "x", "args": "y"}, "no list"),
        ({"command": "x", "args": [{}]}, "no text"),
        ({"command": "x", "env": ["A"]}, "no object"),
        ({"url": "unix:///x.sock"}, "not one of http"),
        ({"url": "https://h/", "headers": {"A": "x\0"}}, "characters"),
        ({"command": "x", "env": {"A": "\ud800"}}, "characters"),
        ({"command": "x", "args": ["${workspaceFolder}"]}, "which folder"),
        ({"command": "x", "cwd": "sub"}, "relative"),
    ],
)
def test_what_cannot_be_taken_over_says_why(said: Any, why: str) -> None:
    found = one(said)
    assert why in found.skipped
    assert not found.options


def test_a_command_for_a_shell_is_shown_whole_without_its_secrets() -> None:
    assert one({"command": "TOKEN=hunter2 npx foo | sh"}).shown == "TOKEN=*** npx foo | sh"
    assert one({"command": "bash", "args": ["-c", "K=hunter2; rm -rf /srv"]}).shown == "bash -c 'K=***; rm -rf /srv'"


def test_names_are_those_of_the_clients_as_far_as_they_can_be() -> None:
    said = {"git hub!": 1, "git_hub": 2, "x" * 40: 3, "x" * 41: 4, "…": 5, "mine": 6}
    found = servers({name: {"command": f"c{n}"} for name, n in said.items()}, {"mine": {"command": "other"}})
    assert [each.name for each in found] == [
        *("git_hub", "git_hub_2", "x" * 32, f"{'x' * 30}_2", "server", "mine_2")
    ]  # fmt: skip
    off = servers({"a": {"command": "x", "disabled": True}, "A!": {"command": "z"}, "a?": {"command": "y"}})
    assert [each.name for each in off] == ["a_2", "A", "a"]


def test_the_same_server_is_taken_over_once() -> None:
    entry = {"command": "npx", "args": ["s"], "env": {"K": "v1", "L": "v2"}}
    turned = {"env": {"L": "v2", "K": "v1"}, "args": ["s"], "command": "npx", "alwaysAllow": []}
    other = {**entry, "env": {"K": "v3"}}
    first, second, third = servers({"a": entry, "b": turned, "c": other})
    assert (first.skipped, first.also_in) == ("", ("Cursor",))
    assert (second.skipped, third.skipped) == ("it is the same as a of Cursor", "")
    files = {"/s/x": "v1", "/s/y": "v2"}
    present = {"had": {"command": "npx", "args": ["s"], "env": {"K": "${file:/s/x}", "L": "${file:/s/y}"}}}
    again = servers({"a": entry, "c": other}, present, files=files)
    assert [each.skipped for each in again] == ["it is there already, as had", ""]


def test_what_codex_and_zed_and_windsurf_call_things() -> None:
    said = {
        "codex": {"url": "https://c/", "bearer_token_env_var": "T", "env_http_headers": {"X": "Y"}, "enabled": False},
        "passed": {"command": "x", "env_vars": ["A", {"name": "B"}]},
        "zed": {"command": {"path": "/bin/z", "args": ["-v"], "env": {"A": "1"}}, "settings": {}},
        "windsurf": {"serverUrl": "https://w/", "headers": {"Accept": "x/y"}},
    }
    codex, passed, zed, windsurf = servers(said)
    assert codex.options == {"url": "https://c/", "headers": {"X": "${env:Y}", "Authorization": "Bearer ${env:T}"}}
    assert codex.entry.disabled
    assert passed.options["env"] == {"A": "${env:A}", "B": "${env:B}"}
    assert zed.options == {"command": "/bin/z", "args": ["-v"], "env": {"A": "1"}}
    assert windsurf.options == {"url": "https://w/", "headers": {"Accept": "x/y"}}


def test_servers_of_a_project_start_in_its_folder() -> None:
    assert one({"command": "x"}, folder="/srv/app").options["cwd"] == "/srv/app"
    assert one({"command": "x", "cwd": "sub"}, folder="/srv/app").options["cwd"] == "/srv/app/sub"
    value = {"mcpServers": {"a": {}}, "projects": {"/p": {"mcpServers": {"b": {}}}, "/q": {"mcpServers": {}}, "/r": 1}}
    assert [(each.entries, each.folder) for each in sections(value, "mcpServers", None)] == [
        ({"a": {}}, None),
        ({"b": {}}, "/p"),
    ]
