"""`replay`: a call whose key has been used is answered by what became of the first one, and never run again by chance.

Stands after authorization and inside the check of results: who sends a key again must still be allowed to, and
gets nothing that would be held back today. Nobody is asked again, and nothing is paid again.
Source: docs/reliability.md; draft-ietf-httpapi-idempotency-key-header.
"""

import asyncio
import hashlib
from typing import Final

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract
from bascule.errors import InFlight, InvalidParams, KeyMismatch, OutcomeUnknown, Unavailable
from bascule.pipeline.fingerprint import fingerprint_of
from bascule.store.journal import Entry, Journal, Kept
from bascule.wire import jsonrpc, translate
from bascule.wire.versions import Era

_RETRY_AFTER_S: Final = 1.0


class Replay:
    """Answers from the journal what it can; the `reserve` stage asks it too, for calls that lost a race."""

    def __init__(self, contract: Contract, journal: Journal | None, *, rerun: bool) -> None:
        """*rerun*: a call of unknown outcome may be made again. *journal*: None where no records are kept."""
        self._contract = contract
        self._journal = journal
        self.rerun = rerun

    async def __call__(self, call: Call, forward: Forward) -> Result:
        key = call.wishes.key
        if not key:
            if self._contract.require_key:
                raise InvalidParams(
                    f"{self._contract.id} is only called with an idempotency key: send the Idempotency-Key header,"
                    ' or _meta["dev.bascule/idempotencyKey"]'
                )
            return await forward(call)
        if self._journal is None:
            raise Unavailable("keys are not kept here: the operator has to set state_dir")
        entry = await self._journal.find(call.caller.name, key)
        if entry is not None:
            result = await self.told(call, entry)
            if result is not None:
                return result
        return await forward(call)

    async def told(self, call: Call, entry: Entry) -> Result | None:
        """What became of the call of the same key; None if *call* may go on in its place.

        Raises KeyMismatch, InFlight, OutcomeUnknown.
        """
        call.trip.record = entry.id
        if entry.fingerprint != fingerprint_of(call):
            raise KeyMismatch(
                "this idempotency key was used for another call: take a new key for other arguments", journal=entry.id
            )
        if entry.state in ("RESERVED", "DISPATCHED") and call.wishes.wait_s:
            found = await self._awaited(call, entry)
            if found is None:
                return None
            entry = found
        match entry.state:
            case "COMPLETED":
                return await self._replayed(call, entry)
            case "AWAITING_INPUT":
                return await self._asked_again(call, entry)
            case "UNKNOWN" if self.rerun:
                return None
            case "UNKNOWN":
                raise _unknown(entry)
            case _:
                raise _in_flight("the same call is still running: wait, and send it again with the same key", entry)

    async def _awaited(self, call: Call, entry: Entry) -> Entry | None:
        """The row once the call has ended, or the wait has; None if the call turned out not to have been sent."""
        assert self._journal is not None, "there is an entry"
        loop = asyncio.get_running_loop()
        until = loop.time() + call.wishes.wait_s
        found: Entry | None = entry
        while found is not None and found.state in ("RESERVED", "DISPATCHED") and loop.time() < until:
            await self._journal.changed(call.caller.name, call.wishes.key, until - loop.time())
            found = await self._journal.find(call.caller.name, call.wishes.key)
        return found

    async def _replayed(self, call: Call, entry: Entry) -> Result:
        assert self._journal is not None, "there is an entry"
        kept = await self._journal.result(entry)
        if kept is None:
            raise OutcomeUnknown(
                f"the call was made and answered, but its result of {entry.result_bytes} bytes was too large to be"
                " kept; it is not made again",
                journal=entry.id,
                state=entry.state,
                reason="result_not_retained",
            )
        call.trip.replayed = True
        return _in_era(call, kept)

    async def _asked_again(self, call: Call, entry: Entry) -> Result | None:
        """The question that the call waits with, for a client that has lost it; None for one with its answers."""
        if call.session is not None:  # it could not read it, and the server's state would go out unsealed
            raise _in_flight("the call waits for an answer that only a client without a session can give", entry)
        brought = round_of(call)
        if brought is None:
            return await self._replayed(call, entry)
        if brought != entry.round:
            raise _in_flight("the call waits for the answers to a later question than these", entry)
        return None


def round_of(call: Call) -> bytes | None:
    """Which round of a call that was asked something this is; None for the first (SHA-256 of its `requestState`)."""
    assert call.target is not None, "the resolve stage sets the target"
    params = call.target.params
    if "requestState" not in params and "inputResponses" not in params:
        return None
    return hashlib.sha256(bytes(params.get("requestState", b""))).digest()


def round_given(result: Result) -> bytes | None:
    """Which round comes next, if *result* is a question; None for an answer."""
    if result.refused or b"input_required" not in bytes(result.value):
        return None
    members = jsonrpc.members(result.value)
    if jsonrpc.text(members.get("resultType")) != "input_required":
        return None
    return hashlib.sha256(bytes(members.get("requestState", b""))).digest()


def _in_era(call: Call, kept: Kept) -> Result:
    """The result as the client of this call can read it, who may speak another era than the one who made it first."""
    value = kept.value
    if kept.era == call.era.value:
        return Result(value, kept.refused)
    if kept.refused:
        other = (
            translate.error_for_modern(value)
            if call.era is Era.MODERN
            else translate.error_for_legacy(call.method, value)
        )
        return Result(other, refused=True)
    if call.era is Era.MODERN:
        return Result(translate.result_for_modern(call.method, value))
    return Result(translate.result_for_legacy(call.method, value, call.revision))


def _in_flight(message: str, entry: Entry) -> InFlight:
    refusal = InFlight(message, journal=entry.id)
    refusal.retry_after_s = _RETRY_AFTER_S
    return refusal


def _unknown(entry: Entry) -> OutcomeUnknown:
    return OutcomeUnknown(
        "the call was sent, and nobody knows what became of it; it is not made again by itself. Find out at the"
        f" server, then have an operator say it: bascule journal resolve {entry.id}",
        journal=entry.id,
        state=entry.state,
    )
