"""The wire of 2024-11-05 … 2025-11-25: handshake, sessions, server-to-client requests.

Source: MCP 2025-11-25, "Lifecycle", "Cancellation", "Logging".
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Raw

from bascule.errors import InvalidParams
from bascule.wire.jsonrpc import Params, decode, encode, text, value_of
from bascule.wire.versions import LATEST_LEGACY, Revision, agree

INITIALIZE: Final = "initialize"
INITIALIZED: Final = "notifications/initialized"
CANCELLED: Final = "notifications/cancelled"
PROGRESS: Final = "notifications/progress"
LOG: Final = "notifications/message"
UPDATED: Final = "notifications/resources/updated"
LIST_CHANGED: Final = {
    "notifications/tools/list_changed": "tools",
    "notifications/prompts/list_changed": "prompts",
    "notifications/resources/list_changed": "resources",
}

# What a server may ask a client for, and the client capability that allows it.
ASKS: Final = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}

ASKED_BY: Final = frozenset(ASKS.values())

LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

# A shared process serves clients of every kind, so it is told that everything can be relayed;
# what the client of the moment did not declare is declined on its behalf.
RELAYED_CAPABILITIES: Final[Mapping[str, Any]] = {
    "roots": {"listChanged": True},
    "sampling": {"context": {}, "tools": {}},
    "elicitation": {"form": {}, "url": {}},
}


MAX_HELLO_BYTES: Final = 64 * 1024  # of an `initialize`, which is kept as long as its session


def offered(params: Params) -> Revision:
    """The revision for a client's `initialize`. Raises InvalidParams if it names none, or says too much of itself."""
    if sum(len(bytes(value)) for value in params.values()) > MAX_HELLO_BYTES:
        raise InvalidParams(f"what a client says of itself is at most {MAX_HELLO_BYTES} bytes")
    version = text(params.get("protocolVersion"))
    if version is None:
        raise InvalidParams('"protocolVersion" is a string')
    return agree(version)


def initialize_params(info: Mapping[str, str], capabilities: Mapping[str, Any]) -> dict[str, Raw]:
    """The parameters of a handshake of our own."""
    return {
        "protocolVersion": encode(LATEST_LEGACY.version),
        "capabilities": encode(capabilities),
        "clientInfo": encode(info),
    }


def server_info(greeting: Params) -> Mapping[str, Any]:
    """What a server says of itself in its InitializeResult; nothing if it says it wrongly."""
    return value_of(greeting.get("serverInfo"), dict) or {}


def may_ask(capabilities: Mapping[str, Any], method: str, params: Params) -> bool:
    """Whether a client that declared *capabilities* can be asked *method*, in the mode it needs."""
    capability = ASKS.get(method)
    if capability is None:
        return True  # an extension's request: the two ends know what they agreed on
    declared = capabilities.get(capability)
    if not isinstance(declared, dict):
        return False
    if capability == "elicitation":
        # Who names no mode has the form alone (MCP 2025-11-25, Elicitation, "Capabilities").
        return "url" in declared if text(params.get("mode")) == "url" else "form" in declared or "url" not in declared
    if capability == "sampling" and "tools" in params:
        return "tools" in declared
    return True


def needed_for(method: str, params: Params) -> dict[str, Any]:
    """The client capabilities that a server's question needs."""
    match method:
        case "elicitation/create" if text(params.get("mode")) == "url":
            return {"elicitation": {"url": {}}}
        case "sampling/createMessage" if "tools" in params:
            return {"sampling": {"tools": {}}}
        case _:
            return {ASKS[method]: {}}


def concerns(subscribed: str, uri: str) -> bool:
    """Whether an update of *uri* is news of what was *subscribed* to: the same, or a part of it.

    Source: MCP 2025-11-25, Resources, "Subscriptions".
    """
    rest = uri[len(subscribed) :]
    return uri.startswith(subscribed) and (not rest or subscribed.endswith("/") or rest[0] in "/?#")


def lowest_level(levels: Iterable[str]) -> str | None:
    """The most talkative of *levels*; None if there are none. Unknown words are ignored."""
    known = [LEVELS.index(level) for level in levels if level in LEVELS]
    return LEVELS[min(known)] if known else None


def reaches(level: Raw | None, wanted: str) -> bool:
    """Whether a log message of *level* is wanted by a client that asked for *wanted*."""
    said = decode(level) if level else None
    return said not in LEVELS or LEVELS.index(said) >= LEVELS.index(wanted)
