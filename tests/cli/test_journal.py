"""`bascule journal`: what became of calls with a key, told by whoever found out, with or without a gateway running."""

import asyncio
import getpass
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from command import Done, bascule
from msgspec import Raw

from bascule.store.journal import Hold, Kept, Start, Wanted
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records

RESULT: Final = {"content": [{"type": "text", "text": "paid\n7"}], "structuredContent": {"id": 9007199254740993}}
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
Ends: Final = ("lost", "dead", "completed", "running")


class Place:
    """A folder with a configuration, in which somebody types `bascule journal …`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        (folder / "bascule.yaml").write_text(f"state_dir: {self.state}\n")

    def journal(self, *words: str, stdin: str = "") -> Done:
        return bascule("journal", *words, cwd=self.folder, stdin=stdin)

    def listed(self, *words: str) -> list[dict[str, Any]]:
        done = self.journal("list", "--json", *words)
        assert done.code == 0, done.err
        found: list[dict[str, Any]] = json.loads(done.out)
        return found

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Records]:
        """The records of a gateway that runs."""
        records = Records(self.state, AuditOptions(), JournalOptions(), ApprovalOptions())
        await records.start()
        try:
            yield records
        finally:
            await records.close()

    def after(self, *ends: Literal["lost", "completed"], caller: str = "ci") -> list[str]:
        """The ids of calls that a gateway has left behind."""

        async def made() -> list[str]:
            async with self.running() as records:
                return [await call(records, end, f"{end}-{number:020}", caller) for number, end in enumerate(ends)]

        return asyncio.run(made())

    def said(self) -> list[tuple[Any, ...]]:
        """What the audit has of what people said."""
        with sqlite3.connect(self.state / "bascule.db") as connection:
            rows = connection.execute(
                "SELECT caller, thing, outcome, entry FROM audit WHERE kind = 'journal'"
            ).fetchall()
        connection.close()
        return rows


async def call(records: Records, end: str, key: str, caller: str = "ci") -> str:
    journal = records.journal
    wanted = Wanted(
        caller=caller,
        key=key,
        fingerprint=b"f" * 32,
        method="tools/call",
        thing="pay/send",
        pin=b"p" * 32,
        trace_id=TRACE,
    )
    hold = await journal.reserve(wanted)
    assert isinstance(hold, Hold)
    await journal.start(Start(hold=hold))
    if end == "lost":
        assert await journal.lose(hold)
    if end == "completed":
        assert await journal.complete(hold, Kept(Raw(json.dumps(RESULT).encode()), False, "legacy"))
    return hold.id


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_where_nothing_was_recorded_nothing_is_listed_and_nothing_is_made(place: Place) -> None:
    for words in (("list",), ("show", "j1")):
        done = place.journal(*words)
        assert (done.code, done.out) == (2, "")
        assert "no gateway has kept its records in it; is state_dir right" in done.err
    assert not place.state.exists()


def test_the_list_is_rows_for_a_program_and_names_the_states(place: Place) -> None:
    lost, completed = place.after("lost", "completed")
    done = place.journal("list")
    rows = {row.split("\t")[0]: row.split("\t")[1:4] for row in done.lines}
    assert rows == {lost: ["UNKNOWN", "pay/send", "ci"], completed: ["COMPLETED", "pay/send", "ci"]}
    assert "1 of unknown outcome; `bascule journal show ID`" in done.err
    assert [each["id"] for each in place.listed("--state", "unknown")] == [lost]
    assert place.listed("--caller", "nobody") == []
    assert len(place.listed("--most", "1")) == 1
    wrong = place.journal("list", "--state", "LOST")
    assert wrong.code == 1
    assert "there are RESERVED, DISPATCHED, AWAITING_INPUT, COMPLETED, UNKNOWN" in wrong.err


def test_show_says_who_what_when_and_what_to_do_next(place: Place) -> None:
    (id,) = place.after("lost")
    done = place.journal("show", id)
    assert done.code == 0, done.err
    for said in (
        *(id, "UNKNOWN: the call was sent", "pay/send (tools/call)", "ci", TRACE, "no process works at it"),
        "1. find out at pay whether it was done: for ci, at 20",
        f"2. it was not done: bascule journal resolve {id} --never-ran",
        f"3. it was done: write what the tool answered into a file, and bascule journal resolve {id} --result FILE",
    ):
        assert said in done.out, said
    assert "lost-0" not in done.out + place.journal("show", id, "--json").out  # its key is nobody's business
    assert "there is no call 'j1' on record" in place.journal("show", "j1").err


def test_a_result_that_is_kept_is_printed_as_it_is_and_alone(place: Place) -> None:
    lost, completed = place.after("lost", "completed")
    done = place.journal("show", completed, "--result")
    assert (done.code, json.loads(done.out)) == (0, RESULT)
    assert "the same key gets the same answer" in place.journal("show", completed).out
    none = place.journal("show", lost, "--result")
    assert (none.code, none.out) == (1, "")
    assert "no result of it is kept" in none.err


async def test_while_a_gateway_runs_its_calls_are_seen_as_running_and_are_not_resolved(place: Place) -> None:
    async with place.running() as records:
        id = await call(records, "running", "k" * 20)
        shown = await asyncio.to_thread(place.journal, "show", id)
        assert "a process that lives works at it" in shown.out
        assert "DISPATCHED" in shown.out
        refused = await asyncio.to_thread(place.journal, "resolve", id, "--never-ran")
        assert refused.code == 1
        assert "is still running" in refused.err
        lost = await call(records, "lost", "l" * 20)
        done = await asyncio.to_thread(place.journal, "resolve", lost, "--never-ran")
        assert done.code == 0, done.err
        assert await records.journal.find("ci", "l" * 20) is None
        await call(records, "lost", "m" * 20)  # the gateway writes on, its audit too


def test_what_never_ran_runs_when_it_is_sent_again(place: Place) -> None:
    (id,) = place.after("lost")
    done = place.journal("resolve", id, "--never-ran", "--note", "not in the ledger")
    assert (done.code, done.out) == (0, ""), done.err
    assert f"{id} was never run: when ci sends it again with the same key, pay/send is called" in done.err
    assert place.listed() == []
    ((caller, thing, outcome, entry),) = place.said()
    assert (caller, thing, outcome) == (getpass.getuser(), "pay/send", "never_ran")
    for each in (id, "not in the ledger", "a call of ci", '"shell"', TRACE):
        assert each.encode() in entry, each


def test_what_was_done_is_answered_as_the_person_says(place: Place, tmp_path: Path) -> None:
    one, two = place.after("lost", "lost")
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(RESULT, indent=2))
    assert place.journal("resolve", one, "--result", str(file)).code == 0
    assert place.journal("resolve", two, "--result", "-", stdin=json.dumps(RESULT)).code == 0
    for id in (one, two):
        assert json.loads(place.journal("show", id, "--result").out) == RESULT
    assert {each["state"] for each in place.listed()} == {"COMPLETED"}
    again = place.journal("resolve", one, "--never-ran")
    assert again.code == 1
    assert f"{one} is COMPLETED: only a call of unknown outcome can be resolved" in again.err
    assert [row[2] for row in place.said()] == ["answered", "answered"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"content": [], "content": []}', "not JSON"),
        ("[]", "it is no object"),
        ("{}", "`content` is an array of blocks"),
        ('{"content": [{"text": "x"}]}', "`content` is an array of blocks"),
        ('{"content": [], "isError": 1}', "`isError`"),
        ('{"content": [], "structuredContent": []}', "`structuredContent`"),
        ('{"content": [], "resultType": "input_required"}', "`resultType`"),
        ('{"jsonrpc": "2.0", "id": 1, "result": {"content": []}}', "whole message"),
    ],
)
def test_what_no_tool_answers_is_not_taken_for_a_result(place: Place, content: str, why: str) -> None:
    (id,) = place.after("lost")
    done = place.journal("resolve", id, "--result", "-", stdin=content)
    assert done.code == 1
    assert why in done.err
    assert place.listed()[0]["state"] == "UNKNOWN"
    assert place.said() == []


def test_one_thing_is_said_and_the_file_is_there(place: Place) -> None:
    (id,) = place.after("lost")
    for words in ((), ("--never-ran", "--result", "x"), ("--result", "absent.json")):
        done = place.journal("resolve", id, *words)
        assert done.code == 2, words
    too_long = place.journal("resolve", id, "--never-ran", "--note", "x" * 501)
    assert too_long.code == 1
    assert place.listed()[0]["state"] == "UNKNOWN"
