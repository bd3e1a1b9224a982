"""Reliability: six criteria."""

import re
from typing import Final

from bascule.admin.doctor.finding import names, plural
from bascule.admin.scorecard.model import Criterion, Group, Scene, Verdict, idle, met, missing, partly
from bascule.store import anchor

_GRACE: Final = re.compile(
    r"^\s*(?:stop_grace_period|terminationGracePeriodSeconds|TimeoutStopSec)\s*[:=]\s*[\"']?(\d+)", re.MULTILINE
)


def _graceful_shutdown(scene: Scene) -> Verdict:
    drain = scene.setup.config.drain
    if not drain.calls_s:
        return missing("drain.calls_s: 0: calls that run are cut off", "drain: {calls_s: 25}")
    needed_s = drain.delay_s + drain.calls_s
    for path, text in scene.files.texts.items():
        short = [each for each in _GRACE.findall(text) if float(each) < needed_s]
        if short:
            evidence = f"{path} kills it after {short[0]} s, and it needs {needed_s:g} s (drain)"
            return partly(evidence, f"stop_grace_period: {needed_s + 5:g}s")
    if not drain.delay_s and scene.setup.exposed:
        return partly("drain.delay_s: 0: balancers go on sending while it ends", "drain: {delay_s: 5}")
    return met(f"not ready for {drain.delay_s:g} s, then calls have {drain.calls_s:g} s to end")


def _retries(scene: Scene) -> Verdict:
    tools = [each for _, each in scene.setup.contracts() if each.kind == "tool"]
    safe = [each.id for each in tools if not each.side_effect or each.idempotent]
    if tools and len(safe) == len(tools):
        return met("what failed on the way is made again, with growing pauses, for every tool with a contract")
    trusted = [name for name, each in scene.setup.config.servers.items() if each.trusted]
    keyed = [each.id for each in tools if each.require_key]
    if safe or keyed or trusted:
        return met(f"made again is what does no harm: {names([*safe, *trusted, *keyed])}")
    gain = "`side_effect: false` or `idempotent: true` in the contracts of tools that may be called twice"
    return missing("of no tool it is known that a second call does no harm, so none is made", gain)


def _circuit_breaker(scene: Scene) -> Verdict:
    servers = scene.setup.config.servers
    if not servers:
        return idle("there are no servers")
    spare = [name for name, each in servers.items() if each.fallback]
    more = f"; another takes over for {names(spare)}" if spare else ""
    return met(f"each of {plural(len(servers), 'server')} is left alone while it fails{more}")


def _error_handling(scene: Scene) -> Verdict:
    status = scene.gateway.status if scene.gateway else {}
    calls = status.get("calls") or {}
    faults = (calls.get("by_outcome") or {}).get("internal", 0)
    if faults:
        gain = "bascule audit search --outcome internal"
        return partly(f"{plural(int(faults), 'call')} ended in a fault of Bascule's own", gain)
    return met("every failure has a code, a family and a trace id; nothing of the inside is told")


def _backups(scene: Scene) -> Verdict:
    gain = 'sqlite3 bascule.db ".backup copy.db" every night, to another place, with pepper and journal.key'
    seen = scene.files.holding(r"\.backup\b|bascule backup|pg_dump|restic|velero|borg\b") or scene.files.named(
        "*backup*"
    )
    if seen:
        return met(f"{seen[0]} makes copies of the records")
    setup = scene.setup
    audit = setup.config.audit
    if not isinstance(audit, str) and audit.anchor and anchor.path_of(audit, setup.state).parent != setup.state:
        return partly("the audit's heads are kept elsewhere; of the rest no copy is seen", gain)
    return missing("no copies of the records are seen", gain)


def _restarts(scene: Scene) -> Verdict:
    seen = scene.files.holding(
        r"^\s*restart:\s*[\"']?(always|unless-stopped|on-failure)|^Restart=(?!no\b)|kind:\s*(Deployment|StatefulSet)|restart_policy:"
    )
    if seen:
        return met(f"{seen[0]} starts it again")
    return partly(
        "Bascule starts its servers again; what starts Bascule again is not seen", "restart: unless-stopped in Compose"
    )


GROUP: Final = Group(
    "Reliability",
    [
        Criterion("graceful-shutdown", "It ends without cutting calls off", "important", _graceful_shutdown),
        Criterion("retries", "What failed on the way is made again", "important", _retries),
        Criterion("circuit-breaker", "A failing server is left alone", "nice", _circuit_breaker),
        Criterion("error-handling", "Errors say what to do", "important", _error_handling),
        Criterion("backups", "Records are copied to another place", "important", _backups),
        Criterion("restart-policy", "It is started again when it dies", "important", _restarts),
    ],
)
