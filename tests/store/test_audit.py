"""The audit writes every record, in order, once; and says so when it cannot."""

import asyncio
import itertools
import json
import logging
import math
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from auditing import Life, call, hands, recorded, rows
from bascule.errors import ConfigInvalid, Unavailable
from bascule.store import anchor, audit, chain, signing
from bascule.store.audit import HEAD_EVERY, QUEUE
from bascule.store.chain import Row, Verdict
from bascule.store.files import FILE
from bascule.store.options import AuditOptions
from bascule.store.record import Record

PROGRAMS = Path(__file__).with_name("audit_programs.py")
WITHIN_S = 20.0

Begin = Callable[..., Awaitable[Life]]


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncIterator[Begin]:
    lives: list[Life] = []

    async def begun(alive: Callable[[str], bool] = lambda boot: False, **options: Any) -> Life:
        lives.append(Life(tmp_path, **options))
        return await lives[-1].start(alive)

    yield begun
    for life in lives:
        life.end()


def entries(state: Path) -> list[dict[str, Any]]:
    return [json.loads(entry) for _, entry, _ in rows(state)]


def verdict(state: Path) -> Verdict:
    sql = f"SELECT seq, hash, entry, {', '.join(chain.COLUMNS)} FROM audit ORDER BY seq"
    found = [Row(seq, hash, entry, tuple(rest)) for seq, hash, entry, *rest in rows(state, sql)]
    heads = [chain.head_of(text) for (text,) in rows(state, "SELECT head FROM audit_heads ORDER BY seq")]
    anchored, _ = anchor.read(state / "audit.heads")
    key = signing.read(state)
    assert key
    public = key.public_key()
    return chain.verify(found, [head for head in heads if head], anchored, {chain.key_id(public): public})


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not true():  # noqa: ASYNC110 - what another thread or the disk does has no event
            await asyncio.sleep(0.01)


# ---- what is written


async def test_an_entry_is_canonical_and_is_found_by_what_it_says(begin: Begin, tmp_path: Path) -> None:
    life = await begin()
    life.audit.post(call(1, caller="ünicode \u2028", took_us=7, sent=True))
    life.end()
    ((seq, text, hash),) = rows(tmp_path)
    assert json.loads(text) == {
        "v": 1,
        "seq": 1,
        "kind": "call",
        "at_us": 1_800_000_000_001_000,
        "call": f"{1:032x}",
        "trace_id": f"{1:032x}",
        "caller": "ünicode \u2028",
        "method": "tools/call",
        "thing": "crm/create_lead",
        "decision": "allow",
        "outcome": "answered",
        "took_us": 7,
        "sent": True,
    }
    assert (seq, hash) == (1, chain.link(chain.GENESIS, text))
    assert rows(tmp_path, "SELECT caller, outcome FROM audit") == [("ünicode \u2028", "answered")]


async def test_50_000_posts_keep_their_order(begin: Begin, tmp_path: Path) -> None:
    life = await begin()
    for number in range(50_000):
        if life.audit.full:
            await life.audit.room()
        life.audit.post(call(number))
    life.end()
    found = rows(tmp_path, "SELECT seq, at_us FROM audit ORDER BY seq")
    assert found == [(number + 1, call(number).at_us) for number in range(50_000)]
    assert verdict(tmp_path).signed_to == 50_000


async def test_a_record_waits_no_longer_than_a_flush(begin: Begin, tmp_path: Path) -> None:
    life = await begin()
    life.audit.post(call(1))
    assert rows(tmp_path) == []
    await until(lambda: len(rows(tmp_path)) == 1)
    life.audit.post(call(2))
    await until(lambda: len(rows(tmp_path)) == 2)


async def test_a_batch_does_not_wait_at_all(begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "FLUSH_S", 3600)
    life = await begin()
    for number in range(audit.BATCH):
        life.audit.post(call(number))
    await until(lambda: len(rows(tmp_path)) == audit.BATCH)


async def test_what_is_appended_is_kept_if_its_transaction_is(begin: Begin, tmp_path: Path) -> None:
    life = await begin()
    await life.append(call(1, kind="intent"))
    assert [each["kind"] for each in entries(tmp_path)] == ["intent"]

    def spoiled(connection: sqlite3.Connection) -> None:
        life.audit.append(connection, call(2, kind="intent"))
        raise ValueError("the call is refused after all")

    life.audit.post(call(3))
    with pytest.raises(ValueError, match="after all"):
        await life.writer.write(spoiled, durable=True)
    life.end()
    assert [each["at_us"] for each in entries(tmp_path)] == [call(1).at_us, call(3).at_us]
    assert verdict(tmp_path).problem is None


