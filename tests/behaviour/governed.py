"""A server of all kinds of things that remembers what reached it, and clients that show who they are.

What a gateway asks of its own accord (greetings, lists) is housekeeping; everything else that arrives is an execution.
"""

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from foreign import CACHE, ECHO, INFO, Asked, Foreign, listening
from gateway import LEGACY, Bascule, Headers, Json, Legacy, Modern

from bascule import config as configuration
from bascule.config import Config

KEY: Final = "${env:%s}"
HOUSEKEEPING: Final = frozenset({
    *("initialize", "notifications/initialized", "server/discover", "ping", "GET", "DELETE"),
    *("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
})  # fmt: skip
CAPABILITIES: Final[Json] = {
    "tools": {"listChanged": True},
    "prompts": {},
    "resources": {"subscribe": True},
    "completions": {},
    "logging": {},
}


def tool(name: str, *, result: Json | None = None, **members: Any) -> Json:
    """A tool as it is listed; *result* is its output schema."""
    schema = {"type": "object", "properties": {"text": {"type": "string"}, "amount": {"type": "integer"}}}
    output = {} if result is None else {"outputSchema": result}
    return {"name": name, "description": f"Does {name}.", "inputSchema": schema, **output, **members}


@dataclass
class Wide(Foreign):
    """A server of tools, prompts, resources and templates. `answers` has what a tool gives back, by its name."""

    tools: list[Json] = field(default_factory=lambda: [ECHO])
    prompts: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)
    answers: dict[str, Json] = field(default_factory=dict)
    instructions: str = ""
    cache: Json = field(default_factory=lambda: dict(CACHE))

    @property
    def executed(self) -> list[str]:
        """What arrived, but for housekeeping: methods, in their order."""
        return [each.name for each in self.seen if each.name not in HOUSEKEEPING]

    def calls(self, name: str) -> list[Asked]:
        return [each for each in self.asked("tools/call") if each.message["params"]["name"] == name]

    async def answer(self, asked: Asked) -> None:
        result = self.result(asked)
        if result is not None:
            head = None
            if asked.name == "initialize":
                self.sessions += 1
                head = {"mcp-session-id": f"session-{self.sessions}"}
            await asked.answer({"resultType": "complete", **result} if self.modern else result, head)
        elif asked.name == "subscriptions/listen":
            await self.listen(asked)
        else:
            await super().answer(asked)

    async def listen(self, asked: Asked) -> None:
        await asked.stream()
        tag = {"_meta": {"io.modelcontextprotocol/subscriptionId": asked.id}}
        wanted = asked.message["params"]["notifications"]
        await asked.event({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                           "params": {"notifications": wanted, **tag}})  # fmt: skip
        await asked.left()

    def result(self, asked: Asked) -> Json | None:
        params = asked.message.get("params", {})
        match asked.name:
            case "tools/list":
                return {"tools": self.tools, **self.cache}
            case "prompts/list":
                return {"prompts": [{"name": name} for name in self.prompts], **self.cache}
            case "resources/list":
                return {"resources": [{"uri": uri, "name": uri} for uri in self.resources], **self.cache}
            case "resources/templates/list":
                listed = [{"uriTemplate": text, "name": text} for text in self.templates]
                return {"resourceTemplates": listed, **self.cache}
            case "initialize" if not self.modern:
                spoken = {"protocolVersion": params["protocolVersion"], "serverInfo": INFO}
                return {**spoken, "capabilities": CAPABILITIES, "instructions": self.instructions}
            case "server/discover" if self.modern:
                offer = {"supportedVersions": ["2026-07-28"], "capabilities": CAPABILITIES, **self.cache}
                return {**offer, "instructions": self.instructions}
            case _ if asked.id is None:
                return None
            case _:
                return self.work(asked.name, params)

    def work(self, method: str, params: Json) -> Json | None:
        match method:
            case "tools/call":
                said = params.get("arguments", {}).get("text", "")
                found: Json = self.answers.get(params["name"], {"content": [{"type": "text", "text": said}]})
                return found
            case "prompts/get":
                return {"messages": [{"role": "user", "content": {"type": "text", "text": params["name"]}}]}
            case "resources/read":
                return {"contents": [{"uri": params["uri"], "text": f"of {params['uri']}"}], **self.cache}
            case "completion/complete":
                return {"completion": {"values": [str(params["ref"])]}}
            case "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel":
                return {}
            case _:
                return None


@asynccontextmanager
async def wide(*, modern: bool = False, **members: Any) -> AsyncIterator[Wide]:
    async with listening(Wide(modern, **members)) as server:
        yield server


# ---- clients -------------------------------------------------------------------------------------


def secret() -> str:
    """A key that may stand for a caller."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Credentials:
    """Callers of a configuration, each with one key of its own."""

    keys: Mapping[str, str]

    def configured(self, **callers: Json) -> Json:
        """The member `callers` of a configuration."""
        return {name: {"keys": [KEY % name.upper()], **options} for name, options in callers.items()}

    @property
    def environ(self) -> dict[str, str]:
        return {name.upper(): key for name, key in self.keys.items()}

    def of(self, name: str) -> dict[str, str]:
        return bearer(self.keys[name])


def credentials(*names: str) -> Credentials:
    return Credentials({name: secret() for name in names})


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


class Known(Modern):
    """A client of 2026-07-28 that shows a credential with each request."""

    def __init__(self, bascule: Bascule, path: str = "/mcp", shown: Headers | None = None) -> None:
        super().__init__(bascule, path, {})
        self.shown = dict(shown or {})

    def head(self, method: str, params: Json | None = None) -> dict[str, str | None]:
        return {**super().head(method, params), **self.shown}

    async def refused(self, method: str, params: Json | None = None) -> tuple[int, Json, Mapping[str, str]]:
        """(status, message, headers) of what comes back."""
        async with self.open(method, params) as exchange:
            return exchange.status, await exchange.last(), dict(exchange.headers)


async def session(bascule: Bascule, path: str = "/mcp", shown: Headers | None = None, version: str = LEGACY) -> Legacy:
    return await bascule.session(path, version, headers=shown)


def names(result: Json, member: str) -> list[str]:
    """The names, URIs or templates in a list."""
    key = {"resources": "uri", "resourceTemplates": "uriTemplate"}.get(member, "name")
    return [each[key] for each in result[member]]


def configured(servers: Mapping[str, Json], environ: Mapping[str, str] | None = None, **members: Any) -> Config:
    """The configuration that `gateway` would run with."""
    with TemporaryDirectory(prefix="bascule-") as folder:
        path = Path(folder) / "bascule.json"
        path.write_text(json.dumps({"servers": servers, **members}))
        return configuration.load(path, environ or {})
