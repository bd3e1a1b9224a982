"""`bascule connect`: whom it calls as, which way it takes, and the way back when others have written, too."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bascule.admin import connect
from bascule.admin.key_files import key_file_of
from bascule.clients import known
from bascule.clients.known import CLIENTS, Bridge, Http, Machine
from bascule.errors import ConfigInvalid
from clients_config.place import FILES, Place
from clients_config.test_jsonc_text import documents

NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
CALLERS = "callers:\n  cursor: {scopes: ['*']}\n  ci: {}\n"
OLD = {"command": "old", "args": []}


@pytest.fixture
def machine(place: Place) -> Machine:
    return Machine(home=place.home, project=place.project)


def gateway(place: Place, text: str, url: str = "") -> connect.Gateway:
    place.yaml.write_text(f"state_dir: {place.state}\n{text}")
    return connect.gateway(place.yaml, {}, url)


def planned(at: connect.Gateway, machine: Machine, client: str = "cursor", **more: Any) -> connect.Plan:
    return connect.plan(CLIENTS[client], at, machine, launcher=["/bin/bascule"], **more)


def test_each_platform_has_its_folders() -> None:
    home, project = Path("/home/me"), Path("/srv/app")
    roaming = {
        "APPDATA": "/roaming",
        "CODEX_HOME": "/codex",
        "XDG_CONFIG_HOME": "/xdg",
        "CLAUDE_CONFIG_DIR": "relative",
    }
    expected: dict[tuple[str, str], list[str]] = {
        ("linux", ""): [
            *("/home/me/.config/Claude/claude_desktop_config.json", "/home/me/.claude.json"),
            *("/home/me/.cursor/mcp.json", "/home/me/.config/Code/User/mcp.json", "/home/me/.codex/config.toml"),
            *("/home/me/.config/zed/settings.json", "/home/me/.codeium/windsurf/mcp_config.json"),
        ],
        ("darwin", ""): [
            "/home/me/Library/Application Support/Claude/claude_desktop_config.json",
            *("/home/me/.claude.json", "/home/me/.cursor/mcp.json"),
            *("/home/me/Library/Application Support/Code/User/mcp.json", "/home/me/.codex/config.toml"),
            *("/home/me/.config/zed/settings.json", "/home/me/.codeium/windsurf/mcp_config.json"),
        ],
        ("win32", "set"): [
            *("/roaming/Claude/claude_desktop_config.json", "/home/me/.claude.json", "/home/me/.cursor/mcp.json"),
            *("/roaming/Code/User/mcp.json", "/codex/config.toml", "/roaming/Zed/settings.json"),
            "/home/me/.codeium/windsurf/mcp_config.json",
        ],
    }
    for (platform, env), files in expected.items():
        machine = Machine(home=home, project=project, platform=platform, environ=roaming if env else {})  # type: ignore[arg-type]  # one of the three
        assert [known.user_file(each, machine).as_posix() for each in CLIENTS.values()] == files
    assert known.user_file(CLIENTS["zed"], Machine(home=home, project=project, environ=roaming)) == Path(
        "/xdg/zed/settings.json"
    )
    machine = Machine(home=home, project=project)
    assert [str(known.project_file(each, machine)) for each in CLIENTS.values()] == [
        *("None", "/srv/app/.mcp.json", "/srv/app/.cursor/mcp.json", "/srv/app/.vscode/mcp.json"),
        *("/srv/app/.codex/config.toml", "/srv/app/.zed/settings.json", "None"),
    ]
    assert "APPDATA" not in repr(Machine(home=home, project=project, environ=roaming))


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("", Http(url="http://127.0.0.1:8777/mcp")),
        ("http: {port: 1}", Http(url="http://127.0.0.1:1/mcp")),
        ("http: {host: '::1'}", Http(url="http://[::1]:8777/mcp")),
        ("http: {public_url: 'https://mcp.example.com/'}", Http(url="https://mcp.example.com/mcp")),
        ("auth: {issuers: {x: {issuer: 'https://x.example'}}}", Http(url="http://127.0.0.1:8777/mcp")),
        (f"auth: {{anonymous: true}}\n{CALLERS}", Http(url="http://127.0.0.1:8777/mcp")),
        (CALLERS, None),
    ],
)
def test_the_way_follows_from_the_configuration(text: str, way: Any, place: Place, machine: Machine) -> None:
    found = planned(gateway(place, text), machine).way
    if way is None:
        key = str(place.state / "clients" / "cursor.key")
        way = Bridge(command="/bin/bascule", args=("bridge", "http://127.0.0.1:8777/mcp", "--token-file", key))
    assert found == way


def test_a_client_calls_as_itself_or_as_whom_it_is_told(place: Place, machine: Machine) -> None:
    at = gateway(place, CALLERS)
    assert connect.key_file_for(at.config, CLIENTS["cursor"]) == place.state / "clients" / "cursor.key"
    assert connect.key_file_for(at.config, CLIENTS["zed"]) is None
    assert connect.key_file_for(at.config, CLIENTS["zed"], "ci") == place.state / "clients" / "ci.key"
    lacking = planned(at, machine, "zed")
    assert "zed: {scopes: ['*']}" in lacking.notes[0]
    with pytest.raises(ConfigInvalid, match="no caller 'zed' yet"):
        connect.write(connect.edit(lacking), at, "", NOW)
    assert not (place.home / FILES["zed"]).exists()
    with pytest.raises(ConfigInvalid, match="there are cursor, ci"):
        planned(at, machine, "zed", caller="nobody")
    connect.write(connect.edit(planned(at, machine, "zed", caller="ci")), at, "ci", NOW)
    key = place.state / "clients" / "ci.key"
    assert (stat.S_IMODE(key.stat().st_mode), key.read_text()[:8]) == (0o600, "gw_live_")
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700


def test_a_caller_whose_name_is_no_name_of_a_file_is_told(place: Place, machine: Machine) -> None:
    at = gateway(place, "callers: {'a@b': {}}\n")
    for name in at.config.callers:
        with pytest.raises(ConfigInvalid, match="cannot be the name of a file"):
            planned(at, machine, caller=name)


def test_a_key_that_is_good_stays(place: Place) -> None:
    config = gateway(place, CALLERS).config
    path = key_file_of(config, "ci", NOW.timestamp())
    first = path.read_text()
    assert key_file_of(config, "ci", NOW.timestamp()).read_text() == first
    for broken in ("", "gw_live_nonsense", key_file_of(config, "cursor", NOW.timestamp()).read_text()):
        path.write_text(broken)
        assert key_file_of(config, "ci", NOW.timestamp()).read_text() not in (broken, first)


def test_a_gateway_with_one_token_needs_its_file(place: Place, machine: Machine) -> None:
    found = planned(gateway(place, "http: {bearer: '${file:/run/secrets/token}'}"), machine).way
    assert isinstance(found, Bridge)
    assert found.args[-1] == "/run/secrets/token"
    with pytest.raises(ConfigInvalid, match="--token-file"):
        planned(gateway(place, "http: {bearer: '${env:T}'}"), machine)
    found = planned(gateway(place, "http: {bearer: '${env:T}'}"), machine, token_file=Path("/k")).way
    assert isinstance(found, Bridge)


def test_a_key_never_goes_over_a_network_in_the_clear(place: Place, machine: Machine) -> None:
    with pytest.raises(ConfigInvalid, match="unencrypted"):
        planned(gateway(place, CALLERS, "http://gateway.example/mcp"), machine)
    assert planned(gateway(place, CALLERS, "https://gateway.example/mcp"), machine)


def written(place: Place, machine: Machine, before: str | None) -> tuple[connect.Gateway, Path]:
    at, file = gateway(place, ""), place.home / FILES["cursor"]
    if before is not None:
        place.says(FILES["cursor"], before)
    connect.write(connect.edit(planned(at, machine)), at, "", NOW)
    return at, file


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=documents(), name=st.sampled_from(["bascule", "", 'ü "\\', "a.b"]))
def test_there_and_back_is_nothing_at_all(text: str, name: str, place: Place, machine: Machine) -> None:
    at = gateway(place, "")
    for client, content in (
        ("cursor", text),
        ("codex", f"# {text!r}\r\n[mcp_servers.'x y']\ncommand = {json.dumps(text, ensure_ascii=False)}\n"),
    ):
        if client == "codex" and "\x7f" in content:
            continue  # which TOML does not take
        file = place.home / FILES[client]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode())
        connect.write(connect.edit(planned(at, machine, client, name=name)), at, "", NOW)
        assert file.read_bytes() != content.encode()
        assert connect.undo(CLIENTS[client], file, at.state).exactly
        assert file.read_bytes() == content.encode()


def test_the_way_back_keeps_what_others_wrote(place: Place, machine: Machine) -> None:
    at, file = written(place, machine, '{\n  // mine\n  "mcpServers": {"a": {"command": "x"}}\n}\n')
    file.write_text(file.read_text().replace("// mine", "// changed"))
    undone = connect.undo(CLIENTS["cursor"], file, at.state)
    assert not undone.exactly
    assert "// changed" in file.read_text()
    assert '"a": {"command": "x"}' in file.read_text()
    assert "bascule" not in file.read_text()


def test_an_entry_of_the_same_name_comes_back(place: Place, machine: Machine) -> None:
    text = json.dumps({"mcpServers": {"bascule": OLD, "b": {}}})
    at, file = written(place, machine, text)
    assert json.loads(file.read_text())["mcpServers"]["bascule"] == {"url": "http://127.0.0.1:8777/mcp"}
    file.write_text(file.read_text() + "\n")
    assert not connect.undo(CLIENTS["cursor"], file, at.state).exactly
    assert json.loads(file.read_text()) == json.loads(text)


def test_several_changes_are_taken_back_one_by_one(place: Place, machine: Machine) -> None:
    at, file = written(place, machine, None)
    first = file.read_text()
    connect.write(connect.edit(planned(at, machine, name="other")), at, "", NOW)
    second = file.read_text()
    assert connect.write(connect.edit(planned(at, machine, name="other")), at, "", NOW) is None  # says so already
    assert file.read_text() == second
    assert connect.undo(CLIENTS["cursor"], file, at.state).exactly
    assert file.read_text() == first
    assert connect.undo(CLIENTS["cursor"], file, at.state).exactly
    assert not file.exists()
    with pytest.raises(ConfigInvalid, match="nothing was written"):
        connect.undo(CLIENTS["cursor"], file, at.state)


def test_a_file_that_is_gone_or_broken_by_then_is_told_of(place: Place, machine: Machine) -> None:
    at, file = written(place, machine, "{}")
    file.write_text("{nope")
    with pytest.raises(ConfigInvalid, match="by hand"):
        connect.undo(CLIENTS["cursor"], file, at.state)
    assert file.read_text() == "{nope"
    file.unlink()
    assert not connect.undo(CLIENTS["cursor"], file, at.state).exactly
    assert not file.exists()


def test_a_file_that_changed_meanwhile_is_not_written_over(place: Place, machine: Machine) -> None:
    at, file = gateway(place, ""), place.says(FILES["cursor"], "{}")
    change = connect.edit(planned(at, machine))
    file.write_text('{"mcpServers": {}}')
    with pytest.raises(ConfigInvalid, match="changed by somebody else"):
        connect.write(change, at, "", NOW)
    assert file.read_text() == '{"mcpServers": {}}'
    assert [each.name for each in file.parent.iterdir()] == ["mcp.json"]


def test_modes_and_links_stay(place: Place, machine: Machine) -> None:
    real = place.home / "dotfiles.json"
    real.write_text("{}")
    real.chmod(0o644)
    file = place.home / FILES["cursor"]
    file.parent.mkdir(parents=True)
    file.symlink_to(real)
    at = gateway(place, "")
    backup = connect.write(connect.edit(planned(at, machine)), at, "", NOW)
    assert backup is not None
    assert (file.is_symlink(), stat.S_IMODE(real.stat().st_mode)) == (True, 0o644)
    assert (backup.name, stat.S_IMODE(backup.stat().st_mode)) == ("cursor-mcp.json.bak-20261121-050000", 0o600)
    assert backup.parent == place.state / "backups"


def test_a_project_has_a_file_of_its_own(place: Place) -> None:
    done = place("connect", "claude-code", "--project", "--write")
    assert done.code == 0, done.err
    said = json.loads((place.project / ".mcp.json").read_text())
    assert said["mcpServers"]["bascule"] == {"type": "http", "url": "http://127.0.0.1:8777/mcp"}
    assert "bascule connect claude-code --undo --project" in done.err
    assert place("connect", "claude-code", "--undo", "--project").code == 0
    assert not (place.project / ".mcp.json").exists()
    assert "leave --project out" in place("connect", "windsurf", "--project").err
    assert "--scope project" in place("connect", "claude-code", "--project").err


def test_what_it_says_to_a_program(place: Place) -> None:
    shown = json.loads(place("connect", "vscode", "--json", "--name", "gate").out)
    assert (shown["section"], shown["name"]) == ("servers", "gate")
    assert shown["entry"] == {"type": "http", "url": "http://127.0.0.1:8777/mcp"}
    assert shown["link"].startswith("vscode:mcp/install?")
    done = json.loads(place("connect", "vscode", "--json", "--write").out)
    assert (done["written"], done["backup"]) == (True, None)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["emacs"], "there are claude-desktop"),
        (["cursor", "--write", "--undo"], "one of --print"),
        (["cursor", "--http", "--bridge"], "at most one"),
        (["cursor", "--url", "https://u:p@h/"], "holds a user or a password"),
        (["cursor", "-c", "none.yaml"], "no such file"),
    ],
)
def test_wrong_words_are_explained(words: list[str], why: str, place: Place) -> None:
    done = place("connect", *words)
    assert (done.code, done.out) == (2, "")
    assert why in done.err
