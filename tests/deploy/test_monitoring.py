"""What watches a gateway asks for what a gateway exposes: the dashboard of Grafana, the alerts of Prometheus."""

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import yaml
from prometheus_client import parser

from bascule.observe import slo
from bascule.observe.exposition import Exposition
from bascule.observe.gauges import Gauges, ServerGauges, SloGauges
from bascule.observe.metrics import BUCKETS_S, CallMetrics
from bascule.observe.slo import Objective
from bascule.policy.outcome import CATEGORIES
from bascule.store.record import Record

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
ALERTS: Final = DEPLOY / "prometheus" / "alerts.yml"
PROMTOOL: Final = shutil.which("promtool")
PROMISED: Final = [
    Objective(tool="crm/find", name=name, target=0.999, window_days=30, limit_s=0.8) for name in ("success", "latency")
]
OF_PROMETHEUS: Final = frozenset({"instance", "job"})  # labels that it adds itself
_NAME: Final = re.compile(r"\b(?:bascule|process)[_:][a-z0-9_:]+")
_BY: Final = re.compile(r"\bby \(([^)]*)\)")
_MATCHED: Final = re.compile(r"(\bbascule_[a-z0-9_]+)\{([^}]*)\}")
_LABEL: Final = re.compile(r'(\w+)(?:=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboard", DEPLOY / "grafana" / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def exposed() -> dict[str, set[str]]:
    """The labels of each metric on the page of a gateway to which everything has happened."""
    calls = CallMetrics()
    calls.count(
        Record(kind="call", at_us=0, method="tools/call", thing="crm/find", server="crm", outcome="answered",
               version="1.0.0", took_us=1, cost_nano_usd=1)
    )  # fmt: skip
    gauges = Gauges(
        turned_away={"unauthenticated": 1},
        servers={"crm": ServerGauges(up=True, restarts=1, circuit_open=False)},
        slos=[SloGauges(tool="crm/find", objective="success", target=0.999, budget_remaining=1.0)],
    )
    _, page = await Exposition().page(calls.read(), gauges, "")
    found: dict[str, set[str]] = {}
    for family in parser.text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    for group in slo.rules(PROMISED, BUCKETS_S)["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                found.setdefault(rule["record"], set()).update(rule["labels"])
    return found


def queries() -> list[tuple[str, str]]:
    """(panel, PromQL) of the dashboard, with what Grafana puts in for its variables."""
    found = []
    for panel in script().dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expr = target["expr"].replace("$__rate_interval", "5m")
            found.append((panel["title"], re.sub(r"\$(server|tool)", ".*", expr)))
    return found


def alerts() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from group["rules"]


def expressions() -> list[tuple[str, str]]:
    return [*queries(), *((rule["alert"], rule["expr"]) for rule in alerts())]


def promtool(*words: str) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- names ---------------------------------------------------------------------------------------


async def test_everything_that_is_asked_for_is_exposed(exposed: dict[str, set[str]]) -> None:
    for place, expr in expressions():
        names = _NAME.findall(expr)
        assert names, f"{place}: asks for nothing of ours"
        assert set(names) <= exposed.keys(), place


async def test_labels_that_are_asked_for_exist(exposed: dict[str, set[str]]) -> None:
    for place, expr in expressions():
        known = set().union(*(exposed[name] for name in _NAME.findall(expr))) | OF_PROMETHEUS
        for names in _BY.findall(expr):
            assert {name.strip() for name in names.split(",")} <= known, place
        for name, matchers in _MATCHED.findall(expr):
            for label, value in _LABEL.findall(matchers):
                assert label in exposed[name] | OF_PROMETHEUS, f"{place}: {name} has no {label}"
                if label == "category":
                    assert set(value.split("|")) <= set(CATEGORIES), place


async def test_every_metric_of_ours_is_somewhere_to_be_seen(exposed: dict[str, set[str]]) -> None:
    seen = {name for _, expr in expressions() for name in _NAME.findall(expr)}
    ours = {
        name for name in exposed if name.startswith("bascule_") and not name.endswith(("_sum", "_count", "_created"))
    }
    assert ours - seen == set()


@needs_promtool
def test_every_query_is_one(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": expr} for number, (_, expr) in enumerate(queries())]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(path))


# ---- the dashboard -------------------------------------------------------------------------------


def test_the_dashboard_is_what_the_script_makes() -> None:
    made, kept = script().text(), (DEPLOY / "grafana" / "bascule.json").read_text(encoding="utf-8")
    assert kept == made, "run: python deploy/grafana/dashboard.py"


def test_panels_fill_the_grid_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads((DEPLOY / "grafana" / "bascule.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert len(taken) == height * 24, "there are gaps"


def test_every_panel_says_what_it_shows() -> None:
    panels = [panel for panel in script().dashboard()["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels) >= 25
    assert all(panel["description"].endswith(".") for panel in panels)


# ---- the alerts ----------------------------------------------------------------------------------


@needs_promtool
def test_the_alerts_are_valid() -> None:
    promtool("check", "rules", str(ALERTS))


@needs_promtool
def test_the_example_of_a_prometheus_is_valid(tmp_path: Path) -> None:
    shutil.copytree(ALERTS.parent, tmp_path / "prometheus")
    (tmp_path / "prometheus" / "bascule-slo.yml").write_text(yaml.safe_dump(slo.rules(PROMISED, BUCKETS_S)))
    promtool("check", "config", str(tmp_path / "prometheus" / "prometheus.yml"))


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in alerts():
        assert rule["alert"].startswith("Bascule")
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}


FINE: Final = {
    'bascule_build_info{version="1"}': "1x60",
    'bascule_upstream_up{server="crm"}': "1x60",
    'bascule_upstream_restarts_total{server="crm"}': "5x60",
    'bascule_circuit_open{server="crm"}': "0x60",
    "bascule_audit_unrecorded_total": "3x60",
    'bascule_calls_total{tool="crm/find",category="internal"}': "7x60",
    "bascule_approvals_pending": "0x60",
    'bascule_definitions_pending{server="crm"}': "0x60",
    "bascule_event_loop_lag_seconds": "0.01x60",
    'bascule_slo_budget_remaining{tool="crm/find",objective="success"}': "0.9x60",
}
TROUBLES: Final = [
    ("BasculeAbsent", {}, 'bascule_build_info{version="1"}', "1x10"),
    ("BasculeServerDown", {"server": "crm"}, 'bascule_upstream_up{server="crm"}', "1x20 0x40"),
    ("BasculeServerRestarts", {"server": "crm"}, 'bascule_upstream_restarts_total{server="crm"}', "0+1x60"),
    ("BasculeCircuitOpen", {"server": "crm"}, 'bascule_circuit_open{server="crm"}', "0x20 1x40"),
    ("BasculeAuditUnrecorded", {}, "bascule_audit_unrecorded_total", "0+2x60"),
    ("BasculeInternalErrors", {}, 'bascule_calls_total{tool="crm/find",category="internal"}', "0+1x60"),
    ("BasculeApprovalsWait", {}, "bascule_approvals_pending", "0x50 2x10"),
    ("BasculeLags", {}, "bascule_event_loop_lag_seconds", "0.2x60"),
    ("BasculeDefinitionsWait", {"server": "crm"}, 'bascule_definitions_pending{server="crm"}', "1x70"),
    ("BasculeBudgetLow", {"tool": "crm/find", "objective": "success"},
     'bascule_slo_budget_remaining{tool="crm/find",objective="success"}', "0.1x60"),
    ("BasculeBudgetSpent", {"tool": "crm/find", "objective": "success"},
     'bascule_slo_budget_remaining{tool="crm/find",objective="success"}', "-0.5x60"),
]  # fmt: skip


def test_each_alert_has_its_trouble() -> None:
    assert sorted(name for name, *_ in TROUBLES) == sorted(rule["alert"] for rule in alerts())


@needs_promtool
@pytest.mark.parametrize(("name", "labels", "series", "values"), TROUBLES, ids=[name for name, *_ in TROUBLES])
def test_an_alert_fires_for_its_trouble_and_for_nothing_else(
    name: str, labels: dict[str, str], series: str, values: str, tmp_path: Path
) -> None:
    at = "60m"
    rules = list(alerts())
    # promtool wants to see the annotations of what fires, too; here it is about what fires.
    for rule in rules:
        del rule["annotations"]
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump({"groups": [{"name": "bascule", "rules": rules}]}))
    expected = [
        {
            "alertname": rule["alert"],
            "eval_time": at,
            "exp_alerts": [{"exp_labels": {**rule["labels"], **labels}}] if rule["alert"] == name else [],
        }
        for rule in rules
    ]
    samples = [{"series": each, "values": said} for each, said in (FINE | {series: values}).items()]
    test = {"rule_files": ["alerts.yml"], "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": samples, "alert_rule_test": expected}]}  # fmt: skip
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(test))
    promtool("test", "rules", str(path))
