"""`bascule usage`, `usage charge-back`, `recount`, `rebuild`: how much tools are used, by whom, and at what cost."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from bascule.cli.records import ConfigOption, JsonOption
from bascule.cli.talk import failing, note
from bascule.errors import ConfigInvalid, InvalidParams

if TYPE_CHECKING:
    from bascule.admin.usage import Teams
    from bascule.config import Config
    from bascule.store.usage import Difference, Usage

By = Literal["tool", "caller", "team", "version"]

_MEASURES: Final = ("calls", "errors", "error rate", "cost")
_QUANTILES: Final = ("p50", "p95", "p99")
_EVER: Final = "1970-01-01"
_SHOWN: Final = 50  # differences; there may be as many as calls

SinceOption = Annotated[
    str, typer.Option("--since", metavar="WHEN", help="From then on: 24h ago, or 2026-11-20T08:00Z.")
]
UntilOption = Annotated[str, typer.Option("--until", metavar="WHEN", help="Before then; default now.")]
ByOption = Annotated[By, typer.Option("--by", help="One line for each tool, caller, team or version.")]
MonthOption = Annotated[str, typer.Option("--month", metavar="YYYY-MM", help="Which one, in UTC.")]

commands = typer.Typer(
    name="usage", invoke_without_command=True, help="Show how much tools are used, by whom, and what it cost."
)


def register(app: typer.Typer) -> None:
    app.add_typer(commands)


@commands.callback()
@failing
def usage(
    context: typer.Context,
    since: SinceOption = "24h",
    until: UntilOption = "",
    by: ByOption = "tool",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show how much tools are used, by whom, and what it cost.

    Example: bascule usage --since 7d --by caller
    """
    if context.invoked_subcommand is not None:
        return
    from bascule.admin import usage as admin
    from bascule.admin.keys import date_of
    from bascule.cli import show

    with opened(config) as (loaded, sums):
        since_s, until_s = _time(since, until, sums)
        teams = _teams(loaded, sums) if by == "team" else {}
        rows = admin.totals(sums, by, since_s, until_s, teams)
    if as_json:
        document({"since": date_of(since_s), "until": date_of(until_s), "rows": rows})
        return
    names = ("tool", "version") if by == "version" else (by,)
    headings = (*names, *_MEASURES, *(_QUANTILES if by == "tool" else ()))
    show.table(f"since {date_of(since_s)}", headings, [_cells(row, names) for row in rows])


@commands.command("charge-back")
@failing
def charge_back(
    month: MonthOption,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for a spreadsheet.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say what each caller used of each tool in a month, and what it cost.

    Example: bascule usage charge-back --month 2026-11 --csv > november.csv
    """
    from bascule.admin import usage as admin
    from bascule.admin.audit import escaped
    from bascule.cli import show

    with opened(config) as (loaded, sums):
        try:
            rows = admin.charge_back(sums, month, _teams(loaded, sums))
        except InvalidParams as error:
            raise ConfigInvalid(str(error), field="--month") from error
    if as_csv:
        sys.stdout.write(admin.charge_back_csv(rows))
    elif as_json:
        document({"month": month, "rows": rows})
    else:
        shown = [[*(escaped(str(row[name])) for name in admin.CHARGED[:-1]), _cost(row["cost_usd"])] for row in rows]
        show.table(month, [name.removesuffix("_usd") for name in admin.CHARGED], shown)


@commands.command()
@failing
def recount(
    since: SinceOption = _EVER, until: UntilOption = "", as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Count the calls of the audit again, day by day. Exit 1 when the sums differ from that."""
    from bascule.admin import usage as admin
    from bascule.cli import show

    now_s = time.time()
    with opened(config) as (_, sums):
        since_s, until_s = _time(since, until, sums)
        found = admin.recount(sums, since_s, until_s, now_s)
        waiting = sums.waiting()
    if as_json:
        document({"agrees": not found, "differences": [admin.difference(each) for each in found]})
    elif found:
        show.table("differences", ("day", "what", "of", "audit", "sums"), [_line(each) for each in found[:_SHOWN]])
        if len(found) > _SHOWN:
            note(f"there are {len(found) - _SHOWN} more; --json prints all")
    else:
        print("ok: the sums are what the audit says", flush=True)
    if waiting:
        note(f"{waiting} entries of the audit are not counted yet: a gateway that runs counts them within seconds")
    if found:
        note("`bascule usage rebuild` sums them anew; ask first why they differ: `bascule audit verify`")
        sys.exit(1)


@commands.command()
@failing
def rebuild(since: SinceOption = _EVER, until: UntilOption = "", config: ConfigOption = None) -> None:
    """Sum whole days anew from the audit, which stays as it is. A gateway may run meanwhile."""
    from bascule.admin import usage as admin

    with opened(config) as (loaded, sums):
        since_s, until_s = _time(since, until, sums)
    calls = asyncio.run(admin.rebuild(Path(loaded.state_dir), since_s, until_s, time.time()))
    print(calls, flush=True)
    note(f"{calls} calls were summed anew")


# ---- from words to values ------------------------------------------------------------------------


@contextmanager
def opened(path: Path | None) -> "Iterator[tuple[Config, Usage]]":
    """The configuration, and the sums of its state folder."""
    from bascule import config
    from bascule.store.files import FILE, require
    from bascule.store.usage import Usage

    loaded = config.load_own_records(path, os.environ)
    state = Path(loaded.state_dir)
    require(state)
    sums = Usage(state / FILE)
    try:
        yield loaded, sums
    finally:
        sums.close()


def _time(since: str, until: str, sums: "Usage") -> tuple[float, float]:
    from bascule.admin import usage as admin

    now_s = time.time()
    try:
        return admin.time_of(since, until, now_s, sums.kept_since(now_s))
    except InvalidParams as error:
        raise ConfigInvalid(str(error), field="--since, --until") from error


def _teams(loaded: "Config", sums: "Usage") -> "Teams":
    from bascule.admin import slo
    from bascule.admin import usage as admin

    return admin.teams_of(slo.contracts_of(loaded, sums.things()))


# ---- what is said --------------------------------------------------------------------------------


def document(value: Any) -> None:
    """A value as JSON, in ASCII: what clients have made up reaches no terminal, and says the same to a program."""
    print(json.dumps(value, indent=2), flush=True)


def _cells(row: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    from bascule.admin.audit import escaped

    said = [escaped(row[name]) or "-" for name in names]
    measures = [str(row["calls"]), str(row["errors"]), f"{row['error_rate']:.1%}", _cost(row["cost_usd"])]
    times = [_milliseconds(row[f"{name}_ms"]) for name in _QUANTILES] if "p50_ms" in row else []
    return [*said, *measures, *times]


def _cost(usd: float) -> str:
    return "-" if usd == 0 else f"${usd:,.2f}" if usd >= 0.01 else f"${usd:.9f}".rstrip("0")


def _milliseconds(ms: float | None) -> str:
    return "-" if ms is None else f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def _line(each: "Difference") -> list[str]:
    from bascule.admin.audit import escaped
    from bascule.admin.keys import date_of

    of = " ".join(part for part in (each.thing or "-", each.version, each.caller, each.category) if part)
    return [str(date_of(each.at)), each.what, escaped(of), str(each.audited), str(each.summed)]
