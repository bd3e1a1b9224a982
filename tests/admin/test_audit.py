"""The audit is read while it is written; whatever was done to its database, the first entry that shows it is named."""

import csv
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from auditing import Life, call, hands, recorded, rows
from bascule.admin import audit
from bascule.admin.audit import Filters, Log, Seen
from bascule.errors import ConfigInvalid, InvalidArgument
from bascule.store import anchor, chain
from bascule.store.chain import Verdict
from bascule.store.files import FILE
from bascule.wire.canonical import canonical

LENGTH = 2500  # three heads: of 1000, 2000 and 2500


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A folder with the audit of a process that has ended."""
    folder = tmp_path / "state"
    await recorded(folder, [call(number) for number in range(1, LENGTH + 1)])
    return folder


@pytest.fixture
async def small(tmp_path: Path) -> Path:
    folder = tmp_path / "small"
    records = [
        call(1, caller="ci", thing="crm/read", took_us=1500),
        call(2, kind="intent", outcome="", decision="", caller="ci", thing="crm/pay"),
        call(2, caller="ci", thing="crm/pay", outcome="unavailable", code=50001),
        call(3, kind="intent", outcome="", decision="", caller="ops", thing="crm/pay"),
        call(4, caller="ops", thing="hr/list", decision="deny", outcome="scope_denied", rule="scopes"),
        call(5, kind="refused", caller="", thing="", outcome="unauthenticated", decision="deny"),
    ]
    await recorded(folder, records)
    return folder


def verified(state: Path, since: int | None = None) -> Verdict:
    with Log(state) as log:
        return log.verify(state / anchor.FILE, audit.keys_of(state), since)


def first_bad(state: Path) -> tuple[int, str]:
    problem = verified(state).problem
    assert problem is not None, "it went unnoticed"
    return problem.seq, problem.fault


def numbers(found: Iterator[Seen] | list[Seen]) -> list[int]:
    return [each.seq for each in found]


# ---- verifying what somebody has changed


def test_an_audit_that_nobody_touched_is_whole(state: Path) -> None:
    found = verified(state)
    assert (found.problem, found.entries, found.heads, found.signed_to) == (None, LENGTH, 3, LENGTH)
    assert found.notes == ()


@pytest.mark.parametrize("seq", [1, 2, 999, 1000, 1001, 1777, 2000, 2499, 2500])
def test_a_flipped_bit_is_found(state: Path, seq: int) -> None:
    ((text,),) = rows(state, f"SELECT entry FROM audit WHERE seq = {seq}")
    flipped = bytearray(text)
    flipped[seq % len(flipped)] ^= 1
    hands(state, f"UPDATE audit SET entry = x'{flipped.hex()}' WHERE seq = {seq}")
    assert first_bad(state) == (seq, "changed")


@pytest.mark.parametrize("seq", [1, 2, 1000, 1001, 1777, 2499])
def test_a_deleted_entry_is_found(state: Path, seq: int) -> None:
    hands(state, f"DELETE FROM audit WHERE seq = {seq}")
    assert first_bad(state) == (seq, "removed")


@pytest.mark.parametrize(("one", "other"), [(1, 2), (1000, 1001), (500, 2400), (2499, 2500), (1, 2500)])
def test_swapped_entries_are_found(state: Path, one: int, other: int) -> None:
    hands(
        state,
        f"UPDATE audit SET seq = -1 WHERE seq = {one}",
        f"UPDATE audit SET seq = {one} WHERE seq = {other}",
        f"UPDATE audit SET seq = {other} WHERE seq = -1",
    )
    assert first_bad(state) == (one, "reordered")


@pytest.mark.parametrize("left", [0, 1, 999, 1000, 1500, 2499])
@pytest.mark.parametrize("heads", ["left", "deleted", "fitting"])
def test_an_end_that_was_cut_off_is_found(state: Path, left: int, heads: str) -> None:
    hands(state, f"DELETE FROM audit WHERE seq > {left}")
    if heads != "left":
        hands(state, f"DELETE FROM audit_heads WHERE seq > {0 if heads == 'deleted' else left}")
    wanted = min(left + 1, 1000) if heads == "deleted" else left + 1
    assert first_bad(state) == (wanted, "cut off")


@pytest.mark.parametrize("seq", [2, 1000, 1001, 1777, 2500])
def test_an_entry_that_was_put_in_is_found(state: Path, seq: int) -> None:
    hands(
        state,
        f"UPDATE audit SET seq = -seq - 1 WHERE seq >= {seq}",
        "UPDATE audit SET seq = -seq WHERE seq < 0",
        f"INSERT INTO audit SELECT {seq}, at_us, kind, trace_id, call, caller, thing, outcome, entry, hash FROM audit"
        " WHERE seq = 1",
    )
    assert first_bad(state) == (seq, "inserted")


def test_hashes_that_were_all_computed_anew_do_not_fit_the_heads(state: Path) -> None:
    rehash(state, {1500: {"caller": "somebody else"}})
    problem = verified(state).problem
    assert problem is not None
    assert (problem.seq, problem.fault) == (1001, "changed")
    assert "entries 1001 to 2000 are not those that were signed" in problem.message


def test_a_column_that_says_something_else_is_found(state: Path) -> None:
    hands(state, "UPDATE audit SET caller = 'somebody else' WHERE seq = 1234")
    assert first_bad(state) == (1234, "changed")


def test_a_head_that_was_changed_is_found(state: Path) -> None:
    ((text,),) = rows(state, "SELECT head FROM audit_heads WHERE seq = 2000")
    changed = msgspec.json.decode(text) | {"at_us": 1}
    hands(state, f"UPDATE audit_heads SET head = x'{msgspec.json.encode(changed).hex()}' WHERE seq = 2000")
    assert first_bad(state) == (2000, "wrong head")


def test_heads_that_were_deleted_are_in_the_anchor(state: Path) -> None:
    hands(state, "DELETE FROM audit_heads WHERE seq = 2000")
    assert first_bad(state)[0] in (1001, 2000)


def test_a_database_that_is_gone_is_missed_by_the_anchor(state: Path) -> None:
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        (state / name).unlink(missing_ok=True)
    assert first_bad(state)[1] == "cut off"


def test_an_anchor_that_is_gone_is_told_of(state: Path) -> None:
    (state / anchor.FILE).unlink()
    found = verified(state)
    assert found.problem is None
    assert any("nothing shows it" in note for note in found.notes)


def test_another_key_proves_nothing(state: Path, tmp_path: Path, small: Path) -> None:
    with Log(state) as log:
        problem = log.verify(state / anchor.FILE, audit.keys_of(small)).problem
    assert problem is not None
    assert "give its public half with --key" in problem.message


def test_it_can_be_verified_from_a_head_on(state: Path) -> None:
    hands(state, "UPDATE audit SET entry = x'00' WHERE seq = 500")
    assert first_bad(state) == (500, "changed")
    found = verified(state, since=1000)
    assert (found.problem, found.entries) == (None, 1500)
    with pytest.raises(ConfigInvalid, match=r"no head of entry 1500; the last are .*2500"):
        verified(state, since=1500)


async def test_it_is_verified_while_it_is_written(state: Path) -> None:
    life = await Life(state).start()
    for number in range(20):
        for each in range(100):
            life.audit.post(call(number * 100 + each))
        await life.settled()
        assert verified(state).problem is None
    life.end()
    assert verified(state).entries == LENGTH + 2000


def test_a_folder_without_an_audit_is_whole_and_empty(tmp_path: Path) -> None:
    found = verified(tmp_path)
    assert (found.problem, found.entries, found.notes) == (None, 0, ())
    with Log(tmp_path) as log:
        assert log.search(Filters(), 10) == []


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    with pytest.raises(ConfigInvalid, match="cannot be used"):
        Log(tmp_path)


def rehash(state: Path, changes: dict[int, dict[str, Any]]) -> None:
    """What somebody does who knows how the chain is made, and has no key."""
    connection = sqlite3.connect(state / FILE)
    before = chain.GENESIS
    for seq, text in connection.execute("SELECT seq, entry FROM audit ORDER BY seq").fetchall():
        entry = json.loads(text) | changes.get(seq, {})
        new = canonical(entry)
        before = chain.link(before, new)
        row = dict(zip(chain.COLUMNS, chain.columns_of(entry), strict=True))
        connection.execute(
            "UPDATE audit SET entry = ?, hash = ?, caller = ? WHERE seq = ?", (new, before, row["caller"], seq)
        )
    connection.commit()
    connection.close()


# ---- finding


def found(state: Path, most: int = 100, *, intents: bool = False, **filters: Any) -> list[int]:
    with Log(state) as log:
        return numbers(log.search(Filters(**filters), most, intents=intents))


def test_the_newest_come_last_and_ended_intents_not_at_all(small: Path) -> None:
    assert found(small) == [1, 3, 4, 5, 6]
    assert found(small, 2) == [5, 6]
    assert found(small, intents=True) == [1, 2, 3, 4, 5, 6]


def test_an_intent_that_nothing_followed_is_marked(small: Path) -> None:
    with Log(small) as log:
        assert {each.seq: each.endless for each in log.search(Filters(), 100, intents=True)} == {
            seq: seq == 4 for seq in range(1, 7)
        }


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"caller": "ci"}, [1, 3]),
        ({"thing": "crm/pay"}, [3, 4]),
        ({"thing": "crm/*"}, [1, 3, 4]),
        ({"outcome": "unavailable"}, [3]),
        ({"decision": "deny"}, [5, 6]),
        ({"trace": f"{4:032x}"}, [5]),
        ({"kind": "refused"}, [6]),
        ({"since_us": call(4).at_us}, [5, 6]),
        ({"until_us": call(2).at_us}, [1]),
        ({"caller": "ci", "thing": "crm/pay"}, [3]),
        ({"caller": "' OR 1=1 --"}, []),
    ],
)
def test_all_that_is_said_has_to_fit(small: Path, filters: dict[str, Any], wanted: list[int]) -> None:
    assert found(small, **filters) == wanted


async def test_what_is_written_after_an_entry_is_followed(small: Path) -> None:
    life = await Life(small).start()
    await life.append(call(7, caller="other"))
    await life.append(call(8, caller="new"))
    with Log(small) as log:
        coming = log.follow(Filters(caller="new"), log.last())
        await life.append(call(9, caller="other"))
        await life.append(call(10, caller="new"))
        assert next(coming).entry["at_us"] == call(10).at_us
        await life.append(call(11, caller="new"))
        assert next(coming).entry["at_us"] == call(11).at_us
    life.end()


def test_an_entry_that_cannot_be_read_is_shown_as_damaged(small: Path) -> None:
    hands(small, "UPDATE audit SET entry = 'no json' WHERE seq = 1")
    with Log(small) as log:
        assert log.search(Filters(), 10)[0].entry["kind"] == "damaged"


# ---- proofs and exports


@pytest.mark.parametrize("number", [1, 999, 1000, 1001, 2500])
def test_one_entry_is_proven_to_somebody_who_has_nothing_else(state: Path, number: int) -> None:
    with Log(state) as log:
        made = log.prove(call(number).trace_id)
    text = msgspec.json.encode(audit.proof_report(made))
    key = audit.key_report(state)["public_key"]
    for keys in ([], [key]):
        proof, why = audit.check_proof(text, keys)
        assert (proof.entry["seq"], why) == (number, None)
    _, why = audit.check_proof(text.replace(b"crm/create_lead", b"crm/delete_lead"), [key])
    assert why is not None


def test_of_a_trace_the_last_call_is_proven_or_the_entry_that_is_named(small: Path) -> None:
    with Log(small) as log:
        assert log.prove(call(2).trace_id).entry["seq"] == 3
        assert log.prove(call(2).trace_id, 2).entry["kind"] == "intent"
        with pytest.raises(InvalidArgument, match="entry 4 is none of this trace; there are 2, 3"):
            log.prove(call(2).trace_id, 4)
        with pytest.raises(InvalidArgument, match="no entry has the trace 'ff'"):
            log.prove("ff")


async def test_an_entry_that_is_not_signed_yet_cannot_be_proven(small: Path) -> None:
    life = await Life(small).start()
    await life.append(call(9))
    with Log(small) as log, pytest.raises(InvalidArgument, match="in no signed head yet"):
        log.prove(call(9).trace_id)
    life.end()


def test_an_entry_that_was_changed_cannot_be_proven(small: Path) -> None:
    rehash(small, {1: {"caller": "somebody else"}})
    with Log(small) as log, pytest.raises(InvalidArgument, match="cannot be proven"):
        log.prove(call(4).trace_id)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff", b'{"v":1}'])
def test_what_is_no_proof_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigInvalid, match="it is no proof"):
        audit.check_proof(text, [])


def test_an_export_holds_what_was_hashed(state: Path) -> None:
    with Log(state) as log:
        lines = [json.loads(json.dumps(audit.report(each))) for each in log.everything(Filters())]
    before = chain.GENESIS
    for line in lines:
        before = chain.link(before, canonical(line["entry"]))
        assert line["hash"] == before.hex()
    assert len(lines) == LENGTH


async def test_a_spreadsheet_runs_nothing_of_an_export(tmp_path: Path) -> None:
    texts = ['=HYPERLINK("http://x")', "+1", "-1", "@x", 'say "hi", all', "line\nbreak \u202e\x1b[31m", "plain"]
    await recorded(tmp_path, [call(1, caller=text) for text in texts])
    with Log(tmp_path) as log:
        lines = [audit.csv_head(), *map(audit.csv_row, log.everything(Filters()))]
    assert all("\n" not in line for line in lines)
    shown = [each["caller"] for each in csv.DictReader(lines)]
    assert shown == [
        '\'=HYPERLINK("http://x")',
        "'+1",
        "'-1",
        "'@x",
        'say "hi", all',
        "line\\u000abreak \\u202e\\u001b[31m",
        "plain",
    ]


def test_a_moment_is_told_in_utc() -> None:
    assert audit.date_of(1_800_000_000_123_456) == "2027-01-15T08:00:00.123Z"
    assert [audit.date_of(odd) for odd in (None, "x", 10**40)] == ["?", "?", "?"]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1", "\uff1d1+1", "\uff0b1", "\u3000\uff20SUM(A1)"]
)
def test_a_formula_in_whatever_letters_is_a_text(text: str) -> None:
    assert audit.harmless(text).startswith("'")
    assert audit.harmless(-5) == "-5"
