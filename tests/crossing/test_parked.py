"""Calls that wait at a server with a handshake for their stateless client ("Multi Round-Trip Requests", 2026-07-28).

Whoever comes back without being the one who is awaited is refused before the server hears of it; whoever does not come
back leaves nothing behind.
"""

import asyncio
import json
import os
import signal
import string
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
from foreign import Asked
from gateway import WITHIN_S, Bascule, Json, gateway, gone, local, remote, text_of

from bascule.call import Caller
from bascule.errors import InvalidParams, Overloaded, UpstreamBrokeProtocol
from bascule.policy.scopes import UNLIMITED
from crossing.old import Asking, Old, Turn, old
from crossing.stateless import (
    ACCEPTED,
    Stateless,
    as_modern,
    conversations,
    eventually,
    nothing_left,
    parked,
)
from processes import running
from processes import server as command_of

CANCELLED: Final[Json] = {"action": "cancel"}
DECLINED: Final[Json] = {"action": "decline"}
URL: Final[Json] = {"elicitation": {"url": {}}}
PAGE: Final[Json] = {"mode": "url", "url": "https://pages.example/1", "message": "sign in"}


@dataclass
class Scene:
    """A server that a test conducts, Bascule in front of it, and a client."""

    old: Old
    bascule: Bascule
    ann: Stateless

    def stateless(self, name: str = "ann", **more: Any) -> Stateless:
        assert self.bascule.gateway is not None
        return Stateless(self.bascule.gateway, Caller(name, UNLIMITED), **more)

    async def asked(self, client: Stateless | None = None, **arguments: Any) -> tuple[Turn, Asking, Json]:
        """A call of the tool `turn` that waits for the answer to one question; what the client was told."""
        calling = asyncio.ensure_future((client or self.ann).call("turn", **arguments))
        turn = await self.old.turn()
        asking = await turn.elicit("really?")
        return turn, asking, await calling


@asynccontextmanager
async def scene(**config: Any) -> AsyncIterator[Scene]:
    async with old() as server, gateway({"it": remote(server.url)}, **config) as bascule:
        await bascule.up("it")
        assert bascule.gateway is not None
        yield Scene(server, bascule, Stateless(bascule.gateway))
        for turn in list(server.open.values()):
            turn.reset()  # else each of them would have a moment for its last word


@pytest.fixture
async def it() -> AsyncIterator[Scene]:
    async with scene() as found:
        yield found


async def refused(work: Awaitable[Any]) -> str:
    """Why *work* was refused, with -32602."""
    with pytest.raises(InvalidParams) as caught:
        await work
    assert caught.value.family == -32602
    return caught.value.message


# ---- a ticket is good once, for the same call of the same caller ---------------------------------


async def test_a_call_is_asked_answered_and_goes_on_where_it_was(it: Scene) -> None:
    turn, asking, asked = await it.asked(n=1)
    assert asked["resultType"] == "input_required"
    (question,) = asked["inputRequests"].values()
    assert (question["method"], question["params"]["message"]) == ("elicitation/create", "really?")
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn", n=1))
    assert (await asking.answered())["result"] == ACCEPTED
    await turn.answer("so be it")
    assert text_of(await going_on) == "so be it"
    assert len(it.old.sent("tools/call")) == 1
    await nothing_left(it.bascule)


async def test_a_state_with_any_character_changed_is_refused_and_the_server_never_hears_of_it(it: Scene) -> None:
    turn, asking, asked = await it.asked(n=1)
    state, before = asked["requestState"], it.old.heard
    others = string.ascii_letters + string.digits + "-_"
    for place, was in enumerate(state):
        changed = others[(others.index(was) + 1 + place % 62) % 64]
        tampered = {**asked, "requestState": state[:place] + changed + state[place + 1 :]}
        await refused(it.ann.go_on(tampered, "turn", n=1))
    assert it.old.heard == before
    assert not asking.response.done()
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn", n=1))
    await asking.answered()
    await turn.answer("unharmed")
    assert text_of(await going_on) == "unharmed"


async def test_a_state_cut_extended_or_spelt_otherwise_is_refused(it: Scene) -> None:
    _, asking, asked = await it.asked(n=1)
    state, before = asked["requestState"], it.old.heard
    spellings = [
        *(state[:length] for length in range(len(state))),
        *(state + tail for tail in ("A", "=", "==", " ", "\n", "\0", "AAAA", state)),
        *(head + state for head in ("A", " ", state)),
        *("x" * 20_000, "ÿ", "💥", state.swapcase(), state[::-1]),
    ]
    for spelling in spellings:
        await refused(it.ann.go_on({**asked, "requestState": spelling}, "turn", n=1))
    assert it.old.heard == before
    assert not asking.response.done()
    assert parked(it.bascule) == 1


@pytest.mark.parametrize("state", [42, None, True, [], {}, ["x"]])
async def test_a_state_that_is_no_text_is_refused(state: Any, it: Scene) -> None:
    again = {"inputResponses": {}, "requestState": state}
    work = asyncio.ensure_future(it.ann.send("tools/call", {"name": "turn", "arguments": {}, **again}))
    arrived = asyncio.ensure_future(it.old.turn())
    await asyncio.wait({work, arrived}, return_when=asyncio.FIRST_COMPLETED)
    try:
        assert not it.old.heard
        await refused(work)
    finally:
        work.cancel()
        arrived.cancel()


async def test_a_state_is_good_once(it: Scene) -> None:
    turn, asking, first = await it.asked(n=1)
    going_on = asyncio.ensure_future(it.ann.go_on(first, "turn", n=1))
    await asking.answered()
    again = await turn.elicit("and now?")
    second = await going_on
    assert second["requestState"] != first["requestState"]
    before = it.old.heard
    assert "used before" in await refused(it.ann.go_on(first, "turn", n=1))
    assert it.old.heard == before
    assert not again.response.done()
    going_on = asyncio.ensure_future(it.ann.go_on(second, "turn", n=1))
    await again.answered()
    await turn.answer("done")
    assert text_of(await going_on) == "done"
    for state in (first, second):
        await refused(it.ann.go_on(state, "turn", n=1))
    assert it.old.heard.count("tools/call") == 1


async def test_of_many_who_present_a_state_at_once_exactly_one_goes_on(it: Scene) -> None:
    turn, asking, asked = await it.asked(n=1)
    racing = [asyncio.ensure_future(it.ann.go_on(asked, "turn", n=1)) for _ in range(20)]
    await asking.answered()
    await turn.answer("won")
    outcomes = await asyncio.gather(*racing, return_exceptions=True)
    assert sum(isinstance(each, InvalidParams) for each in outcomes) == 19
    (won,) = [each for each in outcomes if isinstance(each, dict)]
    assert text_of(won) == "won"
    assert it.old.heard == ["tools/call", "POST"]


