"""`bascule review list`, `show`, `approve`, `deny`, `history`: what servers say of tools, before it is believed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bascule.cli.records import ConfigOption, JsonOption, user, with_records
from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.config import Config
    from bascule.store.records import Records

_HEADINGS: Final = ("id", "state", "change", "kind", "tool", "listed", "decided by")
_STATES: Final = ("pending", "approved", "denied", "all")
_KINDS: Final = ("tool", "prompt", "template")
_MARKS: Final = {"same": "  ", "gone": "- ", "new": "+ "}

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `bascule review list` shows it.")]
NoteOption = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why.")]
AspectOption = Annotated[
    str,
    typer.Option("--aspect", metavar="ASPECT", help="What you speak for, where `registry.sign_offs` asks for several."),
]
StateOption = Annotated[
    str, typer.Option("--state", metavar="STATE", help=f"Those that are {', '.join(_STATES)}; pending if not given.")
]
ServerOption = Annotated[str, typer.Option("--server", metavar="NAME", help="Only those of this server.")]
MostOption = Annotated[int, typer.Option("--most", metavar="NUMBER", min=1, max=1000, help="How many at most.")]
KindOption = Annotated[str, typer.Option("--kind", metavar="KIND", help=f"{', '.join(_KINDS)}; tool if not given.")]
ThingArgument = Annotated[str, typer.Argument(metavar="TOOL", help="Its logical id, such as crm/create_lead.")]

commands = typer.Typer(
    name="review", invoke_without_command=True, help="Look at what servers list anew, and approve or deny it."
)


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.callback()
def _listed(context: typer.Context) -> None:
    """Look at what servers list anew, and approve or deny it; without a command, list what waits."""
    if context.invoked_subcommand is None:
        context.invoke(list_, state="pending", server="", most=100, as_json=False, config=None)


@commands.command("list")
@failing
def list_(
    state: StateOption = "pending",
    server: ServerOption = "",
    most: MostOption = 100,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List definitions that wait for a review, those first that were listed last."""
    if state not in _STATES:
        raise ConfigInvalid(f"--state {state!r}: there are {', '.join(_STATES)}")

    async def listed(_: "Config", records: "Records") -> None:
        from bascule.admin import reviews
        from bascule.cli import show as shown

        wanted = None if state == "all" else state
        found = reviews.list_(records.definitions, state=wanted, server=server, most=most)  # type: ignore[arg-type]  # checked
        if as_json:
            shown.document(found)
        else:
            shown.table("reviews", _HEADINGS, [_row(each) for each in found])

    with_records(config, listed)


@commands.command()
@failing
def show(id: IdArgument, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one definition: what changed since the approved one, and what in it to look at twice."""

    async def looked(loaded: "Config", records: "Records") -> None:
        from bascule.admin import reviews
        from bascule.cli import show as shown

        report = reviews.show(records.definitions, id, loaded.registry.sign_offs)
        if as_json:
            shown.document(report)
        else:
            shown.text(_page(report))

    with_records(config, looked)


@commands.command()
@failing
def approve(
    id: IdArgument,
    aspect: AspectOption = "",
    about: NoteOption = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Approve exactly this definition; a gateway that runs lets it through within a second."""
    _decide(id, aspect, about, config, approve=True, as_json=as_json)


@commands.command()
@failing
def deny(
    id: IdArgument,
    aspect: AspectOption = "",
    about: NoteOption = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Deny exactly this definition, also one that was approved before."""
    _decide(id, aspect, about, config, approve=False, as_json=as_json)


@commands.command()
@failing
def history(
    thing: ThingArgument, kind: KindOption = "tool", as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """List every definition of one thing that is kept, that first which was listed last."""
    if kind not in _KINDS:
        raise ConfigInvalid(f"--kind {kind!r}: there are {', '.join(_KINDS)}")

    async def told(_: "Config", records: "Records") -> None:
        from bascule.admin import reviews
        from bascule.cli import show as shown

        found = reviews.history(records.definitions, thing, kind)
        if as_json:
            shown.document(found)
        else:
            headings = ("id", "state", "listed", "changed", "decided by", "note")
            shown.table(thing, headings, [_moment(each) for each in found])

    with_records(config, told)


def _decide(id: str, aspect: str, about: str, config: Path | None, *, approve: bool, as_json: bool) -> None:
    async def decided(loaded: "Config", records: "Records") -> None:
        from bascule.admin import reviews
        from bascule.cli import show as shown

        report = await reviews.decide(
            records.definitions,
            None,
            id,
            approve=approve,
            needed=loaded.registry.sign_offs,
            aspect=aspect,
            note=about,
            by=f"cli:{user()}",
        )
        if as_json:
            shown.document(report)
        if report["missing"]:
            note(f"{report['tool']} is signed for {aspect}; it still needs {' and '.join(report['missing'])}")
        else:
            note(f"{report['tool']} is {report['state']}, by {report['decided_by']}")

    with_records(config, decided, writes=True)


# ---- what is said --------------------------------------------------------------------------------


def _row(report: dict[str, Any]) -> list[str]:
    from bascule.policy.approvals import seen

    return [
        report["id"],
        report["state"],
        report["change"],
        report["kind"],
        seen(report["tool"]),
        report["listed"],
        seen(report["decided_by"]) or "nobody yet",
    ]


def _moment(report: dict[str, Any]) -> list[str]:
    from bascule.policy.approvals import seen

    changed = ", ".join(report["changed"]) or "first"
    return [report["id"], report["state"], report["listed"], changed, seen(report["decided_by"]), seen(report["note"])]


def _page(report: dict[str, Any]) -> str:
    """What a person has to see before they decide."""
    from bascule.policy.approvals import seen

    decided = f"{report['decided']} by {seen(report['decided_by'])}" if report["decided_by"] else "not yet"
    lines = [
        f"{report['id']}: {report['state']}, {report['change']}",
        f"{report['kind']:<10} {seen(report['tool'])}",
        f"pin        {report['digest']}",
        f"listed     {report['listed']}",
        f"decided    {decided}{': ' + seen(report['note']) if report['note'] else ''}",
    ]
    lines += [
        f"signed     {each['aspect']}: {each['decision']} by {seen(each['signer'])}" for each in report["sign_offs"]
    ]
    if report["missing"]:
        lines.append(f"needs      {', '.join(report['missing'])}")
    lines += ["", "what changed"] if report["differences"] else []
    for each in report["differences"]:
        lines += _told(each)
    lines += ["", "look twice at"] if report["findings"] else []
    lines += [f"  {each['where']}: {each['what']}: {each['text']}" for each in report["findings"]]
    lines += ["", "definition", *(f"  {line}" for line in report["text"].split("\n"))]
    if report["state"] == "pending":
        aspect = f" --aspect {report['missing'][0]}" if report["missing"] else ""
        lines += ["", *(f"bascule review {verb} {report['id']}{aspect}" for verb in ("approve", "deny"))]
    return "\n".join(lines)


def _told(difference: dict[str, Any]) -> list[str]:
    """One difference, in lines that say which words went and came."""
    words = difference["words"]
    if not words:
        words = [
            [what, said]
            for what, said in (("gone", difference["before"]), ("new", difference["after"]))
            if said is not None
        ]
    lines = [f"  {difference['where']}"]
    for what, said in words:
        lines += [f"    {_MARKS[what]}{line}" for line in said.split("\n")]
    return lines
