"""A call with an idempotency key is made at most once, whatever its client does (docs/reliability.md)."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import pytest
from foreign import Asked
from gateway import Bascule, Json, gateway, remote, running, text_of, until
from governed import Known, Wide, configured, credentials, session, tool, wide

from bascule.app import Gateway

KEY: Final = "order-4711-attempt"
META: Final = "dev.bascule/idempotencyKey"
PAY: Final[Json] = {"name": "bank__pay", "arguments": {"text": "ten", "amount": 10}}


@asynccontextmanager
async def bank(*, modern: bool = True, **more: Any) -> AsyncIterator[tuple[Wide, Bascule]]:
    """A server with a tool that must not run twice, and a gateway in front of it."""
    async with (
        wide(modern=modern, tools=[tool("pay"), tool("refund")]) as server,
        gateway({"bank": remote(server.url)}, **more) as bascule,
    ):
        yield server, bascule


async def said(
    client: Known, params: Json = PAY, *, key: str = "", header: str = "", wait: str = "", method: str = "tools/call"
) -> tuple[int, Json, Mapping[str, str]]:
    """(status, message, headers) of a call with a key in its body, or in its header."""
    headers = {name: value for name, value in (("idempotency-key", header), ("prefer", wait)) if value}
    async with client.open(method, params, id=7, meta={META: key} if key else None, headers=headers) as exchange:
        return exchange.status, await exchange.last(), {name.lower(): value for name, value in exchange.headers.items()}


def label(message: Json) -> Json:
    found: Json = message["result"]["_meta"]["dev.bascule/call"]
    return found


@asynccontextmanager
async def held_up(server: Wide) -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
    """(called, go on): the server waits with its answers until it may go on."""
    called, go_on = asyncio.Event(), asyncio.Event()

    async def wait(asked: Asked) -> None:
        called.set()
        await go_on.wait()
        await server.answer(asked)

    server.on["tools/call"] = wait
    yield called, go_on
    go_on.set()


# ---- replay


@pytest.mark.parametrize("modern", [True, False], ids=["modern server", "legacy server"])
@pytest.mark.parametrize("carried", ["key", "header"])
async def test_the_same_key_gives_the_stored_result_and_nothing_runs_again(modern: bool, carried: str) -> None:
    async with bank(modern=modern) as (server, bascule):
        client = Known(bascule)
        carrying: Json = {carried: KEY}
        _, first, _ = await said(client, **carrying)
        status, second, headers = await said(client, **carrying)
        assert len(server.calls("pay")) == 1
        assert (status, second["id"]) == (200, 7)
        assert headers["idempotent-replayed"] == "true"
        assert (label(first)["replayed"], label(second)["replayed"]) == (False, True)
        assert first["result"]["content"] == second["result"]["content"]


async def test_a_failure_of_the_tool_is_its_answer_and_is_replayed() -> None:
    async with bank() as (server, bascule):
        server.answers["pay"] = {"content": [{"type": "text", "text": "no money"}], "isError": True}
        client = Known(bascule)
        await said(client, key=KEY)
        server.answers.clear()
        _, second, _ = await said(client, key=KEY)
        assert second["result"]["isError"] is True
        assert len(server.calls("pay")) == 1


async def test_a_json_rpc_error_of_the_server_is_replayed_too() -> None:
    async with bank() as (server, bascule):

        async def refuse(asked: Asked) -> None:
            await asked.refuse(-32000, "not on Sundays")

        server.on["tools/call"] = refuse
        client = Known(bascule)
        _, first, _ = await said(client, key=KEY)
        _, second, headers = await said(client, key=KEY)
        assert first["error"] == second["error"]
        assert headers["idempotent-replayed"] == "true"
        assert len(server.asked("tools/call")) == 1


async def test_a_client_of_the_other_era_gets_the_same_result_in_its_own_shape() -> None:
    async with bank() as (server, bascule):
        await said(Known(bascule), key=KEY)
        old = await session(bascule)
        result = await old.result("tools/call", {**PAY, "_meta": {META: KEY}})
        assert text_of(result) == "ten"
        assert "resultType" not in result
        assert result["_meta"]["dev.bascule/call"]["replayed"] is True
        assert len(server.calls("pay")) == 1


async def test_members_in_another_order_are_the_same_arguments() -> None:
    async with bank() as (server, bascule):
        await said(Known(bascule), key=KEY)
        turned = {"name": "bank__pay", "arguments": {"amount": 10, "text": "ten"}}
        _, second, _ = await said(Known(bascule), turned, key=KEY)
        assert label(second)["replayed"] is True
        assert len(server.calls("pay")) == 1


# ---- the key of another call


OTHERS: Final[dict[str, Json]] = {
    "other arguments": {**PAY, "arguments": {"text": "ten", "amount": 11}},
    "another type": {**PAY, "arguments": {"text": "ten", "amount": "10"}},
    "a number beyond doubles": {**PAY, "arguments": {"text": "ten", "amount": 10, "n": 2**53 + 1}},
    "another tool": {**PAY, "name": "bank__refund"},
    "no arguments": {"name": "bank__pay"},
}


@pytest.mark.parametrize("other", OTHERS)
async def test_a_key_of_another_call_is_refused_and_nothing_runs(other: str) -> None:
    async with bank() as (server, bascule):
        client = Known(bascule)
        await said(client, key=KEY)
        status, message, _ = await said(client, OTHERS[other], header=KEY)
        assert (status, message["error"]["data"]["code"]) == (422, 42201)
        status, message, _ = await said(client, OTHERS[other], key=KEY)
        assert (status, message["error"]["data"]["code"]) == (200, 42201)
        assert len(server.asked("tools/call")) == 1


@pytest.mark.parametrize(
    "amounts", [(2**53, 2**53 + 1), (1152921504606846976.0, 1152921504606847000), (1e17, 10**17), (1e300, 10**300)]
)
async def test_two_big_numbers_that_look_like_one_are_two_calls(amounts: tuple[float, float]) -> None:
    async with bank() as (_server, bascule):
        client = Known(bascule)
        one, other = ({**PAY, "arguments": {"amount": amount}} for amount in amounts)
        await said(client, one, key=KEY)
        _, message, _ = await said(client, other, key=KEY)
        assert message["error"]["data"]["code"] == 42201


# ---- while it runs


async def test_a_call_that_still_runs_is_not_made_again() -> None:
    async with bank() as (server, bascule), held_up(server) as (called, go_on):
        client = Known(bascule)
        first = asyncio.ensure_future(said(client, key=KEY))
        await called.wait()
        status, message, headers = await said(client, header=KEY)
        assert (status, message["error"]["data"]["code"], message["error"]["code"]) == (409, 40901, -20008)
        assert int(headers["retry-after"]) >= 1
        assert (await said(client, key=KEY))[0] == 200
        go_on.set()
        assert "result" in (await first)[1]
        assert len(server.asked("tools/call")) == 1


async def test_who_prefers_to_wait_joins_the_call_that_runs() -> None:
    async with bank() as (server, bascule), held_up(server) as (called, go_on):
        client = Known(bascule)
        first = asyncio.ensure_future(said(client, key=KEY))
        await called.wait()
        second = asyncio.ensure_future(said(client, header=KEY, wait="wait=10"))
        await until(lambda: _in_flight(bascule), lambda number: number == 2)
        go_on.set()
        assert (await second)[1]["result"]["content"] == (await first)[1]["result"]["content"]
        assert label((await second)[1])["replayed"] is True
        assert len(server.asked("tools/call")) == 1


async def _in_flight(bascule: Bascule) -> int:
    assert bascule.gateway is not None
    return bascule.gateway.observe.in_flight


async def test_who_waits_does_so_no_longer_than_it_said() -> None:
    async with bank() as (server, bascule), held_up(server) as (called, _):
        client = Known(bascule)
        first = asyncio.ensure_future(said(client, key=KEY))
        await called.wait()
        status, message, _ = await said(client, header=KEY, wait="wait=1")
        assert (status, message["error"]["data"]["code"]) == (409, 40901)
        assert not first.done()
        first.cancel()


async def test_of_a_hundred_first_sends_one_runs() -> None:
    async with bank() as (server, bascule), held_up(server) as (called, go_on):
        client = Known(bascule)
        sent = [asyncio.ensure_future(said(client, header=KEY)) for _ in range(100)]
        await called.wait()
        await until(lambda: _done(sent), lambda number: number == 99)
        go_on.set()
        answers = await asyncio.gather(*sent)
        assert sorted(status for status, _, _ in answers) == [200, *[409] * 99]
        assert len(server.asked("tools/call")) == 1


async def _done(sent: Sequence["asyncio.Future[Any]"]) -> int:
    return sum(each.done() for each in sent)


# ---- outcomes that nobody knows


async def test_a_connection_that_broke_leaves_an_unknown_outcome_and_no_second_call() -> None:
    async with bank() as (server, bascule):

        async def die(asked: Asked) -> None:
            asked.reset()

        server.on["tools/call"] = die
        client = Known(bascule)
        _, first, _ = await said(client, key=KEY)
        assert first["result"]["_meta"]["dev.bascule/error"]["kind"] == "upstream_protocol"
        record = first["result"]["_meta"]["dev.bascule/error"]["details"]["journal"]
        del server.on["tools/call"]
        for _ in range(3):
            status, message, _ = await said(client, header=KEY)
            assert (status, message["error"]["data"]["code"]) == (409, 40902)
            assert message["error"]["data"]["details"]["journal"] == record
        assert len(server.asked("tools/call")) == 1


async def test_a_tool_that_may_be_repeated_is_called_again_after_an_unknown_outcome() -> None:
    rules = [{"match": "bank/pay", "idempotent": True}]
    async with bank(policy={"default": "allow", "rules": rules}) as (server, bascule):
        fail = True

        async def die(asked: Asked) -> None:
            if fail:
                asked.reset()
            else:
                await server.answer(asked)

        server.on["tools/call"] = die
        client = Known(bascule)
        _, first, _ = await said(client, key=KEY)
        assert first["result"]["isError"] is True
        fail = False
        _, second, _ = await said(client, key=KEY)
        assert text_of(second["result"]) == "ten"
        assert label(second)["replayed"] is False


async def test_a_server_that_was_never_reached_leaves_the_key_as_good_as_new() -> None:
    async with wide(modern=True, tools=[tool("pay")]) as server:
        async with gateway({"bank": remote(server.url)}) as bascule:
            client = Known(bascule)
            await client.result("tools/list")
            assert bascule.gateway is not None
            await bascule.gateway.upstreams["bank"].stop()
            _, first, _ = await said(client, key=KEY)
            assert first["result"]["_meta"]["dev.bascule/error"]["kind"] == "unavailable"
            assert bascule.gateway.records is not None
            assert await bascule.gateway.records.journal.list_() == []
        assert server.asked("tools/call") == []


async def test_a_client_that_leaves_does_not_take_the_outcome_with_it() -> None:
    async with bank() as (server, bascule), held_up(server) as (called, go_on):
        client = Known(bascule)
        gone = asyncio.ensure_future(said(client, key=KEY))
        await called.wait()
        gone.cancel()
        await asyncio.wait({gone})
        await until(lambda: _in_flight(bascule), lambda number: number == 0)  # the gateway has noticed
        go_on.set()
        _, message, _ = await said(client, key=KEY, wait="wait=10")
        assert text_of(message["result"]) == "ten"
        assert label(message)["replayed"] is True
        assert len(server.asked("tools/call")) == 1


# ---- questions


async def test_a_call_that_asks_something_goes_on_under_its_key() -> None:
    async with bank() as (server, bascule):

        async def ask_once(asked: Asked) -> None:
            if "inputResponses" in asked.message["params"]:
                await server.answer(asked)
            else:
                wanted = {"mode": "form", "message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}}
                question = {"q": {"method": "elicitation/create", "params": wanted}}
                await asked.answer({"resultType": "input_required", "inputRequests": question, "requestState": "s1"})

        server.on["tools/call"] = ask_once
        client = Known(bascule)
        client.capabilities = {"elicitation": {"form": {}}}
        _, asked, _ = await said(client, key=KEY)
        assert asked["result"]["resultType"] == "input_required"
        # A client that has lost the question gets it once more: the server is not asked again.
        _, again, headers = await said(client, key=KEY)
        assert again["result"]["inputRequests"] == asked["result"]["inputRequests"]
        assert headers["idempotent-replayed"] == "true"
        answers = {"inputResponses": {"q": {"action": "accept", "content": {}}}}
        going_on = {**PAY, **answers, "requestState": again["result"]["requestState"]}
        _, done, _ = await said(client, going_on, key=KEY)
        assert text_of(done["result"]) == "ten"
        _, replayed, _ = await said(client, key=KEY)
        assert label(replayed)["replayed"] is True
        assert len(server.asked("tools/call")) == 2


# ---- who may


async def test_a_key_is_its_callers_own() -> None:
    known = credentials("ann", "bob")
    people = known.configured(ann={"scopes": ["bank"]}, bob={"scopes": ["bank"]})
    async with (
        wide(modern=True, tools=[tool("pay")]) as server,
        gateway({"bank": remote(server.url)}, environ=known.environ, callers=people) as bascule,
    ):
        for name in ("ann", "bob"):
            _, message, _ = await said(Known(bascule, shown=known.of(name)), key=KEY)
            assert label(message)["replayed"] is False
        assert len(server.calls("pay")) == 2


@pytest.mark.parametrize(
    "key",
    ["a" * 15, "a" * 256, "sixteen chars ok?", "sixteen-chars-\u00e9\u00e9", "a" * 16 + "\n", "", 7, None, ["a" * 16]],
)
async def test_what_is_no_key_is_refused_before_anything_happens(key: Any) -> None:
    async with bank() as (server, bascule):
        async with Known(bascule).open("tools/call", PAY, meta={META: key}) as exchange:
            assert (exchange.status, (await exchange.last())["error"]["code"]) == (400, -32600)
        assert server.asked("tools/call") == []


async def test_two_keys_that_disagree_are_refused() -> None:
    async with bank() as (server, bascule):
        status, message, _ = await said(Known(bascule), key=KEY, header=KEY + "-other")
        assert (status, message["error"]["code"]) == (400, -32600)
        assert (await said(Known(bascule), key=KEY, header=f'"{KEY}"'))[0] == 200
        assert len(server.asked("tools/call")) == 1


async def test_a_tool_that_requires_a_key_is_not_called_without() -> None:
    rules = [{"match": "bank/pay", "require_key": True}]
    async with bank(policy={"default": "allow", "rules": rules}) as (server, bascule):
        status, message, _ = await said(Known(bascule))
        assert (status, message["error"]["code"]) == (400, -32602)
        assert "Idempotency-Key" in message["error"]["message"]
        assert server.asked("tools/call") == []
        assert "result" in (await said(Known(bascule), key=KEY))[1]


async def test_a_result_is_checked_again_when_it_is_replayed() -> None:
    promised = {"type": "object", "properties": {"paid": {"type": "boolean"}}, "required": ["paid"]}
    async with (
        wide(modern=True, tools=[tool("pay", result=promised)]) as server,
        gateway({"bank": remote(server.url)}, policy={"default": "allow", "validate_results": "block"}) as bascule,
    ):
        client = Known(bascule)
        for _ in range(2):
            _, message, _ = await said(client, key=KEY)
            assert message["result"]["_meta"]["dev.bascule/error"]["code"] == 50006
        assert len(server.calls("pay")) == 1


async def test_without_a_state_folder_a_keyed_call_is_refused_and_others_are_not() -> None:
    async with wide(modern=True, tools=[tool("pay")]) as server:
        config = msgspec.structs.replace(configured({"bank": remote(server.url)}), state_dir="")
        async with running(Gateway(config)) as bascule:
            _, message, _ = await said(Known(bascule), key=KEY)
            assert message["result"]["_meta"]["dev.bascule/error"]["kind"] == "unavailable"
            assert "state_dir" in message["result"]["content"][0]["text"]
            assert "isError" not in (await said(Known(bascule)))[1]["result"]
        assert len(server.asked("tools/call")) == 1


async def test_a_replay_survives_a_restart_of_the_gateway(tmp_path: Any) -> None:
    async with wide(modern=True, tools=[tool("pay")]) as server:
        kept: Json = {"state_dir": str(tmp_path / "kept")}
        async with gateway({"bank": remote(server.url)}, **kept) as bascule:
            _, first, _ = await said(Known(bascule), key=KEY)
        async with gateway({"bank": remote(server.url)}, **kept) as bascule:
            _, second, _ = await said(Known(bascule), key=KEY)
        assert json.dumps(first["result"]["content"]) == json.dumps(second["result"]["content"])
        assert label(second)["replayed"] is True
        assert len(server.calls("pay")) == 1


@pytest.mark.parametrize("modern", [True, False], ids=["modern server", "legacy server"])
async def test_a_server_that_deduplicates_gets_a_key_that_is_not_its_callers_and_others_get_none(modern: bool) -> None:
    async with wide(modern=modern, tools=[tool("pay")]) as server:
        servers = {"bank": remote(server.url, deduplicates=True), "other": remote(server.url)}
        async with gateway(servers) as bascule:
            for name in ("bank__pay", "other__pay"):
                await said(Known(bascule), {**PAY, "name": name}, key=KEY if name == "bank__pay" else f"{KEY}-2")
        keys = [each.message["params"].get("_meta", {}).get(META) for each in server.calls("pay")]
        heads = [each.headers.get("idempotency-key") for each in server.calls("pay")]
        assert keys[0] == heads[0] not in (None, KEY)
        assert keys[1] is heads[1] is None


async def test_a_failure_of_a_server_that_deduplicates_is_not_kept_and_its_answer_is() -> None:
    async with wide(modern=True, tools=[tool("pay")]) as server:
        async with gateway({"bank": remote(server.url, deduplicates=True)}) as bascule:
            server.answers["pay"] = {"content": [{"type": "text", "text": "no line"}], "isError": True}
            _, failed, _ = await said(Known(bascule), key=KEY)
            server.answers.clear()
            _, done, _ = await said(Known(bascule), key=KEY)
            _, again, _ = await said(Known(bascule), key=KEY)
        assert failed["result"]["isError"] is True
        assert not done["result"].get("isError")
        assert label(done)["replayed"] is False
        assert label(again)["replayed"] is True
        keys = {each.message["params"]["_meta"][META] for each in server.calls("pay")}
        assert (len(server.calls("pay")), len(keys)) == (2, 1), "to the server it is one call"


async def test_a_question_is_not_given_to_a_session_with_the_state_of_its_server() -> None:
    async with bank() as (server, bascule):
        ask = {"mode": "form", "message": "sure?", "requestedSchema": {"type": "object", "properties": {}}}
        server.answers["pay"] = {
            "resultType": "input_required",
            "inputRequests": {"q": {"method": "elicitation/create", "params": ask}},
            "requestState": "the server's own",
        }
        client = Known(bascule)
        client.capabilities = {"elicitation": {}}
        _, asked, _ = await said(client, key=KEY)
        assert asked["result"]["resultType"] == "input_required"
        answer = await (await session(bascule)).ask("tools/call", {**PAY, "_meta": {META: KEY}})
        assert answer["error"]["data"]["code"] == 40901
        assert "the server's own" not in json.dumps(answer)
        assert len(server.calls("pay")) == 1
