"""What was used and how promises stand, of a real gateway: the same as its audit says, also after it was killed."""

import asyncio
import csv
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from gateway import CALMLY, Bascule, Json, Legacy, local, remote, running, serving, until
from governed import Credentials, Known, Wide, credentials, tool, wide

from auditing import call
from bascule import config as configuration
from bascule.admin import slo, usage
from bascule.app import Gateway
from bascule.contract.model import Contract, Slo
from bascule.errors import InvalidParams
from bascule.observe.slo import Objective, objectives
from bascule.store import usage as sums
from bascule.store.audit import Audit
from bascule.store.options import AuditOptions
from bascule.store.record import Record
from bascule.store.usage import DAY, HOUR, Usage
from bascule.store.writer import Writer

EVER: Final = 4_000_000_000
BEGAN: Final = 1_800_000_000  # when `auditing.call` has its calls
KNOWN: Final = credentials("ann", "bot")
CALLERS: Final = {"ann": {"scopes": ["*"]}, "bot": {"scopes": ["it:read:find"]}}
CONTRACTS: Final[list[Json]] = [
    {"tool": "it/find", "version": "1.2.0", "side_effect": False, "security_scope": "it:read:find",
     "owner_team": "search", "cost_model": {"price_usd": 0.25}, "slo": {"success": 99, "latency_ms": 10_000}},
    {"tool": "it/fail", "version": "2.0.0", "owner_team": "chaos", "slo": {"success": 99.9}},
]  # fmt: skip


# ---- a gateway -----------------------------------------------------------------------------------


@asynccontextmanager
async def used(state: Path, *, server: Wide) -> AsyncIterator[Bascule]:
    """A gateway that keeps its records in *state*."""
    path = state / "bascule.json"
    said = {"servers": {"it": remote(server.url)}, "state_dir": str(state / "kept"), "contracts": CONTRACTS,
            "callers": KNOWN.configured(**CALLERS), **CALMLY}  # fmt: skip
    path.write_text(json.dumps(said))
    config = configuration.load(path, KNOWN.environ)
    async with running(Gateway(config)) as bascule:
        yield bascule


@asynccontextmanager
async def searching() -> AsyncIterator[Wide]:
    failing = {"content": [], "isError": True}
    async with wide(modern=True, tools=[tool("find"), tool("fail")], answers={"fail": failing}) as server:
        yield server


async def work(bascule: Bascule, known: Credentials = KNOWN) -> None:
    """Ten calls: five good ones, two that fail, two of what is not there, and one that may not be."""
    ann, bot = (Known(bascule, "/mcp", known.of(name)) for name in ("ann", "bot"))
    await ann.result("tools/list")
    for _ in range(3):
        await ann.call("it__find", text="x")
    for _ in range(2):
        await bot.call("it__find", text="x")
        await ann.call("it__fail", text="x")
    for name in ("it__made_up_1", "it__made_up_2", "it__fail"):
        await bot.ask("tools/call", {"name": name, "arguments": {}})


async def counted(bascule: Bascule) -> Usage:
    """The sums, with all that was called until now."""
    assert bascule.gateway is not None
    records = bascule.gateway.records
    assert records is not None
    await records.writer.write(lambda connection: None, durable=False)  # what waits for the audit
    while records.usage.behind:
        await records.writer.write(records.usage.flush, durable=False)
    found: Usage = records.usage
    return found


async def test_calls_of_a_gateway_are_counted_by_tool_caller_version_and_what_became_of_them(tmp_path: Path) -> None:
    async with searching() as server, used(tmp_path, server=server) as bascule:
        await work(bascule)
        found = await counted(bascule)
        sums = found.sums(("caller", "thing", "version"), 0, EVER)
        assert {keys: dict(each.categories) for keys, each in sums.items()} == {
            ("ann", "it/find", "1.2.0"): {"ok": 3},
            ("bot", "it/find", "1.2.0"): {"ok": 2},
            ("ann", "it/fail", "2.0.0"): {"failed": 2},
            ("bot", "it/fail", "2.0.0"): {"protocol": 1},  # hidden, and there
            ("bot", "", ""): {"protocol": 2},
        }
        assert found.recount(0, EVER) == []


