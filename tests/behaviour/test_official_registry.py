"""The official registry API of a gateway: its shape, its pages, and nothing in it that the caller may not see."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import jsonschema_rs
import pytest
from gateway import Bascule, Json, gateway, remote
from governed import credentials, tool, wide

from bascule.wire.versions import Era

BASE: Final = "https://mcp.example.com"
OFFICIAL: Final = "io.modelcontextprotocol.registry/official"
CONTRACTS: Final = "dev.bascule/contracts"
TIME: Final = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}

# What the registry's OpenAPI document of 2025-12-01 asks of answers, as far as we send it; nothing else may be there.
SERVER: Final[Json] = {
    "type": "object",
    "required": ["name", "description", "version"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "pattern": "^https://static.modelcontextprotocol.io/schemas/[0-9-]+/server"},
        "name": {"type": "string", "minLength": 3, "maxLength": 200, "pattern": "^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$"},
        "description": {"type": "string", "minLength": 1, "maxLength": 100},
        "title": {"type": "string", "minLength": 1, "maxLength": 100},
        "version": {"type": "string", "maxLength": 255, "pattern": r"^\d+\.\d+\.\d+(\+[0-9A-Za-z.-]+)?$"},
        "remotes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "url"],
                "additionalProperties": False,
                "properties": {
                    "type": {"const": "streamable-http"},
                    "url": {"type": "string", "pattern": r"^https?://\S+$"},
                },
            },
        },
    },
}
RESPONSE: Final[Json] = {
    "type": "object",
    "required": ["server"],
    "properties": {
        "server": SERVER,
        "_meta": {
            "type": "object",
            "properties": {
                OFFICIAL: {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "status": {"enum": ["active", "deprecated", "deleted"]},
                        "statusMessage": {"type": "string", "maxLength": 500},
                        **dict.fromkeys(("statusChangedAt", "publishedAt", "updatedAt"), TIME),
                        "isLatest": {"type": "boolean"},
                    },
                },
                CONTRACTS: {"type": "object", "additionalProperties": {"type": "object"}},
            },
        },
    },
}
LIST: Final[Json] = {
    "type": "object",
    "required": ["servers", "metadata"],
    "additionalProperties": False,
    "properties": {
        "servers": {"type": "array", "items": RESPONSE},
        "metadata": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"nextCursor": {"type": "string", "minLength": 1}, "count": {"type": "integer"}},
        },
    },
}
IS_LIST: Final = jsonschema_rs.Draft202012Validator(LIST)
IS_RESPONSE: Final = jsonschema_rs.Draft202012Validator(RESPONSE)

CALLERS: Final[dict[str, Json]] = {"all": {"scopes": ["*"]}, "clerk": {"scopes": ["crm:read"]}, "none": {"scopes": []}}
KEYS: Final = credentials(*CALLERS)
LEAD: Final[Json] = {"tool": "crm/work", "version": "1.2.0", "side_effect": False, "owner_team": "sales"}
HIDDEN: Final[Json] = {"tool": "crm/pay", "version": "2.0.0", "security_scope": "crm:pay"}


class World:
    def __init__(self, bascule: Bascule) -> None:
        self.bascule = bascule

    async def get(self, path: str, who: str | None = "all", method: str = "GET") -> tuple[int, Any]:
        async with self.bascule.request(method, path, KEYS.of(who) if who else {}) as exchange:
            text = await exchange.body()
            return exchange.status, json.loads(text) if text else None

    async def servers(self, query: str = "", who: str = "all") -> Json:
        status, found = await self.get(f"/v0.1/servers{query}", who)
        assert status == 200, found
        IS_LIST.validate(found)
        listed: Json = found
        return listed

    async def names(self, query: str = "", who: str = "all") -> list[str]:
        return [each["server"]["name"] for each in (await self.servers(query, who))["servers"]]

    async def version(self, name: str, who: str = "all", version: str = "latest") -> Json:
        status, found = await self.get(f"/v0.1/servers/{quote(name, safe='')}/versions/{version}", who)
        assert status == 200, found
        IS_RESPONSE.validate(found)
        response: Json = found
        return response


@asynccontextmanager
async def world(*names: str, public_url: str | None = BASE, **members: Any) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        servers = {}
        for name in names or ("crm", "hr"):
            tools = [tool("work"), tool("pay")]
            servers[name] = remote((await stack.enter_async_context(wide(modern=True, tools=tools))).url)
        http = {} if public_url is None else {"http": {"public_url": public_url}}
        more = {"callers": KEYS.configured(**CALLERS), "contracts": [LEAD, HIDDEN], **http, **members}
        bascule = await stack.enter_async_context(gateway(servers, environ=KEYS.environ, **more))
        assert bascule.gateway is not None
        for name in servers:
            await bascule.gateway.registry.settled(name, Era.MODERN)
        yield World(bascule)


async def test_each_server_is_listed_in_the_shape_of_the_api_with_this_gateway_as_its_remote() -> None:
    async with world() as w:
        found = await w.servers()
        assert [each["server"]["name"] for each in found["servers"]] == ["com.example.mcp/crm", "com.example.mcp/hr"]
        assert found["metadata"] == {"count": 2}
        crm = found["servers"][0]
        assert crm["server"]["remotes"] == [{"type": "streamable-http", "url": f"{BASE}/servers/crm/mcp"}]
        assert crm["server"]["description"] == "crm, governed by Bascule: 2 tools"
        assert crm["_meta"][OFFICIAL]["isLatest"] is True
        published = crm["_meta"][CONTRACTS]["crm/work"]
        assert (published["version"], published["owner_team"], published["side_effect"]) == ("1.2.0", "sales", False)


async def test_a_server_is_found_by_its_name_with_the_slash_encoded_or_decoded_on_the_way() -> None:
    async with world() as w:
        whole = await w.version("com.example.mcp/crm")
        for path in ("com.example.mcp%2Fcrm", "com.example.mcp%2fcrm", "com.example.mcp/crm"):
            assert await w.get(f"/v0.1/servers/{path}/versions/latest") == (200, whole)
            status, versions = await w.get(f"/v0.1/servers/{path}/versions")
            assert (status, versions["servers"]) == (200, [whole])
            IS_LIST.validate(versions)
        exact = quote(whole["server"]["version"], safe="")
        assert await w.version("com.example.mcp/crm", version=exact) == whole


@pytest.mark.parametrize(
    "path",
    [
        "/v0.1/servers/com.example.mcp%2Fnone/versions/latest",
        "/v0.1/servers/com.example.mcp%2Fcrm/versions/9.9.9",
        "/v0.1/servers/other%2Fcrm/versions",
        "/v0.1/servers/crm/versions",
        "/v0.1/servers/com.example.mcp%252Fcrm/versions",
        "/v0.1/servers/%ff/versions",
        "/v0.1/servers/com.example.mcp%2Fcrm%2F..%2Fhr/versions",
        "/v0.1/servers/com.example.mcp%2Fcrm",
        "/v0.1/",
        "/v0.1/publish",
    ],
)
async def test_what_is_not_there_is_not_found_in_the_words_of_the_api(path: str) -> None:
    async with world("crm") as w:
        status, found = await w.get(path)
        assert (status, list(found)) == (404, ["error"])


async def test_it_is_read_only() -> None:
    async with world("crm") as w:
        for method in ("PUT", "DELETE", "PATCH"):
            status, found = await w.get("/v0.1/servers/com.example.mcp%2Fcrm/versions/1.0.0", method=method)
            assert (status, found) == (405, {"error": "this registry is read-only"})
        assert await w.get("/v0.1/servers", method="HEAD") == (200, None)


# ---- pages


async def test_pages_together_are_the_whole_list_once() -> None:
    names = [f"s{number}" for number in range(5)]
    async with world(*names, contracts=[]) as w:
        found, query, pages = [], "?limit=2", 0
        while True:
            page = await w.servers(query)
            found += [each["server"]["title"] for each in page["servers"]]
            pages += 1
            cursor = page["metadata"].get("nextCursor")
            if cursor is None:
                break
            query = f"?limit=2&cursor={quote(cursor, safe='')}"
        assert (found, pages) == (names, 3)


async def test_a_list_is_narrowed_by_name_version_and_time() -> None:
    async with world() as w:
        assert await w.names("?search=CRM") == ["com.example.mcp/crm"]
        assert await w.names("?search=nothing") == []
        assert len(await w.names("?version=latest")) == 2
        assert await w.names("?version=1.2.3") == []
        assert len(await w.names("?updated_since=2020-01-01T00:00:00Z&include_deleted=true")) == 2
        assert await w.names("?updated_since=2999-01-01T00:00:00%2B02:00") == []
        assert len(await w.names("?limit=1000000&foreign=1")) == 2


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=x", "limit=%C2%B2", "cursor=!", "cursor=%C3%A9", "updated_since=yesterday",
     "updated_since=2026-01-01", "updated_since=2026-01-01T00:00:00", f"search={'x' * 600}", "search=%ff"],
)  # fmt: skip
async def test_a_query_that_means_nothing_is_refused(query: str) -> None:
    async with world("crm") as w:
        status, found = await w.get(f"/v0.1/servers?{query}")
        assert (status, list(found)) == (400, ["error"])


async def test_a_version_is_another_one_when_what_is_seen_of_the_server_has_changed() -> None:
    async with world("crm") as w:
        before = await w.version("com.example.mcp/crm")
        assert await w.version("com.example.mcp/crm") == before
        gateway = w.bascule.gateway
        assert gateway is not None
        await gateway.reload(type(gateway.config)(**{**_members(gateway.config), "documents": ()}))
        after = await w.version("com.example.mcp/crm")
        assert after["server"]["version"] != before["server"]["version"]
        assert after["_meta"][OFFICIAL]["updatedAt"] >= before["_meta"][OFFICIAL]["updatedAt"]


def _members(config: Any) -> Json:
    return {name: getattr(config, name) for name in config.__struct_fields__}


# ---- who sees what


async def test_what_a_caller_may_not_see_is_not_there() -> None:
    async with world() as w:
        assert await w.names(who="clerk") == ["com.example.mcp/crm"]
        assert await w.names(who="none") == []
        seen = await w.version("com.example.mcp/crm", "clerk")
        assert list(seen["_meta"][CONTRACTS]) == ["crm/work"]
        assert "1 tool" in seen["server"]["description"]
        everything = await w.version("com.example.mcp/crm", "all")
        assert set(everything["_meta"][CONTRACTS]) == {"crm/work", "crm/pay"}
        assert seen["server"]["version"] != everything["server"]["version"]
        hidden = await w.get("/v0.1/servers/com.example.mcp%2Fhr/versions/latest", "clerk")
        made_up = await w.get("/v0.1/servers/com.example.mcp%2Fmadeup/versions/latest", "clerk")
        assert hidden == made_up == (404, {"error": "Server not found"})


async def test_it_is_open_to_whom_the_endpoints_of_mcp_are_open() -> None:
    async with world("crm") as w:
        assert (await w.get("/v0.1/servers", None))[0] == 401
    async with world("crm", callers={}) as w:
        assert (await w.get("/v0.1/servers", None))[0] == 200


async def test_without_a_public_url_the_gateway_is_called_as_its_client_calls_it() -> None:
    async with world("crm", public_url=None) as w:
        (crm,) = (await w.servers())["servers"]
        assert crm["server"]["name"] == "127.0.0.1/crm"
        assert crm["server"]["remotes"][0]["url"] == f"{w.bascule.url}/servers/crm/mcp"
