"""Where the cases are tried: a Bascule with a server behind it that counts, and clients for each transport.

One Bascule for each configuration serves every case against it; a case that wants another server, or other
options, has one of its own.
"""

import asyncio
import contextlib
import gzip
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Final, TypeAlias

import aiohttp
import msgspec
from authority import Authority
from foreign import CACHE, ECHO, Asked, Foreign, listening
from gateway import KINDLY, META, MODERN, NAMED_BY, SOON, Bascule, gateway, gone, remote
from test_bridge import Bridge, bridge

from bascule.edge import protocol, replies, streams
from bascule.store.files import FILE
from corpus.cases import Behind, Case, Piece, Sent, Transport, built
from corpus.forge import Token, forged
from corpus.wire import Answer, Connection, connect, request
from processes import ROOT
from processes import server as command_of

Json: TypeAlias = dict[str, Any]

WAIT_S: Final = 15.0  # for what a case needs, and is not about
UPSTREAM_SECRET: Final = "canary-upstream-7f1c0d9e5b2a4c68"
BEARER: Final = "canary-bearer-3d8e6f0a1b5c4792"
MIB: Final = 1 << 20
GOOD: Final = b"still here"  # what the good request says
AGENT_KEY: Final = "canary-agent-9f2b6c1d7e3a4850aa61"
OTHER_KEY: Final = "canary-other-4c8e1a7b5d2f4963bb70"
SECRETS: Final = (UPSTREAM_SECRET, BEARER, AGENT_KEY, OTHER_KEY)

# What a gateway asks a server of its own accord, or to open a session.
_NO_CALL: Final = frozenset({
    "server/discover", "initialize", "notifications/initialized", "tools/list", "prompts/list", "resources/list",
    "resources/templates/list", "GET", "DELETE",
})  # fmt: skip


# ---- the server behind ---------------------------------------------------------------------------


async def repeat_cursor(asked: Asked) -> None:
    """A list whose next page is always the same one."""
    await asked.answer({"resultType": "complete", "tools": [ECHO], "nextCursor": "again", **CACHE})


async def never_end(asked: Asked) -> None:
    """A list that always has one more page."""
    page = int(asked.message.get("params", {}).get("cursor", 0))
    tool = ECHO | {"name": f"echo_{page}"} if page else ECHO
    await asked.answer({"resultType": "complete", "tools": [tool], "nextCursor": str(page + 1), **CACHE})


async def send_a_long_event(asked: Asked) -> None:
    """An answer as a stream of one event that is too large."""
    await asked.stream()
    await asked.event(
        {"jsonrpc": "2.0", "id": asked.id, "result": {"content": [{"type": "text", "text": "x" * 10 * MIB}]}}
    )
    await asked.end()


async def send_compressed(asked: Asked) -> None:
    """An answer that grows a thousandfold once it is read; nobody asked for the compression."""
    whole = b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":"%b"}]}}'
    body = gzip.compress(whole % (json.dumps(asked.id).encode(), b" " * 10 * MIB))
    await asked.reply(200, body, headers={"content-encoding": "gzip"})


MISBEHAVIOUR: Final[Mapping[str, Mapping[str, Callable[[Asked], Awaitable[None]]]]] = {
    "": {},
    "long-event": {"tools/call": send_a_long_event},
    "compressed": {"tools/call": send_compressed},
    "repeats-cursor": {"tools/list": repeat_cursor},
    "never-ends": {"tools/list": never_end},
}


def _worded(text: str, asked: Asked) -> bytes:
    """*text* with <ID>, <SAID> and <GOOD>, the right answer, as hostile_script.py has them."""
    id, said = json.dumps(asked.id), json.dumps(asked.text)
    complete = '"resultType":"complete",'
    good = f'{{"jsonrpc":"2.0","id":{id},"result":{{{complete}"content":[{{"type":"text","text":{said}}}]}}}}'
    for word, meaning in (("<GOOD>", good), ("<ID>", id), ("<SAID>", said), ("<COMPLETE>", complete)):
        text = text.replace(word, meaning)
    return text.encode()


