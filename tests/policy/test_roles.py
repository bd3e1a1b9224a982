"""Roles of the console: what each adds, and that none of them opens a tool."""

from hypothesis import given
from hypothesis import strategies as st

from bascule.policy.roles import ROLES, scopes_of
from bascule.policy.scopes import OPERATORS, Authority

_ADDED = {
    "approver": {"bascule.approvals:write"},
    "reviewer": {"bascule.reviews:write:security", "bascule.reviews:write:business"},
    "editor": {"bascule.registry:write"},
}


def test_every_role_sees_what_a_viewer_sees_and_the_status() -> None:
    for scopes in ROLES.values():
        assert scopes >= ROLES["viewer"]
        assert Authority(scopes).covers(OPERATORS)


def test_each_role_adds_one_thing_and_an_admin_has_all() -> None:
    for role, added in _ADDED.items():
        assert ROLES[role] - ROLES["viewer"] == added
    assert frozenset().union(*ROLES.values()) == ROLES["admin"]
    assert "bascule.keys:write" in ROLES["admin"]


def test_a_viewer_changes_nothing() -> None:
    assert all(scope.endswith(":read") for scope in ROLES["viewer"])


@given(st.lists(st.sampled_from([*ROLES, "king", "", "*"])), st.text(min_size=1, max_size=20))
def test_no_role_opens_a_tool_and_what_is_no_role_grants_nothing(roles: list[str], server: str) -> None:
    scopes = scopes_of(roles)
    assert scopes == scopes_of(role for role in roles if role in ROLES)
    assert all(scope.partition(":")[0].startswith("bascule.") for scope in scopes)
    if not server.startswith("bascule."):
        assert not Authority(scopes).covers((f"{server}:write:anything",))
