"""FastMCP's client: `fastmcp_client.py [--mode …] [--everything] URL`."""

import argparse
import asyncio
from typing import Any

import features
import mcp_types as types
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult
from features import NEWS, NOTE, PAGE
from mcp import MCPError
from mcp.shared.exceptions import UrlElicitationRequiredError


class User:
    """Answers the server, and hears what it says unasked."""

    def __init__(self) -> None:
        self.person = features.Person()
        self.logged: list[Any] = []
        self.updated = asyncio.Event()
        self.relisted = asyncio.Event()

    async def elicit(self, message: str, kind: Any, params: types.ElicitRequestParams, context: Any) -> Any:
        return ElicitResult(**self.person.answer(message, getattr(params, "url", None)))

    async def sample(self, messages: Any, params: Any, context: Any) -> types.CreateMessageResult:
        said = types.TextContent(text=features.SAID)
        return types.CreateMessageResult(role="assistant", model=features.MODEL, content=said)

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logged.append(params.data)

    async def hear(self, message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification) and message.params.uri == NOTE:
            self.updated.set()
        if isinstance(message, types.ToolListChangedNotification):
            self.relisted.set()


class Exercise(features.Common):
    """Each of features.EVERYTHING that this client has, by that name."""

    def __init__(self, client: Client[Any], user: User, prefix: str) -> None:
        self.client = client
        self.user = user
        self.prefix = prefix
        self.modern = (client.protocol_version or "") >= "2026-07-28"

    async def call(self, name: str, /, **arguments: Any) -> str:
        said: str = (await self.client.call_tool(self.prefix + name, arguments)).content[0].text
        return said

    async def tools(self) -> list[str]:
        return [tool.name for tool in await self.client.list_tools()]

    async def structured(self) -> Any:
        return (await self.client.call_tool(self.prefix + "add", {"a": 1, "b": 2})).structured_content

    async def failure(self) -> list[Any]:
        result = await self.client.call_tool(self.prefix + "fail", {"reason": "no luck"}, raise_on_error=False)
        return [result.is_error, result.content[0].text]

    async def unknown_tool(self) -> int | None:
        try:
            await self.client.call_tool(self.prefix + "nothing", {})
        except MCPError as error:
            return error.code
        return None

    async def prompts(self) -> list[Any]:
        listed = [prompt.name for prompt in await self.client.list_prompts()]
        return [*listed, await self.prompt("greet", name="Bo")]

    async def prompt(self, name: str, /, **arguments: str) -> str:
        said: str = (await self.client.get_prompt(self.prefix + name, arguments)).messages[0].content.text
        return said

    async def resources(self) -> list[str]:
        listed = [str(resource.uri) for resource in await self.client.list_resources()]
        return [*listed, *(template.uri_template for template in await self.client.list_resource_templates())]

    async def read(self, uri: str) -> str:
        content = (await self.client.read_resource(uri))[0]
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
            (await self.client.complete(greet, {"name": "style", "value": "fr"})).values,
            (await self.client.complete(note, {"name": "number", "value": ""})).values,
        ]

    async def progress(self) -> list[list[Any]]:
        steps: list[list[Any]] = []

        async def heard(progress: float, total: float | None, message: str | None) -> None:
            steps.append([progress, total, message])

        await self.client.call_tool(self.prefix + "progress", {"steps": 3}, progress_handler=heard)
        return steps

    async def log_level(self) -> list[Any]:
        if not self.modern:
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

    async def cancel(self) -> int:
        """How many more calls the server saw cancelled."""
        before = len((await self.asked("cancelled"))["ids"])
        begun = asyncio.Event()

        async def asleep(progress: float, total: float | None, message: str | None) -> None:
            begun.set()

        call = asyncio.create_task(
            self.client.call_tool(self.prefix + "sleep", {"seconds": 60}, progress_handler=asleep)
        )
        await begun.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        return len((await self.asked("cancelled", at_least=before + 1))["ids"]) - before


class LegacyExercise(Exercise):
    """What it hears by itself in a session; it has no word for `subscriptions/listen`."""

    async def list_changed(self) -> Any:
        await self.call("redefine", tool="add", description=NEWS)
        await self.user.relisted.wait()
        return [tool.description for tool in await self.client.list_tools() if tool.name == self.prefix + "add"]


async def main(args: argparse.Namespace) -> None:
    user = User()
    client = Client(
        args.where[0],
        mode=args.mode,
        elicitation_handler=user.elicit,
        sampling_handler=user.sample,
        roots=[features.ROOT],
        log_handler=user.log,
        message_handler=user.hear,
    )
    async with client:
        protocol = client.protocol_version or ""
        exercise = Exercise if protocol >= "2026-07-28" else LegacyExercise
        await features.report(protocol, exercise(client, user, args.prefix), everything=args.everything)


if __name__ == "__main__":
    asyncio.run(main(features.arguments(__doc__)))
