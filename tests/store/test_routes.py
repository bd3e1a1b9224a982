"""Where calls go that name no version: chosen, tried by some, and back again in one step."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from bascule.contract.versions import Route
from bascule.store.contracts import By, NotAllowed
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records
from bascule.store.routes import Routes, Routing

KIM: Final = By("kim", "shell")
ID: Final = "crm/create_lead"


class World:
    def __init__(self, records: Records) -> None:
        self.records = records
        self.routes = Routes(records.writer, records.audit)

    @property
    def generation(self) -> int:
        rows = self.records.writer.read("SELECT number FROM generations WHERE kind = 'routes'")
        return int(rows[0][0]) if rows else 0

    def entries(self) -> list[dict[str, Any]]:
        rows = self.records.writer.read("SELECT entry FROM audit WHERE kind = 'registry' ORDER BY seq")
        return [json.loads(entry) for (entry,) in rows]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[World]:
    records = Records(folder / "state", AuditOptions(), JournalOptions(), ApprovalOptions())
    await records.start()
    try:
        yield World(records)
    finally:
        await records.close()


def where(row: Routing) -> tuple[str, str, str, int]:
    return row.version, row.previous, row.canary, row.percent


async def test_where_nobody_has_chosen_nothing_is_said(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        assert where(world.routes.of(ID)) == ("", "", "", 0)
        assert world.routes.list_() == []
        assert world.routes.known() == {}


async def test_what_was_the_default_before_is_kept_to_go_back_to(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        routes = world.routes
        assert where(await routes.set(ID, "1.1.0", KIM, current="1.0.0")) == ("1.1.0", "1.0.0", "", 0)
        assert where(await routes.set(ID, "1.2.0", KIM)) == ("1.2.0", "1.1.0", "", 0)
        assert where(await routes.set(ID, "1.2.0", KIM)) == ("1.2.0", "1.1.0", "", 0)
        assert where(await routes.rollback(ID, KIM)) == ("1.1.0", "", "", 0)
        assert world.generation == 4
        assert world.routes.known() == {ID: Route("1.1.0")}


async def test_a_rollback_goes_one_step_and_says_when_there_is_none(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        with pytest.raises(NotAllowed, match=r"nothing to go back to; calls go to 1\.0\.0"):
            await world.routes.rollback(ID, KIM, current="1.0.0")
        await world.routes.set(ID, "1.1.0", KIM, current="1.0.0")
        await world.routes.rollback(ID, KIM)
        with pytest.raises(NotAllowed, match=r"`bascule registry route crm/create_lead VERSION` chooses one"):
            await world.routes.rollback(ID, KIM, current="1.1.0", before="1.0.0")
        assert where(world.routes.of(ID)) == ("1.0.0", "", "", 0)


async def test_what_became_the_default_by_being_the_highest_is_rolled_back_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        assert where(await world.routes.rollback(ID, KIM, current="1.1.0", before="1.0.0")) == ("1.0.0", "", "", 0)


async def test_what_is_left_to_the_highest_again_goes_back_to_what_was_chosen_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.routes.set(ID, "1.0.0", KIM, current="1.2.0")
        assert where(await world.routes.set(ID, "", KIM, current="1.2.0")) == ("", "1.0.0", "", 0)
        assert where(await world.routes.rollback(ID, KIM, current="1.2.0", before="1.1.0")) == ("1.0.0", "", "", 0)


async def test_a_rollback_always_goes_somewhere_else(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.routes.set(ID, "1.0.0", KIM, current="1.0.0")
        await world.routes.set(ID, "", KIM, current="1.0.0")
        with pytest.raises(NotAllowed, match="nothing to go back to"):
            await world.routes.rollback(ID, KIM, current="1.0.0")
        assert where(await world.routes.rollback(ID, KIM, current="1.1.0", before="1.0.0")) == ("1.0.0", "", "", 0)


async def test_a_canary_leaves_the_others_where_they_were_and_is_the_first_to_be_rolled_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        routes = world.routes
        await routes.set(ID, "1.1.0", KIM, current="1.0.0")
        assert where(await routes.canary(ID, "1.2.0", 10, KIM)) == ("1.1.0", "1.0.0", "1.2.0", 10)
        assert where(await routes.canary(ID, "1.2.0", 50, KIM)) == ("1.1.0", "1.0.0", "1.2.0", 50)
        assert world.routes.known() == {ID: Route("1.1.0", "1.2.0", 50)}
        assert where(await routes.rollback(ID, KIM)) == ("1.1.0", "1.0.0", "", 0)
        assert where(await routes.rollback(ID, KIM)) == ("1.0.0", "", "", 0)


async def test_a_canary_that_gets_all_is_the_default_and_what_was_it_can_be_gone_back_to(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.routes.canary(ID, "1.2.0", 10, KIM, current="1.1.0")
        assert where(await world.routes.set(ID, "1.2.0", KIM)) == ("1.2.0", "1.1.0", "", 0)


async def test_a_canary_is_another_version_and_gets_a_share(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        with pytest.raises(NotAllowed, match="no other version"):
            await world.routes.canary(ID, "1.0.0", 10, KIM)
        with pytest.raises(NotAllowed, match="all calls go to"):
            await world.routes.canary(ID, "1.0.0", 10, KIM, current="1.0.0")
        for percent in (-1, 100):
            with pytest.raises(NotAllowed, match="from 0 to 99"):
                await world.routes.canary(ID, "1.1.0", percent, KIM, current="1.0.0")
        await world.routes.canary(ID, "1.1.0", 99, KIM, current="1.0.0")
        assert where(await world.routes.canary(ID, "", 0, KIM)) == ("1.0.0", "", "", 0)


async def test_each_change_is_on_record_with_what_was_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.routes.set(ID, "1.1.0", KIM, "looks good", current="1.0.0")
        await world.routes.canary(ID, "1.2.0", 10, KIM)
        await world.routes.rollback(ID, KIM, "errors")
        said = [(each["method"], each["version"], each["note"], each["caller"]) for each in world.entries()]
        assert said == [
            ("registry.route", "1.1.0", "highest active -> 1.1.0: looks good", "kim"),
            ("registry.canary", "1.1.0", "1.1.0 -> 1.1.0, 1.2.0 for 10 %", "kim"),
            ("registry.rollback", "1.1.0", "1.1.0, 1.2.0 for 10 % -> 1.1.0: errors", "kim"),
        ]
