"""What a gateway keeps of answers, through the default wiring: for whom, for how long, and until what is changed."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from foreign import Asked, listening
from gateway import Bascule, Json, gateway, remote, text_of, until
from governed import Known, Wide, configured, credentials, tool

KEYS: Final = credentials("a", "b", "c")
CALLERS: Final = {"a": {"scopes": ["it:read"]}, "b": {"scopes": ["it:read"]}, "c": {"scopes": ["it"]}}
POLICY: Final[Json] = {"cache_policy": {"ttl_seconds": 60}, "side_effect": False}
CALL: Final = "dev.bascule/call"
PATH: Final = "/servers/it/mcp"


@dataclass
class Counting(Wide):
    """A server that answers each call with a number of its own; while it is held, only once it is let go."""

    made: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, asked: Asked) -> None:
        if asked.name == "tools/call":
            await self.open.wait()
        await super().answer(asked)

    def work(self, method: str, params: Json) -> Json | None:
        if method != "tools/call":
            return super().work(method, params)
        self.made += 1
        found: Json = {"content": [{"type": "text", "text": str(self.made)}]}
        return {**found, **self.answers.get(params["name"], {})}


@asynccontextmanager
async def cached(
    *, rules: Any = None, tools: Any = None, callers: Mapping[str, Json] = CALLERS, **members: Any
) -> AsyncIterator[tuple[Bascule, Counting]]:
    server = Counting(True, tools=tools or [tool("find"), tool("list")])
    server.open.set()
    policy = {"rules": rules or [{"match": "it/*", **POLICY}]}
    async with (
        listening(server) as upstream,
        gateway(
            {"it": remote(upstream.url, trust="auto")},
            environ=KEYS.environ,
            policy=policy,
            callers=KEYS.configured(**callers),
            **members,
        ) as bascule,
    ):
        await client(bascule, next(iter(callers), None)).result("tools/list")
        yield bascule, upstream


def client(bascule: Bascule, who: str | None = "a", path: str = PATH) -> Known:
    return Known(bascule, path, KEYS.of(who) if who else {})


def label_of(result: Json) -> Json:
    found: Json = result["_meta"][CALL]
    return found


def report(bascule: Bascule) -> Json:
    assert bascule.gateway is not None
    found: Json = bascule.gateway.cache.report()
    return found


async def test_an_equal_call_is_answered_without_the_server_and_says_so() -> None:
    async with cached() as (bascule, upstream):
        first, second = [await client(bascule).call("find", text="x", amount=1) for _ in range(2)]
        assert (text_of(first), text_of(second)) == ("1", "1")
        assert (label_of(first)["cached"], label_of(second)["cached"]) == (False, True)
        assert label_of(first)["trace_id"] != label_of(second)["trace_id"]
        assert text_of(await client(bascule).call("find", amount=1, text="x")) == "1"
        assert text_of(await client(bascule).call("find", text="y")) == "2"
        assert text_of(await client(bascule).call("list", text="x", amount=1)) == "3"
        assert len(upstream.calls("find")) == 2


async def test_callers_of_other_scopes_never_see_each_others_entry() -> None:
    async with cached() as (bascule, _):
        said = [text_of(await client(bascule, who).call("find")) for who in "abcabc"]
        assert said == ["1", "1", "2", "1", "1", "2"]


async def test_a_session_of_the_old_protocol_and_a_stateless_client_share_nothing() -> None:
    async with cached() as (bascule, _):
        legacy = await bascule.session(PATH, headers=KEYS.of("a"))
        said = [text_of(await each.call("find")) for each in (legacy, client(bascule), legacy, client(bascule))]
        assert said == ["1", "2", "1", "2"]


async def test_without_a_policy_or_with_a_side_effect_every_call_is_made() -> None:
    rules = [{"match": "it/find", "side_effect": False}, {"match": "it/list", **POLICY, "side_effect": True}]
    callers = {"a": {"scopes": ["it"]}}
    async with cached(rules=rules, callers=callers) as (bascule, upstream):
        for name in ("find", "list"):
            assert label_of([await client(bascule).call(name) for _ in range(3)][-1])["cached"] is False
        assert upstream.made == 6


async def test_a_hundred_equal_calls_at_one_time_are_one_call_and_who_leaves_takes_nobody_along() -> None:
    async with cached() as (bascule, upstream):
        assert bascule.gateway is not None
        observe = bascule.gateway.observe

        async def calls() -> int:
            return len(upstream.calls("find"))

        async def in_flight() -> int:
            return observe.in_flight

        upstream.open.clear()
        async with asyncio.TaskGroup() as group:
            leader = group.create_task(client(bascule).call("find"))
            await until(calls, lambda made: made == 1)
            others = [group.create_task(client(bascule, "ab"[turn % 2]).call("find")) for turn in range(99)]
            await until(in_flight, lambda running: running == 100)
            leader.cancel()
            await until(calls, lambda made: made == 2)  # another has taken over
            upstream.open.set()
        assert len({text_of(each.result()) for each in others}) == 1
        assert len(upstream.calls("find")) == 2
        assert report(bascule)["shared"] + report(bascule)["hits"] == 98


async def test_errors_are_never_kept() -> None:
    async with cached() as (bascule, upstream):
        upstream.answers["find"] = {"isError": True}
        assert [(await client(bascule).call("find"))["isError"] for _ in range(2)] == [True, True]
        upstream.answers.clear()
        assert [text_of(await client(bascule).call("find")) for _ in range(2)] == ["3", "3"]


async def test_what_the_output_schema_refuses_is_not_kept_for_the_rest_of_its_time() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    rules = [{"match": "it/*", **POLICY, "validate_results": "block"}]
    async with cached(rules=rules, tools=[tool("find", result=schema)]) as (bascule, upstream):
        upstream.answers["find"] = {"structuredContent": {"n": "no number"}}
        assert (await client(bascule).call("find"))["isError"]
        upstream.answers["find"] = {"structuredContent": {"n": 1}}
        assert [text_of(await client(bascule).call("find")) for _ in range(2)] == ["2", "2"]


async def test_a_call_with_a_key_is_made_whatever_is_kept(tmp_path: Any) -> None:
    async with cached(state_dir=str(tmp_path / "state")) as (bascule, _):
        assert text_of(await client(bascule).call("find")) == "1"
        keyed = {"idempotency-key": "k" * 20}
        async with client(bascule).open("tools/call", {"name": "find", "arguments": {}}, headers=keyed) as exchange:
            assert text_of((await exchange.last())["result"]) == "2"
        async with client(bascule).open("tools/call", {"name": "find", "arguments": {}}, headers=keyed) as exchange:
            again = (await exchange.last())["result"]
        assert (text_of(again), label_of(again)["replayed"], label_of(again)["cached"]) == ("2", True, False)
        assert text_of(await client(bascule).call("find")) == "1"


async def test_what_a_person_is_asked_about_is_not_answered_from_what_is_kept() -> None:
    rules = [{"match": "it/*", **POLICY, "guardrails": [{"ask": "args.amount > 10"}]}]
    policy = {"ttl_seconds": 60, "cache_key_fields": ["text"]}
    rules.append({"match": "it/find", "cache_policy": policy})
    async with cached(rules=rules) as (bascule, upstream):
        assert text_of(await client(bascule).call("find", text="x", amount=1)) == "1"
        assert text_of(await client(bascule).call("find", text="x", amount=2)) == "1"
        asked = await client(bascule).call("find", text="x", amount=11)
        assert asked["_meta"]["dev.bascule/error"]["kind"] == "confirmation_required"
        assert upstream.made == 1


@pytest.mark.parametrize("changed", ["version", "server", "nothing"])
async def test_a_reload_ends_what_it_changes_and_nothing_else(changed: str) -> None:
    async with cached() as (bascule, upstream):
        assert bascule.gateway is not None
        assert text_of(await client(bascule).call("find")) == "1"
        rule = {"match": "it/*", **POLICY, **({"version": "2.0.0"} if changed == "version" else {})}
        url = f"{upstream.url}?other" if changed == "server" else upstream.url
        config = configured(
            {"it": remote(url, trust="auto")},
            KEYS.environ,
            policy={"rules": [rule]},
            callers=KEYS.configured(**CALLERS),
        )
        await bascule.gateway.reload(config)
        await client(bascule).result("tools/list")
        expected = "1" if changed == "nothing" else "2"
        assert text_of(await client(bascule).call("find")) == expected


async def test_a_definition_that_its_server_changes_begins_anew() -> None:
    async with cached() as (bascule, upstream):
        assert bascule.gateway is not None
        assert text_of(await client(bascule).call("find")) == "1"
        assert text_of(await client(bascule).call("list")) == "2"
        upstream.tools = [tool("find", description="It does something else now."), tool("list")]
        (follower,) = bascule.gateway.registry.followers("it")
        await follower.refresh()
        assert text_of(await client(bascule).call("find")) == "3"
        assert text_of(await client(bascule).call("list")) == "2"


async def test_operators_see_and_clear_what_is_kept() -> None:
    scopes = {"scopes": ["it:read", "bascule.status:read", "bascule.cache:write"]}
    async with cached(callers={"a": scopes}) as (bascule, upstream):
        for name in ("find", "find", "list"):
            await client(bascule).call(name)
        _, seen = await bascule.get("/cache", KEYS.of("a"))
        assert (seen["hits"], seen["misses"], seen["entries"]) == (1, 2, 2)
        assert {each["tool"]: each["hit_rate"] for each in seen["tools"]} == {"it/find": 0.5, "it/list": 0.0}
        for query, cleared in (("?tool=it/find", 1), ("?server=other", 0), ("?server=it", 1), ("", 0)):
            async with bascule.request("DELETE", f"/cache{query}", KEYS.of("a")) as exchange:
                assert await exchange.json() == {"cleared": cleared}
        await client(bascule).call("find")
        assert upstream.made == 3