async def test_another_caller_is_refused_as_if_the_state_were_nobodys(it: Scene) -> None:
    turn, asking, asked = await it.asked(n=1)
    ben, before = it.stateless("ben"), it.old.heard
    theirs = await refused(ben.go_on(asked, "turn", n=1))
    nobodys = await refused(ben.go_on({**asked, "requestState": "nonsense"}, "turn", n=1))
    assert theirs == nobodys
    assert it.old.heard == before
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn", n=1))
    await asking.answered()
    await turn.answer("still mine")
    assert text_of(await going_on) == "still mine"


async def test_another_call_with_the_state_is_refused(it: Scene) -> None:
    _, asking, asked = await it.asked(n=1, text="1")
    before = it.old.heard
    await refused(it.ann.go_on(asked, "other", n=1, text="1"))
    for arguments in ({}, {"n": 1}, {"n": 2, "text": "1"}, {"n": 1.0, "text": "1"}, {"n": True, "text": "1"}):
        await refused(it.ann.go_on(asked, "turn", **arguments))
    await refused(it.ann.go_on(asked, "turn", n=1, text=1))
    await refused(it.ann.go_on(asked, "turn", n=1, text="1", more=None))
    answers = {"inputResponses": {}, "requestState": asked["requestState"]}
    same = {"name": "turn", "arguments": {"n": 1, "text": "1"}, **answers}
    await refused(it.ann.send("prompts/get", same))
    await refused(it.ann.send("resources/read", {**same, "uri": "x"}))
    await refused(it.ann.send("tools/call", {**same, "task": {}}))
    assert it.old.heard == before
    assert not asking.response.done()
    assert parked(it.bascule) == 1


@pytest.mark.parametrize("number", [2**53 + 1, 2**64 + 1, 2**70 + 1, -(2**63) - 1])
async def test_large_numbers_that_floats_would_confuse_are_different_calls(number: int, it: Scene) -> None:
    _, asking, asked = await it.asked(n=number)
    await refused(it.ann.go_on(asked, "turn", n=number - 1))
    assert not asking.response.done()
    resumed = asyncio.ensure_future(it.ann.go_on(asked, "turn", n=number))
    await asking.answered()
    resumed.cancel()


async def test_the_same_call_in_another_spelling_is_the_same_call(it: Scene) -> None:
    turn, asking, asked = await it.asked(a=1, b={"x": [1, 2.5, None], "y": "é"})
    client = it.bascule.modern("/servers/it/mcp", {"elicitation": {}})
    again = await client.ask("tools/call", {"name": "turn", "arguments": {}, "requestState": asked["requestState"]})
    assert again["error"]["code"] == -32602  # of another caller: the edge's, not ann
    respelt: Json = {"b": {"y": "\u00e9", "x": [1, 2.5, None]}, "a": 1}
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn", **respelt))
    await asking.answered()
    await turn.answer("the same")
    assert text_of(await going_on) == "the same"


async def test_over_http_spacing_escapes_and_order_do_not_matter_and_tampering_is_400(it: Scene) -> None:
    client = it.bascule.modern("/servers/it/mcp", {"elicitation": {}})
    params = {"name": "turn", "arguments": {"a": 1, "b": "é"}}
    calling = asyncio.ensure_future(client.ask("tools/call", params))
    turn = await it.old.turn()
    asking = await turn.elicit("really?")
    asked = (await calling)["result"]
    (key,) = asked["inputRequests"]

    async def again(arguments: str, state: str, id: int) -> tuple[int, Json]:
        meta = '{"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},'
        meta += '"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'
        answers = f'"inputResponses" : {{"{key}": {{"action":"accept"}}}}, "requestState":"{state}"'
        spelt = f'{{ "arguments" :{arguments}, {answers}, "_meta": {meta}, "name":"turn" }}'
        body = f'{{"params":{spelt},"method":"tools/call","id":{id},"jsonrpc":"2.0"}}'
        head = client.head("tools/call", params)
        async with client.bascule.request("POST", client.path, head, body.encode()) as exchange:
            return exchange.status, await exchange.last()

    same = '\n{ "b" : "\\u00e9",\t"a":1 }'
    status, message = await again(same, "A" + asked["requestState"], 2)
    assert (status, message["error"]["code"], message["id"]) == (400, -32602, 2)
    going_on = asyncio.ensure_future(again(same, asked["requestState"], 3))
    assert (await asking.answered())["result"] == {"action": "accept"}
    await turn.answer("the same")
    status, message = await going_on
    assert (status, message["id"], text_of(message["result"])) == (200, 3, "the same")


async def test_a_state_is_no_good_at_another_server_even_for_the_same_tool() -> None:
    async with old() as one, old() as other, gateway({"it": remote(one.url), "two": remote(other.url)}) as bascule:
        await bascule.up("it", "two")
        assert bascule.gateway is not None
        ann, there = Stateless(bascule.gateway), Stateless(bascule.gateway, view="two")
        calling = asyncio.ensure_future(ann.call("turn"))
        asking = await (turn := await one.turn()).elicit("?")
        asked = await calling
        await refused(there.go_on(asked, "turn"))
        assert (other.heard, one.heard) == ([], ["tools/call"])
        # The aggregate leads to the same server: there it is the same call.
        anywhere = Stateless(bascule.gateway, view="")
        going_on = asyncio.ensure_future(anywhere.go_on(asked, "it__turn"))
        await asking.answered()
        await turn.answer("the same server")
        assert text_of(await going_on) == "the same server"


async def test_a_state_of_another_gateway_process_is_refused(it: Scene) -> None:
    async with gateway({"it": remote(it.old.url)}) as elsewhere:
        await elsewhere.up("it")
        assert elsewhere.gateway is not None
        _, _, asked = await it.asked(n=1)
        before = it.old.heard
        await refused(Stateless(elsewhere.gateway).go_on(asked, "turn", n=1))
        assert it.old.heard == before


# ---- who does not come back ----------------------------------------------------------------------


