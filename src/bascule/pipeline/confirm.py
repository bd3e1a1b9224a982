"""`confirm`: a call that a rule wants a person's yes for waits for it, or goes away to come back with it.

The person at the calling client is asked where that client can ask (elicitation: pushed in a session, in a round
of its own without one); everybody else through the inbox, by a token that the call comes back with. Nothing here
lets a call pass: it puts a `Yes` on it, which the `reserve` stage uses up in the transaction that sends the call.
Source: MCP 2025-11-25, "Elicitation"; MCP 2026-07-28, "Multi Round-Trip Requests"; docs/approvals.md.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from bascule.call import Call, Forward, Question, Result
from bascule.contract.model import Contract
from bascule.errors import ConfirmationDenied, ConfirmationRequired, InvalidParams, TimedOut
from bascule.pipeline.fingerprint import arguments_in, fingerprint_of, pin_of
from bascule.policy.approvals import Approval, Asked, elicitation, is_valid, says_yes
from bascule.store.approvals import Approvals
from bascule.store.journal import Yes
from bascule.wire import jsonrpc, legacy, modern, translate
from bascule.wire.jsonrpc import Params
from bascule.wire.seal import KEY_BYTES, NONCE_BYTES, KeyRing
from bascule.wire.wishes import TOKEN_META

KEY: Final = "dev.bascule/confirm"  # of our question among those that a server may ask
_PURPOSE: Final = "confirmation"
_RETRY_AFTER_S: Final = 5.0  # for a client that looks whether somebody has answered
_NOBODY: Final = "nobody can be asked"


class Asking(msgspec.Struct, frozen=True):
    """What it takes to ask people."""

    approvals: Approvals | None  # None: no records are kept, so no yes could be used up
    ring: Callable[[], KeyRing]  # the present keys: the configuration may rotate them
    public_url: Callable[[], str | None]
    round_ttl_s: Callable[[], float]  # how long a client may take from one round of a call to the next
    clock: Callable[[], float] = time.time


_SPARE_RING: Final = KeyRing([secrets.token_bytes(KEY_BYTES)])
# Of a chain that is only looked at: it refuses all that needs a yes.
NOBODY: Final = Asking(None, ring=lambda: _SPARE_RING, public_url=lambda: None, round_ttl_s=lambda: 0.0)


def asks(contract: Contract) -> bool:
    """Whether some rule of *contract* may want a person's yes: then `confirm` belongs into its chain."""
    return contract.confirm_gate is not None or any(
        rule.ask is not None or rule.effect == "ask" for rule in contract.guardrails
    )


class _Carried(msgspec.Struct, frozen=True):
    """What a stateless client carries, sealed, while its person thinks."""

    nonce: str  # the id of the yes, which is good once
    caller: str
    thing: str
    pin: bytes
    fingerprint: bytes
    asked_at_s: float
    expires_at_s: float


_carried: Final = msgspec.msgpack.Decoder(_Carried)


