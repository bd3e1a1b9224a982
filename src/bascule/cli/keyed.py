"""A bridge's server that wants a token which changes while the bridge runs."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from yarl import URL

from bascule.call import Call, Forward, Result
from bascule.cli.token_file import TokenFile
from bascule.errors import BasculeError
from bascule.upstream.http import HttpOptions, HttpUpstream
from bascule.upstream.opened import Opened

_REFUSED: Final = 401


class Keyed(HttpUpstream):
    """Sends the token that the file held last with each request."""

    def __init__(self, name: str, options: HttpOptions, token: TokenFile) -> None:
        super().__init__(name, options)
        self._token = token

    def open(
        self,
        method: str,
        head: Mapping[str, str],
        body: bytes | None = None,
        *,
        url: URL | None = None,
        counted: bool = True,
    ) -> Opened:
        bearer = {"authorization": f"Bearer {self._token.token}"}
        return super().open(method, {**head, **bearer}, body, url=url, counted=counted)


class Renew:
    """`renew`: a call whose token was refused is sent once more, if the file has another token by now, or one so new
    that the gateway may not have heard of it. Once: a gateway counts what it refuses."""

    def __init__(self, token: TokenFile) -> None:
        self._token = token

    async def __call__(self, call: Call, forward: Forward) -> Result:
        try:
            return await forward(call)
        except BasculeError as error:
            # A gateway that refuses the credential has not looked at the call.
            if error.details.get("http_status") != _REFUSED:
                raise
            wait_s = self._token.news_in_s(time.time())
            if not self._token.renewed() and not wait_s:
                raise
        await asyncio.sleep(wait_s)
        return await forward(call)
