"""`bascule contract new`, `lint`, `diff`, `show`: the promises of tools, prompts and resources."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from typer.core import TyperCommand

from bascule.cli.serve import named_after
from bascule.cli.talk import complain, failing, note
from bascule.cli.target import Target, TargetedCommand, default_file
from bascule.errors import BasculeError, ConfigInvalid

if TYPE_CHECKING:
    from bascule.admin.contracts import Line, Listed
    from bascule.admin.inspect import Peer
    from bascule.contract.diff import Verdict
    from bascule.contract.lint import Finding

Kind = Literal["tool", "prompt", "resource"]

_TIMEOUT_S: Final = 120.0
_ORDER: Final = {"error": 0, "warning": 1, "hint": 2}

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="bascule.yaml, .json or .toml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
KindOption = Annotated[Kind | None, typer.Option("--kind", help="What ID is; default a tool.")]

commands = typer.Typer(
    name="contract", no_args_is_help=True, help="Begin, check, compare and show the contracts of tools."
)


class CommandWithServer(TargetedCommand):
    """A command that may end with `-- COMMAND…`, the server that it looks at."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*TyperCommand.collect_usage_pieces(self, ctx), "[-- COMMAND…]"]


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.command(cls=CommandWithServer)
@failing
def new(
    ctx: typer.Context,
    id: Annotated[str, typer.Argument(metavar="ID", help="namespace/verb_noun; the namespace is the server's name.")],
    kind: KindOption = None,
    from_server: Annotated[
        bool, typer.Option("--from-server", help="Take description and schemas from the running server.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A new file; default standard output.")] = None,
    config: ConfigOption = None,
) -> None:
    """Write a contract to begin with: every field, and what to fill in.

    Example: bascule contract new crm/create_lead -o contracts/create_lead.yaml
    """
    from bascule.admin import contracts
    from bascule.cli import show
    from bascule.config import place_of

    chosen: Kind = kind or "tool"
    text = contracts.new(chosen, id)
    if from_server:
        namespace, asked = id.partition("/")[0], _target(ctx, config)
        place = None if asked.file is None else place_of(_configuration(asked), id)
        things, complete = _asked(asked, place[0] if place else namespace, as_namespace=namespace)
        if not complete:
            sys.exit(1)
        text = contracts.new(chosen, id, contracts.one(things, chosen, id).definition)
    elif ctx.obj is not None or config is not None:
        raise ConfigInvalid("a server is asked only with --from-server")
    if output is None:
        show.text(text.rstrip("\n"))
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigInvalid(f"cannot be written: {error.strerror}", place=str(output)) from error
    note(f"wrote {output}; `bascule contract lint {output}` says what is left to fill in")