async def test_at_the_deadline_the_question_and_then_the_call_are_cancelled_and_nothing_is_left() -> None:
    async with scene(parking={"ttl_s": 0.2}) as it:
        turn, asking, asked = await it.asked(n=1)
        assert (await asking.answered())["result"] == CANCELLED
        await turn.is_cancelled()  # it did not end by itself
        assert it.old.heard == ["tools/call", "POST", "notifications/cancelled"]  # in this order
        await nothing_left(it.bascule)
        assert not any(session.busy for session in as_modern(it.bascule).pool._all())
        before = it.old.heard
        assert "expired" in await refused(it.ann.go_on(asked, "turn", n=1))
        assert it.old.heard == before


async def test_a_server_that_ends_its_call_when_nobody_comes_is_not_told_more() -> None:
    async with scene(parking={"ttl_s": 0.2}) as it:
        turn, asking, _ = await it.asked(n=1)
        await asking.answered()
        await turn.answer("then not")
        await nothing_left(it.bascule)
        assert not turn.cancelled.is_set()


async def test_a_model_that_is_not_asked_in_time_is_an_error_for_the_server() -> None:
    async with scene(parking={"ttl_s": 0.2}) as it:
        ann = it.stateless(capabilities={"sampling": {}, "roots": {}})
        calling = asyncio.ensure_future(ann.call("turn"))
        turn = await it.old.turn()
        askings = [await turn.ask("sampling/createMessage", {"messages": []}), await turn.ask("roots/list")]
        await calling
        for asking in askings:
            assert "error" in await asking.answered()
        await turn.is_cancelled()


async def test_abandoned_calls_leave_no_task_session_or_place_behind() -> None:
    async with scene(parking={"ttl_s": 0.1}) as it:

        async def abandon(*numbers: int) -> None:
            for turn, asking, _ in [await it.asked(n=number) for number in numbers]:
                await asking.answered()
                await turn.is_cancelled()

        await abandon(0)
        await nothing_left(it.bascule)
        tasks, sessions = len(asyncio.all_tasks()), len(as_modern(it.bascule).pool)
        await abandon(*range(1, 6))
        await nothing_left(it.bascule)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        assert len(as_modern(it.bascule).pool) == sessions
        assert it.bascule.gateway is not None
        assert not it.bascule.gateway.parking._held


async def test_when_the_gateway_ends_its_parked_calls_are_given_up(it: Scene) -> None:
    turn, asking, _ = await it.asked(n=1)
    assert it.bascule.gateway is not None
    closing = asyncio.ensure_future(it.bascule.gateway.parking.close())
    assert (await asking.answered())["result"] == CANCELLED
    await turn.is_cancelled()
    await closing
    assert parked(it.bascule) == 0


async def test_a_client_that_leaves_in_its_second_round_cancels_the_call_at_the_server(it: Scene) -> None:
    client = it.bascule.modern("/servers/it/mcp", {"elicitation": {}})
    params: Json = {"name": "turn", "arguments": {}}
    calling = asyncio.ensure_future(client.ask("tools/call", params))
    turn = await it.old.turn()
    asking = await turn.elicit("?")
    asked = (await calling)["result"]
    again = {"inputResponses": dict.fromkeys(asked["inputRequests"], ACCEPTED), "requestState": asked["requestState"]}
    leaving = asyncio.ensure_future(client.ask("tools/call", {**params, **again}))
    await asking.answered()
    leaving.cancel()
    await turn.is_cancelled()
    await nothing_left(it.bascule)


async def test_a_call_that_is_cancelled_between_its_answers_and_their_delivery_is_cancelled_at_the_server(
    it: Scene,
) -> None:
    for steps in range(6):
        turn, _, asked = await it.asked(n=steps)
        leaving = asyncio.ensure_future(it.ann.go_on(asked, "turn", n=steps))
        for _ in range(steps):
            await asyncio.sleep(0)
        if not leaving.cancel():
            continue
        await asyncio.wait({leaving})
        if parked(it.bascule):  # it had not begun
            assert not turn.cancelled.is_set()
            leaving = asyncio.ensure_future(it.ann.go_on(asked, "turn", n=steps))
            await eventually(lambda: not parked(it.bascule))
            leaving.cancel()
        await turn.is_cancelled()
        await nothing_left(it.bascule)


async def test_the_deadline_of_the_server_counts_for_each_round() -> None:
    async with old() as server, gateway({"it": remote(server.url, call_timeout_s=0.5)}) as bascule:
        await bascule.up("it")
        assert bascule.gateway is not None
        ann = Stateless(bascule.gateway)
        calling = asyncio.ensure_future(ann.call("turn"))
        turn = await server.turn()
        await turn.elicit("?")
        asked = await calling
        with pytest.raises(Exception, match=r"no answer within 0\.5 s"):
            await ann.go_on(asked, "turn")
        await turn.is_cancelled()
        await nothing_left(bascule)


async def test_a_caller_parks_so_many_calls_and_the_one_too_many_is_cancelled_at_the_server() -> None:
    async with scene(parking={"max_per_caller": 2}) as it:
        held = [await it.asked(n=number) for number in range(2)]
        calling = asyncio.ensure_future(it.ann.call("turn", n=2))
        turn = await it.old.turn()
        asking = await turn.elicit("?")
        assert (await asking.answered())["result"] == CANCELLED
        await turn.is_cancelled()
        with pytest.raises(Overloaded):
            await calling
        assert len(conversations(it.bascule)) == 2
        await it.asked(it.stateless("ben"), n=3)  # others are not concerned
        (turn, asking, asked) = held[0]
        going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn", n=0))
        await asking.answered()
        await turn.answer("place for another")
        await going_on
        await it.asked(n=4)


# ---- answers -------------------------------------------------------------------------------------


async def test_what_was_not_answered_is_asked_again_under_a_new_state(it: Scene) -> None:
    calling = asyncio.ensure_future(it.ann.call("turn"))
    turn = await it.old.turn()
    one, other = await turn.elicit("one?"), await turn.elicit("other?")
    asked = await calling
    first, second = asked["inputRequests"]
    answer = {"action": "accept", "content": {"answer": "1"}}
    again = await it.ann.go_on(asked, "turn", {first: answer, "unheard of": answer})
    assert (await one.answered())["result"] == answer
    assert not other.response.done()
    assert again["inputRequests"] == {second: asked["inputRequests"][second]}
    assert again["requestState"] != asked["requestState"]
    await refused(it.ann.go_on(asked, "turn"))
    nothing = await it.ann.go_on(again, "turn", {})
    assert nothing["inputRequests"] == again["inputRequests"]
    going_on = asyncio.ensure_future(it.ann.go_on(nothing, "turn", {second: DECLINED, first: DECLINED}))
    assert (await other.answered())["result"] == DECLINED
    await turn.answer("both")
    assert text_of(await going_on) == "both"


