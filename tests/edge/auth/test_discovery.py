"""Metadata of authorization servers: where they are looked for, in which order, and when they are believed."""

import json
from typing import Any

import pytest
from authority import ABSENT, Authority, Place, Trouble
from hypothesis import given
from hypothesis import strategies as st

from bascule.edge.auth.discovery import Metadata, discover, metadata_in, well_known
from bascule.egress import FetchFailed

ISSUER = "https://auth.example.com"


def document(**members: Any) -> bytes:
    return json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks", **members}).encode()


@pytest.mark.parametrize(
    ("issuer", "places"),
    [
        (
            "https://auth.example.com",
            [
                "https://auth.example.com/.well-known/oauth-authorization-server",
                "https://auth.example.com/.well-known/openid-configuration",
            ],
        ),
        (
            "https://auth.example.com:8443/",
            [
                "https://auth.example.com:8443/.well-known/oauth-authorization-server",
                "https://auth.example.com:8443/.well-known/openid-configuration",
            ],
        ),
        (
            "https://auth.example.com/tenant1",
            [
                "https://auth.example.com/.well-known/oauth-authorization-server/tenant1",
                "https://auth.example.com/.well-known/openid-configuration/tenant1",
                "https://auth.example.com/tenant1/.well-known/openid-configuration",
            ],
        ),
        (
            "https://auth.example.com/a/b%2Fc/",
            [
                "https://auth.example.com/.well-known/oauth-authorization-server/a/b%2Fc",
                "https://auth.example.com/.well-known/openid-configuration/a/b%2Fc",
                "https://auth.example.com/a/b%2Fc/.well-known/openid-configuration",
            ],
        ),
    ],
)
def test_metadata_are_looked_for_in_the_order_of_the_specification(issuer: str, places: list[str]) -> None:
    """MCP 2026-07-28, "Authorization Server Metadata Discovery"."""
    assert list(well_known(issuer)) == places


@pytest.mark.parametrize("path", ["", "/tenant1", "/a/b"])
@pytest.mark.parametrize("place", ["oauth", "openid", "openid-appended"])
async def test_metadata_are_found_wherever_they_are(path: str, place: Place) -> None:
    async with Authority(algs=["ES256"], path=path, places=[place]) as authority:
        found = await discover(authority.issuer)
        assert found == Metadata(authority.issuer, f"{authority.issuer}/jwks", f"{authority.issuer}/introspect")


@pytest.mark.parametrize(
    "issuer", [ISSUER + "/", ISSUER.upper(), "https://honest.example.com", ISSUER + "/tenant", "", None, 5, [ISSUER]]
)
def test_metadata_of_another_issuer_are_not_believed(issuer: Any) -> None:
    with pytest.raises(ValueError, match="another issuer"):
        metadata_in(document(issuer=issuer), ISSUER)


async def test_a_server_that_says_it_is_another_one_is_not_used() -> None:
    async with Authority(algs=["ES256"]) as authority:
        authority.metadata_members = {"issuer": authority.issuer + "/"}
        with pytest.raises(FetchFailed, match="another issuer"):
            await discover(authority.issuer)


@pytest.mark.parametrize(
    "url",
    [
        *("http://auth.example.com/jwks", "http://127.0.0.1/jwks", "https://127.0.0.1/jwks", "https://localhost/jwks"),
        *(
            "https://10.0.0.1:8080/jwks",
            "https://[::1]/jwks",
            "https://metadata.google.internal/",
            "file:///etc/passwd",
        ),
        *("javascript:alert(1)", "--upload-pack=x", "https://user:pw@auth.example.com/jwks", "https://2130706433/"),
        *("https://auth.example.com:22/jwks", "https://auth.example.com/jwks#x", "/jwks", "", 5, ["https://x"], {}),
    ],
)
@pytest.mark.parametrize("name", ["jwks_uri", "introspection_endpoint"])
def test_endpoints_that_lead_astray_are_refused(name: str, url: Any) -> None:
    with pytest.raises(ValueError, match=name):
        metadata_in(document(**{name: url}), ISSUER)


def test_endpoints_may_be_on_another_public_host_and_may_be_missing() -> None:
    found = metadata_in(document(jwks_uri="https://www.keys.test/certs"), ISSUER)
    assert found == Metadata(ISSUER, "https://www.keys.test/certs", None)
    assert metadata_in(json.dumps({"issuer": ISSUER}).encode(), ISSUER).jwks_uri is None


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b'{"issuer":', document() + b"x"])
def test_what_are_no_metadata_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        metadata_in(body, ISSUER)


def test_a_member_that_stands_twice_is_refused() -> None:
    twice = document()[:-1] + b',"jwks_uri":"https://evil.test/jwks"}'
    with pytest.raises(ValueError, match="uplicate"):
        metadata_in(twice, ISSUER)


@given(st.binary(max_size=200))
def test_any_bytes_are_metadata_or_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        metadata_in(body, ISSUER)


@pytest.mark.parametrize("trouble", ["500", "huge", "redirect", "html", "gzip"])
async def test_a_server_that_is_out_of_order_is_a_failed_fetch(trouble: Trouble) -> None:
    async with Authority(algs=["ES256"]) as authority:
        authority.trouble = trouble
        with pytest.raises(FetchFailed, match=r"oauth-authorization-server.*openid-configuration"):
            await discover(authority.issuer)


async def test_an_endpoint_that_is_missing_is_none() -> None:
    async with Authority(algs=["ES256"]) as authority:
        authority.metadata_members = {"introspection_endpoint": ABSENT}
        assert (await discover(authority.issuer)).introspection_endpoint is None
