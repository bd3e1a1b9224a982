"""What remote servers do to a gateway: refuse, stall, break, forget, lie; and what they may and may not see of it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from foreign import ECHO, Asked, Foreign, Handler, Visitor, ask, echoed, far, reaching
from gateway import Bascule, Json, Legacy, Modern, failure_of, gateway, local, remote, text_of

from bascule.upstream.asks import MAX_ASKS

HELLO: Json = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
BOUND_S = 4.0
HTML = b"<html><body><h1>Sorry</h1></body></html>"


@asynccontextmanager
async def before(foreign: Foreign, **more: Any) -> AsyncIterator[Bascule]:
    """A gateway in front of *foreign*, named `far`, once it knows its lists."""
    async with gateway({"far": remote(foreign.url, **more)}) as bascule:
        await bascule.up("far")
        yield bascule


async def client_of(bascule: Bascule, foreign: Foreign) -> Legacy | Modern:
    """A client of the server's own era, on its own endpoint."""
    return bascule.modern("/servers/far/mcp") if foreign.modern else await bascule.session("/servers/far/mcp")


def replying(status: int, body: bytes, kind: str = "text/html", **headers: str) -> Handler:
    return lambda asked: asked.reply(status, body, kind, headers)


eras = pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])


# ---- refusals of HTTP ----------------------------------------------------------------------------

NULL_ID = json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "no"}}).encode()
PROBLEMS: dict[str, tuple[int, Handler]] = {
    "401": (401, replying(401, b'{"error":"invalid_token"}', "application/json")),
    "401-json-rpc": (401, replying(401, NULL_ID, "application/json")),
    "403": (403, replying(403, HTML)),
    "429": (429, replying(429, b"slow down", "text/plain")),
    "500": (500, replying(500, b"", "text/plain")),
    "502-html": (502, replying(502, HTML)),
    "503-json-rpc": (503, replying(503, NULL_ID, "application/json")),
    "200-html": (200, replying(200, HTML)),
    "302": (302, replying(302, b"", location="http://127.0.0.1:9/elsewhere")),
    "307": (307, replying(307, b"", location="/elsewhere")),
}
problems = pytest.mark.parametrize(("status", "handler"), PROBLEMS.values(), ids=PROBLEMS)


@problems
async def test_a_refusal_of_http_is_a_clear_error_and_no_verdict_on_the_era(status: int, handler: Handler) -> None:
    async with far(modern=True) as foreign, gateway({"far": remote(foreign.url)}) as bascule:
        foreign.on["POST"] = handler
        answer = await Legacy(bascule, "/servers/far/mcp", "2025-11-25").ask("initialize", HELLO)
        kind = "rate_limited" if status == 429 else "upstream_protocol"
        assert (answer["error"]["data"]["kind"], answer["error"]["data"]["source"]) == (kind, "far")
        assert f"HTTP {status}" in answer["error"]["message"]
        assert f"HTTP {status}" in (await bascule.server("far"))["last_error"]
        del foreign.on["POST"]
        await bascule.up("far")
        assert (await bascule.server("far"))["eras"][-1] == "modern"
        assert text_of(await bascule.modern("/servers/far/mcp").call("echo", text="x")) == "x"
        assert all("elsewhere" not in asked.headers.get("host", "") for asked in foreign.seen)


@eras
@problems
async def test_a_call_that_http_refuses_says_so(status: int, handler: Handler, modern: bool) -> None:
    async with far(modern=modern) as foreign, before(foreign) as bascule:
        client = await client_of(bascule, foreign)
        foreign.on["tools/call"] = handler
        error = failure_of(await client.call("echo", text="x"))
        # A 429 says that the server has not run it: it is sent again, twice at most, and may be once more.
        kind, times = ("rate_limited", 3) if status == 429 else ("upstream_protocol", 1)
        assert (error["kind"], error["source"], error["retryable"]) == (kind, "far", status == 429)
        assert error["details"].get("http_status", 429) == status
        assert len(foreign.asked("tools/call")) == times
        del foreign.on["tools/call"]
        assert text_of(await client.call("echo", text="again")) == "again"


