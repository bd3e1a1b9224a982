"""The command line. Standard output is data, standard error is talk; exit 0 done, 1 failed, 2 bad usage or config."""

import typer

from bascule.cli import serve

app = typer.Typer(
    name="bascule",
    help="The governed bridge between AI agents and tools.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
serve.register(app)
