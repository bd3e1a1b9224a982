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

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract
from bascule.errors import BasculeError, ConfirmationRequired
from bascule.pipeline.fingerprint import fingerprint_of, pin_of
from bascule.pipeline.replay import Replay, round_given, round_of
from bascule.store.journal import Entry, Hold, Journal, Kept, Start, Wanted
from bascule.store.record import Record
from bascule.store.records import Records

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
        self, contract: Contract, records: Records, replay: Replay, unfinished: Unfinished, *, auditing: bool
    ) -> None:
        """*auditing*: the intent of every call goes to the audit first, not only of those with a key."""
        self._contract = contract
        self._pin = pin_of(contract)
        self._journal: Journal = records.journal
        self._boot = records.boot.id
        self._replay = replay
        self._unfinished = unfinished
        self._auditing = auditing

    async def __call__(self, call: Call, forward: Forward) -> Result:
        if not call.wishes.key:
            if not self._auditing and call.yes is None:
                return await forward(call)
            return await self._run(call, None, forward)
        # A task of its own: that the client leaves does not take the outcome away from the journal.
        task = asyncio.ensure_future(self._once(call, forward))
        self._unfinished.begin(task)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                task.add_done_callback(_seen)
                asyncio.get_running_loop().call_later(_LAST_WORD_S, task.cancel)
            raise

    async def _once(self, call: Call, forward: Forward) -> Result:
        wanted = Wanted(
            caller=call.caller.name,
            key=call.wishes.key,
            fingerprint=fingerprint_of(call),
            method=call.method,
            thing=self._contract.id,
            pin=self._pin,
            trace_id=call.trace_id,
            round=round_of(call),
            rerun=self._replay.rerun,
        )
        held = await self._journal.reserve(wanted)
        if isinstance(held, Entry):
            told = await self._replay.told(call, held)
            return await self._once(call, forward) if told is None else told
        call.trip.record = held.id
        return await self._run(call, held, forward)

    async def _run(self, call: Call, hold: Hold | None, forward: Forward) -> Result:
        try:
            await self._start(call, hold)
            result = await forward(call)
        except BaseException as error:
            await asyncio.shield(self._failed(call, hold, error))
            raise
        return result if hold is None else await self._completed(call, hold, result)

    async def _start(self, call: Call, hold: Hold | None) -> None:
        intent = self._intent(call) if self._auditing or hold is not None else None
        started = await self._journal.start(
            Start(hold=hold, yes=call.yes, intent=intent, arguments=arguments_of(call) if intent else None)
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

    async def _failed(self, call: Call, hold: Hold | None, error: BaseException) -> None:
        """Write down what is known of a call that brought no answer. What failed first is what the client hears."""
        with contextlib.suppress(BasculeError):  # then the row is held by nobody, and its outcome unknown
            if not call.trip.sent:
                if hold is not None or call.yes is not None:
                    await self._journal.release(hold, call.yes)
            elif hold is not None:
                await self._journal.lose(hold)
        if hold is not None and isinstance(error, BasculeError):
            error.details["journal"] = hold.id

    async def _completed(self, call: Call, hold: Hold, result: Result) -> Result:
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


def arguments_of(call: Call) -> bytes | None:
    """The arguments as their client wrote them."""
    raw = call.params.get("arguments")
    return None if raw is None else bytes(raw)


def _seen(task: "asyncio.Task[Result]") -> None:
    """Nobody waits for it any more; its outcome is in the journal."""
    if not task.cancelled():
        task.exception()
