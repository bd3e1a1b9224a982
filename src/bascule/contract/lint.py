"""What a model or an operator will stumble over in contracts. PURE: today's date comes from the caller.

Blind tools say too little, fat ones do too much, chatty ones do too little each, token-heavy ones fill the
model's memory. Judgements are by rules of thumb; each says what it saw and how to mend it.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from enum import IntEnum
from typing import Any, Final, TypeAlias

import msgspec

from bascule.contract import wording
from bascule.contract.keywords import Part, SchemaTree, is_schema, list_of, members_of
from bascule.contract.model import Contract
from bascule.contract.template import placeholders
from bascule.errors import ConfigInvalid
from bascule.policy.guard import compile_gate, compile_guards

MAX_ARGUMENTS: Final = 10
MAX_MODES: Final = 4  # values of an `action`: from here on they are tools of their own
MAX_DEPTH: Final = 3  # of values inside of arguments
MAX_TOKENS: Final = 1_000  # of one definition
MAX_TOKENS_TOGETHER: Final = 12_000  # of all of one server
MIN_WORDS: Final = 5
CHATTY: Final = 3  # tools that each do a small part of one thing
REVIEW_AFTER: Final = timedelta(days=365)


class Level(IntEnum):
    HINT = 1
    WARNING = 2
    ERROR = 3


class Rule(msgspec.Struct, frozen=True):
    level: Level
    mend: str


_HINT, _WARNING, _ERROR = Level.HINT, Level.WARNING, Level.ERROR
RULES: Final[Mapping[str, Rule]] = {
    "placeholder": Rule(_ERROR, "write what is asked for there"),
    # what a model reads
    "name-style": Rule(_WARNING, "name it verb_noun, such as create_lead"),
    "description-missing": Rule(_ERROR, "say what it does, what changes by it, and when it fails"),
    "description-short": Rule(_WARNING, "say what it does, what it gives back, and when it fails"),
    "description-vague": Rule(_WARNING, "name what it works on and what comes out"),
    "description-verb": Rule(_WARNING, "begin with what it does: Creates …, Finds …"),
    "description-restates": Rule(_WARNING, "add what the name does not say: what comes back, limits, failures"),
    "description-failure": Rule(_HINT, "add a sentence: Fails if …"),
    "hidden-characters": Rule(_ERROR, "remove them; if a server sent them, do not trust it"),
    "injection": Rule(_ERROR, "describe the tool and give the model no orders; if a server sent it, do not trust it"),
    "other-tools": Rule(_WARNING, "leave the choice between tools to the model and to the operator"),
    # effects
    "side-effect-unsaid": Rule(_WARNING, "say in the description what changes, or write SIDE EFFECT"),
    "side-effect-unknown": Rule(_HINT, "say `side_effect: true` or `false`; until then it counts as true"),
    "side-effect-denied": Rule(_ERROR, "say `side_effect: true`, or give it the name of what it does"),
    "key-optional": Rule(_HINT, "say `require_key: true`, or `false` if doing it twice does no harm"),
    "cached-side-effect": Rule(_ERROR, "remove cache_policy: the second call would do nothing"),
    "cache-field": Rule(_ERROR, "name arguments of input_schema, or none for all of them"),
    "gate-missing": Rule(_ERROR, "add confirm_gate, or a guardrail that asks"),
    "gate-wrong": Rule(_ERROR, "mend the expression: as it is, Bascule does not start with it"),
    "guardrail-wrong": Rule(_ERROR, "mend the rule: as it is, Bascule does not start with it"),
    "guardrail-odd": Rule(_WARNING, "see whether the rule says what it should"),
    # schemas
    "contract-wrong": Rule(_ERROR, "mend it in the server, or do not trust the server"),
    "contract-orphan": Rule(_WARNING, "correct the id, or remove the contract"),
    "schema-invalid": Rule(_ERROR, "make it a JSON Schema; `bascule contract lint` will say when it is"),
    "schema-not-object": Rule(_ERROR, "say `type: object`: arguments have names"),
    "argument-undescribed": Rule(_WARNING, "give each a description, with an example or a format"),
    "required-missing": Rule(_WARNING, "name the arguments that are needed in `required`, give the others a default"),
    "schema-deep": Rule(_WARNING, "make it flatter: models lose their way in nested objects"),
    # blind, fat, chatty, token-heavy
    "blind-result": Rule(_WARNING, "add output_schema, with the properties that a caller needs next"),
    "blind-id": Rule(_WARNING, "give back the id of what was made or changed, so that it can be found again"),
    "fat-arguments": Rule(_WARNING, "split it by purpose, or leave out what has a good default"),
    "fat-modes": Rule(_WARNING, "make a tool of each: then each has its own scope, limits and description"),
    "fat-free-form": Rule(_WARNING, "declare its properties: neither a model nor a guardrail can know what goes in"),
    "chatty": Rule(_WARNING, "offer one tool that takes or gives them together"),
    "token-heavy-definition": Rule(_WARNING, "shorten descriptions, and leave out what is never used"),
    "token-heavy-result": Rule(_WARNING, "add maxItems, or an argument such as limit or cursor"),
    "token-heavy-server": Rule(_WARNING, "serve a part of it: every model reads all of this before its first word"),
    # scopes
    "scope-everything": Rule(_ERROR, "name what it needs, such as crm:write:lead"),
    "scope-wide": Rule(_WARNING, "name resource, action and modifier, such as crm:write:lead"),
    # what an operator needs
    "version-missing": Rule(_WARNING, "say which version this is, such as 1.0.0"),
    "timeout-missing": Rule(_WARNING, "add max_timeout_seconds"),
    "limit-missing": Rule(_WARNING, "add rate_limit, total_rate_limit or max_concurrent"),
    "latency-missing": Rule(_HINT, "add latency_budget_ms: planners choose by it"),
    "latency-beyond-timeout": Rule(_WARNING, "make max_timeout_seconds longer than latency_budget_ms"),
    "cost-missing": Rule(_HINT, "add cost_model, with price_usd: 0 if it costs nothing"),
    "owner-missing": Rule(_WARNING, "add owner_team and owner_email"),
    "level-missing": Rule(_HINT, "add security_level: LOW, MEDIUM or HIGH"),
    "review-missing": Rule(_HINT, "have it reviewed and add last_security_review"),
    "review-old": Rule(_WARNING, "review it again, and say when"),
    "date-wrong": Rule(_ERROR, "write it as YYYY-MM-DD"),
    "deprecation-missing": Rule(_WARNING, "add deprecation, with sunset, replaced_by and migration"),
    "sunset-over": Rule(_WARNING, "say `status: gone`, or a later date"),
}


class Subject(msgspec.Struct, frozen=True):
    """What is looked at. *place* knows where a dotted field stands, such as `crm.yaml:12`."""

    contract: Contract
    place: Callable[[str], str]
    governed: bool = True  # somebody wrote a contract for it: then what operators need is looked for as well


class Finding(msgspec.Struct, frozen=True):
    rule: str
    level: str  # "error", "warning", "hint"
    id: str
    place: str
    message: str
    mend: str


Seen: TypeAlias = tuple[str, str, str]  # rule, dotted field, what was seen


def lint(subjects: Sequence[Subject], today: date) -> list[Finding]:
    """All findings, in the order of *subjects*; what concerns several of them comes last."""
    found = []
    for subject in subjects:
        for rule, field, message in _of_one(subject, today):
            found.append(finding(rule, subject.contract.id, subject.place(field), message))
    return found + list(_of_all(subjects))


def finding(rule: str, id: str, place: str, message: str) -> Finding:
    return Finding(rule, RULES[rule].level.name.lower(), id, place, message, RULES[rule].mend)


def _of_one(subject: Subject, today: date) -> Iterator[Seen]:
    contract = subject.contract
    left = set(placeholders(_texts(contract)))
    yield from (("placeholder", field, f"{field} is not written yet") for field in sorted(left))
    checks: list[Iterator[Seen]] = [_hostile(contract), _schemas(contract)]
    # A document without any of these leaves all of them to the server.
    speaks = contract.description or contract.input_schema or contract.output_schema
    if speaks or not subject.governed:
        checks.append(_described(contract))
    if contract.kind == "tool":
        checks += [_named(contract), _shaped(contract), _heavy(contract), _effects(contract)]
        checks += [_answered(contract)] if speaks else []
    if subject.governed:
        checks += [_rules(contract), _scoped(contract), _operated(contract), _dated(contract, today)]
    for check in checks:
        yield from (seen for seen in check if seen[1] not in left)


def _texts(contract: Contract) -> Mapping[str, Any]:
    """All that is said in a contract, by its fields."""
    said = msgspec.to_builtins(contract)
    return {name: value for name, value in said.items() if name not in ("sources", "id", "kind")}


# ---- what a model reads --------------------------------------------------------------------------


def _hostile(contract: Contract) -> Iterator[Seen]:
    for field, text in _strings(_texts(contract)):
        if unseen := list(wording.hidden(text)):
            yield "hidden-characters", field, f"{field} holds {', '.join(unseen[:3])}, which people do not see"
        if said := wording.order(text):
            yield "injection", field, f"{field} tells the model {said[:80]!r}"
        elif said := wording.order_about_tools(text):
            yield "other-tools", field, f"{field} speaks of other tools: {said[:80]!r}"


def _strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            here = f"{path}.{name}" if path else str(name)
            if path:
                yield here, str(name)
            yield from _strings(inner, here)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _strings(inner, f"{path}.{number}")


def _described(contract: Contract) -> Iterator[Seen]:
    text, field = contract.description.strip(), "description"
    if not text and contract.kind != "tool":  # there, name and title may do
        yield "description-short", field, f"nothing is said of what this {contract.kind} is for"
        return
    if not text:
        yield "description-missing", field, "there is no description: a model has only the name to go by"
        return
    if len(text.split()) < MIN_WORDS:
        yield "description-short", field, f"{text!r} is all that a model learns"
    if found := wording.VAGUE.search(text):
        yield "description-vague", field, f"{found[0]!r} could be anything"
    if contract.kind != "tool" or not wording.is_english(text):
        return
    if not wording.has_verb(text):
        yield "description-verb", field, "no word in the description says what it does"
    if wording.restates(text, contract.name):
        yield "description-restates", field, "the description says no more than the name"
    if not wording.says_when_it_fails(text):
        yield "description-failure", field, "nothing is said of when it fails, or of its limits"


def _named(contract: Contract) -> Iterator[Seen]:
    name, parts = contract.name, wording.words(contract.name)
    if not re.fullmatch(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+", name):
        yield "name-style", "tool", f"{name!r} is not verb_noun"
    elif parts[0] not in wording.VERBS and parts[-1] in wording.VERBS:
        yield "name-style", "tool", f"{name!r} begins with the noun"


# ---- effects and rules ---------------------------------------------------------------------------


def _effects(contract: Contract) -> Iterator[Seen]:
    said = "side_effect" in contract.sources
    verb = (wording.words(contract.name) or [""])[0]
    if said and not contract.side_effect and verb in wording.SURELY_WRITING:
        yield "side-effect-denied", "side_effect", f"it says that it has no side effect, and its name says {verb!r}"
    text = contract.description
    if said and contract.side_effect and text and wording.is_english(text) and not wording.says_that_it_writes(text):
        yield "side-effect-unsaid", "description", "it has a side effect, and the description does not say so"


def _rules(contract: Contract) -> Iterator[Seen]:
    said, writes = contract.sources, contract.side_effect
    if contract.kind == "tool" and "side_effect" not in said:
        yield "side-effect-unknown", "", "nothing says whether it has a side effect"
    if contract.cache_policy is not None and writes:
        yield "cached-side-effect", "cache_policy", "results of a tool with a side effect are cached"
    elif contract.cache_policy is not None and contract.input_schema is not None:
        for name in contract.cache_policy.cache_key_fields:
            if name.partition(".")[0] not in members_of(contract.input_schema, "properties"):
                yield "cache-field", "cache_policy", f"there is no argument {name!r} to tell calls apart by"
    if "side_effect" in said and writes and not contract.idempotent and "require_key" not in said:
        yield "key-optional", "idempotent", "a repeated call does it twice, and calls need no idempotency key"
    asks = any(rule.ask is not None or rule.effect == "ask" for rule in contract.guardrails)
    if writes and contract.security_level == "HIGH" and contract.confirm_gate is None and not asks:
        yield "gate-missing", "security_level", "it is HIGH and has a side effect, and nobody is asked"
    yield from _expressions(contract)


def _expressions(contract: Contract) -> Iterator[Seen]:
    schema = contract.input_schema if contract.input_schema and is_schema(contract.input_schema) else None
    for number, rule in enumerate(contract.guardrails):
        field = f"guardrails.{number}"
        try:
            guard = compile_guards([rule], schema)
        except ConfigInvalid as error:
            yield "guardrail-wrong", field, _without_place(error, "guardrails.0", field)
        else:
            yield from (("guardrail-odd", field, each.replace("guardrails.0", field, 1)) for each in guard.warnings)
    if (gate := contract.confirm_gate) is not None:
        try:
            compiled = compile_gate(gate.when, gate.message, schema)
        except ConfigInvalid as error:
            yield "gate-wrong", error.field, str(error)
        else:
            yield from (("guardrail-odd", "confirm_gate", each) for each in compiled.warnings)


def _without_place(error: ConfigInvalid, before: str, field: str) -> str:
    return str(error).replace(before, field, 1)


# ---- schemas -------------------------------------------------------------------------------------


def _schemas(contract: Contract) -> Iterator[Seen]:
    for field in ("input_schema", "output_schema"):
        schema = getattr(contract, field)
        if schema is not None and not is_schema(schema):
            yield "schema-invalid", field, f"{field} is not a JSON Schema"
    if contract.input_schema is not None and contract.input_schema.get("type") != "object":
        yield "schema-not-object", "input_schema", "input_schema does not say `type: object`"


def _shaped(contract: Contract) -> Iterator[Seen]:
    schema = contract.input_schema
    if schema is None or not is_schema(schema):
        return
    values = SchemaTree(schema).values()
    names = list(members_of(schema, "properties"))
    silent = [path for path, parts in values.items() if _is_named(path) and not _said(parts, "description")]
    if silent:
        yield "argument-undescribed", "input_schema.properties", f"nothing is said of {_listed(silent)}"
    if names and not list_of(schema, "required") and not any(_said(values.get(name, ()), "default") for name in names):
        yield "required-missing", "input_schema", "no argument is required and none has a default"
    deepest = max(values, key=_depth)
    if _depth(deepest) > MAX_DEPTH:
        yield "schema-deep", "input_schema", f"`{deepest}` is {_depth(deepest)} deep"
    yield from _fat(names, values)


def _fat(names: Sequence[str], values: Mapping[str, Sequence[Part]]) -> Iterator[Seen]:
    if len(names) > MAX_ARGUMENTS:
        yield "fat-arguments", "input_schema.properties", f"it takes {len(names)} arguments"
    for name in names:
        field, parts = f"input_schema.properties.{name}", values.get(name, ())
        modes = [value for part in parts for value in list_of(part, "enum")]
        if name.lower() in _MODES and len(modes) >= MAX_MODES:
            yield "fat-modes", field, f"`{name}` chooses between {len(modes)} tools: {_listed(list(map(str, modes)))}"
        if _free(parts):
            yield "fat-free-form", field, f"anything goes into `{name}`"


_MODES: Final = frozenset({"action", "mode", "operation", "op", "command", "cmd", "method", "task", "function"})


def _free(parts: Sequence[Part]) -> bool:
    """Whether nothing at all is said of a value, or of the properties of an object."""
    if not any(part.keys() & _SAYING for part in parts):
        return True
    objects = any(part.get("type") == "object" for part in parts)
    return objects and not any(part.keys() & _SAYING_OF_OBJECTS for part in parts)


_SAYING: Final = frozenset({"type", "enum", "const", "$ref", "anyOf", "oneOf", "properties", "items", "if"})
_SAYING_OF_OBJECTS: Final = frozenset({
    *("properties", "patternProperties", "propertyNames", "$ref", "anyOf", "oneOf", "enum", "const"),
    *("additionalProperties",),
})  # fmt: skip


def _is_named(path: str) -> bool:
    return bool(path) and not path.endswith(("[]", "*"))


def _depth(path: str) -> int:
    return len([part for part in re.split(r"[.\[]", path) if part])


def _said(parts: Sequence[Part], keyword: str) -> bool:
    return any(part.get(keyword) not in (None, "") for part in parts)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


# ---- results and tokens --------------------------------------------------------------------------

_NAMES_IT: Final = re.compile(
    r"(?:^|[._])(?:id|ids|uri|url|key|number|ref|reference|path|name|slug|sha)$", re.IGNORECASE
)
_NAMES_IT_IN_CAMEL: Final = re.compile(r"[a-z](?:Id|Ids|Uri|Url|Key|Number|Ref|Path|Name)$")
_PAGING: Final = frozenset({
    *("limit", "cursor", "page", "offset", "max_results", "page_size", "per_page", "top", "first", "count", "size"),
    *("maxresults", "pagesize", "perpage", "page_token", "pagetoken", "next_cursor", "nextcursor", "max", "n", "k"),
})  # fmt: skip


def _answered(contract: Contract) -> Iterator[Seen]:
    schema = contract.output_schema
    if schema is None:
        yield "blind-result", "output_schema", "there is no output_schema: what comes back is anybody's guess"
        return
    if not is_schema(schema):
        return
    paths = [path for path in SchemaTree(schema).values() if path]
    if not paths:
        yield "blind-result", "output_schema", "output_schema says nothing of what comes back"
    elif contract.side_effect and "side_effect" in contract.sources and not any(map(_names_it, paths)):
        yield "blind-id", "output_schema", "nothing in the result names what was made or changed"


def _names_it(path: str) -> bool:
    return bool(_NAMES_IT.search(path) or _NAMES_IT_IN_CAMEL.search(path))


def _heavy(contract: Contract) -> Iterator[Seen]:
    if (tokens := tokens_of(contract)) > MAX_TOKENS:
        yield "token-heavy-definition", "", f"its definition takes about {tokens} tokens of every conversation"
    arguments = {name.lower() for name in members_of(contract.input_schema or {}, "properties")}
    if arguments & _PAGING or contract.output_schema is None or not is_schema(contract.output_schema):
        return
    for path, parts in SchemaTree(contract.output_schema).values().items():
        if any(_is_list(part) for part in parts) and not any("maxItems" in part for part in parts):
            name = f"`{path}`" if path else "the result"
            yield "token-heavy-result", "output_schema", f"{name} may be a list of any length"
            return


def _is_list(part: Part) -> bool:
    kind = part.get("type")
    return kind == "array" or (isinstance(kind, list) and "array" in kind)


def tokens_of(contract: Contract) -> int:
    """About how many tokens a model spends on reading this definition: four bytes of JSON make one."""
    text = msgspec.json.encode([contract.name, contract.description, contract.input_schema, contract.output_schema])
    return len(text) // 4


# ---- what an operator needs ----------------------------------------------------------------------


def _scoped(contract: Contract) -> Iterator[Seen]:
    if "security_scope" not in contract.sources or contract.sources["security_scope"] == "derived":
        return
    for scope in contract.security_scope:
        resource, *rest = scope.split(":")
        if resource == "*":
            yield "scope-everything", "security_scope", f"{scope} is the scope of everything"
        elif not rest or "*" in rest:
            yield "scope-wide", "security_scope", f"{scope} is more than one tool can need"
        elif len(rest) == 1 and rest[0] not in ("read", "list", "get"):
            yield "scope-wide", "security_scope", f"{scope} allows every kind of {rest[0]}"


def _operated(contract: Contract) -> Iterator[Seen]:
    if "version" not in contract.sources:
        yield "version-missing", "", "it has no version, so nobody can say what they rely on"
    if not (contract.owner_team and contract.owner_email):
        yield "owner-missing", "", "nobody is named who answers for it"
    if contract.kind != "tool":
        return
    timeout, latency = contract.max_timeout_seconds, contract.latency_budget_ms
    if contract.side_effect and timeout is None:
        yield "timeout-missing", "", "it has a side effect, and may take any time"
    if contract.side_effect and not (contract.rate_limit or contract.total_rate_limit or contract.max_concurrent):
        yield "limit-missing", "", "it has a side effect, and may be called any number of times"
    if latency is None:
        yield "latency-missing", "", "nothing is said of how long it takes"
    elif timeout is not None and latency > timeout * 1000:
        yield "latency-beyond-timeout", "latency_budget_ms", f"{latency:g} ms are more than the timeout, {timeout:g} s"
    if contract.cost_model is None:
        yield "cost-missing", "", "nothing is said of what a call costs"
    if contract.security_level is None:
        yield "level-missing", "", "it has no security level"


def _dated(contract: Contract, today: date) -> Iterator[Seen]:
    review = contract.last_security_review
    if review is None:
        yield "review-missing", "", "nobody has reviewed it"
    elif (reviewed := _date(review)) is None:
        yield "date-wrong", "last_security_review", f"{review!r} is not a date"
    elif today - reviewed > REVIEW_AFTER:
        yield "review-old", "last_security_review", f"its last review is {(today - reviewed).days} days old"
    end = contract.deprecation
    if contract.status == "deprecated" and (end is None or not (end.replaced_by or end.migration)):
        yield "deprecation-missing", "status", "it is deprecated, and callers are not told what to do instead"
    if end is None or end.sunset is None:
        return
    if (sunset := _date(end.sunset)) is None:
        yield "date-wrong", "deprecation.sunset", f"{end.sunset!r} is not a date"
    elif sunset < today and contract.status != "gone":
        yield "sunset-over", "deprecation.sunset", f"its end was on {end.sunset}, and it is {contract.status}"


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else None
    except ValueError:
        return None


# ---- several together ----------------------------------------------------------------------------


def _of_all(subjects: Sequence[Subject]) -> Iterator[Finding]:
    servers: dict[str, list[Subject]] = defaultdict(list)
    for subject in subjects:
        if subject.contract.kind == "tool":
            servers[subject.contract.namespace].append(subject)
    for namespace, tools in servers.items():
        tokens = sum(tokens_of(each.contract) for each in tools)
        if tokens > MAX_TOKENS_TOGETHER:
            message = f"its {len(tools)} tools take about {tokens} tokens of every conversation"
            yield finding("token-heavy-server", namespace, tools[0].place(""), message)
        yield from _chatty(tools)


def _chatty(tools: Sequence[Subject]) -> Iterator[Finding]:
    """Tools of the same verb on the same noun that take one or two arguments each: `set_lead_name`, `set_lead_mail`."""
    groups: dict[tuple[str, str], list[Subject]] = defaultdict(list)
    for each in tools:
        parts = wording.words(each.contract.name)
        arguments = members_of(each.contract.input_schema or {}, "properties")
        if len(parts) >= 3 and len(arguments) <= 2:
            groups[parts[0], wording.stem(parts[1])].append(each)
    for (verb, noun), group in groups.items():
        if len(group) >= CHATTY:
            names = _listed([each.contract.name for each in group])
            first = group[0]
            message = f"{names} each {verb} a part of one {noun}: a model has to call them one after the other"
            yield finding("chatty", first.contract.id, first.place(""), message)
