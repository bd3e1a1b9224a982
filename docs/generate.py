"""Writes the parts of docs/ that would drift: tables of fields, errors and commands, from the code itself.

    python docs/generate.py            write them again
    python docs/generate.py --check    exit 1 if a page is not what the code says

A part stands in its page between `<!-- generated: NAME -->` and `<!-- /generated -->`. What code cannot say is
written in meanings.py (what a field means) and advice.py (what to do about an error); a field or an error that is
missing there stops this.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import typer
from advice import ADVICE, RESERVED
from meanings import MEANINGS
from msgspec import UNSET

from bascule.admin.actions import Operation
from bascule.app import Gateway
from bascule.cli.commands import app
from bascule.config import (
    Config,
    DrainOptions,
    ListenOptions,
    OverloadOptions,
    ParkingOptions,
    SealOptions,
    ServerOptions,
)
from bascule.console.options import ConsoleLogin, ConsoleOptions
from bascule.contract.model import CachePolicy, ConfirmGate, CostModel, Deprecation, Document, Rule, Slo, Terms
from bascule.errors import BasculeError
from bascule.observe.options import LogsOptions, MetricsOptions, TracingOptions
from bascule.options import Options
from bascule.options_sandbox import SandboxOptions
from bascule.options_tls import TlsOptions
from bascule.policy.guardrails import DateWindow, Guardrail, MaxAmount, PathWithin, RecipientsWithin
from bascule.policy.options import (
    AuthOptions,
    Budget,
    CallerLimits,
    CallerOptions,
    Grant,
    IntrospectionOptions,
    IssuerOptions,
    LimitsOptions,
    PolicyOptions,
    ServerLimits,
)
from bascule.policy.roles import ROLES
from bascule.store.options import ApprovalOptions, AuditOptions, CacheOptions, JournalOptions, RegistryOptions
from bascule.upstream.http import HttpOptions
from bascule.upstream.stdio import StdioOptions

DOCS: Final = Path(__file__).resolve().parent
MIB: Final = 1024 * 1024

# The structs of the file: what each is called in the type of a field, and the heading that tells of it.
SECTIONS: Final[Mapping[type[Any], tuple[str, str]]] = {
    ListenOptions: ("http", "http"),
    TlsOptions: ("tls", "tls"),
    AuthOptions: ("auth", "auth"),
    Grant: ("grant", "auth"),
    IssuerOptions: ("issuer", "issuer"),
    IntrospectionOptions: ("introspection", "introspection"),
    CallerOptions: ("caller", "callers"),
    PolicyOptions: ("policy", "policy"),
    Rule: ("rule", "policy"),
    Document: ("document", "contracts"),
    ConfirmGate: ("gate", "gate-cost-deprecation"),
    CostModel: ("cost", "gate-cost-deprecation"),
    CachePolicy: ("cache policy", "gate-cost-deprecation"),
    Deprecation: ("deprecation", "gate-cost-deprecation"),
    Slo: ("slo", "gate-cost-deprecation"),
    Guardrail: ("guardrail", "guardrails"),
    MaxAmount: ("amount", "ready-rules"),
    RecipientsWithin: ("recipients", "ready-rules"),
    PathWithin: ("paths", "ready-rules"),
    DateWindow: ("dates", "ready-rules"),
    LimitsOptions: ("limits", "limits"),
    CallerLimits: ("caller limits", "limits-of-a-caller"),
    Budget: ("budget", "limits-of-a-caller"),
    ServerLimits: ("server limits", "limits-of-a-server"),
    AuditOptions: ("audit", "audit"),
    JournalOptions: ("journal", "journal"),
    ApprovalOptions: ("approvals", "approvals"),
    CacheOptions: ("cache", "cache"),
    RegistryOptions: ("registry", "registry"),
    ConsoleOptions: ("console", "console"),
    ConsoleLogin: ("console login", "console"),
    MetricsOptions: ("metrics", "metrics-tracing-logs"),
    TracingOptions: ("tracing", "metrics-tracing-logs"),
    LogsOptions: ("logs", "metrics-tracing-logs"),
    DrainOptions: ("drain", "drain"),
    OverloadOptions: ("overload", "overload"),
    SealOptions: ("seal", "seal"),
    ParkingOptions: ("parking", "parking"),
    SandboxOptions: ("sandbox", "sandbox"),
}
NOT_IN_THE_FILE: Final = frozenset(
    {"documents", "bare_folders", "packed", "packs"}
)  # of Config: what `contracts` comes to

# ---- configuration -------------------------------------------------------------------------------


HEAD: Final = ("of", "field", "type", "default", "meaning")


def fields(*several: type[Options], without: type[Options] | None = None) -> str:
    """The table of all fields of a struct, or of several small ones; *without* those that they have from another."""
    inherited = without.__struct_fields__ if without else ()
    rows = [row for options in several for row in rows_of(options, of=len(several) > 1) if row[1] not in inherited]
    told = [column for column in range(len(HEAD)) if any(row[column] for row in rows)]
    return table([HEAD[column] for column in told], [[code(row)[column] for column in told] for row in rows])


def rows_of(options: type[Options], *, of: bool) -> Iterator[tuple[str, ...]]:
    """A row for each field, in the order of meanings.py."""
    meanings = {name: text for each in reversed(options.__mro__) for name, text in MEANINGS.get(each, {}).items()}
    known = {f.encode_name: f for f in msgspec.structs.fields(options) if f.encode_name not in NOT_IN_THE_FILE}
    if set(known) != set(meanings):
        raise SystemExit(f"docs/meanings.py: of {options.__name__}: {sorted(set(known) ^ set(meanings))}")
    for name, meaning in meanings.items():
        yield SECTIONS[options][0] if of else "", name, field_type(known[name]), default_in_words(known[name]), meaning


def code(row: Sequence[str]) -> tuple[str, ...]:
    return (f"`{row[0]}`", f"`{row[1]}`", *row[2:])


def field_type(field: msgspec.structs.FieldInfo) -> str:
    if field.type == Mapping[str, ServerOptions]:  # told apart by their keys, which msgspec has no word for
        return "map of [command](#a-server-with-a-command), [url](#a-server-with-a-url) or [pack](#a-pack)"
    words = type_in_words(msgspec.inspect.type_info(field.type))
    return f"seconds, {words}" if field.encode_name.endswith("_s") and "seconds" not in words else words


def type_in_words(kind: msgspec.inspect.Type) -> str:
    match kind:
        case msgspec.inspect.Metadata(type=inner, extra_json_schema=extra):
            unit = (extra or {}).get("description", "")
            return f"{unit}, {type_in_words(inner)}" if unit else type_in_words(inner)
        case msgspec.inspect.StrType():
            return "text"
        case msgspec.inspect.BoolType():
            return "bool"
        case (
            msgspec.inspect.IntType(gt=gt, ge=ge, lt=lt, le=le) | msgspec.inspect.FloatType(gt=gt, ge=ge, lt=lt, le=le)
        ):
            word = "integer" if isinstance(kind, msgspec.inspect.IntType) else "number"
            limits = ((">", gt), ("≥", ge), ("<", lt), ("≤", le))
            bounds = [f"{sign} {value}" for sign, value in limits if value is not None]
            return " ".join((word, *bounds))
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(type_in_words(each) for each in types if not isinstance(each, msgspec.inspect.NoneType))
        case msgspec.inspect.VarTupleType(item_type=item):
            return f"list of {type_in_words(item)}"
        case msgspec.inspect.DictType(value_type=msgspec.inspect.AnyType()):
            return "map"
        case msgspec.inspect.DictType(value_type=value):
            return f"map of {type_in_words(value)}"
        case msgspec.inspect.StructType(cls=cls) if cls in SECTIONS:
            return "[{}](#{})".format(*SECTIONS[cls])
    raise SystemExit(f"docs/generate.py: no words for {kind}")


def default_in_words(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is UNSET:
        return ""
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    match value:
        case None | Options():
            return "none" if value is None else "see there"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case int() if value >= MIB and value % MIB == 0:
            return f"`{value}` ({value // MIB} MiB)"
        case tuple() if value:
            return ", ".join(f"`{each}`" for each in value)
        case str() | int() if value != "":
            return f"`{value}`"
    return "none"


# ---- errors --------------------------------------------------------------------------------------


def leaves(above: type[BasculeError] = BasculeError) -> Iterator[type[BasculeError]]:
    """Every class that has a kind of its own, in the order of the file."""
    for error in above.__subclasses__():
        if "kind" in vars(error):
            yield error
        yield from leaves(error)


def error_index() -> str:
    rows = [
        (f"[`{each.kind}`](#{each.kind})", f"{each.code}", f"{each.family}", status(each), yes(each.retryable))
        for each in leaves()
    ]
    return table(("`data.kind`", "`data.code`", "`error.code`", "HTTP", "retryable"), rows)


def error_sections() -> str:
    kinds = [each.kind for each in leaves()]
    if set(kinds) != set(ADVICE) or len(set(kinds)) != len(kinds):
        raise SystemExit(f"docs/advice.py: it and the kinds differ: {sorted(set(kinds) ^ set(ADVICE))}")
    parts = []
    for each in leaves():
        happened, act = ADVICE[each.kind]
        parts.append(
            f"### {each.kind}\n\n`{each.__name__}`, {each.category}: `data.code` {each.code}, `error.code`"
            f" {each.family}, HTTP {status(each)}.\n\n"
            + (happened if happened == RESERVED else f"- What happened: {happened}\n- What to do: {act}")
        )
    return "\n\n".join(parts)


def status(error: type[BasculeError]) -> str:
    """The HTTP status of a stateless answer; the operator's errors never reach a client."""
    return "none" if error.category == "operator" else str(error.http)


