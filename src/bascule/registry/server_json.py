"""From entries of an official registry to servers of a configuration. PURE: nothing is fetched, started or installed.

Whoever can publish to a registry writes what is read here. So names of packages are checked, versions are pinned,
what would be options of a package runner is left out, and a text that this configuration would replace (`${…}`) makes
an entry unusable: it would send a secret of this machine somewhere. A value that is a secret, or that a person has to
give, becomes a reference to the environment.
Source: modelcontextprotocol/registry, server.json, schema of 2025-12-11.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
import yaml

from bascule.upstream.http import HttpOptions
from bascule.upstream.stdio import StdioOptions
from bascule.wire.names import slug

MAX_NAME: Final = 32  # characters of a server's name here
_MAX_TEXT: Final = 4096
_MAX_ITEMS: Final = 64

_NPM: Final = re.compile(r"(?:@[a-z0-9~][a-z0-9._~-]*/)?[a-z0-9~][a-z0-9._~-]*")
_PYPI: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
# Where the runners of both kinds look by themselves, by the SHA-256 of its address: a package of the same name that
# lies elsewhere is another one.
_PUBLIC: Final = frozenset({
    "036b43b16792c643378e95923ed2f4cc78e800de141b764aeea70d47580396df",
    "b4c93a4591f5e6ddfc66b8a35a37ab125d5d352002bffbc5e9293a87fe06a8ca",
})  # fmt: skip
_PINNED: Final = re.compile(r"[0-9][0-9A-Za-z.+!_-]*")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACES: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}")
_URL: Final = re.compile(r"https?://[^\s/@]+(?:/\S*)?")
_OURS: Final = "\0"  # where a reference of ours will stand: no text of a registry holds it
# With these somebody else than the package would run, or the package would come from elsewhere.
_STEERING: Final = re.compile(
    r"(?:LD|DYLD|UV|PIP|NPM_CONFIG)_.*|NODE_OPTIONS|PYTHON(?:PATH|HOME|STARTUP)|PATH", re.IGNORECASE
)
_UNSHOWN: Final = re.compile(r"[^\x20-\x7e]")  # in a comment of YAML


class Unusable(Exception):
    """Why an entry cannot become a server here."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """One entry, and what became of it."""

    source: str  # its name and version in the registry
    name: str  # here
    options: Mapping[str, Any] | None = None  # as they stand in the configuration; None: it cannot be used
    notes: tuple[str, ...] = ()  # what a person should know first


def imported(entries: Iterable[Mapping[str, Any]], taken: Collection[str] = ()) -> list[Imported]:
    """What each of the registry's ServerResponses comes to; no two have a name in common, or with what is *taken*."""
    names = set(taken)
    found = []
    for entry in entries:
        server = entry.get("server")
        each = _of(server if isinstance(server, dict) else {}, _status(entry), names)
        names.add(each.name)
        found.append(each)
    return found


def text_of(found: Sequence[Imported]) -> str:
    """The member `servers` of a configuration, in YAML, with what is to be said of each entry before it."""
    lines = []
    for each in found:
        lines.append(f"  # {_comment(each.source)}")
        lines += [f"  #   {_comment(note)}" for note in each.notes]
        if each.options is not None:
            body = yaml.safe_dump({each.name: dict(each.options)}, sort_keys=False, width=110, allow_unicode=False)
            lines += [f"  {line}" for line in body.splitlines()]
    usable = any(each.options is not None for each in found)
    return "\n".join([f"servers:{'' if usable else ' {}'}", *lines]) + "\n"


def _comment(text: str) -> str:
    return _UNSHOWN.sub("?", text)[:300]


def _status(entry: Mapping[str, Any]) -> str:
    meta = entry.get("_meta")
    official = meta.get("io.modelcontextprotocol.registry/official") if isinstance(meta, dict) else None
    status = official.get("status") if isinstance(official, dict) else None
    return status if isinstance(status, str) else "active"


def _of(server: Mapping[str, Any], status: str, taken: Collection[str]) -> Imported:
    name, version = (_plain(server.get(each)) for each in ("name", "version"))
    here = _name(name, taken)
    said = [] if status == "active" else [f"the registry says that it is {status}"]
    try:
        if status == "deleted":
            raise Unusable("it was deleted from the registry")
        options, notes = _options(server, here)
    except Unusable as error:
        return Imported(source=f"{name} {version}", name=here, notes=(*said, f"left out: {error}"))
    return Imported(source=f"{name} {version}", name=here, options=options, notes=(*said, *notes))


