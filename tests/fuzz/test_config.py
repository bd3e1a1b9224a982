"""Any text in place of a configuration is a configuration, or an error with its place; nothing else comes out."""

import copy
import json
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bascule import config
from bascule.errors import ConfigInvalid
from fuzz.mangling import mangled

ENVIRON: Final = {"TOKEN": "t" * 32, "KEY": "A" * 43 + "=", "XDG_STATE_HOME": "/nowhere"}
WHOLE: Final[dict[str, Any]] = {
    "http": {"port": 8000, "bearer": "${env:TOKEN}", "allowed_origins": ["https://console.example"]},
    "seal": {"keys": ["${env:KEY}"]},
    "servers": {
        "far": {"url": "https://far.example/mcp", "headers": {"x": "${env:TOKEN}"}, "era": "modern"},
        "near": {"command": "python", "args": ["-m", "x"], "env": {"A": "b"}, "start": "lazy"},
    },
    "aliases": {"far/echo": "echo"},
    "callers": {"agent": {"keys": ["${env:TOKEN}"], "scopes": ["far:*"], "limits": {"rate": "10/minute"}}},
    "roles": {"reader": ["far:read"]},
    "auth": {"issuers": {"as": {"issuer": "https://as.example", "scopes": ["far"], "roles": ["reader"]}}},
    "policy": {"default": "deny", "rules": [{"tool": "far/*", "guardrails": [{"deny": "args.x > 1"}]}]},
    "limits": {"caller": {"rate": "1/second", "budget": {"usd": 1.5}}, "servers": {"far": {"concurrent": 3}}},
    "contracts": [{"tool": "far/echo", "version": "1.0.0", "side_effect": False}],
}
ODD: Final[list[Any]] = [
    *(None, True, -1, 0, 10**400, 1.5, float("inf"), float("nan"), "", " ", "${", "${env:}", "${env:NOPE}", "${x:y}"),
    *(
        "${file:/nowhere/\x00}",
        "\ud800",
        "a" * 300,
        [],
        {},
        [[]],
        {"": {}},
        "http://",
        "http://[",
        "*",
        "1/",
        "0/second",
    ),
    *("9" * 5000 + "/second", "args.", "(" * 300, "far/../x", "2026-13-01", "\n", {"a": {"a": {"a": {}}}}),
]
GOOD: Final = {
    ".yaml": [yaml.safe_dump(WHOLE), yaml.safe_dump({"servers": WHOLE["servers"]})],
    ".json": [json.dumps(WHOLE), json.dumps({"servers": {}}, indent=1)],
    ".toml": ['[servers.far]\nurl = "https://far.example/mcp"\n[http]\nport = 1\nbearer = "${env:TOKEN}"\n'],
}
WORDS: Final = [
    *(
        "&a",
        "*a",
        "<<: *a",
        "!!python/object/apply:os.system",
        "!!binary",
        "? ",
        "- ",
        ": ",
        "---\n",
        "...\n",
        "%YAML 9\n",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        '"',
        "'",
        "|",
        ">",
        "#",
        "\t",
        "\x00",
        "\ufeff",
        "\x85",
        "null",
        "~",
        "1e999",
        "0o17",
        "2026-13-01",
    ),
    *(
        "${env:TOKEN:-x}",
        "${TOKEN",
        "}",
        ".inf",
        "-.nan",
        "[[",
        "]]\n",
        "1979-05-27T99:00:00",
        "servers:",
        "\n\n",
        "  ",
    ),
]
noise = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, str]:
    """(suffix, text) of a file."""
    suffix = draw(st.sampled_from(sorted(GOOD)))
    return suffix, draw(mangled(st.sampled_from(GOOD[suffix]), WORDS, noise))


@settings(deadline=None)  # YAML in pure Python takes its time for what is nested
@given(texts())
@example((".yaml", "a: &a [x,x]\nb: &b [*a,*a]\nservers: {}\n"))
@example((".yaml", "servers: " + "[" * 900))
@example((".json", "[" * 200_000))
@example((".json", '{"servers":{},"patience_s":' + "9" * 5000 + "}"))
@example((".yaml", "patience_s: " + "9" * 5000))
@example((".toml", "patience_s = " + "9" * 5000))
def test_any_text_is_a_configuration_or_an_error_with_its_place(file: tuple[str, str]) -> None:
    suffix, text = file
    _load(suffix, text.encode())


@given(st.sampled_from(sorted(GOOD)), st.binary(max_size=40))
def test_any_bytes_are_too(suffix: str, content: bytes) -> None:
    _load(suffix, content)


@st.composite
def odd_values(draw: st.DrawFn) -> dict[str, Any]:
    """A good configuration with odd values in some of its places."""
    whole: dict[str, Any] = json.loads(json.dumps(WHOLE))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = whole
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if draw(st.booleans()) and isinstance(place[key], dict | list):
                place = place[key]
                continue
            if draw(st.booleans()) and isinstance(place, dict):
                place[draw(st.sampled_from(["", "x", "*", "far", "\x00", "a" * 100]))] = place.pop(key)
            else:
                place[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
            break
    return whole


@given(odd_values())
def test_any_value_in_any_place_is_taken_or_refused_with_its_field(whole: dict[str, Any]) -> None:
    _load(".json", json.dumps(whole).encode())


def _load(suffix: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"bascule{suffix}"
        path.write_bytes(content)
        try:
            found = config.load(path, ENVIRON)
        except ConfigInvalid as error:
            assert str(path) in str(error)  # noqa: PT017 - nothing else may be raised
            assert ENVIRON["TOKEN"] not in str(error)  # noqa: PT017
        else:
            assert isinstance(found, config.Config)