async def test_nobody_at_the_address_is_unavailable_and_may_be_tried_again() -> None:
    async with far() as foreign:
        pass
    async with gateway({"far": remote(foreign.url)}) as bascule:
        answer = await Legacy(bascule, "/servers/far/mcp", "2025-11-25").ask("initialize", HELLO)
        data = answer["error"]["data"]
        assert (data["kind"], data["source"], data["retryable"]) == ("unavailable", "far", True)


# ---- servers that stall --------------------------------------------------------------------------


async def say_nothing(asked: Asked) -> None:
    await asked.left()


async def say_only_headers(asked: Asked) -> None:
    await asked.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
    await asked.left()


async def open_a_silent_stream(asked: Asked) -> None:
    await asked.stream()
    await asked.left()


async def drip_comments(asked: Asked) -> None:
    await asked.stream()
    while True:
        await asked.chunk(b": still here\n\n")
        await asyncio.sleep(0.05)


async def drip_json(asked: Asked) -> None:
    await asked.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{")
    while True:
        await asked.write(b" ")
        await asyncio.sleep(0.05)


async def drip_headers(asked: Asked) -> None:
    await asked.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        await asked.write(b"x")
        await asyncio.sleep(0.05)


STALLING = [say_nothing, say_only_headers, open_a_silent_stream, drip_comments, drip_json, drip_headers]
stalling = pytest.mark.parametrize("handler", STALLING, ids=lambda handler: handler.__name__)


@eras
@stalling
async def test_a_call_to_a_server_that_stalls_ends_in_time_and_is_hung_up(handler: Handler, modern: bool) -> None:
    async with far(modern=modern) as foreign, before(foreign, call_timeout_s=0.2) as bascule:
        client = await client_of(bascule, foreign)
        foreign.on["tools/call"] = handler
        began = time.monotonic()
        error = failure_of(await client.call("echo", text="x"))
        assert time.monotonic() - began < BOUND_S
        assert (error["kind"], error["source"], error["retryable"]) == ("timeout", "far", False)
        async with asyncio.timeout(BOUND_S):
            await foreign.asked("tools/call")[0].left()
        del foreign.on["tools/call"]
        assert text_of(await client.call("echo", text="again")) == "again"


@eras
async def test_a_server_that_does_not_even_take_notifications_does_not_hold_up_the_timeout(modern: bool) -> None:
    async with far(modern=modern) as foreign, before(foreign, call_timeout_s=0.2) as bascule:
        client = await client_of(bascule, foreign)
        foreign.on["POST"] = say_nothing
        began = time.monotonic()
        assert failure_of(await client.call("echo", text="x"))["kind"] == "timeout"
        assert time.monotonic() - began < 2


@stalling
async def test_a_server_that_stalls_from_the_start_delays_nobody_for_ever(handler: Handler) -> None:
    servers = {"far": remote("", call_timeout_s=0.2), "good": local("plain")}
    async with far() as foreign:
        foreign.on["POST"] = handler
        servers["far"]["url"] = foreign.url
        async with gateway(servers, patience_s=0.2) as bascule:
            began = time.monotonic()
            answer = await Legacy(bascule, "/servers/far/mcp", "2025-11-25").ask("initialize", HELLO)
            assert answer["error"]["data"]["kind"] == "timeout"
            answer = await bascule.modern("/servers/far/mcp").ask("tools/list")
            assert answer["error"]["data"]["kind"] == "timeout"
            client = await bascule.session()
            assert text_of(await client.call("good__echo", text="x")) == "x"
            assert time.monotonic() - began < BOUND_S
            assert (await bascule.server("far"))["last_error"]
            del foreign.on["POST"]
            await bascule.up("far")


# ---- answers that break or make no sense ---------------------------------------------------------


async def hang_up(asked: Asked) -> None:
    asked.writer.close()


async def reset(asked: Asked) -> None:
    asked.reset()


async def break_json(asked: Asked) -> None:
    await asked.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"jsonrpc"')
    asked.writer.close()


async def reset_json(asked: Asked) -> None:
    await asked.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"jsonrpc"')
    await asyncio.sleep(0.05)  # or the reset overtakes what was written
    asked.reset()


async def break_stream(asked: Asked) -> None:
    await asked.stream()
    await asked.chunk(b'data: {"jsonrpc":')
    asked.writer.close()


async def reset_stream(asked: Asked) -> None:
    await asked.stream()
    await asked.chunk(b'data: {"jsonrpc":')
    await asyncio.sleep(0.05)
    asked.reset()


async def end_stream(asked: Asked) -> None:
    await asked.stream()
    await asked.end()


async def talk_nonsense(asked: Asked) -> None:
    await asked.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    asked.writer.close()


def saying(change: Callable[[Json], Any]) -> Handler:
    """An answer that *change* has made wrong."""
    good = {"jsonrpc": "2.0", "result": {"content": [], "resultType": "complete"}}
    return lambda asked: asked.say(change({**good, "id": asked.id}))


def shouting(body: bytes) -> Handler:
    return lambda asked: asked.reply(200, body.replace(b"ID", str(asked.id).encode()))


ERROR: Json = {"code": 1, "message": "and yet"}
BREAKING: dict[str, Handler] = {
    "hang-up": hang_up,
    "reset": reset,
    "break-json": break_json,
    "reset-json": reset_json,
    "break-stream": break_stream,
    "reset-stream": reset_stream,
    "end-stream": end_stream,
    "no-http": talk_nonsense,
    "wrong-id": saying(lambda good: {**good, "id": 999_999}),
    "id-as-string": saying(lambda good: {**good, "id": str(good["id"])}),
    "both": saying(lambda good: {**good, "error": ERROR}),
    "neither": saying(lambda good: {"jsonrpc": "2.0", "id": good["id"]}),
    "batch": saying(lambda good: [good]),
    "a-request": saying(lambda good: {"jsonrpc": "2.0", "id": good["id"], "method": "ping"}),
    "null": shouting(b"null"),
    "empty": shouting(b""),
    "half": shouting(b'{"jsonrpc":"2.0","id":ID,"result":{'),
    "nan": shouting(b'{"jsonrpc":"2.0","id":ID,"result":{"content":[],"x":NaN}}'),
    "latin-1": shouting(b'{"jsonrpc":"2.0","id":ID,"result":{"content":[],"x":"\xe9"}}'),
    "deep": shouting(b'{"jsonrpc":"2.0","id":ID,"result":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"),
    "too-large": shouting(b'{"jsonrpc":"2.0","id":ID,"result":{"x":"' + b"x" * (5 << 20) + b'"}}'),
}


@eras
@pytest.mark.parametrize("handler", BREAKING.values(), ids=BREAKING)
async def test_an_answer_that_breaks_or_is_none_may_have_run_and_is_said_at_once(
    handler: Handler, modern: bool
) -> None:
    async with far(modern=modern) as foreign, before(foreign) as bascule:
        client = await client_of(bascule, foreign)
        foreign.on["tools/call"] = handler
        began = time.monotonic()
        error = failure_of(await client.call("echo", text="x"))
        assert time.monotonic() - began < 2
        assert (error["kind"], error["code"], error["source"]) == ("upstream_protocol", 50006, "far")
        assert not error["retryable"]
        assert len(foreign.asked("tools/call")) == 1
        del foreign.on["tools/call"]
        assert text_of(await client.call("echo", text="again")) == "again"


@eras
async def test_on_a_stream_only_the_right_id_answers(modern: bool) -> None:
    async def confuse(asked: Asked) -> None:
        await asked.stream()
        for id in (None, 999_999, str(asked.id)):
            await asked.event({"jsonrpc": "2.0", "id": id, "result": {"content": []}})
        await asked.chunk(b"data: this is no JSON\n\n")
        said = {"content": [{"type": "text", "text": "mine"}], "resultType": "complete"}
        await asked.event({"jsonrpc": "2.0", "id": asked.id, "result": said})
        await asked.end()

    async with far(modern=modern) as foreign, before(foreign) as bascule:
        client = await client_of(bascule, foreign)
        foreign.on["tools/call"] = confuse
        assert text_of(await client.call("echo", text="x")) == "mine"
        dropped = (await bascule.server("far"))["dropped"]
        assert dropped == {"unmatched_answer": 3, "not_json_rpc": 1}


# ---- streams that are cut, sessions that are lost ------------------------------------------------


@pytest.mark.parametrize("primer", [b"id: a-1\nretry: 100\ndata: \n\n", b"id: a-1\nretry: 100\n\n"],
                         ids=["empty-data", "no-data"])  # fmt: skip
async def test_a_stream_that_the_server_closes_is_resumed_where_it_stood(primer: bytes) -> None:
    at: list[tuple[str, float]] = []

    async def close_early(asked: Asked) -> None:
        foreign.on["GET"] = resume
        await asked.stream()
        await asked.chunk(primer)
        await asked.end()
        at.append(("", time.monotonic()))

    async def resume(asked: Asked) -> None:
        at.append((asked.headers.get("last-event-id", ""), time.monotonic()))
        call = foreign.asked("tools/call")[0]
        token = call.message["params"]["_meta"]["progressToken"]
        await asked.stream()
        if len(at) == 2:
            progress = {"progressToken": token, "progress": 1}
            await asked.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}, id="a-2")
        else:
            result = {"content": [{"type": "text", "text": "at last"}]}
            await asked.event({"jsonrpc": "2.0", "id": call.id, "result": result}, id="a-3")
        await asked.end()

    async with far() as foreign, before(foreign) as bascule:
        client = await bascule.session("/servers/far/mcp")
        foreign.on["tools/call"] = close_early
        params = {"name": "echo", "arguments": {}, "_meta": {"progressToken": "mine"}}
        async with client.open("tools/call", params) as call:
            progress = await call.next_of("notifications/progress")
            assert progress["params"] == {"progressToken": "mine", "progress": 1}
            assert text_of((await call.last())["result"]) == "at last"
    assert [last_id for last_id, _ in at] == ["", "a-1", "a-2"]
    assert all(0.09 < later - earlier < 1 for (_, earlier), (_, later) in pairwise(at))
    assert len(foreign.asked("tools/call")) == 1
    assert {asked.headers["mcp-session-id"] for asked in foreign.asked("GET")[-2:]} == {"session-2"}


