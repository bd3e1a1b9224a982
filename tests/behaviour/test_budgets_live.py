"""Money: reserved before a call and settled after it, by what the contract estimates or the server reports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from foreign import Asked
from gateway import Bascule, Json, failure_of, gateway, remote, until
from governed import Known, Wide, configured, credentials, tool, wide

PATH = "/servers/it/mcp"


@asynccontextmanager
async def paying(**members: Any) -> AsyncIterator[tuple[Bascule, Wide, Known, Known]]:
    """A Bascule with two callers, `rich` and `poor`, before a server with one tool."""
    known = credentials("rich", "poor")
    options: dict[str, Json] = {"rich": {"scopes": ["*"]}, "poor": {"scopes": ["*"]}}
    options["poor"] |= {"limits": members.pop("poor", {})}
    async with (
        wide(modern=True, tools=[tool("work")]) as upstream,
        gateway(
            {"it": remote(upstream.url)}, callers=known.configured(**options), environ=known.environ, **members
        ) as bascule,
    ):
        rich, poor = (Known(bascule, PATH, known.of(name)) for name in ("rich", "poor"))
        await rich.result("tools/list")
        yield bascule, upstream, rich, poor


def priced(price_usd: float, **more: Any) -> list[Json]:
    return [{"tool": "it/work", "cost_model": {"price_usd": price_usd, **more}}]


def cost_of(result: Json) -> Any:
    return result["_meta"]["dev.bascule/call"]["cost_usd"]


def warnings_of(result: Json) -> str:
    return " ".join(result["_meta"]["dev.bascule/call"]["warnings"])


def reports(upstream: Wide, **cost: Any) -> None:
    upstream.answers["work"] = {"content": [], "_meta": {"dev.bascule/cost": cost}}


async def test_a_caller_is_warned_when_its_budget_ends_and_then_refused_and_nobody_else_is() -> None:
    poor_limits = {"budget": {"usd": 1.0, "per": "month"}}
    async with paying(contracts=priced(0.25), poor=poor_limits) as (_, upstream, rich, poor):
        results = [await poor.call("work", text="x") for _ in range(4)]
        assert [cost_of(each) for each in results] == [0.25] * 4
        assert ["are spent" in warnings_of(each) for each in results] == [False, False, False, True]
        error = failure_of(await poor.call("work", text="x"))
        assert (error["code"], error["kind"], error["category"]) == (40201, "budget_exceeded", "security")
        details = error["details"]
        assert (details["limit_usd"], details["left_usd"], details["needed_usd"]) == (1.0, 0, 0.25)
        assert details["renews_at"]
        assert not error["retryable"]
        assert "isError" not in await rich.call("work", text="x")
        assert len(upstream.calls("work")) == 5
        async with poor.open(
            "tools/call", {"name": "work", "arguments": {}}, meta={"dev.bascule/errors": "jsonrpc"}
        ) as exchange:
            assert exchange.status == 402


async def test_what_the_server_reports_goes_before_the_estimate() -> None:
    async with paying(contracts=priced(0.25), poor={"budget": {"usd": 1.0, "per": "month"}}) as (_, upstream, _r, poor):
        reports(upstream, usd=0.7)
        assert cost_of(await poor.call("work", text="x")) == 0.7
        reports(upstream, usd=0.05)
        assert cost_of(await poor.call("work", text="x")) == 0.05
        reports(upstream, usd=0)
        assert cost_of(await poor.call("work", text="x")) == 0
        reports(upstream, usd=0.2)
        assert cost_of(await poor.call("work", text="x")) == 0.2  # 0.95 are spent
        assert failure_of(await poor.call("work", text="x"))["kind"] == "budget_exceeded"
        assert len(upstream.calls("work")) == 4


async def test_a_report_that_cannot_be_true_is_not_believed() -> None:
    async with paying(contracts=priced(0.25), poor={"budget": {"usd": 100, "per": "month"}}) as (_, upstream, _r, poor):
        for said in ({"usd": -5}, {"usd": "1"}, {"usd": 1e308}, {}):
            reports(upstream, **said)
            result = await poor.call("work", text="x")
            assert cost_of(result) == 0.25, said
            assert "not believed" in warnings_of(result), said


async def test_a_tool_without_a_price_is_stopped_once_its_reports_have_spent_the_budget() -> None:
    async with paying(poor={"budget": {"usd": 1.0, "per": "month"}}) as (_, upstream, _rich, poor):
        reports(upstream, usd=0.6)
        assert cost_of(await poor.call("work", text="x")) == 0.6
        assert failure_of(await poor.call("work", text="x"))["kind"] == "budget_exceeded"
        assert len(upstream.calls("work")) == 1


async def test_of_many_calls_at_once_no_more_go_than_there_is_money_for() -> None:
    async with paying(contracts=priced(0.1), poor={"budget": {"usd": 1.0, "per": "month"}}) as (_, upstream, _r, poor):
        results = await asyncio.gather(*(poor.call("work", text="x") for _ in range(50)))
        assert sum("isError" not in each for each in results) == 10
        assert len(upstream.calls("work")) == 10


async def test_a_call_that_is_refused_costs_nothing() -> None:
    contracts = [{**priced(1.0)[0], "guardrails": [{"deny": "args.amount > 1"}], "max_concurrent": 1}]
    async with paying(contracts=contracts, poor={"budget": {"usd": 1.0, "per": "month"}}) as (_, upstream, _r, poor):
        for arguments in ({"amount": 2}, {"amount": "x"}, {"amount": 5}):
            assert (await poor.call("work", **arguments))["isError"]
        assert "isError" not in await poor.call("work", amount=1)
        assert len(upstream.calls("work")) == 1


async def test_a_call_that_brought_no_answer_is_paid_for() -> None:
    """The server may have done the work."""

    async def break_off(asked: Asked) -> None:
        asked.reset()

    async with paying(contracts=priced(1.0), poor={"budget": {"usd": 1.0, "per": "month"}}) as (_, upstream, _r, poor):
        upstream.on["tools/call"] = break_off
        assert failure_of(await poor.call("work", text="x"))["category"] == "transient"
        upstream.on.clear()
        assert failure_of(await poor.call("work", text="x"))["kind"] == "budget_exceeded"


async def test_each_session_has_a_budget_of_its_own_and_stateless_calls_have_one_together() -> None:
    async with paying(contracts=priced(0.5), poor={"session_usd": 1.0}) as (bascule, _upstream, _rich, poor):
        for _ in range(2):
            client = await bascule.session(PATH, headers=poor.shown)
            assert ["isError" in await client.call("work", text="x") for _ in range(3)] == [False, False, True]
            error = failure_of(await client.call("work", text="x"))
            assert error["details"]["budget"] == "session"
        assert ["isError" in await poor.call("work", text="x") for _ in range(3)] == [False, False, True]


async def test_what_was_spent_stays_spent_when_the_configuration_changes() -> None:
    async with paying(contracts=priced(0.5), poor={"budget": {"usd": 1.0, "per": "month"}}) as (
        bascule,
        upstream,
        _r,
        poor,
    ):
        assert "isError" not in await poor.call("work", text="x")
        assert bascule.gateway
        callers = {
            "poor": {"keys": ["${env:POOR}"], "scopes": ["*"], "limits": {"budget": {"usd": 0.9, "per": "month"}}}
        }
        environ = {"POOR": poor.shown["authorization"].removeprefix("Bearer ")}  # type: ignore[union-attr]  # it is shown
        changed = configured({"it": remote(upstream.url)}, environ, callers=callers, contracts=priced(0.5))
        await bascule.gateway.reload(changed)
        assert failure_of(await poor.call("work", text="x"))["kind"] == "budget_exceeded"


async def test_money_that_is_reserved_for_a_call_under_way_is_not_there_for_another() -> None:
    release = asyncio.Event()

    async def hold(asked: Asked) -> None:
        await release.wait()
        await upstream.answer(asked)

    async with paying(contracts=priced(0.6), poor={"budget": {"usd": 1.0, "per": "month"}}) as (_, upstream, _r, poor):
        upstream.on["tools/call"] = hold
        first = asyncio.ensure_future(poor.call("work", text="x"))

        async def under_way() -> int:
            return len(upstream.calls("work"))

        await until(under_way, lambda count: count == 1)
        assert failure_of(await poor.call("work", text="x"))["kind"] == "budget_exceeded"
        reports(upstream, usd=0.1)
        release.set()
        assert cost_of(await first) == 0.1
        assert "isError" not in await poor.call("work", text="x")  # it took less than was reserved
