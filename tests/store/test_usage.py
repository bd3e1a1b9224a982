"""The sums of calls: once for each, the same as the audit, whatever happens to the process."""

import asyncio
import math
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditing import call, hands, recorded, rows
from bascule.errors import Unavailable
from bascule.store import usage as sums
from bascule.store.audit import Audit
from bascule.store.options import AuditOptions
from bascule.store.record import Record
from bascule.store.usage import DAY, HOUR, MINUTE, Sum, Usage, bucket_of, quantile, top_of, within
from bascule.store.writer import Writer

BEGAN: Final = 1_800_000_000  # when `auditing.call` has its calls, in seconds: 08:00 on a day
EVER: Final = 4_000_000_000
PROGRAMS: Final = Path(__file__).with_name("usage_programs.py")


def used(number: int, **fields: Any) -> Record:
    """A call of something that is listed."""
    return call(number, **{"version": "1.2.0", "took_us": 1000, **fields})


class Life:
    """One process that keeps an audit and its sums in a folder."""

    def __init__(self, state: Path, **options: Any) -> None:
        self.state = state
        self.writer = Writer(state)
        self.usage = Usage(self.writer.path, **options)
        self.audit = Audit(self.writer, state, AuditOptions(), sums=self.usage)
        self.writer.start(self.audit)

    async def calls(self, *records: Record) -> None:
        """They have been recorded."""
        for record in records:
            self.audit.post(record)
        await self.writer.write(lambda connection: None, durable=False)

    async def counted(self) -> dict[tuple[str, ...], Sum]:
        """What is counted by tool, version and caller."""
        while await self.writer.write(self.usage.flush, durable=False):
            pass
        return self.usage.sums(("thing", "version", "caller"), 0, EVER)

    def end(self) -> None:
        self.audit.stop()
        self.writer.close()
        self.audit.close()
        self.usage.close()

    def die(self) -> None:
        """As a crash leaves it: what was not written of sums is lost."""
        self.writer.close()
        self.usage.close()


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    life = Life(tmp_path)
    yield life
    life.end()


def by_category(found: dict[tuple[str, ...], Sum]) -> dict[str, int]:
    return dict(sum(found.values(), Sum()).categories)


def differences(state: Path) -> list[sums.Difference]:
    usage = Usage(state / "bascule.db")
    try:
        return usage.recount(0, EVER)
    finally:
        usage.close()


# ---- buckets -------------------------------------------------------------------------------------


@given(st.integers(1, 2**40))
def test_a_call_is_in_the_bucket_that_its_time_lies_in(took_us: int) -> None:
    bucket = bucket_of(took_us)
    assert 2**bucket <= took_us * took_us < 2 ** (bucket + 1)


def test_what_took_no_microsecond_has_a_bucket_too() -> None:
    assert bucket_of(0) == -1
    assert quantile({-1: 3}, 0.5) == 0.5
    assert within({-1: 3}, 10) == 3


