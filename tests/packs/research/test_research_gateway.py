"""Research behind a real gateway, within its walls: pages are fetched and read, and nothing else is reached."""

from typing import Any

from aiohttp import web
from gateway import Json, failure_of, gateway

from packs.research.webserver import listener, site


def research(**settings: Any) -> Json:
    return {"research": {"pack": "research", "sandbox": "required", "settings": settings}}


def page(text: str, type: str = "text/html") -> web.Response:
    return web.Response(body=text.encode(), headers={"content-type": type})


async def test_a_page_is_fetched_and_read_within_the_walls() -> None:
    pages = {"/": page("<title>T</title><p>The bridge opens at nine.")}
    async with site(pages) as web_site, gateway(research(allowed_hosts=[web_site.host])) as bascule:
        client = bascule.modern()
        found = await client.call("document/get_content", url=f"{web_site.url}/")
        assert found["structuredContent"]["content"] == "The bridge opens at nine."
        papers = await client.call("research/search_papers", query="Model Context Protocol", limit=3)
        assert len(papers["structuredContent"]["results"]) == 3
        url = papers["structuredContent"]["results"][0]["url"]
        assert "does not exist" in (await client.call("document/get_content", url=url))["content"][0]["text"]


async def test_a_url_of_this_machine_is_refused_and_nothing_connects() -> None:
    async with listener() as (port, connections), gateway(research()) as bascule:
        client = bascule.modern()
        for url in (f"http://127.0.0.1:{port}/", f"https://localhost:{port}/", f"https://2130706433:{port}/"):
            result = await client.call("document/get_content", url=url)
            assert result["isError"], result
            assert "is not fetched" in result["content"][0]["text"]
    assert connections == []


async def test_without_the_web_its_process_has_no_network_at_all() -> None:
    async with gateway(research(web=False)) as bascule:
        client = bascule.modern()
        assert (await client.call("research/search_papers", query="agents"))["structuredContent"]["results"]
        result = await client.call("document/get_content", url="https://example.com/")
        assert "not fetched here" in result["content"][0]["text"]


async def test_who_may_search_may_not_fetch() -> None:
    granted = {"anonymous": {"scopes": ["external:search"]}}
    async with gateway(research(), auth=granted) as bascule:
        client = bascule.modern()
        assert not (await client.call("research/search_papers", query="agents")).get("isError")
        params = {"name": "document/get_content", "arguments": {"paper_id": "sample:ssrf-agents"}}
        answer = await client.ask("tools/call", params)
    kind = answer["error"]["data"]["kind"] if "error" in answer else failure_of(answer["result"])["kind"]
    assert kind in ("tool_not_found", "scope_denied")
