"""What a stateless client carries between rounds: sealed on the way out, opened on the way in, refused in between."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from bascule.call import Call, Caller, Result, Target
from bascule.contract.model import Contract
from bascule.errors import InvalidParams, UpstreamBrokeProtocol
from bascule.pipeline.confirm import Asking
from bascule.pipeline.rounds import MAX_STATE_BYTES, Rounds
from bascule.wire import jsonrpc
from bascule.wire.seal import KeyRing
from pipeline.calls import ANSWER, call

ONE, OTHER = KeyRing([bytes(32)]), KeyRing([bytes(range(32))])
STATE: Final = Raw(b'"caf\\u00e9 \\/ \xf0\x9f\x98\x80"')


class _Upstream:
    name = "bank"


class World:
    """One tool's stage, and a server that gives *state* and remembers what came."""

    def __init__(self, state: Raw | None = STATE, contract: Contract | None = None) -> None:
        self.now_s = 1000.0
        self.ring = ONE
        self.state = state
        asking = Asking(
            None,
            ring=lambda: self.ring,
            public_url=lambda: None,
            round_ttl_s=lambda: 60.0,
            clock=lambda: self.now_s,
        )
        self.stage = Rounds(contract or Contract(id="bank/pay"), asking)
        self.came: list[Call] = []

    async def server(self, call: Call) -> Result:
        self.came.append(call)
        state = {} if self.state is None else {"requestState": self.state}
        return Result(jsonrpc.encode({"resultType": "input_required", "inputRequests": {}, **state}))

    def call(self, caller: str = "me", session: str = "", method: str = "tools/call", **params: Any) -> Call:
        said = {"name": "pay", "arguments": {"amount": 1}, **params}
        raw = {name: value if isinstance(value, Raw) else jsonrpc.encode(value) for name, value in said.items()}
        made = replace(call(caller, session=session, method=method), params=raw)
        return replace(made, target=Target(_Upstream(), raw))  # type: ignore[arg-type]  # no more of it is looked at

    async def given(self, **members: Any) -> str:
        """The state that a client gets."""
        result = await self.stage(self.call(**members), self.server)
        state = jsonrpc.text(jsonrpc.members(result.value).get("requestState"))
        assert state is not None
        return state

    async def refused(self, wanted: Call) -> str:
        before = len(self.came)
        with pytest.raises(InvalidParams) as caught:
            await self.stage(wanted, self.server)
        assert len(self.came) == before, "the server was called"
        return caught.value.message


async def test_a_state_comes_back_to_its_server_as_the_server_wrote_it() -> None:
    world = World()
    token = await world.given()
    assert token.isascii()
    await world.stage(world.call(requestState=token, inputResponses={"a": 1}), world.server)
    last = world.came[-1]
    assert last.target is not None
    assert bytes(last.target.params["requestState"]) == bytes(last.params["requestState"]) == bytes(STATE)
    assert bytes(last.target.params["inputResponses"]) == b'{"a":1}'


@given(st.integers(0, 10_000), st.integers(0, 7))
async def test_no_bit_of_it_can_be_changed(at: int, bit: int) -> None:
    world = World()
    token = await world.given()
    raw = bytearray(token.encode())
    raw[at % len(raw)] ^= 1 << bit
    await world.refused(world.call(requestState=raw.decode("latin-1")))


@pytest.mark.parametrize(
    "other",
    [
        {"caller": "you"},
        {"arguments": {"amount": 2}},
        {"arguments": {"amount": 1, "more": None}},
        {"name": "refund"},
        {"method": "prompts/get"},
    ],
)
async def test_it_is_for_one_caller_and_one_call(other: dict[str, Any]) -> None:
    world = World()
    await world.refused(world.call(**other, requestState=await world.given()))


async def test_it_is_for_one_thing() -> None:
    token = await World().given()
    other = World(contract=Contract(id="bank/refund"))
    assert "another call" in await other.refused(other.call(requestState=token))


async def test_how_the_arguments_are_spelt_and_what_else_a_try_carries_makes_no_difference() -> None:
    world = World()
    token = await world.given(arguments=Raw(b'{"b": 1.0, "a": [1]}'))
    again = world.call(arguments=Raw(b'{"a":[1],"b":1}'), _meta={"x": 1}, inputResponses={}, requestState=token)
    await world.stage(again, world.server)
    assert len(world.came) == 2


