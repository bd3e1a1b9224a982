"""A contract to begin with: every field, and what to write into it. PURE.

What only its author knows is left as `TODO: …`; `lint` names each of these until it is filled in.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from bascule.contract.derive import Definition, scope_for
from bascule.contract.model import Kind, Schema
from bascule.contract.wording import GRAVE, WRITING

TODO: Final = "TODO"
# A plain YAML scalar that nothing can mistake for anything but text.
_PLAIN: Final = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@-]*(?: [A-Za-z0-9_./(@-][A-Za-z0-9_./()@,-]*)*")
_NOT_TEXT: Final = re.compile(r"(?i:true|false|null|yes|no|on|off|y|n)")
_UNPRINTABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def template(kind: Kind, id: str, definition: Definition | None = None) -> str:
    """The YAML text of a contract for *id*, with what the server's *definition* says already in its place.

    A schema that the server does not have is written as a comment: one of ours would refuse what works today.
    """
    lines = _TEMPLATES[kind](id, definition or _INVENTED[kind])
    return "\n".join(lines) + "\n"


def _tool(id: str, said: Definition) -> Iterator[str]:
    verb = id.partition("/")[2].partition("_")[0].lower()
    writes = verb in WRITING and not said.read_only
    wanted = "what it does, what changes by it (SIDE EFFECT), and when it fails"
    yield f"tool: {_scalar(id)}    # namespace/verb_noun; the namespace is the server's name"
    yield from _head(said, wanted if writes else "what it finds out, what it gives back, and when it fails")
    yield "# JSON Schema; left out, the server's own holds. Each property has a description; name the required ones."
    yield from _schema("input_schema", said.input_schema, _INPUT)
    yield "# What comes back, with the id of what was made or found. A list says where to go on (next_cursor)."
    yield from _schema("output_schema", said.output_schema, _OUTPUT)
    yield f"side_effect: {_bool(writes)}    # true if anything is different after a call; unknown counts as true"
    yield f"idempotent: {_bool(said.idempotent or not writes)}    # true if the same call twice does what it does once"
    if writes:
        yield "require_key: false    # true: calls need an idempotency key"
        yield "# true, or when a condition holds: {when: args.value > 10000, message: 'Worth {args.value}. Do it?'}"
        yield f"confirm_gate: {_bool(verb in GRAVE)}    # a person says yes first"
    yield from _scope(scope_for(id, writes=writes)[0])
    yield "max_timeout_seconds: 30    # then the call is given up"
    yield "latency_budget_ms: 1000    # how long a call takes when all is well"
    yield "cost_model: {unit: call, price_usd: 0}    # unit: call, token, MB, page or second"
    if writes:
        yield "# cache_policy is for tools without a side effect"
    else:
        yield "# cache_policy: {ttl_seconds: 300, cache_key_fields: []}    # no fields: all arguments tell calls apart"
    yield "rate_limit: 60/minute    # of each caller; total_rate_limit: of all together"
    yield "# max_concurrent: 10    # calls at once"
    yield "# guardrails: deny, ask or warn when a condition holds, or a ready rule (max_amount, recipients_within, …)"
    yield "# guardrails: [{deny: \"args.email.endsWith('@example.com')\", message: Test addresses are refused}]"
    yield from _tail("HIGH" if verb in GRAVE else "MEDIUM" if writes else "LOW")
    yield "slo: {success: 99.0, latency_ms: 2000, latency_percent: 95, window_days: 30}    # success in percent"


def _prompt(id: str, said: Definition) -> Iterator[str]:
    yield f"prompt: {_scalar(id)}    # namespace/name; the namespace is the server's name"
    yield from _head(said, "what role and tone it sets, what form the answer has, and which tool it is made for")
    yield "# Its arguments, as a JSON Schema. Left out, the server's own hold."
    yield from _schema("input_schema", said.input_schema, _INPUT)
    yield from _scope(scope_for(id, writes=False)[0])
    yield "max_timeout_seconds: 10    # then the call is given up"
    yield from _tail("LOW")


def _resource(id: str, said: Definition) -> Iterator[str]:
    yield f"resource: {_scalar(id)}    # namespace/ and the URI, or URI template, that the server lists"
    yield from _head(said, "what is in it, who keeps it up to date and how often")
    yield "# Its content, as a JSON Schema, if it is JSON."
    yield from _schema("output_schema", said.output_schema, _CONTENT)
    yield from _scope(scope_for(id, writes=False)[0])
    yield "max_timeout_seconds: 10    # then the call is given up"
    yield "cache_policy: {ttl_seconds: 300}    # as long as it may be old; follow how often it is updated"
    yield from _tail("LOW")


_TEMPLATES: Final = {"tool": _tool, "prompt": _prompt, "resource": _resource}


def _head(said: Definition, wanted: str) -> Iterator[str]:
    yield "version: 1.0.0    # MAJOR.MINOR.PATCH; `bascule contract diff` says what a change takes"
    yield "# For the model: this is all it knows when it chooses."
    yield f"description: {_scalar(said.description or f'{TODO}: {wanted}')}"


def _scope(scope: str) -> Iterator[str]:
    yield f"security_scope: {_scalar(scope)}    # resource:action:modifier, one or a list; as narrow as can be"


def _tail(level: str) -> Iterator[str]:
    yield f"owner_team: '{TODO}: the team that is called when it breaks'"
    yield f"owner_email: '{TODO}: its address'"
    yield f"security_level: {level}    # LOW, MEDIUM or HIGH"
    yield "compliance_status: []    # such as GDPR_COMPLIANT"
    yield f"last_security_review: '{TODO}: the date, YYYY-MM-DD'"
    yield "status: draft    # draft, in_review, active, deprecated or gone"
    yield "# deprecation: {sunset: 2030-01-31, replaced_by: namespace/name, migration: What callers have to change}"


_INPUT: Final[Schema] = {
    "type": "object",
    "properties": {"id": {"type": "string", "maxLength": 200, "description": f"{TODO}: what this is, with an example"}},
    "required": ["id"],
    "additionalProperties": False,
}
_OUTPUT: Final[Schema] = {
    "type": "object",
    "properties": {"id": {"type": "string", "description": f"{TODO}: the id of what was made or found"}},
    "required": ["id"],
}
_CONTENT: Final[Schema] = {
    "type": "object",
    "properties": {"name": {"type": "string", "description": f"{TODO}: what this is"}},
    "required": ["name"],
}
# What stands in a contract that is written before anybody has asked the server.
_INVENTED: Final = {
    "tool": Definition(input_schema=_INPUT, output_schema=_OUTPUT),
    "prompt": Definition(input_schema=_INPUT),
    "resource": Definition(output_schema=_CONTENT),
}


# ---- YAML ----------------------------------------------------------------------------------------


def _schema(field: str, said: Schema | None, example: Schema) -> Iterator[str]:
    lines = [f"{field}:", *(f"  {line}" for line in yaml_lines(example if said is None else said))]
    if said is not None:
        yield from lines
        return
    yield "# The server has none. What does not fit one that stands here is refused, so write what is true of it:"
    yield from (f"# {line}" for line in lines)


def yaml_lines(value: Mapping[str, Any]) -> Iterator[str]:
    """*value* as lines of YAML: objects in blocks, and whatever is small in one line."""
    for name, inner in value.items():
        key = _scalar(name)
        if isinstance(inner, dict) and inner and len(_flow(inner)) > 60:
            yield f"{key}:"
            yield from (f"  {line}" for line in yaml_lines(inner))
        elif isinstance(inner, list) and any(isinstance(each, dict | list) for each in inner):
            yield f"{key}:"
            yield from (f"  - {_flow(each)}" for each in inner)
        else:
            yield f"{key}: {_flow(inner)}"


def _flow(value: Any) -> str:
    """*value* in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(name)}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    return _scalar(value, flow=True)


def _scalar(value: Any, *, flow: bool = False) -> str:
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text else text.replace("e", ".0e")  # YAML 1.1 knows no 1e16
    text = msgspec.json.encode(value).decode()
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _NOT_TEXT.fullmatch(value):
        return text if flow and "," in value else value
    # JSON strings are YAML strings but for a few characters that YAML wants escaped.
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _bool(value: bool) -> str:
    return "true" if value else "false"


def placeholders(value: Any, path: str = "") -> Iterator[str]:
    """The dotted path of each text in *value* that still says TODO."""
    match value:
        case str() if value.startswith(TODO):
            yield path
        case Mapping():
            for name, inner in value.items():
                yield from placeholders(inner, f"{path}.{name}" if path else name)
        case Sequence() if not isinstance(value, str):
            for number, inner in enumerate(value):
                yield from placeholders(inner, f"{path}.{number}")
