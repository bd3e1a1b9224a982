"""A configuration is read, checked and refused with its file, line and field; secrets never show."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bascule import config
from bascule.config import Config
from bascule.errors import ConfigInvalid
from bascule.upstream.http import HttpOptions
from bascule.upstream.stdio import StdioOptions

SECRET = "hunter2-hunter2-hunter2"
ENVIRON = {"TOKEN": SECRET, "EMPTY": "", "SHORT": "hunter2", "DOLLAR": "${TOKEN}"}


class Folder:
    """Writes a file and reads it as a configuration."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, text: str | bytes, suffix: str = ".yaml", environ: Mapping[str, str] = ENVIRON) -> Config:
        return config.load(self.write(text, suffix), environ)

    def of_clients(self, servers: Any, key: str = "mcpServers") -> Config:
        return config.load_servers(self.write(json.dumps({key: servers}), ".json"), ENVIRON)

    def write(self, text: str | bytes, suffix: str = ".yaml") -> Path:
        file = self.path / f"b{suffix}"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def refusal(self, text: str | bytes, suffix: str = ".yaml") -> str:
        """Why *text* is refused, with the file as `b.yaml`."""
        with pytest.raises(ConfigInvalid) as caught:
            self.load(text, suffix)
        assert SECRET not in str(caught.value)
        return str(caught.value).replace(f"{self.path}/", "")

    def args(self, *args: str) -> tuple[str, ...]:
        """*args* of a server, expanded."""
        options = self.load(json.dumps({"servers": {"a": {"command": "x", "args": args}}}), ".json").servers["a"]
        assert isinstance(options, StdioOptions)
        return options.args


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# ---- formats

YAML = """
http:
  port: 9000
servers:
  local: {command: npx, args: [-y, server], env: {KEY: "${TOKEN}"}}
  remote:
    url: https://example.test/mcp
aliases:
  local/read: read
patience_s: 2
"""
TOML = """
patience_s = 2.0
http.port = 9000
aliases = {"local/read" = "read"}
[servers.local]
command = "npx"
args = ["-y", "server"]
env = {KEY = "${TOKEN}"}
[servers.remote]
url = "https://example.test/mcp"
"""
JSON = json.dumps({
    "http": {"port": 9000},
    "servers": {
        "local": {"command": "npx", "args": ["-y", "server"], "env": {"KEY": "${TOKEN}"}},
        "remote": {"url": "https://example.test/mcp"},
    },
    "aliases": {"local/read": "read"},
    "patience_s": 2,
})  # fmt: skip


@pytest.mark.parametrize(
    ("text", "suffix"), [(YAML, ".yaml"), (YAML, ".yml"), (JSON, ".json"), (JSON, ".yaml"), (TOML, ".toml")]
)
def test_yaml_json_and_toml_say_the_same(folder: Folder, text: str, suffix: str) -> None:
    found = folder.load(text, suffix)
    assert (found.http.port, found.http.host, found.patience_s) == (9000, "127.0.0.1", 2.0)
    assert found.servers == {
        "local": StdioOptions(command="npx", args=("-y", "server"), env={"KEY": SECRET}),
        "remote": HttpOptions(url="https://example.test/mcp"),
    }
    assert found.aliases == {"local/read": "read"}


def test_a_file_of_comments_is_the_default_configuration(folder: Folder) -> None:
    found = folder.load("# nothing\n")
    assert Path(found.state_dir).is_absolute()
    assert msgspec.structs.replace(found, state_dir="") == Config()


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_file_is_a_mistake_and_not_a_wish_for_no_servers(folder: Folder, text: str) -> None:
    assert "is empty" in folder.refusal(text)


def test_servers_keep_the_order_of_the_file(folder: Folder) -> None:
    assert list(folder.load("servers: {z: {command: x}, a: {command: x}, m: {url: 'http://x'}}").servers) == [
        "z",
        "a",
        "m",
    ]


