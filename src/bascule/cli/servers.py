"""`bascule servers restart | disable | enable`: of a running gateway."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from bascule.cli import remote
from bascule.cli.remote import UrlArgument
from bascule.cli.talk import failing, note

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="As the configuration names it.")]
WhyOption = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; whoever asks later is told it.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="The file that says where it listens.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

commands = typer.Typer(name="servers", no_args_is_help=True, help="Start a server of a running gateway anew; stop it.")


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.command()
@failing
def restart(
    name: NameArgument, url: UrlArgument = None, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Start a server anew; calls that run there may end first.

    Example: bascule servers restart github
    """
    _act("restart", name, "", url, config, as_json=as_json)


@commands.command()
@failing
def disable(
    name: NameArgument,
    url: UrlArgument = None,
    about: WhyOption = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Switch a server off, until somebody enables it.

    Example: bascule servers disable github --note "maintenance until six"
    """
    _act("disable", name, about, url, config, as_json=as_json)


@commands.command()
@failing
def enable(
    name: NameArgument, url: UrlArgument = None, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Let a server run again.

    Example: bascule servers enable github
    """
    _act("enable", name, "", url, config, as_json=as_json)


def _act(verb: str, name: str, about: str, url: str | None, config: Path | None, *, as_json: bool) -> None:
    from bascule.cli import show

    base = remote.base_of(url, config)
    body = {"note": about} if about else {}
    found = remote.ask(base, "POST", f"/api/servers/{quote(name, safe='')}/{verb}", body=body)
    if as_json:
        show.document(found)
        return
    print(found["state"], flush=True)
    note(f"{name}: {found['state']}" + (f", {found['last_error']}" if found["last_error"] else ""))
