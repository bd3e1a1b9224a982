"""`bascule validate` and `schema`: what is wrong with a file, and where, without starting anything."""

import json
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from command import Done, bascule

GOOD = f"""\
http:
  port: 8777
servers:
  one:
    command: {sys.executable}
    args: [server.py]
  two:
    url: https://example.com/mcp
    headers: {{authorization: "Bearer ${{TOKEN:-none}}"}}
aliases:
  one/echo: say
"""


def validated(tmp_path: Path, text: str, name: str = "bascule.yaml", **env: str) -> Done:
    (tmp_path / name).write_text(text)
    return bascule("validate", name, cwd=tmp_path, env=env)


@pytest.fixture(scope="module")
def schema() -> Any:
    return json.loads(bascule("schema").out)


def test_a_good_file_is_valid_and_nothing_is_started(tmp_path: Path) -> None:
    done = validated(tmp_path, GOOD)
    assert (done.code, done.out, done.err) == (0, "bascule.yaml: valid, 2 servers: one, two\n", "")


@pytest.mark.parametrize(
    ("text", "line", "field", "reason"),
    [
        (GOOD.replace("args:", "agrs:"), 6, "servers.one.agrs", "unknown field `agrs`"),
        (GOOD.replace("port: 8777", "port: 99999"), 2, "http.port", "<= 65535"),
        (GOOD.replace("8777", "many"), 2, "http.port", "Expected `int`, got `str`"),
        (GOOD.replace("args: [server.py]", "url: http://x/"), 4, "servers.one", "either a command, a url or a pack"),
        (GOOD.replace("url: https:", "url: ftp:"), 8, "servers.two.url", "not an http or https URL"),
        (GOOD.replace("TOKEN:-none", "TOKEN"), 9, "servers.two.headers.authorization", "is not set; export it"),
        (GOOD.replace("  one:", "  on e:"), 4, "servers.on e", "at most 32 of A-Z a-z 0-9 _ -"),
        (GOOD.replace("one/echo", "none/echo"), 11, "aliases.none/echo", "no server 'none'"),
        (GOOD.replace("port: 8777", "host: 0.0.0.0"), 2, "http.host", "opens every server to the network"),
        (GOOD.replace("port: 8777", "bearer: secret-in-the-file"), 2, "http.bearer", "a secret does not stand in"),
        (GOOD.replace("http:", "htpp:", 1), 1, "htpp", "unknown field `htpp`"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_field(
    tmp_path: Path, text: str, line: int, field: str, reason: str
) -> None:
    done = validated(tmp_path, text)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"bascule: bascule.yaml:{line}: {field}: ")
    assert reason in done.err


def test_a_mistake_in_json_has_its_line_too(tmp_path: Path) -> None:
    text = json.dumps({"servers": {"one": {"command": "x", "sharing": "some"}}}, indent=2)
    done = validated(tmp_path, text, "bascule.json")
    assert done.code == 2
    assert done.err.startswith("bascule: bascule.json:5: servers.one.sharing: Invalid enum value 'some'")


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("bascule.yaml", "servers:\n  one: [\n", "bascule.yaml:3"),
        ("bascule.json", '{\n"servers": }', "bascule.json:2"),
        ("bascule.toml", "[servers\n", "bascule.toml"),
    ],
)
def test_what_cannot_be_parsed_is_told_with_its_line(tmp_path: Path, name: str, text: str, place: str) -> None:
    done = validated(tmp_path, text, name)
    assert done.code == 2
    assert done.err.startswith(f"bascule: {place}: not {Path(name).suffix[1:].upper()}: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = bascule("validate", "none.yaml", cwd=tmp_path)
    assert (done.code, "none.yaml: no such file" in done.err) == (2, True)


def test_a_command_that_is_not_installed_is_a_warning(tmp_path: Path) -> None:
    done = validated(tmp_path, "servers:\n  one: {command: no-such-command}\n")
    assert (done.code, done.out) == (0, "bascule.yaml: valid, 1 server: one\n")
    assert done.err.startswith("bascule: warning: bascule.yaml: servers.one.command: 'no-such-command' is not on PATH")


def test_a_command_is_looked_for_on_the_path_of_its_server(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.touch(mode=0o755)
    assert validated(tmp_path, f"servers:\n  one: {{command: tool, env: {{PATH: '{tool.parent}'}}}}\n").err == ""


def test_the_outcome_is_also_json(tmp_path: Path) -> None:
    (tmp_path / "bascule.yaml").write_text(GOOD)
    assert json.loads(bascule("validate", "--json", cwd=tmp_path).out) == {
        "valid": True,
        "servers": ["one", "two"],
        "warnings": [],
    }
    (tmp_path / "bascule.yaml").write_text("servres: {}\n")
    done = bascule("validate", "--json", cwd=tmp_path)
    found = json.loads(done.out)
    assert (done.code, found["valid"], found["place"], found["field"]) == (2, False, "bascule.yaml:1", "servres")


def test_a_clients_file_is_validated_with_its_own_words(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"mcpServers": {"a b": {"command": "sh"}, "off": {"command": "x", "disabled": true}}}')
    assert bascule("validate", "--servers", str(file)).out == f"{file}: valid, 1 server: a_b\n"
    file.write_text('{"servers": []}')
    assert bascule("validate", "--servers", str(file)).code == 2


def test_the_schema_is_a_schema_and_takes_good_files(schema: Any) -> None:
    jsonschema_rs.meta.validate(schema)
    good = {
        "http": {"host": "127.0.0.1", "allowed_origins": ["https://console.example"]},
        "servers": {"time": {"command": "uvx", "args": ["mcp-server-time"]}, "far": {"url": "https://example.com/mcp"}},
        "aliases": {"time/now": "now"},
    }
    assert jsonschema_rs.is_valid(schema, good)


@pytest.mark.parametrize(
    "bad",
    [
        {"servres": {}},
        {"http": {"prot": 1}},
        {"servers": {"time": {"command": "uvx", "agrs": []}}},
        {"servers": {"ti me": {"command": "uvx"}}},
        {"servers": {"time": {}}},
    ],
)
def test_the_schema_refuses_a_typo(schema: Any, bad: dict[str, Any]) -> None:
    assert not jsonschema_rs.is_valid(schema, bad)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("http: {allowed_hosts: a}", "http.allowed_hosts: Expected `array`, got `str`; write a list, such as [a, b]"),
        ("callers: {ann: }", "callers.ann: Expected `object`, got `null`; write {}, or leave it out"),
        (
            "policy: {rules: [{match: a/b, validate_results: onn}]}",
            "policy.rules.0.validate_results: Invalid enum value 'onn'; there are",
        ),
        (
            "auth: {issuers: {me: {issuer: 'https://a', algorithms: [HS256]}}}",
            "auth.issuers.me.algorithms.0: Invalid enum value 'HS256'; there are RS256",
        ),
        (
            "servers: {one: {command: a, trusted: yes}}",
            "servers.one.trusted: Expected `bool`, got `str`; write true or",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_with_what_may_stand_there(tmp_path: Path, line: str, said: str) -> None:
    assert validated(tmp_path, line).err.startswith(f"bascule: bascule.yaml:1: {said}")


def test_a_contract_in_the_file_itself_is_wrong_at_its_line(tmp_path: Path) -> None:
    text = "servers: {}\ncontracts:\n  - tool: a/b\n    guardrails:\n      - deny: args.a and args.b\n"
    done = validated(tmp_path, text)
    assert done.err.startswith("bascule: bascule.yaml:5: contracts.0.guardrails.0.deny: expected an operator")


def test_a_folder_of_contracts_that_is_not_there_is_named_where_it_is_said(tmp_path: Path) -> None:
    done = validated(tmp_path, "servers: {}\ncontracts:\n  - contracts\n  - more.yaml\n")
    assert done.code == 2
    said = "contracts does not exist; `mkdir -p contracts` makes it, or take it out"
    assert done.err == f"bascule: bascule.yaml:3: contracts.0: {said}\n"


def test_an_empty_folder_of_contracts_is_a_warning_with_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "contracts").mkdir()
    done = validated(tmp_path, "servers: {}\ncontracts:\n  - contracts\n")
    assert done.code == 0
    assert "bascule.yaml:3: contracts.0: there is no contract in contracts" in done.err
    assert "`bascule contract new NAMESPACE/NAME -o contracts/NAME.yaml` begins one" in done.err


def test_the_bearer_and_a_callers_key_are_two_secrets(tmp_path: Path) -> None:
    text = "http:\n  bearer: ${env:ONE}\ncallers:\n  ann: {keys: ['${env:TWO}']}\n"
    secret = "0123456789abcdefghijklmnopqrstuvwxyz"
    done = validated(tmp_path, text, ONE=secret, TWO=secret)
    assert done.code == 2
    assert done.err.startswith("bascule: bascule.yaml:2: http.bearer: the caller 'ann' has the same key")
    assert secret not in done.err
    assert validated(tmp_path, text, ONE=secret, TWO=secret[::-1]).code == 0
