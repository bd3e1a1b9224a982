"""The configuration: frozen structs, read from YAML, JSON or TOML, or from an `mcpServers` file.

Nothing else in Bascule reads a configuration file or expands a reference in one.
"""

import base64
import binascii
import ipaddress
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, get_args, get_type_hints

import msgspec
import yaml

from bascule.errors import ConfigInvalid
from bascule.options import Bytes, Count, Options, Port, Seconds
from bascule.upstream.http import HttpOptions
from bascule.upstream.stdio import StdioOptions
from bascule.wire.names import MAX_LENGTH, slug
from bascule.wire.seal import KEY_BYTES

DEFAULT_PORT: Final = 8777
_LEAST_TOKEN: Final = 16  # characters of a bearer; less can be guessed
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

ServerOptions: TypeAlias = StdioOptions | HttpOptions


class ListenOptions(Options, frozen=True):
    """Where clients reach Bascule, and who may."""

    host: str = "127.0.0.1"
    port: Port = DEFAULT_PORT
    allowed_hosts: tuple[str, ...] = ()  # names that clients may use for this machine, without port
    allowed_origins: tuple[str, ...] = ()  # web pages that may call, such as https://console.example
    bearer: str | None = None  # the token that every client has to send; a reference such as ${env:TOKEN}
    max_body_bytes: Bytes = 4 * 1024 * 1024
    max_sessions: Count = 10_000
    session_idle_s: Seconds = 1800.0
    session_max_s: Seconds = 86_400.0  # however busy it is, a session ends after so long


class SealOptions(Options, frozen=True):
    """The keys of what clients keep for us: session ids, the state of parked calls."""

    # Newest first: the first seals, all open. References such as ${env:SEAL_KEY}, to 32 bytes in base64
    # (`openssl rand -base64 32`). None: a key of this process, gone when it ends.
    keys: tuple[str, ...] = ()


class ParkingOptions(Options, frozen=True):
    """Calls that wait, at a server of the old protocol, for a stateless client to come back with answers."""

    ttl_s: Seconds = 600.0  # how long one waits for each of its answers
    max_per_caller: Annotated[int, msgspec.Meta(ge=1)] = 100


class Config(Options, frozen=True):
    """A whole configuration."""

    http: ListenOptions = ListenOptions()
    seal: SealOptions = SealOptions()
    parking: ParkingOptions = ParkingOptions()
    replicas: Annotated[int, msgspec.Meta(ge=1)] = 1  # how many processes answer under one address
    servers: Mapping[str, ServerOptions] = msgspec.field(default_factory=dict)
    aliases: Mapping[str, str] = msgspec.field(default_factory=dict)  # `namespace/name` -> name on the wire
    patience_s: Seconds = 10.0  # how long the first list waits for servers that are still starting


