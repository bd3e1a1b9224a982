"""Entries of servers in the files of clients, each in one shape whatever the client calls things. PURE.

An entry that cannot be taken over says why; its values, which may be secrets, are in no message and no repr.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

MAX_ENTRIES: Final = 1000  # of one file
_EXTENSION: Final = "it is an extension of Zed, which Zed alone can start"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One server of one client."""

    client: str  # its title
    file: str  # as people write it
    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    cwd: str | None = None
    url: str = ""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    folder: str | None = None  # of the project, where there is one
    asked_for: Mapping[str, str] = msgspec.field(default_factory=dict)  # what VS Code asks its user, by the id
    disabled: bool = False
    problem: str = ""  # why it cannot be taken over
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Entry({self.client!r}, {self.name!r})"


class Section(msgspec.Struct, frozen=True):
    """The servers of a file that belong together."""

    entries: Any
    folder: str | None  # of the project that they are for


class _Wrong(Exception):
    """What is wrong with an entry."""


def sections(value: Any, member: str, folder: str | None) -> Iterator[Section]:
    """The servers in the file *value*: of all projects, and those that Claude Code keeps for each."""
    if not isinstance(value, dict):
        return
    if member in value:
        yield Section(value[member], folder)
    projects = value.get("projects")
    if member == "mcpServers" and isinstance(projects, dict):
        for path, project in projects.items():
            if isinstance(project, dict) and project.get(member):
                yield Section(project[member], path)


def entries_of(section: Section, *, client: str, file: str, inputs: Any = None) -> list[Entry]:
    """The entries of *section*, in their order. *inputs*: what VS Code has beside its servers."""
    if not isinstance(section.entries, dict):
        return []
    asked_for = _asked_for(inputs)
    found = []
    for name, said in list(section.entries.items())[:MAX_ENTRIES]:
        where = {"client": client, "file": file, "name": name, "folder": section.folder}
        try:
            found.append(Entry(**where, asked_for=asked_for, **_read(said)))
        except _Wrong as error:
            found.append(Entry(**where, problem=str(error)))
    return found


def _read(said: Any) -> dict[str, Any]:
    """The members of an Entry."""
    if not isinstance(said, dict):
        raise _Wrong("it is no object")
    disabled = said.get("disabled") is True or said.get("enabled") is False
    command = said.get("command")
    if isinstance(command, dict):  # Zed until 2025: {"path": …, "args": …, "env": …}
        said = {**said, **command}
        command = command.get("path")
    url = said.get("url") or said.get("serverUrl") or said.get("httpUrl")
    if command:
        if not isinstance(command, str):
            raise _Wrong("its command is no text")
        return {**_started(command, said), "disabled": disabled, "notes": tuple(_notes(said))}
    if url:
        if not isinstance(url, str):
            raise _Wrong("its URL is no text")
        headers = {**_headers(said), **_bearer(said)}
        return {"url": url, "headers": headers, "disabled": disabled, "notes": tuple(_notes(said))}
    raise _Wrong(_EXTENSION if "settings" in said else "it has neither a command nor a URL")


def _started(command: str, said: Mapping[str, Any]) -> dict[str, Any]:
    args = said.get("args")
    if not isinstance(args, list | None):
        raise _Wrong("its args are no list")
    cwd = said.get("cwd")
    return {
        "command": command,
        "args": tuple(_text(each, "one of its args") for each in args or ()),
        "env": {**_texts(said, "env"), **_passed_on(said)},
        "cwd": cwd if isinstance(cwd, str) and cwd else None,
    }


def _passed_on(said: Mapping[str, Any]) -> dict[str, str]:
    """Codex: variables of its own environment that the server gets."""
    names = said.get("env_vars")
    found = [each.get("name") if isinstance(each, dict) else each for each in names] if isinstance(names, list) else []
    return {name: f"${{env:{name}}}" for name in found if isinstance(name, str)}


def _headers(said: Mapping[str, Any]) -> dict[str, str]:
    """Codex calls them `http_headers`, and those that come from its environment `env_http_headers`."""
    fixed = {**_texts(said, "headers"), **_texts(said, "http_headers")}
    return fixed | {name: f"${{env:{variable}}}" for name, variable in _texts(said, "env_http_headers").items()}


def _bearer(said: Mapping[str, Any]) -> dict[str, str]:
    variable = said.get("bearer_token_env_var")
    return {"Authorization": f"Bearer ${{env:{variable}}}"} if isinstance(variable, str) and variable else {}


def _notes(said: Mapping[str, Any]) -> Iterator[str]:
    if said.get("envFile"):
        yield "its envFile is not read: name what it needs of it in `env`, as references such as ${env:NAME}"
    if said.get("oauth") or said.get("auth"):
        yield "its client logs in for it with OAuth; Bascule does not: it needs a header of its own"


def _texts(said: Mapping[str, Any], member: str) -> dict[str, str]:
    found = said.get(member)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _Wrong(f"its {member} is no object")
    return {name: _text(each, f"{member}.{name}") for name, each in found.items() if each is not None}


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise _Wrong(f"{what} is no text")
    return value


def _asked_for(inputs: Any) -> dict[str, str]:
    if not isinstance(inputs, Sequence) or isinstance(inputs, str):
        return {}
    found = [each for each in inputs if isinstance(each, dict) and isinstance(each.get("id"), str)]
    return {each["id"]: each["description"] if isinstance(each.get("description"), str) else "" for each in found}
