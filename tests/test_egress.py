"""What may be fetched: group H of the hostile inputs as plain decisions, and a way out that keeps to them.

No private, metadata or foreign address is ever connected to here: those are put to the decisions alone.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bascule import egress
from bascule.egress import FetchFailed, acceptable, allowed, reach

HOST: Final = "auth.example.com"
URL: Final = f"https://{HOST}/jwks"
PUBLIC: Final = "93.184.216.34"

LOOPBACK: Final = ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1"]
PRIVATE: Final = ["10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12:3456::1"]
NEVER: Final = [
    *("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    *("fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::a9fe:a9fe%eth0", "fec0::1"),
    *("0.0.0.0", "0.1.2.3", "::", "255.255.255.255", "224.0.0.1", "240.0.0.1", "ff02::1"),
    *("192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "192.88.99.1", "2001:db8::1", "3fff::1"),
    *("::ffff:0:127.0.0.1", "::127.0.0.1", "64:ff9b:1::a00:1", "2001::1", "2001:0:7f00:1::", "5f00::1", "100::1"),
]
WRAPPED: Final = {
    "v4-mapped loopback": ("::ffff:127.0.0.1", "loopback"),
    "v4-mapped metadata": ("::ffff:169.254.169.254", "never"),
    "v4-mapped private": ("::ffff:10.0.0.1", "private"),
    "NAT64 metadata": ("64:ff9b::a9fe:a9fe", "never"),
    "NAT64 private": ("64:ff9b::10.0.0.1", "private"),
    "NAT64 loopback": ("64:ff9b::127.0.0.1", "loopback"),
    "NAT64 public": (f"64:ff9b::{PUBLIC}", "public"),
    "6to4 loopback": ("2002:7f00:1::", "loopback"),
    "6to4 metadata": ("2002:a9fe:a9fe::1", "never"),
    "ISATAP private": ("2a00:1450::5efe:10.0.0.1", "private"),
    "ISATAP metadata": ("2a00:1450::200:5efe:169.254.169.254", "never"),
}


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:2800:220:1::1", "2a00:1450:4001::200e"])
def test_a_public_address_is_reached_from_anywhere(address: str) -> None:
    assert reach(ipaddress.ip_address(address)) == "public"
    assert allowed(URL, [address], origin_host="other.example.com") is None


@pytest.mark.parametrize(("kind", "addresses"), [("loopback", LOOPBACK), ("private", PRIVATE), ("never", NEVER)])
def test_addresses_are_of_the_kind_that_they_are(kind: str, addresses: list[str]) -> None:
    assert {address: reach(ipaddress.ip_address(address)) for address in addresses} == dict.fromkeys(addresses, kind)


@pytest.mark.parametrize(("address", "kind"), WRAPPED.values(), ids=WRAPPED)
def test_an_address_inside_another_is_what_counts(address: str, kind: str) -> None:
    assert reach(ipaddress.ip_address(address)) == kind


@pytest.mark.parametrize("address", [*LOOPBACK, *PRIVATE, *NEVER, *(address for address, _ in WRAPPED.values())])
def test_a_host_that_the_operator_did_not_write_leads_to_public_addresses_only(address: str) -> None:
    kind = reach(ipaddress.ip_address(address))
    assert (allowed(URL, [address], origin_host="other.example.com") is None) == (kind == "public")


@pytest.mark.parametrize("address", [*PRIVATE, "64:ff9b::10.0.0.1"])
def test_the_host_that_the_operator_wrote_may_be_a_private_one(address: str) -> None:
    assert allowed(URL, [address], origin_host=HOST) is None


@pytest.mark.parametrize("address", [*LOOPBACK, *NEVER, "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"])
def test_no_name_leads_to_this_machine_or_to_where_clouds_keep_secrets(address: str) -> None:
    assert allowed(URL, [address], origin_host=HOST) is not None


@pytest.mark.parametrize("address", [*NEVER, *PRIVATE, "::ffff:127.0.0.1"])
def test_an_address_is_judged_when_it_stands_in_the_url_itself(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert allowed(f"https://{host}/jwks", [], origin_host="other.example.com") is not None


@pytest.mark.parametrize("origin_host", [HOST, "other.example.com"])
@pytest.mark.parametrize("bad", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "fd00::1", "not an address"])
def test_one_bad_address_among_good_ones_is_enough(bad: str, origin_host: str) -> None:
    assert allowed(URL, [PUBLIC, bad], origin_host=origin_host) is not None
    assert allowed(URL, [bad, PUBLIC, PUBLIC], origin_host=origin_host) is not None


def test_a_name_without_addresses_leads_nowhere() -> None:
    assert allowed(URL, [], origin_host=HOST) is not None


# ---- loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "auth.localhost"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_issuer_on_loopback_is_reached_with_http_too(scheme: str, host: str) -> None:
    url = f"{scheme}://{host}:8080/jwks"
    addresses = ["::1"] if host == "[::1]" else ["127.0.0.1"]
    assert allowed(url, addresses, origin_host=egress.host_of(url)) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "[::1]", "localhost", "auth.localhost"])
def test_nobody_else_leads_us_to_this_machine(host: str) -> None:
    assert acceptable(f"https://{host}/jwks", origin_host=HOST) is not None
    assert acceptable(f"http://{host}:8080/jwks", origin_host=HOST) is not None


@pytest.mark.parametrize("address", [PUBLIC, "10.0.0.1", "169.254.169.254"])
def test_a_loopback_name_leads_nowhere_else(address: str) -> None:
    assert allowed("http://localhost:8080/", [address], origin_host="localhost") is not None


# ---- texts


@pytest.mark.parametrize(
    "url",
    [
        # H02: numbers that resolvers take for addresses
        *("https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/", "https://0/"),
        *("https://0x7f.0.0.1/", "https://127.0.0.1.0/", "https://1.2.3.4.5/", "https://256.256.256.256/"),
        *("https://0x/", "https://example.0x7f/", "https://01.02.03.04/"),
        # H04: by name
        *("https://metadata.google.internal/", "https://METADATA.google.internal/", "https://metadata/"),
        # H11: what parsers disagree about
        *("https://user@auth.example.com/", "https://user:pw@auth.example.com/", "https://@auth.example.com/"),
        *("https://auth.example.com#@evil.test/", "https://auth.example.com/#x", "https://auth.example.com/x#"),
        *("https://auth.example.com\\@evil.test/", "https:\\\\auth.example.com/", "https://auth.exa\tmple.com/"),
        *("https://auth.example.com/\n", " https://auth.example.com/", "https://auth.example.com/a b"),
        *("https://auth.example.com/\x00", "https://auth.example.com/\u202e", "https://\uff41uth.example.com/"),
        *("https://127\u3002 0\u30020\u30021/", "https://%31%32%37.0.0.1/", "https://auth%2eexample.com/"),
        *("https://auth.example.com./", "https://.example.com/", "https://auth..example.com/", "https://-x.com/"),
        *("https://[fe80::1%25eth0]/", "https://[::1", "https://a:b/", "https://auth.example.com:99999/"),
        # H13: ports
        *(f"https://auth.example.com:{port}/" for port in (0, 21, 22, 25, 110, 2375, 3306, 5432, 6379, 11211, 27017)),
        # H14 and T1: schemes
        *("http://auth.example.com/", "ftp://auth.example.com/", "file:///etc/passwd", "gopher://auth.example.com/"),
        *("javascript:alert(1)", "file:/c:/x$(calc)", "--upload-pack=x", "data:text/plain,x", "//auth.example.com/"),
        *(
            "https:///jwks",
            "https:auth.example.com",
            "https://",
            "https",
            "",
            "unix:/run/docker.sock",
            "jar:https://x/",
        ),
        "https://auth.example.com/" + "a" * 2048,
    ],
)
def test_a_url_with_two_readings_or_another_purpose_is_refused(url: str) -> None:
    assert acceptable(url, origin_host=egress.host_of(url) or HOST) is not None
    assert acceptable(url, origin_host=HOST) is not None
    assert allowed(url, [PUBLIC], origin_host=HOST) is not None


@pytest.mark.parametrize(
    "url",
    [
        *(URL, "https://auth.example.com", "https://AUTH.example.com/JWKS?a=b&c=%20", "https://auth.example.com:8443/"),
        *("https://auth.example.com:443/", "https://auth.example.com/~alice/jwks.json;v=1"),
    ],
)
def test_an_ordinary_url_of_the_operators_host_is_fine(url: str) -> None:
    assert acceptable(url, origin_host=HOST) is None


def test_another_host_is_reached_at_the_port_of_https_only() -> None:
    assert acceptable("https://www.keys.test/certs", origin_host=HOST) is None
    assert acceptable("https://www.keys.test:8443/certs", origin_host=HOST) is not None


@given(st.text(max_size=80), st.lists(st.text(max_size=20), max_size=3))
def test_any_text_is_decided_about(text: str, addresses: list[str]) -> None:
    for url in (text, f"https://{text}", f"https://{text}/jwks", f"https://auth.example.com{text}"):
        allowed(url, addresses, origin_host=HOST)
        allowed(url, addresses, origin_host=text)


@given(st.ip_addresses())
def test_every_address_is_of_one_kind_and_only_global_ones_are_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if reach(address) == "public":
        assert address.is_global or address in ipaddress.ip_network("64:ff9b::/96")
        assert not address.is_multicast


# ---- the way out


@asynccontextmanager
async def serving(
    answer: web.Response | None = None, *, hang: asyncio.Event | None = None, asked: list[web.Request] | None = None
) -> AsyncIterator[str]:
    """A server on loopback that gives *answer* to everything, or nothing until *hang* is set."""

    async def respond(request: web.Request) -> web.StreamResponse:
        if asked is not None:
            asked.append(request)
        if hang is not None:
            await hang.wait()
        if answer is None:
            return web.Response(body=b"{}")
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)  # one is sent once

    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", respond)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        if hang is not None:
            hang.set()
        await runner.cleanup()


async def got(url: str, limit_bytes: int = 1000) -> bytes:
    return await egress.get(url, origin_host=egress.host_of(url), limit_bytes=limit_bytes)


async def test_a_document_on_loopback_is_fetched_whatever_type_it_says_it_is() -> None:
    async with serving(web.Response(body=b"{}", content_type="image/png")) as url:
        assert await got(url) == b"{}"
        assert await got(url.replace("127.0.0.1", "localhost")) == b"{}"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_session_connects_to_no_address_that_its_url_may_not_have(host: str) -> None:
    """What a name that was rebound would lead to: by its addresses, and by the one that is connected to at last."""
    asked: list[web.Request] = []
    async with serving(asked=asked) as url:
        here = url.replace("127.0.0.1", host)
        async with egress.session(URL, origin_host=HOST) as http:
            with pytest.raises(FetchFailed, match="must not be reached"):
                await egress.answer(http, "GET", here, limit_bytes=1000)
        assert asked == []
        assert await got(here)  # it is there, and answers those who may ask
        assert len(asked) == 1


async def test_a_name_with_an_address_that_it_may_not_have_has_none() -> None:
    """Before any socket is made: this is where one bad address among good ones is seen."""
    resolver = egress._CheckedResolver(URL, HOST)
    with pytest.raises(OSError, match="must not be reached"):
        await resolver.resolve("localhost", 443, socket.AF_UNSPEC)
    async with egress.session(URL, origin_host=HOST) as http:
        assert isinstance(http.connector, aiohttp.TCPConnector)
        assert isinstance(http.connector._resolver, egress._CheckedResolver)


@pytest.mark.parametrize("status", [201, 204, 206, 301, 302, 307, 308, 400, 401, 404, 500, 503])
async def test_only_200_is_an_answer_and_no_redirect_is_followed(status: int) -> None:
    elsewhere = web.Response(status=status, headers={"location": "/elsewhere"})
    async with serving(elsewhere) as url:
        with pytest.raises(FetchFailed, match=str(status)) as caught:
            await got(url)
        assert caught.value.missing == (400 <= status < 500)


async def test_an_answer_that_is_too_long_is_given_up() -> None:
    async with serving(web.Response(body=b" " * 10 * 1024 * 1024)) as url:
        with pytest.raises(FetchFailed, match="longer than 1000 bytes"):
            await got(url)


async def test_a_compressed_answer_is_not_unpacked() -> None:
    async with serving(web.Response(body=b"\x1f\x8b", headers={"content-encoding": "gzip"})) as url:
        with pytest.raises(FetchFailed, match="compressed"):
            await got(url)


async def test_nothing_is_sent_that_tells_who_asks_and_no_cookie_is_kept() -> None:
    asked: list[web.Request] = []
    eager = web.Response(body=b"{}", headers={"set-cookie": "a=b; Path=/"})
    async with serving(eager, asked=asked) as url, egress.session(url, origin_host="127.0.0.1") as http:
        for _ in range(2):
            await egress.answer(http, "GET", url, limit_bytes=1000)
    assert len(asked) == 2
    assert {name.lower() for name in asked[1].headers} == {"host", "accept", "accept-encoding", "user-agent"}


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with serving(web.Response(body=b"{}")) as url:
        assert await got(url) == b"{}"


async def test_a_server_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "TIMEOUT", aiohttp.ClientTimeout(total=0.1))
    async with serving(hang=asyncio.Event()) as url:
        with pytest.raises(FetchFailed, match="no answer in time"):
            await got(url)


async def test_a_server_that_is_not_there_is_a_failed_fetch() -> None:
    async with serving() as url:
        pass
    with pytest.raises(FetchFailed, match="Connect"):
        await got(url)


async def test_an_unacceptable_url_opens_no_session() -> None:
    with pytest.raises(FetchFailed, match="not https"):
        await egress.get("http://auth.example.com/", origin_host=HOST, limit_bytes=100)
