"""What a person can see and say of calls with an idempotency key: for the command line and for REST."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, get_args

import jiter
import msgspec
from msgspec import Raw

from bascule.admin.keys import date_of
from bascule.errors import InFlight, InvalidParams, InvalidRequest
from bascule.store.journal import Entry, Journal, Kept, State
from bascule.store.record import Record
from bascule.wire import jsonrpc
from bascule.wire.versions import Era

STATES: Final[Sequence[str]] = get_args(State)
MOST_LISTED: Final = 1000
MAX_NOTE: Final = 500  # characters

_MEANINGS: Final[Mapping[State, str]] = {
    "RESERVED": "a process is about to make the call; nothing has been sent",
    "DISPATCHED": "the call has been sent, and a process waits for the answer now",
    "AWAITING_INPUT": "the server has asked something, and the call waits for its client's answer",
    "COMPLETED": "the server has answered; the same key gets the same answer",
    "UNKNOWN": "the call was sent, nobody waits for its answer any more, and nobody knows whether it was done",
}


class Posts(Protocol):
    """The audit (store/audit.py): what is posted is written with the next transaction, in order."""

    def post(self, record: Record, arguments: bytes | None = None) -> None: ...


class NotUnknown(InvalidRequest):
    """What became of the call is known already."""

    http = 409


class By(msgspec.Struct, frozen=True):
    """Who says what became of a call."""

    name: str
    proof: str  # how that is known: as callers are, or "shell"


async def list_(journal: Journal, *, state: str | None, caller: str | None, most: int) -> list[dict[str, Any]]:
    """The newest first. Raises InvalidParams for a state that there is not, Unavailable."""
    found = await journal.list_(state=_state_of(state), caller=caller, most=max(1, min(most, MOST_LISTED)))
    return [report(entry) for entry in found]


def report(entry: Entry) -> dict[str, Any]:
    """What may be known of a call, in JSON: never its key, its arguments or its result."""
    return {
        "id": entry.id,
        "state": entry.state,
        "tool": entry.thing,
        "method": entry.method,
        "caller": entry.caller,
        "trace_id": entry.trace_id,
        "began": date_of(entry.created_at_s),
        "changed": date_of(entry.changed_at_s),
        "running": is_running(entry),
        "refused": entry.refused,
        "result_bytes": entry.result_bytes,
        "result_kept": entry.has_result,
        "fingerprint": entry.fingerprint.hex(),
        "definition": entry.pin.hex(),
        "note": entry.note,
        "meaning": _MEANINGS[entry.state],
        "next": next_steps(entry),
    }


def is_running(entry: Entry) -> bool:
    """Whether a process that lives works at it: a row that a dead one left behind counts as UNKNOWN, or as none."""
    return entry.state in ("RESERVED", "DISPATCHED")


def next_steps(entry: Entry) -> list[str]:
    """What to do, step by step; nothing where nothing is to be done."""
    match entry.state:
        case "UNKNOWN":
            server, when = entry.thing.partition("/")[0], date_of(entry.created_at_s)
            return [
                f"find out at {server} whether it was done: for {entry.caller}, at {when}, with trace {entry.trace_id}",
                f"it was not done: bascule journal resolve {entry.id} --never-ran"
                " (sent again with the same key, it is run)",
                f"it was done: write what the tool answered into a file, and bascule journal resolve {entry.id}"
                " --result FILE (sent again with the same key, it gets that)",
                "until then the same key is answered with 40902, and the call is not run again by itself; unless its"
                " contract says `idempotent: true`, or its server `deduplicates`: then the same key runs it again",
            ]
        case "RESERVED" | "DISPATCHED":
            return ["wait: a process works at it; when that ends without an answer, the state becomes UNKNOWN"]
        case "AWAITING_INPUT":
            return ["nothing: its client answers the question, or the call is forgotten in time"]
        case "COMPLETED" if not entry.has_result:
            return ["nothing: it was done, and is not run again; its result was too large to be kept for the same key"]
        case _:
            return []


async def resolve(
    journal: Journal,
    audit: Posts | None,
    entry: Entry,
    result: Kept | None,
    *,
    by: By,
    note: str = "",
) -> Entry:
    """Say what became of a call of unknown outcome: it brought *result*, or (None) it was never run; the row it was.

    Raises InFlight while it runs, NotUnknown in any other state, InvalidParams for a note that is too long.
    """
    if len(note) > MAX_NOTE:
        raise InvalidParams(f"a note has at most {MAX_NOTE} characters")
    _check_unknown(entry)
    if audit is not None:
        # Before, so that it goes into the very transaction: nothing is ever resolved that the audit does not know of.
        audit.post(_record(entry, result, by, note))
    said = f"{by.name}: {note}" if note else f"resolved by {by.name}"
    resolved = await journal.resolve(entry.id, result, said)
    if resolved is None:
        _check_unknown(await journal.get(entry.id))
        raise NotUnknown(f"{entry.id} is not of unknown outcome any more")
    return resolved


def _check_unknown(entry: Entry | None) -> None:
    if entry is None:
        raise NotUnknown("somebody else has resolved it meanwhile")
    if is_running(entry):
        raise InFlight(f"{entry.id} is still running: nobody can say yet what becomes of it", state=entry.state)
    if entry.state != "UNKNOWN":
        raise NotUnknown(f"{entry.id} is {entry.state}: only a call of unknown outcome can be resolved")


def _record(entry: Entry, result: Kept | None, by: By, note: str) -> Record:
    return Record(
        kind="journal",
        at_us=time.time_ns() // 1000,
        trace_id=entry.trace_id,
        caller=by.name,
        proof=by.proof,
        method=entry.method,
        thing=entry.thing,
        journal=entry.id,
        outcome="never_ran" if result is None else "answered",
        note=f"a call of {entry.caller}: {note}" if note else f"a call of {entry.caller}",
    )


def result_of(said: bytes | Mapping[str, Any]) -> Kept:
    """What a person says that a tool has answered. Raises InvalidParams for what no tool answers."""
    try:
        found = (
            jiter.from_json(said, catch_duplicate_keys=True, allow_inf_nan=False) if isinstance(said, bytes) else said
        )
    except ValueError as error:
        raise InvalidParams(f"the result is not JSON: {error}") from error
    problem = _problem(found)
    if problem:
        raise InvalidParams(f"the result is not one of a tool: {problem}")
    era = Era.MODERN if "resultType" in found else Era.LEGACY
    return Kept(Raw(bytes(jsonrpc.encode(found))), refused=False, era=era.value)


def _problem(found: Any) -> str:
    """Why *found* is no result of a tool (MCP, "Tool Result"), or ""."""
    if not isinstance(found, dict):
        return "it is no object"
    if "jsonrpc" in found or "result" in found:
        return "it is a whole message; take what stands in its `result`"
    content = found.get("content")
    if not isinstance(content, list) or not all(
        isinstance(each, dict) and isinstance(each.get("type"), str) for each in content
    ):
        return '`content` is an array of blocks such as {"type": "text", "text": "…"}; it may be empty'
    if not isinstance(found.get("isError", False), bool):
        return "`isError` is true or false"
    if not isinstance(found.get("structuredContent", {}), dict):
        return "`structuredContent` is an object"
    if found.get("resultType", "complete") != "complete":
        return "`resultType` is `complete`: a question is no outcome"
    return ""


def _state_of(said: str | None) -> State | None:
    if said is None:
        return None
    found: State
    for found in get_args(State):
        if said.upper() == found:
            return found
    raise InvalidParams(f"there is no state {said!r}; there are {', '.join(STATES)}")
