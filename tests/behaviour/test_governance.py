"""What a contract and the operator's rules do to calls, through the whole gateway, and what clients are told of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from foreign import Asked
from gateway import Bascule, Json, Legacy, Modern, failure_of, gateway, remote, until
from governed import Known, Wide, credentials, names, tool, wide

CALL: Final = "dev.bascule/call"
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = f"00-{TRACE}-00f067aa0ba902b7-01"
PATH: Final = "/servers/it/mcp"


@asynccontextmanager
async def ruled(
    *tools: Json, rules: Sequence[Json] = (), contracts: Sequence[Json] = (), trusted: bool = False, **members: Any
) -> AsyncIterator[tuple[Bascule, Wide]]:
    """A Bascule with these rules before a server with *tools*, whose lists are known."""
    policy = {"rules": list(rules), **members.pop("policy", {})}
    async with (
        wide(modern=True, tools=list(tools) or [tool("work")], **members.pop("server", {})) as upstream,
        gateway(
            {"it": remote(upstream.url, trusted=trusted)}, policy=policy, contracts=list(contracts), **members
        ) as b,
    ):
        await b.modern().result("tools/list")
        yield b, upstream


async def both(bascule: Bascule, path: str = PATH) -> list[Modern | Legacy]:
    """A client of each era."""
    return [bascule.modern(path), await bascule.session(path)]


def label_of(result: Json) -> Json:
    found: Json = result["_meta"][CALL]
    return found


# ---- guardrails and gates


async def test_a_guardrail_denies_asks_or_warns_and_only_a_warning_lets_the_call_through() -> None:
    rails = [
        {"deny": "args.amount > 1000", "message": "too much"},
        {"ask": "args.amount > 100", "message": "Really {args.amount}?"},
        {"warn": "args.amount > 10", "message": "that is a lot"},
    ]
    async with ruled(rules=[{"match": "it/work", "guardrails": rails}]) as (bascule, upstream):
        for client in await both(bascule):
            upstream.seen.clear()
            denied = failure_of(await client.call("work", text="", amount=2000))
            assert (denied["code"], denied["kind"], denied["message"]) == (40303, "guardrail_denied", "too much")
            asked = failure_of(await client.call("work", text="", amount=500))
            assert (asked["code"], asked["kind"]) == (40302, "confirmation_required")
            assert not asked["retryable"]
            assert upstream.calls("work") == []
            assert label_of(await client.call("work", text="", amount=50))["warnings"] == ["that is a lot"]
            assert label_of(await client.call("work", text="", amount=5))["warnings"] == []
            assert len(upstream.calls("work")) == 2


async def test_an_error_in_a_rule_denies() -> None:
    rails = [{"deny": "args.text.startsWith('x') && args.amount > 1"}]
    async with ruled(rules=[{"match": "it/work", "guardrails": rails, "validate_arguments": "off"}]) as (bascule, up):
        for arguments in ({"text": "x"}, {"text": "x", "amount": "many"}, {}):
            result = await bascule.modern(PATH).call("work", **arguments)
            assert failure_of(result)["kind"] == "guardrail_denied", arguments
        assert up.calls("work") == []


@pytest.mark.parametrize("gate", [True, {"when": "args.amount > 10", "message": "Send {args.amount}?"}])
async def test_a_confirm_gate_is_asked_and_there_is_no_way_round_it(gate: Any) -> None:
    async with ruled(contracts=[{"tool": "it/work", "confirm_gate": gate}]) as (bascule, upstream):
        for client in await both(bascule):
            result = await client.call("work", text="x", amount=11)
            error = failure_of(result)
            assert (error["code"], error["kind"], error["category"]) == (40302, "confirmation_required", "security")
            for meta in ({"confirmationToken": "x"}, {"dev.bascule/confirmationToken": "x"}):
                params = {"name": "work", "arguments": {"amount": 11}, "_meta": meta}
                if isinstance(client, Legacy):
                    assert (await client.result("tools/call", params))["isError"]
        async with bascule.modern(PATH).open(
            "tools/call", {"name": "work", "arguments": {"amount": 11}}, meta={"dev.bascule/errors": "jsonrpc"}
        ) as exchange:
            answer = await exchange.last()
        assert (answer["error"]["code"], answer["error"]["data"]["code"]) == (-30001, 40302)
        assert upstream.calls("work") == []
        if isinstance(gate, dict):
            assert "isError" not in await bascule.modern(PATH).call("work", amount=10)


async def test_a_rule_that_does_not_fit_the_tools_schema_withholds_the_tool_and_says_so() -> None:
    rails = [{"deny": "args.amount.startsWith('1')"}]
    async with ruled(tool("work"), tool("other"), rules=[{"match": "it/work", "guardrails": rails}]) as (bascule, up):
        for path in ("/mcp", PATH):
            listed = names(await bascule.modern(path).result("tools/list"), "tools")
            assert [name[-5:] for name in listed] == ["other"]
        answer = await bascule.modern(PATH).ask("tools/call", {"name": "work", "arguments": {"amount": 1}})
        assert answer["error"]["data"]["kind"] == "tool_not_found"
        assert up.calls("work") == []
        withheld = (await bascule.server("it"))["withheld"]
        assert "startsWith" in withheld["work"]


async def test_a_schema_that_explodes_withholds_its_tool_and_is_named_in_the_status() -> None:
    bomb: Json = {"type": "object"}
    for _ in range(20):
        bomb = {"anyOf": [bomb] * 2, "properties": {"x": bomb}} if len(json.dumps(bomb)) < 200_000 else bomb
    far_ref = {"type": "object", "properties": {"x": {"$ref": "http://169.254.169.254/x"}}}
    tools = [tool("work"), {**tool("bomb"), "inputSchema": bomb}, {**tool("fetch"), "inputSchema": far_ref}]
    async with ruled(*tools) as (bascule, upstream):
        for client in [*await both(bascule), *await both(bascule, "/mcp")]:
            assert [name[-4:] for name in names(await client.result("tools/list"), "tools")] == ["work"]
        for name in ("bomb", "fetch"):
            answer = await bascule.modern(PATH).ask("tools/call", {"name": name, "arguments": {}})
            assert answer["error"]["data"]["kind"] == "tool_not_found"
        assert upstream.executed.count("tools/call") == 0
        assert set((await bascule.server("it"))["withheld"]) == {"bomb", "fetch"}


# ---- schemas


async def test_arguments_that_do_not_fit_come_back_as_something_that_a_model_can_mend() -> None:
    schema = {
        "type": "object",
        "properties": {
            "card": {"type": "string", "pattern": "^[0-9]{4}$"},
            "amount": {"type": "integer", "minimum": 1},
        },
        "required": ["card", "amount"],
        "additionalProperties": False,
    }
    contract = {"tool": "it/work", "version": "2.1.0", "input_schema": schema}
    async with ruled(contracts=[contract]) as (bascule, upstream):
        for client in await both(bascule):
            result = await client.call("work", card="4111-1111-secret", amount="a lot", extra=1)
            error = failure_of(result)
            assert (error["code"], error["kind"], error["version"]) == (40001, "invalid_argument", "2.1.0")
            assert {each["path"] for each in error["details"]["problems"]} >= {"/card", "/amount"}
            assert "/amount" in result["content"][0]["text"]
            assert "secret" not in json.dumps(result)
            assert "a lot" not in json.dumps(result)
        assert upstream.calls("work") == []
        assert "isError" not in await bascule.modern(PATH).call("work", card="4111", amount=1)


async def test_an_ungoverned_tool_is_left_to_its_server() -> None:
    async with ruled() as (bascule, upstream):
        assert "isError" not in await bascule.modern(PATH).call("work", amount="a lot")
        assert len(upstream.calls("work")) == 1


@pytest.mark.parametrize("mode", ["off", "warn", "block"])
async def test_a_result_is_held_to_the_output_schema_as_far_as_the_operator_wants(mode: str) -> None:
    output = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    tools = [tool(name, result=output) for name in ("good", "bad", "none", "failed")]
    answers = {
        "good": {"content": [], "structuredContent": {"sum": 3}},
        "bad": {"content": [], "structuredContent": {"sum": "secret three"}},
        "none": {"content": [{"type": "text", "text": "3"}]},
        "failed": {"content": [{"type": "text", "text": "no"}], "isError": True},
    }
    async with ruled(
        *tools, rules=[{"match": "it/*", "validate_results": mode}], server={"answers": answers}
    ) as (bascule, upstream):  # fmt: skip
        for client in await both(bascule):
            assert label_of(await client.call("good", text="x"))["warnings"] == []
            assert (await client.call("failed", text="x"))["content"][0]["text"] == "no"
            for name in ("bad", "none"):
                result = await client.call(name, text="x")
                if mode == "block":
                    assert failure_of(result)["kind"] == "upstream_protocol"
                    assert not failure_of(result)["retryable"]
                    assert "structuredContent" not in result
                    assert "arguments" not in result["content"][0]["text"]
                    assert "secret three" not in json.dumps(result)
                else:
                    warnings = label_of(result)["warnings"]
                    assert len(warnings) == (1 if mode == "warn" else 0)
                    assert "arguments" not in " ".join(warnings)
        assert len(upstream.calls("bad")) == 2


# ---- limits


@pytest.mark.parametrize(
    ("members", "limit"),
    [
        ({"limits": {"caller": {"rate": "2/hour"}}}, "caller"),
        ({"policy": {"rules": [{"match": "it/work", "rate_limit": "2/hour"}]}}, "pair"),
        ({"policy": {"rules": [{"match": "it/work", "total_rate_limit": "2/hour"}]}}, "tool"),
        ({"limits": {"servers": {"it": {"rate": "2/hour"}}}}, "server"),
    ],
)
async def test_each_limit_refuses_what_is_over_it_and_says_when_to_come_back(members: Json, limit: str) -> None:
    known = credentials("one", "two")
    options = {"one": {"scopes": ["*"]}, "two": {"scopes": ["*"]}}
    async with (
        wide(modern=True, tools=[tool("work"), tool("other")]) as upstream,
        gateway(
            {"it": remote(upstream.url)}, callers=known.configured(**options), environ=known.environ, **members
        ) as bascule,
    ):
        one, two = (Known(bascule, PATH, known.of(name)) for name in known.keys)
        await one.result("tools/list")
        assert ["isError" in await one.call("work", text="x") for _ in range(2)] == [False, False]
        error = failure_of(await one.call("work", text="x"))
        assert (error["code"], error["kind"], error["details"]["limit"]) == (42901, "rate_limited", limit)
        assert 0 < error["retry_after_ms"] <= 3_600_000
        assert error["retryable"]
        assert "two" not in json.dumps(error)
        assert ("isError" in await two.call("work", text="x")) == (limit in ("tool", "server"))
        assert ("isError" in await one.call("other", text="x")) == (limit in ("caller", "server"))
        async with one.open(
            "tools/call", {"name": "work", "arguments": {}}, meta={"dev.bascule/errors": "jsonrpc"}
        ) as exchange:
            assert exchange.status == 429
            assert int(exchange.headers["retry-after"]) >= 1
        assert len(upstream.calls("work")) == (3 if limit in ("caller", "pair") else 2)


async def test_a_call_that_finds_no_place_waits_in_a_short_line_and_not_for_long() -> None:
    release = asyncio.Event()

    async def hold(asked: Asked) -> None:
        await release.wait()
        await upstream.answer(asked)

    async with ruled(
        rules=[{"match": "it/work", "max_concurrent": 1}], limits={"queued": 1, "queue_timeout_s": 0.3}
    ) as (bascule, upstream):  # fmt: skip
        upstream.on["tools/call"] = hold
        first = asyncio.ensure_future(bascule.modern(PATH).call("work", text="1"))
        await until(lambda: _calls(upstream), lambda count: count == 1)
        waiting = [asyncio.ensure_future(bascule.modern(PATH).call("work", text=n)) for n in "23"]
        errors = [failure_of(each) for each in await asyncio.gather(*waiting)]
        assert [each["kind"] for each in errors] == ["overloaded", "overloaded"]
        last = asyncio.ensure_future(bascule.modern(PATH).call("work", text="4"))
        release.set()
        assert (await first)["content"][0]["text"] == "1"
        assert (await last)["content"][0]["text"] == "4"
        assert [each.text for each in upstream.calls("work")] == ["1", "4"]


async def _calls(upstream: Wide) -> int:
    return len(upstream.calls("work"))


async def test_a_contract_bounds_how_long_a_call_may_take() -> None:
    async def never(asked: Asked) -> None:
        await asked.left()

    async with ruled(contracts=[{"tool": "it/work", "max_timeout_seconds": 0.2}]) as (bascule, upstream):
        upstream.on["tools/call"] = never
        error = failure_of(await bascule.modern(PATH).call("work", text="x"))
        assert (error["kind"], error["source"]) == ("timeout", "it")
        assert "0.2 s" in error["message"]


# ---- what is said of calls


@pytest.mark.parametrize("path", ["/mcp", PATH])
async def test_every_result_says_where_it_comes_from_and_under_which_trace(path: str) -> None:
    contract = {"tool": "it/work", "version": "1.4.0", "cost_model": {"price_usd": 0.25}}
    async with ruled(contracts=[contract]) as (bascule, _):
        params = {"name": "it__work" if path == "/mcp" else "work", "arguments": {"text": "x"}}
        for client in await both(bascule, path):
            labels = []
            async with client.open("tools/call", params, headers={"traceparent": PARENT}) as exchange:
                labels.append(label_of((await exchange.last())["result"]))
            if isinstance(client, Modern):
                async with client.open("tools/call", params, meta={"traceparent": PARENT}) as exchange:
                    labels.append(label_of((await exchange.last())["result"]))
            else:
                labels.append(label_of(await client.result("tools/call", {**params, "_meta": {"traceparent": PARENT}})))
            for label in labels:
                took_ms = label.pop("took_ms")
                assert 0 <= took_ms < 5000
                assert label == {
                    "trace_id": TRACE,
                    "source": "it",
                    "version": "1.4.0",
                    "warnings": [],
                    "cost_usd": 0.25,
                    "cached": False,
                    "replayed": False,
                }


async def test_a_refusal_carries_the_trace_and_the_version_too() -> None:
    contract = {"tool": "it/work", "version": "1.4.0", "guardrails": [{"deny": "args.amount > 1"}]}
    async with ruled(contracts=[contract]) as (bascule, _):
        for client in await both(bascule):
            params = {"name": "work", "arguments": {"amount": 2}}
            async with client.open("tools/call", params, headers={"traceparent": PARENT}) as exchange:
                error = failure_of((await exchange.last())["result"])
            assert (error["trace_id"], error["version"], error["source"]) == (TRACE, "1.4.0", "bascule")


async def test_a_label_of_the_servers_own_counts_for_nothing() -> None:
    forged = {"content": [], "_meta": {CALL: {"cost_usd": -5, "source": "bank"}, "their/own": 1}}
    async with ruled(server={"answers": {"work": forged}}) as (bascule, _):
        for client in await both(bascule):
            result = await client.call("work", text="x")
            assert label_of(result)["source"] == "it"
            assert label_of(result)["cost_usd"] is None
            assert result["_meta"]["their/own"] == 1


async def test_a_deprecated_tool_says_so_with_each_result() -> None:
    said = {"sunset": "2027-05-01", "replaced_by": "it/new", "migration": "`source` became required"}
    contract = {"tool": "it/work", "status": "deprecated", "deprecation": said}
    async with ruled(contracts=[contract]) as (bascule, _):
        for client in await both(bascule):
            (warning,) = label_of(await client.call("work", text="x"))["warnings"]
            assert "2027-05-01" in warning
            assert "use it/new: `source` became required" in warning
            (listed,) = (await client.result("tools/list"))["tools"]
            assert listed["_meta"]["dev.bascule/contract"]["status"] == "deprecated"


async def test_what_a_gateway_says_of_a_contract_hides_how_it_is_guarded() -> None:
    contract = {"tool": "it/work", "description": "Works. SIDE EFFECT.", "guardrails": [{"deny": "args.amount > 77"}]}
    async with ruled(contracts=[contract]) as (bascule, _):
        for client in await both(bascule):
            (listed,) = (await client.result("tools/list"))["tools"]
            assert listed["description"] == "Works. SIDE EFFECT."
            assert "77" not in json.dumps(listed)


# ---- contracts that servers declare


@pytest.mark.parametrize("trusted", [True, False])
async def test_only_a_trusted_servers_own_contract_is_believed(trusted: bool) -> None:
    declared: Mapping[str, Any] = {"version": "3.0.0", "guardrails": [{"deny": "args.amount > 5"}]}
    work = tool("work", annotations={"readOnlyHint": True}, _meta={"dev.bascule/contract": declared})
    async with ruled(work, trusted=trusted) as (bascule, upstream):
        result = await bascule.modern(PATH).call("work", amount=6)
        if trusted:
            assert failure_of(result)["kind"] == "guardrail_denied"
            assert failure_of(result)["version"] == "3.0.0"
        else:
            assert label_of(result)["version"] is None
        assert len(upstream.calls("work")) == (0 if trusted else 1)


async def test_a_trusted_servers_contract_that_is_none_withholds_its_tool() -> None:
    work = tool("work", _meta={"dev.bascule/contract": {"guardrials": []}})
    async with ruled(work, tool("other"), trusted=True) as (bascule, _):
        assert names(await bascule.modern(PATH).result("tools/list"), "tools") == ["other"]
        assert "guardrials" in (await bascule.server("it"))["withheld"]["work"]


async def test_a_rule_on_a_uri_holds_for_what_a_template_matches() -> None:
    """The server lists a template alone; the operator's rule names what lies under it."""
    rules = [{"match": "it/x://secret/*", "guardrails": [{"deny": "true", "message": "no"}]}]
    server = {"templates": ["x://{+path}", "x://secret/{file}"]}
    async with ruled(rules=rules, server=server) as (bascule, upstream):
        for path in ("/mcp", PATH):
            for client in await both(bascule, path):
                await client.result("resources/templates/list")
                assert "result" in await client.ask("resources/read", {"uri": "x://open/1"})
                for uri in ("x://secret/1", "x://secret/a/b"):
                    answer = await client.ask("resources/read", {"uri": uri})
                    assert answer["error"]["data"]["kind"] == "guardrail_denied", uri
        read = {each.message["params"]["uri"] for each in upstream.asked("resources/read")}
        assert read == {"x://open/1"}