async def test_names_that_callers_make_up_at_a_server_are_one_line(tmp_path: Path) -> None:
    async with searching() as server, used(tmp_path, server=server) as bascule:
        ann = Known(bascule, "/servers/it/mcp", KNOWN.of("ann"))  # she may do anything there
        for number in range(20):
            await ann.ask("tools/call", {"name": f"made_up_{number}", "arguments": {}})
            await ann.ask("resources/read", {"uri": f"made:///up/{number}"})
        found = await counted(bascule)
        assert set(found.sums(("thing",), 0, EVER)) == {("",)}
        assert found.recount(0, EVER) == []


async def test_a_restart_keeps_the_sums_and_goes_on(tmp_path: Path) -> None:
    async with searching() as server:
        for times in (1, 2, 3):
            async with used(tmp_path, server=server) as bascule:
                await work(bascule)
            found = Usage(tmp_path / "kept" / "bascule.db")
            try:
                assert found.sums((), 0, EVER)[()].calls == 10 * times, "the last seconds, too"
                assert found.recount(0, EVER) == []
            finally:
                found.close()


async def test_a_gateway_that_is_killed_leaves_sums_that_agree_with_its_audit(tmp_path: Path) -> None:
    path = tmp_path / "bascule.json"
    path.write_text(json.dumps({"servers": {"it": local("plain")}, "state_dir": "kept", **CALMLY}))
    database = tmp_path / "kept" / "bascule.db"
    for _ in range(3):
        async with serving(path) as bascule:
            await bascule.up("it")
            session = await bascule.session()
            await asyncio.gather(*(_add(session, number) for number in range(40)))
            await until(bascule.status, lambda said: said["audit"]["queued"] == 0)
            await asyncio.gather(*(_add(session, number) for number in range(40)))
            assert bascule.process is not None
            bascule.process.kill()
            await bascule.process.wait()
        found = Usage(database)
        assert found.recount(0, EVER) == []
        found.close()
    async with serving(path) as bascule:
        await bascule.up("it")
    found = Usage(database)
    assert (found.waiting(), found.recount(0, EVER)) == (0, [])
    entries = found._read("SELECT count(*) FROM audit WHERE kind = 'call' AND thing = 'it/add'")[0][0]
    assert found.sums((), 0, EVER, thing="it/add")[()].calls == entries >= 3 * 40
    found.close()


async def _add(session: Legacy, number: int) -> None:
    await session.call("it__add", id=number, a=number, b=1)


# ---- operations ----------------------------------------------------------------------------------


async def test_operators_see_what_was_used_and_others_do_not(tmp_path: Path) -> None:
    async with searching() as server, used(tmp_path, server=server) as bascule:
        await work(bascule)
        await counted(bascule)
        status, found = await bascule.get("/api/usage?since=1h", KNOWN.of("ann"))
        assert (status, found["calls"], found["errors"], found["error_rate"]) == (200, 10, 5, 0.5)
        assert found["categories"] == {"failed": 2, "ok": 5, "protocol": 3}
        assert [(each["tool"], each["calls"], each["cost_usd"]) for each in found["tools"]] == [
            *(("it/find", 5, 1.25), ("it/fail", 3, 0.0), ("", 2, 0.0)),
        ]
        assert [(each["caller"], each["calls"]) for each in found["callers"]] == [("ann", 5), ("bot", 5)]
        assert sum(each["calls"] for each in found["series"]["points"]) == 10
        assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"] < 10_000
        status, found = await bascule.get("/api/usage?tool=it/find", KNOWN.of("ann"))
        assert [(each["version"], each["calls"]) for each in found["versions"]] == [("1.2.0", 5)]
        status, found = await bascule.get("/api/series?since=2h&step=300&tool=it/fail", KNOWN.of("ann"))
        assert (found["step_s"], sum(each["errors"] for each in found["points"])) == (300, 3)
        assert 24 <= len(found["points"]) <= 26, "steps without calls are there, too"
        for page in ("usage", "series", "slo", "usage/chargeback?month=2026-11"):
            assert (await bascule.get(f"/api/{page}", KNOWN.of("bot")))[0] == 403, page


