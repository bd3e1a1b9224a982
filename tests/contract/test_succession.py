"""Which documents may follow which versions: SemVer between neighbours, and no change of what was promised."""

from datetime import date
from itertools import combinations
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.contract.diff import verdicts
from bascule.contract.lifecycle import faults_of
from bascule.contract.model import Document
from bascule.contract.semver import parse
from bascule.contract.succession import MAX_BYTES, contract_of, digest_of, planned

TODAY: Final = date(2026, 11, 21)
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"email": {"type": "string"}, "name": {"type": "string"}},
    "required": ["email"],
}
LOOSER: Final = {**SCHEMA, "required": []}
TIGHTER: Final = {**SCHEMA, "required": ["email", "name"]}


def document(version: str | None = "1.0.0", schema: Any = SCHEMA, **more: Any) -> Document:
    said = {} if version is None else {"version": version}
    return msgspec.convert({"tool": "crm/create_lead", "input_schema": schema, **said, **more}, Document)


def outcome(new: Document, *known: Document, fixed: tuple[Document, ...] = ()) -> str:
    return planned(new, known, fixed).outcome


def test_the_first_version_of_a_thing_is_new() -> None:
    assert outcome(document()) == "new"


def test_what_is_there_already_is_unchanged_whatever_became_of_it_meanwhile() -> None:
    for status in ("draft", "in_review", "active", "deprecated", "gone"):
        ended: dict[str, Any] = {"deprecation": {"sunset": "2027-05-01"}} if status == "deprecated" else {}
        there = document(status=status, **ended)
        assert outcome(document(), there) == "unchanged"


def test_a_draft_may_be_published_anew_and_nothing_else_may() -> None:
    changed = document(description="Creates a lead.")
    assert outcome(changed, document(status="draft")) == "changed"
    for status in ("in_review", "active", "deprecated", "gone"):
        plan = planned(changed, [document(status=status)])
        assert (plan.outcome, f"1.0.0 is {status}" in plan.reason) == ("refused", True)


def test_who_changes_a_promise_is_told_which_version_that_takes() -> None:
    assert "2.0.0 or higher" in planned(document(schema=TIGHTER), [document(status="active")]).reason
    assert "1.1.0 or higher" in planned(document(schema=LOOSER), [document(status="active")]).reason


@pytest.mark.parametrize(
    ("schema", "least", "too_low"),
    [(TIGHTER, "2.0.0", "1.9.0"), (LOOSER, "1.1.0", "1.0.9"), (SCHEMA, "1.0.1", None)],
)
def test_a_change_needs_the_version_that_says_so(schema: Any, least: str, too_low: str | None) -> None:
    there = document(status="active")
    plan = planned(document(least, schema), [there])
    assert (plan.outcome, plan.before) == ("new_version", "1.0.0")
    if too_low is not None:
        refused = planned(document(too_low, schema), [there])
        assert refused.outcome == "refused"
        assert f"so {least}" in refused.reason


def test_an_old_major_can_be_mended_when_a_newer_one_is_out() -> None:
    there = [document(status="active"), document("2.0.0", TIGHTER, status="active")]
    assert outcome(document("1.0.1"), *there) == "new_version"
    assert outcome(document("1.0.1", TIGHTER), *there) == "refused"


def test_what_comes_between_two_versions_fits_both() -> None:
    there = [document(status="active"), document("1.1.0", status="active")]
    plan = planned(document("1.0.1", schema={**SCHEMA, "required": []}), there)
    assert plan.outcome == "refused"
    before_all = planned(document("0.9.0", LOOSER), [document("1.0.0", status="active")])
    assert before_all.outcome == "new_version"  # from 0.9 to 1.0 everything may change


def test_what_stands_in_the_configuration_cannot_be_published_over() -> None:
    plan = planned(document(), [], [document()])
    assert (plan.outcome, "stands in the configuration" in plan.reason) == ("refused", True)
    assert outcome(document("1.0.1", TIGHTER), fixed=(document(),)) == "refused"
    assert outcome(document("2.0.0", TIGHTER), fixed=(document(),)) == "new_version"


def test_a_contract_of_the_registry_says_which_version_it_is() -> None:
    assert "add `version`" in planned(document(None), []).reason


def test_the_status_of_a_document_is_not_published_and_that_is_said() -> None:
    plan = planned(document(status="active", deprecation={"sunset": "2027-05-01"}), [])
    assert plan.outcome == "new"
    assert [warning.split("`")[1] for warning in plan.warnings] == ["status: active", "deprecation"]
    assert digest_of(document(status="active")) == digest_of(document())


@given(
    st.lists(
        st.tuples(st.sampled_from(["1.0.0", "1.0.1", "1.1.0", "1.2.0", "2.0.0", "2.1.0"]),
                  st.sampled_from([SCHEMA, LOOSER, TIGHTER])),
        max_size=10,
    )
)  # fmt: skip
def test_in_whatever_order_versions_are_published_no_version_ever_lies(attempts: list[tuple[str, Any]]) -> None:
    known: list[Document] = []
    for version, schema in attempts:
        if planned(document(version, schema), known).outcome in ("new", "new_version"):
            known.append(document(version, schema, status="active"))
    contracts = sorted((contract_of(each) for each in known), key=lambda each: parse(each.version))
    for one, other in combinations(contracts, 2):
        (verdict,) = verdicts([one], [other])
        assert verdict.lie == ""


def test_a_thing_can_always_be_published_with_the_version_that_a_refusal_names() -> None:
    known = [document(status="active")]
    for schema in (LOOSER, TIGHTER, SCHEMA):
        refused = planned(document(str(contract_of(known[-1]).version), schema), known)
        least = refused.reason.rpartition("publish this as ")[2].split()[0]
        assert planned(document(least, schema), known).outcome == "new_version"
        known.append(document(least, schema, status="active"))
    assert [each.version for each in known] == ["1.0.0", "1.1.0", "2.0.0", "2.1.0"]


# ---- documents of any kind

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
_KEYWORDS = st.sampled_from(
    ["type", "properties", "required", "$ref", "allOf", "anyOf", "items", "enum", "pattern", "minimum", "$defs", "if"]
)
_SCHEMAS = st.recursive(
    _JSON | st.sampled_from(["#", "#/$defs/a", "object", "(", {"$ref": "#"}]),
    lambda inner: st.dictionaries(_KEYWORDS, inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=12,
)


@given(st.dictionaries(_KEYWORDS | st.text(max_size=5), _SCHEMAS, max_size=4), st.sampled_from([SCHEMA, TIGHTER]))
def test_whatever_stands_in_a_schema_there_is_a_plan_and_a_judgement(schema: Any, before: Any) -> None:
    new = document("1.1.0", schema)
    plan = planned(new, [document(schema=before, status="active")])
    assert plan.outcome in ("new_version", "refused")
    if plan.outcome == "new_version":
        assert planned(new, [new]).outcome == "unchanged"
        faults_of(contract_of(new), TODAY)


@pytest.mark.parametrize("odd", ["\ud800", float("inf")])
def test_what_cannot_be_written_as_json_is_refused(odd: Any) -> None:
    plan = planned(document(schema={"type": "object", "default": odd}), [])
    assert (plan.outcome, "cannot be written as JSON" in plan.reason) == ("refused", True)


def test_what_is_nested_without_end_or_too_large_is_refused() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"not": deep}
    assert planned(document(schema=deep), []).outcome == "refused"
    assert "larger than" in planned(document(description="x" * MAX_BYTES), []).reason
