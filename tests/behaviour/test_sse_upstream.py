"""Servers of 2024-11-05 behind a URL: a stream of events down, a POST for each message up.

Source: MCP 2024-11-05, Transports, "HTTP with SSE"; MCP 2026-07-28, Streamable HTTP, "HTTP+SSE Transport".
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from foreign import Asked, Foreign, Handler, OldForeign, Visitor, ask, echoed, far, listening, reaching
from gateway import Json, failure_of, gateway, remote, text_of

from bascule.errors import BasculeError, UpstreamBrokeProtocol
from bascule.upstream.http import HttpOptions, HttpUpstream
from bascule.wire.versions import Era

WITHIN_S = 15.0


@asynccontextmanager
async def old(**more: Any) -> AsyncIterator[tuple[OldForeign, HttpUpstream]]:
    async with listening(OldForeign(modern=False)) as foreign, reaching(foreign, **more) as upstream:
        yield foreign, upstream


class Latch:
    """Messages that wait for the test's leave to be answered."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[tuple[Asked, Asked]] = asyncio.Queue()

    async def __call__(self, asked: Asked, stream: Asked) -> None:
        self.came.put_nowait((asked, stream))

    async def next(self) -> tuple[Asked, Asked]:
        async with asyncio.timeout(WITHIN_S):
            return await self.came.get()


def reply(asked: Asked, text: str) -> Json:
    return {"jsonrpc": "2.0", "id": asked.id, "result": {"content": [{"type": "text", "text": text}]}}


# ---- how it is found -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 405])
async def test_a_url_that_refuses_the_handshake_is_tried_the_old_way_and_remembered(status: int) -> None:
    async with old() as (foreign, upstream):
        foreign.on["initialize"] = lambda asked: (
            foreign.answer(asked) if "session" in asked.path else asked.reply(status, b"no", "text/plain")
        )
        assert set(await upstream.eras()) == {Era.LEGACY}
        one, other = Visitor("one"), Visitor("other")
        greeting = await ask(upstream, "initialize", session=one)
        assert greeting["protocolVersion"] == "2024-11-05"
        assert await echoed(upstream, "x", one) == "x"
        assert await echoed(upstream, "y", other) == "y"
        assert [asked.path for asked in foreign.asked("initialize")].count("/mcp") == 1
        assert len(foreign.asked("GET")) == 2
        assert upstream.status().server["name"] == "far"


async def test_transport_sse_goes_straight_to_the_stream() -> None:
    async with old(transport="sse") as (foreign, upstream):
        assert set(await upstream.eras()) == {Era.LEGACY}
        assert await echoed(upstream, "x", Visitor()) == "x"
        assert foreign.seen[0].method == "GET"
        assert {asked.path for asked in foreign.seen} == {"/mcp", "/messages?session=1"}
        assert [asked.name for asked in foreign.seen if asked.path != "/mcp"] == [
            "initialize",
            "notifications/initialized",
            "tools/call",
        ]


async def test_transport_streamable_never_opens_a_stream() -> None:
    async with old(transport="streamable") as (foreign, upstream):
        with pytest.raises(UpstreamBrokeProtocol, match="405"):
            await ask(upstream, "initialize", session=Visitor())
        assert not foreign.asked("GET")


def test_a_transport_that_does_not_know_the_configured_era_is_refused() -> None:
    with pytest.raises(ValueError, match="older"):
        HttpOptions(url="http://127.0.0.1:1", transport="sse", era="modern")


async def refused(asked: Asked) -> None:
    await asked.reply(405, b"no", "text/plain")


async def open_a_silent_stream(asked: Asked) -> None:
    await asked.stream()
    await asked.left()


@pytest.mark.parametrize("get", [refused, open_a_silent_stream])
async def test_a_url_without_an_endpoint_event_is_none_and_the_first_refusal_is_what_is_said(get: Handler) -> None:
    async with far() as foreign, reaching(foreign, call_timeout_s=1) as upstream:
        foreign.on |= {"initialize": lambda asked: asked.reply(404, b"no such page", "text/plain"), "GET": get}
        with pytest.raises(UpstreamBrokeProtocol, match="no such page"):
            await ask(upstream, "initialize", session=Visitor())
        assert len(foreign.asked("GET")) == 1


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_guard_and_an_outage_are_no_reason_to_try_the_old_way(status: int) -> None:
    async with old() as (foreign, upstream):
        assert set(await upstream.eras()) == {Era.LEGACY}
        foreign.on["POST"] = lambda asked: asked.reply(status, b"no", "text/plain")
        with pytest.raises(UpstreamBrokeProtocol, match=str(status)):
            await ask(upstream, "initialize", session=Visitor())
        assert not foreign.asked("GET")


