"""A call that a rule wants a person's yes for goes out once, for just the call that was confirmed, or not at all.

security.md T18, T31, T32, C07, P19, P20; MCP 2025-11-25 and 2026-07-28, "Elicitation", "Multi Round-Trip Requests".
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from command import bascule as command
from foreign import Asked
from gateway import ELICITS, Bascule, Json, failure_of, gateway, local, remote, running, text_of
from governed import Credentials, Known, Wide, configured, credentials, session, tool, wide

from bascule.admin import approvals as admin
from bascule.app import Gateway
from bascule.call import ANONYMOUS, BEARER, Caller
from bascule.errors import ScopeDenied, Unauthenticated
from bascule.policy.approvals import Approval
from bascule.policy.scopes import UNLIMITED, Authority

TOKEN: Final = "dev.bascule/confirmationToken"
CONFIRM: Final = "dev.bascule/confirm"
GATE: Final[Json] = {"message": "Pay {args.amount} to {args.text}?"}
PAY: Final[Json] = {"text": "ann", "amount": 10}


class World:
    """A tool behind a gate, and the callers ann and bob."""

    def __init__(self, bascule: Bascule, server: Wide, known: Credentials) -> None:
        self.bascule = bascule
        self.server = server
        self.known = known

    @property
    def executed(self) -> int:
        return len(self.server.calls("pay"))

    @property
    def records(self) -> Any:
        assert self.bascule.gateway is not None
        assert self.bascule.gateway.records is not None
        return self.bascule.gateway.records.approvals

    def client(self, name: str = "ann", capabilities: Json | None = None) -> Known:
        client = Known(self.bascule, "/mcp", self.known.of(name))
        client.capabilities = capabilities or {}
        return client

    async def decide(self, id: str, *, approve: bool = True, note: str = "") -> None:
        await admin.decide(self.records, None, id, approve=approve, note=note, by="cli:tester")

    def waiting(self) -> list[Approval]:
        return list(self.records.list_("pending"))


@asynccontextmanager
async def gated(
    gate: Any = GATE, *, modern: bool = True, tools: tuple[Json, ...] = (), contract: Json | None = None, **members: Any
) -> AsyncIterator[World]:
    known = credentials("ann", "bob")
    said = {"tool": "bank/pay", "confirm_gate": gate, **(contract or {})}
    people = known.configured(ann={"scopes": ["*"]}, bob={"scopes": ["*"]})
    async with (
        wide(modern=modern, tools=[tool("pay"), *tools]) as server,
        gateway(
            {"bank": remote(server.url, trust="auto")},
            environ=known.environ,
            callers=people,
            contracts=[said],
            **members,
        ) as bascule,
    ):
        await Known(bascule, "/mcp", known.of("ann")).result("tools/list")
        yield World(bascule, server, known)


async def said(client: Known, arguments: Json = PAY, token: str = "", name: str = "bank__pay", **params: Any) -> Json:
    """The result of a call, or its JSON-RPC error as `{"error": …, "status": …}`."""
    wanted = {"name": name, "arguments": arguments, **params}
    async with client.open("tools/call", wanted, meta={TOKEN: token} if token else None) as exchange:
        message = await exchange.last()
        found: Json = message.get("result") or {"error": message["error"], "status": exchange.status}
        return found


async def asked_by_inbox(client: Known, arguments: Json = PAY, token: str = "", name: str = "bank__pay") -> Json:
    """The details of the refusal that says how to have a call confirmed."""
    error = failure_of(await said(client, arguments, token, name))
    assert (error["code"], error["kind"], error["retryable"]) == (40302, "confirmation_required", False), error
    details: Json = {**error["details"], "message": error["message"]}
    return details


def ticked(yes: Any = True, action: str = "accept") -> Json:
    return {"action": action, "content": {"confirm": yes}}


# ---- the inbox


@pytest.mark.parametrize("modern", [True, False], ids=["modern server", "legacy server"])
async def test_a_call_waits_for_a_yes_comes_back_with_its_token_and_goes_out_once(modern: bool) -> None:
    async with gated(modern=modern, http={"public_url": "https://mcp.example.com/"}) as world:
        ann = world.client()
        asked = await asked_by_inbox(ann)
        id = asked["confirmation_token"]
        assert asked["link"] == f"https://mcp.example.com/console/approvals/{id}"
        assert asked["how"] == f"bascule approvals approve {id}"
        assert asked["rule"] == "confirm_gate"
        assert 'Pay 10 to "ann"?' in asked["message"]
        again = failure_of(await said(ann, token=id))
        assert again["details"]["confirmation_token"] == id
        assert again["retry_after_ms"] > 0
        await world.decide(id)
        assert world.executed == 0
        assert text_of(await said(ann, token=id)) == "ann"
        assert world.executed == 1
        used = await asked_by_inbox(ann, token=id)
        assert "used already" in used["message"]
        assert used["confirmation_token"] != id
        assert world.executed == 1


async def test_in_a_session_the_token_works_too() -> None:
    async with gated() as world:
        client = await session(world.bascule, shown=world.known.of("ann"))
        wanted: Json = {"name": "bank__pay", "arguments": PAY}
        id = failure_of(await client.result("tools/call", wanted))["details"]["confirmation_token"]
        await world.decide(id)
        assert text_of(await client.result("tools/call", {**wanted, "_meta": {TOKEN: id}})) == "ann"
        assert world.executed == 1


async def test_a_no_is_final_and_says_why() -> None:
    async with gated() as world:
        id = (await asked_by_inbox(world.client()))["confirmation_token"]
        await world.decide(id, approve=False, note="not on Fridays")
        error = failure_of(await said(world.client(), token=id))
        assert (error["code"], error["kind"]) == (40305, "confirmation_denied")
        assert "not on Fridays" in error["message"]
        assert world.executed == 0


async def test_a_yes_is_for_the_caller_the_tool_and_the_very_arguments_it_was_given_for() -> None:
    async with gated(contract={"tool": "bank/pay"}, tools=(tool("refund"),), policy={
        "default": "allow", "rules": [{"match": "bank/refund", "confirm_gate": True}]
    }) as world:  # fmt: skip
        ann = world.client()
        id = (await asked_by_inbox(ann))["confirmation_token"]
        await world.decide(id)
        for arguments in ({**PAY, "amount": 11}, {**PAY, "text": "anm"}, {"amount": 10}, {**PAY, "more": None}):
            assert (await asked_by_inbox(ann, arguments, id))["confirmation_token"] != id
        assert "none of this caller's" in (await asked_by_inbox(world.client("bob"), token=id))["message"]
        assert "another call" in (await asked_by_inbox(ann, token=id, name="bank__refund"))["message"]
        assert "none of this caller's" in (await asked_by_inbox(ann, token="f" * 32))["message"]
        assert world.executed == 0
        reordered = {"amount": 10, "text": "ann"}  # the same call, however it is spelt
        assert text_of(await said(ann, reordered, id)) == "ann"
        assert world.executed == 1


async def test_a_yes_is_worth_nothing_once_the_tools_definition_has_changed() -> None:
    async with gated() as world:
        ann = world.client()
        id = (await asked_by_inbox(ann))["confirmation_token"]
        await world.decide(id)
        world.server.tools = [tool("pay", description="Pays, and tells everybody.")]
        await _relearnt(world)
        assert "definition has changed" in (await asked_by_inbox(ann, token=id))["message"]
        assert world.executed == 0


async def _relearnt(world: World) -> None:
    """The gateway has fetched the server's lists again."""
    gateway = world.bascule.gateway
    assert gateway is not None
    for follower in gateway.registry.followers("bank"):
        await follower.refresh()
    assert "everybody" in gateway.govern.ways.way("tool", "bank", "pay").contract.description


