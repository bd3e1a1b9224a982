"""`bascule bridge URL`: an MCP server on standard input and output that is really the one behind a URL.

For clients that can only start commands. Such a client waits while it starts, so this module reads the
usual command lines itself, and imports the runtime when it is clear what to run (cli/serve.py has the help).
"""

import logging
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from bascule.cli.credentials import check_url, headers_of_environment
from bascule.cli.talk import complain, failing, note
from bascule.cli.token_file import TokenFile
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.edge.rim import Rim
    from bascule.upstream.http import HttpOptions

WAIT_S: Final = 10.0
TIMEOUT_S: Final = 300.0
_MAX_PARKED: Final = 1000
_PARKED_S: Final = 600.0


class Wish(NamedTuple):
    """What a command line asks for."""

    url: str
    header_env: Sequence[str]
    wait_s: float = WAIT_S
    timeout_s: float = TIMEOUT_S
    token_file: str = ""


def plain(words: Sequence[str]) -> Wish | None:
    """What *words* after `bascule bridge` say, if they say nothing but a URL, `--header-env` and `--token-file`."""
    rest, urls = list(words), []
    said: dict[str, list[str]] = {"--header-env": [], "--token-file": []}
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        if option in said and (equals or rest):
            said[option].append(value if equals else rest.pop(0))
        elif option.startswith("-"):
            return None
        else:
            urls.append(option + equals + value)
    if len(urls) != 1 or len(said["--token-file"]) > 1:
        return None
    return Wish(urls[0], said["--header-env"], token_file="".join(said["--token-file"]))


@failing
def run(wish: Wish) -> None:
    """Be the server, until the input ends."""
    url = check_url(wish.url)
    token = TokenFile(wish.token_file, url) if wish.token_file else None
    headers = headers_of_environment(url, wish.header_env)
    if token is not None:
        if any(each.lower().startswith("authorization=") for each in wish.header_env):
            raise ConfigInvalid("--token-file and --header-env Authorization=… both say who calls: give one of them")
        headers.pop("authorization", None)  # of BASCULE_TOKEN, which is less of a wish than the file
    if sys.stdin.isatty():
        note("this is for a program that speaks MCP on standard input; to look at the server: bascule inspect URL")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="bascule: %(message)s")

    import asyncio

    from bascule.upstream.http import HttpOptions

    options = HttpOptions(url=url, headers=headers, call_timeout_s=wish.timeout_s)
    if why := asyncio.run(_serve(options, urlsplit(url).netloc, wish.wait_s, token)):
        note(why)
        sys.exit(1)


async def _serve(options: "HttpOptions", name: str, wait_s: float, token: TokenFile | None) -> str:
    """Why it ended, "" if as it should."""
    import asyncio

    from bascule.call import ANONYMOUS
    from bascule.edge.stdio import StdioEdge
    from bascule.pipes import Input, Output

    # What else is printed by mistake goes where talk goes: on standard output are messages only.
    sink = Output(os.dup(sys.stdout.fileno()))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    rim, stop = _composed(options, name, wait_s, token)
    edge = StdioEdge(
        rim,
        ANONYMOUS,
        name,
        source=Input(sys.stdin.fileno()),
        sink=sink,
        max_message_bytes=options.max_message_bytes,
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if os.name == "posix" else ():
        asyncio.get_running_loop().add_signal_handler(number, edge.stop)
    try:
        await edge.serve()
    finally:
        await stop()
    return sink.why_lost


def _composed(
    options: "HttpOptions", name: str, wait_s: float, token: TokenFile | None
) -> "tuple[Rim, Callable[[], Awaitable[None]]]":
    """A gateway with this one server and no socket, and what ends it."""
    from bascule.cli import keyed
    from bascule.cli.reconnect import Reconnect
    from bascule.crossing.bilingual import Bilingual
    from bascule.crossing.parking import Parking
    from bascule.edge.rim import Rim
    from bascule.pipeline import build_inner, build_last
    from bascule.pipeline.chain import Stage, compose
    from bascule.pipeline.deadline import Deadline
    from bascule.pipeline.observe import Observe
    from bascule.pipeline.open import Open
    from bascule.pipeline.recall import Recall
    from bascule.pipeline.resolve import Resolve
    from bascule.registry.aggregate import Aggregate
    from bascule.registry.sync import Registry
    from bascule.upstream.http import HttpUpstream
    from bascule.wire.seal import KEY_BYTES, KeyRing

    ring = KeyRing([secrets.token_bytes(KEY_BYTES)])
    parking = Parking(lambda: ring, ttl_s=_PARKED_S, max_per_caller=_MAX_PARKED)
    far = HttpUpstream(name, options) if token is None else keyed.Keyed(name, options, token)
    upstream = Bilingual(far, parking)
    registry = Registry({name: upstream}, {}, wait_s)
    aggregate = Aggregate(registry)
    timeouts = {name: options.call_timeout_s}
    # Nothing is decided here: that is for the gateway at the URL, which sees who calls.
    inner = build_inner(Recall(registry), Deadline(lambda: timeouts), build_last(Open(aggregate)))
    stages: list[Stage] = [Reconnect(options.url, wait_s, complain), Observe(), Resolve(registry, aggregate)]
    if token is not None:
        stages.insert(1, keyed.Renew(token))
    forward = compose(stages, inner)

    async def stop() -> None:
        await registry.stop()
        await parking.close()
        await upstream.stop()

    return Rim(forward=forward, registry=registry, aggregate=aggregate), stop