# ---- the endpoint --------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", [
    "http://elsewhere.test/messages?session={session}",
    "https://{host}/messages?session={session}",
    "http://127.0.0.1:1/messages?session={session}",
    "//127.0.0.1:1/messages?session={session}",
    "http://localhost:{port}/messages?session={session}",
    "http://{host}@elsewhere.test/messages?session={session}",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "http://[/messages",
])  # fmt: skip
@pytest.mark.parametrize("transport", ["auto", "sse"])
async def test_an_endpoint_at_another_origin_is_refused_and_nothing_is_sent_to_it(
    endpoint: str, transport: str
) -> None:
    async with old(transport=transport) as (foreign, upstream):
        host = foreign.url.split("/")[2]
        foreign.endpoint = endpoint.replace("{host}", host).replace("{port}", host.partition(":")[2])
        with pytest.raises(UpstreamBrokeProtocol) as caught:
            await ask(upstream, "initialize", session=Visitor())
        assert "endpoint" in str(caught.value) or "URL" in str(caught.value)
        assert not [asked for asked in foreign.seen if asked.path != "/mcp"]


@pytest.mark.parametrize("endpoint", [
    "/messages?session={session}",
    "messages?session={session}",
    "?session={session}",
    "http://{host}/a%2Fb/messages?x=a%2Fb&session={session}",
    "http://somebody:secret@{host}/messages?session={session}",
])  # fmt: skip
async def test_an_endpoint_at_the_same_origin_is_used_as_it_is_written(endpoint: str) -> None:
    async with old(transport="sse", headers={"authorization": "Bearer ours"}) as (foreign, upstream):
        foreign.endpoint = endpoint.replace("{host}", foreign.url.split("/")[2])
        assert await echoed(upstream, "x", Visitor()) == "x"
        path = foreign.asked("tools/call")[0].path
        assert path == {"?": "/mcp?session=1", "h": path}.get(endpoint[0], "/messages?session=1")
        assert "%2F" not in endpoint or path == "/a%2Fb/messages?x=a%2Fb&session=1"
        assert {asked.headers["authorization"] for asked in foreign.seen} == {"Bearer ours"}


async def test_the_configured_headers_go_with_every_request() -> None:
    async with old(headers={"x-tenant": "me"}) as (foreign, upstream):
        assert await echoed(upstream, "x", Visitor()) == "x"
        assert {asked.headers.get("x-tenant") for asked in foreign.seen} == {"me"}
        assert {asked.headers["accept"] for asked in foreign.asked("GET")} == {"text/event-stream"}


# ---- calls ---------------------------------------------------------------------------------------


async def test_answers_may_come_in_any_order() -> None:
    latch = Latch()
    async with old(transport="sse") as (foreign, upstream):
        foreign.says["tools/call"] = latch
        visitor = Visitor()
        calls = [asyncio.ensure_future(echoed(upstream, f"{n}", visitor)) for n in range(3)]
        came = [await latch.next() for _ in calls]
        assert [asked.text for asked, _ in came] == ["0", "1", "2"]
        for asked, stream in reversed(came):
            await stream.event(reply(asked, f"for {asked.text}"))
        assert await asyncio.gather(*calls) == ["for 0", "for 1", "for 2"]


async def test_a_message_that_cannot_be_delivered_fails_its_own_call_only() -> None:
    latch = Latch()
    async with old(transport="sse") as (foreign, upstream):
        foreign.says["tools/call"] = latch
        visitor = Visitor()
        waiting = asyncio.ensure_future(echoed(upstream, "x", visitor))
        asked, stream = await latch.next()
        foreign.on["tools/call"] = lambda asked: asked.reply(500, b"broken", "text/plain")
        with pytest.raises(UpstreamBrokeProtocol, match="500"):
            await echoed(upstream, "y", visitor)
        await stream.event(reply(asked, "after all"))
        assert await waiting == "after all"
        assert len(foreign.asked("GET")) == 1


async def test_a_server_that_has_forgotten_the_session_gets_a_new_one() -> None:
    async with old(transport="sse") as (foreign, upstream):
        visitor = Visitor()
        assert await echoed(upstream, "x", visitor) == "x"
        foreign.on["tools/call"] = lambda asked: asked.reply(404, b"Could not find session", "text/plain")
        with pytest.raises(UpstreamBrokeProtocol, match="Could not find session"):
            await echoed(upstream, "y", visitor)
        del foreign.on["tools/call"]
        assert await echoed(upstream, "z", visitor) == "z"
        assert len(foreign.asked("initialize")) == 2


