"""Who may call, and over what: the findings about callers, scopes, and the way from them to here."""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from bascule.admin.doctor.finding import Finding, Severity, finding, names
from bascule.admin.doctor.setup import Setup
from bascule.admin.doubts import doubts
from bascule.config import identifies, is_loopback
from bascule.policy.fit import scopes_of
from bascule.policy.options import Grant
from bascule.policy.scopes import EVERYTHING, Scopes

_SEAL: Final = 'seal: {keys: ["${env:SEAL_KEY}"]}   # export SEAL_KEY="$(openssl rand -base64 32)"'


def findings(setup: Setup) -> Iterator[Finding]:
    yield from _unset(setup)
    yield from _doubted(setup)
    yield from _callers(setup)
    yield from _anonymous(setup)
    yield from _scopes(setup)
    yield from _transport(setup)


def _unset(setup: Setup) -> Iterator[Finding]:
    for field, name in setup.unset.items():
        yield finding("reference-unset", setup.at(field), f"{field}: ${{{name}}} is not set here", f"export {name}=…")


def _doubted(setup: Setup) -> Iterator[Finding]:
    for doubt in doubts(setup.config):
        field, _, what = doubt.partition(": ")
        yield finding("doubt", setup.at(field), f"{field}: {what}", "correct it, or take it out")


def _callers(setup: Setup) -> Iterator[Finding]:
    config = setup.config
    if not identifies(config) and config.auth.anonymous is None:
        what = "nobody is named: whoever is on this machine may call everything"
        yield finding("no-callers", setup.at("callers"), what, "callers: {me: {scopes: [crm:read]}}")
    elif config.http.bearer and not config.callers and not config.auth.issuers:
        what = "http.bearer: one token for everybody, with every right: no one can be told apart, or locked out"
        fix = "callers: {ci: {scopes: [crm:read]}}   # then: bascule keys create ci --expires 90d"
        yield finding("one-token-for-all", setup.at("http.bearer"), what, fix)
    if config.policy.default == "allow" and (config.callers or config.auth.issuers):
        what = "policy.default: what no contract names a scope for is open to every caller"
        yield finding("policy-allow", setup.at("policy.default"), what, "policy: {default: deny}")


def _anonymous(setup: Setup) -> Iterator[Finding]:
    anonymous = setup.config.auth.anonymous
    if not anonymous or not setup.exposed:
        return
    at = setup.at("auth.anonymous")
    if anonymous is True or EVERYTHING in _held(anonymous, setup.config.roles):
        what = "auth.anonymous: anybody who reaches this address may call everything"
        yield finding("open-to-network", at, what, "auth: {anonymous: {scopes: [crm:read:public]}}")
    else:
        what = "auth.anonymous: anybody who reaches this address has some rights; are these meant for everybody?"
        yield finding("open-to-network", at, what, "take auth.anonymous out", severity="warning")


def _scopes(setup: Setup) -> Iterator[Finding]:
    config = setup.config
    yield from _everything(setup, "callers", config.callers)
    yield from _everything(setup, "auth.issuers", config.auth.issuers)


def _everything(setup: Setup, field: str, grants: Mapping[str, Grant]) -> Iterator[Finding]:
    """One line for all of *field* that may do everything."""
    if free := [f"{field}.{name}" for name, each in grants.items() if EVERYTHING in _held(each, setup.config.roles)]:
        what = f"{names(free)}: the scope `*` opens every tool, those of servers that are still to come as well"
        yield finding("scope-everything", setup.at(free[0]), what, f"{free[0]}.scopes: [{_narrower(setup)}]")


def _narrower(setup: Setup) -> str:
    return ", ".join(f"{_namespace(name, setup)}:read" for name in list(setup.config.servers)[:2]) or "crm:read"


def _namespace(server: str, setup: Setup) -> str:
    """Its name, or the first that the tools of a pack have of their own."""
    return next((id.partition("/")[0] for id, owner in setup.config.packed.items() if owner == server), server)


def _held(grant: Grant | bool, roles: Mapping[str, tuple[str, ...]]) -> Scopes:
    return scopes_of(grant, roles) if isinstance(grant, Grant) else frozenset()


def _transport(setup: Setup) -> Iterator[Finding]:
    http = setup.config.http
    behind_tls = (http.public_url or "").lower().startswith("https://")
    if not is_loopback(http.host) and http.tls is None:
        what = f"http.host: {http.host} is served without TLS: tokens and results can be read on the way"
        # Behind a proxy that ends TLS it is the proxy's network alone.
        severity: Severity = "warning" if behind_tls else "error"
        fix = "http: {tls: {cert: cert.pem, key: key.pem}}"
        yield finding("tls-missing", setup.at("http.host"), what, fix, severity=severity)
    elif http.public_url and not behind_tls and http.tls is None and setup.exposed:
        what = f"http.public_url: clients come to {http.public_url} without TLS"
        yield finding("tls-missing", setup.at("http.public_url"), what, "http: {public_url: https://mcp.example.com}")
    if plain := [each for each in http.allowed_origins if each.startswith("http://") and not _is_local(each)]:
        what = f"http.allowed_origins: pages of {names(plain)} come without TLS, so anybody between may change them"
        yield finding("origin-plain", setup.at("http.allowed_origins"), what, 'http: {allowed_origins: ["https://…"]}')
    if setup.exposed and not setup.config.seal.keys:
        what = "seal.keys: none, so that each restart ends every client's session"
        yield finding("seal-keys-missing", setup.at("seal"), what, _SEAL)


def _is_local(origin: str) -> bool:
    return is_loopback(urlsplit(origin).hostname or "")
