"""A gateway that runs: where it is, and one request to what it offers operators."""

import asyncio
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit, urlunsplit

import typer

from bascule.cli.credentials import check_url, token_of_environment
from bascule.cli.target import default_file
from bascule.errors import BasculeError, ConfigInvalid, Internal, Unavailable

_TIMEOUT_S: Final = 30.0
_MOST_BYTES: Final = 64 * 1024 * 1024
_ENDPOINT: Final = re.compile(r"(?:/servers/[^/]+)?/(?:mcp|sse|status)/?$")
_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}

UrlArgument = Annotated[
    str | None,
    typer.Argument(metavar="[URL]", help="Of the gateway; default: where bascule.yaml here says that it listens."),
]


def base_of(url: str | None, file: Path | None = None) -> str:
    """The address of the gateway, without the path of any endpoint. Raises ConfigInvalid."""
    if url is None:
        return _listening(file)
    parts = urlsplit(check_url(url))
    return urlunsplit((parts.scheme, parts.netloc, _ENDPOINT.sub("", parts.path).rstrip("/"), "", ""))


def ask(base: str, method: str, path: str, *, query: Mapping[str, str | None] | None = None, body: Any = None) -> Any:
    """What the gateway at *base* answers, as JSON. Raises Unavailable, or the gateway's own refusal in our words."""
    said = urlencode({name: value for name, value in (query or {}).items() if value is not None})
    return asyncio.run(_asked(method, f"{base}{path}{'?' if said else ''}{said}", body))


def _listening(file: Path | None) -> str:
    """Where a configuration says that it listens; without one, the default."""
    from bascule import config

    path = file or default_file()
    if file is None and not path.exists():
        return f"http://127.0.0.1:{config.DEFAULT_PORT}"
    http = config.load_records(path, os.environ).http
    if http.tls is not None:
        raise ConfigInvalid("it listens with TLS: say by which URL it is reached, as its certificate names it")
    host = _ANYWHERE.get(http.host, f"[{http.host}]" if ":" in http.host else http.host)
    return f"http://{host}:{http.port}"


async def _asked(method: str, url: str, body: Any) -> Any:
    import aiohttp

    token = token_of_environment(url)
    headers = {"accept": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    sent = {} if body is None else {"json": body}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session,
            session.request(method, url, headers=headers, allow_redirects=False, **sent) as response,
        ):
            text = await response.content.read(_MOST_BYTES)
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable(f"cannot be reached: {_why(error)}").at(urlsplit(url).netloc) from error
    return _read(status, text, urlsplit(url).netloc)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT_S:g} s"
    system = getattr(error, "os_error", error)  # aiohttp's words repeat the address
    return (isinstance(system, OSError) and system.strerror) or str(error)


def _read(status: int, text: bytes, where: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if status == 200 and found is not None:
        return found
    raise _refusal(status, found).at(where)


def _refusal(status: int, found: Any) -> BasculeError:
    """What went wrong there, in its words; *found* may come from anybody who listens at that address."""
    error = found.get("error") if isinstance(found, dict) else None
    said = error.get("message") if isinstance(error, dict) else None
    words = said if isinstance(said, str) else f"it answered HTTP {status}, and not as Bascule does"
    # What Bascule says itself of an id that is not there needs no hint about paths.
    is_theirs = isinstance(said, str) and status not in (401, 403)
    return Internal(words) if is_theirs else Internal(words, http_status=status)
