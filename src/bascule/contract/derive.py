"""From what every source says of a thing to the contract that holds. PURE.

Sources, each going before the one above it where both say the same field:
the server's own definition; the contract that a trusted server declares beside it; a contract document;
the operator's rules, in their order. Guardrails are never replaced: all of them apply.
What nobody says is derived, and unknown means: a side effect, not idempotent.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from bascule.contract.model import (
    ConfirmGate,
    Contract,
    Document,
    Kind,
    Mode,
    Rule,
    Schema,
    Terms,
    rate_of,
    scopes_of,
)
from bascule.contract.versions import NOTHING_REGISTERED, Choice, Registered, Route, choice_of, has_ended
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params

CONTRACT_META: Final = "dev.bascule/contract"
SERVER: Final = "server"
DERIVED: Final = "derived"

Layer: TypeAlias = tuple[str, Terms]  # where it comes from, in words, and what it says

_FIELDS: Final = tuple(field for field in Terms.__struct_fields__ if field != "guardrails")
_NO_SCOPE_CHARACTER: Final = re.compile(r"[^\x21\x23-\x29\x2b-\x39\x3b-\x5b\x5d-\x7e]+")  # nor `*` nor `:`
_LONGEST_PART: Final = 100
_DIGEST_LENGTH: Final = 8
_NO_STAR: Final = re.compile(r"[\[?]")  # wildcards of fnmatch besides `*`; URIs are full of them


class Definition(msgspec.Struct, frozen=True):
    """What a server lists of one of its things, as far as a contract is concerned."""

    description: str = ""
    input_schema: Schema | None = None
    output_schema: Schema | None = None
    read_only: bool = False  # what the server claims of itself: believed of trusted servers only
    idempotent: bool = False
    declared: Mapping[str, Any] | None = None  # `_meta["dev.bascule/contract"]`


def definition_of(members: Params) -> Definition:
    """What a listed entry says; what it says wrongly counts as not said."""
    hints = jsonrpc.value_of(members.get("annotations"), dict) or {}
    meta = jsonrpc.value_of(members.get("_meta"), dict) or {}
    declared = meta.get(CONTRACT_META)
    return Definition(
        description=jsonrpc.text(members.get("description")) or "",
        input_schema=jsonrpc.value_of(members.get("inputSchema"), dict),
        output_schema=jsonrpc.value_of(members.get("outputSchema"), dict),
        read_only=hints.get("readOnlyHint") is True,
        idempotent=hints.get("idempotentHint") is True,
        declared=declared if isinstance(declared, dict) else None,
    )


class Sources:
    """All that is said of contracts outside of the servers' own lists."""

    def __init__(
        self,
        documents: Iterable[tuple[str, Document]] = (),
        rules: Sequence[Rule] = (),
        *,
        trusted: frozenset[str] = frozenset(),
        scoped: bool = True,
        validate_arguments: Mode | None = None,
        validate_results: Mode | None = None,
        registered: Registered = NOTHING_REGISTERED,
        today: str = "",
    ) -> None:
        """*documents* with their places; *trusted* are the servers whose hints and contracts are believed.

        *scoped*: what no source names a scope for needs one made of its name; otherwise it needs none.
        *registered*: what the registry says besides; of the same version the configuration's document holds.
        *today*: YYYY-MM-DD, for what is to end on a day.
        """
        self._documents = _by_version([*registered.documents, *documents])
        self._routes = registered.routes
        self._today = today
        self._rules = tuple(rules)
        self._trusted = trusted
        self._scoped = scoped
        self._modes: dict[str, Mode | None] = {
            "validate_arguments": validate_arguments,
            "validate_results": validate_results,
        }

    def look_at(self, word: str) -> bool:
        """Whether some guardrail or gate looks at *word*, `session` or `depth`: then it is kept for all calls."""
        said = [*(document for layers in self._documents.values() for _, document in layers), *self._rules]
        # What contracts of trusted servers will say is not known yet.
        return bool(self._trusted) or any(_looks_at(terms, word) for terms in said)

    def trusts(self, server: str) -> bool:
        """Whether the hints and contracts of *server* are believed."""
        return server in self._trusted

    def document(self, kind: Kind, id: str, version: str = "") -> tuple[str, Document] | None:
        """The contract document for *id*, and its place: of a version, or of the one that goes without being named."""
        layers = self._documents.get((kind, id), ())
        if not version and len(layers) > 1 and (choice := self.choice(kind, id)) is not None:
            version = str(choice.default.version)
        return next((each for each in reversed(layers) if not version or each[1].version == version), None)

    def choice(self, kind: Kind, id: str) -> Choice | None:
        """The versions of *id* that calls can go to; None where there is nothing to choose."""
        layers = self._documents.get((kind, id))
        if not layers:
            return None
        return choice_of(id, [document for _, document in layers], self._routes.get(id, Route()), self._today)

    def ids(self, kind: Kind) -> list[str]:
        """What there are documents for."""
        return [id for each, id in self._documents if each == kind]

    def singles_out(self, kind: Kind, id: str, among: str) -> bool:
        """Whether anything is said of *id* that is not said of *among*, the template that it comes of."""
        if (kind, id) in self._documents:
            return True
        return any(kind in r.kinds and matches(r.match, id) and not matches(r.match, among) for r in self._rules)

    def effective(
        self,
        kind: Kind,
        id: str,
        definition: Definition | None,
        *,
        also: str | None = None,
        version: str = "",
        server: str = "",
    ) -> Contract:
        """What holds for the *kind* of thing called *id*. Raises ValueError for a trusted server's bad contract.

        *also* is a second id that it goes by: of a resource that a template, *id*, has matched. *version*: of which
        one; "" is the one that goes without being named. *server* gives the *definition*, if not its own.
        """
        ids = (id,) if also is None else (id, also)
        namespace = server or id.partition("/")[0]
        trusted = namespace in self._trusted
        layers: list[Layer] = [(SERVER, _as_terms(definition, trusted))] if definition else []
        if definition is not None and definition.declared is not None and trusted:
            layers.append(("server's contract", _declared(definition.declared)))
        spoken = len(layers)
        layers += [found for each in ids if (found := self.document(kind, each, version))]
        layers += [
            (f"policy.rules.{number}", rule)
            for number, rule in enumerate(self._rules)
            if kind in rule.kinds and any(matches(rule.match, each) for each in ids)
        ]
        said, sources = _joined(layers)
        governed = len(layers) > spoken or any(name == "server's contract" for name, _ in layers)
        self._fill(kind, id, governed, said, sources)
        if said.get("status") == "deprecated" and has_ended(said.get("deprecation"), self._today):
            said["status"] = "gone"
        return Contract(id=id, kind=kind, sources=sources, **said)

    def _fill(self, kind: Kind, id: str, governed: bool, said: dict[str, Any], sources: dict[str, str]) -> None:
        """What nobody has said."""
        for name, default in self._modes.items():
            if name not in said and (default or governed):
                said[name] = default or "block"
                sources[name] = f"policy.{name}" if default else DERIVED
        if kind != "tool":
            said.setdefault("side_effect", False)
        if "security_scope" not in said:
            said["security_scope"] = (
                scope_for(id, writes=kind == "tool" and said.get("side_effect", True)) if self._scoped else ()
            )
            sources["security_scope"] = DERIVED


