"""What rules look at, and how one says that it cannot decide. PURE."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec

Root: TypeAlias = Literal["args", "caller", "tool", "session", "now"]


class Facts(msgspec.Struct, frozen=True):
    """One call, as rules see it: plain dicts and lists, as JSON would give them; sets are no values here.

    caller: name, roles, scopes (lists of strings), attributes (a dict), proof.
    tool: id, name, namespace, version, side_effect, idempotent, security_level ("" where it has none).
    session: calls, tool_calls (made before this one), spent (USD), depth (gateways passed before this one),
    counts (calls made before this one, by the tool's id).
    """

    args: Any
    caller: Mapping[str, Any]
    tool: Mapping[str, Any]
    session: Mapping[str, Any]
    now: datetime  # with its zone


class Undecidable(Exception):
    """A rule cannot say yes or no. The reason goes to the caller, so it holds no value of an argument."""
