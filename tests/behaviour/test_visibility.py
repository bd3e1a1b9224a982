"""What a caller may not call does not exist for it: one decision for calls and lists, everywhere, in both eras."""

import json
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import pytest
from authority import Authority
from gateway import LEGACY, Bascule, Exchange, Json, Legacy, gateway, local, remote
from governed import Known, Wide, bearer, credentials, names, session, tool, wide

from bascule.contract.derive import scope_for

LISTS: Final = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
PATHS: Final = {"/mcp": "{}__", "/servers/old/mcp": "", "/servers/new/mcp": ""}
KINDS: Final = {"tool": "tools", "prompt": "prompts", "resource": "resources", "template": "resourceTemplates"}


class Thing(NamedTuple):
    server: str
    kind: str
    name: str
    scopes: tuple[str, ...]


class Caller(NamedTuple):
    name: str
    scopes: tuple[str, ...]

    def may(self, thing: Thing) -> bool:
        return all(any(_covers(mine, wanted) for mine in self.scopes) for wanted in thing.scopes)


def _covers(have: str, need: str) -> bool:
    """What the documentation says of scopes, written down a second time."""
    mine, theirs = have.split(":"), need.split(":")
    length = max(len(mine), len(theirs))
    mine += [mine[-1] if mine[-1] == "*" else "*"] * (length - len(mine)) if len(mine) < length else []
    theirs += [""] * (length - len(theirs))
    return all(a in ("*", b) for a, b in zip(mine, theirs, strict=True))


def things(seed: int) -> list[Thing]:
    """Things of two servers, each with the scopes that its contract, or its name, makes it need."""
    chance = random.Random(seed)
    found = []
    for server in ("old", "new"):
        for kind, count in (("tool", 5), ("prompt", 2), ("resource", 3), ("template", 2)):
            for number in range(count):
                name = {"tool": f"t{number}", "prompt": f"p{number}"}.get(kind, f"{server}://{kind}/{number}")
                name += "/{x}" if kind == "template" else ""
                said = chance.choice(
                    [(), (), (f"{server}:write:thing",), ("hr:read", "hr:see:pay"), ("crm:read:lead",)]
                )
                derived = scope_for(f"{server}/{name}", writes=kind == "tool")
                found.append(Thing(server, kind, name, said or derived))
    return found


def callers(seed: int, all_things: Sequence[Thing]) -> list[Caller]:
    chance = random.Random(seed + 1)
    pool = [
        *(scope for thing in all_things for scope in thing.scopes),
        "old",
        "new:write",
        "*:read",
        "hr",
        "crm:*:lead",
    ]
    some = [Caller(f"c{number}", tuple(chance.sample(pool, chance.randint(1, 4)))) for number in range(4)]
    return [*some, Caller("all", ("*",)), Caller("nobody", ("elsewhere",))]


def documents(all_things: Sequence[Thing]) -> list[Json]:
    word = {"template": "resource"}
    return [
        {word.get(t.kind, t.kind): f"{t.server}/{t.name}", "version": "1.2.3", "security_scope": list(t.scopes)}
        for t in all_things
        if not t.scopes[0].startswith((f"{t.server}:write:t", f"{t.server}:read:")) or t.scopes[0].endswith(":thing")
    ]


def of(all_things: Sequence[Thing], server: str, kind: str) -> list[str]:
    return [thing.name for thing in all_things if (thing.server, thing.kind) == (server, kind)]


@asynccontextmanager
async def served(all_things: Sequence[Thing], **members: Any) -> AsyncIterator[tuple[Bascule, Mapping[str, Wide]]]:
    """A Bascule before a server of each era, with these things."""
    own: dict[str, dict[str, Any]] = {
        server: {
            "tools": [tool(name) for name in of(all_things, server, "tool")],
            "prompts": of(all_things, server, "prompt"),
            "resources": of(all_things, server, "resource"),
            "templates": of(all_things, server, "template"),
            "instructions": f"of {server}",
        }
        for server in ("old", "new")
    }
    async with wide(**own["old"]) as old, wide(modern=True, **own["new"]) as new:
        servers = {"old": remote(old.url), "new": remote(new.url)}
        async with gateway(servers, **members) as bascule:
            yield bascule, {"old": old, "new": new}


