"""A call by REST: through the same stages as every other, under the caller's own name and scopes."""

import json
from typing import Any

from gateway import Bascule, Json, gateway, local, until

from bascule.admin import catalog, tryout
from bascule.call import Caller
from bascule.policy.scopes import Authority

KEYS = {"OPS": "ops-key-of-the-tests-0123456789abcdefg", "AGENT": "agent-key-of-the-tests-0123456789abcd"}
CALLERS: Json = {
    "ops": {"scopes": ["bascule.status:read", "crm:read"], "keys": ["${env:OPS}"]},
    "agent": {"scopes": ["crm"], "keys": ["${env:AGENT}"]},
}
CONTRACTS = [
    {"tool": "crm/search_leads", "version": "1.0.0", "side_effect": False},
    {"tool": "crm/delete_lead", "version": "1.0.0", "confirm_gate": True},
]


async def stocked(bascule: Bascule) -> None:
    found = bascule.gateway
    assert found is not None

    async def count() -> int:
        return len(catalog.entries(found))

    await until(count, lambda known: known >= 5)


async def post(bascule: Bascule, said: Any, key: str | None = None) -> tuple[int, Any]:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    head = {"accept": "application/json", "content-type": "application/json"}
    if key is not None:
        head["authorization"] = f"Bearer {KEYS[key]}"
    async with bascule.request("POST", "/api/tools/call", head, body) as exchange:
        return exchange.status, await exchange.json()


async def test_a_call_says_what_came_of_it() -> None:
    async with gateway({"crm": local("shop")}, contracts=CONTRACTS) as bascule:
        await stocked(bascule)
        status, said = await post(bascule, {"tool": "crm/search_leads", "arguments": {"query": "x"}})
        assert (status, said["outcome"]) == (200, "answered")
        assert said["result"]["structuredContent"]["arguments"] == {"query": "x"}
        assert said["call"]["version"] == "1.0.0"
        assert "dev.bascule/call" not in said["result"].get("_meta", {})
        status, said = await post(bascule, {"tool": "crm/search_leads"})
        assert said["outcome"] == "refused"
        assert said["error"]["details"]["problems"] == [{"path": "/query", "problem": "is required"}]
        status, said = await post(bascule, {"tool": "crm/none"})
        assert (said["outcome"], said["error"]["kind"]) == ("refused", "tool_not_found")
        status, said = await post(bascule, {"tool": "crm/delete_lead", "arguments": {"id": "1"}})
        assert said["outcome"] == "needs_confirmation"
        assert len(said["error"]["details"]["confirmation_token"]) == 32


async def test_a_key_makes_two_calls_one() -> None:
    async with gateway({"crm": local("shop")}) as bascule:
        await stocked(bascule)
        said = {"tool": "crm/create_lead", "arguments": {"name": "a", "source": "web"}, "idempotency_key": "k" * 16}
        _, first = await post(bascule, said)
        _, second = await post(bascule, said)
        assert first["result"]["structuredContent"] == second["result"]["structuredContent"]
        assert (first["replayed"], second["replayed"]) == (False, True)


async def test_scopes_are_those_of_who_calls() -> None:
    async with gateway({"crm": local("shop")}, contracts=CONTRACTS, callers=CALLERS, environ=KEYS) as bascule:
        await stocked(bascule)
        search = {"tool": "crm/search_leads", "arguments": {"query": "x"}}
        assert (await post(bascule, search, "OPS"))[1]["outcome"] == "answered"
        create = {"tool": "crm/create_lead", "arguments": {"name": "a", "source": "web"}}
        assert (await post(bascule, create, "OPS"))[1]["error"]["kind"] == "tool_not_found"
        assert (await post(bascule, create, "AGENT"))[0] == 403  # it is for operators
        assert (await post(bascule, create))[0] == 401


async def test_odd_bodies_are_refused_and_never_a_fault_of_ours() -> None:
    async with gateway({"crm": local("shop")}) as bascule:
        await stocked(bascule)
        huge = b'{"tool": "crm/create_lead", "arguments": {"score": %b}}' % (b"9" * 400)
        assert (await post(bascule, huge))[0] in (200, 400)
        assert (await post(bascule, b'{"tool": "crm/create_lead", "arguments": {"score": 1e999}}'))[0] in (200, 400)
        assert (await post(bascule, b'{"tool": "\\ud800", "arguments": {"\\ud800": "\\udc00"}}'))[0] in (200, 400)
        assert (await post(bascule, {"tool": "crm/create_lead", "idempotency_key": "x"}))[1]["outcome"] == "refused"
        assert (await post(bascule, {"tool": "crm/create_lead", "version": "not one"}))[1]["outcome"] == "refused"
        assert (await post(bascule, {"arguments": {}}))[0] == 400


async def test_at_the_console_only_roles_that_are_given_scopes_may() -> None:
    options: Json = {"contracts": CONTRACTS, "callers": CALLERS, "environ": KEYS}
    given = {"try_scopes": {"admin": ["crm:read"]}}
    async with gateway({"crm": local("shop")}, console=given, **options) as bascule:
        await stocked(bascule)
        found = bascule.gateway
        assert found is not None
        entry = catalog.entry(found, "crm/search_leads")
        assert entry is not None
        authority = Authority(frozenset({"bascule.status:read"}))
        admin = Caller("a", authority, frozenset({"admin"}), proof="console")
        viewer = Caller("v", authority, frozenset({"viewer"}), proof="console")
        assert tryout.lacking(found, admin, entry.way, entry.server) == ()
        assert tryout.lacking(found, viewer, entry.way, entry.server) == ("crm:read:search_leads",)
        # A caller of MCP that has a role of the same name is given nothing by that.
        agent = Caller("x", authority, frozenset({"admin"}), proof="key")
        assert tryout.principal(found, agent) is agent
