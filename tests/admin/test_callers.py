"""Callers, keys and costs as REST gives them."""

import json
from typing import Any

import pytest
from gateway import Bascule, Json, gateway, local, until

from bascule.admin import callers, catalog
from bascule.admin.api.keys import moment_of, seconds_of
from bascule.errors import InvalidParams

KEYS = {
    "ADMIN": "admin-key-of-the-tests-0123456789abcd",
    "AGENT": "agent-key-of-the-tests-0123456789abcd",
    "ROOT": "root-key-of-the-tests-0123456789abcdef",
}
CALLERS: Json = {
    "admin": {"scopes": ["bascule.status:read", "bascule.keys:write"], "keys": ["${env:ADMIN}"]},
    "agent": {
        "scopes": ["crm:read"],
        "keys": ["${env:AGENT}"],
        "limits": {"budget": {"usd": 0.002, "per": "day"}},
    },
    "root": {"scopes": ["*"], "keys": ["${env:ROOT}"]},
}
CONTRACTS = [{"tool": "crm/search_leads", "version": "1.0.0", "side_effect": False, "cost_model": {"price_usd": 0.001}}]
OPTIONS: Json = {"contracts": CONTRACTS, "callers": CALLERS, "environ": KEYS}


async def stocked(bascule: Bascule) -> None:
    found = bascule.gateway
    assert found is not None

    async def count() -> int:
        return len(catalog.entries(found))

    await until(count, lambda known: known >= 5)


async def ask(bascule: Bascule, path: str, said: Any = None, key: str = "ADMIN") -> tuple[int, Any]:
    head = {"accept": "application/json", "authorization": f"Bearer {KEYS[key]}"}
    if said is None:
        return await bascule.get(path, head)
    head["content-type"] = "application/json"
    async with bascule.request("POST", path, head, json.dumps(said).encode()) as exchange:
        return exchange.status, await exchange.json()


async def test_each_caller_has_its_scopes_its_tools_and_its_budget() -> None:
    async with gateway({"crm": local("shop")}, **OPTIONS) as bascule:
        await stocked(bascule)
        _, found = await ask(bascule, "/api/callers")
        by_name = {each["caller"]: each for each in found["callers"]}
        assert by_name["agent"]["scopes"] == ["crm:read"]
        assert (by_name["agent"]["tools"], by_name["root"]["tools"], by_name["admin"]["tools"]) == (1, 5, 0)
        assert by_name["agent"]["budget"]["limit_usd"] == 0.002
        assert by_name["root"]["budget"] is None
        _, one = await ask(bascule, "/api/caller?caller=agent")
        assert one["sees"] == [{"tool": "crm/search_leads", "scopes": ["crm:read:search_leads"], "allowed": True}]
        assert (await ask(bascule, "/api/caller?caller=nobody"))[0] == 404
        assert KEYS["AGENT"] not in json.dumps([found, one])


async def test_what_is_spent_is_what_calls_are_refused_by() -> None:
    async with gateway({"crm": local("shop")}, **OPTIONS) as bascule:
        await stocked(bascule)
        outcomes = []
        for _ in range(3):
            headers = {"authorization": f"Bearer {KEYS['AGENT']}"}
            params = {"name": "crm__search_leads", "arguments": {"query": "x"}}
            async with bascule.modern().open("tools/call", params, headers=headers) as exchange:
                outcomes.append((await exchange.last())["result"].get("isError", False))
        assert outcomes == [False, False, True]
        assert bascule.gateway is not None
        (budget,) = await callers.budgets(bascule.gateway)
        assert (budget["spent_usd"], budget["left_usd"], budget["state"]) == (0.002, 0.0, "spent")


async def test_keys_are_made_rotated_and_revoked_and_shown_once() -> None:
    async with gateway({"crm": local("shop")}, **OPTIONS) as bascule:
        await stocked(bascule)
        status, made = await ask(bascule, "/api/keys", {"caller": "agent", "expires": "90d", "note": "ci"})
        assert status == 200
        assert made["key"].startswith("gw_live_")
        status, new = await ask(bascule, f"/api/keys/{made['id']}/rotate", {"overlap": "1h"})
        assert status == 200
        assert new["replaced"]["replaced_by"] == new["id"]
        assert new["key"] != made["key"]
        status, gone = await ask(bascule, f"/api/keys/{new['id']}/revoke", {"note": "test"})
        assert gone["state"] == "revoked"
        _, found = await ask(bascule, "/api/keys?caller=agent")
        assert [each["state"] for each in found["keys"]] == ["active", "revoked"]
        assert made["key"] not in json.dumps(found)
        assert (await ask(bascule, "/api/keys/unknown/rotate", {}))[0] == 404
        assert (await ask(bascule, "/api/keys", {"caller": "nobody"}))[0] == 400
        assert (await ask(bascule, "/api/keys", {"caller": "agent", "scopes": [1]}))[0] == 400


async def test_who_may_do_everything_may_not_for_that_make_keys() -> None:
    async with gateway({"crm": local("shop")}, **OPTIONS) as bascule:
        assert (await ask(bascule, "/api/keys", {"caller": "agent"}, key="ROOT"))[0] == 403
        assert (await ask(bascule, "/api/keys", {"caller": "root"}, key="AGENT"))[0] == 403


async def test_costs_of_a_month_are_added_up() -> None:
    async with gateway({"crm": local("shop")}, **OPTIONS) as bascule:
        status, found = await ask(bascule, "/api/cost?by=team&month=2026-01")
        assert (status, found["rows"]) == (200, [])
        assert (await ask(bascule, "/api/cost?by=weather"))[0] == 400
        assert (await ask(bascule, "/api/cost?month=2026-13"))[0] == 400
        assert (await ask(bascule, "/api/cost/budgets"))[1]["budgets"][0]["caller"] == "agent"


def test_spans_and_moments_are_read() -> None:
    assert seconds_of(" 24h ") == 86_400
    assert moment_of("90d", 0) == 90 * 86_400
    assert moment_of("1970-01-02", 0) == 86_400
    for wrong in ("", "soon", "1y", "-1d", "1.5h", "999999999999d", "999999w", "99999-01-01", "9999-12-31"):
        with pytest.raises(InvalidParams):
            moment_of(wrong, 0)
