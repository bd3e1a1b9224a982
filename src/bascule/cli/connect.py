"""`bascule connect CLIENT`: what a client's file has to say to reach Bascule, shown, written, taken back."""

import os
import shlex
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bascule.cli.credentials import check_url
from bascule.cli.import_ import machine, note_line
from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.admin.connect import Gateway, Plan
    from bascule.clients.known import Client


def register(app: typer.Typer) -> None:
    app.command()(connect)


@failing
def connect(
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="claude-desktop, claude-code, cursor, vscode, …")],
    show: Annotated[bool, typer.Option("--print", help="Show what its file has to say. The default.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write it into the file, after a copy of it.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what --write wrote last.")] = False,
    url: Annotated[str, typer.Option(metavar="URL", help="Of the gateway; default: what the configuration says.")] = "",
    http: Annotated[bool, typer.Option("--http", help="The client calls the URL itself.")] = False,
    bridge: Annotated[bool, typer.Option("--bridge", help="The client starts `bascule bridge`.")] = False,
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the server in the client.")] = "bascule",
    project: Annotated[bool, typer.Option("--project", help="For the project in this folder alone.")] = False,
    caller: Annotated[str, typer.Option("--as", metavar="CALLER", help="Whom it calls as; default its own name.")] = "",
    token_file: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The file with the key, where it is not kept here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The file; default bascule.yaml.")] = None,
) -> None:
    """Point a client at Bascule: claude-desktop, claude-code, cursor, vscode, codex, zed or windsurf.

    A gateway that wants a key is reached through `bascule bridge`, with a key of the client's own in a private file.

    Example: bascule connect cursor --write
    """
    from bascule.admin import connect as connecting

    if show + write + undo > 1 or (http and bridge):
        raise ConfigInvalid("give one of --print, --write and --undo, and at most one of --http and --bridge")
    found = _client(client)
    at = connecting.gateway(config, os.environ, check_url(url) if url else "")
    wish: Literal["http", "bridge"] | None = "http" if http else "bridge" if bridge else None
    if undo:
        _undo(found, at, project=project, as_json=as_json)
        return
    planned = connecting.plan(
        found,
        at,
        machine(),
        launcher=launcher(),
        name=name,
        wish=wish,
        project=project,
        caller=caller,
        token_file=token_file,
    )
    if write:
        _write(planned, at, caller, config, as_json=as_json)
    else:
        _print(planned, as_json=as_json)


def _client(name: str) -> "Client":
    from bascule.clients.known import CLIENTS

    if name not in CLIENTS:
        raise ConfigInvalid(f"{name!r} is no client that is known here; there are {', '.join(CLIENTS)}")
    return CLIENTS[name]


def launcher() -> list[str]:
    """The command that starts Bascule, with its whole path: clients have a PATH of their own."""
    beside = Path(sys.executable).with_name("bascule.exe" if os.name == "nt" else "bascule")
    if _is_passing(beside) and (uvx := shutil.which("uvx")):
        return [uvx, "bascule"]
    if beside.exists():
        return [str(beside)]
    found = shutil.which("bascule")
    return [found] if found else [sys.executable, "-m", "bascule"]


def _is_passing(path: Path) -> bool:
    """Whether `uvx` made the environment, and may clear it away."""
    return any(part in ("archive-v0", "environments-v2") for part in path.parts)


# ---- what is said --------------------------------------------------------------------------------


def _print(planned: "Plan", *, as_json: bool) -> None:
    from bascule.cli import show
    from bascule.clients import known

    link = known.link(planned.client, planned.name, planned.entry)
    command = known.command_line(planned.client, planned.name, planned.way, project=planned.project)
    if as_json:
        show.document(_report(planned, link=link, command=command))
        return
    show.text(planned.snippet.rstrip("\n"))
    note(f"for {planned.client.title}, in {planned.file}; --write puts it there")
    if command:
        note(f"or run: {command}")
    if link:
        note(f"or open: {link}")
    for said in planned.notes:
        note(said)


def _write(planned: "Plan", at: "Gateway", caller: str, config: Path | None, *, as_json: bool) -> None:
    from bascule.admin import connect as connecting
    from bascule.cli import show

    change = connecting.edit(planned)
    backup = connecting.write(change, at, caller, datetime.now().astimezone())
    if not as_json:
        for line in change.diff:
            note_line(line)
    if as_json:
        show.document(_report(planned, written=change.after != change.before, backup=backup and str(backup)))
    if change.after == change.before:
        note(f"{planned.file} says so already")
        return
    note(f"wrote {planned.file}{f'; as it was, it is {backup}' if backup else ''}")
    words = [*(["--project"] if planned.project else []), *(["-c", str(config)] if config else [])]
    back = shlex.join(["bascule", "connect", planned.client.name, "--undo", *words])
    note(f"start {planned.client.title} anew; take it back with: {back}")
    for said in planned.notes:
        note(said)


def _report(planned: "Plan", **more: Any) -> dict[str, Any]:
    return {
        "client": planned.client.name,
        "file": str(planned.file),
        "section": planned.client.section,
        "name": planned.name,
        "entry": planned.entry,
        **more,
        "notes": list(planned.notes),
    }


def _undo(client: "Client", at: "Gateway", *, project: bool, as_json: bool) -> None:
    from bascule.admin import connect as connecting
    from bascule.cli import show

    undone = connecting.undo(client, connecting.file_of(client, machine(), project=project), at.state)
    if as_json:
        show.document({"client": client.name, "file": str(undone.file), "exactly": undone.exactly})
    if undone.exactly:
        note(f"{undone.file} is as it was, to the byte")
    else:
        note(f"{undone.file} was changed by somebody else since: those changes stay, our entry is out")
