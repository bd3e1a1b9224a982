"""What each field of the configuration means, for the tables of docs/configuration.md (generate.py).

By struct, in the order of the tables; what a struct inherits stands once, with the struct that has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bascule.config import Config, DrainOptions, ListenOptions, OverloadOptions, ParkingOptions, SealOptions
from bascule.console.options import ConsoleLogin, ConsoleOptions
from bascule.contract.model import CachePolicy, ConfirmGate, CostModel, Deprecation, Document, Rule, Slo, Terms
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
from bascule.store.options import ApprovalOptions, AuditOptions, CacheOptions, JournalOptions, RegistryOptions
from bascule.upstream.http import HttpOptions
from bascule.upstream.stdio import StdioOptions

_SECRET: Final = "a literal is refused, and so is a reference with a default"
_TRUSTED: Final = (
    "What it says of itself is believed: `readOnlyHint` and `idempotentHint`, and the contracts in"
    ' `_meta["dev.bascule/contract"]` ([contracts](contracts.md#where-they-stand)).'
)

_TRUST: Final = (
    "Which of the definitions that it lists need an approval: `pin` takes the first of each thing, and withholds it"
    " when it changes; `review` withholds new things too; `auto` takes everything, as `bascule run -- COMMAND` does"
    " ([reviews](reviews.md))."
)
_NAMES: Final = (
    "`prefixed`: its tool `compare` is `server/compare`. `own`: its tools bring their namespaces, so that"
    " `document__compare` is `document/compare`; names without `__` are prefixed all the same"
    " ([names](names-and-paths.md))."
)
_CALL_TIMEOUT: Final = (
    "Longest silence while a call runs: without an answer, progress, or a question to the client for so long, the"
    " server is told to stop. Whatever it shows, 600 s are the most ([deadlines](reliability.md#deadlines))."
)
_FALLBACK: Final = (
    "The server that answers in its place while it fails, tools whose contracts promise the same"
    " ([fallback](reliability.md#fallback))."
)
_DEDUPLICATES: Final = (
    "It runs calls of the same key once by itself. Then it is given a key with each keyed call"
    ' (`_meta["dev.bascule/idempotencyKey"]`, over HTTP also the header), and a call of unknown outcome may be made'
    " again."
)

MEANINGS: Final[Mapping[type[Options], Mapping[str, str]]] = {
    Config: {
        "http": "Where clients reach Bascule.",
        "servers": "The MCP servers by name (at most 32 of `A-Z a-z 0-9 _ -`): one with `command` is started, a"
        " `pack` comes with Bascule,"
        " one with `url` is called. The order is the order of precedence.",
        "aliases": "From `server/name` to the name that clients of `/mcp` see; for tools and prompts."
        " See [names and paths](names-and-paths.md).",
        "patience_s": "How long a list on `/mcp` waits for servers that have not been asked yet. Then it is served"
        " without them, and clients are told when they are there.",
        "auth": "Who may come in: anonymous callers, and the issuers of access tokens.",
        "callers": "Who is known by name: programs and people with API keys or client certificates.",
        "roles": "From a role to its scopes. [Callers](#callers), [issuers](#issuer) and the roles in their tokens"
        " refer to them.",
        "policy": "The operator's rules, which go before what contracts say.",
        "contracts": "Files, folders (with all below them), or documents: what tools, prompts and resources promise"
        " ([contracts](contracts.md)). Paths are relative to this file.",
        "limits": "How much callers may use and servers have to bear.",
        "audit": "The record of every call; `audit: strict` and `audit: off` are short for its `mode`.",
        "journal": "What is kept of calls with an idempotency key.",
        "approvals": "How a person is asked before a call is made.",
        "cache": "Room for answers that may be given again.",
        "registry": "What it takes that a published contract, or a definition that waits, may be used.",
        "console": "The pages under `/console`.",
        "metrics": "What Prometheus can read.",
        "tracing": "Where spans go.",
        "logs": "What is written to standard error.",
        "drain": "How the process ends when it is told to.",
        "overload": "When calls are turned away before they are read.",
        "state_dir": "Where records (audit, journal, approvals), API keys, their pepper and other secrets are kept,"
        " relative to this file; default `$XDG_STATE_HOME/bascule`, `~/.local/state/bascule`"
        " ([what is in it](operations.md#the-state-folder)). On a local disk.",
        "seal": "The keys of session ids and of the state of parked calls.",
        "parking": "Bounds of calls that wait for a stateless client's answers.",
        "replicas": "How many Bascules answer under one address. More than 1 needs `seal.keys` and"
        " [routing](operations.md#several-replicas), and is refused with anything that is counted: limits, budgets,"
        " guardrails.",
    },
    ListenOptions: {
        "host": "Address to listen on. Anything but loopback needs `callers`, `auth.issuers`, `bearer`, or"
        " `auth.anonymous` in so many words.",
        "port": "Port to listen on; 0 takes a free one.",
        "public_url": "What clients call it by, such as `https://mcp.example.com`, with a path if a proxy gives it one."
        " Tokens are made for it and metadata name it, so `auth.issuers` need it when `host` is not loopback. Its name"
        " is allowed in `Host`. Without it, each request's own `Host` counts.",
        "tls": "The certificate, and whether clients show theirs. Without it: plain HTTP.",
        "allowed_hosts": "Names, without port, that clients may use for this machine in `Host`. The address itself"
        " is always allowed; so are `localhost`, `127.0.0.1` and `::1` when it is a loopback or wildcard address.",
        "allowed_origins": "Origins of web pages that may call, such as `https://console.example`. Pages from this"
        " machine may call when `host` is loopback.",
        "bearer": "One token for everything: who sends it is the caller `bearer`, with all scopes. At least 16"
        f" characters, and a reference such as `${{env:BASCULE_TOKEN}}`; {_SECRET}.",
        "max_body_bytes": "Largest request body; a larger one is refused with 413 while it arrives.",
        "max_sessions": "Most sessions of legacy clients at once; one more ends the one that was idle longest.",
        "session_idle_s": "A session that nobody used or listened to for so long is ended.",
        "session_max_s": "However busy it is, a session is ended so long after its `initialize`; its client begins"
        " a new one.",
    },
    TlsOptions: {
        "cert": "File with the server's certificate and, after it, the intermediate ones.",
        "key": "File with its private key, without a pass phrase.",
        "client_ca": "File with the authorities whose client certificates are believed; needed where any is asked for.",
        "client_cert": "`required`: who shows none is turned away in the handshake. `optional`: may come in by other"
        " means. Where one is asked for, TLS 1.3 only.",
    },
    SealOptions: {
        "keys": f"Each 32 bytes in base64 (`openssl rand -base64 32`), and a reference such as `${{env:SEAL_KEY}}`;"
        f" {_SECRET}. The first seals, all open ([rotation](operations.md#seal-keys)). None: a key of this process,"
        " gone when it ends.",
    },
    ParkingOptions: {
        "ttl_s": "How long a call waits for each of its answers; then it is cancelled at the server.",
        "max_per_caller": "Most calls of one caller that wait; one more is cancelled, and refused as `overloaded`.",
    },
    # ---- what is written down, and what ends
    AuditOptions: {
        "mode": "`batched`: calls with an idempotency key wait until the disk has their intent, all others are recorded"
        " behind their answer. `strict`: all calls with a side effect wait. `off`: no records"
        " ([audit](audit.md#when-it-is-written)).",
        "anchor": "A file to which signed heads are copied, best on another machine; relative to this file. Default:"
        " `audit.heads` in the state folder.",
        "arguments": "What is kept of arguments: `digest`, their SHA-256 alone; `redacted`, also their text, without"
        " secrets.",
        "redact": "Names of arguments, at any depth, whose values are never kept.",
    },
    JournalOptions: {
        "keep_s": "How long after its end a call's key gets the stored result; then the key is as new. A call of"
        " unknown outcome is kept for 30 days, one that runs for as long as it runs.",
        "max_per_caller": "Most calls of one caller that are on record; one more is `rate_limited`. None is forgotten"
        " early to make room.",
        "max_result_bytes": "A larger result is not kept: the same key gets `outcome_unknown` with"
        " `result_not_retained`, and the call is not made again.",
    },
    ApprovalOptions: {
        "ttl_s": "How long a question may be answered, and its yes used.",
        "channels": "Who is asked, in this order: the person at the calling client, or whoever looks after approvals.",
        "max_pending": "Questions of one caller that wait at one time; more are `rate_limited`.",
    },
    RegistryOptions: {
        "sign_offs": "Aspects that reviewers have to sign off, each with a scope of its own,"
        " `bascule.reviews:write:security` and `bascule.reviews:write:business`; nobody signs both. None: one approval"
        " of anybody who may review ([reviews](reviews.md), [registry](registry.md)).",
        "freeze": "No version of a tool is promoted while its error budget is spent ([SLOs](slo.md)).",
    },
    ConsoleOptions: {
        "enabled": "Without it there is nothing under `/console`.",
        "session_idle_s": "Who does nothing for so long has to sign in again.",
        "session_max_s": "However busy somebody is, they have to sign in again after so long.",
        "oidc": "Who signs in with an OpenID provider; without it links of `bascule console open` are the only way in.",
        "try_scopes": "From a role to scopes of tools that it has beside its own, when it tries a tool there.",
    },
    ConsoleLogin: {
        "issuer": "Of the OpenID provider, exactly as in the `iss` of its tokens.",
        "client_id": "Under which Bascule is registered there.",
        "client_secret": f"A reference such as `${{env:CONSOLE_SECRET}}`; {_SECRET}.",
        "redirect_url": "As it is registered there. Default: `http.public_url` and `/console/oidc/callback`.",
        "scopes": "What is asked for; `openid` is needed.",
        "name_claim": "The claim that says who somebody is; what is not unique and for ever is no name.",
        "roles_claim": "The claim that says in which groups somebody is.",
        "roles": "From a group to the role that it is here; who is in none of them does not come in.",
    },
    MetricsOptions: {
        "enabled": "Without it nothing is counted for `/metrics`.",
        "listen": "An address for `/metrics` alone, such as `127.0.0.1:9464`, where nobody is asked who they are."
        " Default: beside `/status`, for who may read that ([metrics](observability.md#metrics)).",
    },
    TracingOptions: {
        "endpoint": "Of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`. Without it no call has"
        " a span ([traces](observability.md#traces)).",
        "headers": f"For the collector. References such as `${{env:OTLP_KEY}}`; {_SECRET}.",
        "sample": "Which part of the calls has spans; one that comes with a trace goes by what its client has decided.",
        "service_name": "What the spans say they are of.",
    },
    LogsOptions: {
        "format": "`json`: one object on each line.",
        "calls": "A line for each call: none, those that did not go well, or all ([logs](observability.md#logs)).",
    },
    CacheOptions: {
        "max_bytes": "Of all answers together; what was used least of late makes room.",
    },
    DrainOptions: {
        "delay_s": "After SIGTERM: `/health/ready` is 503 for so long, and calls still run, until balancers have"
        " noticed.",
        "calls_s": "Then: how long the calls that run may still take.",
    },
    OverloadOptions: {
        "max_lag_s": "How late the event loop may be.",
        "max_memory_percent": "Of the memory that its cgroup, or else the machine, has: how much this process may"
        " hold.",
        "max_calls": "Calls that run or wait at one time.",
    },
    StdioOptions: {
        "trust": _TRUST,
        "command": "The program. It is looked for on `PATH`; no shell is involved.",
        "args": "Its arguments.",
        "env": "Its environment, added to the harmless part of Bascule's own. May hold references.",
        "cwd": "Its working directory; default Bascule's.",
        "sandbox": "What it may reach of this machine: `off`, `auto` (the best walls that this machine has) or"
        " `required` (does not start without), or these in detail ([sandbox](sandbox.md)).",
        "runtime": "`docker`: in a container of `image`. Without a Docker daemon the server does not start.",
        "image": "Of the container; with its digest (`name@sha256:…`) it is always the same one.",
        "names": _NAMES,
        "pass_environment": "The process sees all of Bascule's environment, secrets included.",
        "start": "`eager`: with Bascule, and again after it died. `lazy`: when a handshake, a list or a call first"
        " needs it.",
        "sharing": "Who shares a process: everybody, one caller, or nobody but one session."
        " See [protocol](protocol.md#sharing-a-process).",
        "era": "What the server is spoken to in: `auto` asks it (`server/discover`, then `initialize`), the others skip"
        " the question. Clients of both eras are served in any case.",
        "required": "`/health/ready` is 503 while this server cannot be used.",
        "trusted": _TRUSTED,
        "call_timeout_s": _CALL_TIMEOUT,
        "fallback": _FALLBACK,
        "deduplicates": _DEDUPLICATES,
        "start_timeout_s": "Longest wait for the handshake; `npx -y` may have to download first.",
        "idle_stop_s": "Stop a process that nobody used for so long; the next call starts it again. 0: never.",
        "stop_grace_s": "From the end of its input to SIGTERM, when it has to stop; as long again, at most 3 s, to"
        " SIGKILL.",
        "max_message_bytes": "Longest line from the server. A longer one is dropped as it streams by, and the call"
        " it answers fails.",
        "max_processes": "Most processes of this server, when it is not shared; at least 2.",
    },
    SandboxOptions: {
        "mode": "`off`: no walls, only limits. `auto`: the best walls that this machine has. `required`: it does not"
        " start where there are none.",
        "read": "Files and folders that it may read, besides programs and libraries. `~` is the home folder.",
        "write": "Files and folders that it may read and change.",
        "make": "Folders that are made, for this user alone, where they are missing; they may be changed.",
        "network": "`any`, `none`, or the TCP ports that it may connect to.",
        "memory_bytes": "Address space of each process. Node.js reserves far more than it uses.",
        "open_files": "Open files of each process.",
        "processes": "Processes of this user, on the whole machine.",
        "file_bytes": "Largest file that it may write.",
    },
    HttpOptions: {
        "trust": _TRUST,
        "names": _NAMES,
        "url": "Its endpoint, `http` or `https`. Redirects are not followed.",
        "headers": "Sent with every request, such as `Authorization`. May hold references.",
        "era": "What the server is spoken to in: `auto` asks it (`server/discover`), the others skip the question."
        " Clients of both eras are served in any case.",
        "transport": "`streamable`: Streamable HTTP. `sse`: the HTTP+SSE of 2024-11-05; not with `era: modern`. `auto`"
        " begins with the first, and finds the other out.",
        "required": "`/health/ready` is 503 while this server cannot be used.",
        "trusted": _TRUSTED,
        "call_timeout_s": _CALL_TIMEOUT,
        "fallback": _FALLBACK,
        "deduplicates": _DEDUPLICATES,
        "connect_timeout_s": "Longest wait for a connection.",
        "max_message_bytes": "Largest answer, or event of a stream; a larger one fails the call.",
        "max_connections": "Most requests that the server works at, at one time; more calls wait. What waits for a"
        " person's answer or for news does not count, and neither do calls over HTTP+SSE.",
    },
    # ---- who may call
    AuthOptions: {
        "anonymous": "Who comes without a credential: `true`, with all scopes; a grant, with that much; `false`,"
        " nobody. Default: with all scopes while nobody is named at all (no `callers`, `issuers`, `bearer`), else"
        " nobody.",
        "issuers": "Authorization servers whose access tokens are taken, by a short name of yours.",
        "required_scopes": "Without all of these nobody comes in: 403, whatever else a credential grants.",
        "key_environment": "Stands in each API key; one made for another environment is refused.",
    },
    Grant: {
        "roles": "Names in `roles`.",
        "scopes": "Scopes besides those of the roles.",
    },
    CallerOptions: {
        "keys": f"API keys that you make yourself: references to at least 32 characters; {_SECRET}. Better:"
        " `bascule keys create`, which needs nothing here.",
        "certificate": "The subject of its client certificate, such as `CN=billing,O=Example`"
        " ([how](login.md#certificates)).",
        "attributes": "Facts for guardrails, such as `email`: `caller.attributes.email`.",
        "limits": "What this caller may use up, all of it: nothing is added from `limits.caller`.",
    },
    IssuerOptions: {
        "issuer": "Its URL, character by character as tokens have it in `iss`.",
        "audiences": "What `aud` may hold; default: the URL of the endpoint that is called.",
        "algorithms": "What tokens may be signed with; never a shared secret.",
        "types": "What the header `typ` of tokens may say. Many servers write `JWT`.",
        "jwks_url": "Where its keys are; default: what its metadata say.",
        "introspection": "Where tokens that are no JWT are looked up.",
        "name_claim": "The claim that names the caller, who is called `ISSUER:NAME` by the short name of the issuer.",
        "scopes_claim": "The claim with its scopes. Of the standard ones (`openid`, `profile`, `email`, `address`,"
        " `phone`, `offline_access`) none counts.",
        "roles_claim": "The claim with its roles, or a path such as `realm_access.roles`. Roles that `roles` does not"
        " name grant nothing.",
        "attributes": "From an attribute to the claim that it is taken from, for guardrails.",
        "grantable": "Scopes that clients can ask it for. They are advertised, and a call that lacks one of them is"
        " 403 with the scopes that it needs, and not unknown.",
        "skew_s": "How far its clock and ours may be apart.",
        "max_lifetime_s": "A token that lives longer is refused.",
    },
    IntrospectionOptions: {
        "url": "The endpoint (RFC 7662); default: what the issuer's metadata say.",
        "client_id": "Who asks.",
        "client_secret": f"A reference; {_SECRET}.",
        "cache_s": "How long an answer is believed, and so how late a revocation may be noticed.",
    },
    # ---- what they may do
    PolicyOptions: {
        "default": "What a caller needs for a thing whose contract names no scope. `deny`: one made of its name, such"
        " as `crm:write:create_lead`. `allow`: none.",
        "validate_arguments": "What becomes of arguments that do not fit the input schema, at every tool; default:"
        " `block` where a contract or a rule concerns the tool, else `off`.",
        "validate_results": "The same for results and the output schema.",
        "rules": "Partial contracts by pattern. A later one goes before an earlier one; guardrails add up.",
    },
    Rule: {
        "match": "`namespace/name`, with `*` for any text: `*`, `crm/*`, `crm/create_*`.",
        "kinds": "What it is about.",
    },
    Document: {
        "served_by": "`server/tool` that stands behind this version; default: the tool itself"
        " ([versions](versions.md)).",
        "tool": "`namespace/name` of the tool that it is about. Exactly one of the three.",
        "prompt": "The same of a prompt.",
        "resource": "`namespace/` and the URI, or the URI template as the server lists it.",
    },
    Terms: {
        "version": "MAJOR.MINOR.PATCH.",
        "description": "What a model reads.",
        "input_schema": "JSON Schema 2020-12 of the arguments.",
        "output_schema": "JSON Schema 2020-12 of the structured content.",
        "side_effect": "Something is different after a call. `false`: it may be repeated, kept, and made to see whether"
        " the server is back.",
        "idempotent": "The same call twice does what it does once: it is repeated when it failed, or its outcome is"
        " unknown.",
        "require_key": "Calls without an idempotency key are refused as `invalid_params`.",
        "confirm_gate": "A person says yes first: always (`true`), never (`false`), or on a condition.",
        "security_scope": "What a caller needs, one or several (then all of them).",
        "validate_arguments": "What becomes of arguments that do not fit.",
        "validate_results": "What becomes of a result that does not fit.",
        "max_timeout_seconds": "Most time at the server, whatever signs of life it gives; 600 is the most.",
        "latency_budget_ms": "How long a call takes when all is well. Published; nothing enforces it yet.",
        "cost_model": "What a call costs, for budgets.",
        "cache_policy": "For how long an answer is given again; with `side_effect: false` only"
        " ([caching](caching.md)).",
        "rate_limit": "Calls of each caller, such as `100/minute` or `5/10 seconds`.",
        "total_rate_limit": "Calls of all callers together.",
        "max_concurrent": "Calls at one time, of all callers together.",
        "guardrails": "Rules over the arguments, the caller and the session. Of all sources that name some, all apply.",
        "owner_team": "Who answers for it.",
        "owner_email": "Where they are reached.",
        "security_level": "How much harm it can do; guardrails see it as `tool.security_level`.",
        "compliance_status": "Such as `[GDPR_COMPLIANT]`.",
        "last_security_review": "A date, YYYY-MM-DD.",
        "status": "`deprecated`: results carry a warning. `gone`: not listed, and calls are refused as `gone`. The"
        " others change nothing.",
        "deprecation": "What the warning, or the refusal, says.",
        "slo": "What its owners promise, measured as an error budget ([SLOs](slo.md)).",
    },
    ConfirmGate: {
        "when": "A CEL condition; without it, always.",
        "message": "What the person is asked, with values such as `{args.value}` in it.",
        "four_eyes": "Somebody else than the requester says yes: not the person at the calling client, but the inbox"
        " is asked.",
    },
    CostModel: {
        "price_usd": "Price of one unit, in USD.",
        "unit": "What is counted.",
        "estimated_units": "What a call is reserved for in budgets, until it is known what it took.",
    },
    CachePolicy: {
        "ttl_seconds": "How long.",
        "cache_key_fields": "Arguments that tell calls apart; none: all of them.",
    },
    Deprecation: {
        "sunset": "The date of its end, YYYY-MM-DD.",
        "replaced_by": "The id of what to use instead.",
        "migration": "What callers have to change.",
    },
    Slo: {
        "success": "Percent of calls that succeed.",
        "latency_ms": "Within so long…",
        "latency_percent": "…are so many percent of them.",
        "window_days": "Over so many days.",
    },
    Guardrail: {
        "deny": "A CEL condition; where it holds, the call is refused.",
        "ask": "Where it holds, a person is asked ([approvals](approvals.md)); where nobody can be, the call is"
        " refused.",
        "warn": "Where it holds, the result carries a warning.",
        "max_amount": "A number has a limit.",
        "recipients_within": "Addresses are of certain domains, or the caller's own.",
        "path_within": "A path lies under certain folders.",
        "date_window": "A date is not too far away.",
        "max_per_session": "Most calls of this tool in one session.",
        "max_chain_depth": "Most gateways that the call has passed before this one, as its `baggage` says.",
        "effect": "What follows where a ready rule (one without CEL) is broken.",
        "message": "What the caller is told, with values such as `{args.value}` in it.",
    },
    MaxAmount: {
        "field": "A path into the arguments: `amount`, `order.total`, `items[].price`.",
        "limit": "The most; the least is 0.",
    },
    RecipientsWithin: {
        "field": "Where the address, or the list of addresses, is.",
        "domains": "Whose addresses may be written to.",
        "self_only": "Only `caller.attributes.email`.",
    },
    PathWithin: {
        "field": "Where the path is.",
        "roots": "The folders, `..` resolved as text: links are the server's affair.",
    },
    DateWindow: {
        "field": "Where the date or time is.",
        "days_ahead": "At most so far in the future.",
        "days_back": "At most so far in the past.",
    },
    # ---- how much
    LimitsOptions: {
        "caller": "Of every caller that has no `limits` of its own, each by itself.",
        "servers": "By the name of the server.",
        "queued": "Calls that may wait where all places (`concurrent`, `max_concurrent`) are taken, in each line.",
        "queue_timeout_s": "How long they wait; then they are refused as `overloaded`.",
    },
    CallerLimits: {
        "rate": "Calls, such as `600/minute` or `5/10 seconds`.",
        "concurrent": "Calls at one time.",
        "budget": "Money in a window of time.",
        "session_usd": "Money in one session.",
    },
    ServerLimits: {
        "rate": "Calls of all callers together.",
        "concurrent": "Calls of all callers at one time.",
    },
    Budget: {
        "usd": "How much.",
        "per": "In each hour, day or month, which begin as they do in UTC.",
    },
}
