"""The official Python SDK, 2.x: `sdk2.py [--mode …] [--everything] [--transport …] URL or COMMAND`."""

import argparse
import asyncio
import os
import warnings
from typing import Any

import anyio
import features
import mcp_types as types
from features import NEWS, NOTE, PAGE
from mcp import Client, MCPError, StdioServerParameters
from mcp.client import ClientRequestContext
from mcp.client.session import IncomingMessage
from mcp.client.sse import sse_client
from mcp.shared.exceptions import MCPDeprecationWarning, UrlElicitationRequiredError

warnings.simplefilter("ignore", MCPDeprecationWarning)  # what 2026-07-28 took away, and older servers have


class User:
    """Answers the server, and hears what it says unasked."""

    def __init__(self) -> None:
        self.person = features.Person()
        self.logged: list[Any] = []
        self.updated = anyio.Event()
        self.relisted = anyio.Event()

    async def elicit(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:
        url = params.url if isinstance(params, types.ElicitRequestURLParams) else None
        return types.ElicitResult(**self.person.answer(params.message, url))

    async def sample(
        self, context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult:
        said = types.TextContent(text=features.SAID)
        return types.CreateMessageResult(role="assistant", model=features.MODEL, content=said)

    async def roots(self, context: ClientRequestContext) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri=features.ROOT)])  # type: ignore[arg-type]

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logged.append(params.data)

    async def hear(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ResourceUpdatedNotification) and message.params.uri == NOTE:
            self.updated.set()
        if isinstance(message, types.ToolListChangedNotification):
            self.relisted.set()


class Exercise(features.Common):
    """Each of features.EVERYTHING that this client has, by that name."""

    def __init__(self, client: Client, user: User, prefix: str) -> None:
        self.client = client
        self.user = user
        self.prefix = prefix
        self.modern = client.protocol_version >= "2026-07-28"

    async def call(self, name: str, /, **arguments: Any) -> str:
        result = await self.client.call_tool(self.prefix + name, arguments)
        content = result.content[0]
        assert isinstance(content, types.TextContent)
        assert not result.is_error, content.text
        return content.text

    async def listed(self) -> list[types.Tool]:
        page = await self.client.list_tools()
        tools = [*page.tools]
        while page.next_cursor is not None:
            page = await self.client.list_tools(cursor=page.next_cursor)
            tools += page.tools
        return tools

    async def tools(self) -> list[str]:
        return [tool.name for tool in await self.listed()]

    async def structured(self) -> Any:
        return (await self.client.call_tool(self.prefix + "add", {"a": 1, "b": 2})).structured_content

    async def failure(self) -> list[Any]:
        result = await self.client.call_tool(self.prefix + "fail", {"reason": "no luck"})
        content = result.content[0]
        assert isinstance(content, types.TextContent)
        return [result.is_error, content.text]

    async def unknown_tool(self) -> int | None:
        try:
            await self.client.call_tool(self.prefix + "nothing", {})
        except MCPError as error:
            return error.code
        return None

    async def prompts(self) -> list[Any]:
        listed = [prompt.name for prompt in (await self.client.list_prompts()).prompts]
        return [*listed, await self.prompt("greet", name="Bo")]

    async def prompt(self, name: str, /, **arguments: str) -> str:
        content = (await self.client.get_prompt(self.prefix + name, arguments)).messages[0].content
        assert isinstance(content, types.TextContent)
        return content.text

    async def resources(self) -> list[str]:
        listed = [str(resource.uri) for resource in (await self.client.list_resources()).resources]
        templates = (await self.client.list_resource_templates()).resource_templates
        return [*listed, *(template.uri_template for template in templates)]

    async def read(self, uri: str) -> str:
        content = (await self.client.read_resource(uri)).contents[0]
        return content.text if isinstance(content, types.TextResourceContents) else content.blob

    async def unknown_resource(self) -> int | None:
        try:
            await self.read("test://nowhere")
        except MCPError as error:
            return error.code
        return None

    async def completion(self) -> list[list[str]]:
        greet = types.PromptReference(name=self.prefix + "greet")
        note = types.ResourceTemplateReference(uri="test://notes/{number}")
        return [
            (await self.client.complete(greet, {"name": "style", "value": "fr"})).completion.values,
            (await self.client.complete(note, {"name": "number", "value": ""})).completion.values,
        ]

    async def progress(self) -> list[list[Any]]:
        steps: list[list[Any]] = []

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            steps.append([progress, total, message])

        await self.client.call_tool(self.prefix + "progress", {"steps": 3}, progress_callback=heard)
        return steps

    async def log_level(self) -> list[Any]:
        if not self.modern:  # there each request says it, see `main`
            await self.client.set_logging_level("info")
        await self.call("log", level="debug", message="whispered")
        await self.call("log", level="info", message="said")
        return self.user.logged

    async def url_first(self) -> list[Any]:
        """Clients are asked on the way, or what users write: visit what the error names, then call again."""
        self.user.person.visited.clear()
        try:
            said = await self.call("visit_first", url=PAGE)
            return [self.user.person.visited, said]
        except MCPError as error:
            required = UrlElicitationRequiredError.from_error(error.error)
        return [[page.url for page in required.elicitations], await self.call("visit_first", url=PAGE)]

    async def list_changed(self) -> Any:
        if self.modern:
            async with self.client.listen(tools_list_changed=True) as subscription:
                await self.call("redefine", tool="add", description=NEWS)
                await anext(subscription)
        else:
            await self.call("redefine", tool="add", description=NEWS)
            await self.user.relisted.wait()
        return [tool.description for tool in await self.listed() if tool.name == self.prefix + "add"]

    async def resource_updated(self) -> list[str]:
        before = await self.read(NOTE)
        if self.modern:
            async with self.client.listen(resource_subscriptions=[NOTE]) as subscription:
                await self.call("touch", uri=NOTE)
                await anext(subscription)
        else:
            await self.client.subscribe_resource(NOTE)
            await self.call("touch", uri=NOTE)
            await self.user.updated.wait()
            await self.client.unsubscribe_resource(NOTE)
        return [before, await self.read(NOTE)]

    async def cancel(self) -> int:
        """How many more calls the server saw cancelled."""
        before = len((await self.asked("cancelled"))["ids"])
        with anyio.CancelScope() as scope:

            async def asleep(progress: float, total: float | None, message: str | None) -> None:
                scope.cancel()

            await self.client.call_tool(self.prefix + "sleep", {"seconds": 60}, progress_callback=asleep)
        return len((await self.asked("cancelled", at_least=before + 1))["ids"]) - before


def place(args: argparse.Namespace) -> Any:
    match args.transport:
        case "sse":
            return sse_client(args.where[0])
        case "stdio":
            command, *rest = args.where
            return StdioServerParameters(command=command, args=rest, env=dict(os.environ))
    return args.where[0]


async def main(args: argparse.Namespace) -> None:
    user = User()
    client = Client(
        place(args),
        mode=args.mode,
        elicitation_callback=user.elicit,
        sampling_callback=user.sample,
        list_roots_callback=user.roots,
        logging_callback=user.log,
        log_level="info",
        message_handler=user.hear,
    )
    async with client:
        await features.report(client.protocol_version, Exercise(client, user, args.prefix), everything=args.everything)


if __name__ == "__main__":
    asyncio.run(main(features.arguments(__doc__)))