async def test_the_charge_back_of_this_month_has_every_call_once(tmp_path: Path) -> None:
    month = time.strftime("%Y-%m", time.gmtime())
    async with searching() as server, used(tmp_path, server=server) as bascule:
        await work(bascule)
        await counted(bascule)
        status, found = await bascule.get(f"/api/usage/chargeback?month={month}", KNOWN.of("ann"))
        assert (status, found["month"]) == (200, month)
        rows = [tuple(row[name] for name in usage.CHARGED) for row in found["rows"]]
        assert rows == [
            ("ann", "chaos", "it/fail", "2.0.0", 2, 0.0),
            ("ann", "search", "it/find", "1.2.0", 3, 0.75),
            ("bot", "", "", "", 2, 0.0),
            ("bot", "chaos", "it/fail", "2.0.0", 1, 0.0),
            ("bot", "search", "it/find", "1.2.0", 2, 0.5),
        ]
        assert (await bascule.get("/api/usage/chargeback?month=1999-01", KNOWN.of("ann")))[1]["rows"] == []


@pytest.mark.parametrize(
    "query",
    ["usage?since=yesterday", "usage?since=2h&until=3h", "series?step=7", "series?step=60&since=400d", "series?step=x",
     "usage/chargeback", "usage/chargeback?month=2026-13", "usage/chargeback?month=9999-12",
     "usage?since=0001-01-01&until=0001-01-02"],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused_in_words(query: str, tmp_path: Path) -> None:
    async with searching() as server, used(tmp_path, server=server) as bascule:
        status, found = await bascule.get(f"/api/{query}", KNOWN.of("ann"))
        assert status == 400, found
        assert found["error"]["message"]


async def test_a_tool_that_breaks_its_promise_has_spent_its_budget_and_is_frozen(tmp_path: Path) -> None:
    async with searching() as server, used(tmp_path, server=server) as bascule:
        await work(bascule)
        counts = await counted(bascule)
        _, found = await bascule.get("/api/slo", KNOWN.of("ann"))
        standing = {(each["tool"], each["objective"]): each for each in found["budgets"]}
        assert standing.keys() == {("it/fail", "success"), ("it/find", "success"), ("it/find", "latency")}
        of_fail = standing["it/fail", "success"]
        assert (of_fail["good"], of_fail["total"], of_fail["state"]) == (0, 2, "spent")
        assert (of_fail["remaining"], of_fail["burn_1h"]) == (-999, 1000)
        for name in ("success", "latency"):
            of_find = standing["it/find", name]
            assert (of_find["good"], of_find["total"], of_find["remaining"], of_find["state"]) == (5, 5, 1, "ok")
        assert bascule.gateway is not None
        gateway = bascule.gateway
        budgets = slo.Budgets(counts, lambda: slo.contracts_in(gateway))
        assert (budgets.spent("it/fail"), budgets.spent("it/find"), budgets.spent("it/none")) == (True, False, False)
        assert "0.0000%" in budgets.frozen("it/fail")
        assert budgets.frozen("it/find") == ""
        assert {(each.tool, each.objective, each.budget_remaining) for each in budgets.gauges()} >= {
            ("it/find", "success", 1.0)
        }


# ---- sums that were made by hand -----------------------------------------------------------------


async def filled(state: Path, *records: Record) -> Usage:
    writer = Writer(state)
    counts = Usage(writer.path)
    audit = Audit(writer, state, AuditOptions(), sums=counts)
    writer.start(audit)
    for record in records:
        audit.post(record)
    audit.stop()
    writer.close()
    return counts


def made(number: int, **fields: Any) -> Record:
    return call(number, **{"version": "1.2.0", "took_us": 1000, **fields})


def later(seconds: int) -> int:
    return (BEGAN + seconds) * 1_000_000


@pytest.fixture
async def counts(tmp_path: Path) -> AsyncIterator[Usage]:
    found = await filled(
        tmp_path,
        *(made(n, cost_nano_usd=1) for n in range(30)),
        *(made(n, thing="crm/find_lead", caller="bot", outcome="timeout", took_us=2_000_000) for n in range(10)),
        made(50, thing="crm/gone", version="0.1.0", caller="old"),
    )
    yield found
    found.close()


TEAMS: Final = usage.teams_of([
    Contract(id="crm/create_lead", owner_team="sales"),
    Contract(id="crm/find_lead", owner_team="sales"),
    Contract(id="crm/other"),
])  # fmt: skip


def test_totals_are_by_tool_caller_version_or_team(counts: Usage) -> None:
    def of(by: usage.By, *names: str) -> list[tuple[Any, ...]]:
        return [tuple(row[name] for name in names) for row in usage.totals(counts, by, 0, EVER, TEAMS)]

    assert of("tool", "tool", "calls", "errors", "p50_ms") == [
        ("crm/create_lead", 30, 0, 0.861),
        ("crm/find_lead", 10, 10, 1763.488),
        ("crm/gone", 1, 0, 0.861),
    ]
    assert of("caller", "caller", "calls") == [("agent", 30), ("bot", 10), ("old", 1)]
    assert of("team", "team", "calls", "errors") == [("sales", 40, 10), ("", 1, 0)]
    assert of("version", "tool", "version", "calls") == [
        *(("crm/create_lead", "1.2.0", 30), ("crm/find_lead", "1.2.0", 10), ("crm/gone", "0.1.0", 1)),
    ]


def test_cards_say_how_each_tool_is_used(counts: Usage) -> None:
    cards = usage.cards(counts, 0, EVER)
    assert sorted(cards) == ["crm/create_lead", "crm/find_lead", "crm/gone"]
    assert cards["crm/create_lead"]["cost_usd"] == 30e-9


def test_of_nothing_there_is_an_overview_too(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    counts = Usage(writer.path)
    found = usage.overview(counts, BEGAN, BEGAN + DAY)
    assert (found["calls"], found["error_rate"], found["p99_ms"], found["tools"]) == (0, 0.0, None, [])
    assert len(found["series"]["points"]) == 97
    assert usage.per_tool(counts, "crm/none", BEGAN, BEGAN + DAY)["calls"] == 0
    counts.close()
    writer.close()


@pytest.mark.parametrize(
    ("ago_s", "long_s", "step_s"),
    [(HOUR, HOUR, 60), (DAY, DAY, 900), (7 * DAY, 7 * DAY, 6 * HOUR), (7 * DAY, HOUR, HOUR),
     (30 * DAY, 30 * DAY, 6 * HOUR), (100 * DAY, 100 * DAY, DAY), (400 * DAY, 400 * DAY, 7 * DAY)],
)  # fmt: skip
def test_a_step_fits_the_time_and_what_is_kept_of_it(ago_s: int, long_s: int, step_s: int) -> None:
    since_s = time.time() - ago_s + 1
    assert usage.step_for(since_s, since_s + long_s) == step_s


MONTHS: Final[list[tuple[str, tuple[int, int]]]] = [
    ("2026-11", (1_793_491_200, 1_796_083_200)),
    ("2026-12", (1_796_083_200, 1_798_761_600)),
    ("2028-02", (1_832_976_000, 1_835_481_600)),
]


@pytest.mark.parametrize(("text", "begins_ends"), MONTHS)
def test_a_month_is_that_of_utc(text: str, begins_ends: tuple[int, int]) -> None:
    assert usage.month_of(text) == begins_ends


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-1", "2026-13", "2026-00", "1969-12", "9999-12", "20261-1", "x" * 99]
)
def test_what_is_no_month_is_said(text: str) -> None:
    with pytest.raises(InvalidParams, match="no month"):
        usage.month_of(text)


WRONG_TIMES: Final[list[Callable[[], object]]] = [
    lambda: usage.moment_of("soon", 0),
    lambda: usage.moment_of("99999999d", 0),
    lambda: usage.moment_of("10000-01-01", 0),
    lambda: usage.time_of("1h", "2h", EVER, 0),
    lambda: usage.time_of("1970-01-01", "1970-01-02", EVER, 5 * DAY),
]


@pytest.mark.parametrize("wrong", WRONG_TIMES)
def test_what_is_no_time_is_said(wrong: Callable[[], object]) -> None:
    with pytest.raises(InvalidParams):
        wrong()


def test_times_are_read_as_people_write_them() -> None:
    now_s = 1_800_000_000.0
    assert usage.moment_of("90m", now_s) == now_s - 5400
    assert usage.moment_of("999999d", now_s) == 0
    assert usage.moment_of("2027-01-15", now_s) == usage.moment_of("2027-01-15T01:00+01:00", now_s)
    assert usage.time_of("2h", "1h", now_s, 0) == (now_s - 7200, now_s - 3600)
    assert usage.time_of("1970-01-01", "2099-01-01", now_s, 7.0) == (7.0, now_s)


async def test_a_charge_back_that_a_spreadsheet_opens_runs_nothing_and_loses_no_digit(tmp_path: Path) -> None:
    nasty = "=cmd|' /C calc'!A0,\"x\"\nforged"
    counts = await filled(
        tmp_path,
        made(1, caller=nasty, cost_nano_usd=10_000_000_000_000),
        made(2, caller=nasty, cost_nano_usd=1),
        made(3, caller="-1+1"),
    )
    text = usage.charge_back_csv(usage.charge_back(counts, "2027-01", {"crm/create_lead": "+team"}))
    counts.close()
    head, *rows = csv.reader(io.StringIO(text))
    assert head == list(usage.CHARGED)
    assert rows == [
        ["'-1+1", "'+team", "crm/create_lead", "1.2.0", "1", "0"],
        ["'=cmd|' /C calc'!A0,\"x\"\\u000aforged", "'+team", "crm/create_lead", "1.2.0", "2", "10000.000000001"],
    ]


async def test_months_that_are_kept_by_the_day_are_charged_as_they_were(tmp_path: Path) -> None:
    begins, ends = usage.month_of("2027-01")
    inside = [made(n, at_us=at * 1_000_000, cost_nano_usd=5) for n, at in enumerate((begins, ends - 1))]
    outside = [made(9, at_us=at * 1_000_000) for at in (begins - 1, ends)]
    counts = await filled(tmp_path, *inside, *outside)
    writer = Writer(tmp_path)
    writer.start()
    for now_s in (ends, ends + 3 * DAY, ends + 200 * DAY):
        await counts.sweep(writer, now_s)
        rows = usage.charge_back(counts, "2027-01", {})
        assert [(row["calls"], row["cost_nano_usd"]) for row in rows] == [(2, 10)]
    writer.close()
    counts.close()


async def test_what_somebody_changed_is_summed_anew(tmp_path: Path) -> None:
    counts = await filled(tmp_path, *(made(n, at_us=later(n * HOUR)) for n in range(60)))
    writer = Writer(tmp_path)
    writer.start()
    await writer.write(lambda connection: connection.execute("UPDATE usage SET calls = calls + 1"), durable=True)
    writer.close()
    assert usage.recount(counts, 0, EVER, BEGAN + 4 * DAY)
    assert await usage.rebuild(tmp_path, 0, EVER, BEGAN + 4 * DAY) == 60
    assert usage.recount(counts, 0, EVER, BEGAN + 4 * DAY) == []
    assert usage.recount(counts, 0, EVER, BEGAN + 900 * DAY) == [], "what is not kept is no difference"
    counts.close()


# ---- promises ------------------------------------------------------------------------------------


def promise(**fields: Any) -> Objective:
    return Objective(**{"tool": "crm/create_lead", "name": "success", "target": 0.9, "window_days": 30, **fields})


async def test_each_window_has_its_own_calls(tmp_path: Path) -> None:
    now_s = BEGAN + 20 * DAY
    counts = await filled(
        tmp_path,
        *(made(n, at_us=later(n)) for n in range(80)),  # long ago
        *(made(n, at_us=(now_s - 2 * HOUR) * 1_000_000, outcome="timeout") for n in range(4)),
        *(made(n, at_us=(now_s - 120) * 1_000_000, outcome="timeout") for n in range(1)),
        *(made(n, at_us=(now_s - 120) * 1_000_000, outcome="scope_denied") for n in range(99)),
    )
    (month,) = slo.standings(counts, [promise()], now_s)
    assert (month.window.good, month.window.total, month.state) == (80, 85, "burning")
    assert month.remaining == pytest.approx(1 - 5 / 85 / 0.1)
    (week,) = slo.standings(counts, [promise(window_days=7, target=0.5)], now_s)
    assert (week.window.good, week.window.total, week.state) == (0, 5, "spent")
    assert (week.burn_1h, week.burn_6h) == (2, 2)
    counts.close()


async def test_calls_that_take_too_long_spend_the_budget_of_latency(tmp_path: Path) -> None:
    counts = await filled(
        tmp_path,
        *(made(n, took_us=100_000) for n in range(90)),
        *(made(n, took_us=3_000_000, outcome="timeout") for n in range(10)),
        *(made(n, took_us=10, outcome="scope_denied") for n in range(100)),  # which say nothing of the tool
    )
    latency = promise(name="latency", target=0.95, limit_s=1.0)
    (found,) = slo.standings(counts, [latency], BEGAN + 60)
    assert (found.window.good, found.window.total, found.state) == (90, 100, "spent")
    assert slo.report(found)["limit_ms"] == 1000
    counts.close()


async def test_budgets_are_looked_at_once_a_minute(tmp_path: Path) -> None:
    counts = await filled(tmp_path, made(1, outcome="failed"))
    now = [float(BEGAN + 60)]
    asked: list[float] = []

    def contracts() -> list[Contract]:
        asked.append(now[0])
        return [Contract(id="crm/create_lead", slo=Slo(success=99))]

    budgets = slo.Budgets(counts, contracts, clock=lambda: now[0])
    assert [each.state for each in budgets.read()] == ["spent"]
    now[0] += 59
    assert budgets.spent("crm/create_lead")
    assert len(asked) == 1
    now[0] += 2
    budgets.gauges()
    assert len(asked) == 2
    now[0] -= 3600  # the clock was set
    budgets.read()
    assert len(asked) == 3
    counts.close()


def test_promises_come_from_contracts_and_from_rules(tmp_path: Path) -> None:
    path = tmp_path / "bascule.json"
    rules = [{"match": "crm/*", "slo": {"success": 95}}]
    path.write_text(json.dumps({"contracts": CONTRACTS, "policy": {"rules": rules}}))
    config = configuration.load(path, {"XDG_STATE_HOME": str(tmp_path)})
    found = objectives(slo.contracts_of(config, ["crm/find", "it/find", "other/tool", ""]))
    assert [(each.tool, each.name, each.target) for each in found] == [
        ("crm/find", "success", 0.95),
        ("it/fail", "success", 0.999),
        ("it/find", "latency", 0.99),
        ("it/find", "success", 0.99),
    ]


def test_nothing_promised_is_nothing_looked_at(tmp_path: Path) -> None:
    nowhere = Usage(tmp_path / "none")
    assert slo.standings(nowhere, [], BEGAN) == []
    assert sums.KEPT_DAYS > 30
