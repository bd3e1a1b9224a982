"""`bascule doctor` as it is typed: lines, exit codes, repairs, real gateways that are well and that are not."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from command import Done
from doctoring import SEAL, Json, change, doctored, good, write
from gateway import local, serving

SECRETS = {"SEAL_KEY": SEAL, "CRM_TOKEN": "t" * 32}
LOCAL: Json = {"servers": {"plain": local("plain", sandbox="auto")}, "state_dir": "state"}


@pytest.fixture
def config(tmp_path: Path) -> Json:
    return good(tmp_path, at=datetime.now(UTC)) | {"contracts": []}


async def asked(*words: str, cwd: Path, env: dict[str, str] | None = None) -> Done:
    """While a gateway runs in this loop."""
    return await asyncio.to_thread(doctored, *words, cwd=cwd, env=env)


def found(done: Done) -> dict[str, Any]:
    """The findings of --json, by their rule."""
    return {each["rule"]: each for each in json.loads(done.out)["findings"]}


# ---- one look


def test_nothing_wrong_is_said_and_is_exit_0(tmp_path: Path) -> None:
    from doctoring import CONTRACT

    config = good(tmp_path, at=datetime.now(UTC))
    config["contracts"] = [CONTRACT | {"last_security_review": f"{datetime.now(UTC):%Y-%m-%d}"}]
    write(tmp_path, config)
    done = doctored(
        "doctor", "-c", "bascule.json", "--strict", "--url", "http://127.0.0.1:9", cwd=tmp_path, env=SECRETS
    )
    assert {*found(doctored("doctor", "-c", "bascule.json", "--json", cwd=tmp_path, env=SECRETS))} <= {"disk-low"}
    assert "nothing is wrong" in doctored("doctor", "-c", "bascule.json", cwd=tmp_path, env=SECRETS).err
    assert (done.code, "[gateway-unreachable]" in done.out) == (1, True)


def test_a_finding_is_one_line_and_one_line_that_mends_it(tmp_path: Path) -> None:
    write(tmp_path, LOCAL | {"servers": {"a": {"command": "no-such-command"}}}, "bascule.yaml")
    done = doctored("doctor", "--elsewhere", cwd=tmp_path)
    assert done.lines == [
        "note: bascule.yaml: nobody is named: whoever is on this machine may call everything [no-callers]",
        "    callers: {me: {scopes: [crm:read]}}",
    ]
    assert done.code == 0
    assert "0 errors, 0 warnings, 1 note" in done.err


@pytest.mark.parametrize(
    ("dotted", "value", "words", "code"),
    [
        ("callers.ci.scopes", ["*"], [], 0),
        ("callers.ci.scopes", ["*"], ["--strict"], 1),
        ("servers.spare.command", "no-such-command", [], 1),
        ("servers.spare.command", "no-such-command", ["--elsewhere"], 0),
        ("servers.crm.required", False, ["--strict"], 0),
    ],
)
def test_exit_codes_are_for_pipelines(
    dotted: str, value: Any, words: list[str], code: int, tmp_path: Path, config: Json
) -> None:
    change(dotted, value)(config)
    write(tmp_path, config)
    done = doctored("doctor", "-c", "bascule.json", *words, cwd=tmp_path, env=SECRETS)
    assert done.code == code, done.out + done.err


def test_a_configuration_that_cannot_be_read_is_the_finding_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "bascule.yaml").write_text("servers:\n  a: {comand: x}\n")
    done = doctored("doctor", cwd=tmp_path)
    assert done.code == 2
    assert done.lines[0].startswith("error: bascule.yaml:2: ")
    assert "[configuration-wrong]" in done.lines[0]
    assert done.lines[1].strip() == "bascule validate bascule.yaml"
    as_json = doctored("doctor", "--json", cwd=tmp_path)
    assert (as_json.code, {*found(as_json)}) == (2, {"configuration-wrong"})


def test_without_a_configuration_it_says_what_to_give(tmp_path: Path) -> None:
    done = doctored("doctor", cwd=tmp_path)
    assert done.code == 2
    assert "no such file; give -c FILE" in done.out


@pytest.mark.parametrize("words", [["--html", "x.html"], ["--files", "."], ["--fix", "--url", "http://127.0.0.1:9"]])
def test_options_that_make_no_sense_together_are_refused(words: list[str], tmp_path: Path) -> None:
    assert doctored("doctor", *words, cwd=tmp_path).code == 2


def test_no_secret_comes_out(tmp_path: Path, config: Json) -> None:
    secret = "ghp_" + "a1B2" * 9
    change("servers.spare.env", {"GITHUB_TOKEN": secret})(config)
    write(tmp_path, config)
    for words in (["--json"], [], ["--scorecard"], ["--scorecard", "--json"]):
        done = doctored("doctor", "-c", "bascule.json", *words, cwd=tmp_path, env=SECRETS)
        assert "GITHUB_TOKEN" in done.out
        assert not any(each in done.out + done.err for each in (secret, *SECRETS.values()))


def test_secrets_need_not_be_set_in_a_pipeline(tmp_path: Path, config: Json) -> None:
    write(tmp_path, config)
    done = doctored("doctor", "-c", "bascule.json", "--elsewhere", "--json", cwd=tmp_path)
    assert done.code == 0
    assert found(done)["reference-unset"]["fix"].startswith("export ")


# ---- repairs


def test_fix_mends_what_is_safe_and_says_how_to_undo_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    state.chmod(0o755)
    path = write(tmp_path, LOCAL, "bascule.yaml")
    before = path.read_bytes()
    assert doctored("doctor", cwd=tmp_path).code == 1
    done = doctored("doctor", "--fix", cwd=tmp_path)
    assert done.code == 0, done.out
    assert "fixed: chmod 750 state; chmod 755 state undoes it" in done.out
    assert state.stat().st_mode & 0o777 == 0o750
    assert path.read_bytes() == before
    assert "state-folder-open" not in doctored("doctor", cwd=tmp_path).out


def test_fix_reports_in_json_what_became_of_it(tmp_path: Path) -> None:
    write(tmp_path, LOCAL | {"state_dir": "new"}, "bascule.yaml")
    finding = found(doctored("doctor", "--fix", "--json", cwd=tmp_path))["state-folder-missing"]
    assert (finding["fixable"], finding["fixed"]) == (True, True)
    assert (tmp_path / "new").is_dir()


# ---- a gateway that runs


async def test_a_gateway_that_is_well_adds_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, LOCAL, "bascule.yaml")
    async with serving(path) as bascule:
        await bascule.up("plain")
        done = await asked("doctor", "-c", str(path), "--url", bascule.url, "--json", cwd=tmp_path)
    assert {*found(done)} == {"no-callers", "anchor-same-disk", "tool-blind"}, (
        "one of its tools takes an object that says nothing of itself"
    )
    looked_at = json.loads(done.out)["looked_at"]
    assert looked_at["gateway"] == bascule.url
    assert looked_at["sandbox"]["plain"].endswith("limits"), "the walls of each local server are told"
    assert looked_at["listed"] > 10


async def test_what_is_wrong_with_a_running_gateway_is_found(tmp_path: Path) -> None:
    ends = {"command": "sh", "args": ["-c", "echo no token >&2; read line; exit 3"], "required": True}
    path = write(tmp_path, LOCAL | {"servers": {"plain": local("plain"), "ends": ends}}, "bascule.json")
    async with serving(path) as bascule:
        await bascule.until("ends", lambda said: said["state"] == "failed" and said["stderr"])
        path.write_text('{"servers": 1}')
        from gateway import until

        await until(bascule.status, lambda said: said["config"]["error"] is not None)
        bare = await asked("doctor", "--url", bascule.url, "--json", cwd=tmp_path / "state")
    rules = found(bare)
    assert {"server-down", "server-restarts", "configuration-refused"} == {*rules}
    assert rules["server-down"]["severity"] == "error"
    assert "it said last: no token" in rules["server-down"]["what"]
    assert bare.code == 1


async def test_without_a_key_it_says_which_one_it_takes(tmp_path: Path, config: Json) -> None:
    del config["http"], config["servers"]["crm"]
    config["callers"] = {"ci": {"scopes": ["spare:read"], "keys": ["${env:CI_KEY}"]}}
    config["servers"] = {"spare": local("plain")}
    path = write(tmp_path, config)
    keyed = SECRETS | {"CI_KEY": "0123456789abcdefghijklmnopqrstuvwxyz"}
    async with serving(path, env=keyed) as bascule:
        without = await asked("doctor", "--url", bascule.url, cwd=tmp_path / "state")
        lacking = await asked(
            "doctor", "--url", bascule.url, cwd=tmp_path / "state", env={"BASCULE_TOKEN": keyed["CI_KEY"]}
        )
    assert "[gateway-unreachable]" in without.out
    assert without.lines[1].strip() == "export BASCULE_TOKEN=…"
    assert "bascule.status:read" in lacking.out


def test_that_no_gateway_runs_is_no_finding_unless_one_was_named(tmp_path: Path) -> None:
    write(tmp_path, LOCAL | {"http": {"port": 9}}, "bascule.yaml")
    done = doctored("doctor", cwd=tmp_path)
    assert done.code == 0
    assert "no gateway runs at http://127.0.0.1:9" in done.err
    assert "gateway" not in doctored("doctor", "--elsewhere", cwd=tmp_path).err, "there it would be another one"
    named = doctored("doctor", "--elsewhere", "--url", "http://127.0.0.1:9", cwd=tmp_path)
    assert named.code == 1
    assert "cannot be reached" in named.lines[0]


async def test_what_answers_and_is_no_bascule_is_said(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        done = await asked("doctor", "--url", url, cwd=tmp_path)
    assert done.code == 1
    assert "no Bascule" in done.lines[0]


# ---- the scorecard


def test_the_scorecard_is_read_by_people_and_programs(tmp_path: Path, config: Json) -> None:
    write(tmp_path, config)
    done = doctored("doctor", "-c", "bascule.json", "--scorecard", cwd=tmp_path, env=SECRETS)
    assert done.code == 0
    assert done.lines[0].startswith("Security: ")
    assert "  met            Callers say who they are: each request says who it is: 1 caller" in done.lines
    assert "points" in done.lines[-1]
    card = json.loads(doctored("doctor", "-c", "bascule.json", "--scorecard", "--json", cwd=tmp_path, env=SECRETS).out)
    assert sum(len(group["criteria"]) for group in card["groups"]) == 37
    assert f"{card['points']:g} of {card['most']} points" in done.lines[-1]


def test_strict_fails_while_something_critical_is_left(tmp_path: Path, config: Json) -> None:
    write(tmp_path, config)
    assert doctored("doctor", "-c", "bascule.json", "--scorecard", "--strict", cwd=tmp_path, env=SECRETS).code == 1


def test_the_page_is_written_where_it_was_asked_for(tmp_path: Path, config: Json) -> None:
    write(tmp_path, config)
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "compose.yaml").write_text("services:\n  a:\n    restart: always\n")
    words = ["doctor", "-c", "bascule.json", "--scorecard", "--html", "card.html", "--files", "deploy"]
    done = doctored(*words, cwd=tmp_path, env=SECRETS)
    assert (done.code, done.out) == (0, "")
    assert "compose.yaml starts it again" in (tmp_path / "card.html").read_text()
    refused = doctored(*words[:-4], "--html", "no/such/folder.html", cwd=tmp_path, env=SECRETS)
    assert refused.code == 2
    assert "no/such/folder.html" in refused.err