async def gone_for_good(asked: Asked) -> None:
    await asked.reply(404)


@pytest.mark.parametrize("handler", [gone_for_good, reset], ids=["404", "reset"])
async def test_a_stream_that_cannot_be_resumed_may_have_run_the_call(handler: Handler) -> None:
    async def close_early(asked: Asked) -> None:
        foreign.on["GET"] = handler
        await asked.stream()
        await asked.event({}, id="a-1", retry_ms=10)
        await asked.end()

    async with far() as foreign, before(foreign) as bascule:
        client = await bascule.session("/servers/far/mcp")
        foreign.on["tools/call"] = close_early
        error = failure_of(await client.call("echo"))
        assert (error["kind"], error["retryable"]) == ("upstream_protocol", False)


async def test_a_server_that_vanishes_before_the_rest_of_its_stream_may_have_run_the_call() -> None:
    async def close_and_leave(asked: Asked) -> None:
        foreign.listener.close()
        for other in {each.writer for each in foreign.seen} - {asked.writer}:
            other.close()
        await asked.stream()
        await asked.event({}, id="a-1", retry_ms=10)
        asked.writer.close()

    async with far() as foreign, before(foreign) as bascule:
        client = await bascule.session("/servers/far/mcp")
        foreign.on["tools/call"] = close_and_leave
        error = failure_of(await client.call("echo"))
        assert (error["kind"], error["retryable"]) == ("upstream_protocol", False)


