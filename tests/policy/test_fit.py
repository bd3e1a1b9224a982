"""What an operator says of callers, roles and limits fits together, or says where it does not."""

from typing import Any

import pytest

from bascule.errors import ConfigInvalid
from bascule.policy import fit
from bascule.policy.options import AuthOptions, CallerOptions, Grant, IssuerOptions, LimitsOptions, ServerLimits

KEY = "0123456789abcdefghijklmnopqrstuvwxyz"
ISSUER = "https://as.example"


def check(**said: Any) -> None:
    whole: dict[str, Any] = {
        "auth": AuthOptions(),
        "roles": {},
        "callers": {},
        "limits": LimitsOptions(),
        "servers": ["crm"],
    }
    fit.check(**{**whole, **said})


def caller(**said: Any) -> dict[str, CallerOptions]:
    return {"agent": CallerOptions(**said)}


def issuers(**said: IssuerOptions) -> AuthOptions:
    return AuthOptions(issuers=said)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a role with what is no scope": ({"roles": {"staff": ("crm write",)}}, "roles.staff"),
    "a role that is not there": ({"callers": caller(roles=("boss",))}, "callers.agent.roles"),
    "an issuer's role that is not there": (
        {"auth": issuers(sso=IssuerOptions(issuer=ISSUER, roles=("boss",)))},
        "auth.issuers.sso.roles",
    ),
    "a role for strangers that is not there": (
        {"auth": AuthOptions(anonymous=Grant(roles=("x",)))},
        "auth.anonymous.roles",
    ),
    "a key that is short": ({"callers": caller(keys=(KEY[:31],))}, "callers.agent.keys.0"),
    "a key of few characters": ({"callers": caller(keys=("changeme" * 8,))}, "callers.agent.keys.0"),
    "a key with a space": ({"callers": caller(keys=(KEY, f"{KEY} x"))}, "callers.agent.keys.1"),
    "two with one key": (
        {"callers": {"a": CallerOptions(keys=(KEY,)), "b": CallerOptions(keys=(KEY,))}},
        "callers.b.keys.0",
    ),
    "two with one certificate": (
        {"callers": {"a": CallerOptions(certificate="CN=x"), "b": CallerOptions(certificate="CN=x")}},
        "callers.b.certificate",
    ),
    "a caller named like a token's": ({"callers": {"sso:alice": CallerOptions()}}, "callers.sso:alice"),
    "a caller with a name of ours": ({"callers": {"bearer": CallerOptions()}}, "callers.bearer"),
    "an issuer with a name of ours": (
        {"auth": issuers(anonymous=IssuerOptions(issuer=ISSUER))},
        "auth.issuers.anonymous",
    ),
    "an issuer named like a caller": (
        {"auth": issuers(agent=IssuerOptions(issuer=ISSUER)), "callers": caller()},
        "auth.issuers.agent",
    ),
    "an issuer that is no URL": ({"auth": issuers(sso=IssuerOptions(issuer="as.example"))}, "auth.issuers.sso.issuer"),
    "one issuer twice": (
        {"auth": issuers(a=IssuerOptions(issuer=ISSUER), b=IssuerOptions(issuer=ISSUER))},
        "auth.issuers",
    ),
    "limits of a server that is not there": (
        {"limits": LimitsOptions(servers={"x": ServerLimits()})},
        "limits.servers.x",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named_by_its_field_and_says_no_secret(name: str) -> None:
    said, field = WRONG[name]
    with pytest.raises(ConfigInvalid) as caught:
        check(**said)
    assert caught.value.field == field
    assert KEY[:31] not in str(caught.value)


def test_what_fits_is_let_through() -> None:
    roles = {"staff": ("crm:write", "*:read")}
    check(
        roles=roles,
        callers={"agent@example.com": CallerOptions(keys=(KEY, KEY[::-1]), roles=("staff",), scopes=("hr",))},
        auth=issuers(sso=IssuerOptions(issuer=ISSUER, roles=("staff",))),
        limits=LimitsOptions(servers={"crm": ServerLimits(rate="1/second")}),
    )


def test_a_grant_comes_to_its_scopes_and_those_of_its_roles() -> None:
    roles = {"a": ("x", "y"), "b": ("y", "z")}
    assert fit.scopes_of(Grant(roles=("a", "b"), scopes=("w",)), roles) == {"w", "x", "y", "z"}
    assert fit.scopes_of(Grant(), roles) == frozenset()
