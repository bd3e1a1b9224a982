"""The official Python SDK, 1.x, before the modern era: `sdk1.py URL [--everything]`."""

import argparse
import asyncio
import json
from typing import Any

import anyio
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.context import RequestContext
from mcp.shared.session import RequestResponder
from pydantic import AnyUrl

TEXT = "Zuglbrücke ⇅ 😀"
NOTE = AnyUrl("test://notes/1")
WITHIN_S = 15

Context = RequestContext[ClientSession, Any]
Message = RequestResponder[types.ServerRequest, types.ClientResult] | types.ServerNotification | Exception


async def accept(context: Context, params: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"answer": f"yes to {params.message}"})


async def sample(context: Context, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    said = types.TextContent(type="text", text="said the model")
    return types.CreateMessageResult(role="assistant", model="test", content=said)


async def roots(context: Context) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root.model_validate({"uri": "file:///tmp/root"})])


class Heard:
    """What the server says unasked, and the moment it is heard."""

    def __init__(self) -> None:
        self.logged: list[Any] = []
        self.updated = anyio.Event()

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logged.append(params.data)

    async def message(self, message: Message) -> None:
        match message:
            case types.ServerNotification(root=types.ResourceUpdatedNotification(params=params)):
                if params.uri == NOTE:
                    self.updated.set()


async def list_tools(session: ClientSession) -> list[str]:
    page = await session.list_tools()
    names = [tool.name for tool in page.tools]
    while page.nextCursor is not None:
        page = await session.list_tools(params=types.PaginatedRequestParams(cursor=page.nextCursor))
        names += [tool.name for tool in page.tools]
    return names


async def call(session: ClientSession, name: str, **arguments: Any) -> str:
    content = (await session.call_tool(name, arguments)).content[0]
    assert isinstance(content, types.TextContent)
    return content.text


async def progress(session: ClientSession) -> list[list[float | None]]:
    steps: list[list[float | None]] = []

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        steps.append([progress, total])

    await session.call_tool("progress", {"steps": 3}, progress_callback=heard)
    return steps


async def cancellation(session: ClientSession) -> int:
    """How many calls the server saw cancelled after one was. In 1.x the notification is left to the user."""
    with anyio.CancelScope() as scope:
        request_id = session._request_id  # the next one's; 1.x has no public way to learn it

        async def asleep(progress: float, total: float | None, message: str | None) -> None:
            scope.cancel()

        await session.call_tool("sleep", {"seconds": 60}, progress_callback=asleep)
    taken_back = types.CancelledNotification(params=types.CancelledNotificationParams(requestId=request_id))
    await session.send_notification(types.ClientNotification(taken_back))
    return len(json.loads(await call(session, "cancelled", at_least=1))["ids"])


async def update(session: ClientSession, heard: Heard) -> str:
    """The resource whose change was heard of after it was subscribed to and touched."""
    await session.subscribe_resource(NOTE)
    await call(session, "touch", uri=str(NOTE))
    await heard.updated.wait()
    await session.unsubscribe_resource(NOTE)
    return str(NOTE)


async def exercise(session: ClientSession, heard: Heard) -> dict[str, Any]:
    await session.set_logging_level("info")
    await call(session, "log", level="info", message="hello")
    prompt = (await session.get_prompt("greet", {"name": "Bo"})).messages[0].content
    read = (await session.read_resource(NOTE)).contents[0]
    greet = types.PromptReference(type="ref/prompt", name="greet")
    styles = await session.complete(greet, {"name": "style", "value": "fr"})
    assert isinstance(prompt, types.TextContent)
    assert isinstance(read, types.TextResourceContents)
    return {
        "progress": await progress(session),
        "ask": json.loads(await call(session, "ask", question="sure?", times=2)),
        "sample": json.loads(await call(session, "sample", prompt="say")),
        "roots": json.loads(await call(session, "roots")),
        "prompts": [prompt.name for prompt in (await session.list_prompts()).prompts],
        "prompt": prompt.text,
        "resources": [str(resource.uri) for resource in (await session.list_resources()).resources],
        "read": read.text,
        "completion": styles.completion.values,
        "updated": await update(session, heard),
        "cancelled": await cancellation(session),
        "logged": heard.logged,
    }


async def main(url: str, everything: bool) -> None:
    heard = Heard()
    with anyio.fail_after(WITHIN_S * (1 + everything)):
        async with (
            streamable_http_client(url) as (read, write, _),
            ClientSession(
                read,
                write,
                elicitation_callback=accept,
                sampling_callback=sample,
                list_roots_callback=roots,
                logging_callback=heard.log,
                message_handler=heard.message,
            ) as session,
        ):
            protocol = (await session.initialize()).protocolVersion
            said: dict[str, Any] = {"protocol": protocol, "tools": await list_tools(session)}
            said["echo"] = await call(session, "echo", text=TEXT)
            said |= await exercise(session, heard) if everything else {}
    print(json.dumps(said))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--everything", action="store_true")
    args = parser.parse_args()
    asyncio.run(main(args.url, args.everything))
