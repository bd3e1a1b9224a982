"""HTTP with server-sent events, for clients of 2024-11-05: a GET carries all that we say, POSTs what they say.

The session lasts as long as the connection of the GET. Source: MCP 2024-11-05, Transports, "HTTP with SSE".
"""

import asyncio
import os
from typing import Final

from bascule.edge import door
from bascule.edge.dialogue import Dialogue
from bascule.edge.door import Refused, Rules
from bascule.edge.pressure import Pressure
from bascule.edge.replies import respond
from bascule.edge.rim import Rim
from bascule.edge.session import ClientSession
from bascule.edge.sessions import Sessions
from bascule.edge.streams import Stream
from bascule.edge.visit import Visit
from bascule.errors import InvalidRequest, Overloaded
from bascule.wire import jsonrpc, modern
from bascule.wire.jsonrpc import Request
from bascule.wire.seal import NONCE_BYTES

_PURPOSE: Final = "sse"
_QUERY: Final = b"session_id"
# Answers to all calls wait here together for a client that is slow; of one that has stopped reading, no more.
_MAX_UNREAD_BYTES: Final = 16 * 1024 * 1024


class LegacySse:
    """The endpoints whose path ends in `/sse`."""

    def __init__(self, rim: Rim, sessions: Sessions, pressure: Pressure) -> None:
        self._rim = rim
        self._pressure = pressure
        self._sessions = sessions
        self._dialogues: dict[str, Dialogue] = {}  # by what the client's POSTs name

    async def serve(self, method: str, path: str, query: bytes, visit: Visit, rules: Rules) -> None:
        """Answer a request to *path*. Raises Refused."""
        match method:
            case "GET":
                await self._connect(visit, path)
            case "POST":
                await self._post(visit, query, rules)
            case _:
                raise Refused(405, f"{method} is not used over SSE", [(b"allow", b"GET, POST, OPTIONS")])

    async def _connect(self, visit: Visit, path: str) -> None:
        if not door.accepts(visit.head, "text/event-stream"):
            raise Refused(406, "Accept has to list text/event-stream")
        if self._rim.draining:
            raise Refused(503, "this process is shutting down")
        stream = Stream(0, resumable=False, event="message", bound_bytes=_MAX_UNREAD_BYTES)
        outlet = _Unread(stream)
        dialogue = Dialogue(self._rim, visit.caller, visit.view, outlet, standing=stream)
        session = dialogue.session
        try:
            await self._sessions.add(session)
        except Overloaded as error:
            raise Refused(503, error.message) from error
        id = self._sessions.ring.seal(_PURPOSE, session.id.encode(), os.urandom(NONCE_BYTES))
        self._dialogues[id] = dialogue
        stream.point(f"{path}?{_QUERY.decode()}={id}")
        try:
            await visit.carry(stream, until=outlet.full)
        finally:
            del self._dialogues[id]
            await dialogue.end()
            await self._sessions.end(session)

    async def _post(self, visit: Visit, query: bytes, rules: Rules) -> None:
        body = await visit.body(rules)
        self._pressure.check_body(body)
        dialogue = self._dialogues.get(_session_id(query))
        if dialogue is None or not _is_of(dialogue.session, visit):
            raise Refused(404, "no such session; open a stream with GET first")
        (message,) = jsonrpc.parse(body)
        if isinstance(message, Request) and modern.is_modern(message.params):
            raise InvalidRequest("the stateless protocol is not spoken over SSE; use the path that ends in /mcp")
        dialogue.take(message, visit.caller)
        await respond(visit.send, 202, visit.extra)


class _Unread:
    """Puts messages on a stream, and tells when its client has not read for too long."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.full = asyncio.Event()

    def put(self, message: bytes) -> None:
        self._stream.put(message)
        if self._stream.lost:
            self.full.set()


def _session_id(query: bytes) -> str:
    """The one session id in a query string, else "", which is nobody's."""
    values = [value for name, _, value in (each.partition(b"=") for each in query.split(b"&")) if name == _QUERY]
    return values[0].decode("latin-1") if len(values) == 1 else ""


def _is_of(session: ClientSession, visit: Visit) -> bool:
    return not session.ended and session.caller == visit.caller and session.view == visit.view
