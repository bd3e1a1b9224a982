"""A table of calls and of what is expected of them, held against a configuration.

The decisions are those of admin/explain.py. Here is how a table is read, what a case expects, and which rules no
case has made say anything.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import yaml
from msgspec import Raw

from bascule.admin.explain import (
    Admit,
    Attempt,
    Before,
    Decision,
    Explanation,
    Who,
    explain,
    gate_place,
    guardrail_places,
)
from bascule.config import Config
from bascule.contract.derive import matches
from bascule.contract.model import ConfirmGate, Kind, Terms
from bascule.documents import MAX_FILE_BYTES, PlainLoader
from bascule.errors import ConfigInvalid
from bascule.options import Options
from bascule.policy.guard import compile_guards
from bascule.policy.options import CallerOptions, Grant
from bascule.registry.catalog import Listing
from bascule.text import Text, read_text
from bascule.wire import jsonrpc

_PLACE: Final = re.compile(r"(?:guardrails\.\d+|confirm_gate)")


class MadeUp(Grant, frozen=True):
    """A caller that the configuration does not have."""

    name: str = "somebody"
    attributes: Mapping[str, Any] = msgspec.field(default_factory=dict)
    proof: Literal["", "key", "token", "introspection", "certificate", "bearer", "anonymous"] = ""


class Case(Options, frozen=True, kw_only=True, rename={"as_": "as"}):
    """One call, and what should become of it."""

    name: str
    as_: str | MadeUp
    call: str  # the id of what is called
    expect: Decision
    kind: Kind = "tool"
    args: dict[str, Any] | None = None
    session: Before = Before()
    now: str | None = None  # RFC 3339; default: the time of the test
    key_scopes: tuple[str, ...] = ()
    claims: dict[str, Any] | None = None
    rule: str | None = None  # what said so: a place such as guardrails.0, or a part of the rule or of its message
    warnings: tuple[str, ...] | None = None  # parts of what the caller is warned of; [] for nothing at all


class Placed(msgspec.Struct, frozen=True):
    """A case, and where it is written."""

    place: str  # `file:line`
    case: Case


class Outcome(msgspec.Struct, frozen=True):
    """A case, and what became of it."""

    place: str
    case: Case
    explanation: Explanation
    wrong: tuple[str, ...]  # in what it is not as expected


class Coverage(msgspec.Struct, frozen=True):
    """Which rules some case has made say something."""

    heard: int
    silent: tuple[tuple[str, str], ...]  # (where it is written, what it is) of the others

    @property
    def percent(self) -> float:
        rules = self.heard + len(self.silent)
        return 100.0 * self.heard / rules if rules else 100.0


# ---- reading -------------------------------------------------------------------------------------


def read(path: Path) -> list[Placed]:
    """The cases of a file: a list, in YAML or JSON. Raises ConfigInvalid with the line of what is wrong."""
    text = Text(path, read_text(path))
    if len(text.text) > MAX_FILE_BYTES:
        raise ConfigInvalid(f"is larger than {MAX_FILE_BYTES} bytes", place=str(path))
    value = text.value()
    if not isinstance(value, list) or not value:
        raise ConfigInvalid("expected a list of cases, such as `- {name: …, as: …, call: …, expect: deny}`",
                            place=str(path))  # fmt: skip
    lines = _lines(path, text.text)
    cases = [Placed(f"{path}:{line}", text.convert(each, Case, str(number)))
             for number, (each, line) in enumerate(zip(value, lines, strict=True))]  # fmt: skip
    names: dict[str, str] = {}
    for each in cases:
        if (first := names.setdefault(each.case.name, each.place)) is not each.place:
            raise ConfigInvalid(f"the case {each.case.name!r} is there already, in {first}", place=each.place)
    return cases


def _lines(path: Path, text: str) -> list[int]:
    """The line of each case. Raises ConfigInvalid for a key that stands twice, which YAML itself would let pass."""
    root = yaml.compose(text.replace("\t", " "), Loader=PlainLoader)
    assert isinstance(root, yaml.SequenceNode), "its value is a list"
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                if key.value in seen:
                    raise ConfigInvalid(f"{key.value!r} stands twice", place=f"{path}:{key.start_mark.line + 1}")
                seen.add(key.value)
                waiting.append(value)
    return [each.start_mark.line + 1 for each in root.value]


# ---- running -------------------------------------------------------------------------------------


async def run(
    config: Config, admit: Admit, cases: Iterable[Placed], now: datetime, listings: Mapping[str, Listing] | None = None
) -> list[Outcome]:
    """What becomes of each case; *now* is the time of those that say none.

    Raises ConfigInvalid, with the case's place, for one that does not fit the configuration.
    """
    outcomes = []
    for each in cases:
        try:
            explanation = await explain(config, admit, _attempt(each.case, now), listings)
        except ConfigInvalid as error:
            if error.place:
                raise
            raise ConfigInvalid(str(error), place=each.place) from error
        outcomes.append(Outcome(each.place, each.case, explanation, tuple(_wrong(each.case, explanation))))
    return outcomes


def _attempt(case: Case, now: datetime) -> Attempt:
    made = case.as_
    if isinstance(made, str):
        who = Who(name=made, key_scopes=case.key_scopes, claims=case.claims)
    else:
        options = CallerOptions(roles=made.roles, scopes=made.scopes, attributes=made.attributes)
        who = Who(name=made.name, options=options, key_scopes=case.key_scopes, claims=case.claims, proof=made.proof)
    args = None if case.args is None else Raw(bytes(jsonrpc.encode(case.args)))
    at = now if case.now is None else time_of(case.now)
    return Attempt(who=who, id=case.call, kind=case.kind, args=args, before=case.session, now=at)


def time_of(text: str) -> datetime:
    """The time that *text* says as RFC 3339 writes it; without a zone it is UTC. Raises ConfigInvalid."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigInvalid(f"{text!r} is not a time such as 2026-11-20T09:30:00Z") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _wrong(case: Case, got: Explanation) -> Iterable[str]:
    if got.decision != case.expect:
        yield f"expected {case.expect}, got {got.decision}"
    if case.rule is not None and not _is_by(case.rule, got):
        yield f"expected it of {case.rule!r}, got it of {got.rule or 'no rule'!r}"
    if case.warnings is None:
        return
    for part in case.warnings:
        if not any(part in warning for warning in got.warnings):
            yield f"expected a warning with {part!r}, got {list(got.warnings) or 'none'}"
    if not case.warnings and got.warnings:
        yield f"expected no warning, got {list(got.warnings)}"