async def test_a_yes_that_came_too_late_or_was_not_used_in_time_is_none() -> None:
    async with gated() as world:
        ann = world.client()
        clock = _Clock()
        world.records._clock = clock
        late = (await asked_by_inbox(ann))["confirmation_token"]
        clock.now_s += 301
        with pytest.raises(admin.NotPending, match="expired"):
            await world.decide(late)
        assert "expired" in (await asked_by_inbox(ann, token=late))["message"]
        (fresh,) = world.waiting()
        await world.decide(fresh.id)
        clock.now_s += 301
        assert "expired" in (await asked_by_inbox(ann, token=fresh.id))["message"]
        assert world.executed == 0


class _Clock:
    def __init__(self) -> None:
        self.now_s = time.time() - 1000

    def __call__(self) -> float:
        return self.now_s


async def test_of_fifty_calls_with_one_yes_one_goes_out() -> None:
    async with gated() as world:
        ann = world.client()
        id = (await asked_by_inbox(ann))["confirmation_token"]
        await world.decide(id)
        found = await asyncio.gather(*(said(ann, token=id) for _ in range(50)))
        assert sorted("isError" in each for each in found) == [False] + [True] * 49
        assert {failure_of(each)["code"] for each in found if "isError" in each} == {40302}
        assert world.executed == 1
        await asyncio.gather(*(said(ann, token=id) for _ in range(50)))
        assert world.executed == 1


