"""MCP for a pack, on standard input and output: both eras, one message per line, answers as they are ready.

Stateless but for what a client cancels. Source: MCP 2026-07-28 and 2025-11-25: "Lifecycle", "Tools", "Resources",
"Prompts", "stdio".
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, Raw

from bascule.contract.validation.schema import arguments_message
from bascule.errors import BasculeError, Internal, InvalidParams, InvalidRequest, MethodNotFound, UnsupportedVersion
from bascule.packs.pack import Asked, Pack, Prompt, Resource, Tool, ToolFailed
from bascule.pipes import Input, Output
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.jsonrpc import NOTHING, Notification, Params, Request
from bascule.wire.lines import Lines
from bascule.wire.versions import LEGACY_VERSIONS, MODERN_VERSIONS
from bascule.wire.wishes import KEY_META

log = logging.getLogger("bascule.packs")

MAX_LINE_BYTES: Final = 4 * 1024 * 1024
_LIST_TTL_MS: Final = 3_600_000  # its lists never change while it runs

Method = Callable[[Params], Awaitable[Mapping[str, Any]]]


class PackServer:
    """Answers the requests of one client; *put* takes each message to it."""

    def __init__(self, pack: Pack, put: Callable[[bytes], None]) -> None:
        self._pack = pack
        self._put = put
        self._running: dict[bytes, asyncio.Task[None]] = {}
        self._info = {"name": f"bascule-{pack.name}", "title": pack.title, "version": pack.version}
        self._methods: Mapping[str, Method] = {
            legacy.INITIALIZE: self._initialize,
            modern.DISCOVER: self._discover,
            "ping": self._ping,
            "tools/list": self._list_tools,
            "tools/call": self._call,
            "resources/list": self._list_resources,
            "resources/templates/list": self._list_templates,
            "resources/read": self._read,
            "prompts/list": self._list_prompts,
            "prompts/get": self._prompt,
        }

    def take(self, line: bytes) -> None:
        """One line of the client's."""
        try:
            (message,) = jsonrpc.parse(line)
        except BasculeError as error:
            self._put(jsonrpc.refusal(error.request_id, _error(error)))
            return
        match message:
            case Request():
                self._begin(message)
            case Notification(method=legacy.CANCELLED):
                if task := self._running.get(bytes(message.params.get("requestId", NOTHING))):
                    task.cancel()
            case _:
                pass  # other notifications say nothing that matters here, and it asks nobody anything

    def overlong(self, head: bytes) -> None:
        del head
        error = InvalidRequest(f"a message is longer than {MAX_LINE_BYTES} bytes")
        self._put(jsonrpc.refusal(None, _error(error)))

    async def settle(self) -> None:
        """Wait for what is still being answered."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _begin(self, request: Request) -> None:
        key = bytes(request.id)
        if key in self._running:
            error = InvalidRequest(f"a request with the id {key.decode()} is still being answered")
            self._put(jsonrpc.refusal(request.id, _error(error)))
            return
        task = self._running[key] = asyncio.ensure_future(self._answer(request))
        task.add_done_callback(lambda task: self._ended(request, task))

    def _ended(self, request: Request, task: "asyncio.Task[None]") -> None:
        """Who waits for a tool that fails in a way that nobody foresaw is told, and so is whoever reads our stderr."""
        self._running.pop(bytes(request.id))
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", request.method, exc_info=error)
            self._put(jsonrpc.refusal(request.id, _error(Internal("the tool has a fault; it says more in its log"))))

    async def _answer(self, request: Request) -> None:
        try:
            is_modern = _checked(request)
            method = self._methods.get(request.method)
            if method is None:
                raise MethodNotFound(f"no method {request.method!r}")
            result = await method(request.params)
        except BasculeError as error:
            self._put(jsonrpc.refusal(request.id, _error(error)))
            return
        self._put(jsonrpc.answer(request.id, _finished(request.method, result) if is_modern else encoded(result)))

    # ---- what it is

    async def _initialize(self, params: Params) -> Mapping[str, Any]:
        revision = legacy.offered(params)
        return {"protocolVersion": revision.version, "serverInfo": self._info, **self._offer()}

    async def _discover(self, params: Params) -> Mapping[str, Any]:
        del params
        return {"supportedVersions": MODERN_VERSIONS, **self._offer(), "_meta": {modern.SERVER_INFO: self._info}}

    async def _ping(self, params: Params) -> Mapping[str, Any]:
        del params
        return {}

    def _offer(self) -> dict[str, Any]:
        has = {"tools": self._pack.tools, "resources": self._pack.resources, "prompts": self._pack.prompts}
        capabilities: dict[str, Any] = {name: {} for name, things in has.items() if things}
        return {"capabilities": capabilities, "instructions": self._pack.instructions}

    # ---- tools

    async def _list_tools(self, params: Params) -> Mapping[str, Any]:
        del params
        return {"tools": [listed(tool) for tool in self._pack.tools.values()]}

    async def _call(self, params: Params) -> Mapping[str, Any]:
        tool = self._pack.tools.get(_text(params, "name"))
        if tool is None:
            raise InvalidParams(f"no tool {_text(params, 'name')!r}")
        raw = bytes(params.get("arguments", Raw(b"{}")))
        arguments = jsonrpc.decode(raw)
        if problems := tool.arguments.problems(arguments, len(raw)):
            return failed(arguments_message(problems))
        try:
            takes: Any = msgspec.convert(arguments, tool.takes)
            result = await tool.run(takes, Asked(jsonrpc.text(modern.meta_of(params).get(KEY_META))))
        except ToolFailed as error:
            return failed(str(error))
        except msgspec.ValidationError as error:
            return failed(f"The arguments do not fit: {error}.")
        text = encoded(result)
        content = {"type": "text", "text": bytes(text).decode()}
        return {"content": [content], "structuredContent": text, "isError": False}

    # ---- resources and prompts

    async def _list_resources(self, params: Params) -> Mapping[str, Any]:
        del params
        plain = [each for each in self._pack.resources.values() if not each.is_template]
        return {"resources": [_described(each, "uri") for each in plain]}

    async def _list_templates(self, params: Params) -> Mapping[str, Any]:
        del params
        templates = [each for each in self._pack.resources.values() if each.is_template]
        return {"resourceTemplates": [_described(each, "uriTemplate") for each in templates]}

    async def _read(self, params: Params) -> Mapping[str, Any]:
        uri = _text(params, "uri")
        for resource in self._pack.resources.values():
            values = matched(resource.uri, uri)
            if values is not None:
                try:
                    text = await resource.read(values)
                except ToolFailed as error:
                    raise InvalidParams(str(error)) from error
                return {"contents": [{"uri": uri, "mimeType": resource.mime_type, "text": text}]}
        raise InvalidParams(f"no resource {uri!r}")

    async def _list_prompts(self, params: Params) -> Mapping[str, Any]:
        del params
        return {"prompts": [_prompt_entry(each) for each in self._pack.prompts.values()]}

    async def _prompt(self, params: Params) -> Mapping[str, Any]:
        prompt = self._pack.prompts.get(_text(params, "name"))
        if prompt is None:
            raise InvalidParams(f"no prompt {_text(params, 'name')!r}")
        said = jsonrpc.decode(params["arguments"]) if "arguments" in params else {}
        if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
            raise InvalidParams("the arguments of a prompt are strings")
        if missing := [each.name for each in prompt.arguments if each.required and each.name not in said]:
            raise InvalidParams(f"the prompt needs {', '.join(missing)}")
        message = {"role": "user", "content": {"type": "text", "text": prompt.write(said)}}
        return {"description": prompt.description, "messages": [message]}


async def serve(pack: Pack, incoming: int = 0, outgoing: int = 1) -> None:
    """Serve *pack* to the client at these file descriptors until its input ends."""
    source, sink = Input(incoming), Output(outgoing)
    server = PackServer(pack, sink.put)
    lines = Lines(MAX_LINE_BYTES, server.take, server.overlong)
    try:
        while not sink.lost.is_set() and (chunk := await source.read()):
            lines.feed(chunk)
            await sink.room()
        lines.feed(b"\n")  # the last line may lack its end
        await server.settle()
        await sink.flushed()
    finally:
        await pack.close()


# ---- values


def listed(tool: Tool) -> dict[str, Any]:
    """A tool as `tools/list` shows it; its hints say what its contract says."""
    document = tool.document
    reads = document.side_effect is False
    hints = {"readOnlyHint": reads, "idempotentHint": reads or document.idempotent is True}
    entry = {
        "name": tool.name,
        "description": document.description,
        "inputSchema": document.input_schema,
        "annotations": hints,
    }
    return entry | ({} if document.output_schema is UNSET else {"outputSchema": document.output_schema})


def failed(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "isError": True}


def encoded(value: object) -> Raw:
    return jsonrpc.encode(value)


_EXPRESSION: Final = re.compile(r"\{(\w+)\}")


def matched(template: str, uri: str) -> dict[str, str] | None:
    """The values of *template*'s expressions in *uri*, each within a path segment; None where it does not fit."""
    parts = _EXPRESSION.split(template)
    pattern = "".join(re.escape(part) if at % 2 == 0 else f"(?P<{part}>[^/?#]+)" for at, part in enumerate(parts))
    found = re.fullmatch(pattern, uri)
    return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}


