"""Operations for operators over HTTP: JSON in, JSON out, each for callers with the scopes that it names.

What they do is handed in (admin/actions.py); this file knows paths, bodies and refusals. Who asks has passed the door
and the reception like any client of MCP. Nothing here is done for a web page that nobody allowed: the door refuses
foreign origins, a POST has to be JSON, which no form sends, and a browser asks before it sends a DELETE.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar
from urllib.parse import parse_qsl

import jiter
import msgspec

from bascule.call import Caller
from bascule.edge import door, refusals
from bascule.edge.auth.identify import status_of
from bascule.edge.auth.reception import Reception
from bascule.edge.door import Refused, Rules
from bascule.edge.replies import JSON, respond
from bascule.edge.visit import Visit
from bascule.errors import BasculeError, Gone, InvalidParams, InvalidRequest, Misused, ParseFailed, Refusal, ScopeDenied
from bascule.policy.scopes import OPERATORS
from bascule.wire import jsonrpc

MAX_BODY_BYTES: Final = 64 * 1024
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_STORE: Final = (b"cache-control", b"no-store")
_UNDER: Final = "/api"
_ELSEWHERE: Final = frozenset({"approvals", "cache", "journal"})  # are found without it as well, as they were at first

Said: TypeAlias = Mapping[str, Any]


class Operation(Protocol):
    """What can be asked for: a method, and a path whose parts in braces are ids (admin/actions.py)."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def takes(self) -> Collection[str]:
        """What may be said in the query, or of a POST in the body; anything else is refused."""
        ...


Kind = TypeVar("Kind", bound=Operation)


class Operations(Protocol[Kind]):
    """All that can be asked for, and whoever does it."""

    @property
    def operations(self) -> Sequence[Kind]: ...

    def check(self, operation: Kind, caller: Caller) -> None:
        """Raise ScopeDenied for who may not ask for it."""
        ...

    async def perform(self, operation: Kind, caller: Caller, said: Said) -> Any:
        """What it answers, as JSON. None: there is no such thing."""
        ...


class Rest(Generic[Kind]):
    """Finds the operation of a request, checks what it brings, and answers it."""

    def __init__(self, actions: Operations[Kind]) -> None:
        self._actions = actions
        self._operations = [(tuple(path.split("/")), each) for each in actions.operations for path in _paths(each.path)]
        self._roots = frozenset(parts[1] for parts, _ in self._operations)

    def knows(self, path: str) -> bool:
        """Whether anything can be asked for at *path*, in any method."""
        # Almost every request is one of MCP, and has no time for this.
        return path[1:].partition("/")[0] in self._roots and bool(self._at(path))

    async def serve(
        self, method: str, path: str, query: bytes, visit: Visit, rules: Rules, reception: Reception
    ) -> None:
        """Answer one request to a *path* that is known here. Raises Refused, or one of our errors."""
        found = self._at(path)
        operation, ids = found.get("GET" if method == "HEAD" else method, (None, {}))
        if operation is None:
            raise Refused(405, f"{path} takes {_methods(found)}", [(b"allow", _methods(found).encode())])
        said: Said = {}
        if self._is_open(operation, visit.caller):
            if not door.accepts(visit.head, "application/json"):
                raise Refused(406, "Accept has to list application/json")
            said = await _said(operation, method, query, visit, rules)
        try:
            answer = await self._actions.perform(operation, visit.caller, {**said, **ids})
        except BasculeError as error:
            await _refuse(error, visit, reception)
            return
        if answer is None:
            raise Refused(404, "there is nothing of that id; it may be over, or belong to another gateway")
        body = msgspec.json.encode(answer)
        await respond(visit.send, 200, [JSON, _NO_STORE, *visit.extra], b"" if method == "HEAD" else body)

    def _is_open(self, operation: Kind, caller: Caller) -> bool:
        """Whether *caller* may ask for it. Raises ScopeDenied for who may not look.

        Who may not change something is refused by `perform`, which puts it on record under their name.
        """
        try:
            self._actions.check(operation, caller)
        except ScopeDenied:
            if operation.method == "GET":
                raise
            return False
        return True

    def _at(self, path: str) -> dict[str, tuple[Kind, Mapping[str, str]]]:
        """(operation, ids) by method, of all that is at *path*."""
        parts = path.split("/")
        found: dict[str, tuple[Kind, Mapping[str, str]]] = {}
        for wanted, operation in self._operations:
            ids = _ids(wanted, parts)
            if ids is not None:
                found.setdefault(operation.method, (operation, ids))
        return found


