"""Everything that a running gateway can be asked for: by REST (edge/rest.py) and in the console alike.

An operation says who may ask for it and what it takes; `Actions` is the one place where that is checked, and where it
is put on record that it was done. What it does is a function of admin/, which the command line calls as well.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from bascule.call import Caller
from bascule.errors import BasculeError, InvalidParams, ScopeDenied
from bascule.policy.scopes import OPERATORS, covers
from bascule.store.audit import Audit
from bascule.store.record import Record

Said: TypeAlias = Mapping[str, Any]
Run: TypeAlias = Callable[[Caller, Said], Awaitable[Any]]
Type: TypeAlias = Literal["string", "integer", "boolean", "object", "array", "any"]

# How a caller is known who is somebody: a shared secret, or nothing at all, is no name to put under a decision.
_PROOFS: Final = frozenset({"key", "token", "introspection", "certificate", "console"})
_TRUTH: Final = {"true": True, "false": False}
_NAMED_BY: Final = ("tool", "thing", "server", "caller", "id")  # what an operation is about, as the audit has it
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}
LARGEST: Final = 2**31 - 1  # nothing here is counted further


class Takes(msgspec.Struct, frozen=True):
    """One thing that may be said: in the query of a GET or DELETE, in the body of a POST."""

    type: Type = "string"
    about: str = ""
    choices: tuple[str, ...] = ()
    needed: bool = False
    least: int = 1  # of an integer


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What can be asked for. The parts of its path in braces are ids."""

    name: str  # such as `reviews.approve`
    method: str
    path: str
    about: str  # one sentence
    run: Run  # with the ids and what was said; its answer is JSON. None: there is no such thing
    scopes: tuple[str, ...] = OPERATORS  # all are needed
    takes: Mapping[str, Takes] = {}
    named: bool = False  # only for callers that are known by name, and hold its scopes by theirs
    recorded: bool = False  # it puts itself on record, with more than is known here


class Actions:
    """All operations of a gateway."""

    def __init__(self, operations: Sequence[Operation], audit: Audit | None) -> None:
        self.operations = operations
        self._audit = audit
        self._by_name = {each.name: each for each in operations}

    def __getitem__(self, name: str) -> Operation:
        return self._by_name[name]

    def check(self, operation: Operation, caller: Caller) -> None:
        """Raise ScopeDenied for who may not ask for *operation*."""
        scopes, authority = operation.scopes, caller.authority
        if not authority.covers(scopes):
            raise ScopeDenied(f"this is for operators: it needs the scope {' and '.join(scopes)}", scopes)
        # `*` is for tools. Where callers are told apart it steers nothing here, and shows only how things stand.
        if not operation.named and (caller.proof not in _PROOFS or scopes in ((), OPERATORS)):
            return
        if caller.proof not in _PROOFS:
            raise ScopeDenied(
                "this is decided under a name: send a key, a token or a certificate of your own, none that all share",
                scopes,
            )
        # An agent that may call everything must not decide what becomes of its own calls.
        if not all(any(_is_of(mine, each) and covers(mine, each) for mine in authority.held) for each in scopes):
            raise ScopeDenied(f"this needs {' and '.join(scopes)} by name; a * is not enough", scopes)

    async def perform(self, operation: Operation, caller: Caller, said: Said) -> Any:
        """What *operation* answers; None where there is no such thing. Raises what it refuses, which is recorded."""
        outcome, code = "internal", 0  # what a fault of ours leaves: nobody knows whether it was done
        try:
            self.check(operation, caller)
            answer = await operation.run(caller, taken(operation, said))
            outcome = "not_found" if answer is None else "done"
            return answer
        except BasculeError as error:
            outcome, code = error.kind, error.code
            raise
        finally:
            if operation.method != "GET" and not (operation.recorded and outcome == "done"):
                self._record(operation, caller, said, outcome, code)

    def _record(self, operation: Operation, caller: Caller, said: Said, outcome: str, code: int) -> None:
        if self._audit is None:
            return
        record = Record(
            kind="action",
            at_us=time.time_ns() // 1000,
            caller=caller.name,
            proof=caller.proof,
            method=operation.name,
            thing=next((str(said[name]) for name in _NAMED_BY if said.get(name)), ""),
            decision="allow" if outcome == "done" else "deny",
            outcome=outcome,
            code=code,
            note=str(said.get("note", "")),
        )
        self._audit.post(record)


def taken(operation: Operation, said: Said) -> Said:
    """*said* as *operation* takes it: a query can only say texts. Raises InvalidParams for what it does not take."""
    missing = [name for name, wanted in operation.takes.items() if wanted.needed and name not in said]
    if missing:
        raise InvalidParams(f"`{missing[0]}` has to be said: {operation.takes[missing[0]].about}")
    return {
        name: value if name not in operation.takes else _value(name, value, operation.takes[name])
        for name, value in said.items()
    }


def _value(name: str, value: Any, wanted: Takes) -> Any:
    if wanted.type == "any":
        return value
    if isinstance(value, str) and wanted.type == "integer" and value.isascii() and value.isdigit() and len(value) < 17:
        value = int(value)
    if isinstance(value, str) and wanted.type == "boolean":
        value = _TRUTH.get(value, value)
    if not isinstance(value, _TYPES[wanted.type]) or (wanted.type == "integer" and isinstance(value, bool)):
        raise InvalidParams(f"`{name}` is {_WORDS[wanted.type]}")
    if isinstance(value, int) and wanted.type == "integer" and not wanted.least <= value <= LARGEST:
        raise InvalidParams(f"`{name}` is a number from {wanted.least} on")
    if wanted.choices and value not in wanted.choices:
        raise InvalidParams(f"`{name}` is one of {', '.join(wanted.choices)}")
    return value


_WORDS: Final = {
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "a JSON object",
    "array": "a list",
}


def _is_of(granted: str, wanted: str) -> bool:
    """Whether *granted* says of which part of Bascule it is."""
    return granted.partition(":")[0] == wanted.partition(":")[0]
