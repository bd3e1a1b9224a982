"""Packs behind a real gateway: their names, their contracts, and who may call what."""

from pathlib import Path
from typing import Any

import pytest
from gateway import Json, failure_of, gateway

TEXT = "The bridge opens at nine. It closes at noon, when the tide is low. Boats wait."


def office(root: Path, **more: Any) -> Json:
    return {"office": {"pack": "office", "settings": {"root": str(root)}, **more}}


def granted(*scopes: str) -> Json:
    return {"auth": {"anonymous": {"scopes": list(scopes)}}}


@pytest.mark.parametrize("name", ["document/summarize_text", "document__summarize_text", "document/summarize_text@1"])
async def test_a_tool_of_a_pack_is_called_by_the_names_of_its_contract(name: str, tmp_path: Path) -> None:
    async with gateway(office(tmp_path)) as bascule:
        result = await bascule.modern().call(name, text=TEXT, max_points=1)
    assert len(result["structuredContent"]["summary_points"]) == 1
    assert result["_meta"]["dev.bascule/call"]["version"].startswith("1.")


async def test_its_tools_are_listed_with_their_contracts_and_without_the_servers_name(tmp_path: Path) -> None:
    async with gateway(office(tmp_path)) as bascule:
        await bascule.up("office")
        tools = {each["name"]: each for each in (await bascule.modern().result("tools/list"))["tools"]}
        own = {each["name"] for each in (await bascule.modern("/servers/office/mcp").result("tools/list"))["tools"]}
    assert set(tools) == own, "they are the same there"
    assert {name.partition("__")[0] for name in tools} == {"document", "spreadsheet", "email", "calendar", "report"}
    contract = tools["email__send"]["_meta"]["dev.bascule/contract"]
    assert contract["side_effect"] is True
    assert contract["confirm_gate"]


async def test_who_has_a_scope_of_its_contract_calls_it_as_soon_as_the_gateway_is_up(tmp_path: Path) -> None:
    async with gateway(office(tmp_path), **granted("document:read")) as bascule:
        client = bascule.modern()
        assert not (await client.call("document__summarize_text", text=TEXT)).get("isError")
        names = {each["name"] for each in (await client.result("tools/list"))["tools"]}
        hidden = await client.ask("tools/call", {"name": "report/write_markdown", "arguments": {}})
    assert names
    assert all(name.startswith("document__") for name in names)
    assert hidden["error"]["data"]["kind"] == "tool_not_found"


async def test_a_made_up_namespace_is_no_way_to_a_pack(tmp_path: Path) -> None:
    async with gateway(office(tmp_path)) as bascule:
        await bascule.up("office")
        for name in ("none/summarize_text", "office/summarize_text", "document__none", "summarize_text"):
            answer = await bascule.modern().ask("tools/call", {"name": name, "arguments": {"text": TEXT}})
            assert answer["error"]["data"]["kind"] == "tool_not_found", name


async def test_a_pack_under_another_name_gives_its_own_namespace_that_name(tmp_path: Path) -> None:
    servers = {"leads": {"pack": "crm", "settings": {"folder": str(tmp_path / "new")}}}
    async with gateway(servers) as bascule:
        found = await bascule.modern().call("leads/search_contacts", query="a")
        assert not found.get("isError"), found
        assert found["_meta"]["dev.bascule/call"]["version"]


async def test_what_has_an_effect_waits_for_a_person(tmp_path: Path) -> None:
    async with gateway(office(tmp_path)) as bascule:
        arguments = {"to": ["ann@company.test"], "subject": "Hello", "body": "A bridge."}
        params = {"name": "email/send", "arguments": arguments}
        async with bascule.modern().open(
            "tools/call", params, meta={"dev.bascule/idempotencyKey": "mail-2026-11-21-0001"}
        ) as exchange:
            failure = failure_of((await exchange.last())["result"])
    assert failure["kind"] == "confirmation_required"


async def test_rules_of_the_operator_go_before_the_contract_of_a_pack(tmp_path: Path) -> None:
    rules = [{"match": "document/summarize_text", "guardrails": [{"deny": "args.text.contains('secret')"}]}]
    async with gateway(office(tmp_path), policy={"rules": rules}) as bascule:
        client = bascule.modern()
        assert failure_of(await client.call("document/summarize_text", text="a secret"))["kind"] == "guardrail_denied"
        assert not (await client.call("document/summarize_text", text=TEXT)).get("isError")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"pack": "offce"}, "there is no pack 'offce'"),
        ({"pack": "office", "settings": {}}, "servers.office.settings"),
        ({"pack": "office", "settings": {"root": "/tmp", "rot": 1}}, "rot"),
        ({"pack": "office", "command": "x"}, "either a command, a url or a pack"),
        ({"pack": "office", "settings": {"root": "/tmp"}, "env": {"A": "b"}}, "does not go with `pack`"),
    ],
)
async def test_a_mistake_in_its_entry_is_said_with_the_field(entry: Json, said: str) -> None:
    with pytest.raises(Exception, match=said.replace(".", r"\.")):
        async with gateway({"office": entry}):
            pass