LOST: dict[str, Handler] = {
    "plain": replying(404, b"Not Found", "text/plain"),
    "json-rpc": replying(404, NULL_ID, "application/json"),
    "empty": replying(404, b"", "application/json"),
}


def forgetting(foreign: Foreign, old: str, handler: Handler) -> Handler:
    """Refuses session *old*, and serves the others."""

    async def serve(asked: Asked) -> None:
        await (handler if asked.headers.get("mcp-session-id") == old else foreign.answer)(asked)

    return serve


@pytest.mark.parametrize("handler", LOST.values(), ids=LOST)
async def test_a_lost_session_is_opened_anew_and_the_call_sent_again_once(handler: Handler) -> None:
    async with far() as foreign, before(foreign) as bascule:
        client = await bascule.session("/servers/far/mcp")
        old = foreign.asked("initialize")[-1]
        foreign.on["tools/call"] = forgetting(foreign, f"session-{foreign.sessions}", handler)
        assert text_of(await client.call("echo", text="x")) == "x"
        assert len(foreign.asked("tools/call")) == 2
        again = foreign.asked("initialize")[-1]
        assert again is not old
        assert again.message["params"] == old.message["params"]
        assert "mcp-session-id" not in again.headers
        assert text_of(await client.call("echo", text="y")) == "y"
        assert foreign.sessions == 3


