"""What somebody tries who means harm: at the forms, at the addresses, and as a person who may do less."""

import json
import re
import sqlite3
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlencode

import pytest
from gateway import Json, local, until
from governed import credentials
from shopping import stocked
from visiting import Visitor, at_console
from yarl import URL

from bascule.console.live import MOST_EACH
from bascule.console.pages import pages
from bascule.policy.roles import ROLES

SERVERS: Json = {"plain": local("plain")}


async def audited(at: Visitor, many: int = 1, **wanted: str) -> list[dict[str, Any]]:
    """The entries that say all that is *wanted*, once there are so many: they are written behind."""
    records = at.gateway.records
    assert records is not None

    async def found() -> list[dict[str, Any]]:
        entries = [json.loads(entry) for (entry,) in records.writer.read("SELECT entry FROM audit ORDER BY seq")]
        return [each for each in entries if all(each.get(name) == value for name, value in wanted.items())]

    rows: list[dict[str, Any]] = await until(found, lambda rows: len(rows) >= many)
    return rows


# ---- where a form comes from


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://a@127.0.0.1", "//", "\xff", "http:///x"])
async def test_what_is_no_origin_is_refused_and_no_fault_of_ours(origin: str) -> None:
    async with at_console(SERVERS) as at:
        for path in ("/theme", "/open", "/sign-out", "/servers/plain/restart"):
            assert (await at.post(path, headers={"origin": origin})).status == 403


async def test_where_tls_is_known_a_page_without_it_is_another_one() -> None:
    names: Json = {"public_url": "https://console.example", "allowed_hosts": ["console.example", "other.example"]}
    async with at_console(SERVERS, http=names) as at:
        for host, origin, status in (
            ("console.example", "https://console.example", 303),
            ("console.example", "http://console.example", 403),
            ("other.example", "https://other.example", 303),
            ("other.example", "http://other.example", 403),
            ("other.example", "https://console.example:444", 403),
        ):
            head = {"host": host, "origin": origin}
            async with at.http.post(f"{at.url}/theme", data={}, headers=head, allow_redirects=False) as response:
                assert response.status == status, (host, origin)


# ---- addresses


@pytest.mark.parametrize(
    "path",
    [
        *("/audit/" + "9" * 5000, "/audit/٣", "/audit/1x"),
        *(f"/cost{page}?month=\N{FULLWIDTH DIGIT TWO}026-11" for page in ("", "/charge-back.csv")),
    ],
    ids=lambda path: path[:30],
)
async def test_numbers_that_only_some_take_for_numbers_are_no_fault_of_ours(path: str) -> None:
    async with at_console(SERVERS) as at:
        assert (await at.get(path)).status in (400, 404)


@pytest.mark.parametrize("id", ["x%0d%0aset-cookie:%20a=b", "%E2%82%AC", "%00"])
async def test_an_address_puts_no_line_into_the_head_of_an_answer(id: str) -> None:
    async with at_console(SERVERS, role="viewer") as at:
        form = urlencode({"csrf": await at.csrf()})
        kind = {"origin": at.bascule.url, "content-type": "application/x-www-form-urlencoded", "hx-request": "true"}
        url = URL(f"{at.url}/reviews/{id}/approve", encoded=True)
        async with at.http.post(url, data=form, headers=kind) as response:
            assert response.status == 204
            assert response.headers["hx-redirect"].isascii()
            assert "a" not in response.cookies


# ---- sessions


