"""The configuration: frozen structs, read from YAML, JSON or TOML, or from an `mcpServers` file.

Nothing else in Bascule reads a configuration file or expands a reference in one.
"""

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from bascule import documents
from bascule.console.options import ConsoleOptions
from bascule.contract.derive import Sources
from bascule.contract.model import ConfirmGate, Document, NotNegative, Terms
from bascule.contract.versions import NOTHING_REGISTERED, Registered
from bascule.errors import ConfigInvalid
from bascule.observe.options import LogsOptions, MetricsOptions, TracingOptions
from bascule.options import Bytes, Count, Options, Port, Seconds
from bascule.options_tls import TlsOptions
from bascule.packs import entry as packs
from bascule.policy import fallbacks, fit
from bascule.policy.allowances import Allowances
from bascule.policy.guard import compile_gate, compile_guards
from bascule.policy.options import AuthOptions, CallerLimits, CallerOptions, Grant, LimitsOptions, PolicyOptions
from bascule.store.options import (
    ApprovalOptions,
    AuditMode,
    AuditOptions,
    CacheOptions,
    JournalOptions,
    RegistryOptions,
)
from bascule.text import Text, read_text
from bascule.upstream.http import HttpOptions
from bascule.upstream.stdio import StdioOptions
from bascule.wire.names import MAX_LENGTH, Naming, slug
from bascule.wire.seal import KEY_BYTES

DEFAULT_PORT: Final = 8777
HERE: Final = Path("bascule.yaml")
_LEAST_TOKEN: Final = 16  # characters of a bearer; less can be guessed
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

ServerOptions: TypeAlias = StdioOptions | HttpOptions


class ListenOptions(Options, frozen=True):
    """Where clients reach Bascule, and who may."""

    host: str = "127.0.0.1"
    port: Port = DEFAULT_PORT
    public_url: str | None = None  # what clients call it by, such as https://mcp.example.com; default: their Host
    tls: TlsOptions | None = None
    allowed_hosts: tuple[str, ...] = ()  # names that clients may use for this machine, without port
    allowed_origins: tuple[str, ...] = ()  # web pages that may call, such as https://console.example
    bearer: str | None = None  # the token that every client has to send; a reference such as ${env:TOKEN}
    max_body_bytes: Bytes = 4 * 1024 * 1024
    max_sessions: Count = 10_000
    session_idle_s: Seconds = 1800.0
    session_max_s: Seconds = 86_400.0  # however busy it is, a session ends after so long


class DrainOptions(Options, frozen=True):
    """How a process ends that was told to."""

    delay_s: NotNegative = 5.0  # it says that it is not ready, and still serves: balancers need a moment to notice
    calls_s: NotNegative = 25.0  # then, for the calls that run


class OverloadOptions(Options, frozen=True):
    """When requests are turned away before they are even read."""

    max_lag_s: Seconds = 0.25  # of the event loop
    max_memory_percent: Annotated[float, msgspec.Meta(gt=0, le=100)] = 80.0  # of what this process may have
    max_calls: Annotated[int, msgspec.Meta(ge=1)] = 10_000  # at one time, waiting ones included


class SealOptions(Options, frozen=True):
    """The keys of what clients keep for us: session ids, the state of parked calls."""

    # Newest first: the first seals, all open. References such as ${env:SEAL_KEY}, to 32 bytes in base64
    # (`openssl rand -base64 32`). None: a key of this process, gone when it ends.
    keys: tuple[str, ...] = ()


class ParkingOptions(Options, frozen=True):
    """Calls that wait, at a server of the old protocol, for a stateless client to come back with answers."""

    ttl_s: Seconds = 600.0  # how long one waits for each of its answers
    max_per_caller: Annotated[int, msgspec.Meta(ge=1)] = 100


