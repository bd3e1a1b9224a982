"""The 2026-07-28 wire: request metadata, results, subscriptions.

Source: MCP 2026-07-28, "_meta", "Results", "Subscriptions", "Multi Round-Trip Requests".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from bascule.errors import HeaderMismatch, InvalidParams, UnsupportedVersion
from bascule.wire import headers
from bascule.wire.jsonrpc import Params, decode, encode, members, replaced, text, value_of
from bascule.wire.versions import LATEST_MODERN, MODERN, MODERN_VERSIONS

PREFIX: Final = "io.modelcontextprotocol/"
PROTOCOL_VERSION: Final = PREFIX + "protocolVersion"
CLIENT_CAPABILITIES: Final = PREFIX + "clientCapabilities"
CLIENT_INFO: Final = PREFIX + "clientInfo"
LOG_LEVEL: Final = PREFIX + "logLevel"
SERVER_INFO: Final = PREFIX + "serverInfo"
SUBSCRIPTION_ID: Final = PREFIX + "subscriptionId"

DISCOVER: Final = "server/discover"
LISTEN: Final = "subscriptions/listen"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"

MAX_CAPABILITIES_BYTES: Final = 64 * 1024  # they are kept with the session that is opened for them

# Codes that only a modern server answers with: seeing one is a verdict on the server's era.
ERROR_CODES: Final = frozenset({-32020, -32021, -32022})
_HTTP_STATUS: Final = {-32601: 404, -32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400}


def http_status(error: Raw) -> int:
    """The HTTP status that goes with a JSON-RPC error object of an upstream."""
    return _HTTP_STATUS.get(error_code(error), 200)


def error_code(error: Raw) -> int:
    """The `code` of an error object, 0 if it has none."""
    try:
        return _coded.decode(error).code
    except (msgspec.DecodeError, RecursionError):
        return 0


def is_error(error: Raw) -> bool:
    """Whether it is a JSON-RPC error object: a code, and a message (JSON-RPC 2.0, 5.1)."""
    try:
        _whole_error.decode(error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def error_message(error: Raw) -> str:
    """The `message` of an error object, else the object itself, for a person."""
    try:
        said = _coded.decode(error).message
    except (msgspec.DecodeError, RecursionError):
        said = ""
    return said or bytes(error).decode(errors="replace")[:200]


def check_result(result: Raw, request: Params) -> None:
    """Raise ValueError for a result of a kind that the client cannot know ("ResultType").

    Kinds of our own protocol always pass; others only if the request declared an extension.
    """
    try:
        kind = _typed.decode(result).resultType
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if kind in ("complete", "input_required"):
        return
    capabilities = meta_of(request).get(CLIENT_CAPABILITIES)
    if not capabilities or b'"extensions"' not in bytes(capabilities):
        raise ValueError(f"resultType {kind!r} is unknown")


class _Typed(msgspec.Struct, frozen=True):
    resultType: str = "complete"


_typed = msgspec.json.Decoder(_Typed)


class _Coded(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""


_coded = msgspec.json.Decoder(_Coded)


class _Error(msgspec.Struct, frozen=True):
    code: int
    message: str


_whole_error = msgspec.json.Decoder(_Error)


def meta_of(params: Params) -> Mapping[str, Raw]:
    """The members of `params._meta`; none if it is absent. Raises InvalidParams if it is no object."""
    raw = params.get("_meta")
    return members(raw) if raw else {}


def is_modern(params: Params) -> bool:
    """Whether the body claims the stateless protocol, by carrying a version in `_meta`."""
    raw = params.get("_meta")
    return raw is not None and PROTOCOL_VERSION.encode() in bytes(raw) and PROTOCOL_VERSION in meta_of(params)


def check_request(head: Mapping[str, str], method: str, params: Params) -> Mapping[str, Raw]:
    """The `_meta` of a client's request, once its envelope, headers and version are found to be good.

    Raises, in the order of the ladder, InvalidParams (missing members), HeaderMismatch (body and
    header disagree) or UnsupportedVersion.
    """
    meta = meta_of(params)
    version = text(meta.get(PROTOCOL_VERSION))
    if version is None:
        raise InvalidParams(f"_meta[{PROTOCOL_VERSION!r}] is missing")
    _require_object(meta, CLIENT_CAPABILITIES)
    said = head.get(headers.VERSION)
    if said != version:
        raise HeaderMismatch(f"the {headers.VERSION} header says {said!r}, the body {version!r}")
    if version not in MODERN_VERSIONS:
        raise UnsupportedVersion(
            f"protocol version {version!r} is not spoken here", requested=version, supported=MODERN_VERSIONS
        )
    return meta


def _require_object(meta: Mapping[str, Raw], key: str) -> None:
    raw = meta.get(key)
    if raw is None or not bytes(raw).startswith(b"{"):
        raise InvalidParams(f"_meta[{key!r}] is missing or not an object")
    if len(bytes(raw)) > MAX_CAPABILITIES_BYTES:
        raise InvalidParams(f"_meta[{key!r}] is longer than {MAX_CAPABILITIES_BYTES} bytes")


def stamp(params: Params, *, info: Mapping[str, str], capabilities: Mapping[str, Any]) -> dict[str, Raw]:
    """*params* of a request of our own, with the metadata that every modern request carries."""
    meta = {
        **meta_of(params),
        PROTOCOL_VERSION: LATEST_MODERN.version,
        CLIENT_INFO: info,
        CLIENT_CAPABILITIES: capabilities,
    }
    return replaced(params, meta_=meta)


def retag(message: Params, subscription: Raw) -> dict[str, Raw]:
    """*message* (params or result of a subscription) tagged with the client's own subscription id."""
    return replaced(message, meta_={**meta_of(message), SUBSCRIPTION_ID: subscription})


