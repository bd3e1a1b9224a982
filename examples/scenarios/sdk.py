"""The same client as client.py, by the official Python SDK (`pip install mcp`, 2.3 or newer)."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx2
import mcp_types as types
from client import Json, Person, Refused
from mcp import Client as Sdk
from mcp import MCPError
from mcp.client import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client


@dataclass
class Client:
    url: str
    key: str
    person: Person | None = None
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> "Client":
        shown = {"Authorization": f"Bearer {self.key}"}
        http = await self._open.enter_async_context(httpx2.AsyncClient(headers=shown, timeout=60, trust_env=False))
        transport = streamable_http_client(self.url, http_client=http)
        answer = self._answer if self.person else None
        self._sdk = await self._open.enter_async_context(Sdk(transport, elicitation_callback=answer, cache=None))
        # It holds results against the schemas of the tools that it has listed, by the names they are listed under.
        self._names = {tool["name"].replace("__", "/", 1): tool["name"] for tool in await self.tools()}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def tools(self) -> list[Json]:
        return [_plain(tool) for tool in (await self._sdk.list_tools()).tools]

    async def call(self, name: str, arguments: Json, meta: Json) -> Json:
        return await self._asked(self._sdk.call_tool(self._names.get(name, name), arguments, meta=meta))  # type: ignore[arg-type]

    async def read(self, uri: str, meta: Json) -> Json:
        return await self._asked(self._sdk.read_resource(uri, meta=meta))  # type: ignore[arg-type]

    async def prompt(self, name: str, arguments: Json, meta: Json) -> Json:
        return await self._asked(self._sdk.get_prompt(name, arguments, meta=meta))  # type: ignore[arg-type]

    async def _asked(self, request: Any) -> Json:
        try:
            return _plain(await request)
        except MCPError as error:
            raise Refused(_plain(error.error)) from None

    async def _answer(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert self.person
        assert isinstance(params, types.ElicitRequestFormParams)
        if not self.person(params.message):
            return types.ElicitResult(action="decline")
        boxes: dict[str, Any] = dict.fromkeys(params.requested_schema["properties"], True)
        return types.ElicitResult(action="accept", content=boxes)


def _plain(model: Any) -> Json:
    found: Json = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found
