"""The official Python SDK, 2.x: `sdk2.py URL [--mode auto|legacy|2026-07-28] [--everything]`."""

import argparse
import asyncio
import json
from typing import Any

import anyio
import mcp_types as types
from mcp import Client
from mcp.client import ClientRequestContext
from mcp.client.session import IncomingMessage

TEXT = "Zuglbrücke ⇅ 😀"
NOTE = "test://notes/1"
WITHIN_S = 15


async def accept(context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"answer": f"yes to {params.message}"})


async def sample(context: ClientRequestContext, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    return types.CreateMessageResult(role="assistant", model="test", content=types.TextContent(text="said the model"))


async def roots(context: ClientRequestContext) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///tmp/root")])  # type: ignore[arg-type]


class Heard:
    """What the server says unasked, and the moment it is heard."""

    def __init__(self) -> None:
        self.logged: list[Any] = []
        self.updated = anyio.Event()

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logged.append(params.data)

    async def message(self, message: IncomingMessage) -> None:
        if isinstance(message, types.ResourceUpdatedNotification) and message.params.uri == NOTE:
            self.updated.set()


async def list_tools(client: Client) -> list[str]:
    page = await client.list_tools()
    names = [tool.name for tool in page.tools]
    while page.next_cursor is not None:
        page = await client.list_tools(cursor=page.next_cursor)
        names += [tool.name for tool in page.tools]
    return names


async def call(client: Client, name: str, **arguments: Any) -> str:
    content = (await client.call_tool(name, arguments)).content[0]
    assert isinstance(content, types.TextContent)
    return content.text


async def progress(client: Client) -> list[list[float | None]]:
    steps: list[list[float | None]] = []

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        steps.append([progress, total])

    await client.call_tool("progress", {"steps": 3}, progress_callback=heard)
    return steps


async def cancellation(client: Client) -> int:
    """How many calls the server saw cancelled after one was."""
    with anyio.CancelScope() as scope:

        async def asleep(progress: float, total: float | None, message: str | None) -> None:
            scope.cancel()

        await client.call_tool("sleep", {"seconds": 60}, progress_callback=asleep)
    return len(json.loads(await call(client, "cancelled", at_least=1))["ids"])


async def update(client: Client, heard: Heard) -> str:
    """The resource whose change was heard of after it was subscribed to and touched."""
    if client.protocol_version >= "2026-07-28":
        async with client.listen(resource_subscriptions=[NOTE]) as subscription:
            await call(client, "touch", uri=NOTE)
            async for event in subscription:
                return str(getattr(event, "uri", event))
    await client.subscribe_resource(NOTE)
    await call(client, "touch", uri=NOTE)
    await heard.updated.wait()
    await client.unsubscribe_resource(NOTE)
    return NOTE


async def exercise(client: Client, heard: Heard) -> dict[str, Any]:
    if client.protocol_version < "2026-07-28":
        await client.set_logging_level("info")
    await call(client, "log", level="info", message="hello")
    prompt = (await client.get_prompt("greet", {"name": "Bo"})).messages[0].content
    read = (await client.read_resource(NOTE)).contents[0]
    styles = await client.complete(types.PromptReference(name="greet"), {"name": "style", "value": "fr"})
    assert isinstance(prompt, types.TextContent)
    assert isinstance(read, types.TextResourceContents)
    return {
        "progress": await progress(client),
        "ask": json.loads(await call(client, "ask", question="sure?", times=2)),
        "sample": json.loads(await call(client, "sample", prompt="say")),
        "roots": json.loads(await call(client, "roots")),
        "prompts": [prompt.name for prompt in (await client.list_prompts()).prompts],
        "prompt": prompt.text,
        "resources": [str(resource.uri) for resource in (await client.list_resources()).resources],
        "read": read.text,
        "completion": styles.completion.values,
        "updated": await update(client, heard),
        "cancelled": await cancellation(client),
        "logged": heard.logged,
    }


async def main(url: str, mode: str, everything: bool) -> None:
    heard = Heard()
    with anyio.fail_after(WITHIN_S * (1 + everything)):
        async with Client(
            url,
            mode=mode,
            elicitation_callback=accept,
            sampling_callback=sample,
            list_roots_callback=roots,
            logging_callback=heard.log,
            log_level="info",
            message_handler=heard.message,
        ) as client:
            said: dict[str, Any] = {"protocol": client.protocol_version, "tools": await list_tools(client)}
            said["echo"] = await call(client, "echo", text=TEXT)
            said |= await exercise(client, heard) if everything else {}
    print(json.dumps(said))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--mode", default="auto")
    parser.add_argument("--everything", action="store_true")
    args = parser.parse_args()
    asyncio.run(main(args.url, args.mode, args.everything))
