"""Bascule as a server of a client: what its file has to say, written into it and taken out again.

A gateway that wants a key is reached through `bascule bridge`, which reads the key from a file that nobody but its
user can read: no secret stands in any client's file, and nothing has to be exported.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from bascule import config as configuration
from bascule.admin.key_files import key_file_of, path_of
from bascule.clients import files, jsonc, known, ledger, shown, toml_text
from bascule.clients.jsonc import Unchangeable, Unreadable
from bascule.clients.known import Bridge, Client, Http, Machine, Way
from bascule.config import Config
from bascule.errors import ConfigInvalid
from bascule.store import folder

PATH: Final = "/mcp"
_EXPORT: Final = f"export {known.TOKEN_VARIABLE} with its key where %s starts, which may not be your shell"
_IN_A_FILE: Final = re.compile(r"\$\{file:([^}]+)\}")
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """The Bascule that a client is connected to."""

    config: Config
    url: str

    @property
    def wants_key(self) -> bool:
        """Whether a caller has to send something. Who logs in with OAuth gets it while it does."""
        open_to_all = self.config.auth.anonymous not in (None, False)
        return bool(self.config.http.bearer or self.config.callers) and not open_to_all

    @property
    def state(self) -> Path:
        return Path(self.config.state_dir).absolute()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a client gets, and where it goes."""

    client: Client
    name: str
    way: Way
    file: Path
    project: bool
    notes: tuple[str, ...] = ()

    @property
    def entry(self) -> dict[str, Any]:
        return known.entry(self.client, self.way)

    @property
    def snippet(self) -> str:
        """What the file says, if it says nothing else."""
        if self.client.form == "toml":
            return toml_text.written([self.client.section, self.name], self.entry)
        return jsonc.with_member("", [self.client.section], self.name, self.entry)

    @property
    def by(self) -> str:
        return f"connect {self.client.name}"


class Edit(msgspec.Struct, frozen=True):
    """A plan and the file as it is, and as it is to be."""

    plan: Plan
    before: str | None
    after: str

    @property
    def diff(self) -> list[str]:
        ours = {self.plan.name: self.plan.entry}
        return shown.diff(self.before or "", self.after, str(self.plan.file), self.plan.client.form, ours)


def gateway(path: Path | None, environ: Mapping[str, str], url: str = "") -> Gateway:
    """The gateway of the configuration *path*, or of bascule.yaml here; at *url*, if it has another. Raises
    ConfigInvalid."""
    config = configuration.load_own_records(path, environ)
    return Gateway(config=config, url=url or _url(config.http))


def _url(http: configuration.ListenOptions) -> str:
    if http.public_url:
        return http.public_url.rstrip("/") + PATH
    host = _EVERYWHERE.get(http.host, http.host)
    shown_host = f"[{host}]" if ":" in host else host
    return f"{'https' if http.tls else 'http'}://{shown_host}:{http.port}{PATH}"


# ---- keys ----------------------------------------------------------------------------------------


def key_file_for(config: Config, client: Client, caller: str = "") -> Path | None:
    """The file with the key that *client* calls with: that of the caller of its name, or of *caller*.

    None if the configuration has no such caller. The file need not be there yet: `key_file_of` makes it.
    """
    name = caller or client.name
    return path_of(config, name).absolute() if name in config.callers else None


# ---- a plan --------------------------------------------------------------------------------------


