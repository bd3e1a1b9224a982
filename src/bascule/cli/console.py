"""`bascule console open`, `sessions`, `end`: a way into the web console, and who is in it."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bascule.cli.records import ConfigOption, JsonOption, user, with_records
from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.config import Config
    from bascule.store.records import Records

_HEADINGS: Final = ("id", "name", "roles", "signed in by", "since", "last seen", "ends")


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

    roles, who = console.checked(role or ["admin"], name or user())

    async def opened(loaded: "Config", records: "Records") -> None:
        from bascule.cli import show
        from bascule.store.console import LINK_TTL_S, ConsoleSessions

        address = console.address_of(loaded, url)
        secret = await console.link(records, ConsoleSessions(records.writer), who, roles, by=f"cli:{user()}")
        link = f"{address}/console/open#{secret}"
        if as_json:
            show.document({"url": link, "name": who, "roles": list(roles), "expires_in_s": int(LINK_TTL_S)})
        else:
            print(link, flush=True)
        note(f"it signs {who} in as {', '.join(roles)}, once, within {LINK_TTL_S:g} s")

    with_records(config, opened, writes=True)


@commands.command("sessions")
@failing
def list_(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List who is signed in, the latest first."""

    async def listed(loaded: "Config", records: "Records") -> None:
        from bascule.admin import console
        from bascule.cli import show
        from bascule.store.console import ConsoleSessions

        reports = [
            console.report(each) for each in ConsoleSessions(records.writer).list_(loaded.console.session_idle_s)
        ]
        if as_json:
            show.document(reports)
        else:
            show.table("sessions", _HEADINGS, [_row(each) for each in reports])

    with_records(config, listed)


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

    async def ended(_: "Config", records: "Records") -> None:
        from bascule.admin import console
        from bascule.store.console import ConsoleSessions

        count = await console.end(records, ConsoleSessions(records.writer), id=id, name=name, by=f"cli:{user()}")
        if not count and id is not None:
            raise ConfigInvalid(f"there is no session {id!r}; it may be over: see `bascule console sessions`")
        note(f"{count} {'session is' if count == 1 else 'sessions are'} over")

    with_records(config, ended, writes=True)


def _row(report: dict[str, Any]) -> list[str]:
    return [
        *(report["id"], report["name"], " ".join(report["roles"]), report["how"]),
        *(report["since"], report["seen"], report["ends"]),
    ]