class _Outline(Options, frozen=True):
    """The file before its servers are told apart by their keys."""

    http: ListenOptions = ListenOptions()
    seal: SealOptions = SealOptions()
    parking: ParkingOptions = ParkingOptions()
    replicas: Annotated[int, msgspec.Meta(ge=1)] = 1
    servers: Mapping[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    aliases: Mapping[str, str] = msgspec.field(default_factory=dict)
    patience_s: Seconds = 10.0


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check *path*. Raises ConfigInvalid naming the file, the line and the field."""
    return _Source(path, _read(path), environ).config()


def load_servers(path: Path, environ: Mapping[str, str]) -> Config:
    """Read an `mcpServers` file of Claude, Cursor, VS Code or mcp-proxy. Raises ConfigInvalid."""
    return _Source(path, _read(path), environ).config_of_clients()


def check(config: Config) -> Config:
    """*config* itself, if its parts fit together. Raises ConfigInvalid."""
    for logical, wire in config.aliases.items():
        if not wire or len(wire) > MAX_LENGTH or slug(wire) != wire:
            raise ConfigInvalid(f"{wire!r} is not a name for clients: at most {MAX_LENGTH} of A-Z a-z 0-9 _ -",
                                field=f"aliases.{logical}")  # fmt: skip
        if logical.partition("/")[0] not in config.servers:
            raise ConfigInvalid(f"no server {logical.partition('/')[0]!r}", field=f"aliases.{logical}")
    if len(set(config.aliases.values())) != len(config.aliases):
        raise ConfigInvalid("two aliases are the same name", field="aliases")
    if config.http.bearer is None and not is_loopback(config.http.host):
        raise ConfigInvalid(
            f"binding {config.http.host!r} opens every server to the network: set http.bearer to a reference"
            " such as ${env:BASCULE_TOKEN} (`bascule run`: --token-env BASCULE_TOKEN), or bind 127.0.0.1",
            field="http.host",
        )
    if config.http.bearer is not None and len(config.http.bearer) < _LEAST_TOKEN:
        raise ConfigInvalid(f"the token has fewer than {_LEAST_TOKEN} characters", field="http.bearer")
    if config.http.bearer is not None and not _TOKEN.fullmatch(config.http.bearer):
        raise ConfigInvalid("the token holds characters that an HTTP header cannot carry", field="http.bearer")
    for name, options in config.servers.items():
        for header, value in options.headers.items() if isinstance(options, HttpOptions) else ():
            if not _HEADER_NAME.fullmatch(header) or not _HEADER_VALUE.fullmatch(value):
                raise ConfigInvalid(
                    "its name or its value is what an HTTP header cannot carry; is there a newline at the end?",
                    field=f"servers.{name}.headers.{header}",
                )
    for number, text in enumerate(config.seal.keys):
        seal_key(text, f"seal.keys.{number}")
    if config.replicas > 1 and not config.seal.keys:
        raise ConfigInvalid(
            "several replicas need the same key, or none opens what another sealed: set seal.keys to a reference"
            " such as ${env:SEAL_KEY}, made with `openssl rand -base64 32`",
            field="replicas",
        )
    return config


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
        "additionalProperties": {"anyOf": [stdio, http]},
    }
    del whole
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **outline,
        "title": "Bascule configuration",
        "description": Config.__doc__,
        "$defs": components,
    }


# ---- reading -------------------------------------------------------------------------------------


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise ConfigInvalid("no such file; give -c FILE or --servers FILE", place=str(path)) from error
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigInvalid(f"cannot be read: {why}", place=str(path)) from error


class _Source:
    """One file being read: its text for line numbers, its value for content."""

    def __init__(self, path: Path, text: str, environ: Mapping[str, str]) -> None:
        self._path = path
        self._text = text
        self._environ = environ

    def config(self) -> Config:
        value = self._value()
        outline = self._convert(value, _Outline, "")
        bearer = outline.http.bearer
        token = None if bearer is None else self._secret(bearer, "http.bearer")
        servers = {name: self._server(name, each) for name, each in outline.servers.items()}
        config = Config(
            http=msgspec.structs.replace(outline.http, bearer=token),
            seal=SealOptions(keys=tuple(self._secret(k, f"seal.keys.{i}") for i, k in enumerate(outline.seal.keys))),
            parking=outline.parking,
            replicas=outline.replicas,
            servers=servers,
            aliases=outline.aliases,
            patience_s=outline.patience_s,
        )
        return self._checked(config)

    def config_of_clients(self) -> Config:
        value = self._value()
        entries = value.get("mcpServers", value.get("servers")) if isinstance(value, dict) else None
        if not isinstance(entries, dict):
            raise self._wrong('there is no "mcpServers" object in it', "")
        servers: dict[str, ServerOptions] = {}
        for name, entry in entries.items():
            field = f"mcpServers.{name}"
            if not isinstance(entry, dict):
                raise self._wrong("expected an object", field)
            if entry.get("disabled") is True or entry.get("enabled") is False:
                continue
            space = slug(name)
            if not space or space in servers:
                raise self._wrong(f"{name!r} leaves no name of its own: use A-Z a-z 0-9 _ -", field)
            servers[space] = self._server(space, _of_client(entry), field)
        return self._checked(Config(servers=servers))

    def _value(self) -> Any:
        if not self._text.strip():
            # An editor that empties the file before it writes must not stop every server.
            raise ConfigInvalid("is empty; write `servers: {}` if no server is what you want", place=str(self._path))
        try:
            match self._path.suffix:
                case ".json":
                    return json.loads(self._text)
                case ".toml":
                    return tomllib.loads(self._text)
                case _:
                    return yaml.safe_load(self._text) or {}
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigInvalid(f"not YAML: {error.problem}", place=f"{self._path}:{line}") from error
        except json.JSONDecodeError as error:
            raise ConfigInvalid(f"not JSON: {error.msg}", place=f"{self._path}:{error.lineno}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigInvalid(f"not TOML: {error}", place=str(self._path)) from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date 2026-13-01, a control character
            raise ConfigInvalid(f"cannot be read: {error}", place=str(self._path)) from error

    def _server(self, name: str, entry: dict[str, Any], field: str = "") -> ServerOptions:
        field = field or f"servers.{name}"
        if not is_server_name(name):
            raise self._wrong("a server's name has at most 32 of A-Z a-z 0-9 _ -", field)
        if ("command" in entry) == ("url" in entry):
            raise self._wrong("a server has either a command or a url", field)
        kind: type[ServerOptions] = StdioOptions if "command" in entry else HttpOptions
        options: ServerOptions = self._convert(self._expanded(entry, field), kind, field)
        if isinstance(options, HttpOptions) and not re.match(r"https?://[^/\s]+", options.url):
            # As it stands in the file: expanded, it may hold a secret.
            raise self._wrong(f"{entry['url']!r} is not an http or https URL", f"{field}.url")
        return options

    def _convert(self, value: Any, kind: type[Any], field: str) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            message, _, where = str(error).partition(" - at `")
            inner = where.rstrip("`").removeprefix("key` in `").removeprefix("$").replace("[...]", "").strip(".")
            unknown = re.search(r"unknown field `(\w+)`", message)
            path = ".".join(part for part in (field, inner, unknown[1] if unknown else "") if part)
            choices = get_args(get_type_hints(kind).get(inner)) if message.startswith("Invalid enum value") else ()
            message += f"; there are {', '.join(map(str, choices))}" if choices else ""
            raise self._wrong(message, path) from error

    def _secret(self, text: str, field: str) -> str:
        """What the reference *text* stands for. A secret itself in its place is refused."""
        if ":-" in text or not _REFERENCE.search(text):
            raise self._wrong(
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
            raise self._wrong(f"cannot resolve {match[0]}: use ${{env:NAME}} or ${{file:PATH}}", field)
        found = resolver(name, self._environ)
        if found is None and default is None and source == "file":
            raise self._wrong(f"{match[0]}: there is no such text file, or it cannot be read", field)
        if found is None and default is None:
            secret = field.startswith(("http.bearer", "seal."))  # which has no default
            instead = "" if secret else f" or write ${{{name}:-default}}"
            raise self._wrong(f"{match[0]} is not set; export it{instead}", field)
        return found if found is not None else default

    def _checked(self, config: Config) -> Config:
        try:
            return check(config)
        except ConfigInvalid as error:
            message = str(error).removeprefix(f"{error.field}: ")
            raise self._wrong(message, error.field) from error

    def _wrong(self, message: str, field: str) -> ConfigInvalid:
        line = None if self._path.suffix == ".toml" else _line_of(self._text, field)
        return ConfigInvalid(message, place=f"{self._path}:{line}" if line else str(self._path), field=field)


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


def _line_of(text: str, field: str) -> int | None:
    """The line of a dotted *field* in YAML or JSON; of its nearest ancestor when it is not there itself."""
    try:
        node = yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    line: int | None = None
    for part in re.split(r"[.\[\]]+", field):
        if not isinstance(node, yaml.MappingNode):
            break
        pair = next(((key, inner) for key, inner in node.value if key.value == part), None)
        if pair is None:
            break
        line, node = pair[0].start_mark.line + 1, pair[1]
    return line
