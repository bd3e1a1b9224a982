"""`bascule audit tail`, `search`, `export`, `verify`, `prove`, `key`: the record of every call, read and checked."""

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

import typer

from bascule.cli.records import ConfigOption, JsonOption
from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid

if TYPE_CHECKING:
    from bascule.admin.audit import Filters, Log, Seen
    from bascule.config import Config

_AGO: Final = re.compile(r"(\d{1,9})(s|m|h|d|w)")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_HEADINGS: Final = ("time", "caller", "tool", "decision", "outcome", "took", "cost", "trace")
_WIDTHS: Final = (24, 16, 28, 9, 16, 9, 10, 32)  # on a terminal
_LONGEST_PROOF: Final = 1024 * 1024

AllOption = Annotated[bool, typer.Option("--all", help="Intents too, of calls whose end is known.")]
MostOption = Annotated[int, typer.Option("-n", metavar="N", min=1, help="No more than so many, the newest.")]
CallerOption = Annotated[str, typer.Option("--caller", metavar="NAME", help="Of this caller.")]
ThingOption = Annotated[str, typer.Option("--tool", metavar="NAME", help="Of this tool, or what else; `crm/*` works.")]
OutcomeOption = Annotated[str, typer.Option("--outcome", metavar="WORD", help="Such as answered, or scope_denied.")]
DecisionOption = Annotated[str, typer.Option("--decision", metavar="WORD", help="allow or deny.")]
TraceOption = Annotated[str, typer.Option("--trace", metavar="ID", help="Of this trace.")]
KindOption = Annotated[str, typer.Option("--kind", metavar="WORD", help="Such as call, intent, approval, refused.")]
SinceOption = Annotated[
    str, typer.Option("--since", metavar="WHEN", help="From then on: 2h ago, or 2026-11-20T08:00Z.")
]
UntilOption = Annotated[str, typer.Option("--until", metavar="WHEN", help="Before then.")]
KeyOption = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="KEY", help="Public key, or a file with one; may be repeated. Default: our own."),
]

commands = typer.Typer(name="audit", no_args_is_help=True, help="Read the record of every call, and prove it is whole.")


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.command()
@failing
def tail(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    most: MostOption = 20,
    caller: CallerOption = "",
    tool: ThingOption = "",
    intents: AllOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one entry per line.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show the newest calls, one line each: time, caller, tool, decision, outcome, took, cost, trace."""
    filters = _filters(caller=caller, thing=tool)
    with _opened(config) as (_, log):
        newest = log.last()
        shown = log.search(filters, most, intents=intents)
        _head(as_json=as_json)
        for each in shown:
            _line(each, as_json=as_json)
        if follow:
            try:
                for each in log.follow(filters, max([newest, *(each.seq for each in shown)]), intents=intents):
                    _line(each, as_json=as_json)
            except KeyboardInterrupt:
                pass  # that is how one ends it


@commands.command()
@failing
def search(
    caller: CallerOption = "",
    tool: ThingOption = "",
    outcome: OutcomeOption = "",
    decision: DecisionOption = "",
    trace: TraceOption = "",
    kind: KindOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    most: MostOption = 100,
    intents: AllOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Find calls: all that fit everything that is said, the newest last.

    Example: bascule audit search --caller ci --decision deny --since 2h
    """
    from bascule.admin import audit

    filters = _filters(caller, tool, outcome, decision, trace, kind, since, until)
    with _opened(config) as (_, log):
        found = log.search(filters, most, intents=intents or kind == "intent")
    if as_json:
        _print_json([audit.report(each) for each in found], indent=2)
        return
    _head(as_json=False)
    for each in found:
        _line(each, as_json=False)
    if len(found) == most:
        note(f"there may be more: these are the newest {most}; -n says how many")


@commands.command()
@failing
def export(
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="jsonl or csv.")] = "jsonl",
    caller: CallerOption = "",
    tool: ThingOption = "",
    outcome: OutcomeOption = "",
    decision: DecisionOption = "",
    trace: TraceOption = "",
    kind: KindOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    config: ConfigOption = None,
) -> None:
    """Print whole entries, the oldest first, intents too: JSON lines with their hashes, or CSV."""
    from bascule.admin import audit

    filters = _filters(caller, tool, outcome, decision, trace, kind, since, until)
    with _opened(config) as (_, log):
        if form == "csv":
            _print(audit.csv_head())
        for each in log.everything(filters):
            if form == "csv":
                _print(audit.csv_row(each))
            else:
                _print_json(audit.report(each))