class _Common(Options, frozen=True):
    """What stands in the file as it is used."""

    http: ListenOptions = ListenOptions()
    seal: SealOptions = SealOptions()
    parking: ParkingOptions = ParkingOptions()
    replicas: Annotated[int, msgspec.Meta(ge=1)] = 1  # how many processes answer under one address
    aliases: Mapping[str, str] = msgspec.field(default_factory=dict)  # `namespace/name` -> name on the wire
    patience_s: Seconds = 10.0  # how long the first list waits for servers that are still starting
    roles: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)  # role -> scopes
    callers: Mapping[str, CallerOptions] = msgspec.field(default_factory=dict)
    policy: PolicyOptions = PolicyOptions()
    limits: LimitsOptions = LimitsOptions()
    audit: AuditMode | AuditOptions = AuditOptions()
    journal: JournalOptions = JournalOptions()
    approvals: ApprovalOptions = ApprovalOptions()
    cache: CacheOptions = CacheOptions()
    registry: RegistryOptions = RegistryOptions()
    console: ConsoleOptions = ConsoleOptions()
    metrics: MetricsOptions = MetricsOptions()
    tracing: TracingOptions = TracingOptions()
    logs: LogsOptions = LogsOptions()
    drain: DrainOptions = DrainOptions()
    overload: OverloadOptions = OverloadOptions()
    contracts: tuple[str | Document, ...] = ()  # files or folders, beside the configuration, or documents


class Config(_Common, frozen=True):
    """A whole configuration."""

    servers: Mapping[str, ServerOptions] = msgspec.field(default_factory=dict)
    auth: AuthOptions = AuthOptions()
    state_dir: str = ""  # where keys and records are kept; default: `bascule` in the user's state folder
    documents: tuple[tuple[str, Document], ...] = ()  # all contracts, with their places; not in the file
    bare_folders: tuple[tuple[str, Path], ...] = ()  # of contracts, with none in it, and its place; not in the file
    packed: Mapping[str, str] = {}  # id -> the server whose pack it is of; not in the file
    packs: frozenset[str] = frozenset()  # the servers that are packs; not in the file


