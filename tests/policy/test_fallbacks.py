"""A server stands in only for what promises the same and is guarded the same; circles are found beforehand."""

from typing import Any

import msgspec
import pytest

from bascule.contract.model import ConfirmGate, Contract, CostModel
from bascule.policy.fallbacks import SAME, differences, problems
from bascule.policy.guardrails import Guardrail

HERE = Contract(id="crm/find", input_schema={"type": "object"}, version="1.2.0")
THERE = msgspec.structs.replace(HERE, id="crm_eu/find", description="In Europe.", security_scope=("eu:read",))
OTHER: dict[str, Any] = {
    "kind": "prompt",
    "version": "1.2.1",
    "input_schema": {"type": "object", "required": ["x"]},
    "output_schema": {"type": "object"},
    "side_effect": False,
    "idempotent": True,
    "require_key": True,
    "validate_arguments": "block",
    "validate_results": "warn",
    "confirm_gate": ConfirmGate(when="true"),
    "guardrails": (Guardrail(deny="true"),),
    "cost_model": CostModel(price_usd=1.0),
    "cache_policy": None,
    "status": "deprecated",
}


def test_words_and_scopes_may_differ() -> None:
    assert differences(HERE, THERE) == []


@pytest.mark.parametrize("field", [field for field in SAME if field != "cache_policy"])
def test_a_promise_that_differs_is_another_promise(field: str) -> None:
    assert differences(HERE, msgspec.structs.replace(THERE, **{field: OTHER[field]})) == [field]


def test_a_tool_of_another_name_is_another_tool() -> None:
    assert differences(HERE, msgspec.structs.replace(THERE, id="crm_eu/search")) == ["name"]


@pytest.mark.parametrize(
    ("fallbacks", "wrong"),
    [
        ({"a": "b", "b": None}, {}),
        ({"a": "b", "b": "c", "c": None}, {}),
        ({"a": "a"}, {"a": "a server cannot stand in for itself"}),
        ({"a": "z"}, {"a": "there is no server 'z'"}),
        (
            {"a": "b", "b": "a"},
            {"a": "goes round in a circle: a -> b -> a", "b": "goes round in a circle: b -> a -> b"},
        ),
        (
            {"x": "a", "a": "b", "b": "a"},
            {"a": "goes round in a circle: a -> b -> a", "b": "goes round in a circle: b -> a -> b"},
        ),
    ],
)
def test_what_cannot_be_meant_is_said(fallbacks: dict[str, str | None], wrong: dict[str, str]) -> None:
    assert problems(fallbacks) == wrong
