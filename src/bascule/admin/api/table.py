"""The table of all that operators can ask a running gateway for (docs/rest.md)."""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from bascule.admin.actions import Operation
from bascule.admin.api import (
    approvals,
    audit,
    cache,
    callers,
    catalog,
    cost,
    journal,
    keys,
    openapi,
    registry,
    reviews,
    servers,
    tryout,
    usage,
)

if TYPE_CHECKING:
    from bascule.app import Gateway

_AREAS: Final = (
    *(catalog, tryout, usage, cost, servers, approvals, reviews, registry, audit, callers, keys, journal, cache),
    openapi,
)


def operations(gateway: "Gateway") -> Sequence[Operation]:
    """All that *gateway* can be asked for."""
    return [*chain.from_iterable(area.operations(gateway) for area in _AREAS)]