@pytest.mark.parametrize("answers", [5, None, [], "x", {"key": 5}, {"key": None}, {"key": []}, {"key": "accept"}])
async def test_answers_that_are_none_are_refused_and_the_state_stays_good(answers: Any, it: Scene) -> None:
    turn, asking, asked = await it.asked(n=1)
    (key,) = asked["inputRequests"]
    malformed = {key: answers["key"]} if isinstance(answers, dict) else answers
    before = it.old.heard
    again = {"inputResponses": malformed, "requestState": asked["requestState"]}
    await refused(it.ann.send("tools/call", {"name": "turn", "arguments": {"n": 1}, **again}))
    assert it.old.heard == before
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn", n=1))
    await asking.answered()
    await turn.answer("at last")
    assert text_of(await going_on) == "at last"


async def test_answers_without_a_state_start_the_call_anew(it: Scene) -> None:
    _, asking, asked = await it.asked(n=1)
    answers = {"inputResponses": dict.fromkeys(asked["inputRequests"], ACCEPTED)}
    calling = asyncio.ensure_future(it.ann.send("tools/call", {"name": "turn", "arguments": {"n": 1}, **answers}))
    turn = await it.old.turn()
    assert "inputResponses" not in turn.params
    await turn.elicit("really?")
    again = await calling
    assert again["resultType"] == "input_required"
    assert not asking.response.done()
    assert parked(it.bascule) == 2


async def test_an_answer_reaches_the_server_as_the_client_wrote_it(it: Scene) -> None:
    _, asking, asked = await it.asked()
    (key,) = asked["inputRequests"]
    answer = {"action": "accept", "content": {"big": 2**70, "one": 1.0, "none": None}, "_meta": {"v.example/x": []}}
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn", {key: answer}))
    result = (await asking.answered())["result"]
    assert result == answer
    assert list(result["content"]) == ["big", "one", "none"]
    assert type(result["content"]["one"]) is float
    going_on.cancel()


@pytest.fixture(params=["stdio", "http"])
async def plain(request: pytest.FixtureRequest) -> AsyncIterator[Bascule]:
    """A real server with a handshake, on its own, over a pipe or HTTP."""
    if request.param == "stdio":
        async with gateway({"it": local("plain")}) as bascule:
            await bascule.up("it")
            yield bascule
    else:
        with running(command_of("web", "plain")) as url:
            async with gateway({"it": remote(url)}) as bascule:
                await bascule.up("it")
                yield bascule


def ann_of(bascule: Bascule, name: str = "ann", **more: Any) -> Stateless:
    assert bascule.gateway is not None
    return Stateless(bascule.gateway, Caller(name, UNLIMITED), **more)


async def test_questions_that_come_at_once_are_asked_at_once(plain: Bascule) -> None:
    ann = ann_of(plain, capabilities={"elicitation": {}, "sampling": {}, "roots": {}})
    asked = await ann.call("survey", one="1", other="2")
    rounds, answers = 1, {}
    while "inputRequests" in asked:  # on a busy machine they may not come in time for one round
        for key, question in asked["inputRequests"].items():
            answers[key] = {
                "of": question["method"],
                **({"action": "accept"} if "elicit" in question["method"] else {}),
            }
        asked = await ann.go_on(
            asked, "survey", {key: answers[key] for key in asked["inputRequests"]}, one="1", other="2"
        )
        rounds += 1
    assert len(answers) == 4
    assert rounds <= 4
    said = asked["structuredContent"]
    assert {key: each["of"] for key, each in said.items()} == {
        "one": "elicitation/create",
        "other": "elicitation/create",
        "said": "sampling/createMessage",
        "roots": "roots/list",
    }
    await nothing_left(plain)


async def test_questions_one_after_another_take_a_round_each(plain: Bascule) -> None:
    ann = ann_of(plain)
    asked = await ann.call("ask", question="?", times=3)
    states = []
    for number in range(3):
        states.append(asked["requestState"])
        (key,) = asked["inputRequests"]
        answer = {"action": "accept", "content": {"answer": str(number)}}
        asked = await ann.go_on(asked, "ask", {key: answer}, question="?", times=3)
    assert [each["content"]["answer"] for each in asked["structuredContent"]["answers"]] == ["0", "1", "2"]
    assert len(set(states)) == 3


async def test_a_prompt_may_ask_as_well(plain: Bascule) -> None:
    ann = ann_of(plain)
    asked = await ann.send("prompts/get", {"name": "interview"})
    answers = {key: {"action": "accept", "content": {"answer": "Eve"}} for key in asked["inputRequests"]}
    again = {"inputResponses": answers, "requestState": asked["requestState"]}
    result = await ann.send("prompts/get", {"name": "interview", **again})
    assert result["messages"][0]["content"]["text"] == "Greet Eve."


async def test_many_calls_of_one_caller_wait_at_once_and_none_gets_anothers_answer(it: Scene) -> None:
    held = [await it.asked(n=number) for number in range(8)]
    for number, (turn, asking, asked) in list(enumerate(held))[::-1]:
        (key,) = asked["inputRequests"]
        answer = {"action": "accept", "content": {"answer": f"for {number}"}}
        going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn", {key: answer}, n=number))
        assert (await asking.answered())["result"] == answer
        await turn.answer(f"of {number}")
        assert text_of(await going_on) == f"of {number}"
    await nothing_left(it.bascule)


# ---- what the server does meanwhile --------------------------------------------------------------


async def test_a_question_that_the_server_withdraws_while_the_client_is_away_is_asked_no_more(it: Scene) -> None:
    calling = asyncio.ensure_future(it.ann.call("turn"))
    turn = await it.old.turn()
    gone, stays = await turn.elicit("gone?"), await turn.elicit("stays?")
    asked = await calling
    await turn.withdraw(gone)
    await eventually(lambda: len(conversations(it.bascule)[0]._open) == 1)
    left = await it.ann.go_on(asked, "turn", {})
    assert [each["params"]["message"] for each in left["inputRequests"].values()] == ["stays?"]
    going_on = asyncio.ensure_future(it.ann.go_on(left, "turn"))
    await stays.answered()
    await turn.answer("withdrawn")
    assert text_of(await going_on) == "withdrawn"
    assert not gone.response.done()


async def test_an_answer_to_a_question_that_was_withdrawn_is_dropped(it: Scene) -> None:
    turn, asking, asked = await it.asked()
    await turn.withdraw(asking)
    await eventually(lambda: not conversations(it.bascule)[0]._open)
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn"))
    await turn.answer("no need")
    assert text_of(await going_on) == "no need"
    assert not asking.response.done()


