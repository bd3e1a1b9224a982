"""What is legal in a configuration and hardly meant: `bascule validate` says it, and the log of whoever serves it."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Final

from bascule.config import Config, place_of
from bascule.contract.model import ConfirmGate, Terms, scopes_of
from bascule.policy.guard import compile_gate, compile_guards
from bascule.policy.roles import ROLES, UNNAMED
from bascule.policy.scopes import EVERYTHING

_OF_BASCULE: Final = frozenset(scope.split(":")[0] for scope in ROLES["admin"])


def doubts(config: Config) -> list[str]:
    """Sentences for the operator, each with its field or its file."""
    found = (_bare, _strangers, _scopes, _rules, _people, _replicas)
    return [each for looked in found for each in looked(config)]


def _people(config: Config) -> Iterator[str]:
    """Names by which nobody answers their own question, where the same name is not the same person."""
    login, issuers = config.console.oidc, config.auth.issuers
    if login is None:
        return
    same = {name: issuer for name, issuer in issuers.items() if issuer.issuer == login.issuer}
    for name, issuer in same.items():
        if issuer.name_claim != login.name_claim:
            yield (
                f"console.oidc.name_claim: {login.name_claim!r} is another name than auth.issuers.{name} gives the same"
                f" person ({issuer.name_claim!r}), who could approve at the console what their own agent asks for"
            )
    if not same and UNNAMED in issuers:
        yield (
            f"auth.issuers.{UNNAMED}: the console calls people of its provider {UNNAMED}:NAME, and these are others;"
            " give this issuer another name"
        )


def _replicas(config: Config) -> Iterator[str]:
    if config.replicas > 1:
        yield (
            "replicas: keys, confirmations and the audit are shared by the processes of one machine that have the same"
            " state_dir, and by no others: a key that is sent to another machine runs there once more"
        )


def _bare(config: Config) -> Iterator[str]:
    for place, folder in config.bare_folders:
        begin = f"`bascule contract new NAMESPACE/NAME -o {folder / 'NAME.yaml'}` begins one"
        yield f"{place}: there is no contract in {folder}, no .yaml, .yml or .json file; {begin}"


def _strangers(config: Config) -> Iterator[str]:
    """What is said of servers that are not there: a rule that somebody believes in, and that guards nothing."""
    for place, document in config.documents:
        if place_of(config, document.id) is None:
            yield from _unknown(place, document.id.partition("/")[0], config.servers)
    for number, rule in enumerate(config.policy.rules):
        namespace, slash, _ = rule.match.partition("/")
        if not slash and not set("*?[") & set(namespace):
            yield f"policy.rules.{number}: {rule.match!r} fits nothing: ids are SERVER/NAME, such as crm/create_lead"
        elif not set("*?[") & set(namespace) and place_of(config, rule.match) is None:
            yield from _unknown(f"policy.rules.{number}", namespace, config.servers)


def _unknown(place: str, namespace: str, servers: Iterable[str]) -> Iterator[str]:
    names = list(servers)
    if namespace not in names:
        near = get_close_matches(namespace, names, 1)
        yield f"{place}: there is no server {namespace!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _scopes(config: Config) -> Iterator[str]:
    """Scopes that are given to somebody and needed for nothing."""
    said = [*(document for _, document in config.documents), *config.policy.rules]
    needed = {
        scope.split(":")[0] for terms in said if terms.security_scope for scope in scopes_of(terms.security_scope)
    }
    needed |= {EVERYTHING, *_OF_BASCULE, *config.servers}
    needed |= {scope.split(":")[0] for scope in config.auth.required_scopes}
    for field, scopes in _given(config):
        for scope in scopes:
            if scope.split(":")[0] not in needed:
                near = get_close_matches(scope.split(":")[0], sorted(needed), 1)
                yield f"{field}: nothing needs the scope {scope!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _given(config: Config) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from ((f"roles.{role}", scopes) for role, scopes in config.roles.items())
    yield from ((f"callers.{name}.scopes", caller.scopes) for name, caller in config.callers.items())


def _rules(config: Config) -> Iterator[str]:
    """Guardrails that never hold, always hold, or deny by accident."""
    said: list[tuple[str, Terms]] = [(f"policy.rules.{number}", r) for number, r in enumerate(config.policy.rules)]
    for place, terms in [*said, *config.documents]:
        schema, gate = terms.input_schema or None, terms.confirm_gate
        warnings = compile_guards(terms.guardrails or (), schema).warnings
        if isinstance(gate, ConfirmGate):
            warnings += compile_gate(gate.when, gate.message, schema).warnings
        yield from (f"{place}: {warning}" for warning in warnings)
