"""What keeps open pages up to date: one stream of events for each browser, of what changed and not of how.

An event names the pages that would look different now; their parts are then loaded as they always are, so that there
is one place that decides what somebody sees. A stream ends with its session, and when this process does.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bascule.console.page import Page, View
from bascule.console.session import Visitor
from bascule.errors import BasculeError

if TYPE_CHECKING:
    from bascule.console.app import Console

EVERY_S: Final = 2.0  # the most often that a page is told of a change
_LOOK_S: Final = 0.25  # how soon a stream notices that it has to end
_ALIVE_S: Final = 15.0  # between comments on a quiet stream; proxies often cut at 60
MOST: Final = 200  # streams at one time, all browsers together
MOST_EACH: Final = 20  # of one session: nobody takes the places of the others


class Live:
    """The streams, and what they tell."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._open: Counter[str] = Counter()  # streams, by session
        self._pulse: tuple[float, Mapping[str, str], Mapping[str, int]] = (0.0, {}, {})

    def badges(self, view: View) -> Mapping[str, int]:
        """How much waits, by page, of those that this person may open."""
        _, _, counts = self._now()
        return {page.name: counts[page.name] for page in self._console.shown_to(view) if page.name in counts}

    def pulse(self, page: Page) -> str:
        """What *page* looks like now, by a short name for it; "" for what does not change by itself."""
        try:
            pulse, _ = self._looked(page)
        except BasculeError:
            return ""  # the records cannot be read: its page says so
        return "" if pulse is None else _short(pulse)

    async def serve(self, request: Request) -> Response:
        # Browsers open it again and again, by themselves: that somebody is there it does not show.
        visitor = await self._console.sign_in.visitor(request, is_live=True)
        if visitor is None:
            return Response(status_code=401)
        if self._open.total() >= MOST or self._open[visitor.session.id] >= MOST_EACH:
            return Response("too many pages are open\n", 503, {"retry-after": "30"})
        headers = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
        events = self._events(self._console.view(request, visitor), visitor)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def _events(self, view: View, visitor: Visitor) -> AsyncIterator[bytes]:
        id = visitor.session.id
        self._open[id] += 1
        try:
            last, told_at = b"", time.monotonic()
            yield b"retry: 3000\n\n"
            while self._goes_on(visitor):
                event = self._event(view)
                if event != last:
                    yield b"event: pulse\ndata: %b\n\n" % event
                    last, told_at = event, time.monotonic()
                elif time.monotonic() - told_at > _ALIVE_S:
                    yield b":\n\n"
                    told_at = time.monotonic()
                await self._pause()
            yield b"event: end\ndata: {}\n\n"
        finally:
            self._open[id] -= 1
            if not self._open[id]:
                del self._open[id]

    def _goes_on(self, visitor: Visitor) -> bool:
        return not self._console.gateway.edge.draining and self._console.sign_in.still_there(visitor)

    async def _pause(self) -> None:
        until = time.monotonic() + EVERY_S
        while time.monotonic() < until and not self._console.gateway.edge.draining:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(_LOOK_S)

    def _event(self, view: View) -> bytes:
        _, pulses, _ = self._now()
        shown = {page.name for page in self._console.shown_to(view)}
        return msgspec.json.encode(
            {"pulse": {name: value for name, value in pulses.items() if name in shown}, "badges": self.badges(view)}
        )

    def _now(self) -> tuple[float, Mapping[str, str], Mapping[str, int]]:
        """What was found a moment ago is good for all streams."""
        now = time.monotonic()
        if now - self._pulse[0] >= EVERY_S / 2:
            pulses, badges = {}, {}
            for page in self._console.pages:
                try:
                    pulse, badge = self._looked(page)
                except BasculeError:
                    continue  # the records cannot be read: its page says so, and the others go on
                if pulse is not None:
                    pulses[page.name] = _short(pulse)
                if badge is not None:
                    badges[page.name] = badge
            self._pulse = now, pulses, badges
        return self._pulse

    def _looked(self, page: Page) -> tuple[Any, int | None]:
        """The pulse and the badge of *page*; None for what it does not have."""
        gateway = self._console.gateway
        pulse = None if page.pulse is None else page.pulse(gateway)
        return pulse, None if page.badge is None else page.badge(gateway)


def _short(value: Any) -> str:
    return sha256(repr(value).encode()).hexdigest()[:12]
