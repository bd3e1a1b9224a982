"""What Prometheus reads of a running gateway: over HTTP, parsed as Prometheus would."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from foreign import far
from gateway import Bascule, Json, failure_of, gateway, hostile, local, remote, until
from governed import Known, bearer, credentials, wide
from prometheus_client import parser

Found = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
ECHO = {"method": "tools/call", "tool": "far/echo", "server": "far"}
LISTEN: Json = {"listen": "127.0.0.1:0"}


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def parsed(text: str) -> Found:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(bascule: Bascule, headers: Mapping[str, str] | None = None) -> Found:
    """What /metrics beside the other endpoints says."""
    async with bascule.request("GET", "/metrics", headers) as exchange:
        assert exchange.status == 200, await exchange.body()
        return parsed((await exchange.body()).decode())


async def alone(bascule: Bascule, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """(status, content type, text) of what the socket of its own says."""
    assert bascule.gateway
    assert bascule.gateway.metrics_listener
    host, port = bascule.gateway.metrics_listener.address
    async with bascule.http.request(method, f"http://{host}:{port}{path}", headers=headers) as response:
        return response.status, response.headers["content-type"], await response.text()


async def test_calls_are_counted_by_how_they_ended() -> None:
    contract = {"tool": "far/echo", "guardrails": [{"deny": "args.text == 'no'"}], "cost_model": {"price_usd": 0.5}}
    async with wide(modern=True) as server, gateway({"far": remote(server.url)}, contracts=[contract]) as bascule:
        await bascule.up("far")
        client = bascule.modern()
        for text in ("a", "b"):
            await client.call("far__echo", text=text)
        failure_of(await client.call("far__echo", text="no"))
        found = await scraped(bascule)
    assert found[of("bascule_calls_total", category="ok", **ECHO)] == 2
    assert found[of("bascule_calls_total", category="security", **ECHO)] == 1
    assert found[of("bascule_call_duration_seconds_count", **ECHO)] == 2
    assert found[of("bascule_call_duration_seconds_bucket", le="60.0", **ECHO)] == 2
    assert found[of("bascule_cost_usd_total", tool="far/echo")] == 1.0


async def test_a_tool_that_fails_is_no_good_call() -> None:
    answers = {"echo": {"isError": True, "content": []}}
    async with wide(modern=True, answers=answers) as server, gateway({"far": remote(server.url)}) as bascule:
        await bascule.up("far")
        await bascule.modern().call("far__echo", text="x")
        found = await scraped(bascule)
    assert found[of("bascule_calls_total", category="failed", **ECHO)] == 1
    assert found[of("bascule_calls_total", category="ok", **ECHO)] == 0


async def test_calls_in_flight_are_those_that_nobody_has_answered_yet() -> None:
    async with far(modern=True) as server, gateway({"far": remote(server.url)}) as bascule:
        await bascule.up("far")
        came, go = asyncio.Event(), asyncio.Event()

        async def slowly(asked: Any) -> None:
            came.set()
            await go.wait()
            await server.answer(asked)

        server.on["tools/call"] = slowly
        call = asyncio.ensure_future(bascule.modern().call("far__echo", text="x"))
        await came.wait()
        assert (await scraped(bascule))[of("bascule_calls_in_flight")] == 1
        go.set()
        await call
        assert (await scraped(bascule))[of("bascule_calls_in_flight")] == 0


async def test_names_and_methods_that_clients_make_up_have_no_line() -> None:
    async with far(modern=True) as server, gateway({"far": remote(server.url)}) as bascule:
        await bascule.up("far")
        for number in range(3):
            await bascule.modern().ask("tools/call", {"name": f"far__made_up_{number}", "arguments": {}})
            await bascule.modern("/servers/far/mcp").ask("tools/call", {"name": f"made_up_{number}", "arguments": {}})
            await bascule.modern().ask(f"made/up{number}")
        found = await scraped(bascule)
    series = [dict(labels) for name, labels in found if name == "bascule_calls_total"]
    assert {each["tool"] for each in series} == {""}
    assert {each["method"] for each in series} <= {"tools/call", "tools/list", "server/discover", "other"}
    assert sum(value for (name, _), value in found.items() if name == "bascule_calls_total") == 9


async def test_a_server_that_is_down_is_not_up() -> None:
    async with gateway({"good": local("telling"), "bad": hostile("dies-at-start")}) as bascule:
        await bascule.up("good")

        async def up() -> dict[str, float]:
            found = await scraped(bascule)
            return {name: found[of("bascule_upstream_up", server=name)] for name in ("good", "bad")}

        await until(up, lambda seen: seen == {"good": 1, "bad": 0})


async def test_how_the_gateway_stands_is_there_before_anybody_calls() -> None:
    async with gateway({"near": local("telling")}) as bascule:
        await bascule.up("near")
        await bascule.session()
        found = await scraped(bascule)
    for name in (
        *("bascule_approvals_pending", "bascule_event_loop_lag_seconds", "bascule_audit_unrecorded_total"),
        *("bascule_cache_hits_total", "bascule_cache_misses_total", "process_resident_memory_bytes"),
    ):
        assert of(name) in found, name
    assert found[of("bascule_sessions")] == 1
    for name in ("bascule_upstream_restarts_total", "bascule_circuit_open", "bascule_definitions_pending"):
        assert found[of(name, server="near")] == 0


async def test_questions_that_wait_for_a_person_are_told() -> None:
    contract = {"tool": "far/echo", "confirm_gate": True}
    async with wide(modern=True) as server, gateway({"far": remote(server.url)}, contracts=[contract]) as bascule:
        await bascule.up("far")
        failure_of(await bascule.modern().call("far__echo", text="x"))
        assert (await scraped(bascule))[of("bascule_approvals_pending")] == 1


async def test_results_from_the_cache_are_told() -> None:
    contract = {"tool": "far/echo", "side_effect": False, "idempotent": True, "cache_policy": {"ttl_seconds": 60}}
    async with wide(modern=True) as server, gateway({"far": remote(server.url)}, contracts=[contract]) as bascule:
        await bascule.up("far")
        for _ in range(3):
            await bascule.modern().call("far__echo", text="x")
        found = await scraped(bascule)
    assert (found[of("bascule_cache_hits_total")], found[of("bascule_cache_misses_total")]) == (2, 1)


async def test_the_audit_and_the_metrics_agree() -> None:
    async with wide(modern=True) as server, gateway({"far": remote(server.url)}) as bascule:
        await bascule.up("far")
        for number in range(5):
            await bascule.modern().call("far__echo", text=str(number))
        found = await scraped(bascule)
        status = await bascule.status()
    assert found[of("bascule_calls_total", category="ok", **ECHO)] == 5
    assert status["calls"]["by_method"]["tools/call"] == 5


# ---- who may read it


async def test_beside_the_other_endpoints_it_is_for_operators() -> None:
    who = credentials("ops", "agent")
    callers = who.configured(ops={"scopes": ["bascule.status:read"]}, agent={"scopes": ["far"]})
    async with (
        far(modern=True) as server,
        gateway({"far": remote(server.url)}, environ=who.environ, callers=callers) as bascule,
    ):
        found = await scraped(bascule, who.of("ops"))
        for shown, status in ((who.of("agent"), 403), ({}, 401), (bearer("wrong"), 401)):
            async with bascule.request("GET", "/metrics", shown) as exchange:
                assert exchange.status == status
        again = await scraped(bascule, who.of("ops"))
        assert Known(bascule, shown=who.of("agent"))
    assert of("bascule_turned_away_total", kind="unauthenticated") not in found
    assert again[of("bascule_turned_away_total", kind="unauthenticated")] == 2


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("DELETE", 405), ("HEAD", 200)])
async def test_it_is_read_with_get(method: str, status: int) -> None:
    async with gateway({}) as bascule, bascule.request(method, "/metrics", {"accept": "*/*"}) as exchange:
        assert exchange.status in (status, 415)


async def test_turned_off_there_is_none() -> None:
    async with gateway({}, metrics={"enabled": False}) as bascule, bascule.request("GET", "/metrics") as exchange:
        assert exchange.status == 404


# ---- a socket of its own


@asynccontextmanager
async def listened(**more: Any) -> AsyncIterator[Bascule]:
    async with far(modern=True) as server, gateway({"far": remote(server.url)}, metrics=LISTEN, **more) as bascule:
        yield bascule


async def test_on_a_socket_of_its_own_nobody_is_asked_who_they_are() -> None:
    who = credentials("agent")
    callers = who.configured(agent={"scopes": ["far"]})
    async with listened(environ=who.environ, callers=callers) as bascule:
        status, kind, text = await alone(bascule)
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert parsed(text)[of("bascule_upstream_up", server="far")] == 1


async def test_then_it_is_nowhere_else() -> None:
    async with listened() as bascule, bascule.request("GET", "/metrics") as exchange:
        assert exchange.status == 404


async def test_prometheus_gets_openmetrics_if_it_asks_for_that() -> None:
    async with listened() as bascule:
        _, kind, text = await alone(bascule, accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize("path", ["/", "/status", "/mcp", "/health/live", "/metrics/", "//metrics", "/metrics%2f"])
async def test_nothing_else_is_there(path: str) -> None:
    async with listened() as bascule:
        assert (await alone(bascule, path))[0] == 404


async def test_there_too_it_is_read_with_get() -> None:
    async with listened() as bascule:
        assert (await alone(bascule, method="POST"))[0] == 405


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "[::ffff:1]x"])
async def test_a_page_whose_name_resolves_to_this_machine_gets_nothing(host: str) -> None:
    async with listened() as bascule:
        status, _, text = await alone(bascule, host=host)
    assert status == 421
    assert "bascule_" not in text


async def test_bound_elsewhere_it_answers_to_any_name() -> None:
    async with gateway({}, metrics={"listen": "0.0.0.0:0"}) as bascule:
        assert bascule.gateway
        assert bascule.gateway.metrics_listener
        _, port = bascule.gateway.metrics_listener.address
        url = f"http://127.0.0.1:{port}/metrics"
        async with bascule.http.get(url, headers={"host": "edge-7.cluster.local"}) as response:
            assert response.status == 200


async def test_an_address_that_is_taken_is_named() -> None:
    async with listened() as bascule:
        assert bascule.gateway
        assert bascule.gateway.metrics_listener
        _, port = bascule.gateway.metrics_listener.address
        with pytest.raises(Exception, match=rf"metrics\.listen: cannot listen on 127\.0\.0\.1:{port}"):
            async with gateway({}, metrics={"listen": f"127.0.0.1:{port}"}):
                pass


async def test_when_the_gateway_ends_its_socket_is_free_again() -> None:
    async with listened() as bascule:
        assert bascule.gateway
        assert bascule.gateway.metrics_listener
        host, port = bascule.gateway.metrics_listener.address
        await alone(bascule)
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(f"http://{host}:{port}/metrics")