async def test_calls_that_lose_their_session_together_open_one_new_one() -> None:
    async with far() as foreign, before(foreign) as bascule:
        client = await bascule.session("/servers/far/mcp")
        foreign.on["tools/call"] = forgetting(foreign, f"session-{foreign.sessions}", LOST["json-rpc"])
        results = await asyncio.gather(*(client.call("echo", id=n, text=f"{n}") for n in range(5)))
        assert [text_of(result) for result in results] == [f"{n}" for n in range(5)]
        assert foreign.sessions == 3


async def test_a_session_that_is_lost_again_at_once_is_an_error() -> None:
    async with far() as foreign, before(foreign) as bascule:
        client = await bascule.session("/servers/far/mcp")
        foreign.on["tools/call"] = LOST["json-rpc"]
        error = failure_of(await client.call("echo", text="x"))
        assert (error["kind"], error["details"]["http_status"]) == ("upstream_protocol", 404)
        assert len(foreign.asked("tools/call")) == 2


RESTORED: Json = {"resources/subscribe": {"uri": "test://b"}, "logging/setLevel": {"level": "warning"}}


async def test_what_a_lost_session_had_set_is_set_again_and_who_watches_hears_that_anything_may_have_changed() -> None:
    async with far() as foreign, reaching(foreign, era="legacy") as upstream:

        async def obey(asked: Asked) -> None:
            await asked.answer({})

        foreign.on |= dict.fromkeys(("resources/subscribe", "resources/unsubscribe", "logging/setLevel"), obey)
        foreign.on["GET"] = open_a_silent_stream
        visitor = Visitor()
        await upstream.watch(visitor)
        for uri in ("test://a", "test://b"):
            await ask(upstream, "resources/subscribe", {"uri": uri}, session=visitor)
        await ask(upstream, "resources/unsubscribe", {"uri": "test://a"}, session=visitor)
        await ask(upstream, "logging/setLevel", {"level": "error"}, session=visitor)
        await ask(upstream, "logging/setLevel", {"level": "warning"}, session=visitor)
        foreign.on["tools/call"] = forgetting(foreign, "session-1", LOST["plain"])
        before = len(foreign.seen)
        assert await echoed(upstream, "x", visitor) == "x"
        renewed = [asked for asked in foreign.seen[before:] if asked.headers.get("mcp-session-id") == "session-2"]
        assert {asked.name: asked.message.get("params") for asked in renewed if asked.name in RESTORED} == RESTORED
        heard = {(await asyncio.wait_for(visitor.news.get(), BOUND_S))[0] for _ in range(3)}
        assert heard == {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}
        assert visitor.news.empty()
        async with asyncio.timeout(BOUND_S):
            # What a server was asked has no event.
            while "session-2" not in {each.headers.get("mcp-session-id") for each in foreign.asked("GET")}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_what_cannot_be_set_again_is_counted_and_does_not_fail_the_call() -> None:
    async with far() as foreign, reaching(foreign, era="legacy") as upstream:
        visitor = Visitor()
        foreign.on["logging/setLevel"] = lambda asked: asked.answer({})
        await ask(upstream, "logging/setLevel", {"level": "error"}, session=visitor)
        foreign.on["logging/setLevel"] = reset
        foreign.on["tools/call"] = forgetting(foreign, "session-1", LOST["plain"])
        assert await echoed(upstream, "x", visitor) == "x"
        assert upstream.status().dropped["not_restored"] == 1


# ---- questions -----------------------------------------------------------------------------------


def question(id: Any) -> Json:
    return {"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": {"message": "?"}}


def withdrawing(id: Any) -> Json:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}