def _by_version(documents: Iterable[tuple[str, Document]]) -> dict[tuple[Kind, str], list[tuple[str, Document]]]:
    """All documents of each thing, the newest last; of two of one version, the one that comes later."""
    found: dict[tuple[Kind, str], dict[tuple[int, ...], tuple[str, Document]]] = {}
    for place, document in documents:
        found.setdefault((document.kind, document.id), {})[version_key(document.version)] = (place, document)
    return {key: [layers[version] for version in sorted(layers)] for key, layers in found.items()}


def _looks_at(terms: Terms, word: str) -> bool:
    rules, gate = terms.guardrails or (), terms.confirm_gate
    if word == "session" and any(rule.max_per_session is not None for rule in rules):
        return True
    if word == "depth" and any(rule.max_chain_depth is not None for rule in rules):
        return True
    texts = [text for rule in rules for text in (rule.deny, rule.ask, rule.warn, rule.message)]
    if isinstance(gate, ConfirmGate):
        texts += [gate.when, gate.message]
    return any(text is not None and word in text for text in texts)


def version_key(version: str | UnsetType) -> tuple[int, ...]:
    """What a MAJOR.MINOR.PATCH is sorted by; none comes before all."""
    return () if isinstance(version, UnsetType) else tuple(map(int, version.split(".")))


def matches(pattern: str, id: str) -> bool:
    """Whether a rule's pattern fits the logical id; `*` fits any text, also across `/`."""
    return fnmatchcase(id, _NO_STAR.sub(r"[\g<0>]", pattern))