async def test_a_yes_whose_call_never_left_is_still_good() -> None:
    async with gated() as world:
        ann = world.client()
        id = (await asked_by_inbox(ann))["confirmation_token"]
        await world.decide(id)
        world.server.listener.close()
        for each in world.server.seen:
            each.reset()
        refused = failure_of(await said(ann, token=id))
        assert refused["kind"] == "unavailable"
        assert world.records.find(id).state == "approved"


async def test_questions_are_asked_once_and_not_without_end() -> None:
    async with gated(approvals={"max_pending": 3}) as world:
        ann = world.client()
        first = await asked_by_inbox(ann)
        assert (await asked_by_inbox(ann))["confirmation_token"] == first["confirmation_token"]
        for amount in (1, 2):
            await asked_by_inbox(ann, {**PAY, "amount": amount})
        error = failure_of(await said(ann, {**PAY, "amount": 3}))
        assert (error["code"], error["details"]["limit"]) == (42901, "approvals")
        await asked_by_inbox(world.client("bob"), {**PAY, "amount": 3})
        assert len(world.waiting()) == 4


async def test_nobody_to_ask_is_a_refusal_that_says_what_to_do() -> None:
    async with gated(approvals={"channels": ["client"]}) as world:
        asked = await asked_by_inbox(world.client())
        assert "confirmation_token" not in asked
        assert "approvals.channels" in asked["message"]
    async with gated({"four_eyes": True}, approvals={"channels": ["client"]}) as world:
        asked = await asked_by_inbox(world.client(capabilities=ELICITS))
        assert "somebody else" in asked["message"]
        assert world.executed == 0


async def test_without_a_state_folder_what_needs_a_yes_is_refused() -> None:
    async with wide(modern=True, tools=[tool("pay")]) as server:
        contracts = [{"tool": "bank/pay", "confirm_gate": True}]
        config = configured({"bank": remote(server.url)}, contracts=contracts)
        async with running(Gateway(msgspec.structs.replace(config, state_dir=""))) as bascule:
            client = Known(bascule)
            client.capabilities = ELICITS
            assert "state_dir" in (await asked_by_inbox(client))["message"]
        assert server.calls("pay") == []


async def test_a_guardrail_that_asks_asks_a_person_and_a_keyed_replay_asks_nobody() -> None:
    rails = [{"ask": "args.amount > 5", "message": "Really {args.amount}?"}]
    async with gated(False, contract={"guardrails": rails}) as world:
        ann = world.client()
        assert text_of(await said(ann, {**PAY, "amount": 5})) == "ann"
        asked = await asked_by_inbox(ann)
        assert "Really 10?" in asked["message"]
        assert asked["rule"] == "guardrails.0"
        await world.decide(asked["confirmation_token"])
        key = {"dev.bascule/idempotencyKey": "order-4711-attempt", TOKEN: asked["confirmation_token"]}
        for _ in range(3):
            async with ann.open("tools/call", {"name": "bank__pay", "arguments": PAY}, meta=key) as exchange:
                assert text_of((await exchange.last())["result"]) == "ann"
        assert world.executed == 2


# ---- who decides


async def test_the_requester_answers_nobodys_question_and_others_need_the_scope_by_name() -> None:
    named = Authority(frozenset({"bascule.approvals:write"}))
    async with gated() as world:
        id = (await asked_by_inbox(world.client()))["confirmation_token"]
        for nobody in (ANONYMOUS, BEARER):
            with pytest.raises(Unauthenticated):
                await admin.decide(world.records, nobody, id, approve=True)
        for caller in (
            Caller("bob", UNLIMITED, proof="key"),
            Caller("ann", named, proof="key"),
            Caller("bob", Authority(frozenset({"bascule.approvals:read"})), proof="key"),
            Caller("bob", Authority(named.granted, frozenset({"crm"})), proof="key"),
        ):
            with pytest.raises(ScopeDenied):
                await admin.decide(world.records, caller, id, approve=True)
        assert world.records.find(id).state == "pending"
        report = await admin.decide(world.records, Caller("bob", named, proof="key"), id, approve=True, note="fine")
        assert (report["state"], report["decided_by"], report["note"]) == ("approved", "caller:bob", "fine")
        with pytest.raises(admin.NotPending):
            await admin.decide(world.records, Caller("bob", named, proof="key"), id, approve=False)
        assert text_of(await said(world.client(), token=id)) == "ann"


