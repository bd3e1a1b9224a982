"""Wordings in a state folder: seen, decided, each on the record, and never more than there is room for."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bascule.store.definitions import _CROWD, FIRST_SIGHT, MOST_PENDING, TRUST, Definitions, Wording
from bascule.store.generations import Generations
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records

PAY = Wording(
    server="bank",
    source="s",
    kind="tool",
    name="pay",
    digest="v1:1",
    id="1",
    state="pending",
    definition=b'{"name":"pay"}',
    seen_at_s=1.0,
)


def taken(number: int = 1, by: str = FIRST_SIGHT) -> Wording:
    wording = waiting(number)
    return replace(wording, state="approved", decided_by=by, decided_at_s=wording.seen_at_s)


def waiting(number: int) -> Wording:
    return replace(PAY, digest=f"v1:{number}", id=str(number), seen_at_s=float(number))


class World:
    def __init__(self, records: Records) -> None:
        self.records = records
        self.definitions = Definitions(records.writer, records.audit, lambda: 1_800_000_000.0)

    async def state(self, id: str) -> str | None:
        found = self.definitions.find(id)
        return None if found is None else found.state

    def entries(self) -> list[dict[str, Any]]:
        found = self.records.writer.read("SELECT entry FROM audit WHERE kind = 'review' ORDER BY seq")
        return [json.loads(entry) for (entry,) in found]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    records = Records(tmp_path / "state", AuditOptions(), JournalOptions(), ApprovalOptions())
    await records.start()
    yield World(records)
    await records.close()


# ---- seeing


async def test_only_the_first_wording_of_a_thing_is_taken_at_first_sight(world: World) -> None:
    first, second = await world.definitions.see([taken(1), taken(2)])
    assert (first.state, second.state) == ("approved", "pending")
    (third,) = await world.definitions.see([taken(3)])
    assert third.state == "pending"
    assert [(each.digest, each.state) for each in world.definitions.known("bank", "s")] == [
        ("v1:1", "approved"),
        ("v1:2", "pending"),
        ("v1:3", "pending"),
    ]
    assert world.definitions.known("bank", "other") == []


async def test_after_a_denial_nothing_is_taken_at_first_sight(world: World) -> None:
    await world.definitions.see([waiting(1)])
    await world.definitions.decide("1", approve=False, by="cli:kim")
    (found,) = await world.definitions.see([taken(2)])
    assert found.state == "pending"


async def test_to_be_seen_again_changes_no_decision_and_no_id(world: World) -> None:
    await world.definitions.see([waiting(1)])
    await world.definitions.decide("1", approve=False, by="cli:kim", note="no")
    (found,) = await world.definitions.see([replace(taken(1, TRUST), id="another", seen_at_s=9.0)])
    assert (found.state, found.id, found.seen_at_s, found.decided_by) == ("denied", "1", 9.0, "cli:kim")
    assert world.definitions.find("another") is None


async def test_what_waits_may_be_taken_once_it_is_trusted(world: World) -> None:
    await world.definitions.see([waiting(1)])
    (found,) = await world.definitions.see([taken(1, TRUST)])
    assert (found.state, found.id, found.decided_by) == ("approved", "1", TRUST)


async def test_a_flood_of_wordings_pushes_out_its_own_oldest_that_nobody_decided_of(world: World) -> None:
    other = replace(PAY, name="look", digest="v1:0", id="look")
    await world.definitions.see([taken(1), other])
    await world.definitions.see([waiting(2)])
    await world.definitions.decide("2", approve=False, by="cli:kim")
    for start in range(3, 103, 20):
        await world.definitions.see([waiting(number) for number in range(start, start + 20)])
    left = world.definitions.history("bank", "tool", "pay")
    assert [each.id for each in left if each.state == "pending"] == [str(n) for n in range(102, 102 - MOST_PENDING, -1)]
    assert {each.id for each in left if each.state != "pending"} == {"1", "2"}
    assert await world.state("look") == "pending"


async def test_the_history_of_a_trusted_server_is_bounded_and_no_decision_of_a_person_is_in_it(world: World) -> None:
    await world.definitions.see([waiting(1)])
    await world.definitions.decide("1", approve=True, by="cli:kim")
    for number in range(2, 60):
        await world.definitions.see([taken(number, TRUST)])
    left = world.definitions.history("bank", "tool", "pay")
    assert len(left) == MOST_PENDING + 1
    assert left[-1].id == "1"


async def test_a_server_cannot_fill_the_disk_with_what_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bascule.store.definitions.MOST_OF_SERVER", 30)
    flood = [replace(PAY, name=f"n{number}", id=f"n{number}", seen_at_s=float(number)) for number in range(100)]
    await world.definitions.see([taken(1), replace(PAY, server="other", id="other"), *flood])
    left = {each.id for each in world.definitions.list_(None, most=1000)}
    assert left == {"1", "other", *(f"n{number}" for number in range(70, 100))}
    monkeypatch.setattr("bascule.store.definitions.MOST_BYTES", 100)
    await world.definitions.see([replace(PAY, name="large", id="large", definition=b"x" * 80, seen_at_s=1000.0)])
    left = {each.id for each in world.definitions.list_("pending", "bank")}
    assert left == {"large", "n99"}


# ---- deciding


async def test_a_decision_is_on_record_and_others_can_notice_it(world: World) -> None:
    generations = Generations(world.records.writer)
    generations.changed()
    await world.definitions.see([taken(1), waiting(2)])
    assert generations.changed() == frozenset()  # nobody has decided anything
    found = await world.definitions.decide("2", approve=True, by="caller:ann", proof="key", note="read it")
    assert isinstance(found, Wording)
    assert (found.state, found.decided_by, found.note) == ("approved", "caller:ann", "read it")
    assert generations.changed() == {"definitions"}
    assert [(each["thing"], each["outcome"], each.get("approved_by", "")) for each in world.entries()] == [
        ("bank/pay", "changed", ""),
        ("bank", "first_sight", ""),
        ("bank/pay", "approved", "caller:ann"),
    ]
    assert world.entries()[2]["note"] == "v1:2: read it"


async def test_an_endless_change_is_not_an_endless_record(world: World) -> None:
    await world.definitions.see([taken(1)])
    for number in range(2, 10 * MOST_PENDING):
        await world.definitions.see([waiting(number)])
    assert len(world.entries()) == 1 + MOST_PENDING


async def test_a_server_that_changes_very_many_things_does_not_fill_the_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bascule.store.definitions.MOST_NOTED", 30)
    for round in range(4):
        wording = replace(PAY, digest=f"v1:{round}", seen_at_s=float(round))
        await world.definitions.see([replace(wording, name=f"n{each}", id=f"{each}.{round}") for each in range(20)])
    await world.definitions.see([replace(PAY, server="other", id="other")])
    entries = world.entries()
    assert len([each for each in entries if each["thing"].startswith("bank/")]) == 30
    assert [each["note"] for each in entries if each["thing"] == "bank"] == [
        "more than 30 changes within an hour: the rest of them is not put on record one by one"
    ]
    assert entries[-1]["thing"] == "other/pay"


async def test_the_time_that_a_flood_takes_grows_no_faster_than_the_flood(world: World) -> None:
    """Whoever waits for the disk meanwhile is every caller of a tool with a key."""
    plans = []

    def explained(connection: sqlite3.Connection) -> None:
        plans.extend(connection.execute(f"EXPLAIN QUERY PLAN {_CROWD}", ("", "", "", "", "", "", 1)).fetchall())

    await world.records.writer.write(explained, durable=False)
    assert not [plan for *_, plan in plans if "ix_definitions_state" in plan]
    assert [plan for *_, plan in plans if "server=? AND source=? AND kind=? AND name=?" in plan]


async def test_a_decision_can_be_taken_back_and_not_twice(world: World) -> None:
    await world.definitions.see([taken(1)])
    assert await world.definitions.decide("none", approve=True, by="cli:kim") == "unknown"
    assert await world.definitions.decide("1", approve=True, by="cli:kim") == "decided"
    assert await world.definitions.decide("1", approve=False, by="cli:kim") not in ("decided", "unknown")
    assert await world.state("1") == "denied"
    await world.definitions.decide("1", approve=True, by="cli:kim")
    assert await world.state("1") == "approved"


async def test_two_aspects_need_two_people(world: World) -> None:
    needed = ("security", "business")

    async def say(by: str, aspect: str, *, approve: bool = True) -> str | Wording:
        return await world.definitions.decide("1", approve=approve, by=by, aspect=aspect, needed=needed)

    await world.definitions.see([waiting(1)])
    await say("caller:ann", "security")
    assert await world.state("1") == "pending"
    assert await say("caller:ann", "business") == "twice"
    assert await say("cli:ANN", "business") == "twice"
    await say("caller:bob", "business")
    assert await world.state("1") == "approved"
    # To decide otherwise asks all of them anew.
    await say("caller:ann", "business", approve=False)
    assert await world.state("1") == "denied"
    await say("caller:bob", "security")
    assert await world.state("1") == "denied"
    await say("caller:kim", "business")
    assert await world.state("1") == "approved"


async def test_one_denial_is_enough(world: World) -> None:
    await world.definitions.see([waiting(1)])
    needed = ("security", "business")
    await world.definitions.decide("1", approve=True, by="cli:ann", aspect="security", needed=needed)
    await world.definitions.decide("1", approve=False, by="cli:bob", aspect="business", needed=needed)
    assert await world.state("1") == "denied"


async def test_sign_offs_go_with_what_they_are_of(world: World) -> None:
    await world.definitions.see([waiting(1)])
    await world.definitions.decide("1", approve=True, by="cli:ann", aspect="security", needed=("security", "business"))
    assert [each.signer for each in world.definitions.sign_offs("1")] == ["cli:ann"]
    await world.definitions.see([waiting(number) for number in range(2, 3 + MOST_PENDING)])
    assert world.definitions.find("1") is None
    assert world.definitions.sign_offs("1") == []


async def test_of_fifty_at_once_one_decides(world: World) -> None:
    await world.definitions.see([waiting(1)])
    found = await asyncio.gather(
        *(world.definitions.decide("1", approve=True, by=f"cli:{number}") for number in range(50))
    )
    assert sum(isinstance(each, Wording) for each in found) == 1
    assert [each["outcome"] for each in world.entries()] == ["new", "approved"]


async def test_a_decision_is_on_disk_before_anybody_hears_of_it(world: World) -> None:
    await world.definitions.see([waiting(1)])
    await world.definitions.decide("1", approve=True, by="cli:ann")
    with sqlite3.connect(f"file:{world.records.writer.path}?mode=ro", uri=True) as connection:
        assert connection.execute("SELECT state FROM definitions").fetchall() == [("approved",)]
    connection.close()
