"""Everything that can go wrong, once. The edge translates by table; docs and metrics share the words.

BasculeError
├── ProtocolError            the request breaks MCP or JSON-RPC: never retry it as it is
│   ├── ParseFailed            not JSON
│   ├── InvalidRequest         JSON, but not a legal message
│   ├── MethodNotFound         no such method here
│   ├── InvalidParams          the parameters do not fit the method
│   │   ├── ToolNotFound         no such tool, or not for this caller
│   │   ├── PromptNotFound
│   │   └── ResourceNotFound
│   ├── HeaderMismatch         a header and the body disagree
│   └── UnsupportedVersion     a revision, or an era, that is not spoken here
├── Cancelled                the client gave the call up itself
├── Transient                the same call may succeed later
│   ├── Unavailable            the upstream is down, starting, or refused the connection
│   ├── TimedOut               no answer before the deadline
│   ├── Overloaded             a bound is reached: queue, sessions, unread bytes
│   ├── Draining               this process is shutting down
│   └── UpstreamBrokeProtocol  the upstream answered, but not with MCP
├── Unauthenticated          no credential, or a wrong one
├── Internal                 a fault of ours
└── ConfigInvalid            the operator's file, with its place (never sent to a client)

`family` is the JSON-RPC `error.code` and says who must act; `code` says exactly what happened.
Ours stay outside -32768..-32000, as MCP 2026-07-28 asks ("Error Codes").
"""

from collections.abc import Sequence
from typing import Any, ClassVar

_MAY_HAVE_RUN = "it may have run: repeat it only if running it twice does no harm"


class BasculeError(Exception):
    """Base of all of ours. *details* are facts for a program; the message is for a person."""

    kind: ClassVar[str]
    category: ClassVar[str]
    family: ClassVar[int]
    code: ClassVar[int]
    http: ClassVar[int] = 200
    retryable: bool = False
    advice: str = "do not repeat it as it is"

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.retry_after_s: float | None = None
        self.source = "bascule"  # or the name of the upstream that it happened at

    def half_way(self) -> "BasculeError":
        """The same error, met when the call had already begun: to repeat it is not safe by itself."""
        self.retryable = False
        self.advice = _MAY_HAVE_RUN
        return self

    def at(self, source: str) -> "BasculeError":
        """The same error, said to have happened at *source*."""
        self.source = source
        return self


class ProtocolError(BasculeError):
    category = "protocol"
    http = 400


class ParseFailed(ProtocolError):
    kind, family, code = "parse_failed", -32700, -32700


class InvalidRequest(ProtocolError):
    kind, family, code = "invalid_request", -32600, -32600


class MethodNotFound(ProtocolError):
    kind, family, code, http = "method_not_found", -32601, -32601, 404


class InvalidParams(ProtocolError):
    kind, family, code = "invalid_params", -32602, -32602


class ToolNotFound(InvalidParams):
    kind, code = "tool_not_found", 40401


class PromptNotFound(InvalidParams):
    kind, code = "prompt_not_found", 40402


class ResourceNotFound(InvalidParams):
    kind, code = "resource_not_found", 40403


class HeaderMismatch(ProtocolError):
    kind, family, code = "header_mismatch", -32020, -32020


class UnsupportedVersion(ProtocolError):
    """*supported* are the versions that the same endpoint does speak."""

    kind, family, code = "unsupported_version", -32022, -32022

    def __init__(self, message: str, *, requested: str, supported: Sequence[str]) -> None:
        super().__init__(message, requested=requested, supported=list(supported))


class Cancelled(BasculeError):
    kind, category, family, code = "cancelled", "client", -10005, 49901


class Transient(BasculeError):
    category = "transient"
    retryable = True
    advice = "it may work later"


class Unavailable(Transient):
    kind, family, code = "unavailable", -20001, 50001


class TimedOut(Transient):
    # Not retryable by itself: the server may still have run the call.
    kind, family, code, retryable = "timeout", -20002, 50002, False
    advice = _MAY_HAVE_RUN


class Overloaded(Transient):
    kind, family, code = "overloaded", -20004, 50004


class Draining(Transient):
    kind, family, code = "draining", -20005, 50005


class UpstreamBrokeProtocol(Transient):
    # Not retryable by itself: the upstream may have run the call before it answered nonsense.
    kind, family, code, retryable = "upstream_protocol", -20006, 50006, False
    advice = _MAY_HAVE_RUN


class Unauthenticated(BasculeError):
    kind, category, family, code, http = "unauthenticated", "security", -30002, 40101, 401


class Internal(BasculeError):
    kind, category, family, code, http = "internal", "internal", -32603, 70001, 500


class ConfigInvalid(BasculeError):
    """*place* is `file:line`, *field* the dotted path inside the file; both may be unknown."""

    kind, category, family, code = "config_invalid", "operator", -32603, 70002

    def __init__(self, message: str, *, place: str = "", field: str = "") -> None:
        prefix = ": ".join(part for part in (place, field) if part)
        super().__init__(f"{prefix}: {message}" if prefix else message)
        self.place = place
        self.field = field


def to_data(error: BasculeError, trace_id: str) -> dict[str, Any]:
    """The `error.data` object: one shape at every edge (docs/errors.md)."""
    data: dict[str, Any] = {
        "code": error.code,
        "kind": error.kind,
        "category": error.category,
        "retryable": error.retryable,
        "trace_id": trace_id,
        "source": error.source,
        "details": error.details,
    }
    if error.retry_after_s is not None:
        data["retry_after_ms"] = round(error.retry_after_s * 1000)
    # The specification fixes the data of this one (MCP 2026-07-28, UnsupportedProtocolVersionError).
    return data | error.details if isinstance(error, UnsupportedVersion) else data
