"""A gateway that runs, by what it says of itself. PURE: whoever asks it hands in the answers."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import bascule
from bascule.admin.doctor.finding import Finding, Severity, finding, names, plural

RESTARTS: Final = 3  # of one server: once or twice is an accident
MOST_RESTARTS_PER_H: Final = 1.0
LEAST_CALLS: Final = 100  # before a share of them means something
MANY_ERRORS: Final = 0.05
_HOUR_S: Final = 3600.0
_FAULTS: Final = ("failed", "refused", "transient", "internal")
_OF_THE_FILE: Final = frozenset({"no_owner", "review_missing", "review_old"})  # said of contracts in files already

Json = Mapping[str, Any]


def findings(url: str, status: Json, config: str) -> Iterator[Finding]:
    """*config*: the file, for the commands that mend something. *status* may be of another version than ours."""
    if status.get("version") != bascule.__version__:
        what = f"it runs version {status.get('version')}, and this is {bascule.__version__}"
        yield finding("version-differs", url, what, f"bascule serve -c {config}   # start it again")
    if reason := _in(status, "config").get("error"):
        what = f"the last edit of the configuration is not in use: {reason}"
        yield finding("configuration-refused", url, what, f"bascule validate {config}")
    yield from _names(url, _in(status, "names"))
    yield from _pressure(url, _in(status, "pressure"))
    yield from _audit(url, _in(status, "audit"))
    outcomes = _in(_in(status, "calls"), "by_outcome")
    if faults := outcomes.get("internal"):
        what = f"{plural(int(faults), 'call')} ended in a fault of Bascule's own"
        yield finding("internal-errors", url, what, f"bascule audit search --outcome internal -c {config}")
    for name, server in _in(status, "servers").items():
        yield from _server(url, name, server, float(status.get("uptime_s") or 0.0), config)


def of_usage(url: str, usage: Json, config: str) -> Iterator[Finding]:
    """What `/api/usage` says of a day, for all tools together."""
    calls, faults = int(usage.get("calls") or 0), _faults(usage)
    if calls >= LEAST_CALLS and faults >= MANY_ERRORS * calls:
        tools = [each for each in usage.get("tools") or () if each.get("tool")]
        worst = f"; most of them of {max(tools, key=_faults)['tool']}" if tools else ""
        what = f"{100 * faults / calls:.1f} % of {calls:,} calls failed{worst}"
        yield finding("errors-many", url, what, f"bascule audit search --outcome failed -c {config}")


def _faults(usage: Json) -> int:
    """Calls that failed, and not for what their caller asked."""
    return sum(int(_in(usage, "categories").get(name) or 0) for name in _FAULTS)


def of_budgets(url: str, budgets: Sequence[Json], config: str) -> Iterator[Finding]:
    """What `/api/slo` says: promises that are not kept, or soon will not be."""
    for each in budgets:
        if each.get("state") in ("burning", "spent"):
            promise = f"{each.get('objective')} {each.get('target'):g}"
            left = f"{100 * max(float(each.get('remaining') or 0), 0):.0f} % of it is left"
            what = f"{each.get('tool')}: the error budget of {promise} is {each['state']}; {left}"
            severity: Severity = "error" if each["state"] == "spent" else "warning"
            yield finding("budget-burns", url, what, f"bascule slo budgets -c {config}", severity=severity)


def of_orphans(url: str, orphans: Sequence[Json], known: Collection[str]) -> Iterator[Finding]:
    """What `/api/registry/orphans` says, one line for each kind; *known* are tools whose contracts are in files."""
    several: dict[str, list[Json]] = defaultdict(list)
    for each in orphans:
        lack = str(each.get("lack"))
        if lack != "no_contract" and not (lack in _OF_THE_FILE and each.get("id") in known):
            several[lack].append(each)
    for found in several.values():
        what = f"{names(str(each.get('id')) for each in found)}: {found[0].get('message')}"
        yield finding("orphan", url, what, f"bascule registry orphans --url {url}   # {found[0].get('mend')}")


def _names(url: str, said: Json) -> Iterator[Finding]:
    for kind, what in (("withheld", "clash, and nobody can call"), ("shadowed", "stand twice, so that one hides")):
        if clashing := said.get(kind):
            fix = "aliases: {crm/find: crm__find_lead}"
            yield finding("names-clash", url, f"names {what} {names(map(str, clashing))}", fix)


def _pressure(url: str, said: Json) -> Iterator[Finding]:
    now, shed = said.get("now", "none"), sum(_in(said, "shed").values())
    if now != "none":
        what = f"it turns work away now, for want of {_WANTED.get(str(now), now)}"
        yield finding("overloaded", url, what, _ROOM.get(str(now), "replicas: 2"), severity="error")
    elif shed:
        reason = max(_in(said, "shed").items(), key=lambda each: int(each[1]))[0]
        what = f"it has turned {plural(int(shed), 'request')} away, for want of {_WANTED.get(reason, reason)}"
        yield finding("overloaded", url, what, _ROOM.get(reason, "replicas: 2"))


_WANTED: Final = {"calls": "places", "lag": "processor time", "memory": "memory"}
_ROOM: Final = {
    "calls": "overload: {max_calls: 20000}",
    "lag": "limits: {caller: {concurrent: 20}}",
    "memory": "http: {max_body_bytes: 1048576}",
}


def _audit(url: str, said: Json) -> Iterator[Finding]:
    if problem := said.get("problem"):
        yield finding("audit-failing", url, f"the audit is not written: {problem}", "df -h   # is the disk full?")
    if missed := said.get("unrecorded"):
        what = f"{plural(int(missed), 'call')} found no room in the audit, and nothing is known of them"
        yield finding("audit-unrecorded", url, what, "audit: strict")
    if problem := said.get("anchor_problem"):
        what = f"heads of the audit are not copied to {said.get('anchor')}: {problem}"
        yield finding("anchor-failing", url, what, "audit: {anchor: /a/folder/that/can/be/written/audit.heads}")


def _server(url: str, name: str, said: Json, uptime_s: float, config: str) -> Iterator[Finding]:
    at, look = f"{url}/servers/{name}/mcp", f"bascule ping -c {config}"
    if said.get("state") in ("down", "failed"):
        lines = said.get("stderr") or ()
        last = f"; it said last: {lines[-1]}" if lines else ""
        what = f"{name} is {said['state']}: {said.get('last_error') or 'it does not say why'}{last}"
        yield finding("server-down", at, what, look, severity="error" if said.get("required") else "warning")
    elif said.get("state") == "off":
        yield finding(
            "server-off", at, f"{name} was switched off by an operator", f"bascule servers enable {name} {url}"
        )
    elif said.get("lists") == "stale":
        yield finding("lists-stale", at, f"{name} no longer says what it offers: {said.get('last_error')}", look)
    restarts = int(said.get("restarts") or 0)
    if restarts >= RESTARTS and restarts > MOST_RESTARTS_PER_H * uptime_s / _HOUR_S:
        what = f"{name} was started again {restarts} times in {uptime_s / 60:.0f} minutes: {said.get('last_error')}"
        yield finding("server-restarts", at, what, look)
    circuit = _in(said, "circuit")
    if circuit.get("state") not in (None, "closed"):
        what = f"{name} is left alone (circuit {circuit['state']}): {circuit.get('last_failure') or 'by hand'}"
        yield finding("circuit-open", at, what, look)
    if withheld := _in(said, "withheld"):
        thing, why = next(iter(withheld.items()))
        what = f"{name}: {plural(len(withheld), 'thing')} nobody is shown, such as {thing}: {why}"
        waits = "bascule review" in why
        mend = f"bascule review list -c {config}" if waits else f"bascule contract lint -c {config} --server {name}"
        yield finding("things-withheld", at, what, mend)


def _in(said: Json, name: str) -> Json:
    """The object *name*; an empty one where there is none."""
    found = said.get(name)
    return found if isinstance(found, dict) else {}