async def test_a_question_that_is_withdrawn_before_it_was_put_is_never_put(it: Scene) -> None:
    for delay_s in (0.002, 0.004, 0.006):
        calling = asyncio.ensure_future(it.ann.call("turn"))
        turn = await it.old.turn()
        asking = await turn.elicit("?")
        await asyncio.sleep(delay_s)  # within the moment for which questions are gathered
        await turn.withdraw(asking)
        await turn.notify("message", level="info", data="a step after the withdrawal")
        try:
            async with asyncio.timeout(0.3):
                early = await asyncio.shield(calling)
            assert early["inputRequests"]
        except TimeoutError:
            pass  # it waits, as it should
        await turn.answer("nothing was asked")
        assert text_of(await calling) == "nothing was asked"


async def test_a_server_that_answers_by_itself_while_the_client_is_away_is_believed(it: Scene) -> None:
    turn, asking, asked = await it.asked()
    await turn.answer("never mind")
    await eventually(lambda: not conversations(it.bascule))
    assert text_of(await it.ann.go_on(asked, "turn")) == "never mind"
    assert (await asking.answered())["result"] == CANCELLED  # not what the client said too late
    await nothing_left(it.bascule)


async def test_an_answer_that_nobody_fetches_is_forgotten() -> None:
    async with scene(parking={"ttl_s": 0.2}) as it:
        turn, _, asked = await it.asked()
        await turn.answer("never mind")
        await nothing_left(it.bascule)
        await refused(it.ann.go_on(asked, "turn"))


async def test_a_server_that_asks_more_while_the_client_is_away_is_heard_in_the_next_round(it: Scene) -> None:
    turn, asking, asked = await it.asked()
    more = await turn.elicit("and this?")
    await eventually(lambda: len(conversations(it.bascule)[0]._open) == 2)
    again = await it.ann.go_on(asked, "turn")
    await asking.answered()
    assert [each["params"]["message"] for each in again["inputRequests"].values()] == ["and this?"]
    going_on = asyncio.ensure_future(it.ann.go_on(again, "turn"))
    await more.answered()
    await turn.answer("both")
    assert text_of(await going_on) == "both"


async def test_news_of_a_parked_call_reach_whoever_is_back(it: Scene) -> None:
    level = {"io.modelcontextprotocol/logLevel": "info"}
    params = {"name": "turn", "arguments": {}}
    calling = asyncio.ensure_future(it.ann.send("tools/call", params, meta={"progressToken": "one", **level}))
    turn = await it.old.turn()
    token = turn.params["_meta"]["progressToken"]
    await turn.notify("progress", progressToken=token, progress=1)
    assert (await it.ann.next_of("notifications/progress"))["progressToken"] == "one"
    asking = await turn.elicit("?")
    asked = await calling
    await turn.notify("message", level="error", data="nobody is there")
    await turn.elicit("after that")
    await eventually(lambda: len(conversations(it.bascule)[0]._open) == 2)
    answers = dict.fromkeys(asked["inputRequests"], ACCEPTED)
    again = {**params, "inputResponses": answers, "requestState": asked["requestState"]}
    going_on = asyncio.ensure_future(it.ann.send("tools/call", again, meta={"progressToken": 2, **level}))
    await asking.answered()
    await turn.notify("message", level="debug", data="too low")
    await turn.notify("progress", progressToken=token, progress=2)
    assert await it.ann.next_of("notifications/progress") == {"progressToken": 2, "progress": 2}
    await turn.answer("done")
    await going_on
    assert it.ann.heard.empty()


async def test_the_server_logs_from_the_lowest_level_wanted_and_each_request_hears_its_own(it: Scene) -> None:
    told = []
    for level, heard in (("error", ["error"]), (None, []), ("info", ["info", "error"]), ("critical", [])):
        meta = {} if level is None else {"io.modelcontextprotocol/logLevel": level}
        calling = asyncio.ensure_future(it.ann.send("tools/call", {"name": "turn", "arguments": {}}, meta=meta))
        turn = await it.old.turn()
        told.append([each["level"] for each in it.old.sent("logging/setLevel")])
        for each in ("debug", "info", "error"):
            await turn.notify("message", level=each, data="x")
        await turn.answer("x")
        await calling
        assert [(await it.ann.next_of("notifications/message"))["level"] for _ in heard] == heard
        assert it.ann.heard.empty()
    assert told == [["error"], ["error"], ["error", "info"], ["error", "info"]]


async def test_a_process_that_dies_while_the_client_is_away_is_a_clear_error() -> None:
    async with gateway({"it": local("plain")}) as bascule:
        await bascule.up("it")
        client = bascule.modern("/servers/it/mcp", {"elicitation": {}})
        asked = await client.call("ask", question="?")
        (pid,) = (await bascule.server("it"))["pids"]
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        answers = dict.fromkeys(asked["inputRequests"], ACCEPTED)
        again = {"inputResponses": answers, "requestState": asked["requestState"]}
        result = await client.result("tools/call", {"name": "ask", "arguments": {"question": "?"}, **again})
        assert result["isError"]
        assert "it: the process was killed by SIGKILL" in result["content"][0]["text"]
        await nothing_left(bascule)


async def test_a_connection_that_breaks_while_the_client_is_away_is_a_clear_error(it: Scene) -> None:
    turn, _, asked = await it.asked()
    turn.reset()
    await eventually(lambda: not conversations(it.bascule))
    with pytest.raises(UpstreamBrokeProtocol) as caught:
        await it.ann.go_on(asked, "turn")
    assert caught.value.source == "it"
    await nothing_left(it.bascule)


# ---- what a client did not declare ---------------------------------------------------------------


async def test_a_client_that_cannot_be_asked_never_meets_a_question(plain: Bascule) -> None:
    ann = ann_of(plain, capabilities={})
    kind = (await plain.server("it"))["kind"]
    result = await ann.call("ask", question="?")
    if kind == "stdio":  # a shared process is told that all can be asked: declined on the client's behalf
        assert result["structuredContent"] == {"answers": [DECLINED]}
    else:
        assert "does not support elicitation" in result["content"][0]["text"]
    assert parked(plain) == 0


async def test_a_server_that_fails_for_want_of_a_capability_is_32021() -> None:
    async with gateway({"it": local("plain")}) as bascule:
        await bascule.up("it")
        for tool, arguments, needed in (("sample", {"prompt": "?"}, "sampling"), ("roots", {}, "roots")):
            client = bascule.modern("/servers/it/mcp", {"elicitation": {}})
            async with client.open("tools/call", {"name": tool, "arguments": arguments}) as exchange:
                assert exchange.status == 400
                error = (await exchange.last())["error"]
            assert error["code"] == -32021
            assert error["data"]["requiredCapabilities"] == {needed: {}}