async def lists(client: Known | Legacy) -> dict[str, list[str]]:
    return {member: names(await client.result(method), member) for method, member in LISTS.items()}


def asking(thing: Thing, prefix: str) -> list[tuple[str, Json]]:
    """The requests that name *thing*, as clients of an endpoint call it."""
    name = prefix.format(thing.server) + thing.name
    argument = {"argument": {"name": "x", "value": ""}}
    match thing.kind:
        case "tool":
            return [("tools/call", {"name": name, "arguments": {"text": "x"}})]
        case "prompt":
            ref = {"ref": {"type": "ref/prompt", "name": name}}
            return [("prompts/get", {"name": name}), ("completion/complete", {**ref, **argument})]
        case "resource":
            return [("resources/read", {"uri": thing.name})]
        case _:
            ref = {"ref": {"type": "ref/resource", "uri": thing.name}}
            return [
                ("resources/read", {"uri": thing.name.replace("{x}", "7")}),
                ("completion/complete", {**ref, **argument}),
            ]


async def asked(client: Known | Legacy, method: str, params: Json) -> tuple[int, str]:
    """(status, body), without what differs between any two calls."""
    async with client.open(method, params) as exchange:
        return exchange.status, plain(await _whole(exchange))


async def _whole(exchange: Exchange) -> str:
    said = []
    while (raw := await exchange.raw()) is not None:
        said.append(raw.decode())
    return "\n".join(said)


def plain(body: str) -> str:
    return re.sub(r'"trace_id":"[0-9a-f]{32}"', '"trace_id":""', body)


def made_up(thing: Thing) -> Thing:
    """Something of the same form that does not exist."""
    name = thing.name.replace(f"{thing.kind}/", "madeup/") if "://" in thing.name else f"madeup{thing.name}"
    return thing._replace(name=name)


def unnamed(body: str, thing: Thing, prefix: str) -> str:
    """*body* without the name that was asked for."""
    for name in (prefix.format(thing.server) + thing.name, thing.name, thing.name.replace("{x}", "7")):
        body = body.replace(name, "?")
    return body


@pytest.mark.parametrize("seed", range(3))
async def test_each_caller_is_listed_what_it_may_call_and_nothing_else_exists_for_it(seed: int) -> None:
    everything = things(seed)
    everybody = callers(seed, everything)
    known = credentials(*(caller.name for caller in everybody))
    configured = known.configured(**{caller.name: {"scopes": list(caller.scopes)} for caller in everybody})
    async with served(everything, callers=configured, contracts=documents(everything), environ=known.environ) as (
        bascule,
        upstreams,
    ):
        await lists(Known(bascule, "/mcp", known.of("all")))
        for caller in everybody:
            for path, prefix in PATHS.items():
                here = [thing for thing in everything if path == "/mcp" or thing.server in path]
                mine = [thing for thing in here if caller.may(thing)]
                may_enter = path == "/mcp" or bool(mine) or caller.name == "all"
                await _check(bascule, path, prefix, caller, known.of(caller.name), here, mine, may_enter=may_enter)
        reached = [each for upstream in upstreams.values() for each in upstream.seen]
    assert not [each for each in reached if "madeup" in each.body.decode()], "nobody asked a server for a made-up thing"


