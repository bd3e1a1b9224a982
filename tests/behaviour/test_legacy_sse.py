"""HTTP+SSE of 2024-11-05: a GET carries all that Bascule says, POSTs what the client says, both one session."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from foreign import Asked, far
from gateway import KINDLY, WITHIN_S, Bascule, Exchange, Headers, Json, gateway, local, remote, text_of, until

from bascule.edge import dialogue, streams

PATHS = ("/sse", "/servers/it/sse")
ACCEPTED: Json = {"action": "accept", "content": {"answer": "yes"}}
TOKEN = "a-token-of-sixteen-or-more"
JSON = {"content-type": "application/json"}


@pytest.fixture
async def plain() -> AsyncIterator[Bascule]:
    async with gateway({"it": local("plain")}) as bascule:
        await bascule.up("it")
        yield bascule


@dataclass
class Sse:
    """A client of 2024-11-05."""

    bascule: Bascule
    path: str
    events: Exchange
    endpoint: str
    headers: Headers

    async def post(self, message: Any, headers: Headers | None = None) -> int:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        head = {**JSON, **self.headers, **(headers or {})}
        async with self.bascule.request("POST", self.endpoint, head, body) as exchange:
            said = await exchange.body()
            assert not said or exchange.status >= 400
            return exchange.status

    async def send(self, method: str, params: Json | None = None, *, id: Any = 1) -> None:
        assert await self.post({"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}) == 202

    async def ask(self, method: str, params: Json | None = None, *, id: Any = 1) -> Json:
        """The answer, after whatever comes before it."""
        await self.send(method, params, id=id)
        return await self.answer_to(id)

    async def answer_to(self, id: Any) -> Json:
        while (message := await self.events.next()).get("id") != id or "method" in message:
            pass
        return message

    async def call(self, tool: str, /, *, id: Any = 1, **arguments: Any) -> Json:
        answer = await self.ask("tools/call", {"name": self.named(tool), "arguments": arguments}, id=id)
        assert "result" in answer, answer
        found: Json = answer["result"]
        return found

    def named(self, tool: str) -> str:
        return f"it__{tool}" if self.path == "/sse" else tool

    async def notify(self, method: str, params: Json | None = None) -> None:
        assert await self.post({"jsonrpc": "2.0", "method": method, "params": params or {}}) == 202

    async def initialize(self, version: str = "2024-11-05", capabilities: Json | None = None) -> Json:
        hello = {"protocolVersion": version, "capabilities": capabilities or {}, "clientInfo": {"name": "t"}}
        answer = await self.ask("initialize", hello, id=0)
        await self.notify("notifications/initialized")
        found: Json = answer["result"]
        return found


@asynccontextmanager
async def connected(bascule: Bascule, path: str = "/sse", headers: Headers | None = None) -> AsyncIterator[Sse]:
    """A client that has its endpoint, and nothing else yet."""
    head = {"accept": "text/event-stream", **(headers or {})}
    async with bascule.request("GET", path, head) as events:
        assert events.status == 200, await events.body()
        assert events.streams
        endpoint = await first_event(events)
        yield Sse(bascule, path, events, endpoint, headers or {})


@asynccontextmanager
async def session(
    bascule: Bascule, path: str = "/sse", capabilities: Json | None = None, headers: Headers | None = None
) -> AsyncIterator[Sse]:
    async with connected(bascule, path, headers) as client:
        await client.initialize(capabilities=capabilities)
        yield client


async def first_event(events: Exchange) -> str:
    event = await events._event()
    assert event is not None
    name, data = event.split(b"\n")
    assert name == b"event: endpoint"
    return data.removeprefix(b"data: ").decode()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_session_over_sse_in_any_legacy_revision(version: str, path: str, plain: Bascule) -> None:
    async with connected(plain, path) as client:
        assert client.endpoint.startswith(f"{path}?session_id=")
        greeting = await client.initialize(version)
        assert greeting["protocolVersion"] == version
        answer = await client.ask("tools/list", id="a")
        assert client.named("echo") in {tool["name"] for tool in answer["result"]["tools"]}
        assert text_of(await client.call("echo", text="hi")) == "hi"
        assert (await client.ask("ping", id=9))["result"] == {}
        assert client.events.last_id == ""  # there is nothing to resume


async def test_messages_are_events_called_message(plain: Bascule) -> None:
    async with connected(plain) as client:
        await client.send("ping")
        event = await client.events._event()
        assert event == b'event: message\ndata: {"jsonrpc":"2.0","id":1,"result":{}}'


@pytest.mark.parametrize("path", PATHS)
async def test_a_question_in_mid_call_is_asked_and_answered(path: str, plain: Bascule) -> None:
    async with session(plain, path, {"elicitation": {}}) as client:
        await client.send("tools/call", {"name": client.named("ask"), "arguments": {"question": "sure?", "times": 2}})
        for _ in range(2):
            question = await client.events.next_of("elicitation/create")
            assert await client.post({"jsonrpc": "2.0", "id": question["id"], "result": ACCEPTED}) == 202
        assert (await client.answer_to(1))["result"]["structuredContent"]["answers"] == [ACCEPTED, ACCEPTED]


@pytest.mark.parametrize("path", PATHS)
async def test_progress_and_a_cancellation_that_is_not_answered(path: str, plain: Bascule) -> None:
    async with session(plain, path) as client:
        params = {
            "name": client.named("sleep"),
            "arguments": {"seconds": 30},
            "_meta": {"progressToken": "t"},
        }
        await client.send("tools/call", params, id="long")
        progress = await client.events.next_of("notifications/progress")
        assert progress["params"]["progressToken"] == "t"
        await client.notify("notifications/cancelled", {"requestId": "long"})
        await client.send("tools/call", {"name": client.named("cancelled"), "arguments": {"at_least": 1}}, id="next")
        answer = await client.events.next()
        assert answer["id"] == "next", "MCP 2025-11-25, Cancellation: no response to what was cancelled"
        assert len(answer["result"]["structuredContent"]["ids"]) == 1


@pytest.mark.parametrize("path", PATHS)
async def test_news_are_heard_without_asking(path: str, plain: Bascule) -> None:
    async with session(plain, path) as client:
        await client.send("tools/call", {"name": client.named("rename"), "arguments": {"tool": "fail", "to": "f"}})
        said = [await client.events.next() for _ in range(2)]
        assert "notifications/tools/list_changed" in [message.get("method") for message in said]


async def test_answers_come_as_they_are_ready(plain: Bascule) -> None:
    async with session(plain) as client:
        await client.send("tools/call", {"name": "it__sleep", "arguments": {"seconds": 0.4}}, id="slow")
        await client.send("tools/call", {"name": "it__echo", "arguments": {"text": "x"}}, id="quick")
        assert [(await client.events.last())["id"] for _ in range(2)] == ["quick", "slow"]


async def test_what_comes_before_initialize_is_refused_and_after_it_waits(plain: Bascule) -> None:
    async with connected(plain) as client:
        answer = await client.ask("tools/list")
        assert answer["error"]["code"] == -32600
        await client.send("initialize", {"protocolVersion": "2024-11-05", "capabilities": {}}, id=2)
        await client.send("tools/list", id=3)
        assert [(await client.events.next())["id"] for _ in range(2)] == [2, 3]
        assert (await client.ask("initialize", {"protocolVersion": "2024-11-05"}, id=4))["error"]["code"] == -32600


async def test_an_initialize_that_fails_can_be_tried_again(plain: Bascule) -> None:
    async with connected(plain) as client:
        assert (await client.ask("initialize", {}))["error"]["code"] == -32602
        assert (await client.initialize())["protocolVersion"] == "2024-11-05"


async def test_the_session_ends_with_its_connection(plain: Bascule) -> None:
    async with session(plain, "/servers/it/sse") as client:
        await client.send("tools/call", {"name": "sleep", "arguments": {"seconds": 30}}, id="long")
        await plain.until("it", lambda said: said["in_flight"] == 1)
        client.events.response.close()
        await plain.until("it", lambda said: said["in_flight"] == 0)
        await until(lambda: sessions_of(plain), lambda count: count == 0)
        assert await client.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}) == 404
    async with session(plain, "/servers/it/sse") as other:
        assert len((await other.call("cancelled", at_least=1))["structuredContent"]["ids"]) == 1


async def sessions_of(bascule: Bascule) -> int:
    return int((await bascule.status())["sessions"])


async def test_an_unknown_session_is_404_and_so_is_one_of_another_endpoint(plain: Bascule) -> None:
    async with session(plain, "/servers/it/sse") as client:
        id = client.endpoint.partition("=")[2]
        for target in (
            *("/servers/it/sse", "/servers/it/sse?session_id=", "/servers/it/sse?session_id=x"),
            *(f"/servers/it/sse?session_id={id}x", f"/servers/it/sse?session_id={id[:-1]}"),
            *(f"/servers/it/sse?session_id={id}&session_id={id}", f"/sse?session_id={id}"),
        ):
            async with plain.request("POST", target, JSON, b'{"jsonrpc":"2.0","id":1,"method":"ping"}') as exchange:
                assert exchange.status == 404, target
                assert "error" in await exchange.json()
        # Nor is it the id of a session over Streamable HTTP.
        head = {**KINDLY, "mcp-session-id": id}
        async with plain.request("POST", "/servers/it/mcp", head, b'{"jsonrpc":"2.0","id":1,"method":"ping"}') as other:
            assert other.status == 404


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', {}, 400),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', {}, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', {"accept": "text/html"}, 202),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', {"accept": None}, 202),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', {"origin": "http://evil.com"}, 403),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', {"host": "evil.com"}, 421),
    ],
)
async def test_the_door_is_the_same(body: bytes, headers: Headers, status: int, plain: Bascule) -> None:
    async with connected(plain) as client:
        assert await client.post(body, headers) == status


async def test_a_body_that_is_too_large_is_413() -> None:
    async with gateway({}, http={"max_body_bytes": 1000}) as bascule, connected(bascule) as client:
        assert await client.post(b" " * 1001) == 413


async def test_a_stateless_request_is_sent_elsewhere(plain: Bascule) -> None:
    async with connected(plain) as client:
        meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
        params = {"_meta": {**meta, "io.modelcontextprotocol/clientCapabilities": {}}}
        assert await client.post({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": params}) == 400


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("DELETE", "/sse", {}, 405),
        ("GET", "/sse", {"accept": "application/json"}, 406),
        ("GET", "/sse/", {}, 404),
        ("GET", "/servers/nobody/sse", {}, 404),
        ("GET", "/servers/it/mcp/sse", {}, 404),
        ("GET", "/sse", {"origin": "http://evil.com"}, 403),
    ],
)
async def test_what_is_no_stream_is_refused(
    method: str, path: str, headers: Headers, status: int, plain: Bascule
) -> None:
    async with plain.request(method, path, headers) as exchange:
        assert exchange.status == status


async def test_a_refusal_names_the_paths_that_there_are(plain: Bascule) -> None:
    async with plain.request("GET", "/nowhere") as exchange:
        said = (await exchange.json())["error"]["message"]
    assert all(path in said for path in ("/mcp", "/servers/{name}/mcp", "/sse", "/servers/{name}/sse", "/status"))


async def test_a_token_is_needed_for_the_stream_and_for_every_post() -> None:
    async with gateway({"it": local("plain")}, http={"bearer": "${env:TOKEN}"}, environ={"TOKEN": TOKEN}) as bascule:
        async with bascule.request("GET", "/sse", {"accept": "text/event-stream"}) as exchange:
            assert exchange.status == 401
        async with session(bascule, headers={"authorization": f"Bearer {TOKEN}"}) as client:
            assert await client.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"authorization": None}) == 401
            assert (await client.ask("ping"))["result"] == {}


async def test_streams_count_as_sessions_and_are_never_pushed_out() -> None:
    async with gateway({"it": local("plain")}, http={"max_sessions": 2}) as bascule:
        async with session(bascule) as one, session(bascule) as other:
            async with bascule.request("GET", "/sse", {"accept": "text/event-stream"}) as exchange:
                assert exchange.status == 503
                assert "max_sessions" in (await exchange.json())["error"]["message"]
            for client in (one, other):
                assert (await client.ask("ping"))["result"] == {}
        await until(lambda: sessions_of(bascule), lambda count: count == 0)
        async with session(bascule):
            pass


async def test_however_busy_a_session_ends_in_time() -> None:
    async with gateway({"it": local("plain")}, http={"session_max_s": 0.5}) as bascule, session(bascule) as client:
        await client.events.ended()


async def test_a_quiet_stream_is_kept_alive(plain: Bascule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.05)
    async with connected(plain) as client:
        assert await client.events._event() == b":"


async def test_more_requests_at_once_than_allowed_are_refused(plain: Bascule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue, "MAX_IN_FLIGHT", 2)
    async with session(plain, "/servers/it/sse") as client:
        for id in (1, 2):
            await client.send("tools/call", {"name": "sleep", "arguments": {"seconds": 30}}, id=id)
        assert (await client.ask("tools/list", id=3))["error"]["data"]["kind"] == "overloaded"
        await client.notify("notifications/cancelled", {"requestId": 1})
        await plain.until("it", lambda said: said["in_flight"] == 1)
        assert "result" in await client.ask("tools/list", id=4)


async def test_a_shutdown_lets_calls_in_flight_be_answered() -> None:
    async with gateway({"it": local("plain")}) as bascule:
        await bascule.up("it")
        assert bascule.gateway
        async with session(bascule, "/servers/it/sse") as busy, session(bascule) as idle:
            await busy.send("tools/call", {"name": "sleep", "arguments": {"seconds": 0.3}}, id="last")
            await bascule.until("it", lambda said: said["in_flight"] == 1)
            bascule.gateway.edge.drain()
            await idle.events.ended()
            assert text_of((await busy.events.last())["result"]) == "slept 0.3 s"
            await busy.events.ended()
            async with bascule.request("GET", "/sse", {"accept": "text/event-stream"}) as exchange:
                assert exchange.status == 503


async def test_a_client_that_does_not_read_is_given_up(plain: Bascule, monkeypatch: pytest.MonkeyPatch) -> None:
    from bascule.edge import legacy_sse

    monkeypatch.setattr(legacy_sse, "_MAX_UNREAD_BYTES", 100_000)
    text = "x" * 1_000_000
    async with session(plain, "/servers/it/sse") as client:
        sends = [
            asyncio.ensure_future(client.send("tools/call", {"name": "echo", "arguments": {"text": text}}, id=id))
            for id in range(40)
        ]
        await until(lambda: sessions_of(plain), lambda count: count == 0)
        await asyncio.gather(*sends, return_exceptions=True)  # the last find no session any more


async def test_a_client_that_leaves_before_its_greeting_leaves_nothing_behind() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(request: Asked) -> None:
        asked.set()
        await go_on.wait()
        await server.answer(request)

    async with far() as server, gateway({"it": remote(server.url)}) as bascule:
        await bascule.up("it")
        server.on["initialize"] = slowly
        async with connected(bascule, "/servers/it/sse") as client:
            await client.send("initialize", {"protocolVersion": "2024-11-05", "capabilities": {}})
            await client.notify("notifications/initialized")
            async with asyncio.timeout(WITHIN_S):
                await asked.wait()
            before = len(server.asked("GET"))
            client.events.response.close()
            await until(lambda: sessions_of(bascule), lambda count: count == 0)
        go_on.set()
        del server.on["initialize"]
        async with session(bascule, "/servers/it/sse") as other:
            await other.call("echo", text="x")

            async def watched() -> int:
                return len(server.asked("GET")) - before

            await until(watched, lambda count: count == 1)  # of the second client; the first never listens