@pytest.mark.parametrize(
    ("capabilities", "method", "params", "needed"),
    [
        ({}, "elicitation/create", {"message": "?"}, {"elicitation": {}}),
        ({"sampling": {}}, "elicitation/create", {"message": "?"}, {"elicitation": {}}),
        ({"elicitation": {}}, "elicitation/create", PAGE, URL),
        ({"elicitation": {"form": {}}}, "elicitation/create", PAGE, URL),
        ({"elicitation": {}}, "sampling/createMessage", {"messages": []}, {"sampling": {}}),
        ({"sampling": {}}, "sampling/createMessage", {"messages": [], "tools": []}, {"sampling": {"tools": {}}}),
        ({"elicitation": {}}, "roots/list", {}, {"roots": {}}),
    ],
)
async def test_a_question_that_was_not_declared_is_refused_for_the_client(
    capabilities: Json, method: str, params: Json, needed: Json, it: Scene
) -> None:
    ann = it.stateless(capabilities=capabilities)
    for failing in (True, False):
        calling = asyncio.ensure_future(ann.call("turn"))
        turn = await it.old.turn()
        said = await (await turn.ask(method, params)).answered()
        if method == "elicitation/create":
            assert said["result"] == DECLINED
        else:
            assert said["error"]["code"] == -32601
        await turn.answer("as I could", isError=failing)
        result = await calling
        if failing:
            assert result["error"]["code"] == -32021
            assert result["error"]["data"]["requiredCapabilities"] == needed
        else:
            assert text_of(result) == "as I could"
    assert parked(it.bascule) == 0


async def test_a_list_is_never_answered_with_a_question(it: Scene) -> None:
    asking: asyncio.Queue[Asking] = asyncio.Queue()

    async def list_tools(asked: Any) -> None:
        turn = Turn(asked, it.old)
        asking.put_nowait(await turn.elicit("may I?"))
        said = await asking._queue[0].answered()  # type: ignore[attr-defined]  # the only one
        await turn.result({"tools": [{"name": str(said["result"]["action"]), "inputSchema": {"type": "object"}}]})

    it.old.foreign.on["tools/list"] = list_tools
    result = await it.ann.send("tools/list", {})
    assert [tool["name"] for tool in result["tools"]] == ["decline"]


async def test_each_set_of_capabilities_has_a_session_of_its_own_at_the_server(it: Scene) -> None:
    sets: list[Json] = [
        {"elicitation": {}},
        {"elicitation": {"url": {}}, "sampling": {}},
        {},
        {"sampling": {}, "elicitation": {"url": {}}},  # the second again
        {"elicitation": {}, "extensions": {"x.example/y": {}}},  # extensions did not exist: the first again
    ]
    sessions = []
    for number, capabilities in enumerate(sets):
        calling = asyncio.ensure_future(it.stateless(capabilities=capabilities).call("turn", n=number))
        turn = await it.old.turn()
        sessions.append(turn.asked.headers["mcp-session-id"])
        await turn.answer("x")
        await calling
    assert len(set(sessions)) == 3
    assert sessions[3] == sessions[1]
    assert sessions[4] == sessions[0]
    calling = asyncio.ensure_future(it.stateless("ben", capabilities=sets[0]).call("turn"))
    turn = await it.old.turn()
    assert turn.asked.headers["mcp-session-id"] not in sessions
    await turn.answer("x")
    await calling
    declared = [hello["capabilities"] for hello in it.old.sent("initialize")]
    for capabilities in sets[:3]:
        assert capabilities in declared
    assert not any("extensions" in each for each in declared)
    assert declared.count(sets[1]) == 1


async def test_two_sets_of_capabilities_at_the_same_time_do_not_mix(it: Scene) -> None:
    able, unable = it.ann, it.stateless(capabilities={"sampling": {}})
    _, first, asked = await it.asked(able)
    calling = asyncio.ensure_future(unable.call("turn"))
    turn = await it.old.turn()
    assert (await (await turn.elicit("?")).answered())["result"] == DECLINED
    await turn.answer("without")
    assert text_of(await calling) == "without"
    assert not first.response.done()
    assert asked["inputRequests"]


async def test_the_capabilities_of_each_round_count_for_that_round(it: Scene) -> None:
    turn, asking, asked = await it.asked()
    it.ann.capabilities = {}
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn"))
    await asking.answered()
    again = await turn.elicit("again?")
    said = asyncio.ensure_future(again.answered())
    await asyncio.wait({said, going_on}, return_when=asyncio.FIRST_COMPLETED)
    assert said.done(), "it was put to a client that cannot be asked"
    assert said.result()["result"] == DECLINED
    await turn.answer("without")
    assert text_of(await going_on) == "without"


async def test_a_retry_with_other_capabilities_opens_no_session_for_itself(it: Scene) -> None:
    turn, asking, asked = await it.asked()
    before = len(it.old.sent("initialize"))
    it.ann.capabilities = {"elicitation": {}, "roots": {}}
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn"))
    await asking.answered()
    await turn.answer("x")
    await going_on
    assert len(it.old.sent("initialize")) == before


@pytest.mark.parametrize("info", [5, None, "x", [], {}, {"name": "n"}, {"version": "1"}, {"name": 5, "version": "1"}])
async def test_what_one_client_says_of_itself_never_keeps_another_from_the_server(info: Any, it: Scene) -> None:
    async def initialize(asked: Asked) -> None:
        said = asked.message["params"]["clientInfo"]
        fine = isinstance(said, dict) and all(isinstance(said.get(key), str) for key in ("name", "version"))
        await (it.old._initialize(asked) if fine else asked.refuse(-32602, "Invalid request parameters", 400))

    it.old.foreign.on["initialize"] = initialize
    good = {"name": "good", "version": "1"}
    said = []
    for each in (info, good):
        meta = {"io.modelcontextprotocol/clientInfo": each}
        calling = asyncio.ensure_future(it.ann.send("tools/call", {"name": "turn", "arguments": {}}, meta=meta))
        turning = asyncio.ensure_future(it.old.turn())
        await asyncio.wait({calling, turning}, return_when=asyncio.FIRST_COMPLETED)
        if turning.done():
            await turning.result().answer("welcome")
            said.append(text_of(await calling))
        else:
            turning.cancel()
            said.append(repr(calling.exception()))
    assert said[1] == "welcome"