# ---- refusals and their places


@pytest.mark.parametrize(
    ("text", "suffix", "why"),
    [
        ("servers:\n  a:\n    command: x\n    argz: []\n", ".yaml", "b.yaml:4: servers.a.argz: "),
        ("servers:\n  a:\n    command: [x]\n", ".yaml", "b.yaml:3: servers.a.command: Expected `str`, got `array`"),
        ("servers:\n  a:\n    command: x\n    args: [a, 1]\n", ".yaml", "b.yaml:4: servers.a.args.1: "),
        ("servers:\n  a:\n    command: x\n    env:\n      N: 1\n", ".yaml", "b.yaml:5: servers.a.env.N: "),
        ("servers:\n  a:\n    args: []\n", ".yaml", "b.yaml:2: servers.a: a server has either a command, a url or a"),
        ("servers:\n  a:\n    command: x\n    url: http://x\n", ".yaml", "b.yaml:2: servers.a: a server has either"),
        ("servers:\n  a.b:\n    command: x\n", ".yaml", "a server's name has at most 32"),
        ("servers:\n  " + "a" * 33 + ":\n    command: x\n", ".yaml", "b.yaml:2: servers.aaa"),
        ("servers:\n  '':\n    command: x\n", ".yaml", "a server's name has at most 32"),
        ("servers:\n  7:\n    command: x\n", ".yaml", "b.yaml:2: not YAML: the key '7' is not text; put it in quotes"),
        ("servers:\n  a:\n    url: ftp://x\n", ".yaml", "b.yaml:3: servers.a.url: 'ftp://x' is not an http or https"),
        ("servers:\n  a:\n    url: 'ftp://${TOKEN}'\n", ".yaml", "servers.a.url: 'ftp://${TOKEN}' is not"),
        ("servers:\n  a:\n    command: x\n    sharing: all\n", ".yaml", "b.yaml:4: servers.a.sharing: "),
        ("http:\n  port: 70000\n", ".yaml", "b.yaml:2: http.port: Expected `int` <= 65535"),
        ("http: {}\nserverz: {}\n", ".yaml", "b.yaml:2: serverz: "),
        ("servers: 3\n", ".yaml", "b.yaml:1: servers: Expected `object`, got `int`"),
        ("- a\n", ".yaml", "b.yaml: Expected `object`, got `array`"),
        ("patience_s: 0\n", ".yaml", "b.yaml:1: patience_s: Expected `float` > 0.0"),
        ("patience_s: .nan\n", ".yaml", "b.yaml:1: patience_s: Expected `float` > 0.0"),
        ("a: b\nc: d: e\n", ".yaml", "b.yaml:2: not YAML: mapping values are not allowed here"),
        ("a: [\n", ".yaml", "b.yaml:2: not YAML: "),
        ("a: !!python/object:os.system {}\n", ".yaml", "b.yaml:1: not YAML: could not determine a constructor"),
        ("a: \x07\n", ".yaml", "b.yaml: cannot be read: unacceptable character"),
        ("patience_s: 2026-13-01\n", ".yaml", "b.yaml:1: patience_s: Expected `float`, got `str`"),
        ("servers:\n  a:\n    command: x\n    required: yes\n", ".yaml", "b.yaml:4: servers.a.required: "),
        (b"\xff\xfe", ".yaml", "b.yaml: cannot be read: "),
        ('{"servers":\n {"a" 1}}', ".json", "b.json:2: not JSON: Expecting ':' delimiter"),
        ('{\n"http": {\n"port": "x"}}', ".json", "b.json:3: http.port: Expected `int`, got `str`"),
        ("[" * 100_000, ".json", "b.json: cannot be read: "),
        ('{"patience_s": ' + "9" * 5000 + "}", ".json", "b.json: cannot be read: "),
        ("[http\n", ".toml", "b.toml: not TOML: Expected ']'"),
        ("[http]\nport = 'x'\n", ".toml", "b.toml: http.port: Expected `int`, got `str`"),
        ("aliases: {b/x: y}\nservers: {a: {command: x}}\n", ".yaml", "b.yaml:1: aliases.b/x: no server 'b'"),
        ("servers: {a: {command: x}}\naliases:\n  a/x: y\n  a/z: y\n", ".yaml", "b.yaml:2: aliases: two aliases"),
        ("servers: {a: {command: x}}\naliases:\n  a/x: y.z\n", ".yaml", "b.yaml:3: aliases.a/x: 'y.z' is not a name"),
        ("servers: {a: {command: x}}\naliases:\n  a/x: ''\n", ".yaml", "b.yaml:3: aliases.a/x: '' is not a name"),
        ("servers: {a: {command: x}}\naliases:\n  a/x: " + "y" * 65, ".yaml", "b.yaml:3: aliases.a/x: 'yyy"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_its_file_its_line_and_its_field(
    folder: Folder, text: str | bytes, suffix: str, why: str
) -> None:
    assert why in folder.refusal(text, suffix)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"none\.yaml: no such file"):
        config.load(tmp_path / "none.yaml", {})


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        config.load(tmp_path, {})


# ---- references


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("${TOKEN}", SECRET),
        ("${env:TOKEN}", SECRET),
        ("Bearer ${TOKEN}!", f"Bearer {SECRET}!"),
        ("${SHORT}${SHORT}", "hunter2hunter2"),
        ("${NONE:-default}", "default"),
        ("${NONE:-}", ""),
        ("${NONE:-a:b-c}", "a:b-c"),
        ("${env:NONE:-x}", "x"),
        ("${TOKEN:-x}", SECRET),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", ""),
        ("${DOLLAR}", "${TOKEN}"),  # what a variable holds is never expanded again
        ("${file:/none/of/these:-x}", "x"),
        ("$TOKEN", "$TOKEN"),
        ("${}", "${}"),
        ("{TOKEN}", "{TOKEN}"),
    ],
)
def test_a_reference_stands_for_what_it_names(folder: Folder, written: str, meant: str) -> None:
    assert folder.args(written) == (meant,)


