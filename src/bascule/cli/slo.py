"""`bascule slo budgets` and `rules`: what contracts promise, how much may still go wrong, and who is told."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bascule.cli.records import ConfigOption, JsonOption
from bascule.cli.talk import failing, note
from bascule.cli.usage import document, opened

if TYPE_CHECKING:
    from bascule.config import Config
    from bascule.observe.slo import Objective

_HEADINGS: Final = ("tool", "promise", "window", "good", "of", "budget left", "burn 1h", "burn 6h", "state")

commands = typer.Typer(name="slo", no_args_is_help=True, help="Show the error budgets of tools, and watch them.")


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.command()
@failing
def budgets(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show how much of each tool's error budget is left, and how fast it is spent now."""
    from bascule.admin import slo
    from bascule.cli import show
    from bascule.observe.slo import objectives

    with opened(config) as (loaded, sums):
        promised = objectives(slo.contracts_of(loaded, sums.things()))
        found = [slo.report(each) for each in slo.standings(sums, promised, time.time())]
    if as_json:
        document({"budgets": found})
        return
    show.table("error budgets", _HEADINGS, [_row(each) for each in found])
    _say_if_none(promised)


@commands.command()
@failing
def rules(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; default standard output.")] = None,
    config: ConfigOption = None,
) -> None:
    """Print rules for Prometheus, which warn when an error budget is being spent too fast.

    Example: bascule slo rules -o rules/bascule-slo.yml
    """
    from bascule.admin import slo
    from bascule.cli import show
    from bascule.config import load_own_records
    from bascule.errors import ConfigInvalid
    from bascule.observe.slo import objectives

    loaded = load_own_records(config, os.environ)
    promised = objectives(slo.contracts_of(loaded, _called(loaded)))
    text = slo.rules(promised)
    if output is None:
        show.text(text.rstrip("\n"))
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigInvalid(f"cannot be written: {error.strerror}", place=str(output)) from error
    _say_if_none(promised)


def _called(loaded: "Config") -> list[str]:
    """Tools that were called, of which perhaps rules alone say something.

    None where no gateway has run: rules for Prometheus are made where a configuration is kept, too.
    """
    from bascule.store.files import FILE, is_newest
    from bascule.store.usage import Usage

    path = Path(loaded.state_dir) / FILE
    if not is_newest(path):
        return []
    sums = Usage(path)
    try:
        return sums.things()
    finally:
        sums.close()


def _say_if_none(promised: "list[Objective]") -> None:
    if not promised:
        note("no contract promises anything: `slo: {success: 99.9}` in one does")


def _row(found: dict[str, Any]) -> list[str]:
    promise = f"{found['target'] * 100:.6g} %"
    if found["limit_ms"] is not None:
        promise += f" within {found['limit_ms']:g} ms"
    return [
        found["tool"],
        promise,
        f"{found['window_days']} d",
        str(found["good"]),
        str(found["total"]),
        f"{found['remaining']:.1%}",
        f"{found['burn_1h']:.1f}",
        f"{found['burn_6h']:.1f}",
        found["state"],
    ]