def _finished(method: str, result: Mapping[str, Any]) -> Raw:
    lists = method.endswith("/list") or method in (modern.DISCOVER, "resources/read")
    return modern.complete(
        result, ttl_ms=_LIST_TTL_MS if lists and method != "resources/read" else 0 if lists else None
    )


def _checked(request: Request) -> bool:
    """Whether the request is one of the stateless protocol. Raises UnsupportedVersion."""
    if not modern.is_modern(request.params):
        return False
    version = jsonrpc.text(modern.meta_of(request.params).get(modern.PROTOCOL_VERSION)) or ""
    if version not in MODERN_VERSIONS:
        raise UnsupportedVersion(
            f"protocol version {version!r} is not spoken here",
            requested=version,
            supported=[*MODERN_VERSIONS, *LEGACY_VERSIONS],
        )
    return True


def _error(error: BasculeError) -> Raw:
    return jsonrpc.encode({"code": error.family, "message": error.message, "data": dict(error.details)})


def _text(params: Params, name: str) -> str:
    found = jsonrpc.text(params.get(name))
    if found is None:
        raise InvalidParams(f'"{name}" is a string')
    return found


def _described(resource: Resource, key: str) -> dict[str, Any]:
    return {
        key: resource.uri,
        "name": resource.name,
        "description": resource.description,
        "mimeType": resource.mime_type,
    }


def _prompt_entry(prompt: Prompt) -> dict[str, Any]:
    arguments = [msgspec.to_builtins(each) for each in prompt.arguments]
    return {"name": prompt.name, "description": prompt.description, "arguments": arguments}
