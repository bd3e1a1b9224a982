"""Many callers on one pipe: each gets its own answer and its own news, whatever the server does.

The other end of the pipe is a server in memory: it reads the lines that were written and answers by hand.
"""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import Raw

from bascule.call import ANONYMOUS, BASCULE, Call, Caller, Result
from bascule.errors import BasculeError, InvalidParams, MethodNotFound, Unavailable, UpstreamBrokeProtocol
from bascule.upstream.asks import MAX_ASKS
from bascule.upstream.multiplexer import Multiplexer
from bascule.wire import jsonrpc, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import LATEST_LEGACY, LATEST_MODERN


class Inbox:
    """A client of one call: keeps the news that reach it."""

    def __init__(self) -> None:
        self.news: list[tuple[str, dict[str, Any]]] = []

    def notify(self, method: str, params: Params) -> None:
        self.news.append((method, {key: jsonrpc.decode(raw) for key, raw in params.items()}))

    async def ask(self, method: str, params: Params) -> Result:
        raise MethodNotFound(method)


class Keeper:
    """A host: keeps what the server says outside of calls, answers its questions when *ready*."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Call | None]] = []
        self.asks: list[tuple[str, Call | None]] = []
        self.ready = asyncio.Event()
        self.withdrawn = 0

    def heard(self, method: str, params: Params, sole: Call | None) -> None:
        self.said.append((method, sole))

    async def asked(self, method: str, params: Params, sole: Call | None) -> Result:
        self.asks.append((method, sole))
        try:
            await self.ready.wait()
        except asyncio.CancelledError:
            self.withdrawn += 1
            raise
        if method == "unknown":
            raise MethodNotFound("no such question")
        return Result(Raw(b'{"fine":1.0}'))


class Pipe:
    """A multiplexer and the server at its other end."""

    def __init__(self) -> None:
        self.host = Keeper()
        self.lines: list[dict[str, Any]] = []
        self.closed = False
        self.many = Multiplexer("s", self._write, self.host)

    def _write(self, line: bytes) -> None:
        if self.closed:
            raise Unavailable("the server process has ended")
        self.lines.append(json.loads(line))

    async def start(self, call: Call) -> "asyncio.Task[Result]":
        """Send *call*; it is on the wire when this returns."""
        task = asyncio.ensure_future(self.many.request(call, call.params))
        await asyncio.sleep(0)
        return task

    def say(self, **message: Any) -> None:
        self.many.receive(json.dumps({"jsonrpc": "2.0", **message}).encode())


def call(method: str = "tools/call", *, caller: Caller = ANONYMOUS, **params: Any) -> Call:
    return Call(
        caller=caller,
        client=Inbox(),
        revision=LATEST_LEGACY,
        method=method,
        params={("_meta" if name == "meta" else name): jsonrpc.encode(value) for name, value in params.items()},
    )


def news(of: Call) -> list[tuple[str, dict[str, Any]]]:
    assert isinstance(of.client, Inbox)
    return of.client.news


async def outcome(task: "asyncio.Task[Result]") -> Result:
    async with asyncio.timeout(5):
        return await task


async def still_waits(task: "asyncio.Task[Result]") -> None:
    for _ in range(3):  # an answer reaches its caller in the next turn of the loop
        await asyncio.sleep(0)
    assert not task.done()


# ---- answers


async def test_answers_may_come_in_any_order() -> None:
    pipe = Pipe()
    one, two = await pipe.start(call(a=1)), await pipe.start(call(a=2))
    pipe.say(id=2, result={"for": 2})
    pipe.say(id=1, result={"for": 1})
    assert (await outcome(one)).value == Raw(b'{"for": 1}')
    assert (await outcome(two)).value == Raw(b'{"for": 2}')
    assert pipe.many.in_flight == 0


async def test_the_first_of_two_answers_counts() -> None:  # N08
    pipe = Pipe()
    task = await pipe.start(call())
    pipe.say(id=1, result={"first": True})
    pipe.say(id=1, result={"first": False})
    assert (await outcome(task)).value == Raw(b'{"first": true}')
    assert pipe.many.dropped == {"unmatched_answer": 1}


@pytest.mark.parametrize("id", ['"1"', "1.0", "1e0", "-1", "2", "0", '""', "[1]", "true", "1" * 30, '{"id":1}'])
async def test_an_answer_under_another_id_is_nobodys(id: str) -> None:  # N10
    pipe = Pipe()
    task = await pipe.start(call())
    pipe.many.receive(f'{{"jsonrpc":"2.0","id":{id},"result":{{}}}}'.encode())
    await still_waits(task)
    assert pipe.many.dropped.total() == 1
    pipe.say(id=1, result={})
    await outcome(task)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"id":1,"result":{},"error":{"code":1,"message":""}}', "both a result and an error"),
        (b'{"id":1}', "neither a result nor an error"),
    ],
)
async def test_an_answer_of_both_or_neither_kind_fails_its_call(line: bytes, why: str) -> None:  # N13
    pipe = Pipe()
    task = await pipe.start(call())
    pipe.many.receive(line)
    with pytest.raises(UpstreamBrokeProtocol, match=why) as caught:
        await outcome(task)
    assert caught.value.source == "s"


async def test_an_error_is_passed_on_as_it_is() -> None:
    pipe = Pipe()
    task = await pipe.start(call())
    pipe.many.receive(b'{"id":1,"error":{"message":"no","code":-32602,"data":{"x":1.0}}}')
    assert await outcome(task) == Result(Raw(b'{"message":"no","code":-32602,"data":{"x":1.0}}'), refused=True)


@pytest.mark.parametrize("id", [b'"id":null,', b""])
async def test_an_error_without_an_id_is_about_the_only_call_in_flight_or_about_none(id: bytes) -> None:
    pipe = Pipe()
    one, two = await pipe.start(call()), await pipe.start(call())
    error = b'{"jsonrpc":"2.0",' + id + b'"error":{"code":-32700,"message":"?"}}'
    pipe.many.receive(error)
    await still_waits(one)
    await still_waits(two)
    pipe.say(id=1, result={})
    pipe.many.receive(error)
    assert (await outcome(one)).refused is False
    assert await outcome(two) == Result(Raw(b'{"code":-32700,"message":"?"}'), refused=True)


@given(st.one_of(st.binary(), st.sampled_from([b"", b"Listening on stdio", b"[]", b"null", b"{}", b'{"id":', b"\xff"])))
async def test_a_line_that_does_not_even_try_to_answer_leaves_the_calls_in_flight_alone(line: bytes) -> None:
    assume(b'"jsonrpc"' not in line)
    pipe = Pipe()
    task = await pipe.start(call())
    pipe.many.receive(line)
    await still_waits(task)
    pipe.say(id=1, result={})
    await outcome(task)


@pytest.mark.parametrize("meta", ["x", [modern.SUBSCRIPTION_ID], 1, modern.SUBSCRIPTION_ID])
async def test_a_notification_with_broken_metadata_is_dropped(meta: Any) -> None:
    pipe = Pipe()
    pipe.say(method="notifications/x", params={"_meta": meta})
    assert pipe.many.dropped.total() + len(pipe.host.said) == 1


async def test_a_call_that_cannot_be_written_leaves_nothing_behind() -> None:
    pipe = Pipe()
    pipe.closed = True
    with pytest.raises(Unavailable):
        await outcome(await pipe.start(call()))
    assert pipe.many.in_flight == 0


async def test_a_call_with_broken_metadata_is_refused_before_anything_is_written() -> None:
    pipe = Pipe()
    with pytest.raises(InvalidParams):
        await outcome(await pipe.start(call(meta="progressToken")))
    assert pipe.lines == []


@pytest.mark.parametrize("result", [b'{"n":NaN}', b'"\\ud800"', b'"\xff"', b"{", b"[" * 200_000 + b"]" * 200_000])
async def test_an_unreadable_answer_fails_only_the_call_that_it_names(result: bytes) -> None:
    pipe = Pipe()
    one, two = await pipe.start(call()), await pipe.start(call())
    pipe.many.receive(b'{"jsonrpc":"2.0","id":2,"result":' + result + b"}")
    with pytest.raises(UpstreamBrokeProtocol, match="cannot be read"):
        await outcome(two)
    pipe.many.receive(b'{"jsonrpc":"2.0","id":2,"result":' + result + b"}")  # now it is late
    await still_waits(one)
    pipe.say(id=1, result={})
    await outcome(one)


@pytest.mark.parametrize("line", [b'{"result":NaN,"jsonrpc":"2.0","id":1}', b'[{"jsonrpc":"2.0","id":1,"result":{}}]'])
async def test_an_unreadable_answer_without_a_legible_id_fails_the_only_call_there_is(line: bytes) -> None:
    pipe = Pipe()
    task = await pipe.start(call())
    pipe.many.receive(line)
    with pytest.raises(UpstreamBrokeProtocol, match="cannot be read"):
        await outcome(task)


@pytest.mark.parametrize(
    "line",
    [
        b'INFO sent {"jsonrpc":"2.0","id":1,"result":NaN}',
        b'{"jsonrpc":"2.0","method":"notifications/message","params":{"error":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"result":NaN}}',
    ],
)
async def test_unreadable_lines_that_are_no_answers_fail_nobody(line: bytes) -> None:
    pipe = Pipe()
    task = await pipe.start(call())
    pipe.many.receive(line)
    await still_waits(task)
    assert pipe.many.dropped == {"not_json_rpc": 1}
    task.cancel()


# ---- callers do not cross

tokens = st.one_of(st.integers(0, 2**64), st.text(st.characters(exclude_categories=["Cs"]), max_size=5))


@given(
    st.lists(tokens, min_size=2, max_size=8),
    st.randoms(use_true_random=False),
)
async def test_interleaved_calls_with_the_same_tokens_get_their_own_progress_and_answers(
    chosen: list[Any], random: Any
) -> None:
    pipe = Pipe()
    chosen = [chosen[0], *chosen]  # at least two callers use one token
    calls = [call(canary=i, meta={"progressToken": token, "x": i}) for i, token in enumerate(chosen)]
    tasks = [await pipe.start(each) for each in calls]
    events = [(line, step) for line in pipe.lines for step in range(3)]
    random.shuffle(events)
    left = {line["id"]: 3 for line in pipe.lines}
    for line, _ in events:
        canary, id = line["params"]["canary"], line["id"]
        assert line["params"]["_meta"]["x"] == canary
        left[id] -= 1
        if left[id]:
            token = line["params"]["_meta"]["progressToken"]
            pipe.say(method="notifications/progress", params={"progressToken": token, "progress": canary})
        else:
            pipe.say(id=id, result={"canary": canary})
    for i, (each, task, token) in enumerate(zip(calls, tasks, chosen, strict=True)):
        assert jsonrpc.decode((await outcome(task)).value) == {"canary": i}
        assert news(each) == [("notifications/progress", {"progressToken": token, "progress": i})] * 2
    assert len({line["params"]["_meta"]["progressToken"] for line in pipe.lines}) == len(calls)


async def test_a_token_keeps_its_type_and_its_bytes() -> None:
    pipe = Pipe()
    one, two = call(meta={"progressToken": "1"}), call(meta={"progressToken": 1})
    tasks = [await pipe.start(each) for each in (one, two)]
    for id in (1, 2):
        pipe.say(method="notifications/progress", params={"progressToken": id, "progress": 5, "x": None})
    assert news(one) == [("notifications/progress", {"progressToken": "1", "progress": 5, "x": None})]
    assert news(two) == [("notifications/progress", {"progressToken": 1, "progress": 5, "x": None})]
    for task in tasks:
        task.cancel()


@pytest.mark.parametrize("token", ["1", 2, 1.5, None, [1], "secret"])
async def test_progress_under_a_token_that_we_did_not_give_is_dropped(token: Any) -> None:
    pipe = Pipe()
    asked = call(meta={"progressToken": "secret"})
    task = await pipe.start(asked)
    pipe.say(method="notifications/progress", params={"progressToken": token})
    assert news(asked) == []
    assert pipe.many.dropped == {"unmatched_progress": 1}
    task.cancel()


async def test_a_caller_that_did_not_ask_for_progress_gets_none() -> None:
    pipe = Pipe()
    asked = call(meta={"traceparent": "00"})
    task = await pipe.start(asked)
    pipe.say(method="notifications/progress", params={"progressToken": 1})
    pipe.say(id=1, result={})
    await outcome(task)
    assert news(asked) == []


async def test_progress_after_the_answer_is_dropped() -> None:
    pipe = Pipe()
    asked = call(meta={"progressToken": 1})
    task = await pipe.start(asked)
    pipe.say(id=1, result={})
    pipe.say(method="notifications/progress", params={"progressToken": 1})
    await outcome(task)
    assert news(asked) == []


# ---- cancellation


async def test_cancelling_a_call_cancels_it_at_the_server_under_our_own_id() -> None:
    pipe = Pipe()
    await pipe.start(call())
    task = await pipe.start(call())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pipe.lines[-1]["method"] == "notifications/cancelled"
    assert pipe.lines[-1]["params"]["requestId"] == 2
    assert "id" not in pipe.lines[-1]


async def test_a_late_answer_is_dropped_and_reaches_no_later_call() -> None:  # N11
    pipe = Pipe()
    gone = await pipe.start(call())
    gone.cancel()
    await asyncio.wait([gone])
    later = await pipe.start(call())
    pipe.say(id=1, result={"late": True})
    await still_waits(later)
    assert pipe.many.dropped == {"unmatched_answer": 1}
    pipe.say(id=2, result={"late": False})
    assert (await outcome(later)).value == Raw(b'{"late": false}')


@pytest.mark.parametrize("method", ["initialize", "server/discover"])
async def test_a_handshake_is_never_cancelled_at_the_server(method: str) -> None:
    pipe = Pipe()
    task = await pipe.start(call(method))
    task.cancel()
    await asyncio.wait([task])
    assert len(pipe.lines) == 1


async def test_cancelling_a_call_of_a_server_that_is_gone_is_quiet() -> None:
    pipe = Pipe()
    task = await pipe.start(call())
    pipe.closed = True
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_and_a_cancellation_in_one_moment_do_no_harm() -> None:
    pipe = Pipe()
    task = await pipe.start(call())
    task.cancel()
    pipe.say(id=1, result={})
    await asyncio.wait([task])
    assert pipe.many.in_flight == 0


# ---- the end


async def test_the_end_of_the_server_fails_every_call_and_withdraws_every_question() -> None:
    pipe = Pipe()
    tasks = [await pipe.start(call()) for _ in range(3)]
    pipe.say(id="q", method="roots/list")
    await asyncio.sleep(0)
    pipe.many.fail(Unavailable("exited with code 3"))
    for task in tasks:
        with pytest.raises(Unavailable, match="exited with code 3"):
            await outcome(task)
    await asyncio.sleep(0)
    assert pipe.host.withdrawn == 1
    assert (pipe.many.in_flight, pipe.many.busy) == (0, False)


# ---- lines that are too long


async def fails(task: "asyncio.Task[Result]") -> None:
    with pytest.raises(UpstreamBrokeProtocol, match="larger than max_message_bytes"):
        await outcome(task)


@pytest.mark.parametrize(
    "head",
    [
        b'{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"aaa',
        b'{"jsonrpc": "2.0", "id": 2, "result": {"id": 1, "method": "x"',
        b'{"id":2,"jsonrpc":"2.0","result":{',
        b'{"id":2,"error":{"code":1,"message":"aaa',
    ],
)
async def test_an_overlong_answer_fails_only_the_call_that_it_names(head: bytes) -> None:
    pipe = Pipe()
    one, two = await pipe.start(call()), await pipe.start(call())
    pipe.many.overlong(head)
    await fails(two)
    await still_waits(one)
    pipe.say(id=1, result={})
    await outcome(one)
    assert pipe.many.dropped == {"too_long": 1}


@pytest.mark.parametrize(
    "head",
    [
        b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":{"id":1,"result":',
        b'{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{',
        b'{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{',
        b'{"method":"notifications/message","params":{"id":1',
        b'{"params":{"id":1,"result":',
        b'{"jsonrpc":"2.0","id":7,"result":{',
    ],
)
async def test_an_overlong_line_that_answers_no_call_in_flight_fails_nobody(head: bytes) -> None:
    pipe = Pipe()
    task = await pipe.start(call())
    pipe.many.overlong(head)
    pipe.say(id=1, result={})
    await outcome(task)


@pytest.mark.parametrize(
    "head",
    [
        b'{"result":{"id":2,"content":"aaa',
        b'{"jsonrpc":"2.0","result":{"content":"aaa',
        b'{"id":"1","result":{',
        b"aaa",
    ],
)
async def test_an_overlong_answer_without_a_legible_id_leaves_nobody_waiting(head: bytes) -> None:
    pipe = Pipe()
    tasks = [await pipe.start(call()) for _ in range(2)]
    pipe.many.overlong(head)
    for task in tasks:
        await fails(task)


# ---- what the server says and asks


async def test_what_is_said_outside_of_calls_belongs_to_the_only_call_in_flight_or_to_none() -> None:
    pipe = Pipe()
    pipe.say(method="notifications/message", params={"level": "info"})
    asked = call()
    one = await pipe.start(asked)
    own = await pipe.start(call("tools/list", caller=BASCULE))
    pipe.say(method="notifications/message")
    two = await pipe.start(call())
    pipe.say(method="notifications/message")
    assert pipe.host.said == [
        (method, sole) for method, sole in zip(["notifications/message"] * 3, [None, asked, None], strict=True)
    ]
    assert pipe.many.in_flight == 2
    for task in (one, two, own):
        task.cancel()


async def test_the_gateways_own_calls_do_not_make_it_busy() -> None:
    pipe = Pipe()
    task = await pipe.start(call("tools/list", caller=BASCULE))
    assert (pipe.many.in_flight, pipe.many.busy) == (0, False)
    task.cancel()


async def test_a_ping_is_answered_here() -> None:
    pipe = Pipe()
    pipe.say(id="p", method="ping")
    await asyncio.sleep(0)
    assert pipe.lines == [{"jsonrpc": "2.0", "id": "p", "result": {}}]
    assert pipe.host.asks == []


async def test_a_question_is_answered_under_the_servers_own_id() -> None:
    pipe = Pipe()
    pipe.host.ready.set()
    for id, method in ((1, "roots/list"), ("1", "unknown")):
        pipe.say(id=id, method=method)
    await settled(pipe)
    assert pipe.lines == [
        {"jsonrpc": "2.0", "id": 1, "result": {"fine": 1.0}},
        {"jsonrpc": "2.0", "id": "1", "error": {"code": -32601, "message": "no such question"}},
    ]


async def settled(pipe: Pipe) -> None:
    """Every question that can be answered is."""
    async with asyncio.timeout(5):
        while pipe.many._asks:  # noqa: ASYNC110 - the loop only yields to tasks that are ready
            await asyncio.sleep(0)


async def test_a_question_that_the_server_withdraws_is_not_answered() -> None:
    pipe = Pipe()
    pipe.say(id=9, method="roots/list")
    await asyncio.sleep(0)
    pipe.say(method="notifications/cancelled", params={"requestId": 9})
    await settled(pipe)
    assert pipe.host.withdrawn == 1
    assert pipe.lines == []


async def test_a_server_cannot_cancel_a_call_of_a_client() -> None:
    pipe = Pipe()
    task = await pipe.start(call())
    pipe.say(method="notifications/cancelled", params={"requestId": 1})
    await still_waits(task)
    task.cancel()


@pytest.mark.parametrize("ids", [list(range(MAX_ASKS + 5)), ["same"] * 5])
async def test_questions_that_wait_are_bounded_and_one_id_waits_only_once(ids: list[Any]) -> None:
    pipe = Pipe()
    for id in ids:
        pipe.say(id=id, method="roots/list")
    await asyncio.sleep(0)
    waiting = min(len(set(ids)), MAX_ASKS)
    assert len(pipe.host.asks) == waiting
    assert [line["error"]["code"] for line in pipe.lines] == [-32603] * (len(ids) - waiting)
    pipe.many.fail(Unavailable("over"))
    await settled(pipe)
    assert pipe.host.withdrawn == waiting


async def test_a_question_too_many_is_dropped_when_the_server_does_not_read() -> None:
    pipe = Pipe()
    for id in ("q", "q"):
        pipe.closed = bool(pipe.many._asks)
        pipe.say(id=id, method="roots/list")
    assert len(pipe.many._asks) == 1
    pipe.many.fail(Unavailable("over"))
    await settled(pipe)


# ---- subscriptions


def listening(id: bytes) -> Call:
    return Call(caller=ANONYMOUS, client=Inbox(), revision=LATEST_MODERN, method=modern.LISTEN, id=Raw(id))


async def test_two_subscriptions_get_their_own_news_under_their_own_ids() -> None:
    pipe = Pipe()
    one, two = listening(b'"a"'), listening(b"7")
    tasks = [await pipe.start(each) for each in (one, two)]
    for id in (2, 1, 3, "1"):
        pipe.say(method="notifications/x", params={"n": id, "_meta": {modern.SUBSCRIPTION_ID: id, "k": 1}})
    assert news(one) == [("notifications/x", {"n": 1, "_meta": {modern.SUBSCRIPTION_ID: "a", "k": 1}})]
    assert news(two) == [("notifications/x", {"n": 2, "_meta": {modern.SUBSCRIPTION_ID: 7, "k": 1}})]
    assert len(pipe.host.said) == 2
    assert pipe.many.busy
    assert pipe.many.in_flight == 0
    pipe.say(id=1, result={})
    assert jsonrpc.decode((await outcome(tasks[0])).value) == {"_meta": {modern.SUBSCRIPTION_ID: "a"}}
    pipe.say(method="notifications/cancelled", params={"requestId": 2})
    with pytest.raises(Unavailable, match="ended the subscription"):
        await outcome(tasks[1])


@pytest.mark.parametrize("result", [5, [], None, {"_meta": 3}])
async def test_a_subscription_that_ends_with_nonsense_fails(result: Any) -> None:
    pipe = Pipe()
    task = await pipe.start(listening(b"1"))
    pipe.say(id=1, result=result)
    with pytest.raises(BasculeError) as caught:
        await outcome(task)
    assert type(caught.value) is UpstreamBrokeProtocol
