"""What became of a contract, and which version that takes. PURE.

MAJOR: what was right before may be refused now, or mean something else. MINOR: all of it is right still,
and there is something new, or more to wait or to pay for. PATCH: words only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from bascule.contract.inclusion import TOO_INTRICATE, Narrowing, narrowings
from bascule.contract.model import Contract
from bascule.contract.schemas import Document, Node, Part, is_schema, same
from bascule.contract.semver import Step, Version, parse, step_between
from bascule.policy.guardrails import Guardrail
from bascule.policy.scopes import covers

_MAJOR, _MINOR, _PATCH = Step.MAJOR, Step.MINOR, Step.PATCH


class Change(msgspec.Struct, frozen=True):
    """One difference, what it asks of callers, and why."""

    step: Step
    field: str  # of the contract: `input_schema`, `rate_limit`
    reason: str


class Verdict(msgspec.Struct, frozen=True):
    """All that changed of one thing, and whether its version tells the truth about it."""

    id: str
    changes: tuple[Change, ...]
    before: str | None = None  # its versions, as they are declared
    after: str | None = None
    lie: str = ""  # why the declared version is wrong; "" when it is not

    @property
    def step(self) -> Step | None:
        """The largest of the steps; None when nothing changed."""
        return max((change.step for change in self.changes), default=None)


Key: TypeAlias = tuple[str, str]  # kind and id


def diff(a: Contract, b: Contract) -> list[Change]:
    """What changed from *a* to *b*, the weightiest first. Nothing but the version is left out of it."""
    found = [change for compare in _COMPARISONS for change in compare(a, b)]
    return sorted(found, key=lambda change: -change.step)


def verdicts(before: Sequence[Contract], after: Sequence[Contract]) -> list[Verdict]:
    """What became of each thing in two sets of contracts; of several versions of one, the newest counts."""
    old, new = _newest(before), _newest(after)
    return [_verdict(old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new])]


def _newest(contracts: Iterable[Contract]) -> dict[Key, Contract]:
    found: dict[Key, Contract] = {}
    for each in contracts:
        key = (each.kind, each.id)
        if key not in found or parse(found[key].version) < parse(each.version):
            found[key] = each
    return found


def _verdict(a: Contract | None, b: Contract | None) -> Verdict:
    if a is None:
        assert b is not None
        return Verdict(b.id, (Change(_MINOR, "", f"the {b.kind} is new"),), None, _declared(b))
    if b is None:
        gone = Change(_MAJOR, "", f"the {a.kind} is gone; until nobody calls it, keep it with `status: gone`")
        return Verdict(a.id, (gone,), _declared(a), None)
    changes = tuple(diff(a, b))
    return Verdict(a.id, changes, _declared(a), _declared(b), _lie(_declared(a), _declared(b), changes))


def _declared(contract: Contract) -> str | None:
    return contract.version if "version" in contract.sources else None


def _lie(before: str | None, after: str | None, changes: Sequence[Change]) -> str:
    """Why *after* is the wrong version; "" when it is right, or when none was ever declared."""
    if before is None:
        return ""
    if after is None:
        return f"the version {before} was declared, and now there is none"
    old, new = parse(before), parse(after)
    if new < old:
        return f"{after} is older than {before}"
    if not changes:
        return ""
    weightiest = max(changes, key=lambda change: change.step)
    least = old.after(weightiest.step)
    if new >= least:
        return ""
    said = step_between(old, new)
    says = f"{after} says {said.name}" if said else f"the version is {after} still"
    return f"{says}, but {weightiest.reason}: that is {weightiest.step.name}, so {least}"


# ---- schemas -------------------------------------------------------------------------------------


def _input(a: Contract, b: Contract) -> Iterator[Change]:
    field, old, new = "input_schema", a.input_schema, b.input_schema
    if same(old, new):
        return
    if old is None or new is None:
        now = "is written down now" if old is None else "is left to the server now"
        yield Change(_MAJOR, field, f"what it takes {now}, so there is nothing to compare with")
    elif not (is_schema(old) and is_schema(new)):
        yield Change(_MAJOR, field, f"the {'new' if is_schema(old) else 'old'} one is not a JSON Schema")
    else:
        yield from _schema_changes(field, _Taken(old, new))


def _output(a: Contract, b: Contract) -> Iterator[Change]:
    field, old, new = "output_schema", a.output_schema, b.output_schema
    if same(old, new):
        return
    if old is None:
        yield Change(_MINOR, field, "it says now what its results look like")
    elif new is None:
        yield Change(_MAJOR, field, "it says no longer what its results look like")
    elif not (is_schema(old) and is_schema(new)):
        yield Change(_MAJOR, field, f"the {'new' if is_schema(old) else 'old'} one is not a JSON Schema")
    else:
        yield from _schema_changes(field, _Given(old, new))
