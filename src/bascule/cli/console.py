"""`bascule console open`, `sessions`, `end`: a way into the web console, and who is in it."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from bascule.cli.approvals import _user
from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.config import Config
    from bascule.store.console import ConsoleSessions
    from bascule.store.records import Records

_HEADINGS: Final = ("id", "name", "roles", "signed in by", "since", "last seen", "ends")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The file; default bascule.yaml, or what `bascule run` keeps.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

commands = typer.Typer(name="console", no_args_is_help=True, help="Open the web console, and see who is in it.")


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.command("open")
@failing
def open_(
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="viewer, approver, reviewer, editor or admin (default); may be repeated."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Who signs in; default: your user of this machine.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Where the gateway is; default: what the configuration says.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print a link that signs one browser in, once, within a minute.

    Example: bascule console open --role reviewer --as mai
    """
    from bascule.admin import console

    roles, who = console.checked(role or ["admin"], name or _user())

    async def opened(loaded: "Config", records: "Records", sessions: "ConsoleSessions") -> None:
        from bascule.cli import show
        from bascule.store.console import LINK_TTL_S

        address = console.address_of(loaded, url)
        secret = await console.link(records, sessions, who, roles, by=f"cli:{_user()}")
        link = f"{address}/console/open#{secret}"
        if as_json:
            show.document({"url": link, "name": who, "roles": list(roles), "expires_in_s": int(LINK_TTL_S)})
        else:
            print(link, flush=True)
        note(f"it signs {who} in as {', '.join(roles)}, once, within {LINK_TTL_S:g} s")

    _run(config, opened)


@commands.command("sessions")
@failing
def list_(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List who is signed in, the latest first."""

    async def listed(loaded: "Config", _: "Records", sessions: "ConsoleSessions") -> None:
        from bascule.admin import console
        from bascule.cli import show

        reports = [console.report(each) for each in sessions.list_(loaded.console.session_idle_s)]
        if as_json:
            show.document(reports)
        else:
            show.table("sessions", _HEADINGS, [_row(each) for each in reports])

    _run(config, listed)


@commands.command()
@failing
def end(
    id: Annotated[str | None, typer.Argument(metavar="ID", help="As `bascule console sessions` shows it.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Sign everybody out.")] = False,
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="All sessions of this person.")] = None,
    config: ConfigOption = None,
) -> None:
    """Sign somebody out: at once, wherever they are."""
    if sum((id is not None, everybody, name is not None)) != 1:
        raise ConfigInvalid("say one of: an ID, --as NAME, --all")

    async def ended(_: "Config", records: "Records", sessions: "ConsoleSessions") -> None:
        from bascule.admin import console

        count = await console.end(records, sessions, id=id, name=name, by=f"cli:{_user()}")
        if not count and id is not None:
            raise ConfigInvalid(f"there is no session {id!r}; it may be over: see `bascule console sessions`")
        note(f"{count} {'session is' if count == 1 else 'sessions are'} over")

    _run(config, ended)


def _row(report: dict[str, Any]) -> list[str]:
    return [
        *(report["id"], report["name"], " ".join(report["roles"]), report["how"]),
        *(report["since"], report["seen"], report["ends"]),
    ]


# ---- from words to the records -------------------------------------------------------------------

Work: TypeAlias = Callable[["Config", "Records", "ConsoleSessions"], Coroutine[Any, Any, None]]


def _run(path: Path | None, work: Work) -> None:
    from bascule import config
    from bascule.store.files import require

    # Somebody is signed out also where none of the servers' secrets is at hand.
    loaded = config.load_own_records(path, os.environ)
    require(Path(loaded.state_dir))
    asyncio.run(_worked(loaded, work))


async def _worked(config: "Config", work: Work) -> None:
    from bascule.config import audit_of
    from bascule.store.console import ConsoleSessions
    from bascule.store.records import Records

    records = Records(Path(config.state_dir), audit_of(config), config.journal, config.approvals)
    try:
        await records.start()
        await work(config, records, ConsoleSessions(records.writer))
    finally:
        await records.close()
