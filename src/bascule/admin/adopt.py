"""Servers of the clients on this machine, taken over into a configuration: looked for, planned, written, taken back.

Nothing that stands in a client's file is started, and no value that may be a secret leaves here but into a file of
its own below the state folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from bascule import config as configuration
from bascule.clients import adoption, files, jsonc, known, ledger, shown, toml_text, yaml_text
from bascule.clients.adoption import Server
from bascule.clients.entries import Entry, entries_of, sections
from bascule.clients.jsonc import Unchangeable, Unreadable
from bascule.clients.known import CLIENTS, CODEX, VSCODE, Client, Machine
from bascule.errors import ConfigInvalid
from bascule.store import folder

HEADER: Final = "# Servers behind Bascule. Check it with `bascule validate`, start it with `bascule serve`.\n"
_SECTIONS: Final = ("mcpServers", "servers", "context_servers", "mcp_servers")
_BY: Final = "import"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration that servers are taken over into."""

    path: Path
    form: shown.Form
    text: str | None  # None: there is none yet
    servers: Mapping[str, Any]
    state: Path
    addresses: frozenset[tuple[str, int]]  # where it answers

    @property
    def secrets(self) -> Path:
        return self.state / "secrets"


class Finding(msgspec.Struct, frozen=True):
    """What the files of clients came to."""

    servers: Sequence[Server]
    unread: Sequence[ConfigInvalid]
    looked_at: Sequence[str]  # files that are there


class Written(msgspec.Struct, frozen=True):
    """What a change left behind."""

    backup: Path | None
    secrets: Sequence[Path]


def target(path: Path, environ: Mapping[str, str]) -> Target:
    """The configuration at *path*, which need not be there. Raises ConfigInvalid."""
    text = files.read(path)
    form = _form_of(path)
    config = configuration.Config(state_dir=str(configuration.default_state_dir(environ)))
    value: Any = {}
    if text is not None and text.strip():
        value = _value(path, text, form)
        config = configuration.load_records(path, environ) if value else config
    servers = value.get("servers") if isinstance(value, dict) else None
    return Target(
        path=path,
        form=form,
        text=text,
        servers=servers if isinstance(servers, dict) else {},
        state=Path(config.state_dir).absolute(),
        addresses=frozenset(_addresses(config.http)),
    )


def _addresses(http: configuration.ListenOptions) -> Iterator[tuple[str, int]]:
    hosts = ["localhost"] if configuration.is_loopback(http.host) or http.host in ("0.0.0.0", "::") else [http.host]
    yield from ((host, http.port) for host in hosts)
    if http.public_url and (public := adoption.address_of(http.public_url)):
        yield public


# ---- looking -------------------------------------------------------------------------------------


def find(machine: Machine, sources: Sequence[str], into: Target) -> Finding:
    """The servers of *sources*, which are names of clients and files; without any, of all clients that are known.

    Raises ConfigInvalid for a source that was named and cannot be read; others are only told of.
    """
    entries: list[Entry] = []
    unread: list[ConfigInvalid] = []
    looked_at = []
    for place in _places(machine, sources):
        try:
            found = _entries(place, machine)
        except ConfigInvalid as error:
            if sources:
                raise
            unread.append(error)
            continue
        if found is None:
            if sources and place.named:
                raise ConfigInvalid("no such file", place=str(place.path))
            continue
        looked_at.append(known.shown(place.path, machine))
        entries += found
    home = adoption.Home(
        folder=str(machine.home),
        secrets=str(into.secrets),
        windows=machine.platform == "win32",
        addresses=into.addresses,
        variables=machine.environ.keys(),
        exists=lambda file: Path(file).exists(),
    )
    if "}" in home.secrets:
        raise ConfigInvalid("the state folder has a } in its name, which no reference can name", place=home.secrets)
    servers = adoption.adopted(entries, into.servers, home, known=lambda file: _secret(file, into.secrets))
    return Finding(servers, unread, looked_at)


class _Place(msgspec.Struct, frozen=True):
    path: Path
    client: Client | None  # None: whatever it is
    folder: str | None  # of the project that it is for
    named: bool = False  # as a file, so that it has to be there


def _places(machine: Machine, sources: Sequence[str]) -> list[_Place]:
    found = []
    for source in sources or CLIENTS:
        if (client := CLIENTS.get(source)) is None:
            found.append(_file(Path(source)))
            continue
        found.append(_Place(known.user_file(client, machine), client, None))
        if (path := known.project_file(client, machine)) is not None:
            found.append(_Place(path, client, str(machine.project)))
    # In the home folder itself, the file of the project may be that of the user.
    return list({each.path.resolve(): each for each in reversed(found)}.values())[::-1]


def _file(path: Path) -> _Place:
    """A file that was named: of the client whose project's file is called so, if there is one."""
    path = path.expanduser().absolute()
    if path.suffix not in (".json", ".jsonc", ".toml"):
        raise ConfigInvalid(
            f"{str(path.name)!r} is neither a client ({', '.join(CLIENTS)}) nor a file in JSON or TOML", field="--from"
        )
    for client in CLIENTS.values():
        parts = PurePosixPath(client.project_file or "").parts
        if parts and path.parts[-len(parts) :] == parts and path.parents[len(parts) - 1] != Path.home():
            return _Place(path, client, str(path.parents[len(parts) - 1]), named=True)
    return _Place(path, CODEX if path.suffix == ".toml" else None, None, named=True)