async def done(asked: Asked, steps: Sequence[Mapping[str, Any]]) -> None:
    """What a case has the server do with one call; at the end of the steps its connection is closed."""
    for step in steps:
        ((name, value),) = step.items()
        await STEPS[name](asked, value)
    asked.writer.close()


async def _answer(asked: Asked, how: Mapping[str, Any]) -> None:
    """A whole HTTP response, or one of another length than it says."""
    kind = {"content-type": how.get("type", "application/json"), **how.get("headers", {})}
    await asked.reply(how.get("status", 200), _worded(how.get("body", "<GOOD>"), asked), headers=kind)


async def _drip(asked: Asked, how: Mapping[str, Any]) -> None:
    """*text* again and again, one byte at a time, until the client leaves."""
    whole = _worded(how["text"], asked)
    while not asked.reader.at_eof():
        for byte in whole:
            if asked.writer.transport.is_closing():
                return
            piece = bytes([byte])
            await (asked.chunk(piece) if asked.streaming else asked.write(piece))
            await asyncio.sleep(how.get("every_s", 0.05))


async def _again(asked: Asked, how: Mapping[str, Any]) -> None:
    for _ in range(how["times"]):
        for step in how["do"]:
            ((name, value),) = step.items()
            await STEPS[name](asked, value)


async def _reset(asked: Asked, value: Any) -> None:
    asked.reset()
    raise ConnectionError


STEPS: Final[Mapping[str, Callable[[Asked, Any], Awaitable[None]]]] = {
    "answer": _answer,
    "raw": lambda asked, text: asked.write(_worded(text, asked)),
    "stream": lambda asked, value: asked.stream(),
    "chunk": lambda asked, text: asked.chunk(_worded(text, asked)),
    "event": lambda asked, text: asked.chunk(b"data: " + _worded(text, asked) + b"\n\n"),
    "drip": _drip,
    "again": _again,
    "sleep": lambda asked, seconds: asyncio.sleep(seconds),
    "end": lambda asked, value: asked.end(),
    "reset": _reset,
    "until_left": lambda asked, value: asyncio.wait_for(asked.left(), WAIT_S),
}


@dataclass
class Counting(Foreign):
    """The server: one tool, and whatever a case wants instead."""

    listing: bytes = b""  # the array of tools as JSON, if a case says it
    result: bytes = b""  # of each tools/call
    steps: Sequence[Sequence[Mapping[str, Any]]] = ()  # for the first call, the second, …

    @property
    def calls(self) -> list[Asked]:
        return [each for each in self.seen if each.name not in _NO_CALL]

    @property
    def good(self) -> int:
        """How many of the calls were good ones."""
        return sum(GOOD in each.body for each in self.asked("tools/call"))

    async def answer(self, asked: Asked) -> None:
        if asked.name == "tools/list" and self.listing:
            await self._whole(
                asked, b'{"resultType":"complete","tools":%b,"ttlMs":60000,"cacheScope":"private"}' % self.listing
            )
        elif asked.name == "tools/call" and self.steps and GOOD not in asked.body:
            await done(asked, self.steps[min(len(self.asked("tools/call")) - self.good, len(self.steps)) - 1])
        elif asked.name == "tools/call" and self.result:
            await self._whole(asked, self.result)
        else:
            await super().answer(asked)

    async def _whole(self, asked: Asked, result: bytes) -> None:
        await asked.reply(200, b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (json.dumps(asked.id).encode(), result))


