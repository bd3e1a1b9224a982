"""The authorization server of the tests keeps to the book: what others log in with must not be lenient."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from authority import AUDIENCE, MACHINE, Authority, base64url

from bascule.edge.auth.issuers import Issuers
from bascule.errors import Unauthenticated
from bascule.policy.options import IntrospectionOptions, IssuerOptions
from processes import running, server

REDIRECT: Final = "http://127.0.0.1:7777/callback"
VERIFIER: Final = "v" * 50
CHALLENGE: Final = base64url(hashlib.sha256(VERIFIER.encode()).digest())
RESOURCE: Final = "https://gw.example.com/servers/crm/mcp"


class Browser:
    """A client that has registered itself, and what it asks for."""

    def __init__(self, authority: Authority, http: aiohttp.ClientSession) -> None:
        self.authority, self.http, self.id = authority, http, ""

    async def register(self, **members: Any) -> tuple[int, dict[str, Any]]:
        asked = {"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none"}
        asked["grant_types"] = ["authorization_code", "refresh_token"]
        async with self.http.post(f"{self.authority.issuer}/register", json={**asked, **members}) as response:
            answer = await response.json()
            self.id = answer.get("client_id", "")
            return response.status, answer

    async def authorize(self, **parameters: str) -> tuple[int, dict[str, str]]:
        """(status, what the redirect says)"""
        asked = {
            "response_type": "code",
            "client_id": self.id,
            "redirect_uri": REDIRECT,
            "state": "s t&te",
            "scope": "crm:read crm:write",
            "resource": RESOURCE,
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        url = f"{self.authority.issuer}/authorize"
        async with self.http.get(url, params={**asked, **parameters}, allow_redirects=False) as response:
            place = response.headers.get("location", "")
            return response.status, dict(parse_qsl(urlsplit(place).query))

    async def token(self, **parameters: str) -> tuple[int, dict[str, Any]]:
        asked = {"grant_type": "authorization_code", "client_id": self.id, "redirect_uri": REDIRECT}
        asked |= {"code_verifier": VERIFIER, "resource": RESOURCE}
        async with self.http.post(f"{self.authority.issuer}/token", data={**asked, **parameters}) as response:
            return response.status, await response.json()


@asynccontextmanager
async def browsing(**options: Any) -> AsyncIterator[Browser]:
    async with Authority(algs=["ES256"], **options) as authority, aiohttp.ClientSession() as http:
        browser = Browser(authority, http)
        await browser.register()
        yield browser


@pytest.mark.parametrize("opaque", [False, True])
async def test_a_client_logs_in_and_its_token_is_good_here_for_what_it_asked(opaque: bool) -> None:
    async with browsing(opaque=opaque, path="/tenant") as browser:
        status, redirected = await browser.authorize()
        assert status == 302
        assert redirected["state"] == "s t&te"
        assert redirected["iss"] == browser.authority.issuer
        status, answer = await browser.token(code=redirected["code"])
        assert (status, answer["token_type"], answer["scope"]) == (200, "Bearer", "crm:read crm:write")
        endpoint = IntrospectionOptions(client_id=MACHINE[0], client_secret=MACHINE[1])
        issuers = Issuers({"corp": IssuerOptions(issuer=browser.authority.issuer, introspection=endpoint)})
        said = await issuers.claims(answer["access_token"], RESOURCE, browser.authority.now_s())
        assert said.name == "alice"
        assert said.scopes == {"crm:read", "crm:write"}
        with pytest.raises(Unauthenticated):
            await issuers.claims(answer["access_token"], AUDIENCE, browser.authority.now_s())
        await issuers.close()


async def test_a_code_and_a_refresh_token_are_good_once() -> None:
    async with browsing() as browser:
        _, redirected = await browser.authorize()
        _, answer = await browser.token(code=redirected["code"])
        assert (await browser.token(code=redirected["code"]))[0] == 400
        refresh = {"grant_type": "refresh_token", "refresh_token": answer["refresh_token"]}
        status, renewed = await browser.token(**refresh)
        assert status == 200
        assert renewed["refresh_token"] != answer["refresh_token"]
        assert (await browser.token(**refresh))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"code_verifier": "w" * 50}, "invalid_grant"),
        ({"redirect_uri": REDIRECT + "2"}, "invalid_grant"),
        ({"resource": "https://other.example.com"}, "invalid_target"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unauthorized_client"),
    ],
)
async def test_a_code_is_for_who_asked_for_it(wrong: dict[str, str], error: str) -> None:
    async with browsing() as browser:
        _, redirected = await browser.authorize()
        status, answer = await browser.token(**{"code": redirected["code"], **wrong})
        assert status >= 400
        assert answer["error"] == error


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"resource": "https://x.test/#a"}, "invalid_target"),
        ({"scope": "root"}, "invalid_scope"),
    ],
)
async def test_what_is_wrong_is_told_to_the_client_with_the_issuer(wrong: dict[str, str], error: str) -> None:
    async with browsing(scopes=["crm:read", "crm:write"]) as browser:
        status, redirected = await browser.authorize(**wrong)
        assert (status, redirected["error"], redirected["iss"]) == (302, error, browser.authority.issuer)
        assert "code" not in redirected


@pytest.mark.parametrize("wrong", [{"client_id": "nobody"}, {"redirect_uri": "https://evil.test/callback"}])
async def test_nobody_is_sent_to_a_place_that_was_not_registered(wrong: dict[str, str]) -> None:
    async with browsing() as browser:
        assert await browser.authorize(**wrong) == (400, {})


async def test_on_loopback_the_port_may_be_another_one() -> None:
    async with browsing() as browser:
        assert (await browser.authorize(redirect_uri=REDIRECT.replace("7777", "8888")))[0] == 302
        assert (await browser.authorize(redirect_uri=REDIRECT.replace("127.0.0.1", "localhost")))[0] == 400


@pytest.mark.parametrize("uri", ["javascript:alert(1)", "http://example.com/cb", "https://x.test/cb#a", "callback"])
async def test_not_every_redirect_may_be_registered(uri: str) -> None:
    async with browsing() as browser:
        status, answer = await browser.register(redirect_uris=[uri])
        assert (status, answer["error"]) == (400, "invalid_redirect_uri")


async def test_machines_get_tokens_with_their_secret_and_not_without() -> None:
    async with browsing() as browser:
        asked = {"grant_type": "client_credentials", "client_id": MACHINE[0], "scope": "crm:read"}
        assert (await browser.token(**asked))[0] == 401
        status, answer = await browser.token(**asked, client_secret=MACHINE[1])
        assert (status, answer["scope"]) == (200, "crm:read")
        assert "refresh_token" not in answer


def test_it_runs_as_a_process_of_its_own() -> None:
    with running(server("authority", "--path", "/tenant", "--alg", "ES256")) as issuer:
        assert issuer.strip().endswith("/tenant")
