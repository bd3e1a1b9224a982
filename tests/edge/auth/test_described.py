"""Callers that somebody describes, admitted as the edge admits them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from bascule import config as configuration
from bascule.config import Config
from bascule.edge.auth.described import described
from bascule.errors import ConfigInvalid, ScopeDenied, Unauthenticated
from bascule.policy.options import CallerOptions

NOW_S: Final = 1_795_186_800.0
MEMBERS: Final[dict[str, Any]] = {
    "roles": {"reader": ["crm:read"]},
    "callers": {
        "ci": {"roles": ["reader"], "scopes": ["crm:write:lead"], "attributes": {"team": "x"}},
        "box": {"certificate": "CN=box,O=Example"},
    },
    "auth": {
        "issuers": {
            "corp": {
                "issuer": "https://login.example.test",
                "roles_claim": "groups",
                "attributes": {"email": "email"},
                "grantable": ["crm:write"],
            }
        }
    },
    "http": {"bearer": "${env:TOKEN}", "tls": {"cert": "c", "key": "k", "client_ca": "a", "client_cert": "optional"}},
}


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Config]:
    def of(members: Mapping[str, Any] = MEMBERS, **more: Any) -> Config:
        path = tmp_path / "bascule.json"
        path.write_text(json.dumps({**members, **more}))
        return configuration.load(path, {"TOKEN": "0123456789abcdef0123456789abcdef"})

    return of


async def test_a_caller_comes_with_a_key_and_its_roles(configured: Callable[..., Config]) -> None:
    caller = await described(configured(), "ci", NOW_S)
    assert (caller.name, caller.proof, caller.roles) == ("ci", "key", frozenset({"reader"}))
    assert caller.authority.granted == {"crm:read", "crm:write:lead"}
    assert caller.authority.bound is None
    assert caller.attributes == {"team": "x"}


async def test_a_key_can_be_bound(configured: Callable[..., Config]) -> None:
    caller = await described(configured(), "ci", NOW_S, key_scopes=("crm:read",))
    assert caller.authority.bound == frozenset({"crm:read"})


async def test_who_has_a_certificate_alone_comes_with_it(configured: Callable[..., Config]) -> None:
    assert (await described(configured(), "box", NOW_S)).proof == "certificate"
    assert (await described(configured(), "box", NOW_S, key_scopes=("crm",))).proof == "key"


async def test_the_bearer_may_do_everything(configured: Callable[..., Config]) -> None:
    caller = await described(configured(), "bearer", NOW_S)
    assert (caller.name, caller.proof) == ("bearer", "bearer")
    assert caller.authority.covers(("crm:delete",))


async def test_a_token_says_what_its_claims_say(configured: Callable[..., Config]) -> None:
    claims = {"scope": "crm:read openid", "groups": ["reader", "unknown"], "email": "ann@example.test"}
    caller = await described(configured(), "corp:ann", NOW_S, claims=claims)
    assert (caller.name, caller.proof) == ("corp:ann", "token")
    assert caller.authority.granted == {"crm:read"}
    assert caller.authority.grantable == {"crm:write"}
    assert caller.roles == {"reader", "unknown"}
    assert caller.attributes == {"email": "ann@example.test"}


async def test_a_token_that_grants_nothing_stays_outside(configured: Callable[..., Config]) -> None:
    with pytest.raises(ScopeDenied):
        await described(configured(), "corp:ann", NOW_S)


async def test_scopes_that_everybody_needs_are_asked_for(configured: Callable[..., Config]) -> None:
    config = configured({**MEMBERS, "auth": {**MEMBERS["auth"], "required_scopes": ["hr"]}})
    with pytest.raises(ScopeDenied):
        await described(config, "ci", NOW_S)


async def test_nobody_comes_without_a_credential_where_callers_have_one(configured: Callable[..., Config]) -> None:
    with pytest.raises(Unauthenticated):
        await described(configured(), "anonymous", NOW_S)
    assert (await described(configured({}), "anonymous", NOW_S)).proof == "anonymous"


async def test_a_caller_can_be_made_up(configured: Callable[..., Config]) -> None:
    options = CallerOptions(roles=("reader",), attributes={"email": "eve@example.test"})
    caller = await described(configured({"roles": MEMBERS["roles"]}), "somebody", NOW_S, options=options)
    assert (caller.name, caller.proof, caller.authority.granted) == ("somebody", "key", frozenset({"crm:read"}))
    claimed = await described(configured(), "somebody", NOW_S, options=options, proof="token")
    assert claimed.proof == "token"


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("nobody", {}, "there is no caller 'nobody'; there are ci, box, anonymous, corp:SUBJECT"),
        ("corp:", {}, "there is no caller 'corp:'"),
        ("other:ann", {}, "there is no caller"),
        ("ci", {"claims": {}}, "only tokens have claims"),
        ("corp:ann", {"key_scopes": ("crm",)}, "no scopes of a key"),
        ("corp:ann", {"claims": {"iss": "https://evil.test"}}, "issued by somebody else"),
        ("corp:ann", {"claims": {"exp": 1}}, "would not be taken"),
        ("bearer", {"key_scopes": ("crm",)}, "has no key"),
        ("ci", {"key_scopes": ("crm:*x",)}, "is not a scope"),
        ("x", {"options": CallerOptions(roles=("chief",))}, "there is no role 'chief'"),
        ("x:y", {"options": CallerOptions()}, "has a colon"),
    ],
)
async def test_what_does_not_fit_is_said(
    configured: Callable[..., Config], name: str, more: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        await described(configured(), name, NOW_S, **more)


async def test_there_has_to_be_a_bearer(configured: Callable[..., Config]) -> None:
    with pytest.raises(ConfigInvalid, match=r"no http\.bearer"):
        await described(configured({}), "bearer", NOW_S)