@pytest.mark.parametrize("asked_on", ["call", "standing"])
@pytest.mark.parametrize("withdrawn_on", ["call", "standing"])
async def test_a_question_that_the_server_withdraws_is_withdrawn_whichever_stream_says_it(
    asked_on: str, withdrawn_on: str
) -> None:
    streams: dict[str, Asked] = {}
    open_now = asyncio.Event()

    def opening(name: str) -> Handler:
        async def keep_open(asked: Asked) -> None:
            await asked.stream()
            streams[name] = asked
            if len(streams) == 2:
                open_now.set()
            await asked.left()

        return keep_open

    async with far() as foreign, reaching(foreign, era="legacy") as upstream:
        foreign.on |= {"GET": opening("standing"), "tools/call": opening("call")}
        visitor = Visitor()
        await upstream.watch(visitor)
        call = asyncio.ensure_future(echoed(upstream, "x", visitor))
        async with asyncio.timeout(BOUND_S):
            await open_now.wait()
            await streams[asked_on].event(question("q"))
            assert await visitor.asked.get() == "elicitation/create"
            await streams[withdrawn_on].event(withdrawing("another"))
            await streams[withdrawn_on].event(withdrawing("q"))
            assert await visitor.withdrawn.get() == "elicitation/create"
        answer = {"jsonrpc": "2.0", "id": streams["call"].id, "result": {"content": [{"type": "text", "text": "done"}]}}
        await streams["call"].event(answer)
        assert await call == "done"
        assert visitor.news.empty()


async def test_too_many_questions_are_refused_and_so_is_one_twice() -> None:
    refused: asyncio.Queue[Json] = asyncio.Queue()

    async def flood(asked: Asked) -> None:
        await asked.stream()
        for id in ("twice", "twice", *range(MAX_ASKS + 20)):
            await asked.event(question(id))
        await asked.left()

    async def take(asked: Asked) -> None:
        refused.put_nowait(asked.message)
        await asked.reply(202)

    async with far() as foreign, reaching(foreign, era="legacy") as upstream:
        visitor = Visitor()
        assert await echoed(upstream, "x", visitor) == "x"
        foreign.on |= {"tools/call": flood, "POST": take}
        call = asyncio.ensure_future(echoed(upstream, "x", visitor))
        async with asyncio.timeout(BOUND_S * 2):
            answers = [await refused.get() for _ in range(22)]
        assert [answer["id"] for answer in answers] == ["twice", *range(MAX_ASKS - 1, MAX_ASKS + 20)]
        assert {answer["error"]["code"] for answer in answers} == {-32603}
        assert visitor.asked.qsize() == MAX_ASKS
        call.cancel()


# ---- connections ---------------------------------------------------------------------------------

MANY = 300


async def acknowledge(asked: Asked) -> None:
    await asked.stream()
    await asked.event({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {}})
    await asked.left()


async def test_streams_that_stand_open_leave_the_connections_for_calls_alone() -> None:
    async with far(modern=True) as foreign, reaching(foreign, max_connections=4) as upstream:
        foreign.on["subscriptions/listen"] = acknowledge
        clients = [Visitor(f"{n}") for n in range(MANY)]
        open_now = [asyncio.ensure_future(ask(upstream, "subscriptions/listen", client=each)) for each in clients]
        for each in clients:
            await each.heard("notifications/subscriptions/acknowledged")
        async with asyncio.timeout(BOUND_S):
            assert await asyncio.gather(*(echoed(upstream, f"{n}") for n in range(20))) == [f"{n}" for n in range(20)]
        assert upstream.status().in_flight == 0
        assert len({asked.writer for asked in foreign.asked("tools/call")}) <= 4
        for listener in open_now:
            listener.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)


async def test_sessions_that_listen_leave_the_connections_for_calls_alone() -> None:
    listening = asyncio.Semaphore(0)

    async def listen(asked: Asked) -> None:
        await asked.stream()
        listening.release()
        await asked.left()

    async with far() as foreign, reaching(foreign, max_connections=4, era="legacy") as upstream:
        foreign.on["GET"] = listen
        visitors = [Visitor(f"{n}") for n in range(MANY)]
        async with asyncio.timeout(30):
            await asyncio.gather(*(upstream.watch(each) for each in visitors))
            for _ in visitors:
                await listening.acquire()
        async with asyncio.timeout(BOUND_S):
            assert await asyncio.gather(*(echoed(upstream, each.id, each) for each in visitors[:20]))
        assert len({asked.writer for asked in foreign.asked("tools/call")}) <= 4