# ---- questions outside of calls ------------------------------------------------------------------


async def test_a_question_outside_of_a_call_goes_to_the_only_call_of_its_session(it: Scene) -> None:
    calling = asyncio.ensure_future(it.ann.call("turn"))
    turn = await it.old.turn()
    session = turn.asked.headers["mcp-session-id"]
    await it.old.until(lambda old: session in old.streams)
    asking = await it.old.ask_outside("elicitation/create", {"message": "outside?", "requestedSchema": {}}, session)
    asked = await calling
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn"))
    assert (await asking.answered())["result"] == ACCEPTED
    await turn.answer("x")
    await going_on


async def test_a_question_outside_of_a_call_that_could_be_anybodys_goes_to_nobody(it: Scene) -> None:
    calling = [asyncio.ensure_future(it.ann.call("turn", n=number)) for number in range(2)]
    turns = [await it.old.turn() for _ in calling]
    session = turns[0].asked.headers["mcp-session-id"]
    await it.old.until(lambda old: session in old.streams)
    asking = await it.old.ask_outside("elicitation/create", {"message": "whose?", "requestedSchema": {}}, session)
    assert "error" in await asking.answered()
    for turn in turns:
        await turn.answer("not mine")
    assert [text_of(each) for each in await asyncio.gather(*calling)] == ["not mine"] * 2


async def test_a_question_outside_of_a_call_never_goes_to_a_call_in_another_session(it: Scene) -> None:
    turn, _, _ = await it.asked()
    elsewhere = asyncio.ensure_future(it.stateless(capabilities={"elicitation": {}, "roots": {}}).call("turn"))
    other = await it.old.turn()
    session = turn.asked.headers["mcp-session-id"]
    assert session != other.asked.headers["mcp-session-id"]
    await it.old.until(lambda old: session in old.streams)
    asking = await it.old.ask_outside("elicitation/create", {"message": "whose?", "requestedSchema": {}}, session)
    said = asyncio.ensure_future(asking.answered())
    await asyncio.wait({said, elsewhere}, return_when=asyncio.FIRST_COMPLETED)
    assert not elsewhere.done()
    assert "error" in said.result()
    await other.answer("x")
    await elsewhere


# ---- URLs that have to be visited ----------------------------------------------------------------


async def visiting(it: Scene, ann: Stateless, *pages: Json) -> Json:
    """What the client is told when the server wants *pages* to be visited first."""
    calling = asyncio.ensure_future(ann.call("turn", n=1))
    await (await it.old.turn()).refuse(-32042, "sign in first", elicitations=list(pages))
    return await calling


async def test_urls_to_visit_first_are_asked_for_without_their_ids_and_the_call_is_made_again(it: Scene) -> None:
    ann = it.stateless(capabilities=URL)
    pages = [{**PAGE, "elicitationId": f"e{n}", "url": f"https://pages.example/{n}"} for n in range(2)]
    asked = await visiting(it, ann, *pages)
    assert asked["resultType"] == "input_required"
    assert [each["method"] for each in asked["inputRequests"].values()] == ["elicitation/create"] * 2
    params = [each["params"] for each in asked["inputRequests"].values()]
    assert params == [{**PAGE, "url": f"https://pages.example/{n}"} for n in range(2)]
    answers = {key: {"action": "accept"} for key in asked["inputRequests"]}
    going_on = asyncio.ensure_future(ann.go_on(asked, "turn", answers, n=1))
    again = await it.old.turn()
    assert again.params["arguments"] == {"n": 1}
    await again.answer("welcome")
    assert text_of(await going_on) == "welcome"
    await nothing_left(it.bascule)


@pytest.mark.parametrize("action", ["decline", "cancel", "sideways"])
async def test_a_url_that_is_not_visited_ends_the_call(action: str, it: Scene) -> None:
    ann = it.stateless(capabilities=URL)
    asked = await visiting(it, ann, {**PAGE, "elicitationId": "e"})
    answers = {key: {"action": action} for key in asked["inputRequests"]}
    result = await ann.go_on(asked, "turn", answers, n=1)
    assert result["error"]["code"] == -32602
    assert len(it.old.sent("tools/call")) == 1
    await nothing_left(it.bascule)


async def test_a_client_that_cannot_visit_urls_is_told_so(it: Scene) -> None:
    unable: list[Json] = [{}, {"elicitation": {}}, {"sampling": {}}]
    for capabilities in unable:
        result = await visiting(it, it.stateless(capabilities=capabilities), {**PAGE, "elicitationId": "e"})
        assert result["error"]["code"] == -32021
        assert result["error"]["data"]["requiredCapabilities"] == URL
    assert parked(it.bascule) == 0


async def test_a_server_that_never_has_enough_of_visits_is_given_up(it: Scene) -> None:
    ann = it.stateless(capabilities=URL)
    asked = await visiting(it, ann, {**PAGE, "elicitationId": "e"})
    with pytest.raises(UpstreamBrokeProtocol):  # noqa: PT012 - any round but the last is fine
        for _ in range(20):
            answers = {key: {"action": "accept"} for key in asked["inputRequests"]}
            going_on = asyncio.ensure_future(ann.go_on(asked, "turn", answers, n=1))
            turning = asyncio.ensure_future(it.old.turn())
            await asyncio.wait({going_on, turning}, return_when=asyncio.FIRST_COMPLETED)
            if turning.done():
                await turning.result().refuse(-32042, "again", elicitations=[PAGE])
            else:
                turning.cancel()
            asked = await going_on
    assert len(it.old.sent("tools/call")) == 10


async def test_a_real_server_lets_in_who_was_sent_to_its_page(plain: Bascule) -> None:
    ann = ann_of(plain, capabilities=URL)
    url = "https://pages.example/sign-in"
    asked = await ann.call("visit_first", url=url)
    (question,) = asked["inputRequests"].values()
    assert question["params"] == {"mode": "url", "url": url, "message": "Please sign in"}
    answers = {key: {"action": "accept"} for key in asked["inputRequests"]}
    assert text_of(await ann.go_on(asked, "visit_first", answers, url=url)) == f"welcome back from {url}"


# ---- processes -----------------------------------------------------------------------------------


