"""What is found: one line each, with the one command or configuration line that mends it. PURE.

RULES names everything that can be found, with its usual weight; docs/doctor.md has a row for each.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

Severity: TypeAlias = Literal["error", "warning", "note"]

SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")  # the worst first
_NAMED: Final = 3  # things that a line names; of the others it gives the number


class Repair(msgspec.Struct, frozen=True):
    """What may be done without asking: nothing is lost by it, and it can be undone."""

    kind: Literal["mkdir", "chmod"]
    path: str
    mode: int


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    rule: str
    severity: Severity
    where: str  # `bascule.yaml:12`, a file, a server or a tool
    what: str
    fix: str  # a command, or a line of the configuration
    repair: Repair | None = None


RULES: Final[Mapping[str, Severity]] = {
    # the file
    "configuration-wrong": "error",
    "reference-unset": "warning",
    "doubt": "warning",
    # who may call
    "no-callers": "note",
    "open-to-network": "error",
    "one-token-for-all": "warning",
    "scope-everything": "warning",
    "policy-allow": "warning",
    "origin-plain": "warning",
    # transport
    "tls-missing": "error",
    "tls-file-missing": "error",
    "tls-expired": "error",
    "tls-expires": "warning",
    "tls-name": "error",
    "tls-key-readable": "error",
    "seal-keys-missing": "warning",
    # secrets and keys
    "secret-in-file": "error",
    "secret-sent-plain": "error",
    "key-unlimited": "warning",
    "key-unused": "warning",
    "key-ends-soon": "warning",
    "key-of-nobody": "warning",
    # servers
    "no-servers": "warning",
    "command-missing": "error",
    "folder-missing": "error",
    "package-unpinned": "warning",
    "trust-auto": "warning",
    "environment-passed": "warning",
    "believed-from-afar": "warning",
    "nothing-required": "note",
    "timeout-long": "warning",
    "no-fallback": "note",
    "sandbox-missing": "error",
    "sandbox-none": "warning",
    "sandbox-off": "note",
    # contracts
    "no-contracts": "note",
    "contract-lint": "warning",
    "owner-missing": "warning",
    "slo-missing": "note",
    "timeout-missing": "note",
    "effect-unguarded": "warning",
    "review-due": "warning",
    "cost-unbounded": "warning",
    "rate-unlimited": "warning",
    # the machine
    "state-folder-missing": "note",
    "state-folder-open": "error",
    "state-file-open": "error",
    "records-closed": "note",
    "database-old": "note",
    "disk-full": "error",
    "disk-low": "warning",
    "audit-off": "warning",
    "anchor-same-disk": "warning",
    "port-taken": "error",
    # a gateway that runs
    "gateway-unreachable": "error",
    "version-differs": "note",
    "configuration-refused": "error",
    "server-down": "error",
    "server-off": "note",
    "server-restarts": "warning",
    "circuit-open": "warning",
    "lists-stale": "warning",
    "things-withheld": "warning",
    "names-clash": "warning",
    "overloaded": "warning",
    "audit-failing": "error",
    "audit-unrecorded": "error",
    "anchor-failing": "warning",
    "outcome-unknown": "warning",
    "approval-waits": "warning",
    "definitions-pending": "warning",
    "internal-errors": "error",
    "errors-many": "warning",
    "budget-burns": "warning",
    "orphan": "warning",
    # what was called
    "tool-failing": "warning",
    "tool-slow": "warning",
    "tool-chatty": "warning",
    "calls-in-a-loop": "warning",
    "result-fat": "warning",
    "deprecated-in-use": "warning",
    # what is listed
    "tool-blind": "warning",
    "tool-fat": "warning",
    "list-token-heavy": "warning",
    "description-hostile": "error",
    "ungoverned": "note",
}


def finding(
    rule: str, where: str, what: str, fix: str, *, severity: Severity | None = None, repair: Repair | None = None
) -> Finding:
    """A finding of its usual weight, unless another is said."""
    return Finding(rule=rule, severity=severity or RULES[rule], where=where, what=what, fix=fix, repair=repair)


def ordered(found: Iterable[Finding]) -> list[Finding]:
    """The worst first; of one weight, in the order in which they were found."""
    return sorted(found, key=lambda each: SEVERITIES.index(each.severity))


def counts(found: Iterable[Finding]) -> dict[str, int]:
    """How many there are of each weight: `errors`, `warnings`, `notes`."""
    weights = [each.severity for each in found]
    return {f"{severity}s": weights.count(severity) for severity in SEVERITIES}


def names(things: Iterable[str]) -> str:
    """`a, b, c and 4 more`."""
    known = list(dict.fromkeys(things))
    more = len(known) - _NAMED
    return ", ".join(known[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def plural(count: int, one: str, many: str = "") -> str:
    """`1 tool`, `2 tools`."""
    return f"{count} {one if count == 1 else many or one + 's'}"