@given(st.lists(st.integers(1, 2**40), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_wrong_by_a_fifth_at_most(took_us: list[int], share: float) -> None:
    buckets: dict[int, int] = {}
    for each in took_us:
        buckets[bucket_of(each)] = buckets.get(bucket_of(each), 0) + 1
    true = sorted(took_us)[max(0, math.ceil(share * len(took_us)) - 1)]
    found = quantile(buckets, share)
    assert found is not None
    assert true / 2**0.25 * 0.999999 <= found <= true * 2**0.25 * 1.000001


def test_of_no_calls_there_is_no_quantile() -> None:
    assert quantile({}, 0.99) is None
    assert within({}, 1000) == 0


@given(st.dictionaries(st.integers(-1, 70), st.integers(1, 1000)), st.floats(1, 1e10), st.floats(1, 1e10))
def test_more_time_is_enough_for_no_fewer_calls(buckets: dict[int, int], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= within(buckets, low) <= within(buckets, high) <= sum(buckets.values())


@given(st.dictionaries(st.integers(0, 40), st.integers(1, 1000)), st.integers(0, 20).map(lambda n: n * 2 + 1))
def test_up_to_the_end_of_a_bucket_all_of_it_counts(buckets: dict[int, int], bucket: int) -> None:
    # Ends of odd buckets are whole numbers, which floats hold exactly.
    assert within(buckets, top_of(bucket)) == sum(calls for each, calls in buckets.items() if each <= bucket)


# ---- counting ------------------------------------------------------------------------------------


async def test_each_call_is_counted_once_by_what_became_of_it(life: Life) -> None:
    await life.calls(
        used(1, cost_nano_usd=2_000_000),
        used(2, kind="intent", outcome=""),
        used(2, cost_nano_usd=3_000_000, took_us=5000),
        used(3, outcome="failed"),
        used(4, outcome="scope_denied", decision="deny"),
        used(5, outcome="timeout", caller="ci"),
        used(6, thing="crm/find_lead", version="2.0.0", outcome="refused"),
    )
    counted = await life.counted()
    assert counted["crm/create_lead", "1.2.0", "agent"] == Sum({"failed": 1, "ok": 2, "security": 1}, 8000, 5_000_000)
    assert counted["crm/create_lead", "1.2.0", "ci"] == Sum({"transient": 1}, 1000, 0)
    assert counted["crm/find_lead", "2.0.0", "agent"] == Sum({"refused": 1}, 1000, 0)
    assert len(counted) == 3
    assert differences(life.state) == []


async def test_what_is_no_call_of_anything_is_not_counted(life: Life) -> None:
    await life.calls(
        used(1, method="tools/list"),
        used(2, method="ping"),
        Record(kind="refused", at_us=used(3).at_us, outcome="unauthenticated"),
        Record(kind="approval", at_us=used(4).at_us, thing="crm/create_lead", version="1.2.0", outcome="asked"),
    )
    assert await life.counted() == {}
    assert differences(life.state) == []


async def test_names_that_clients_make_up_are_counted_together(life: Life) -> None:
    await life.calls(*(call(n, thing=f"crm/made_up_{n}", outcome="tool_not_found") for n in range(100)))
    assert await life.counted() == {("", "", "agent"): Sum({"protocol": 100})}
    assert differences(life.state) == []


async def test_calls_that_died_with_their_process_are_counted_when_they_get_their_end(life: Life) -> None:
    died = used(1, kind="intent", outcome="", call="a" * 32)
    await life.writer.write(lambda connection: life.audit.append(connection, died), durable=True)
    assert await life.counted() == {}
    await life.audit.start(lambda boot: False)
    assert by_category(await life.counted()) == {"internal": 1}
    assert differences(life.state) == []


async def test_of_calls_that_never_came_to_the_tool_no_time_is_kept(life: Life) -> None:
    refused = ("scope_denied", "invalid_argument", "tool_not_found", "cancelled")
    await life.calls(*(used(n, outcome=outcome, took_us=10) for n, outcome in enumerate(refused)))
    await life.calls(used(9, took_us=2048), used(10, took_us=2048, outcome="timeout"))
    await life.counted()
    assert life.usage.latencies(0, EVER) == {"crm/create_lead": {22: 2}}


HOSTILE: Final[list[dict[str, Any]]] = [
    {"caller": "half \ud800 a pair"},
    {"caller": "c" * 5000},
    {"thing": "crm/" + "t" * 5000},
    {"caller": "half \udfff" + "c" * 5000},
    {"caller": "nul \x00 in it"},
    {"cost_nano_usd": 2**62, "took_us": 2**62},
    {"outcome": "an error that nobody knows"},
]


async def test_whatever_is_in_a_record_it_is_counted_as_the_audit_has_it(life: Life) -> None:
    await life.calls(*(used(n, **fields) for n, fields in enumerate(HOSTILE * 200)))
    assert sum(by_category(await life.counted()).values()) == len(HOSTILE) * 200
    assert differences(life.state) == []


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3 * DAY), st.sampled_from(["answered", "failed", "timeout", "nonsense", "completed"]),
            st.text(max_size=3), st.integers(0, 10**9), st.sampled_from(["", "1.0.0"]),
        ),
        max_size=30,
    )
)  # fmt: skip
def test_sums_do_not_depend_on_how_calls_are_dealt_into_batches(said: list[tuple[int, str, str, int, str]]) -> None:
    records = [
        used(0, at_us=at * 1_000_000, outcome=outcome, caller=caller, took_us=took_us, version=version)
        for at, outcome, caller, took_us, version in said
    ]
    together, one_by_one = sums.Tally(), sums.Tally()
    together.add(records)
    for each in records:
        one_by_one.add([each])
    assert together.sums() == one_by_one.sums()
    assert together.timed() == one_by_one.timed()
    assert sum(calls for calls, _, _ in together.sums().values()) == len(records)


