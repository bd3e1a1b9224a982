"""`bascule audit`: the record of every call on stdout, what is wrong with it in the exit code."""

import asyncio
import csv
import json
import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from command import BASCULE, Done, bascule

from auditing import Life, call, hands, recorded

CONFIG: Final = "state_dir: state\n"
NASTY: Final = "evil\x1b]0;owned\x07\u202egnp\x9b31m\n2026 forged line"


class Place:
    """A folder with a configuration, in which somebody types `bascule audit …`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        (folder / "bascule.yaml").write_text(CONFIG)

    def audit(self, *words: str, stdin: str = "") -> Done:
        return bascule("audit", *words, cwd=self.folder, stdin=stdin)

    def json(self, *words: str) -> Any:
        return json.loads(self.audit(*words).out)


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    records = [
        call(1, took_us=1834, cost_nano_usd=2_000_000),
        call(2, kind="intent", outcome="", decision=""),
        call(2, outcome="unavailable"),
        call(3, kind="intent", outcome="", decision="", caller="ops"),
        call(4, caller=NASTY, thing=NASTY, outcome="scope_denied", decision="deny"),
    ]
    await recorded(place.state, records)
    return place


def test_there_is_one_line_for_each_call(place: Place) -> None:
    done = place.audit("tail")
    assert (done.code, done.err) == (0, "")
    assert [line.split("\t") for line in done.lines[:3]] == [
        [
            "2027-01-15T08:00:00.001Z",
            "agent",
            "crm/create_lead",
            "allow",
            "answered",
            "1.8 ms",
            "$0.002",
            call(1).trace_id,
        ],
        ["2027-01-15T08:00:00.002Z", "agent", "crm/create_lead", "allow", "unavailable", "-", "-", call(2).trace_id],
        ["2027-01-15T08:00:00.003Z", "ops", "crm/create_lead", "intent", "no end known", "-", "-", call(3).trace_id],
    ]
    assert len(place.audit("tail", "--all").lines) == 5
    assert place.audit("tail", "-n", "1").lines == done.lines[-1:]


@pytest.mark.parametrize(
    "words", [("tail",), ("search",), ("export",), ("export", "--format", "csv"), ("search", "--json")]
)
def test_what_a_client_has_made_up_reaches_no_terminal(place: Place, words: tuple[str, ...]) -> None:
    done = place.audit(*words)
    assert done.code == 0
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(done.out)
    assert "\\u001b" in done.out
    assert not any(line.startswith("2026 forged") for line in done.lines)


def test_calls_are_found_by_what_is_said_of_them(place: Place) -> None:
    assert len(place.audit("search").lines) == 4
    assert len(place.audit("search", "--decision", "deny").lines) == 1
    assert len(place.audit("search", "--caller", "ops", "--tool", "crm/*").lines) == 1
    assert (
        len(place.audit("search", "--since", "2027-01-15T08:00:00.002Z", "--until", "2027-01-15T08:00:00.003Z").lines)
        == 1
    )
    assert place.audit("search", "--since", "1h", "--until", "1m").lines == []
    assert [each["entry"]["kind"] for each in place.json("search", "--kind", "intent", "--json")] == [
        "intent",
        "intent",
    ]
    assert "may be more" in place.audit("search", "-n", "2").err


def test_a_time_that_is_none_is_bad_usage(place: Place) -> None:
    done = place.audit("search", "--since", "yesterday")
    assert (done.code, done.out) == (2, "")
    assert "--since 'yesterday': write how long ago" in done.err


def test_an_export_is_whole(place: Place) -> None:
    lines = [json.loads(line) for line in place.audit("export").lines]
    assert [each["seq"] for each in lines] == [1, 2, 3, 4, 5]
    assert lines[4]["entry"]["caller"] == NASTY
    table = list(csv.DictReader(place.audit("export", "--format", "csv").lines))
    assert [each["kind"] for each in table] == ["call", "intent", "call", "intent", "call"]


def test_verify_says_that_all_is_well(place: Place) -> None:
    done = place.audit("verify")
    assert (done.code, done.out, done.err) == (0, "ok: 5 entries, 1 signed heads, signed up to entry 5\n", "")
    assert place.json("verify", "--json")["ok"] is True


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE audit SET entry = replace(entry, 'unavailable', 'answered') WHERE seq = 3", "entry 3: changed"),
        ("DELETE FROM audit WHERE seq = 2", "entry 2: removed"),
        ("DELETE FROM audit WHERE seq > 3", "entry 4: cut off"),
    ],
)
def test_verify_names_the_first_bad_entry_and_exits_with_1(place: Place, statement: str, said: str) -> None:
    hands(place.state, statement)
    done = place.audit("verify")
    assert done.code == 1
    assert done.out.startswith(said)
    done = place.audit("verify", "--json")
    problem = json.loads(done.out)["problem"]
    assert (done.code, f"entry {problem['seq']}: {problem['fault']}") == (1, said)


def test_a_copy_of_the_anchor_elsewhere_shows_what_was_cut_off_here(place: Place, tmp_path: Path) -> None:
    heads = place.state / "audit.heads"
    copy = tmp_path / "copy"
    copy.write_bytes(heads.read_bytes())
    hands(place.state, "DELETE FROM audit", "DELETE FROM audit_heads")
    heads.write_bytes(b"")
    assert place.audit("verify").code == 0, "nobody could tell"
    done = place.audit("verify", "--anchor", str(copy))
    assert (done.code, done.out.split(":")[1]) == (1, " cut off")


def test_a_proof_is_checked_without_the_database(place: Place, tmp_path: Path) -> None:
    done = place.audit("prove", call(1).trace_id)
    assert done.code == 0
    key = place.audit("key").out.strip()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "proof").write_text(done.out)
    (elsewhere / "key").write_text(key)
    checked = bascule("audit", "verify", "--proof", "proof", cwd=elsewhere)
    assert (checked.code, checked.out[:27]) == (0, "ok: entry 1 is signed with ")
    assert "see that it is the one" in checked.err
    for given in (key, "key"):
        checked = bascule("audit", "verify", "--proof", "proof", "--key", given, cwd=elsewhere)
        assert (checked.code, checked.err) == (0, "")
    forged = done.out.replace('"caller": "agent"', '"caller": "agent2"')
    checked = bascule("audit", "verify", "--proof", "-", "--key", key, cwd=elsewhere, stdin=forged)
    assert checked.code == 1
    assert checked.out.startswith("not proven: the entry is not among those that were signed")
    other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    assert bascule("audit", "verify", "--proof", "proof", "--key", other, cwd=elsewhere).code == 1
    assert bascule("audit", "verify", "--proof", "key", cwd=elsewhere).code == 2
    assert bascule("audit", "verify", "--proof", "missing", cwd=elsewhere).code == 2


def test_a_trace_that_nobody_knows_cannot_be_proven(place: Place) -> None:
    done = place.audit("prove", "ff")
    assert (done.code, done.out) == (1, "")
    assert "no entry has the trace 'ff'" in done.err


def test_nothing_is_made_by_reading(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for words in (("tail",), ("search", "--json"), ("verify",), ("export",), ("key",)):
        done = place.audit(*words)
        assert (done.code, done.out) == (2, "")
        assert "no gateway has kept its records in it; is state_dir right" in done.err
    assert not place.state.exists()


async def test_new_calls_are_followed_as_json_lines_and_ctrl_c_ends_it(place: Place) -> None:
    life = await Life(place.state).start()
    command = [*BASCULE, "audit", "tail", "-f", "-n", "1", "--json"]
    # Whoever runs the tests in the background ignores Ctrl-C, and so would their children.
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=place.folder,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    async with asyncio.timeout(30):
        first = json.loads(await process.stdout.readline())
        assert first["entry"]["caller"] == "ops" or first["seq"] >= 5
        await life.append(call(6, caller="later"))
        line = json.loads(await process.stdout.readline())
        while line["entry"]["caller"] != "later":  # the end of the call that had none
            line = json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    life.end()


def test_a_terminal_gets_columns_and_headings(place: Place) -> None:
    main, side = pty.openpty()
    with subprocess.Popen([*BASCULE, "audit", "tail"], cwd=place.folder, stdout=side, stderr=side) as process:
        os.close(side)
        shown = b""
        while True:
            try:
                read = os.read(main, 65536)
            except OSError:
                break
            if not read:
                break
            shown += read
        assert process.wait() == 0
    os.close(main)
    lines = shown.decode().splitlines()
    assert lines[0].split() == ["time", "caller", "tool", "decision", "outcome", "took", "cost", "trace"]
    assert lines[1].startswith("2027-01-15T08:00:00.001Z  agent             crm/create_lead")