async def test_a_process_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    for number in range(3):
        await recorded(tmp_path, [call(number), call(number + 10)])
    assert [each["seq"] for each in entries(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert (verdict(tmp_path).problem, verdict(tmp_path).heads) == (None, 3)


@pytest.mark.parametrize("field", ["caller", "thing", "note", "session", "outcome"])
async def test_no_record_is_lost_for_what_a_client_has_made_up(begin: Begin, tmp_path: Path, field: str) -> None:
    life = await begin()
    for text in ("\ud800", "a" * 5_000_000, "\0", "\x1b[31m", "{}", "'; DROP TABLE audit; --"):
        life.audit.post(call(1, **{field: text}))
    life.end()
    found = [each[field] for each in entries(tmp_path)]
    assert found[0] == "?"
    assert found[1] == "a" * audit.MAX_TEXT_CHARS + "…"
    assert found[2:] == ["\0", "\x1b[31m", "{}", "'; DROP TABLE audit; --"]
    assert verdict(tmp_path).problem is None


@pytest.mark.parametrize("odd", [Raw(b"{"), b"bytes", math.nan, ["\ud800"], {1: 2}])
async def test_no_record_is_lost_for_what_it_should_not_hold(begin: Begin, tmp_path: Path, odd: object) -> None:
    life = await begin()
    life.audit.post(call(1, arguments=odd))
    life.audit.post(call(2))
    life.end()
    assert [each["seq"] for each in entries(tmp_path)] == [1, 2]
    assert verdict(tmp_path).problem is None


# ---- arguments


async def test_the_digest_of_arguments_is_that_of_their_canonical_text(begin: Begin, tmp_path: Path) -> None:
    life = await begin()
    life.audit.post(call(1), b'{"b":1.0,"a":[]}')
    life.audit.post(call(2), b' {"a": [],"b":1} ')
    await life.append(call(3, kind="intent"), b'{"b":1e0,"a":[]}')
    life.audit.post(call(4), b'{"b":2,"a":[]}')
    life.end()
    one, two, three, other = (each["arguments_sha256"] for each in entries(tmp_path))
    assert one == two == three != other
    assert all("arguments" not in each for each in entries(tmp_path))


async def test_arguments_are_kept_without_their_secrets_where_that_is_allowed(begin: Begin, tmp_path: Path) -> None:
    life = await begin(arguments="redacted", redact=("Amount",))
    life.audit.post(call(1), b'{"to":"ada","AMOUNT":12,"auth":{"apiKey":"k"}}')
    life.audit.post(call(2), b"[" + b"1," * 20_000 + b"1]")
    life.audit.post(call(3), b'{"x":1e400}')
    life.end()
    one, two, three = entries(tmp_path)
    assert one["arguments"] == '{"AMOUNT":"***","auth":"***","to":"ada"}'
    assert two["arguments"] == '"(40003 bytes, not kept)"'
    assert three["arguments_sha256"].startswith("raw:")


# ---- heads and the anchor


async def test_a_head_is_signed_every_1000_entries_and_at_the_end(begin: Begin, tmp_path: Path) -> None:
    life = await begin()
    for number in range(2 * HEAD_EVERY + 17):
        life.audit.post(call(number))
    await life.settled()
    assert rows(tmp_path, "SELECT seq FROM audit_heads ORDER BY seq") == [(1000,), (2000,)]
    life.end()
    assert rows(tmp_path, "SELECT seq FROM audit_heads ORDER BY seq") == [(1000,), (2000,), (2017,)]
    anchored, torn = anchor.read(tmp_path / "audit.heads")
    assert ([head.seq for head in anchored], torn) == ([1000, 2000, 2017], 0)
    assert stat.S_IMODE((tmp_path / "audit.heads").stat().st_mode) == 0o600
    assert (verdict(tmp_path).problem, verdict(tmp_path).signed_to) == (None, 2017)


async def test_a_head_is_signed_every_minute(begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "HEAD_EVERY_S", 0.01)
    life = await begin()
    ticking = asyncio.ensure_future(life.audit.keep_heads())
    life.audit.post(call(1))
    await until(lambda: life.audit.status()["signed"] == 1)
    life.audit.post(call(2))
    await until(lambda: life.audit.status()["signed"] == 2)
    ticking.cancel()
    assert [head.seq for head in anchor.read(tmp_path / "audit.heads")[0]] == [1, 2], "none for nothing"


async def test_heads_that_a_crash_kept_from_the_anchor_are_copied_by_the_next_life(tmp_path: Path) -> None:
    await recorded(tmp_path, [call(1)])
    (tmp_path / "audit.heads").write_bytes(b"")
    await recorded(tmp_path, [call(2)])
    assert [head.seq for head in anchor.read(tmp_path / "audit.heads")[0]] == [1, 2]


async def test_a_line_of_the_anchor_that_a_crash_tore_stays_and_is_recorded(tmp_path: Path) -> None:
    await recorded(tmp_path, [call(1)])
    path = tmp_path / "audit.heads"
    path.write_bytes(path.read_bytes() + b'{"at_us":18000')
    await recorded(tmp_path, [call(2)])
    lines = path.read_bytes().splitlines()
    assert lines[1] == b'{"at_us":18000'
    assert chain.head_of(lines[2])
    (note,) = [each["note"] for each in entries(tmp_path) if each["kind"] == "recovered"]
    assert note == "audit.heads: its last line was torn, 14 bytes"
    assert verdict(tmp_path).problem is None


async def test_an_anchor_that_cannot_be_written_is_told_of_and_made_good_later(
    begin: Begin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "other machine" / "heads"
    life = await begin(anchor=str(path))
    life.audit.post(call(1))
    life.audit.sign_soon()
    await until(lambda: life.audit.anchor_problem is not None)
    assert life.audit.problem is None, "calls go on"
    assert str(path) in life.audit.status()["anchor_problem"]
    assert "cannot be copied" in caplog.text
    path.parent.mkdir()
    life.audit.sign_soon()
    await until(lambda: life.audit.anchor_problem is None)
    assert [head.seq for head in anchor.read(path)[0]] == [1]


async def test_a_strict_audit_is_a_problem_without_its_anchor(begin: Begin, tmp_path: Path) -> None:
    life = await begin(mode="strict", anchor="missing/heads")
    life.audit.post(call(1))
    life.audit.sign_soon()
    await until(lambda: life.audit.problem is not None)
    assert str(tmp_path / "missing/heads") in str(life.audit.problem)


async def test_a_chain_whose_end_is_gone_goes_on_behind_its_last_head(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await recorded(tmp_path, [call(number) for number in range(5)])
    hands(tmp_path, "DELETE FROM audit WHERE seq > 2", "DELETE FROM audit_heads")
    await recorded(tmp_path, [call(7)])
    assert "the audit ends at entry 2, but entry 5 was signed" in caplog.text
    assert [each["seq"] for each in entries(tmp_path)] == [1, 2, 6]
    found = verdict(tmp_path).problem
    assert found is not None
    assert (found.seq, found.fault) == (3, "removed")


async def test_entries_that_are_removed_under_a_running_process_leave_a_gap(
    begin: Begin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    life = await begin()
    for number in range(5):
        life.audit.post(call(number))
    await life.settled()
    hands(tmp_path, "DELETE FROM audit WHERE seq > 2")
    await life.append(call(9))
    assert "entries were removed" in caplog.text
    assert [each["seq"] for each in entries(tmp_path)] == [1, 2, 6]


# ---- the key


def test_the_key_is_made_once_and_is_secret(tmp_path: Path) -> None:
    made = signing.create(tmp_path)
    assert stat.S_IMODE((tmp_path / "audit.key").stat().st_mode) == 0o600
    again = signing.create(tmp_path)
    assert again.private_bytes_raw() == made.private_bytes_raw()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    signing.create(tmp_path)
    (tmp_path / "audit.key").chmod(mode)
    with pytest.raises(ConfigInvalid, match=f"chmod 600 {tmp_path}/audit.key"):
        Life(tmp_path)


def test_a_key_of_another_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit.key").write_bytes(b"short")
    (tmp_path / "audit.key").chmod(0o600)
    with pytest.raises(ConfigInvalid, match="this has 5"):
        signing.read(tmp_path)


async def test_a_key_that_was_lost_is_made_anew_and_that_is_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await recorded(tmp_path, [call(1)])
    old = signing.read(tmp_path)
    assert old
    (tmp_path / "audit.key").unlink()
    await recorded(tmp_path, [call(2)])
    new = signing.read(tmp_path)
    assert new
    ids = [chain.key_id(each.public_key()) for each in (old, new)]
    (note,) = [each["note"] for each in entries(tmp_path) if each["kind"] == "recovered"]
    assert note == f"signed with {ids[0]} before, with {ids[1]} now"
    assert "`bascule audit verify` needs both" in caplog.text
    found = verdict(tmp_path).problem
    assert found is not None
    assert "is not known: give its public half with --key" in found.message


# ---- when nothing can be written


async def test_a_full_disk_is_a_problem_and_nothing_is_lost_when_there_is_space_again(
    begin: Begin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    life = await begin()
    (pages,) = await life.writer.write(lambda it: it.execute("PRAGMA page_count").fetchone(), durable=False)
    quota = "PRAGMA max_page_count = {}"
    await life.writer.write(lambda it: it.execute(quota.format(pages + 2)).fetchone(), durable=False)
    for number in range(2000):
        life.audit.post(call(number))
    await until(lambda: life.audit.problem is not None)
    assert "full" in str(life.audit.problem)
    assert "full" in life.audit.status()["problem"]
    with pytest.raises(Unavailable):
        await life.append(call(5000, kind="intent"))
    caplog.clear()
    # The quota is this connection's: nobody else can lift it, and a transaction that writes would fail first.
    life.writer._connection.execute(quota.format(2**30))
    await until(lambda: life.audit.problem is None)
    assert "can be written again" in caplog.text
    await until(lambda: life.audit.status()["queued"] == 0)
    life.end()
    assert [each["at_us"] for each in entries(tmp_path)] == [call(number).at_us for number in range(2000)]
    assert verdict(tmp_path).problem is None


async def test_a_call_waits_for_room_and_is_refused_if_there_will_be_none(begin: Begin, tmp_path: Path) -> None:
    life = await begin()
    blocker = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for number in range(QUEUE):
        life.audit.post(call(number))
    assert life.audit.full
    waiting = [asyncio.ensure_future(life.audit.room()) for _ in range(3)]
    done, _ = await asyncio.wait(waiting, timeout=0.1)
    assert not done
    blocker.execute("ROLLBACK")
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(*waiting)
    assert life.audit.status()["queued"] < QUEUE
    life.writer.broken = "disk I/O error"
    life.audit._bytes_in += audit.QUEUE_BYTES
    with pytest.raises(Unavailable, match="disk I/O error"):
        await life.audit.room()
    life.writer.broken = None
    blocker.close()


async def test_what_finds_no_room_at_all_is_counted_and_the_number_recorded(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit, "QUEUE", 10)
    life = await begin()
    for number in range(25):
        life.audit.post(call(number))
    assert life.audit.status()["unrecorded"] == 5
    assert caplog.text.count("the queue of the audit is full") == 1
    await life.settled()
    life.end()
    assert [each["kind"] for each in entries(tmp_path)] == ["call"] * 20 + ["recovered"]
    assert entries(tmp_path)[-1]["note"] == "5 records found no room in the queue, and are missing"


async def test_what_a_closed_writer_left_behind_is_told_of(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    life = await begin()
    life.die()
    life.audit.post(call(1))
    life.audit.stop()
    life.audit.close()
    assert "1 records of the audit could not be written, and are lost" in caplog.text


# ---- several processes


def test_two_processes_write_one_chain(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAMS), "post", str(tmp_path)]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen([*command, "one"], stdin=pipe, stdout=pipe, text=True) as one,
        subprocess.Popen([*command, "two"], stdin=pipe, stdout=pipe, text=True) as two,
    ):
        for _ in range(12):  # side by side within a round
            for each in (one, two):
                assert each.stdin
                each.stdin.write("go\n")
                each.stdin.flush()
            for each in (one, two):
                assert each.stdout
                assert each.stdout.readline() == "done\n"
        for each in (one, two):
            assert each.stdin
            each.stdin.close()
        assert (one.wait(60), two.wait(60)) == (0, 0)
    found = entries(tmp_path)
    assert len(found) == 1200
    for name in ("one", "two"):
        assert [each["note"] for each in found if each["caller"] == name] == [str(number) for number in range(600)]
    turns = sum(before["caller"] != after["caller"] for before, after in itertools.pairwise(found))
    assert turns >= 12, "they took turns"
    seen = verdict(tmp_path)
    assert (seen.problem, seen.signed_to) == (None, 1200)


def test_a_process_that_is_killed_leaves_a_whole_chain_with_all_that_it_promised(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAMS), "post_for_ever", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        promised = 0
        while promised < 120:
            promised = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().split()
    promised = int(rest[-1]) if rest else promised
    asyncio.run(recorded(tmp_path, [call(1, note="after")]))
    notes = [each.get("note") for each in entries(tmp_path)]
    assert notes[:promised] == [str(number) for number in range(1, promised + 1)]
    assert notes[-1] == "after"
    assert verdict(tmp_path).problem is None


# ---- after a crash


async def test_calls_of_a_dead_process_get_an_end(begin: Begin, tmp_path: Path) -> None:
    before = await begin(boot="dead")
    states = {1: "COMPLETED", 2: "UNKNOWN", 3: "", 4: "COMPLETED"}
    for number in states:
        await before.append(call(number, kind="intent", journal=f"j{number}", outcome="", decision=""))
    before.audit.post(call(4))  # this one has ended
    before.audit.post(call(5, kind="intent", boot="alive", outcome=""))
    await before.settled()
    before.die()
    for number in (1, 2):
        hands(tmp_path, _journal_row(f"j{number}", states[number]))
    await begin(alive=lambda boot: boot == "alive")
    found = {each["call"]: each for each in entries(tmp_path) if each["kind"] == "outcome_recovered"}
    assert sorted(found) == [call(number).call for number in (1, 2, 3)]
    assert [found[call(number).call]["outcome"] for number in (1, 2, 3)] == ["completed", "unknown", "unknown"]
    one = found[call(1).call]
    assert (one["thing"], one["caller"], one["trace_id"], one["journal"]) == (
        "crm/create_lead",
        "agent",
        call(1).trace_id,
        "j1",
    )
    assert "COMPLETED" in one["note"]


async def test_an_end_is_given_once(tmp_path: Path) -> None:
    life = await Life(tmp_path, boot="dead").start()
    await life.append(call(1, kind="intent", outcome=""))
    life.die()
    for _ in range(2):
        await recorded(tmp_path, [])
    assert [each["kind"] for each in entries(tmp_path)] == ["intent", "outcome_recovered"]
    assert entries(tmp_path)[0]["boot"] == "dead"


def _journal_row(id: str, state: str) -> str:
    found = {
        "lookup": f"x'{id.encode().hex()}'",
        "id": f"'{id}'",
        "state": f"'{state}'",
        "round": "NULL",
        "era": "NULL",
    }
    texts = dict.fromkeys(("caller", "method", "thing", "boot", "trace_id", "machine", "note"), "''")
    bytes_ = dict.fromkeys(("fingerprint", "pin"), "x'00'")
    numbers = dict.fromkeys(("fence", "created_at_s", "changed_at_s", "changed_up_s", "refused"), "0")
    row = {**found, **texts, **bytes_, **numbers}
    return f"INSERT INTO journal ({', '.join(row)}) VALUES ({', '.join(row.values())})"


# ---- odds


def test_an_options_of_no_anchor_is_one_beside_the_database(tmp_path: Path) -> None:
    assert anchor.path_of(AuditOptions(), tmp_path) == tmp_path / "audit.heads"
    assert anchor.path_of(AuditOptions(anchor="/mnt/heads"), tmp_path) == Path("/mnt/heads")


def test_the_anchor_of_a_folder_that_has_none_is_empty(tmp_path: Path) -> None:
    assert anchor.read(tmp_path / "none") == ([], 0)
    assert anchor.last(tmp_path / "none") is None


async def test_the_status_says_where_the_audit_is(begin: Begin, tmp_path: Path) -> None:
    life = await begin()
    await life.append(Record(kind="refused", at_us=1))
    assert life.audit.status() == {
        "mode": "batched",
        "entries": 1,
        "signed": 0,
        "queued": 0,
        "unrecorded": 0,
        "problem": None,
        "anchor": str(tmp_path / "audit.heads"),
        "anchor_problem": None,
    }


async def test_a_quiet_log_for_a_quiet_life(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await recorded(tmp_path, [call(1)])
        await recorded(tmp_path, [call(2)])
    assert caplog.text == ""
