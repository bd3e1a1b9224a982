"""Group H: its cases, whoever fetches something for us, and a port of this machine that nobody must connect to.

No case leads further than this machine: what stands for private addresses, for those of clouds and for foreign
names is put to the decisions alone, and names are resolved by a resolver of the test's.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec
import yaml
from aiohttp.abc import AbstractResolver, ResolveResult

from bascule import egress
from bascule.cli import importing
from bascule.console import oidc
from bascule.edge.auth.discovery import metadata_in
from bascule.edge.auth.issuers import Issuers
from bascule.errors import BasculeError
from bascule.policy.options import IntrospectionOptions, IssuerOptions
from corpus.cases import FOLDER, Shape

PUBLIC: Final = "93.184.216.34"  # stands for any; nothing is ever sent to it
ISSUER: Final = "https://auth.example.com"


class Repeated(Shape, frozen=True):
    """A long URL."""

    start: str
    repeat: str
    times: int


class Case(Shape, frozen=True):
    id: str
    title: str
    why: str
    refused: str
    urls: Sequence[str | Repeated]
    answers: Sequence[Sequence[str]] = ((PUBLIC,),)
    allows: Sequence[str] = ()
    tried: bool = False


class MetadataCase(Shape, frozen=True):
    id: str
    title: str
    why: str
    refused: str
    each: Sequence[Mapping[str, str | None]]


class Group(Shape, frozen=True):
    group: str
    cases: Sequence[Case]
    metadata: Sequence[MetadataCase]


def read() -> Group:
    return msgspec.convert(yaml.load((FOLDER / "h_ssrf.yaml").read_text(), Loader=yaml.CSafeLoader), Group)


def url_of(said: str | Repeated, port: int) -> str:
    text = said if isinstance(said, str) else said.start + said.repeat * said.times
    return text.replace("<PORT>", str(port))


def decided(url: str, answers: Sequence[str], allows: Sequence[str]) -> str | None:
    """Why a *url* of a model is refused: by its text, or by the addresses that its name stands for."""
    origin = egress.host_of(url) if allows and egress.permitted(url, allows) is None else ""
    return egress.permitted(url, allows) or egress.allowed(url, answers, origin_host=origin)


# ---- the port


@dataclass
class Honeypot:
    """It takes every connection, on both families where there are both, and remembers it."""

    port: int = 0
    connections: list[object] = field(default_factory=list)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer.get_extra_info("peername"))
        writer.close()


@asynccontextmanager
async def honeypot() -> AsyncIterator[Honeypot]:
    found = Honeypot()
    server = await asyncio.start_server(found.take, "127.0.0.1", 0)
    async with server:
        found.port = server.sockets[0].getsockname()[1]
        if not socket.has_dualstack_ipv6():
            yield found
            return
        try:
            other = await asyncio.start_server(found.take, "::1", found.port)
        except OSError:
            yield found  # a machine without IPv6 on loopback
            return
        async with other:
            yield found


class Resolver(AbstractResolver):
    """Says of every name what it is told to say: one answer after the other, the last one for ever."""

    def __init__(self, answers: Sequence[Sequence[str]], port: int) -> None:
        self._answers = list(answers)
        self._port = port
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=self._port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None:
        pass


# ---- whoever fetches

Fetcher: TypeAlias = Callable[[str], Awaitable[object]]


async def _page(url: str) -> object:
    return await egress.fetch(url, timeout_s=2.0)


async def _redirected(url: str) -> object:
    return await egress.fetch(url, redirects=5, timeout_s=2.0)


async def _service(url: str) -> object:
    return await egress.ask("GET", url, base="https://api.example.com/v1", limit_bytes=1000, timeout_s=2.0)


async def _keys(url: str) -> object:
    """What a document of an authorization server calls its keys."""
    return await egress.get(url, origin_host=egress.host_of(ISSUER), limit_bytes=1000)


async def _in_metadata(url: str) -> object:
    for name in ("jwks_uri", "introspection_endpoint"):
        document = json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks", name: url}).encode()
        metadata_in(document, ISSUER)
    return None


async def _in_metadata_of_the_console(url: str) -> object:
    names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    for name in names:
        document = {"issuer": ISSUER, **{each: f"{ISSUER}/{each}" for each in names}, name: url}
        oidc._provider(json.dumps(document).encode(), ISSUER)
    return None


async def _registry(url: str) -> object:
    return await importing._fetch(url)


async def _keys_of_the_operator(url: str) -> object:
    return Issuers({"a": IssuerOptions(issuer=ISSUER, jwks_url=url)})


async def _introspection_of_the_operator(url: str) -> object:
    asking = IntrospectionOptions(url=url, client_id="a", client_secret="b")
    return Issuers({"a": IssuerOptions(issuer=ISSUER, introspection=asking)})


# By URLs that strangers say …
STRANGERS: Final[Mapping[str, Fetcher]] = {
    "a page for a model": _page,
    "a page that may be redirected": _redirected,
    "a service of a pack": _service,
    "keys that metadata name": _keys,
    "metadata of an authorization server": _in_metadata,
    "metadata for the console's login": _in_metadata_of_the_console,
}
# … and by those that the operator writes, who may mean this machine.
OPERATORS: Final[Mapping[str, Fetcher]] = {
    "a registry": _registry,
    "keys in the configuration": _keys_of_the_operator,
    "introspection in the configuration": _introspection_of_the_operator,
}
REFUSALS: Final[Any] = (egress.FetchFailed, BasculeError, ValueError)
