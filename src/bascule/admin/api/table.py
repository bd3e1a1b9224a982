"""The table of all that operators can ask a running gateway for (docs/rest.md)."""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from bascule.admin.actions import Operation
from bascule.admin.api import approvals, cache, journal, openapi, registry, reviews, servers, usage

if TYPE_CHECKING:
    from bascule.app import Gateway

_AREAS = (approvals, cache, journal, reviews, registry, servers, openapi, usage)


def operations(gateway: "Gateway") -> Sequence[Operation]:
    """All that *gateway* can be asked for."""
    return [*chain.from_iterable(area.operations(gateway) for area in _AREAS)]
