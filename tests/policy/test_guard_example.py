"""The example of the documentation: an assistant with somebody's mail and calendar, and what becomes of its calls."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from bascule.config import load
from bascule.contract.derive import Sources
from bascule.contract.model import Contract
from bascule.policy.facts import Facts
from bascule.policy.guard import Guard, Verdict, compile_gate, compile_guards

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "guardrails"
CONFIG: Final = load(EXAMPLE / "bascule.yaml", {})
SOURCES: Final = Sources(CONFIG.documents, CONFIG.policy.rules)
CONTRACTS: Final = {id: SOURCES.effective("tool", id, None) for id in SOURCES.ids("tool")}
CASES: Final = msgspec.yaml.decode((EXAMPLE / "cases.yaml").read_bytes())
NOW: Final = datetime(2026, 7, 28, 12, tzinfo=UTC)


def guard(contract: Contract) -> Guard:
    return compile_guards(contract.guardrails, contract.input_schema)


def verdict_of(case: dict[str, Any]) -> Verdict:
    """What the rules say, and where they say nothing the gate."""
    contract = CONTRACTS[case["tool"]]
    known = CONFIG.callers["ann-assistant"]
    caller = {"roles": list(known.roles), "attributes": case.get("attributes", known.attributes)}
    session = {"tool_calls": 0, "depth": 0} | case.get("session", {})
    facts = Facts(case["args"], caller, {"id": contract.id}, session, NOW)
    verdict = guard(contract).judge(facts)
    if verdict.effect != "allow" or contract.confirm_gate is None:
        return verdict
    return compile_gate(contract.confirm_gate.when, contract.confirm_gate.message, contract.input_schema).judge(facts)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["title"])
def test_what_becomes_of_a_call(case: dict[str, Any]) -> None:
    verdict = verdict_of(case)
    assert (verdict.effect, verdict.rule.partition(":")[0]) == (case["expect"], case.get("rule", ""))


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.id)
def test_nothing_in_the_rules_is_odd(contract: Contract) -> None:
    assert contract.guardrails
    assert guard(contract).warnings == ()


def test_every_tool_has_cases_of_both_sorts() -> None:
    for name in CONTRACTS:
        assert len({case["expect"] for case in CASES if case["tool"] == name}) > 1, name


def test_who_may_read_and_write_may_not_delete() -> None:
    (needed,) = CONTRACTS["email/delete_message"].security_scope
    assert needed not in CONFIG.roles["assistant"]
