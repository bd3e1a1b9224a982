"""Group H: URLs that must not be fetched, whoever is asked to; nothing connects to this machine (docs/security.md)."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import pytest_asyncio

from bascule import egress
from bascule.edge.auth.discovery import metadata_in
from bascule.egress import FetchFailed
from corpus.ground_ssrf import (
    ISSUER,
    OPERATORS,
    PUBLIC,
    REFUSALS,
    STRANGERS,
    Case,
    Honeypot,
    MetadataCase,
    Resolver,
    decided,
    honeypot,
    read,
    url_of,
)
from packs.research.webserver import site
from packs.talking import Talk, talking

GROUP: Final = read()
TRIED: Final = [case for case in GROUP.cases if case.tried]
LEAST: Final = 200  # URLs

ids: Final[Any] = lambda case: case.id  # noqa: E731 - what pytest wants


def test_the_group_is_as_large_as_it_says_and_each_case_is_named_once() -> None:
    names = [*(case.id for case in GROUP.cases), *(case.id for case in GROUP.metadata)]
    assert len(set(names)) == len(names)
    assert all(name.startswith("H") for name in names)
    assert sum(len(case.urls) * len(case.answers) for case in GROUP.cases) >= LEAST
    assert {name[:3] for name in names} >= {"H01", "H02", "H04", "H05", "H07", "H08", "H11", "H13", "H14", "H16", "H17"}


# ---- the decision


@pytest.mark.parametrize("case", GROUP.cases, ids=ids)
def test_a_url_that_must_not_be_fetched_is_refused_for_its_one_reason(case: Case) -> None:
    found = {
        (url, tuple(addresses)): decided(url, addresses, case.allows)
        for said in case.urls
        for url in [url_of(said, 1024)]
        for addresses in case.answers
    }
    assert found == dict.fromkeys(found, case.refused)


@pytest.mark.parametrize("case", GROUP.metadata, ids=ids)
async def test_a_document_that_leads_elsewhere_is_not_believed(case: MetadataCase) -> None:
    async with honeypot() as port:
        for said in case.each:
            members = {name: value and url_of(value, port.port) for name, value in said.items()}
            document = json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks", **members}).encode()
            with pytest.raises(ValueError, match=case.refused):
                _believed(document)
    assert port.connections == []


def _believed(document: bytes) -> None:
    """Raises ValueError for a document, or for the address that its keys are at."""
    found = metadata_in(document, ISSUER)
    assert found.jwks_uri is not None
    host = egress.host_of(found.jwks_uri)
    # As it is asked for the connection: literals are judged like what a name stands for.
    if (reason := egress.allowed(found.jwks_uri, [host], origin_host="auth.example.com")) is not None:
        raise ValueError(reason)


# ---- the fetchers


@dataclass
class Place:
    """Where cases are tried: a port that nobody must connect to, and tools that fetch."""

    port: Honeypot
    open: Talk  # any public address
    narrow: Talk  # two origins, of which none is there


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(honeypot())
        research = await stack.enter_async_context(talking("research", redirects=5))
        narrow = await stack.enter_async_context(
            talking("research", allowed_hosts=["docs.example.com", "127.0.0.1:1"], redirects=5)
        )
        for each in (research, narrow):
            await each.call("document__get_content", paper_id="sample:ssrf-agents")  # has opened what it opens
        yield Place(port, research, narrow)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", TRIED, ids=ids)
async def test_nobody_who_fetches_connects_to_this_machine(case: Case, place: Place) -> None:
    """The real tool in its real process, and every fetcher of the gateway."""
    tool = place.narrow if case.allows else place.open
    before = _opened(tool)
    for url in (url_of(said, place.port.port) for said in case.urls):
        if url and len(url) <= 2048:
            said = await tool.refusal("document__get_content", url=url)
            assert said.startswith(f"The document is not fetched: {case.refused}.")
        fetchers = {**STRANGERS, **({} if egress.is_loopback(egress.host_of(url)) else OPERATORS)}
        for name, fetch in fetchers.items():
            with pytest.raises(REFUSALS):
                print(name, await fetch(url))  # noqa: T201 - is shown when it does not raise
    assert place.port.connections == []
    assert tool.process.returncode is None
    assert _opened(tool) == before
    good = await tool.call("document__get_content", paper_id="sample:ssrf-agents")
    assert good["content"]


async def test_the_port_would_have_noticed() -> None:
    async with honeypot() as port:
        with pytest.raises(FetchFailed):
            await egress.get(f"http://127.0.0.1:{port.port}/", origin_host="127.0.0.1", limit_bytes=10)
    assert port.connections


# ---- names


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], [PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], ["::1"], ["::ffff:127.0.0.1"], ["0.0.0.0"]]
)
async def test_a_name_that_leads_here_has_no_address(answers: list[str]) -> None:
    """H07, H08: what the name server says is judged as a whole, before there is a socket."""
    async with honeypot() as port, egress.session("https://docs.example.com/", origin_host="") as http:
        resolver = Resolver([answers], port.port)
        _checked(http)._resolver = resolver  # type: ignore[assignment]  # the name server
        with pytest.raises(FetchFailed, match="must not be reached"):
            await egress.answer(http, "GET", "https://docs.example.com/", limit_bytes=10)
    assert resolver.asked == 1
    assert port.connections == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
async def test_a_name_that_changes_its_mind_after_the_check_gains_nothing(address: str) -> None:
    """H08, rebinding: the address of the connection that is really made is judged, too."""
    async with honeypot() as port, egress.session("https://docs.example.com/", origin_host="") as http:
        assert isinstance(http.connector, aiohttp.TCPConnector)
        # In place of the one that checks: as if the name had changed behind its back.
        http.connector._resolver = Resolver([[address]], port.port)
        with pytest.raises(FetchFailed, match="must not be reached"):
            await egress.answer(http, "GET", "https://docs.example.com/", limit_bytes=10)
    assert port.connections == []


async def test_a_name_is_asked_for_anew_for_every_fetch_and_judged_each_time() -> None:
    """H08: a good answer once is no good answer for ever."""
    async with honeypot() as port, egress.session("https://docs.example.com/", origin_host="") as http:
        checked = _checked(http)
        checked._resolver = Resolver([[PUBLIC], ["127.0.0.1"]], port.port)  # type: ignore[assignment]  # as above
        assert [each["host"] for each in await checked.resolve("docs.example.com", 443)] == [PUBLIC]
        with pytest.raises(FetchFailed, match="must not be reached"):
            await egress.answer(http, "GET", "https://docs.example.com/", limit_bytes=10)
    assert port.connections == []


def _checked(http: aiohttp.ClientSession) -> egress._CheckedResolver:
    assert isinstance(http.connector, aiohttp.TCPConnector)
    resolver = http.connector._resolver
    assert isinstance(resolver, egress._CheckedResolver)
    return resolver


# ---- redirects


async def test_a_chain_of_redirects_ends_at_the_first() -> None:
    """H10: twenty of them, to the tool as it is set."""
    pages = {f"/{hop}": _moved(f"/{hop + 1}") for hop in range(20)}
    async with site(pages) as web_site, talking("research", allowed_hosts=[web_site.host]) as research:
        said = await research.refusal("document__get_content", url=f"{web_site.url}/0")
        assert "redirects are not followed here" in said
        assert [request.path for request in web_site.asked] == ["/0"]


async def test_a_chain_of_redirects_ends_after_as_many_as_the_operator_allows() -> None:
    pages = {f"/{hop}": _moved(f"/{hop + 1}") for hop in range(20)}
    async with site(pages) as web_site, talking("research", allowed_hosts=[web_site.host], redirects=5) as research:
        assert "not followed" in await research.refusal("document__get_content", url=f"{web_site.url}/0")
        assert len(web_site.asked) == 6


@pytest.mark.parametrize("case", [case for case in TRIED if not case.allows], ids=ids)
async def test_no_redirect_leads_where_no_url_does(case: Case) -> None:
    """Every URL of the cases as the target of a redirect that may be followed."""
    async with honeypot() as port:
        urls = [url_of(said, port.port) for said in case.urls]
        targets = [url for url in urls if url and url.isascii() and url.isprintable() and "://" in url]
        pages = {f"/{number}": _moved(url) for number, url in enumerate(targets)}
        async with site(pages) as web_site:
            for path in pages:
                with pytest.raises(FetchFailed):
                    await egress.fetch(web_site.url + path, allowed_hosts=[web_site.host], redirects=5)
            assert len(web_site.asked) == len(pages)
    assert port.connections == []


def _moved(to: str) -> Any:
    from aiohttp import web

    return web.Response(status=302, headers={"location": to})


def _opened(tool: Talk) -> int:
    """How many files and sockets the process of *tool* has open, the event loop's own included."""
    return len(os.listdir(f"/proc/{tool.process.pid}/fd")) if Path("/proc/self/fd").exists() else 0


async def test_many_hostile_urls_at_once_are_all_refused() -> None:
    async with honeypot() as port:
        urls = [url_of(said, port.port) for case in TRIED for said in case.urls]
        found = await asyncio.gather(*(egress.fetch(url) for url in urls), return_exceptions=True)
        assert all(isinstance(each, FetchFailed) for each in found)
    assert port.connections == []
