"""`bascule cache stats` and `clear`: what a running gateway keeps of answers."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from bascule.cli import remote
from bascule.cli.remote import UrlArgument
from bascule.cli.talk import failing, note

_HEADINGS: Final = ("tool", "hits", "shared", "misses", "hit rate", "evictions", "entries", "bytes")

ToolOption = Annotated[str | None, typer.Option(metavar="SERVER/TOOL", help="Only of this tool.")]
ServerOption = Annotated[str | None, typer.Option(metavar="NAME", help="Only of this server.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="The file that says where it listens.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

commands = typer.Typer(name="cache", no_args_is_help=True, help="Look at the answers that a gateway keeps; clear them.")


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.command()
@failing
def stats(
    url: UrlArgument = None,
    tool: ToolOption = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show how often a kept answer was given, tool by tool.

    Example: bascule cache stats http://127.0.0.1:8777
    """
    from bascule.cli import show

    report = remote.ask(remote.base_of(url, config), "GET", "/api/cache")
    tools = [each for each in report["tools"] if tool in (None, each["tool"]) and server in (None, each["server"])]
    if as_json:
        show.document({**report, "tools": tools})
        return
    show.table("kept answers", _HEADINGS, [_row(each) for each in tools])
    note(f"{report['entries']} answers in {report['bytes']} of {report['max_bytes']} bytes; hit rate {_rate(report)}")


@commands.command()
@failing
def clear(
    url: UrlArgument = None, tool: ToolOption = None, server: ServerOption = None, config: ConfigOption = None
) -> None:
    """Forget kept answers: all of them, or those of a tool or a server.

    Example: bascule cache clear --tool crm/find_lead
    """
    gone = remote.ask(remote.base_of(url, config), "DELETE", "/api/cache", query={"tool": tool, "server": server})
    print(gone["cleared"], flush=True)
    note(f"{gone['cleared']} answers are forgotten")


def _row(counts: dict[str, Any]) -> list[str]:
    numbers = [str(counts[name]) for name in ("hits", "shared", "misses")]
    return [counts["tool"], *numbers, _rate(counts), *(str(counts[name]) for name in ("evictions", "entries", "bytes"))]


def _rate(counts: dict[str, Any]) -> str:
    return "-" if counts["hit_rate"] is None else f"{counts['hit_rate']:.1%}"
