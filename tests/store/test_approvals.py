"""Questions and answers in a state folder: asked once, answered once, used once, and each on the record."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bascule.errors import Internal, RateLimited
from bascule.policy.approvals import Approval, Asked
from bascule.store import approvals as store
from bascule.store.approvals import KEPT_S, Approvals
from bascule.store.journal import Yes
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records

ASKED = Asked(
    caller="ann",
    thing="bank/pay",
    version="1.2.0",
    pin=b"p" * 32,
    fingerprint=b"f" * 32,
    arguments=b'{"amount": 10, "iban": "DE02"}',
    question="Pay 10?",
    rule="confirm_gate",
    four_eyes=False,
    trace_id="0" * 32,
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


class World:
    def __init__(self, records: Records, options: ApprovalOptions) -> None:
        self.records = records
        self.clock = Clock()
        self.approvals = Approvals(records.writer, records.vault, records.audit, options, self.clock)

    async def use(self, yes: Yes) -> bool:
        """What the journal does when a call goes out."""
        writer = self.records.writer
        return await writer.write(lambda connection: store.use(connection, yes, self.clock.now_s), durable=True)

    async def approved(self, asked: Asked = ASKED) -> Yes:
        found = await self.approvals.ask(asked)
        await self.approvals.decide(found.id, approve=True, by="cli:kim")
        return yes_of(found)

    def entries(self) -> list[dict[str, Any]]:
        """What the audit says of approvals."""
        rows = self.records.writer.read("SELECT entry FROM audit WHERE kind = 'approval' ORDER BY seq")
        return [json.loads(entry) for (entry,) in rows]


def yes_of(row: Approval) -> Yes:
    return Yes(id=row.id, caller=row.caller, thing=row.thing, pin=row.pin, fingerprint=row.fingerprint)


@asynccontextmanager
async def opened(folder: Path, **options: Any) -> AsyncIterator[World]:
    wanted = ApprovalOptions(**options)
    records = Records(folder / "state", AuditOptions(), JournalOptions(), wanted)
    await records.start()
    try:
        yield World(records, wanted)
    finally:
        await records.close()


async def test_the_same_call_raises_one_question_as_long_as_nobody_has_answered_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        first = await world.approvals.ask(ASKED)
        assert (await world.approvals.ask(replace(ASKED, trace_id="1" * 32))).id == first.id
        others = [
            replace(ASKED, caller="bob"),
            replace(ASKED, thing="bank/refund"),
            replace(ASKED, pin=b"q" * 32),
            replace(ASKED, fingerprint=b"g" * 32),
            replace(ASKED, four_eyes=True),
            replace(ASKED, rule="guardrails.0"),
        ]
        ids = {(await world.approvals.ask(each)).id for each in others}
        assert len(ids | {first.id}) == 7
        await world.approvals.decide(first.id, approve=False, by="cli:kim")
        assert (await world.approvals.ask(ASKED)).id != first.id


async def test_a_yes_is_used_once_and_only_for_its_own_call(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        yes = await world.approved()
        for other in (
            replace(yes, id="0" * 32),
            replace(yes, caller="bob"),
            replace(yes, thing="bank/refund"),
            replace(yes, pin=b"q" * 32),
            replace(yes, fingerprint=b"g" * 32),
        ):
            assert not await world.use(other)
        found = await asyncio.gather(*(world.use(yes) for _ in range(50)))
        assert found.count(True) == 1
        row = world.approvals.find(yes.id)
        assert row is not None
        assert (row.state, row.used_at_s) == ("used", world.clock.now_s)


async def test_a_question_that_is_pending_or_denied_is_no_yes(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        row = await world.approvals.ask(ASKED)
        assert not await world.use(yes_of(row))
        await world.approvals.decide(row.id, approve=False, by="cli:kim")
        assert not await world.use(yes_of(row))


async def test_a_yes_whose_call_was_never_sent_is_good_again_until_it_expires(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        yes = await world.approved()
        for _ in range(2):
            assert await world.use(yes)
            await world.records.writer.write(lambda connection: store.unuse(connection, yes.id), durable=True)
        world.clock.now_s += 300
        assert not await world.use(yes)


@pytest.mark.parametrize("step_s", [300.0, 86_400.0, -61.0, -86_400.0])
async def test_time_ends_questions_and_a_clock_that_is_set_back_lengthens_nothing(
    tmp_path: Path, step_s: float
) -> None:
    async with opened(tmp_path) as world:
        yes = await world.approved()
        row = await world.approvals.ask(ASKED)
        world.clock.now_s += step_s
        assert not await world.use(yes)
        assert await world.approvals.decide(row.id, approve=True, by="cli:kim") == "decided"
        assert {each.state_at(world.clock.now_s) for each in world.approvals.list_()} == {"expired"}


async def test_it_lasts_no_longer_than_five_minutes(tmp_path: Path) -> None:
    async with opened(tmp_path, ttl_s=20) as world:
        row = await world.approvals.ask(ASKED)
        assert row.expires_at_s == world.clock.now_s + 20
        await world.approvals.decide(row.id, approve=True, by="cli:kim")
        world.clock.now_s += 19.9
        assert await world.use(yes_of(row))


async def test_nobody_answers_twice_or_their_own_question_and_there_is_a_word_for_each(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        row = await world.approvals.ask(ASKED)
        decide = world.approvals.decide
        assert await decide("f" * 32, approve=True, by="cli:kim") == "unknown"
        assert await decide(row.id, approve=True, by="caller:ann", caller="ann") == "own"
        found = await decide(row.id, approve=False, by="caller:bob", caller="bob", note="x" * 1000)
        assert isinstance(found, Approval)
        assert (found.state, found.decided_by, len(found.note)) == ("denied", "caller:bob", store.MAX_NOTE)
        assert await decide(row.id, approve=True, by="cli:kim") == "decided"
        assert world.approvals.find(row.id) == found


async def test_of_two_people_who_decide_at_once_one_is_heard(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        row = await world.approvals.ask(ASKED)
        found = await asyncio.gather(
            *(world.approvals.decide(row.id, approve=number % 2 == 0, by=f"cli:{number}") for number in range(20))
        )
        assert [each for each in found if each != "decided"] == [world.approvals.find(row.id)]


async def test_an_answer_from_the_client_counts_once_under_its_id(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        settle = world.approvals.settle
        row = await settle(ASKED, "a" * 32, approve=True, by="client:ann", channel="client")
        assert (row.state, row.decided_by) == ("approved", "client:ann")
        assert await world.use(yes_of(row))
        again = await settle(ASKED, "a" * 32, approve=True, by="client:ann", channel="client")
        assert again.state == "used"
        no = await settle(ASKED, "b" * 32, approve=False, by="client:ann", channel="client")
        assert (await settle(ASKED, "b" * 32, approve=True, by="client:ann", channel="client")) == no
        assert not await world.use(yes_of(no))
        assert await world.approvals.decide("b" * 32, approve=True, by="cli:kim") == "decided"


async def test_a_caller_has_so_many_questions_at_one_time_and_hears_when_there_is_room(tmp_path: Path) -> None:
    async with opened(tmp_path, max_pending=2) as world:
        first = await world.approvals.ask(ASKED)
        world.clock.now_s += 100
        await world.approvals.ask(replace(ASKED, fingerprint=b"1" * 32))
        with pytest.raises(RateLimited) as caught:
            await world.approvals.ask(replace(ASKED, fingerprint=b"2" * 32))
        assert caught.value.retry_after_s == 200
        assert (await world.approvals.ask(ASKED)).id == first.id
        await world.approvals.ask(replace(ASKED, caller="bob"))
        world.clock.now_s += 200
        await world.approvals.ask(replace(ASKED, fingerprint=b"2" * 32))


async def test_what_is_listed_is_the_newest_first_and_of_one_state(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        ids = []
        for number in range(3):
            ids.append((await world.approvals.ask(replace(ASKED, fingerprint=bytes([number]) * 32))).id)
            world.clock.now_s += 1
        await world.approvals.decide(ids[0], approve=True, by="cli:kim")
        await world.approvals.settle(ASKED, "c" * 32, approve=True, by=ids[0], channel="round")  # nobody's answer
        assert [each.id for each in world.approvals.list_()] == ids[::-1]
        assert [each.id for each in world.approvals.list_("pending")] == [ids[2], ids[1]]
        assert [each.id for each in world.approvals.list_("approved")] == [ids[0]]
        assert [each.id for each in world.approvals.list_(most=1)] == [ids[2]]


async def test_arguments_are_kept_as_they_are_shown_and_nobody_reads_them_on_the_disk(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        row = await world.approvals.ask(ASKED)
        assert world.approvals.arguments(row) == '{\n  "amount": 10,\n  "iban": "DE02"\n}'
        other = await world.approvals.ask(replace(ASKED, fingerprint=b"g" * 32))
        move = "UPDATE approvals SET arguments = (SELECT arguments FROM approvals WHERE id = ?) WHERE id = ?"
        await world.records.writer.write(lambda connection: connection.execute(move, (row.id, other.id)), durable=True)
        with pytest.raises(Internal):
            world.approvals.arguments(other)
    files = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir() if path.is_file())
    assert b"DE02" not in files


async def test_every_question_and_every_answer_is_in_the_audit_and_a_refused_one_is_not(tmp_path: Path) -> None:
    async with opened(tmp_path, max_pending=1) as world:
        row = await world.approvals.ask(ASKED)
        await world.approvals.ask(ASKED)
        with pytest.raises(RateLimited):
            await world.approvals.ask(replace(ASKED, fingerprint=b"g" * 32))
        await world.approvals.decide(row.id, approve=True, by="cli:kim", note="fine")
        await world.approvals.decide(row.id, approve=False, by="cli:lee")
        await world.approvals.settle(ASKED, "d" * 32, approve=False, by="client:ann", channel="client")
        await world.approvals.asks(ASKED, "e" * 32)
        await world.approvals.settle(ASKED, "e" * 32, approve=True, by="client:ann", channel="client")
        await world.approvals.settle(ASKED, "f" * 32, approve=True, by="e" * 32, channel="round")  # nobody's answer
        found = world.entries()
        assert [(each["approval"], each["outcome"], each.get("decision", "")) for each in found] == [
            (row.id, "asked", ""),
            (row.id, "approved", "allow"),
            ("d" * 32, "denied", "deny"),
            ("e" * 32, "asked", ""),
            ("e" * 32, "approved", "allow"),
        ]
        assert (found[1]["approved_by"], found[1]["note"], found[1]["thing"]) == ("cli:kim", "fine", "bank/pay")
        assert found[0]["arguments_sha256"]
        assert all(b"DE02" not in json.dumps(each).encode() for each in found)


async def test_what_is_old_is_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.approvals.ask(ASKED)
        world.clock.now_s += KEPT_S + 1
        row = await world.approvals.ask(ASKED)
        assert [each.id for each in world.approvals.list_()] == [row.id]


async def test_answers_of_clients_are_forgotten_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.approvals.settle(ASKED, "1" * 32, approve=False, by="client:ann", channel="client")
        world.clock.now_s += KEPT_S + 1
        await world.approvals.settle(ASKED, "2" * 32, approve=False, by="client:ann", channel="client")
        assert [each.id for each in world.approvals.list_()] == ["2" * 32]


async def test_a_yes_outlives_the_process_that_heard_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        yes = await world.approved()
    async with opened(tmp_path) as world:
        assert await world.use(yes)
    async with opened(tmp_path) as world:
        assert not await world.use(yes)


async def test_a_row_that_was_written_by_hand_is_no_yes(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        yes = await world.approved()

        def damage(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE approvals SET state = 'APPROVED' WHERE id = ?", (yes.id,))

        await world.records.writer.write(damage, durable=True)
        assert not await world.use(yes)
