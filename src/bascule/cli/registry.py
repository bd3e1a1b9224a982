"""`bascule registry …` and `bascule rollback`: contracts on their way into use, and which version calls go to.

Works on the state folder, whether a gateway runs on it or not; with --url it asks a gateway instead, with the key in
BASCULE_TOKEN, as CI does.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, cast

import typer

from bascule.cli import remote
from bascule.cli.importing import import_
from bascule.cli.records import ConfigOption, JsonOption, opened, user
from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.admin.registry import Shelf
    from bascule.config import Config
    from bascule.contract.model import Document
    from bascule.store.contracts import By
    from bascule.store.records import Records

Work: TypeAlias = "Callable[[Shelf, By], Awaitable[Any]]"
Said: TypeAlias = dict[str, Any]

_PATH: Final = "/api/registry"
_OUTCOMES: Final = {
    "new": "new",
    "new_version": "new version",
    "changed": "changed draft",
    "unchanged": "unchanged",
    "refused": "refused",
}
_LIST: Final = ("contract", "version", "status", "owner", "level", "reviewed", "published by")
_ROUTES: Final = ("tool", "version", "previous", "canary", "changed", "by")
_ORPHANS: Final = ("lack", "contract", "version", "what", "what to do")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Such as crm/create_lead, or crm/create_lead@1.2.0.")]
VersionArgument = Annotated[str, typer.Argument(metavar="[VERSION]", help="Unless it stands behind the @ of ID.")]
KindOption = Annotated[
    Literal["tool", "prompt", "resource"] | None, typer.Option("--kind", help="What ID is, if that is not clear.")
]
NoteOption = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; it goes into the audit.")]
UrlOption = Annotated[str | None, typer.Option("--url", help="Ask the gateway there, with the key in BASCULE_TOKEN.")]

commands = typer.Typer(
    name="registry", no_args_is_help=True, help="Publish contracts, take them through review and use, and see them."
)


def register(app: typer.Typer) -> None:
    app.add_typer(commands)
    app.command()(rollback)
    commands.command("import")(import_)


# ---- what there is


@commands.command("list")
@failing
def list_(
    status: Annotated[str | None, typer.Option(metavar="STATUS", help="Only those in it, such as in_review.")] = None,
    team: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this owner_team.")] = None,
    kind: KindOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List all versions of all contracts in the registry."""
    from bascule.admin import registry
    from bascule.cli import show as paper

    if status is not None and status not in registry.STATUSES:
        raise ConfigInvalid(f"--status {status!r}: there are {', '.join(registry.STATUSES)}")

    async def listed(shelf: "Shelf", _: "By") -> Any:
        return {"contracts": registry.list_(shelf, status=status, kind=kind, team=team)}

    found = _look(url, config, "", {"status": status, "kind": kind, "team": team}, listed)["contracts"]
    if as_json:
        paper.document(found)
        return
    paper.table("contracts", _LIST, [_listed(each) for each in found])


