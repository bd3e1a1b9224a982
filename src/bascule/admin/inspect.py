"""Looking into servers, and using them by hand: what the command line, REST and the console share.

A `Peer` is one more client, in front of `reach` or of a gateway's whole pipeline; it knows nothing of
terminals. Who hears what a server says, and answers what it asks, is given to it as *person*.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from bascule.call import Call, Caller, Client, Forward, Result, Target
from bascule.crossing.rounds import in_rounds
from bascule.errors import (
    BasculeError,
    UpstreamBrokeProtocol,
)
from bascule.policy.scopes import UNLIMITED
from bascule.registry.catalog import LISTS
from bascule.registry.sync import MAX_PAGES
from bascule.upstream.base import INFO, Upstream, reach
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.translate import Question
from bascule.wire.versions import BY_VERSION, LATEST_LEGACY, LATEST_MODERN, Era

if TYPE_CHECKING:
    from bascule.app import Gateway

OPERATOR: Final = Caller("operator", UNLIMITED)
CAPABILITIES: Final[Mapping[str, Any]] = {"elicitation": {"form": {}, "url": {}}}
_PROGRESS_TOKEN: Final = 1


class About(msgspec.Struct, frozen=True, kw_only=True):
    """How a server introduces itself."""

    era: str
    versions: Sequence[str]  # protocol versions: all that it names, or the one agreed on in a handshake
    server: Mapping[str, Any]
    capabilities: Mapping[str, Any]
    instructions: str


class Peer:
    """One client of one upstream (of a gateway's aggregate, all servers are one). Close it after use.

    It is a `call.Session` as well, for servers that need one. It speaks the best era that its upstream does.
    """

    def __init__(
        self,
        upstream: Upstream,
        person: Client,
        era: Callable[[], Awaitable[Era]],
        *,
        forward: Forward = reach,
        view: str = "",
    ) -> None:
        """*era* finds out what to speak, when it is first needed; *view* as in `Call`."""
        self.upstream = upstream
        self.id = self.family = f"operator-{secrets.token_hex(8)}"
        self.caller = OPERATOR
        self.revision = LATEST_LEGACY
        self.hello: Params = legacy.initialize_params(INFO, CAPABILITIES)
        self.capabilities = CAPABILITIES
        self._person = person
        self._forward = forward
        self._find_era = era
        self._era: Era | None = None
        self._view = view
        self._greeting: Raw | None = None
        self._next_id = 0

    async def close(self) -> None:
        """Give the session back; the upstream itself belongs to whoever made it."""
        await self.upstream.forget(self)

    # ---- call.Session: what the server says

    def notify(self, method: str, params: Params) -> None:
        self._person.notify(method, params)

    def announce(self, method: str, params: Params) -> None:
        pass  # only the aggregate announces

    async def ask(self, method: str, params: Params) -> Result:
        return await self._person.ask(method, params)

    # ---- requests

    async def era(self) -> Era:
        """The era that is spoken here."""
        if self._era is None:
            self._era = await self._find_era()
        return self._era

    async def greeting(self) -> Raw:
        """The server's InitializeResult or DiscoverResult."""
        if self._greeting is None:
            if await self.era() is Era.MODERN:
                self._greeting = self._granted(modern.DISCOVER, await self.send(modern.DISCOVER, {}))
            else:
                self._greeting = self._granted(legacy.INITIALIZE, await self.send(legacy.INITIALIZE, self.hello))
                version = jsonrpc.text(jsonrpc.members(self._greeting).get("protocolVersion"))
                self.revision = BY_VERSION.get(version or "", self.revision)
        return self._greeting

    async def send(self, method: str, params: Params) -> Result:
        """One request. What the server asks, in either era, is put to the person."""
        if await self.era() is Era.LEGACY:
            if method != legacy.INITIALIZE:
                await self.greeting()
            return await self._send_once(method, params)
        stamped = modern.stamp(params, info=INFO, capabilities=CAPABILITIES)
        return await in_rounds(method, stamped, lambda each: self._send_once(method, each), self._put)

    async def _send_once(self, method: str, params: Params) -> Result:
        self._next_id += 1
        stateless = await self.era() is Era.MODERN
        return await self._forward(
            Call(
                caller=self.caller,
                client=self,
                revision=LATEST_MODERN if stateless else self.revision,
                method=method,
                params=params,
                id=jsonrpc.encode(self._next_id),
                session=None if stateless else self,
                view=self._view,
                target=Target(self.upstream, params),
            )
        )

    async def _put(self, questions: Mapping[str, Question]) -> dict[str, Raw] | Result:
        """The person's answers, one after the other: there is one person, and one terminal."""
        answers = {}
        for key, question in questions.items():
            answer = await self._person.ask(question.method, question.params)
            if answer.refused:
                return answer
            answers[key] = answer.value
        return answers

    async def call(self, tool: str, arguments: Raw, wishes: Mapping[str, str] | None = None) -> Result:
        """Call a tool; its progress and logs, and the server's questions, go to the person.

        *wishes*: what is asked of a gateway in `_meta` (wire/wishes.py).
        """
        meta = {"progressToken": _PROGRESS_TOKEN, modern.LOG_LEVEL: "info", **(wishes or {})}
        if await self.era() is Era.LEGACY:
            await self._listen()
        return await self.send(
            "tools/call", {"name": jsonrpc.encode(tool), "arguments": arguments, "_meta": jsonrpc.encode(meta)}
        )

    async def _listen(self) -> None:
        """Some legacy servers ask on their standing stream and not on that of the call."""
        try:
            await self.upstream.watch(self)
        except BasculeError:
            pass  # not a legacy server after all, or down, which the call itself will say

    # ---- lists

    async def list(self, method: str) -> Raw:
        """A whole list as a result; byte for byte the server's own if it came in one page."""
        member, capability = LISTS[method]
        if capability not in _decoded(jsonrpc.members(await self.greeting()), "capabilities"):
            return jsonrpc.encode({member: []})
        pages = [page async for page in self._pages(method)]
        if len(pages) == 1:
            return pages[0]
        entries = [raw for page in pages for raw in jsonrpc.items(jsonrpc.members(page).get(member, Raw(b"[]")))]
        first = jsonrpc.members(pages[0]) if pages else {}
        kept = {key: raw for key, raw in first.items() if key != "nextCursor"}
        return jsonrpc.encode(jsonrpc.replaced(kept, **{member: entries}))

    async def _pages(self, method: str) -> AsyncIterator[Raw]:
        cursor: Raw | None = None
        for _ in range(MAX_PAGES):
            answer = await self.send(method, {} if cursor is None else {"cursor": cursor})
            if answer.refused and modern.error_code(answer.value) == -32601:
                return  # templates are an optional part of resources
            yield self._granted(method, answer)
            cursor = jsonrpc.members(answer.value).get("nextCursor")
            if cursor is None or cursor == jsonrpc.NULL:
                return
        raise UpstreamBrokeProtocol(f"{method} has more than {MAX_PAGES} pages").at(self.upstream.name)

    def _granted(self, method: str, answer: Result) -> Raw:
        if answer.refused:
            raise UpstreamBrokeProtocol(f"refused {method}: {refusal_text(answer.value)}").at(self.upstream.name)
        return answer.value


async def about(peer: Peer) -> About:
    """What the server says of itself."""
    greeting = jsonrpc.members(await peer.greeting())
    return About(
        era=(await peer.era()).value,
        versions=_versions(greeting),
        server=_server_info(greeting),
        capabilities=_decoded(greeting, "capabilities"),
        instructions=jsonrpc.text(greeting.get("instructions")) or "",
    )


async def ping(peer: Peer, count: int) -> list[float]:
    """Milliseconds of *count* round trips, one after the other, to a server that is already up."""
    await peer.greeting()
    # The stateless protocol has no ping; this is its cheapest request.
    method = "ping" if await peer.era() is Era.LEGACY else modern.DISCOVER
    took_ms = []
    for _ in range(count):
        started_s = time.perf_counter()
        answer = await peer.send(method, {})
        took_ms.append((time.perf_counter() - started_s) * 1000)
        if answer.refused:
            raise UpstreamBrokeProtocol(f"refused {method}: {refusal_text(answer.value)}").at(peer.upstream.name)
    return took_ms


def peer_at(upstream: Upstream, person: Client, wish: str = "auto") -> Peer:
    """A client of one server and nothing between. *wish* is an era, or "auto"."""
    return Peer(upstream, person, partial(_era_of, upstream, wish))


def peer_of(gateway: "Gateway", person: Client, wish: str = "auto") -> Peer:
    """A client of all of the gateway's servers, through its pipeline."""
    return Peer(gateway.aggregate, person, partial(_era_in_use, gateway, wish), forward=gateway.forward)


def peers_of(gateway: "Gateway", person: Client, wish: str = "auto") -> list[Peer]:
    """A client for each server, through the pipeline."""
    return [
        Peer(upstream, person, partial(_era_of, upstream, wish), forward=gateway.forward, view=name)
        for name, upstream in gateway.upstreams.items()
    ]


async def _era_of(upstream: Upstream, wish: str) -> Era:
    if wish != "auto":
        return Era(wish)
    return Era.MODERN if Era.MODERN in await upstream.eras() else Era.LEGACY


async def _era_in_use(gateway: "Gateway", wish: str) -> Era:
    """The era in which the fewest servers have to be translated: stateless, unless none speaks that."""
    if wish != "auto":
        return Era(wish)
    asked = [asyncio.ensure_future(upstream.eras()) for upstream in gateway.upstreams.values()]
    if not asked:
        return Era.LEGACY
    done, waiting = await asyncio.wait(asked, timeout=gateway.config.patience_s)
    for each in waiting:
        each.cancel()
    known = [each.result() for each in done if not isinstance(each.exception(), BasculeError)]
    return Era.MODERN if any(Era.MODERN in eras for eras in known) else Era.LEGACY


# ---- reading what servers answer -----------------------------------------------------------------


def refusal_text(error: Raw) -> str:
    """A JSON-RPC error object in words."""
    found = jsonrpc.decode(error)
    if not isinstance(found, dict) or not isinstance(found.get("message"), str):
        return bytes(error).decode(errors="replace")
    return f"{found['message']} ({found.get('code')})"


def _decoded(members: Params, key: str) -> Mapping[str, Any]:
    value = jsonrpc.decode(members[key]) if key in members else None
    return value if isinstance(value, dict) else {}


def _versions(greeting: Params) -> list[str]:
    if "supportedVersions" in greeting:
        return [str(version) for version in jsonrpc.decode(greeting["supportedVersions"])]
    return [jsonrpc.text(greeting.get("protocolVersion")) or "?"]


def _server_info(greeting: Params) -> Mapping[str, Any]:
    if "serverInfo" in greeting:
        return _decoded(greeting, "serverInfo")
    return _decoded(modern.meta_of(greeting), modern.SERVER_INFO)
