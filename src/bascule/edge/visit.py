"""One HTTP request on its way through the edge: what it says, whose it is, and where its answer goes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from bascule.call import Caller
from bascule.edge import door
from bascule.edge.door import Head, Refused, Rules
from bascule.edge.replies import Receive, carry
from bascule.edge.streams import Send, Stream


class Visit:
    """An admitted request, before its body is read."""

    __slots__ = ("caller", "extra", "head", "receive", "resource", "send", "unwelcome", "view")

    def __init__(
        self,
        view: str,
        head: Head,
        caller: Caller,
        resource: str,
        receive: Receive,
        send: Send,
        extra: list[tuple[bytes, bytes]],
        unwelcome: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """*unwelcome* returns once the request's credential would no longer be let in as it was."""
        self.view = view
        self.head = head
        self.caller = caller
        self.resource = resource  # the id of the endpoint, as tokens name it
        self.receive = receive
        self.send = send
        self.extra = extra
        self.unwelcome = unwelcome

    async def body(self, rules: Rules) -> bytes:
        """The whole body. Raises Refused (400, 413) if the client leaves, or it is too large.

        How long it may take is the connection's to say (protocol.py).
        """
        message = await self.receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body") or message["type"] == "http.disconnect":
            body = await self._rest_of_body(rules, body)
        if len(body) > rules.max_body_bytes:
            raise door.too_large(rules)
        return body

    async def _rest_of_body(self, rules: Rules, start: bytes) -> bytes:
        body = bytearray(start)
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "the client left before its request was complete")
            body += message.get("body", b"")
            if len(body) > rules.max_body_bytes:
                raise door.too_large(rules)
            more = message.get("more_body", False)
        return bytes(body)

    async def carry(self, stream: Stream, after: int | None = None, *, until: asyncio.Event | None = None) -> None:
        """Send *stream*, from after event number *after*, until it ends, the client leaves or *until* happens.

        It also ends when its client is no longer welcome: its key was revoked, its token has expired.
        """
        pump = asyncio.ensure_future(carry(stream, self.send, self.extra, after))
        stop = asyncio.ensure_future((until or asyncio.Event()).wait())
        unwelcome = asyncio.ensure_future(self.unwelcome())
        try:
            while not pump.done():
                receive = asyncio.ensure_future(self.receive())
                await asyncio.wait({pump, receive, stop, unwelcome}, return_when=asyncio.FIRST_COMPLETED)
                left = receive.done() and receive.result()["type"] == "http.disconnect"
                receive.cancel()
                if stop.done():
                    return  # the pump may be stuck in sending
                if left or unwelcome.done():
                    stream.detach(self.send)
                    break
            await pump
        finally:
            for task in (stop, unwelcome, pump):
                task.cancel()