@commands.command()
@failing
def verify(
    since: Annotated[
        int | None, typer.Option("--since", metavar="SEQ", help="Only what follows the signed head of this entry.")
    ] = None,
    anchor: Annotated[
        Path | None, typer.Option("--anchor", metavar="FILE", help="A copy of the heads, better kept elsewhere.")
    ] = None,
    key: KeyOption = None,
    proof: Annotated[
        str | None,
        typer.Option("--proof", metavar="FILE", help="Check this proof instead, without a database; - is stdin."),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Check that no entry was changed, removed, inserted, reordered or cut off. Exit 1 names the first that was."""
    from bascule.admin import audit
    from bascule.config import audit_of
    from bascule.store.anchor import path_of

    texts = [_key_text(each) for each in key or ()]
    if proof is not None:
        _verify_proof(proof, texts, as_json=as_json)
        return
    with _opened(config) as (loaded, log):
        copies = anchor or path_of(audit_of(loaded), log.state)
        verdict = log.verify(copies, audit.keys_of(log.state, texts), since)
    problem = verdict.problem
    if as_json:
        _print_json(audit.verdict_report(verdict), indent=2)
    elif problem is not None:
        _print(f"entry {problem.seq}: {problem.fault}: {problem.message}")
    else:
        _print(f"ok: {verdict.entries} entries, {verdict.heads} signed heads, signed up to entry {verdict.signed_to}")
    for each in verdict.notes:
        note(each)
    if problem is not None:
        sys.exit(1)


@commands.command()
@failing
def prove(
    trace: Annotated[str, typer.Argument(metavar="TRACE", help="The trace id of a call.")],
    seq: Annotated[
        int | None, typer.Option("--seq", metavar="SEQ", help="Which entry of it, where it has several calls.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print one entry with what shows that it stands in the audit: for `bascule audit verify --proof`, anywhere."""
    from bascule.admin import audit

    with _opened(config) as (_, log):
        made = log.prove(trace, seq)
    _print_json(audit.proof_report(made), indent=2)
    note(f"it is signed with the key {made.head.key}; whoever checks it needs to know that this is ours")


@commands.command("key")
@failing
def key_(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Print the public key that heads are signed with: give it to whoever is to check them."""
    from bascule.admin import audit

    with _opened(config) as (_, log):
        found = audit.key_report(log.state)
    if as_json:
        _print_json(found, indent=2)
    else:
        _print(found["public_key"])
        note(f"the id of this key is {found['id']}, the algorithm {found['algorithm']}")


# ---- from words to values ------------------------------------------------------------------------


@contextmanager
def _opened(path: Path | None) -> "Iterator[tuple[Config, Log]]":
    from bascule import config
    from bascule.admin.audit import Log
    from bascule.config import audit_of
    from bascule.store import anchor
    from bascule.store.files import require

    # The audit is read also where none of the servers' secrets is at hand.
    loaded = config.load_own_records(path, os.environ)
    state = Path(loaded.state_dir)
    if not anchor.path_of(audit_of(loaded), state).exists():  # else its end was cut off at the very beginning
        require(state)
    with Log(state) as log:
        yield loaded, log


def _filters(
    caller: str = "",
    thing: str = "",
    outcome: str = "",
    decision: str = "",
    trace: str = "",
    kind: str = "",
    since: str = "",
    until: str = "",
) -> "Filters":
    from bascule.admin.audit import Filters
    from bascule.store.record import Kind

    for option, word, words in (("--kind", kind, get_args(Kind)), ("--decision", decision, ("allow", "deny"))):
        if word and word not in words:
            raise ConfigInvalid(f"{option} {word!r}: it is one of {', '.join(words)}")
    return Filters(
        caller=caller,
        thing=thing,
        outcome=outcome,
        decision=decision,
        trace=trace,
        kind=kind,
        since_us=_moment_us(since, "--since"),
        until_us=_moment_us(until, "--until"),
    )


def _moment_us(text: str, option: str) -> int | None:
    """`2h` ago, or a date with or without a time, in UTC unless it says otherwise."""
    if not text:
        return None
    if (ago := _AGO.fullmatch(text.strip())) is not None:
        return int((time.time() - int(ago[1]) * _UNITS_S[ago[2]]) * 1_000_000)
    try:
        moment = datetime.fromisoformat(text.strip())
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise ConfigInvalid(f"{option} {text!r}: write how long ago, such as 2h, or 2026-11-20T08:00Z") from error


def _key_text(said: str) -> str:
    """The key, or what stands in the file of that name."""
    path = Path(said)
    try:
        return path.read_text(encoding="ascii") if path.is_file() else said
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid("it cannot be read as a public key", place=said) from error


def _verify_proof(name: str, texts: list[str], *, as_json: bool) -> None:
    from bascule.admin import audit

    proof, why = audit.check_proof(_bytes_of(name), texts)
    if as_json:
        _print_json({"ok": why is None, "problem": why, "key": proof.head.key, "entry": proof.entry}, indent=2)
    elif why is None:
        _print(f"ok: entry {proof.entry['seq']} is signed with the key {proof.head.key}")
    else:
        _print(f"not proven: {audit.escaped(why)}")
    if why is not None:
        sys.exit(1)
    if not texts:
        note("the proof brought this key itself: see that it is the one of that gateway's `bascule audit key`")


def _bytes_of(name: str) -> bytes:
    try:
        if name == "-":
            found = sys.stdin.buffer.read(_LONGEST_PROOF + 1)
        else:
            with Path(name).open("rb") as file:
                found = file.read(_LONGEST_PROOF + 1)
    except OSError as error:
        raise ConfigInvalid(f"cannot be read: {error.strerror}", place=name) from error
    if len(found) > _LONGEST_PROOF:
        raise ConfigInvalid("it is too long to be a proof", place=name)
    return found


# ---- what is said --------------------------------------------------------------------------------


def _print(line: str) -> None:
    print(line.encode(errors="replace").decode(), flush=True)


def _print_json(value: Any, indent: int | None = None) -> None:
    import json

    # In ASCII: what clients have made up reaches no terminal, and says the same to a program.
    print(json.dumps(value, indent=indent), flush=True)


# Of these the first question is what was done, and then with what.
_DONE_BY_HAND: Final = ("action", "review", "registry")


def _head(*, as_json: bool) -> None:
    if sys.stderr.isatty() and not as_json:
        print(_joined(_HEADINGS, to_terminal=sys.stdout.isatty()), file=sys.stderr, flush=True)


def _line(seen: "Seen", *, as_json: bool) -> None:
    from bascule.admin import audit

    if as_json:
        _print_json(audit.report(seen))
    else:
        _print(_joined(_cells(seen), to_terminal=sys.stdout.isatty()))


def _joined(cells: tuple[str, ...], *, to_terminal: bool) -> str:
    if not to_terminal:
        return "\t".join(cells)
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _cells(seen: "Seen") -> tuple[str, ...]:
    from bascule.admin import audit

    entry = seen.entry

    def said(name: str) -> str:
        return audit.escaped(str(entry.get(name, "")))

    kind = said("kind")
    outcome = "no end known" if seen.endless else said("outcome") or (said("note") if kind != "call" else "")
    outcome += "".join(f", {word}" for word in ("replayed", "cached") if seen.entry.get(word) is True)
    return (
        audit.date_of(entry.get("at_us")),
        said("caller") or said("approved_by") or "-",
        _what(kind, said("method"), said("thing")) or "-",
        (said("decision") if kind in ("call", "refused") else kind) or "-",
        outcome or "-",
        _took(entry),
        _cost(entry),
        said("trace_id") or "-",
    )


def _what(kind: str, method: str, thing: str) -> str:
    """What was called; of what somebody did, that, and with what."""
    if kind in _DONE_BY_HAND:
        return " ".join(filter(None, (method, thing)))
    return thing or method


def _took(entry: Mapping[str, Any]) -> str:
    took_us = entry.get("took_us")
    return f"{took_us / 1000:.1f} ms" if isinstance(took_us, int) else "-"


def _cost(entry: Mapping[str, Any]) -> str:
    nano = entry.get("cost_nano_usd")
    if not isinstance(nano, int):
        return "-"
    return "$" + f"{nano // 1_000_000_000}.{nano % 1_000_000_000:09d}".rstrip("0").rstrip(".")