def _name(name: str, taken: Collection[str]) -> str:
    base = slug(name.rpartition("/")[2])[:MAX_NAME].strip("_") or "server"
    found, number = base, 2
    while found in taken:
        found = f"{base[: MAX_NAME - len(str(number)) - 1]}_{number}"
        number += 1
    return found


def _options(server: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    """What stands in the configuration, and what is to be said of it: of a remote rather than of a package."""
    reasons = []
    ways = [(_remote, _list(server, "remotes")), (_package, _list(server, "packages"))]
    for read, entries in ways:
        for each in sorted(entries, key=lambda entry: entry.get("type") == "sse"):
            try:
                return read(each, name)
            except Unusable as error:
                reasons.append(str(error))
    raise Unusable("; ".join(dict.fromkeys(reasons)) or "it has neither a remote nor a package")


# ---- remotes


def _remote(remote: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    kind = _text(remote, "type")
    if kind not in ("streamable-http", "sse"):
        raise Unusable(f"a remote of type {kind!r} is not known")
    inputs = _Inputs(prefix=f"{name.upper().replace('-', '_')}_", variables=_dict(remote, "variables"))
    url = inputs.filled(_text(remote, "url"), all_are_inputs=True)
    if not _URL.fullmatch(_text(remote, "url")):
        raise Unusable("its URL is not a plain http or https one")
    headers = {}
    for each in _list(remote, "headers"):
        header = _text(each, "name")
        if not _HEADER.fullmatch(header):
            raise Unusable("one of its headers has no name that HTTP can carry")
        value = inputs.value(each, header)
        if value is not None:
            headers[header] = value
    options: dict[str, Any] = {"url": url}
    if kind == "sse":
        options["transport"] = "sse"
    if headers:
        options["headers"] = headers
    return {**options, **_careful(HttpOptions)}, inputs.notes


# ---- packages


def _package(package: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    transport = _text(_dict(package, "transport"), "type") or "stdio"
    if transport != "stdio":
        raise Unusable(f"its package speaks {transport}, and would have to be started by hand")
    command, args = _command(package)
    inputs = _Inputs(prefix="", variables={})
    for each in _list(package, "packageArguments"):
        args += _argument(inputs, each)
    env = {}
    for each in _list(package, "environmentVariables"):
        variable = _text(each, "name")
        if not _VARIABLE.fullmatch(variable):
            raise Unusable("one of its environment variables has no name that a process can have")
        if _STEERING.fullmatch(variable):
            inputs.notes.append(f"{variable} is left out: it steers {command}, and not the server")
            continue
        value = inputs.value(each, variable)
        if value is not None:
            env[variable] = value
    notes = [*inputs.notes]
    if _list(package, "runtimeArguments"):
        notes.append(f"options that it asks for of {command} itself are left out: read its documentation")
    options: dict[str, Any] = {"command": command, "args": args, **({"env": env} if env else {})}
    return {**options, **_careful(StdioOptions)}, notes


def _command(package: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What runs exactly this version of a package."""
    kind, identifier, version = (_text(package, each) for each in ("registryType", "identifier", "version"))
    name = {"npm": _NPM, "pypi": _PYPI}.get(kind)
    if name is None:
        raise Unusable(f"its package is of type {kind!r}; npm and pypi are known here")
    if (said := _text(package, "registryBaseUrl").rstrip("/")) and sha256(said.encode()).hexdigest() not in _PUBLIC:
        raise Unusable("its package is in another place than npm and pypi")
    if not name.fullmatch(identifier) or len(identifier) > 214:
        raise Unusable("its package has no name that a package can have")
    if not _PINNED.fullmatch(version):
        raise Unusable("it does not name one version of its package")
    return ("npx", ["-y", f"{identifier}@{version}"]) if kind == "npm" else ("uvx", [f"{identifier}=={version}"])


def _argument(inputs: "_Inputs", said: Mapping[str, Any]) -> Iterator[str]:
    """An argument of the server itself, in the order in which it stands there."""
    name = _literal(_text(said, "name"))
    if _text(said, "type") == "named":
        value = inputs.value(said, name.lstrip("-")) if _speaks(said) else ""
        if value is not None:
            yield f"{name}={value}" if value else name
    else:
        value = inputs.value(said, _text(said, "valueHint") or "argument")
        if value is not None:
            yield value


def _speaks(said: Mapping[str, Any]) -> bool:
    """Whether a named argument has a value; otherwise its name is all there is of it."""
    return any(said.get(key) not in (None, "", False) for key in ("value", "default", "isSecret", "choices", "format"))


# ---- what people have to give


class _Inputs:
    """Values of an entry, each as the configuration may have it."""

    def __init__(self, *, prefix: str, variables: Mapping[str, Any]) -> None:
        """*prefix* stands before the names of environment variables that are made up for *variables*."""
        self._prefix = prefix
        self._variables = variables
        self.notes: list[str] = []

    def value(self, said: Mapping[str, Any], name: str) -> str | None:
        """What *said*, an input called *name*, comes to; None for an optional one that nobody has to give."""
        value, is_secret = _text(said, "value"), said.get("isSecret") is True
        if value and is_secret and not _BRACES.search(value):
            raise Unusable(f"it has a secret in it, as the value of {name}: that is none any more")
        if value:
            return self.filled(value, _dict(said, "variables"), all_are_inputs=is_secret)
        default = _text(said, "default")
        if default and not is_secret:
            return _literal(default)
        if said.get("isRequired") is not True and not is_secret:
            self.notes.append(f"{name} may be given{_about(said)}")
            return None
        return self._reference(name, said)

    def filled(self, template: str, variables: Mapping[str, Any] | None = None, *, all_are_inputs: bool = False) -> str:
        """*template* with what stands in braces replaced: what is a variable, and with *all_are_inputs* the rest."""
        known = {**self._variables, **(variables or {})}
        references: list[str] = []

        def referred(name: str, said: Mapping[str, Any]) -> str:
            references.append(self._reference(name, said))
            return _OURS

        def replaced(match: "re.Match[str]") -> str:
            said = known.get(match[1])
            if not isinstance(said, dict):
                return referred(match[1], {}) if all_are_inputs else match[0]
            value = _text(said, "value") or _text(said, "default")
            is_secret = said.get("isSecret") is True
            return value if value and not is_secret else referred(match[1], said)

        # Two values may make one reference together, so that the whole is looked at, without those that are ours.
        whole = _literal(_BRACES.sub(replaced, _literal(template)))
        first, *rest = whole.split(_OURS)
        return first + "".join(reference + text for reference, text in zip(references, rest, strict=True))

    def _reference(self, name: str, said: Mapping[str, Any]) -> str:
        variable = self._prefix + re.sub(r"[^A-Za-z0-9_]", "_", name)
        variable = variable if _VARIABLE.fullmatch(variable) else f"_{variable}"
        variable = variable if variable.isupper() or not self._prefix else variable.upper()
        self.notes.append(f"reads {variable} from the environment{_about(said)}")
        return f"${{env:{variable}}}"


def _about(said: Mapping[str, Any]) -> str:
    about = _text(said, "description")
    return f": {about}" if about else ""


def _literal(text: str) -> str:
    """*text*, which the configuration takes as it stands. Raises Unusable for what it would replace."""
    if "${" in text:
        raise Unusable("it holds ${…}, which would be replaced by something of this machine")
    return text


def _careful(options: type[msgspec.Struct]) -> dict[str, Any]:
    """What keeps a server that nobody has looked at from being used at once, as far as there are options for it."""
    known = options.__struct_fields__
    careful = {"enabled": False, "trust": "review"}
    return {name: value for name, value in careful.items() if name in known}


# ---- reading


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str):
        return ""
    if len(value) > _MAX_TEXT or any(ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0 for each in value):
        if name == "description":
            return ""
        raise Unusable(f"its {name} is no plain text")
    return value


def _plain(value: Any) -> str:
    """A name as it can be shown, whatever it is."""
    return _comment(value) if isinstance(value, str) else "?"


def _dict(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = said.get(name)
    return value if isinstance(value, dict) else {}


def _list(said: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = said.get(name)
    found: list[Mapping[str, Any]] = []
    if isinstance(value, list):
        found += [each for each in value if isinstance(each, dict)]
    if len(found) > _MAX_ITEMS:
        raise Unusable(f"it has more than {_MAX_ITEMS} {name}")
    return found
