"""The registry of a gateway that runs, by REST: who may do what, and what calls and lists make of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from gateway import Bascule, Json, failure_of, gateway, remote, until
from governed import Known, Wide, credentials, tool, wide

from bascule.contract.versions import share_of
from bascule.wire.versions import Era

CALLERS: Final[dict[str, Json]] = {
    "editor": {"scopes": ["bascule.registry:read", "bascule.registry:write"]},
    "security": {"scopes": ["bascule.registry:read", "bascule.reviews:write:security"]},
    "admin": {"scopes": ["bascule.registry:read", "bascule.registry:promote"]},
    "reader": {"scopes": ["bascule.registry:read"]},
    "agent": {"scopes": ["*"]},
}
KEYS: Final = credentials(*CALLERS)
CALL: Final = "dev.bascule/call"
ID: Final = "crm/work"
WRITES: Final = (
    *("publish", "submit", "withdraw", "discard", "promote", "deprecate", "retire", "sign"),
    *("routes", "routes/canary", "routes/rollback"),
)
BODIES: Final[dict[str, Json]] = {
    "publish": {"contract": {"tool": ID, "version": "1.0.0"}},
    "sign": {"tool": ID, "version": "1.0.0", "aspect": "security", "decision": "approved"},
    "routes/canary": {"tool": ID, "version": "1.0.0", "percent": 1},
    "routes/rollback": {"tool": ID},
}


def contract(version: str = "1.0.0", **more: Any) -> Json:
    return {
        "tool": ID,
        "version": version,
        "side_effect": False,
        "description": "Works on a text and gives it back. Fails if there is none.",
        "owner_team": "sales",
        "owner_email": "sales@company.test",
        **more,
    }


class World:
    def __init__(self, bascule: Bascule, upstream: Wide) -> None:
        self.bascule = bascule
        self.upstream = upstream

    async def ask(self, who: str | None, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, JSON): a POST where there is a body."""
        head = {**(KEYS.of(who) if who else {}), **({} if body is None else {"content-type": "application/json"})}
        sent = None if body is None else json.dumps(body).encode()
        method = "GET" if body is None else "POST"
        async with self.bascule.request(method, f"/api/registry{path}", head, sent) as exchange:
            text = await exchange.body()
            return exchange.status, json.loads(text) if text else None

    async def done(self, who: str, path: str, body: Any = None) -> Any:
        status, found = await self.ask(who, path, body)
        assert status == 200, found
        return found

    async def activate(self, said: Json, **more: Any) -> None:
        assert (await self.done("editor", "/publish", {"contract": said}))["published"]
        named = {"tool": ID, "version": said["version"]}
        await self.done("editor", "/submit", named)
        await self.done("admin", "/promote", {**named, **more})

    async def called(self, *, name: str = "crm__work") -> Json:
        client = Known(self.bascule, shown=KEYS.of("agent"))
        return await client.result("tools/call", {"name": name, "arguments": {"text": "x"}})

    async def version(self, wanted: str) -> Json:
        """The result of a call that goes to version *wanted*, once one does."""

        async def look() -> Json:
            return await self.called()

        found: Json = await until(look, lambda result: result["_meta"].get(CALL, {}).get("version") == wanted)
        return found


@asynccontextmanager
async def world(tmp_path: Path, **members: Any) -> AsyncIterator[World]:
    async with (
        wide(modern=True, tools=[tool("work")]) as upstream,
        gateway(
            {"crm": remote(upstream.url)},
            environ=KEYS.environ,
            state_dir=str(tmp_path / "state"),
            **{"callers": KEYS.configured(**CALLERS), **members},
        ) as bascule,
    ):
        assert bascule.gateway is not None
        await bascule.gateway.registry.settled("crm", Era.MODERN)
        yield World(bascule, upstream)


# ---- who may


