"""The official Python SDK, 1.x, before the modern era: `sdk1.py [--everything] [--transport …] URL or COMMAND`."""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import features
from features import NEWS, NOTE, PAGE
from mcp import ClientSession, McpError, StdioServerParameters, UrlElicitationRequiredError, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.context import RequestContext
from mcp.shared.session import RequestResponder
from pydantic import AnyUrl

Context = RequestContext[ClientSession, Any]
Message = RequestResponder[types.ServerRequest, types.ClientResult] | types.ServerNotification | Exception


class User:
    """Answers the server, and hears what it says unasked."""

    def __init__(self) -> None:
        self.person = features.Person()
        self.logged: list[Any] = []
        self.completed: list[str] = []
        self.updated = anyio.Event()
        self.relisted = anyio.Event()

    async def elicit(self, context: Context, params: types.ElicitRequestParams) -> types.ElicitResult:
        url = params.url if isinstance(params, types.ElicitRequestURLParams) else None
        return types.ElicitResult(**self.person.answer(params.message, url))

    async def sample(self, context: Context, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        said = types.TextContent(type="text", text=features.SAID)
        return types.CreateMessageResult(role="assistant", model=features.MODEL, content=said)

    async def roots(self, context: Context) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root.model_validate({"uri": features.ROOT})])

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logged.append(params.data)

    async def hear(self, message: Message) -> None:
        match message:
            case types.ServerNotification(root=types.ResourceUpdatedNotification(params=params)):
                if str(params.uri) == NOTE:
                    self.updated.set()
            case types.ServerNotification(root=types.ToolListChangedNotification()):
                self.relisted.set()


