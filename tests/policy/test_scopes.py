"""What one scope covers of another, and what callers may do with what they hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.policy.scopes import UNLIMITED, Access, Authority, covers, is_scope

PARTS = st.sampled_from(["crm", "write", "read", "lead", "a-b", "x.y"])
SCOPES = st.lists(PARTS, min_size=1, max_size=4).map(":".join)
GRANTS = st.lists(st.one_of(PARTS, st.just("*")), min_size=1, max_size=4).map(":".join)


@pytest.mark.parametrize(
    ("granted", "wanted", "covered"),
    [
        ("crm:write:lead", "crm:write:lead", True),
        ("crm:write", "crm:write:lead", True),
        ("crm", "crm:write:lead", True),
        ("*", "crm:write:lead", True),
        ("crm:*:lead", "crm:write:lead", True),
        ("crm:*:lead", "crm:write:deal", False),
        ("crm:write:*", "crm:write", True),
        ("crm:write:lead", "crm:write", False),
        ("crm:write", "crm:read", False),
        ("crm:write", "crm:read:lead", False),
        ("cr", "crm", False),
        ("crm:writ", "crm:write", False),
        ("*:read", "crm:read:lead", True),
        ("*:read", "crm", False),
        ("*:*", "crm", True),
    ],
)
def test_a_scope_covers_itself_and_what_is_below_it(granted: str, wanted: str, covered: bool) -> None:
    assert covers(granted, wanted) is covered


@given(SCOPES)
def test_every_scope_covers_itself_and_is_covered_by_everything(scope: str) -> None:
    assert covers(scope, scope)
    assert covers("*", scope)


@given(GRANTS, SCOPES, PARTS)
def test_who_has_a_scope_has_all_below_it(granted: str, wanted: str, part: str) -> None:
    if covers(granted, wanted):
        assert covers(granted, f"{wanted}:{part}")


@given(GRANTS, GRANTS, SCOPES)
def test_covering_goes_through(widest: str, wide: str, narrow: str) -> None:
    if "*" not in wide and covers(widest, wide) and covers(wide, narrow):
        assert covers(widest, narrow)


@given(SCOPES, SCOPES)
def test_without_wildcards_what_is_covered_begins_with_what_covers_it(granted: str, wanted: str) -> None:
    assert covers(granted, wanted) == f"{wanted}:".startswith(f"{granted}:")


@pytest.mark.parametrize("text", ["", ":", "a:", ":a", "a::b", "a b", "a*", "a:*b", 'a"', "a\\", "ü", "a\n", "x" * 201])
def test_what_is_no_scope(text: str) -> None:
    assert not is_scope(text)


@given(GRANTS)
def test_what_is_a_scope(text: str) -> None:
    assert is_scope(text)


@given(st.frozensets(GRANTS), st.frozensets(GRANTS), st.lists(SCOPES, min_size=1, max_size=3).map(tuple))
def test_a_bound_only_takes_away(granted: frozenset[str], bound: frozenset[str], wanted: tuple[str, ...]) -> None:
    whole, bounded = Authority(granted), Authority(granted, bound)
    assert bounded.covers(wanted) == (whole.covers(wanted) and Authority(bound).covers(wanted))


@given(st.frozensets(GRANTS), st.frozensets(GRANTS), st.lists(SCOPES, min_size=1, max_size=3).map(tuple))
def test_what_can_be_asked_for_lets_nobody_in(
    granted: frozenset[str], grantable: frozenset[str], wanted: tuple[str, ...]
) -> None:
    before, after = Authority(granted).access(wanted), Authority(granted, grantable=grantable).access(wanted)
    assert (after is Access.ALLOWED) == (before is Access.ALLOWED)
    if after is Access.LACKING:
        assert Authority(granted | grantable).covers(wanted)


@given(st.frozensets(GRANTS, max_size=4), st.frozensets(GRANTS, max_size=4), SCOPES)
def test_what_is_held_is_what_is_granted_as_far_as_the_bound_goes(
    granted: frozenset[str], bound: frozenset[str], wanted: str
) -> None:
    authority = Authority(granted, bound)
    if Authority(authority.held).covers((wanted,)):
        assert authority.covers((wanted,))


def test_all_of_several_scopes_are_needed() -> None:
    both = ("crm:write", "hr:read")
    assert Authority(frozenset({"crm", "hr"})).access(both) is Access.ALLOWED
    assert Authority(frozenset({"crm"})).access(both) is Access.HIDDEN
    assert Authority(frozenset({"crm"}), grantable=frozenset({"hr"})).access(both) is Access.LACKING
    assert Authority(frozenset({"crm"}), grantable=frozenset({"hr", "crm"})).access(both) is Access.LACKING


def test_who_holds_nothing_may_do_what_needs_nothing() -> None:
    assert Authority().access(()) is Access.ALLOWED
    assert Authority().access(("x",)) is Access.HIDDEN
    assert UNLIMITED.access(("x:y:z", "bascule:read:status")) is Access.ALLOWED
