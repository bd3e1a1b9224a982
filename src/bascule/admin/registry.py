"""What can be done with the registry: publish contracts, take them through their life, say which version goes.

What the command line, REST and the console share: plain functions over stores, which know neither HTTP nor terminals.
Whoever asks has been let in before; here it is looked at what is asked.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from bascule.admin.keys import date_of
from bascule.contract import diff, orphans
from bascule.contract.derive import is_governed
from bascule.contract.lifecycle import possible
from bascule.contract.model import VERSION, Contract, Deprecation, Document, Kind, Status
from bascule.contract.semver import parse
from bascule.contract.succession import Planned, contract_of
from bascule.contract.versions import status_on
from bascule.errors import BasculeError, InvalidParams
from bascule.store.contracts import By, Contracts, Key, NoSuchContract, NotAllowed, Registration
from bascule.store.options import RegistryOptions
from bascule.store.routes import Routes, Routing
from bascule.store.sign_offs import Decision

if TYPE_CHECKING:
    from bascule.app import Gateway

KINDS: Final[Sequence[Kind]] = get_args(Kind)
STATUSES: Final[Sequence[Status]] = get_args(Status)
MAX_ADVICE: Final = 500  # characters of what callers of a deprecated version are told each time
ASPECTS: Final = ("security", "business")
DECISIONS: Final[Sequence[Decision]] = get_args(Decision)
_CALLED: Final = ("active", "deprecated")


class Shelf(msgspec.Struct, frozen=True, kw_only=True):
    """The registry of one state folder, and what holds beside it."""

    contracts: Contracts
    routes: Routes
    today: date
    fixed: Sequence[tuple[str, Document]] = ()  # of the configuration, with their places: not to be published over
    options: RegistryOptions = RegistryOptions()
    # Why nothing of a logical id is promoted now; "" when it may be. It may take long, and is asked in a thread.
    frozen: Callable[[str], str] | None = None

    def fixed_of(self, kind: Kind, id: str) -> list[Document]:
        return [document for _, document in self.fixed if (document.kind, document.id) == (kind, id)]


# ---- what there is


def list_(
    shelf: Shelf, *, status: str | None = None, kind: str | None = None, team: str | None = None
) -> list[dict[str, Any]]:
    """All versions in the registry, by id, the oldest first."""
    found = [report(each) for each in shelf.contracts.list_()]
    wanted = {"status": status, "kind": kind, "owner_team": team}
    return [each for each in found if all(value in (None, each[name]) for name, value in wanted.items())]


def show(shelf: Shelf, id: str, *, version: str = "", kind: str | None = None) -> dict[str, Any]:
    """One version with its document, its sign-offs and what changed since the one before; the newest if none is said.

    Raises NoSuchContract.
    """
    key = key_of(shelf, id, version=version, kind=kind)
    row = shelf.contracts.get(key)
    versions = shelf.contracts.versions(key.kind, key.id)
    before = next((each for each in reversed(versions) if parse(each.key.version) < parse(key.version)), None)
    return {
        **report(row),
        "document": msgspec.to_builtins(row.document),
        "can": list(possible(row.status)),
        "signed": [_signed(each) for each in shelf.contracts.signed(key)],
        "needs": list(shelf.options.sign_offs),
        "before": None if before is None else before.key.version,
        "changes": [] if before is None else _changes(diff.diff(_bare(before), _bare(row))),
        "versions": [{"version": each.key.version, "status": each.status} for each in versions],
        "route": route_report(shelf.routes.of(key.id), _current(shelf, key.kind, key.id)),
    }


def report(row: Registration) -> dict[str, Any]:
    """What may be known of a version, in JSON. Times are RFC 3339, in UTC."""
    contract, end = contract_of(row.document), row.document.deprecation or None
    return {
        "id": row.key.id,
        "kind": row.key.kind,
        "version": row.key.version,
        "status": row.status,
        "owner_team": contract.owner_team,
        "owner_email": contract.owner_email,
        "security_level": contract.security_level,
        "compliance_status": list(contract.compliance_status),
        "last_security_review": contract.last_security_review,
        "description": contract.description,
        "deprecation": None if end is None else msgspec.to_builtins(end),
        "digest": row.digest,
        "published": date_of(row.published_at_s),
        "published_by": row.published_by,
        "changed": date_of(row.changed_at_s),
        "changed_by": row.changed_by,
        "note": row.note,
    }


def key_of(shelf: Shelf, id: str, *, version: str = "", kind: str | None = None, exact: bool = False) -> Key:
    """The version that is meant by `crm/create_lead` and 1.2.0, or by `crm/create_lead@1.2.0`.

    Where none is said it is the newest, unless it has to be *exact*. Raises NoSuchContract, InvalidParams where it is
    not clear what is meant.
    """
    base, found, behind = id.rpartition("@")
    if found and VERSION.fullmatch(behind):
        if version not in ("", behind):
            raise InvalidParams(f"two versions are named: {behind} and {version}")
        id, version = base, behind
    if exact and not version:
        raise InvalidParams(f"say which version of {id} is meant, such as {id}@1.2.0")
    kinds = [each for each in shelf.contracts.kinds(id) if kind in (None, each)]
    if not kinds:
        raise NoSuchContract(f"the registry has no contract of {id!r}; `bascule registry list` shows all")
    if len(kinds) > 1:
        raise InvalidParams(f"there are a {' and a '.join(kinds)} of the name {id!r}: say which kind is meant")
    return Key(kinds[0], id, version or shelf.contracts.versions(kinds[0], id)[-1].key.version)


def _signed(each: Any) -> dict[str, Any]:
    said = {name: getattr(each, name) for name in ("aspect", "decision", "signer", "note")}
    return {**said, "at": date_of(each.at_s)}


def _changes(changes: Iterable[diff.Change]) -> list[dict[str, Any]]:
    return [{"step": each.step.name, "field": each.field or None, "reason": each.reason} for each in changes]


def _bare(row: Registration) -> Contract:
    return contract_of(msgspec.structs.replace(row.document, status=msgspec.UNSET, deprecation=msgspec.UNSET))


# ---- publishing


def document_of(said: Any) -> Document:
    """The contract document that a JSON object is. Raises InvalidParams, which says where it is none."""
    try:
        return msgspec.convert(said, Document)
    except (msgspec.ValidationError, ValueError) as error:
        raise InvalidParams(f"that is no contract: {error}") from error


def in_order(documents: Iterable[Document]) -> list[Document]:
    """*documents* in the order in which they can follow each other."""
    return sorted(documents, key=lambda each: parse(each.version) if isinstance(each.version, str) else (0, 0, 0))


async def publish(
    shelf: Shelf,
    document: Document,
    by: By,
    *,
    note: str = "",
    dry_run: bool = False,
    coming: Sequence[Document] = (),
) -> dict[str, Any]:
    """What became of *document*; with *dry_run*, what would, once those that are *coming* are there.

    A refusal is an answer here, and nothing has changed.
    """
    fixed = shelf.fixed_of(document.kind, document.id)
    plan = await shelf.contracts.plan(document, fixed, coming)
    if not dry_run and plan.outcome != "refused":
        try:
            plan, _ = await shelf.contracts.publish(document, by, note, fixed)
        except NotAllowed as error:  # somebody was quicker
            plan = Planned(outcome="refused", reason=error.message)
    return {
        "id": document.id,
        "kind": document.kind,
        "version": document.version if isinstance(document.version, str) else None,
        "outcome": plan.outcome,
        "published": not dry_run and plan.outcome in ("new", "new_version", "changed"),
        "reason": plan.reason or None,
        "before": plan.before or None,
        "changes": _changes(plan.changes),
        "warnings": list(plan.warnings),
    }


async def publish_all(
    shelf: Shelf, documents: Iterable[Document], by: By, *, note: str = "", dry_run: bool = False
) -> list[dict[str, Any]]:
    """What became of each of *documents*, the lowest versions first; what one refuses does not stop the others."""
    found: list[dict[str, Any]] = []
    coming: list[Document] = []
    for each in in_order(documents):
        said = await publish(shelf, each, by, note=note, dry_run=dry_run, coming=coming)
        if said["outcome"] != "refused":
            coming.append(each)
        found.append(said)
    return found


# ---- its life


async def submit(shelf: Shelf, key: Key, by: By, *, note: str = "") -> dict[str, Any]:
    """Raises NoSuchContract, NotAllowed, as all that follow do."""
    return report(await shelf.contracts.submit(key, by, note))


async def withdraw(shelf: Shelf, key: Key, by: By, *, note: str = "") -> dict[str, Any]:
    return report(await shelf.contracts.withdraw(key, by, note))


async def promote(shelf: Shelf, key: Key, by: By, *, note: str = "", percent: int | None = None) -> dict[str, Any]:
    """Make a version active, and say in `route` where calls go then.

    As the highest one it gets all calls that name none, unless a route says otherwise; with *percent* only so many
    callers, as a canary, and with 0 nobody.
    """
    if percent is None:
        row = await _promoted(shelf, key, by, note)
    else:
        row = await _promoted_beside(shelf, key, by, note, percent)
    return {**report(row), "route": route_report(shelf.routes.of(key.id), _current(shelf, key.kind, key.id))}


async def _promoted(shelf: Shelf, key: Key, by: By, note: str) -> Registration:
    frozen = ""
    if shelf.frozen is not None and shelf.options.freeze:
        frozen = await asyncio.to_thread(shelf.frozen, key.id)
    wanted = shelf.options.sign_offs
    return await shelf.contracts.promote(key, by, note, wanted=wanted, today=shelf.today, frozen=frozen)


async def _promoted_beside(shelf: Shelf, key: Key, by: By, note: str, percent: int) -> Registration:
    """A version that others stay the default beside: there is no moment in which all calls go to it."""
    if not 0 <= percent < 100:
        raise InvalidParams("a canary gets from 0 to 99 percent; without it, the version gets all calls")
    current = _current(shelf, key.kind, key.id)
    if current in ("", key.version):
        raise NotAllowed(f"{key}: no other version is active that could take the rest of the calls")
    held = not shelf.routes.of(key.id).version
    if held:
        await shelf.routes.set(key.id, current, by, f"before {key.version} is promoted")
    try:
        row = await _promoted(shelf, key, by, note)
    except BasculeError:
        if held:
            await shelf.routes.set(key.id, "", by, f"{key.version} was not promoted", current=current)
        raise
    if percent:
        await shelf.routes.canary(key.id, key.version, percent, by, note)
    return row


async def deprecate(
    shelf: Shelf, key: Key, by: By, *, sunset: str = "", replaced_by: str = "", migration: str = "", note: str = ""
) -> dict[str, Any]:
    """Announce the end of a version. Raises InvalidParams for a day that is none or is over, besides."""
    if sunset:
        day = _day(sunset)
        if day <= shelf.today:
            raise InvalidParams(f"sunset {sunset} is no day to come; `bascule registry retire` ends it now")
    if max(len(replaced_by), len(migration)) > MAX_ADVICE:
        raise InvalidParams(
            f"every result will say it: `replaced_by` and `migration` have at most {MAX_ADVICE} characters"
        )
    end = Deprecation(sunset=sunset or None, replaced_by=replaced_by or None, migration=migration)
    return report(await shelf.contracts.deprecate(key, by, note, end=end))


async def retire(shelf: Shelf, key: Key, by: By, *, note: str = "") -> dict[str, Any]:
    return report(await shelf.contracts.retire(key, by, note))


async def discard(shelf: Shelf, key: Key, by: By, *, note: str = "") -> dict[str, Any]:
    await shelf.contracts.discard(key, by, note)
    return {"id": key.id, "kind": key.kind, "version": key.version, "discarded": True}


async def sign(shelf: Shelf, key: Key, aspect: str, decision: Decision, by: By, *, note: str = "") -> dict[str, Any]:
    """What has been said of a version by now, and what is still missing."""
    if aspect not in ASPECTS:
        raise InvalidParams(f"{aspect!r} is nothing to sign off: there are {', '.join(ASPECTS)}")
    found = await shelf.contracts.sign(key, aspect, decision, by, note)
    approved = {each.aspect for each in found if each.decision == "approved"}
    return {
        "id": key.id,
        "kind": key.kind,
        "version": key.version,
        "signed": [_signed(each) for each in found],
        "missing": [each for each in shelf.options.sign_offs if each not in approved],
    }


def _day(text: str) -> date:
    try:
        if len(text) != len("2027-05-01"):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidParams(f"{text!r} is no date: write YYYY-MM-DD") from error


# ---- routes


def routes(shelf: Shelf) -> list[dict[str, Any]]:
    return [route_report(each, _current(shelf, None, each.thing)) for each in shelf.routes.list_()]


def route_report(row: Routing, highest: str) -> dict[str, Any]:
    return {
        "tool": row.thing,
        "version": row.version or highest or None,
        "chosen": bool(row.version),  # or it is the highest that is active
        "previous": row.previous or None,
        "canary": row.canary or None,
        "percent": row.percent,
        "changed": date_of(row.changed_at_s) if row.changed_at_s else None,
        "changed_by": row.changed_by or None,
        "note": row.note,
    }


async def route(shelf: Shelf, id: str, version: str, by: By, *, note: str = "") -> dict[str, Any]:
    """Send the calls that name no version to *version*; "" leaves it to the highest active one again."""
    _check_called(shelf, id, version)
    current = _current(shelf, None, id)
    return route_report(await shelf.routes.set(id, version, by, note, current=current), current)


async def canary(shelf: Shelf, id: str, version: str, percent: int, by: By, *, note: str = "") -> dict[str, Any]:
    """Send *percent* of the callers to *version*; 0 ends it."""
    _check_called(shelf, id, version if percent else "")
    current = _current(shelf, None, id)
    return route_report(await shelf.routes.canary(id, version, percent, by, note, current=current), current)


async def rollback(shelf: Shelf, id: str, by: By, *, note: str = "") -> dict[str, Any]:
    """Undo the last roll-out, and say in `undone` what that was."""
    active = [each for each, status in _versions(shelf, None, id) if status == "active"]
    old = shelf.routes.of(id)
    current, before = [*active[::-1], "", ""][:2]
    row = await shelf.routes.rollback(id, by, note, current=current, before=before)
    undone = old.canary if old.is_trying else old.version or current
    return {**route_report(row, current), "undone": undone}


def _versions(shelf: Shelf, kind: Kind | None, id: str) -> list[tuple[str, Status]]:
    """(version, status today) of all that is said of *id*, the oldest first; the configuration has the last word."""
    kinds = [kind] if kind else KINDS
    known = [each.document for one in kinds for each in shelf.contracts.versions(one, id)]
    fixed = [each for one in kinds for each in shelf.fixed_of(one, id)]
    today = shelf.today.isoformat()
    found = {each.version: status_on(each, today) for each in (*known, *fixed) if isinstance(each.version, str)}
    return sorted(found.items(), key=lambda each: parse(each[0]))


def _current(shelf: Shelf, kind: Kind | None, id: str) -> str:
    """The version that goes where no route says another: the highest active one, else deprecated; "" for none."""
    called = [each for each in _versions(shelf, kind, id) if each[1] in _CALLED]
    return max(called, key=lambda each: (each[1] == "active", parse(each[0])), default=("", ""))[0]


def _check_called(shelf: Shelf, id: str, version: str) -> None:
    """Raise NoSuchContract, NotAllowed for a version that calls cannot go to; "" is any, where there is one."""
    statuses = dict(_versions(shelf, None, id))
    if not version and statuses:
        return
    if version not in statuses:
        known = f"; there are {', '.join(statuses)}" if statuses else ": there is no contract with a version of it"
        raise NoSuchContract(f"{id} has no version {version!r}{known}")
    if statuses[version] not in _CALLED:
        raise NotAllowed(f"{id}@{version} is {statuses[version]}: calls go to what is active or deprecated")


# ---- what nobody looks after


def orphaned(
    shelf: Shelf, listed: orphans.Listed | None = None, *, days: int = orphans.REVIEW_DAYS
) -> list[dict[str, Any]]:
    """docs/registry.md says what counts as one. *listed*: None where no server can be asked."""
    newest: dict[tuple[Kind, str], Document] = {}
    documents = [*(each.document for each in shelf.contracts.list_()), *(document for _, document in shelf.fixed)]
    today = shelf.today.isoformat()
    for each in in_order(documents):
        if status_on(each, today) in _CALLED:
            newest[each.kind, each.id] = each
    contracts = [contract_of(each) for _, each in sorted(newest.items(), key=lambda item: item[0])]
    return [msgspec.to_builtins(each) for each in orphans.orphans(contracts, listed, shelf.today, days=days)]


def listed_at(gateway: "Gateway") -> orphans.Listed:
    """What the servers of *gateway* list, as far as they have been heard."""
    ways = gateway.govern.ways
    things = {
        (kind, way.contract.id): is_governed(way.contract)
        for server in gateway.config.servers
        for kind, _, way in ways.listed(server)
    }
    return orphans.Listed(things, [server for server in gateway.config.servers if not ways.knows(server)])


def shelf_of(gateway: "Gateway", today: date) -> Shelf | None:
    """The registry of a gateway that runs; None where it has no state folder."""
    records = gateway.records
    if records is None:
        return None
    return Shelf(
        contracts=records.contracts,
        routes=records.routes,
        today=today,
        fixed=gateway.config.documents,
        options=gateway.config.registry,
        frozen=None if gateway.budgets is None else gateway.budgets.frozen,
    )
