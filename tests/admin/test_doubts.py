"""What is legal in a configuration and hardly meant is said; what is meant is not."""

from pathlib import Path

import pytest

from bascule import config
from bascule.admin.doubts import doubts
from bascule.policy.roles import ROLES


def doubted(tmp_path: Path, scope: str) -> list[str]:
    """What is said of a caller that has *scope*, beside a server `crm`."""
    file = tmp_path / "bascule.yaml"
    file.write_text(f"servers: {{crm: {{url: 'http://127.0.0.1:9/mcp'}}}}\ncallers: {{ops: {{scopes: ['{scope}']}}}}\n")
    return doubts(config.load(file, {"XDG_STATE_HOME": str(tmp_path)}))


@pytest.mark.parametrize("scope", sorted(ROLES["admin"]))
def test_nobody_is_asked_about_a_scope_that_bascule_itself_needs(tmp_path: Path, scope: str) -> None:
    assert doubted(tmp_path, scope) == []


def test_a_scope_of_reviews_without_an_aspect_is_one(tmp_path: Path) -> None:
    assert doubted(tmp_path, "bascule.reviews:write") == []


def test_a_misspelt_scope_is_doubted_with_what_was_meant(tmp_path: Path) -> None:
    assert doubted(tmp_path, "bascule.registy:write") == [
        "callers.ops.scopes: nothing needs the scope 'bascule.registy:write'; did you mean 'bascule.registry'?"
    ]


def people(tmp_path: Path, issuers: str, claim: str = "email") -> list[str]:
    """What is said of a console with a provider, beside *issuers*."""
    file = tmp_path / "bascule.yaml"
    login = f"{{issuer: 'https://id.example', client_id: c, client_secret: '${{env:S}}', name_claim: {claim}}}"
    file.write_text(f"servers: {{}}\nconsole: {{oidc: {login}}}\nauth: {{issuers: {{{issuers}}}}}\n")
    return doubts(config.load(file, {"XDG_STATE_HOME": str(tmp_path), "S": "a-secret-of-the-tests-0123456789abcdef"}))


def test_one_person_with_two_names_could_answer_their_own_question(tmp_path: Path) -> None:
    corp = "corp: {issuer: 'https://id.example', audiences: ['https://gw.example/mcp']"
    assert people(tmp_path, corp + ", name_claim: email}") == []
    (said,) = people(tmp_path, corp + "}")
    assert "'email' is another name than auth.issuers.corp gives the same person ('sub')" in said


def test_two_people_of_two_providers_are_not_taken_for_one(tmp_path: Path) -> None:
    other = "{issuer: 'https://other.example', audiences: ['https://gw.example/mcp']}"
    assert people(tmp_path, f"other: {other}") == []
    (said,) = people(tmp_path, f"oidc: {other}")
    assert said.startswith("auth.issuers.oidc: the console calls people of its provider oidc:NAME")
