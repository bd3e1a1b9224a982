"""What became of a contract: a golden case for each kind of change, and what holds for all of them."""

import copy
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.contract.derive import Sources
from bascule.contract.diff import Verdict, diff, verdicts
from bascule.contract.keywords import is_schema
from bascule.contract.model import Contract, Document
from bascule.contract.semver import Step

LEAD: dict[str, Any] = {
    "tool": "crm/create_lead",
    "version": "1.2.0",
    "description": "Creates a lead.",
    "input_schema": {
        "type": "object",
        "properties": {
            "email": {"type": "string", "description": "Its address"},
            "value": {"type": "number", "maximum": 1000, "default": 1},
            "source": {"enum": ["web", "fair"]},
        },
        "required": ["email"],
    },
    "output_schema": {
        "type": "object",
        "properties": {"id": {"type": "string"}, "note": {"type": "string"}},
        "required": ["id"],
    },
    "side_effect": True,
    "security_scope": "crm:write:lead",
    "max_timeout_seconds": 30,
    "rate_limit": "100/minute",
    "guardrails": [{"deny": "args.email == 'x'", "message": "No x"}],
    "cost_model": {"price_usd": 0.1},
    "latency_budget_ms": 500,
}


def contract(document: dict[str, Any]) -> Contract:
    found = msgspec.convert(document, Document)
    return Sources([("file:1", found)]).effective(found.kind, found.id, None)


def changed(path: str, value: Any) -> dict[str, Any]:
    """LEAD with another value at a dotted path; None takes it away."""
    document = copy.deepcopy(LEAD)
    *way, last = path.split("/")
    place = document
    for step in way:
        place = place[step]
    if value is None:
        place.pop(last)
    else:
        place[last] = value
    return document


IN, OUT = "input_schema/properties", "output_schema/properties"