def _is_by(rule: str, got: Explanation) -> bool:
    """Whether *rule* is the place of what decided, where that is written, or a part of what it says."""
    if _PLACE.fullmatch(rule):
        return got.rule.partition(":")[0] == rule
    decided = got.deciding
    if decided is not None and decided.origin == rule:
        return True
    return rule in got.rule or (got.error is not None and rule in got.error.message)


# ---- coverage ------------------------------------------------------------------------------------


def coverage(config: Config, outcomes: Sequence[Outcome]) -> Coverage:
    """Which guardrails, gates and rules of *config* no case has made say anything.

    A guardrail or a gate has said something when it applied and was heard: what comes after a deny is not.
    A rule without either counts when a case calls what it matches.
    """
    heard = {ruled.origin for outcome in outcomes for ruled in outcome.explanation.ruled if ruled.counts}
    called = {(outcome.case.kind, outcome.case.call) for outcome in outcomes}
    rules = dict(_said(config))
    for number, rule in enumerate(config.policy.rules):
        place = f"policy.rules.{number}"
        if not rule.guardrails and not rule.confirm_gate:
            rules[place] = f"match {rule.match}"
            if any(kind in rule.kinds and matches(rule.match, id) for kind, id in called):
                heard.add(place)
    silent = tuple((place, words) for place, words in rules.items() if place not in heard)
    return Coverage(len(rules) - len(silent), silent)


def _said(config: Config) -> Iterable[tuple[str, str]]:
    """(where it is written, what it is) of all guardrails and gates."""
    policy = [(f"policy.rules.{number}", rule) for number, rule in enumerate(config.policy.rules)]
    said: list[tuple[str, Terms]] = [*config.documents, *policy]
    for place, terms in said:
        guardrails = compile_guards(terms.guardrails or (), terms.input_schema or None)
        for where, rule in zip(guardrail_places(place, terms), guardrails.rules, strict=True):
            yield where, rule.text
        gate = terms.confirm_gate
        if gate:
            when = gate.when if isinstance(gate, ConfirmGate) else None
            yield gate_place(place), f"ask {when or 'always'}"
