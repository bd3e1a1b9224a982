"""`bascule pack list`, `show`, `run`: the tools that come with Bascule, alone or to look at."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bascule.cli.serve import HostOption, PortOption, address
from bascule.cli.talk import failing
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.contract.model import Document
    from bascule.upstream.stdio import StdioOptions

_TOOLS: Final = ("tool", "version", "effect", "gate", "scope", "description")
_SETTINGS: Final = ("setting", "type", "default")

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As `bascule pack list` shows it.")]

commands = typer.Typer(
    name="pack", no_args_is_help=True, help="The tools that come with Bascule: look at them, run one."
)


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.command("list")
@failing
def list_(as_json: JsonOption = False) -> None:
    """List the packs of this installation, and what each is for."""
    from bascule.cli import show
    from bascule.packs import catalog

    found = [(name, catalog.OURS.get(name, "of another package"), len(_documents(name))) for name in catalog.names()]
    if as_json:
        show.document([{"pack": name, "about": about, "tools": tools} for name, about, tools in found])
    else:
        show.table("packs", ("pack", "tools", "about"), [[name, str(tools), about] for name, about, tools in found])


@commands.command("show")
@failing
def show_(name: NameArgument, as_json: JsonOption = False) -> None:
    """Print the tools of a pack, what each may do, and what can be set.

    Example: bascule pack show finance
    """
    from msgspec import UNSET, to_builtins

    from bascule.cli import show
    from bascule.packs import catalog

    tools, settings = _documents(name), catalog.settings_of(name)
    if as_json:
        terms = ("version", "description", "side_effect", "security_scope", "confirm_gate")
        said = [
            {"tool": each.id, **{term: getattr(each, term) for term in terms if getattr(each, term) is not UNSET}}
            for each in tools
        ]
        show.document({"pack": name, "tools": to_builtins(said), "settings": [each._asdict() for each in settings]})
        return
    show.table("tools", _TOOLS, [_row(each) for each in tools])
    show.table("settings", _SETTINGS, [list(each) for each in settings])


@commands.command()
@failing
def run(
    name: NameArgument,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting, such as root=~/Documents.")
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="A file with the settings: YAML, JSON or TOML.")] = None,
    sandbox: Annotated[str, typer.Option(metavar="auto|required|off", help="The walls around its process.")] = "auto",
    http: Annotated[bool, typer.Option("--http", help="Serve it over HTTP, governed, as `bascule run` does.")] = False,
    host: HostOption = None,
    port: PortOption = None,
) -> None:
    """Serve one pack by itself: on standard input and output, or over HTTP.

    Example: bascule pack run office --set root=~/Documents --http
    """
    from bascule import config
    from bascule.upstream.stdio import StdioOptions

    if not http and (host is not None or port is not None):
        raise ConfigInvalid("--host and --port go with --http")
    entry = {"pack": name, "settings": _settings(settings, setting or []), "sandbox": sandbox}
    value = {"servers": {name: {**entry, "required": True}}, "http": address(host, port)}
    loaded = config.load_value(value, os.environ, "bascule pack run")
    if http:
        from bascule.cli import serve

        serve.start(loaded, None)
        return
    options = loaded.servers[name]
    assert isinstance(options, StdioOptions), "a pack is started"
    sys.exit(_serve_alone(options, Path(loaded.state_dir)))


def _serve_alone(options: "StdioOptions", state: Path) -> int:
    """Run the pack within its walls, on our own standard input and output, to its end; gives its exit code."""
    import signal
    import subprocess

    from bascule.upstream.launch import launch

    launched = launch(options, os.environ, None, (state,))
    try:
        process = subprocess.Popen(launched.command, env=dict(launched.env), cwd=launched.cwd)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal the pack hears it, too; its input ends it
        return process.wait()
    finally:
        launched.end()


def _settings(file: Path | None, assignments: list[str]) -> dict[str, Any]:
    from bascule.text import Text, read_text

    found: Any = {} if file is None else Text(file, read_text(file)).value()
    if not isinstance(found, dict):
        raise ConfigInvalid("settings are a mapping of names to values", place=str(file))
    for assignment in assignments:
        name, is_said, value = assignment.partition("=")
        if not is_said or not name:
            raise ConfigInvalid(f"--set {assignment!r}: write NAME=VALUE")
        _put(found, name.split("."), _value(value))
    return found


def _put(settings: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        settings = settings.setdefault(part, {})
        if not isinstance(settings, dict):
            raise ConfigInvalid(f"--set {'.'.join(path)}: {part} is a value, and has no parts")
    settings[path[-1]] = value


def _value(text: str) -> Any:
    """What JSON says it is; anything else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _documents(name: str) -> "list[Document]":
    from bascule import documents
    from bascule.packs import catalog

    found = documents.documents(catalog.contracts_of(name))
    return [document for _, document in found if document.kind == "tool"]


def _row(document: "Document") -> list[str]:
    from msgspec import UNSET

    scope = document.security_scope
    return [
        document.id,
        "" if document.version is UNSET else document.version,
        "reads" if document.side_effect is False else "changes",
        "" if document.confirm_gate in (UNSET, False) else "a person",
        " ".join([scope] if isinstance(scope, str) else scope or ()),
        "" if document.description is UNSET else document.description.split("\n")[0],
    ]
