"""What nobody looks after, and what somebody does."""

from datetime import date
from typing import Any, Final

from bascule.contract.model import Contract
from bascule.contract.orphans import Listed, orphans

TODAY: Final = date(2026, 11, 21)


def contract(id: str = "crm/create_lead", **more: Any) -> Contract:
    said = {
        "owner_team": "sales",
        "owner_email": "sales@company.test",
        "last_security_review": "2026-11-01",
        "version": "1.0.0",
        **more,
    }
    return Contract(id=id, sources={"version": "registry"}, **said)


def lacks(*contracts: Contract, listed: Listed | None = None, days: int = 365) -> list[tuple[str, str]]:
    return [(each.lack, each.id) for each in orphans(contracts, listed, TODAY, days=days)]


def test_what_somebody_looks_after_is_none() -> None:
    assert lacks(contract()) == []
    assert lacks(contract(), listed=Listed({("tool", "crm/create_lead"): True})) == []


def test_without_a_team_or_an_address_nobody_answers_for_it() -> None:
    assert lacks(contract(owner_team="")) == [("no_owner", "crm/create_lead")]
    assert lacks(contract(owner_email="")) == [("no_owner", "crm/create_lead")]


def test_a_team_that_is_almost_another_one_is_odd_and_a_small_one_is_not() -> None:
    two = [contract("crm/a_b", owner_team="sales-platform"), contract("crm/c_d", owner_team="sales-platform")]
    assert lacks(*two, contract("crm/e_f", owner_team="sales-platfrom")) == [("odd_team", "crm/e_f")]
    assert lacks(*two, contract("crm/e_f", owner_team="finance")) == []


def test_a_security_review_is_missing_or_old() -> None:
    assert lacks(contract(last_security_review=None)) == [("review_missing", "crm/create_lead")]
    assert lacks(contract(last_security_review="once")) == [("review_missing", "crm/create_lead")]
    assert lacks(contract(last_security_review="2025-11-20")) == [("review_old", "crm/create_lead")]
    assert lacks(contract(last_security_review="2025-11-21")) == []
    assert lacks(contract(), days=19) == [("review_old", "crm/create_lead")]


def test_contracts_without_a_tool_and_tools_without_a_contract_are_found_where_servers_were_heard() -> None:
    listed = Listed({("tool", "crm/find_lead"): False, ("tool", "crm/by_rule"): True, ("prompt", "crm/hello"): False})
    assert lacks(contract(), listed=listed) == [("not_listed", "crm/create_lead"), ("no_contract", "crm/find_lead")]
    assert lacks(contract(), listed=Listed({}, unknown=["crm"])) == []
    assert lacks(contract()) == []