def _entries(place: _Place, machine: Machine) -> list[Entry] | None:
    """The entries of a file; None if there is none. Raises ConfigInvalid."""
    text = files.read(place.path)
    if text is None:
        return None
    client = place.client
    value = _value(place.path, text, "toml" if client is CODEX else "json")
    members = (client.section,) if client else _SECTIONS
    inputs = value.get("inputs") if client in (VSCODE, None) and isinstance(value, dict) else None
    return [
        entry
        for member in members
        for section in sections(value, member, place.folder)
        for entry in entries_of(
            section, client=client.title if client else "a file", file=known.shown(place.path, machine), inputs=inputs
        )
    ]


def _secret(file: str, folder: Path) -> str | None:
    """What a file of ours holds."""
    path = Path(file)
    if path.parent != folder:
        return None
    try:
        return (files.read(path) or "").strip() or None
    except ConfigInvalid:
        return None


def _form_of(path: Path) -> shown.Form:
    match path.suffix:
        case ".json":
            return "json"
        case ".toml":
            return "toml"
        case _:
            return "yaml"


def _value(path: Path, text: str, form: str) -> Any:
    reader = {"json": jsonc.value_of, "toml": toml_text.value_of, "yaml": yaml_text.value_of}[form]
    try:
        return reader(text)
    except Unreadable as error:
        raise ConfigInvalid(str(error), place=f"{path}:{error.line}" if error.line else str(path)) from error


# ---- writing -------------------------------------------------------------------------------------


def revised(into: Target, servers: Sequence[Server]) -> str:
    """The text of the configuration with *servers* in it. Raises ConfigInvalid, with what to paste."""
    added = {each.name: each.options for each in servers}
    text = into.text or ""
    try:
        match into.form:
            case "json":
                for name, options in added.items():
                    text = jsonc.with_member(text, ["servers"], name, dict(options))
            case "toml":
                for name, options in added.items():
                    text = toml_text.with_table(text, ["servers", name], options)
            case _:
                comments = {each.name: _comment(each) for each in servers}
                text = yaml_text.with_servers(text if text.strip() else text + HEADER, added, comments)
    except Unchangeable as error:
        block = yaml_text.block(added, {})
        raise ConfigInvalid(
            f"cannot be changed without touching other parts of it: {error}. Nothing was written; add by hand, below"
            f" `servers`, with each secret in the file that is named:\n{block}",
            place=str(into.path),
        ) from error
    return text


def _comment(server: Server) -> str:
    """Where it is from; in one line, whatever that file is called."""
    said = f"from {server.entry.client}, {server.entry.file}"
    return "".join(each if each.isprintable() else "?" for each in said)


def diff(into: Target, after: str, servers: Sequence[Server]) -> list[str]:
    """What would change, without a secret."""
    ours = {each.name: dict(each.options) for each in servers}
    return shown.diff(into.text or "", after, str(into.path), into.form, ours)


def write(into: Target, after: str, servers: Sequence[Server], now: datetime) -> Written:
    """Make the change: secrets first, then a copy of what was there, then the configuration. Raises ConfigInvalid."""
    made: list[Path] = []
    for mine in (into.state, into.secrets):
        folder.prepare(mine)
    try:
        for secret in (each for server in servers for each in server.secrets):
            path = Path(secret.file)
            try:
                files.create(path, secret.value)
            except FileExistsError as error:
                raise ConfigInvalid("is there by now; try again", place=str(path)) from error
            made.append(path)
        backup = None if into.text is None else files.keep(into.text, into.path.absolute().parent, into.path.name, now)
        files.replace(into.path, into.text, after)
    except ConfigInvalid:
        for path in made:
            files.remove(path)
        raise
    change = ledger.Change(
        by=_BY,
        file=str(into.path.absolute()),
        backup=None if backup is None else str(backup),
        after=ledger.digest(after),
        names=tuple(each.name for each in servers),
        form=into.form,
        secrets={each.file: ledger.digest(each.value) for server in servers for each in server.secrets},
    )
    ledger.add(into.state, change)
    return Written(backup, made)


# ---- taking back ---------------------------------------------------------------------------------


def undo(into: Target) -> ledger.Change:
    """Take the newest import into this configuration back, to the byte. Raises ConfigInvalid if that cannot be."""
    file = str(into.path.absolute())
    change = ledger.last(into.state, lambda each: each.by == _BY and each.file == file)
    if change is None:
        raise ConfigInvalid("nothing was imported into it that could be taken back", place=file)
    backup = None if change.backup is None else Path(change.backup)
    if into.text is None or ledger.digest(into.text) != change.after:
        kept = f"; as it was before, it is {backup}" if backup else ""
        raise ConfigInvalid(
            f"was changed since the import, so it is left alone. Take out {', '.join(change.names)} by hand{kept}",
            place=file,
        )
    if backup is None:
        files.remove(into.path)
    else:
        before = files.read(backup)
        if before is None:
            raise ConfigInvalid("the backup of the import is not there any more", place=str(backup))
        files.replace(into.path, into.text, before)
    for path, was in change.secrets.items():
        text = files.read(Path(path))
        if text is not None and ledger.digest(text) == was:  # otherwise somebody has put a new one there
            files.remove(Path(path))
    ledger.forget(into.state, change)
    return change