async def test_four_eyes_never_ask_the_person_at_the_calling_client() -> None:
    async with gated({"four_eyes": True}) as world:
        modern = world.client(capabilities=ELICITS)
        id = (await asked_by_inbox(modern))["confirmation_token"]
        legacy = await world.bascule.session("/mcp", capabilities=ELICITS, headers=world.known.of("ann"))
        async with legacy.open("tools/call", {"name": "bank__pay", "arguments": PAY}) as exchange:
            (message,) = [await exchange.next()]
            assert failure_of(message["result"])["details"]["confirmation_token"] == id
        await world.decide(id)
        assert text_of(await said(modern, token=id)) == "ann"


# ---- the person at the client, in a session


async def pushed(world: World, answer: Json | None, **error: Any) -> tuple[Json, Json]:
    """(what the person was asked, what came of the call) of a client that answers so."""
    client = await world.bascule.session("/mcp", capabilities=ELICITS, headers=world.known.of("ann"))
    async with client.open("tools/call", {"name": "bank__pay", "arguments": PAY}) as exchange:
        question = await exchange.next_of("elicitation/create")
        assert world.executed == 0
        if answer is None:
            async with client.post({"jsonrpc": "2.0", "id": question["id"], "error": error}) as sent:
                assert sent.status == 202
        else:
            await client.answer(question, answer)
        result: Json = (await exchange.last())["result"]
        return question["params"], result


async def test_a_session_whose_client_can_ask_asks_its_person_and_a_tick_is_a_yes() -> None:
    async with gated() as world:
        question, result = await pushed(world, ticked())
        assert text_of(result) == "ann"
        assert world.executed == 1
        schema = question["requestedSchema"]
        assert (schema["type"], schema["required"]) == ("object", ["confirm"])
        assert schema["properties"]["confirm"]["type"] == "boolean"
        for shown in ('Pay 10 to "ann"?', "bank/pay", "Caller: ann", "Rule: confirm_gate", '"amount": 10'):
            assert shown in question["message"]
        (row,) = world.records.list_()
        assert (row.state, row.channel, row.decided_by) == ("used", "client", "client:ann")


@pytest.mark.parametrize(
    "answer",
    [
        {"action": "decline"},
        {"action": "cancel"},
        {"action": "accept"},
        {"action": "accept", "content": {}},
        ticked(False),
        ticked("true"),
        ticked(1),
        ticked(True, "decline"),
        {"action": "ACCEPT", "content": {"confirm": True}},
        {},
    ],
)
async def test_every_other_answer_is_a_no(answer: Json) -> None:
    async with gated() as world:
        _, result = await pushed(world, answer)
        assert failure_of(result)["code"] == 40305
        assert world.executed == 0


async def test_a_client_that_fails_to_ask_leaves_it_to_the_inbox() -> None:
    async with gated() as world:
        _, result = await pushed(world, None, code=-32601, message="no such method")
        id = failure_of(result)["details"]["confirmation_token"]
        await world.decide(id)
        assert text_of(await said(world.client(), token=id)) == "ann"


async def test_a_client_that_can_only_open_urls_is_not_asked_by_a_form() -> None:
    async with gated() as world:
        capabilities: Json = {"elicitation": {"url": {}}}
        client = await world.bascule.session("/mcp", capabilities=capabilities, headers=world.known.of("ann"))
        result = await client.call("bank__pay", **PAY)
        assert "confirmation_token" in failure_of(result)["details"]
        modern = world.client(capabilities=capabilities)
        assert "confirmation_token" in await asked_by_inbox(modern)


