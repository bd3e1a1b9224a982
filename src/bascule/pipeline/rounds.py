"""`rounds`: what a server gives a stateless client to carry is sealed on the way out, and opened on the way in.

A server's `requestState` may be anything, and much depends on it. In our seal it is good for the same call of the
same caller alone, for a while; whatever else comes is refused before the server hears of it. The seal also says
that the call was confirmed by a person, so that its later rounds ask nobody again: each of them is good once.
Source: MCP 2026-07-28, "Multi Round-Trip Requests", "Server Requirements"; docs/approvals.md.
"""

import secrets
from typing import Final

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract
from bascule.errors import InvalidParams, UpstreamBrokeProtocol
from bascule.pipeline.confirm import Asking
from bascule.pipeline.fingerprint import fingerprint_of, pin_of
from bascule.policy.approvals import Asked, is_valid
from bascule.store.journal import Yes
from bascule.wire import jsonrpc, translate
from bascule.wire.jsonrpc import Params
from bascule.wire.seal import NONCE_BYTES

MAX_STATE_BYTES: Final = 1_048_576
MAX_TTL_S: Final = 600.0
_PURPOSE: Final = "round"
_LONGEST: Final = 2 * MAX_STATE_BYTES  # characters: base64 makes four of three bytes, and there is more in it
_MARK: Final = b"input_required"


class _Round(msgspec.Struct, frozen=True):
    """What a client carries from one round of a call to the next, sealed."""

    caller: str
    method: str
    thing: str
    fingerprint: bytes
    given_at_s: float
    expires_at_s: float
    state: bytes | None  # the server's own, as it wrote the string; None if it gave none
    approval: str  # the id of the yes that the call goes by; "" if it needs none
    nonce: str  # of the next round of a call with a yes, which is good once
    pin: bytes  # of the tool that the yes was given for


_round: Final = msgspec.msgpack.Decoder(_Round)


class Rounds:
    """Stands between a stateless client and every `requestState` of one thing."""

    def __init__(self, contract: Contract, asking: Asking) -> None:
        self._id = contract.id
        self._contract = contract
        self._pin = b""  # of this contract, once a confirmed call needs it
        self._asking = asking

    async def __call__(self, call: Call, forward: Forward) -> Result:
        if call.session is not None or call.method not in translate.MAY_ASK:
            return await forward(call)
        if "requestState" in call.params:
            call = await self._opened(call)
        result = await forward(call)
        if result.refused or _MARK not in bytes(result.value):
            return result
        return self._sealed(call, result)

    # ---- out

    def _sealed(self, call: Call, result: Result) -> Result:
        members = jsonrpc.members(result.value)
        if jsonrpc.text(members.get("resultType")) != "input_required":
            return result
        approval = call.trip.approval
        raw = members.get("requestState")
        if raw is None and not approval:
            return result
        state = None if raw is None else self._checked(call, raw)
        now_s = self._asking.clock()
        said = _Round(
            caller=call.caller.name,
            method=call.method,
            thing=self._id,
            fingerprint=fingerprint_of(call),
            given_at_s=now_s,
            expires_at_s=now_s + min(self._asking.round_ttl_s(), MAX_TTL_S),
            state=state,
            approval=approval,
            nonce=secrets.token_hex(16) if approval else "",
            pin=self._own_pin() if approval else b"",
        )
        token = self._asking.ring().seal(_PURPOSE, msgspec.msgpack.encode(said), secrets.token_bytes(NONCE_BYTES))
        return replace(result, value=jsonrpc.encode(jsonrpc.replaced(members, requestState=token)))

    def _checked(self, call: Call, raw: Raw) -> bytes:
        assert call.target is not None, "the resolve stage sets the target"
        state = bytes(raw)
        if not state.startswith(b'"') or len(state) > MAX_STATE_BYTES:
            raise UpstreamBrokeProtocol(f"its requestState is no string of at most {MAX_STATE_BYTES} bytes").at(
                call.target.upstream.name
            )
        return state

    def _own_pin(self) -> bytes:
        self._pin = self._pin or pin_of(self._contract)
        return self._pin

    # ---- in

    async def _opened(self, call: Call) -> Call:
        """*call* with its server's own state. Raises InvalidParams for a state that was not given for it."""
        said = self._read(jsonrpc.text(call.params["requestState"]))
        if said is None or said.caller != call.caller.name:
            # Somebody else's looks like nobody's.
            raise InvalidParams("requestState is not one that was given to this caller here")
        if (said.method, said.thing, said.fingerprint) != (call.method, self._id, fingerprint_of(call)):
            raise InvalidParams("requestState belongs to another call: send the same call again, with the answers")
        if not is_valid(said.given_at_s, said.expires_at_s, self._asking.clock()):
            raise InvalidParams("requestState has expired: start the call anew")
        assert call.target is not None, "the resolve stage sets the target"
        target = replace(call.target, params=_with_state(call.target.params, said.state))
        call = replace(call, params=_with_state(call.params, said.state), target=target)
        return await self._confirmed(call, said) if said.nonce else call

    def _read(self, token: str | None) -> _Round | None:
        sealed = None if token is None else self._asking.ring().open(_PURPOSE, token, _LONGEST)
        try:
            return None if sealed is None else _round.decode(sealed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None  # of a version of Bascule that put something else into it

    async def _confirmed(self, call: Call, said: _Round) -> Call:
        """*call* with the yes of its earlier round, as a yes of its own that is good once."""
        approvals = self._asking.approvals
        if said.pin != self._own_pin() or approvals is None:
            raise InvalidParams("requestState belongs to the tool as it was defined before: start the call anew")
        asked = Asked(
            caller=said.caller,
            thing=said.thing,
            version="",
            pin=said.pin,
            fingerprint=said.fingerprint,
            arguments=b"",
            question="",
            rule="",
            four_eyes=False,
            trace_id=call.trace_id,
        )
        ttl_s = said.expires_at_s - approvals.now_s()
        await approvals.settle(asked, said.nonce, approve=True, by=said.approval, channel="round", ttl_s=ttl_s)
        call.trip.approval = said.approval
        yes = Yes(id=said.nonce, caller=said.caller, thing=said.thing, pin=said.pin, fingerprint=said.fingerprint)
        return replace(call, yes=yes)


def _with_state(params: Params, state: bytes | None) -> Params:
    kept = {key: value for key, value in params.items() if key != "requestState"}
    return kept if state is None else {**kept, "requestState": Raw(state)}
