"""Contracts and what they leave open: owners, promises, effects that nothing guards, costs that nothing bounds."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

from bascule.admin.doctor.finding import Finding, Severity, finding, names, plural
from bascule.admin.doctor.setup import Setup
from bascule.contract import lint as linting
from bascule.contract.lint import Subject
from bascule.contract.model import Contract
from bascule.packs.entry import PLACE

Placed: TypeAlias = tuple[str, Contract]

_LINE: Final = re.compile(r":\d+$")
_REVIEWS: Final = frozenset({"review-old", "review-missing"})
# Of what the linter warns: what hurts while it runs. The rest is for whoever writes contracts.
_NOTABLE: Final = frozenset(
    {"deprecation-missing", "sunset-over", "scope-wide", "latency-beyond-timeout", "guardrail-odd"}
)


def findings(setup: Setup) -> Iterator[Finding]:
    placed = list(setup.contracts())
    if setup.config.servers and not placed and not setup.config.policy.rules and setup.shared:
        what = "nobody has said what any tool may cost, take or change: every one counts as having side effects"
        fix = f"bascule contract new {next(iter(setup.config.servers))}/TOOL --from-server -o contracts/TOOL.yaml"
        yield finding("no-contracts", setup.at("contracts"), what, fix)
    tools = [each for each in placed if each[1].kind == "tool" and each[1].status != "gone"]
    yield from _left_open(tools)
    yield from _linted(placed, setup)
    yield from _bounds(setup, tools)


def _left_open(tools: Sequence[Placed]) -> Iterator[Finding]:
    yield from _lacking(
        tools,
        "owner-missing",
        lambda contract: not (contract.owner_team or contract.owner_email),
        "nobody is named who answers for",
        "owner_team: sales-platform",
    )
    yield from _lacking(
        tools,
        "slo-missing",
        lambda contract: contract.slo is None and contract.status == "active",
        "nothing is promised of",
        "slo: {success: 99.9, latency_ms: 800, latency_percent: 99}",
    )
    yield from _lacking(
        tools,
        "timeout-missing",
        lambda contract: contract.max_timeout_seconds is None,
        "only its server's timeout ends a call of",
        "max_timeout_seconds: 30",
    )
    yield from _lacking(
        tools,
        "effect-unguarded",
        lambda contract: is_unguarded(contract) and "side_effect" in contract.sources,
        "neither a key nor a person stands before",
        'require_key: true   # or confirm_gate: {message: "Create {args.name}?"}',
    )


def is_unguarded(contract: Contract) -> bool:
    """Whether a call that is made twice, or by mistake, does its harm."""
    guarded = contract.require_key or contract.confirm_gate is not None or contract.idempotent
    return contract.side_effect and not guarded and not any(rule.ask is not None for rule in contract.guardrails)


def _lacking(
    tools: Sequence[Placed], rule: str, lacks: Callable[[Contract], bool], what: str, fix: str
) -> Iterator[Finding]:
    """One line for all tools that lack the same."""
    found = [(place, contract.id) for place, contract in tools if lacks(contract)]
    if found:
        yield finding(rule, found[0][0], f"{what} {names(id for _, id in found)}", fix)


def _linted(placed: Sequence[Placed], setup: Setup) -> Iterator[Finding]:
    """What the linter finds and an operator should know; one line for all that lack the same."""
    today = datetime.fromtimestamp(setup.now_s, UTC).date()
    subjects = [Subject(contract, _always(place)) for place, contract in placed]
    said: dict[tuple[str, str], list[linting.Finding]] = defaultdict(list)
    for each in linting.lint(subjects, today):
        if each.level == "error" or each.rule in _NOTABLE or (each.rule in _REVIEWS and _matters(each, placed)):
            said[each.rule, each.level].append(each)
    for (rule, level), several in said.items():
        severity: Severity = "error" if level == "error" else "warning"
        first, ids = several[0], names(each.id for each in several)
        known = "review-due" if rule in _REVIEWS else "contract-lint"
        more = f" (and {plural(len(several) - 1, 'more like it', 'more like it')})" if len(several) > 1 else ""
        what = f"{ids}: {first.message}{more} [{rule}]"
        fix = f"bascule contract lint {_linted_by(first, setup)}   # {first.mend}"
        yield finding(known, first.place, what, fix, severity=severity)


def _linted_by(found: linting.Finding, setup: Setup) -> str:
    """What to lint: the contract's own file, the configuration it stands in, or the server that brings it along."""
    file = _LINE.sub("", found.place)
    if file.startswith(PLACE):
        return f"-c {setup.path} --server {setup.config.packed[found.id]}"
    return f"-c {setup.path}" if file.startswith(f"{setup.path}: ") else file


def _always(place: str) -> Callable[[str], str]:
    return lambda _: place


def _matters(found: linting.Finding, placed: Sequence[Placed]) -> bool:
    """A review that was never made is missed where much is at stake."""
    level = next((contract.security_level for _, contract in placed if contract.id == found.id), None)
    return found.rule == "review-old" or level == "HIGH"


def _bounds(setup: Setup, tools: Sequence[Placed]) -> Iterator[Finding]:
    config = setup.config
    limits = [config.limits.caller, *(caller.limits for caller in config.callers.values() if caller.limits)]
    priced = [id for _, tool in tools if (id := tool.id) and tool.cost_model and tool.cost_model.price_usd > 0]
    if priced and not any(each.budget or each.session_usd for each in limits):
        what = f"{names(priced)} cost money, and no caller has a budget"
        fix = "limits: {caller: {budget: {usd: 20, per: day}}}"
        yield finding("cost-unbounded", setup.at("limits"), what, fix)
    rated = any(each.rate for each in limits) or any(tool.rate_limit or tool.total_rate_limit for _, tool in tools)
    if not rated and setup.shared and config.servers:
        what = "limits: one caller in a loop can call as fast as it likes"
        yield finding("rate-unlimited", setup.at("limits"), what, "limits: {caller: {rate: 600/minute}}")
