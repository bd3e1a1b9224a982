"""Whatever many clients do on one server process, each gets its own and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateway import Bascule, Json, Legacy, Modern, gateway, local, remote, text_of

PATHS = ("/mcp", "/servers/it/mcp")


@pytest.fixture
async def plain() -> AsyncIterator[Bascule]:
    async with gateway({"it": local("plain")}) as bascule:
        await bascule.up("it")
        yield bascule


def named(path: str, tool: str) -> str:
    return f"it__{tool}" if path == "/mcp" else tool


async def heard_during(
    client: Legacy, path: str, tool: str, token: Json | str | int, **arguments: object
) -> list[Json]:
    """Every message on the stream of one call, the answer last."""
    params = {"name": named(path, tool), "arguments": arguments, "_meta": {"progressToken": token}}
    heard = []
    async with client.open("tools/call", params, id=7) as exchange:
        while "id" not in (message := await exchange.next()):
            heard.append(message)
        await exchange.ended()
    return [*heard, message]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", [1, "1"])
async def test_two_clients_with_one_id_and_one_progress_token_each_get_their_own(
    path: str, token: int | str, plain: Bascule
) -> None:
    one, other = await plain.session(path), await plain.session(path)
    for _ in range(5):
        few, many = await asyncio.gather(
            heard_during(one, path, "progress", token, steps=3), heard_during(other, path, "progress", token, steps=9)
        )
        for heard, steps in ((few, 3), (many, 9)):
            assert heard[-1]["id"] == 7
            assert text_of(heard[-1]["result"]) == f"{steps} steps done"
            assert [m["params"]["progressToken"] for m in heard[:-1]] == [token] * steps
            assert [m["params"]["total"] for m in heard[:-1]] == [steps] * steps
            assert json.dumps(token) in json.dumps(heard[0])


async def test_progress_of_a_call_without_a_token_reaches_nobody(plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp")
    async with (
        client.listen() as ear,
        client.open("tools/call", {"name": "progress", "arguments": {"steps": 3}}) as call,
    ):
        assert text_of((await call.next())["result"]) == "3 steps done"
        await client.call("rename", tool="fail", to="failing")
        await ear.next_of("notifications/tools/list_changed")


@pytest.mark.parametrize("path", PATHS)
async def test_200_clients_with_the_same_id_at_once_get_their_own_canary(path: str, plain: Bascule) -> None:
    clients = await asyncio.gather(*(plain.session(path) for _ in range(200)))

    async def ask(number: int, client: Legacy) -> None:
        for turn in range(3):
            canary = f"canary-{number}-{turn}"
            answer = await client.ask("tools/call", {"name": named(path, "echo"), "arguments": {"text": canary}}, id=1)
            assert answer["id"] == 1
            assert text_of(answer["result"]) == canary

    await asyncio.gather(*(ask(number, client) for number, client in enumerate(clients)))
    assert len((await plain.server("it"))["pids"]) == 1


async def test_200_modern_clients_with_the_same_id_at_once_get_their_own_canary() -> None:
    async with gateway({"it": local("modern")}) as bascule:
        await bascule.up("it")

        async def ask(number: int, client: Modern) -> None:
            assert text_of(await client.call("echo", text=f"canary-{number}")) == f"canary-{number}"

        await asyncio.gather(*(ask(number, bascule.modern("/servers/it/mcp")) for number in range(200)))


async def test_canaries_stay_apart_over_an_http_upstream(plain: Bascule) -> None:
    async with gateway({"it": remote(f"{plain.url}/servers/it/mcp")}) as outer:
        clients = await asyncio.gather(*(outer.session("/servers/it/mcp") for _ in range(50)))
        answers = await asyncio.gather(*(c.call("echo", text=f"canary-{n}") for n, c in enumerate(clients)))
        assert [text_of(answer) for answer in answers] == [f"canary-{n}" for n in range(50)]


@pytest.mark.parametrize("path", PATHS)
async def test_answers_in_another_order_than_the_questions_find_their_callers(path: str, plain: Bascule) -> None:
    slow, quick = await plain.session(path), await plain.session(path)
    async with slow.open("tools/call", {"name": named(path, "sleep"), "arguments": {"seconds": 0.5}}) as waiting:
        assert text_of(await quick.call(named(path, "echo"), text="first")) == "first"
        assert text_of((await waiting.last())["result"]) == "slept 0.5 s"


@pytest.mark.parametrize("path", PATHS)
async def test_a_log_message_of_one_clients_call_never_reaches_another(path: str, plain: Bascule) -> None:
    one, other = await plain.session(path), await plain.session(path)
    async with other.listen() as ear:
        params = {"name": named(path, "log"), "arguments": {"level": "error", "message": "for one only"}}
        async with one.open("tools/call", params) as call:
            assert (await call.next_of("notifications/message"))["params"]["data"] == "for one only"
            await call.last()
        await other.call(named(path, "rename"), tool="fail", to="failing")
        await ear.next_of("notifications/tools/list_changed")


@pytest.mark.parametrize("path", PATHS)
async def test_a_log_message_that_could_be_anybodys_is_dropped_and_counted(path: str, plain: Bascule) -> None:
    one, other = await plain.session(path), await plain.session(path)
    async with one.open("tools/call", {"name": named(path, "sleep"), "arguments": {"seconds": 1}}) as waiting:
        async with other.open(
            "tools/call", {"name": named(path, "log"), "arguments": {"level": "error", "message": "whose?"}}
        ) as call:
            assert "method" not in await call.next()
        assert "method" not in await waiting.next()
    assert (await plain.server("it"))["dropped"]["ownerless_notification"] == 1


async def test_a_session_of_another_view_is_unknown(plain: Bascule) -> None:
    for here, there in (PATHS, PATHS[::-1]):
        client = await plain.session(here)
        stranger = Legacy(plain, there, client.version, client.headers)
        async with stranger.open("tools/list") as exchange:
            assert exchange.status == 404
            assert "error" in await exchange.json()
        async with stranger.listen() as exchange:
            assert exchange.status == 404
        assert await stranger.end() == 404
        assert (await client.result("tools/list"))["tools"]


async def test_an_unknown_session_is_404_for_every_method(plain: Bascule) -> None:
    for id in ("x", "0", "../..", "a" * 4000):
        stranger = Legacy(plain, "/mcp", "2025-11-25", {"mcp-session-id": id, "mcp-protocol-version": "2025-11-25"})
        async with stranger.open("tools/list") as exchange:
            assert exchange.status == 404
        async with stranger.listen() as exchange:
            assert exchange.status == 404
        assert await stranger.end() == 404


async def test_one_client_cannot_cancel_or_answer_for_another(plain: Bascule) -> None:
    asked = await plain.session("/servers/it/mcp", capabilities={"elicitation": {}})
    other = await plain.session("/servers/it/mcp", capabilities={"elicitation": {}})
    async with asked.open("tools/call", {"name": "ask", "arguments": {"question": "who?"}}, id=5) as call:
        question = await call.next_of("elicitation/create")
        await other.answer(question, {"action": "accept", "content": {"answer": "not me"}})
        assert await other.notify("notifications/cancelled", {"requestId": 5}) == 202
        await asked.answer(question, {"action": "accept", "content": {"answer": "me"}})
        answers = (await call.last())["result"]["structuredContent"]["answers"]
    assert answers == [{"action": "accept", "content": {"answer": "me"}}]


async def test_questions_of_two_calls_in_flight_are_never_put_to_the_wrong_client(plain: Bascule) -> None:
    both = [await plain.session("/servers/it/mcp", capabilities={"elicitation": {}}) for _ in range(2)]
    async with (
        both[0].open("tools/call", {"name": "sleep", "arguments": {"seconds": 1}}) as busy,
        both[1].open("tools/call", {"name": "ask", "arguments": {"question": "who?"}}) as asking,
    ):
        answer = (await asking.last())["result"]
        assert answer["isError"]
        assert "per_session" in answer["content"][0]["text"]
        assert text_of((await busy.last())["result"]) == "slept 1 s"


async def test_per_session_gives_each_session_a_process_that_ends_with_it() -> None:
    async with gateway({"it": local("plain", sharing="per_session")}) as bascule:
        clients = await asyncio.gather(*(bascule.session("/servers/it/mcp") for _ in range(3)))
        pids = [(await client.call("pid"))["structuredContent"]["pid"] for client in clients]
        assert len(set(pids)) == 3
        again = [(await client.call("pid"))["structuredContent"]["pid"] for client in clients]
        assert again == pids
        await clients[0].end()
        await bascule.until("it", lambda said: pids[0] not in said["pids"] and pids[1] in said["pids"])


async def test_per_session_carries_questions_of_two_calls_at_once() -> None:
    async with gateway({"it": local("plain", sharing="per_session")}) as bascule:
        clients = [await bascule.session("/servers/it/mcp", capabilities={"elicitation": {}}) for _ in range(2)]

        async def converse(client: Legacy, name: str) -> Any:
            async with client.open("tools/call", {"name": "ask", "arguments": {"question": name}}) as call:
                question = await call.next_of("elicitation/create")
                assert question["params"]["message"] == name
                await client.answer(question, {"action": "accept", "content": {"answer": name}})
                return (await call.last())["result"]["structuredContent"]["answers"][0]["content"]["answer"]

        assert list(await asyncio.gather(converse(clients[0], "a"), converse(clients[1], "b"))) == ["a", "b"]


async def test_a_modern_client_hears_only_its_own_progress() -> None:
    async with gateway({"it": local("modern")}) as bascule:
        await bascule.up("it")
        client = bascule.modern("/servers/it/mcp")

        async def heard(steps: int) -> list[Json]:
            params = {"name": "progress", "arguments": {"steps": steps}}
            async with client.open("tools/call", params, id="same", meta={"progressToken": "same"}) as call:
                return [await call.next() for _ in range(steps + 1)]

        few, many = await asyncio.gather(heard(2), heard(6))
        assert [m["params"]["total"] for m in few[:-1]] == [2] * 2
        assert [m["params"]["total"] for m in many[:-1]] == [6] * 6


async def test_a_stateless_client_that_thinks_over_a_question_does_not_keep_others_from_being_asked(
    plain: Bascule,
) -> None:
    ask = {"name": "ask", "arguments": {"question": "whose?"}}
    thinking, other = [plain.modern("/servers/it/mcp", {"elicitation": {}}) for _ in range(2)]
    for client, n in ((thinking, 1), (other, 2)):
        asked = await client.result("tools/call", ask)
        assert asked["resultType"] == "input_required"
        if client is other:
            answers = {key: {"action": "accept", "content": {"n": n}} for key in asked["inputRequests"]}
            again = {"inputResponses": answers, "requestState": asked["requestState"]}
            done = await client.result("tools/call", {**ask, **again})
            assert json.loads(text_of(done))["answers"][0]["content"] == {"n": n}


async def test_a_second_question_of_a_call_is_never_put_to_another_session(plain: Bascule) -> None:
    """While the first is open, another session's call is the only one that seems to run."""
    survey = {"name": "survey", "arguments": {"one": "mine", "other": "mine too"}}
    one, two = [await plain.session("/servers/it/mcp", capabilities={"elicitation": {}}) for _ in range(2)]
    async with (
        two.open("tools/call", {"name": "sleep", "arguments": {"seconds": 1}}) as busy,
        one.open("tools/call", survey) as asking,
    ):
        assert "per_session" in json.dumps(await asking.last())
        while "id" not in (heard := await busy.next()):
            assert heard["method"] != "elicitation/create"
        assert text_of(heard["result"]) == "slept 1 s"
