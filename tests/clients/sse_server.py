"""plain.py behind HTTP+SSE, the transport of 2024-11-05, as the official SDK 1.x serves it: `sse_server.py [OPTIONS]`.

Runs in the environment of sdk1.py and prints its URL once it listens.
"""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn

sys.path.append(str(Path(__file__).parents[1] / "servers"))

from mcp.server.sse import SseServerTransport  # type: ignore[import-not-found]  # not in our environment
from mcp.shared.message import SessionMessage  # type: ignore[import-not-found]
from mcp.types import JSONRPCMessage  # type: ignore[import-not-found]
from plain import PlainServer, arguments
from server import Json, World

options = arguments(__doc__).parse_args()
world = World(options)
transport = SseServerTransport("/messages/")


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/sse" and scope["method"] == "GET":
        await connection(scope, receive, send)
    elif scope["path"] == "/messages/":
        await transport.handle_post_message(scope, receive, send)
    else:  # whoever tries Streamable HTTP here learns that there is none
        status = 405 if scope["path"] == "/sse" else 404
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def connection(scope: Any, receive: Any, send: Any) -> None:
    """One session, as long as its GET is open."""
    loop = asyncio.get_running_loop()
    said: asyncio.Queue[Json | None] = asyncio.Queue()

    def say(message: Json | None) -> None:
        loop.call_soon_threadsafe(said.put_nowait, message)

    server = PlainServer(options, world, say)
    async with transport.connect_sse(scope, receive, send) as (from_client, to_client):

        async def talk() -> None:
            while True:
                if (message := await said.get()) is not None:  # None ends no stream here: all calls share one
                    await to_client.send(SessionMessage(JSONRPCMessage.model_validate(message)))

        talking = asyncio.create_task(talk())
        async for heard in from_client:
            server.take(heard.message.model_dump(by_alias=True, mode="json", exclude_none=True), server.outlet)
        talking.cancel()
    world.sessions.remove(server)


async def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        print(f"http://127.0.0.1:{door.getsockname()[1]}/sse", flush=True)
        config = uvicorn.Config(application, lifespan="off", log_level="warning", timeout_graceful_shutdown=1)
        await uvicorn.Server(config).serve(sockets=[door])


if __name__ == "__main__":
    asyncio.run(main())