class _Outline(_Common, frozen=True):
    """The file before its servers are told apart by their keys, and references replaced."""

    servers: Mapping[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    auth: dict[str, Any] = msgspec.field(default_factory=dict)
    state_dir: str = ""


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check *path*. Raises ConfigInvalid naming the file, the line and the field."""
    return _Source(_read(path), environ).config()


def load_value(value: Mapping[str, Any], environ: Mapping[str, str], place: str) -> Config:
    """Check a configuration that no file holds; mistakes in it are said to stand in *place*. Raises ConfigInvalid."""
    return _Source(Text(Path(place).with_suffix(".json"), json.dumps(value)), environ).config()


def _read(path: Path) -> Text:
    return Text(path, read_text(path, "; give -c FILE or --servers FILE"))


def contract_paths(path: Path, config: Config) -> list[Path]:
    """The files and folders that *config*, read from *path*, takes contracts from."""
    return [_beside(path, each) for each in config.contracts if isinstance(each, str)]


def _beside(path: Path, said: str) -> Path:
    """A path that a configuration file names: beside itself, unless it is absolute."""
    return path.parent / Path(said).expanduser()


def _is_bare(path: Path) -> bool:
    """Whether *path* is a folder without a contract. Raises ConfigInvalid where that cannot be told."""
    return path.is_dir() and not documents.inside(path)


def load_records(path: Path, environ: Mapping[str, str]) -> Config:
    """What *path* says of callers and of where records are kept; no secret has to be there. Raises ConfigInvalid."""
    return _Source(_read(path), environ).records()


def load_own_records(path: Path | None, environ: Mapping[str, str]) -> Config:
    """`load_records` of *path*, or of one's own file; without either, of what `bascule run` keeps."""
    path = path or own_file(environ)
    if path == HERE and not path.exists():
        return Config(state_dir=str(default_state_dir(environ)))
    return load_records(path, environ)


def own_file(environ: Mapping[str, str]) -> Path:
    """The configuration that is meant when nobody names one: the one of this folder, else what `bascule up` made."""
    home = home_file(environ)
    return HERE if HERE.exists() or not home.exists() else home


def home_file(environ: Mapping[str, str]) -> Path:
    """Where `bascule up` keeps its configuration (XDG Base Directory Specification)."""
    return _user_folder(environ, "XDG_CONFIG_HOME", ".config") / "bascule" / HERE


def load_servers(path: Path, environ: Mapping[str, str]) -> Config:
    """Read an `mcpServers` file of Claude, Cursor, VS Code or mcp-proxy. Raises ConfigInvalid."""
    return _Source(_read(path), environ).config_of_clients()


def check(config: Config) -> Config:
    """*config* itself, if its parts fit together. Raises ConfigInvalid."""
    for logical, wire in config.aliases.items():
        if not wire or len(wire) > MAX_LENGTH or slug(wire) != wire:
            raise ConfigInvalid(f"{wire!r} is not a name for clients: at most {MAX_LENGTH} of A-Z a-z 0-9 _ -",
                                field=f"aliases.{logical}")  # fmt: skip
        if place_of(config, logical) is None:
            raise ConfigInvalid(f"no server {logical.partition('/')[0]!r}", field=f"aliases.{logical}")
    if len(set(config.aliases.values())) != len(config.aliases):
        raise ConfigInvalid("two aliases are the same name", field="aliases")
    fit.check(config.auth, config.roles, config.callers, config.limits, config.servers)
    _check_rules(config)
    wrong = fallbacks.problems({name: options.fallback for name, options in config.servers.items()})
    for name, problem in wrong.items():
        raise ConfigInvalid(problem, field=f"servers.{name}.fallback")
    if not identifies(config) and config.auth.anonymous is None and not is_loopback(config.http.host):
        raise ConfigInvalid(
            f"binding {config.http.host!r} opens every server to the network: name callers or auth.issuers, set"
            " http.bearer to a reference such as ${env:BASCULE_TOKEN} (`bascule run`: --token-env BASCULE_TOKEN),"
            " or bind 127.0.0.1",
            field="http.host",
        )
    if config.auth.issuers and config.http.public_url is None and not is_loopback(config.http.host):
        raise ConfigInvalid(
            "tokens are made for one address: say which one clients use, such as https://mcp.example.com",
            field="http.public_url",
        )
    asked = config.http.tls is not None and config.http.tls.client_cert != "none"
    if any(caller.certificate for caller in config.callers.values()) and not asked:
        raise ConfigInvalid("callers have certificates, but nobody is asked for one: set http.tls.client_cert",
                            field="callers")  # fmt: skip
    if config.http.bearer is not None and len(config.http.bearer) < _LEAST_TOKEN:
        raise ConfigInvalid(f"the token has fewer than {_LEAST_TOKEN} characters", field="http.bearer")
    if config.http.bearer is not None and not _TOKEN.fullmatch(config.http.bearer):
        raise ConfigInvalid("the token holds characters that an HTTP header cannot carry", field="http.bearer")
    same = next((name for name, caller in config.callers.items() if config.http.bearer in caller.keys), None)
    if same is not None:
        raise ConfigInvalid(f"the caller {same!r} has the same key: which of the two would call?", field="http.bearer")
    for name, options in config.servers.items():
        for header, value in options.headers.items() if isinstance(options, HttpOptions) else ():
            if not _HEADER_NAME.fullmatch(header) or not _HEADER_VALUE.fullmatch(value):
                raise ConfigInvalid(
                    "its name or its value is what an HTTP header cannot carry; is there a newline at the end?",
                    field=f"servers.{name}.headers.{header}",
                )
    for number, text in enumerate(config.seal.keys):
        seal_key(text, f"seal.keys.{number}")
    if config.replicas > 1 and (counted := _counted(config)):
        raise ConfigInvalid(
            f"{counted} would be counted by each replica for itself: there is no shared state yet; run one, or take"
            " the limits away",
            field="replicas",
        )
    if config.replicas > 1 and not config.seal.keys:
        raise ConfigInvalid(
            "several replicas need the same key, or none opens what another sealed: set seal.keys to a reference"
            " such as ${env:SEAL_KEY}, made with `openssl rand -base64 32`",
            field="replicas",
        )
    return config


def _check_rules(config: Config) -> None:
    """Raise ConfigInvalid for a guardrail or a gate that cannot be one."""
    said: list[tuple[str, Terms]] = [(f"policy.rules.{number}", r) for number, r in enumerate(config.policy.rules)]
    for place, document in config.documents:
        behind = (document.served_by or "").partition("/")[0]
        if behind and behind not in config.servers:
            raise ConfigInvalid(f"there is no server {behind!r}", place=place, field="served_by")
    for place, terms in [*said, *config.documents]:
        rules, gate, schema = terms.guardrails, terms.confirm_gate, terms.input_schema
        try:
            compile_guards(rules or (), schema or None)
            if isinstance(gate, ConfirmGate):
                compile_gate(gate.when, gate.message, schema or None)
        except ConfigInvalid as error:
            message = str(error).removeprefix(f"{error.field}: ")
            inside = place.startswith("policy.")
            field = f"{place}.{error.field}" if inside else error.field
            raise ConfigInvalid(message, place="" if inside else place, field=field) from error


def _counted(config: Config) -> str:
    """Which bound of the configuration is counted in this process, "" if none is."""
    if config.limits.servers or any(
        limits not in (None, CallerLimits())
        for limits in (config.limits.caller, *(caller.limits for caller in config.callers.values()))
    ):
        return "a limit"
    said = [*config.policy.rules, *(document for _, document in config.documents)]
    if any(terms.rate_limit or terms.total_rate_limit or terms.max_concurrent for terms in said):
        return "the limit of a tool"
    return "what a guardrail looks at" if sources_of(config).look_at("session") else ""


def identifies(config: Config) -> bool:
    """Whether callers have to say who they are."""
    return bool(config.http.bearer or config.callers or config.auth.issuers)


def tells_apart(config: Config) -> bool:
    """Whether callers differ in what they may do, so that each has to be looked at."""
    return bool(config.callers or config.auth.issuers or isinstance(config.auth.anonymous, Grant))


def audit_of(config: _Common) -> AuditOptions:
    """How calls are recorded: `audit: strict` is short for the mode."""
    return config.audit if isinstance(config.audit, AuditOptions) else AuditOptions(mode=config.audit)


def naming_of(config: Config) -> Naming:
    """What the things of its servers are called."""
    return Naming(
        own=frozenset(name for name, options in config.servers.items() if options.names == "own"),
        servers=frozenset(config.servers),
        packs=config.packs,
        promised=config.packed,
    )


def place_of(config: Config, id: str) -> tuple[str, str] | None:
    """The server that *id* is looked for at, and its own name for the thing; None if there is no such server."""
    places = dict(naming_of(config).places(id, config.servers))
    space = id.partition("/")[0]
    server = space if space in places else config.packed.get(id) or next(iter(places), None)
    return None if server is None else (server, places[server])


def sources_of(config: Config, registered: Registered = NOTHING_REGISTERED, today: str = "") -> Sources:
    """All that *config* says of contracts, and the registry beside it. *today*: YYYY-MM-DD; "": nothing has ended."""
    policy = config.policy
    return Sources(
        config.documents,
        policy.rules,
        trusted=frozenset(name for name, options in config.servers.items() if options.trusted),
        scoped=policy.default == "deny",
        validate_arguments=policy.validate_arguments,
        validate_results=policy.validate_results,
        registered=registered,
        today=today,
    )


def allowances_of(config: Config) -> Allowances:
    """What each caller may use up."""
    own = {name: caller.limits for name, caller in config.callers.items() if caller.limits is not None}
    return Allowances(config.limits.caller, own)


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """`bascule` in the user's state folder (XDG Base Directory Specification)."""
    return _user_folder(environ, "XDG_STATE_HOME", ".local/state") / "bascule"


def _user_folder(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """A base folder of the user's; a relative one counts as not set, as the specification wants it."""
    base = environ.get(variable, "")
    return Path(base) if base.startswith("/") else Path.home() / default


def seal_key(text: str, field: str = "seal.keys") -> bytes:
    """The key that *text* spells in base64. Raises ConfigInvalid."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigInvalid(f"a key is {KEY_BYTES} bytes in base64: `openssl rand -base64 {KEY_BYTES}`", field=field)
    return key


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach *host*. A name such as 127.example.com is anybody's."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_server_name(name: str) -> bool:
    """Whether *name* can be a namespace and a part of a path."""
    return bool(name) and slug(name) == name and len(name) <= 32


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a configuration file, for editors."""
    (whole, stdio, http), components = msgspec.json.schema_components(
        [_Outline, StdioOptions, HttpOptions], ref_template="#/$defs/{name}"
    )
    outline = components.pop("_Outline")
    outline["properties"]["servers"] = {
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z0-9_-]{1,32}$"},
        "additionalProperties": {"anyOf": [stdio, http, _pack_schema(components["StdioOptions"])]},
    }
    del whole
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **outline,
        "title": "Bascule configuration",
        "description": Config.__doc__,
        "$defs": components,
    }


