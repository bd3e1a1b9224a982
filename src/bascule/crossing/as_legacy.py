"""A stateless server, as a session's client sees it.

Source: MCP 2025-11-25, "Lifecycle", "Logging", "Resources"; MCP 2026-07-28, "Multi Round-Trip Requests".
"""

import asyncio
import secrets
import weakref
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from bascule.call import Call, Caller, Client, Result, Session, Target
from bascule.crossing.listening import Channel
from bascule.crossing.rounds import in_rounds
from bascule.errors import InvalidParams, Unavailable, UpstreamBrokeProtocol
from bascule.upstream.base import INFO, Upstream
from bascule.upstream.shared import NOBODY
from bascule.wire import jsonrpc, legacy, modern, translate
from bascule.wire.jsonrpc import Params
from bascule.wire.translate import Question
from bascule.wire.versions import LATEST_MODERN

_DEFAULT_LEVEL: Final = "info"  # what a session hears before it says otherwise

_DONE: Final = Result(Raw(b"{}"))
_CANCELLED: Final = Raw(b'{"action":"cancel"}')
_DECLINED: Final = Raw(b'{"action":"decline"}')


class AsLegacy:
    """Sessions for a server that has none: what a client says once is repeated to it with each request."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._levels: dict[str, str] = {}
        self._channels: dict[Caller, Channel] = {}
        self._offered: Mapping[str, Any] | None = None  # the server's capabilities
        # Sessions that ended, as long as somebody still does something for them.
        self._forgotten: weakref.WeakSet[Session] = weakref.WeakSet()

    async def send(self, call: Call) -> Result:
        """Answer a session's *call* as a server with a handshake would. Raises what the upstream raises."""
        session = call.session
        assert session is not None, "the other era has no sessions"
        match call.method:
            case legacy.INITIALIZE:
                found = await self._discover(session)
                return Result(translate.greeting(found, session.revision, self._upstream.name))
            case "logging/setLevel":
                return self._set_level(call, session)
            case "resources/subscribe":
                await (await self._channel(session)).subscribe(session, _uri_of(call))
                return _DONE
            case "resources/unsubscribe":
                await (await self._channel(session)).unsubscribe(session, _uri_of(call))
                return _DONE
            case _:
                return await self._converse(call, session)

    async def watch(self, session: Session) -> None:
        """From now on the session hears of lists that change."""
        channel = await self._channel(session)
        if session not in self._forgotten:
            await channel.watch(session)

    def forget(self, session: Session) -> None:
        self._forgotten.add(session)
        self._levels.pop(session.id, None)
        channel = self._channels.get(session.caller)
        if channel is not None and channel.forget(session):
            del self._channels[session.caller]

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def clear(self) -> None:
        """The server no longer speaks this way."""
        self.close()
        self._channels.clear()
        self._offered = None

    # ---- what a session says once

    async def _discover(self, session: Session) -> Raw:
        result = await self._upstream.send(self._request(session.caller, modern.DISCOVER, {}, NOBODY))
        if result.refused:
            raise UpstreamBrokeProtocol(f"refused {modern.DISCOVER}: {modern.error_message(result.value)}").at(
                self._upstream.name
            )
        members = jsonrpc.members(result.value)
        self._offered = jsonrpc.value_of(members.get("capabilities"), dict) or {}
        return result.value

    async def _offers(self, session: Session) -> Mapping[str, Any]:
        if self._offered is None:
            await self._discover(session)
        return self._offered or {}

    def _set_level(self, call: Call, session: Session) -> Result:
        level = jsonrpc.text(call.params.get("level"))
        if level not in legacy.LEVELS:
            raise InvalidParams(f"no log level {level!r}; there are {', '.join(legacy.LEVELS)}")
        self._levels[session.id] = level
        return _DONE

    async def _channel(self, session: Session) -> Channel:
        channel = self._channels.get(session.caller)
        if channel is None:
            offered = await self._offers(session)
            kinds = frozenset(
                kind
                for kind in legacy.LIST_CHANGED.values()
                if isinstance(offered.get(kind), dict) and offered[kind].get("listChanged") is True
            )

            async def listen(caller: Caller, wanted: Params, ear: Client) -> Result:
                return await self._upstream.send(self._request(caller, modern.LISTEN, wanted, ear))

            if session in self._forgotten:
                raise Unavailable("the session has ended")
            channel = self._channels.setdefault(session.caller, Channel(session.caller, kinds, listen))
        return channel

    def _request(self, caller: Caller, method: str, params: Params, client: Client) -> Call:
        """A request of our own on behalf of a caller's sessions."""
        stamped = modern.stamp(params, info=INFO, capabilities={})
        return Call(
            caller=caller,
            client=client,
            revision=LATEST_MODERN,
            method=method,
            params=stamped,
            id=Raw(b"0"),
            target=Target(self._upstream, stamped),
        )

    # ---- calls

    async def _converse(self, call: Call, session: Session) -> Result:
        """The server's answer, after its questions were put to the client."""
        assert call.target is not None, "the resolve stage sets the target"
        able = translate.capabilities_for_modern(session.capabilities, session.revision)
        level = None
        if "logging" in await self._offers(session):
            level = self._levels.get(session.id, _DEFAULT_LEVEL)
        info = session.hello.get("clientInfo") or jsonrpc.encode(INFO)
        base = translate.to_modern(call.target.params, info=info, capabilities=able, level=level)

        async def send(params: Params) -> Result:
            target = Target(self._upstream, params)
            return await self._upstream.send(
                msgspec.structs.replace(call, revision=LATEST_MODERN, session=None, params=params, target=target)
            )

        try:
            result = await in_rounds(call.method, base, send, lambda questions: self._put(call, questions, able))
        except UpstreamBrokeProtocol as error:
            raise error.at(self._upstream.name) from error
        try:
            if result.refused:
                return Result(translate.error_for_legacy(call.method, result.value), refused=True)
            dropped = translate.dropped_for_modern(call.target.params)
            value = translate.result_for_legacy(call.method, result.value, session.revision, dropped)
            return Result(value, warnings=translate.warnings_in(value))
        except InvalidParams as error:
            raise UpstreamBrokeProtocol(f"answered with what is no result: {error}").at(self._upstream.name) from error

    async def _put(
        self, call: Call, questions: Mapping[str, Question], able: Mapping[str, Any]
    ) -> dict[str, Raw] | Result:
        """The client's answers by key; its own error, if that ends the call."""
        for question in questions.values():
            if not legacy.may_ask(able, question.method, question.params) and question.method != translate.ELICIT:
                raise UpstreamBrokeProtocol(f"asks {question.method} of a client that did not declare it").at(
                    self._upstream.name
                )
        asked = [asyncio.ensure_future(_ask(call, question, able)) for question in questions.values()]
        try:
            given = await asyncio.gather(*asked)
        finally:
            for each in asked:
                each.cancel()
        refused = next((answer for answer in given if answer.refused), None)
        return refused or {key: answer.value for key, answer in zip(questions, given, strict=True)}


async def _ask(call: Call, question: Question, able: Mapping[str, Any]) -> Result:
    """The client's answer to one question, fit to be one of `inputResponses`."""
    if not legacy.may_ask(able, question.method, question.params):
        return Result(_DECLINED)  # elicitation that it did not declare
    params = translate.question_for_legacy(question, secrets.token_urlsafe(12))
    answer = await call.client.ask(question.method, params)
    if answer.refused and question.method == translate.ELICIT:
        return Result(_CANCELLED)  # the person's client failed; the server has a word for that
    if not answer.refused and not bytes(answer.value).startswith(b"{"):
        raise InvalidParams(f"the client answered {question.method} with no object")
    return answer


def _uri_of(call: Call) -> str:
    uri = jsonrpc.text(call.params.get("uri"))
    if uri is None:
        raise InvalidParams('"uri" is a string')
    return uri