def counting(behind: Behind, words: Mapping[str, str]) -> Counting:
    server = Counting(behind.modern, on=dict(MISBEHAVIOUR[behind.does]), steps=behind.calls)
    if behind.tools is not None:
        server.listing = built({"json": behind.tools}, words)
    elif behind.tools_json is not None:
        server.listing = built(behind.tools_json, words)
    if behind.result is not None:
        as_json = isinstance(behind.result, dict) and not behind.result.keys() & {"repeat", "json", "hex", "base64"}
        server.result = built({"json": behind.result} if as_json else behind.result, words)
    return server


# ---- a configuration -----------------------------------------------------------------------------


class Configuration:
    """What a name in `against` stands for: members of the file, and what a good client sends with each request."""

    def __init__(self, *, credentials: Mapping[str, str] | None = None, **members: Any) -> None:
        self.credentials = credentials or {}
        self.members = members


OTHERS: Final = {"other": {"authorization": f"Bearer {OTHER_KEY}"}}  # credentials of others than the good client
_AGENT: Final = {
    "agent": {"scopes": ["far", "near", "bascule.status:read"], "keys": ["${env:AGENT_KEY}"]},
    "other": {"scopes": ["far"], "keys": ["${env:OTHER_KEY}"]},
}
_BY_KEY: Final = {"authorization": f"Bearer {AGENT_KEY}"}

CONFIGURATIONS: Final = {
    "plain": Configuration(),
    "bearer": Configuration(credentials={"authorization": f"Bearer {BEARER}"}, http={"bearer": "${env:BEARER}"}),
    "keyed": Configuration(credentials=_BY_KEY, callers=_AGENT),
    # Tokens of one issuer, whose scopes callers can ask for; and the key of an agent, which is the good client.
    "issuer": Configuration(
        credentials=_BY_KEY,
        callers=_AGENT,
        auth={"issuers": {"as": {"issuer": "<ISSUER>", "grantable": ["far", "offline_access"]}}},
    ),
}