def test_a_file_reference_is_the_text_of_the_file_without_white_space_around_it(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"  {SECRET}\n")
    assert folder.args(f"${{file:{tmp_path}/secret}}") == (SECRET,)


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("${NONE}", "${NONE} is not set; export it or write ${NONE:-default}"),
        ("${env:NONE}", "is not set"),
        ("${file:/none/of/these}", "there is no such text file"),
        ("${file:/dev}", "there is no such text file"),
        ("${input:token}", "cannot resolve ${input:token}"),
        ("${vault:a/b}", "cannot resolve ${vault:a/b}"),
    ],
)
def test_a_reference_to_nothing_is_refused_at_its_line(folder: Folder, reference: str, why: str) -> None:
    said = folder.refusal(f'servers:\n  a:\n    command: x\n    env:\n      A: "{reference}"\n')
    assert said.startswith("b.yaml:5: servers.a.env.A: ")
    assert why in said


def test_a_file_that_is_not_text_is_refused(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "there is no such text file" in folder.refusal(f'servers: {{a: {{command: "${{file:{tmp_path}/binary}}"}}}}')


# ---- who may reach it


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_this_machine_needs_no_token(folder: Folder, host: str) -> None:
    assert folder.load(f"http: {{host: '{host}'}}").http.bearer is None


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "", "192.168.1.2", "gw.example", "127.example.com", "127.0.0.1.example.com", "localhost.example"],
)
def test_another_address_is_refused_without_a_token_and_accepted_with_one(folder: Folder, host: str) -> None:
    assert "opens every server to the network" in folder.refusal(f"http:\n  host: '{host}'\n")
    assert folder.load(f"http: {{host: '{host}', bearer: '${{TOKEN}}'}}").http.bearer == SECRET


