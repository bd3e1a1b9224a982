"""`bascule up`: from nothing to a governed office, with a first call that proves it."""

import asyncio
import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bascule.cli.talk import complain, failing, note
from bascule.errors import BasculeError, ConfigInvalid

if TYPE_CHECKING:
    from bascule.app import Gateway
    from bascule.config import Config

_FIRST_TOOL: Final = "document/summarize_text"
_FIRST_TEXT: Final = (
    "Bascule stands between agents and tools. Every call is authenticated, checked against a contract and recorded."
    " What has an effect waits for a person, and happens once."
)
_WITHIN_S: Final = 45.0
_FOREMOST: Final = "me"  # the caller that this command is


def register(app: typer.Typer) -> None:
    app.command()(up)


@failing
def up(
    documents: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What the office works in; default ~/Bascule.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The file to begin, or to go on with.")] = None,
) -> None:
    """Begin: make keys, folders and a configuration where there are none, serve an office, and prove it with a call.

    Nothing that is there is changed; the second time it goes on with what the first has made.

    Example: bascule up
    """
    from bascule import config as configuration
    from bascule.admin.key_files import key_file_of
    from bascule.cli import serve

    path = config or configuration.home_file(os.environ)
    if not path.exists():
        _begin(path, documents, port)
    elif documents is not None:
        raise ConfigInvalid(f"{path} says which folder: edit `servers.office.settings.root` there")
    note("starting: the office, its walls, the record, the console")
    load = _loader(path, port)
    loaded = load()
    _check_free(loaded)
    # Made before the gateway reads what keys there are: it looks for new ones now and then only.
    is_begun = _FOREMOST in loaded.callers and "office" in loaded.servers
    key = key_file_of(loaded, _FOREMOST, time.time()).read_text().strip() if is_begun else None
    serve.start(loaded, None, load=load, path=path, announce=partial(_prove, key))


def _begin(path: Path, documents: Path | None, port: int | None) -> None:
    from bascule import config
    from bascule.admin import beginning
    from bascule.packs import catalog

    state = config.default_state_dir(os.environ)
    home = beginning.Home(
        config=path,
        state=state,
        documents=(documents or Path.home() / "Bascule").expanduser().absolute(),
        port=port or _free_port(config.DEFAULT_PORT),
        default_port=config.DEFAULT_PORT,
        default_state=state,
    )
    for made in beginning.begin(home, catalog.samples_of("office")):
        note(f"made {made.path}: {made.what}")


def _loader(path: Path, port: int | None) -> Any:
    from bascule.cli.serve import load

    return lambda: load(path, None, {} if port is None else {"port": port})


def _free_port(wanted: int) -> int:
    """*wanted*, unless somebody has it: then another one that is kept in the configuration, for clients to know."""
    from bascule.edge import server

    try:
        server.bind("127.0.0.1", wanted).close()
    except ConfigInvalid:
        with server.bind("127.0.0.1", 0) as free:
            found: int = free.getsockname()[1]
        note(f"port {wanted} is taken, so it listens on {found}")
        return found
    return wanted


def _check_free(config: "Config") -> None:
    """Raises ConfigInvalid, with what to do, if its address is taken: by another `bascule up`, most likely."""
    from bascule.edge import server

    if not config.http.port:
        return
    try:
        server.bind(config.http.host, config.http.port).close()
    except ConfigInvalid as error:
        raise ConfigInvalid(
            f"{error}. If that is Bascule already, use it: bascule status, bascule console open", field=error.field
        ) from error


# ---- once it is up -------------------------------------------------------------------------------

_proving: "set[asyncio.Task[None]]" = set()  # the loop keeps no task alive that nobody holds


def _prove(key: str | None, gateway: "Gateway", base: str) -> None:
    """What is called when the gateway listens: say so, make a call with *key*, and say what is next."""
    print(f"{base}/mcp  ready", flush=True)
    task = asyncio.ensure_future(_welcome(key, gateway, base))
    _proving.add(task)
    task.add_done_callback(_proving.discard)


async def _welcome(key: str | None, gateway: "Gateway", base: str) -> None:
    try:
        if key is not None:
            async with asyncio.timeout(_WITHIN_S):
                note(await _first_call(f"{base}/mcp", key))
    except BasculeError as error:
        complain(error)
    except TimeoutError:
        note(f"the first call had no answer within {_WITHIN_S:g} s; what holds it up: bascule status, bascule doctor")
    await _invite(gateway, base)
    _say_what_is_next(gateway, base)


async def _invite(gateway: "Gateway", base: str) -> None:
    """Print a link to the console, if there is one."""
    from bascule.admin import console
    from bascule.store.console import ConsoleSessions

    if gateway.records is not None and gateway.config.console.enabled:
        sessions = ConsoleSessions(gateway.records.writer)
        secret = await console.link(gateway.records, sessions, _FOREMOST, ["admin"], by="cli:up")
        print(f"{base}/console/open#{secret}  signs you in, once, within a minute", flush=True)


async def _first_call(url: str, key: str) -> str:
    """Make a call as any client would, through the socket and with a key; what became of it, in words.

    Raises Unavailable and its like.
    """
    import msgspec

    from bascule.admin import inspect
    from bascule.cli import terminal
    from bascule.upstream.http import HttpOptions, HttpUpstream
    from bascule.wire import jsonrpc

    upstream = HttpUpstream("bascule", HttpOptions(url=url, headers={"authorization": f"Bearer {key}"}))
    peer = inspect.peer_at(upstream, terminal.Person(), "modern")
    await upstream.start()
    try:
        since = time.perf_counter()
        arguments = jsonrpc.encode({"text": _FIRST_TEXT, "max_points": 1})
        result = await peer.call(_FIRST_TOOL, arguments)
        took_ms = (time.perf_counter() - since) * 1000
    finally:
        await peer.close()
        await upstream.stop()
    said = msgspec.json.decode(result.value)
    if result.refused or said.get("isError"):
        return f"the first call of {_FIRST_TOOL} was refused: {inspect.refusal_text(result.value)}"
    label = said["_meta"]["dev.bascule/call"]
    return (
        f"first call: {_FIRST_TOOL} {label['version']} answered in {took_ms:.0f} ms, as caller {_FOREMOST};"
        f" its record: bascule audit search --trace {label['trace_id']}"
    )


def _say_what_is_next(gateway: "Gateway", base: str) -> None:
    """How each client gets here: one command for those that are on this machine, and what any of them would say."""
    from bascule.admin import connect as connecting
    from bascule.cli.connect import launcher
    from bascule.cli.import_ import machine
    from bascule.clients import known

    here, at = machine(), connecting.Gateway(config=gateway.config, url=f"{base}/mcp")
    there = [each for each in known.CLIENTS.values() if known.user_file(each, here).exists()]
    for client in there:
        note(f"{client.title} is here: bascule connect {client.name} --write")
    try:
        anyone = connecting.plan(known.CLAUDE_DESKTOP, at, here, launcher=launcher(), caller=_caller(gateway))
    except ConfigInvalid as error:  # its own configuration knows nobody who calls with a key of this machine
        note(f"point a client at it: bascule connect CLIENT --url {base}/mcp ({error})")
    else:
        note("any client: what its file says; its own form and key: bascule connect CLIENT")
        for line in anyone.snippet.splitlines():
            print(line, flush=True)
    note("take over the servers that your clients have: bascule import")
    note("another link to the console: bascule console open      stop: Ctrl-C")


def _caller(gateway: "Gateway") -> str:
    return _FOREMOST if _FOREMOST in gateway.config.callers else ""
