"""Error budgets, burn rates, and the rules for Prometheus that watch them."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bascule.contract.model import Contract, Slo
from bascule.observe import slo
from bascule.observe.metrics import BUCKETS_S
from bascule.observe.slo import BAD, DAY_S, GOOD, HOUR_S, Counts, Objective
from bascule.policy.outcome import CATEGORIES, UNTIMED

PROMTOOL: Final = shutil.which("promtool")
SUCCESS: Final = Objective(tool="crm/create_lead", name="success", target=0.999, window_days=30)
LATENCY: Final = Objective(tool="crm/create_lead", name="latency", target=0.99, window_days=30, limit_s=0.8)

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")


# ---- what is promised ----------------------------------------------------------------------------


def test_a_contract_promises_what_its_slo_says() -> None:
    both = Slo(success=99.9, latency_ms=800, latency_percent=95, window_days=7)
    contracts = [
        Contract(id="crm/find_lead", slo=Slo(success=99.0)),
        Contract(id="crm/create_lead", slo=both),
        Contract(id="crm/delete_lead"),
        Contract(id="crm/create_lead", slo=Slo(success=50.0)),  # of another version
    ]
    assert slo.objectives(contracts) == [
        Objective(tool="crm/create_lead", name="latency", target=0.95, window_days=7, limit_s=0.8),
        Objective(tool="crm/create_lead", name="success", target=0.999, window_days=7),
        Objective(tool="crm/find_lead", name="success", target=0.99, window_days=30),
    ]


def test_each_way_that_a_call_ends_is_good_or_bad_or_says_nothing_of_the_tool() -> None:
    assert set(CATEGORIES) == GOOD | BAD | UNTIMED
    assert not (GOOD | BAD) & UNTIMED, "what has no time counts for no promise at all"


def test_what_callers_do_wrong_costs_no_tool_its_budget() -> None:
    counted = {"ok": 90, "failed": 1, "refused": 2, "transient": 3, "internal": 4, "client": 50, "security": 60}
    assert slo.succeeded(counted) == Counts(90, 100)
    assert slo.succeeded({}) == Counts(0, 0)


# ---- budgets -------------------------------------------------------------------------------------


def test_a_budget_is_spent_by_bad_calls() -> None:
    assert slo.remaining(SUCCESS, Counts(1000, 1000)) == 1
    assert slo.remaining(SUCCESS, Counts(9995, 10_000)) == pytest.approx(0.5)
    assert slo.remaining(SUCCESS, Counts(999, 1000)) == pytest.approx(0, abs=1e-9)
    assert slo.remaining(SUCCESS, Counts(98, 100)) == pytest.approx(-19)
    assert slo.remaining(SUCCESS, Counts()) == 1


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.01, 99.99))
def test_more_bad_calls_leave_less(good: int, bad: int, percent: float) -> None:
    objective = Objective(tool="t", name="success", target=percent / 100, window_days=30)
    fewer, more = Counts(good, good + bad), Counts(good, good + bad + 1)
    assert slo.remaining(objective, more) <= slo.remaining(objective, fewer) <= 1
    assert slo.burn(objective, more) >= slo.burn(objective, fewer) >= 0
    assert slo.remaining(objective, more) == pytest.approx(1 - slo.burn(objective, more))


def test_a_tool_burns_when_both_a_long_and_a_short_window_do() -> None:
    fine, window = Counts(1000, 1000), Counts(9999, 10_000)
    bad = Counts(98, 100)  # twenty times as fast as it may
    recent = {300: fine, 1800: fine, HOUR_S: fine, 6 * HOUR_S: fine}
    assert slo.state(SUCCESS, window, recent) == "ok"
    assert slo.state(SUCCESS, window, {**recent, HOUR_S: bad}) == "ok", "it is over"
    assert slo.state(SUCCESS, window, {**recent, 300: bad}) == "ok", "it is too short to matter"
    assert slo.state(SUCCESS, window, {**recent, HOUR_S: bad, 300: bad}) == "burning"
    assert slo.state(SUCCESS, window, {**recent, 6 * HOUR_S: Counts(993, 1000), 1800: bad}) == "burning"
    assert slo.state(SUCCESS, Counts(998, 1000), recent) == "spent"


# ---- rules ---------------------------------------------------------------------------------------


def checked(path: Path, *words: str) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *words, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def written(folder: Path, promised: Sequence[Objective]) -> Path:
    path = folder / "rules.yml"
    path.write_text(yaml.safe_dump(slo.rules(promised, BUCKETS_S), allow_unicode=True))
    return path


def samples(tool: str, values: dict[str, str]) -> list[dict[str, str]]:
    """Series of calls by category, in the notation of promtool."""
    name = tool.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return [
        {"series": f'bascule_calls_total{{tool="{name}",method="tools/call",server="crm",category="{each}"}}',
         "values": said}
        for each, said in values.items()
    ]  # fmt: skip


def took(tool: str, values: dict[str, str]) -> list[dict[str, str]]:
    """Series of durations: buckets as prometheus_client writes them."""
    labels = f'tool="{tool}",method="tools/call",server="crm"'
    last = {"+Inf": values["+Inf"]}
    buckets = [
        {"series": f'bascule_call_duration_seconds_bucket{{{labels},le="{le}"}}', "values": said}
        for le, said in (values | last).items()
    ]
    return [*buckets, {"series": f"bascule_call_duration_seconds_count{{{labels}}}", "values": last["+Inf"]}]


def unit(folder: Path, promised: Sequence[Objective], series: list[dict[str, str]], **said: Any) -> None:
    """Have promtool run the rules over *series*, a value a minute, and see what it says."""
    rules = written(folder, promised)
    checked(rules, "check", "rules")
    test = {"rule_files": [str(rules)], "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": series, **said}]}  # fmt: skip
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump(test, allow_unicode=True))
    checked(path, "test", "rules")


def firing(name: str, at: str, *objectives: Objective) -> dict[str, Any]:
    """What promtool has to see of an alert; of annotations it looks at all or none."""
    alert = next(each for each in slo.ALERTS if each.name == name)
    return {
        "alertname": name,
        "eval_time": at,
        "exp_alerts": [
            {"exp_labels": {"severity": alert.severity, "tool": each.tool, "objective": each.name},
             "exp_annotations": annotations(each, name)} for each in objectives
        ],
    }  # fmt: skip


def annotations(objective: Objective, name: str) -> dict[str, str]:
    found = next(
        rule["annotations"]
        for group in slo.rules([objective], BUCKETS_S)["groups"]
        for rule in group["rules"]
        if rule.get("alert") == name
    )
    filled = {"{{ $labels.tool }}": objective.tool, "{{ $labels.objective }}": objective.name,
              "{{ $value | humanizePercentage }}": "5%"}  # fmt: skip
    texts: dict[str, str] = {}
    for key, text in found.items():
        for hole, value in filled.items():
            text = text.replace(hole, value)
        texts[key] = text
    return texts


@needs_promtool
def test_rules_are_valid_whatever_a_tool_is_called(tmp_path: Path) -> None:
    tools = [
        'crm/"quoted"',
        "crm/back\\slash",
        "crm/{{ $labels.x }}",
        "crm/new\nline",
        "crm/ünï",
        "crm/`tick`",
        "crm/a}",
    ]
    names_of: tuple[slo.Name, ...] = ("success", "latency")
    for number, (days, limit_s) in enumerate(((30, 0.8), (1, 0.0001), (3, 1.0), (30, 60.0), (30, 3600.0))):
        promised = [
            Objective(tool=tool, name=name, target=0.999, window_days=days, limit_s=limit_s)
            for tool in tools
            for name in names_of
        ]
        folder = tmp_path / str(number)
        folder.mkdir()
        checked(written(folder, promised), "check", "rules")


@needs_promtool
def test_no_promises_are_no_rules(tmp_path: Path) -> None:
    checked(written(tmp_path, []), "check", "rules")


@needs_promtool
def test_a_tool_that_fails_a_lot_pages_somebody_and_one_that_works_does_not(tmp_path: Path) -> None:
    good = Objective(tool="crm/find_lead", name="success", target=0.999, window_days=30)
    series = [
        *samples(
            SUCCESS.tool, {"ok": "0+95x120", "failed": "0+3x120", "transient": "0+2x120", "security": "0+500x120"}
        ),
        *samples(good.tool, {"ok": "0+1000x120", "client": "0+1000x120", "protocol": "0+900x120"}),
    ]
    unit(
        tmp_path,
        [SUCCESS, good],
        series,
        promql_expr_test=[
            # Prometheus adds the series up in any order, and the last digit is another each time.
            {"expr": 'round(bascule:slo_bad_ratio:rate1h{tool="crm/create_lead"}, 0.0001)', "eval_time": "100m",
             "exp_samples": [{"labels": '{tool="crm/create_lead",objective="success"}', "value": 0.05}]},
            {"expr": 'bascule:slo_bad_ratio:rate5m{tool="crm/find_lead"}', "eval_time": "100m", "exp_samples": [
                {"labels": 'bascule:slo_bad_ratio:rate5m{tool="crm/find_lead",objective="success"}', "value": 0}]},
        ],
        alert_rule_test=[firing("BasculeSloBurnsFast", "100m", SUCCESS)],
    )  # fmt: skip


@needs_promtool
def test_who_stops_failing_stops_paging_at_once(tmp_path: Path) -> None:
    series = samples(SUCCESS.tool, {"ok": "0+95x180", "failed": "0+5x60 300+0x120"})
    unit(
        tmp_path,
        [SUCCESS],
        series,
        alert_rule_test=[firing("BasculeSloBurnsFast", "60m", SUCCESS), firing("BasculeSloBurnsFast", "100m")],
    )


@needs_promtool
def test_a_slow_burn_is_a_ticket_and_no_page(tmp_path: Path) -> None:
    four_times = Objective(tool=SUCCESS.tool, name="success", target=0.9875, window_days=30)
    series = samples(SUCCESS.tool, {"ok": "0+95x2000", "failed": "0+5x2000"})
    unit(
        tmp_path,
        [four_times],
        series,
        alert_rule_test=[firing("BasculeSloBurns", "1600m", four_times), firing("BasculeSloBurnsFast", "1600m")],
    )


@needs_promtool
def test_between_two_bounds_a_part_of_the_calls_counts_as_fast_enough(tmp_path: Path) -> None:
    # 80 of 100 within 0.5 s, 90 within 1 s: by 0.8 s it were 86.
    series = took(LATENCY.tool, {"0.5": "0+80x60", "1.0": "0+90x60", "+Inf": "0+100x60"})
    whole = Objective(tool="crm/other", name="latency", target=0.99, window_days=30, limit_s=1.0)
    series += took(whole.tool, {"0.5": "0+80x60", "1": "0+90x60", "+Inf": "0+100x60"})
    name = "bascule:slo_bad_ratio:rate5m"
    unit(
        tmp_path,
        [LATENCY, whole],
        series,
        promql_expr_test=[
            {"expr": f"round({name}, 0.0001)", "eval_time": "50m", "exp_samples": [
                {"labels": '{tool="crm/create_lead",objective="latency"}', "value": 0.14},
                {"labels": '{tool="crm/other",objective="latency"}', "value": 0.1}]},
        ],
    )  # fmt: skip


@needs_promtool
def test_a_tool_that_nobody_calls_wakes_nobody(tmp_path: Path) -> None:
    series = [*samples(SUCCESS.tool, {"ok": "5x600", "failed": "3x600"}), *took(SUCCESS.tool, {"+Inf": "7x600"})]
    nobody = [firing(alert.name, "500m") for alert in slo.ALERTS]
    unit(tmp_path, [SUCCESS, LATENCY], series, alert_rule_test=nobody)
    unit(tmp_path, [SUCCESS, LATENCY], [], alert_rule_test=nobody)


def each_rule(promised: Sequence[Objective]) -> Iterator[dict[str, Any]]:
    for group in slo.rules(promised, BUCKETS_S)["groups"]:
        yield from group["rules"]


def test_windows_longer_than_that_of_the_promise_are_not_watched() -> None:
    day = Objective(tool="t", name="success", target=0.99, window_days=1)
    names = [rule.get("record") or rule["alert"] for rule in each_rule([day])]
    assert names == [
        *(f"bascule:slo_bad_ratio:rate{span}" for span in ("5m", "30m", "1h", "2h", "6h", "1d")),
        *("BasculeSloBurnsFast", "BasculeSloBurns"),
    ]
    ticket = list(each_rule([day]))[-1]["expr"]
    assert "rate3d" not in ticket
    assert "rate1d" in ticket


def test_alerts_burn_as_fast_as_the_workbook_says() -> None:
    pairs = [(pair.long_s, pair.short_s, pair.rate) for alert in slo.ALERTS for pair in alert.pairs]
    assert pairs == [
        (HOUR_S, 300, 14.4), (6 * HOUR_S, 1800, 6), (DAY_S, 2 * HOUR_S, 3), (3 * DAY_S, 6 * HOUR_S, 1)
    ]  # fmt: skip
    for long_s, short_s, _ in pairs:
        assert long_s == 12 * short_s
