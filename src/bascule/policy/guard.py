"""Guardrails, compiled for one tool, and their verdict on one call. PURE.

A rule that cannot decide refuses: an error, a value of the wrong type, a missing member, a list too long to
look at. What rules see is exactly what is forwarded; what they do not read is not converted for them.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from bascule.errors import ConfigInvalid
from bascule.policy import ready
from bascule.policy.expression.check import FORBIDDEN, Reads, check
from bascule.policy.expression.engine import Program, check_pattern, compile_program, context_of, truth
from bascule.policy.facts import Facts, Undecidable
from bascule.policy.guardrails import CONDITIONS, Effect, Guardrail
from bascule.policy.template import BadTemplate, Template, parse_template

if TYPE_CHECKING:
    from cel import Context

Ruling: TypeAlias = Literal["allow", "warn", "ask", "deny"]

# 64 Ki characters: no field that a rule reads is longer in earnest, and `matches` over more takes milliseconds.
MAX_TEXT: Final = 65_536
# 20,000 values are converted in about 5 ms, during which nothing else runs in this process.
MAX_VALUES: Final = 20_000
MAX_TEXTS: Final = 1_048_576  # characters of all texts in one collection
MAX_DEPTH: Final = 64
_STRENGTH: Final[Mapping[Ruling, int]] = {"allow": 0, "warn": 1, "ask": 2, "deny": 3}


class Verdict(msgspec.Struct, frozen=True):
    """What the rules say of one call: *rule* is the one that said it, *message* is for the caller."""

    effect: Ruling
    rule: str = ""  # such as `guardrails.2: deny args.amount > 10000`
    message: str = ""
    warnings: tuple[str, ...] = ()


ALLOWED: Final = Verdict("allow")


class Expression(msgspec.Struct, frozen=True):
    """A CEL condition that has been checked and compiled."""

    source: str
    program: Program
    reads: Reads
    max_elements: int | None  # of any collection that it reads, where it has a macro

    def holds(self, view: "View") -> bool:
        """Raises Undecidable."""
        if self.max_elements is not None and view.lengths and view.longest(self.reads) > self.max_elements:
            raise Undecidable(f"a list has more than {self.max_elements} elements")
        return truth(self.program, view.context)


class Rule(msgspec.Struct, frozen=True):
    """One guardrail, compiled: exactly one of *expression* and *condition* is there."""

    place: str  # such as `guardrails.2`
    text: str  # such as `deny args.amount > 10000`
    effect: Effect
    words: Template | None = None  # what the caller is told; None: words of our own
    expression: Expression | None = None
    condition: ready.Condition | None = None

    @property
    def name(self) -> str:
        return f"{self.place}: {self.text}"

    def finds(self, facts: Facts, view: "View | None") -> str | None:
        """What the caller is told, None where the rule does not apply. Raises Undecidable."""
        if self.expression is not None and view is not None:
            found = f"{self.place} applies to this call" if self.expression.holds(view) else None
        else:
            found = self.condition(facts) if self.condition is not None else None
        return self.words.render(facts) if found and self.words else found


class Guard(msgspec.Struct, frozen=True):
    """All guardrails of one tool; *warnings* are for the operator who wrote them."""

    rules: tuple[Rule, ...] = ()
    reads: Reads = msgspec.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def roots(self) -> frozenset[str]:
        """What has to be among the facts: all that expressions read and messages show, such as `session`."""
        shown = (path[0] for rule in self.rules if rule.words for path in rule.words.paths)
        return frozenset((*self.reads, *shown))

    def judge(self, facts: Facts) -> Verdict:
        """The strongest of what the rules say, deny before ask before warn. Never raises."""
        verdict, view = ALLOWED, None
        warned: tuple[str, ...] = ()
        for rule in self.rules:
            try:
                if view is None and rule.expression is not None:
                    view = View(self.reads, facts)
                found = rule.finds(facts, view)
            except Undecidable as reason:
                return Verdict("deny", rule.name, f"{rule.place} cannot be decided: {reason}", warned)
            if found is None:
                continue
            if rule.effect == "deny":
                return Verdict("deny", rule.name, found, warned)
            if rule.effect == "warn":
                warned = (*warned, found)
            if _STRENGTH[rule.effect] > _STRENGTH[verdict.effect]:
                verdict = Verdict(rule.effect, rule.name, found)
        return msgspec.structs.replace(verdict, warnings=warned) if warned else verdict


class Gate(msgspec.Struct, frozen=True):
    """When a person is asked, and with which words."""

    place: str
    question: Template
    expression: Expression | None = None  # None: always
    reads: Reads = msgspec.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def judge(self, facts: Facts) -> Verdict:
        """`ask` with the question, `allow`, or `deny` where it cannot be decided. Never raises."""
        source = "always" if self.expression is None else self.expression.source
        name = f"{self.place}: {source}"
        try:
            if self.expression is None or self.expression.holds(View(self.reads, facts)):
                return Verdict("ask", name, self.question.render(facts))
        except Undecidable as reason:
            return Verdict("deny", name, f"{self.place} cannot be decided: {reason}")
        return ALLOWED


# ---- what expressions see


class View:
    """The facts that expressions read, converted once for all of them, with how long the collections in them are."""

    __slots__ = ("context", "lengths")

    def __init__(self, reads: Reads, facts: Facts) -> None:
        self.lengths: dict[tuple[str, str], int] = {}
        args: dict[str, Any] = {}
        lazy: dict[str, Any] = {}
        for root, names in reads.items():
            if root == "args":
                args["args"] = self._members(root, {} if facts.args is None else facts.args, names)
            elif root == "now":
                lazy["now"] = facts.now
            else:
                lazy[root] = self._members(root, getattr(facts, root), names)
        self.context: Context = context_of(args, lazy)

    def _members(self, root: str, value: Any, names: frozenset[str] | None) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise Undecidable(f"`{root}` is no object")
        if names is None:
            self.lengths[root, _ALL] = longest(dict(value))
        seen = {}
        for name in value if names is None else names:
            # A member that is not there is no error yet: the rule may ask for it with `has`.
            if name in value:
                seen[name] = found = value[name]
                kind = type(found)
                if kind is str:
                    if len(found) > MAX_TEXT:
                        raise Undecidable(_TOO_LONG)
                elif kind is list or kind is dict:
                    self.lengths[root, name] = max(longest(found), self.lengths.get((root, name), 0))
                elif kind is not int and kind is not float and kind is not bool and found is not None:
                    raise Undecidable(f"`{root}` holds what is not JSON")
        return seen

    def longest(self, reads: Reads) -> int:
        """How many elements the longest collection has that an expression with *reads* can go through."""
        return max(
            (length for (root, name), length in self.lengths.items() if root in reads and _is_read(name, reads[root])),
            default=0,
        )


_ALL: Final = "*"  # a root as a whole; where a member has that name, the longer of the two counts
_TOO_LONG: Final = f"a text is longer than {MAX_TEXT} characters"


def _is_read(name: str, names: frozenset[str] | None) -> bool:
    return names is None or name in names


def longest(value: Any) -> int:
    """How many elements the longest collection in *value* has. Raises Undecidable for what is too much to convert."""
    most = seen = size = 0
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is str:
                size += len(one)
                if len(one) > MAX_TEXT or size > MAX_TEXTS:
                    raise Undecidable(_TOO_LONG)
            elif kind is list or kind is dict:
                most = max(most, len(one))
                seen += len(one)
                if seen > MAX_VALUES:
                    raise Undecidable(f"it would have to look at more than {MAX_VALUES} values")
                below += one if kind is list else one.values()
            elif kind is not int and kind is not float and kind is not bool and one is not None:
                raise Undecidable("a value is not JSON")
        if not below:
            return most
        level = below
    raise Undecidable(f"values are nested more than {MAX_DEPTH} deep")


# ---- compiling


def compile_guards(
    guardrails: Sequence[Guardrail], schema: Mapping[str, Any] | None, where: str = "guardrails"
) -> Guard:
    """The guard of a tool with the input *schema*; *where* is the dotted path of the list, such as `guardrails`.

    Raises ConfigInvalid, with the field (`guardrails.1.deny`) and without a place, for a rule that is wrong.
    """
    warnings: list[str] = []
    rules = tuple(_rule(rule, schema, f"{where}.{at}", warnings) for at, rule in enumerate(guardrails))
    return Guard(rules, _together([rule.expression for rule in rules if rule.expression]), tuple(warnings))


def compile_gate(when: str | None, message: str, schema: Mapping[str, Any] | None, where: str = "confirm_gate") -> Gate:
    """The gate that closes where *when* holds, or for every call where that is None.

    Raises ConfigInvalid as `compile_guards` does.
    """
    warnings: list[str] = []
    question = _words(message or "Run {tool.id}?", schema, f"{where}.message", warnings)
    if when is None:
        return Gate(where, question, warnings=tuple(warnings))
    expression = _expression(when, schema, f"{where}.when", warnings)
    return Gate(where, question, expression, expression.reads, tuple(warnings))


def explain(guard: Guard, facts: Facts) -> list[tuple[str, str]]:
    """(rule, outcome) for every rule, also for those after a deny.

    An outcome is `does not apply`, `ask: …` with the effect and its message, or `deny, cannot be decided: …`.
    """
    outcomes = []
    for rule in guard.rules:
        try:
            found = rule.finds(facts, View(rule.expression.reads, facts) if rule.expression else None)
        except Undecidable as reason:
            outcomes.append((rule.name, f"deny, cannot be decided: {reason}"))
        else:
            outcomes.append((rule.name, "does not apply" if found is None else f"{rule.effect}: {found}"))
    return outcomes


def _rule(rule: Guardrail, schema: Mapping[str, Any] | None, place: str, warnings: list[str]) -> Rule:
    name = next(name for name in CONDITIONS if getattr(rule, name) is not None)
    words = _words(rule.message, schema, f"{place}.message", warnings) if rule.message else None
    effects: tuple[Effect, ...] = ("deny", "ask", "warn")
    for effect in effects:
        if effect == name:
            source: str = getattr(rule, name)
            expression = _expression(source, schema, f"{place}.{name}", warnings)
            return Rule(place, f"{effect} {source}", effect, words, expression)
    try:
        text, condition = ready.condition_of(rule)
    except ready.BadRule as error:
        raise ConfigInvalid(str(error), field=f"{place}.{name}") from None
    if odd := _out_of_reach(rule, schema):
        warnings.append(f"{place}.{name}: {odd}")
    return Rule(place, f"{rule.effect} {text}", rule.effect, words, condition=condition)


def _out_of_reach(rule: Guardrail, schema: Mapping[str, Any] | None) -> str:
    """What is odd about where a ready rule looks: a member that the schema allows nowhere. "" if nothing is."""
    field, known = ready.field_of(rule), (schema or {}).get("properties")
    if field is None or not isinstance(known, Mapping) or (schema or {}).get("additionalProperties") is not False:
        return ""
    member = field.steps[0]
    if member in known or (schema or {}).get("patternProperties"):
        return ""
    near = get_close_matches(member, list(known), 1)
    advice = f"; did you mean `{near[0]}`?" if near else f"; it allows {', '.join(sorted(known)) or 'nothing'}"
    follows = "this never holds" if field.optional else "this refuses every call"
    return f"{follows}: the schema allows no `{member}`{advice}"


def _expression(source: str, schema: Mapping[str, Any] | None, field: str, warnings: list[str]) -> Expression:
    checked = check(source, schema)
    if checked.problems:
        raise ConfigInvalid("\n".join(problem.shown(source) for problem in checked.problems), field=field)
    warnings += (f"{field}: {warning.shown(source)}" for warning in checked.warnings)
    try:
        program = compile_program(source)
        for pattern in checked.patterns:
            check_pattern(pattern)
    except ValueError as error:
        raise ConfigInvalid(f"not a rule in CEL: {error}", field=field) from None
    return Expression(source, program, checked.reads, checked.max_elements)


def _words(message: str, schema: Mapping[str, Any] | None, field: str, warnings: list[str]) -> Template:
    """The template, each of its places checked as a rule would be."""
    try:
        template = parse_template(message)
    except BadTemplate as error:
        raise ConfigInvalid(str(error), field=field) from None
    for path in template.paths:
        # A place may be empty: what is not there is shown as "(none)", so that `has` need not be asked.
        place = path[0] + "".join(f"[{name!r}]" for name in path[1:])
        checked = check(place, schema, gives="")
        shown = f"{{{'.'.join(path)}}}"
        if checked.problems:
            raise ConfigInvalid(f"{shown}: {checked.problems[0].message}", field=field)
        never = (each.message for each in checked.warnings if each.message.startswith(FORBIDDEN))
        warnings += (f"{field}: {shown}: {message}" for message in never)
    return template


def _together(expressions: Sequence[Expression]) -> Reads:
    """All that any of *expressions* reads."""
    reads: dict[str, frozenset[str] | None] = {}
    for expression in expressions:
        for root, names in expression.reads.items():
            before = reads.get(root, frozenset())
            reads[root] = None if before is None or names is None else before | names
    return reads