async def _check(
    bascule: Bascule, path: str, prefix: str, caller: Caller, shown: Mapping[str, str],
    here: Sequence[Thing], mine: Sequence[Thing], *, may_enter: bool,
) -> None:  # fmt: skip
    stateless = Known(bascule, path, shown)
    if not may_enter:
        nowhere = Known(bascule, "/servers/nowhere/mcp", shown)
        assert await asked(stateless, "tools/list", {}) == await asked(nowhere, "tools/list", {})
        assert (await asked(stateless, "tools/list", {}))[0] == 404
        return
    for client in (stateless, await session(bascule, path, shown)):
        expected = {
            member: [prefix.format(t.server) * (kind in ("tool", "prompt")) + t.name for t in mine if t.kind == kind]
            for kind, member in KINDS.items()
        }
        found = await lists(client)
        assert found == expected, (caller, path)
        for thing in here:
            for method, params in asking(thing, prefix):
                status, body = await asked(client, method, params)
                if thing in mine:
                    assert status == 200, (caller, thing, body)
                    assert '"result"' in body, (caller, thing, body)
                elif caller.name != "all":
                    unknown = made_up(thing)
                    other_status, other = await asked(client, method, dict(asking(unknown, prefix))[method])
                    assert status == other_status, (caller, thing, method)
                    assert unnamed(body, thing, prefix) == unnamed(other, unknown, prefix), (caller, thing, method)


async def test_lists_are_the_same_each_time_made_once_for_a_set_of_scopes_and_private() -> None:
    known = credentials("one", "two", "other")
    options = {"one": {"scopes": ["new:write:t1"]}, "two": {"scopes": ["new:write:t1"]}, "other": {"scopes": ["*"]}}
    async with served(
        things(0), callers=known.configured(**options), environ=known.environ, policy={"default": "deny"}
    ) as (bascule, upstreams):
        upstreams["new"].cache["cacheScope"] = "public"
        assert bascule.gateway
        pages = []
        for name in ("one", "two", "one", "other"):
            async with Known(bascule, "/mcp", known.of(name)).open("tools/list") as exchange:
                pages.append(await exchange.body())
        assert pages[0] == pages[1] == pages[2] != pages[3]
        assert len({key[2] for key in bascule.gateway.aggregate._pages}) == 2  # two sets of scopes
        for path in PATHS:
            client = Known(bascule, path, known.of("other"))
            for method in (*LISTS, "server/discover"):
                assert (await client.result(method))["cacheScope"] == "private", (path, method)
        uri = of(things(0), "new", "resource")[0]
        read = await Known(bascule, "/mcp", known.of("other")).result("resources/read", {"uri": uri})
        assert read["cacheScope"] == "private"


async def test_instructions_are_of_the_servers_that_a_caller_may_know_of() -> None:
    known = credentials("few", "all")
    options = {"few": {"scopes": ["new:write:t1"]}, "all": {"scopes": ["*"]}}
    async with served(things(0), callers=known.configured(**options), environ=known.environ) as (bascule, _):
        await lists(Known(bascule, "/mcp", known.of("all")))
        for name, told in (("few", "## new\nof new"), ("all", "## old\nof old\n\n## new\nof new")):
            assert (await Known(bascule, "/mcp", known.of(name)).result("server/discover"))["instructions"] == told
            assert (await session(bascule, "/mcp", known.of(name))).greeting["instructions"] == told


async def test_what_headers_a_hidden_tool_wants_is_not_told() -> None:
    """SEP-2243: a header that is missing is refused, which must not tell that there is such a tool."""
    wants = tool("wants")
    wants["inputSchema"]["properties"]["text"]["x-mcp-header"] = "Text"
    known = credentials("few")
    async with wide(modern=True, tools=[tool("t1"), wants]) as upstream:
        options = {"few": {"scopes": ["it:write:t1"]}}
        async with gateway(
            {"it": remote(upstream.url)}, callers=known.configured(**options), environ=known.environ
        ) as bascule:
            for path, prefix in (("/mcp", "it__"), ("/servers/it/mcp", "")):
                client = Known(bascule, path, known.of("few"))
                assert names(await client.result("tools/list"), "tools") == [f"{prefix}t1"]
                arguments = {"arguments": {"text": "x"}}
                hidden = await asked(client, "tools/call", {"name": f"{prefix}wants", **arguments})
                unknown = await asked(client, "tools/call", {"name": f"{prefix}zants", **arguments})
                assert hidden == (unknown[0], unknown[1].replace("zants", "wants"))
    assert upstream.calls("wants") == []


