"""How the command line speaks: errors in one shape, talk on stderr, exit codes."""

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec

from bascule.errors import BasculeError, ConfigInvalid

P = ParamSpec("P")


def note(text: str) -> None:
    """Say something to the person, not to the program that reads our output."""
    print(f"bascule: {text}", file=sys.stderr, flush=True)


def failing(command: Callable[P, Any]) -> Callable[P, Any]:
    """Turn our errors into a line on stderr and the exit code that says whose fault it is."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return command(*args, **kwargs)
        except ConfigInvalid as error:
            note(str(error))
            sys.exit(2)
        except BasculeError as error:
            note(f"{error.source}: {error}" if error.source != "bascule" else str(error))
            sys.exit(1)

    return wrapped