@commands.command()
@failing
def show(
    id: IdArgument,
    version: VersionArgument = "",
    kind: KindOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show one version, the newest by default: who answers for it, who signed it off, what changed, what goes."""
    from bascule.admin import registry
    from bascule.cli import show as paper

    async def shown(shelf: "Shelf", _: "By") -> Any:
        return registry.show(shelf, id, version=version, kind=kind)

    found = _look(url, config, "/contract", {"tool": id, "version": version or None, "kind": kind}, shown)
    if as_json:
        paper.document(found)
        return
    for name, words in _page(found):
        if words:
            paper.text(f"{name:<10} {words}")


@commands.command()
@failing
def orphans(
    days: Annotated[int | None, typer.Option(min=1, help="How old a security review may be; default 365.")] = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List what nobody looks after. Exit 1 when there is any.

    Only a gateway knows what its servers list: with --url, contracts without a tool and tools without a contract too.
    """
    from bascule.admin import registry
    from bascule.cli import show as paper
    from bascule.contract.orphans import REVIEW_DAYS

    async def left(shelf: "Shelf", _: "By") -> Any:
        return {"orphans": registry.orphaned(shelf, days=days or REVIEW_DAYS)}

    said = {"days": None if days is None else str(days)}
    found = _look(url, config, "/orphans", said, left)["orphans"]
    if as_json:
        paper.document(found)
    else:
        rows = [[each[name] for name in ("lack", "id", "version", "message", "mend")] for each in found]
        paper.table("orphans", _ORPHANS, rows)
    if url is None:
        note("no server was asked; --url asks a gateway, which knows what they list")
    if found:
        sys.exit(1)


# ---- publishing


@commands.command()
@failing
def publish(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Contracts; of folders, all in them.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would become of each.")] = False,
    about: NoteOption = "",
    url: UrlOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Publish contracts as drafts. Exit 1 when one of them is refused; the others are published.

    Example: bascule registry publish contracts/ --dry-run --url https://mcp.example.com
    """
    from bascule import documents
    from bascule.admin import registry
    from bascule.cli import show as paper

    found = registry.in_order(each.document for each in documents.read(*paths))
    if url is not None:
        base = remote.base_of(url)
        results = [_sent(base, each, about, dry_run=dry_run) for each in found]
    else:

        async def published(shelf: "Shelf", by: "By") -> Any:
            return await registry.publish_all(shelf, found, by, note=about, dry_run=dry_run)

        results = _with_shelf(config, published, writes=not dry_run, begins=True)
    refused = sum(each["outcome"] == "refused" for each in results)
    if as_json:
        paper.document({"dry_run": dry_run, "refused": refused, "contracts": results})
    else:
        _print_results(results)
    if refused:
        note(f"{refused} of {len(results)} {'would be' if dry_run else 'were'} refused")
        sys.exit(1)


def _sent(base: str, document: "Document", about: str, *, dry_run: bool) -> Said:
    from msgspec import to_builtins

    body = {"contract": to_builtins(document), "dry_run": dry_run, "note": about}
    return cast(Said, remote.ask(base, "POST", f"{_PATH}/publish", body=body))


def _print_results(results: Sequence[Said]) -> None:
    from bascule.cli import show as paper

    for each in results:
        since = f" after {each['before']}" if each["outcome"] in ("new_version", "changed") and each["before"] else ""
        reason = f": {each['reason']}" if each["reason"] else ""
        version = f" {each['version']}" if each["version"] else ""
        paper.text(f"{each['id']}{version}: {_OUTCOMES.get(each['outcome'], each['outcome'])}{since}{reason}")
        for change in each["changes"]:
            field = f"{change['field']}: " if change["field"] else ""
            paper.text(f"    {change['step']}  {field}{change['reason']}")
        for warning in each["warnings"]:
            note(f"{each['id']}: {warning}")


# ---- its life


@commands.command()
@failing
def submit(
    id: IdArgument,
    version: VersionArgument = "",
    kind: KindOption = None,
    about: NoteOption = "",
    url: UrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Ask for the review of a draft."""
    _step("submit", id, version, kind, about, url, config)


@commands.command()
@failing
def withdraw(
    id: IdArgument,
    version: VersionArgument = "",
    kind: KindOption = None,
    about: NoteOption = "",
    url: UrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Take a version back from review, to change it; what was signed off no longer is."""
    _step("withdraw", id, version, kind, about, url, config)


@commands.command()
@failing
def discard(
    id: IdArgument,
    version: VersionArgument = "",
    kind: KindOption = None,
    about: NoteOption = "",
    url: UrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Throw a draft away."""
    _step("discard", id, version, kind, about, url, config)


@commands.command()
@failing
def promote(
    id: IdArgument,
    version: VersionArgument = "",
    percent: Annotated[
        int | None, typer.Option(min=0, max=99, help="How many callers get it, as a canary; default all.")
    ] = None,
    kind: KindOption = None,
    about: NoteOption = "",
    url: UrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a version active. Says all that is lacking for it.

    Example: bascule registry promote crm/create_lead 1.3.0 --percent 10
    """
    _step("promote", id, version, kind, about, url, config, **({} if percent is None else {"percent": percent}))


@commands.command()
@failing
def deprecate(
    id: IdArgument,
    version: VersionArgument = "",
    sunset: Annotated[str, typer.Option(metavar="DATE", help="The day on which it goes, YYYY-MM-DD.")] = "",
    replaced_by: Annotated[str, typer.Option(metavar="ID", help="What to use instead: crm/create_lead@2.")] = "",
    migration: Annotated[str, typer.Option(metavar="TEXT", help="What callers have to change.")] = "",
    kind: KindOption = None,
    about: NoteOption = "",
    url: UrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Announce the end of a version: every result of it says so from now on.

    Example: bascule registry deprecate crm/create_lead 1.2.0 --sunset 2027-05-01 --replaced-by crm/create_lead@2
    """
    end = {"sunset": sunset, "replaced_by": replaced_by, "migration": migration}
    _step("deprecate", id, version, kind, about, url, config, **{name: said for name, said in end.items() if said})


@commands.command()
@failing
def retire(
    id: IdArgument,
    version: VersionArgument = "",
    kind: KindOption = None,
    about: NoteOption = "",
    url: UrlOption = None,
    config: ConfigOption = None,
) -> None:
    """End a deprecated version: its calls are refused with what replaces it. It never returns."""
    _step("retire", id, version, kind, about, url, config)


@commands.command()
@failing
def sign(
    id: IdArgument,
    version: VersionArgument = "",
    aspect: Annotated[
        Literal["security", "business"], typer.Option("--aspect", help="What you have looked at.")
    ] = "security",
    deny: Annotated[bool, typer.Option("--deny", help="It must not be promoted.")] = False,
    kind: KindOption = None,
    about: NoteOption = "",
    url: UrlOption = None,
    config: ConfigOption = None,
) -> None:
    """Sign a version in review off, or deny it.

    Example: bascule registry sign crm/create_lead 1.3.0 --aspect security --note 'arguments are bounded'
    """
    from bascule.admin import registry

    decision: Literal["approved", "denied"] = "denied" if deny else "approved"

    async def signed(shelf: "Shelf", by: "By") -> Any:
        key = registry.key_of(shelf, id, version=version, kind=kind, exact=True)
        return await registry.sign(shelf, key, aspect, decision, by, note=about)

    said = {**_named(id, version, kind, about), "aspect": aspect, "decision": decision}
    found = _change(url, config, "/sign", said, signed)
    missing = f"; {' and '.join(found['missing'])} still to come" if found["missing"] else ""
    note(f"{found['id']} {found['version']}: {aspect} is {decision}{missing}")


def _step(
    action: str,
    id: str,
    version: str,
    kind: str | None,
    about: str,
    url: str | None,
    config: Path | None,
    **more: Any,
) -> None:
    """One step of a version's life, and in words what it is then."""
    from bascule.admin import registry

    async def stepped(shelf: "Shelf", by: "By") -> Any:
        key = registry.key_of(shelf, id, version=version, kind=kind, exact=True)
        step: Callable[..., Awaitable[Said]] = getattr(registry, action)
        return await step(shelf, key, by, note=about, **more)

    found = _change(url, config, f"/{action}", {**_named(id, version, kind, about), **more}, stepped)
    note(f"{found['id']} {found['version']} is {found.get('status', 'thrown away')}")
    if "route" in found:
        _tell(found["route"], as_json=False)


def _named(id: str, version: str, kind: str | None, about: str) -> Said:
    said = {"tool": id, "version": version, "kind": kind, "note": about}
    return {name: value for name, value in said.items() if value}


# ---- routes


@commands.command()
@failing
def route(
    id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The tool; without it, all routes are listed.")
    ] = None,
    version: VersionArgument = "",
    highest: Annotated[bool, typer.Option("--highest", help="To the highest active version again.")] = False,
    about: NoteOption = "",
    url: UrlOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Send the calls that name no version to one, at once; a canary ends. Without VERSION, show where they go.

    Example: bascule registry route crm/create_lead 1.3.0
    """
    if id is None or not (version or highest):
        _list_routes(id, url, config, as_json=as_json)
        return
    if version and highest:
        raise ConfigInvalid("VERSION and --highest are two places to send calls to; give one")
    from bascule.admin import registry

    async def routed(shelf: "Shelf", by: "By") -> Any:
        return await registry.route(shelf, id, version, by, note=about)

    found = _change(url, config, "/routes", {"tool": id, "version": version, "note": about}, routed)
    _tell(found, as_json=as_json)


@commands.command()
@failing
def canary(
    id: Annotated[str, typer.Argument(metavar="ID", help="Such as crm/create_lead.")],
    version: VersionArgument = "",
    percent: Annotated[int, typer.Option(min=0, max=99, help="How many of the callers; 0 ends it.")] = 10,
    about: NoteOption = "",
    url: UrlOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Send some callers to another version: always the same ones, until it is ended or gets all.

    Example: bascule registry canary crm/create_lead 1.3.0 --percent 10
    """
    from bascule.admin import registry

    if percent and not version:
        raise ConfigInvalid("say which version they get; --percent 0 ends a canary")

    async def tried(shelf: "Shelf", by: "By") -> Any:
        return await registry.canary(shelf, id, version, percent, by, note=about)

    said = {"tool": id, "version": version, "percent": percent, "note": about}
    _tell(_change(url, config, "/routes/canary", said, tried), as_json=as_json)


@failing
def rollback(
    id: Annotated[str, typer.Argument(metavar="ID", help="Such as crm/create_lead.")],
    about: NoteOption = "",
    url: UrlOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Undo the last roll-out of a tool: end its canary, or send its calls to the version before, at once.

    Example: bascule rollback crm/create_lead
    """
    from bascule.admin import registry

    async def undone(shelf: "Shelf", by: "By") -> Any:
        return await registry.rollback(shelf, id, by, note=about)

    found = _change(url, config, "/routes/rollback", {"tool": id, "note": about}, undone)
    if found["undone"]:
        note(f"{found['undone']} is rolled back")
    _tell(found, as_json=as_json)


def _list_routes(id: str | None, url: str | None, config: Path | None, *, as_json: bool) -> None:
    from bascule.admin import registry
    from bascule.cli import show as paper

    async def listed(shelf: "Shelf", _: "By") -> Any:
        return {"routes": registry.routes(shelf)}

    found = _look(url, config, "/routes", {}, listed)["routes"]
    found = [each for each in found if id in (None, each["tool"])]
    if as_json:
        paper.document(found)
        return
    rows = [
        (each["tool"], each["version"] or "", each["previous"] or "", _tried(each), each["changed"], each["changed_by"])
        for each in found
    ]
    paper.table("routes", _ROUTES, rows)
    if not found:
        note("no route is said: calls that name no version go to the highest active one")


def _tell(found: Said, *, as_json: bool) -> None:
    from bascule.cli import show as paper

    if as_json:
        paper.document(found)
    chosen = "" if found["chosen"] else ", the highest that is active"
    some = f", and {_tried(found)}" if _tried(found) else ""
    note(f"{found['tool']}: calls go to {found['version'] or 'no version'}{chosen}{some}")


def _tried(found: Said) -> str:
    return f"{found['canary']} for {found['percent']} % of the callers" if found["canary"] else ""


# ---- from words to a registry --------------------------------------------------------------------


def _look(url: str | None, config: Path | None, path: str, said: Said, local: Work) -> Any:
    """What a gateway answers to a GET, or *local* makes of the state folder."""
    if url is not None:
        return remote.ask(remote.base_of(url), "GET", _PATH + path, query=said)
    return _with_shelf(config, local)


def _change(url: str | None, config: Path | None, path: str, said: Said, local: Work) -> Any:
    if url is not None:
        return remote.ask(remote.base_of(url), "POST", _PATH + path, body=said)
    return _with_shelf(config, local, writes=True)


def _with_shelf(path: Path | None, work: Work, *, writes: bool = False, begins: bool = False) -> Any:
    """What *work* makes of the registry of a configuration. *begins*: it may be the first to use the folder."""
    from msgspec.structs import replace

    from bascule import config
    from bascule.store.files import FILE, require

    # A bad version is rolled back also where none of the servers' secrets is at hand.
    loaded = config.load_own_records(path, os.environ)
    if not begins:
        require(Path(loaded.state_dir))
    elif not writes and not Path(loaded.state_dir, FILE).exists():
        with TemporaryDirectory(prefix="bascule-") as folder:  # a dry run leaves nothing behind
            return asyncio.run(_worked(replace(loaded, state_dir=folder), work, writes=False))
    return asyncio.run(_worked(loaded, work, writes=writes))


async def _worked(config: "Config", work: Work, *, writes: bool) -> Any:
    from datetime import UTC, datetime

    from bascule.admin import slo
    from bascule.admin.registry import Shelf

    async def worked(config: "Config", records: "Records") -> Any:
        budgets = slo.Budgets(records.usage, lambda: slo.contracts_of(config))
        shelf = Shelf(
            contracts=records.contracts,
            routes=records.routes,
            today=datetime.now(UTC).date(),
            fixed=config.documents,
            options=config.registry,
            frozen=budgets.frozen,
        )
        return await work(shelf, _me())

    return await opened(config, worked, writes=writes)


def _me() -> "By":
    from bascule.store.contracts import By

    return By(user(), "shell")


# ---- what is said --------------------------------------------------------------------------------


def _listed(report: Said) -> list[str]:
    names = ("id", "version", "status", "owner_team", "security_level", "last_security_review", "published_by")
    return [report[name] or "" for name in names]


def _page(found: Said) -> list[tuple[str, str]]:
    end, route = found["deprecation"] or {}, found["route"]
    signed = [f"{each['aspect']} {each['decision']} by {each['signer']}" for each in found["signed"]]
    owner = " ".join(filter(None, (found["owner_team"], found["owner_email"])))
    going = f"{route['version'] or 'no version'}{f', {_tried(route)}' if _tried(route) else ''}"
    return [
        (found["kind"], f"{found['id']} {found['version']}: {found['status']}"),
        ("about", found["description"]),
        ("owner", owner or "nobody"),
        ("security", " ".join(filter(None, (found["security_level"], f"reviewed {found['last_security_review']}")))
         if found["last_security_review"] else found["security_level"] or ""),
        ("complies", ", ".join(found["compliance_status"])),
        ("signed", ", ".join(signed)),
        ("needs", ", ".join(found["needs"])),
        ("ends", " ".join(f"{name} {end[name]}" for name in ("sunset", "replaced_by", "migration") if end.get(name))),
        ("published", f"{found['published']} by {found['published_by']}"),
        ("changed", f"{found['changed']} by {found['changed_by']}{': ' + found['note'] if found['note'] else ''}"),
        ("sha-256", found["digest"]),
        ("versions", ", ".join(f"{each['version']} {each['status']}" for each in found["versions"])),
        ("calls go", f"to {going}"),
        *((f"since {found['before']}", f"{each['step']}  {each['reason']}") for each in found["changes"]),
        ("next", ", ".join(f"bascule registry {each}" for each in found["can"])),
    ]  # fmt: skip
