"""`bascule run`, `serve`, `bridge`, `validate`, `schema`: start it, and check what it would start with."""

import json
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bascule.cli import bridge as bridging
from bascule.cli.bridge import TIMEOUT_S, WAIT_S
from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.app import Gateway

_LAUNCHERS: Final = frozenset({"npx", "uvx", "bunx", "pnpm", "node", "python", "python3", "uv", "docker", "deno"})

HostOption = Annotated[str | None, typer.Option("--host", help="Address to listen on.")]
PortOption = Annotated[
    int | None, typer.Option("--port", "-p", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
]


def register(app: typer.Typer) -> None:
    app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(run)
    app.command()(serve)
    app.command()(bridge)
    app.command()(validate)
    app.command()(schema)


@failing
def run(
    command: Annotated[list[str] | None, typer.Argument(help="-- and the command of one stdio server.")] = None,
    server: Annotated[
        list[str] | None, typer.Option("--server", "-s", help="NAME='COMMAND …'; may be repeated.")
    ] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE for every server started.")] = None,
    pass_environment: Annotated[bool, typer.Option(help="Let servers see all of Bascule's environment.")] = False,
    cwd: Annotated[str | None, typer.Option(help="Working directory of the servers.")] = None,
    stateful: Annotated[
        bool,
        typer.Option("--per-session", help="A process for each session, for servers that ask their clients."),
    ] = False,
    allow_origin: Annotated[list[str] | None, typer.Option(help="A web page's origin that may call.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="A name that clients use for this machine.")] = None,
    token_env: Annotated[
        str | None, typer.Option(help="Environment variable with the bearer token that clients must send.")
    ] = None,
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Serve one stdio server, or several named ones, over HTTP. No configuration needed.

    Example: bascule run -- npx -y @modelcontextprotocol/server-everything
    """
    commands = _named(server or [])
    sole = None
    if command:
        if commands:
            raise ConfigInvalid("give either -- COMMAND or --server NAME='COMMAND', not both")
        if command[0].startswith("-"):
            raise ConfigInvalid(f"no option {command[0]!r}; `bascule run --help` lists them")
        sole = named_after(command)
        commands = {sole: command}
    if not commands:
        raise ConfigInvalid("nothing to run; for example: bascule run -- uvx mcp-server-time")
    shared = {
        "env": dict(_assignment(each) for each in env or ()),
        "pass_environment": pass_environment,
        "cwd": cwd,
        "sharing": "per_session" if stateful else "shared",
        "required": True,  # what was named by hand is what /health/ready is about
        "trust": "auto",  # whoever starts it by hand has nobody to review what it lists
    }
    servers = {name: {"command": words[0], "args": words[1:], **shared} for name, words in commands.items()}
    listen = {
        "allowed_origins": allow_origin or [],
        "allowed_hosts": allow_host or [],
        "bearer": _token(token_env),
        **address(host, port),
    }
    _serve({"servers": servers, "http": listen}, sole)


@failing
def serve(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="bascule.yaml, .json or .toml.")] = None,
    servers: Annotated[Path | None, typer.Option("--servers", help="An mcpServers JSON file.")] = None,
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Serve all servers of a configuration; edits of the file are adopted while it runs."""
    _listen_to_logs()
    again = partial(load, config, servers, address(host, port))
    start(again(), None, load=again, path=_file_of(config, servers))


@failing
def bridge(
    url: Annotated[str, typer.Argument(metavar="URL", help="An MCP endpoint, of Bascule or any other.")],
    header_env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VARIABLE", help="Send this header, with the value of that environment variable."),
    ] = None,
    token_file: Annotated[
        str, typer.Option(metavar="PATH", help="Send the token in this file, which is yours alone, as bearer token.")
    ] = "",
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long a request waits for a URL that is down.")
    ] = WAIT_S,
    timeout: Annotated[
        float, typer.Option(min=0.001, max=600, metavar="SECONDS", help="How long a call may take.")
    ] = TIMEOUT_S,
    secrets: Annotated[list[str] | None, typer.Option("--header", "-H", "--bearer", "--token", hidden=True)] = None,
) -> None:
    """Be the server behind a URL, on standard input and output, for clients that can only start commands.

    BASCULE_TOKEN, if it is set, is sent as bearer token. A file is read again when its token is refused.

    Example: bascule bridge http://127.0.0.1:8777/mcp
    """
    if secrets:
        raise ConfigInvalid(
            "a secret on the command line can be read by every process of this machine:"
            " export BASCULE_TOKEN, or name a variable with --header-env NAME=VARIABLE, or a file with --token-file"
        )
    bridging.run(bridging.Wish(url, header_env or [], wait, timeout, token_file))


@failing
def validate(
    config: Annotated[Path | None, typer.Argument(help="The file; default bascule.yaml.")] = None,
    servers: Annotated[Path | None, typer.Option("--servers", help="An mcpServers JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check a configuration without starting anything: file, line and field of what is wrong."""
    from bascule.admin.doubts import doubts
    from bascule.wiring import rehearse

    try:
        loaded = load(config, servers, {})
        with _placed(_file_of(config, servers)):
            rehearse(loaded)
    except ConfigInvalid as error:
        if as_json:
            print(json.dumps({"valid": False, "error": str(error), "place": error.place, "field": error.field}))
            raise typer.Exit(2) from error
        raise
    names, warnings = list(loaded.servers), [*_warnings(loaded), *doubts(loaded)]
    if as_json:
        print(json.dumps({"valid": True, "servers": names, "warnings": warnings}))
        return
    for warning in warnings:
        note(f"warning: {_file_of(config, servers)}: {warning}")
    count = "1 server" if len(names) == 1 else f"{len(names)} servers"
    print(f"{_file_of(config, servers)}: valid, {count}: {', '.join(names) or 'none'}")


@failing
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from bascule import config

    print(json.dumps(config.schema(), indent=2))


# ---- from words to a configuration ---------------------------------------------------------------


def load(config: Path | None, servers: Path | None, address: Mapping[str, Any]) -> Any:
    """The configuration that the options name, with the address of the command line on top."""
    import msgspec

    from bascule import config as configuration

    if config and servers:
        raise ConfigInvalid("give either --config or --servers, not both")
    path = _file_of(config, servers)
    loaded = (configuration.load_servers if servers else configuration.load)(path, os.environ)
    http = msgspec.structs.replace(loaded.http, **address)
    return configuration.check(msgspec.structs.replace(loaded, http=http))


@contextmanager
def _placed(path: Path | None) -> Iterator[None]:
    """Say where in *path* the field stands that something inside refuses."""
    from bascule.text import Text, read_text

    try:
        yield
    except ConfigInvalid as error:
        if path is None or error.place or not error.field:
            raise
        message = str(error).removeprefix(f"{error.field}: ")
        raise Text(path, read_text(path)).wrong(message, error.field) from error


def _file_of(config: Path | None, servers: Path | None) -> Path:
    from bascule import config as configuration

    return servers or config or configuration.own_file(os.environ)


def _warnings(config: Any) -> list[str]:
    """What is legal and will still not work on this machine. Here, unlike on the one it is deployed to, perhaps."""
    from bascule.upstream.stdio import StdioOptions

    return [
        f"servers.{name}.command: {options.command!r} is not on PATH; install it, or write the whole path"
        for name, options in config.servers.items()
        if isinstance(options, StdioOptions) and not _on_path(options.command, options.env)
    ]


def _on_path(command: str, env: Mapping[str, str]) -> bool:
    """As the server will be looked for: on the PATH of its own `env`, if it has one."""
    return shutil.which(command, path=env.get("PATH", os.environ.get("PATH"))) is not None


def _token(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise ConfigInvalid(f"--token-env {variable}: that variable is not set")
    return os.environ[variable]


def address(host: str | None, port: int | None) -> dict[str, Any]:
    """What the command line says of where to listen, in the words of the configuration's `http`."""
    return {key: value for key, value in (("host", host), ("port", port)) if value is not None}


def _named(assignments: list[str]) -> dict[str, list[str]]:
    """NAME='COMMAND …' words as commands by name."""
    from bascule.config import is_server_name

    commands: dict[str, list[str]] = {}
    for assignment in assignments:
        name, found, command = assignment.partition("=")
        words = shlex.split(command) if found else []
        if not words:
            raise ConfigInvalid(f"--server {assignment!r}: write NAME='COMMAND …'")
        if not is_server_name(name):
            raise ConfigInvalid(f"--server {assignment!r}: a name has at most 32 of A-Z a-z 0-9 _ -")
        if name in commands:
            raise ConfigInvalid(f"--server {assignment!r}: there is another server {name!r}")
        commands[name] = words
    return commands


def _assignment(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise ConfigInvalid(f"{text!r} is not NAME=VALUE")
    return name, value


def named_after(command: Sequence[str]) -> str:
    """A name for an unnamed server, from the word of its command that says most.

    >>> named_after(["npx", "-y", "@modelcontextprotocol/server-everything"])
    'everything'
    """
    from bascule.wire.names import slug

    words = [word for word in command if not word.startswith("-")]
    told = next((word for word in words if Path(word).name not in _LAUNCHERS), words[0])
    stem = re.sub(r"(\.(py|js|ts|mjs)|@[\w.^~-]+)$", "", told.rstrip("/").rsplit("/", 1)[-1])
    name = re.sub(r"^(mcp-server-|server-|mcp-)|(-mcp-server|-mcp|-server)$", "", stem)
    return slug(name)[:32] or "server"


# ---- start ---------------------------------------------------------------------------------------


def _serve(value: Mapping[str, Any], sole: str | None) -> None:
    import msgspec

    from bascule import config as configuration
    from bascule.upstream.stdio import StdioOptions

    servers = {n: msgspec.convert(o, StdioOptions) for n, o in value["servers"].items()}
    http = msgspec.convert(value["http"], configuration.ListenOptions)
    state = _writable(configuration.default_state_dir(os.environ))
    start(configuration.check(configuration.Config(http=http, servers=servers, state_dir=state)), sole)


def _writable(state: Path) -> str:
    """*state*, if records can be kept there; else "": `run` does not fail for want of a folder that nobody chose."""
    from bascule.store import folder

    try:
        folder.prepare(state)
    except ConfigInvalid as error:
        problem = str(error)
    else:
        if os.access(state, os.W_OK):
            return str(state)
        problem = f"{state} cannot be written"
    note(
        f"warning: calls are not recorded, and idempotency keys are refused: {problem}; to have it, set XDG_STATE_HOME"
    )
    return ""


def start(
    config: Any,
    sole: str | None,
    *,
    load: Any = None,
    path: Path | None = None,
    announce: "Callable[[Gateway, str], None] | None" = None,
) -> None:
    """Run a gateway until it is told to end. *announce* says that it is up: the gateway, and its address."""
    from bascule.app import Gateway
    from bascule.edge import server
    from bascule.follow import try_reload, watch
    from bascule.observe import logs

    logs.listen(config.logs, sys.stderr)
    sock = server.bind(config.http.host, config.http.port)
    url = _url(sock.getsockname(), secure=config.http.tls is not None)

    async def main() -> None:
        with _placed(path):
            gateway = Gateway(config, sole=sole)
        await server.serve(
            gateway,
            sock,
            up=lambda: announce(gateway, url) if announce else _announce(url, sole, config, path),
            reload=partial(try_reload, gateway, load) if load else None,
            watch=partial(watch, gateway, load, path) if load and path else None,
            waiting=_say_what_is_waited_for,
        )

    server.run(main())


def _say_what_is_waited_for(calls: int) -> None:
    note(f"waiting for {calls} call{'' if calls == 1 else 's'} to end (Ctrl-C again: now)")


def _listen_to_logs() -> None:
    from bascule.observe import logs
    from bascule.observe.options import LogsOptions

    logs.listen(LogsOptions(), sys.stderr)


def _url(address: Any, *, secure: bool) -> str:
    host, port = address[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{'https' if secure else 'http'}://{shown}:{port}"


def _announce(base: str, sole: str | None, config: Any, path: Path | None) -> None:
    """The one line on stdout: the URL first, then what to paste into a client."""
    name, keyed = sole or "bascule", bool(config.callers or config.http.bearer)
    header = ' --header "Authorization: Bearer $KEY"' if keyed and not config.auth.issuers else ""
    print(f"{base}/mcp  ready; add it with: claude mcp add --transport http {name} {base}/mcp{header}", flush=True)
    # Whoever reads JSON from standard error reads nothing else there.
    say = logging.getLogger("bascule").info if config.logs.format == "json" else note
    for each in [] if sole else config.servers:
        say(f"{each} alone: {base}/servers/{each}/mcp")
    say(f"status: {base}/status")
    if config.console.enabled and config.state_dir:
        file = "" if path is None else f" -c {shlex.quote(str(path))}"
        say(f"console: bascule console open{file} --url {base}")
