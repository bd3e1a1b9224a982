"""Which server may answer in the place of another. PURE.

What stands in the contract of a tool is what its caller was promised, and what the operator's rules have judged.
A server takes over only a tool that promises the same and is guarded the same, so that whatever was decided of the
call holds there too: its limits and its scopes are asked again, all else is not.
"""

from collections.abc import Mapping
from typing import Final

from bascule.contract.model import Contract

# Left out: words (description, owner, deprecation, objectives), scopes and limits, which are asked at both servers,
# and `max_timeout_seconds`: the deadline of the first server goes on.
SAME: Final = (
    *("kind", "version", "input_schema", "output_schema", "side_effect", "idempotent", "require_key"),
    *("validate_arguments", "validate_results", "confirm_gate", "guardrails", "cost_model", "cache_policy", "status"),
)


def differences(contract: Contract, other: Contract) -> list[str]:
    """The fields in which two contracts promise or ask for different things; none: one may stand for the other.

    The tools have the same name at both servers: `crm/create_lead` and `crm_eu/create_lead`.
    """
    named = [] if contract.name == other.name else ["name"]
    return named + [field for field in SAME if getattr(contract, field) != getattr(other, field)]


def problems(fallbacks: Mapping[str, str | None]) -> dict[str, str]:
    """What is wrong with the `fallback` of each of the configured servers, in words; {} if nothing is."""
    found: dict[str, str] = {}
    for server, other in fallbacks.items():
        if other is None:
            continue
        if other == server:
            found[server] = "a server cannot stand in for itself"
        elif other not in fallbacks:
            found[server] = f"there is no server {other!r}"
        elif (around := _circle(server, fallbacks)) is not None:
            found[server] = f"goes round in a circle: {' -> '.join(around)}"
    return found


def _circle(server: str, fallbacks: Mapping[str, str | None]) -> list[str] | None:
    """The way from *server* back to itself, if there is one."""
    way = [server]
    while (following := fallbacks.get(way[-1])) is not None:
        way.append(following)
        if following == server:
            return way
        if following in way[:-1]:
            return None  # a circle of others, which is told of them
    return None