# ---- lists ---------------------------------------------------------------------------------------


@eras
@pytest.mark.parametrize(("cursor", "why"), [
    (lambda n: f"page-{n}", "more than 1000 pages"),
    (lambda n: "the same", "repeats a cursor"),
], ids=["endless", "repeating"])  # fmt: skip
async def test_a_list_without_an_end_is_given_up(cursor: Callable[[int], str], why: str, modern: bool) -> None:
    async def page(asked: Asked) -> None:
        more = {"nextCursor": cursor(len(foreign.asked("tools/list")))}
        await asked.answer({"resultType": "complete", "tools": [ECHO], **more})

    async with far(modern=modern) as foreign:
        foreign.on["tools/list"] = page
        async with gateway({"far": remote(foreign.url)}, patience_s=0.1) as bascule:
            said = await bascule.until("far", lambda said: said["last_error"])
            assert why in said["last_error"]
            assert len(foreign.asked("tools/list")) <= 1001
            found = bascule.modern() if modern else await bascule.session()
            assert (await found.result("tools/list"))["tools"] == []


# ---- headers -------------------------------------------------------------------------------------

ROUTED: Json = {
    "name": "routed",
    "inputSchema": {
        "type": "object",
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "where": {"type": "object", "properties": {"shard": {"type": "integer", "x-mcp-header": "Shard"}}},
            "dry": {"type": "boolean", "x-mcp-header": "Dry"},
        },
    },
}
ARGUMENTS: Json = {"region": "Zürich ", "where": {"shard": 7}, "dry": False}
PARAMS: dict[str, str | None] = {
    "mcp-param-region": "=?base64?WsO8cmljaCA=?=",
    "mcp-param-shard": "7",
    "mcp-param-dry": "false",
}


@pytest.fixture
async def routed() -> AsyncIterator[tuple[Foreign, Bascule]]:
    async with far(modern=True) as foreign:
        foreign.tools = [ECHO, ROUTED]
        async with before(foreign, headers={"authorization": "Bearer theirs", "x-tenant": "me"}) as bascule:
            yield foreign, bascule


@pytest.mark.parametrize("path", ["/mcp", "/servers/far/mcp"])
async def test_the_headers_of_a_call_are_made_anew_from_what_the_server_gets(
    path: str, routed: tuple[Foreign, Bascule]
) -> None:
    foreign, bascule = routed
    params = {"name": "far__routed" if path == "/mcp" else "routed", "arguments": ARGUMENTS}
    async with bascule.modern(path).open("tools/call", params, headers=PARAMS) as call:
        assert "result" in await call.last()
    (asked,) = foreign.asked("tools/call")
    sent = {name: asked.headers[name] for name in asked.headers if name.startswith("mcp-")}
    assert sent == {
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "routed",
        **PARAMS,
    }
    assert asked.message["params"]["name"] == "routed"
    assert asked.message["params"]["arguments"] == ARGUMENTS


@pytest.mark.parametrize("path", ["/mcp", "/servers/far/mcp"])
@pytest.mark.parametrize("wrong", [
    {"mcp-param-region": None},
    {"mcp-param-region": "Bern"},
    {"mcp-param-region": "=?base64?***?="},
    {"mcp-param-shard": None},
    {"mcp-param-shard": "8"},
    {"mcp-param-dry": "true"},
    {"mcp-param-dry": "False"},
])  # fmt: skip
async def test_a_missing_or_wrong_param_header_is_400_and_the_server_is_not_asked(
    wrong: dict[str, str | None], path: str, routed: tuple[Foreign, Bascule]
) -> None:
    foreign, bascule = routed
    params = {"name": "far__routed" if path == "/mcp" else "routed", "arguments": ARGUMENTS}
    async with bascule.modern(path).open("tools/call", params, headers={**PARAMS, **wrong}, id="mine") as call:
        assert call.status == 400
        answer = await call.json()
    assert (answer["id"], answer["error"]["code"]) == ("mine", -32020)
    assert not foreign.asked("tools/call")


