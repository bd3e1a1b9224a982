"""Where a command looks: a URL, a configuration, an `mcpServers` file, or a command to start.

    bascule list http://127.0.0.1:8777/mcp      the first word, when it is a URL
    bascule list -c bascule.yaml                all servers of a configuration
    bascule list --servers mcp.json             all servers of a client's file
    bascule list -- npx -y some-server          everything after `--`
    bascule list                                bascule.yaml here

Nothing is guessed from the shape of a word when one of the last three is given. Only reads the command
line, without the runtime, so that `--help` and shell completion stay quick; cli/visit.py opens a target.
"""

import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import typer
from typer.core import TyperCommand

from bascule.cli.credentials import check_header, token_of_environment
from bascule.cli.serve import named_after
from bascule.errors import ConfigInvalid

_URL: Final = re.compile(r"https?://", re.IGNORECASE)
_PANEL: Final = "Where"

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="bascule.yaml, .json or .toml.", rich_help_panel=_PANEL)
]
Servers = Annotated[Path | None, typer.Option(help="An mcpServers JSON file.", rich_help_panel=_PANEL)]
Header = Annotated[
    list[str] | None,
    typer.Option("--header", "-H", metavar="NAME:VALUE", help="Sent to the URL.", rich_help_panel=_PANEL),
]
Bearer = Annotated[
    str | None,
    typer.Option(
        help="Token for the URL. Better not on the command line: export BASCULE_TOKEN, which is read without this.",
        rich_help_panel=_PANEL,
    ),
]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME=VALUE", help="Set for the command.", rich_help_panel=_PANEL),
]
EraWish = Annotated[Literal["auto", "legacy", "modern"], typer.Option("--era", help="The protocol to speak.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds until it is given up.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the raw result, in one line.")]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the words and options of a command line say about where to look, not opened yet."""

    url: str = ""
    file: Path | None = None
    client_file: bool = False  # the file is an `mcpServers` one
    command: Sequence[str] = ()
    headers: Mapping[str, str]
    env: Mapping[str, str]
    era: Literal["auto", "legacy", "modern"]
    timeout_s: float
    as_json: bool


class TargetedCommand(TyperCommand):
    """A command that may end with `-- COMMAND…`, kept away from the parser and put in `ctx.obj`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        mark = args.index("--") if "--" in args else len(args)
        ctx.obj = args[mark + 1 :] if mark < len(args) else None
        return super().parse_args(ctx, args[:mark])

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        words = next(param for param in self.params if param.name == "words")
        return ["[OPTIONS]", str(words.metavar), "[-- COMMAND…]"]


def targeted(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command(target, *words, **its_own_options) be used as the module says.

    *names* are those of its words; the ones in brackets may be missing and are then None.
    """
    metavar = " ".join(("[URL]", *names))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.kind is p.KEYWORD_ONLY]

        def parsed(
            ctx: typer.Context,
            words: Annotated[list[str] | None, typer.Argument(metavar=metavar, show_default=False)] = None,
            config: Config = None,
            servers: Servers = None,
            header: Header = None,
            bearer: Bearer = None,
            env: Env = None,
            era: EraWish = "auto",
            timeout: Timeout = 120.0,
            as_json: AsJson = False,
            **options: Any,
        ) -> None:
            place, rest = _place(list(words or ()), config, servers, ctx.obj)
            target = Target(
                **place,
                headers=_headers(place.get("url", ""), header or (), bearer),
                env=dict(_pair(each, "=", "--env") for each in env or ()),
                era=era,
                timeout_s=timeout,
                as_json=as_json,
            )
            command(target, *_fitted(rest, names, f"{ctx.command_path} {metavar}"), **options)

        _dress(parsed, command, own)
        return parsed

    return decorate


def _dress(parsed: Callable[..., None], command: Callable[..., None], own: list[inspect.Parameter]) -> None:
    """Give *parsed* the name and help of *command*, and its options before the common ones: typer reads these."""
    ours = [p for p in inspect.signature(parsed).parameters.values() if p.kind is not p.VAR_KEYWORD]
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in ours[2:]]
    signature = inspect.Signature([*ours[:2], *own, *keyword])
    parsed.__name__, parsed.__doc__ = command.__name__, command.__doc__
    parsed.__signature__ = signature  # type: ignore[attr-defined]  # inspect's own convention
    parsed.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}


# ---- from words to a target ----------------------------------------------------------------------


def _place(
    words: list[str], config: Path | None, servers: Path | None, command: list[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """The part of a Target that says where, and the words that are left."""
    given = [name for name, one in (("-c", config), ("--servers", servers), ("--", command)) if one is not None]
    if len(given) > 1:
        raise ConfigInvalid(f"{' and '.join(given)} are two places to look; give one")
    if command is not None:
        if not command:
            raise ConfigInvalid("no command after --; for example: -- uvx mcp-server-time")
        return {"command": command}, words
    if given:
        return {"file": config or servers, "client_file": servers is not None}, words
    if words and _URL.match(words[0]):
        return {"url": words[0]}, words[1:]
    if (file := default_file()).exists():
        return {"file": file}, words
    raise ConfigInvalid(
        "where? Give a URL first, or -c FILE, --servers FILE, or -- COMMAND at the end"
        f" (there is no {file} in this folder)"
    )


def default_file() -> Path:
    """The configuration that is meant when no option names one; it may not exist."""
    from bascule import config

    return config.own_file(os.environ)


def _fitted(words: list[str], names: Sequence[str], usage: str) -> list[str | None]:
    missing = [name for name in names[len(words) :] if not name.startswith("[")]
    if missing:
        raise ConfigInvalid(f"{' and '.join(missing)} missing; usage: {usage}")
    if len(words) > len(names):
        raise ConfigInvalid(f"{words[len(names)]!r} is one word too many; usage: {usage}")
    return [*words, *[None] * (len(names) - len(words))]


def _headers(url: str, headers: Sequence[str], bearer: str | None) -> dict[str, str]:
    if not url:
        if headers or bearer:
            raise ConfigInvalid("--header and --bearer are for a URL; a configuration has `headers` of its own")
        return {}
    found = dict(_pair(each, ":", "--header") for each in headers)
    token = bearer or token_of_environment(url)
    if token and not any(name.lower() == "authorization" for name in found):
        found["authorization"] = f"Bearer {token}"
    for name, value in found.items():
        check_header(name, value, "the header")
    return found


def _pair(text: str, separator: str, option: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name.strip():
        raise ConfigInvalid(f"{option} {text!r} is not NAME{separator}VALUE")
    return name.strip(), value.strip() if separator == ":" else value


def name_of(target: Target) -> str:
    """What errors call it."""
    if target.url:
        return urlsplit(target.url).netloc
    return str(target.file) if target.file is not None else named_after(target.command)