async def test_a_question_on_a_shared_pipe_that_could_be_two_callers_goes_to_nobody() -> None:
    async with gateway({"it": local("plain")}) as bascule:
        await bascule.up("it")
        ann, ben = ann_of(bascule), ann_of(bascule, "ben")
        params = {"name": "sleep", "arguments": {"seconds": 60}}
        busy = asyncio.ensure_future(ann.send("tools/call", params, meta={"progressToken": 1}))
        await ann.next_of("notifications/progress")  # the server has it
        result = await ben.call("ask", question="whose?")
        assert result["isError"]
        assert "per_session" in result["content"][0]["text"]
        assert parked(bascule) == 0
        busy.cancel()
        asked = await ben.call("ask", question="mine?")
        assert [each["params"]["message"] for each in asked["inputRequests"].values()] == ["mine?"]


async def test_a_question_on_a_shared_pipe_is_never_put_to_a_caller_who_waits_for_another() -> None:
    async with gateway({"it": local("plain")}) as bascule:
        await bascule.up("it")
        ann, ben = ann_of(bascule), ann_of(bascule, "ben")
        asked = await ann.call("ask", question="for ann", times=2)
        theirs = await ben.call("ask", question="for ben")
        questions = [each["params"]["message"] for each in theirs.get("inputRequests", {}).values()]
        assert questions == ["for ben"] or theirs["isError"]
        second = await ann.go_on(asked, "ask", question="for ann", times=2)
        assert [each["params"]["message"] for each in second.get("inputRequests", {}).values()] in (["for ann"], [])


async def test_per_session_gives_each_call_that_waits_a_process_of_its_own_and_all_of_them_end() -> None:
    async with gateway({"it": local("plain", sharing="per_session")}) as bascule:
        await bascule.up("it")
        ann, ben = ann_of(bascule), ann_of(bascule, "ben")
        before = set((await bascule.server("it"))["pids"])
        who = [ann, ben, ann, ben]
        held = await asyncio.gather(*(c.call("ask", question=str(n), times=2) for n, c in enumerate(who)))
        pids = set((await bascule.server("it"))["pids"])
        assert len(pids - before) >= 4
        for number, (client, asked) in enumerate(zip(who, held, strict=True)):
            result = asked
            for turn in range(2):
                (key,) = result["inputRequests"]
                assert result["inputRequests"][key]["params"]["message"] == str(number)
                answer = {"action": "accept", "content": {"answer": f"{number}/{turn}"}}
                result = await client.go_on(result, "ask", {key: answer}, question=str(number), times=2)
            said = [each["content"]["answer"] for each in result["structuredContent"]["answers"]]
            assert said == [f"{number}/0", f"{number}/1"]
        await nothing_left(bascule)
    await gone(*pids, within_s=WITHIN_S)


async def test_per_session_calls_that_are_given_up_leave_no_process_behind() -> None:
    async with gateway({"it": local("plain", sharing="per_session")}, parking={"ttl_s": 0.2}) as bascule:
        await bascule.up("it")
        ann = ann_of(bascule)
        await asyncio.gather(*(ann.call("ask", question=str(n)) for n in range(2)))
        pids = (await bascule.server("it"))["pids"]
        await nothing_left(bascule)
    await gone(*pids, within_s=WITHIN_S)


async def test_per_session_processes_of_finished_calls_make_room_for_others() -> None:
    async with gateway({"it": local("plain", sharing="per_session", max_processes=3)}) as bascule:
        await bascule.up("it")
        ann, ben = ann_of(bascule), ann_of(bascule, "ben")
        held = await asyncio.gather(*(ann.call("ask", question="?") for _ in range(2)))
        for asked in held:
            await ann.go_on(asked, "ask", question="?")
        assert text_of(await ben.call("echo", text="room")) == "room"


async def test_parallel_questions_of_one_caller_are_all_put_and_answered_where_each_call_has_a_process() -> None:
    async with gateway({"it": local("plain", sharing="per_session")}) as bascule:
        await bascule.up("it")
        ann = ann_of(bascule)

        async def whole(number: int) -> str:
            asked = await ann.call("ask", question=f"question {number}", times=2)
            while "inputRequests" in asked:
                answers = {
                    key: {"action": "accept", "content": {"answer": question["params"]["message"]}}
                    for key, question in asked["inputRequests"].items()
                }
                asked = await ann.go_on(asked, "ask", answers, question=f"question {number}", times=2)
            return text_of(asked)

        for number, text in enumerate(await asyncio.gather(*map(whole, range(5)))):
            assert json.loads(text)["answers"] == [
                {"action": "accept", "content": {"answer": f"question {number}"}} for _ in range(2)
            ]
        assert parked(bascule) == 0


async def test_a_question_costs_the_server_one_more_message(it: Scene) -> None:
    _, _, asked = await it.asked()
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn"))
    await it.old.until(lambda server: "POST" in server.heard)
    going_on.cancel()
    await asyncio.wait({going_on})
    assert it.old.heard[:2] == ["tools/call", "POST"]  # the call, and the answer to its question


async def test_processes_that_only_stateless_clients_used_make_room_for_a_session() -> None:
    async with gateway({"it": local("plain", sharing="per_session", max_processes=3)}) as bascule:
        await bascule.up("it")  # one process, for the lists
        for able in ("elicitation", "sampling"):
            assert text_of(await bascule.modern("/servers/it/mcp", {able: {}}).call("echo", text="x")) == "x"
        assert len((await bascule.server("it"))["pids"]) == 3
        client = await bascule.session("/servers/it/mcp")
        assert text_of(await client.call("echo", text="mine")) == "mine"


async def test_a_parked_call_takes_none_of_the_requests_that_a_server_may_work_at() -> None:
    async with old() as server, gateway({"it": remote(server.url, max_connections=1)}) as bascule:
        await bascule.up("it")
        ann = ann_of(bascule)
        for number in range(3):
            calling = asyncio.ensure_future(ann.call("turn", n=number))
            turn = await server.turn()
            await turn.elicit("still there?")
            assert "inputRequests" in await calling


@pytest.mark.parametrize("declared", [b'{"elicitation":{},"x":1e400}'])
async def test_a_retry_that_is_refused_does_not_spend_its_state(declared: bytes, it: Scene) -> None:
    turn, _, asked = await it.asked()
    meta = b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":%b}'
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"turn","requestState":%b,"_meta":%b}}' % (
        json.dumps(asked["requestState"]).encode(),
        meta % declared,
    )
    head = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "turn"}
    kind = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    async with it.bascule.http.post(f"{it.bascule.url}/servers/it/mcp", data=body, headers={**head, **kind}) as answer:
        assert (await answer.json())["error"]["code"] == -32602
    assert parked(it.bascule) == 1
    going_on = asyncio.ensure_future(it.ann.go_on(asked, "turn"))
    await eventually(lambda: not parked(it.bascule))
    await turn.answer("done")
    assert text_of(await going_on) == "done"
