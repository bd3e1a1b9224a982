"""An incoming webhook on loopback, as Slack's answers: what was posted, and what it is told to answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

SECRET: Final = "T00000000/B00000000/sEcReTtOkEn"


@dataclass
class Webhook:
    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = "ok"
    hangs_up: bool = False  # after the message, without an answer
    posted: list[Any] = field(default_factory=list)


@asynccontextmanager
async def webhook(**more: Any) -> AsyncIterator[Webhook]:
    """It listens until the block ends. Change what it does while it runs."""
    hook = Webhook(**more)

    async def take(request: web.Request) -> web.Response:
        hook.posted.append(await request.json())
        if hook.hangs_up:
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=hook.status, headers=hook.headers, text=hook.body)

    application = web.Application()
    application.router.add_post(f"/services/{SECRET}", take)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/services/{SECRET}"
        yield hook
    finally:
        await runner.cleanup()
