"""One call at a server with a handshake, for a stateless client that answers its questions by calling again.

To the server this is the client (`call.Client`): it is asked and told while the call runs. Towards
the real client each round is a request of its own, which brings answers and takes questions away.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from msgspec import Raw

from bascule.call import Call, Result
from bascule.errors import BasculeError, InvalidParams, MethodNotFound, Unavailable, UpstreamBrokeProtocol
from bascule.wire import jsonrpc, legacy, modern, translate
from bascule.wire.jsonrpc import Params
from bascule.wire.translate import Question

# Questions that come close to one another are put in one round: it ends when none came for so long.
_QUIET_S: Final = 0.03
_LONGEST_BURST_S: Final = 0.3
_LAST_WORD_S: Final = 1.0  # how long a server whose questions were cancelled may take to end its call itself
_MAX_QUESTIONS: Final = 32  # of one call at one time
_MAX_VISITS: Final = 10  # times that one call may want URLs to be visited before it starts over

_CANCELLED: Final = Result(Raw(b'{"action":"cancel"}'))
_DECLINED: Final = Result(Raw(b'{"action":"decline"}'))


class _Open:
    """A question that the server waits for."""

    __slots__ = ("answer", "question")

    def __init__(self, question: Question, answer: "asyncio.Future[Result]") -> None:
        self.question = question
        self.answer = answer


class Host(Protocol):
    """The session at the server that the call runs in."""

    declared: Mapping[str, Any]  # the capabilities that it was opened with

    async def send(self, call: Call, client: "Conversation") -> Result:
        """Send the call; the answer is the server's, untranslated."""
        ...

    async def greeting(self) -> Raw: ...

    def hear(self, method: str, params: Params) -> None:
        """Take what is not about the call, such as changed lists."""
        ...

    def release(self, conversation: "Conversation") -> None:
        """The server has nothing to do with the call any more."""
        ...


