"""What happened, and what to do: the words for every kind of error in docs/errors.md (generate.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# A kind that has its place in the taxonomy, for what is to come.
RESERVED: Final = "Reserved: nothing raises it yet."

# By kind: (what happened, what to do).
ADVICE: Final[Mapping[str, tuple[str, str]]] = {
    "parse_failed": ("The body is not JSON; `NaN` and `Infinity` are not JSON either.", "Mend the client."),
    "invalid_request": (
        "JSON, but not a legal message: a member twice or disguised by its case, a bad id, a batch where the"
        " revision has none or of more than 1,000 messages, more than 64 levels, 100,000 arrays and objects or 500,000"
        " values; an idempotency key that is none, two that disagree, a deadline that is no number. The HTTP-level"
        " refusals of the table above also use it.",
        "Mend the client; the message names the member or the header.",
    ),
    "method_not_found": (
        "No such method in this revision, or no server here that has it.",
        "Look at the capabilities that `initialize` or `server/discover` declared.",
    ),
    "invalid_params": (
        "The parameters do not fit the method; a tool with `require_key` was called without an idempotency key; or a"
        " `requestState` was forged, used, has expired or belongs to another call,"
        " of which the server has heard nothing ([protocol](protocol.md#crossing-eras)).",
        "Read the message; mend the call. With a bad `requestState`: call anew, without it.",
    ),
    "tool_not_found": (
        "No tool of this name at this endpoint, or none for this caller: the two look the same"
        " ([why](security.md#what-a-caller-cannot-see)).",
        "List the tools again. If it ought to be there: `bascule policy explain --as CALLER TOOL` says what the caller"
        " lacks, `/status` whether the server is missing or the tool is withheld.",
    ),
    "prompt_not_found": (
        "No prompt of this name at this endpoint, or none for this caller.",
        "List the prompts again.",
    ),
    "resource_not_found": (
        "No server that could be asked has this resource, or none for this caller. In a session, `error.code`"
        " is -32002.",
        "List the resources again.",
    ),
    "header_mismatch": (
        "A header that mirrors the body is missing, malformed, or says something else than the body.",
        "Send `MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` made from the body that is sent.",
    ),
    "unsupported_version": (
        "A stateless request names a revision that is not spoken here. `data.supported` names those that are, at the"
        " same URL.",
        "Use one of them, or `initialize`: what the server behind it speaks does not matter"
        " ([protocol](protocol.md#crossing-eras)).",
    ),
    "invalid_argument": (
        "The arguments do not fit the tool's input schema. `details.problems` says where (`path`, a JSON pointer) and"
        " what (`problem`); values of the call are not repeated. Nothing was sent.",
        "Mend the arguments; a model can do that from the text of the result.",
    ),
    "version_not_found": (
        'The call names a version, behind the `@` of its name or in `_meta["dev.bascule/version"]`, and the tool has'
        " none such, or several versions are named at once.",
        "Take one of `details.versions`; which one a call without any gets, the list says ([versions](versions.md)).",
    ),
    "gone": (
        "The contract says `status: gone`. What replaces it, and how, is in the message if the contract says so.",
        "Use what replaces it.",
    ),
    "key_mismatch": (
        "This idempotency key of this caller belongs to a call of another tool, or with other arguments"
        " (`details.journal`). Nothing was sent. Anonymous callers, and all who share `http.bearer`, share their keys.",
        "A new key for a new call. Never use a key twice, and never derive it from less than the whole call.",
    ),
    "outcome_unknown": (
        "The call of this key was sent once, and nobody knows what became of it: no answer in time, a connection or a"
        " process that broke, a client that left. It is never made again by itself. Or (`details.reason`:"
        " `result_not_retained`) it was made and answered, and the answer was larger than `journal.max_result_bytes`.",
        "Do not send it under a new key. An operator finds out at the server and says it: `bascule journal show"
        " JOURNAL` with `details.journal` ([step by step](reliability.md#a-call-of-unknown-outcome)).",
    ),
    "business": (RESERVED, "Nothing."),
    "cancelled": ("The client gave the call up itself, or its session ended.", "Nothing."),
    "unavailable": (
        "The server is down, does not start, cannot be reached, or already runs `max_processes`; the call was not"
        " sent. Or a call that has to be on record first cannot be: the state folder cannot be written, or there is"
        " none. At the door (503): the issuer of the token cannot be asked, and the token may be good.",
        "Look at `last_error` and `stderr` of the server in `/status`. Repeat the call after `retry_after_ms`.",
    ),
    "timeout": (
        "A time was over; `details.limit` says which: `server`, no sign of life for `call_timeout_s`; `contract`, its"
        " `max_timeout_seconds`; `hardest`, 600 s; `caller`, the deadline that came with the call; `drain`, the process"
        " ends. Or there was no handshake within `start_timeout_s` (over HTTP: 60 s, or `call_timeout_s` if that is"
        " less), or no answer of the client to a server's question within 600 s. A server that was called is told to"
        " stop; it may have run the call, unless `retryable` is true: then it had not been sent.",
        "Raise the limit that is named, or have the tool report progress. Repeat the call only if running it twice does"
        " no harm, or with the same idempotency key.",
    ),
    "circuit_open": (
        "The server failed too often, and is left alone for a while; nothing was sent. The message has its last"
        " failure.",
        "Wait for `retry_after_ms`. `servers.NAME.circuit` in `/status` says what is known, `last_error` and `stderr`"
        " why ([breaker](reliability.md#breaker)).",
    ),
    "overloaded": (
        "A bound is reached: this process is late, short of memory or full (`details.limit: process`, HTTP 503;"
        " [overload](operations.md#overload)); places that run at one time (`details.reason`: `queue_full` or"
        " `queue_timeout`, with `retry_after_ms`), `http.max_sessions`, `parking.max_per_caller`, or one of those"
        " that are fixed ([which](operations.md#what-is-bounded-and-by-what)), such as 8 MiB that a server process has"
        " not read.",
        "Wait, then repeat; raise the bound, or see why the server does not read. A call over `parking.max_per_caller`"
        " has run up to its question, and was cancelled there.",
    ),
    "draining": (
        "This process is shutting down; nothing was sent.",
        "Send it again, with the same key if it has one: at another replica, or after the restart.",
    ),
    "upstream_protocol": (
        "The call was sent, and no usable answer came: the process died, the connection broke, or the answer is not"
        " MCP (not JSON-RPC, neither or both of a result and an error, larger than `max_message_bytes`, an endless"
        " list, an unknown `resultType`, not what the output schema promises where `validate_results` blocks). The"
        " server may have run the call.",
        "Look at `last_error` and `stderr` of the server in `/status`. Repeat the call only if running it twice does"
        " no harm.",
    ),
    "rate_limited": (
        "A limit has no call left: of the caller, of the caller at this tool, of the tool, or of the server"
        " (`details.limit`: `caller`, `pair`, `tool`, `prompt`, `resource`, `server`; `calls` in `per_s` seconds)."
        " Nothing was sent, and nothing was taken from any limit. Or there are too many keys of this caller on record"
        " (`journal`), or too many of its questions wait; or the server itself said 429 (`source`). At the door: ten"
        " wrong credentials came from this address"
        " within a minute ([lockout](security.md#lockout)).",
        "Repeat the call after `retry_after_ms`; over HTTP, `Retry-After` says the same in whole seconds.",
    ),
    "in_flight": (
        "The call of this idempotency key still runs (`details.journal`), or waits for the answers to a later question"
        " than those that came. This request was not sent to the server.",
        "Send it again after `retry_after_ms` with the same key; or with `Prefer: wait=30`, to wait for that call's"
        " result.",
    ),
    "confirmation_required": (
        "The confirm gate, or a rule with `ask`, wants a person to say yes to this call: nobody has answered yet, or"
        " the yes that came with it is not for just this call, was used, or has expired. `details.rule` says which rule"
        " it is; `confirmation_token`, `link`, `expires_at` and `how` say how to get a yes: see"
        " [Approvals](approvals.md).",
        'Have a person answer, then send the same call again with `_meta["dev.bascule/confirmationToken"]`.',
    ),
    "unauthenticated": (
        "No credential was sent where one is needed, or one that is not valid here: an unknown, expired or revoked key,"
        " a token that fails a check, a certificate that is nobody's. HTTP 400 when the header itself is malformed or a"
        " token stands in the URL.",
        "Send `Authorization: Bearer …`. `WWW-Authenticate` says where to log in and what is wrong"
        " ([the messages](login.md#what-the-messages-mean)).",
    ),
    "scope_denied": (
        "The caller lacks a scope that it could get by asking its issuer for it (`grantable`), a scope that everybody"
        " needs (`auth.required_scopes`), or the one of a page for operators. `details.scopes` are all that are needed."
        " What a caller could not get by asking looks unknown instead.",
        "Log in again for these scopes, which clients of 2025-11-25 and later do by themselves; else ask the operator"
        " for a role.",
    ),
    "guardrail_denied": (
        "A rule about the arguments, the caller or the session says no, or could not be decided. `details.rule` says"
        " which: `guardrails.0` is the first of those that hold for the tool (`bascule contract show`).",
        "Read the message, which the rule's author wrote. Change the call only if the message asks for it.",
    ),
    "budget_exceeded": (
        "The call is reserved more than what is left of the caller's budget for this hour, day or month, or of its"
        " session's. `details`: `limit_usd`, `left_usd`, `needed_usd`, `renews_at`. Nothing was sent.",
        "Wait until `renews_at`, begin a new session, or ask for a larger budget.",
    ),
    "definition_changed": (
        "A server lists other words or schemas for it than those that were approved.",
        "Nothing at the client: an operator looks at the change, `details.review` is its id: `bascule review show ID`"
        " ([reviews](reviews.md)).",
    ),
    "confirmation_denied": (
        "A person was asked to confirm this call and said no, or closed the question. The message has their note.",
        "Do not send it again; ask whoever said no.",
    ),
    "internal": ("A fault of Bascule's.", "Report it, with the traceback from the log."),
    "config_invalid": (
        "The configuration, or the command line, cannot be used. It is printed with file, line and field, and"
        " never sent to a client; exit code 2.",
        "Mend that field; `bascule validate` checks without starting anything.",
    ),
}
