"""Everything that there is to say of a setup, the worst first. Reads files, the database and what a gateway says."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from bascule.admin.audit import Filters, Log
from bascule.admin.contracts import Listed
from bascule.admin.doctor import (
    access,
    certificates,
    contracts,
    kept,
    keys,
    listed,
    machine,
    running,
    sandbox,
    secrets,
    servers,
    usage,
)
from bascule.admin.doctor.finding import Finding, finding, ordered
from bascule.admin.doctor.setup import Setup
from bascule.errors import BasculeError
from bascule.store.files import FILE, is_newest

_MOST_CALLS: Final = 50_000  # of the last day that are looked at
_OF_THE_MACHINE: Final = frozenset({"command-missing", "folder-missing"})


class Running(msgspec.Struct, frozen=True):
    """A gateway that answered."""

    url: str
    status: Mapping[str, Any]
    things: Sequence[Listed] = ()  # what it lists, as far as whoever asked may see it, which goes for the rest too
    usage: Mapping[str, Any] = {}  # of the last day
    budgets: Sequence[Mapping[str, Any]] = ()
    orphans: Sequence[Mapping[str, Any]] = ()
    left: kept.Kept = kept.Kept()  # to do, where its database is out of reach
    at_s: float = 0.0  # when it was asked


def examine(setup: Setup, gateway: Running | None, *, elsewhere: bool = False) -> list[Finding]:
    """All findings. *elsewhere*: this is not the machine that it runs on, so that nothing is said of it."""
    found = [*access.findings(setup), *secrets.findings(setup), *contracts.findings(setup)]
    if not elsewhere:
        found += [*certificates.findings(setup), *servers.findings(setup), *sandbox.findings(setup)]
        found += machine.findings(setup, serving=gateway is not None)
        found += _of_records(setup)
    else:
        found += [each for each in servers.findings(setup) if each.rule not in _OF_THE_MACHINE]
    if gateway is not None:
        found += of_gateway(gateway, str(setup.path), {each.id for _, each in setup.contracts()})
        found += listed.findings(gateway.things, setup)
    return ordered(found)


def of_gateway(gateway: Running, config: str = "bascule.yaml", known: Collection[str] = ()) -> list[Finding]:
    """What a gateway says of itself; *known* are tools whose contracts were looked at already."""
    url = gateway.url
    found = [*running.findings(url, gateway.status, config), *running.of_usage(url, gateway.usage, config)]
    found += kept.findings(gateway.left, config, url, gateway.at_s)
    found += [*running.of_budgets(url, gateway.budgets, config), *running.of_orphans(url, gateway.orphans, known)]
    return ordered(found)


def _of_records(setup: Setup) -> Iterator[Finding]:
    if not setup.can_look_inside:
        return
    try:
        yield from keys.findings(setup)
        at = str(setup.state / FILE)
        yield from kept.findings(kept.read(setup.state, setup.now_s), str(setup.path), at, setup.now_s)
        known = {each.id: each for _, each in setup.contracts()}
        yield from usage.findings(_calls(setup), known, str(setup.state), str(setup.path))
    except BasculeError as error:  # another version's, or somebody else's
        yield finding("database-old", str(setup.state), f"the records cannot be read: {error}", f"ls -la {setup.state}")


def _calls(setup: Setup) -> list[Mapping[str, Any]]:
    """The calls of the last day that have ended, the oldest first."""
    if not is_newest(setup.state / FILE):
        return []  # of another version, or not private: said already
    since_us = int((setup.now_s - usage.LOOKED_AT_S) * 1_000_000)
    with Log(setup.state) as log:
        return [each.entry for each in log.search(Filters(kind="call", since_us=since_us), _MOST_CALLS)]