@pytest.mark.parametrize(
    ("bearer", "why"),
    [
        (SECRET + "-in-the-file", "a secret does not stand in the file"),
        ("", "a secret does not stand in the file"),
        ("${SHORT}", "fewer than 16 characters"),
        ("${EMPTY}", "fewer than 16 characters"),
        ("${NONE}", "${NONE} is not set"),
        ("${TOKEN} ${TOKEN}", "an HTTP header cannot carry"),
        ("${TOKEN}é", "an HTTP header cannot carry"),
    ],
)
def test_a_token_is_a_reference_to_something_long_enough(folder: Folder, bearer: str, why: str) -> None:
    assert why in folder.refusal(f"http:\n  bearer: '{bearer}'\n").replace(SECRET, "")


def test_secrets_never_show_in_a_repr(folder: Folder) -> None:
    found = folder.load(
        "http: {bearer: '${TOKEN}'}\n"
        "servers:\n  a: {command: x, env: {K: '${TOKEN}'}}\n  b: {url: 'http://x', headers: {K: '${TOKEN}'}}\n"
    )
    for value in (found, found.http, *found.servers.values()):
        assert SECRET not in repr(value)
        assert SECRET not in str(value)
    assert "command='x'" in repr(found.servers["a"])


# ---- sealing, parking, replicas

KEYS = {"OLD": base64.b64encode(b"o" * 32).decode(), "NEW": base64.b64encode(b"n" * 32).decode(), "TOKEN": SECRET}


def test_a_key_ring_is_references_to_keys_newest_first(folder: Folder) -> None:
    loaded = folder.load('seal:\n  keys: ["${env:NEW}", "${env:OLD}"]\nreplicas: 3\n', environ=KEYS)
    assert [config.seal_key(key) for key in loaded.seal.keys] == [b"n" * 32, b"o" * 32]
    assert loaded.replicas == 3
    assert KEYS["NEW"] not in repr(loaded)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("seal:\n  keys: [bm90IGEga2V5]\n", "b.yaml:2: seal.keys.0: a secret does not stand in the file"),
        ('seal:\n  keys: ["${env:TOKEN}"]\n', "b.yaml:2: seal.keys.0: a key is 32 bytes in base64: `openssl rand"),
        (
            'servers:\n  a: {url: "http://x", headers: {A: "a\\n"}}\n',
            "b.yaml:2: servers.a.headers.A: its name or its value is what an HTTP header cannot carry",
        ),
        (
            "servers:\n  a: {url: http://x, transport: ssee}\n",
            "Invalid enum value 'ssee'; there are auto, streamable, sse",
        ),
        ('seal:\n  keys: ["${NOPE}"]\n', "${NOPE} is not set; export it"),
        ("parking:\n  max_per_caller: 0\n", "b.yaml:2: parking.max_per_caller: Expected `int` >= 1"),
        ("replicas: 2\n", "b.yaml:1: replicas: several replicas need the same key"),
        ("replicas: 0\n", "b.yaml:1: replicas: Expected `int` >= 1"),
        ("parking:\n  ttl_s: 0\n", "b.yaml:2: parking.ttl_s: Expected `float` > 0.0"),
        ("parking:\n  per_caller: 5\n", "b.yaml:2: parking.per_caller: Object contains unknown field"),
    ],
)
def test_what_would_silently_be_unsafe_is_refused(folder: Folder, text: str, why: str) -> None:
    assert why in folder.refusal(text)


# ---- files of clients


def test_the_servers_of_a_client_are_those_that_are_switched_on(folder: Folder) -> None:
    found = folder.of_clients({
        "a": {"command": "x"},
        "b": {"command": "x", "disabled": True},
        "c": {"command": "x", "enabled": False},
        "d": {"command": "x", "disabled": False, "enabled": True},
    })  # fmt: skip
    assert list(found.servers) == ["a", "d"]


