"""One rule that denies, and every way to a server: each is refused, and nothing reaches the server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import pytest
from foreign import Asked
from gateway import KINDLY, Bascule, Json, gateway, remote
from governed import Known, Wide, bearer, configured, credentials, secret, session, tool, wide
from test_bridge import bridge
from test_legacy_sse import connected

Way: TypeAlias = Callable[[Bascule], Awaitable[Json]]

DENY: Final = {"match": "it/*", "guardrails": [{"deny": "true", "message": "nobody, ever"}]}
THINGS: Final[Mapping[str, Any]] = {
    "tools": [tool("work"), tool("other")],
    "prompts": ["greet"],
    "resources": ["x://1"],
    "templates": ["x://all/{n}"],
}
WORK: Final[Json] = {"arguments": {"text": "x"}}
ARGUMENT: Final[Json] = {"argument": {"name": "n", "value": ""}}


@asynccontextmanager
async def denied(era: str, **members: Any) -> AsyncIterator[tuple[Bascule, Wide]]:
    """A Bascule that lets nothing through, and the server behind it, whose lists are known."""
    async with wide(modern=era == "modern", **THINGS) as upstream:
        members = {"policy": {"rules": [DENY]}, "aliases": {"it/other": "wk"}, **members}
        async with gateway({"it": remote(upstream.url)}, **members) as bascule:
            yield bascule, upstream


def reached(upstream: Wide) -> list[str]:
    """What the server had to do, but for the subscription that Bascule has for itself."""
    done = [each for each in upstream.seen if each.name in upstream.executed]
    return [
        each.name
        for each in done
        if each.name != "subscriptions/listen" or "resourceSubscriptions" in each.message["params"]["notifications"]
    ]


def is_refused(answer: Json, *kinds: str) -> bool:
    """Whether *answer* says so, and why."""
    error = answer.get("error", {}).get("data") or answer["result"]["_meta"]["dev.bascule/error"]
    return error["kind"] in (kinds or ("guardrail_denied",))


# ---- the ways


def stateless(path: str, method: str, params: Json) -> Way:
    return lambda bascule: bascule.modern(path).ask(method, params)


def in_session(path: str, method: str, params: Json, version: str = "2025-11-25") -> Way:
    async def way(bascule: Bascule) -> Json:
        return await (await bascule.session(path, version)).ask(method, params)

    return way


async def in_a_batch(bascule: Bascule) -> Json:
    client = await bascule.session("/mcp", "2025-03-26")
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "it__work", **WORK}}
    async with client.post([message, {**message, "id": 2}]) as exchange:
        answers = json.loads(await exchange.body())
    assert [is_refused(each) for each in answers] == [True, True]
    first: Json = answers[0]
    return first


def over_sse(path: str, name: str) -> Way:
    async def way(bascule: Bascule) -> Json:
        async with connected(bascule, path) as client:
            await client.initialize()
            return await client.ask("tools/call", {"name": name, **WORK})

    return way


def over_the_bridge(path: str, name: str) -> Way:
    async def way(bascule: Bascule) -> Json:
        async with bridge(bascule.url + path) as client:
            await client.initialize()
            return await client.ask("tools/call", {"name": name, **WORK})

    return way


def both(path: str, method: str, params: Json) -> dict[str, Way]:
    return {
        f"{method} on {path}, stateless": stateless(path, method, params),
        f"{method} on {path}, in a session": in_session(path, method, params),
    }


PROMPT: Final = {"type": "ref/prompt", "name": "greet"}
TEMPLATE: Final = {"type": "ref/resource", "uri": "x://all/{n}"}
WAYS: Final[dict[str, Way]] = {
    **both("/mcp", "tools/call", {"name": "it__work", **WORK}),
    **both("/servers/it/mcp", "tools/call", {"name": "work", **WORK}),
    "a session of 2024-11-05": in_session("/mcp", "tools/call", {"name": "it__work", **WORK}, "2024-11-05"),
    "a session of 2025-06-18": in_session("/mcp", "tools/call", {"name": "it__work", **WORK}, "2025-06-18"),
    "a batch of 2025-03-26": in_a_batch,
    "the logical id": stateless("/mcp", "tools/call", {"name": "it/work", **WORK}),
    "an alias": in_session("/mcp", "tools/call", {"name": "wk", **WORK}),
    "a tool that is not listed": stateless("/servers/it/mcp", "tools/call", {"name": "unlisted", **WORK}),
    "/sse": over_sse("/sse", "it__work"),
    "/servers/it/sse": over_sse("/servers/it/sse", "work"),
    "the bridge": over_the_bridge("/mcp", "it__work"),
    **both("/mcp", "prompts/get", {"name": "it__greet"}),
    **both("/servers/it/mcp", "prompts/get", {"name": "greet"}),
    **both("/mcp", "resources/read", {"uri": "x://1"}),
    **both("/servers/it/mcp", "resources/read", {"uri": "x://1"}),
    **both("/mcp", "resources/read", {"uri": "x://all/7"}),
    **both("/servers/it/mcp", "resources/read", {"uri": "y://unlisted"}),
    **both("/mcp", "completion/complete", {"ref": {**PROMPT, "name": "it__greet"}, **ARGUMENT}),
    **both("/servers/it/mcp", "completion/complete", {"ref": PROMPT, **ARGUMENT}),
    **both("/mcp", "completion/complete", {"ref": TEMPLATE, **ARGUMENT}),
    "resources/subscribe on /mcp": in_session("/mcp", "resources/subscribe", {"uri": "x://1"}),
    "resources/subscribe alone": in_session("/servers/it/mcp", "resources/subscribe", {"uri": "x://1"}),
    "resources/unsubscribe": in_session("/servers/it/mcp", "resources/unsubscribe", {"uri": "x://1"}),
}


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_no_way_leads_around_a_rule(era: str) -> None:
    async with denied(era) as (bascule, upstream):
        await bascule.modern().result("tools/list")
        await bascule.modern("/servers/it/mcp").result("tools/list")
        for name, way in WAYS.items():
            assert is_refused(await way(bascule)), name
            assert reached(upstream) == [], name


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_resource_that_nobody_listed_is_asked_for_nowhere(era: str) -> None:
    async with denied(era) as (bascule, upstream):
        for client in (bascule.modern(), await bascule.session()):
            for method in ("resources/read", "resources/subscribe"):
                assert "error" in await client.ask(method, {"uri": "z://unlisted"})
        assert reached(upstream) == []


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("path", ["/mcp", "/servers/it/mcp"])
async def test_a_subscription_leaves_out_what_a_rule_denies(path: str, era: str) -> None:
    async with denied(era) as (bascule, upstream):
        await bascule.modern(path).result("resources/list")
        wanted = {"notifications": {"resourceSubscriptions": ["x://1", "x://all/7"], "toolsListChanged": True}}
        async with bascule.modern(path).open("subscriptions/listen", wanted) as exchange:
            said = await exchange.next_of("notifications/subscriptions/acknowledged")
        assert "resourceSubscriptions" not in said["params"]["notifications"]
        assert reached(upstream) == []


@pytest.mark.parametrize("path", ["/mcp", "/servers/it/mcp"])
async def test_tasks_are_for_who_may_do_everything_at_a_server(path: str) -> None:
    """They name no tool, so that no contract says who may."""
    known = credentials("few")
    options = {"few": {"scopes": ["it:write:work", "it:read"]}}
    async with wide(**THINGS) as upstream:
        servers = {"it": remote(upstream.url)}
        async with gateway(servers, callers=known.configured(**options), environ=known.environ) as bascule:
            await Known(bascule, "/mcp", known.of("few")).result("tools/list")
            client = await session(bascule, path, known.of("few"))
            for method in ("tasks/get", "tasks/result", "tasks/cancel", "tasks/list", "far/fetched"):
                answer = await client.ask(method, {"taskId": "1"})
                assert answer["error"]["code"] == -32601, method
            assert reached(upstream) == []


@pytest.mark.parametrize("path", ["/mcp", "/servers/it/mcp"])
async def test_a_request_without_an_id_is_no_notification(path: str) -> None:
    """Some servers act on it all the same, and nobody has decided whether they may."""
    async with denied("legacy") as (bascule, upstream):
        client = await bascule.session(path)
        await client.result("tools/list")
        await client.ask("tools/call", {"name": "it__work" if path == "/mcp" else "work", **WORK})
        for method, params in (("tools/call", {"name": "work", **WORK}), ("resources/read", {"uri": "x://1"})):
            assert await client.notify(method, params) == 202
        async with client.post([]) as exchange:  # the messages before it have been dealt with
            assert exchange.status == 400
        assert [each for each in upstream.seen if each.id is None and not each.name.startswith("notif")] == [
            each for each in upstream.seen if each.name in ("GET", "DELETE")
        ]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_rule_that_comes_with_a_reload_holds_for_sessions_that_were_there_before(era: str) -> None:
    async with denied(era, policy={}) as (bascule, upstream):
        assert bascule.gateway
        client, alone = await bascule.session(), await bascule.session("/servers/it/mcp")
        assert "isError" not in await client.call("it__work", text="x")
        done = len(reached(upstream))
        await bascule.gateway.reload(configured({"it": remote(upstream.url)}, policy={"rules": [DENY]}))
        assert is_refused(await client.ask("tools/call", {"name": "it__work", **WORK}))
        assert is_refused(await alone.ask("tools/call", {"name": "work", **WORK}))
        assert is_refused(await bascule.modern().ask("tools/call", {"name": "it__work", **WORK}))
        assert len(reached(upstream)) == done


async def test_while_a_servers_lists_are_not_known_a_governed_call_waits_and_is_then_refused() -> None:
    """What holds for a call may stand in a list: a schema, or the contract of a trusted server."""
    listed = asyncio.Event()

    async def slowly(asked: Asked) -> None:
        await listed.wait()
        await upstream.answer(asked)

    async with wide(modern=True, **THINGS) as upstream:
        upstream.on["tools/list"] = slowly
        servers = {"it": remote(upstream.url)}
        amount = {"match": "it/*", "guardrails": [{"deny": "args.amount > 10"}]}
        async with gateway(servers, patience_s=0.2, policy={"rules": [amount]}) as bascule:
            for path, name in (("/mcp", "it__work"), ("/servers/it/mcp", "work")):
                for client in (bascule.modern(path), await bascule.session(path)):
                    params = {"name": name, "arguments": {"amount": "not a number"}}
                    assert is_refused(await client.ask("tools/call", params), "unavailable", "tool_not_found")
            assert upstream.calls("work") == []
            listed.set()
            alone = bascule.modern("/servers/it/mcp")
            await alone.result("tools/list")
            assert is_refused(await alone.ask("tools/call", params), "invalid_argument")
            assert "result" in await alone.ask("tools/call", {"name": "work", "arguments": {"amount": 1}})


async def test_a_lazy_server_is_governed_from_its_first_call_on() -> None:
    from gateway import local

    deny = {"match": "it/echo", "guardrails": [{"deny": "args.text == 'no'"}]}
    async with gateway({"it": local("plain", start="lazy")}, policy={"rules": [deny]}) as bascule:
        client = bascule.modern("/servers/it/mcp")
        assert is_refused(await client.ask("tools/call", {"name": "echo", "arguments": {"text": "no"}}))
        assert "isError" not in await client.call("echo", text="yes")


async def test_a_call_that_came_with_a_wrong_credential_goes_nowhere() -> None:
    known = credentials("some")
    async with wide(**THINGS) as upstream:
        options = {"some": {"scopes": ["*"]}}
        async with gateway(
            {"it": remote(upstream.url)}, callers=known.configured(**options), environ=known.environ
        ) as bascule:
            for path in ("/mcp", "/servers/it/mcp", "/sse", "/servers/it/sse?session_id=x"):
                for shown in ({}, bearer(secret())):
                    async with bascule.request("POST", path, {**KINDLY, **shown}, b"{}") as exchange:
                        assert exchange.status == 401
            assert reached(upstream) == []


async def test_a_subscription_is_the_first_thing_that_a_client_may_ask_for() -> None:
    """Before anybody has asked for a list in its era."""
    async with wide(modern=False, **THINGS) as upstream, gateway({"it": remote(upstream.url)}) as bascule:
        await (await bascule.session()).result("tools/list")
        wanted = {"notifications": {"resourceSubscriptions": ["x://1"]}}
        async with bascule.modern().open("subscriptions/listen", wanted) as exchange:
            said = await exchange.next_of("notifications/subscriptions/acknowledged")
        assert said["params"]["notifications"] == wanted["notifications"]
