"""Open a target, do some work with its servers, and end everything that was started for it."""

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from bascule import config
from bascule.admin import inspect, status
from bascule.admin.inspect import Peer
from bascule.app import Gateway
from bascule.call import Client
from bascule.cli.talk import note
from bascule.cli.target import Target, name_of
from bascule.errors import BasculeError, ConfigInvalid, TimedOut
from bascule.upstream.base import Upstream
from bascule.upstream.http import HttpOptions, HttpUpstream
from bascule.upstream.stdio import StdioOptions, StdioUpstream

T = TypeVar("T")


def with_peer(target: Target, person: Client, work: Callable[[Peer], Awaitable[T]], *, whole: bool = False) -> T:
    """Do *work* with a client of the target, then end everything that was started for it.

    Servers of a file that are down are named when the work needs the *whole*, or when it fails.
    """

    async def main() -> T:
        async with _opened(target) as opened:
            if isinstance(opened, Gateway):
                peer = inspect.peer_of(opened, person, target.era)
            else:
                peer = inspect.peer_at(opened, person, target.era)
            explained = whole
            try:
                return await within(target, work(peer))
            except BasculeError:
                explained = True
                raise
            finally:
                if isinstance(opened, Gateway) and explained:
                    _report_absent(opened)
                await peer.close()

    return run(main())


def with_each(target: Target, person: Client, work: Callable[[Peer], Awaitable[T]]) -> list[T]:
    """Do *work* with every server of the target by itself, all at once."""

    async def main() -> list[T]:
        async with _opened(target) as opened:
            if isinstance(opened, Gateway):
                peers = inspect.peers_of(opened, person, target.era)
            else:
                peers = [inspect.peer_at(opened, person, target.era)]
            try:
                return list(await asyncio.gather(*(work(peer) for peer in peers)))
            finally:
                await asyncio.gather(*(peer.close() for peer in peers))

    return run(main())


async def within(target: Target, work: Awaitable[T]) -> T:
    """*work*, unless it takes longer than the target's timeout: TimedOut."""
    try:
        async with asyncio.timeout(target.timeout_s) as scope:
            return await work
    except TimeoutError:
        if not scope.expired():
            raise
        raise TimedOut(f"no answer within {target.timeout_s:g} s").at(name_of(target)) from None


@asynccontextmanager
async def _opened(target: Target) -> AsyncIterator[Upstream | Gateway]:
    """The one upstream, or a gateway for a file; stopped at the end, children included."""
    opened = Gateway(_configuration(target)) if target.file is not None else _upstream(target)
    await opened.start()
    try:
        yield opened
    finally:
        await opened.stop()


def _configuration(target: Target) -> config.Config:
    assert target.file is not None
    loaded = (config.load_servers if target.client_file else config.load)(target.file, os.environ)
    # Here somebody waits for the whole list once, so servers may take longer to start than for a client.
    return msgspec.structs.replace(loaded, patience_s=max(loaded.patience_s, target.timeout_s / 2))


def _upstream(target: Target) -> Upstream:
    if target.url:
        options = HttpOptions(url=target.url, headers=target.headers, era=target.era, call_timeout_s=target.timeout_s)
        return HttpUpstream(name_of(target), options)
    words = list(target.command)
    if shutil.which(words[0]) is None:
        raise ConfigInvalid(f"command {words[0]!r} is not on PATH; install it or correct its name")
    started = StdioOptions(
        command=words[0],
        args=tuple(words[1:]),
        env=target.env,
        era=target.era,
        start="lazy",  # one try: nobody is there to profit from a restart
        start_timeout_s=target.timeout_s,
    )
    return StdioUpstream(name_of(target), started)


def _report_absent(gateway: Gateway) -> None:
    for name, server in status.report(gateway)["servers"].items():
        if server["lists"] == "unknown" and server["last_error"]:
            note(f"{name} is left out: {server['last_error']}")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end. Ctrl-C, SIGTERM and SIGHUP cancel it, so that children are ended on the way out."""
    logging.getLogger("bascule").addHandler(logging.NullHandler())  # what matters to the person, the error says
    with asyncio.Runner() as runner:
        try:
            return runner.run(_stoppable(main))
        except asyncio.CancelledError:
            sys.exit(128 + signal.SIGTERM)


async def _stoppable(main: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP) if os.name == "posix" else ():
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await main
