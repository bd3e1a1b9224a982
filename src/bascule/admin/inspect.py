"""Looking into servers, and using them by hand: what the command line, REST and the console share.

A `Peer` is one more client, in front of `reach` or of a gateway's whole pipeline; it knows nothing of
terminals. Who hears what a server says, and answers what it asks, is given to it as *person*.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from bascule.call import Call, Caller, Client, Forward, Result, Target
from bascule.errors import (
    BasculeError,
    PromptNotFound,
    ResourceNotFound,
    ToolNotFound,
    Unavailable,
    UnsupportedVersion,
    UpstreamBrokeProtocol,
)
from bascule.registry.catalog import LISTS, items
from bascule.registry.sync import MAX_PAGES
from bascule.upstream.base import INFO, Upstream, reach
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import BY_VERSION, LATEST_LEGACY, LATEST_MODERN, Era

if TYPE_CHECKING:
    from bascule.app import Gateway

OPERATOR: Final = Caller("operator")
CAPABILITIES: Final[Mapping[str, Any]] = {"elicitation": {"form": {}, "url": {}}}
LOG_LEVEL: Final = modern.PREFIX + "logLevel"

_ERAS: Final = (Era.MODERN, Era.LEGACY)  # in order of preference
_PROGRESS_TOKEN: Final = 1
# Of a refusal: nothing ran, because the name is unknown in this era. Another era may have it.
_MISSES: Final = (ToolNotFound, PromptNotFound, ResourceNotFound, UnsupportedVersion)
_MISSED_KINDS: Final = frozenset(kind.kind for kind in _MISSES)


class About(msgspec.Struct, frozen=True, kw_only=True):
    """How a server introduces itself."""

    eras: Sequence[str]
    versions: Sequence[str]  # protocol versions: all that it names, or the one agreed on in a handshake
    server: Mapping[str, Any]
    capabilities: Mapping[str, Any]
    instructions: str


class Peer:
    """One client of one upstream (of a gateway's aggregate, all servers are one). Close it after use.

    It is a `call.Session` as well, for the legacy era. Where an upstream speaks both eras, lists are
    joined and a call goes to the first era that knows the name.
    """

    def __init__(
        self,
        upstream: Upstream,
        person: Client,
        eras: Callable[[], Awaitable[Collection[Era]]],
        *,
        forward: Forward = reach,
        view: str = "",
    ) -> None:
        """*eras* finds out what to speak, when it is first needed; *view* as in `Call`."""
        self.upstream = upstream
        self.id = f"operator-{secrets.token_hex(8)}"
        self.caller = OPERATOR
        self.revision = LATEST_LEGACY
        self.hello: Params = legacy.initialize_params(INFO, CAPABILITIES)
        self.capabilities = CAPABILITIES
        self._person = person
        self._forward = forward
        self._find_eras = eras
        self._eras: list[Era] | None = None
        self._view = view
        self._greetings: dict[Era, Raw] = {}
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

    # ---- eras

    async def eras(self) -> list[Era]:
        """What the upstream is believed to speak, best first; only `greeting` proves it."""
        if self._eras is None:
            found = await self._find_eras()
            self._eras = [era for era in _ERAS if era in found]
        return self._eras

    async def spoken(self) -> list[Era]:
        """The eras in which the upstream has greeted us. Raises what the best one fails with."""
        return [era async for era in self._spoken(prove_first=True)]

    async def _spoken(self, *, prove_first: bool = False) -> AsyncIterator[Era]:
        for rank, era in enumerate(list(await self.eras())):
            try:
                if rank or prove_first:
                    await self.greeting(era)
            except BasculeError:
                if not rank:
                    raise
                self._eras = [each for each in await self.eras() if each is not era]
                continue  # it was a guess that the server speaks this one too
            yield era

    async def greeting(self, era: Era) -> Raw:
        """The server's InitializeResult or DiscoverResult."""
        if era not in self._greetings:
            if era is Era.MODERN:
                self._greetings[era] = self._granted(modern.DISCOVER, await self.send_in(era, modern.DISCOVER, {}))
            else:
                raw = self._granted(legacy.INITIALIZE, await self.send_in(Era.LEGACY, legacy.INITIALIZE, self.hello))
                version = jsonrpc.text(jsonrpc.members(raw).get("protocolVersion"))
                self.revision = BY_VERSION.get(version or "", self.revision)
                self._greetings[era] = raw
        return self._greetings[era]

    # ---- requests

    async def send_in(self, era: Era, method: str, params: Params) -> Result:
        """One request in *era*."""
        self._next_id += 1
        if era is Era.MODERN:
            params = modern.stamp(params, info=INFO, capabilities=CAPABILITIES)
        return await self._forward(
            Call(
                caller=self.caller,
                client=self,
                revision=LATEST_MODERN if era is Era.MODERN else self.revision,
                method=method,
                params=params,
                id=jsonrpc.encode(self._next_id),
                session=self if era is Era.LEGACY else None,
                view=self._view,
                target=Target(self.upstream, params),
            )
        )

    async def send(self, method: str, params: Params) -> Result:
        """One request, in the first era that knows the name in it; never twice where it may have run."""
        first: Result | BasculeError | None = None
        async for era in self._spoken():
            try:
                outcome: Result | BasculeError = await self.send_in(era, method, params)
            except _MISSES as error:
                outcome = error
            if isinstance(outcome, Result) and not _missed(outcome):
                return outcome
            first = first or outcome
        if isinstance(first, Result):
            return first
        raise first or Unavailable("speaks no protocol that Bascule knows").at(self.upstream.name)

    async def call(self, tool: str, arguments: Raw) -> Result:
        """Call a tool; its progress and logs, and the server's questions, go to the person."""
        meta = {"progressToken": _PROGRESS_TOKEN, LOG_LEVEL: "info"}
        if Era.LEGACY in await self.eras():
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
        """A whole list as a result; byte for byte the server's own if that came in one page."""
        member, capability = LISTS[method]
        pages: list[Raw] = []
        entries: dict[str, Raw] = {}
        whole = True
        for era in await self.spoken():
            if capability not in _declared(await self.greeting(era)):
                continue
            fresh = [page async for page in self._pages(era, method)]
            found = {key: raw for page in fresh for key, raw in _entries(method, page, member)}
            whole = whole and len(fresh) <= 1 and (not pages or found.keys() <= entries.keys())
            pages += fresh
            entries = found | entries if not pages else entries | {k: v for k, v in found.items() if k not in entries}
        if not pages:
            return jsonrpc.encode({member: []})
        if whole:
            return pages[0]
        first = {key: raw for key, raw in jsonrpc.members(pages[0]).items() if key != "nextCursor"}
        return jsonrpc.encode(jsonrpc.replaced(first, **{member: list(entries.values())}))

    async def _pages(self, era: Era, method: str) -> AsyncIterator[Raw]:
        cursor: Raw | None = None
        for _ in range(MAX_PAGES):
            answer = await self.send_in(era, method, {} if cursor is None else {"cursor": cursor})
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
    """What the server says of itself, over all eras that it speaks."""
    eras = await peer.spoken()
    greetings = [jsonrpc.members(await peer.greeting(era)) for era in eras]
    versions = [version for greeting in greetings for version in _versions(greeting)]
    instructions = [text for greeting in greetings if (text := jsonrpc.text(greeting.get("instructions")))]
    return About(
        eras=[era.value for era in eras],
        versions=versions,
        server=next((info for greeting in greetings if (info := _server_info(greeting))), {}),
        capabilities={k: v for greeting in reversed(greetings) for k, v in _decoded(greeting, "capabilities").items()},
        instructions="\n\n".join(dict.fromkeys(instructions)),
    )


async def ping(peer: Peer, count: int) -> list[float]:
    """Milliseconds of *count* round trips, one after the other, to a server that is already up."""
    era = (await peer.spoken())[0]
    method = "ping" if era is Era.LEGACY else modern.DISCOVER  # modern has no ping; this is its cheapest request
    took_ms = []
    for _ in range(count):
        started_s = time.perf_counter()
        answer = await peer.send_in(era, method, {})
        took_ms.append((time.perf_counter() - started_s) * 1000)
        if answer.refused:
            raise UpstreamBrokeProtocol(f"refused {method}: {refusal_text(answer.value)}").at(peer.upstream.name)
    return took_ms


def peer_at(upstream: Upstream, person: Client, wish: str = "auto") -> Peer:
    """A client of one server and nothing between. *wish* is an era, or "auto"."""
    return Peer(upstream, person, partial(_eras_of, upstream, wish))


def peer_of(gateway: "Gateway", person: Client, wish: str = "auto") -> Peer:
    """A client of all of the gateway's servers, through its pipeline."""
    return Peer(gateway.aggregate, person, partial(_eras_in_use, gateway, wish), forward=gateway.forward)


def peers_of(gateway: "Gateway", person: Client, wish: str = "auto") -> list[Peer]:
    """A client for each server, through the pipeline."""
    return [
        Peer(upstream, person, partial(_eras_of, upstream, wish), forward=gateway.forward, view=name)
        for name, upstream in gateway.upstreams.items()
    ]


async def _eras_of(upstream: Upstream, wish: str) -> Collection[Era]:
    if wish != "auto":
        return [Era(wish)]
    spoken = await upstream.eras()
    # A command's other era would be a second process of the same server. A URL may hide several servers.
    return [Era.MODERN] if upstream.status().kind == "stdio" and Era.MODERN in spoken else spoken


async def _eras_in_use(gateway: "Gateway", wish: str) -> Collection[Era]:
    """The best era of each server. Servers that are down do not count; the catalog says what is missing."""
    if wish != "auto":
        return [Era(wish)]
    asked = [asyncio.ensure_future(upstream.eras()) for upstream in gateway.upstreams.values()]
    if not asked:
        return [Era.LEGACY]
    done, waiting = await asyncio.wait(asked, timeout=gateway.config.patience_s)
    for each in waiting:
        each.cancel()
    known = [each.result() for each in done if not isinstance(each.exception(), BasculeError)]
    return {Era.MODERN if Era.MODERN in eras else Era.LEGACY for eras in known} or {Era.LEGACY}


# ---- reading what servers answer -----------------------------------------------------------------


def refusal_text(error: Raw) -> str:
    """A JSON-RPC error object in words."""
    found = jsonrpc.decode(error)
    if not isinstance(found, dict) or not isinstance(found.get("message"), str):
        return bytes(error).decode(errors="replace")
    return f"{found['message']} ({found.get('code')})"


def input_required(result: Raw) -> Mapping[str, Any] | None:
    """The questions of a modern server that wants input before it goes on; None for any other result."""
    if b"input_required" not in bytes(result):
        return None
    found = jsonrpc.decode(result)
    return found.get("inputRequests") or {} if found.get("resultType") == "input_required" else None


def _missed(result: Result) -> bool:
    """Whether a refusal says that the name, or we, belong to another era. Only Bascule itself says so."""
    if not result.refused:
        return False
    if modern.error_code(result.value) == UnsupportedVersion.code:
        return True
    found = jsonrpc.decode(result.value)
    told = found.get("data") if isinstance(found, dict) else None
    return isinstance(told, dict) and told.get("kind") in _MISSED_KINDS


def _entries(method: str, page: Raw, member: str) -> list[tuple[str, Raw]]:
    raws = jsonrpc.items(jsonrpc.members(page).get(member, Raw(b"[]")))
    return [(item.key, raw) for raw in raws for item in items(method, [raw])]


def _declared(greeting: Raw) -> Mapping[str, Any]:
    return _decoded(jsonrpc.members(greeting), "capabilities")


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