class Conversation:
    """A call in its rounds. Ends with the server's result, or when nobody comes back for it."""

    def __init__(self, call: Call, host: Host) -> None:
        """*call* is the first round's."""
        self.caller = call.caller
        self._host = host
        self._call: Call | None = call  # the present round's request; None while nobody waits
        self._capabilities = host.declared
        self.may_ask = may_be_asked(call, host.declared)
        self._open: dict[str, _Open] = {}
        self._asked = asyncio.Event()
        self._next_key = 0
        self._undeclared: dict[str, Any] = {}  # capabilities that the server turned out to need
        self._work: asyncio.Future[Result] | None = None

    @property
    def parked(self) -> bool:
        """Whether the client is away with the server's questions."""
        return self._call is None

    # ---- towards the server: call.Client

    def notify(self, method: str, params: Params) -> None:
        if method in legacy.LIST_CHANGED or method == legacy.UPDATED:
            self._host.hear(method, params)
            return
        call = self._call
        if call is None:
            return  # between two rounds nobody listens
        meta = modern.meta_of(call.params)
        if method == legacy.PROGRESS and "progressToken" in meta:
            call.client.notify(method, {**params, "progressToken": meta["progressToken"]})
        elif method == legacy.LOG:
            wanted = jsonrpc.text(meta.get(modern.LOG_LEVEL))
            if wanted in legacy.LEVELS and legacy.reaches(params.get("level"), wanted):
                call.client.notify(method, params)

    async def ask(self, method: str, params: Params) -> Result:
        """Put a question to the client, in the present round or the next.

        What the client did not declare is declined on its behalf: a process that serves many is told
        that everything can be asked, and can often do without. If it cannot, see `_settled`.
        """
        if method not in legacy.ASKS:
            raise MethodNotFound(f"a stateless client cannot be asked {method}")
        if not self._can_be_asked(method, params):
            return self._declined(method, params)
        if len(self._open) >= _MAX_QUESTIONS:
            raise MethodNotFound(f"{_MAX_QUESTIONS} questions of this call wait already")
        self._next_key += 1
        key = f"{legacy.ASKS[method]}-{self._next_key}"
        waiting = _Open(translate.question_for_modern(method, params), asyncio.get_running_loop().create_future())
        self._open[key] = waiting
        self._asked.set()
        try:
            return await waiting.answer
        finally:
            del self._open[key]

    def _can_be_asked(self, method: str, params: Params) -> bool:
        return self.may_ask and legacy.may_ask(self._capabilities, method, params)

    def _declined(self, method: str, params: Params) -> Result:
        """The answer on behalf of a client that cannot give one. Raises MethodNotFound where there is none."""
        for capability, modes in legacy.needed_for(method, params).items():
            self._undeclared[capability] = {**self._undeclared.get(capability, {}), **modes}
        if method == translate.ELICIT:
            return _DECLINED
        raise MethodNotFound(f"the client did not declare what {method} needs")

    # ---- towards the client: rounds

    async def begin(self, call: Call) -> Result | None:
        """Start the call at the server. None when the server asks first: see `questions`."""
        if not self.may_ask:
            try:
                return await self._run(call)
            finally:
                self._host.release(self)
        self._work = asyncio.ensure_future(self._run(call))
        self._work.add_done_callback(self._over)
        return await self._round()

    async def go_on(self, call: Call, capabilities: Mapping[str, Any], answers: Params) -> Result | None:
        """The client is back with *answers*, and with the *capabilities* of this round.

        None when there is something to ask still.
        """
        self._call = call
        self._capabilities = capabilities
        for key, waiting in list(self._open.items()):
            if waiting.answer.done():
                continue
            if key in answers:
                waiting.answer.set_result(Result(answers[key]))
            elif not self._can_be_asked(waiting.question.method, waiting.question.params):
                self._settle(waiting, lambda each: self._declined(each.method, each.params))
        return await self._round()

    def questions(self) -> Mapping[str, Question]:
        """What the client has to answer now, by key; from here on nobody waits until it is back."""
        self._call = None
        return {key: waiting.question for key, waiting in self._open.items()}

    async def server_info(self) -> Raw | None:
        """What the server says of itself."""
        return jsonrpc.members(await self._host.greeting()).get("serverInfo")

    async def give_up(self) -> None:
        """Nobody will come back (`parking.Guest`): questions are answered with a cancellation, then the call is."""
        self._call = None
        self._cancel_questions()
        if self._work is not None:
            await asyncio.wait({self._work}, timeout=_LAST_WORD_S)
            await self._stop()

    async def _round(self) -> Result | None:
        """Wait for the server's result or its next questions. Cancelled, it cancels the call at the server."""
        assert self._work is not None, "a conversation begins first"
        try:
            # Who was answered leaves the list when it runs; what is still there then is for this round.
            await asyncio.sleep(0)
            while not self._work.done():
                if self._open:
                    await self._let_others_come(self._work)
                if self._open:  # and not withdrawn meanwhile
                    break
                await self._next_event(self._work)
        except asyncio.CancelledError:
            await self._stop()
            raise
        return self._work.result() if self._work.done() else None

    async def _next_event(self, work: "asyncio.Future[Result]") -> None:
        self._asked.clear()
        asked: asyncio.Future[Any] = asyncio.ensure_future(self._asked.wait())
        either: tuple[asyncio.Future[Any], ...] = (work, asked)
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()

    async def _let_others_come(self, work: "asyncio.Future[Result]") -> None:
        """The server has asked; wait until it seems to have asked everything that it wants to know now."""
        until = time.monotonic() + _LONGEST_BURST_S
        known = -1
        while known < self._next_key and not work.done() and time.monotonic() < until:
            known = self._next_key
            await asyncio.wait({work}, timeout=_QUIET_S)

    async def _stop(self) -> None:
        assert self._work is not None, "a conversation begins first"
        self._work.cancel()
        await asyncio.wait({self._work})
        if not self._work.cancelled():
            self._work.exception()  # seen; nobody is left to hear it

    def _cancel_questions(self) -> None:
        """Nobody will answer what is still open."""
        for waiting in list(self._open.values()):
            if not waiting.answer.done():
                self._settle(waiting, _cancelled)

    def _settle(self, waiting: _Open, answer: Callable[[Question], Result]) -> None:
        try:
            waiting.answer.set_result(answer(waiting.question))
        except BasculeError as error:
            waiting.answer.set_exception(error)

    def _over(self, work: "asyncio.Future[Result]") -> None:
        # A server that ends its call, or loses it, may leave questions behind that nobody should wait for.
        self._cancel_questions()
        self._host.release(self)

    # ---- the call itself

    async def _run(self, call: Call) -> Result:
        """The server's result. One that asks for a URL to be visited is called again when that was done."""
        for again in range(_MAX_VISITS):
            try:
                result = await self._host.send(call, self)
            except BasculeError as error:
                if again:
                    error.half_way()  # the server has heard of the call before
                raise
            wanted = translate.urls_needed(result.value) if result.refused else []
            if not wanted:
                return self._settled(result)
            if not self._can_be_asked(translate.ELICIT, wanted[0].params):
                return Result(translate.capability_missing(legacy.needed_for(translate.ELICIT, wanted[0].params)), True)
            visits = [self.ask(each.method, each.params) for each in wanted]
            if not all(_accepted(answer) for answer in await asyncio.gather(*visits)):
                return Result(_NOT_VISITED, refused=True)
        raise UpstreamBrokeProtocol(f"wants URLs to be visited again after {_MAX_VISITS} times")

    def _settled(self, result: Result) -> Result:
        """The server's answer, in codes that mean the same to a stateless client.

        A failure of a server that was refused a question is the client's lack ("Capabilities", 2026-07-28).
        """
        if self._undeclared and (result.refused or translate.failed(result.value)):
            return Result(translate.capability_missing(self._undeclared), refused=True)
        return Result(translate.error_for_modern(result.value), refused=True) if result.refused else result


_NOT_VISITED: Final = jsonrpc.encode(
    {"code": -32602, "message": "the call needs a URL to be visited first, and that was declined"}
)


def _cancelled(question: Question) -> Result:
    if question.method == translate.ELICIT:
        return _CANCELLED
    raise Unavailable("nobody is there any more to answer it")


def _accepted(answer: Result) -> bool:
    return not answer.refused and jsonrpc.text(jsonrpc.members(answer.value).get("action")) == "accept"


def may_be_asked(call: Call, declared: Mapping[str, Any]) -> bool:
    """Whether the client that *declared* these capabilities can be asked anything at all in this call."""
    return call.method in translate.MAY_ASK and not legacy.ASKED_BY.isdisjoint(declared)


def answers_of(params: Params) -> Params:
    """The answers that a client brings, by key. Raises InvalidParams if they are not results of any question."""
    raw = params.get("inputResponses")
    if raw is None:
        return {}
    answers = jsonrpc.members(raw)
    for key, answer in answers.items():
        if not bytes(answer).startswith(b"{"):
            raise InvalidParams(f"inputResponses[{key!r}] is not an object")
    return answers
