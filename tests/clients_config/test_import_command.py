"""`bascule import`: what it finds, what it writes, what it never says, and the way back."""

import json
import os
import pty
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command import BASCULE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bascule import config
from clients_config.place import CANARY, FILES, Place

GITHUB = {"command": "npx", "args": ["-y", "server-github"], "env": {"GITHUB_TOKEN": CANARY, "LOG_LEVEL": "debug"}}
SECTIONS = {"vscode": "servers", "zed": "context_servers"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def say_in_all(place: Place) -> None:
    """Each client has one server of its own, and all but Codex have the same, too."""
    for client, file in FILES.items():
        own = {"url": f"https://{client}.example/mcp", "headers": {"X-Key": CANARY}}
        if client == "codex":
            place.says(file, f'[mcp_servers.codex]\ncommand = "x"\nenv = {{ KEY = "{CANARY}" }}\n')
        else:
            place.says(file, {SECTIONS.get(client, "mcpServers"): {"github": GITHUB, client: own}})


def document(place: Place, *words: str) -> dict[str, Any]:
    done = place("import", "--json", *words)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_what_all_clients_have_is_listed_and_nothing_is_written(place: Place) -> None:
    say_in_all(place)
    done = place("import")
    assert done.code == 0
    assert [line.split("\t")[1] for line in done.lines if not line.startswith("-")] == [
        *("github", "claude-desktop", "claude-code", "cursor", "vscode", "codex", "zed", "windsurf")
    ]
    assert done.lines[0].split("\t")[2:] == [
        *("Claude Desktop (~/.config/Claude/claude_desktop_config.json)", "npx -y server-github", "GITHUB_TOKEN", "")
    ]
    assert "--only NAME" in done.err
    assert not place.yaml.exists()
    assert not place.state.exists()


def test_all_are_taken_over_and_the_configuration_loads(place: Place) -> None:
    say_in_all(place)
    done = place("import", "--all", "--yes")
    assert done.code == 0, done.err
    text = place.yaml.read_text()
    assert CANARY not in text
    assert text.startswith("# Servers behind Bascule")
    assert mode(place.yaml) == 0o600
    loaded = config.load(place.yaml, {"XDG_STATE_HOME": str(place.state.parent)})
    assert sorted(loaded.servers) == sorted(["github", *FILES])
    assert loaded.servers["github"].env == {"GITHUB_TOKEN": CANARY, "LOG_LEVEL": "debug"}  # type: ignore[union-attr]  # it has a command
    secrets = list((place.state / "secrets").iterdir())
    assert len(secrets) == 8
    assert {mode(each) for each in secrets} == {0o600}
    assert mode(place.state / "secrets") == 0o700
    assert place("validate").code == 0
    again = place("import", "--all", "--yes")
    assert (again.code, "nothing new" in again.err) == (0, True)
    assert place.yaml.read_text() == text


def test_the_way_back_is_exact(place: Place) -> None:
    say_in_all(place)
    before = "# mine\nservers:\n    own: {command: cat}   # tail\n\naudit: strict\n"
    place.yaml.write_text(before)
    place.yaml.chmod(0o640)
    done = place("import", "--only", "cursor", "--yes")
    assert done.code == 0, done.err
    assert mode(place.yaml) == 0o640
    (backup,) = place.project.glob("bascule.yaml.bak-*")
    assert re.fullmatch(r"bascule\.yaml\.bak-\d{8}-\d{6}", backup.name)
    assert (backup.read_text(), mode(backup)) == (before, 0o600)
    assert str(backup) in done.err
    assert "bascule import --undo\n" in done.err
    back = place("import", "--undo")
    assert back.code == 0, back.err
    assert place.yaml.read_text() == before
    assert mode(place.yaml) == 0o640
    assert list((place.state / "secrets").iterdir()) == []
    assert place("import", "--undo").code == 2


def test_a_new_configuration_is_gone_after_the_way_back(place: Place) -> None:
    say_in_all(place)
    into = place.project / "sub" / "other.yaml"
    done = place("import", "--all", "--yes", "--into", "sub/other.yaml")
    assert done.code == 0, done.err
    assert "bascule import --undo --into sub/other.yaml" in done.err
    assert place("import", "--undo", "--into", "sub/other.yaml").code == 0
    assert not into.exists()


def test_what_was_changed_since_is_not_taken_back_over_it(place: Place) -> None:
    say_in_all(place)
    assert place("import", "--all", "--yes").code == 0
    text = place.yaml.read_text() + "# mine\n"
    place.yaml.write_text(text)
    done = place("import", "--undo")
    assert done.code == 2
    assert "was changed since" in done.err
    assert place.yaml.read_text() == text


def test_nothing_is_written_where_nobody_agrees(place: Place) -> None:
    say_in_all(place)
    for words in (("--all",), ("--all", "--dry-run"), ("--only", "cursor"), ("--json",), ()):
        done = place("import", *words)
        assert done.code == (2 if "--dry-run" not in words and words not in (("--json",), ()) else 0), words
        assert not place.yaml.exists()
        assert not place.state.exists()
    shown = place("import", "--all", "--dry-run").err
    assert "+    command: npx" in shown
    assert "GITHUB_TOKEN: ${file:" in shown


def test_a_person_picks_by_numbers_and_agrees(place: Place) -> None:
    say_in_all(place)
    for typed, expected in (("2-3\ny\n", {"claude-desktop", "claude-code"}), ("2\nn\n", set()), ("\n", set())):
        place.yaml.unlink(missing_ok=True)
        said = at_terminal(place, typed)
        assert CANARY not in said
        assert names(place) == expected, said
    assert "is none of the numbers" in at_terminal(place, "99\n")


def names(place: Place) -> set[str]:
    if not place.yaml.exists():
        return set()
    return set(config.load(place.yaml, {"XDG_STATE_HOME": str(place.state.parent)}).servers)


def at_terminal(place: Place, typed: str) -> str:
    """What is said when `bascule import` has a terminal, on which *typed* is typed."""
    leader, follower = pty.openpty()
    os.write(leader, typed.encode())
    env = {**os.environ, **place.environ}
    done = subprocess.run(
        [*BASCULE, "import"], stdin=follower, capture_output=True, cwd=place.project, env=env, timeout=60, check=False
    )
    os.close(leader)
    os.close(follower)
    return (done.stdout + done.stderr).decode()


def test_files_of_any_client_and_of_mcp_proxy_are_read_by_name(place: Place) -> None:
    proxy = {"mcpServers": {"fetch": {"command": "uvx", "args": ["mcp-server-fetch"], "enabled": True, "timeout": 60}}}
    place.says("../project/named.json", proxy)
    place.says("../project/.vscode/mcp.json", '{"servers": {"ws": {"command": "${workspaceFolder}/run", }, }, } // x')
    found = document(place, "--from", "named.json", "--from", ".vscode/mcp.json", "--all", "--yes")
    assert [each["name"] for each in found["servers"]] == ["fetch", "ws"]
    loaded = config.load(place.yaml, {"XDG_STATE_HOME": str(place.state.parent)})
    assert loaded.servers["ws"].command == f"{place.project}/run"  # type: ignore[union-attr]  # it has one
    assert place("import", "--from", "nowhere.json").code == 2
    assert "claude-desktop, claude-code" in place("import", "--from", "emacs").err


def test_a_server_that_is_switched_off_is_taken_by_name_alone(place: Place) -> None:
    place.says(FILES["cursor"], {"mcpServers": {"off": {"command": "x", "disabled": True}}})
    assert [each["state"] for each in document(place, "--all", "--yes")["servers"]] == ["switched off"]
    assert not place.yaml.exists()
    assert [each["state"] for each in document(place, "--only", "off", "--yes")["servers"]] == ["taken"]


def test_the_gateway_itself_is_no_server_of_its_own(place: Place) -> None:
    place.yaml.write_text("http: {port: 9123, public_url: 'https://mcp.example.com'}\n")
    said = {
        "a": {"url": "http://localhost:9123/mcp"},
        "b": {"url": "https://mcp.example.com/mcp"},
        "c": {"url": "https://x/"},
    }
    place.says(FILES["cursor"], {"mcpServers": said})
    assert [each["state"] for each in document(place)["servers"]] == ["skipped", "skipped", "new"]


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_configurations_in_other_languages_are_added_to(suffix: str, place: Place) -> None:
    place.says(FILES["cursor"], {"mcpServers": {"github": GITHUB}})
    path = place.project / f"b.{suffix}"
    path.write_text('{"audit": "strict"}' if suffix == "json" else 'audit = "strict"\n')
    assert place("import", "--all", "--yes", "--into", path.name).code == 0
    loaded = config.load(path, {"XDG_STATE_HOME": str(place.state.parent)})
    assert loaded.servers["github"].command == "npx"  # type: ignore[union-attr]  # it has one
    assert config.audit_of(loaded).mode == "strict"


def test_a_configuration_that_leaves_no_place_is_told_what_to_paste(place: Place) -> None:
    place.says(FILES["cursor"], {"mcpServers": {"github": GITHUB}})
    text = "servers: {own: {command: cat}}\n"
    place.yaml.write_text(text)
    done = place("import", "--all", "--yes")
    assert done.code == 2
    assert "  github:\n    command: npx\n" in done.err
    assert place.yaml.read_text() == text
    assert not (place.state / "secrets").exists()


# ---- hostile files


def deep(levels: int) -> str:
    return '{"mcpServers":' * levels + "{}" + "}" * levels


HOSTILE: dict[str, str | bytes] = {
    "large": " " * (10 * 1024 * 1024) + "{}",
    "deep": deep(100_000),
    "twice": '{"mcpServers": {"a": {"command": "x"}, "a": {"command": "y"}}}',
    "no utf-8": b'{"mcpServers": {"a": {"command": "\xff\xfe"}}}',
    "no json": '{"mcpServers": {"TOKEN": "' + CANARY,
    "no object": '["mcpServers"]',
    "null": '{"mcpServers": null}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_of_one_client_hides_no_other(kind: str, place: Place) -> None:
    content = HOSTILE[kind]
    path = place.says(FILES["cursor"], "")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    place.says(FILES["zed"], {"context_servers": {"fine": {"command": "x", "args": []}}})
    found = document(place, "--all", "--yes")
    assert [(each["name"], each["state"]) for each in found["servers"]] == [("fine", "taken")]
    if kind not in ("no object", "null"):
        (said,) = found["unread"]
        assert str(path) in said
        assert place("import", "--from", "cursor").code == 2  # asked for by name
    connected = place("connect", "cursor", "--write")
    if kind != "null" or connected.code:
        assert connected.code == 2, connected.err
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())


def test_what_is_no_file_is_not_waited_for(place: Place) -> None:
    path = place.says(FILES["cursor"], "")
    path.unlink()
    os.mkfifo(path)
    (place.home / FILES["zed"]).mkdir(parents=True)
    said = document(place)["unread"]
    assert [str(path) in said[0], FILES["zed"] in said[1]] == [True, True]


def test_a_configuration_that_is_broken_is_left_alone(place: Place) -> None:
    place.says(FILES["cursor"], {"mcpServers": {"github": GITHUB}})
    place.yaml.write_text("a: &a [1]\nservers: {a: 1\n")
    done = place("import", "--all", "--yes")
    assert done.code == 2
    assert "bascule.yaml:" in done.err


def test_a_link_stays_a_link(place: Place) -> None:
    place.says(FILES["cursor"], {"mcpServers": {"github": GITHUB}})
    real = place.home / "dotfiles.yaml"
    real.write_text("servers: {}\n")
    place.yaml.symlink_to(real)
    assert place("import", "--all", "--yes").code == 0
    assert place.yaml.is_symlink()
    assert "github:" in real.read_text()
    assert place("import", "--undo").code == 0
    assert (place.yaml.is_symlink(), real.read_text()) == (True, "servers: {}\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_loses_nothing(place: Place) -> None:
    place.says(FILES["cursor"], {"mcpServers": {"github": GITHUB}})
    place.yaml.write_text("servers: {}\n")
    place.project.chmod(0o500)
    done = place("import", "--all", "--yes")
    place.project.chmod(0o700)
    assert done.code == 2
    assert "nothing was changed" in done.err
    assert list((place.state / "secrets").iterdir()) == []


def test_a_folder_in_the_way_of_the_file_loses_nothing(place: Place) -> None:
    """As a folder that cannot be written, also for root."""
    place.says(FILES["cursor"], {"mcpServers": {"github": GITHUB}})
    (place.project / "file").write_text("")
    done = place("import", "--all", "--yes", "--into", "file/bascule.yaml")
    assert done.code == 2
    assert "cannot be written" in done.err
    assert list((place.state / "secrets").iterdir()) == []


PLACES = st.sampled_from(
    [
        lambda secret: {"command": "x", "env": {"ANY": secret}},
        lambda secret: {"command": "x", "args": ["--token", secret]},
        lambda secret: {"command": "x", "args": [f"--opt={secret}"]},
        lambda secret: {"command": "x", "args": ["-e", f"A={secret}"]},
        lambda secret: {"command": "bash", "args": ["-c", f"A={secret} run '{secret}'"]},
        lambda secret: {"command": f"A={secret} run | cat"},
        lambda secret: {"url": f"https://u:{secret}@h.example/x"},
        lambda secret: {"url": f"https://h.example/{secret}/mcp?x={secret}"},
        lambda secret: {"url": f"https://{secret}@h.example/#{secret}"},
        lambda secret: {"command": "x", "env": {"HOOK": f"https://h.example/services/T0/{secret}"}},
        lambda secret: {"command": "x", "args": [f"postgres://h/db?password={secret}", f"--x={secret}", f"-p{secret}"]},
        lambda secret: {"url": "https://h.example/", "headers": {"X-Any": secret, "Authorization": f"Basic {secret}"}},
        lambda secret: {"command": "x", "env": {"A": f"${{B:-{secret}}}"}},
        lambda secret: {"command": "x", "env": {"A": f"${{command:{secret}}}"}},
        lambda secret: {"command": "x", "cwd": f"rel/{secret}"},
        lambda secret: {"command": "x", "args": {"a": secret}},
        lambda secret: {"settings": {"token": secret}},
    ]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(PLACES, min_size=1, max_size=14), comment=st.booleans())
def test_a_secret_is_never_said_wherever_it_stands(said: list[Any], comment: bool, place: Place) -> None:
    text = json.dumps({"mcpServers": {f"s{number}": make(CANARY) for number, make in enumerate(said)}}, indent=1)
    place.says(FILES["cursor"], f"// {CANARY}\n{text}" if comment else text)
    place.yaml.write_text(f"servers:\n  own:\n    command: x\n    env: {{TOKEN: {CANARY}}}\n")
    for words in ((), ("--json",), ("--all", "--dry-run"), ("--all", "--yes"), ("--undo",)):
        place("import", *words)  # which looks for it in all that is printed
    place("connect", "cursor", "--write")
    place("connect", "cursor", "--undo")
    kept = [path for path in place.project.rglob("*") if path.is_file() and CANARY in path.read_text()]
    assert {mode(path) for path in kept if path != place.yaml} <= {0o600}
    kept = [path for path in place.state.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert {mode(path) for path in kept} <= {0o600}


def test_what_a_project_brings_along_is_taken_over_only_where_somebody_names_it(place: Place) -> None:
    (place.project / ".mcp.json").write_text('{"mcpServers": {"lure": {"command": "bash", "args": ["-c", "true"]}}}')
    done = place("import", "--all", "--yes")
    assert "lure of" in done.err
    assert "as a project brings it: --only lure" in done.err
    assert not (place.project / "bascule.yaml").exists() or "lure" not in (place.project / "bascule.yaml").read_text()
    assert place("import", "--only", "lure", "--yes").code == 0
    assert "lure" in (place.project / "bascule.yaml").read_text()