def _pack_schema(stdio: Mapping[str, Any]) -> dict[str, Any]:
    """A server that is a pack: as one with a command, but for what the pack says itself."""
    own = {"pack": {"type": "string"}, "settings": {"type": "object"}}
    theirs = {name: each for name, each in stdio["properties"].items() if name not in packs.NOT_ITS}
    return {"type": "object", "properties": own | theirs, "required": ["pack"], "additionalProperties": False}


# ---- reading -------------------------------------------------------------------------------------


_OfPacks: TypeAlias = Mapping[str, Sequence[tuple[str, Document]]]  # by server


def _owners(of_packs: _OfPacks) -> Mapping[str, str]:
    """The server whose pack each id is of: of two servers of one pack the first has it, as in a list."""
    owners: dict[str, str] = {}
    for name, contracts in of_packs.items():
        for _, document in contracts:
            owners.setdefault(document.id, name)
    return owners


class _Source:
    """One file being read, with what its references stand for."""

    def __init__(self, text: Text, environ: Mapping[str, str]) -> None:
        self._path = text.path
        self._text = text
        self._environ = environ

    def config(self) -> Config:
        value = self._value()
        outline = self._text.convert(value, _Outline, "")
        bearer = outline.http.bearer
        token = None if bearer is None else self._secret(bearer, "http.bearer")
        said = {name: getattr(outline, name) for name in _Common.__struct_fields__} | {
            "http": msgspec.structs.replace(outline.http, bearer=token, tls=self._tls(outline.http.tls)),
            "seal": SealOptions(keys=self._secrets(outline.seal.keys, "seal.keys")),
            "callers": {name: self._caller(name, each) for name, each in outline.callers.items()},
            "audit": self._audit(outline),
            "console": self._console(outline.console),
            "tracing": self._tracing(outline.tracing),
        }
        of_packs = self._pack_contracts(outline.servers)
        config = Config(
            **said,
            servers={name: self._server(name, each) for name, each in outline.servers.items()},
            auth=self._auth(outline.auth),
            state_dir=str(self._state_dir(outline.state_dir)),
            documents=self._all_documents(outline, of_packs),
            bare_folders=tuple(self._bare_folders(outline.contracts)),
            packed=_owners(of_packs),
            packs=frozenset(name for name, entry in outline.servers.items() if "pack" in entry),
        )
        return self._checked(config)

    def records(self) -> Config:
        """The parts that need no reference to be resolved; keys of callers are left out."""
        outline = self._text.convert(self._value(), _Outline, "")
        callers = {name: msgspec.structs.replace(each, keys=()) for name, each in outline.callers.items()}
        config = Config(
            roles=outline.roles,
            callers=callers,
            auth=self._text.convert(outline.auth, AuthOptions, "auth"),
            state_dir=str(self._state_dir(outline.state_dir)),
            http=outline.http,
            audit=self._audit(outline),
            journal=outline.journal,
            approvals=outline.approvals,
            registry=outline.registry,
            policy=outline.policy,
            contracts=outline.contracts,
            documents=self._all_documents(outline, self._pack_contracts(outline.servers)),
            console=outline.console,
        )
        try:
            fit.check(config.auth, config.roles, config.callers, config.limits, outline.servers)
        except ConfigInvalid as error:
            raise self._text.wrong(str(error).removeprefix(f"{error.field}: "), error.field) from error
        return config

    def _tracing(self, said: TracingOptions) -> TracingOptions:
        headers = {name: self._secret(value, f"tracing.headers.{name}") for name, value in said.headers.items()}
        return msgspec.structs.replace(said, headers=headers)

    def _console(self, said: ConsoleOptions) -> ConsoleOptions:
        if said.oidc is None:
            return said
        secret = self._secret(said.oidc.client_secret, "console.oidc.client_secret")
        return msgspec.structs.replace(said, oidc=msgspec.structs.replace(said.oidc, client_secret=secret))

    def _audit(self, outline: _Outline) -> AuditOptions:
        """Its second file beside the configuration, as other paths in it are."""
        options = audit_of(outline)
        if options.anchor is None:
            return options
        return msgspec.structs.replace(options, anchor=str(_beside(self._path, options.anchor)))

    def _tls(self, options: TlsOptions | None) -> TlsOptions | None:
        """Its files beside the configuration, as other paths in it are."""
        if options is None:
            return None
        files = {name: getattr(options, name) for name in ("cert", "key", "client_ca")}
        return msgspec.structs.replace(
            options, **{name: str(_beside(self._path, file)) for name, file in files.items() if file}
        )

    def _secrets(self, texts: Sequence[str], field: str) -> tuple[str, ...]:
        return tuple(self._secret(text, f"{field}.{number}") for number, text in enumerate(texts))

    def _caller(self, name: str, options: CallerOptions) -> CallerOptions:
        return msgspec.structs.replace(options, keys=self._secrets(options.keys, f"callers.{name}.keys"))

    def _auth(self, value: dict[str, Any]) -> AuthOptions:
        """Who may call; addresses in it may be references, secrets have to be."""
        plain = self._text.convert(value, AuthOptions, "auth")
        for name, issuer in plain.issuers.items():
            if issuer.introspection is not None:
                field = f"auth.issuers.{name}.introspection.client_secret"
                self._secret(issuer.introspection.client_secret, field)
        return self._text.convert(self._expanded(value, "auth"), AuthOptions, "auth")

    def _state_dir(self, said: str) -> Path:
        if said:
            return _beside(self._path, said)
        return default_state_dir(self._environ)

    def _all_documents(self, outline: _Outline, of_packs: _OfPacks) -> tuple[tuple[str, Document], ...]:
        """Those of packs first: what the configuration itself says of the same version goes before them."""
        found = (located for contracts in of_packs.values() for located in contracts)
        return (*found, *self._documents(outline.contracts))

    def _documents(self, contracts: Sequence[str | Document]) -> Iterator[tuple[str, Document]]:
        for number, each in enumerate(contracts):
            if isinstance(each, Document):
                yield f"{self._path}: contracts.{number}", each
                continue
            path = _beside(self._path, each)
            if not path.exists():
                made = (
                    "`bascule contract new ID -o FILE` begins a file" if path.suffix else f"`mkdir -p {path}` makes it"
                )
                raise self._text.wrong(f"{path} does not exist; {made}, or take it out", f"contracts.{number}")
            if not _is_bare(path):
                yield from documents.documents(path)

    def _bare_folders(self, contracts: Sequence[str | Document]) -> Iterator[tuple[str, Path]]:
        for number, each in enumerate(contracts):
            if isinstance(each, str) and _is_bare(path := _beside(self._path, each)):
                field = f"contracts.{number}"
                yield f"{self._text.place(field)}: {field}", path

    def config_of_clients(self) -> Config:
        value = self._value()
        entries = value.get("mcpServers", value.get("servers")) if isinstance(value, dict) else None
        if not isinstance(entries, dict):
            raise self._text.wrong('there is no "mcpServers" object in it', "")
        servers: dict[str, ServerOptions] = {}
        for name, entry in entries.items():
            field = f"mcpServers.{name}"
            if not isinstance(entry, dict):
                raise self._text.wrong("expected an object", field)
            if entry.get("disabled") is True or entry.get("enabled") is False:
                continue
            space = slug(name)
            if not space or space in servers:
                raise self._text.wrong(f"{name!r} leaves no name of its own: use A-Z a-z 0-9 _ -", field)
            servers[space] = self._server(space, _of_client(entry), field)
        return self._checked(Config(servers=servers, state_dir=str(default_state_dir(self._environ))))

    def _value(self) -> Any:
        if not self._text.text.strip():
            # An editor that empties the file before it writes must not stop every server.
            raise ConfigInvalid("is empty; write `servers: {}` if no server is what you want", place=str(self._path))
        return self._text.value()

    def _server(self, name: str, entry: dict[str, Any], field: str = "") -> ServerOptions:
        field = field or f"servers.{name}"
        if not is_server_name(name):
            raise self._text.wrong("a server's name has at most 32 of A-Z a-z 0-9 _ -", field)
        if sum(key in entry for key in ("command", "url", "pack")) != 1:
            raise self._text.wrong("a server has either a command, a url or a pack", field)
        kind: type[ServerOptions] = HttpOptions if "url" in entry else StdioOptions
        said = self._expanded(entry, field)
        options: ServerOptions = self._text.convert(self._of_pack(said, field) if "pack" in said else said, kind, field)
        if isinstance(options, HttpOptions) and not re.match(r"https?://[^/\s]+", options.url):
            # As it stands in the file: expanded, it may hold a secret.
            raise self._text.wrong(f"{entry['url']!r} is not an http or https URL", f"{field}.url")
        return options

    def _of_pack(self, entry: dict[str, Any], field: str) -> dict[str, Any]:
        try:
            return packs.stdio_entry(entry, self._path.absolute().parent)
        except ConfigInvalid as error:
            said = str(error).removeprefix(f"{error.field}: ")
            raise self._text.wrong(said, f"{field}.{error.field}" if error.field else field) from error

    def _pack_contracts(self, servers: Mapping[str, dict[str, Any]]) -> _OfPacks:
        """The contracts that come with each server that is a pack, with their places; read once, as that takes long."""
        named = {name: entry["pack"] for name, entry in servers.items() if isinstance(entry.get("pack"), str)}
        return {name: tuple(packs.contracts(name, pack)) for name, pack in named.items()}

    def _secret(self, text: str, field: str) -> str:
        """What the reference *text* stands for. A secret itself in its place is refused."""
        if ":-" in text or not _REFERENCE.search(text):
            raise self._text.wrong(
                "a secret does not stand in the file, not even as a default: write a reference, such as ${env:TOKEN}",
                field,
            )
        found: str = self._expanded(text, field)
        return found

    def _expanded(self, value: Any, field: str) -> Any:
        """*value* with the references in its strings replaced by what they stand for."""
        if isinstance(value, str):
            return _REFERENCE.sub(lambda match: self._resolved(match, field), value)
        if isinstance(value, dict):
            return {key: self._expanded(inner, f"{field}.{key}") for key, inner in value.items()}
        if isinstance(value, list):
            return [self._expanded(inner, field) for inner in value]
        return value

    def _resolved(self, match: "re.Match[str]", field: str) -> str:
        source, name, default = match["source"] or "env", match["name"], match["default"]
        resolver = _RESOLVERS.get(source)
        if resolver is None:
            raise self._text.wrong(f"cannot resolve {match[0]}: use ${{env:NAME}} or ${{file:PATH}}", field)
        found = resolver(name, self._environ)
        if found is None and default is None and source == "file":
            raise self._text.wrong(f"{match[0]}: there is no such text file, or it cannot be read", field)
        if found is None and default is None:
            secret = field.startswith(("http.bearer", "seal.", "callers.", "auth."))  # which has no default
            instead = "" if secret else f" or write ${{{name}:-default}}"
            raise self._text.wrong(f"{match[0]} is not set; export it{instead}", field)
        return found if found is not None else default

    def _checked(self, config: Config) -> Config:
        try:
            return check(config)
        except ConfigInvalid as error:
            # A contract may stand in this file, too: then its place is an entry of the list.
            entry = error.place.removeprefix(f"{self._path}: ")
            if error.place and entry == error.place:
                raise  # it is about another file
            message = str(error).removeprefix(f"{error.place}: ").removeprefix(f"{error.field}: ")
            field = ".".join(part for part in (entry, error.field) if part)
            raise self._text.wrong(message, field) from error


# ${NAME}, ${NAME:-default}, ${env:NAME}, ${file:/run/secrets/name}
_REFERENCE: Final = re.compile(
    r"\$\{(?:(?P<source>[a-z]+):)?(?P<name>[^}:]+|(?<=file:)[^}]+)(?::-(?P<default>[^}]*))?\}"
)


def _from_environment(name: str, environ: Mapping[str, str]) -> str | None:
    return environ.get(name)


def _from_file(name: str, environ: Mapping[str, str]) -> str | None:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # ValueError: not text, or not a path
        return None


_RESOLVERS: Final[Mapping[str, Callable[[str, Mapping[str, str]], str | None]]] = {
    "env": _from_environment,
    "file": _from_file,
}


def _of_client(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of an `mcpServers` file in our words. Keys that only concern a client are left out."""
    ours: dict[str, Any] = {key: entry[key] for key in ("command", "args", "env", "cwd", "headers") if key in entry}
    url = entry.get("url") or entry.get("serverUrl")
    if url is not None and "command" not in entry:
        ours["url"] = url
        ours.pop("env", None)
    else:
        ours.pop("headers", None)
    return ours
