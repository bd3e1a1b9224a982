"""Where spans are sent: a collector that takes OTLP over HTTP. Called in a thread, which it may hold up for seconds."""

import gzip
import http.client
import logging
import urllib.request
from collections.abc import Sequence
from email.message import Message
from typing import IO, Final

import bascule
from bascule.observe import semconv
from bascule.observe.options import TracingOptions
from bascule.observe.otlp import request_of
from bascule.observe.traces import Span
from bascule.unhurried import unhurried

log = logging.getLogger("bascule.observe")

_TIMEOUT_S: Final = 5.0
_QUICKLY: Final = 1  # of nine levels: names repeat, so that even the first one makes a tenth of it


class Collector:
    """`Teller` of traces. What cannot be delivered is lost, and counted."""

    def __init__(self, options: TracingOptions) -> None:
        self._url = options.url
        self._headers = {**options.headers, "content-type": "application/x-protobuf", "content-encoding": "gzip"}
        self._process = {semconv.SERVICE: options.service_name, semconv.SERVICE_VERSION: bascule.__version__}
        # What is not in the configuration is not asked: no proxy of the environment, and no other place than this one.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())
        self._problem = ""
        self.lost = 0

    def __call__(self, spans: Sequence[Span]) -> None:
        body = gzip.compress(request_of(unhurried(spans), self._process, bascule.__version__), _QUICKLY)
        request = urllib.request.Request(self._url, body, self._headers, method="POST")
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                response.read()
        except (OSError, http.client.HTTPException) as error:  # an HTTP status of failure is one of them
            self.lost += len(spans)
            self._is(f"traces are lost, {self._url} does not take them: {error}")
        else:
            self._is("")

    def _is(self, problem: str) -> None:
        """Say how things stand when that has changed."""
        if problem and not self._problem:
            log.warning("%s", problem)
        elif self._problem and not problem:
            log.info("traces are taken by %s again; %d spans were lost", self._url, self.lost)
        self._problem = problem


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere, with our credentials."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None
