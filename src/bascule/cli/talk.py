"""How the command line speaks: errors in one shape, talk on stderr, exit codes.

bascule: github: cannot be reached: connection refused
        is it running, and is http://127.0.0.1:9001/mcp its address?
"""

import functools
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, ParamSpec

from bascule.errors import (
    BasculeError,
    ConfigInvalid,
    PromptNotFound,
    ResourceNotFound,
    TimedOut,
    ToolNotFound,
    Unavailable,
    UnsupportedVersion,
)

P = ParamSpec("P")

# What could move the cursor, recolour or retitle a terminal: servers' words are not to be trusted with it.
# And what ends a line, turns its direction, or cannot be seen at all: a command must not look like another one.
_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)


def clean(text: str) -> str:
    """*text* without control characters, except newline and tab, and without those that make it look otherwise."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def note(text: str) -> None:
    """Say something to the person, not to the program that reads our output."""
    print(f"bascule: {clean(text)}", file=sys.stderr, flush=True)


def failing(command: Callable[P, Any]) -> Callable[P, Any]:
    """Turn our errors into words on stderr and the exit code that says whose fault it is."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return command(*args, **kwargs)
        except ConfigInvalid as error:
            note(str(error))
            sys.exit(2)
        except BasculeError as error:
            complain(error)
            sys.exit(1)

    return wrapped


def complain(error: BasculeError) -> None:
    """What failed and where, then what is known of the reason, then what to do next."""
    note(f"{error.source}: {error}" if error.source != "bascule" else str(error))
    for line in _more(error):
        print(f"        {clean(line)}", file=sys.stderr, flush=True)


def _more(error: BasculeError) -> Iterator[str]:
    for line in error.details.get("stderr") or ():
        yield f"| {line}"
    match error:
        case BasculeError(details={"http_status": 401 | 403}):
            yield "it wants a credential: export BASCULE_TOKEN=…, or see --help for other headers"
        case BasculeError(details={"http_status": 404 | 405}):
            yield "there is no MCP endpoint at this path; those of Bascule end in /mcp"
        case Unavailable():
            yield "is it running, and is that its address?"
        case TimedOut():
            yield "give it longer with --timeout SECONDS"
        case ToolNotFound():
            yield "`bascule list` shows the names"
        case PromptNotFound():
            yield "`bascule list --prompts` shows the names"
        case ResourceNotFound():
            yield "`bascule list --resources` shows what there is"
        case UnsupportedVersion():
            yield "`--era auto` finds out what it speaks"
