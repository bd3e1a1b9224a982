"""Rules and gates on the way of a call: what they look at, what follows, and what is counted."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from bascule.call import Call, Caller, Forward, Question, Result
from bascule.contract.model import ConfirmGate, Contract
from bascule.errors import BasculeError, ConfirmationRequired, GuardrailDenied, RateLimited
from bascule.pipeline.chain import compose
from bascule.pipeline.confirm import NOBODY, Confirm
from bascule.pipeline.dispatch import Dispatch
from bascule.pipeline.guard import Guard
from bascule.pipeline.tally import Tally
from bascule.policy.guard import compile_gate, compile_guards
from bascule.policy.guardrails import Guardrail
from bascule.policy.scopes import Authority
from bascule.store.shared import MemoryState
from bascule.wire import jsonrpc
from pipeline.calls import ANSWER, Server, call

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class World:
    def __init__(self, *rails: Guardrail, gate: ConfirmGate | None = None) -> None:
        self.tally = Tally(MemoryState())
        self.contract = Contract(id="crm/find", guardrails=rails, confirm_gate=gate)
        judge = None if gate is None else compile_gate(gate.when, gate.message, None)
        self.stage = Guard(self.contract, compile_guards(rails, None), judge, self.tally, lambda: NOW)
        self.server = Server()

    def chain(self, last: Forward | None = None) -> Forward:
        return compose([self.stage, Confirm(self.contract, NOBODY), Dispatch(self.tally)], last or self.server)

    def call(self, caller: Caller | None = None, session: str = "", **arguments: Any) -> Call:
        made = call(contract=self.contract, session=session)
        return replace(made, caller=caller or made.caller, params={"arguments": jsonrpc.encode(arguments)})


async def outcome(world: World, wanted: Call) -> str:
    try:
        result = await world.chain()(wanted)
    except BasculeError as error:
        return error.kind
    return ", ".join(result.warnings) or "done"


async def test_deny_goes_before_ask_and_ask_before_warn() -> None:
    world = World(
        Guardrail(warn="args.a > 1", message="odd"), Guardrail(ask="args.a > 2"), Guardrail(deny="args.a > 3")
    )
    found = [await outcome(world, world.call(a=a)) for a in (1, 2, 3, 4)]
    assert found == ["done", "odd", "confirmation_required", "guardrail_denied"]
    assert world.server.calls == 2


async def test_a_gate_is_asked_after_the_rules_have_let_the_call_through() -> None:
    world = World(Guardrail(deny="args.a > 3"), gate=ConfirmGate(when="args.a > 1", message="{args.a}?"))
    assert [await outcome(world, world.call(a=a)) for a in (1, 2, 4)] == [
        "done",
        "confirmation_required",
        "guardrail_denied",
    ]
    with pytest.raises(ConfirmationRequired, match=r"2\?"):
        await world.chain()(world.call(a=2))


async def test_a_rule_that_asks_does_not_stand_in_for_a_gate_that_wants_somebody_else() -> None:
    gate = ConfirmGate(when="args.a > 1", message="Both of you?", four_eyes=True)
    world = World(Guardrail(ask="args.a > 0", message="Sure?"), gate=gate)
    asked: list[Question | None] = []

    async def look(call: Call) -> Result:
        asked.append(call.question)
        return ANSWER

    for a in (0, 1, 2):
        await world.stage(world.call(a=a), look)
    assert asked == [None, Question("guardrails.0", "Sure?"), Question("confirm_gate", "Both of you?", four_eyes=True)]


async def test_a_gate_that_cannot_be_decided_denies() -> None:
    world = World(gate=ConfirmGate(when="args.a > 1"))
    assert await outcome(world, world.call()) == "guardrail_denied"


async def test_the_refusal_names_the_rule_and_not_what_it_says() -> None:
    world = World(Guardrail(deny="args.a == 'swordfish'", message="no"))
    with pytest.raises(GuardrailDenied) as caught:
        await world.chain()(world.call(a="swordfish"))
    assert caught.value.message == "no"
    assert caught.value.details == {"rule": "guardrails.0"}


async def test_rules_see_the_caller_the_tool_the_time_and_the_arguments() -> None:
    caller = Caller("ann", Authority(frozenset({"crm"})), frozenset({"staff"}), {"email": "a@x.com"}, "key")
    seen = (
        "caller.name == 'ann' && 'staff' in caller.roles && 'crm' in caller.scopes && caller.proof == 'key'"
        " && caller.attributes.email == 'a@x.com' && tool.id == 'crm/find' && tool.name == 'find'"
        " && tool.namespace == 'crm' && now.getHours() == 12 && args.a == 1"
    )
    world = World(Guardrail(warn=seen, message="all of it"))
    assert await outcome(world, world.call(caller, a=1)) == "all of it"


async def test_calls_of_one_session_are_counted_and_no_others() -> None:
    world = World(Guardrail(max_per_session=2))
    one = [await outcome(world, world.call(session="s1")) for _ in range(3)]
    other = [await outcome(world, world.call(session="s2")) for _ in range(3)]
    assert one == other == ["done", "done", "guardrail_denied"]


async def test_of_many_at_once_no_more_pass_than_may() -> None:
    world = World(Guardrail(max_per_session=3))
    found = await asyncio.gather(*(outcome(world, world.call(session="s")) for _ in range(20)))
    assert sorted(found).count("done") == 3


async def test_a_call_that_a_later_stage_refuses_is_not_counted() -> None:
    world = World(Guardrail(max_per_session=1))

    async def refuse(call: Call, forward: Forward) -> Result:
        raise RateLimited("later")

    for _ in range(3):
        with pytest.raises(RateLimited):
            await compose([world.stage, refuse, Dispatch(world.tally)], world.server)(world.call(session="s"))
    assert [await outcome(world, world.call(session="s")) for _ in range(2)] == ["done", "guardrail_denied"]


async def test_what_a_stage_before_has_decoded_is_not_decoded_again() -> None:
    world = World(Guardrail(deny="args.a > 1"))
    decoded = replace(world.call(a=5), args={"a": 0})
    assert await world.chain()(decoded) == ANSWER