# ---- as durable as the audit ---------------------------------------------------------------------


async def test_a_restart_keeps_what_was_counted(tmp_path: Path) -> None:
    first = Life(tmp_path)
    await first.calls(*map(used, range(20)))
    first.end()
    second = Life(tmp_path)
    await second.calls(*map(used, range(20, 25)))
    assert by_category(await second.counted()) == {"ok": 25}
    second.end()
    assert differences(tmp_path) == []


async def test_the_end_of_a_process_leaves_nothing_uncounted(tmp_path: Path) -> None:
    life = Life(tmp_path)
    await life.calls(used(0))  # the first is written at once; what follows waits for more
    for number in range(1, 20):
        life.audit.post(used(number))
    life.end()
    assert rows(tmp_path, "SELECT sum(calls) FROM usage") == [(20,)]


async def test_what_was_not_summed_before_a_crash_is_read_from_the_audit(tmp_path: Path) -> None:
    first = Life(tmp_path)
    await first.calls(used(0))
    await first.calls(*map(used, range(1, 20)))
    first.die()
    assert rows(tmp_path, "SELECT sum(calls) FROM usage") == [(1,)]
    assert differences(tmp_path) == [], "what is not counted yet is no difference"
    second = Life(tmp_path)
    assert by_category(await second.counted()) == {"ok": 20}
    second.end()
    assert differences(tmp_path) == []


async def test_an_audit_that_is_older_than_the_sums_is_counted_bit_by_bit(tmp_path: Path) -> None:
    await recorded(tmp_path, [used(n) for n in range(sums._MOST_READ + 10)])
    life = Life(tmp_path)
    assert await life.writer.write(life.usage.flush, durable=False), "there is more"
    assert by_category(await life.counted()) == {"ok": sums._MOST_READ + 10}
    life.end()
    assert differences(tmp_path) == []


async def test_it_keeps_up_by_itself(life: Life) -> None:
    await life.calls(*map(used, range(20)))
    task = asyncio.ensure_future(life.usage.keep_up(life.writer))
    async with asyncio.timeout(10):
        while life.usage.behind:  # noqa: ASYNC110 - a flag has no event
            await asyncio.sleep(0.01)
    task.cancel()
    assert rows(life.state, "SELECT sum(calls) FROM usage") == [(20,)]


async def test_calls_of_several_processes_are_counted_once_each(tmp_path: Path) -> None:
    one, other = Life(tmp_path), Life(tmp_path)
    for number in range(30):
        await one.calls(used(number, caller="one"))
        await other.calls(used(number, caller="other"), used(number, caller="other"))
        if number % 7 == 0:
            await (one if number % 2 else other).counted()
    one.end()
    other.end()
    last = Life(tmp_path)
    found = {caller: each.calls for (_, _, caller), each in (await last.counted()).items()}
    last.end()
    assert found == {"one": 30, "other": 60}
    assert differences(tmp_path) == []


async def test_what_was_undone_is_counted_when_it_is_done_again(life: Life) -> None:
    await life.calls(used(0))

    def broken(connection: sqlite3.Connection) -> None:
        life.audit.append(connection, used(1))
        life.usage.flush(connection)
        connection.execute("INSERT INTO nowhere VALUES (1)")

    life.audit.post(used(2))
    with pytest.raises(Unavailable):
        await life.writer.write(broken, durable=True)
    await life.calls()  # what waits
    assert by_category(await life.counted()) == {"ok": 2}
    assert differences(life.state) == []


async def test_a_process_that_is_killed_at_any_moment_leaves_sums_that_agree(tmp_path: Path) -> None:
    for times in range(1, 6):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAMS), "count_for_ever", str(tmp_path), stdout=subprocess.PIPE
        )
        assert process.stdout
        async with asyncio.timeout(30):
            for _ in range(times * 11):
                await process.stdout.readline()
            process.kill()
            await process.communicate()
        assert differences(tmp_path) == []
    life = Life(tmp_path)
    counted = sum(by_category(await life.counted()).values())
    life.end()
    assert [(counted,)] == rows(tmp_path, "SELECT count(*) FROM audit WHERE kind = 'call'")
    assert counted >= 7 * 11 * (1 + 2 + 3 + 4 + 5)
    assert differences(tmp_path) == []


# ---- recounting ----------------------------------------------------------------------------------


