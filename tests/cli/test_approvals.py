"""`bascule approvals`: what waits for a person, and the person's answer, on the state folder."""

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
from command import BASCULE, Done, bascule
from msgspec.structs import replace

from bascule.policy.approvals import Approval, Asked
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records

ASKED: Final = Asked(
    caller="ann",
    thing="bank/pay",
    version="1.2.0",
    pin=b"p" * 32,
    fingerprint=b"f" * 32,
    arguments='{"amount": 10, "to": "DE02\u202e"}'.encode(),
    question='Pay 10 to "DE02"?',
    rule="confirm_gate",
    four_eyes=False,
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
)
DAY: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


class Place:
    """A folder with a configuration, in which somebody types `bascule approvals …`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bascule.yaml").write_text(f"state_dir: {folder / 'state'}\n")

    def say(self, *words: str) -> Done:
        return bascule("approvals", *words, cwd=self.folder)

    def ask(self, asked: Asked = ASKED, ttl_s: float = 300.0) -> str:
        """A question, as a gateway would leave it there."""

        async def left() -> Approval:
            records = Records(self.folder / "state", AuditOptions(), JournalOptions(), ApprovalOptions(ttl_s=ttl_s))
            await records.start()
            try:
                return await records.approvals.ask(asked)
            finally:
                await records.close()

        return asyncio.run(left()).id

    def state(self, id: str) -> str:
        found: str = json.loads(self.say("show", id, "--json").out)["state"]
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_nothing_waits_where_nothing_was_ever_asked(place: Place) -> None:
    for words in ((), ("list", "--json")):
        done = place.say(*words)
        assert (done.code, done.out) == (2, "")
        assert "no gateway has kept its records in it; is state_dir right" in done.err


@pytest.mark.parametrize("words", [(), ("list",), ("list", "--state", "pending")])
def test_what_waits_is_listed_one_line_each(place: Place, words: tuple[str, ...]) -> None:
    first, second = place.ask(), place.ask(replace(ASKED, fingerprint=b"g" * 32, caller="b\tob\x1b[2J"))
    done = place.say(*words)
    assert done.code == 0, done.err
    rows = [line.split("\t") for line in done.lines]
    assert [row[:4] for row in rows] == [
        [second, "pending", "bank/pay", "b\\u{9}ob\\u{1b}[2J"],
        [first, "pending", "bank/pay", "ann"],
    ]
    assert re.fullmatch(DAY, rows[0][4])


def test_a_question_is_shown_with_all_that_a_yes_is_for(place: Place) -> None:
    id = place.ask(replace(ASKED, four_eyes=True))
    done = place.say("show", id)
    assert done.code == 0, done.err
    for said in (
        f"{id}: pending",
        'Pay 10 to "DE02"?',
        "bank/pay, version 1.2.0",
        "ann",
        "confirm_gate, somebody else",
        '"amount": 10',
        '"to": "DE02\\u{202e}"',
        ASKED.trace_id,
        f"bascule approvals approve {id}",
    ):
        assert said in done.out
    report = json.loads(place.say("show", id, "--json").out)
    assert report["definition_sha256"] == "70" * 32
    assert '"amount": 10' in report["arguments"]


def test_a_yes_is_said_by_whoever_the_system_says_it_is(place: Place) -> None:
    id = place.ask()
    done = bascule("approvals", "approve", id, "--note", "checked", cwd=place.folder, env={"LOGNAME": "somebody-else"})
    assert (done.code, done.out) == (0, "")
    assert "bank/pay for ann is approved, by cli:" in done.err
    assert "somebody-else" not in done.err
    assert re.search(f"sent again with its token by {DAY}", done.err)
    report = json.loads(place.say("list", "--state", "approved", "--json").out)[0]
    assert (report["id"], report["note"]) == (id, "checked")
    assert place.say("show", id).out.count("bascule approvals approve") == 0


def test_a_no_is_said_and_stays(place: Place) -> None:
    id = place.ask()
    done = place.say("deny", id, "--note", "not today", "--json")
    assert done.code == 0, done.err
    assert (json.loads(done.out)["state"], json.loads(done.out)["note"]) == ("denied", "not today")
    again = place.say("approve", id)
    assert again.code == 1
    assert f"{id} is denied" in again.err
    assert place.state(id) == "denied"


def test_what_is_not_there_or_no_state_is_said(place: Place) -> None:
    place.ask()
    for words in (("show", "f" * 32), ("approve", "f" * 32), ("deny", "f" * 32)):
        done = place.say(*words)
        assert done.code == 1
        assert "there is no question" in done.err
    done = place.say("list", "--state", "maybe")
    assert done.code == 2
    assert "pending" in done.err


def test_what_comes_is_shown_while_somebody_watches(place: Place) -> None:
    first = place.ask()
    with subprocess.Popen(
        [*BASCULE, "approvals", "list", "--watch"],
        cwd=place.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        try:
            assert watching.stdout
            assert watching.stdout.readline() == f"{first}: pending\n"
            second = place.ask(replace(ASKED, fingerprint=b"g" * 32))
            seen = next(line for line in watching.stdout if line.endswith(": pending\n"))
            assert seen == f"{second}: pending\n"
        finally:
            watching.terminate()
            watching.communicate()
