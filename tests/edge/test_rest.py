"""Operations for operators: strict in what they take, closed to who may not, and never done for a foreign web page."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from gateway import Bascule, Json, gateway, remote
from governed import credentials, tool, wide

from bascule.store.journal import Hold, Start, Wanted

CALLERS: Final[dict[str, Json]] = {
    "op": {"scopes": ["bascule.status:read", "bascule.cache:write", "bascule.journal:write"]},
    "reader": {"scopes": ["bascule.status:read"]},
    "agent": {"scopes": ["*"]},
    "nobody": {"scopes": ["it:read"]},
}
KEYS: Final = credentials(*CALLERS)
JSON: Final = {"content-type": "application/json"}


class World:
    def __init__(self, bascule: Bascule) -> None:
        self.bascule = bascule

    async def ask(
        self,
        method: str,
        path: str,
        who: str | None = "op",
        body: Any = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> tuple[int, Any, Mapping[str, str]]:
        """(status, JSON, headers)."""
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        head = {**(JSON if sent is not None else {}), **(KEYS.of(who) if who else {}), **(headers or {})}
        async with self.bascule.request(method, path, head, sent) as exchange:
            text = await exchange.body()
            return exchange.status, json.loads(text) if text else None, exchange.headers

    async def refused(self, *args: Any, **more: Any) -> tuple[int, str]:
        """(status, kind of error): every refusal has the one shape of errors."""
        status, found, _ = await self.ask(*args, **more)
        assert found["jsonrpc"] == "2.0"
        data = found["error"]["data"]
        assert {"code", "kind", "category", "retryable", "trace_id", "source", "details"} <= data.keys()
        return status, data["kind"]


@asynccontextmanager
async def world(tmp_path: Any, **members: Any) -> AsyncIterator[World]:
    async with wide(modern=True, tools=[tool("work")]) as upstream:
        callers = members.pop("callers", KEYS.configured(**CALLERS))
        more = {"state_dir": str(tmp_path / "state"), "callers": callers, **members}
        servers = {"it": remote(upstream.url)}
        async with gateway(servers, environ=KEYS.environ, **more) as bascule:
            yield World(bascule)


# ---- who may


async def test_without_a_credential_or_with_a_wrong_one_nothing_is_told(tmp_path: Any) -> None:
    async with world(tmp_path) as w:
        for method, path in (("GET", "/cache"), ("DELETE", "/cache"), ("GET", "/journal"), ("GET", "/approvals")):
            assert await w.refused(method, path, None) == (401, "unauthenticated")
            wrong = {"authorization": "Bearer wrong"}
            assert await w.refused(method, path, None, headers=wrong) == (401, "unauthenticated")
        assert await w.refused("POST", "/journal/j1/resolve", None, {"never_ran": True}) == (401, "unauthenticated")


async def test_each_operation_needs_its_own_scope_and_says_which(tmp_path: Any) -> None:
    async with world(tmp_path) as w:
        for path in ("/cache", "/journal"):
            assert (await w.ask("GET", path, "reader"))[0] == 200
            assert await w.refused("GET", path, "nobody") == (403, "scope_denied")
        status, found, _ = await w.ask("DELETE", "/cache", "reader")
        assert (status, found["error"]["data"]["details"]["scopes"]) == (403, ["bascule.cache:write"])
        assert (await w.ask("DELETE", "/cache", "op"))[0] == 200
        resolve = ("POST", "/journal/j1/resolve")
        assert await w.refused(*resolve, "reader", {"never_ran": True}) == (403, "scope_denied")


async def test_who_may_call_everything_may_not_for_that_reason_decide_about_calls(tmp_path: Any) -> None:
    async with world(tmp_path) as w:
        assert (await w.ask("GET", "/journal", "agent"))[0] == 200
        assert await w.refused("POST", "/journal/j1/resolve", "agent", {"never_ran": True}) == (403, "scope_denied")
        assert await w.refused("POST", "/approvals/a1/approve", "agent", {}) == (403, "scope_denied")
        assert await w.refused("POST", "/approvals/a1/deny", "op", {}) == (403, "scope_denied")


@pytest.mark.parametrize("shared", [True, False])
async def test_a_caller_without_a_name_may_look_and_clear_but_decides_nothing(tmp_path: Any, shared: bool) -> None:
    http = {"http": {"bearer": "${env:OP}"}} if shared else {}
    async with world(tmp_path, callers={}, **http) as w:
        who = "op" if shared else None
        assert (await w.ask("GET", "/cache", who))[0] == 200
        assert (await w.ask("GET", "/journal", who))[0] == 200
        assert (await w.ask("DELETE", "/cache", who))[0] == 200
        assert await w.refused("POST", "/journal/j1/resolve", who, {"never_ran": True}) == (403, "scope_denied")
        for decision in ("approve", "deny"):
            assert (await w.refused("POST", f"/approvals/a1/{decision}", who, {}))[0] == 401


# ---- web pages


async def test_no_foreign_web_page_can_do_or_read_anything(tmp_path: Any) -> None:
    async with world(tmp_path) as w:
        foreign = {"origin": "https://evil.example"}
        for method, path, body in (
            ("GET", "/cache", None),
            ("DELETE", "/cache", None),
            ("POST", "/journal/j1/resolve", {"never_ran": True}),
            ("OPTIONS", "/cache", None),
        ):
            status, _, headers = await w.ask(method, path, "op", body, foreign)
            assert status == 403, (method, path)
            assert "access-control-allow-origin" not in headers
        assert await w.refused("GET", "/cache", headers={"host": "evil.example"}) == (421, "invalid_request")


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", None]
)
async def test_what_a_form_can_send_is_not_taken(tmp_path: Any, kind: str | None) -> None:
    async with world(tmp_path) as w:
        body = b'{"never_ran":true}'
        refused = await w.refused("POST", "/journal/j1/resolve", "op", body, {"content-type": kind})
        assert refused == (415, "invalid_request")


# ---- what is said


async def test_a_body_is_small_whole_and_an_object_without_surprises(tmp_path: Any) -> None:
    async with world(tmp_path) as w:
        resolve = ("POST", "/journal/j1/resolve", "op")
        huge = b'{"never_ran":true,"note":"%b"}' % (b"x" * 65_536)
        assert await w.refused(*resolve, huge) == (413, "invalid_request")
        for body, kind in (
            (b"{", "parse_failed"),
            (b'{"never_ran":true,"never_ran":false}', "parse_failed"),
            (b"[]", "invalid_request"),
            (b'"x"', "invalid_request"),
            (b'{"never_ran":NaN}', "parse_failed"),
            (b"[" * 60_000, "parse_failed"),
            (b'{"never_ran":true,"also":1}', "invalid_params"),
            (b'{"id":"j2","never_ran":true}', "invalid_params"),
        ):
            assert await w.refused(*resolve, body) == (400, kind), body[:40]
        assert await w.refused("POST", "/journal/j1/resolve?never_ran=1", "op", {}) == (400, "invalid_params")
        assert await w.refused("DELETE", "/cache", "op", {"tool": "x"}) == (400, "invalid_request")


@pytest.mark.parametrize(
    "query",
    ["tools=x", "tool=a&tool=b", "tool", "tool=%ff", "&".join("tool=x" for _ in range(40)), "tool=x;server=y&z"],
)
async def test_a_query_says_what_is_known_once_and_well(tmp_path: Any, query: str) -> None:
    async with world(tmp_path) as w:
        assert await w.refused("DELETE", f"/cache?{query}") == (400, "invalid_params")
        assert (await w.ask("DELETE", "/cache?tool=it%2Fwork&server=it"))[0] == 200


@pytest.mark.parametrize("query", ["state=LOST", "most=0", "most=-1", "most=x", "most=1e3", "most=9999999999"])
async def test_a_list_is_asked_for_in_words_that_it_knows(tmp_path: Any, query: str) -> None:
    async with world(tmp_path) as w:
        assert await w.refused("GET", f"/journal?{query}") == (400, "invalid_params")
        assert (await w.ask("GET", "/journal?state=unknown&most=5&caller=me"))[1] == {"calls": []}


# ---- paths and methods


@pytest.mark.parametrize(
    "id", ["..", "%2e%2e", "..%2fcache", "a.b", "a%00", "x" * 65, "", "j1'--", "%6a1", "a/b", "j1;x"]
)
async def test_an_id_is_an_id_and_leads_nowhere_else(tmp_path: Any, id: str) -> None:
    async with world(tmp_path) as w:
        # By hand: clients tidy such paths up before they send them.
        host, port = w.bascule.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        auth = KEYS.of("op")["authorization"]
        request = f"GET /journal/{id} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: {auth}\r\nconnection: close\r\n\r\n"
        writer.write(request.encode())
        status = int((await reader.read()).split()[1])
        writer.close()
        await writer.wait_closed()
        assert status == 404


async def test_what_is_not_there_is_404_and_another_method_405_with_those_that_there_are(tmp_path: Any) -> None:
    async with world(tmp_path) as w:
        assert await w.refused("GET", "/journal/j0123456789") == (404, "invalid_request")
        assert await w.refused("POST", "/journal/j1/resolve", "op", {"never_ran": True}) == (404, "invalid_request")
        for path in ("/cache/", "/journal/j1/approve", "//cache", "/Cache"):
            assert (await w.ask("GET", path))[0] in (404, 405), path
        for method, path, allow in (
            ("POST", "/cache", "DELETE, GET, HEAD"),
            ("PUT", "/cache", "DELETE, GET, HEAD"),
            ("DELETE", "/journal", "GET, HEAD"),
            ("GET", "/journal/j1/resolve", "POST"),
        ):
            status, _, headers = await w.ask(method, path, "op", {} if method == "POST" else None)
            assert (status, headers["allow"]) == (405, allow)


async def test_head_is_get_without_a_body_and_nothing_is_kept_by_caches(tmp_path: Any) -> None:
    async with world(tmp_path) as w:
        status, found, headers = await w.ask("HEAD", "/cache")
        assert (status, found, headers["cache-control"]) == (200, None, "no-store")
        assert headers["content-type"] == "application/json"
        assert (await w.ask("GET", "/cache", headers={"accept": "text/html"}))[0] == 406


# ---- calls of unknown outcome


async def lost(w: World, key: str = "k" * 16, *, ends: bool = True) -> str:
    """The id of a call that was sent; nobody knows what became of it, or (not *ends*) it still runs."""
    assert w.bascule.gateway is not None
    assert w.bascule.gateway.records is not None
    journal = w.bascule.gateway.records.journal
    wanted = Wanted(
        caller="ci", key=key, fingerprint=b"f" * 32, method="tools/call", thing="it/work", pin=b"p" * 32, trace_id="t"
    )
    hold = await journal.reserve(wanted)
    assert isinstance(hold, Hold)
    assert await journal.start(Start(hold=hold))
    if ends:
        assert await journal.lose(hold)
    return hold.id


RESULT: Final = {"content": [{"type": "text", "text": "paid 7"}], "structuredContent": {"id": 9007199254740993}}


async def test_a_call_is_shown_with_what_to_do_and_neither_its_key_nor_its_arguments(tmp_path: Any) -> None:
    async with world(tmp_path) as w:
        id = await lost(w)
        _, listed, _ = await w.ask("GET", "/journal?state=UNKNOWN", "reader")
        status, found, _ = await w.ask("GET", f"/journal/{id}", "reader")
        assert (status, listed["calls"]) == (200, [found])
        assert (found["state"], found["tool"], found["caller"], found["running"]) == ("UNKNOWN", "it/work", "ci", False)
        assert any(f"resolve {id} --never-ran" in step for step in found["next"])
        assert "k" * 16 not in json.dumps(found)
        assert (await w.ask("GET", "/journal?caller=other"))[1] == {"calls": []}


async def test_resolving_takes_exactly_one_outcome_that_a_tool_could_have_given(tmp_path: Any) -> None:
    async with world(tmp_path) as w:
        resolve = ("POST", f"/journal/{await lost(w)}/resolve", "op")
        wrong: list[Json] = [
            {},
            {"never_ran": False},
            {"never_ran": 1},
            {"never_ran": True, "result": RESULT},
            {"result": "done"},
            {"result": {}},
            {"result": {"content": "done"}},
            {"result": {"content": [{"text": "no type"}]}},
            {"result": {**RESULT, "isError": "no"}},
            {"result": {**RESULT, "resultType": "input_required"}},
            {"result": {"jsonrpc": "2.0", "id": 1, "result": RESULT}},
            {"never_ran": True, "note": 7},
            {"never_ran": True, "note": "x" * 501},
        ]
        for body in wrong:
            assert await w.refused(*resolve, body) == (400, "invalid_params"), body
        assert (await w.ask("GET", resolve[1].removesuffix("/resolve")))[1]["state"] == "UNKNOWN"


async def test_what_a_person_says_is_kept_for_the_next_send_and_in_the_audit(tmp_path: Any) -> None:
    async with world(tmp_path) as w:
        id = await lost(w)
        resolve = ("POST", f"/journal/{id}/resolve", "op")
        status, found, _ = await w.ask(*resolve, {"result": RESULT, "note": "in the ledger"})
        assert (status, found["resolved"], found["call"]["state"]) == (200, "answered", "COMPLETED")
        assert found["call"]["note"] == "op: in the ledger"
        assert w.bascule.gateway is not None
        records = w.bascule.gateway.records
        assert records is not None
        entry = await records.journal.get(id)
        assert entry is not None
        kept = await records.journal.result(entry)
        assert kept is not None
        assert json.loads(bytes(kept.value)) == RESULT
        assert await w.refused(*resolve, {"never_ran": True}) == (409, "invalid_request")
        rows = records.writer.read("SELECT caller, thing, outcome, entry FROM audit WHERE kind = 'journal'")
        assert [row[:3] for row in rows] == [("op", "it/work", "answered")]
        assert id.encode() in rows[0][3]
        assert b"in the ledger" in rows[0][3]


async def test_what_never_ran_may_run_and_what_runs_is_not_for_a_person_to_say(tmp_path: Any) -> None:
    async with world(tmp_path) as w:
        id = await lost(w)
        status, found, _ = await w.ask("POST", f"/journal/{id}/resolve", "op", {"never_ran": True})
        assert (status, found) == (200, {"id": id, "resolved": "never_ran"})
        assert (await w.ask("GET", f"/journal/{id}"))[0] == 404
        again = await lost(w, ends=False)
        assert (await w.ask("GET", f"/journal/{again}"))[1]["running"] is True
        assert await w.refused("POST", f"/journal/{again}/resolve", "op", {"never_ran": True}) == (409, "in_flight")
