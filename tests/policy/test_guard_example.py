"""The example of the documentation: an assistant with somebody's mail and calendar, and what becomes of its calls."""

from pathlib import Path
from typing import Final

import pytest
from command import bascule

from bascule.config import load
from bascule.contract.derive import Sources
from bascule.contract.model import Contract
from bascule.policy.guard import compile_guards

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
CONFIG: Final = load(EXAMPLES / "guardrails" / "bascule.yaml", {})
SOURCES: Final = Sources(CONFIG.documents, CONFIG.policy.rules)
CONTRACTS: Final = {id: SOURCES.effective("tool", id, None) for id in SOURCES.ids("tool")}


@pytest.mark.parametrize("example", ["guardrails", "policy"])
def test_each_call_of_an_example_is_decided_as_its_cases_say(example: str) -> None:
    folder = EXAMPLES / example
    done = bascule("policy", "test", str(folder / "cases.yaml"), "-c", str(folder / "bascule.yaml"))
    assert done.code == 0, done.out + done.err


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.id)
def test_nothing_in_the_rules_is_odd(contract: Contract) -> None:
    assert contract.guardrails
    assert compile_guards(contract.guardrails, contract.input_schema).warnings == ()


def test_who_may_read_and_write_may_not_delete() -> None:
    (needed,) = CONTRACTS["email/delete_message"].security_scope
    assert needed not in CONFIG.roles["assistant"]
