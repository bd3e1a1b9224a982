"""`bascule approvals list`, `show`, `approve`, `deny`: answers to calls that wait for a person."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bascule.cli.records import ConfigOption, JsonOption, user, with_records
from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.config import Config
    from bascule.store.approvals import Approvals
    from bascule.store.records import Records

_HEADINGS: Final = ("id", "state", "tool", "caller", "expires", "decided by", "question")
_STATES: Final = ("pending", "approved", "denied", "used", "expired")
_LOOK_EVERY_S: Final = 1.0

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `bascule approvals list` shows it.")]
NoteOption = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; a caller that is denied is told it.")]
StateOption = Annotated[
    str | None, typer.Option("--state", metavar="STATE", help=f"Only those that are {', '.join(_STATES)}.")
]
WatchOption = Annotated[bool, typer.Option("--watch", help="Show each question as it comes, until Ctrl+C.")]

commands = typer.Typer(name="approvals", invoke_without_command=True, help="Answer calls that wait for a person.")


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.callback()
def _listed(context: typer.Context) -> None:
    """Answer calls that wait for a person; without a command, list them."""
    if context.invoked_subcommand is None:
        context.invoke(list_, state=None, watch=False, as_json=False, config=None)


@commands.command("list")
@failing
def list_(
    state: StateOption = None, watch: WatchOption = False, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """List questions and answers of the last day, the newest first."""
    from bascule.cli import show as shown

    if state is not None and state not in _STATES:
        raise ConfigInvalid(f"--state {state!r}: there are {', '.join(_STATES)}")

    async def listed(_: "Config", records: "Records") -> None:
        from bascule.admin import approvals as admin

        if watch:
            await _watch(records.approvals, as_json=as_json)
            return
        reports = admin.list_(records.approvals, None, state=state)  # type: ignore[arg-type]  # it is one of _STATES
        if as_json:
            shown.document(reports)
        else:
            shown.table("approvals", _HEADINGS, [_row(each) for each in reports])

    try:
        with_records(config, listed)
    except KeyboardInterrupt:
        pass  # the end of `--watch`


@commands.command()
@failing
def show(id: IdArgument, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one question: the exact tool, version and arguments that a yes is for."""

    async def looked(_: "Config", records: "Records") -> None:
        from bascule.admin import approvals as admin
        from bascule.cli import show as shown

        report = admin.show(records.approvals, None, id)
        if as_json:
            shown.document(report)
        else:
            shown.text(_page(report))

    with_records(config, looked)


@commands.command()
@failing
def approve(id: IdArgument, about: NoteOption = "", as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Say yes to one call, which then has to come again before the question expires."""
    _decide(id, about, config, approve=True, as_json=as_json)


@commands.command()
@failing
def deny(id: IdArgument, about: NoteOption = "", as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Say no to one call."""
    _decide(id, about, config, approve=False, as_json=as_json)


def _decide(id: str, about: str, config: Path | None, *, approve: bool, as_json: bool) -> None:
    async def decided(_: "Config", records: "Records") -> None:
        from bascule.admin import approvals as admin
        from bascule.cli import show as shown

        by = f"cli:{user()}"
        report = await admin.decide(records.approvals, None, id, approve=approve, note=about, by=by)
        if as_json:
            shown.document(report)
        note(f"{report['tool']} for {report['caller']} is {report['state']}, by {report['decided_by']}")
        if approve:
            note(f"the call has to be sent again with its token by {report['expires']}")

    with_records(config, decided, writes=True)


# ---- what is said --------------------------------------------------------------------------------


async def _watch(approvals: "Approvals", *, as_json: bool) -> None:
    from bascule.admin import approvals as admin
    from bascule.cli import show as shown

    told: set[str] = set()
    while True:
        for each in reversed(admin.list_(approvals, None, state="pending")):
            if each["id"] not in told:
                told.add(each["id"])
                page = admin.show(approvals, None, each["id"])
                shown.document(page) if as_json else shown.text(f"{_page(page)}\n")
        await asyncio.sleep(_LOOK_EVERY_S)


def _row(report: dict[str, Any]) -> list[str]:
    from bascule.policy.approvals import seen

    question = seen(report["question"])
    return [
        report["id"],
        report["state"],
        seen(report["tool"]),
        seen(report["caller"]),
        report["expires"],
        report["decided_by"] or "nobody yet",
        question if len(question) <= 60 else f"{question[:59]}…",
    ]


def _page(report: dict[str, Any]) -> str:
    """What a person has to see before they decide."""
    from bascule.policy.approvals import seen

    decided = f"{report['decided']} by {report['decided_by']}" if report["decided_by"] else "not yet"
    lines = [
        f"{report['id']}: {report['state']}",
        seen(report["question"]) or "May this call be made?",
        "",
        f"tool       {seen(report['tool'])}{', version ' + seen(report['version']) if report['version'] else ''}",
        f"caller     {seen(report['caller'])}",
        f"rule       {seen(report['rule'])}{', somebody else than the caller answers' if report['four_eyes'] else ''}",
        f"asked      {report['created']}, good until {report['expires']}",
        f"decided    {decided}{': ' + seen(report['note']) if report['note'] else ''}",
        f"trace      {report['trace_id']}",
        "arguments",
        *(f"  {line}" for line in report["arguments"].split("\n")),
    ]
    if report["state"] == "pending":
        lines += ["", f"bascule approvals approve {report['id']}", f"bascule approvals deny {report['id']}"]
    return "\n".join(lines)
