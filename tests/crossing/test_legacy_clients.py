"""Clients with sessions on a server that has none: what they say once is repeated, what they are asked is pushed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from foreign import Asked
from gateway import LEGACY, META, Bascule, Exchange, Json, Legacy, failure_of, gateway, local, remote, text_of

from crossing.new import Listening, New, Round, new
from crossing.stateless import as_legacy, eventually
from processes import running
from processes import server as command_of

PATH = "/servers/it/mcp"
ABLE: Json = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {"listChanged": True}}
PAGE: Json = {"mode": "url", "url": "https://pages.example/1", "message": "sign in"}
CANCELLED: Json = {"action": "cancel"}
SAYING: Json = {"role": "assistant", "content": {"type": "text", "text": "said"}, "model": "m"}


@dataclass
class Scene:
    """A stateless server that a test conducts, and Bascule in front of it."""

    new: New
    bascule: Bascule

    async def session(self, version: str = LEGACY, capabilities: Json | None = None) -> Legacy:
        return await self.bascule.session(PATH, version, ABLE if capabilities is None else capabilities)

    @asynccontextmanager
    async def calling(self, client: Legacy, *, id: Any = 7, **arguments: Any) -> AsyncIterator[tuple[Exchange, Round]]:
        """A call of the tool `turn`: the client's end of it, and the server's."""
        async with client.open("tools/call", {"name": "turn", "arguments": arguments}, id=id) as exchange:
            yield exchange, await self.new.round()

    @asynccontextmanager
    async def asking(self, client: Legacy) -> "AsyncIterator[tuple[asyncio.Future[Json], Round]]":
        """The same of a client that hears nothing, not even a status, before the answer."""
        yield asyncio.ensure_future(client.ask("tools/call", {"name": "turn", "arguments": {}})), await self.new.round()

    async def listening(self) -> Listening:
        """The one subscription for clients that is open at the server, once Bascule knows that it is."""
        await self.new.until(lambda server: [each.acknowledged for each in server.of_clients()] == [True])
        return self.new.of_clients()[0]


@pytest.fixture
async def it() -> AsyncIterator[Scene]:
    async with new() as server, gateway({"it": remote(server.url)}) as bascule:
        await bascule.up("it")
        yield Scene(server, bascule)


def form(message: str) -> Json:
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": {"type": "object"}}}


def accepted(answer: str) -> Json:
    return {"action": "accept", "content": {"answer": answer}}


async def refuse(client: Legacy, question: Json, code: int, message: str) -> None:
    error = {"code": code, "message": message}
    async with client.post({"jsonrpc": "2.0", "id": question["id"], "error": error}) as exchange:
        assert exchange.status == 202


@asynccontextmanager
async def real(over: str) -> AsyncIterator[Bascule]:
    """A real stateless server, over a pipe or HTTP."""
    if over == "stdio":
        async with gateway({"it": local("modern")}) as bascule:
            await bascule.up("it")
            yield bascule
    else:
        with running(command_of("web", "modern")) as url:
            async with gateway({"it": remote(url)}) as bascule:
                await bascule.up("it")
                yield bascule


@pytest.fixture(params=["stdio", "http"])
async def modern(request: pytest.FixtureRequest) -> AsyncIterator[Bascule]:
    async with real(request.param) as bascule:
        yield bascule


# ---- the handshake -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"])
async def test_a_handshake_says_what_the_server_says_of_itself(version: str, modern: Bascule) -> None:
    client = await modern.session(PATH, version)
    assert client.greeting["protocolVersion"] == version
    assert client.greeting["serverInfo"]["name"] == "modern"
    assert client.greeting["instructions"] == "A server for tests."
    assert {"tools", "resources", "prompts", "logging"} <= client.greeting["capabilities"].keys()
    assert "resultType" not in client.greeting
    assert await client.result("ping") == {}
    listed = await client.result("tools/list")
    assert "echo" in [tool["name"] for tool in listed["tools"]]
    assert not {"resultType", "ttlMs", "cacheScope"} & listed.keys()
    assert text_of(await client.call("echo", text="hi")) == "hi"


@pytest.mark.parametrize(
    ("version", "declared", "said"),
    [
        (LEGACY, ABLE, {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}}),
        ("2025-06-18", ABLE, {"elicitation": {"form": {}}, "sampling": {"tools": {}}, "roots": {}}),
        (LEGACY, {"elicitation": {}}, {"elicitation": {}}),
        (LEGACY, {}, {}),
    ],
)
async def test_each_request_carries_what_the_session_said_in_its_handshake(
    version: str, declared: Json, said: Json, it: Scene
) -> None:
    client = await it.session(version, declared)
    async with it.asking(client) as (answer, round):
        assert round.meta[f"{META}clientCapabilities"] == said
        assert round.meta[f"{META}clientInfo"] == {"name": "t", "version": "1"}
        assert round.meta[f"{META}protocolVersion"] == "2026-07-28"
        assert round.asked.headers["mcp-protocol-version"] == "2026-07-28"
        assert "mcp-session-id" not in round.asked.headers
        await round.answer("x")
        assert text_of((await answer)["result"]) == "x"


async def test_what_two_sessions_declared_does_not_mix(it: Scene) -> None:
    able, unable = await it.session(), await it.session(capabilities={})
    async with it.calling(able, n=1) as (_, one), it.calling(unable, n=2) as (_, other):
        assert one.meta[f"{META}clientCapabilities"]
        assert other.meta[f"{META}clientCapabilities"] == {}
        await one.answer("x")
        await other.answer("x")


# ---- questions -----------------------------------------------------------------------------------


async def test_questions_of_one_round_are_put_at_once_and_answered_together(it: Scene) -> None:
    client = await it.session()
    questions = {
        "one": form("one?"),
        "other": form("other?"),
        "said": {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}},
        "roots": {"method": "roots/list"},
    }
    async with it.calling(client, n=1) as (exchange, round):
        await round.ask(questions, "state ÿ 1")
        asked = [await exchange.next() for _ in questions]  # before any of them is answered
        assert {message["method"] for message in asked} == {each["method"] for each in questions.values()}
        assert len({message["id"] for message in asked}) == 4
        answers: Json = {}
        for message in reversed(asked):
            said = message.get("params", {}).get("message")
            key = {"one?": "one", "other?": "other"}.get(said, "said" if "sampling" in message["method"] else "roots")
            answers[key] = {"roots": []} if key == "roots" else SAYING if key == "said" else accepted(key)
            await client.answer(message, answers[key])
        again = await it.new.round()
        assert again.params["inputResponses"] == answers
        assert again.params["requestState"] == "state ÿ 1"
        assert {k: v for k, v in again.params.items() if k not in ("inputResponses", "requestState")} == round.params
        assert again.asked.id != round.asked.id
        await again.answer("all four")
        message = await exchange.last()
        assert (message["id"], text_of(message["result"])) == (7, "all four")


async def test_each_round_brings_back_only_its_own_answers_and_state(it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        for number, state in enumerate(("s1", None, "s3")):
            await round.ask({f"key-{number}": form(f"{number}?")}, state)
            question = await exchange.next_of("elicitation/create")
            assert question["params"]["message"] == f"{number}?"
            await client.answer(question, accepted(str(number)))
            round = await it.new.round()
            assert round.params["inputResponses"] == {f"key-{number}": accepted(str(number))}
            assert round.params.get("requestState", "none") == (state or "none")
        await round.answer("done")
        assert text_of((await exchange.last())["result"]) == "done"


async def test_a_server_that_only_wants_to_be_asked_again_is_asked_again(it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        for state in ("busy", "still busy"):
            await round.ask(None, state)
            round = await it.new.round()
            assert round.params["requestState"] == state
            assert "inputResponses" not in round.params
        await round.answer("now")
        assert text_of((await exchange.next())["result"]) == "now"  # the client has noticed nothing


async def test_a_server_that_never_has_enough_is_given_up_after_ten_rounds(it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        for number in range(10):
            await round.elicit("again?")
            question = await exchange.next_of("elicitation/create")
            await client.answer(question, accepted(str(number)))
            if number < 9:
                round = await it.new.round()
        result = (await exchange.last())["result"]
    assert result["isError"]
    assert "10 rounds" in result["content"][0]["text"]
    assert len(it.new.sent("tools/call")) == 10


async def test_prompts_and_resources_may_ask_too(it: Scene) -> None:
    client = await it.session()
    rounds: list[tuple[str, Json, Json]] = [
        ("prompts/get", {"name": "p"}, {"messages": []}),
        ("resources/read", {"uri": "test://x"}, {"contents": []}),
    ]
    for method, params, answer in rounds:
        it.new.foreign.on[method] = it.new._called
        async with client.open(method, params) as exchange:
            await (await it.new.round()).elicit("?", "s")
            await client.answer(await exchange.next_of("elicitation/create"), accepted("yes"))
            again = await it.new.round()
            assert again.params["inputResponses"] == {"it": accepted("yes")}
            await again.result({"resultType": "complete", **answer})
            result = (await exchange.last())["result"]
            assert result.pop("_meta")["dev.bascule/call"]["source"] == "it"
            assert result == answer


async def test_other_methods_may_not_ask(it: Scene) -> None:
    client = await it.session()
    it.new.foreign.on["tools/list"] = it.new._called
    async with client.open("tools/list") as exchange:
        await (await it.new.round()).elicit("?")
        assert "asks for input in tools/list" in (await exchange.last())["error"]["message"]


@pytest.mark.parametrize("answer", [{"action": "decline"}, CANCELLED, accepted("yes")])
async def test_what_the_person_says_reaches_the_server_as_it_is(answer: Json, it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        await round.elicit("?")
        await client.answer(await exchange.next_of("elicitation/create"), answer)
        again = await it.new.round()
        assert again.params["inputResponses"] == {"it": answer}
        await again.answer("x")
        await exchange.last()


async def test_a_client_that_fails_to_ask_its_person_has_cancelled(it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        await round.elicit("?")
        await refuse(client, await exchange.next_of("elicitation/create"), -32603, "no window")
        again = await it.new.round()
        assert again.params["inputResponses"] == {"it": CANCELLED}
        await again.answer("x")
        await exchange.last()


@pytest.mark.parametrize("method", ["sampling/createMessage", "roots/list"])
async def test_a_client_that_fails_to_answer_anything_else_gets_its_own_error(method: str, it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        await round.ask({"it": {"method": method, "params": {"messages": []}}})
        await refuse(client, await exchange.next_of(method), -1, "the model refused")
        assert (await exchange.last())["error"] == {"code": -1, "message": "the model refused"}
    assert len(it.new.sent("tools/call")) == 1


@pytest.mark.parametrize("answer", ["[]", "5", "null", '"x"'])
async def test_an_answer_that_is_no_object_never_reaches_the_server(answer: str, it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        await round.elicit("?")
        question = await exchange.next_of("elicitation/create")
        async with client.post(f'{{"jsonrpc":"2.0","id":{question["id"]},"result":{answer}}}'.encode()) as posted:
            assert posted.status in (202, 400)
        if posted.status == 202:
            assert "no object" in json.dumps(await exchange.last())
    assert len(it.new.sent("tools/call")) == 1


async def test_answers_keep_their_numbers_and_their_order(it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        await round.elicit("?")
        question = await exchange.next_of("elicitation/create")
        body = '{"action":"accept", "content":{"z":1.0,"a":12345678901234567890123,"n":null}}'
        async with client.post(f'{{"jsonrpc":"2.0","id":{question["id"]},"result":{body}}}'.encode()) as posted:
            assert posted.status == 202
        again = await it.new.round()
        assert body.encode() in again.asked.body
        await again.answer("x")
        await exchange.last()


async def test_an_elicitation_that_was_not_declared_is_declined(it: Scene) -> None:
    client = await it.session(capabilities={"sampling": {}})
    async with it.calling(client) as (exchange, round):
        await round.elicit("?")
        again = await it.new.round()
        assert again.params["inputResponses"] == {"it": {"action": "decline"}}
        await again.answer("x")
        assert "method" not in await exchange.next()


@pytest.mark.parametrize(
    ("declared", "question"),
    [
        ({}, {"method": "sampling/createMessage", "params": {"messages": []}}),
        ({"sampling": {}}, {"method": "sampling/createMessage", "params": {"messages": [], "tools": []}}),
        ({"sampling": {}}, {"method": "roots/list"}),
    ],
)
async def test_a_server_that_asks_what_was_not_declared_breaks_the_protocol(
    declared: Json, question: Json, it: Scene
) -> None:
    client = await it.session(capabilities=declared)
    async with it.calling(client) as (exchange, round):
        await round.ask({"it": question})
        message = await exchange.next()
        assert message["result"]["isError"]
        assert "did not declare" in message["result"]["content"][0]["text"]


async def test_a_url_has_an_id_for_a_client_of_2025_11_25(it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        page = {"method": "elicitation/create", "params": PAGE}
        await round.ask({"one": page, "other": page})
        asked = [await exchange.next_of("elicitation/create") for _ in range(2)]
        ids = {question["params"].pop("elicitationId") for question in asked}
        assert len(ids) == 2
        assert all(isinstance(id, str) and len(id) >= 16 for id in ids)
        assert [question["params"] for question in asked] == [PAGE, PAGE]
        for question in asked:
            await client.answer(question, {"action": "accept"})
        again = await it.new.round()
        assert again.params["inputResponses"] == {key: {"action": "accept"} for key in ("one", "other")}
        await again.answer("x")
        await exchange.last()


async def test_a_client_of_2025_06_18_is_never_asked_for_a_url(it: Scene) -> None:
    client = await it.session("2025-06-18")
    async with it.asking(client) as (answer, round):
        assert "url" not in round.meta[f"{META}clientCapabilities"]["elicitation"]
        await round.ask({"it": {"method": "elicitation/create", "params": PAGE}})
        again = await it.new.round()
        assert again.params["inputResponses"] == {"it": {"action": "decline"}}
        await again.answer("x")
        assert text_of((await answer)["result"]) == "x"


async def test_a_call_that_the_client_cancels_while_it_is_asked_is_asked_no_more(it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        await round.elicit("?")
        question = await exchange.next_of("elicitation/create")
        assert await client.notify("notifications/cancelled", {"requestId": 7}) == 202
        withdrawn = await exchange.next_of("notifications/cancelled")
        assert withdrawn["params"] == {"requestId": question["id"]}
        assert failure_of((await exchange.last())["result"])["kind"] == "cancelled"
        await client.answer(question, accepted("too late"))
    assert text_of(await _echo(it, client)) == "still here"
    assert len(it.new.sent("tools/call")) == 2


async def _echo(it: Scene, client: Legacy) -> Json:
    async with it.calling(client, n=2) as (exchange, round):
        await round.answer("still here")
        found: Json = (await exchange.last())["result"]
        return found


async def test_a_call_that_is_cancelled_while_the_server_has_it_is_cancelled_there(it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        await client.notify("notifications/cancelled", {"requestId": 7})
        assert failure_of((await exchange.last())["result"])["kind"] == "cancelled"
        await round.has_left()


async def test_a_session_that_ends_while_its_client_is_asked_ends_the_call(it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        await round.elicit("?")
        await exchange.next_of("elicitation/create")
        assert await client.end() == 204
        await eventually(lambda: not as_legacy(it.bascule)._levels)
    assert len(it.new.sent("tools/call")) == 1


async def test_real_servers_ask_in_rounds_and_at_once(modern: Bascule) -> None:
    client = await modern.session(PATH, capabilities=ABLE)
    async with client.open("tools/call", {"name": "ask", "arguments": {"question": "?", "times": 3}}) as exchange:
        for number in range(3):
            await client.answer(await exchange.next_of("elicitation/create"), accepted(str(number)))
        answers = (await exchange.last())["result"]["structuredContent"]["answers"]
    assert [answer["content"]["answer"] for answer in answers] == ["0", "1", "2"]
    async with client.open("tools/call", {"name": "survey", "arguments": {"one": "1", "other": "2"}}) as exchange:
        for _ in range(4):
            question = await exchange.next()
            await client.answer(question, {"of": question["method"]})
        said = (await exchange.last())["result"]["structuredContent"]
    assert {key: each["of"].split("/")[0] for key, each in said.items()} == {
        "one": "elicitation",
        "other": "elicitation",
        "said": "sampling",
        "roots": "roots",
    }


async def test_many_clients_that_are_asked_at_once_each_get_their_own(modern: Bascule) -> None:
    clients = [await modern.session(PATH, capabilities=ABLE) for _ in range(10)]

    async def converse(number: int, client: Legacy) -> None:
        params = {"name": "ask", "arguments": {"question": f"question {number}", "times": 2}}
        async with client.open("tools/call", params, id=1) as exchange:
            for turn in range(2):
                question = await exchange.next_of("elicitation/create")
                assert question["params"]["message"] == f"question {number}"
                await client.answer(question, accepted(f"{number}/{turn}"))
            answers = (await exchange.last())["result"]["structuredContent"]["answers"]
        assert [each["content"]["answer"] for each in answers] == [f"{number}/0", f"{number}/1"]

    await asyncio.gather(*(converse(number, client) for number, client in enumerate(clients)))


# ---- what is heard during a call -----------------------------------------------------------------


@pytest.mark.parametrize("token", [1, "1", 2**60])
async def test_progress_has_the_token_as_the_client_wrote_it_in_every_round(token: Any, it: Scene) -> None:
    client = await it.session()
    params = {"name": "turn", "arguments": {}, "_meta": {"progressToken": token, "v.example/x": 1}}
    async with client.open("tools/call", params) as exchange:
        for number in range(2):
            round = await it.new.round()
            assert round.meta["v.example/x"] == 1
            await round.notify("progress", progressToken=round.meta["progressToken"], progress=number)
            heard = (await exchange.next_of("notifications/progress"))["params"]
            assert heard == {"progressToken": token, "progress": number}
            assert type(heard["progressToken"]) is type(token)
            if not number:
                await round.elicit("?")
                await client.answer(await exchange.next_of("elicitation/create"), accepted("yes"))
        await round.answer("x")
        await exchange.last()


async def test_a_session_hears_logs_from_info_on_until_it_says_otherwise(it: Scene) -> None:
    client, other = await it.session(), await it.session()
    wanted = []
    for level in (None, "debug", "error"):
        if level is not None:
            assert await client.result("logging/setLevel", {"level": level}) == {}
        async with it.calling(client) as (exchange, round):
            wanted.append(round.meta[f"{META}logLevel"])
            await round.notify("message", level="error", data={"a": 1.0})
            assert (await exchange.next_of("notifications/message"))["params"]["data"] == {"a": 1.0}
            await round.answer("x")
            await exchange.last()
    assert wanted == ["info", "debug", "error"]
    async with it.calling(other) as (_, round):
        assert round.meta[f"{META}logLevel"] == "info"  # each session has its own
        await round.answer("x")
    error = (await client.ask("logging/setLevel", {"level": "loud"}))["error"]
    assert error["code"] == -32602
    assert not it.new.foreign.asked("logging/setLevel")  # which the server does not have


async def test_a_real_server_logs_what_the_session_wants(modern: Bascule) -> None:
    client = await modern.session(PATH)
    for level, heard in (("warning", "logged"), ("critical", "logged")):
        await client.result("logging/setLevel", {"level": level})
        params = {"name": "log", "arguments": {"level": "error", "message": "m"}}
        async with client.open("tools/call", params) as exchange:
            messages = [await exchange.next()]
            while "method" in messages[-1]:
                messages.append(await exchange.next())
        assert text_of(messages[-1]["result"]) == heard
        assert len(messages) == (2 if level == "warning" else 1)


# ---- a bad server --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [
        {"resultType": "input_required"},
        {"resultType": "input_required", "inputRequests": {}},
        {"resultType": "input_required", "inputRequests": 5},
        {"resultType": "input_required", "inputRequests": {"k": {"method": "tools/call"}}},
        {"resultType": "mystery"},
        {"resultType": 5},
    ],
)
async def test_a_result_that_is_none_is_the_servers_fault(result: Json, it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        await round.result(result)
        fault = failure_of((await exchange.last())["result"])
        assert (fault["kind"], fault["source"]) == ("upstream_protocol", "it")


@pytest.mark.parametrize("result", [{"content": None, "structuredContent": [1]}, {"content": [], "_meta": 5}])
async def test_a_result_that_cannot_be_translated_is_the_servers_fault(result: Json, it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, round):
        await round.result({"resultType": "complete", **result})
        message = await exchange.last()
    assert "error" not in message, message
    assert failure_of(message["result"])["kind"] == "upstream_protocol"


async def test_an_error_of_the_server_has_a_code_that_a_session_knows(it: Scene) -> None:
    client = await it.session()
    for code, becomes in ((-32021, -32602), (-32603, -32603), (-32602, -32602), (99, 99)):
        async with it.calling(client) as (exchange, round):
            await round.refuse(code, "as it is", requiredCapabilities={})
            assert exchange.status == 200
            error = (await exchange.last())["error"]
        assert (error["code"], error["message"]) == (becomes, "as it is")
    it.new.foreign.on["resources/read"] = it.new._called
    async with client.open("resources/read", {"uri": "test://nothing"}) as exchange:
        await (await it.new.round()).refuse(-32602, "not found", uri="test://nothing")
        error = (await exchange.last())["error"]
    assert (error["code"], error["data"]) == (-32002, {"uri": "test://nothing"})


# ---- news ----------------------------------------------------------------------------------------


async def subscribed(client: Legacy, uri: str) -> None:
    assert await client.result("resources/subscribe", {"uri": uri}) == {}


def only(it: Scene) -> Listening:
    """The one subscription for clients that is open at the server."""
    (listening,) = it.new.of_clients()
    return listening


async def test_sessions_of_one_caller_share_one_subscription_that_is_as_wide_as_needed(it: Scene) -> None:
    one, other = await it.session(), await it.session()
    for number, (client, uri, uris) in enumerate([
        (one, "test://a", ["test://a"]),
        (other, "test://a", ["test://a"]),  # shared: nothing is opened
        (other, "test://b", ["test://a", "test://b"]),
    ]):  # fmt: skip
        await subscribed(client, uri)
        await it.new.until(lambda server: len(server.of_clients()) == 1)
        assert only(it).uris == uris, number
    opened = len(it.new.sent("subscriptions/listen"))
    assert await one.result("resources/unsubscribe", {"uri": "test://a"}) == {}
    assert len(it.new.sent("subscriptions/listen")) == opened  # the other holds it still
    assert await other.result("resources/unsubscribe", {"uri": "test://a"}) == {}
    await it.new.until(lambda server: [each.uris for each in server.of_clients()] == [["test://b"]])
    assert await other.result("resources/unsubscribe", {"uri": "test://b"}) == {}
    await it.new.until(lambda server: not server.of_clients())


async def test_updates_reach_who_subscribed_once_and_untagged(it: Scene) -> None:
    one, other = await it.session(), await it.session()
    await subscribed(one, "test://a")
    await subscribed(other, "test://b")
    await it.new.until(lambda server: len(server.of_clients()) == 1)
    async with one.listen() as ear, other.listen() as other_ear:
        await it.new.until(
            lambda server: [each.wanted.get("toolsListChanged") for each in server.of_clients()] == [True]
        )
        listening = await it.listening()
        await listening.notify("resources/updated", uri="test://a", more=1.0)
        await listening.notify("resources/updated", uri="test://b/part")
        heard = await ear.next_of("notifications/resources/updated")
        assert heard["params"] == {"uri": "test://a", "more": 1.0}
        heard = await other_ear.next_of("notifications/resources/updated")
        assert heard["params"] == {"uri": "test://b/part"}
        await listening.notify("tools/list_changed")  # after all else: nothing came before it twice
        for each in (ear, other_ear):
            await each.next_of("notifications/tools/list_changed")


async def test_a_resource_that_the_server_does_not_tell_of_is_refused(it: Scene) -> None:
    it.new.honoured = lambda wanted: {**wanted, "resourceSubscriptions": ["test://a"]}
    client = await it.session()
    error = (await client.ask("resources/subscribe", {"uri": "test://nothing"}))["error"]
    assert error["code"] == -32602
    await subscribed(client, "test://a")
    await it.new.until(lambda server: [each.uris for each in server.of_clients()] == [["test://a"]])
    for params in ({}, {"uri": 5}, {"uri": None}):
        assert (await client.ask("resources/subscribe", params))["error"]["code"] == -32602


async def test_a_session_that_ends_takes_its_subscriptions_along(it: Scene) -> None:
    one, other = await it.session(), await it.session()
    await subscribed(one, "test://a")
    await subscribed(other, "test://b")
    await it.new.until(lambda server: [each.uris for each in server.of_clients()] == [["test://a", "test://b"]])
    assert await one.end() == 204
    await it.new.until(lambda server: [each.uris for each in server.of_clients()] == [["test://b"]])
    assert await other.end() == 204
    await it.new.until(lambda server: not server.of_clients())
    assert not as_legacy(it.bascule)._channels


async def test_a_change_of_lists_is_announced_once_on_the_standing_stream(it: Scene) -> None:
    client = await it.session()
    async with client.listen() as ear:
        # Bascule follows the lists with a subscription of its own.
        await it.new.until(lambda server: sum(each.acknowledged for each in server.listening) == 2)
        await eventually(lambda: all(channel._ear for channel in as_legacy(it.bascule)._channels.values()))
        for _ in range(3):
            await it.new.tell("tools/list_changed")
            await ear.next_of("notifications/tools/list_changed")
        await subscribed(client, "test://a")
        await (await it.listening()).notify("resources/updated", uri="test://a")
        await ear.next_of("notifications/resources/updated")


async def test_news_while_the_subscription_widens_come_once(it: Scene) -> None:
    client = await it.session()
    async with client.listen() as ear:
        await subscribed(client, "test://a")
        old = await it.listening()
        it.new.acknowledging.clear()
        widening = asyncio.ensure_future(client.result("resources/subscribe", {"uri": "test://b"}))
        await it.new.until(lambda server: len(server.of_clients()) == 2)
        await old.notify("resources/updated", uri="test://a", n=1)
        assert (await ear.next_of("notifications/resources/updated"))["params"]["n"] == 1
        it.new.acknowledging.set()
        assert await widening == {}
        await it.new.until(lambda server: [each.uris for each in server.of_clients()] == [["test://a", "test://b"]])
        await only(it).notify("resources/updated", uri="test://b", n=2)
        assert (await ear.next_of("notifications/resources/updated"))["params"]["n"] == 2


async def test_news_right_after_the_acknowledgement_are_heard(it: Scene) -> None:
    client = await it.session()
    async with client.listen() as ear:
        await it.new.until(lambda server: len(server.listening) == 2)

        async def listen(asked: Asked) -> None:
            tag = {"_meta": {f"{META}subscriptionId": asked.id}}
            honoured = {"notifications": asked.message["params"]["notifications"]}
            said = [("subscriptions/acknowledged", honoured), ("resources/updated", {"uri": "test://a"})]
            await asked.stream()
            lines = [
                {"jsonrpc": "2.0", "method": f"notifications/{name}", "params": {**params, **tag}}
                for name, params in said
            ]
            await asked.chunk("".join(f"data: {json.dumps(line)}\n\n" for line in lines).encode())
            await asked.left()

        it.new.foreign.on["subscriptions/listen"] = listen
        await subscribed(client, "test://a")
        async with asyncio.timeout(1):
            await ear.next_of("notifications/resources/updated")


async def test_a_subscription_that_breaks_is_opened_again_and_lists_are_announced(it: Scene) -> None:
    client = await it.session()
    async with client.listen() as ear:
        await subscribed(client, "test://a")
        listening = await it.listening()
        opened = len(it.new.sent("subscriptions/listen"))
        listening.asked.reset()
        await ear.next_of("notifications/tools/list_changed")  # nobody knows what changed meanwhile
        assert len(it.new.sent("subscriptions/listen")) == opened + 1
        await only(it).notify("resources/updated", uri="test://a")
        await ear.next_of("notifications/resources/updated")


async def test_a_process_that_is_restarted_is_listened_to_again() -> None:
    async with gateway({"it": local("modern")}) as bascule:
        await bascule.up("it")
        client = await bascule.session(PATH)
        async with client.listen() as ear:
            await subscribed(client, "test://notes/1")
            assert "revision 2" in text_of(await client.call("touch", uri="test://notes/1"))
            await ear.next_of("notifications/resources/updated")
            (pid,) = (await bascule.server("it"))["pids"]
            await client.ask("tools/call", {"name": "crash", "arguments": {"code": 1}})
            await ear.next_of("notifications/tools/list_changed")
            await bascule.until("it", lambda said: said["pids"] and said["pids"] != [pid])
            assert "revision 2" in text_of(await client.call("touch", uri="test://notes/1"))
            heard = await ear.next()
            while heard["method"] == "notifications/tools/list_changed":
                heard = await ear.next()
            assert heard["params"] == {"uri": "test://notes/1"}


@pytest.mark.parametrize("while_it", ["discovers", "subscribes"])
async def test_a_session_that_ends_while_it_begins_to_listen_leaves_nothing_open(while_it: str, it: Scene) -> None:
    client = await it.session()
    assert len(it.new.listening) == 1  # Bascule's own
    holding = it.new.discovering if while_it == "discovers" else it.new.acknowledging
    if while_it == "discovers":
        as_legacy(it.bascule)._offered = None  # as after a change of eras
    holding.clear()
    before = len(it.new.foreign.seen)
    async with client.listen():
        await it.new.until(lambda server: len(server.foreign.seen) > before)
        assert await client.end() == 204
    holding.set()
    async with it.calling(await it.session()) as (exchange, round):
        await round.answer("something else happened since")
        await exchange.last()
    await eventually(lambda: len(it.new.listening) == 1)
    assert not as_legacy(it.bascule)._channels


async def test_a_question_costs_the_server_one_more_message(it: Scene) -> None:
    client = await it.session()
    async with it.calling(client) as (exchange, first):
        await first.elicit("sure?")
        await client.answer(await exchange.next_of("elicitation/create"), {"action": "accept", "content": {}})
        await (await it.new.round()).answer("done")
        await exchange.last()
    assert len(it.new.sent("tools/call")) == 2


async def test_a_task_that_cannot_be_one_is_an_ordinary_call_and_says_so(it: Scene) -> None:
    client = await it.session()
    params = {"name": "turn", "arguments": {}, "task": {"ttl": 1000}}
    async with client.open("tools/call", params) as exchange:
        turn = await it.new.round()
        assert "task" not in turn.params
        await turn.answer("done")
        result = (await exchange.last())["result"]
    assert text_of(result) == "done"
    (warning,) = result["_meta"]["dev.bascule/call"]["warnings"]
    assert "task" in warning
