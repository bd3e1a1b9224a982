"""How a call ended, in the few words that metrics, usage, logs and objectives count by. PURE.

The audit says exactly what happened; what is counted needs a closed set, or each new kind of error would be a new
line in every graph.
"""

from collections.abc import Iterator
from typing import Final

from bascule import errors

CATEGORIES: Final = (
    "ok",  # answered
    "failed",  # the tool ran and said so itself (`isError`)
    "refused",  # a JSON-RPC error of the server
    "client",  # the call has to change
    "transient",  # it may succeed later
    "security",  # authority is missing
    "protocol",  # the request breaks MCP
    "internal",  # a fault of ours
    "cancelled",  # nobody waited for the answer any more
)

# How long a call took is no fact about its tool when it never got there, or when nobody waited to the end: a flood of
# refusals would make a slow tool look fast.
UNTIMED: Final = frozenset({"client", "security", "protocol", "cancelled"})


def category_of(outcome: str) -> str:
    """The category of a record's `outcome`; of one that nobody knows, `internal`, which somebody will look at."""
    return _CATEGORY.get(outcome, "internal")


def _kinds(error: type[errors.BasculeError]) -> Iterator[tuple[str, str]]:
    if hasattr(error, "kind"):
        yield error.kind, error.category
    for narrower in error.__subclasses__():
        yield from _kinds(narrower)


# A server that a configuration breaks is a fault of who runs it, which is us as far as a caller can tell.
_CATEGORY: Final = {
    **{kind: category if category in CATEGORIES else "internal" for kind, category in _kinds(errors.BasculeError)},
    "answered": "ok",
    "failed": "failed",
    "refused": "refused",
    "cancelled": "cancelled",
}