async def filled(state: Path, records: Sequence[Record]) -> None:
    life = Life(state)
    await life.calls(*records)
    life.end()


async def test_a_recount_finds_sums_that_somebody_has_changed(tmp_path: Path) -> None:
    await filled(tmp_path, [used(1, cost_nano_usd=5), used(2, caller="ci")])
    hands(
        tmp_path,
        "UPDATE usage SET cost_nano_usd = 1 WHERE caller = 'agent'",
        "DELETE FROM usage WHERE caller = 'ci'",
        "UPDATE latencies SET calls = 9",
    )
    day = BEGAN // DAY * DAY
    of: dict[str, Any] = {"at": day, "thing": "crm/create_lead"}
    called = {**of, "version": "1.2.0", "category": "ok"}
    assert differences(tmp_path) == [
        sums.Difference(**called, caller="agent", what="cost_nano_usd", audited=5, summed=1),
        sums.Difference(**called, caller="ci", what="calls", audited=1, summed=0),
        sums.Difference(**called, caller="ci", what="took_us", audited=1000, summed=0),
        sums.Difference(**of, what="latency 19", audited=2, summed=9),
    ]


async def test_a_recount_finds_calls_that_were_removed_from_the_audit(tmp_path: Path) -> None:
    await filled(tmp_path, [used(1), used(2)])
    hands(tmp_path, "DELETE FROM audit WHERE seq = 1")
    assert {(each.what, each.audited, each.summed) for each in differences(tmp_path)} == {
        *(("calls", 1, 2), ("took_us", 1000, 2000), ("latency 19", 1, 2)),
    }


async def test_a_damaged_entry_ends_no_recount(tmp_path: Path) -> None:
    await filled(tmp_path, [used(1), used(2)])
    hands(tmp_path, "UPDATE audit SET entry = x'ff00' WHERE seq = 1", "UPDATE audit SET entry = 7 WHERE seq = 2")
    assert len(differences(tmp_path)) == 3


async def test_a_day_is_summed_anew_from_the_audit(tmp_path: Path) -> None:
    await filled(tmp_path, [used(n) for n in range(5)])
    hands(tmp_path, "DELETE FROM usage", "INSERT INTO latencies VALUES (1800000000, 60, 'crm/odd', 3, 5)")
    writer = Writer(tmp_path)
    writer.start()
    usage = Usage(writer.path)
    day = BEGAN // DAY * DAY
    assert await writer.write(lambda connection: usage.rebuild(connection, day, BEGAN), durable=True) == 5
    assert usage.recount(0, EVER) == []
    assert rows(tmp_path, "SELECT DISTINCT span FROM usage") == [(MINUTE,)]
    # Long after, it comes out as what the sweep had made of it.
    assert await writer.write(lambda c: usage.rebuild(c, day, BEGAN + 200 * DAY), durable=True) == 5
    assert rows(tmp_path, "SELECT DISTINCT at, span FROM usage") == [(day, DAY)]
    assert usage.recount(0, EVER) == []
    usage.close()
    writer.close()


# ---- upkeep --------------------------------------------------------------------------------------


async def test_old_minutes_become_hours_and_old_hours_days(life: Life) -> None:
    await life.calls(*(used(n, at_us=(BEGAN + n * 600) * 1_000_000) for n in range(6 * 48)))  # two days of them
    before = await life.counted()

    async def spans(now_s: float) -> set[int]:
        await life.usage.sweep(life.writer, now_s)
        assert await life.counted() == before
        assert differences(life.state) == []
        return {span for (span,) in rows(life.state, "SELECT DISTINCT span FROM usage")}

    assert await spans(BEGAN + 2 * DAY) == {MINUTE}
    assert await spans(BEGAN + 3 * DAY) == {MINUTE, HOUR}
    assert await spans(BEGAN + 5 * DAY) == {HOUR}
    assert await spans(BEGAN + 91 * DAY) == {HOUR, DAY}
    assert await spans(BEGAN + 100 * DAY) == {DAY}
    assert {at % DAY for (at,) in rows(life.state, "SELECT at FROM usage")} == {0}