def plan(
    client: Client,
    at: Gateway,
    machine: Machine,
    *,
    launcher: Sequence[str],
    name: str = "bascule",
    wish: Literal["http", "bridge"] | None = None,
    project: bool = False,
    caller: str = "",
    token_file: Path | None = None,
) -> Plan:
    """What *client* gets to reach the gateway. *launcher* starts Bascule here. Raises ConfigInvalid."""
    file = file_of(client, machine, project=project)
    wants_key = at.wants_key or token_file is not None
    notes: tuple[str, ...] = ()
    way: Way
    if wish == "http" or (wish is None and client.speaks_http and not wants_key):
        _check_http(client, wants_key=wants_key)
        way = Http(url=at.url, needs_token=wants_key)
        notes = (_EXPORT % client.title,) if wants_key else ()
    elif wants_key:
        _check_private(at.url)
        key = token_file or _token_file(client, at, caller)
        notes = () if key else (_no_caller(client),)
        words = [*launcher, "bridge", at.url, "--token-file"]
        file_of_key = (key or path_of(at.config, client.name)).absolute()
        way = Bridge(command=words[0], args=(*words[1:], str(file_of_key)))
    else:
        way = Bridge(command=launcher[0], args=(*launcher[1:], "bridge", at.url))
    return Plan(client=client, name=name, way=way, file=file, project=project, notes=notes)


def file_of(client: Client, machine: Machine, *, project: bool) -> Path:
    """The file that *client* reads. Raises ConfigInvalid if it has none for a project."""
    file = known.project_file(client, machine) if project else known.user_file(client, machine)
    if file is None:
        raise ConfigInvalid(f"{client.title} has no file for a single project; leave --project out")
    return file


def _check_http(client: Client, *, wants_key: bool) -> None:
    if not client.speaks_http:
        raise ConfigInvalid(f"{client.title} starts commands, and calls no URL of its file; leave --http out")
    if wants_key and client.variable is None:
        raise ConfigInvalid(
            f"{client.title} sends headers as they stand in its file, so that the key itself would have to be there;"
            " leave --http out: the bridge reads it from a file of its own"
        )


