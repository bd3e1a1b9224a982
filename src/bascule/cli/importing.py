"""`bascule registry import`: what another registry offers, as servers of a configuration."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from bascule.cli.credentials import check_url
from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid, Unavailable

_MOST_FETCHED: Final = 8 * 1024 * 1024  # bytes of one answer of a registry

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@failing
def import_(
    source: Annotated[str, typer.Argument(metavar="URL", help="Of a registry that speaks the official API.")],
    search: Annotated[str, typer.Option(metavar="TEXT", help="Servers with this in their name.")] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="Just this server, such as com.example/weather.")] = "",
    version: Annotated[str, typer.Option("--server-version", metavar="VERSION", help="Of that server.")] = "latest",
    most: Annotated[int, typer.Option(min=1, max=1000, help="No more than so many.")] = 30,
    write: Annotated[Path | None, typer.Option(metavar="FILE", help="A new file; default standard output.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print servers of a registry as `servers:` of a configuration. Nothing is started, installed or changed.

    Versions of packages are pinned, secrets are references to the environment. Read it before you use it.

    Example: bascule registry import https://registry.example --search weather
    """
    from msgspec import to_builtins

    from bascule.admin import importing
    from bascule.cli import show as paper
    from bascule.registry.server_json import imported, text_of

    async def read() -> Sequence[Any]:
        if name:
            return [await importing.server(_fetch, source, name, version)]
        return await importing.servers(_fetch, source, search=search, most=most)

    check_url(source)
    found = imported(asyncio.run(read()))
    for each in found:
        for said in each.notes:
            note(f"{each.source}: {said}")
    if as_json:
        paper.document([{**to_builtins(each), "notes": list(each.notes)} for each in found])
    elif write is None:
        paper.text(text_of(found).rstrip("\n"))
    else:
        _write(write, text_of(found))
    if not found:
        note("the registry has no such server")
        sys.exit(1)


async def _fetch(url: str) -> bytes:
    """What lies at *url*, if it may be reached. Raises Unavailable."""
    from bascule import egress

    host = egress.host_of(url)
    try:
        return await egress.get(url, origin_host=host, limit_bytes=_MOST_FETCHED)
    except egress.FetchFailed as error:
        raise Unavailable(f"cannot be read: {error}").at(host) from error


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigInvalid(f"cannot be written: {error.strerror}", place=str(path)) from error
    note(f"wrote {path}; nothing uses it until you take its servers over into your configuration")