class Confirm:
    """Lets through what a person has said yes to, and asks for the rest."""

    def __init__(self, contract: Contract, asking: Asking) -> None:
        self._id = contract.id
        self._version = contract.version if "version" in contract.sources else ""
        self._pin = pin_of(contract)
        self._asking = asking

    async def __call__(self, call: Call, forward: Forward) -> Result:
        question = call.question
        if question is None or call.yes is not None:  # the `rounds` stage brings the yes of an earlier round
            return await forward(call)
        call.trip.rule = question.rule
        approvals = self._asking.approvals
        if approvals is None:
            raise ConfirmationRequired(
                f"{question.message or 'a person has to confirm this call'}: {_NOBODY}, as no records are kept;"
                " the operator has to set state_dir",
                rule=question.rule,
            )
        asked = self._asked(call, question)
        if call.wishes.token:
            return await forward(await self._by_token(call, asked, approvals))
        if (carried := self._opened(call, asked)) is not None:
            return await self._by_answer(call, asked, carried, approvals, forward)
        return await self._by_channel(call, asked, approvals, forward)

    def _asked(self, call: Call, question: Question) -> Asked:
        return Asked(
            caller=call.caller.name,
            thing=self._id,
            version=self._version,
            pin=self._pin,
            fingerprint=fingerprint_of(call),
            arguments=bytes(arguments_in(call)),
            question=question.message,
            rule=question.rule,
            four_eyes=question.four_eyes,
            trace_id=call.trace_id,
        )

    # ---- the ways to a person

    async def _by_channel(
        self, call: Call, asked: Asked, approvals: Approvals, forward: Forward, why: str = ""
    ) -> Result:
        """Ask by the first channel there is; *why* what was brought is of no use."""
        for channel in approvals.options.channels:
            if channel == "inbox":
                raise self._required(await approvals.ask(asked), why)
            if asked.four_eyes:
                continue
            if call.session is not None:
                confirmed = await self._pushed(call, asked, approvals)
                if confirmed is not None:
                    return await forward(confirmed)
            elif _can_answer_in_rounds(call):
                return await self._question(asked, approvals, why)
        raise ConfirmationRequired(_without_anybody(asked, why), rule=asked.rule)

    async def _pushed(self, call: Call, asked: Asked, approvals: Approvals) -> Call | None:
        """*call* with the yes of its session's client; None if that cannot be asked, or gives no answer in time.

        Raises ConfirmationDenied.
        """
        session = call.session
        assert session is not None, "asked of sessions alone"
        able = translate.capabilities_for_modern(session.capabilities, session.revision)
        if not legacy.may_ask(able, translate.ELICIT, {}):
            return None
        id = secrets.token_hex(16)
        params = {name: jsonrpc.encode(value) for name, value in elicitation(asked).items()}
        await approvals.asks(asked, id)
        try:
            async with asyncio.timeout(approvals.options.ttl_s):
                answer = await call.client.ask(translate.ELICIT, params)
        except (TimeoutError, TimedOut):
            return None
        if answer.refused:
            return None  # it declared more than it can do
        return await self._settled(call, asked, approvals, id, answer.value)

    async def _question(self, asked: Asked, approvals: Approvals, why: str) -> Result:
        """The round in which a stateless client asks its person."""
        now_s = approvals.now_s()
        carried = _Carried(
            nonce=secrets.token_hex(16),
            caller=asked.caller,
            thing=asked.thing,
            pin=asked.pin,
            fingerprint=asked.fingerprint,
            asked_at_s=now_s,
            expires_at_s=now_s + approvals.options.ttl_s,
        )
        state = self._asking.ring().seal(_PURPOSE, msgspec.msgpack.encode(carried), secrets.token_bytes(NONCE_BYTES))
        await approvals.asks(asked, carried.nonce)
        said = {"mode": "form", **elicitation(asked, why)}
        params = {name: jsonrpc.encode(value) for name, value in said.items()}
        return Result(translate.input_required({KEY: translate.Question(translate.ELICIT, params)}, state))

    def _required(self, waiting: Approval, why: str = "") -> ConfirmationRequired:
        base = self._asking.public_url()
        link = f"{(base or '').rstrip('/')}/console/approvals/{waiting.id}"
        where = f"`bascule approvals approve {waiting.id}`" + (f" or at {link}" if base else "")
        # What to do comes first: a long question is cut.
        anew = f"{why}, so it has to be confirmed anew: " if why else ""
        asks = f". They are asked: {waiting.question}" if waiting.question else ""
        return ConfirmationRequired(
            f"{anew}a person has to confirm this call, by {where};"
            f' then send the same call again with _meta["{TOKEN_META}"] = "{waiting.id}"{asks}',
            rule=waiting.rule,
            confirmation_token=waiting.id,
            link=link,
            expires_at=_date(waiting.expires_at_s),
            how=f"bascule approvals approve {waiting.id}",
        )

    # ---- coming back

    async def _by_token(self, call: Call, asked: Asked, approvals: Approvals) -> Call:
        """*call* with the yes that its token stands for. Raises ConfirmationRequired, ConfirmationDenied."""
        found = approvals.find(call.wishes.token)
        why = _useless(found, asked)
        if found is not None and not why:
            match found.state_at(approvals.now_s()):
                case "approved":
                    return _confirmed(call, found, found.id)
                case "pending":
                    error = self._required(found)
                    error.retry_after_s = _RETRY_AFTER_S
                    raise error
                case "denied":
                    raise _denied(asked, found)
                case "used":
                    why = "the confirmation was used already"
                case "expired":
                    why = "the confirmation has expired"
        if "inbox" not in approvals.options.channels:
            raise ConfirmationRequired(f"{why}; send the call without its token, to be asked anew", rule=asked.rule)
        raise self._required(await approvals.ask(asked), why)

    async def _by_answer(
        self, call: Call, asked: Asked, carried: _Carried, approvals: Approvals, forward: Forward
    ) -> Result:
        """Go on with what the person at a stateless client has answered."""
        bare, answers = _without_answer(call)
        answer = answers.get(KEY)
        if asked.four_eyes:
            return await self._by_channel(bare, asked, approvals, forward, "somebody else has to confirm it")
        if carried.pin != asked.pin:
            return await self._by_channel(bare, asked, approvals, forward, "the tool's definition has changed since")
        if answer is None or not is_valid(carried.asked_at_s, carried.expires_at_s, approvals.now_s()):
            return await self._by_channel(bare, asked, approvals, forward, "there was no answer in time")
        confirmed = await self._settled(bare, asked, approvals, carried.nonce, answer)
        if confirmed is None:
            return await self._by_channel(bare, asked, approvals, forward, "the confirmation was used already")
        return await forward(confirmed)

    async def _settled(self, call: Call, asked: Asked, approvals: Approvals, id: str, answer: Raw) -> Call | None:
        """*call* with the yes in *answer*; None when that was used before. Raises ConfirmationDenied."""
        approve = says_yes(answer)
        by = f"client:{asked.caller}"
        row = await approvals.settle(asked, id, approve=approve, by=by, channel="client")
        if row.state == "denied":
            raise _denied(asked, row)
        usable = row.state_at(approvals.now_s()) == "approved" and not row.is_not_for(asked)
        return _confirmed(call, row, id) if approve and usable else None

    def _opened(self, call: Call, asked: Asked) -> _Carried | None:
        """What a client brings back that was asked by us; None if it brings nothing, or a server's state.

        Raises InvalidParams for what was given to another caller, or for another call.
        """
        if call.session is not None or call.target is None or "requestState" not in call.target.params:
            return None
        state = jsonrpc.text(call.target.params["requestState"])
        sealed = None if state is None else self._asking.ring().open(_PURPOSE, state)
        if sealed is None:
            return None
        try:
            carried = _carried.decode(sealed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise InvalidParams("requestState is of another version of Bascule; start the call anew") from None
        same = (asked.caller, asked.thing, asked.fingerprint)
        if (carried.caller, carried.thing, carried.fingerprint) != same:
            raise InvalidParams("requestState belongs to another call: send the same call again, with the answer")
        return carried


def _useless(found: Approval | None, asked: Asked) -> str:
    """Why a token is worth nothing for *asked*; "" if it may be worth something."""
    # A yes of the calling client's own person is used up at once, and is nothing to come back with.
    if found is None or found.caller != asked.caller or found.channel != "inbox":
        return "the confirmation token is none of this caller's"
    if asked.four_eyes and not found.four_eyes:
        return "somebody else has to confirm it now"
    return found.is_not_for(asked)


def _confirmed(call: Call, row: Approval, id: str) -> Call:
    call.trip.approval = id
    yes = Yes(id=row.id, caller=row.caller, thing=row.thing, pin=row.pin, fingerprint=row.fingerprint)
    return replace(call, yes=yes)


def _denied(asked: Asked, row: Approval) -> ConfirmationDenied:
    said = f": {row.note}" if row.note else ""
    return ConfirmationDenied(f"a person was asked to confirm this call and said no{said}", rule=asked.rule)


def _without_anybody(asked: Asked, why: str) -> str:
    reason = f"{why}; " if why else ""
    if asked.four_eyes:
        mend = 'the operator has to put "inbox" into approvals.channels, as somebody else has to answer'
    else:
        mend = 'use a client that declares elicitation, or have the operator put "inbox" into approvals.channels'
    return f"{reason}a person has to confirm this call, and {_NOBODY}: {mend}"


def _can_answer_in_rounds(call: Call) -> bool:
    """Whether a stateless client can be asked in a round that takes nothing away from its server's own rounds."""
    params = call.params if call.target is None else call.target.params
    if call.method not in translate.MAY_ASK or "inputResponses" in params or "requestState" in params:
        return False
    declared = jsonrpc.value_of(modern.meta_of(params).get(modern.CLIENT_CAPABILITIES), dict) or {}
    return legacy.may_ask(declared, translate.ELICIT, {})


def _without_answer(call: Call) -> tuple[Call, Params]:
    """*call* as it was before we asked, and the answers that it brought: its server has asked nothing yet."""
    assert call.target is not None, "the resolve stage sets the target"
    raw = call.target.params.get("inputResponses")
    answers = {} if raw is None else jsonrpc.members(raw)
    target = replace(call.target, params=_bare(call.target.params))
    return replace(call, params=_bare(call.params), target=target), answers


def _bare(params: Params) -> Params:
    return {key: value for key, value in params.items() if key not in ("inputResponses", "requestState")}


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(int(at_s), UTC).isoformat().replace("+00:00", "Z")