@pytest.mark.parametrize(
    ("path", "value", "step", "reason"),
    [
        # arguments
        ("input_schema/required", ["email", "source"], Step.MAJOR, "`source` became required"),
        ("input_schema/required", None, Step.MINOR, "`email` is no longer required"),
        (f"{IN}/phone", {"type": "string"}, Step.MINOR, "`phone` is new, and may be left out"),
        (f"{IN}/source", None, Step.MAJOR, "`source` was taken, and is no longer"),
        ("input_schema/additionalProperties", False, Step.MAJOR, "properties that are not declared are refused now"),
        (f"{IN}/email/type", "integer", Step.MAJOR, '`type` is "integer", and was "string", which is narrower'),
        (f"{IN}/email/type", ["string", "null"], Step.MINOR, "which is wider"),
        (f"{IN}/email/format", "email", Step.MAJOR, '`format` is "email" now, which is narrower'),
        (f"{IN}/value/maximum", 100, Step.MAJOR, "`maximum` is 100, and was 1000, which is narrower"),
        (f"{IN}/value/maximum", 9000, Step.MINOR, "`maximum` is 9000, and was 1000, which is wider"),
        (f"{IN}/value/default", 2, Step.MAJOR, "what `value` is when it is left out is 2 now, and was 1"),
        (f"{IN}/source/enum", ["web"], Step.MAJOR, '"fair" is no longer one of its values'),
        (f"{IN}/source/enum", ["web", "fair", "tv"], Step.MINOR, '"tv" is new among its values'),
        (f"{IN}/email/description", "Its e-mail address", Step.PATCH, "description of `email` changed"),
        (f"{IN}/email/deprecated", True, Step.MINOR, "`email` is deprecated"),
        ("input_schema/$comment", "x", Step.PATCH, "it is written differently, and means the same"),
        ("input_schema/type", "thing", Step.MAJOR, "the new one is not a JSON Schema"),
        ("input_schema", None, Step.MAJOR, "is left to the server now"),
        # results
        (f"{OUT}/url", {"type": "string"}, Step.MINOR, "`url` is new in results"),
        (f"{OUT}/note", None, Step.MINOR, "`note` was optional in results, and is no longer in them"),
        ("output_schema/required", ["id", "note"], Step.MINOR, "`note` is always in results now"),
        ("output_schema/required", None, Step.MAJOR, "`id` may be missing from results now"),
        (f"{OUT}/id/type", ["string", "null"], Step.MAJOR, "which is wider"),
        (f"{OUT}/id/maxLength", 9, Step.MINOR, "which is narrower"),
        ("output_schema", None, Step.MAJOR, "it says no longer what its results look like"),
        # effects
        ("side_effect", False, Step.MINOR, "it has no side effect any more"),
        ("idempotent", True, Step.MINOR, "it is idempotent now"),
        ("require_key", True, Step.MAJOR, "calls without an idempotency key are refused now"),
        ("confirm_gate", True, Step.MAJOR, "a person has to confirm it now"),
        # who may, how often, how long
        ("security_scope", "crm:write:lead:big", Step.MINOR, "crm:write:lead:big is enough now"),
        ("security_scope", "crm:write", Step.MAJOR, "callers need crm:write now"),
        ("security_scope", ["crm:write:lead", "crm:read"], Step.MAJOR, "callers need crm:read now"),
        ("rate_limit", "10/minute", Step.MINOR, "a caller may make 10 in 60 s, and before 100 in 60 s"),
        ("max_timeout_seconds", 10, Step.MAJOR, "a call may take 10 s, and could take 30"),
        ("max_timeout_seconds", 60, Step.MINOR, "a call may take 60 s, and could take 30"),
        ("max_concurrent", 2, Step.MINOR, "2 calls at once"),
        ("validate_arguments", "warn", Step.MINOR, "arguments that do not fit the schema are warned of now"),
        # rules
        ("guardrails", [], Step.MINOR, "a rule is gone: deny args.email == 'x'"),
        ("guardrails", [*LEAD["guardrails"], {"max_per_session": 3}], Step.MAJOR, "a new rule: max_per_session 3"),
        ("guardrails", [*LEAD["guardrails"], {"warn": "true"}], Step.MINOR, "a new rule: warn true"),
        ("guardrails", [{"deny": "args.email == 'x'", "message": "x!"}], Step.PATCH, "what callers are told"),
        # promises, and the end
        ("latency_budget_ms", 900, Step.MINOR, "its latency is 900 ms, and was 500 ms"),
        ("latency_budget_ms", 100, Step.PATCH, "its latency is 100 ms, and was 500 ms"),
        ("cost_model", {"price_usd": 0.2}, Step.MINOR, "it costs 0.2 USD a call, and did 0.1 USD a call"),
        ("slo", {"success": 99.0}, Step.MINOR, "what is promised"),
        ("status", "deprecated", Step.MINOR, "it is deprecated now, and was active"),
        ("status", "gone", Step.MAJOR, "it is gone now, and was active"),
        ("deprecation", {"sunset": "2030-01-01"}, Step.MINOR, "it is gone after 2030-01-01"),
        ("description", "Makes a lead.", Step.PATCH, "the description changed"),
        ("owner_team", "sales", Step.PATCH, "owner_team changed"),
    ],
)
def test_a_change_has_its_step_and_its_reason(path: str, value: Any, step: Step, reason: str) -> None:
    found = diff(contract(LEAD), contract(changed(path, value)))
    assert found
    assert found[0].step is step
    assert any(reason in change.reason for change in found), [change.reason for change in found]


def test_what_was_let_in_by_a_change_is_shut_out_by_its_reverse() -> None:
    assert diff(contract(changed("side_effect", False)), contract(LEAD))[0].step is Step.MAJOR
    assert diff(contract(changed("idempotent", True)), contract(LEAD))[0].step is Step.MAJOR
    assert diff(contract(changed("validate_arguments", "off")), contract(LEAD))[0].step is Step.MAJOR


def test_calls_that_a_cache_no_longer_tells_apart_are_a_major_change() -> None:
    def cached(*fields: str, ttl: int = 60) -> Contract:
        return contract({"tool": "a/get_b", "cache_policy": {"ttl_seconds": ttl, "cache_key_fields": list(fields)}})

    assert diff(cached("x", "y"), cached("x"))[0].step is Step.MAJOR
    assert diff(cached(), cached("x"))[0].step is Step.MAJOR
    assert diff(cached("x"), cached("x", "y"))[0].step is Step.PATCH
    assert diff(cached("x"), cached("x", ttl=90))[0].step is Step.MINOR


