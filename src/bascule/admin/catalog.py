"""The catalog of tools, as people look for them: what each is, what holds for it, how it is used, what it promises.

What REST and the console share; it knows neither. What is said of the use of tools is read from the sums of calls,
which takes a thread of its own; all else is known to the gateway already.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bascule.admin import audit, registry, reviews, slo, usage
from bascule.admin.audit import Filters, Log
from bascule.admin.keys import date_of
from bascule.contract.derive import is_governed
from bascule.contract.diff import diff
from bascule.contract.model import Contract
from bascule.contract.versions import Choice
from bascule.errors import InvalidParams
from bascule.pipeline.ways import Way
from bascule.registry.catalog import Item
from bascule.store.usage import DAY, Usage
from bascule.wire import jsonrpc
from bascule.wire.versions import Era

if TYPE_CHECKING:
    from bascule.app import Gateway

PAGE: Final = 24  # cards at one time
MOST_LISTED: Final = 500
DAYS: Final = 7  # of use, on a card
LAST_CALLS: Final = 20
PATIENCE_S: Final = 30.0  # for figures, of whoever has nothing to look at meanwhile
_GOOD_S: Final = 10.0

COSTS: Final = ("free", "priced", "to_0.01", "to_0.1", "to_1", "over_1")  # USD of a call, as it is estimated
STATUSES: Final = ("active", "deprecated", "gone", "draft", "in_review", "withheld")
LEVELS: Final = ("LOW", "MEDIUM", "HIGH", "none")
EFFECTS: Final = ("reads", "writes")
SORTS: Final = ("name", "calls", "errors", "slow", "cost")

_RANGES: Final[Mapping[str, tuple[float, float]]] = {  # above, up to
    "to_0.01": (0, 0.01),
    "to_0.1": (0.01, 0.1),
    "to_1": (0.1, 1),
    "over_1": (1, float("inf")),
}
_FIRST_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_MOST_VERB_CHARS: Final = 24
_MOST_ABOUT_CHARS: Final = 300  # of a description, on a card
_ORDER: Final = {"spent": 0, "burning": 1, "ok": 2}  # of how promises stand, the worst first


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One tool that a server lists."""

    id: str  # logical: `crm/create_lead`
    server: str
    name: str  # its server's own name for it
    wire: str  # what clients call it by
    title: str
    item: Item
    way: Way

    @property
    def contract(self) -> Contract:
        return self.way.contract

    @property
    def verb(self) -> str:
        """What it does, by the first word of its name: `create`."""
        found = _FIRST_WORD.search(self.name)
        return "" if found is None else found[0].lower()[:_MOST_VERB_CHARS]

    @property
    def status(self) -> str:
        return "withheld" if self.way.withheld else self.contract.status

    @property
    def price_usd(self) -> float:
        """What a call is estimated to cost; 0 where nothing is said of it."""
        model = self.contract.cost_model
        return 0.0 if model is None else model.price_usd * model.estimated_units

    @property
    def words(self) -> str:
        """All that it is found by."""
        schema = self.contract.input_schema or {}
        arguments = schema.get("properties")
        said = (self.id, self.wire, self.title, self.contract.description, self.contract.owner_team)
        return " ".join((*said, *(arguments if isinstance(arguments, dict) else ()))).casefold()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody looks for; "" is anything."""

    q: str = ""
    server: str = ""
    verb: str = ""
    team: str = ""
    cost: str = ""
    level: str = ""
    status: str = ""
    effect: str = ""
    sort: str = "name"


class Figures(msgspec.Struct, frozen=True):
    """What is known of the use of all tools, by logical id."""

    usage: Mapping[str, Mapping[str, Any]] = {}
    promises: Mapping[str, Sequence[Mapping[str, Any]]] = {}  # how they stand, the worst first
    counted: bool = False  # False: nobody counts
    pending: bool = False  # they are being added up, and these are older ones, or none


# ---- what there is -------------------------------------------------------------------------------


def entries(gateway: "Gateway") -> list[Entry]:
    """All tools that servers are known to list, in the order of the configuration. Starts nothing, waits for nobody."""
    wires = _wire_names(gateway)
    return [
        _entry(gateway, server, item, wires)
        for server in gateway.upstreams
        for item in _listed(gateway, server)
        if gateway.govern.ways.knows(server)
    ]


def entry(gateway: "Gateway", id: str) -> Entry | None:
    """The tool of a logical id; None where no server is known to list it."""
    for server, name in gateway.govern.ways.naming.places(id, gateway.upstreams):
        found = next((item for item in _listed(gateway, server) if item.key == name), None)
        if found is not None and gateway.govern.ways.knows(server):
            return _entry(gateway, server, found, _wire_names(gateway))
    return None


def of_version(gateway: "Gateway", entry: Entry, version: str) -> Entry:
    """The same tool as callers of *version* get it; as it goes without one, for what is none of its versions."""
    choice = entry.way.choice
    known = next((each for each in choice.versions if str(each.version) == version), None) if choice else None
    if known is None:
        return entry
    way = gateway.govern.ways.version("tool", entry.server, entry.name, known)
    return msgspec.structs.replace(entry, way=way)


def unheard(gateway: "Gateway") -> list[str]:
    """Servers that have not said yet what they list."""
    return [
        name for name in gateway.upstreams if all(each.listing is None for each in gateway.registry.followers(name))
    ]


def _listed(gateway: "Gateway", server: str) -> Iterable[Item]:
    followers = sorted(gateway.registry.followers(server), key=lambda each: each.era is not Era.MODERN)
    listing = next((each.listing for each in followers if each.listing is not None), None)
    return {} if listing is None else {item.key: item for item in listing.tools}.values()


def _wire_names(gateway: "Gateway") -> Mapping[tuple[str, str], str]:
    return {
        (place.server, place.name): wire
        for era in (Era.LEGACY, Era.MODERN)
        for wire, place in gateway.registry.catalog(era).tools.listed
    }


def _entry(gateway: "Gateway", server: str, item: Item, wires: Mapping[tuple[str, str], str]) -> Entry:
    return Entry(
        id=gateway.govern.ways.naming.id(server, item.key),
        server=server,
        name=item.key,
        wire=wires.get((server, item.key)) or gateway.govern.ways.naming.wire(server, item.key),
        title=jsonrpc.text(item.members.get("title")) or "",
        item=item,
        way=gateway.govern.ways.way("tool", server, item.key),
    )


# ---- looking for some ----------------------------------------------------------------------------


def choices(found: Iterable[Entry]) -> dict[str, list[str]]:
    """What the servers, verbs and teams are that somebody can ask for."""
    all_of = list(found)
    return {
        "server": sorted({each.server for each in all_of}),
        "verb": sorted({each.verb for each in all_of if each.verb}),
        "team": sorted({each.contract.owner_team for each in all_of if each.contract.owner_team}),
    }


def search(found: Iterable[Entry], wanted: Wanted, figures: Figures) -> list[Entry]:
    """Those that fit all that is *wanted*; each word of `q` has to be somewhere in what is said of a tool."""
    words = wanted.q.casefold().split()
    fitting = [each for each in found if _fits(each, wanted) and all(word in each.words for word in words)]
    return sorted(fitting, key=lambda each: (*_rank(each, wanted.sort, figures), _misses(each, words), each.id))


def _fits(entry: Entry, wanted: Wanted) -> bool:
    contract = entry.contract
    return (
        wanted.server in ("", entry.server)
        and wanted.verb in ("", entry.verb)
        and wanted.team in ("", contract.owner_team)
        and wanted.level in ("", contract.security_level or "none")
        and wanted.status in ("", entry.status)
        and wanted.effect in ("", "writes" if contract.side_effect else "reads")
        and (not wanted.cost or _costs(entry.price_usd, wanted.cost))
    )


def _costs(price_usd: float, wanted: str) -> bool:
    if wanted in ("free", "priced"):
        return (price_usd > 0) is (wanted == "priced")
    above, up_to = _RANGES[wanted]
    return above < price_usd <= up_to


def _rank(entry: Entry, sort: str, figures: Figures) -> tuple[float, ...]:
    used = figures.usage.get(entry.id, {})
    match sort:
        case "calls":
            return (-used.get("calls", 0),)
        case "errors":
            return (-used.get("error_rate", 0.0), -used.get("calls", 0))
        case "slow":
            return (-(used.get("p95_ms") or 0.0),)
        case "cost":
            return (-used.get("cost_usd", 0.0), -entry.price_usd)
        case _:
            return ()


def _misses(entry: Entry, words: Sequence[str]) -> int:
    """How many of the *words* are not in its name: those that are called so come first."""
    name = f"{entry.id} {entry.title}".casefold()
    return sum(word not in name for word in words)


# ---- figures -------------------------------------------------------------------------------------


class FiguresKept:
    """The figures of a gateway, which take a while to add up: what was found is good for some seconds."""

    def __init__(self, gateway: "Gateway", clock: Callable[[], float] = time.time) -> None:
        self._gateway = gateway
        self._clock = clock
        self._found = Figures()
        self._at_s: float | None = None
        self._adding: asyncio.Task[None] | None = None

    async def now(self, patience_s: float = PATIENCE_S) -> Figures:
        """How tools were used in the last DAYS days, and how their promises stand.

        What takes longer than *patience_s* is not waited for: then it is what was found before, and `pending`.
        """
        counted = usage_of(self._gateway)
        if counted is None:
            return Figures()
        if self._at_s is None or not 0 <= self._clock() - self._at_s < _GOOD_S:
            if self._adding is None or self._adding.done():
                self._adding = asyncio.ensure_future(self._add_up(counted))
                self._adding.add_done_callback(_looked_at)
            done, _ = await asyncio.wait({self._adding}, timeout=patience_s)
            if not done:
                return msgspec.structs.replace(self._found, counted=True, pending=True)
            self._adding.result()  # what went wrong is for whoever asked
        return self._found

    async def _add_up(self, counted: Usage) -> None:
        now_s = self._clock()
        self._found = await asyncio.to_thread(_figures, self._gateway, counted, now_s)
        self._at_s = now_s


def _looked_at(done: "asyncio.Task[None]") -> None:
    """Of work that perhaps nobody waits for: the next who asks hears what is wrong."""
    if not done.cancelled():
        done.exception()


def _figures(gateway: "Gateway", counted: Usage, until_s: float) -> Figures:
    cards = usage.cards(counted, until_s - DAYS * DAY, until_s)
    found = gateway.budgets.read() if gateway.budgets is not None else ()
    promises: dict[str, list[dict[str, Any]]] = {}
    for each in sorted(found, key=lambda each: _ORDER[each.state]):
        promises.setdefault(each.objective.tool, []).append(slo.report(each))
    return Figures(cards, promises, counted=True)


def usage_of(gateway: "Gateway") -> Usage | None:
    """The sums of calls; None where calls are not recorded."""
    records = gateway.records
    return None if records is None or records.audit is None else records.usage


# ---- on paper ------------------------------------------------------------------------------------


def card(entry: Entry, figures: Figures) -> dict[str, Any]:
    """What there is to say of a tool at a glance, in JSON."""
    contract, model = entry.contract, entry.contract.cost_model
    promises = figures.promises.get(entry.id, ())
    return {
        "tool": entry.id,
        "name": entry.wire,
        "title": entry.title,
        "description": contract.description[:_MOST_ABOUT_CHARS],
        "server": entry.server,
        "verb": entry.verb,
        "team": contract.owner_team,
        "email": contract.owner_email,
        "level": contract.security_level,
        "status": entry.status,
        "withheld": entry.way.withheld,
        "review": None if entry.way.unapproved is None else entry.way.unapproved.id,
        "governed": is_governed(contract),
        "side_effect": contract.side_effect,
        "idempotent": contract.idempotent,
        "confirm": contract.confirm_gate is not None,
        "version": contract.version if "version" in contract.sources else None,
        "versions": [] if entry.way.choice is None else entry.way.choice.said,
        "price": None if model is None else {"usd": model.price_usd, "unit": model.unit},
        "price_usd": entry.price_usd,
        "usage": figures.usage.get(entry.id),
        "slo": promises[0] if promises else None,
    }


def page(gateway: "Gateway", wanted: Wanted, figures: Figures, *, number: int = 1, size: int = PAGE) -> dict[str, Any]:
    """One page of what is *wanted*, and what there is to choose among. Raises InvalidParams."""
    _check(wanted)
    everything = entries(gateway)
    found = search(everything, wanted, figures)
    pages = max(1, -(-len(found) // size))
    number = min(number, pages)
    shown = found[(number - 1) * size : number * size]
    return {
        "total": len(found),
        "all": len(everything),
        "page": number,
        "pages": pages,
        "first": (number - 1) * size + 1 if shown else 0,
        "last": (number - 1) * size + len(shown),
        "days": DAYS,
        "counted": figures.counted,
        "pending": figures.pending,
        "unheard": unheard(gateway),
        "choices": choices(everything),
        "tools": [card(each, figures) for each in shown],
    }


def _check(wanted: Wanted) -> None:
    for name, allowed in (("cost", COSTS), ("level", LEVELS), ("status", STATUSES), ("effect", EFFECTS)):
        if getattr(wanted, name) not in ("", *allowed):
            raise InvalidParams(f"`{name}` is one of {', '.join(allowed)}")
    if wanted.sort not in SORTS:
        raise InvalidParams(f"`sort` is one of {', '.join(SORTS)}")


# ---- one tool ------------------------------------------------------------------------------------


async def tool(gateway: "Gateway", id: str, known: Figures, *, calls: int = LAST_CALLS) -> dict[str, Any] | None:
    """All that there is to say of one tool; None where no server is known to list it."""
    found = entry(gateway, id)
    if found is None:
        return None
    return {
        **card(found, known),
        "description": found.contract.description,
        "pending": known.pending,
        "scopes": list(found.way.scopes),
        "contract": lines(found.contract),
        "input_schema": found.contract.input_schema,
        "output_schema": found.contract.output_schema,
        **versions(gateway, found),
        "registry": registered(gateway, id),
        "history": history(gateway, id),
        "promises": list(known.promises.get(id, ())),
        "calls": await last_calls(gateway, id, calls),
    }


def lines(contract: Contract) -> list[dict[str, Any]]:
    """Each field of a contract, and where it comes from; what nobody says is the default."""
    return [
        {"field": name, "value": _value(getattr(contract, name)), "source": contract.sources.get(name, "default")}
        for name in Contract.__struct_fields__
        if name not in ("id", "kind", "sources")
    ]


def _value(value: Any) -> Any:
    """*value* in JSON, of structs only what was said."""
    if isinstance(value, msgspec.Struct):
        return {name: _value(one) for name, one in msgspec.structs.asdict(value).items() if one not in (None, "")}
    return [_value(each) for each in value] if isinstance(value, tuple) else value


def versions(gateway: "Gateway", entry: Entry) -> dict[str, Any]:
    """The versions that calls can go to, the oldest first, and what changed from each to the next."""
    choice, contract = entry.way.choice, entry.contract
    if choice is None:
        version = contract.version if "version" in contract.sources else None
        only = [] if version is None else [_said_of(version, entry.status, "", is_default=True, percent=None)]
        return {"known": only, "changes": []}
    made = {
        str(each.version): gateway.govern.ways.version("tool", entry.server, entry.name, each)
        for each in choice.versions
    }
    contracts = [each.contract for each in made.values()]
    return {
        "known": [
            {
                **_said_of(
                    str(each.version),
                    each.status,
                    each.served_by,
                    is_default=each == choice.default,
                    percent=_percent(choice, each),
                ),
                "withheld": made[str(each.version)].withheld,
            }
            for each in choice.versions
        ],
        "changes": [changes(one, other) for one, other in pairwise(contracts)],
    }


def _said_of(version: str, status: str, served_by: str, *, is_default: bool, percent: int | None) -> dict[str, Any]:
    return {
        "version": version,
        "status": status,
        "served_by": served_by,
        "default": is_default,
        "percent": percent,  # of the callers that name none
        "withheld": "",
    }


def _percent(choice: Choice, each: Any) -> int | None:
    if choice.canary is None:
        return 100 if each == choice.default else None
    return choice.percent if each == choice.canary else 100 - choice.percent if each == choice.default else None


def changes(one: Contract, other: Contract) -> dict[str, Any]:
    """What became of a contract from one version to another."""
    return {
        "before": one.version,
        "after": other.version,
        "changes": [
            {"step": each.step.name, "field": each.field, "reason": each.reason}
            for each in diff(one, other)
            if each.field != "status"
        ],
        "schemas": {
            name: [getattr(one, name), getattr(other, name)]
            for name in ("input_schema", "output_schema")
            if getattr(one, name) != getattr(other, name)
        },
    }


def registered(gateway: "Gateway", id: str) -> list[dict[str, Any]]:
    """What the registry has of a tool: every version with who signed it, the newest first."""
    shelf = registry.shelf_of(gateway, datetime.now(UTC).date())
    if shelf is None or "tool" not in shelf.contracts.kinds(id):
        return []
    rows = shelf.contracts.versions("tool", id)
    found = [registry.show(shelf, id, version=row.key.version, kind="tool") for row in rows]
    kept = ("version", "status", "published", "published_by", "changed", "changed_by", "note", "signed", "needs", "can")
    return [{name: each[name] for name in kept} for each in reversed(found)]


def history(gateway: "Gateway", id: str) -> list[dict[str, Any]]:
    """Every wording of its definition that was ever listed, the newest first."""
    if gateway.records is None:
        return []
    try:
        return reviews.history(gateway.records.definitions, id)
    except reviews.NoSuchReview:
        return []


async def last_calls(gateway: "Gateway", id: str, most: int = LAST_CALLS) -> list[dict[str, Any]]:
    """The last calls of a tool, the newest first, out of the audit."""
    if gateway.records is None or gateway.records.audit is None or not most:
        return []
    return await asyncio.to_thread(_last_calls, gateway, id, most)


def _last_calls(gateway: "Gateway", id: str, most: int) -> list[dict[str, Any]]:
    assert gateway.records is not None, "looked at before"
    with Log(gateway.records.state) as log:
        found = log.search(Filters(thing=id, kind="call"), most)
    return [_call(each) for each in reversed(found)]


def _call(seen: audit.Seen) -> dict[str, Any]:
    entry = seen.entry
    at_us = entry.get("at_us", 0)
    return {
        "at": date_of(at_us / 1_000_000),
        "seq": seen.seq,
        "trace_id": entry.get("trace_id", ""),
        "caller": entry.get("caller", ""),
        "version": entry.get("version", ""),
        "outcome": entry.get("outcome", ""),
        "rule": entry.get("rule", ""),
        "took_ms": entry.get("took_us", 0) / 1000,
        "cost_usd": entry.get("cost_nano_usd", 0) / 1_000_000_000,
    }
