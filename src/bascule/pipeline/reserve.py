"""`reserve`: what has to be on disk before a call goes out is there before it does, and its outcome before the reply.

For a call with a key: the right to be its one call. For a confirmed one: that the yes is used up. Where the audit
is strict: that it was meant to be made. All of it is one transaction, shared with whoever waits at the same moment.
"""

import asyncio
import contextlib
import random
import time
from typing import Final

import msgspec

from bascule.call import Call, Forward, Result, Target
from bascule.contract.model import Contract
from bascule.errors import BasculeError, ConfirmationRequired
from bascule.pipeline.fingerprint import fingerprint_of, pin_of
from bascule.pipeline.replay import Replay, round_given, round_of
from bascule.store.journal import Entry, Hold, Journal, Kept, Start, Wanted, Yes
from bascule.store.record import Record
from bascule.store.records import Records
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import NOTHING, Params
from bascule.wire.translate import failed as says_failed
from bascule.wire.wishes import KEY_META, TOKEN_META, may_be_said

_OURS: Final = frozenset({KEY_META, TOKEN_META})
_LAST_WORD_S: Final = 5.0  # how long a server may still answer a call whose client has gone (docs/reliability.md)


class Unfinished:
    """Calls that go on although nobody waits for them any more: their outcome has to be written down."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Result]] = set()

    def begin(self, task: "asyncio.Task[Result]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Cancel what still runs, and wait until all of it has been written down."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Reserve:
    """The last stage before the ways to a server: from here on a call may have been made."""

    def __init__(
        self,
        contract: Contract,
        records: Records,
        replay: Replay | None,
        unfinished: Unfinished,
        *,
        auditing: bool,
        passing_on: bool,
    ) -> None:
        """*replay*: None for what has no keys. *auditing*: the intent of every call goes to the audit first, not only
        of those with a key. *passing_on*: the server knows keys, and gets one that only says which call it is."""
        self._contract = contract
        self._pin = pin_of(contract)
        self._journal: Journal = records.journal
        self._boot = records.boot.id
        self._replay = replay
        self._unfinished = unfinished
        self._auditing = auditing
        self._passing_on = passing_on

    async def __call__(self, call: Call, forward: Forward) -> Result:
        replay = self._replay
        if replay is None or not call.wishes.key:
            if not self._auditing and call.yes is None:
                return await forward(call)
            return await self._run(call, None, forward)
        # A task of its own: that the client leaves does not take the outcome away from the journal.
        task = asyncio.ensure_future(self._once(call, replay, forward))
        self._unfinished.begin(task)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                task.add_done_callback(_seen)
                asyncio.get_running_loop().call_later(_LAST_WORD_S, task.cancel)
            raise

    async def _once(self, call: Call, replay: Replay, forward: Forward) -> Result:
        wanted = Wanted(
            caller=call.caller.name,
            key=call.wishes.key,
            fingerprint=fingerprint_of(call),
            method=call.method,
            thing=self._contract.id,
            pin=self._pin,
            trace_id=call.trace_id,
            round=round_of(call),
            rerun=replay.rerun,
        )
        held = await self._journal.reserve(wanted)
        if isinstance(held, Entry):
            told = await replay.told(call, held)
            return await self._once(call, replay, forward) if told is None else told
        call.trip.record = held.id
        return await self._run(call, held, forward)

    async def _run(self, call: Call, hold: Hold | None, forward: Forward) -> Result:
        has_started = has_answer = False
        try:
            await self._start(call, hold)
            has_started = True
            result = await forward(self._outgoing(call, hold))
            has_answer = True
        except BasculeError as error:
            if hold is not None:
                error.details["journal"] = hold.id
            raise
        finally:
            if not has_answer:
                # A yes that was not used up here may be somebody else's by now.
                await asyncio.shield(self._failed(call, hold, call.yes if has_started else None))
        return result if hold is None else await self._completed(call, hold, result)

    async def _start(self, call: Call, hold: Hold | None) -> None:
        intent = self._intent(call) if self._auditing or hold is not None else None
        started = await self._journal.start(
            Start(hold=hold, yes=call.yes, intent=intent, arguments=call.arguments if intent else None)
        )
        if not started:
            raise ConfirmationRequired(
                "the confirmation was used already, or has expired: ask again, without its token"
            )

    def _intent(self, call: Call) -> Record:
        call.trip.call_id = f"{random.getrandbits(128):032x}"
        return Record(
            kind="intent",
            at_us=time.time_ns() // 1000,
            call=call.trip.call_id,
            boot=self._boot,
            trace_id=call.trace_id,
            caller=call.caller.name,
            proof=call.caller.proof,
            method=call.method,
            thing=self._contract.id,
            version=self._contract.version,
            approval=call.trip.approval,
            journal=call.trip.record,
        )

    def _outgoing(self, call: Call, hold: Hold | None) -> Call:
        """*call* without what was said to us alone: what a server does with a key of its own is not our client's."""
        assert call.target is not None, "the resolve stage sets the target"
        wishes, params = call.wishes, call.target.params
        passing_on = hold if self._passing_on else None
        raw = params.get("_meta", NOTHING)
        said = (wishes.key or wishes.token) and may_be_said(bytes(raw))
        if not said and passing_on is None:
            return call
        meta = {name: value for name, value in jsonrpc.members(raw).items() if name not in _OURS} if raw else {}
        return _with_key(call, params, meta, passing_on)

    async def _failed(self, call: Call, hold: Hold | None, yes: Yes | None) -> None:
        """Write down what is known of a call that brought no answer. What failed first is what the client hears."""
        with contextlib.suppress(BasculeError):  # then the row is held by nobody, and its outcome unknown
            if not call.trip.sent:
                if hold is not None or yes is not None:
                    await self._journal.release(hold, yes)
            elif hold is not None:
                await self._journal.lose(hold)

    async def _completed(self, call: Call, hold: Hold, result: Result) -> Result:
        if self._passing_on and (result.refused or says_failed(result.value)):
            # The server knows the key: sent again with it, it says whether that was done, or does it now.
            with contextlib.suppress(BasculeError):  # then the row is held by nobody, and may be made again as well
                await self._journal.release(hold)
            return result
        kept = Kept(result.value, result.refused, call.era.value)
        try:
            is_stored = await self._journal.complete(hold, kept, round_given(result))
        except BasculeError as error:
            warning = f"the call was made, but its result could not be recorded: {error.message}"
        else:
            if is_stored:
                return result
            warning = "the call was made, but its row in the journal had been given to another attempt"
        return msgspec.structs.replace(result, warnings=(*result.warnings, warning))


def _with_key(call: Call, params: Params, meta: Params, hold: Hold | None) -> Call:
    """*call* with that `_meta`, and with the key that its server knows it by, if there is one."""
    assert call.target is not None, "the resolve stage sets the target"
    if hold is not None:
        # Not the client's own: two callers may choose the same, and to the server we are one.
        meta = {**meta, KEY_META: jsonrpc.encode(hold.lookup.hex())}
    target = Target(call.target.upstream, jsonrpc.replaced(params, meta_=meta))
    return msgspec.structs.replace(call, target=target)


def _seen(task: "asyncio.Task[Result]") -> None:
    """Nobody waits for it any more; its outcome is in the journal."""
    if not task.cancelled():
        task.exception()