async def test_a_param_header_for_an_argument_that_is_not_there_is_400(routed: tuple[Foreign, Bascule]) -> None:
    foreign, bascule = routed
    params = {"name": "routed", "arguments": {"region": None}}
    for headers, status in (({}, 200), ({"mcp-param-region": "null"}, 400)):
        async with bascule.modern("/servers/far/mcp").open("tools/call", params, headers=headers) as call:
            assert call.status == status
    (asked,) = foreign.asked("tools/call")
    assert not any(name.startswith("mcp-param-") for name in asked.headers)


@pytest.mark.parametrize("path", ["/mcp", "/servers/far/mcp"])
async def test_a_tool_with_an_invalid_header_annotation_is_not_listed_and_the_status_says_why(path: str) -> None:
    async with far(modern=True) as foreign:
        broken = json.loads(json.dumps(ROUTED).replace("Region", "Re gion")) | {"name": "broken"}
        foreign.tools = [ECHO, broken, ROUTED]
        async with before(foreign) as bascule:
            tools = (await bascule.modern(path).result("tools/list"))["tools"]
            assert [tool["name"].removeprefix("far__") for tool in tools] == ["echo", "routed"]
            withheld = (await bascule.server("far"))["withheld"]
            assert list(withheld) == ["broken"]
            assert "x-mcp-header" in withheld["broken"]


async def test_a_server_that_finds_our_headers_old_is_listed_anew_and_called_once_more() -> None:
    async def mind_the_headers(asked: Asked) -> None:
        if "mcp-param-region" in asked.headers:
            await foreign.answer(asked)
        else:
            await asked.refuse(-32020, "Mcp-Param-Region is missing", 400)

    async with far(modern=True) as foreign, before(foreign) as bascule:
        foreign.on["tools/call"] = mind_the_headers
        listed = len(foreign.asked("tools/list"))
        foreign.tools = [{**ROUTED, "name": "echo"}]
        client = bascule.modern("/servers/far/mcp")
        assert text_of(await client.call("echo", region="x", text="now")) == "now"
        assert len(foreign.asked("tools/list")) == listed + 1
        assert len(foreign.asked("tools/call")) == 2
        foreign.tools = [ECHO]
        foreign.on["tools/call"] = lambda asked: asked.refuse(-32020, "never content", 400)
        answer = await client.ask("tools/call", {"name": "echo", "arguments": {"text": "x"}})
        assert answer["error"]["code"] == -32020
        assert len(foreign.asked("tools/call")) == 4


@eras
@pytest.mark.parametrize("path", ["/mcp", "/servers/far/mcp"])
async def test_no_header_of_a_client_reaches_the_server_and_the_configured_ones_do(path: str, modern: bool) -> None:
    theirs: dict[str, str | None] = {
        "authorization": "Bearer of-the-client",
        "cookie": "secret-of-the-client=1",
        "x-forwarded-for": "1.2.3.4",
        "x-of-the-client": "yes",
        "mcp-param-of-the-client": "yes",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "user-agent": "of-the-client",
    }
    configured = {"Authorization": "Bearer of-the-operator", "X-Tenant": "me"}
    async with far(modern=modern) as foreign, before(foreign, headers=configured) as bascule:
        params = {"name": "far__echo" if path == "/mcp" else "echo", "arguments": {"text": "x"}}
        client = bascule.modern(path) if modern else await bascule.session(path, headers=theirs)
        async with client.open("tools/call", params, headers=theirs) as call:
            assert text_of((await call.last())["result"]) == "x"
        if isinstance(client, Legacy):
            session = client.headers["mcp-session-id"] or ""
            async with client.listen():
                await bascule.until("far", lambda _: len(foreign.asked("GET")) >= 2)
            await client.end()
        for asked in foreign.seen:
            assert (asked.headers["authorization"], asked.headers["x-tenant"]) == ("Bearer of-the-operator", "me")
            assert not {"cookie", "x-forwarded-for", "x-of-the-client", "traceparent"} & asked.headers.keys()
            assert "of-the-client" not in str(asked.headers)
            if not modern:
                assert session not in str(asked.headers)