def test_keys_that_only_concern_the_client_are_left_out(folder: Folder) -> None:
    ours = {"command": "npx", "args": ["-y", "s"], "env": {"K": "${TOKEN}"}, "cwd": "/tmp"}
    theirs = {"transportType": "stdio", "type": "stdio", "autoApprove": ["x"], "timeout": 60, "headers": {"X": "1"}}
    found = folder.of_clients({
        "local": {**ours, **theirs},
        "remote": {"url": "https://x/mcp", "headers": {"A": "Bearer ${TOKEN}"}, "type": "http", "env": {"X": "1"}},
        "other": {"serverUrl": "http://y/mcp", "transportType": "streamable-http"},
    })  # fmt: skip
    assert found.servers == {
        "local": StdioOptions(command="npx", args=("-y", "s"), env={"K": SECRET}, cwd="/tmp"),
        "remote": HttpOptions(url="https://x/mcp", headers={"A": f"Bearer {SECRET}"}),
        "other": HttpOptions(url="http://y/mcp"),
    }


def test_the_servers_of_vs_code_stand_under_servers(folder: Folder) -> None:
    assert list(folder.of_clients({"a": {"command": "x"}}, key="servers").servers) == ["a"]


def test_weird_names_become_names_of_ours(folder: Folder) -> None:
    found = folder.of_clients(
        {"My Server!": {"command": "x"}, "@scope/pkg": {"command": "x"}, "日本 a": {"command": "x"}}
    )
    assert list(found.servers) == ["My_Server", "scope_pkg", "a"]


@pytest.mark.parametrize(
    ("servers", "why"),
    [
        ({"a b": {"command": "x"}, "a_b": {"command": "x"}}, "mcpServers.a_b: 'a_b' leaves no name of its own"),
        ({"日本": {"command": "x"}}, "leaves no name of its own"),
        ({"": {"command": "x"}}, "leaves no name of its own"),
        ({"a" * 40: {"command": "x"}}, "at most 32"),
        ({"a": "npx"}, "mcpServers.a: expected an object"),
        ({"a": {}}, "mcpServers.a: a server has either a command, a url or a pack"),
        ({"a": {"command": "x", "env": {"N": 1}}}, "mcpServers.a.env.N: Expected `str`, got `int`"),
        ({"a": {"command": "x", "args": ["${input:key}"]}}, "mcpServers.a.args: cannot resolve ${input:key}"),
        ([], 'there is no "mcpServers" object in it'),
        (None, 'there is no "mcpServers" object in it'),
    ],
)
def test_what_cannot_be_imported_is_said_with_its_name(folder: Folder, servers: Any, why: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        folder.of_clients(servers)
    assert why in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{}", "3", '"x"'])
def test_a_file_without_servers_is_no_clients_file(folder: Folder, text: str) -> None:
    with pytest.raises(ConfigInvalid, match="there is no"):
        config.load_servers(folder.write(text, ".json"), {})


# ---- schema


def test_the_schema_describes_every_option(folder: Folder) -> None:
    described = config.schema()
    parts = set(Config.__struct_fields__) - {"documents", "bare_folders", "packed", "packs"}
    assert set(described["properties"]) == parts
    *kinds, pack = described["properties"]["servers"]["additionalProperties"]["anyOf"]
    assert [kind["$ref"] for kind in kinds] == ["#/$defs/StdioOptions", "#/$defs/HttpOptions"]
    assert pack["required"] == ["pack"]
    assert "command" not in pack["properties"]
    assert {"settings", "sandbox", "required"} <= set(pack["properties"])
    for name, kind in (("StdioOptions", StdioOptions), ("HttpOptions", HttpOptions)):
        assert list(described["$defs"][name]["properties"]) == list(kind.__struct_fields__)
        assert described["$defs"][name]["additionalProperties"] is False
    json.dumps(described)
