"""Legacy sessions over HTTP, from the handshake to the DELETE, with everything that may happen between."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from gateway import ELICITS, Bascule, Exchange, Json, Legacy, gateway, local, remote, text_of, until

from bascule.config import Config, ListenOptions, SealOptions

PATHS = ("/mcp", "/servers/it/mcp")
ACCEPTED: Json = {"action": "accept", "content": {"answer": "yes"}}


@pytest.fixture
async def plain() -> AsyncIterator[Bascule]:
    async with gateway({"it": local("plain")}) as bascule:
        await bascule.up("it")
        yield bascule


@asynccontextmanager
async def behind(over: str) -> AsyncIterator[Bascule]:
    """plain.py as a child, or over HTTP at another Bascule."""
    async with gateway({"it": local("plain", sharing="per_session" if over == "http" else "shared")}) as inner:
        if over == "stdio":
            await inner.up("it")
            yield inner
        else:
            async with gateway({"it": remote(f"{inner.url}/servers/it/mcp")}) as outer:
                await outer.up("it")
                yield outer


def named(client: Legacy, tool: str) -> str:
    return f"it__{tool}" if client.path == "/mcp" else tool


def calling(client: Legacy, tool: str, /, **arguments: object) -> Json:
    return {"name": named(client, tool), "arguments": arguments}


async def next_is_new(client: Legacy, ear: Exchange) -> None:
    """Nothing waits on *ear*: the next thing that it hears is what happens now."""
    uri = "test://notes/3"
    assert await client.result("resources/subscribe", {"uri": uri}) == {}
    await client.call(named(client, "touch"), uri=uri)
    assert (await ear.next_of("notifications/resources/updated"))["params"]["uri"] == uri


async def test_a_session_lives_from_initialize_to_delete(plain: Bascule) -> None:
    client = await plain.session()
    id = client.headers["mcp-session-id"]
    assert id
    assert id.isascii()
    assert id.isprintable()
    assert (await client.result("tools/list"))["tools"]
    assert await client.end() == 204
    async with client.open("tools/list") as exchange:
        assert exchange.status == 404
    async with client.listen() as exchange:
        assert exchange.status == 404
    assert await client.end() == 404
    assert (await (await plain.session()).result("tools/list"))["tools"]


async def test_delete_ends_the_standing_stream_and_the_calls_in_flight(plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp")
    async with client.listen() as ear, client.open("tools/call", calling(client, "sleep", seconds=20)):
        assert await client.end() == 204
        await ear.ended()
    other = await plain.session("/servers/it/mcp")
    assert len((await other.call("cancelled", at_least=1))["structuredContent"]["ids"]) == 1


async def test_a_request_without_a_session_is_400(plain: Bascule) -> None:
    stranger = Legacy(plain, "/mcp", "2025-11-25", {"mcp-protocol-version": "2025-11-25"})
    async with stranger.open("tools/list") as exchange:
        assert exchange.status == 400
        assert "error" in await exchange.json()


@pytest.mark.parametrize("version", ["2099-01-01", "", "1", "2025-11-25x"])
async def test_a_wrong_version_header_is_400(version: str, plain: Bascule) -> None:
    client = await plain.session()
    async with client.open("tools/list", headers={"mcp-protocol-version": version}) as exchange:
        assert exchange.status == 400
        assert "error" in await exchange.json()


async def test_a_missing_version_header_is_forgiven(plain: Bascule) -> None:
    client = await plain.session()
    async with client.open("tools/list", headers={"mcp-protocol-version": None}) as exchange:
        assert "result" in await exchange.last()


@pytest.mark.parametrize("path", PATHS)
async def test_ping_is_answered(path: str, plain: Bascule) -> None:
    assert await (await plain.session(path)).result("ping") == {}


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_cut_connection_is_resumed_and_gets_the_answer_of_its_call(path: str, over: str) -> None:
    async with behind(over) as bascule:
        client = await bascule.session(path)
        params = {**calling(client, "sleep", seconds=0.6), "_meta": {"progressToken": "t"}}
        async with client.open("tools/call", params, id="mine") as call:
            progress = await call.next_of("notifications/progress")
            assert progress["params"]["progressToken"] == "t"
            last_id = call.last_id
            call.response.close()  # cut it
        assert last_id
        async with client.listen(last_id) as rest:
            answer = await rest.last()
            assert answer["id"] == "mine"
            assert text_of(answer["result"]) == "slept 0.6 s"
            await rest.ended()


async def test_an_answer_that_was_made_while_nobody_listened_is_resumed_and_repeated(plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp")
    async with client.open(
        "tools/call", {**calling(client, "sleep", seconds=0.2), "_meta": {"progressToken": 1}}
    ) as call:
        await call.next()
        last_id = call.last_id
        call.response.close()
    await plain.until("it", lambda said: said["in_flight"] == 0)
    for _ in range(2):
        async with client.listen(last_id) as rest:
            assert text_of((await rest.last())["result"]) == "slept 0.2 s"


@pytest.mark.parametrize("last_id", ["x", "99-1", "1-", "-1", "1-1-1", "٣-٣", "9" * 50])
async def test_an_unknown_event_id_is_no_other_stream(last_id: str, plain: Bascule) -> None:
    client = await plain.session()
    async with client.listen(last_id) as exchange:
        assert exchange.status == 404


async def test_an_event_id_of_another_session_gets_nothing_of_it(plain: Bascule) -> None:
    one, other = await plain.session("/servers/it/mcp"), await plain.session("/servers/it/mcp")
    params = {**calling(one, "sleep", seconds=0.2), "_meta": {"progressToken": 1}}
    async with one.open("tools/call", params) as call:
        await call.next()
        async with other.listen(call.last_id) as exchange:
            assert exchange.status == 404
        await call.last()


@pytest.mark.parametrize("path", PATHS)
async def test_what_happens_before_the_standing_stream_opens_is_held_for_it(path: str, plain: Bascule) -> None:
    client = await plain.session(path)
    async with client.listen():
        pass  # from now on the session is told of changes
    await client.call(named(client, "rename"), tool="fail", to="failing")
    async with client.listen() as ear:
        await ear.next_of("notifications/tools/list_changed")


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_cancellation_reaches_the_server(path: str, over: str) -> None:
    async with behind(over) as bascule:
        client = await bascule.session(path)
        params = {**calling(client, "sleep", seconds=30), "_meta": {"progressToken": 1}}
        async with client.open("tools/call", params, id="long") as call:
            await call.next_of("notifications/progress")
            assert await client.notify("notifications/cancelled", {"requestId": "long"}) == 202
            ids = (await client.call(named(client, "cancelled"), at_least=1))["structuredContent"]["ids"]
        assert len(ids) == 1


async def test_a_cancellation_of_nothing_is_ignored(plain: Bascule) -> None:
    client = await plain.session()
    for params in ({"requestId": 99}, {"requestId": None}, {}, {"requestId": {"a": 1}}):
        assert await client.notify("notifications/cancelled", params) == 202
    assert await client.result("ping") == {}


async def test_a_legacy_client_that_goes_away_cancels_nothing(plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp")
    params = {**calling(client, "sleep", seconds=0.5), "_meta": {"progressToken": 1}}
    async with client.open("tools/call", params) as call:
        await call.next()
        call.response.close()
    await plain.until("it", lambda said: said["in_flight"] == 0)
    assert (await client.call("cancelled"))["structuredContent"]["ids"] == []


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_question_in_mid_call_is_asked_on_the_calls_own_stream_and_answered(path: str, over: str) -> None:
    async with behind(over) as bascule:
        client = await bascule.session(path, capabilities=ELICITS)
        async with client.open("tools/call", calling(client, "ask", question="sure?", times=2)) as call:
            for _ in range(2):
                question = await call.next_of("elicitation/create")
                assert question["params"]["message"] == "sure?"
                assert question["params"]["requestedSchema"]["required"] == ["answer"]
                await client.answer(question, ACCEPTED)
            assert (await call.last())["result"]["structuredContent"]["answers"] == [ACCEPTED, ACCEPTED]


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize(("tool", "arguments", "method", "capability"), [
    ("sample", {"prompt": "hi"}, "sampling/createMessage", "sampling"),
    ("roots", {}, "roots/list", "roots"),
])  # fmt: skip
async def test_sampling_and_roots_cross_too(
    tool: str, arguments: Json, method: str, capability: str, over: str
) -> None:
    async with behind(over) as bascule:
        client = await bascule.session("/servers/it/mcp", capabilities={capability: {}})
        reply = {"roots": [{"uri": "file:///x", "dev.example/x": None}], "big": 12345678901234567890}
        async with client.open("tools/call", calling(client, tool, **arguments)) as call:
            await client.answer(await call.next_of(method), reply)
            assert (await call.last())["result"]["structuredContent"] == reply


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_did_not_declare_elicitation_is_never_asked(path: str, over: str) -> None:
    async with behind(over) as bascule:
        client = await bascule.session(path)
        async with client.listen() as ear, client.open("tools/call", calling(client, "ask", question="sure?")) as call:
            answer = await call.next()
            assert "method" not in answer, answer
            await next_is_new(client, ear)


@pytest.mark.parametrize("path", PATHS)
async def test_the_log_level_is_each_sessions_own(path: str, plain: Bascule) -> None:
    quiet, curious = await plain.session(path), await plain.session(path)
    assert await quiet.result("logging/setLevel", {"level": "error"}) == {}
    assert await curious.result("logging/setLevel", {"level": "debug"}) == {}
    for client, heard in ((quiet, []), (curious, ["notifications/message"])):
        async with client.open("tools/call", calling(client, "log", level="info", message="hello")) as call:
            messages = [await call.next()]
            while "id" not in messages[-1]:
                messages.append(await call.next())
        assert [message["method"] for message in messages[:-1]] == heard


async def test_an_unknown_log_level_is_refused(plain: Bascule) -> None:
    for path in PATHS:
        answer = await (await plain.session(path)).ask("logging/setLevel", {"level": "loud"})
        assert answer["error"]["code"] == -32602


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_subscription_is_counted_per_session(path: str, over: str) -> None:
    uri = "test://notes/1"
    async with behind(over) as bascule:
        one, other = await bascule.session(path), await bascule.session(path)
        async with one.listen() as first, other.listen() as second:
            for client in (one, other):
                assert await client.result("resources/subscribe", {"uri": uri}) == {}
            if over == "stdio":  # over HTTP each session has a process of its own here
                await one.call(named(one, "touch"), uri=uri)
                for ear in (first, second):
                    assert (await ear.next_of("notifications/resources/updated"))["params"]["uri"] == uri
                assert await one.result("resources/unsubscribe", {"uri": uri}) == {}
            await other.call(named(other, "touch"), uri=uri)
            assert (await second.next_of("notifications/resources/updated"))["params"]["uri"] == uri
            await other.result("resources/unsubscribe", {"uri": uri})
            await other.call(named(other, "touch"), uri=uri)
            await next_is_new(other, second)
            if over == "stdio":
                await next_is_new(one, first)


async def test_a_session_that_ends_takes_its_subscription_along(plain: Bascule) -> None:
    one, other = await plain.session("/servers/it/mcp"), await plain.session("/servers/it/mcp")
    async with other.listen() as ear:
        for client in (one, other):
            await client.result("resources/subscribe", {"uri": "test://notes/1"})
        await one.end()
        await other.call("touch")
        await ear.next_of("notifications/resources/updated")


async def test_a_subscription_survives_a_restart_of_the_server(plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp")
    async with client.listen() as ear:
        await client.result("resources/subscribe", {"uri": "test://notes/1"})
        await client.call("crash", code=1)
        await plain.until("it", lambda said: said["state"] == "ready" and said["restarts"] == 1)
        await client.call("touch")
        while (message := await ear.next())["method"] != "notifications/resources/updated":
            assert message["method"].endswith("list_changed")


@pytest.mark.parametrize("path", PATHS)
async def test_list_changed_reaches_every_listening_session_once(path: str, plain: Bascule) -> None:
    clients = [await plain.session(path) for _ in range(3)]

    async def hear(client: Legacy, ready: asyncio.Semaphore) -> list[str]:
        heard = []
        async with client.listen() as ear:
            ready.release()
            for _ in range(2):
                heard.append((await ear.next())["method"])
                ready.release()
        return heard

    ready = asyncio.Semaphore(0)
    ears = [asyncio.ensure_future(hear(client, ready)) for client in clients]
    for tool, to in (("fail", "failing"), ("failing", "failed")):
        for _ in clients:
            await ready.acquire()
        await clients[0].call(named(clients[0], "rename"), tool=tool, to=to)
    for ear in ears:
        assert await ear == ["notifications/tools/list_changed"] * 2
    tools = (await clients[0].result("tools/list"))["tools"]
    assert named(clients[0], "failed") in {tool["name"] for tool in tools}


async def test_more_sessions_than_allowed_push_out_the_idle_ones_and_never_one_in_use() -> None:
    async with gateway({"it": local("plain")}, http={"max_sessions": 2}) as bascule:
        busy, idle = await bascule.session(), await bascule.session()
        async with busy.listen():
            fresh = await bascule.session()
            assert await fresh.result("ping") == {}
            assert await busy.result("ping") == {}
            async with idle.open("ping") as exchange:
                assert exchange.status == 404


async def test_a_session_without_use_expires() -> None:
    async with gateway({"it": local("plain")}, http={"session_idle_s": 0.2}) as bascule:
        client = await bascule.session()
        async with client.listen() as ear:
            assert ear.status == 200

        async def sessions() -> int:
            return int((await bascule.status())["sessions"])

        await until(sessions, lambda count: count == 0)
        async with client.open("ping") as exchange:
            assert exchange.status == 404


async def test_two_requests_with_one_id_in_one_session_both_get_their_answer(plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp")
    slow, quick = await asyncio.gather(client.call("sleep", seconds=0.3), client.call("echo", text="quick"))
    assert (text_of(slow), text_of(quick)) == ("slept 0.3 s", "quick")


async def test_a_quick_answer_to_an_older_client_has_no_empty_event(plain: Bascule) -> None:
    for version in ("2025-03-26", "2025-06-18"):
        client = await plain.session("/servers/it/mcp", version)
        params = {**calling(client, "progress", steps=2), "_meta": {"progressToken": 1}}
        async with client.open("tools/call", params) as call:
            assert b"data: \n" not in await call.body()


# ---- the id is a sealed capsule

KEYS = {"ONE": base64.b64encode(bytes(range(32))).decode(), "TWO": base64.b64encode(bytes(range(32, 64))).decode()}
REST = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


def sealing(*names: str, **more: Any) -> Json:
    """Further members of a configuration that seals with these KEYS."""
    return {"seal": {"keys": [f"${{env:{name}}}" for name in names]}, **more}


async def status_of(client: Legacy, bascule: Bascule | None = None, path: str | None = None) -> int:
    """What a request of *client* gets, there."""
    there = Legacy(bascule or client.bascule, path or client.path, client.version, client.headers)
    async with there.post(REST) as exchange:
        return exchange.status


@pytest.mark.parametrize("over", ["stdio", "http"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_session_goes_on_at_another_process_with_the_same_keys(path: str, over: str) -> None:
    async with gateway({"it": local("plain")}) as behind_it:
        servers = {"it": local("plain") if over == "stdio" else remote(f"{behind_it.url}/servers/it/mcp")}
        async with (
            gateway(servers, environ=KEYS, **sealing("ONE")) as one,
            gateway(servers, environ=KEYS, **sealing("TWO", "ONE")) as other,
        ):
            client = await one.session(path, capabilities=ELICITS)
            assert (await client.result("tools/list"))["tools"]
            await one.up("it")
            await other.up("it")
            client.bascule = other
            assert text_of(await client.call(named(client, "echo"), text="still here")) == "still here"
            async with client.open("tools/call", calling(client, "ask", question="sure?")) as call:
                await client.answer(await call.next_of("elicitation/create"), ACCEPTED)
                assert (await call.last())["result"]["structuredContent"]["answers"] == [ACCEPTED]
            async with client.listen() as ear:
                await next_is_new(client, ear)


async def test_a_standing_stream_comes_back_at_another_process() -> None:
    config = sealing("ONE")
    async with (
        gateway({"it": local("plain")}, environ=KEYS, **config) as one,
        gateway({"it": local("plain")}, environ=KEYS, **config) as other,
    ):
        client = await one.session("/servers/it/mcp")
        async with client.listen() as ear:
            await next_is_new(client, ear)
            last_id = ear.last_id
        client.bascule = other
        async with client.listen(last_id) as ear:
            assert ear.status == 200
            await next_is_new(client, ear)
            assert ear.last_id.partition("-")[0] != last_id.partition("-")[0]


async def test_nobody_else_can_use_a_session_and_all_that_is_wrong_looks_the_same() -> None:
    config = sealing("ONE", http={"bearer": "${env:TOKEN}"})
    environ = {**KEYS, "TOKEN": "a-token-of-sixteen-or-more"}
    async with (
        gateway({"it": local("plain")}, environ=environ, **config) as here,
        gateway({"it": local("plain")}, environ=KEYS, **sealing("ONE")) as open_to_all,
        gateway({"it": local("plain")}, environ=environ, **{**config, **sealing("TWO")}) as of_another_key,
    ):
        client = await here.session(headers={"authorization": "Bearer a-token-of-sixteen-or-more"})
        id = client.headers["mcp-session-id"]
        assert id
        answers = set()
        for bascule, path, given in (
            *((here, "/servers/it/mcp", id), (open_to_all, "/mcp", id), (of_another_key, "/mcp", id)),
            *((here, "/mcp", id[:-1]), (here, "/mcp", id + "A"), (here, "/mcp", "x"), (here, "/mcp", "A" * 5000)),
        ):
            stranger = Legacy(bascule, path, client.version, {**client.headers, "mcp-session-id": given})
            async with stranger.post(REST) as exchange:
                assert exchange.status == 404
                answers.add((await exchange.json())["error"]["message"])
        assert len(answers) == 1
        assert await client.result("ping") == {}


async def test_an_ended_session_stays_dead_also_where_it_was_brought_back() -> None:
    async with (
        gateway({"it": local("plain")}, environ=KEYS, **sealing("ONE")) as one,
        gateway({"it": local("plain")}, environ=KEYS, **sealing("ONE")) as other,
    ):
        client = await one.session()
        client.bascule = other
        assert await client.end() == 204
        assert await status_of(client) == 404
        client.bascule = one
        assert await client.end() == 204
        assert await status_of(client) == 404


async def test_without_configured_keys_a_session_ends_with_its_process(plain: Bascule) -> None:
    client = await plain.session()
    async with gateway({"it": local("plain")}) as other:
        assert await status_of(client, other) == 404
    assert await status_of(client) == 200


async def test_however_busy_a_session_ends_at_last() -> None:
    async with gateway({"it": local("plain")}, http={"session_max_s": 0.6}, environ=KEYS, **sealing("ONE")) as bascule:
        client = await bascule.session("/servers/it/mcp")
        async with client.listen() as ear:
            assert ear.status == 200
            await ear.ended()
        assert await status_of(client) == 404


async def test_keys_are_changed_without_a_restart_and_sessions_go_on() -> None:
    def config(*names: str) -> Config:
        listen = ListenOptions(host="127.0.0.1", port=1)
        return Config(http=listen, seal=SealOptions(keys=tuple(KEYS[name] for name in names)))

    async with gateway({}, environ=KEYS, **sealing("ONE")) as bascule:
        assert bascule.gateway
        before = await bascule.session()
        assert "seal changed" in await bascule.gateway.reload(config("TWO", "ONE"))
        after = await bascule.session()
        assert (await status_of(before), await status_of(after)) == (200, 200)
        async with gateway({}, environ=KEYS, **sealing("ONE")) as of_the_old_key:
            assert await status_of(before, of_the_old_key) == 200
            assert await status_of(after, of_the_old_key) == 404
