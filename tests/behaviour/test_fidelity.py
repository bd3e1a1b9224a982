"""What crosses Bascule is what was sent, byte for byte, whatever it may mean."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from gateway import KINDLY, LEGACY, META, MODERN, Bascule, gateway, local, remote, unlabelled

from processes import SERVERS

# No parser may have a say in it: numbers that a float would spoil, order that a dict keeps but a model loses,
# names that nobody knows. plain.py and modern.py re-serialise it, so it is written as Python's json writes it.
ODD: Final = (
    '{"content":[{"type":"text","text":"Zuglbrücke ⇅ 😀 \\u0000\\t\\"/"},'
    '{"type":"dev.example/hologram","depth":[1,2,{"z":null}]},'
    '{"type":"text","text":"x","annotations":{"audience":["user"],"dev.example/x":null},"_meta":{"dev.example/k":1}}],'
    '"zeta":1,"alpha":1.0,"Beta":-0.0,"big":123456789012345678901234567890,"limit":9223372036854775808,'
    '"tiny":1e-07,"huge":1e+300,"nothing":null,"empty":{},"none":[],"false":false,'
    '"structuredContent":{"b":1,"a":1.0,"n":null,"$defs":{"x":{"$ref":"#/$defs/x"}},"__proto__":{"y":1}},'
    '"_meta":{"vendor.example/trace":{"deep":[null,1.0,"1"]},"another":0}}'
)


@asynccontextmanager
async def bridged(server: str, over: str) -> AsyncIterator[Bascule]:
    """One server behind Bascule, over stdio, or over HTTP behind a second one."""
    async with gateway({"it": local(server)}) as inner:
        if over == "stdio":
            yield inner
        else:
            async with gateway({"it": remote(f"{inner.url}/servers/it/mcp")}) as outer:
                yield outer


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", ["/mcp", "/servers/it/mcp"])
async def test_a_legacy_result_crosses_byte_exact_both_ways(over: str, path: str) -> None:
    async with bridged("plain", over) as bascule:
        client = await bascule.session(path)
        name = "it__raw" if path == "/mcp" else "raw"
        params = f'{{"name":"{name}","arguments":{{"result":{ODD}}}}}'
        body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}'
        async with client.post(body.encode()) as exchange:
            answer = await exchange.raw()
        assert answer is not None
        assert unlabelled(answer.decode()) == f'{{"jsonrpc":"2.0","id":1,"result":{ODD}}}'


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", ["/mcp", "/servers/it/mcp"])
async def test_a_modern_result_crosses_byte_exact_both_ways(over: str, path: str) -> None:
    async with bridged("modern", over) as bascule:
        await bascule.up("it")
        client = bascule.modern(path)
        name = "it__raw" if path == "/mcp" else "raw"
        params = {"name": name, "arguments": {"result": "ODD"}}
        stamp = json.dumps(client.stamped(params)).replace('"ODD"', ODD)
        body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{stamp}}}'
        head = client.head("tools/call", params)
        async with bascule.request("POST", path, head, body.encode()) as exchange:
            answer = (await exchange.body()).decode()
        # modern.py puts its own members around what it is given.
        inner, _, _ = ODD.partition(',"_meta":{"vendor')
        assert answer.startswith('{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete",' + inner[1:])
        assert '"vendor.example/trace":{"deep":[null,1.0,"1"]},"another":0' in answer


@pytest.mark.parametrize("id", ["1", '"1"', "0", "-7", "9223372036854775808", '"ünï-😀"', '""', '"a\\u0062"'])
@pytest.mark.parametrize("path", ["/mcp", "/servers/it/mcp"])
async def test_an_id_comes_back_as_it_was_written(id: str, path: str, both: Bascule) -> None:
    client = await both.session(path)
    async with client.post(f'{{"id":{id},"jsonrpc":"2.0","method":"tools/list"}}'.encode()) as exchange:
        answer = await exchange.raw()
    assert answer is not None
    assert f'"id":{id},' in answer.decode()


async def test_an_id_of_a_modern_request_comes_back_as_it_was_written(both: Bascule) -> None:
    client = both.modern("/servers/new/mcp")
    for id in (1, "1", 2**63, ""):
        assert (await client.ask("tools/list", id=id))["id"] == id


@pytest.mark.parametrize("path", ["/mcp", "/servers/it/mcp"])
async def test_a_schema_with_defs_and_unknown_members_is_listed_untouched(path: str, both: Bascule) -> None:
    client = await both.session(path)
    tools = {tool["name"].removeprefix("it__"): tool for tool in (await client.result("tools/list"))["tools"]}
    assert json.dumps({**tools["odd"], "name": "odd"}) == json.dumps(json.loads((SERVERS / "odd.json").read_text()))


async def test_a_paged_list_is_one_page_with_everything_on_the_aggregate_and_pages_on_its_own(both: Bascule) -> None:
    async with gateway({"it": local("plain", "--page-size", "5")}) as bascule:
        await bascule.up("it")
        whole = (await (await bascule.session()).result("tools/list"))["tools"]
        own = await bascule.session("/servers/it/mcp")
        page = await own.result("tools/list")
        names = [tool["name"] for tool in page["tools"]]
        while cursor := page.get("nextCursor"):
            page = await own.result("tools/list", {"cursor": cursor})
            names += [tool["name"] for tool in page["tools"]]
        assert [tool["name"] for tool in whole] == [f"it__{name}" for name in names]


async def test_vendor_meta_of_a_request_reaches_the_server(both: Bascule) -> None:
    client = await both.session("/servers/it/mcp")
    meta = {"vendor.example/trace": {"a": [None, 1.0]}, "traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"}
    answer = await client.result("tools/call", {"name": "meta", "arguments": {}, "_meta": meta})
    assert answer["structuredContent"]["meta"] == meta


async def test_unknown_parameters_reach_the_server(both: Bascule) -> None:
    client = await both.session("/servers/it/mcp")
    answer = await client.result("tools/call", {"name": "params", "arguments": {}, "dev.example/extra": [None, 1.0]})
    assert answer["structuredContent"]["params"] == {
        "name": "params",
        "arguments": {},
        "dev.example/extra": [None, 1.0],
    }


async def test_a_modern_clients_own_capabilities_and_info_reach_the_server(both: Bascule) -> None:
    client = both.modern("/servers/new/mcp", {"elicitation": {"url": {}}, "extensions": {"dev.example/x": {"v": 1}}})
    meta = {f"{META}clientInfo": {"name": "me", "version": "9", "dev.example/extra": None}}
    async with client.open("tools/call", {"name": "meta", "arguments": {}}, meta=meta) as exchange:
        answer = await exchange.last()
    assert answer["result"]["structuredContent"]["meta"] == client.stamped({}, meta)["_meta"]


async def test_a_servers_own_error_crosses_whole(both: Bascule) -> None:
    client = await both.session("/servers/it/mcp")
    answer = await client.ask("resources/read", {"uri": "test://nowhere"})
    assert answer["error"] == {"code": -32002, "message": "Resource not found", "data": {"uri": "test://nowhere"}}
    answer = await client.ask("dev.example/unknown")
    assert answer["error"] == {"code": -32601, "message": "Method not found: dev.example/unknown"}


async def test_instructions_and_server_info_are_the_servers_own_on_its_own_endpoint(both: Bascule) -> None:
    greeting = (await both.session("/servers/it/mcp")).greeting
    assert greeting["serverInfo"] == {"name": "plain", "version": "1.0.0"}
    assert greeting["instructions"] == "A server for tests."
    found = await both.modern("/servers/new/mcp").result("server/discover")
    assert found["instructions"] == "A server for tests."
    assert found["supportedVersions"] == [MODERN]


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY])
async def test_each_legacy_revision_is_spoken_to_its_client(version: str, both: Bascule) -> None:
    for path in ("/mcp", "/servers/it/mcp"):
        client = await both.session(path, version)
        assert client.greeting["protocolVersion"] == version
        assert (await client.result("tools/list"))["tools"]


async def test_an_unknown_version_is_answered_with_the_latest_legacy_one(both: Bascule) -> None:
    for offered in ("2099-01-01", MODERN, ""):
        assert (await both.session("/mcp", offered)).greeting["protocolVersion"] == LEGACY


async def test_white_space_and_newlines_between_tokens_do_not_break_the_pipe(both: Bascule) -> None:
    client = await both.session("/servers/it/mcp")
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "echo", "arguments": {"text": "a\nb"}},
    }
    for body in (json.dumps(message, indent=2), "\r\n" + json.dumps(message, indent="\r\n\t") + " \n"):
        async with client.post(body.encode(), KINDLY) as exchange:
            assert (await exchange.last())["result"]["content"][0]["text"] == "a\nb"


# ---- fixtures ------------------------------------------------------------------------------------


@pytest.fixture
async def both() -> AsyncIterator[Bascule]:
    """A server of each era."""
    async with gateway({"it": local("odd"), "new": local("modern")}) as bascule:
        await bascule.up("it", "new")
        yield bascule
