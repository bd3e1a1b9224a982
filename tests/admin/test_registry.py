"""What can be done with the registry, whoever asks: publishing, canaries with a promotion, rollbacks, orphans."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from msgspec.structs import replace

from bascule.admin import registry
from bascule.admin.registry import Shelf
from bascule.contract.model import Document
from bascule.contract.orphans import Listed
from bascule.errors import InvalidParams
from bascule.store.contracts import By, Contracts, Key, NoSuchContract, NotAllowed
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions, RegistryOptions
from bascule.store.records import Records
from bascule.store.routes import Routes

ANN: Final = By("ann", "key")
BOB: Final = By("bob", "key")
ID: Final = "crm/create_lead"


def document(version: str | None = "1.0.0", **more: Any) -> Document:
    said = {
        "tool": ID,
        "description": "Creates a lead. SIDE EFFECT. Fails if the email is already a lead.",
        "owner_team": "sales",
        "owner_email": "sales@company.test",
        "last_security_review": "2026-11-01",
        **({} if version is None else {"version": version}),
        **more,
    }
    return msgspec.convert(said, Document)


@asynccontextmanager
async def opened(folder: Path, **members: Any) -> AsyncIterator[Shelf]:
    records = Records(folder / "state", AuditOptions(), JournalOptions(), ApprovalOptions())
    await records.start()
    try:
        contracts, routes = Contracts(records.writer, records.audit), Routes(records.writer, records.audit)
        yield Shelf(contracts=contracts, routes=routes, today=date(2026, 11, 21), **members)
    finally:
        await records.close()


async def activate(shelf: Shelf, *documents: Document, percent: int | None = None) -> None:
    for each in documents:
        assert (await registry.publish(shelf, each, ANN))["published"]
        key = registry.key_of(shelf, each.id, version=str(each.version))
        await registry.submit(shelf, key, ANN)
        await registry.promote(shelf, key, BOB, percent=percent)


def default(shelf: Shelf) -> Any:
    return registry.show(shelf, ID)["route"]["version"]


# ---- publishing


async def test_a_dry_run_says_what_would_become_of_each_and_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        await activate(shelf, document())
        before = shelf.contracts.list_()
        wanted = [
            document(),
            document("1.0.1", description="Creates a lead in the CRM. SIDE EFFECT. Fails if it is there."),
            document("1.0.2", confirm_gate=True),
            document("2.0.0", confirm_gate=True),
            replace(document(), tool="crm/find_lead"),
            replace(document(None), tool="crm/no_version"),
        ]
        found = await registry.publish_all(shelf, reversed(wanted), ANN, dry_run=True)
        outcomes = {(each["id"], each["version"]): each["outcome"] for each in found}
        assert outcomes == {
            (ID, "1.0.0"): "unchanged",
            (ID, "1.0.1"): "new_version",
            (ID, "1.0.2"): "refused",
            (ID, "2.0.0"): "new_version",
            ("crm/find_lead", "1.0.0"): "new",
            ("crm/no_version", None): "refused",
        }
        assert not any(each["published"] for each in found)
        assert shelf.contracts.list_() == before


async def test_a_dry_run_foresees_what_the_run_does(tmp_path: Path) -> None:
    wanted = [document(), document("1.1.0", idempotent=True), document("1.1.1"), document("2.0.0")]
    async with opened(tmp_path) as shelf:
        dry = await registry.publish_all(shelf, wanted, ANN, dry_run=True)
        wet = await registry.publish_all(shelf, wanted, ANN)
        assert [(each["version"], each["outcome"], each["reason"]) for each in dry] == [
            (each["version"], each["outcome"], each["reason"]) for each in wet
        ]
        assert [each["outcome"] for each in wet] == ["new", "new_version", "refused", "new_version"]


async def test_what_stands_in_the_configuration_is_not_published_over(tmp_path: Path) -> None:
    async with opened(tmp_path, fixed=[("bascule.yaml", document())]) as shelf:
        found = await registry.publish(shelf, document(), ANN)
        assert (found["outcome"], found["published"]) == ("refused", False)
        assert "stands in the configuration" in found["reason"]


def test_what_is_no_contract_is_refused_with_its_place() -> None:
    wrong: list[Any] = [{}, {"tool": "crm"}, {"tool": ID, "sideeffect": True}, {"tool": ID, "version": 1}, []]
    for said in wrong:
        with pytest.raises(InvalidParams, match="that is no contract"):
            registry.document_of(said)


# ---- names


async def test_a_version_is_named_behind_the_at_or_beside_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        await activate(shelf, document(), document("1.0.1"))
        assert registry.key_of(shelf, f"{ID}@1.0.0") == Key("tool", ID, "1.0.0")
        assert registry.key_of(shelf, ID, version="1.0.0") == Key("tool", ID, "1.0.0")
        assert registry.key_of(shelf, ID) == Key("tool", ID, "1.0.1")
        with pytest.raises(InvalidParams, match="say which version"):
            registry.key_of(shelf, ID, exact=True)
        with pytest.raises(InvalidParams, match="two versions"):
            registry.key_of(shelf, f"{ID}@1.0.0", version="1.0.1")
        with pytest.raises(NoSuchContract):
            registry.key_of(shelf, "crm/other")


async def test_a_tool_and_a_prompt_of_one_name_are_told_apart_by_their_kind(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        await registry.publish(shelf, document(), ANN)
        await registry.publish(shelf, replace(document("3.0.0"), tool=msgspec.UNSET, prompt=ID), ANN)
        with pytest.raises(InvalidParams, match="a prompt and a tool"):
            registry.key_of(shelf, ID)
        assert registry.key_of(shelf, ID, kind="prompt").version == "3.0.0"


# ---- looking


async def test_what_is_shown_of_a_version_is_what_a_reviewer_needs(tmp_path: Path) -> None:
    async with opened(tmp_path, options=RegistryOptions(sign_offs=("security",))) as shelf:
        await registry.publish(shelf, document(), ANN)
        await registry.publish(shelf, document("2.0.0", confirm_gate=True), ANN)
        key = registry.key_of(shelf, ID)
        await registry.submit(shelf, key, ANN)
        said = await registry.sign(shelf, key, "security", "approved", BOB, note="bounded")
        assert said["missing"] == []
        page = registry.show(shelf, ID)
        assert page["before"] == "1.0.0"
        assert [(each["step"], each["field"]) for each in page["changes"]] == [("MAJOR", "confirm_gate")]
        assert [(each["aspect"], each["signer"], each["note"]) for each in page["signed"]] == [
            ("security", "caller:bob", "bounded")
        ]
        assert (page["needs"], page["can"]) == (["security"], ["withdraw", "promote"])
        assert page["versions"] == [
            {"version": "1.0.0", "status": "draft"},
            {"version": "2.0.0", "status": "in_review"},
        ]
        assert registry.list_(shelf, status="draft", team="sales")[0]["version"] == "1.0.0"
        assert registry.list_(shelf, team="nobody") == []


# ---- ends


async def test_an_end_is_a_day_to_come(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        await activate(shelf, document())
        key = registry.key_of(shelf, ID)
        for wrong in ("2026-11-21", "2020-01-01", "soon", "2027-13-01", "20270501"):
            with pytest.raises(InvalidParams):
                await registry.deprecate(shelf, key, BOB, sunset=wrong)
        said = await registry.deprecate(shelf, key, BOB, sunset="2027-05-01", replaced_by="crm/create_lead@2")
        assert said["deprecation"]["sunset"] == "2027-05-01"
        assert said["status"] == "deprecated"


async def test_a_spent_error_budget_freezes_promotions_only_where_that_is_wanted(tmp_path: Path) -> None:
    def frozen(id: str) -> str:
        return f"the error budget of {id} is spent"

    async with opened(tmp_path, frozen=frozen) as shelf:
        await activate(shelf, document())
        strict = msgspec.structs.replace(shelf, options=RegistryOptions(freeze=True))
        with pytest.raises(NotAllowed, match="error budget"):
            await activate(strict, document("1.0.1"))


# ---- routes


async def test_what_is_promoted_goes_to_all_unless_it_is_a_canary(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        await activate(shelf, document(), document("1.0.1"))
        assert default(shelf) == "1.0.1"
        await activate(shelf, document("1.0.2"), percent=10)
        route = registry.show(shelf, ID)["route"]
        assert (route["version"], route["canary"], route["percent"]) == ("1.0.1", "1.0.2", 10)
        await activate(shelf, document("1.0.3"), percent=0)
        assert registry.show(shelf, ID)["route"]["version"] == "1.0.1"


async def test_a_canary_needs_others_that_take_the_rest(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        with pytest.raises(NotAllowed, match="no other version is active"):
            await activate(shelf, document(), percent=10)
        with pytest.raises(InvalidParams, match="from 0 to 99"):
            await registry.promote(shelf, registry.key_of(shelf, ID), BOB, percent=100)
        assert registry.list_(shelf)[0]["status"] == "in_review"


async def test_a_promotion_that_fails_routes_nothing_to_what_was_not_promoted(tmp_path: Path) -> None:
    async with opened(tmp_path, options=RegistryOptions()) as shelf:
        await activate(shelf, document())
        with pytest.raises(NotAllowed, match="say owner_email"):
            await activate(shelf, document("1.0.1", owner_email=""), percent=10)
        route = registry.show(shelf, ID)["route"]
        assert (route["version"], route["canary"], route["chosen"]) == ("1.0.0", None, False)


async def test_a_route_is_said_only_of_what_there_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        for work in (
            registry.route(shelf, "crm/made_up", "", BOB),
            registry.route(shelf, "crm/made_up", "1.0.0", BOB),
            registry.canary(shelf, "crm/made_up", "", 0, BOB),
        ):
            with pytest.raises(NoSuchContract, match="no contract with a version"):
                await work
        with pytest.raises(NotAllowed, match="nothing to go back to"):
            await registry.rollback(shelf, "crm/made_up", BOB)
        assert registry.routes(shelf) == []


async def test_what_every_result_will_say_is_short(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        await activate(shelf, document())
        with pytest.raises(InvalidParams, match="at most 500 characters"):
            await registry.deprecate(shelf, registry.key_of(shelf, ID), BOB, migration="x" * 501)


async def test_a_rollback_needs_no_route_that_anybody_had_said(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        await activate(shelf, document(), document("1.0.1"))
        undone = await registry.rollback(shelf, ID, BOB)
        assert (undone["undone"], undone["version"]) == ("1.0.1", "1.0.0")
        assert default(shelf) == "1.0.0"
        with pytest.raises(NotAllowed, match="nothing to go back to"):
            await registry.rollback(shelf, ID, BOB)


async def test_a_rollback_does_not_go_to_what_is_gone(tmp_path: Path) -> None:
    async with opened(tmp_path) as shelf:
        await activate(shelf, document(), document("1.0.1"))
        await registry.route(shelf, ID, "1.0.0", BOB)
        await registry.route(shelf, ID, "1.0.1", BOB)
        key = Key("tool", ID, "1.0.0")
        await registry.deprecate(shelf, key, BOB)
        await registry.retire(shelf, key, BOB)
        with pytest.raises(NotAllowed, match=r"1\.0\.0 is gone"):
            await registry.rollback(shelf, ID, BOB)


async def test_calls_are_routed_to_what_is_there_for_them(tmp_path: Path) -> None:
    async with opened(tmp_path, fixed=[("bascule.yaml", document("3.0.0"))]) as shelf:
        await activate(shelf, document())
        await registry.publish(shelf, document("1.0.1"), ANN)
        with pytest.raises(NoSuchContract, match=r"has no version '9\.9\.9'; there are 1\.0\.0, 1\.0\.1, 3\.0\.0"):
            await registry.route(shelf, ID, "9.9.9", BOB)
        for work in (registry.route(shelf, ID, "1.0.1", BOB), registry.canary(shelf, ID, "1.0.1", 5, BOB)):
            with pytest.raises(NotAllowed, match="is draft"):
                await work
        assert (await registry.route(shelf, ID, "3.0.0", BOB))["version"] == "3.0.0"
        assert (await registry.route(shelf, ID, "", BOB))["chosen"] is False
        assert [each["tool"] for each in registry.routes(shelf)] == [ID]


# ---- orphans


async def test_orphans_are_looked_for_among_what_is_in_use(tmp_path: Path) -> None:
    forgotten = replace(document(owner_team="", last_security_review="2024-01-01"), tool="crm/forgotten")
    async with opened(tmp_path, fixed=[("bascule.yaml", forgotten)]) as shelf:
        await activate(shelf, document())
        await registry.publish(shelf, document("2.0.0", owner_team=""), ANN)
        found = [(each["lack"], each["id"]) for each in registry.orphaned(shelf)]
        assert found == [("no_owner", "crm/forgotten"), ("review_old", "crm/forgotten")]
        listed = Listed({("tool", "crm/forgotten"): True, ("tool", "crm/bare"): False})
        found = [(each["lack"], each["id"]) for each in registry.orphaned(shelf, listed)]
        assert ("not_listed", ID) in found
        assert ("no_contract", "crm/bare") in found
