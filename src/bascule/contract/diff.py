"""What became of a contract, and which version that takes. PURE.

MAJOR: what was right before may be refused now, or mean something else. MINOR: all of it is right still,
and there is something new, or more to wait or to pay for. PATCH: words only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from bascule.contract.inclusion import TOO_INTRICATE, Narrowing, narrowings
from bascule.contract.keywords import Node, Part, SchemaTree, is_schema, same
from bascule.contract.model import Contract
from bascule.contract.semver import Step, parse, step_between
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
        yield from _or_nothing(field, _schema_changes(field, old, new, given=False))


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
        yield from _or_nothing(field, _schema_changes(field, old, new, given=True))


def _or_nothing(field: str, changes: Iterator[Change]) -> list[Change]:
    return list(changes) or [Change(_PATCH, field, "it is written differently, and means the same")]


def _schema_changes(field: str, a: Node, b: Node, *, given: bool) -> Iterator[Change]:
    """Each place once: as what breaks callers if it does, as what is new otherwise.

    Arguments: what was accepted has to be accepted. Results (*given*): what comes now has to be what was promised.
    """
    tight, loose = (narrowings(b, a), narrowings(a, b)) if given else (narrowings(a, b), narrowings(b, a))
    old, new = SchemaTree(a).values(), SchemaTree(b).values()
    yield from (Change(_MAJOR, field, _narrower(each, given)) for each in tight)
    told = {each.path for each in tight}
    gone = "was optional in results, and is no longer in them" if given else "was taken, and is no longer"
    for path in sorted(_only_in(old, new) - told):
        yield Change(_MINOR if given else _MAJOR, field, f"{_name(path)} {gone}")
    fresh = _only_in(new, old) - told
    for path in sorted(fresh):
        yield Change(_MINOR, field, f"{_name(path)} is new{' in results' if given else ', and may be left out'}")
    known = {(each.path, each.keyword) for each in tight}
    for each in loose:
        if (each.path, each.keyword) not in known and each.path not in fresh and each.keyword != TOO_INTRICATE:
            yield Change(_MINOR, field, _wider(each, given))
    for path in [path for path in old if path in new]:
        yield from _words_changed(field, path, old[path], new[path], taken=not given)


def _only_in(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The outermost paths that only *one* has."""
    own = {path for path in one if path not in other}
    return {path for path in own if not any(path.startswith((f"{each}.", f"{each}[")) for each in own)}


def _words_changed(field: str, path: str, old: Sequence[Part], new: Sequence[Part], *, taken: bool) -> Iterator[Change]:
    before, after = _said(old, "default"), _said(new, "default")
    if taken and not same(before, after):
        step = _MINOR if not before else _MAJOR
        now = f"is {_json(after[0])} now" if after else "is not said any more"
        was = f", and was {_json(before[0])}" if before else ""
        yield Change(step, field, f"what {_name(path)} is when it is left out {now}{was}")
    changed = [word for word in ("title", "description", "examples") if not same(_said(old, word), _said(new, word))]
    if changed:
        yield Change(_PATCH, field, f"{' and '.join(changed)} of {_name(path)} changed")
    if not _said(old, "deprecated") and True in _said(new, "deprecated"):
        yield Change(_MINOR, field, f"{_name(path)} is deprecated")


def _said(parts: Sequence[Part], keyword: str) -> list[Any]:
    return [part[keyword] for part in parts if keyword in part]


def _name(path: str) -> str:
    return f"`{path}`" if path else "the whole"


def _json(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}…"


def _narrower(each: Narrowing, given: bool) -> str:
    """What breaks. *given*: for results it is the old schema that is the narrower one."""
    name = _name(each.path)
    match each.keyword:
        case "required":
            return f"{name} may be missing from results now" if given else f"{name} became required"
        case "additionalProperties" if each.after is False and given:
            return f"results hold {name if each.path else 'properties'} that the old schema shuts out"
        case "additionalProperties" if each.after is False:
            own = each.path and not each.path.endswith("*")
            return f"{name}: properties that are not declared are refused now" if not own else f"{name} is refused now"
        case str(keyword) if keyword == TOO_INTRICATE:
            return f"{name} cannot be compared, so it may be narrower"
        case "unevaluatedProperties" | "unevaluatedItems" | "$dynamicRef" | "$recursiveRef":
            return f"{name} uses `{each.keyword}`, which cannot be compared"
        case "false":
            return f"{name} is refused now"
    return f"{name}: {_values(each, given)}{_which_is(each, 'wider' if given else 'narrower')}"


def _wider(each: Narrowing, given: bool) -> str:
    name = _name(each.path)
    if each.keyword == "required":
        return f"{name} is always in results now" if given else f"{name} is no longer required"
    if each.keyword == "additionalProperties" and each.after is False:
        return f"{name}: properties that are not declared are {'no longer given' if given else 'let pass now'}"
    return f"{name}: {_values(each, not given)}{_which_is(each, 'narrower' if given else 'wider')}"