async def test_a_stream_that_a_browser_opens_again_and_again_keeps_nobody_signed_in() -> None:
    async with at_console(SERVERS, console={"session_idle_s": 600}) as at:
        assert at.gateway.records is not None
        writer = at.gateway.records.writer

        def earlier(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE console_sessions SET seen_at_s = seen_at_s - 350")

        for status in (200, 401):
            await writer.write(earlier, durable=False)
            async with at.http.get(f"{at.url}/events") as response:
                assert response.status == status


async def test_one_browser_does_not_take_the_streams_of_all_others() -> None:
    async with at_console(SERVERS) as at, AsyncExitStack() as open_streams:

        async def status() -> int:
            response = await open_streams.enter_async_context(at.http.get(f"{at.url}/events"))
            if response.status == 200:
                await response.content.readline()
            return response.status

        assert [await status() for _ in range(MOST_EACH)] == [200] * MOST_EACH
        assert await status() == 503
        at.http.cookie_jar.clear()
        await at.sign_in()
        assert await status() == 200


async def test_who_signs_in_again_and_again_signs_nobody_else_out() -> None:
    async with at_console(SERVERS, name="ann") as at:
        sessions = [await at.sessions.begin("eve", ["viewer"], "oidc", 600) for _ in range(30)]
        assert [at.sessions.look(secret, 600) is not None for secret, _ in sessions] == [False] * 10 + [True] * 20
        assert (await at.get("/overview")).status == 200


# ---- what is refused is on record


async def test_a_change_that_somebody_may_not_make_is_on_record_under_their_name() -> None:
    async with at_console(SERVERS, role="viewer", name="eve") as at:
        assert (await at.post("/servers/plain/disable")).status == 403
        (entry,) = await audited(at, method="console.post")
        assert (entry["caller"], entry["decision"], entry["outcome"]) == ("eve", "deny", "scope_denied")
        assert "/console/servers/plain/disable" in entry["note"]


async def test_a_form_of_another_site_for_somebody_who_is_signed_in_is_on_record() -> None:
    async with at_console(SERVERS, name="ann") as at:
        assert (await at.post("/servers/plain/disable", headers={"origin": "http://127.0.0.1:1"})).status == 403
        assert (await at.post("/servers/plain/disable", {"csrf": "0" * 64})).status == 403
        first, second = [each["note"] for each in await audited(at, 2, kind="refused")]
        assert first.startswith("ann at /console/servers/plain/disable: the request comes from a page of")
        assert "another session" in second


async def test_by_rest_too() -> None:
    keys = credentials("op", "reader")
    callers = keys.configured(
        op={"scopes": ["bascule.status:read"]}, reader={"scopes": ["bascule.status:read", "bascule.registry:read"]}
    )
    async with at_console(SERVERS, callers=callers, environ=keys.environ) as at:
        url, said = f"{at.bascule.url}/api/keys", {"caller": "op"}
        async with at.http.post(url, json=said, headers=keys.of("reader")) as response:
            assert response.status == 403
        (entry,) = await audited(at, method="keys.create")
        assert (entry["kind"], entry["caller"], entry["proof"]) == ("action", "reader", "key")
        assert (entry["decision"], entry["outcome"]) == ("deny", "scope_denied")


# ---- roles


async def test_who_only_looks_can_change_nothing_anywhere() -> None:
    """Every form of every page, and every operation: for a viewer none of them does anything."""
    async with at_console(SERVERS, role="viewer") as at:
        await at.bascule.up("plain")
        for page in pages():
            for place in page.routes:
                if place.method != "POST" or place.path in ("/account/end", "/audit/verify"):
                    continue  # one's own sessions; to look whether the audit is whole
                path = re.sub(r"\{[^}]*\}", "x1", place.path)
                said = {"tool": "plain/echo", "version": "1.0.0", "aspect": "security", "decision": "approved"}
                assert (await at.post(path, said, follow=False)).status in (303, 403, 404), place.path
        records = at.gateway.records
        assert records is not None
        for table in ("contracts", "routes", "switches", "sign_offs"):
            assert records.writer.read(f"SELECT * FROM {table}") == []
        decided = "SELECT decided_by FROM definitions WHERE decided_by <> 'first sight'"
        assert records.writer.read(decided) == []
        asked = await audited(at, kind="action", decision="allow")
        assert {each["method"] for each in asked} == {"console.sign_in"}


async def test_every_operation_that_changes_something_needs_what_a_viewer_has_not() -> None:
    open_to_all = {"tools.call", "audit.verify"}  # under one's own scopes; to look whether the audit is whole
    keys = credentials("eve", "agent")
    callers = keys.configured(eve={"scopes": sorted(ROLES["viewer"])}, agent={"scopes": ["*"]})
    async with at_console(SERVERS, callers=callers, environ=keys.environ) as at:
        for operation in at.gateway.actions.operations:
            if operation.method == "GET" or operation.name in open_to_all:
                continue
            for who in ("eve", "agent"):
                path = re.sub(r"\{\w+\}", "x1", operation.path)
                said = {name: _sample(takes) for name, takes in operation.takes.items() if takes.needed}
                body = said if operation.method == "POST" else None
                url, head = at.bascule.url + path, keys.of(who)
                async with at.http.request(operation.method, url, headers=head, json=body) as response:
                    assert response.status == 403, (operation.name, who)


def _sample(takes: Any) -> Any:
    if takes.choices:
        return takes.choices[0]
    return {"string": "x", "integer": 1, "boolean": True, "object": {}, "array": []}[takes.type]


# ---- trying a tool


@pytest.mark.parametrize("version", ["2.0.0", "^2", ">=2"])
async def test_a_version_is_tried_by_who_holds_its_own_scopes(version: str) -> None:
    versions: list[Json] = [
        {"tool": "crm/search_leads", "version": "1.0.0", "side_effect": False, "security_scope": ["crm:read"]},
        {
            "tool": "crm/search_leads",
            "version": "2.0.0",
            "status": "deprecated",
            "side_effect": False,
            "security_scope": ["crm:secret"],
        },
    ]
    more: Json = {
        "contracts": versions,
        "console": {"try_scopes": {"viewer": ["crm:read"]}},
        "http": {"bearer": "${env:OP}"},  # one for all
        "environ": {"OP": "the-one-token-of-the-tests-0123456789"},
    }
    async with at_console({"crm": local("shop")}, role="viewer", **more) as at:
        await stocked(at)
        form = {"do": "call", "as": "json", "json": '{"query": "x"}'}
        path = "/tools/crm/search_leads?tab=try"
        assert "It answered" in (await at.post(path, form)).text
        refused = await at.post(path, {**form, "version": version})
        assert "you need crm:secret" in refused.text
        assert "It answered" not in refused.text
