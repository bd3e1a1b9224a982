"""Contracts in a state folder: what is promised stays, what is reviewed is what is promoted, all of it on record."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from bascule.contract.model import Deprecation, Document
from bascule.errors import Internal
from bascule.store.contracts import By, Contracts, Key, NoSuchContract, NotAllowed
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records
from bascule.store.routes import Routes

ANN: Final = By("ann", "key")
BOB: Final = By("bob", "token")
KIM: Final = By("kim", "shell")
TODAY: Final = date(2026, 11, 21)
ID: Final = "crm/create_lead"
ONE: Final = Key("tool", ID, "1.0.0")
END: Final = Deprecation(sunset="2027-05-01", replaced_by="crm/create_lead@2", migration="say `source`")
WANTED: Final = ("security", "business")


def document(version: str = "1.0.0", **more: Any) -> Document:
    said = {
        "tool": ID,
        "version": version,
        "description": "Creates a lead. SIDE EFFECT. Fails if the email is already a lead.",
        "owner_team": "sales",
        "owner_email": "sales@company.test",
        **more,
    }
    return msgspec.convert(said, Document)


class World:
    def __init__(self, records: Records) -> None:
        self.records = records
        self.contracts = Contracts(records.writer, records.audit)
        self.routes = Routes(records.writer, records.audit)

    @property
    def generation(self) -> int:
        rows = self.records.writer.read("SELECT number FROM generations WHERE kind = 'contracts'")
        return int(rows[0][0]) if rows else 0

    def entries(self, kind: str = "registry") -> list[dict[str, Any]]:
        rows = self.records.writer.read("SELECT entry FROM audit WHERE kind = ? ORDER BY seq", (kind,))
        return [json.loads(entry) for (entry,) in rows]

    async def in_review(self, said: Document | None = None) -> Key:
        _, row = await self.contracts.publish(said or document(), ANN)
        await self.contracts.submit(row.key, ANN)
        return row.key

    async def active(self, version: str = "1.0.0", **more: Any) -> Key:
        key = await self.in_review(document(version, **more))
        await self.contracts.promote(key, BOB, today=TODAY)
        return key


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[World]:
    records = Records(folder / "state", AuditOptions(), JournalOptions(), ApprovalOptions())
    await records.start()
    try:
        yield World(records)
    finally:
        await records.close()


async def test_a_contract_goes_from_draft_to_gone_and_each_step_is_on_record(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        contracts = world.contracts
        plan, row = await contracts.publish(document(), ANN, "from CI")
        assert (plan.outcome, row.status, row.published_by, row.note) == ("new", "draft", "caller:ann", "from CI")
        seen = [world.generation]
        for step in (
            contracts.submit(ONE, ANN),
            contracts.promote(ONE, BOB, today=TODAY),
            contracts.deprecate(ONE, BOB, end=END),
            contracts.retire(ONE, KIM, "nobody calls it"),
        ):
            row = await step
            seen.append(world.generation)
        assert seen == [1, 2, 3, 4, 5]
        assert (row.status, row.changed_by, row.document.deprecation) == ("gone", "cli:kim", END)
        said = [(each["method"], each["outcome"], each["caller"], each["version"]) for each in world.entries()]
        assert said == [
            ("registry.publish", "draft", "ann", "1.0.0"),
            ("registry.submit", "in_review", "ann", "1.0.0"),
            ("registry.promote", "active", "bob", "1.0.0"),
            ("registry.deprecate", "deprecated", "bob", "1.0.0"),
            ("registry.retire", "gone", "kim", "1.0.0"),
        ]
        assert {each["rule"] for each in world.entries()} == {row.digest}


async def test_what_is_gone_never_returns_and_what_ended_on_its_day_neither(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        key = await world.active()
        await world.contracts.deprecate(key, BOB, end=Deprecation(sunset="2026-11-21"))
        with pytest.raises(NotAllowed, match="sunset has come"):
            await world.contracts.promote(key, BOB, today=TODAY)
        assert (await world.contracts.promote(key, BOB, today=date(2026, 11, 20))).status == "active"
        await world.contracts.deprecate(key, BOB, end=END)
        await world.contracts.retire(key, BOB)
        for step in (
            world.contracts.submit(key, ANN),
            world.contracts.promote(key, ANN, today=TODAY),
            world.contracts.deprecate(key, ANN, end=END),
        ):
            with pytest.raises(NotAllowed, match="gone"):
                await step
        plan, _ = await world.contracts.publish(document(), ANN)
        assert (plan.outcome, world.contracts.get(key).status) == ("unchanged", "gone")


async def test_what_comes_back_from_deprecation_says_nothing_of_an_end_any_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        key = await world.active()
        await world.contracts.deprecate(key, BOB, end=END)
        row = await world.contracts.promote(key, BOB, today=TODAY)
        assert (row.status, row.document.deprecation) == ("active", msgspec.UNSET)


async def test_the_same_version_twice_changes_nothing_and_is_not_on_record_twice(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.active()
        before = (world.generation, len(world.entries()))
        plan, row = await world.contracts.publish(document(status="active"), BOB)
        assert (plan.outcome, row.published_by) == ("unchanged", "caller:ann")
        assert (world.generation, len(world.entries())) == before


async def test_a_refusal_leaves_no_trace_in_the_registry(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.active()
        before = (world.generation, world.contracts.list_())
        for wrong in (document(description="Something else."), document("1.0.1", confirm_gate=True)):
            with pytest.raises(NotAllowed) as refused:
                await world.contracts.publish(wrong, ANN)
            assert refused.value.details["reasons"]
        with pytest.raises(NoSuchContract):
            await world.contracts.submit(Key("tool", ID, "9.9.9"), ANN)
        with pytest.raises(NotAllowed):
            await world.contracts.submit(ONE, ANN)
        assert (world.generation, world.contracts.list_()) == before


async def test_two_who_publish_one_version_at_the_same_moment_do_not_both_win(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.active()

        async def published(text: str) -> str:
            try:
                plan, row = await world.contracts.publish(document("1.0.1", description=text), ANN)
                await world.contracts.submit(row.key, ANN)
                return plan.outcome
            except NotAllowed:
                return "refused"

        outcomes = await asyncio.gather(*(published(f"Creates a lead, way {n}. Fails twice.") for n in range(6)))
        assert outcomes.count("new_version") == 1
        assert world.contracts.get(Key("tool", ID, "1.0.1")).status == "in_review"


# ---- sign-offs


async def test_a_promotion_takes_every_sign_off_that_is_asked_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        key = await world.in_review()
        with pytest.raises(NotAllowed) as refused:
            await world.contracts.promote(key, KIM, wanted=WANTED, today=TODAY)
        assert refused.value.details["reasons"] == ["nobody has signed off security", "nobody has signed off business"]
        await world.contracts.sign(key, "security", "approved", BOB, "bounded")
        await world.contracts.sign(key, "business", "denied", KIM)
        with pytest.raises(NotAllowed, match="business was denied"):
            await world.contracts.promote(key, KIM, wanted=WANTED, today=TODAY)
        await world.contracts.sign(key, "business", "approved", KIM)
        assert (await world.contracts.promote(key, KIM, wanted=WANTED, today=TODAY)).status == "active"
        said = [(each["caller"], each["outcome"], each["decision"]) for each in world.entries("review")]
        assert said == [
            ("bob", "security approved", "allow"),
            ("kim", "business denied", "deny"),
            ("kim", "business approved", "allow"),
        ]


async def test_nobody_signs_off_what_they_published_nor_two_aspects_of_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        key = await world.in_review()
        for own in (ANN, By("Ann", "console"), By("ann", "shell")):
            with pytest.raises(NotAllowed, match="nobody signs off what they have published"):
                await world.contracts.sign(key, "security", "approved", own)
        await world.contracts.sign(key, "security", "approved", BOB)
        with pytest.raises(NotAllowed, match="nobody speaks for two aspects"):
            await world.contracts.sign(key, "business", "approved", BOB)
        assert [each.aspect for each in world.contracts.signed(key)] == ["security"]


async def test_a_sign_off_is_for_what_was_read_and_for_nothing_that_came_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        key = await world.in_review()
        await world.contracts.sign(key, "security", "approved", BOB)
        await world.contracts.withdraw(key, ANN)
        assert world.contracts.signed(key) == []
        with pytest.raises(NotAllowed, match="is draft"):
            await world.contracts.sign(key, "security", "approved", BOB)
        await world.contracts.publish(document(description="Deletes all leads. Fails never."), ANN)
        await world.contracts.submit(key, ANN)
        with pytest.raises(NotAllowed, match="nobody has signed off security"):
            await world.contracts.promote(key, KIM, wanted=("security",), today=TODAY)


# ---- promotions


async def test_a_contract_with_errors_or_without_an_owner_is_not_promoted(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        key = await world.in_review(
            document(owner_email="", description="Creates a lead.\u200b Fails if there is one.")
        )
        with pytest.raises(NotAllowed) as refused:
            await world.contracts.promote(key, KIM, today=TODAY)
        fault, owner = refused.value.details["reasons"]
        assert "[hidden-characters]" in fault
        assert owner == "nobody answers for it: say owner_email"


async def test_nothing_is_promoted_while_it_is_frozen(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        key = await world.in_review()
        with pytest.raises(NotAllowed, match="the error budget of crm/create_lead is spent"):
            await world.contracts.promote(key, KIM, today=TODAY, frozen=f"the error budget of {ID} is spent")


# ---- ends


async def test_a_version_that_calls_are_routed_to_is_not_retired(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        one, two = await world.active(), await world.active("1.0.1")
        await world.routes.canary(ID, "1.0.1", 10, BOB, current="1.0.0")
        for key in (one, two):
            await world.contracts.deprecate(key, BOB, end=END)
            with pytest.raises(NotAllowed, match="calls are routed to it"):
                await world.contracts.retire(key, BOB)
        await world.routes.set(ID, "1.0.1", BOB)
        assert (await world.contracts.retire(one, BOB)).status == "gone"


async def test_only_a_draft_can_be_thrown_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        key = await world.in_review()
        with pytest.raises(NotAllowed, match="only a draft"):
            await world.contracts.discard(key, ANN)
        await world.contracts.withdraw(key, ANN)
        await world.contracts.discard(key, ANN)
        assert world.contracts.list_() == []
        assert world.entries()[-1]["outcome"] == "discarded"


# ---- what calls go by


async def test_calls_go_by_what_was_promised_with_its_status_and_by_no_draft(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        first = await world.active()
        await world.active("1.0.1")
        await world.in_review(document("1.0.2"))
        await world.contracts.publish(document("1.0.3"), ANN)
        await world.contracts.deprecate(first, BOB, end=END)
        found = [(place, each.version, each.status) for place, each in world.contracts.active()]
        assert found == [("registry 1.0.0", "1.0.0", "deprecated"), ("registry 1.0.1", "1.0.1", "active")]
        await world.contracts.retire(first, BOB)
        assert [each.status for _, each in world.contracts.active()] == ["gone", "active"]


async def test_versions_are_in_the_order_of_numbers_and_not_of_letters(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        for version in ("1.0.0", "1.0.2", "1.0.10"):
            await world.contracts.publish(document(version), ANN)
        assert [each.key.version for each in world.contracts.versions("tool", ID)] == ["1.0.0", "1.0.2", "1.0.10"]


async def test_a_row_that_somebody_has_changed_is_no_contract_rather_than_another_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.active()
        for text in (b'{"tool": "crm/other", "version": "1.0.0"}', b'{"tool": "crm/create_lead", "odd": 1}', b"{"):
            await world.records.writer.write(partial(_overwrite, text=text), durable=False)
            with pytest.raises(Internal, match=r"crm/create_lead@1\.0\.0 of the registry is damaged"):
                world.contracts.active()


def _overwrite(connection: sqlite3.Connection, text: bytes) -> None:
    connection.execute("UPDATE contracts SET document = ?", (text,))


async def test_a_document_comes_back_as_it_was_published_to_the_last_digit(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"maximum": 2**53 + 1, "multipleOf": 0.1}, "é\n": {"const": -0.0}}}
    async with opened(tmp_path) as world:
        published = document(input_schema=schema, cost_model={"price_usd": 1e-7})
        await world.contracts.publish(published, ANN)
        kept = world.contracts.get(ONE).document
        assert msgspec.to_builtins(kept) == {**msgspec.to_builtins(published), "status": "draft"}
        assert (await world.contracts.publish(published, ANN))[0].outcome == "unchanged"
