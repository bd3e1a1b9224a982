"""`bascule import`: the servers that clients on this machine have already, taken over into a configuration."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.admin.adopt import Finding, Target
    from bascule.clients.adoption import Server
    from bascule.clients.known import Machine

_HEADINGS: Final = ("", "name", "from", "what", "secrets", "")
_YES: Final = frozenset({"y", "yes"})
_CHOICE: Final = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


def register(app: typer.Typer) -> None:
    app.command(name="import")(import_)


@failing
def import_(
    sources: Annotated[
        list[str] | None, typer.Option("--from", metavar="CLIENT|FILE", help="Only these; default all clients.")
    ] = None,
    take_all: Annotated[bool, typer.Option("--all", help="All of your own that are in use and new.")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this one; may be repeated.")] = None,
    into: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The configuration; default bascule.yaml, made if need be.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")] = False,
    take_back: Annotated[bool, typer.Option("--undo", help="Take the newest import into this file back.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Take over the servers that Claude, Cursor, VS Code, Codex, Zed, Windsurf or a file of mcp-proxy have.

    Nothing is started. Secrets move into files of their own that nobody else can read; they are never shown.

    Example: bascule import --all --dry-run
    """
    from bascule.admin import adopt
    from bascule.config import own_file

    target = adopt.target(into or own_file(os.environ), os.environ)
    if take_back:
        _undo(target, as_json=as_json)
        return
    found = adopt.find(machine(), sources or (), target)
    for error in found.unread:
        note(str(error))
    chosen = _chosen(found, only or [], take_all=take_all, of_projects=bool(sources), as_json=as_json)
    if not chosen:
        if take_all:
            note("there is nothing new to take over")
        _conclude(found, target, (), None, as_json=as_json)
        return
    after = adopt.revised(target, chosen)
    if not as_json or not (yes or dry_run):
        for line in adopt.diff(target, after, chosen):
            note_line(line)
    if dry_run:
        note("nothing was written: this was --dry-run")
        _conclude(found, target, (), None, as_json=as_json)
        return
    confirm(yes, f"write {target.path}?")
    written = adopt.write(target, after, chosen, datetime.now().astimezone())
    _conclude(found, target, chosen, written, as_json=as_json)
    named = "" if into is None else f" --into {shlex.quote(str(into))}"
    note(f"take it back with: bascule import --undo{named}")


def machine() -> "Machine":
    """This one."""
    from bascule.clients.known import Machine

    platform: Any = sys.platform if sys.platform in ("darwin", "win32") else "linux"
    return Machine(home=Path.home(), project=Path.cwd(), platform=platform, environ=os.environ)


def note_line(line: str) -> None:
    """A line of a diff."""
    from bascule.cli.talk import clean

    print(clean(line), file=sys.stderr, flush=True)


