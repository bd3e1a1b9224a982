"""Many callers on one pipe: ids of our own, each answer to the call it belongs to, and to no other.

Knows JSON-RPC and nothing of processes; `write` is whatever carries a line to the server.
"""

import asyncio
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

from msgspec import Raw

from bascule.call import BASCULE, Call, Result
from bascule.errors import BasculeError, InvalidParams, Unavailable, UpstreamBrokeProtocol
from bascule.upstream.asks import Asks
from bascule.upstream.base import answer_to, restored_token, result_of, with_token
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Notification, Params, Request, Response

# An answer whose id comes first; whatever follows the id tells it from a question of the server's.
_ANSWER: Final = re.compile(
    rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*([0-9]{1,19})\s*,'
    rb'\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"(?:result|error)"'
)
# Members that stand before a method: the line is no answer at all.
_NO_ANSWER: Final = re.compile(
    rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*|"id"\s*:\s*(?:[0-9]+|"[^"]*")\s*,\s*)*"(?:method|params)"'
)


_MOST_GARBAGE: Final = 100  # lines in a row that are no JSON-RPC; banners and stack traces are shorter


class Host(Protocol):
    """Who deals with what a server sends outside of any call. *sole* is the only call that it can be about, if any."""

    def heard(self, method: str, params: Params, sole: Call | None) -> None: ...

    async def asked(self, method: str, params: Params, sole: Call | None) -> Result: ...


class _Pending:
    __slots__ = ("answer", "asks", "call", "token")

    def __init__(self, call: Call, token: Raw | None, answer: "asyncio.Future[Result]") -> None:
        self.call = call
        self.asks = 0  # questions of this call that wait for their answers
        self.token = token
        self.answer = answer


