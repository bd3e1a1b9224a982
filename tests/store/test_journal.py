"""The journal gives the right to make a call once, and never forgets that it was given (docs/reliability.md)."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from bascule.errors import BasculeError, ConfigInvalid, InFlight, Internal, RateLimited, Unavailable
from bascule.store.boots import Boot
from bascule.store.files import FILE
from bascule.store.journal import Entry, Hold, Kept, Start, Wanted
from bascule.store.journal_sqlite import SqliteJournal
from bascule.store.moment import Moment
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records
from bascule.store.vault import vault_of
from bascule.store.writer import Writer

DAY_S = 86_400.0
KEY = "order-4711-attempt"
ANSWER = Kept(Raw(b'{"content":[{"type":"text","text":"paid"}]}'), False, "modern")


class Clock:
    def __init__(self) -> None:
        self.wall_s = 1_800_000_000.0
        self.up_s = 1000.0
        self.machine = "this run"

    def __call__(self) -> Moment:
        return Moment(self.wall_s, self.machine, self.up_s)

    def pass_(self, seconds: float) -> None:
        self.wall_s += seconds
        self.up_s += seconds


class Life:
    """One process that keeps a journal in a folder."""

    def __init__(self, state: Path, clock: Clock, **options: Any) -> None:
        self.writer = Writer(state)
        self.boot = Boot(state)
        self.journal = SqliteJournal(
            self.writer, vault_of(state, is_used=False), self.boot, JournalOptions(**options), None, clock
        )
        self.writer.start()
        self.ended = False

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self.writer.close()
            self.boot.end()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def begin(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Life]]:
    lives: list[Life] = []

    def begin(**options: Any) -> Life:
        lives.append(Life(tmp_path, clock, **options))
        return lives[-1]

    yield begin
    for life in lives:
        life.end()


def wanted(key: str = KEY, *, caller: str = "ann", say: bytes = b"a" * 32, **more: Any) -> Wanted:
    return Wanted(
        caller=caller,
        key=key,
        fingerprint=say,
        method="tools/call",
        thing="bank/pay",
        pin=b"p" * 32,
        trace_id="0" * 32,
        **more,
    )


async def run(journal: SqliteJournal, answer: Kept | None = ANSWER, **more: Any) -> Hold:
    """A call from its reservation to its end; without *answer* it stays sent."""
    hold = await journal.reserve(wanted(**more))
    assert isinstance(hold, Hold)
    assert await journal.start(Start(hold=hold))
    if answer is not None:
        assert await journal.complete(hold, answer)
    return hold


async def state(journal: SqliteJournal, key: str = KEY, caller: str = "ann") -> str:
    entry = await journal.find(caller, key)
    return "none" if entry is None else entry.state


# ---- one life


async def test_a_key_goes_from_reserved_over_dispatched_to_completed(begin: Callable[..., Life]) -> None:
    journal = begin().journal
    assert await state(journal) == "none"
    hold = await journal.reserve(wanted())
    assert isinstance(hold, Hold)
    assert await state(journal) == "RESERVED"
    assert await journal.start(Start(hold=hold))
    assert await state(journal) == "DISPATCHED"
    assert await journal.complete(hold, ANSWER)
    entry = await journal.find("ann", KEY)
    assert entry is not None
    assert entry.state == "COMPLETED"
    assert await journal.result(entry) == ANSWER


async def test_of_a_hundred_first_sends_exactly_one_may_run(begin: Callable[..., Life]) -> None:
    journal = begin().journal
    held = await asyncio.gather(*(journal.reserve(wanted()) for _ in range(100)))
    assert sum(isinstance(each, Hold) for each in held) == 1
    assert {each.state for each in held if isinstance(each, Entry)} == {"RESERVED"}


async def test_of_a_hundred_first_sends_to_two_processes_exactly_one_may_run(begin: Callable[..., Life]) -> None:
    one, other = begin().journal, begin().journal
    held = await asyncio.gather(*(journal.reserve(wanted()) for _ in range(50) for journal in (one, other)))
    assert sum(isinstance(each, Hold) for each in held) == 1


async def test_a_call_that_its_server_never_saw_leaves_nothing(begin: Callable[..., Life]) -> None:
    journal = begin().journal
    hold = await run(journal, None)
    await journal.release(hold)
    assert await state(journal) == "none"
    assert isinstance(await journal.reserve(wanted(say=b"b" * 32)), Hold)


async def test_a_call_that_was_lost_is_not_given_to_anybody_unless_it_does_no_harm(begin: Callable[..., Life]) -> None:
    journal = begin().journal
    hold = await run(journal, None)
    assert await journal.lose(hold)
    again = await journal.reserve(wanted())
    assert isinstance(again, Entry)
    assert again.state == "UNKNOWN"
    harmless = await journal.reserve(wanted(rerun=True))
    assert isinstance(harmless, Hold)
    assert await state(journal) == "UNKNOWN"  # until it goes out again
    assert await journal.start(Start(hold=harmless))
    assert await journal.complete(harmless, ANSWER)
    assert await state(journal) == "COMPLETED"


async def test_who_comes_late_with_an_old_fence_changes_nothing(begin: Callable[..., Life]) -> None:
    journal = begin().journal
    old = await run(journal, None)
    assert await journal.lose(old)
    new = await journal.reserve(wanted(rerun=True))
    assert isinstance(new, Hold)
    assert await journal.start(Start(hold=new))
    assert not await journal.complete(old, ANSWER)
    assert not await journal.lose(old)
    assert await state(journal) == "DISPATCHED"
    with pytest.raises(InFlight):
        await journal.start(Start(hold=old))


async def test_a_question_is_kept_and_only_its_own_answer_goes_on(begin: Callable[..., Life]) -> None:
    journal = begin().journal
    hold = await run(journal, None)
    question = Kept(Raw(b'{"resultType":"input_required"}'), False, "modern")
    assert await journal.complete(hold, question, b"r" * 32)
    waiting = await journal.reserve(wanted())
    assert isinstance(waiting, Entry)
    assert waiting.state == "AWAITING_INPUT"
    assert await journal.result(waiting) == question
    assert isinstance(await journal.reserve(wanted(round=b"x" * 32)), Entry)
    going_on = await journal.reserve(wanted(round=b"r" * 32))
    assert isinstance(going_on, Hold)
    assert await state(journal) == "AWAITING_INPUT"
    await journal.release(going_on)
    assert await state(journal) == "AWAITING_INPUT"


async def test_callers_do_not_meet_in_a_key(begin: Callable[..., Life]) -> None:
    journal = begin().journal
    await run(journal)
    assert await state(journal, caller="bob") == "none"
    assert isinstance(await journal.reserve(wanted(caller="bob")), Hold)
    # A name and a key cannot be cut in another place to mean somebody else's.
    assert await state(journal, key=KEY[1:], caller="ann" + KEY[0]) == "none"


async def test_a_result_that_is_too_large_is_known_by_its_size_alone(begin: Callable[..., Life]) -> None:
    journal = begin(max_result_bytes=10).journal
    await run(journal)
    entry = await journal.find("ann", KEY)
    assert entry is not None
    assert (entry.has_result, entry.result_bytes) == (False, len(bytes(ANSWER.value)))
    assert await journal.result(entry) is None


async def test_who_waits_is_told_at_once_when_the_call_ends(begin: Callable[..., Life]) -> None:
    journal = begin().journal
    hold = await run(journal, None)
    waiting = asyncio.ensure_future(journal.changed("ann", KEY, 60.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    await journal.complete(hold, ANSWER)
    async with asyncio.timeout(5):
        await waiting


async def test_a_caller_has_only_so_many_rows_and_others_have_theirs(begin: Callable[..., Life]) -> None:
    journal = begin(max_per_caller=3).journal
    for number in range(3):
        await run(journal, key=f"{KEY}-{number}")
    with pytest.raises(RateLimited):
        await journal.reserve(wanted(f"{KEY}-3"))
    assert isinstance(await journal.reserve(wanted(caller="bob")), Hold)
    assert await state(journal, f"{KEY}-0") == "COMPLETED"  # nothing was thrown out to make room


# ---- retention


async def test_a_completed_call_is_forgotten_after_its_time_and_not_before(
    begin: Callable[..., Life], clock: Clock
) -> None:
    journal = begin().journal
    await run(journal)
    clock.pass_(DAY_S - 1)
    assert await journal.sweep() == (0, 0)
    assert await state(journal) == "COMPLETED"
    clock.pass_(1)
    assert await state(journal) == "none"
    assert await journal.sweep() == (0, 1)


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S, 30 * DAY_S])
async def test_a_clock_that_jumps_makes_nothing_expire(begin: Callable[..., Life], clock: Clock, jump_s: float) -> None:
    journal = begin().journal
    await run(journal)
    clock.wall_s += jump_s
    assert await state(journal) == "COMPLETED"
    assert await journal.sweep() == (0, 0)
    assert isinstance(await journal.reserve(wanted()), Entry)


async def test_after_the_machine_started_anew_the_wall_clock_counts(begin: Callable[..., Life], clock: Clock) -> None:
    journal = begin().journal
    await run(journal)
    clock.machine, clock.up_s = "the next run", 5.0
    assert await state(journal) == "COMPLETED"
    clock.wall_s += DAY_S
    assert await state(journal) == "none"


async def test_what_was_sent_is_never_forgotten_and_an_unknown_outcome_for_a_month(
    begin: Callable[..., Life], clock: Clock
) -> None:
    journal = begin().journal
    await run(journal, None)
    clock.pass_(365 * DAY_S)
    assert await state(journal) == "DISPATCHED"
    hold = await run(journal, None, key="another-key-0001")
    await journal.lose(hold)
    clock.pass_(29 * DAY_S)
    assert await state(journal, "another-key-0001") == "UNKNOWN"
    clock.pass_(DAY_S)
    assert await state(journal, "another-key-0001") == "none"


# ---- the death of a process


async def test_what_a_dead_process_had_only_reserved_is_run_by_the_next(begin: Callable[..., Life]) -> None:
    dead = begin()
    assert isinstance(await dead.journal.reserve(wanted()), Hold)
    dead.end()
    journal = begin().journal
    assert isinstance(await journal.reserve(wanted()), Hold)


async def test_a_reservation_of_the_dead_is_in_nobodys_way(begin: Callable[..., Life]) -> None:
    dead, living = begin(), begin()
    assert isinstance(await dead.journal.reserve(wanted()), Hold)
    assert await state(living.journal) == "RESERVED"
    dead.end()
    assert await state(living.journal) == "none"
    assert isinstance(await living.journal.reserve(wanted(say=b"b" * 32)), Hold)


async def test_a_hold_on_a_row_that_is_gone_does_not_fit_the_next_one(begin: Callable[..., Life], clock: Clock) -> None:
    asleep, other = begin(), begin()
    old = await asleep.journal.reserve(wanted())
    assert isinstance(old, Hold)
    clock.pass_(121)
    second = await other.journal.reserve(wanted())
    assert isinstance(second, Hold)
    await other.journal.release(second)
    assert isinstance(await other.journal.reserve(wanted()), Hold)
    with pytest.raises(InFlight):
        await asleep.journal.start(Start(hold=old))


async def test_a_process_that_begins_is_never_taken_for_dead(tmp_path: Path) -> None:
    one, other = Boot(tmp_path), Boot(tmp_path)
    assert one.dead() == other.dead() == frozenset()
    assert one.is_alive(other.id)
    other.end()
    assert not one.is_alive(other.id)
    (tmp_path / "boots" / "dir").mkdir()
    (tmp_path / "boots" / "notes.txt").write_text("not a process")
    assert one.dead() == frozenset()
    one.end()


async def test_what_a_dead_process_had_sent_is_of_unknown_outcome(begin: Callable[..., Life]) -> None:
    dead, living = begin(), begin()
    await run(dead.journal, None)
    assert await state(living.journal) == "DISPATCHED"
    dead.end()
    assert await state(living.journal) == "UNKNOWN"
    assert isinstance(await living.journal.reserve(wanted()), Entry)
    assert await living.journal.sweep() == (1, 0)
    assert await state(living.journal) == "UNKNOWN"


async def test_a_process_that_woke_up_too_late_does_not_send_a_second_time(
    begin: Callable[..., Life], clock: Clock
) -> None:
    asleep, other = begin(), begin()
    hold = await asleep.journal.reserve(wanted())
    assert isinstance(hold, Hold)
    clock.pass_(121)
    assert isinstance(await other.journal.reserve(wanted()), Hold)
    with pytest.raises(InFlight):
        await asleep.journal.start(Start(hold=hold))


# ---- a disk that is full, or lies


@pytest.fixture
async def full(begin: Callable[..., Life]) -> Life:
    life = begin()
    await run(life.journal, key="before-it-was-full")

    def no_room(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await life.writer.write(no_room, durable=False)
    return life


async def test_without_room_on_the_disk_nothing_is_sent_and_what_is_known_is_still_told(full: Life) -> None:
    refused = 0
    for number in range(200):
        try:
            hold = await full.journal.reserve(wanted(f"when-it-was-full-{number}"))
        except Unavailable:
            refused += 1
            assert full.writer.broken is not None
            break
        assert isinstance(hold, Hold)
    assert refused == 1
    assert await state(full.journal, "before-it-was-full") == "COMPLETED"


async def test_a_damaged_result_is_never_replayed(begin: Callable[..., Life], tmp_path: Path) -> None:
    life = begin()
    await run(life.journal)
    entry = await life.journal.find("ann", KEY)
    assert entry is not None
    with sqlite3.connect(tmp_path / FILE) as other:
        (sealed,) = other.execute("SELECT result FROM journal").fetchone()
        for bit in range(len(sealed) * 8):
            flipped = bytearray(sealed)
            flipped[bit // 8] ^= 1 << bit % 8
            other.execute("UPDATE journal SET result = ?", (bytes(flipped),))
            other.commit()
            with pytest.raises(Internal):
                await life.journal.result(entry)
    other.close()


async def test_a_result_of_another_row_is_not_believed(begin: Callable[..., Life], tmp_path: Path) -> None:
    journal = begin().journal
    await run(journal)
    await run(journal, Kept(Raw(b'{"content":[]}'), False, "modern"), key="another-key-0001")
    with sqlite3.connect(tmp_path / FILE) as other:
        rows = other.execute("SELECT id, result, result_hash FROM journal").fetchall()
        other.execute("UPDATE journal SET result = ?, result_hash = ? WHERE id = ?", (*rows[0][1:], rows[1][0]))
    other.close()
    moved = await journal.get(rows[1][0])
    assert moved is not None
    with pytest.raises(Internal):
        await journal.result(moved)


async def test_neither_the_key_nor_the_result_can_be_read_from_the_disk(
    begin: Callable[..., Life], tmp_path: Path
) -> None:
    life = begin()
    secret = Kept(Raw(b'{"secret":"kanarie-4f1d"}'), False, "modern")
    await run(life.journal, secret, key="kanarie-key-000000")
    life.end()
    for file in _files(tmp_path):
        assert b"kanarie" not in file.read_bytes(), file


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# ---- what a person says


async def test_a_person_says_what_became_of_a_call(begin: Callable[..., Life]) -> None:
    journal = begin().journal
    hold = await run(journal, None)
    assert await journal.resolve(hold.id, ANSWER, "asked the bank") is None  # it still runs
    await journal.lose(hold)
    found = await journal.resolve(hold.id, ANSWER, "asked the bank")
    assert found is not None
    assert (found.state, found.note) == ("COMPLETED", "asked the bank")
    assert await journal.result(found) == ANSWER
    assert await journal.resolve(hold.id, None, "") is None  # and cannot be unsaid


async def test_a_person_says_that_a_call_was_never_made(begin: Callable[..., Life]) -> None:
    journal = begin().journal
    hold = await run(journal, None)
    await journal.lose(hold)
    assert await journal.resolve(hold.id, None, "") is not None
    assert isinstance(await journal.reserve(wanted(say=b"b" * 32)), Hold)


async def test_the_list_shows_the_newest_first_and_states_as_they_are(begin: Callable[..., Life], clock: Clock) -> None:
    dead = begin()
    await run(dead.journal, None, key="sent-and-lost-0001")
    clock.pass_(1)
    await run(dead.journal)
    dead.end()
    journal = begin().journal
    assert [each.state for each in await journal.list_()] == ["COMPLETED", "UNKNOWN"]
    assert [each.state for each in await journal.list_(state="UNKNOWN")] == ["UNKNOWN"]
    assert await journal.list_(caller="bob") == []


# ---- the writer


async def test_a_work_that_fails_fails_alone(begin: Callable[..., Life]) -> None:
    writer = begin().writer

    def fails(_: sqlite3.Connection) -> None:
        raise InFlight("of itself")

    works = [writer.write(fails if number == 3 else lambda _, n=number: n, durable=True) for number in range(6)]  # type: ignore[misc]  # default values of lambdas are not typed
    came = await asyncio.gather(*works, return_exceptions=True)
    assert [each for each in came if not isinstance(each, BasculeError)] == [0, 1, 2, 4, 5]
    assert isinstance(came[3], InFlight)


async def test_what_is_asked_for_at_one_time_is_one_transaction(begin: Callable[..., Life]) -> None:
    writer = begin().writer
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    gate = threading.Event()

    statements: list[str] = []

    def hold_up(connection: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        gate.wait(5)
        connection.set_trace_callback(statements.append)

    first = asyncio.ensure_future(writer.write(hold_up, durable=False))
    await begun.wait()
    rest = [asyncio.ensure_future(writer.write(lambda _: None, durable=True)) for _ in range(50)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *rest)
    assert statements.count("BEGIN IMMEDIATE") == 1
    assert "PRAGMA synchronous = FULL" in statements


async def test_a_writer_that_is_closed_says_so(begin: Callable[..., Life]) -> None:
    life = begin()
    life.end()
    with pytest.raises(Unavailable):
        await life.writer.write(lambda _: None, durable=False)


def test_shapes_of_the_journal_are_frozen() -> None:
    with pytest.raises(AttributeError):
        ANSWER.era = "legacy"  # type: ignore[misc]  # that it is refused is the point
    assert msgspec.structs.asdict(ANSWER)["refused"] is False


async def test_what_a_person_has_said_outlives_a_call_that_came_too_late(begin: Callable[..., Life]) -> None:
    journal = begin().journal
    lost = await run(journal, None)
    await journal.lose(lost)
    again = await journal.reserve(wanted(rerun=True))
    assert isinstance(again, Hold)
    assert await journal.resolve(again.id, ANSWER, "kim: it was done") is not None
    with pytest.raises(InFlight):
        await journal.start(Start(hold=again))
    await journal.release(again)
    assert await state(journal) == "COMPLETED"


async def test_a_lost_secret_is_never_replaced_by_another(begin: Callable[..., Life], tmp_path: Path) -> None:
    await run(begin().journal)
    (tmp_path / "journal.key").unlink()
    with pytest.raises(ConfigInvalid, match="could be made again"):
        Records(tmp_path, AuditOptions(), JournalOptions(), ApprovalOptions())