async def test_nothing_that_is_shown_deceives() -> None:
    hidden = {"text": "safe\u202egnp.exe\u2066\u200b\x07", "amount": 10, "\u2028key": "x" * 5000}
    async with gated(True) as world:
        client = await world.bascule.session("/mcp", capabilities=ELICITS, headers=world.known.of("ann"))
        async with client.open("tools/call", {"name": "bank__pay", "arguments": hidden}) as exchange:
            question = (await exchange.next_of("elicitation/create"))["params"]["message"]
            assert all(char.isprintable() or char == "\n" for char in question)
            for shown in ("\\u{202e}gnp", "\\u{2066}", "\\u{200b}", "\\u0007", "\\u{2028}key", "3000 more characters"):
                assert shown in question


# ---- the person at the client, without a session


async def in_a_round(client: Known, **arguments: Any) -> Json:
    """The result that asks the person at a stateless client."""
    result = await said(client, arguments or PAY)
    assert result["resultType"] == "input_required", result
    assert list(result["inputRequests"]) == [CONFIRM]
    return result


@pytest.mark.parametrize("modern", [True, False], ids=["modern server", "legacy server"])
async def test_a_stateless_client_that_can_ask_asks_in_a_round_of_its_own(modern: bool) -> None:
    async with gated(modern=modern) as world:
        ann = world.client(capabilities=ELICITS)
        result = await in_a_round(ann)
        question = result["inputRequests"][CONFIRM]
        assert question["method"] == "elicitation/create"
        assert question["params"]["mode"] == "form"
        assert 'Pay 10 to "ann"?' in question["params"]["message"]
        assert world.executed == 0
        back = {"inputResponses": {CONFIRM: ticked()}, "requestState": result["requestState"]}
        assert text_of(await said(ann, **back)) == "ann"
        (asked,) = world.server.calls("pay")
        assert not {"inputResponses", "requestState"} & asked.message["params"].keys()
        again = await said(ann, **back)
        assert again["resultType"] == "input_required"
        assert "used already" in again["inputRequests"][CONFIRM]["params"]["message"]
        assert world.executed == 1


async def test_in_a_round_every_other_answer_is_a_no_and_none_asks_again() -> None:
    async with gated() as world:
        ann = world.client(capabilities=ELICITS)
        for answer in ({"action": "decline"}, {"action": "cancel"}, ticked(False), ticked("yes"), {}):
            state = (await in_a_round(ann))["requestState"]
            back = {"inputResponses": {CONFIRM: answer}, "requestState": state}
            assert failure_of(await said(ann, **back))["code"] == 40305
            changed_mind = {"inputResponses": {CONFIRM: ticked()}, "requestState": state}
            assert failure_of(await said(ann, **changed_mind))["code"] == 40305
        state = (await in_a_round(ann))["requestState"]
        assert (await said(ann, requestState=state))["resultType"] == "input_required"
        assert world.executed == 0


async def test_of_fifty_clients_with_one_answer_one_goes_out() -> None:
    async with gated() as world:
        ann = world.client(capabilities=ELICITS)
        state = (await in_a_round(ann))["requestState"]
        back = {"inputResponses": {CONFIRM: ticked()}, "requestState": state}
        await asyncio.gather(*(said(ann, **back) for _ in range(50)))
        assert world.executed == 1


async def test_an_answer_is_for_the_caller_and_the_call_that_were_asked() -> None:
    async with gated(tools=(tool("refund"),), policy={
        "default": "allow", "rules": [{"match": "bank/refund", "confirm_gate": True}]
    }) as world:  # fmt: skip
        ann, bob = world.client(capabilities=ELICITS), world.client("bob", ELICITS)
        state = (await in_a_round(ann))["requestState"]
        back = {"inputResponses": {CONFIRM: ticked()}, "requestState": state}
        for client, arguments, name in (
            (bob, PAY, "bank__pay"),
            (ann, {**PAY, "amount": 11}, "bank__pay"),
            (ann, PAY, "bank__refund"),
        ):
            refused = await said(client, arguments, "", name, **back)
            assert (refused["status"], refused["error"]["code"]) == (400, -32602)
        assert world.executed == 0


# ---- rounds of the server's own


def asks_twice(server: Wide, states: Mapping[int, Any]) -> None:
    """A server that asks in each round that has a state, and then answers."""

    async def answer(asked: Asked) -> None:
        round = len(server.calls("pay")) - 1
        if round in states:
            wanted = {"resultType": "input_required", "inputRequests": {"who": {
                "method": "elicitation/create",
                "params": {"mode": "form", "message": "?", "requestedSchema": {"type": "object", "properties": {}}},
            }}}  # fmt: skip
            state = states[round]
            await asked.answer(wanted if state is None else {**wanted, "requestState": state})
        else:
            await server.answer(asked)

    server.on["tools/call"] = answer