@dataclass
class Ground:
    """A Bascule, what is behind it, and what a fetch that must not happen would reach."""

    bascule: Bascule
    server: Counting
    credentials: Mapping[str, str]  # of the good client
    words: Mapping[str, str]
    fetches: list[str]
    authority: Authority | None
    heard: list[str]  # what Bascule and the bridge said on stderr, where they are processes of their own
    shown: Mapping[str, str] = field(default_factory=dict)  # credentials of a case's own
    tokens: list[str] = field(default_factory=list)  # that were sent in this case
    bridge: Bridge | None = None
    journal: Path | None = None  # of a server over stdio
    traces: list[str] = field(default_factory=list)  # of the answers in this case
    good_at: str = "far"  # the server that answers as it should

    @property
    def calls(self) -> list[bytes]:
        """What has reached the server, but for lists and for good requests."""
        if self.journal is None:
            found = [each.body for each in self.server.calls]
        else:
            found = [line.removeprefix(b"call ") for line in _noted(self.journal) if line.startswith(b"call ")]
        return [each for each in found if GOOD not in each]

    @property
    def port(self) -> int:
        return int(self.bascule.url.rpartition(":")[2])

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def processes(self) -> list[asyncio.subprocess.Process]:
        """Bascule and the bridge, as far as they are processes of their own."""
        found = (self.bascule.process, self.bridge.process if self.bridge else None)
        return [process for process in found if process is not None]

    def recorded(self) -> tuple[list[str], int]:
        """(traces of the calls, number of requests turned away at the door) that the audit has."""
        assert self.bascule.gateway is not None
        state = Path(self.bascule.gateway.config.state_dir)
        with contextlib.closing(sqlite3.connect(state / FILE)) as audit:
            calls = audit.execute("SELECT trace_id FROM audit WHERE kind = 'call'").fetchall()
            refused = audit.execute("SELECT count(*) FROM audit WHERE kind = 'refused'").fetchone()
        return [trace for (trace,) in calls], int(refused[0])

    def check_alive(self) -> None:
        """Fail if a process has ended; a new one in its place would not be noticed by its answers."""
        assert all(process.returncode is None for process in self.processes), "a process has ended"

    @property
    def rss_bytes(self) -> int:
        """Of all processes, what they have in memory."""
        pages = [int(Path(f"/proc/{each.pid}/statm").read_text().split()[1]) for each in self.processes]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def ground(
    configuration: Configuration,
    behind: Behind | None = None,
    more: Mapping[str, Any] | None = None,
) -> AsyncIterator[Ground]:
    """A Bascule with one server, called `far`: a process, or part of this one if the server or the options are special.

    To start a process takes a second, and only what many cases share is worth it.
    """
    heard: list[str] = []
    fetches: list[str] = []
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="bascule-"))
        words = {"<CANARY>": await stack.enter_async_context(_canary(fetches))}
        server = await stack.enter_async_context(listening(counting(behind or Behind(), words)))
        journal = Path(folder) / "journal" if behind and behind.stdio is not None else None
        servers = {"far": _far(server, behind, journal), **({"near": remote(server.url)} if journal else {})}
        members = {"servers": servers, "drain": SOON, **configuration.members, **(more or {})}
        # Its clients are in the same loop, or on the same machine, and what they take is not its own.
        members.setdefault("overload", {"max_lag_s": 30})
        authority = None
        if "<ISSUER>" in (text := json.dumps(members)):
            authority = await stack.enter_async_context(Authority())
            members = json.loads(text.replace("<ISSUER>", authority.issuer))
        environ = {
            "UPSTREAM": UPSTREAM_SECRET,
            "BEARER": BEARER,
            "AGENT_KEY": AGENT_KEY,
            "OTHER_KEY": OTHER_KEY,
            "XDG_STATE_HOME": folder,
        }
        alone = behind is not None or more is not None
        if journal is not None:
            stack.push_async_callback(_all_gone, journal)
        running = gateway(environ=environ, **members) if alone else process(members, environ, Path(folder), heard)
        bascule = await stack.enter_async_context(running)
        bascule.http.headers.update(configuration.credentials)
        await bascule.until("far", lambda said: said["lists"] != "unknown" or said["last_error"], WAIT_S)
        found = Ground(bascule, server, configuration.credentials, words, fetches, authority, heard)
        yield replace(found, journal=journal, good_at="near") if journal else found


async def _all_gone(journal: Path) -> None:
    """Fail unless all processes of *journal* are gone; Bascule has ended."""
    pids = [int(line.removeprefix(b"pid ")) for line in _noted(journal) if line.startswith(b"pid ")]
    assert pids
    await gone(*pids, within_s=1)


def _noted(journal: Path | None) -> list[bytes]:
    return journal.read_bytes().splitlines() if journal and journal.exists() else []


# What may be shorter for a case than it is: (where, name) by what cases call it.
TIMERS: Final[Mapping[str, tuple[ModuleType, str]]] = {
    "head": (protocol, "HEAD_WITHIN_S"),
    "body": (protocol, "BODY_WITHIN_S"),
    "keep_alive": (streams, "KEEP_ALIVE_S"),
    "slow": (replies, "SLOW_S"),
}


@contextmanager
def hurried(timers: Mapping[str, float]) -> Iterator[None]:
    """These constants are those, as long as the context lasts."""
    before = {name: getattr(*TIMERS[name]) for name in timers}
    try:
        for name, seconds in timers.items():
            setattr(*TIMERS[name], seconds)
        yield
    finally:
        for name, value in before.items():
            setattr(*TIMERS[name], value)


def _far(server: Counting, behind: Behind | None, journal: Path | None = None) -> Json:
    if behind is not None and behind.stdio is not None:
        command, *args = command_of("hostile_script", json.dumps(behind.stdio), str(journal))
        return {"command": command, "args": args, "stop_grace_s": 0.3, **behind.options}
    secret = {"headers": {"x-upstream-secret": "${env:UPSTREAM}"}}
    return remote(server.url, **secret, **(dict(behind.options) if behind else {}))


