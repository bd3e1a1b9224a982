"""All commands, as one typer application."""

from typing import Annotated

import typer

import bascule
from bascule.cli import (
    approvals,
    audit,
    cache,
    contract,
    inspect,
    journal,
    keys,
    policy,
    registry,
    review,
    serve,
    servers,
    slo,
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


serve.register(app)
inspect.register(app)
contract.register(app)
keys.register(app)
audit.register(app)
policy.register(app)
approvals.register(app)
journal.register(app)
cache.register(app)
usage.register(app)
slo.register(app)
servers.register(app)
registry.register(app)
review.register(app)