def _which_is(each: Narrowing, word: str) -> str:
    return "" if each.keyword in ("enum", "const") and each.before else f", which is {word}"


def _values(each: Narrowing, turned: bool) -> str:
    """`maximum is 100, and was 1000`; *turned* when what is narrower was there before."""
    now, was = (each.before, each.after) if turned else (each.after, each.before)
    if each.keyword in ("enum", "const") and isinstance(each.before, list):
        gone = ", ".join(map(_json, each.before))
        return f"{gone} {'is new among its values' if turned else 'is no longer one of its values'}"
    said = f"`{each.keyword}` is {_json(now)}" if now is not None else f"there is no `{each.keyword}`"
    return f"{said}, and was {_json(was)}" if was is not None else f"{said} now"


# ---- everything else -----------------------------------------------------------------------------


def _description(a: Contract, b: Contract) -> Iterator[Change]:
    if a.description != b.description:
        yield Change(_PATCH, "description", "the description changed")


def _side_effect(a: Contract, b: Contract) -> Iterator[Change]:
    if b.side_effect and not a.side_effect:
        yield Change(_MAJOR, "side_effect", "it has a side effect now: what read before writes")
    elif a.side_effect and not b.side_effect:
        yield Change(_MINOR, "side_effect", "it has no side effect any more")
    if a.idempotent and not b.idempotent:
        yield Change(_MAJOR, "idempotent", "it is no longer idempotent: who repeats a call does it twice")
    elif b.idempotent and not a.idempotent:
        yield Change(_MINOR, "idempotent", "it is idempotent now")
    if b.require_key and not a.require_key:
        yield Change(_MAJOR, "require_key", "calls without an idempotency key are refused now")
    elif a.require_key and not b.require_key:
        yield Change(_MINOR, "require_key", "calls need no idempotency key any more")


def _gate(a: Contract, b: Contract) -> Iterator[Change]:
    old, new = a.confirm_gate, b.confirm_gate
    if new is not None and old is None:
        yield Change(_MAJOR, "confirm_gate", "a person has to confirm it now")
    elif old is not None and new is None:
        yield Change(_MINOR, "confirm_gate", "nobody has to confirm it any more")
    elif old is not None and new is not None and old.when != new.when:
        step = _MINOR if old.when is None else _MAJOR
        yield Change(
            step, "confirm_gate", f"a person has to confirm it {_when(new.when)}, and before {_when(old.when)}"
        )
    elif old is not None and new is not None and old.message != new.message:
        yield Change(_PATCH, "confirm_gate", "the words of the question changed")
    if old is not None and new is not None and old.four_eyes != new.four_eyes:
        step, said = (_MAJOR, "no longer counts") if new.four_eyes else (_MINOR, "counts now")
        yield Change(step, "confirm_gate", f"the yes of the person at the calling client {said}")


def _when(condition: str | None) -> str:
    return "always" if condition is None else f"when {condition}"


def _scope(a: Contract, b: Contract) -> Iterator[Change]:
    old, new = a.security_scope, b.security_scope
    lacking = [scope for scope in new if not any(covers(held, scope) for held in old)]
    if lacking:
        yield Change(_MAJOR, "security_scope", f"callers need {' and '.join(lacking)} now")
    elif set(old) != set(new):
        yield Change(_MINOR, "security_scope", f"{' and '.join(new) or 'no scope'} is enough now")


def _checks(a: Contract, b: Contract) -> Iterator[Change]:
    for field, what in (("validate_arguments", "arguments"), ("validate_results", "results")):
        old, new = getattr(a, field), getattr(b, field)
        if old != new:
            step = _MAJOR if new == "block" else _MINOR if old == "block" else _PATCH
            now = {"block": "refused", "warn": "warned of", "off": "let pass"}[new]
            yield Change(step, field, f"{what} that do not fit the schema are {now} now")


def _limits(a: Contract, b: Contract) -> Iterator[Change]:
    yield from _less(a, b, "max_timeout_seconds", _MAJOR, "a call may take {} s, and could take {}")
    yield from _less(a, b, "max_concurrent", _MINOR, "{} calls at once, and it was {}")
    for field in ("rate_limit", "total_rate_limit"):
        old, new = getattr(a, field), getattr(b, field)
        if old == new:
            continue
        who = "a caller" if field == "rate_limit" else "all callers together"
        # A refused call may be made again a little later: it is slower, and not wrong.
        yield Change(_MINOR, field, f"{who} may make {new or 'any number of calls'}, and before {old or 'any number'}")


