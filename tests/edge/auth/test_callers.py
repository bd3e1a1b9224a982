"""From an identity that has been proved to a caller with what it may do."""

from collections.abc import Mapping
from typing import Any

import pytest

from bascule.call import ANONYMOUS
from bascule.edge.auth.callers import Callers
from bascule.edge.auth.jwt import Claims
from bascule.edge.auth.keys import Found
from bascule.errors import ConfigInvalid
from bascule.policy.options import AuthOptions, CallerOptions, Grant, IssuerOptions
from bascule.policy.scopes import Access

ROLES: Mapping[str, tuple[str, ...]] = {"staff": ("crm:read",), "boss": ("crm",)}


def made(auth: AuthOptions | None = None, **callers: CallerOptions) -> Callers:
    return Callers(auth or AuthOptions(), ROLES, callers)


def issuing(**said: Any) -> AuthOptions:
    return AuthOptions(issuers={"sso": IssuerOptions(issuer="https://as.example", **said)})


def claims(*scopes: str, roles: tuple[str, ...] = ()) -> Claims:
    return Claims(
        issuer="sso",
        name="alice",
        scopes=frozenset(scopes),
        roles=frozenset(roles),
        attributes={"email": "a@x.com"},
        expires_at_s=2e9,
    )


def test_a_key_has_its_callers_scopes_and_those_of_its_roles() -> None:
    callers = made(agent=CallerOptions(scopes=("hr",), roles=("staff",), attributes={"team": "x"}))
    caller = callers.of_key(Found("agent", "k1"))
    assert caller is not None
    assert (caller.name, caller.proof, caller.attributes) == ("agent", "key", {"team": "x"})
    assert caller.authority.granted == {"hr", "crm:read"}
    assert caller.roles == {"staff"}


def test_a_key_that_was_made_for_less_is_good_for_less_and_for_no_more() -> None:
    callers = made(agent=CallerOptions(scopes=("hr",)))
    narrow = callers.of_key(Found("agent", "k1", frozenset({"hr:read", "crm"})))
    assert narrow is not None
    assert narrow.authority.covers(("hr:read",))
    assert not narrow.authority.covers(("hr:write",))
    assert not narrow.authority.covers(("crm",))


def test_a_key_of_who_is_not_in_the_configuration_is_nobodys() -> None:
    assert made().of_key(Found("agent", "k1")) is None


def test_a_token_grants_what_it_says_what_its_roles_say_and_what_its_issuer_gives_to_all() -> None:
    callers = made(issuing(scopes=("open",), roles=("staff",), grantable=("crm:write",)))
    caller = callers.of_token(claims("hr:read", roles=("boss", "unheard")), "token")
    assert (caller.name, caller.proof, caller.attributes) == ("sso:alice", "token", {"email": "a@x.com"})
    assert caller.authority.granted == {"hr:read", "open", "crm:read", "crm"}
    assert caller.roles == {"boss", "unheard", "staff"}
    assert caller.authority.access(("crm:write:lead",)) is Access.ALLOWED
    assert callers.of_token(claims(), "token").authority.access(("crm:write",)) is Access.LACKING


@pytest.mark.parametrize("scope", ["openid", "profile", "email", "address", "phone", "offline_access"])
def test_what_a_token_says_of_who_somebody_is_opens_no_server_of_that_name(scope: str) -> None:
    caller = made(issuing()).of_token(claims(scope), "token")
    assert not caller.authority.covers((scope,))
    assert not caller.authority.covers((f"{scope}:read:x",))


def test_a_caller_by_key_and_a_bearer_of_the_same_name_are_two() -> None:
    callers = made(issuing(), alice=CallerOptions(scopes=("*",)))
    by_key = callers.of_key(Found("alice"))
    assert by_key != callers.of_token(claims(), "token")


def test_a_certificate_is_the_credential_of_the_caller_that_has_its_subject() -> None:
    callers = made(agent=CallerOptions(certificate="CN=agent,O=Example", scopes=("crm",)))
    caller = callers.of_certificate("CN=agent,O=Example")
    assert caller is not None
    assert (caller.name, caller.proof) == ("agent", "certificate")
    assert callers.of_certificate("CN=agent") is None
    assert callers.of_certificate("CN=agent,O=Elsewhere") is None


def test_a_certificates_subject_that_is_none_is_said_with_its_field() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        made(agent=CallerOptions(certificate="no subject"))
    assert caught.value.field == "callers.agent.certificate"


@pytest.mark.parametrize(
    ("said", "alone", "granted"),
    [
        (None, True, {"*"}),
        (None, False, None),
        (True, False, {"*"}),
        (False, True, None),
        (Grant(scopes=("open",), roles=("staff",)), False, {"open", "crm:read"}),
        (Grant(), True, set()),
    ],
)
def test_who_has_no_credential_may_do_what_is_said_and_without_a_word_all_if_nobody_has_one(
    said: Any, alone: bool, granted: set[str] | None
) -> None:
    caller = made(AuthOptions(anonymous=said)).anonymous(alone=alone)
    assert (None if caller is None else set(caller.authority.granted)) == granted
    assert caller is None or caller.name == ANONYMOUS.name


def test_what_can_be_asked_for_is_what_everybody_needs_and_what_issuers_grant() -> None:
    auth = AuthOptions(
        required_scopes=("entry",),
        issuers={
            "a": IssuerOptions(issuer="https://a.example", grantable=("crm", "entry")),
            "b": IssuerOptions(issuer="https://b.example", grantable=("hr", "crm")),
        },
    )
    assert made(auth).requested() == ("entry", "crm", "hr")