async def test_what_comes_late_is_folded_onto_what_is_there(life: Life) -> None:
    await life.calls(used(1))
    await life.counted()
    await life.usage.sweep(life.writer, BEGAN + 5 * DAY)
    await life.calls(used(2))
    await life.counted()
    again = Usage(life.writer.path)  # another process, or the next life
    await again.sweep(life.writer, BEGAN + 5 * DAY)
    again.close()
    assert rows(life.state, "SELECT span, calls, took_us FROM usage") == [(HOUR, 2, 2000)]


async def test_after_a_long_time_away_no_sweep_takes_long(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "_MOST_FOLDED", 10)
    await life.calls(*(used(n, at_us=(BEGAN + n * 60) * 1_000_000) for n in range(100)))
    before = await life.counted()
    folded: list[int] = []
    while not folded or folded[-1]:
        folded.append(await life.usage.sweep(life.writer, BEGAN + 99 * DAY))
        assert await life.counted() == before
    assert max(folded) <= 4 * 11
    assert rows(life.state, "SELECT DISTINCT span FROM usage") == [(DAY,)]


async def test_what_is_too_old_is_forgotten(life: Life) -> None:
    life.usage.keep_days = 10
    await life.calls(used(1), used(2, at_us=(BEGAN + 5 * DAY) * 1_000_000))
    await life.counted()
    await life.usage.sweep(life.writer, BEGAN + 12 * DAY)
    assert [at // DAY for (at,) in rows(life.state, "SELECT at FROM usage")] == [BEGAN // DAY + 5]
    assert life.usage.recount(life.usage.kept_since(BEGAN + 12 * DAY), EVER) == []


# ---- reading -------------------------------------------------------------------------------------


async def test_a_series_has_the_calls_of_each_step(life: Life) -> None:
    await life.calls(
        used(1, took_us=1000),
        used(2, at_us=(BEGAN + 61) * 1_000_000, outcome="failed", took_us=4096),
        used(3, at_us=(BEGAN + 299) * 1_000_000, thing="crm/find_lead"),
        used(4, at_us=(BEGAN + 300) * 1_000_000),
    )
    await life.counted()
    points = life.usage.series(BEGAN, EVER, 300)
    assert [(point.at, dict(point.sum.categories), point.latencies) for point in points] == [
        (BEGAN, {"failed": 1, "ok": 2}, {19: 2, 24: 1}),
        (BEGAN + 300, {"ok": 1}, {19: 1}),
    ]
    assert [point.at for point in life.usage.series(BEGAN, EVER, 60, thing="crm/find_lead")] == [BEGAN + 240]


async def test_only_what_reaches_into_the_time_is_counted(life: Life) -> None:
    await life.calls(*(used(n, at_us=(BEGAN + n * 60) * 1_000_000) for n in range(180)))
    await life.counted()

    def calls(since: int, until: int) -> int:
        return sum(each.calls for each in life.usage.sums((), BEGAN + since, BEGAN + until).values())

    assert (calls(0, 600), calls(60, 600), calls(600, 600), calls(59, 61)) == (10, 9, 0, 2)
    await life.usage.sweep(life.writer, BEGAN + 4 * DAY)
    assert (calls(0, HOUR), calls(HOUR - 1, HOUR), calls(HOUR, HOUR + 1)) == (60, 60, 60)


async def test_what_cannot_be_a_name_was_not_called(life: Life) -> None:
    await life.calls(used(1))
    await life.counted()
    for odd in ("half \ud800", "x" * 10_000, "nul \x00", ""):
        assert life.usage.sums((), 0, EVER, thing=odd) == {}


async def test_who_sums_a_day_anew_beside_a_gateway_counts_nothing_twice(life: Life) -> None:
    await life.calls(used(1))
    await life.calls(used(2), used(3))  # they wait to be summed
    other = Usage(life.writer.path)
    beside = Writer(life.state)
    beside.start()
    day = BEGAN // DAY * DAY
    assert await beside.write(lambda connection: other.rebuild(connection, day, BEGAN), durable=True) == 3
    beside.close()
    other.close()
    await life.calls(used(4))
    assert by_category(await life.counted()) == {"ok": 4}
    assert differences(life.state) == []


def test_a_database_that_is_not_there_is_said_to_be_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"bascule\.db"):
        Usage(tmp_path / "bascule.db").sums((), 0, 1)


async def test_a_folder_in_which_nothing_was_called_has_no_sums(life: Life) -> None:
    assert life.usage.sums(("thing",), 0, EVER) == {}
    assert life.usage.series(0, EVER, 60) == []
    assert life.usage.recount(0, EVER) == []