@commands.command(cls=CommandWithServer)
@failing
def lint(
    ctx: typer.Context,
    paths: Annotated[list[Path] | None, typer.Argument(metavar="[PATH]...", help="Files and folders.")] = None,
    server: Annotated[str | None, typer.Option("--server", help="Look at this server of the configuration.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings and hints, too.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say what a model or an operator will stumble over, and how to mend it. Exit 1 when there are errors.

    Looks at contracts in files, or at what a server lists: -c FILE with all its servers or one of them, or -- COMMAND.

    Example: bascule contract lint contracts/ --strict
    """
    from datetime import UTC, datetime

    from bascule.admin import contracts
    from bascule.config import Config, sources_of

    today = datetime.now(UTC).date()
    live = server is not None or config is not None or ctx.obj is not None
    if live == bool(paths):
        raise ConfigInvalid("what to look at? Give files or folders, or a server: -c FILE, or -- COMMAND")
    complete = True
    if paths:
        found = contracts.lint_files(paths, today)
    else:
        target = _target(ctx, config)
        things, complete = _asked(target, server)
        sources = sources_of(_configuration(target) if target.file else Config())
        found = contracts.lint_listed(things, sources, today)
    _print_findings(found, as_json=as_json)
    if not complete or any(strict or each.level == "error" for each in found):
        sys.exit(1)


@commands.command()
@failing
def diff(
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="A file or folder of contracts.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="What it became.")],
    as_json: JsonOption = False,
) -> None:
    """Say what changed, and whether that is MAJOR, MINOR or PATCH. Exit 1 when a declared version lies about it.

    Example: bascule contract diff old/create_lead.yaml contracts/create_lead.yaml
    """
    from bascule.admin import contracts

    found = contracts.diff_files(before, after)
    _print_verdicts(found, as_json=as_json)
    for verdict in found:
        if verdict.lie:
            note(f"{verdict.id}: {verdict.lie}")
    if any(verdict.lie for verdict in found):
        sys.exit(1)


@commands.command()
@failing
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="namespace/name.")],
    kind: KindOption = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Ask the server for its definition, starting it if need be.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Print the contract that holds, and where each field of it comes from.

    Example: bascule contract show crm/create_lead --connect
    """
    from bascule.admin import contracts
    from bascule.config import place_of, sources_of

    target = _target(None, config)
    loaded = _configuration(target)
    sources, place = sources_of(loaded), place_of(loaded, id)
    chosen = kind or contracts.kind_of(sources, id)
    if place is None:
        raise ConfigInvalid(f"no server {id.partition('/')[0]!r}; ID is SERVER/NAME", place=str(target.file))
    definition = None
    if connect:
        things, complete = _asked(target, place[0])
        if not complete:
            sys.exit(1)
        definition = contracts.one(things, chosen, id).definition
    else:
        note("the server was not asked, so its own definition is not known; --connect asks it")
    _print_lines(id, chosen, contracts.show(sources, chosen, id, definition), as_json=as_json)


# ---- servers -------------------------------------------------------------------------------------


def _target(ctx: typer.Context | None, config: Path | None) -> Target:
    """The configuration, or the command after `--`."""
    command = ctx.obj if ctx is not None else None
    if command is not None and config is not None:
        raise ConfigInvalid("-c and -- are two places to look; give one")
    if command is not None and not command:
        raise ConfigInvalid("no command after --; for example: -- uvx mcp-server-time")
    file = None if command is not None else config or default_file()
    return Target(file=file, command=command or (), headers={}, env={}, era="auto", timeout_s=_TIMEOUT_S, as_json=False)


def _configuration(target: Target) -> Any:
    from bascule import config

    assert target.file is not None
    return config.load(target.file, os.environ)


def _asked(target: Target, only: str | None, *, as_namespace: str = "") -> "tuple[list[Listed], bool]":
    """All that the servers list, and whether all of them could be asked. *only* names one of a file's."""
    from bascule.admin import contracts
    from bascule.cli import terminal, visit
    from bascule.config import naming_of
    from bascule.wire.names import PREFIXED

    if target.file is not None and only is not None and only not in _configuration(target).servers:
        raise ConfigInvalid(f"no server {only!r}", place=str(target.file))

    async def work(peer: "Peer") -> "list[Listed] | None":
        name = peer.upstream.name
        if target.file is not None and only not in (None, name):
            return []
        server = name if target.file is not None else as_namespace or named_after(target.command)
        naming = naming_of(_configuration(target)) if target.file is not None else PREFIXED
        try:
            return await visit.within(target, contracts.listed(peer, server, naming))
        except BasculeError as error:
            complain(error.at(name))
            return None

    answers = visit.with_each(target, terminal.Person(), work)
    return [each for answer in answers for each in answer or ()], None not in answers


# ---- on paper ------------------------------------------------------------------------------------


def _print_findings(found: "Sequence[Finding]", *, as_json: bool) -> None:
    import msgspec

    from bascule.cli import show as paper

    counts = {f"{level}s": sum(each.level == level for each in found) for level in _ORDER}
    if as_json:
        paper.document({**counts, "findings": msgspec.to_builtins(found)})
        return
    for each in sorted(found, key=lambda each: _ORDER[each.level]):
        paper.text(f"{each.place}: {each.level}: {each.id}: {each.message} [{each.rule}]\n    {each.mend}")
    said = [f"{count} {level.removesuffix('s') if count == 1 else level}" for level, count in counts.items()]
    note(", ".join(said) if found else "nothing to mend")


def _print_verdicts(found: "Sequence[Verdict]", *, as_json: bool) -> None:
    from bascule.cli import show as paper

    if as_json:
        paper.document({"contracts": [_as_json(verdict) for verdict in found]})
        return
    for verdict in found:
        versions = " → ".join(filter(None, (verdict.before, verdict.after)))
        step = verdict.step.name if verdict.step else "unchanged"
        paper.text(f"{verdict.id} {versions}: {step}".replace(" :", ":"))
        for change in verdict.changes:
            field = f"{change.field}: " if change.field else ""
            paper.text(f"    {change.step.name}  {field}{change.reason}")


def _as_json(verdict: "Verdict") -> dict[str, Any]:
    return {
        "id": verdict.id,
        "before": verdict.before,
        "after": verdict.after,
        "step": verdict.step.name if verdict.step else None,
        "lie": verdict.lie or None,
        "changes": [
            {"step": each.step.name, "field": each.field or None, "reason": each.reason} for each in verdict.changes
        ],
    }


def _print_lines(id: str, kind: str, lines: "Sequence[Line]", *, as_json: bool) -> None:
    from bascule.cli import show as paper

    if as_json:
        fields = {line.field: {"value": line.value, "source": line.source} for line in lines}
        paper.document({"id": id, "kind": kind, "fields": fields})
        return
    rows = [
        (field, json.dumps(value, ensure_ascii=False), line.source)
        for line in lines
        for field, value in _rows(line)
    ]  # fmt: skip
    paper.table(f"{kind} {id}", ("field", "value", "where it comes from"), rows)


def _rows(line: "Line") -> "Sequence[tuple[str, Any]]":
    """One for each guardrail, under the name that refusals give it."""
    if line.field != "guardrails" or not line.value:
        return [(line.field, line.value)]
    return [(f"guardrails.{number}", guardrail) for number, guardrail in enumerate(line.value)]
