"""plain.py with one tool, `reach`: it runs the Python that it is given, and says what that printed or raised.

The most hostile server there can be, to see what the walls around it hold.
"""

import contextlib
import io
from typing import ClassVar, Final

import plain
from server import Call, Json, Tool, World


def reach(call: Call, code: str) -> str:
    """Runs the code; what it prints, or the name of what it raises and its words."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(code, {"__name__": "reached"})
    except BaseException as error:  # whatever it is, it is the answer
        return f"{type(error).__name__}: {error}"
    return printed.getvalue().strip()


CAPABILITIES: Final[Json] = {"tools": {}}


class ReachingServer(plain.PlainServer):
    info: ClassVar[Json] = {"name": "reaching", "version": "1.0.0"}
    capabilities: ClassVar[Json] = CAPABILITIES


def main() -> None:
    options = plain.arguments(__doc__).parse_args()
    world = World(options)
    world.tools = {"reach": Tool("reach", reach)}
    ReachingServer(options, world).serve()


if __name__ == "__main__":
    main()
