"""The confirm stage by itself: what it does before anybody is asked, and when nobody answers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from bascule.call import Call, Question, Result, Target
from bascule.contract.model import ConfirmGate, Contract
from bascule.errors import BasculeError, ConfirmationDenied, ConfirmationRequired, Unavailable
from bascule.pipeline.confirm import NOBODY, Asking, Confirm, asks
from bascule.policy.guardrails import Guardrail
from bascule.store.journal import Yes
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params
from bascule.wire.seal import KeyRing
from bascule.wire.wishes import Wishes
from pipeline.calls import ANSWER, Server, Standing, call

CONTRACT = Contract(id="bank/pay", confirm_gate=ConfirmGate())
QUESTION = Question("confirm_gate", "Pay?")


class Person(Standing):
    """A legacy client with somebody at it, who answers with *answer*, an error, or not at all."""

    def __init__(self, answer: Result | BasculeError | None) -> None:
        super().__init__("s")
        self.capabilities: Mapping[str, Any] = {"elicitation": {}}
        self.answer = answer
        self.asked = 0

    async def ask(self, method: str, params: Params) -> Result:
        self.asked += 1
        if isinstance(self.answer, BasculeError):
            raise self.answer
        if self.answer is None:
            await asyncio.Event().wait()
        assert self.answer is not None
        return self.answer


class _Upstream:
    name = "bank"


class World:
    def __init__(self, records: Records) -> None:
        self.records = records
        self.approvals = records.approvals
        ring = KeyRing([bytes(32)])
        asking = Asking(
            records.approvals, ring=lambda: ring, public_url=lambda: "https://x.test", round_ttl_s=lambda: 60.0
        )
        self.stage = Confirm(CONTRACT, asking)
        self.came: list[Call] = []

    async def server(self, call: Call) -> Result:
        self.came.append(call)
        return ANSWER

    def call(self, person: Person | None = None, question: Question | None = QUESTION, token: str = "") -> Call:
        params: Params = {"name": Raw(b'"pay"'), "arguments": Raw(b'{"amount":1}')}
        target = Target(_Upstream(), params)  # type: ignore[arg-type]  # no more of it is looked at
        made = replace(call(), params=params, target=target, question=question, wishes=Wishes(token=token))
        return made if person is None else replace(made, session=person, client=person)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    records = Records(tmp_path / "state", AuditOptions(), JournalOptions(), ApprovalOptions())
    await records.start()
    yield World(records)
    await records.close()


def test_it_belongs_into_a_chain_whose_rules_may_ask() -> None:
    assert asks(CONTRACT)
    assert asks(Contract(id="a/b", guardrails=(Guardrail(deny="true"), Guardrail(ask="args.a > 1"))))
    assert asks(Contract(id="a/b", guardrails=(Guardrail(max_per_session=1, effect="ask"),)))
    assert not asks(Contract(id="a/b", guardrails=(Guardrail(deny="true"), Guardrail(warn="true"))))


async def test_what_no_rule_asks_about_passes_untouched(world: World) -> None:
    wanted = world.call(question=None, token="whatever")
    assert await world.stage(wanted, world.server) is ANSWER
    assert world.came == [wanted]


async def test_what_an_earlier_round_has_a_yes_for_passes(world: World) -> None:
    yes = Yes(id="a", caller="me", thing="bank/pay", pin=b"", fingerprint=b"")
    assert await world.stage(replace(world.call(), yes=yes), world.server) is ANSWER


async def test_a_yes_is_put_on_the_call_and_used_by_nobody_yet(world: World) -> None:
    with pytest.raises(ConfirmationRequired) as caught:
        await world.stage(world.call(), world.server)
    id = caught.value.details["confirmation_token"]
    await world.approvals.decide(id, approve=True, by="cli:kim")
    await world.stage(world.call(token=id), world.server)
    (came,) = world.came
    assert came.yes is not None
    assert (came.yes.id, came.yes.caller, came.yes.thing, came.trip.approval) == (id, "me", "bank/pay", id)
    row = world.approvals.find(id)
    assert row is not None
    assert row.state == "approved"


async def test_where_no_records_are_kept_everything_that_needs_a_yes_is_refused(world: World) -> None:
    server = Server()
    for wanted in (world.call(), world.call(token="a"), world.call(Person(None))):
        with pytest.raises(ConfirmationRequired, match="state_dir"):
            await Confirm(CONTRACT, NOBODY)(wanted, server)
    assert server.calls == 0


async def test_a_person_who_does_not_answer_in_time_leaves_it_to_the_inbox(world: World) -> None:
    world.approvals.options = ApprovalOptions(ttl_s=0.05)
    person = Person(None)
    with pytest.raises(ConfirmationRequired) as caught:
        await world.stage(world.call(person), world.server)
    assert (person.asked, bool(caught.value.details["confirmation_token"])) == (1, True)


async def test_a_client_that_has_gone_is_asked_nothing_more(world: World) -> None:
    with pytest.raises(Unavailable):
        await world.stage(world.call(Person(Unavailable("the client has gone"))), world.server)
    assert world.approvals.list_() == []


async def test_the_channels_are_tried_in_the_order_of_the_configuration(world: World) -> None:
    person = Person(Result(jsonrpc.encode({"action": "accept", "content": {"confirm": True}})))
    world.approvals.options = ApprovalOptions(channels=("inbox", "client"))
    with pytest.raises(ConfirmationRequired):
        await world.stage(world.call(person), world.server)
    world.approvals.options = ApprovalOptions(channels=("client", "inbox"))
    await world.stage(world.call(person), world.server)
    assert (person.asked, len(world.came)) == (1, 1)
    world.approvals.options = ApprovalOptions(channels=())
    with pytest.raises(ConfirmationRequired, match="nobody can be asked"):
        await world.stage(world.call(person), world.server)


async def test_the_yes_of_a_clients_person_is_no_token(world: World) -> None:
    person = Person(Result(jsonrpc.encode({"action": "accept", "content": {"confirm": True}})))
    await world.stage(world.call(person), world.server)
    (row,) = world.approvals.list_()
    with pytest.raises(ConfirmationRequired, match="none of this caller's"):
        await world.stage(world.call(token=row.id), world.server)


async def test_a_yes_of_one_person_is_not_enough_once_another_one_has_to_say_it(world: World) -> None:
    with pytest.raises(ConfirmationRequired) as caught:
        await world.stage(world.call(), world.server)
    id = caught.value.details["confirmation_token"]
    await world.approvals.decide(id, approve=True, by="cli:kim")
    stricter = replace(QUESTION, four_eyes=True)
    with pytest.raises(ConfirmationRequired, match="somebody else"):
        await world.stage(world.call(question=stricter, token=id), world.server)


async def test_the_refusal_says_what_to_do_however_long_the_question_is(world: World) -> None:
    with pytest.raises(ConfirmationRequired) as caught:
        await world.stage(world.call(question=Question("confirm_gate", "?" * 5000)), world.server)
    error = caught.value
    id = error.details["confirmation_token"]
    for said in (f"https://x.test/console/approvals/{id}", f"`bascule approvals approve {id}`", "confirmationToken"):
        assert said in error.message


async def test_a_no_is_remembered_as_one(world: World) -> None:
    with pytest.raises(ConfirmationDenied):
        await world.stage(world.call(Person(Result(Raw(b'{"action":"decline"}')))), world.server)
    (row,) = world.approvals.list_()
    assert (row.state, row.decided_by, world.came) == ("denied", "client:me", [])