class Exercise(features.Common):
    """Each of features.EVERYTHING that this client has, by that name."""

    def __init__(self, session: ClientSession, user: User, prefix: str) -> None:
        self.session = session
        self.user = user
        self.prefix = prefix

    async def call(self, name: str, /, **arguments: Any) -> str:
        result = await self.session.call_tool(self.prefix + name, arguments)
        content = result.content[0]
        assert isinstance(content, types.TextContent)
        assert not result.isError, content.text
        return content.text

    async def listed(self) -> list[types.Tool]:
        page = await self.session.list_tools()
        tools = page.tools
        while page.nextCursor is not None:
            page = await self.session.list_tools(params=types.PaginatedRequestParams(cursor=page.nextCursor))
            tools += page.tools
        return tools

    async def tools(self) -> list[str]:
        return [tool.name for tool in await self.listed()]

    async def structured(self) -> Any:
        return (await self.session.call_tool(self.prefix + "add", {"a": 1, "b": 2})).structuredContent

    async def failure(self) -> list[Any]:
        result = await self.session.call_tool(self.prefix + "fail", {"reason": "no luck"})
        content = result.content[0]
        assert isinstance(content, types.TextContent)
        return [result.isError, content.text]

    async def unknown_tool(self) -> int | None:
        try:
            await self.session.call_tool(self.prefix + "nothing", {})
        except McpError as error:
            return error.error.code
        return None

    async def prompts(self) -> list[Any]:
        listed = [prompt.name for prompt in (await self.session.list_prompts()).prompts]
        return [*listed, await self.prompt("greet", name="Bo")]

    async def prompt(self, name: str, /, **arguments: str) -> str:
        content = (await self.session.get_prompt(self.prefix + name, arguments)).messages[0].content
        assert isinstance(content, types.TextContent)
        return content.text

    async def resources(self) -> list[str]:
        listed = [str(resource.uri) for resource in (await self.session.list_resources()).resources]
        templates = (await self.session.list_resource_templates()).resourceTemplates
        return [*listed, *(template.uriTemplate for template in templates)]

    async def read(self, uri: str) -> str:
        content = (await self.session.read_resource(AnyUrl(uri))).contents[0]
        return content.text if isinstance(content, types.TextResourceContents) else content.blob

    async def unknown_resource(self) -> int | None:
        try:
            await self.read("test://nowhere")
        except McpError as error:
            return error.error.code
        return None

    async def completion(self) -> list[list[str]]:
        greet = types.PromptReference(type="ref/prompt", name=self.prefix + "greet")
        note = types.ResourceTemplateReference(type="ref/resource", uri="test://notes/{number}")
        return [
            (await self.session.complete(greet, {"name": "style", "value": "fr"})).completion.values,
            (await self.session.complete(note, {"name": "number", "value": ""})).completion.values,
        ]

    async def progress(self) -> list[list[Any]]:
        steps: list[list[Any]] = []

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            steps.append([progress, total, message])

        await self.session.call_tool(self.prefix + "progress", {"steps": 3}, progress_callback=heard)
        return steps

    async def log_level(self) -> list[Any]:
        await self.session.set_logging_level("info")
        await self.call("log", level="debug", message="whispered")
        await self.call("log", level="info", message="said")
        return self.user.logged

    async def url_first(self) -> list[Any]:
        """Clients are asked on the way, or what users write: visit what the error names, then call again."""
        self.user.person.visited.clear()
        try:
            said = await self.call("visit_first", url=PAGE)
            return [self.user.person.visited, said]
        except McpError as error:
            required = UrlElicitationRequiredError.from_error(error.error)
        return [[page.url for page in required.elicitations], await self.call("visit_first", url=PAGE)]

    async def list_changed(self) -> Any:
        await self.call("redefine", tool="add", description=NEWS)
        await self.user.relisted.wait()
        return [tool.description for tool in await self.listed() if tool.name == self.prefix + "add"]

    async def resource_updated(self) -> list[str]:
        before = await self.read(NOTE)
        await self.session.subscribe_resource(AnyUrl(NOTE))
        await self.call("touch", uri=NOTE)
        await self.user.updated.wait()
        await self.session.unsubscribe_resource(AnyUrl(NOTE))
        return [before, await self.read(NOTE)]

    async def cancel(self) -> int:
        """How many more calls the server saw cancelled. In 1.x the notification is left to the user."""
        before = len((await self.asked("cancelled"))["ids"])
        with anyio.CancelScope() as scope:
            request_id = self.session._request_id  # the next one's; 1.x has no public way to learn it

            async def asleep(progress: float, total: float | None, message: str | None) -> None:
                scope.cancel()

            await self.session.call_tool(self.prefix + "sleep", {"seconds": 60}, progress_callback=asleep)
        taken_back = types.CancelledNotification(params=types.CancelledNotificationParams(requestId=request_id))
        await self.session.send_notification(types.ClientNotification(taken_back))
        return len((await self.asked("cancelled", at_least=before + 1))["ids"]) - before


@asynccontextmanager
async def connected(args: argparse.Namespace) -> AsyncIterator[tuple[Any, Any]]:
    match args.transport:
        case "http":
            async with streamable_http_client(args.where[0]) as (read, write, _):
                yield read, write
        case "sse":
            async with sse_client(args.where[0]) as streams:
                yield streams
        case "stdio":
            command, *rest = args.where
            async with stdio_client(StdioServerParameters(command=command, args=rest, env=dict(os.environ))) as streams:
                yield streams


async def main(args: argparse.Namespace) -> None:
    user = User()
    async with (
        connected(args) as (read, write),
        ClientSession(
            read,
            write,
            elicitation_callback=user.elicit,
            sampling_callback=user.sample,
            list_roots_callback=user.roots,
            logging_callback=user.log,
            message_handler=user.hear,
        ) as session,
    ):
        with anyio.fail_after(features.CONNECT_WITHIN_S):
            protocol = (await session.initialize()).protocolVersion
        await features.report(str(protocol), Exercise(session, user, args.prefix), everything=args.everything)


if __name__ == "__main__":
    asyncio.run(main(features.arguments(__doc__)))
