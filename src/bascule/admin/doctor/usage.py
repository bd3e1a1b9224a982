"""What was called, as the audit has it: calls in loops, chatty tools, failing and slow ones. PURE.

Each entry is a call that has ended. Judgements are by rules of thumb; each says what it saw.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from bascule.admin.doctor.finding import Finding, finding, names
from bascule.contract.model import Contract
from bascule.policy.outcome import category_of

LOOKED_AT_S: Final = 86_400.0
WINDOW_S: Final = 60.0
LOOP: Final = 10  # times the same call of one caller within the window
CHATTY: Final = 60  # calls of one tool in one session within the window
LEAST: Final = 20  # calls, before shares of them mean something
FAILING: Final = 0.2
SLOWEST: Final = 0.95  # the share of calls that should keep the budget

_FAULTS: Final = frozenset({"failed", "refused", "transient", "internal"})
_TIMED: Final = frozenset({"ok", "failed"})

Entry = Mapping[str, Any]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One tool's calls."""

    tool: str
    count: int
    faults: Counter[str]  # outcome -> how often
    took_ms: Sequence[float]  # sorted


def findings(entries: Sequence[Entry], contracts: Mapping[str, Contract], where: str, config: str) -> Iterator[Finding]:
    """*entries*, the oldest first, as the audit has them; *contracts* by the tool's id; *config* for commands."""
    calls = [each for each in entries if each.get("method") == "tools/call" and each.get("thing")]
    yield from _loops(calls, contracts, where)
    yield from _chatty(calls, where, config)
    for seen in by_tool(calls):
        yield from _faults(seen, where, config)
        contract = contracts.get(seen.tool)
        if contract is not None:
            yield from _slow(seen, contract, where)
            yield from _deprecated(seen, contract, where, config)


def by_tool(calls: Sequence[Entry]) -> list[Seen]:
    """What became of the calls of each tool that were let through, the most called first."""
    entries: dict[str, list[Entry]] = defaultdict(list)
    for each in calls:
        if each.get("decision") != "deny":
            entries[each["thing"]].append(each)
    found = []
    for tool, several in entries.items():
        outcomes = [(str(each.get("outcome", "")), category_of(str(each.get("outcome", "")))) for each in several]
        faults = Counter(outcome for outcome, category in outcomes if category in _FAULTS)
        timed = zip(several, outcomes, strict=True)
        took = sorted(each.get("took_us", 0) / 1000 for each, (_, category) in timed if category in _TIMED)
        found.append(Seen(tool=tool, count=len(several), faults=faults, took_ms=took))
    return sorted(found, key=lambda each: -each.count)


def most_within(times_us: Sequence[int], window_s: float = WINDOW_S) -> int:
    """The most of *times_us*, which are sorted, that lie within one window."""
    recent: deque[int] = deque()
    most = 0
    for at_us in times_us:
        recent.append(at_us)
        while at_us - recent[0] >= window_s * 1_000_000:
            recent.popleft()
        most = max(most, len(recent))
    return most


def _loops(calls: Sequence[Entry], contracts: Mapping[str, Contract], where: str) -> Iterator[Finding]:
    """The same arguments again and again: an agent that does not take no for an answer, or forgets what it was told."""
    times: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for each in calls:
        if digest := each.get("arguments_sha256"):
            times[each.get("caller", ""), each["thing"], digest].append(each["at_us"])
    worst: dict[str, dict[str, int]] = defaultdict(dict)
    for (caller, tool, _), at_us in times.items():
        if (most := most_within(sorted(at_us))) >= LOOP:
            worst[caller][tool] = max(worst[caller].get(tool, 0), most)
    for caller, tools in worst.items():
        tool = max(tools, key=lambda each: tools[each])
        contract = contracts.get(tool)
        harmless = contract is not None and not contract.side_effect
        fix = "cache_policy: {ttl_seconds: 60}" if harmless else f"rate_limit: {LOOP}/minute"
        more = f"; so it did with {names(sorted(tools.keys() - {tool}))}" if len(tools) > 1 else ""
        what = f"{caller or 'somebody'} made the same call of {tool} {tools[tool]} times within a minute{more}"
        yield finding("calls-in-a-loop", where, what, f"policy: {{rules: [{{match: {tool}, {fix}}}]}}")


def _chatty(calls: Sequence[Entry], where: str, config: str) -> Iterator[Finding]:
    """Many calls with other arguments each: the tool does too little at a time."""
    times: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for number, each in enumerate(calls):
        digest = each.get("arguments_sha256") or str(number)
        times[each.get("caller", ""), each.get("session", ""), each["thing"]].setdefault(digest, each["at_us"])
    worst: dict[str, int] = {}
    for (_, _, tool), by_digest in times.items():
        worst[tool] = max(worst.get(tool, 0), most_within(sorted(by_digest.values())))
    for tool, most in worst.items():
        if most >= CHATTY:
            what = f"{tool} was called {most} times within a minute by one client, with other arguments each time"
            fix = f"bascule contract show {tool} -c {config}   # says who owns it: ask for one call that takes many"
            yield finding("tool-chatty", where, what, fix)


def _faults(seen: Seen, where: str, config: str) -> Iterator[Finding]:
    faults = sum(seen.faults.values())
    if seen.count >= LEAST and faults >= FAILING * seen.count:
        mostly, often = seen.faults.most_common(1)[0]
        what = f"{seen.tool}: {faults} of {seen.count} calls failed, {often} of them `{mostly}`"
        fix = f"bascule audit search --tool {seen.tool} --outcome {mostly} -c {config}"
        yield finding("tool-failing", where, what, fix)


def _slow(seen: Seen, contract: Contract, where: str) -> Iterator[Finding]:
    budget_ms = contract.latency_budget_ms
    if budget_ms is None or len(seen.took_ms) < LEAST:
        return
    slow_ms = seen.took_ms[min(len(seen.took_ms) - 1, int(SLOWEST * len(seen.took_ms)))]
    if slow_ms > budget_ms:
        what = f"{seen.tool}: one call in twenty takes {slow_ms:.0f} ms or more; its latency_budget_ms is {budget_ms:g}"
        fix = f"latency_budget_ms: {slow_ms * 1.2:.0f}   # what it can keep, in the contract of {seen.tool}"
        yield finding("tool-slow", where, what, fix)


def _deprecated(seen: Seen, contract: Contract, where: str, config: str) -> Iterator[Finding]:
    if contract.status == "deprecated":
        sunset = contract.deprecation.sunset if contract.deprecation else None
        until = f"; it ends on {sunset}" if sunset else ""
        what = f"{seen.tool} is deprecated, and was called {seen.count} times since yesterday{until}"
        fix = f"bascule audit search --tool {seen.tool} -c {config}   # says who: tell them what replaces it"
        yield finding("deprecated-in-use", where, what, fix)
