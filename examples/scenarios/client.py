"""MCP of 2026-07-28 over HTTP with nothing but Python: each request stands alone, and so does its connection.

Knows how a request is written and an answer is read; what is asked, and what an answer means, is the agent's.
"""

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

Json: TypeAlias = dict[str, Any]

REVISION: Final = "2026-07-28"
META: Final = "io.modelcontextprotocol/"
MOST_ROUNDS: Final = 5  # of questions on the way to one answer
WITHIN_S: Final = 60.0
NAMED_BY: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

# The person at the client: is asked a question, and says yes or no.
Person: TypeAlias = Callable[[str], bool]


class Refused(Exception):
    """A JSON-RPC error: the request was not served. *error* is all that it said."""

    def __init__(self, error: Json) -> None:
        super().__init__(error["message"])
        self.error = error


@dataclass
class Client:
    """One caller at one endpoint. *person* answers what is asked on the way; without one, nobody can be asked."""

    url: str
    key: str
    person: Person | None = None
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass  # nothing is kept between two requests

    async def tools(self) -> list[Json]:
        listed: list[Json] = (await self.request("tools/list", {}, {}))["tools"]
        return listed

    async def call(self, name: str, arguments: Json, meta: Json) -> Json:
        return await self.request("tools/call", {"name": name, "arguments": arguments}, meta)

    async def read(self, uri: str, meta: Json) -> Json:
        return await self.request("resources/read", {"uri": uri}, meta)

    async def prompt(self, name: str, arguments: Json, meta: Json) -> Json:
        return await self.request("prompts/get", {"name": name, "arguments": arguments}, meta)

    async def request(self, method: str, params: Json, meta: Json) -> Json:
        """The result; what is asked on the way is asked of the person. Raises Refused."""
        for _ in range(MOST_ROUNDS):
            result = await self._once(method, params, meta)
            if result.get("resultType") != "input_required":
                return result
            asked: Json = result["inputRequests"]
            answers = {name: self._answered(question["params"]) for name, question in asked.items()}
            params = {**params, "inputResponses": answers, "requestState": result["requestState"]}
        raise RuntimeError(f"{method} asks again and again")

    def _answered(self, question: Json) -> Json:
        assert self.person
        if not self.person(question["message"]):
            return {"action": "decline"}
        # The one box of a confirmation (docs/approvals.md).
        return {"action": "accept", "content": dict.fromkeys(question["requestedSchema"]["properties"], True)}

    async def _once(self, method: str, params: Json, meta: Json) -> Json:
        capabilities: Json = {"elicitation": {}} if self.person else {}
        said = {
            META + "protocolVersion": REVISION,
            META + "clientInfo": {"name": "scenarios", "version": "1.0.0"},
            META + "clientCapabilities": capabilities,
            **meta,
        }
        id = next(self._ids)
        message = {"jsonrpc": "2.0", "id": id, "method": method, "params": {**params, "_meta": said}}
        headers = {
            "Authorization": f"Bearer {self.key}",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": REVISION,
            "Mcp-Method": method,
        }
        if method in NAMED_BY:
            headers["Mcp-Name"] = params[NAMED_BY[method]]
        async with asyncio.timeout(WITHIN_S):
            _, kind, body = await post(self.url, headers, message)
        answer = next(each for each in _messages(kind, body) if each.get("id") == id or "error" in each)
        if "error" in answer:
            raise Refused(answer["error"])
        result: Json = answer["result"]
        return result


def _messages(kind: str, body: bytes) -> list[Json]:
    """The JSON-RPC messages of an answer: one as JSON, or the events of a stream."""
    if "event-stream" not in kind:
        return [json.loads(body)]
    lines = body.decode().splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:") and line[5:].strip()]


async def post(url: str, headers: Mapping[str, str], message: Json) -> tuple[int, str, bytes]:
    """Status, media type and body of the answer. Who is cancelled meanwhile closes the connection."""
    parts = urlsplit(url)
    body = json.dumps(message).encode()
    head = {
        "Host": parts.netloc,
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **headers,
    }
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()
        return await _answer(reader)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str, bytes]:
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        body = await _chunks(reader)
    else:
        body = await reader.readexactly(int(headers["content-length"]))
    return int(status.split()[1]), headers.get("content-type", ""), body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    return bytes(body)