def _check_private(url: str) -> None:
    """A bridge sends no token where others could read it on its way."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not configuration.is_loopback(parts.hostname or ""):
        raise ConfigInvalid(f"its key would cross a network unencrypted to {url}: give it TLS, and --url https://…")


def _token_file(client: Client, at: Gateway, caller: str) -> Path | None:
    """The file of the key; None if there is no caller for this client. Raises ConfigInvalid."""
    if caller and caller not in at.config.callers:
        there = ", ".join(at.config.callers) or "none"
        raise ConfigInvalid(f"there is no caller {caller!r}; there are {there}", field="callers")
    if at.config.callers:
        return key_file_for(at.config, client, caller)
    bearer = at.config.http.bearer or ""
    if found := _IN_A_FILE.fullmatch(bearer):
        return Path(found[1]).expanduser()
    raise ConfigInvalid(
        f"this gateway takes one token, {bearer}, and no keys: write it into a file that is yours alone (chmod 600),"
        " and name that with --token-file; or name callers in the configuration"
    )


def _no_caller(client: Client) -> str:
    return (
        f"the configuration has no caller {client.name!r} yet: add it below `callers`, such as"
        f" `{client.name}: {{scopes: ['*']}}`, or name another with --as"
    )


# ---- writing and taking back ---------------------------------------------------------------------


def edit(planned: Plan) -> Edit:
    """What the file of the client would become. Raises ConfigInvalid."""
    before = files.read(planned.file)
    section = planned.client.section
    try:
        if planned.client.form == "toml":
            after = _with_table(before or "", [section, planned.name], planned.entry)
        else:
            after = _with_member(before or "", section, planned.name, planned.entry)
    except (Unreadable, Unchangeable) as error:
        raise _not_ours(planned.file, error, planned.snippet) from error
    return Edit(planned, before, after)


def _with_table(text: str, path: Sequence[str], entry: Mapping[str, Any]) -> str:
    present = toml_text.value_of(text).get(path[0])
    same = isinstance(present, dict) and present.get(path[1]) == entry
    return text if same else toml_text.with_table(text, path, entry)


def _with_member(text: str, section: str, name: str, entry: Mapping[str, Any]) -> str:
    value = jsonc.value_of(text)
    present = value.get(section) if isinstance(value, dict) else None
    same = isinstance(present, dict) and present.get(name) == entry
    return text if same else jsonc.with_member(text, [section], name, entry)


def write(change: Edit, at: Gateway, caller: str, now: datetime) -> Path | None:
    """Make the change; the copy of what was there before, None if there was nothing. Raises ConfigInvalid."""
    planned = change.plan
    if isinstance(planned.way, Bridge) and at.wants_key:
        _provide_key(planned, at, caller, now.timestamp())
    if change.after == change.before:
        return None
    backup = None
    if change.before is not None:
        # Not beside the file, which may lie in a repository: it may hold secrets of others.
        folder.prepare(at.state)
        backup = files.keep(change.before, at.state / "backups", f"{planned.client.name}-{planned.file.name}", now)
    files.replace(planned.file, change.before, change.after)
    ledger.add(
        at.state,
        ledger.Change(
            by=planned.by,
            file=str(planned.file),
            backup=None if backup is None else str(backup),
            after=ledger.digest(change.after),
            names=(planned.name,),
            section=(planned.client.section,),
            form=planned.client.form,
        ),
    )
    return backup


def _provide_key(planned: Plan, at: Gateway, caller: str, now_s: float) -> None:
    """See to the key that the bridge will read, unless somebody else does."""
    assert isinstance(planned.way, Bridge)
    name = caller or planned.client.name
    file = Path(planned.way.args[-1])
    if file != path_of(at.config, name).absolute():
        return
    if name not in at.config.callers:
        raise ConfigInvalid(f"{_no_caller(planned.client)}. Nothing was written")
    key_file_of(at.config, name, now_s)


class Undone(msgspec.Struct, frozen=True):
    """How a connection was taken back."""

    file: Path
    exactly: bool  # whether the file is what it was, to the byte


def undo(client: Client, file: Path, state: Path) -> Undone:
    """Take the newest connection of *client* in *file* back. Raises ConfigInvalid.

    A file that somebody has changed since keeps those changes: our entry alone is taken out, or made what it was.
    """
    change = ledger.last(state, lambda each: each.by == f"connect {client.name}" and each.file == str(file))
    if change is None:
        raise ConfigInvalid(f"nothing was written for {client.title} that could be taken back", place=str(file))
    text = files.read(file)
    before = files.read(Path(change.backup)) if change.backup else None
    if change.backup and before is None:
        raise ConfigInvalid("the backup is not there any more; take the entry out by hand", place=change.backup)
    exactly = text is not None and ledger.digest(text) == change.after
    if exactly and before is None:
        files.remove(file)
    elif exactly and before is not None:
        files.replace(file, text, before)
    elif text is not None:
        files.replace(file, text, _without(change, file, text, before or ""))
    ledger.forget(state, change)
    return Undone(file, exactly)


def _without(change: ledger.Change, file: Path, text: str, before: str) -> str:
    """*text* with the entry that *change* put in made what it was in *before*."""
    (section,), (name,) = change.section, change.names
    toml = change.form == "toml"
    try:
        had = _at(toml_text.value_of(before) if toml else jsonc.value_of(before), section, name)
        if had is not None:
            return toml_text.with_table(text, [section, name], had) if toml else jsonc.with_member(
                text, [section], name, had
            )  # fmt: skip
        return toml_text.without_table(text, [section, name]) if toml else jsonc.without_member(text, [section], name)
    except (Unreadable, Unchangeable) as error:
        raise ConfigInvalid(f"was changed since, and {error}; take out {name!r} by hand", place=str(file)) from error


def _at(value: Any, section: str, name: str) -> Any:
    servers = value.get(section) if isinstance(value, dict) else None
    return servers.get(name) if isinstance(servers, dict) else None


def _not_ours(file: Path, error: Exception, snippet: str) -> ConfigInvalid:
    line = getattr(error, "line", None)
    return ConfigInvalid(
        f"{error}; it is left as it is. Put it right, or add this by hand:\n{snippet.rstrip()}",
        place=f"{file}:{line}" if line else str(file),
    )