async def test_what_one_may_not_see_takes_nothing_from_what_one_may() -> None:
    """Two servers with the same resource: who may use the second only has it from there."""
    known = credentials("second", "both")
    options = {"second": {"scopes": ["b"]}, "both": {"scopes": ["*"]}}
    same: Any = {"resources": ["x://1"], "templates": ["x://{n}/all"]}
    async with wide(modern=True, **same) as a, wide(modern=True, **same) as b:
        servers = {"a": remote(a.url), "b": remote(b.url)}
        async with gateway(servers, callers=known.configured(**options), environ=known.environ) as bascule:
            await lists(Known(bascule, "/mcp", known.of("both")))
            for client in (
                Known(bascule, "/mcp", known.of("second")),
                await session(bascule, "/mcp", known.of("second")),
            ):
                assert names(await client.result("resources/list"), "resources") == ["x://1"]
                for uri in ("x://1", "x://7/all"):
                    assert "result" in await client.ask("resources/read", {"uri": uri})
            assert (len(a.asked("resources/read")), len(b.asked("resources/read"))) == (0, 4)
            both = Known(bascule, "/mcp", known.of("both"))
            assert names(await both.result("resources/list"), "resources") == ["x://1"]
            await both.result("resources/read", {"uri": "x://1"})
            assert len(a.asked("resources/read")) == 1


async def test_a_completion_is_about_one_thing() -> None:
    """Of two names in one `ref` we might judge the one, and the server mean the other."""
    known = credentials("few")
    options = {"few": {"scopes": ["new:read:p0"]}}
    async with served(things(0), callers=known.configured(**options), environ=known.environ) as (bascule, upstreams):
        secret = of(things(0), "new", "template")[0]
        for path, prefix in (("/mcp", "new__"), ("/servers/new/mcp", "")):
            client = Known(bascule, path, known.of("few"))
            await client.result("prompts/list")
            for ref in (
                {"type": "ref/resource", "name": f"{prefix}p0", "uri": secret},
                {"type": "ref/prompt", "name": f"{prefix}p0", "uri": secret},
                {"type": "ref/resource", "name": f"{prefix}p0"},
                {"name": f"{prefix}p0"},
            ):
                status, message, _ = await client.refused(
                    "completion/complete", {"ref": ref, "argument": {"name": "x", "value": ""}}
                )
                assert (status, message["error"]["code"]) == (400, -32602), ref
        assert upstreams["new"].asked("completion/complete") == []


async def test_a_tool_that_is_gone_is_in_no_list_and_says_what_replaces_it() -> None:
    gone = {"tool": "new/t0", "status": "gone", "deprecation": {"replaced_by": "new/t1"}}
    async with served(things(0), contracts=[gone]) as (bascule, upstreams):
        for path, prefix in (("/mcp", "new__"), ("/servers/new/mcp", "")):
            for client in (bascule.modern(path), await bascule.session(path)):
                listed = names(await client.result("tools/list"), "tools")
                assert f"{prefix}t1" in listed
                assert f"{prefix}t0" not in listed
                result = await client.call(f"{prefix}t0", text="x")
                assert result["_meta"]["dev.bascule/error"]["code"] == 41001
                assert "use new/t1" in result["content"][0]["text"]
        assert upstreams["new"].calls("t0") == []


# ---- step-up