@pytest.mark.parametrize("garbage", ["", "state", 7, None, {}, [], "é", "A" * 5_000_000])
async def test_what_is_no_state_of_ours_is_refused(garbage: Any) -> None:
    world = World()
    await world.refused(world.call(requestState=garbage))


async def test_the_servers_own_state_is_none_of_ours() -> None:
    world = World()
    await world.refused(world.call(requestState=STATE))


@pytest.mark.parametrize("step_s", [60.0, 86_400.0, -61.0])
async def test_it_is_good_for_a_while(step_s: float) -> None:
    world = World()
    token = await world.given()
    world.now_s += step_s
    assert "expired" in await world.refused(world.call(requestState=token))


async def test_keys_are_rotated_and_one_that_is_gone_opens_nothing() -> None:
    world = World()
    token = await world.given()
    world.ring = KeyRing([bytes(range(32)), bytes(32)])
    await world.stage(world.call(requestState=token), world.server)
    world.ring = OTHER
    await world.refused(world.call(requestState=token))


async def test_a_token_of_another_purpose_is_refused() -> None:
    world = World()
    await world.refused(world.call(requestState=ONE.seal("parked call", b"\x90", bytes(12))))
    await world.refused(world.call(requestState=ONE.seal("round", b"\x90", bytes(12))))


async def test_states_may_be_long_and_not_longer() -> None:
    longest = World(Raw(b'"' + b"x" * (MAX_STATE_BYTES - 2) + b'"'))
    await longest.stage(longest.call(requestState=await longest.given()), longest.server)
    assert len(longest.came) == 2
    longer = World(Raw(b'"' + b"x" * (MAX_STATE_BYTES - 1) + b'"'))
    with pytest.raises(UpstreamBrokeProtocol):
        await longer.given()


@pytest.mark.parametrize("state", [b"7", b"null", b"{}", b'["a"]'])
async def test_a_server_whose_state_is_no_text_breaks_the_protocol(state: bytes) -> None:
    with pytest.raises(UpstreamBrokeProtocol, match="requestState"):
        await World(Raw(state)).given()


async def test_a_question_without_a_state_stays_as_it_is() -> None:
    world = World(None)
    result = await world.stage(world.call(), world.server)
    assert bytes(result.value) == b'{"resultType":"input_required","inputRequests":{}}'


@pytest.mark.parametrize(
    "value",
    [
        b'{"resultType":"complete","content":[{"type":"text","text":"input_required"}],"requestState":"mine"}',
        b'{"content":[{"type":"text","text":"\\"resultType\\":\\"input_required\\""}]}',
    ],
)
async def test_what_only_speaks_of_input_is_no_question(value: bytes) -> None:
    world, answer = World(), Result(Raw(value))

    async def server(call: Call) -> Result:
        return answer

    assert await world.stage(world.call(), server) is answer


async def test_sessions_and_methods_that_have_no_rounds_pass_untouched() -> None:
    world = World()

    async def server(call: Call) -> Result:
        world.came.append(call)
        return ANSWER

    for wanted in (
        world.call(session="s", requestState="x"),
        world.call(method="completion/complete", requestState="x"),
    ):
        assert await world.stage(wanted, server) is ANSWER
        assert world.came[-1] is wanted


async def test_a_call_that_was_confirmed_says_so_in_the_seal_even_where_its_server_has_no_state() -> None:
    world = World(None)

    async def server(call: Call) -> Result:
        call.trip.approval = "a" * 32
        return await world.server(call)

    result = await world.stage(world.call(), server)
    token = jsonrpc.text(jsonrpc.members(result.value)["requestState"])
    # Nothing here keeps records, so the yes of a round cannot be used up: then it is worth nothing.
    assert "start the call anew" in await world.refused(world.call(requestState=token))


async def test_two_callers_of_one_name_are_one_caller() -> None:
    world = World()
    token = await world.given()
    again = replace(world.call(requestState=token), caller=Caller("me", roles=frozenset({"other"})))
    await world.stage(again, world.server)
    assert len(world.came) == 2
