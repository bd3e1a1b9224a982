"""Security: eight criteria."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bascule.admin.doctor import secrets
from bascule.admin.doctor.certificates import expiry
from bascule.admin.doctor.finding import names, plural
from bascule.admin.doctor.setup import Setup, strings
from bascule.admin.scorecard.model import Criterion, Group, Scene, Verdict, idle, met, missing, partly
from bascule.config import identifies, is_loopback
from bascule.store.files import FILE
from bascule.upstream.http import HttpOptions

_IS_POSIX: Final = os.name == "posix"
_PROXIES: Final = ("nginx*.conf", "*nginx*/*.conf", "caddyfile", "traefik*.y*ml", "haproxy*.cfg", "*ingress*.y*ml")


def _authentication(scene: Scene) -> Verdict:
    config = scene.setup.config
    if config.auth.anonymous is True:
        return missing("auth.anonymous: anybody may call", "callers: {NAME: {scopes: […]}}, and take anonymous out")
    if config.callers or config.auth.issuers:
        known = [plural(len(config.callers), "caller")] if config.callers else []
        known += [plural(len(config.auth.issuers), "issuer")] if config.auth.issuers else []
        return met(f"each request says who it is: {' and '.join(known)}")
    if config.http.bearer:
        return partly(
            "http.bearer: one token for everybody", "callers: {NAME: {scopes: […]}} and `bascule keys create NAME`"
        )
    if not identifies(config):
        return missing("nobody is named", "callers: {NAME: {scopes: […]}} and `bascule keys create NAME`")
    return met("each request says who it is")


def _rate_limiting(scene: Scene) -> Verdict:
    config, gain = scene.setup.config, "limits: {caller: {rate: 100/minute}}"
    if config.limits.caller.rate:
        return met(f"limits.caller.rate: {config.limits.caller.rate} for each caller")
    own = [name for name, caller in config.callers.items() if caller.limits and caller.limits.rate]
    if own and len(own) == len(config.callers) and not config.auth.issuers:
        return met(f"each caller has a rate of its own: {names(own)}")
    tools = [each.id for _, each in scene.setup.contracts() if each.rate_limit or each.total_rate_limit]
    servers = [name for name, limits in config.limits.servers.items() if limits.rate]
    if own or tools or servers:
        return partly(f"a rate holds for {names([*own, *servers, *tools])}, and for nobody else", gain)
    return missing("nobody's calls are limited", gain)


def _input_validation(scene: Scene) -> Verdict:
    mode, gain = scene.setup.config.policy.validate_arguments, "policy: {validate_arguments: block}"
    if mode == "block":
        return met("policy.validate_arguments: block, for every tool")
    if mode is not None:
        return partly(f"policy.validate_arguments: {mode}: what does not fit goes through", gain)
    governed = [each.id for _, each in scene.setup.contracts() if each.validate_arguments == "block"]
    if governed or scene.setup.config.policy.rules:
        return partly(f"checked are the arguments of tools with a contract or a rule: {names(governed)}", gain)
    return missing("arguments go through as they come", gain)


def _security_headers(scene: Scene) -> Verdict:
    checked = "Host and Origin of each request are checked, without wildcards"
    if not scene.setup.exposed:
        return met(f"{checked}; only this machine can call")
    if seen := scene.files.holding(r"Strict-Transport-Security|stsSeconds|\bhsts\b"):
        return met(f"{checked}; {seen[0]} sends HSTS")
    return partly(
        f"{checked}; HSTS is not seen", 'add_header Strict-Transport-Security "max-age=63072000" in the proxy'
    )


def _non_root(scene: Scene) -> Verdict:
    if not _IS_POSIX:
        return idle("users have no numbers here")
    database = scene.setup.state / FILE
    if scene.setup.can_look_inside and database.is_file():
        owner = database.stat().st_uid
        if owner == 0:
            return missing(
                f"{database} belongs to root, so Bascule runs as root",
                "run it as a user of its own: useradd -r bascule",
            )
        return met(f"the records belong to user {owner}")
    if seen := scene.files.holding(
        r"^\s*(USER\s+(?!root\b|0\b)\S+|user:\s*[\"']?[1-9]\d*|runAsNonRoot:\s*true|User=(?!root\b)\S+)"
    ):
        return met(f"{seen[0]} names a user that is not root")
    return missing("as whom it runs is not seen", "USER 1001 in the Dockerfile, or User=bascule in the unit")


def _secrets_management(scene: Scene) -> Verdict:
    literal = [field for field, _ in secrets.literals(scene.setup.raw)]
    if literal:
        return missing(f"secrets stand in the file: {names(literal)}", f"{literal[0]}: ${{file:/run/secrets/NAME}}")
    texts = [text for _, text in strings(dict(scene.setup.raw))]
    files, variables = sum("${file:" in each for each in texts), sum("${env:" in each for each in texts)
    if variables and not files:
        gain = "${file:/run/secrets/NAME} for what a secrets manager mounts: it is read again when it changes"
        return partly("secrets come from the environment, which child processes and crash dumps see", gain)
    return met(
        f"secrets come from files: {plural(files, 'reference')}" if files else "there are no secrets in the file"
    )


def _tls(scene: Scene) -> Verdict:
    setup, http = scene.setup, scene.setup.config.http
    if not setup.exposed:
        return idle("only this machine can call")
    if http.tls is not None:
        return _of_certificate(setup, Path(http.tls.cert))
    if (http.public_url or "").startswith("https://"):
        seen = scene.files.holding(r"ssl_certificate\b|\btls\b|certresolver|\bssl\b", *_PROXIES)
        if seen:
            return met(f"TLS ends in {seen[0]}, before {http.public_url}")
        return partly(
            f"http.public_url is {http.public_url}, and what ends its TLS is not seen", "--files FOLDER of the proxy"
        )
    return missing("tokens and results cross the network in the clear", "http: {tls: {cert: cert.pem, key: key.pem}}")


def _of_certificate(setup: Setup, path: Path) -> Verdict:
    try:
        ends = expiry(path)
    except (OSError, ValueError):
        return missing(f"http.tls.cert: {path} cannot be read", "put a certificate there, as PEM")
    if ends.timestamp() <= setup.now_s:
        return missing(f"http.tls.cert ended on {ends:%Y-%m-%d}", "renew it; no restart is needed")
    return met(f"http.tls.cert is good until {datetime.fromtimestamp(ends.timestamp(), UTC):%Y-%m-%d}")


def _no_way_around(scene: Scene) -> Verdict:
    servers = scene.setup.config.servers
    if not servers:
        return idle("there are no servers")
    remote = {name: each for name, each in servers.items() if isinstance(each, HttpOptions)}
    open_ = [
        name for name, each in remote.items() if not is_loopback(urlsplit(each.url).hostname or "") and not each.headers
    ]
    if not open_:
        return met("every server is a process of ours, on this machine, or asks us for a credential")
    gain = f'servers.{open_[0]}.headers: {{Authorization: "Bearer ${{env:TOKEN}}"}}, which the server demands'
    state = missing if len(open_) == len(servers) else partly
    return state(f"who reaches {names(open_)} over the network needs no gateway, and no key", gain)


GROUP: Final = Group(
    "Security",
    [
        Criterion("authentication", "Callers say who they are", "critical", _authentication),
        Criterion("rate-limiting", "Calls of each caller are limited", "critical", _rate_limiting),
        Criterion("input-validation", "Arguments are checked before they go out", "important", _input_validation),
        Criterion("security-headers", "Host, Origin and HSTS", "important", _security_headers),
        Criterion("non-root", "Not run as root", "critical", _non_root),
        Criterion("secrets-management", "Secrets come from a secrets manager", "important", _secrets_management),
        Criterion("tls", "Clients connect over TLS", "critical", _tls),
        Criterion("no-way-around", "Servers are not reached past the gateway", "important", _no_way_around),
    ],
)