async def test_what_a_caller_could_ask_for_is_listed_and_refused_with_all_scopes_in_both_eras() -> None:
    async with Authority() as authority:
        issuer = {"issuer": authority.issuer, "scopes": ["new:write:t1"], "grantable": ["crm", "hr"]}
        contracts = [{"tool": "new/t0", "security_scope": ["crm:write:lead", "hr:see:pay"]}]
        async with served(
            things(0), auth={"issuers": {"as": issuer}}, contracts=contracts
        ) as (bascule, upstreams):  # fmt: skip
            for path, prefix in (("/mcp", "new__"), ("/servers/new/mcp", "")):
                shown = bearer(authority.token(aud=bascule.url + path))
                for client in (Known(bascule, path, shown), await session(bascule, path, shown)):
                    listed = names(await client.result("tools/list"), "tools")
                    assert {f"{prefix}t0", f"{prefix}t1"} == {each for each in listed if each[-2:] in ("t0", "t1")}
                    params = {"name": f"{prefix}t0", "arguments": {}}
                    async with client.open("tools/call", params) as exchange:
                        assert exchange.status == 403
                        challenge = exchange.headers["www-authenticate"]
                        assert (await exchange.last())["error"]["data"]["code"] == 40301
                    assert challenge == (
                        'Bearer error="insufficient_scope", scope="crm:write:lead hr:see:pay", '
                        f'resource_metadata="{bascule.url}/.well-known/oauth-protected-resource{path}", '
                        'error_description="new/t0 needs the scope crm:write:lead hr:see:pay"'
                    )
                    hidden = await client.ask("tools/call", {"name": f"{prefix}t2", "arguments": {}})
                    assert hidden["error"]["data"]["kind"] == "tool_not_found"
        assert upstreams["new"].executed.count("tools/call") == 0


# ---- subscriptions


async def test_a_subscription_is_told_of_what_its_caller_may_read() -> None:
    known = credentials("few", "all")
    mine, other = of(things(0), "new", "resource")[:2]
    options = {"few": {"scopes": ["mine"]}, "all": {"scopes": ["*"]}}
    contracts = [
        {"resource": f"new/{mine}", "security_scope": "mine"},
        {"resource": f"new/{other}", "security_scope": "x"},
    ]
    async with served(
        things(0), callers=known.configured(**options), environ=known.environ, contracts=contracts
    ) as (bascule, upstreams):  # fmt: skip
        for path in ("/mcp", "/servers/new/mcp"):
            await Known(bascule, path, known.of("all")).result("resources/list")
            wanted = {"notifications": {"resourceSubscriptions": [mine, other, "new://madeup"]}}
            async with Known(bascule, path, known.of("few")).open("subscriptions/listen", wanted) as exchange:
                said = await exchange.next_of("notifications/subscriptions/acknowledged")
                assert said["params"]["notifications"] == {"resourceSubscriptions": [mine]}
        asked_for = [each.message["params"]["notifications"] for each in upstreams["new"].asked("subscriptions/listen")]
        assert other not in json.dumps(asked_for)


async def test_endpoints_of_servers_that_are_hidden_are_those_of_servers_that_are_not_there() -> None:
    known = credentials("few")
    options = {"few": {"scopes": ["new:write:t1"]}}
    async with served(things(0), callers=known.configured(**options), environ=known.environ) as (bascule, _):
        await Known(bascule, "/mcp", known.of("few")).result("tools/list")
        for method, path in (("POST", "mcp"), ("GET", "mcp"), ("DELETE", "mcp"), ("GET", "sse"), ("POST", "sse")):
            told = []
            for server in ("old", "odd"):
                head = {**known.of("few"), "accept": "application/json, text/event-stream"}
                head |= {"content-type": "application/json", "mcp-protocol-version": LEGACY}
                async with bascule.request(method, f"/servers/{server}/{path}", head, b"{}") as exchange:
                    kept = {k: v for k, v in exchange.headers.items() if k.lower() != "date"}
                    told.append((exchange.status, kept, plain(await _whole(exchange))))
            assert told[0] == told[1], (method, path)
            assert told[0][0] == 404


async def test_a_lazy_server_is_not_started_by_the_call_of_who_may_not_know_of_it() -> None:
    known = credentials("few", "all")
    options = {"few": {"scopes": ["elsewhere"]}, "all": {"scopes": ["*"]}}
    async with gateway(
        {"it": local("plain", start="lazy")}, callers=known.configured(**options), environ=known.environ
    ) as bascule:
        assert bascule.gateway
        params = {"name": "it__echo", "arguments": {"text": "x"}}
        answer = await Known(bascule, "/mcp", known.of("few")).ask("tools/call", params)
        assert answer["error"]["data"]["kind"] == "tool_not_found"
        assert not bascule.gateway.upstreams["it"].status().pids
        assert "result" in await Known(bascule, "/mcp", known.of("all")).ask("tools/call", params)