async def test_a_cancelled_call_is_cancelled_at_the_server() -> None:
    latch, cancelled = Latch(), Latch()
    async with old(transport="sse") as (foreign, upstream):
        foreign.says |= {"tools/call": latch, "notifications/cancelled": cancelled}
        call = asyncio.ensure_future(echoed(upstream, "x", Visitor()))
        asked, _ = await latch.next()
        call.cancel()
        note, _ = await cancelled.next()
        assert note.message["params"]["requestId"] == asked.id


async def test_an_answer_that_is_too_large_ends_the_stream_and_the_next_call_opens_another() -> None:
    async def shout(asked: Asked, stream: Asked) -> None:
        await stream.event(reply(asked, "x" * 20_000))

    async with old(transport="sse", max_message_bytes=10_000) as (foreign, upstream):
        foreign.says["tools/call"] = shout
        with pytest.raises(UpstreamBrokeProtocol, match="larger"):
            await echoed(upstream, "x", Visitor())
        del foreign.says["tools/call"]
        assert await echoed(upstream, "y", Visitor()) == "y"


# ---- what the server says by itself --------------------------------------------------------------

QUESTION: Json = {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": "?"}}


async def test_a_question_goes_to_the_client_of_the_only_call_else_to_the_session() -> None:
    latch, answers = Latch(), Latch()
    async with old(transport="sse") as (foreign, upstream):
        foreign.says |= {"tools/call": latch, "POST": answers}
        visitor, one, other = Visitor(), Visitor("one"), Visitor("other")
        for each in (visitor, one, other):
            each.ready.set()
        calls = [asyncio.ensure_future(echoed(upstream, "x", visitor, one))]
        asked, stream = await latch.next()
        await stream.event(QUESTION)
        answer, _ = await answers.next()
        assert answer.message == {"jsonrpc": "2.0", "id": "q", "result": {"from": "one"}}
        await stream.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": 1}})
        assert await one.heard("notifications/message") == {"data": 1}
        calls.append(asyncio.ensure_future(echoed(upstream, "y", visitor, other)))
        both = [(asked, stream), await latch.next()]
        await stream.event(QUESTION)
        answer, _ = await answers.next()
        assert answer.message["result"] == {"from": "visitor"}
        await stream.event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        assert await visitor.heard("notifications/tools/list_changed") == {}
        for asked, stream in both:
            await stream.event(reply(asked, "done"))
        assert await asyncio.gather(*calls) == ["done", "done"]


async def test_a_server_that_takes_a_message_only_when_it_is_done_gets_the_answer_that_it_waits_for() -> None:
    answered = asyncio.Event()

    async def ask_first(asked: Asked) -> None:
        stream = foreign.stream_of(asked)
        await stream.event(QUESTION)
        await answered.wait()
        await stream.event(reply(asked, "done"))
        await asked.reply(202)

    async def take_answer(asked: Asked) -> None:
        await asked.reply(202)
        answered.set()

    async with old(transport="sse") as (foreign, upstream):
        visitor = Visitor()
        visitor.ready.set()
        assert await echoed(upstream, "x", visitor) == "x"
        foreign.on |= {"tools/call": ask_first, "POST": take_answer}
        async with asyncio.timeout(WITHIN_S):
            assert await echoed(upstream, "y", visitor) == "done"


async def test_a_question_that_the_server_withdraws_is_withdrawn() -> None:
    latch = Latch()
    async with old(transport="sse") as (foreign, upstream):
        foreign.says["tools/call"] = latch
        visitor = Visitor()
        call = asyncio.ensure_future(echoed(upstream, "x", visitor))
        asked, stream = await latch.next()
        await stream.event(QUESTION)
        async with asyncio.timeout(WITHIN_S):
            await visitor.asked.get()
            note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q"}}
            await stream.event(note)
            assert await visitor.withdrawn.get() == "elicitation/create"
        await stream.event(reply(asked, "done"))
        assert await call == "done"


# ---- streams that end ----------------------------------------------------------------------------


async def end(stream: Asked) -> None:
    await stream.end()
    stream.writer.close()


async def cut(stream: Asked) -> None:
    stream.writer.close()


async def reset(stream: Asked) -> None:
    stream.reset()


@pytest.mark.parametrize("ending", [end, cut, reset])
async def test_a_stream_that_ends_fails_the_calls_in_flight_and_the_next_call_opens_a_new_session(
    ending: Handler,
) -> None:
    latch = Latch()
    async with old(transport="sse") as (foreign, upstream):
        visitor = Visitor()
        foreign.says["tools/call"] = latch
        calls = [asyncio.ensure_future(echoed(upstream, "x", visitor)) for _ in range(3)]
        for _ in calls:
            await latch.next()
        await ending(foreign.streams[0])
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {UpstreamBrokeProtocol}
        assert not any(isinstance(outcome, BasculeError) and outcome.retryable for outcome in outcomes)
        assert upstream.status().in_flight == 0
        del foreign.says["tools/call"]
        assert await echoed(upstream, "y", visitor) == "y"
        hellos = [asked.message["params"] for asked in foreign.asked("initialize")]
        assert len(hellos) == 2
        assert hellos[0] == hellos[1]


async def test_what_a_session_had_set_is_set_again_and_who_watches_hears_that_anything_may_have_changed() -> None:
    async with old(transport="sse") as (foreign, upstream):
        visitor = Visitor()
        await upstream.watch(visitor)
        for uri in ("test://a", "test://b"):
            await ask(upstream, "resources/subscribe", {"uri": uri}, session=visitor)
        await ask(upstream, "resources/unsubscribe", {"uri": "test://a"}, session=visitor)
        await ask(upstream, "logging/setLevel", {"level": "warning"}, session=visitor)
        before = len(foreign.seen)
        foreign.streams[0].writer.close()  # nobody calls: it comes back by itself
        heard = {(await asyncio.wait_for(visitor.news.get(), WITHIN_S))[0] for _ in range(3)}
        assert heard == {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}
        again = [(asked.name, asked.message.get("params")) for asked in foreign.seen[before:] if asked.method == "POST"]
        assert again[2:] == [
            ("logging/setLevel", {"level": "warning"}),
            ("resources/subscribe", {"uri": "test://b"}),
        ]


async def test_a_session_that_is_over_closes_its_stream() -> None:
    async with old(transport="sse") as (foreign, upstream):
        visitor = Visitor()
        await upstream.watch(visitor)
        foreign.says["tools/call"] = latch = Latch()
        call = asyncio.ensure_future(echoed(upstream, "x", visitor))
        await latch.next()
        await upstream.forget(visitor)
        with pytest.raises(UpstreamBrokeProtocol):  # it had been sent
            await call
        async with asyncio.timeout(WITHIN_S):
            await foreign.streams[0].left()


async def test_many_streams_leave_the_connections_for_calls_alone() -> None:
    async with old(transport="sse", max_connections=4) as (foreign, upstream):
        visitors = [Visitor(f"{n}") for n in range(300)]
        async with asyncio.timeout(30):
            said = await asyncio.gather(*(echoed(upstream, each.id, each) for each in visitors))
        assert said == [each.id for each in visitors]
        assert len(foreign.streams) == 300
        assert upstream.status().in_flight == 0


# ---- another server in the place of the old one --------------------------------------------------


async def test_a_server_that_has_learnt_the_newer_transport_is_spoken_to_over_that() -> None:
    async with old() as (foreign, upstream):
        visitor = Visitor()
        assert await echoed(upstream, "x", visitor) == "x"
        new = Foreign(modern=False)
        foreign.on["*"] = new.answer
        foreign.on["GET"] = refused
        foreign.streams[0].writer.close()
        await foreign.streams[0].left()
        async with asyncio.timeout(WITHIN_S):
            while len(foreign.asked("initialize")) < 3:
                try:
                    assert await echoed(upstream, "y", visitor) == "y"
                except UpstreamBrokeProtocol:
                    pass  # the end of the stream was not noticed before the call was sent
        assert new.sessions == 1


async def test_a_server_that_has_forgotten_the_newer_transport_is_spoken_to_over_the_old_one() -> None:
    async with old() as (foreign, upstream):
        new = Foreign(modern=False)
        foreign.on |= dict.fromkeys(("initialize", "notifications/initialized", "tools/call"), new.answer)
        visitor = Visitor()
        assert await echoed(upstream, "x", visitor) == "x"
        assert new.sessions == 1
        assert not foreign.streams
        foreign.on.clear()
        assert await echoed(upstream, "y", visitor) == "y"
        assert len(foreign.streams) == 1


# ---- through Bascule -----------------------------------------------------------------------------


async def test_a_client_of_bascule_uses_such_a_server_like_any_other() -> None:
    async with listening(OldForeign(modern=False)) as foreign, gateway({"far": remote(foreign.url)}) as bascule:
        await bascule.up("far")
        for path, tool in (("/mcp", "far__echo"), ("/servers/far/mcp", "echo")):
            client = await bascule.session(path)
            assert [each["name"] for each in (await client.result("tools/list"))["tools"]] == [tool]
            assert text_of(await client.call(tool, text="x")) == "x"
        foreign.says["tools/call"] = Latch()
        call = asyncio.ensure_future(client.call("echo", text="x"))
        await bascule.until("far", lambda said: said["in_flight"] == 1)
        for stream in foreign.streams:
            stream.writer.close()
        assert failure_of(await call)["kind"] == "upstream_protocol"
        del foreign.says["tools/call"]
        assert text_of(await client.call("echo", text="y")) == "y"