def _less(a: Contract, b: Contract, field: str, step: Step, words: str) -> Iterator[Change]:
    """A bound that is tighter is a change of *step*; a wider one is MINOR."""
    old, new = getattr(a, field), getattr(b, field)
    if old != new:
        tighter = new is not None and (old is None or new < old)
        shown = [f"{each:g}" if each is not None else "any number of" for each in (new, old)]
        yield Change(step if tighter else _MINOR, field, words.format(*shown).replace("any number of s", "any time"))


def _promises(a: Contract, b: Contract) -> Iterator[Change]:
    old, new = a.latency_budget_ms, b.latency_budget_ms
    if old != new:
        worse = old is not None and (new is None or new > old)
        shown = [f"{each:g} ms" if each is not None else "not said" for each in (new, old)]
        yield Change(_MINOR if worse else _PATCH, "latency_budget_ms", f"its latency is {shown[0]}, and was {shown[1]}")
    if a.slo != b.slo:
        yield Change(_MINOR, "slo", "what is promised of its success and latency changed")
    if a.cost_model != b.cost_model:
        yield Change(_MINOR, "cost_model", f"it costs {_cost(b)}, and did {_cost(a)}")


def _cost(contract: Contract) -> str:
    cost = contract.cost_model
    return "nothing that is said" if cost is None else f"{cost.price_usd:g} USD a {cost.unit}"


def _cache(a: Contract, b: Contract) -> Iterator[Change]:
    old, new = a.cache_policy, b.cache_policy
    if old == new:
        return
    if new is None:
        yield Change(_PATCH, "cache_policy", "results are not cached any more")
    elif old is None:
        yield Change(_MINOR, "cache_policy", f"a result may be {new.ttl_seconds} s old now")
    elif missing := _no_longer_told_apart(old.cache_key_fields, new.cache_key_fields):
        yield Change(_MAJOR, "cache_policy", f"calls that differ in {missing} share a result now")
    else:
        step = _MINOR if new.ttl_seconds > old.ttl_seconds else _PATCH
        yield Change(step, "cache_policy", f"a result may be {new.ttl_seconds} s old, and before {old.ttl_seconds}")


def _no_longer_told_apart(old: Sequence[str], new: Sequence[str]) -> str:
    """Arguments that told calls apart in the cache; none named means all of them."""
    if not new:
        return ""
    gone = [f"`{name}`" for name in old if name not in new]
    return " or ".join(gone) if old else f"anything but {' and '.join(f'`{name}`' for name in new)}"


def _guardrails(a: Contract, b: Contract) -> Iterator[Change]:
    old, new = ([_without_words(rule) for rule in each.guardrails] for each in (a, b))
    for rule in [rule for rule in new if rule not in old]:
        warns = rule.warn is not None or rule.effect == "warn"
        yield Change(_MINOR if warns else _MAJOR, "guardrails", f"there is a new rule: {_rule(rule)}")
    for rule in [rule for rule in old if rule not in new]:
        yield Change(_MINOR, "guardrails", f"a rule is gone: {_rule(rule)}")
    if old == new and a.guardrails != b.guardrails:
        yield Change(_PATCH, "guardrails", "what callers are told by the rules changed")


def _without_words(rule: Guardrail) -> Guardrail:
    return msgspec.structs.replace(rule, message="")


def _rule(rule: Guardrail) -> str:
    said = {name: value for name, value in msgspec.to_builtins(rule).items() if value and name != "effect"}
    return ", ".join(f"{name} {value if isinstance(value, str) else _json(value)}" for name, value in said.items())


_SERVED: Final = ("active", "deprecated")


def _status(a: Contract, b: Contract) -> Iterator[Change]:
    if a.status != b.status:
        stops = a.status in _SERVED and b.status not in _SERVED
        yield Change(_MAJOR if stops else _MINOR, "status", f"it is {b.status} now, and was {a.status}")
    if b.deprecation is not None and a.deprecation is None:
        until = f": it is gone after {b.deprecation.sunset}" if b.deprecation.sunset else ""
        yield Change(_MINOR, "deprecation", f"it is deprecated{until}")
    elif a.deprecation != b.deprecation:
        sooner = _sunset(b) < _sunset(a)
        yield Change(_MINOR if sooner else _PATCH, "deprecation", "what is said of its end changed")


def _sunset(contract: Contract) -> str:
    return (contract.deprecation and contract.deprecation.sunset) or "9999-12-31"


def _owners(a: Contract, b: Contract) -> Iterator[Change]:
    fields = ("owner_team", "owner_email", "security_level", "compliance_status", "last_security_review")
    for field in fields:
        if getattr(a, field) != getattr(b, field):
            yield Change(_PATCH, field, f"{field} changed")


_COMPARISONS: Final[Sequence[Callable[[Contract, Contract], Iterator[Change]]]] = (
    *(_input, _output, _description, _side_effect, _gate, _scope, _checks, _limits),
    *(_promises, _cache, _guardrails, _status, _owners),
)