class Multiplexer:
    """Requests out, answers in, in whatever order the server likes."""

    def __init__(self, name: str, write: Callable[[bytes], None], host: Host) -> None:
        self._name = name
        self._write = write
        self._host = host
        self._next_id = 0
        self._pending: dict[int, _Pending] = {}
        self._asked_last: _Pending | None = None
        self._asks = Asks()
        self._garbage = 0  # lines since the last one that could be read
        self.dropped: Counter[str] = Counter()

    @property
    def in_flight(self) -> int:
        """Calls of clients that wait for their answer; subscriptions do not count."""
        return sum(1 for _ in self._client_calls())

    @property
    def busy(self) -> bool:
        """Whether a client waits for anything, be it news."""
        return any(pending.call.caller is not BASCULE for pending in self._pending.values())

    async def request(self, call: Call, params: Params) -> Result:
        """Send a request and wait for its answer. Cancelling it cancels the request at the server.

        Raises UpstreamBrokeProtocol for an answer that is none, Unavailable when the server ends.
        """
        id = self._next_id = self._next_id + 1
        params, token = with_token(params, id)
        pending = _Pending(call, token, asyncio.get_running_loop().create_future())
        self._pending[id] = pending
        try:
            self._write(jsonrpc.request(id, call.method, params))
            return await pending.answer
        except asyncio.CancelledError:
            self._cancel(id, call.method)
            raise
        finally:
            self._pending.pop(id, None)

    def tell(self, method: str, params: Params | None = None) -> None:
        self._write(jsonrpc.notification(method, params))

    def _cancel(self, id: int, method: str) -> None:
        # The handshake cannot be cancelled (MCP 2025-11-25, Cancellation, "Behavior Requirements").
        if method in (legacy.INITIALIZE, modern.DISCOVER):
            return
        try:
            self.tell(
                legacy.CANCELLED, {"requestId": jsonrpc.encode(id), "reason": jsonrpc.encode("cancelled by the client")}
            )
        except BasculeError:
            pass  # the server is gone; there is nothing left to cancel

    def fail(self, error: BasculeError) -> None:
        """The server has ended: every call in flight fails with *error*, every question is dropped."""
        self._fail_calls(error)
        self._asks.stop()

    def _fail_calls(self, error: BasculeError) -> None:
        pending, self._pending = self._pending, {}
        for each in pending.values():
            _settle(each, error)

    def abandon(self, id: Raw, error: BasculeError) -> None:
        """The request *id* could not be delivered: only it fails, with *error*."""
        if pending := self._by_own_id(id):
            _settle(pending, error)

    # ---- what the server sends

    def receive(self, line: bytes) -> None:
        """Take one line of the server. Never raises: a bad line is counted and dropped."""
        try:
            message = jsonrpc.read(line)
        except ValueError as error:
            if line.startswith(BOM_UTF8):  # the first thing that a .NET server writes to its console
                self.receive(line.removeprefix(BOM_UTF8))
            else:
                self._unusable(line, str(error))
            return
        self._garbage = 0
        match message:
            case Response():
                self._answered(message)
            case Notification():
                try:
                    self._notified(message)
                except InvalidParams:
                    self.dropped["malformed_notification"] += 1
            case Request():
                self._asked(message)

    def _unusable(self, line: bytes, why: str) -> None:
        """Drop a line that cannot be read; fail the call that must have been meant, if there is no doubt.

        Banners and logs on stdout are common and harmless, so only a line that tries to be JSON-RPC
        counts, and only if it names its call or one call waits: that would wait for its whole deadline.
        """
        self.dropped["not_json_rpc"] += 1
        self._garbage += 1
        if self._garbage > _MOST_GARBAGE:
            self._garbage = 0
            self._fail_calls(UpstreamBrokeProtocol("the server prints something else than JSON-RPC").at(self._name))
            return
        if not line.lstrip().startswith((b"{", b"[")) or b'"jsonrpc"' not in line or _NO_ANSWER.match(line):
            return
        if b'"result"' not in line and b'"error"' not in line:
            return
        named = _ANSWER.match(line)
        key = int(named[1]) if named else next(iter(self._pending)) if len(self._pending) == 1 else 0
        if pending := self._pending.pop(key, None):
            _settle(pending, UpstreamBrokeProtocol(f"the server's answer cannot be read: {why}").at(self._name))

    def overlong(self, head: bytes) -> None:
        """A line was too long to keep; *head* is its start. The call that it answers fails.

        If that cannot be told, because the result comes before the id, every call in flight fails:
        one of them has lost its answer and would wait for nothing.
        """
        self.dropped["too_long"] += 1
        if _NO_ANSWER.match(head):
            return
        message = "the server's answer is larger than max_message_bytes"
        error = UpstreamBrokeProtocol(message, too_large=True).at(self._name)
        named = _ANSWER.match(head)
        for key in [int(named[1])] if named else list(self._pending):
            if pending := self._pending.pop(key, None):
                _settle(pending, error)

    def _answered(self, response: Response) -> None:
        id = bytes(response.id)
        if id in (b"", b"null") and response.error:
            self.dropped["error_without_id"] += 1
            if len(self._pending) == 1:  # about what else, than the only thing we asked
                _, only = self._pending.popitem()
                _settle(only, Result(response.error, refused=True))
            return
        # Only the very digits that we sent: `"7"` or `7.0` is somebody's guess, not an answer to 7.
        pending = self._pending.pop(int(id), None) if id.isdigit() and len(id) < 20 else None
        if pending is None:
            self.dropped["unmatched_answer"] += 1
        else:
            try:
                _settle(pending, result_of(pending.call, response, self._name))
            except UpstreamBrokeProtocol as error:
                _settle(pending, error)

    def _notified(self, message: Notification) -> None:
        method, params = message.method, message.params
        if method == legacy.PROGRESS:
            self._progressed(params)
        elif method == legacy.CANCELLED:
            self._withdrawn(params)
        elif (pending := self._subscriber(params)) is not None:
            pending.call.client.notify(method, modern.retag(params, pending.call.id))
        else:
            self._host.heard(method, params, self._sole())

    def _progressed(self, params: Params) -> None:
        pending = self._by_own_id(params.get("progressToken"))
        if pending is None or pending.token is None:
            self.dropped["unmatched_progress"] += 1
        else:
            pending.call.client.notify(legacy.PROGRESS, restored_token(params, pending.token))

    def _withdrawn(self, params: Params) -> None:
        """The server gives up a question it asked, or ends a subscription."""
        raw = params.get("requestId", jsonrpc.NOTHING)
        if self._asks.withdraw(raw):
            return
        if (pending := self._by_own_id(raw)) and pending.call.method == modern.LISTEN:
            _settle(pending, Unavailable("the server ended the subscription").at(self._name))

    def _subscriber(self, params: Params) -> _Pending | None:
        meta = params.get("_meta")
        if meta is None or modern.SUBSCRIPTION_ID.encode() not in bytes(meta):
            return None
        return self._by_own_id(modern.meta_of(params).get(modern.SUBSCRIPTION_ID))

    def _by_own_id(self, raw: Raw | None) -> _Pending | None:
        id = bytes(raw) if raw else b""
        return self._pending.get(int(id)) if id.isdigit() and len(id) < 20 else None

    def _asked(self, message: Request) -> None:
        # Whose it is is settled now, before the server says more.
        owner = self._owner()
        if refusal := self._asks.begin(message, partial(self._answer, owner), partial(self._no_longer_asks, owner)):
            self._reply(refusal)
        elif owner is not None:
            owner.asks += 1
            self._asked_last = owner

    async def _answer(self, owner: _Pending | None, message: Request) -> None:
        sole = owner.call if owner else None
        self._reply(await answer_to(message, lambda: self._host.asked(message.method, message.params, sole)))

    def _no_longer_asks(self, owner: _Pending | None) -> None:
        if owner is not None:
            owner.asks -= 1

    def _reply(self, line: bytes) -> None:
        try:
            self._write(line)
        except BasculeError:
            pass  # the server ended, or stopped reading, while its question was being answered

    def _sole(self) -> Call | None:
        """The call that an untagged message must belong to."""
        owner = self._owner()
        return owner.call if owner else None

    def _owner(self) -> _Pending | None:
        """The only call that a client has in flight; of several of one session, the only one that is worked at.

        One whose question is open waits for its answer. If all do, the last to have asked asks again.
        Sessions of stateless clients choose themselves: they know which of their calls can be asked.
        """
        calls = list(self._of_clients())
        if len(calls) == 1:
            return calls[0]
        session = calls[0].call.session if calls else None
        if session is None or session.family != session.id or any(each.call.session is not session for each in calls):
            return None
        working = [each for each in calls if not each.asks]
        if working:
            return working[0] if len(working) == 1 else None
        return self._asked_last if self._asked_last in calls else None

    def _client_calls(self) -> Iterator[Call]:
        return (pending.call for pending in self._of_clients())

    def _of_clients(self) -> Iterator[_Pending]:
        for pending in self._pending.values():
            if pending.call.caller is not BASCULE and pending.call.method != modern.LISTEN:
                yield pending

    def sessions_in_flight(self) -> set[str]:
        """Ids of the sessions that have a call in flight."""
        return {call.session.id for call in self._client_calls() if call.session is not None}


def _settle(pending: _Pending, outcome: Result | BasculeError) -> None:
    if pending.answer.done():
        return  # cancelled at the same moment
    if isinstance(outcome, Result):
        pending.answer.set_result(outcome)
    else:
        pending.answer.set_exception(outcome)
