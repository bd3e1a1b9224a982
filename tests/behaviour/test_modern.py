"""Clients of 2026-07-28: headers, subscriptions, questions by another round, and what crosses to the other era."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from gateway import ELICITS, META, MODERN, Bascule, Json, Modern, gateway, local, remote, text_of

PATHS = ("/mcp", "/servers/new/mcp")


@asynccontextmanager
async def behind(over: str) -> AsyncIterator[Bascule]:
    async with gateway({"new": local("modern")}) as inner:
        await inner.up("new")
        if over == "stdio":
            yield inner
        else:
            async with gateway({"new": remote(f"{inner.url}/servers/new/mcp")}) as outer:
                await outer.up("new")
                yield outer


@pytest.fixture
async def new() -> AsyncIterator[Bascule]:
    async with behind("stdio") as bascule:
        yield bascule


def named(path: str, tool: str) -> str:
    return f"new__{tool}" if path == "/mcp" else tool


@pytest.mark.parametrize("path", PATHS)
async def test_discover_says_what_is_spoken_and_offered(path: str, new: Bascule) -> None:
    found = await new.modern(path).result("server/discover")
    assert found["supportedVersions"] == [MODERN]
    assert found["resultType"] == "complete"
    assert found["ttlMs"] >= 0
    assert found["cacheScope"] in ("public", "private")
    assert "tools" in found["capabilities"]


@pytest.mark.parametrize("path", PATHS)
async def test_every_list_says_how_long_it_may_be_kept(path: str, new: Bascule) -> None:
    for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
        found = await new.modern(path).result(method)
        assert (found["resultType"], found["ttlMs"] > 0, found["cacheScope"]) == ("complete", True, "public")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"mcp-method": None}, -32020),
        ({"mcp-method": "tools/list"}, -32020),
        ({"mcp-method": "TOOLS/CALL"}, -32020),
        ({"mcp-name": None}, -32020),
        ({"mcp-name": "other"}, -32020),
        ({"mcp-name": "=?base64?***?="}, -32020),
        ({"mcp-name": "=?base64?b3RoZXI=?="}, -32020),
        ({"mcp-protocol-version": None}, -32020),
        ({"mcp-protocol-version": "2025-11-25"}, -32020),
        ({"mcp-protocol-version": "2099-01-01"}, -32020),
    ],
)
@pytest.mark.parametrize("path", PATHS)
async def test_headers_that_disagree_with_the_body_are_400(
    headers: dict[str, str | None], code: int, path: str, new: Bascule
) -> None:
    params = {"name": named(path, "echo"), "arguments": {"text": "x"}}
    async with new.modern(path).open("tools/call", params, headers=headers, id="mine") as exchange:
        assert exchange.status == 400
        answer = await exchange.json()
    assert answer["error"]["code"] == code
    assert answer["id"] == "mine"


async def test_a_base64_name_is_understood(new: Bascule) -> None:
    params = {"name": "echo", "arguments": {"text": "x"}}
    async with new.modern("/servers/new/mcp").open(
        "tools/call", params, headers={"mcp-name": "=?base64?ZWNobw==?="}
    ) as exchange:
        assert text_of((await exchange.last())["result"]) == "x"


async def test_an_unknown_version_is_32022_with_what_is_supported(new: Bascule) -> None:
    for path in PATHS:
        async with new.modern(path).open(
            "tools/list", meta={f"{META}protocolVersion": "2099-01-01"}, headers={"mcp-protocol-version": "2099-01-01"}
        ) as exchange:
            assert exchange.status == 400
            error = (await exchange.json())["error"]
        assert error["code"] == -32022
        assert MODERN in error["data"]["supported"]
        assert error["data"]["requested"] == "2099-01-01"


@pytest.mark.parametrize("key", ["protocolVersion", "clientCapabilities"])
async def test_missing_metadata_is_invalid_params(key: str, new: Bascule) -> None:
    client = new.modern()
    params = client.stamped({})
    del params["_meta"][META + key]
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params})
    async with new.request("POST", "/mcp", client.head("tools/list"), body.encode()) as exchange:
        assert exchange.status == 400
        assert (await exchange.json())["error"]["code"] == -32602


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel", "resources/subscribe", "foo/bar"])
async def test_a_method_that_is_not_part_of_it_is_404(method: str, new: Bascule) -> None:
    for path in PATHS:
        async with new.modern(path).open(method, {"uri": "x"}, id="mine") as exchange:
            assert exchange.status == 404
            answer = await exchange.json()
        assert (answer["id"], answer["error"]["code"]) == ("mine", -32601)


async def test_no_session_is_made_and_a_session_header_is_ignored(new: Bascule) -> None:
    async with new.modern().open("tools/list", headers={"mcp-session-id": "x", "last-event-id": "1-1"}) as exchange:
        assert exchange.status == 200
        assert "mcp-session-id" not in exchange.headers
    assert (await new.status())["sessions"] == 0


async def test_batches_answers_and_unknown_notifications_are_400(new: Bascule) -> None:
    client = new.modern()
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": client.stamped({})}
    for message in ([request], {"jsonrpc": "2.0", "id": 1, "result": {}},
                    {"jsonrpc": "2.0", "method": "notifications/foo", "params": {}}):  # fmt: skip
        async with new.request("POST", "/mcp", client.head("tools/list"), json.dumps(message).encode()) as exchange:
            assert exchange.status == 400
            assert (await exchange.json())["error"]["code"] == -32600


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_subscription_is_acknowledged_first_and_tagged_with_the_clients_id(path: str, over: str) -> None:
    uri = "test://notes/1"
    async with behind(over) as bascule:
        client = bascule.modern(path)
        wanted = {"toolsListChanged": True, "resourceSubscriptions": [uri]}
        async with client.open("subscriptions/listen", {"notifications": wanted}, id="my-sub") as ear:
            tag = {f"{META}subscriptionId": "my-sub"}
            acknowledged = await ear.next_of("notifications/subscriptions/acknowledged")
            assert acknowledged["params"]["_meta"] == tag
            assert acknowledged["params"]["notifications"] == wanted
            await until_touched(client, path, uri, ear.next_of("notifications/resources/updated"))
            await client.call(named(path, "rename"), tool="fail", to="failing")
            while (changed := await ear.next())["method"] == "notifications/resources/updated":
                pass
            assert changed["method"] == "notifications/tools/list_changed"
            assert changed["params"]["_meta"] == tag


async def until_touched(client: Modern, path: str, uri: str, hearing: Coroutine[Any, Any, Json]) -> None:
    """Touch the resource until the update is heard: the aggregate acknowledges before its servers do."""
    heard = asyncio.ensure_future(hearing)
    for _ in range(100):
        await client.call(named(path, "touch"), uri=uri)
        done, _ = await asyncio.wait({heard}, timeout=0.1)
        if done:
            break
    update = await heard
    assert update["params"]["uri"] == uri
    assert update["params"]["_meta"] == {f"{META}subscriptionId": "my-sub"}


@pytest.mark.parametrize("path", PATHS)
async def test_a_subscription_hears_nothing_that_it_did_not_ask_for(path: str, new: Bascule) -> None:
    client = new.modern(path)
    async with (
        client.open(
            "subscriptions/listen", {"notifications": {"resourceSubscriptions": ["test://notes/2"]}}, id=1
        ) as one,
        client.open("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id=1) as other,
    ):
        await one.next_of("notifications/subscriptions/acknowledged")
        await other.next_of("notifications/subscriptions/acknowledged")
        await client.call(named(path, "touch"), uri="test://notes/1")
        await client.call(named(path, "rename"), tool="fail", to="failing")
        await other.next_of("notifications/tools/list_changed")
        silent = asyncio.ensure_future(one.raw())
        done, _ = await asyncio.wait({silent}, timeout=0.2)
        assert not done
        silent.cancel()


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", PATHS)
async def test_closing_the_stream_cancels_the_call_at_the_server(path: str, over: str) -> None:
    async with behind(over) as bascule:
        client = bascule.modern(path)
        params = {"name": named(path, "sleep"), "arguments": {"seconds": 30}}
        async with client.open("tools/call", params, meta={"progressToken": 1}) as call:
            await call.next_of("notifications/progress")
            call.response.close()
        ids = (await client.call(named(path, "cancelled"), at_least=1))["structuredContent"]["ids"]
        assert len(ids) == 1


@pytest.mark.parametrize("path", PATHS)
async def test_closing_a_connection_that_has_heard_nothing_yet_cancels_too(path: str, new: Bascule) -> None:
    client = new.modern(path)
    params = {"name": named(path, "sleep"), "arguments": {"seconds": 30}}

    async def ask() -> None:
        async with client.open("tools/call", params):
            pass

    asking = asyncio.ensure_future(ask())
    await new.until("new", lambda said: said["in_flight"] == 1)
    asking.cancel()
    ids = (await client.call(named(path, "cancelled"), at_least=1))["structuredContent"]["ids"]
    assert len(ids) == 1


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_question_goes_round_with_its_state_byte_for_byte(path: str, over: str) -> None:
    async with behind(over) as bascule:
        client = bascule.modern(path, ELICITS)
        params: Json = {"name": named(path, "ask"), "arguments": {"question": "sure? ✓", "times": 2}}
        answers: list[Json] = []
        for number in range(2):
            asked = await client.result("tools/call", params, id=number)
            assert asked["resultType"] == "input_required"
            assert "ttlMs" not in asked
            ((key, question),) = asked["inputRequests"].items()
            assert key == f"answer-{number}"
            assert question["method"] == "elicitation/create"
            assert question["params"]["message"] == "sure? ✓"
            answers.append({"action": "accept", "content": {"answer": f"{number}"}, "dev.example/x": None})
            params = {**params, "inputResponses": {key: answers[-1]}, "requestState": asked["requestState"]}
        done = await client.result("tools/call", params, id=9)
        assert done["resultType"] == "complete"
        assert done["structuredContent"]["answers"] == answers


async def test_a_state_that_was_tampered_with_is_the_servers_refusal(new: Bascule) -> None:
    client = new.modern("/servers/new/mcp", ELICITS)
    params = {"name": "ask", "arguments": {"question": "sure?"}, "requestState": "x" * 60, "inputResponses": {}}
    async with client.open("tools/call", params) as exchange:
        assert exchange.status == 400
        assert (await exchange.json())["error"]["code"] == -32602


@pytest.mark.parametrize("path", PATHS)
async def test_a_missing_capability_is_the_servers_32021_with_what_it_needs(path: str, new: Bascule) -> None:
    params = {"name": named(path, "ask"), "arguments": {"question": "sure?"}}
    async with new.modern(path).open("tools/call", params) as exchange:
        assert exchange.status == 400
        error = (await exchange.json())["error"]
    assert error["code"] == -32021
    assert error["data"]["requiredCapabilities"] == {"elicitation": {}}


async def test_logs_come_only_to_a_call_that_wants_them(new: Bascule) -> None:
    client = new.modern("/servers/new/mcp")
    params = {"name": "log", "arguments": {"level": "info", "message": "hello"}}
    async with client.open("tools/call", params, meta={f"{META}logLevel": "debug"}) as call:
        assert (await call.next_of("notifications/message"))["params"]["data"] == "hello"
        await call.last()
    async with client.open("tools/call", params) as call:
        assert "id" in await call.next()


async def test_every_client_sees_and_uses_the_servers_of_both_eras_at_the_same_urls() -> None:
    async with gateway({"old": local("plain"), "new": local("modern")}) as bascule:
        await bascule.up("old", "new")
        for client in (await bascule.session(), bascule.modern()):
            listed = {tool["name"].partition("__")[0] for tool in (await client.result("tools/list"))["tools"]}
            assert listed == {"old", "new"}
            for server in ("old", "new"):
                assert text_of(await client.call(f"{server}__echo", text="x")) == "x"
        for server in ("old", "new"):
            path = f"/servers/{server}/mcp"
            for client in (await bascule.session(path), bascule.modern(path)):
                assert text_of(await client.call("echo", text="x")) == "x"


async def test_status_says_what_a_server_speaks_itself() -> None:
    async with gateway({"old": local("plain"), "new": local("modern")}) as bascule:
        await bascule.up("old", "new")
        await bascule.modern("/servers/old/mcp").call("echo", text="x")
        assert (await bascule.server("old"))["eras"] == ["legacy"]
        assert (await bascule.server("new"))["eras"] == ["modern"]