def confirm(yes: bool, question: str) -> None:
    """Go on only if somebody agrees. Raises ConfigInvalid where nobody can, Exit where nobody does."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigInvalid("nobody is at a terminal to agree; add --yes, or --dry-run to only look")
    if _asked(f"{question} [y/N] ").lower() not in _YES:
        note("nothing was written")
        raise typer.Exit(1)


def _asked(prompt: str) -> str:
    print(prompt, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


# ---- choosing ------------------------------------------------------------------------------------


def _chosen(
    found: "Finding", only: Sequence[str], *, take_all: bool, of_projects: bool, as_json: bool
) -> "Sequence[Server]":
    fresh = [each for each in found.servers if not each.skipped]
    if only:
        return [_named(name, found) for name in dict.fromkeys(only)]
    if take_all:
        used = [each for each in fresh if not each.entry.disabled]
        # What a cloned repository brings along starts nothing of its own accord: somebody has to name it.
        left = [] if of_projects else [each for each in used if each.entry.folder is not None]
        for each in left:
            note(f"{each.name} of {each.entry.file} is left out, as a project brings it: --only {each.name}")
        return [each for each in used if each not in left]
    if as_json:
        return []
    _list(found, fresh)
    if not fresh:
        return []
    if not sys.stdin.isatty():
        note("take them with --all, or some with --only NAME")
        return []
    return _picked(_asked("which? numbers such as 1,3-5, or all; nothing for none: "), fresh)


def _named(name: str, found: "Finding") -> "Server":
    for each in found.servers:
        if name in (each.name, each.entry.name) and not each.skipped:
            return each
    skipped = next((each for each in found.servers if name in (each.name, each.entry.name)), None)
    if skipped is not None:
        raise ConfigInvalid(f"{name}: {skipped.skipped}")
    names = ", ".join(each.name for each in found.servers if not each.skipped)
    raise ConfigInvalid(f"there is no server {name!r} to take over; there are {names}" if names else "there is none")


def _picked(said: str, fresh: "Sequence[Server]") -> "Sequence[Server]":
    if said.lower() in ("a", "all"):
        return fresh
    numbers: list[int] = []
    for word in said.replace(",", " ").split():
        found = _CHOICE.fullmatch(word)
        if not found or not 1 <= int(found[1]) <= int(found[2] or found[1]) <= len(fresh):
            raise ConfigInvalid(f"{word!r} is none of the numbers; nothing was written")
        numbers += range(int(found[1]), int(found[2] or found[1]) + 1)
    return [fresh[number - 1] for number in dict.fromkeys(numbers)]


# ---- what is said --------------------------------------------------------------------------------


def _list(found: "Finding", fresh: "Sequence[Server]") -> None:
    from bascule.cli import show

    rows = [
        [
            str(fresh.index(each) + 1) if each in fresh else "-",
            each.name or each.entry.name,
            f"{each.entry.client} ({each.entry.file})",
            each.shown,
            " ".join(secret.name for secret in each.secrets) if not each.skipped else "",
            each.skipped or ("switched off" if each.entry.disabled else ""),
        ]
        for each in found.servers
    ]
    show.table("servers of clients", _HEADINGS, rows)
    if not found.servers:
        note(f"no servers in {', '.join(found.looked_at)}" if found.looked_at else "no client has any servers here")


def _conclude(found: "Finding", target: "Target", chosen: "Sequence[Server]", written: Any, *, as_json: bool) -> None:
    """What became of it: for a program, and for the person."""
    from bascule.cli import show

    if as_json:
        show.document({
            "file": str(target.path),
            "backup": str(written.backup) if written and written.backup else None,
            "servers": [_report(each, taken=each in chosen) for each in found.servers],
            "unread": [str(each) for each in found.unread],
        })  # fmt: skip
    if not chosen:
        return
    for each in chosen:
        for said in each.notes:
            note(f"{each.name}: {said}")
    count = len(written.secrets)
    if count:
        note(f"{count} secret{'s are' if count > 1 else ' is'} in {target.secrets}, for you alone")
    if any("command" in each.options for each in chosen):
        note("they run without walls around them, as they did; `sandbox: auto` in an entry puts some up")
    kept = f"; as it was, it is {written.backup}" if written.backup else ""
    note(f"wrote {target.path}{kept}")


def _report(server: "Server", *, taken: bool) -> dict[str, Any]:
    state = "taken" if taken else "skipped" if server.skipped else "switched off" if server.entry.disabled else "new"
    return {
        "name": server.name,
        "called": server.entry.name,
        "client": server.entry.client,
        "file": server.entry.file,
        "what": server.shown,
        "secrets": [each.name for each in server.secrets],
        "state": state,
        "why": server.skipped,
        "also_in": list(server.also_in),
        "notes": list(server.notes),
    }


def _undo(target: "Target", *, as_json: bool) -> None:
    from bascule.admin import adopt
    from bascule.cli import show

    change = adopt.undo(target)
    if as_json:
        show.document({"file": change.file, "taken_out": list(change.names)})
    back = f"is as {change.backup} has it" if change.backup else "is gone, as it was before"
    note(f"took {', '.join(change.names)} out again: {target.path} {back}")