def _paths(path: str) -> Sequence[str]:
    """Where an operation is found."""
    without = path.removeprefix(_UNDER)
    return [path, without] if without.split("/")[1] in _ELSEWHERE else [path]


def _ids(wanted: Sequence[str], parts: Sequence[str]) -> Mapping[str, str] | None:
    """The ids in *parts*, None if they are not what is *wanted*. Nothing is decoded or normalised."""
    if len(wanted) != len(parts):
        return None
    ids = {}
    for name, part in zip(wanted, parts, strict=True):
        if name.startswith("{"):
            if not _ID.fullmatch(part):
                return None
            ids[name[1:-1]] = part
        elif name != part:
            return None
    return ids


def _methods(found: Collection[str]) -> str:
    return ", ".join(sorted({*found, *(["HEAD"] if "GET" in found else [])}))


# ---- what is said


async def _said(operation: Operation, method: str, query: bytes, visit: Visit, rules: Rules) -> Said:
    """What the query says, or the body of a POST. Raises Refused, ParseFailed, InvalidRequest, InvalidParams."""
    body = await _body(visit, rules)
    if method == "POST":
        if query:
            raise InvalidParams("what is to be done stands in the body, not in the query")
        said = _object(body)
    elif body:
        raise InvalidRequest(f"a {method} has no body")
    else:
        said = _queried(query)
    unknown = sorted(said.keys() - set(operation.takes))
    if unknown:
        known = f"it takes {', '.join(sorted(operation.takes))}" if operation.takes else "it takes nothing"
        raise InvalidParams(f"{unknown[0]!r} means nothing here; {known}")
    return said


async def _body(visit: Visit, rules: Rules) -> bytes:
    try:
        return await visit.body(msgspec.structs.replace(rules, max_body_bytes=MAX_BODY_BYTES))
    except Refused as refused:
        if refused.status != 413:
            raise
        raise Refused(413, f"the body is larger than {MAX_BODY_BYTES} bytes") from None


def _object(body: bytes) -> Said:
    if not body:
        return {}
    try:
        found = jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError as error:
        raise ParseFailed(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidRequest("the body is a JSON object")
    return found


def _queried(query: bytes) -> Said:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query.decode("ascii"), strict_parsing=True, errors="strict", max_num_fields=16)
    except ValueError as error:  # of its encoding too
        raise InvalidParams("the query is NAME=VALUE, joined by &") from error
    said = dict(pairs)
    if len(said) != len(pairs):
        raise InvalidParams("the query says the same twice")
    return said


# ---- refusals


async def _refuse(error: BasculeError, visit: Visit, reception: Reception) -> None:
    operator = visit.caller.authority.covers(OPERATORS)
    body = jsonrpc.refusal(None, refusals.error_object(error, operator=operator))
    told = reception.headers_for(error, visit.resource)
    await respond(visit.send, _status(error), [JSON, _NO_STORE, *told, *visit.extra], body)


def _status(error: BasculeError) -> int:
    """The HTTP status of *error*: where MCP would answer 200 with an error inside, REST has a status of its own."""
    status = status_of(error)
    if status >= 400:
        return status
    match error:
        case Gone():
            return 410
        case Misused():
            return 409
        case Refusal():
            return 403
        case _:
            return 500
