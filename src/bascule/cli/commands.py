"""All commands, as one typer application."""

from typing import Annotated

import typer

import bascule
from bascule.cli import (
    approvals,
    audit,
    cache,
    connect,
    console,
    contract,
    doctor,
    import_,
    inspect,
    journal,
    keys,
    pack,
    policy,
    registry,
    review,
    serve,
    servers,
    slo,
    status,
    up,
    usage,
)

app = typer.Typer(
    name="bascule",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"bascule {bascule.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The governed bridge between AI agents and tools."""


# In the order of the help: what begins and runs, what shows, what is decided, what is kept.
for each in (up, serve, import_, connect, pack, inspect, status, doctor, console):
    each.register(app)
for each in (contract, policy, registry, review, approvals, servers, keys):
    each.register(app)
for each in (audit, journal, cache, usage, slo):
    each.register(app)
