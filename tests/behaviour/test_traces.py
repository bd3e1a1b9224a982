"""A call is one trace from its client to its server, whatever it crosses; where calls are not traced, none pays."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

import pytest
from collector import Collector, Seen, collecting
from foreign import far
from gateway import Bascule, Json, Legacy, Modern, failure_of, gateway, local, remote, text_of
from governed import wide

from bascule.observe.traces import Tracing
from bascule.pipeline.trace import Attempt, Begin, Waits

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
SPAN: Final = "b7ad6b7169203331"
PARENT: Final = f"00-{TRACE}-{SPAN}-01"


def tracing(collector: Collector, **more: Any) -> Json:
    return {"endpoint": collector.url, **more}


async def called(client: Legacy | Modern, tool: str, meta: Json, headers: Mapping[str, str] | None = None) -> Json:
    params = {"name": tool, "arguments": {"text": "hi"}}
    if isinstance(client, Modern):
        async with client.open("tools/call", params, meta=meta, headers=headers) as exchange:
            answer = await exchange.last()
    else:
        async with client.open("tools/call", {**params, "_meta": meta}, headers=headers) as exchange:
            answer = await exchange.last()
    found: Json = answer["result"]
    return found


async def client_of(bascule: Bascule, *, modern: bool) -> Legacy | Modern:
    return bascule.modern() if modern else await bascule.session()


def label(result: Json) -> Json:
    found: Json = result["_meta"]["dev.bascule/call"]
    return found


def is_one_trace(spans: list[Seen], told: Json) -> None:
    """The client's span, ours, the request to the server, and what the server was told, hang together."""
    whole, attempt = spans
    assert (whole.kind, whole.trace_id, whole.parent_id) == ("server", TRACE, SPAN)
    assert (attempt.kind, attempt.trace_id, attempt.parent_id) == ("client", TRACE, whole.id)
    assert told["traceparent"] == f"00-{TRACE}-{attempt.id}-01"


@pytest.mark.parametrize("modern_client", [False, True], ids=["legacy_client", "modern_client"])
@pytest.mark.parametrize("modern_server", [False, True], ids=["legacy_server", "modern_server"])
class TestOneTrace:
    async def test_over_http(self, modern_client: bool, modern_server: bool) -> None:
        async with collecting() as collector, wide(modern=modern_server) as server:
            async with gateway({"far": remote(server.url)}, tracing=tracing(collector)) as bascule:
                await bascule.up("far")
                client = await client_of(bascule, modern=modern_client)
                result = await called(client, "far__echo", {"traceparent": PARENT, "tracestate": "a=1"})
                spans = await collector.trace(TRACE, spans=2)
            (asked,) = server.calls("echo")
            meta = asked.message["params"]["_meta"]
            is_one_trace(spans, meta)
            assert asked.headers["traceparent"] == meta["traceparent"]
            assert (asked.headers["tracestate"], meta["tracestate"]) == ("a=1", "a=1")
            assert label(result)["trace_id"] == TRACE

    async def test_over_a_pipe(self, modern_client: bool, modern_server: bool) -> None:
        options = ["--modern"] if modern_server else []
        async with collecting() as collector:
            async with gateway({"near": local("telling", *options)}, tracing=tracing(collector)) as bascule:
                await bascule.up("near")
                client = await client_of(bascule, modern=modern_client)
                result = await called(client, "near__echo", {"traceparent": PARENT})
                spans = await collector.trace(TRACE, spans=2)
            is_one_trace(spans, json.loads(text_of(result)))

    async def test_that_began_in_the_headers_of_http(self, modern_client: bool, modern_server: bool) -> None:
        async with collecting() as collector, wide(modern=modern_server) as server:
            async with gateway({"far": remote(server.url)}, tracing=tracing(collector)) as bascule:
                await bascule.up("far")
                client = await client_of(bascule, modern=modern_client)
                await called(client, "far__echo", {}, {"traceparent": PARENT})
                spans = await collector.trace(TRACE, spans=2)
            (asked,) = server.calls("echo")
            is_one_trace(spans, asked.message["params"]["_meta"])

    async def test_untraced_it_goes_through_untouched(self, modern_client: bool, modern_server: bool) -> None:
        said = {"traceparent": PARENT, "tracestate": "a=1", "baggage": "tenant=7"}
        async with wide(modern=modern_server) as server:
            async with gateway({"far": remote(server.url)}) as bascule:
                await bascule.up("far")
                client = await client_of(bascule, modern=modern_client)
                result = await called(client, "far__echo", said)
            (asked,) = server.calls("echo")
            meta = asked.message["params"]["_meta"]
            assert {name: meta.get(name) for name in said} == said
            assert "traceparent" not in asked.headers
            assert label(result)["trace_id"] == TRACE


