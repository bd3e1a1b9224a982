"""One HTTP request to a server while its response is being read; foreign errors leave it as ours."""

import io
import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from bascule.upstream.http import HttpUpstream

_AT_ONCE_BYTES: Final = 1 << 20


class Opened:
    """An HTTP request as a context.

    A class, because as a generator it would cost every call a few microseconds more.
    """

    __slots__ = ("_body", "_counts", "_head", "_holds", "_method", "_request", "_upstream", "_url")

    def __init__(
        self,
        upstream: "HttpUpstream",
        method: str,
        url: URL,
        head: Mapping[str, str],
        body: bytes | None,
        *,
        counted: bool,
    ) -> None:
        self._upstream = upstream
        self._method = method
        self._url = url
        self._head = head
        self._body = body
        self._counts = int(counted)  # how many requests in flight it is
        self._holds = False  # one of the upstream's slots

    async def __aenter__(self) -> aiohttp.ClientResponse:
        upstream = self._upstream
        if self._counts:
            if not upstream.slots.take():
                await upstream.slots.wait()
            self._holds = True
        response: aiohttp.ClientResponse | None = None
        upstream.in_flight += self._counts
        try:
            self._request = upstream.client().request(
                self._method, self._url, headers=self._head, data=_in_parts(self._body), allow_redirects=False
            )
            response = await self._request.__aenter__()
        except (aiohttp.ClientError, OSError) as error:
            raise upstream.failed(error) from error
        finally:
            if response is None:
                self._left()
        upstream.answered(response.status)
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left()
        await self._request.__aexit__(kind, error, trace)
        if isinstance(error, aiohttp.ClientError | OSError):
            raise self._upstream.failed(error) from error

    def _left(self) -> None:
        self._upstream.in_flight -= self._counts
        self.yield_slot()

    def yield_slot(self) -> None:
        """It waits for a client now, and the server for nothing but that."""
        if self._holds:
            self._holds = False
            self._upstream.slots.give()


def reason_of(error: aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError) -> str:
    """Why there is no connection, without the addresses, which are the operator's."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return "no connection in time"
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known here"
        case aiohttp.ClientSSLError():
            return "TLS failed; is it https at all, and is its certificate good?"
        case _:
            number = error.os_error.errno  # its text would hold the address
            return os.strerror(number).lower() if number else "the connection failed"


def _in_parts(body: bytes | None) -> bytes | io.BytesIO | None:
    """*body*, a large one as a file: as bytes it would be written at once, of which aiohttp warns."""
    return body if body is None or len(body) <= _AT_ONCE_BYTES else io.BytesIO(body)