async def test_to_edit_to_sign_and_to_promote_are_three_permissions(tmp_path: Path) -> None:
    async with world(tmp_path, registry={"sign_offs": ["security"]}) as w:
        named = {"tool": ID, "version": "1.0.0"}
        assert (await w.ask("admin", "/publish", {"contract": contract()}))[0] == 403
        await w.done("editor", "/publish", {"contract": contract()})
        await w.done("editor", "/submit", named)
        assert (await w.ask("editor", "/promote", named))[0] == 403
        status, refused = await w.ask("admin", "/promote", named)
        assert (status, refused["error"]["data"]["details"]["reasons"]) == (409, ["nobody has signed off security"])
        signature = {**named, "aspect": "security", "decision": "approved"}
        for who in ("editor", "admin"):
            assert (await w.ask(who, "/sign", signature))[0] == 403
        assert (await w.ask("security", "/sign", {**signature, "aspect": "business"}))[0] == 403
        assert (await w.done("security", "/sign", signature))["missing"] == []
        assert (await w.done("admin", "/promote", named))["status"] == "active"


async def test_who_may_call_everything_may_not_for_that_reason_change_the_contracts_that_hold_it(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        for path in WRITES:
            body = BODIES.get(path, {"tool": ID, "version": "1.0.0"})
            assert (await w.ask("agent", f"/{path}", body))[0] == 403, path
            assert (await w.ask("reader", f"/{path}", body))[0] == 403, path
            assert (await w.ask(None, f"/{path}", body))[0] == 401, path
        assert (await w.ask("agent", ""))[0] == 403, "nor read who answers for them"


@pytest.mark.parametrize("path", ["", "/contract?tool=crm/work", "/orphans", "/routes"])
async def test_looking_needs_a_scope_as_well(tmp_path: Path, path: str) -> None:
    async with world(tmp_path, callers=KEYS.configured(**{**CALLERS, "reader": {"scopes": ["crm:read"]}})) as w:
        assert (await w.ask("reader", path))[0] == 403
        assert (await w.ask(None, path))[0] == 401


# ---- what calls make of it


async def test_a_promoted_version_holds_for_the_next_calls_and_a_rollback_takes_one_request(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.activate(contract())
        await w.version("1.0.0")
        await w.activate(contract("1.1.0", idempotent=True))
        await w.version("1.1.0")
        undone = await w.done("admin", "/routes/rollback", {"tool": ID})
        assert (undone["undone"], undone["version"]) == ("1.1.0", "1.0.0")
        assert (await w.called())["_meta"][CALL]["version"] == "1.0.0"


async def test_a_canary_goes_to_the_callers_whose_share_it_is_and_to_no_others(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.activate(contract())
        share = share_of(ID, "agent")
        await w.activate(contract("1.1.0", idempotent=True), percent=min(share + 1, 99))
        assert share < 99, "its name would never get a canary: give the caller another one"
        await w.version("1.1.0")
        canary = {"tool": ID, "version": "1.1.0", "percent": share}
        await w.done("admin", "/routes/canary", canary)
        assert (await w.called())["_meta"][CALL]["version"] == "1.0.0"
        await w.done("admin", "/routes", {"tool": ID, "version": "1.1.0"})
        assert (await w.called())["_meta"][CALL]["version"] == "1.1.0"


async def test_a_deprecated_version_says_so_in_each_result_and_a_retired_one_is_gone(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.activate(contract())
        named = {"tool": ID, "version": "1.0.0"}
        end = {"sunset": "2999-01-01", "replaced_by": "crm/work@2", "migration": "say `source`"}
        await w.done("admin", "/deprecate", {**named, **end})

        async def look() -> Json:
            return await w.called()

        warned = await until(look, lambda result: bool(result["_meta"].get(CALL, {}).get("warnings")))
        assert "2999-01-01" in warned["_meta"][CALL]["warnings"][0]
        await w.done("admin", "/retire", named)
        gone = await until(look, lambda result: result.get("isError") is True)
        assert failure_of(gone)["code"] == 41001


async def test_a_draft_and_a_version_in_review_hold_for_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.activate(contract())
        await w.version("1.0.0")
        await w.done("editor", "/publish", {"contract": contract("2.0.0", confirm_gate=True)})
        await w.done("editor", "/submit", {"tool": ID, "version": "2.0.0"})
        client = Known(w.bascule, shown=KEYS.of("agent"))
        result = await client.result("tools/call", {"name": f"{ID}@2", "arguments": {"text": "x"}})
        assert failure_of(result)["code"] == 40002


async def test_nothing_is_promoted_of_a_tool_whose_error_budget_is_spent(tmp_path: Path) -> None:
    async with world(tmp_path, registry={"freeze": True}) as w:
        await w.activate(contract(slo={"success": 99.9}))
        await w.version("1.0.0")
        w.upstream.answers["work"] = {"content": [], "isError": True}
        for _ in range(20):
            await w.called()
        await w.done("editor", "/publish", {"contract": contract("1.0.1", slo={"success": 99.9})})
        named = {"tool": ID, "version": "1.0.1"}
        await w.done("editor", "/submit", named)

        async def look() -> Any:
            _, found = await w.ask("reader", f"/contract?tool={ID}@1.0.1")
            assert w.bascule.gateway is not None
            assert w.bascule.gateway.budgets is not None
            return (found["status"], await asyncio.to_thread(w.bascule.gateway.budgets.frozen, ID))

        await until(look, lambda found: found[1] != "")
        status, refused = await w.ask("admin", "/promote", named)
        assert (status, "error budget" in refused["error"]["message"]) == (409, True)


# ---- what is answered


async def test_a_refused_publication_is_an_answer_and_a_wrong_document_is_not(tmp_path: Path) -> None:
    async with world(tmp_path, contracts=[contract("3.0.0")]) as w:
        found = await w.done("editor", "/publish", {"contract": contract("3.0.0"), "dry_run": True})
        assert (found["outcome"], found["published"]) == ("refused", False)
        status, wrong = await w.ask("editor", "/publish", {"contract": {"tool": "crm"}})
        assert (status, "that is no contract" in wrong["error"]["message"]) == (400, True)
        assert (await w.ask("editor", "/submit", {"tool": ID, "version": "9.9.9"}))[0] == 404
        assert (await w.ask("editor", "/submit", {"tool": ID}))[0] == 400
        assert (await w.ask("reader", f"/contract?tool={ID}"))[0] == 404


async def test_a_gateway_knows_which_contracts_have_no_tool_and_which_tools_no_contract(tmp_path: Path) -> None:
    lost = {**contract(), "tool": "crm/lost", "last_security_review": "2999-01-01"}
    async with world(tmp_path, contracts=[lost]) as w:
        found = (await w.done("reader", "/orphans"))["orphans"]
        assert {(each["lack"], each["id"]) for each in found} == {("not_listed", "crm/lost"), ("no_contract", ID)}


async def test_what_was_done_is_in_the_audit_once_and_so_is_what_was_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.activate(contract())
        assert (await w.ask("editor", "/promote", {"tool": ID, "version": "1.0.0"}))[0] == 403
        gateway = w.bascule.gateway
        assert gateway is not None
        assert gateway.records is not None
        writer = gateway.records.writer

        async def look() -> list[tuple[str, str, str]]:
            rows = writer.read("SELECT entry FROM audit WHERE kind IN ('registry', 'action') ORDER BY seq")
            found = [json.loads(entry) for (entry,) in rows]
            return [(each["caller"], each["method"], each["outcome"]) for each in found]

        wanted = [
            ("editor", "registry.publish", "draft"),
            ("editor", "registry.submit", "in_review"),
            ("admin", "registry.promote", "active"),
        ]
        assert (await look())[:3] == wanted