def yes(value: bool) -> str:
    return "yes" if value else "no"


# ---- commands ------------------------------------------------------------------------------------


def commands() -> str:
    """A section for each command: what it does, its words and its options."""
    return "\n\n".join(command(name, each) for name, each in every_command(typer.main.get_command(app)))


def every_command(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each command with its whole name, groups such as `keys` gone into."""
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from every_command(each, f"{prefix}{name} ")
        elif not each.hidden:
            yield prefix + name, each


def command(name: str, entry: Any) -> str:
    pieces = entry.collect_usage_pieces(entry.context_class(entry, info_name=name))
    about = re.sub(r"\n[ \t]+", "\n", (entry.help or "").strip())
    about = re.sub(r"^Example: (.+)$", r"    \1", about, flags=re.MULTILINE)
    words = [(f"`{each.metavar or each.name.upper()}`", each) for each in entry.params if is_argument(each)]
    words += [(option_in_words(each), each) for each in entry.params if not is_argument(each)]
    rows = [(word, each.help, preset(each.default)) for word, each in words if each.help and not each.hidden]
    parts = [f"### {name}", f"    bascule {name} {' '.join(pieces)}".rstrip(), about]
    if rows:
        parts.append(table(("word", "meaning", "default"), rows))
    return "\n\n".join([*parts, *([entry.epilog.strip()] if entry.epilog else [])])


def is_argument(each: Any) -> bool:
    return bool(each.param_type_name == "argument")


def option_in_words(each: Any) -> str:
    value = f" {each.metavar}" if each.metavar else ""
    return " ".join(f"`{name}`" for name in (*each.opts[:-1], each.opts[-1] + value, *each.secondary_opts))


def preset(value: Any) -> str:
    return "" if value in (None, False, (), []) else f"`{getattr(value, 'value', value)}`"


# ---- operations ----------------------------------------------------------------------------------


# What an operation needs that decides itself who may: it depends on what is asked for, or is more than one scope.
DECIDED_INSIDE: Final = {
    "approvals.list": "`bascule.approvals:read`, under a name",
    "approvals.show": "`bascule.approvals:read`, under a name",
    "approvals.approve": "`bascule.approvals:write`, under a name",
    "approvals.deny": "`bascule.approvals:write`, under a name",
    "reviews.approve": "`bascule.reviews:write:ASPECT`, under a name",
    "reviews.deny": "`bascule.reviews:write:ASPECT`, under a name",
    "registry.sign": "`bascule.registry:read` and `bascule.reviews:write:ASPECT`, under a name",
    "tools.call": "`bascule.status:read`, and those of the tool",
    "openapi": "none",
}


def operations() -> str:
    """A table for each area, in the order in which areas are first named."""
    areas: dict[str, list[Operation]] = {}
    for each in Gateway(Config()).actions.operations:
        areas.setdefault(each.path.split("/")[2].removesuffix(".json"), []).append(each)
    head = ("request", "takes", "does", "scope")
    return "\n\n".join(f"### {area}\n\n{table(head, [*map(request, group)])}" for area, group in areas.items())


def request(each: Operation) -> tuple[str, ...]:
    takes = ", ".join(f"**`{name}`**" if wanted.needed else f"`{name}`" for name, wanted in each.takes.items())
    return f"`{each.method} {each.path}`", takes, each.about, scope_in_words(each)


def scope_in_words(each: Operation) -> str:
    if each.name in DECIDED_INSIDE:
        return DECIDED_INSIDE[each.name]
    if not each.scopes:
        raise SystemExit(f"docs/generate.py: who may ask for {each.name}? Say it in DECIDED_INSIDE")
    return " and ".join(f"`{scope}`" for scope in each.scopes) + (", under a name" if each.named else "")


def roles() -> str:
    """Which role of the console has which scope."""
    scopes = sorted({scope for held in ROLES.values() for scope in held}, key=lambda scope: (-holders(scope), scope))
    rows = [(f"`{scope}`", *("yes" if scope in held else "" for held in ROLES.values())) for scope in scopes]
    return table(("scope", *ROLES), rows)


def holders(scope: str) -> int:
    return sum(scope in held for held in ROLES.values())


# ---- pages ---------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "config": lambda: fields(Config),
    "http": lambda: fields(ListenOptions),
    "tls": lambda: fields(TlsOptions),
    "server with a command": lambda: fields(StdioOptions),
    "sandbox": lambda: fields(SandboxOptions),
    "server with a url": lambda: fields(HttpOptions),
    "auth": lambda: fields(AuthOptions),
    "grant": lambda: fields(Grant),
    "issuer": lambda: fields(IssuerOptions),
    "introspection": lambda: fields(IntrospectionOptions),
    "caller": lambda: fields(CallerOptions),
    "policy": lambda: fields(PolicyOptions),
    "rule": lambda: fields(Rule, without=Terms),
    "document": lambda: fields(Document, without=Terms),
    "terms": lambda: fields(Terms),
    "parts of terms": lambda: fields(ConfirmGate, CostModel, CachePolicy, Deprecation, Slo),
    "guardrail": lambda: fields(Guardrail),
    "ready rules": lambda: fields(MaxAmount, RecipientsWithin, PathWithin, DateWindow),
    "limits": lambda: fields(LimitsOptions),
    "caller limits": lambda: fields(CallerLimits, Budget),
    "server limits": lambda: fields(ServerLimits),
    "audit": lambda: fields(AuditOptions),
    "journal": lambda: fields(JournalOptions),
    "approvals": lambda: fields(ApprovalOptions),
    "cache": lambda: fields(CacheOptions),
    "registry": lambda: fields(RegistryOptions),
    "console": lambda: fields(ConsoleOptions, ConsoleLogin),
    "metrics, tracing, logs": lambda: fields(MetricsOptions, TracingOptions, LogsOptions),
    "drain": lambda: fields(DrainOptions),
    "overload": lambda: fields(OverloadOptions),
    "seal": lambda: fields(SealOptions),
    "parking": lambda: fields(ParkingOptions),
    "errors": error_index,
    "every error": error_sections,
    "commands": commands,
    "operations": operations,
    "roles": roles,
}

_PART: Final = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def generated(page: str) -> str:
    """*page* with every generated part written anew."""
    return _PART.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}\n{match[3]}", page)


def main() -> int:
    stale = []
    for path in sorted(DOCS.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        fresh = generated(page)
        if fresh == page:
            continue
        stale.append(path.name)
        if "--check" not in sys.argv[1:]:
            path.write_text(fresh, encoding="utf-8")
    if stale and "--check" in sys.argv[1:]:
        sys.stderr.write(f"docs/generate.py: not what the code says: {', '.join(stale)}; run: make docs\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
