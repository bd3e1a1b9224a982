"""`bascule journal list`, `show`, `resolve`: calls with an idempotency key, and what a person says became of them.

Works on the state folder, whether a gateway runs on it or not.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from bascule.cli.records import ConfigOption, JsonOption, user, with_records
from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid, InvalidParams

if TYPE_CHECKING:
    from bascule.admin.journal import By
    from bascule.config import Config
    from bascule.store.journal import Entry
    from bascule.store.records import Records

T = TypeVar("T")

_HEADINGS: Final = ("id", "state", "tool", "caller", "began", "trace", "note")
_LARGEST_FILE: Final = 64 * 1024 * 1024

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `bascule journal list` shows it.")]

commands = typer.Typer(
    name="journal", no_args_is_help=True, help="Calls with an idempotency key: list, show, say what became of them."
)


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.command("list")
@failing
def list_(
    state: Annotated[str | None, typer.Option(metavar="STATE", help="Such as UNKNOWN.")] = None,
    caller: Annotated[str | None, typer.Option(metavar="NAME", help="Only of this caller.")] = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="No more than so many.")] = 100,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List calls with an idempotency key, the newest first.

    Example: bascule journal list --state UNKNOWN
    """
    from bascule.admin import journal
    from bascule.cli import show

    async def listed(_: "Config", records: "Records") -> list[dict[str, Any]]:
        return await journal.list_(records.journal, state=state, caller=caller, most=most)

    found = with_records(config, listed)
    if as_json:
        show.document(found)
        return
    if sys.stderr.isatty() and not sys.stdout.isatty():
        print("\t".join(_HEADINGS), file=sys.stderr, flush=True)  # the rows alone are for a program
    show.table("calls", _HEADINGS, [_row(each) for each in found])
    unknown = sum(each["state"] == "UNKNOWN" for each in found)
    if unknown:
        note(f"{unknown} of unknown outcome; `bascule journal show ID` says what to do")


@commands.command()
@failing
def show(
    id: IdArgument,
    result: Annotated[bool, typer.Option("--result", help="Print what the tool answered, and nothing else.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show one call: what, who, when, whether it still runs, and what to do next."""
    from bascule.admin import journal
    from bascule.cli import show

    async def found(_: "Config", records: "Records") -> "tuple[Entry, bytes | None]":
        entry = await _entry(records, id)
        kept = await records.journal.result(entry) if result else None
        return entry, None if kept is None else bytes(kept.value)

    entry, value = with_records(config, found)
    if result and value is None:
        raise InvalidParams(f"{id} is {entry.state}, and no result of it is kept")
    if value is not None:
        show.raw(value)
    elif as_json:
        show.document(journal.report(entry))
    else:
        _tell(entry, journal.report(entry))


@commands.command()
@failing
def resolve(
    id: IdArgument,
    never_ran: Annotated[
        bool, typer.Option("--never-ran", help="It was not done: sent again with the same key, it is run.")
    ] = False,
    result: Annotated[
        Path | None,
        typer.Option("--result", metavar="FILE", help="It was done; what the tool answered, in JSON."),
    ] = None,
    about: Annotated[str, typer.Option("--note", metavar="TEXT", help="How you know; it goes into the audit.")] = "",
    config: ConfigOption = None,
) -> None:
    """Say what became of a call of unknown outcome, once you have found out at its server.

    Example: bascule journal resolve j0a1b2c3d4 --never-ran --note 'not in the ledger, asked Kim'
    """
    from bascule.admin import journal

    if never_ran == (result is not None):
        raise ConfigInvalid("say one thing: --never-ran, or --result FILE")
    kept = None if result is None else journal.result_of(_content(result))

    async def resolved(_: "Config", records: "Records") -> "Entry":
        entry = await _entry(records, id)
        if kept is not None and len(bytes(kept.value)) > records.journal.options.max_result_bytes:
            raise InvalidParams("the result is larger than journal.max_result_bytes: it would not be kept")
        await records.start()
        return await journal.resolve(records.journal, records.audit, entry, kept, by=_me(), note=about)

    entry = with_records(config, resolved)
    if never_ran:
        note(f"{id} was never run: when {entry.caller} sends it again with the same key, {entry.thing} is called")
    else:
        note(f"{id} is done: when {entry.caller} sends it again with the same key, it gets this result")


# ---- from words to records -----------------------------------------------------------------------


async def _entry(records: "Records", id: str) -> "Entry":
    return await records.journal.get(id) or _missing(id)


def _missing(id: str) -> Any:
    raise InvalidParams(
        f"there is no call {id!r} on record; `bascule journal list` shows those that there are, `bascule audit search"
        " --kind journal` those that somebody has resolved"
    )


def _content(path: Path) -> bytes:
    try:
        source = sys.stdin.buffer if str(path) == "-" else path.open("rb")
        with source:
            content = source.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigInvalid(f"--result {path}: {error.strerror}") from error
    if len(content) > _LARGEST_FILE:
        raise ConfigInvalid(f"--result {path}: it is larger than {_LARGEST_FILE} bytes")
    return content


def _me() -> "By":
    from bascule.admin.journal import By

    return By(user(), "shell")


# ---- what is said --------------------------------------------------------------------------------


def _row(report: dict[str, Any]) -> list[str]:
    return [report[name] for name in ("id", "state", "tool", "caller", "began", "trace_id", "note")]


def _tell(entry: "Entry", report: dict[str, Any]) -> None:
    from bascule.cli import show

    now_s = time.time()
    process = "a process that lives works at it" if report["running"] else "no process works at it"
    lines = [
        ("call", entry.id),
        ("state", f"{entry.state}: {report['meaning']}"),
        ("tool", f"{entry.thing} ({entry.method})"),
        ("caller", entry.caller),
        ("began", f"{report['began']}, {_ago(now_s - entry.created_at_s)} ago"),
        ("changed", f"{report['changed']}, {_ago(now_s - entry.changed_at_s)} ago"),
        ("trace", entry.trace_id),
        ("process", process),
        ("result", _result(entry)),
        ("arguments", f"SHA-256 {report['fingerprint']} of the server, the method, the name and the arguments"),
        ("note", entry.note),
    ]
    for name, words in lines:
        if words:
            show.text(f"{name:<10} {words}")
    for number, step in enumerate(report["next"], 1):
        show.text(f"{'next' if number == 1 else '':<10} {number}. {step}")


def _result(entry: "Entry") -> str:
    if entry.result_bytes is None:
        return "none"
    kept = "`--result` prints it" if entry.has_result else "too large, not kept"
    return f"{entry.result_bytes} bytes{', an error of the server' if entry.refused else ''}; {kept}"


def _ago(seconds: float) -> str:
    for unit, length_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
