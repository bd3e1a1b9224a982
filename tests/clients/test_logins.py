"""Real logins: the official SDK's client, a real authorization server, and a Bascule that takes its tokens.

Source: MCP 2026-07-28, Authorization; 2025-11-25 and 2025-06-18 say the same of what is tried here.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import environments
import pytest
from authority import MACHINE, Authority, Client
from gateway import KINDLY, Bascule, gateway, local
from real import MODERN, Report, run

pytestmark = pytest.mark.clients

LOGIN: Final = str(Path(__file__).parent / "login.py")
CALLBACK: Final = "http://localhost:3000/callback"
WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
MODES: Final = ("legacy", "auto")
PLACES: Final = {"/mcp": "crm__", "/servers/crm/mcp": ""}  # and what the names of tools begin with there
ENTRY: Final = "crm:read"
WRITING: Final = "crm:write:lead"
SECRET: Final = "introspection-secret"
HI: Final = json.dumps({"text": "hi"})
SUM: Final = json.dumps({"a": 1, "b": 2})
ADDED: Final = json.dumps({"sum": 3})


@asynccontextmanager
async def governed(authority: Authority, *, public_url: str | None = None, **issuer: Any) -> AsyncIterator[Bascule]:
    """A Bascule with two servers, where everybody needs ENTRY and who adds needs WRITING as well."""
    taken = {"issuer": authority.issuer, "grantable": [ENTRY, WRITING], **issuer}
    servers = {name: local("plain") for name in ("crm", "shop")}
    rules = [{"match": "crm/add", "security_scope": WRITING}]
    async with gateway(
        servers,
        http={"public_url": public_url},
        auth={"issuers": {"test": taken}, "required_scopes": [ENTRY]},
        policy={"default": "allow", "rules": rules},
        environ={"SECRET": SECRET},
    ) as bascule:
        yield bascule


async def login(url: str, *options: str, calls: Sequence[tuple[str, str]] = ()) -> Report:
    """What came of a client that was told *url* and nothing else."""
    called = [word for call in calls for word in ("--call", *call)]
    command = (environments.python("sdk2"), LOGIN, *options, *called, url)
    with tempfile.TemporaryDirectory(prefix="login-") as home:
        report: Report = await asyncio.to_thread(run, command, home)
        return report


def paths(report: Report) -> list[str]:
    """What the client asked for, in its order, each once, without the requests that have a query."""
    return list(dict.fromkeys(urlsplit(each["url"]).path for each in report["requests"]))


async def tried(bascule: Bascule, path: str, token: str) -> tuple[int, str]:
    """(status, challenge) that *token* gets at *path*."""
    headers = {**KINDLY, "authorization": f"Bearer {token}", "mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
    stamp = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": stamp}}
    async with bascule.request("POST", path, headers, json.dumps(message).encode()) as exchange:
        return exchange.status, exchange.headers.get("www-authenticate", "")


# ---- the whole way


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", PLACES)
async def test_a_client_that_knows_only_the_url_logs_in_and_calls(path: str, mode: str) -> None:
    async with Authority() as authority, governed(authority) as bascule:
        url = bascule.url + path
        report = await login(url, "--mode", mode, calls=[(PLACES[path] + "echo", HI)])
    assert report["failed"] is None
    assert report["answers"] == ["hi"]
    assert f"{PLACES[path]}echo" in report["tools"]
    first, second = report["requests"][:2]
    assert (first["url"], first["status"]) == (url, 401)
    # Only what everybody needs: for more, a client is sent back when it calls what needs it.
    assert first["challenge"] == f'Bearer scope="{ENTRY}", resource_metadata="{bascule.url}{WELL_KNOWN}{path}"'
    assert (second["method"], second["url"]) == ("GET", f"{bascule.url}{WELL_KNOWN}{path}")
    assert paths(report) == [
        *(path, f"{WELL_KNOWN}{path}", "/.well-known/oauth-authorization-server", "/register", "/token")
    ]
    (asked,) = report["authorizations"]
    assert asked["resource"] == url
    assert asked["code_challenge_method"] == "S256"
    assert asked["scope"] == ENTRY


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_that_is_registered_already_logs_in(mode: str) -> None:
    async with Authority() as authority, governed(authority) as bascule:
        authority.clients["desk"] = Client("desk", "desk-secret", [CALLBACK])
        known = ("--client-id", "desk", "--client-secret", "desk-secret")
        report = await login(f"{bascule.url}/mcp", "--mode", mode, *known, calls=[("crm__echo", HI)])
    assert report["failed"] is None
    assert report["answers"] == ["hi"]
    assert authority.asked["register"] == 0


@pytest.mark.parametrize("place", ["oauth", "openid", "openid-appended"])
async def test_the_issuer_may_have_a_path_and_its_metadata_in_any_of_three_places(place: Any) -> None:
    async with Authority(path="/realms/main", places=[place]) as authority, governed(authority) as bascule:
        report = await login(f"{bascule.url}/mcp", calls=[("crm__echo", HI)])
    assert report["failed"] is None
    assert report["answers"] == ["hi"]


async def test_tokens_may_be_opaque() -> None:
    machine = {"client_id": MACHINE[0], "client_secret": "${env:SECRET}"}
    async with Authority(opaque=True) as authority:
        authority.clients[MACHINE[0]].secret = SECRET
        asking: dict[str, Any] = {"introspection": {"url": f"{authority.issuer}/introspect", **machine}}
        async with governed(authority, **asking) as bascule:
            report = await login(f"{bascule.url}/mcp", calls=[("crm__echo", HI)])
    assert report["failed"] is None
    assert report["answers"] == ["hi"]
    assert authority.asked["introspect"] >= 1


async def test_a_client_of_the_first_transport_logs_in_at_its_own_resource() -> None:
    async with Authority() as authority, governed(authority) as bascule:
        url = f"{bascule.url}/servers/crm/sse"
        report = await login(url, "--mode", "legacy", "--transport", "sse", calls=[("echo", HI)])
    assert report["failed"] is None
    assert report["answers"] == ["hi"]
    assert report["authorizations"][0]["resource"] == url


# ---- step-up: MCP 2026-07-28, "Scope Challenge Handling"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", PLACES)
async def test_a_call_that_needs_more_sends_the_client_back_for_it_once(path: str, mode: str) -> None:
    prefix = PLACES[path]
    async with Authority() as authority, governed(authority) as bascule:
        url = bascule.url + path
        calls = [(f"{prefix}echo", HI), (f"{prefix}add", SUM), (f"{prefix}add", SUM), (f"{prefix}echo", HI)]
        report = await login(url, "--mode", mode, calls=calls)
    assert report["failed"] is None
    assert report["answers"] == ["hi", ADDED, ADDED, "hi"]
    first, second = report["authorizations"]
    assert first["scope"].split() == [ENTRY]
    assert set(second["scope"].split()) == {ENTRY, WRITING}, "what it had, and what the call needs"
    assert second["resource"] == url
    (refused,) = (each for each in report["requests"] if each["status"] == 403)
    assert 'error="insufficient_scope"' in refused["challenge"]
    assert f'scope="{WRITING}"' in refused["challenge"]
    assert f'resource_metadata="{bascule.url}{WELL_KNOWN}{path}"' in refused["challenge"]


async def test_who_cannot_get_the_scope_is_told_so_and_not_asked_for_ever() -> None:
    async with Authority(scopes=[ENTRY]) as authority, governed(authority) as bascule:
        report = await login(f"{bascule.url}/mcp", calls=[("crm__add", SUM)])
    assert report["tokens"], "the entry it can get"
    assert len(report["authorizations"]) == 2
    assert ADDED not in report["answers"]


# ---- one token, one place: security.md, A3


@pytest.mark.parametrize("place", ["/servers/crm/mcp", "/mcp"])
async def test_a_token_for_one_path_is_refused_at_every_other(place: str) -> None:
    async with Authority() as authority, governed(authority) as bascule:
        report = await login(bascule.url + place)
        assert report["failed"] is None
        token = report["tokens"][-1]["token"]
        assert (await tried(bascule, place, token))[0] == 200
        others = {"/mcp", "/servers/crm/mcp", "/servers/shop/mcp"} - {place}
        for path in others:
            status, challenge = await tried(bascule, path, token)
            assert status == 401, path
            assert 'error="invalid_token"' in challenge
            assert f'resource_metadata="{bascule.url}{WELL_KNOWN}{path}"' in challenge
        for path in ("/sse", "/servers/crm/sse"):
            head = {"accept": "text/event-stream", "authorization": f"Bearer {token}"}
            async with bascule.request("GET", path, head) as exchange:
                assert exchange.status == 401, path


async def test_a_token_of_another_issuer_opens_nothing() -> None:
    async with Authority() as authority, Authority() as stranger, governed(authority) as bascule:
        audience = f"{bascule.url}/mcp"
        good = authority.token(aud=audience, scope=ENTRY)
        assert (await tried(bascule, "/mcp", good))[0] == 200
        for token in (
            stranger.token(aud=audience, scope=ENTRY),
            stranger.token(aud=audience, scope=ENTRY, iss=authority.issuer),
        ):
            assert (await tried(bascule, "/mcp", token))[0] == 401


# ---- what is told before a login


async def test_metadata_are_for_anybody_and_the_same_for_servers_that_do_not_exist() -> None:
    async with Authority() as authority, governed(authority) as bascule:
        for path, resource in {
            WELL_KNOWN: "/mcp",
            f"{WELL_KNOWN}/mcp": "/mcp",
            f"{WELL_KNOWN}/servers/crm/mcp": "/servers/crm/mcp",
            f"{WELL_KNOWN}/servers/crm/sse": "/servers/crm/sse",
            f"{WELL_KNOWN}/servers/nobody/mcp": "/servers/nobody/mcp",
        }.items():
            status, document = await bascule.get(path, {"origin": "https://inspector.example"})
            assert status == 200, path
            assert document["resource"] == bascule.url + resource
            assert document["authorization_servers"] == [authority.issuer]
            assert set(document["scopes_supported"]) == {ENTRY, WRITING}
        for path in (f"{WELL_KNOWN}/", f"{WELL_KNOWN}/nothing", f"{WELL_KNOWN}/mcp/x"):
            async with bascule.request("GET", path) as exchange:
                assert exchange.status in (401, 404), path


async def test_a_page_elsewhere_may_read_the_metadata_and_nothing_else() -> None:
    async with Authority() as authority, governed(authority) as bascule:
        page: Mapping[str, str | None] = {"origin": "https://inspector.example"}
        asking = {**page, "access-control-request-method": "GET",
                  "access-control-request-headers": "mcp-protocol-version"}  # fmt: skip
        async with bascule.request("OPTIONS", f"{WELL_KNOWN}/mcp", asking) as exchange:
            assert exchange.status == 204
            assert exchange.headers["access-control-allow-origin"] == "*"
        async with bascule.request("POST", "/mcp", {**KINDLY, **page}, b"{}") as exchange:
            assert exchange.status == 403


async def test_metadata_at_another_host_name_are_not_given() -> None:
    """The name that clients call us by becomes the resource, so it has to be one of ours."""
    elsewhere = {"host": "evil.example"}
    async with (
        Authority() as authority,
        governed(authority) as bascule,
        bascule.request("GET", f"{WELL_KNOWN}/mcp", elsewhere) as exchange,
    ):
        assert exchange.status == 421


async def test_behind_a_proxy_resources_have_the_address_that_clients_know() -> None:
    public = "https://mcp.example.com/tools"
    async with Authority() as authority, governed(authority, public_url=public) as bascule:
        for path in (f"{WELL_KNOWN}/tools/servers/crm/mcp", f"{WELL_KNOWN}/servers/crm/mcp"):
            status, document = await bascule.get(path)
            assert (status, document["resource"]) == (200, f"{public}/servers/crm/mcp")
        _, challenge = await tried(bascule, "/mcp", "nonsense")
        assert f'resource_metadata="https://mcp.example.com{WELL_KNOWN}/tools/mcp"' in challenge
        for audience, expected in {f"{public}/mcp": 200, f"{bascule.url}/mcp": 401, public: 401}.items():
            token = authority.token(aud=audience, scope=ENTRY)
            assert (await tried(bascule, "/mcp", token))[0] == expected, audience
