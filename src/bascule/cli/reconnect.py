"""`reconnect`: the first stage of a bridge. A server that is down is waited for; what stood open is opened again.

Only what surely did not run is sent again: a connection that was refused carried nothing, and reading twice does
no harm.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bascule.call import Call, Client, Forward, Result
from bascule.errors import BasculeError, TimedOut, Transient, Unavailable
from bascule.upstream.exchange import Broken
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Params

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_LONGEST_REST_S: Final = 30.0  # between attempts to listen again, which nobody waits for
_HARMLESS: Final = frozenset({
    *("initialize", "server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    *("resources/read", "prompts/get", "completion/complete"),
})  # fmt: skip
_OF_PROXIES: Final = frozenset({502, 503, 504})  # what stands before a server says so while that is down


class Reconnect:
    """Waits at most *wait_s* for the server at *url*; *complain* tells the person what goes wrong."""

    def __init__(self, url: str, wait_s: float, complain: Callable[[BasculeError], None]) -> None:
        self._url = url
        self._wait_s = wait_s
        self._complain = complain
        self._said = ""

    async def __call__(self, call: Call, forward: Forward) -> Result:
        if call.method != modern.LISTEN:
            return await self._sent(call, forward)
        ear = _Ear(call)
        listening = msgspec.structs.replace(call, client=ear)
        result = await self._sent(listening, forward)
        return result if result.refused or not ear.acknowledged else await self._again(listening, ear, forward)

    async def _sent(self, call: Call, forward: Forward) -> Result:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._wait_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                result = await forward(call)
            except Transient as error:
                if not _may_be_repeated(call, error):
                    self._tell(error)
                    raise
                if loop.time() + pause_s > until:
                    raise self._in_vain(error) from error.__cause__
            else:
                self._said = ""
                return result
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _again(self, call: Call, ear: "_Ear", forward: Forward) -> Result:
        """Listen anew whenever the stream ends, until the client has had enough or the server refuses."""
        pause_s = _FIRST_PAUSE_S
        while True:
            pause_s = _FIRST_PAUSE_S if ear.acknowledged else min(_LONGEST_REST_S, pause_s * 2)
            ear.acknowledged = False
            await asyncio.sleep(pause_s)
            try:
                result = await forward(call)
            except Transient:
                continue  # the next call of the client says what is wrong
            if result.refused:
                return result

    def _in_vain(self, error: Transient) -> Transient:
        """*error*, with all that the client and the person need to know."""
        self._tell(error)  # which the person is told with its own advice
        error.message += f"; tried for {self._wait_s:g} s. Is it running, and is {self._url} its address?"
        return error

    def _tell(self, error: BasculeError) -> None:
        if error.message != self._said:
            self._said = error.message
            self._complain(error)


class _Ear:
    """Hears for a client that knows nothing of the streams that were lost."""

    def __init__(self, call: Call) -> None:
        self._client: Client = call.client
        self._tag = call.id
        self._begun = False
        self.acknowledged = False  # the present stream

    def notify(self, method: str, params: Params) -> None:
        if method != modern.ACKNOWLEDGED:
            self._client.notify(method, params)
            return
        self.acknowledged = True
        if self._begun:
            self._tell_what_may_have_changed(params)
        else:
            self._begun = True
            self._client.notify(method, params)

    def _tell_what_may_have_changed(self, params: Params) -> None:
        honoured: dict[str, Any] = jsonrpc.value_of(params.get("notifications"), dict) or {}
        for method, kind in legacy.LIST_CHANGED.items():
            if honoured.get(f"{kind}ListChanged") is True:
                self._client.notify(method, modern.retag({}, self._tag))
        uris = honoured.get("resourceSubscriptions")
        for uri in uris if isinstance(uris, list) else ():
            self._client.notify(legacy.UPDATED, modern.retag({"uri": jsonrpc.encode(uri)}, self._tag))

    async def ask(self, method: str, params: Params) -> Result:
        return await self._client.ask(method, params)


def _may_be_repeated(call: Call, error: Transient) -> bool:
    # Only a connection that could not be made is an Unavailable that comes of an OSError.
    if isinstance(error, Unavailable) and isinstance(error.__cause__, OSError):
        return True
    at_proxy = error.details.get("http_status") in _OF_PROXIES
    return call.method in _HARMLESS and not isinstance(error, TimedOut) and (isinstance(error, Broken) or at_proxy)