async def test_a_span_says_what_the_conventions_have_names_for() -> None:
    contract = {"tool": "far/echo", "version": "1.2.0", "cost_model": {"price_usd": 0.002}}
    async with collecting() as collector, wide(modern=True) as server:
        servers = {"far": remote(server.url)}
        options = tracing(collector, service_name="edge-7", headers={"x-key": "${env:KEY}"})
        async with gateway(servers, tracing=options, contracts=[contract], environ={"KEY": "s3cret"}) as bascule:
            await bascule.up("far")
            await called(bascule.modern(), "far__echo", {"traceparent": PARENT})
            whole, attempt = await collector.trace(TRACE, spans=2)
    assert (whole.name, attempt.name) == ("tools/call far/echo", "tools/call far/echo")
    wanted = {
        "mcp.method.name": "tools/call",
        "mcp.protocol.version": "2026-07-28",
        "jsonrpc.request.id": "1",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "far/echo",
        "network.transport": "tcp",
        "bascule.caller": "anonymous",
        "bascule.server": "far",
        "bascule.contract.version": "1.2.0",
        "bascule.category": "ok",
        "bascule.decision": "allow",
        "bascule.cost_usd": 0.002,
        "bascule.attempts": 1,
    }
    assert whole.facts == wanted
    assert whole.process["service.name"] == "edge-7"
    assert not whole.failed
    assert attempt.seconds <= whole.seconds
    assert collector.headers[0]["x-key"] == "s3cret"


async def test_a_call_in_a_session_names_its_session() -> None:
    async with (
        collecting() as collector,
        far() as server,
        gateway({"far": remote(server.url)}, tracing=tracing(collector)) as bascule,
    ):
        client = await bascule.session()
        await called(client, "far__echo", {"traceparent": PARENT})
        whole, _ = await collector.trace(TRACE, spans=2)
    assert whole.facts["mcp.session.id"]
    assert whole.facts["mcp.session.id"] not in str(client.headers)  # what clients hold is sealed, and never told


async def test_a_tool_that_fails_and_a_server_that_is_away_are_errors_of_their_own_kind() -> None:
    async with (
        collecting() as collector,
        wide(modern=True, answers={"echo": {"isError": True, "content": []}}) as server,
        gateway({"far": remote(server.url)}, tracing=tracing(collector)) as bascule,
    ):
        await bascule.up("far")
        await called(bascule.modern(), "far__echo", {"traceparent": PARENT})
        whole, attempt = await collector.trace(TRACE, spans=2)
        assert (whole.facts["error.type"], attempt.facts["error.type"]) == ("tool_error", "tool_error")
        server.listener.close()
        for each in server.seen:
            each.writer.close()
        other = PARENT.replace(TRACE, "1" * 32)
        failed = failure_of(await called(bascule.modern(), "far__echo", {"traceparent": other}))
        whole, *_ = await collector.trace("1" * 32, spans=2)
        assert whole.failed
        assert (whole.facts["error.type"], whole.facts["bascule.category"]) == (failed["kind"], "transient")


async def test_a_call_that_is_refused_has_a_span_and_no_request() -> None:
    contract = {"tool": "far/echo", "guardrails": [{"deny": "args.text == 'hi'"}]}
    async with (
        collecting() as collector,
        wide(modern=True) as server,
        gateway({"far": remote(server.url)}, tracing=tracing(collector), contracts=[contract]) as bascule,
    ):
        await bascule.up("far")
        assert failure_of(await called(bascule.modern(), "far__echo", {"traceparent": PARENT}))["trace_id"] == TRACE
        (whole,) = await collector.trace(TRACE, spans=1)
    assert (whole.facts["error.type"], whole.facts["bascule.rule"]) == ("guardrail_denied", "guardrails.0")
    assert not server.calls("echo")


async def test_a_name_that_a_client_made_up_is_no_name_of_a_span() -> None:
    async with (
        collecting() as collector,
        wide(modern=True) as server,
        gateway({"far": remote(server.url)}, tracing=tracing(collector)) as bascule,
    ):
        await bascule.up("far")
        async with bascule.modern().open(
            "tools/call", {"name": "far__made_up", "arguments": {}}, meta={"traceparent": PARENT}
        ) as exchange:
            assert "error" in await exchange.last()
        (whole,) = await collector.trace(TRACE, spans=1)
    assert whole.name == "tools/call"


