"""Pages on loopback that remember who came."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Site:
    """A server with some pages; *asked* are the requests that it got."""

    url: str
    asked: list[web.Request] = field(default_factory=list)

    @property
    def host(self) -> str:
        """As an entry of `allowed_hosts`."""
        return self.url.removeprefix("http://")


@asynccontextmanager
async def site(pages: Mapping[str, web.Response] | None = None) -> AsyncIterator[Site]:
    """*pages* by their paths; `/hangs` never answers."""
    held = asyncio.Event()
    found = Site("")

    async def respond(request: web.Request) -> web.StreamResponse:
        found.asked.append(request)
        if request.path == "/hangs":
            await held.wait()
        page = (pages or {}).get(request.path)
        if page is None:
            return web.Response(status=404, text="nothing here")
        return web.Response(status=page.status, headers=page.headers, body=page.body)  # one is sent once

    application = web.Application()
    application.router.add_route("*", "/{anything:.*}", respond)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        held.set()
        await runner.cleanup()


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[int, list[object]]]:
    """A port of loopback that takes any connection, and those that were made to it: there must be none."""
    connections: list[object] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], connections