def scope_for(id: str, *, writes: bool) -> tuple[str, ...]:
    """The scope that a thing needs when nobody has said which: `crm:write:create_lead`."""
    namespace, _, name = id.partition("/")
    part = _NO_SCOPE_CHARACTER.sub("_", name)
    if part != name.replace(":", "_") or len(part) > _LONGEST_PART:
        # Much is lost of it, and of another name too: two things must not share a scope for that.
        digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]
        part = f"{part[: _LONGEST_PART - _DIGEST_LENGTH - 1]}_{digest}"
    return (f"{namespace}:{'write' if writes else 'read'}:{part}",)


def _as_terms(definition: Definition, trusted: bool) -> Terms:
    return Terms(
        description=definition.description or UNSET,
        input_schema=UNSET if definition.input_schema is None else definition.input_schema,
        output_schema=UNSET if definition.output_schema is None else definition.output_schema,
        side_effect=False if trusted and definition.read_only else UNSET,
        idempotent=True if trusted and (definition.idempotent or definition.read_only) else UNSET,
    )


def _declared(contract: Mapping[str, Any]) -> Terms:
    try:
        return msgspec.convert(contract, Terms)
    except msgspec.ValidationError as error:
        raise ValueError(f"the contract that the server declares is not one: {error}") from error


def _joined(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the layers say together, and which of them has the last word on each field."""
    said: dict[str, Any] = {}
    sources: dict[str, str] = {}
    rules: list[Any] = []
    for source, terms in layers:
        for name in _FIELDS:
            value = getattr(terms, name)
            if value is not UNSET:
                said[name] = _READ[name](value) if name in _READ else value
                sources[name] = source
        if terms.guardrails is not UNSET and terms.guardrails:
            rules += terms.guardrails
            sources["guardrails"] = ", ".join(filter(None, (sources.get("guardrails"), source)))
    if rules:
        said["guardrails"] = tuple(rules)
    return said, sources


def _gate(value: bool | ConfirmGate) -> ConfirmGate | None:
    return (ConfirmGate() if value else None) if isinstance(value, bool) else value


_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "security_scope": scopes_of,
    "confirm_gate": _gate,
    "rate_limit": rate_of,
    "total_rate_limit": rate_of,
}


def is_governed(contract: Contract) -> bool:
    """Whether anybody but the server itself says anything of it."""
    return bool(_said(contract))


def _said(contract: Contract) -> set[str]:
    return {name for name, source in contract.sources.items() if source not in (SERVER, DERIVED)}


def listed(contract: Contract, members: Params, versions: Sequence[str] = ()) -> Params:
    """A listed entry as clients see it: with the contract's own words and schemas, and the contract beside it.

    *versions*: that can be asked for, where there are several.

    The bytes of an entry of which no contract says anything stay as they are.
    """
    said = _said(contract)
    if not said:
        return _unclaimed(members)
    shown: dict[str, Any] = {
        member: getattr(contract, field)
        for field, member in (
            ("description", "description"),
            ("input_schema", "inputSchema"),
            ("output_schema", "outputSchema"),
        )
        if field in said and (field == "description" or contract.kind == "tool")
    }
    meta = jsonrpc.value_of(members.get("_meta"), dict) or {}
    published = _published(contract) | ({"versions": list(versions)} if versions else {})
    return jsonrpc.replaced(members, **shown, meta_={**meta, CONTRACT_META: published})


def _unclaimed(members: Params) -> Params:
    """An entry without the contract that its server wrote into it, and nobody believes."""
    raw = members.get("_meta")
    if raw is None or CONTRACT_META.encode() not in bytes(raw):
        return members
    meta = jsonrpc.value_of(raw, dict) or {}
    return jsonrpc.replaced(members, meta_={key: value for key, value in meta.items() if key != CONTRACT_META})


_PUBLISHED: Final = (
    *("version", "side_effect", "idempotent", "require_key", "max_timeout_seconds", "latency_budget_ms", "cost_model"),
    *("owner_team", "security_level", "status", "deprecation"),
)


def _published(contract: Contract) -> dict[str, Any]:
    """What callers are told of a contract: what they can plan by, nothing of how it is guarded."""
    found = {name: getattr(contract, name) for name in _PUBLISHED}
    kept = {name: value for name, value in found.items() if value not in (None, "")}
    return kept | {"confirm_gate": contract.confirm_gate is not None}