@pytest.mark.parametrize("trusted", [False, True])
async def test_what_a_client_says_to_its_own_services_is_for_trusted_servers(trusted: bool) -> None:
    async with collecting() as collector, wide(modern=True) as server:
        async with gateway({"far": remote(server.url, trusted=trusted)}, tracing=tracing(collector)) as bascule:
            await bascule.up("far")
            await called(bascule.modern(), "far__echo", {"traceparent": PARENT, "baggage": "tenant=7"})
        (asked,) = server.calls("echo")
    assert ("tenant=7" in asked.message["params"]["_meta"].get("baggage", "")) is trusted
    assert "baggage" not in asked.headers


async def test_a_call_that_its_client_does_not_keep_is_not_kept_here_and_stays_one_trace() -> None:
    unsampled = f"00-{TRACE}-{SPAN}-00"
    async with collecting() as collector, wide(modern=True) as server:
        async with gateway({"far": remote(server.url)}, tracing=tracing(collector)) as bascule:
            await bascule.up("far")
            await called(bascule.modern(), "far__echo", {"traceparent": unsampled})
            await called(bascule.modern(), "far__echo", {"traceparent": PARENT.replace(TRACE, "1" * 32)})
            await collector.trace("1" * 32, spans=2)
        first, _ = server.calls("echo")
    assert not [span for span in collector.spans if span.trace_id == TRACE]
    said = first.message["params"]["_meta"]["traceparent"]
    assert said.startswith(f"00-{TRACE}-")
    assert said.endswith("-00")
    assert SPAN not in said


async def test_each_attempt_is_a_span() -> None:
    async with collecting() as collector, wide(modern=True) as server:
        answered = server.answer
        asked = 0

        async def once_broken(each: Any) -> None:
            nonlocal asked
            asked += 1
            await (each.reply(503) if asked == 1 else answered(each))

        server.on["tools/call"] = once_broken
        contract = {"tool": "far/echo", "side_effect": False, "idempotent": True}
        async with gateway({"far": remote(server.url)}, tracing=tracing(collector), contracts=[contract]) as bascule:
            await bascule.up("far")
            text_of(await called(bascule.modern(), "far__echo", {"traceparent": PARENT}))
            whole, first, second = await collector.trace(TRACE, spans=3)
    assert whole.facts["bascule.attempts"] == 2
    assert {first.parent_id, second.parent_id} == {whole.id}
    assert sorted([first.failed, second.failed]) == [False, True]


async def test_waiting_for_a_person_is_a_span() -> None:
    contract = {"tool": "far/echo", "confirm_gate": True}
    async with (
        collecting() as collector,
        wide() as server,
        gateway({"far": remote(server.url)}, tracing=tracing(collector), contracts=[contract]) as bascule,
    ):
        await bascule.up("far")
        client = await bascule.session(capabilities={"elicitation": {}})
        params = {"name": "far__echo", "arguments": {"text": "hi"}, "_meta": {"traceparent": PARENT}}
        async with client.open("tools/call", params) as exchange:
            question = await exchange.next_of("elicitation/create")
            await client.answer(question, {"action": "accept", "content": {"confirm": True}})
            await exchange.last()
        spans = await collector.trace(TRACE, spans=3)
    names = {span.name: span for span in spans}
    assert "confirm" in names
    assert names["confirm"].parent_id == spans[0].id


async def test_a_collector_that_is_away_holds_nobody_up() -> None:
    async with wide(modern=True) as server:
        nobody = {"endpoint": "http://127.0.0.1:9"}
        async with gateway({"far": remote(server.url)}, tracing=nobody) as bascule:
            await bascule.up("far")
            assert text_of(await bascule.modern().call("far__echo", text="hi")) == "hi"


# ---- off


async def test_untraced_there_is_no_stage_for_it() -> None:
    async with far() as server, gateway({"far": remote(server.url)}) as bascule:
        assert bascule.gateway
        assert not list(_stages(bascule.gateway.forward, (Begin, Attempt, Waits)))
        assert bascule.gateway.instruments.tracing is None


async def test_traced_there_are_some() -> None:
    async with (
        collecting() as collector,
        far() as server,
        gateway({"far": remote(server.url)}, tracing=tracing(collector)) as bascule,
    ):
        assert bascule.gateway
        assert isinstance(bascule.gateway.instruments.tracing, Tracing)
        assert list(_stages(bascule.gateway.forward, (Begin, Attempt)))


def _stages(forward: Any, kinds: tuple[type, ...]) -> Any:
    """The stages of *kinds* in a chain, which is made of partial functions."""
    while hasattr(forward, "keywords"):
        if isinstance(forward.func, kinds):
            yield forward.func
        forward = forward.keywords["forward"]


def test_untraced_nothing_of_opentelemetry_is_loaded() -> None:
    program = (
        "import sys; from bascule.app import Gateway; from bascule.config import Config;"
        "Gateway(Config());"
        "print([name for name in sys.modules if name.split('.')[0] in ('opentelemetry', 'prometheus_client')])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == "[]", ran.stderr