@asynccontextmanager
async def process(
    configuration: Json, environ: Mapping[str, str], folder: Path, heard: list[str]
) -> AsyncIterator[Bascule]:
    """`bascule serve` with *configuration*; what it says on stderr is *heard*."""
    path = folder / "bascule.json"
    path.write_text(json.dumps(configuration))
    served = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "bascule", "serve", "-c", str(path), "--port", "0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": f"{folder}/config", **environ},
        cwd=ROOT,
    )
    assert served.stdout
    assert served.stderr
    listening = asyncio.ensure_future(_listen(served.stderr, heard))
    try:
        async with asyncio.timeout(WAIT_S):
            line = await served.stdout.readline()
        assert line, "".join(heard)
        async with aiohttp.ClientSession() as http:
            yield Bascule(line.split()[0].decode().removesuffix("/mcp"), http, process=served)
    finally:
        if served.returncode is None:
            served.send_signal(signal.SIGINT)
        async with asyncio.timeout(WAIT_S):
            await served.wait()
            await listening


async def _listen(stderr: asyncio.StreamReader, heard: list[str]) -> None:
    while line := await stderr.readline():
        heard.append(line.decode(errors="replace"))


@asynccontextmanager
async def _canary(fetches: list[str]) -> AsyncIterator[str]:
    """host:port of a listener that nobody has any business at."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fetches.append((await reader.readline()).decode("latin-1"))
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as listener:
        host, port = listener.sockets[0].getsockname()
        yield f"{host}:{port}"


# ---- clients -------------------------------------------------------------------------------------


async def tried(ground: Ground, case: Case, transport: Transport) -> Answer:
    """What comes back for the input of *case*."""
    if case.send.as_:
        ground = replace(ground, credentials=OTHERS[case.send.as_])
    if case.send.token is not None:
        ground = _with_token(ground, msgspec.convert(case.send.token, Token), case.send.path or "/servers/far/mcp")
    match transport:
        case "raw":
            return await _at_once(ground, built(case.send.raw, _raw_words(ground)), case)
        case "modern":
            return await _at_once(ground, _modern(ground, case.send), case)
        case "session":
            return await _in_session(ground, case)
        case "sse":
            return await _over_sse(ground, case)
        case "stdio":
            return await _over_stdio(ground, case)


def _with_token(ground: Ground, token: Token, path: str) -> Ground:
    """*ground* for a client that has *token*; its texts may name it `<TOKEN>`."""
    assert ground.authority is not None
    audience = ground.bascule.url + path.partition("?")[0]
    text = forged(token, ground.authority, audience, {**ground.words, "<URL>": ground.bascule.url})
    ground.tokens.append(text)
    words = {**ground.words, "<TOKEN>": text}
    return replace(ground, words=words, shown={"authorization": f"Bearer {text}"})


LIST: Final = json.dumps({
    "jsonrpc": "2.0", "id": 1, "method": "tools/list",
    "params": {"_meta": {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}},
})  # fmt: skip


def _raw_words(ground: Ground) -> dict[str, str]:
    """A good request in parts, for cases that spell out all but the one thing they are about."""
    usual = {"Host": ground.host, **KINDLY, **ground.credentials, "MCP-Protocol-Version": MODERN}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**usual, "Mcp-Method": "tools/list"}.items())
    words = {
        "<USUAL>": lines,
        "<LIST>": LIST,
        "<LENGTH>": str(len(LIST)),
        "<HEXLENGTH>": f"{len(LIST):x}",
        "<BEARER>": BEARER,
    }
    return {**ground.words, **words, "<HOST>": ground.host}


async def _at_once(ground: Ground, whole: bytes, case: Case) -> Answer:
    # From an address of its own, because wrong credentials are counted by address.
    connection = await connect(ground.port, f"127.{next(_ADDRESSES)}")
    try:
        for _ in range(case.send.times - 1):
            await connection.say(whole, WAIT_S)
        return await connection.say(whole, case.expect.within_s, case.send.drip, case.send.answers)
    finally:
        connection.close()


_ADDRESSES: Final = (f"{high}.{low}.1" for high in range(1, 255) for low in range(256))


def _modern(ground: Ground, sent: Sent) -> bytes:
    usual: Json = {**KINDLY, **ground.credentials, **ground.shown}
    usual |= {"mcp-protocol-version": MODERN, "mcp-method": "tools/list"}
    if sent.message is not None:
        method, params = str(sent.message.get("method", "")), sent.message.get("params")
        usual["mcp-method"] = method
        name = params.get(NAMED_BY.get(method, "")) if isinstance(params, dict) else None
        if isinstance(name, str) and name.isascii() and name.isprintable():
            usual["mcp-name"] = name
    return _request(ground, sent, usual, "mcp", modern=True)


def _request(ground: Ground, sent: Sent, usual: Json, end: str, *, modern: bool, query: str = "") -> bytes:
    headers: dict[str, Any] = {name: value.encode() for name, value in usual.items()}
    for name, value in sent.headers.items():
        headers[name.lower()] = _header(value, ground.words)
    path = built(sent.path if sent.path is not None else f"/servers/far/{end}", ground.words).decode()
    body = None if sent.verb in ("GET", "DELETE", "OPTIONS") else _body(ground, sent, modern=modern)
    return request(sent.verb, path + query, headers, body, ground.host)


def _header(value: Piece, words: Mapping[str, str]) -> bytes | list[bytes] | None:
    if value is None:
        return None
    return [built(each, words) for each in value] if isinstance(value, list) else built(value, words)


def _body(ground: Ground, sent: Sent, *, modern: bool) -> bytes:
    stamp: Json = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}} if modern else {}
    if sent.message is None:
        words = {**ground.words, "<META>": f'"_meta":{json.dumps(stamp)}'}
        return built(sent.body if sent.body is not None else "", words)
    message = {"jsonrpc": "2.0", "id": 1, **sent.message}
    if message["id"] is None:
        del message["id"]  # a notification
    if modern and isinstance(message.setdefault("params", {}), dict):
        message["params"] = {**message["params"], "_meta": {**stamp, **message["params"].get("_meta", {})}}
    return built({"json": message}, ground.words)


# ---- in a session


async def _in_session(ground: Ground, case: Case) -> Answer:
    connection = await connect(ground.port)
    usual: Json = {**KINDLY, **ground.credentials}
    endpoint = case.send.path or "/servers/far/mcp"
    try:
        hello = _hello(case.revision)
        greeted = await connection.say(
            request("POST", endpoint, _encoded(usual), json.dumps(hello).encode(), ground.host), WAIT_S
        )
        assert greeted.status == 200, greeted
        usual["mcp-session-id"] = greeted.header("mcp-session-id")
        usual["mcp-protocol-version"] = case.revision
        ready = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
        await connection.say(request("POST", endpoint, _encoded(usual), ready, ground.host), WAIT_S)
        usual |= ground.shown
        whole = _request(ground, case.send, usual, "mcp", modern=False)
        return await connection.say(whole, case.expect.within_s, case.send.drip)
    finally:
        connection.close()


def _hello(revision: str) -> Json:
    said = {"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "hostile", "version": "1"}}
    return {"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": said}


def _encoded(headers: Mapping[str, str]) -> dict[str, bytes]:
    return {name: value.encode() for name, value in headers.items()}


# ---- over HTTP+SSE of 2024-11-05


async def _over_sse(ground: Ground, case: Case) -> Answer:
    listening = await connect(ground.port)
    posting = await connect(ground.port)
    usual: Json = {**KINDLY, **ground.credentials}
    endpoint = case.send.path or "/servers/far/sse"
    try:
        listening.writer.write(
            request("GET", endpoint, _encoded(ground.credentials) | {"accept": b"text/event-stream"}, None, ground.host)
        )
        async with asyncio.timeout(WAIT_S):
            assert (await listening.head())[0] == 200
            target = (await _event(listening))[1]
        for said in (_hello("2024-11-05"), {"jsonrpc": "2.0", "method": "notifications/initialized"}):
            whole = request("POST", target, _encoded(usual), json.dumps(said).encode(), ground.host)
            assert (await posting.say(whole, WAIT_S)).status == 202
        async with asyncio.timeout(WAIT_S):
            assert b"result" in (await _event(listening))[1].encode()
        sent = msgspec.structs.replace(case.send, path=target)
        usual |= ground.shown
        whole = _request(ground, sent, usual, "sse", modern=False)
        answer = await posting.say(whole, case.expect.within_s, sent.drip)
        if answer.status != 202 or case.expect.silent:
            return answer
        async with asyncio.timeout(case.expect.within_s):
            while "method" in json.loads(told := (await _event(listening))[1]):
                pass  # said while the call ran
        return Answer(202, answer.headers, told.encode(), took_s=answer.took_s)
    finally:
        listening.close()
        posting.close()


async def _event(connection: Connection) -> tuple[str, str]:
    """(name, text) of the next event."""
    name = "message"
    told: list[str] = []
    text = b""
    while not told:
        text += await connection.chunk()
        while b"\n\n" in text and not told:
            event, _, text = text.partition(b"\n\n")
            for line in event.decode().split("\n"):
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    told.append(value)
    return name, "\n".join(told)


# ---- over stdio


@asynccontextmanager
async def bridged(ground: Ground) -> AsyncIterator[Bridge]:
    """`bascule bridge` straight to the server: another process, another edge, the same door."""
    credentials = {"env": {"CANARY": UPSTREAM_SECRET}}
    async with bridge(ground.server.url, "--header-env", "x-upstream-secret=CANARY", **credentials) as client:
        assert client.process.stderr
        listening = asyncio.ensure_future(_listen(client.process.stderr, ground.heard))
        await client.initialize()
        ground.bridge = client
        try:
            yield client
        finally:
            ground.bridge = None
            listening.cancel()


async def _over_stdio(ground: Ground, case: Case) -> Answer:
    client = ground.bridge
    assert client is not None
    line = _body(ground, case.send, modern=True)
    began = asyncio.get_running_loop().time()
    writing = asyncio.ensure_future(client.write(line))
    if case.expect.silent:
        await writing
        await client.send({"id": "after", "method": "ping"})
    async with asyncio.timeout(case.expect.within_s):
        told = (await client.raw()).rstrip(b"\n")
    await writing
    silent = case.expect.silent and json.loads(told).get("id") == "after"
    return Answer(None, (), b"" if silent else told, took_s=asyncio.get_running_loop().time() - began)


# ---- the good request that has to be answered still


async def answers_still(ground: Ground, transport: Transport, *, usual: bool) -> None:
    """Fail unless a good request gets its answer; with the *usual* server, from that server."""
    said: Json = {"method": "tools/call", "params": {"name": "echo", "arguments": {"text": GOOD.decode()}}}
    if transport == "stdio":
        assert ground.bridge is not None
        found = await ground.bridge.result(said["method"], said["params"], id="still")
        assert found["content"][0]["text"] == GOOD.decode(), found
        return
    own = Sent(message=said, path=f"/servers/{ground.good_at}/mcp")
    sent = own if usual else Sent(message={"method": "tools/list"}, path="/mcp")
    connection = await connect(ground.port)
    try:
        answer = await connection.say(_modern(ground, sent), WAIT_S)
    finally:
        connection.close()
    assert answer.status == 200, answer
    assert "result" in answer.message, answer
    assert not usual or answer.message["result"]["content"][0]["text"] == GOOD.decode(), answer
