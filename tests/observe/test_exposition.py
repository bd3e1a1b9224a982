"""What Prometheus reads is what was counted, in both formats, and passes its own linter."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from bascule.observe.exposition import Exposition, told
from bascule.observe.gauges import Gauges, ServerGauges, SloGauges
from bascule.observe.metrics import CallMetrics, Series
from bascule.store.record import Record

PROMTOOL = shutil.which("promtool")
ODD = 'crm/say "hi"\n\\ \N{SNOWMAN}'
GAUGES = Gauges(
    version="1.2.3",
    in_flight=2,
    sessions=3,
    lag_s=0.25,
    cache_hits=5,
    cache_misses=7,
    approvals_pending=1,
    unrecorded=4,
    turned_away={"unauthenticated": 9},
    servers={"crm": ServerGauges(up=True, restarts=2, circuit_open=False, definitions_pending=6)},
    slos=[SloGauges(tool="crm/find", objective="success", target=0.999, budget_remaining=-0.5)],
)


def calls() -> CallMetrics:
    made = CallMetrics()
    for took_us, outcome in ((800, "answered"), (3000, "answered"), (90_000_000, "timeout"), (10, "scope_denied")):
        record = Record(
            kind="call", at_us=0, method="tools/call", thing=ODD, version="1.0.0", server="crm", outcome=outcome,
            took_us=took_us, cost_nano_usd=2_000_000,
        )  # fmt: skip
        made.count(record)
    return made


async def page(accept: str = "", gauges: Gauges = GAUGES) -> tuple[str, str]:
    kind, body = await Exposition().page(calls().read(), gauges, accept)
    return kind, body.decode()


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_calls_are_told_by_category_with_how_long_they_took() -> None:
    found = samples((await page())[1])
    call = {"method": "tools/call", "tool": ODD, "server": "crm"}
    assert found[of("bascule_calls_total", category="ok", **call)] == 2
    assert found[of("bascule_calls_total", category="transient", **call)] == 1
    assert found[of("bascule_calls_total", category="security", **call)] == 1
    assert found[of("bascule_call_duration_seconds_bucket", le="0.001", **call)] == 1
    assert found[of("bascule_call_duration_seconds_bucket", le="0.005", **call)] == 2
    assert found[of("bascule_call_duration_seconds_bucket", le="60.0", **call)] == 2
    assert found[of("bascule_call_duration_seconds_bucket", le="+Inf", **call)] == 3
    assert found[of("bascule_call_duration_seconds_count", **call)] == 3
    assert found[of("bascule_call_duration_seconds_sum", **call)] == pytest.approx(90.0038)
    assert found[of("bascule_cost_usd_total", tool=ODD)] == pytest.approx(0.008)


async def test_how_things_stand_is_told_under_names_that_dashboards_and_rules_know() -> None:
    found = samples((await page())[1])
    wanted = {
        of("bascule_build_info", version="1.2.3"): 1,
        of("bascule_calls_in_flight"): 2,
        of("bascule_sessions"): 3,
        of("bascule_event_loop_lag_seconds"): 0.25,
        of("bascule_cache_hits_total"): 5,
        of("bascule_cache_misses_total"): 7,
        of("bascule_approvals_pending"): 1,
        of("bascule_audit_unrecorded_total"): 4,
        of("bascule_turned_away_total", kind="unauthenticated"): 9,
        of("bascule_upstream_up", server="crm"): 1,
        of("bascule_upstream_restarts_total", server="crm"): 2,
        of("bascule_circuit_open", server="crm"): 0,
        of("bascule_definitions_pending", server="crm"): 6,
        of("bascule_slo_objective", tool="crm/find", objective="success"): 0.999,
        of("bascule_slo_budget_remaining", tool="crm/find", objective="success"): -0.5,
    }
    assert {name: found.get(name) for name in wanted} == wanted


async def test_the_documentation_names_what_there_is_and_nothing_else() -> None:
    page_of_docs = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")
    said = set(re.findall(r"`(bascule_\w+)`", page_of_docs))
    kinds = re.compile(r"_(bucket|count|sum)$")
    assert said == {kinds.sub("", name) for name, _ in samples((await page())[1]) if name.startswith("bascule_")}


async def test_the_process_tells_of_itself() -> None:
    assert samples((await page())[1])[of("process_resident_memory_bytes")] > 1_000_000


async def test_what_falls_where_it_is_read_does_not_fall_for_prometheus() -> None:
    exposition, seen = Exposition(), []
    for restarts in (3, 5, 1, 2):
        servers = {"crm": ServerGauges(up=True, restarts=restarts, circuit_open=False)}
        _, body = await exposition.page((), Gauges(servers=servers), "")
        seen.append(samples(body.decode())[of("bascule_upstream_restarts_total", server="crm")])
    assert seen == [3, 5, 5, 6]


async def test_openmetrics_is_for_who_asks_for_it() -> None:
    kind, text = await page("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3")
    assert kind.startswith("application/openmetrics-text")
    families = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # it has no types
    assert "bascule_calls" in {family.name for family in families}
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "text/plain;version=x;escaping=\u00ff", "text/html"])
async def test_everybody_else_gets_the_text_format(accept: str) -> None:
    kind, _ = await page(accept)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"


@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6)), max_size=4, unique=True))
def test_whatever_things_are_called_it_can_be_read(labels: list[tuple[str, str, str]]) -> None:
    calls = [(each, Series(calls=[number, *[0] * 8])) for number, each in enumerate(labels, 1)]
    # The parser takes other line ends of Unicode for ends of lines, which Prometheus does not.
    if any(len(text.splitlines()) > 1 or text.endswith(("\r", "\x1c")) for each in labels for text in each):
        return
    found = samples(told(calls, suffix="_total").decode())
    wanted = {
        of("bascule_calls_total", method=method, tool=tool, server=server, category="ok"): number
        for number, (method, tool, server) in enumerate(labels, 1)
    }
    assert {name: value for name, value in found.items() if name[0] == "bascule_calls_total"} == wanted


@pytest.mark.skipif(PROMTOOL is None, reason="promtool of Prometheus is not installed")
async def test_promtool_finds_nothing_to_mend() -> None:
    _, text = await page()
    assert PROMTOOL
    checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)  # noqa: ASYNC221 - nothing else runs
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