async def test_the_template_that_says_most_of_a_uri_is_the_one_that_is_meant() -> None:
    known = credentials("few")
    contracts = [{"resource": "it/x://secret/{file}", "security_scope": "vault"}]
    options = {"few": {"scopes": ["it"]}}
    async with (
        wide(modern=True, templates=["x://{+path}", "x://secret/{file}"]) as upstream,
        gateway(
            {"it": remote(upstream.url)},
            callers=known.configured(**options),
            environ=known.environ,
            contracts=contracts,
        ) as bascule,
    ):
        for path in ("/mcp", PATH):
            client = Known(bascule, path, known.of("few"))
            assert names(await client.result("resources/templates/list"), "resourceTemplates") == ["x://{+path}"]
            assert "result" in await client.ask("resources/read", {"uri": "x://open/1"})
            assert "error" in await client.ask("resources/read", {"uri": "x://secret/1"})
        assert {each.message["params"]["uri"] for each in upstream.asked("resources/read")} == {"x://open/1"}


# ---- chains of gateways


@pytest.mark.parametrize("path", ["/mcp", "/servers/inner/mcp"])
async def test_how_deep_a_chain_is_counts_across_two_gateways(path: str) -> None:
    """The inner one lets a call through that came directly, and not one that another gateway has passed on."""
    rule = {"match": "*", "guardrails": [{"max_chain_depth": 0}]}
    counting = {"match": "*", "guardrails": [{"max_chain_depth": 5}]}
    async with (
        ruled(rules=[rule]) as (inner, upstream),
        gateway({"inner": remote(f"{inner.url}{PATH}")}, policy={"rules": [counting]}) as outer,
    ):
        assert "isError" not in await inner.modern(PATH).call("work", text="direct")
        name = "inner__work" if path == "/mcp" else "work"
        for client in await both(outer, path):
            await client.result("tools/list")
            result = await client.call(name, text="through both")
            assert result["isError"]
            assert "passed more than 0 gateways before" in result["content"][0]["text"]
        assert [each.text for each in upstream.calls("work")] == ["direct"]


async def test_what_a_client_says_of_the_depth_only_adds_to_it() -> None:
    rule = {"match": "*", "guardrails": [{"max_chain_depth": 2}]}
    async with ruled(rules=[rule]) as (bascule, upstream):
        said = {"": True, "bascule.depth=2": True, "a=1, bascule.depth=2;x=y": True}
        said |= {"bascule.depth=3": False, "bascule.depth=-1": False, "bascule.depth=1,bascule.depth=9": False}
        for baggage, passes in said.items():
            for carried in ({"meta": {"baggage": baggage}}, {"headers": {"baggage": baggage}}):
                params = {"name": "work", "arguments": {"text": "x"}}
                async with bascule.modern(PATH).open("tools/call", params, **carried) as exchange:
                    assert ("isError" not in (await exchange.last())["result"]) == passes, baggage
        sent = upstream.calls("work")[-1].message["params"]["_meta"]["baggage"]
        assert sent == "a=1,bascule.depth=3"