WHO: Final[Json] = {"who": {"action": "accept", "content": {}}}


async def test_a_servers_state_travels_sealed_and_comes_back_to_it_byte_for_byte() -> None:
    state = 'se\u00e4l "\\" \U0001f600' * 500
    async with gated(False) as world:
        asks_twice(world.server, {0: state, 1: "x" * 700_000})
        ann = world.client(capabilities=ELICITS)
        first = await said(ann)
        assert "seäl" not in first["requestState"]
        second = await said(ann, inputResponses=WHO, requestState=first["requestState"])
        assert text_of(await said(ann, inputResponses=WHO, requestState=second["requestState"])) == "ann"
        given = [each.message["params"].get("requestState") for each in world.server.calls("pay")]
        assert given == [None, state, "x" * 700_000]
        # A server may be asked the same again: whether a state is good once is its own affair.
        assert text_of(await said(ann, inputResponses=WHO, requestState=first["requestState"])) == "ann"


async def test_a_state_that_was_changed_or_is_for_another_call_never_reaches_the_server() -> None:
    async with gated(False, tools=(tool("refund"),)) as world:
        asks_twice(world.server, {0: "state"})
        ann = world.client(capabilities=ELICITS)
        token = (await said(ann))["requestState"]
        places = (0, 3, 8, 20, 30, len(token) // 2, len(token) - 5, len(token) - 1)
        states: list[Any] = [f"{token[:at]}{'B' if token[at] == 'A' else 'A'}{token[at + 1 :]}" for at in places]
        states += ["", "state", token + "A", token[:-1], 7, None, {}, [token]]
        tries = [(ann, PAY, "bank__pay", each) for each in states]
        tries += [
            (world.client("bob", ELICITS), PAY, "bank__pay", token),
            (ann, {**PAY, "amount": 11}, "bank__pay", token),
            (ann, PAY, "bank__refund", token),
        ]
        for client, arguments, name, state in tries:
            refused = await said(client, arguments, "", name, inputResponses=WHO, requestState=state)
            assert (refused["status"], refused["error"]["code"]) == (400, -32602), (name, state)
        assert len(world.server.asked("tools/call")) == 1


async def test_the_ticket_of_a_call_that_is_parked_at_a_legacy_server_is_sealed_too() -> None:
    known = credentials("ann", "bob")
    people = known.configured(ann={"scopes": ["*"]}, bob={"scopes": ["*"]})
    async with gateway({"old": local("plain")}, environ=known.environ, callers=people) as bascule:
        ann, bob = (Known(bascule, "/servers/old/mcp", known.of(name)) for name in ("ann", "bob"))
        ann.capabilities = bob.capabilities = ELICITS
        await ann.result("tools/list")
        asking = {"question": "whom?"}
        first = await said(ann, asking, name="ask")
        state, (key,) = first["requestState"], first["inputRequests"]
        back = {"inputResponses": {key: {"action": "decline"}}, "requestState": state}
        for client, arguments in ((bob, asking), (ann, {"question": "who?"})):
            refused = await said(client, arguments, name="ask", **back)
            assert (refused["status"], refused["error"]["code"]) == (400, -32602)
        assert "content" in await said(ann, asking, name="ask", **back)


@pytest.mark.parametrize("states", [{0: "one", 1: "two"}, {0: None, 1: None}], ids=["with states", "without"])
async def test_the_later_rounds_of_a_confirmed_call_ask_nobody_again_and_are_good_once(
    states: Mapping[int, Any],
) -> None:
    async with gated() as world:
        asks_twice(world.server, states)
        ann = world.client(capabilities=ELICITS)
        state = (await in_a_round(ann))["requestState"]
        first = await said(ann, inputResponses={CONFIRM: ticked()}, requestState=state)
        assert list(first["inputRequests"]) == ["who"]
        assert world.executed == 1
        raced = await asyncio.gather(
            *(said(ann, inputResponses=WHO, requestState=first["requestState"]) for _ in range(20))
        )
        (second,) = [each for each in raced if "isError" not in each]
        assert {failure_of(each)["code"] for each in raced if "isError" in each} == {40302}
        assert text_of(await said(ann, inputResponses=WHO, requestState=second["requestState"])) == "ann"
        assert world.executed == 3
        await said(ann, inputResponses=WHO, requestState=second["requestState"])
        await said(ann, inputResponses=WHO, requestState=first["requestState"])
        assert world.executed == 3
        given = [each.message["params"].get("requestState") for each in world.server.calls("pay")]
        assert given == [None, states[0], states[1]]


async def test_a_server_that_asks_in_a_session_asks_after_the_yes() -> None:
    async with gated() as world:
        asks_twice(world.server, {0: "one"})
        client = await world.bascule.session("/mcp", capabilities=ELICITS, headers=world.known.of("ann"))
        async with client.open("tools/call", {"name": "bank__pay", "arguments": PAY}) as exchange:
            await client.answer(await exchange.next_of("elicitation/create"), ticked())
            await client.answer(await exchange.next_of("elicitation/create"), {"action": "accept", "content": {}})
            assert text_of((await exchange.last())["result"]) == "ann"
        assert world.executed == 2


# ---- what a cache knows


async def test_a_gated_read_is_answered_to_nobody_from_a_cache() -> None:
    reads: Json = {"side_effect": False, "cache_policy": {"ttl_seconds": 60}}
    async with gated(contract=reads) as world:
        for number in (1, 2):
            id = (await asked_by_inbox(world.client()))["confirmation_token"]
            await world.decide(id)
            assert text_of(await said(world.client(), token=id)) == "ann"
            assert world.executed == number
        await asked_by_inbox(world.client("bob"))


# ---- prompts and resources


async def test_what_is_no_tool_is_gated_just_the_same() -> None:
    known = credentials("ann")
    rule = {
        "match": "bank/*",
        "kinds": ["prompt", "resource"],
        "guardrails": [{"ask": "caller.name == 'ann'"}],
    }
    people = known.configured(ann={"scopes": ["*"]})
    async with (
        wide(modern=True, tools=[tool("pay")], prompts=["brief"], resources=["x://one"]) as server,
        gateway(
            {"bank": remote(server.url)}, environ=known.environ, callers=people, policy={"rules": [rule]}
        ) as bascule,
    ):
        client = Known(bascule, "/servers/bank/mcp", known.of("ann"))
        await client.result("prompts/list")
        await client.result("resources/list")
        for method, params in (("prompts/get", {"name": "brief"}), ("resources/read", {"uri": "x://one"})):
            error = (await client.ask(method, params))["error"]
            assert error["data"]["code"] == 40302
            id = error["data"]["details"]["confirmation_token"]
            assert bascule.gateway is not None
            assert bascule.gateway.records is not None
            await admin.decide(bascule.gateway.records.approvals, None, id, approve=True, by="cli:tester")
            found = []
            for _ in range(2):
                async with client.open(method, params, meta={TOKEN: id}) as exchange:
                    found.append("result" in await exchange.last())
            assert found == [True, False], method
        assert [each for each in server.executed if each != "subscriptions/listen"] == ["prompts/get", "resources/read"]


# ---- another life of the gateway


async def test_a_yes_outlives_the_gateway_and_is_still_good_once(tmp_path: Path) -> None:
    known = credentials("ann")
    people = known.configured(ann={"scopes": ["*"]})
    contracts = [{"tool": "bank/pay", "confirm_gate": True}]
    async with wide(modern=True, tools=[tool("pay")]) as server:
        members: Json = {"callers": people, "contracts": contracts, "state_dir": str(tmp_path / "state")}
        (tmp_path / "bascule.yaml").write_text(json.dumps({"servers": {"bank": remote(server.url)}, **members}))

        async def life(token: str) -> Json:
            async with gateway({"bank": remote(server.url)}, environ=known.environ, **members) as bascule:
                client = Known(bascule, "/mcp", known.of("ann"))
                await client.result("tools/list")
                return await said(client, token=token)

        id = failure_of(await life(""))["details"]["confirmation_token"]
        done = await asyncio.to_thread(command, "approvals", "approve", id, "--note", "by hand", cwd=tmp_path)
        assert done.code == 0, done.err
        assert text_of(await life(id)) == "ann"
        assert failure_of(await life(id))["code"] == 40302
        assert len(server.calls("pay")) == 1
