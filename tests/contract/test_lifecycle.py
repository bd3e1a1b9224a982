"""The life of a version: which steps there are, which there are not, and what a promotion lacks."""

from datetime import date
from typing import Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.contract.lifecycle import STEPS, Action, Candidate, after, faults_of, lacking, possible
from bascule.contract.model import Contract, Status

STATUSES: Final = get_args(Status)
ACTIONS: Final = get_args(Action)
TODAY: Final = date(2026, 11, 21)
WHOLE: Final = Contract(
    id="crm/create_lead",
    version="1.0.0",
    description="Creates a lead. SIDE EFFECT. Fails if the email is already a lead.",
    owner_team="sales",
    owner_email="sales@company.test",
)


def steps() -> set[tuple[str, str]]:
    """(before, after) of all that can happen to a status."""
    return {(before, to) for each in STEPS.values() for before, to in each.items() if before != to}


def test_a_version_goes_through_its_life_in_one_order_and_back_in_two_places() -> None:
    assert steps() == {
        ("draft", "in_review"),
        ("in_review", "active"),
        ("active", "deprecated"),
        ("deprecated", "gone"),
        ("in_review", "draft"),
        ("deprecated", "active"),
    }


@given(st.lists(st.sampled_from(ACTIONS), max_size=12))
def test_whatever_is_tried_a_version_is_active_only_after_review_and_never_after_it_is_gone(
    actions: list[Action],
) -> None:
    status: Status = "draft"
    lived = [status]
    for action in actions:
        if action in possible(status):
            status = after(status, action)
            lived.append(status)
    assert "active" not in lived or lived.index("in_review") < lived.index("active")
    if "gone" in lived:
        assert set(lived[lived.index("gone") :]) == {"gone"}


@pytest.mark.parametrize("status", STATUSES)
def test_a_step_that_there_is_not_says_what_can_be_done_instead(status: Status) -> None:
    for action in set(ACTIONS) - set(possible(status)):
        with pytest.raises(ValueError, match=f"it is {status} and cannot be .+; .+"):
            after(status, action)


def test_a_version_with_an_owner_and_all_sign_offs_lacks_nothing() -> None:
    signed = {"security": "approved", "business": "approved"}
    assert lacking(Candidate(contract=WHOLE, wanted=("security", "business"), signed=signed)) == []


def test_all_that_is_lacking_is_said_at_once() -> None:
    contract = Contract(id="crm/create_lead", owner_team="sales")
    missing = lacking(
        Candidate(
            contract=contract,
            faults=["a fault"],
            wanted=("security", "business"),
            signed={"business": "denied"},
            frozen="the error budget is spent",
        )
    )
    assert missing == [
        "contract lint: a fault",
        "nobody answers for it: say owner_email",
        "nobody has signed off security",
        "business was denied",
        "the error budget is spent",
    ]


@given(
    wanted=st.sets(st.sampled_from(("security", "business"))),
    signed=st.dictionaries(st.sampled_from(("security", "business")), st.sampled_from(("approved", "denied"))),
)
def test_a_promotion_takes_a_yes_for_each_aspect_that_is_asked_for(wanted: set[str], signed: dict[str, str]) -> None:
    missing = lacking(Candidate(contract=WHOLE, wanted=sorted(wanted), signed=signed))
    assert (not missing) == all(signed.get(aspect) == "approved" for aspect in wanted)


def test_only_errors_of_the_lint_stand_in_the_way() -> None:
    assert faults_of(WHOLE, TODAY) == []
    hidden = Contract(id="crm/create_lead", description="Creates a lead.\u200b Fails if there is one.", version="1.0.0")
    (fault,) = faults_of(hidden, TODAY)
    assert "[hidden-characters]" in fault
