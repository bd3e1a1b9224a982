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
├── Misused                  the call has to change, or the plan behind it
│   ├── InvalidArgument        the arguments do not fit the tool's schema
│   ├── VersionNotFound        no such version of the tool
│   ├── Gone                   the tool has been withdrawn
│   ├── KeyMismatch            the idempotency key belongs to other arguments
│   ├── OutcomeUnknown         the call may have run; nobody can know
│   ├── Business               the tool's own rules refuse it
│   └── Cancelled              the client gave the call up itself
├── Transient                the same call may succeed later
│   ├── Unavailable            the upstream is down, starting, or refused the connection
│   ├── TimedOut               no answer before the deadline
│   ├── CircuitOpen            the upstream failed too often and is left alone for a while
│   ├── Overloaded             a bound is reached: queue, sessions, unread bytes
│   ├── Draining               this process is shutting down
│   ├── UpstreamBrokeProtocol  the upstream answered, but not with MCP
│   ├── RateLimited            the caller, the tool or the server has had its calls for now
│   └── InFlight               the same call is still running
├── Refusal                  authority is missing: get it, do not repeat the call
│   ├── ConfirmationRequired   a person has to say yes first
│   ├── Unauthenticated        no credential, or a wrong one
│   ├── ScopeDenied            the credential does not reach that far
│   ├── GuardrailDenied        a rule about the arguments, the caller or the session says no
│   ├── DefinitionChanged      the tool is not the one that was approved
│   ├── BudgetExceeded         the money for it is spent
│   └── ConfirmationDenied     a person said no
├── Internal                 a fault of ours
└── ConfigInvalid            the operator's file, with its place (never sent to a client)

`family` is the JSON-RPC `error.code` and says who must act; `code` says exactly what happened.
Ours stay outside -32768..-32000, as MCP 2026-07-28 asks ("Error Codes").
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

_MAY_HAVE_RUN = "it may have run: repeat it only if running it twice does no harm"


# Characters of a client's own text that an error repeats: it must not send back what was sent to us.
_MOST: Final = 1000


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
        message = _shortened(message)
        super().__init__(message)
        self.message = message
        self.details = details
        self.retry_after_s: float | None = None
        self.source = "bascule"  # or the name of the upstream that it happened at
        self.version: str | None = None  # of the tool's contract, where it has one
        self.request_id: Any = None  # of the message that was refused before it became a call, where it could be read

    def of(self, request_id: Any) -> "BasculeError":
        """The same error, which answers the request of that id."""
        self.request_id = request_id
        return self

    def half_way(self) -> "BasculeError":
        """The same error, met when the call had already begun: to repeat it is not safe by itself."""
        self.retryable = False
        self.advice = _MAY_HAVE_RUN
        return self

    @property
    def unsent(self) -> bool:
        """Whether, met on the way to a server, it says that the server has certainly seen nothing of the call."""
        return self.retryable and isinstance(self, Transient)

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


class Misused(BasculeError):
    category = "client"


class InvalidArgument(Misused):
    """*problems* say what is wrong where; they hold no values, which may be secrets."""

    kind, family, code = "invalid_argument", -10001, 40001
    advice = "mend the arguments and call again"

    def __init__(self, message: str, problems: Sequence[Mapping[str, str]] = (), **details: Any) -> None:
        super().__init__(message, problems=list(problems), **details)


class VersionNotFound(Misused):
    kind, family, code = "version_not_found", -10002, 40002


class Gone(Misused):
    kind, family, code = "gone", -10003, 41001
    advice = "use what replaces it"


class KeyMismatch(Misused):
    kind, family, code, http = "key_mismatch", -10004, 42201, 422


class OutcomeUnknown(Misused):
    kind, family, code, http = "outcome_unknown", -10006, 40902, 409


class Business(Misused):
    kind, family, code = "business", -10007, 60001


class Cancelled(Misused):
    kind, family, code = "cancelled", -10005, 49901


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


class CircuitOpen(Transient):
    kind, family, code = "circuit_open", -20003, 50003


class Overloaded(Transient):
    kind, family, code = "overloaded", -20004, 50004


class Draining(Transient):
    kind, family, code = "draining", -20005, 50005


class UpstreamBrokeProtocol(Transient):
    # Not retryable by itself: the upstream may have run the call before it answered nonsense.
    kind, family, code, retryable = "upstream_protocol", -20006, 50006, False
    advice = _MAY_HAVE_RUN


class RateLimited(Transient):
    """*retry_after_s* is when the next call will be let through."""

    kind, family, code, http = "rate_limited", -20007, 42901, 429

    def __init__(self, message: str, retry_after_s: float | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class InFlight(Transient):
    kind, family, code, http = "in_flight", -20008, 40901, 409


class Refusal(BasculeError):
    category = "security"
    advice = "get authority first; do not repeat it as it is"


class ConfirmationRequired(Refusal):
    kind, family, code = "confirmation_required", -30001, 40302
    advice = "a person has to confirm it first"


class Unauthenticated(Refusal):
    """*reason* is the `error` of the challenge (RFC 6750, 3.1), "" when no credential was sent."""

    kind, family, code, http = "unauthenticated", -30002, 40101, 401
    advice = "log in, or send a valid credential"

    def __init__(self, message: str, *, reason: str = "invalid_token", **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason


class ScopeDenied(Refusal):
    """*scopes* are all that the operation needs (MCP 2026-07-28, "Scope Challenge Handling")."""

    kind, family, code, http = "scope_denied", -30003, 40301, 403
    advice = "log in again and ask for the scopes it needs"

    def __init__(self, message: str, scopes: Sequence[str] = (), **details: Any) -> None:
        super().__init__(message, scopes=list(scopes), **details)
        self.scopes = tuple(scopes)


class GuardrailDenied(Refusal):
    kind, family, code = "guardrail_denied", -30004, 40303
    advice = "do not try to get around the rule; ask whoever set it"


class DefinitionChanged(Refusal):
    kind, family, code = "definition_changed", -30005, 40304


class BudgetExceeded(Refusal):
    kind, family, code, http = "budget_exceeded", -30006, 40201, 402
    advice = "ask for a larger budget, or wait for the next one"


class ConfirmationDenied(Refusal):
    kind, family, code = "confirmation_denied", -30007, 40305


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


# Details that are for who looks after the servers: what a process printed before it died may hold secrets.
_FOR_OPERATORS: Final = frozenset({"stderr", "pid"})


def to_data(error: BasculeError, trace_id: str, *, operator: bool = True) -> dict[str, Any]:
    """The `error.data` object: one shape at every edge (docs/errors.md), with less in it for who is no *operator*."""
    data: dict[str, Any] = {
        "code": error.code,
        "kind": error.kind,
        "category": error.category,
        "retryable": error.retryable,
        "trace_id": trace_id,
        "source": error.source,
        "details": {
            name: _shortened(fact) for name, fact in error.details.items() if operator or name not in _FOR_OPERATORS
        },
    }
    if error.version is not None:
        data["version"] = error.version
    if error.retry_after_s is not None:
        data["retry_after_ms"] = round(error.retry_after_s * 1000)
    # The specification fixes the data of this one (MCP 2026-07-28, UnsupportedProtocolVersionError).
    return data | data["details"] if isinstance(error, UnsupportedVersion) else data


def _shortened(fact: Any) -> Any:
    return f"{fact[:_MOST]}…" if isinstance(fact, str) and len(fact) > _MOST else fact