def wanted_by(params: Params) -> tuple[list[str], list[str]]:
    """The kinds of lists and the resources that a `subscriptions/listen` wants to hear of.

    Raises InvalidParams unless it says so in an object.
    """
    wanted = value_of(params.get("notifications"), dict)
    if wanted is None:
        raise InvalidParams('"notifications" is an object')
    kinds = [kind for kind in ("tools", "prompts", "resources") if wanted.get(f"{kind}ListChanged") is True]
    uris = wanted.get("resourceSubscriptions")
    named = [uri for uri in uris if isinstance(uri, str)] if isinstance(uris, list) else []
    return kinds, list(dict.fromkeys(named))


def wanting(kinds: Iterable[str], uris: Sequence[str]) -> Params:
    """The parameters that `wanted_by` reads, of a subscription or of its acknowledgement."""
    notifications: dict[str, Any] = {f"{kind}ListChanged": True for kind in kinds}
    if uris:
        notifications["resourceSubscriptions"] = uris
    return {"notifications": encode(notifications)}


def subscription_end(subscription: Raw) -> Raw:
    """The result that ends a subscription on the server's own initiative ("Graceful Closure")."""
    return encode({"resultType": "complete", "_meta": {SUBSCRIPTION_ID: subscription}})


def shared_versions(theirs: Any) -> list[str]:
    """The modern versions that both we and a server know, newest first."""
    known = theirs if isinstance(theirs, list) else []
    return [r.version for r in reversed(MODERN) if r.version in known]


def discovered(result: Raw) -> Raw:
    """A server's DiscoverResult as Bascule passes it on: the versions are those that both speak."""
    found = members(result)
    versions = shared_versions(decode(found["supportedVersions"])) if "supportedVersions" in found else []
    return encode(replaced(found, supportedVersions=versions))


def server_info(discovered: Params) -> Mapping[str, Any]:
    """What a server says of itself in its DiscoverResult; nothing if it says it wrongly."""
    return value_of(meta_of(discovered).get(SERVER_INFO), dict) or {}


def complete(result: Mapping[str, Any], *, ttl_ms: int | None = None, shared: bool = False) -> Raw:
    """A finished result of our own; with *ttl_ms*, its cache hints (MCP 2026-07-28, "Caching")."""
    hints = {} if ttl_ms is None else {"ttlMs": ttl_ms, "cacheScope": "public" if shared else "private"}
    return encode({"resultType": "complete", **result, **hints})


def supported_by(error: Raw) -> Sequence[str]:
    """The versions that an UnsupportedProtocolVersionError names; none if it is something else."""
    found = decode(error)
    data = found.get("data") if isinstance(found, dict) else None
    versions = data.get("supported") if isinstance(data, dict) else None
    return [v for v in versions if isinstance(v, str)] if isinstance(versions, list) else []