def test_the_condition_of_a_gate_may_only_be_added_where_it_always_asked() -> None:
    def gated(gate: Any) -> Contract:
        return contract({"tool": "a/b_c", "confirm_gate": gate})

    assert diff(gated(True), gated({"when": "args.x > 1"}))[0].step is Step.MINOR
    assert diff(gated({"when": "args.x > 1"}), gated(True))[0].step is Step.MAJOR
    assert diff(gated({"message": "Sure?"}), gated({"message": "Really?"}))[0].step is Step.PATCH
    assert [each.step for each in diff(gated(True), gated({"four_eyes": True}))] == [Step.MAJOR]
    assert [each.step for each in diff(gated({"four_eyes": True}), gated(True))] == [Step.MINOR]


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_nothing_changed_from_a_contract_to_itself(seed: int) -> None:
    document = {key: value for key, value in LEAD.items() if random.Random(f"{seed}{key}").random() < 0.7}
    document["tool"] = "crm/create_lead"
    assert diff(contract(document), contract(copy.deepcopy(document))) == []


# ---- versions


def verdict(before: dict[str, Any], after: dict[str, Any]) -> Verdict:
    (found,) = verdicts([contract(before)], [contract(after)])
    return found


REQUIRED = changed("input_schema/required", ["email", "source"])


@pytest.mark.parametrize(
    ("version", "lie"),
    [
        ("1.2.0", "the version is 1.2.0 still, but `source` became required: that is MAJOR, so 2.0.0"),
        ("1.2.1", "1.2.1 says PATCH, but `source` became required: that is MAJOR, so 2.0.0"),
        ("1.3.0", "1.3.0 says MINOR, but `source` became required: that is MAJOR, so 2.0.0"),
        ("1.1.0", "1.1.0 is older than 1.2.0"),
        ("2.0.0", ""),
        ("3.1.4", ""),
    ],
)
def test_a_version_that_says_less_than_changed_is_a_lie(version: str, lie: str) -> None:
    assert verdict(LEAD, {**REQUIRED, "version": version}).lie == lie


def test_a_larger_step_than_needed_is_no_lie_and_neither_is_none_when_nothing_changed() -> None:
    assert verdict(LEAD, {**LEAD, "version": "5.0.0"}).lie == ""
    assert verdict(LEAD, LEAD) == Verdict("crm/create_lead", (), "1.2.0", "1.2.0")


def test_before_1_0_0_the_second_number_stands_for_the_first() -> None:
    assert verdict({**LEAD, "version": "0.3.1"}, {**REQUIRED, "version": "0.4.0"}).lie == ""
    assert verdict({**LEAD, "version": "0.3.1"}, {**REQUIRED, "version": "0.3.2"}).lie.endswith("so 0.4.0")


def test_where_no_version_was_declared_there_is_no_lie_and_one_must_not_be_lost() -> None:
    unversioned = {key: value for key, value in LEAD.items() if key != "version"}
    assert verdict(unversioned, {**REQUIRED, "version": "0.0.1"}).lie == ""
    assert verdict(LEAD, unversioned).lie == "the version 1.2.0 was declared, and now there is none"


def test_tools_come_and_go() -> None:
    other = {**LEAD, "tool": "crm/find_lead"}
    gone, new = verdicts([contract(LEAD)], [contract(other)])
    assert (gone.id, gone.step, gone.lie) == ("crm/create_lead", Step.MAJOR, "")
    assert (new.id, new.step, new.changes[0].reason) == ("crm/find_lead", Step.MINOR, "the tool is new")


def test_of_several_versions_the_newest_are_compared() -> None:
    found = verdicts([contract(LEAD)], [contract(LEAD), contract({**REQUIRED, "version": "2.0.0"})])
    assert [(each.before, each.after, each.lie) for each in found] == [("1.2.0", "2.0.0", "")]


def test_a_schema_that_is_none_is_never_called_compatible() -> None:
    broken = {"type": "object", "properties": {"a": {"type": 3}}}
    assert not is_schema(broken)
    assert diff(contract(changed("input_schema", broken)), contract(LEAD))[0].step is Step.MAJOR
