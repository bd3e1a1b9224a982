"""`bascule slo`: error budgets of what contracts promise, and rules for Prometheus."""

import json
import shutil
import subprocess
import time
from datetime import date
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml
from command import Done, bascule

from auditing import call
from bascule.contract.model import Document
from bascule.store.audit import Audit
from bascule.store.contracts import By, Contracts
from bascule.store.options import AuditOptions
from bascule.store.record import Record
from bascule.store.usage import Usage
from bascule.store.writer import Writer

PROMTOOL: Final = shutil.which("promtool")
CONFIG: Final = """
state_dir: state
contracts:
  - {tool: crm/create_lead, version: 1.2.0, slo: {success: 99.9, latency_ms: 800}}
policy:
  rules:
    - {match: "crm/find_*", slo: {success: 90, window_days: 7}}
"""


def made(number: int, **fields: Any) -> Record:
    at_us = int((time.time() - 60) * 1_000_000)
    return call(number, **{"at_us": at_us, "version": "1.2.0", "took_us": 1000, **fields})


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    (tmp_path / "bascule.yaml").write_text(CONFIG)
    writer = Writer(tmp_path / "state")
    usage = Usage(writer.path)
    audit = Audit(writer, tmp_path / "state", AuditOptions(), sums=usage)
    writer.start(audit)
    for number in range(200):
        audit.post(made(number, outcome="timeout" if number == 7 else "answered"))
        audit.post(made(number, thing="crm/find_lead"))
    audit.stop()
    writer.close()
    usage.close()
    return tmp_path


def slo(folder: Path, *words: str) -> Done:
    return bascule("slo", *words, cwd=folder)


def test_budgets_say_what_is_promised_what_is_left_and_how_fast_it_goes(folder: Path) -> None:
    done = slo(folder, "budgets")
    assert (done.code, done.err) == (0, "")
    assert [line.split("\t") for line in done.lines] == [
        ["crm/create_lead", "99 % within 800 ms", "30 d", "200", "200", "100.0%", "0.0", "0.0", "ok"],
        ["crm/create_lead", "99.9 %", "30 d", "199", "200", "-400.0%", "5.0", "5.0", "spent"],
        ["crm/find_lead", "90 %", "7 d", "200", "200", "100.0%", "0.0", "0.0", "ok"],
    ]
    found = json.loads(slo(folder, "budgets", "--json").out)["budgets"]
    assert [(each["objective"], each["remaining"], each["limit_ms"]) for each in found] == [
        *(("latency", 1, 800), ("success", -4, None), ("success", 1, None)),
    ]


def test_who_promises_nothing_is_told_how_to(folder: Path) -> None:
    (folder / "bascule.yaml").write_text("state_dir: state\n")
    done = slo(folder, "budgets")
    assert (done.code, done.out) == (0, "")
    assert "slo: {success: 99.9}" in done.err


def test_rules_are_those_of_all_contracts_and_valid(tmp_path: Path) -> None:
    (tmp_path / "bascule.yaml").write_text(CONFIG)
    done = slo(tmp_path, "rules")  # no gateway has ever run here
    assert (done.code, done.err) == (0, "")
    groups = yaml.safe_load(done.out)["groups"]
    assert [group["name"] for group in groups] == [
        *("bascule slo latency crm/create_lead", "bascule slo success crm/create_lead"),
    ]
    assert slo(tmp_path, "rules", "-o", "rules.yml").out == ""
    assert yaml.safe_load((tmp_path / "rules.yml").read_text())["groups"] == groups
    if PROMTOOL is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    checked = subprocess.run([PROMTOOL, "check", "rules", str(tmp_path / "rules.yml")], check=False, timeout=60)
    assert checked.returncode == 0


def test_rules_cover_tools_that_only_a_rule_speaks_of_once_they_were_called(folder: Path) -> None:
    names = [group["name"] for group in yaml.safe_load(slo(folder, "rules").out)["groups"]]
    assert names[-1] == "bascule slo success crm/find_lead"


def test_a_file_that_cannot_be_written_is_named(folder: Path) -> None:
    done = slo(folder, "rules", "-o", "nowhere/rules.yml")
    assert done.code == 2
    assert "nowhere/rules.yml" in done.err


async def test_what_the_registry_promises_counts_as_well(folder: Path) -> None:
    promised = {
        "tool": "crm/delete_lead",
        "version": "1.0.0",
        "owner_team": "sales",
        "owner_email": "s@company.test",
        "slo": {"success": 95},
    }
    writer = Writer(folder / "state")
    writer.start()
    contracts, by = Contracts(writer, None), By("ann", "shell")
    _, row = await contracts.publish(msgspec.convert(promised, Document), by)
    await contracts.submit(row.key, by)
    assert "crm/delete_lead" not in slo(folder, "budgets").out
    await contracts.promote(row.key, by, today=date(2026, 11, 21))
    writer.close()
    assert "crm/delete_lead\t95 %\t30 d\t0\t0\t100.0%\t0.0\t0.0\tok" in slo(folder, "budgets").lines
    assert "bascule slo success crm/delete_lead" in slo(folder, "rules").out
