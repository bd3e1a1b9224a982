"""What a client is told of authorization before it has any: resource ids, metadata documents, challenges. PURE.

Each mounted path is a resource of its own, `/sse` and `/mcp` of the same server too: a token says which
of them it is for, and clients compare the `resource` of the document with the very URL they were given.
Knows no configuration and no sockets.
Source: RFC 9728; RFC 6750, 3; RFC 9110, 11.2; MCP 2026-07-28, Authorization.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

import msgspec

from bascule.policy.scopes import EVERYTHING, is_scope

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
ROOT_STANDS_FOR: Final = "/mcp"  # what the well-known path without a suffix describes

# With every document. Any page may read it, because a client in a browser has to before it can log in, and
# it holds no secret. `mcp-protocol-version` is what such clients send along, so that the browser asks first.
PUBLIC: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET"),
    (b"access-control-allow-headers", b"mcp-protocol-version"),
    (b"cache-control", b"no-store"),  # or clients would keep an issuer that the operator has replaced
)

# RFC 6750, 3.1; "" when no credential was sent, which is no error.
Fault: TypeAlias = Literal["", "invalid_request", "invalid_token", "insufficient_scope"]

_ENDPOINT: Final = re.compile(r"(?:/servers/[A-Za-z0-9_-]{1,32})?/(?:mcp|sse)")
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_UNQUOTABLE: Final = str.maketrans({'"': "'", "\\": "/"})
_REFRESH: Final = "offline_access"  # a wish of clients to their issuer; no resource ever needs it


# ---- resource ids


def resource_of(public_url: str, path: str) -> str:
    """The resource id of the endpoint *path* (`/mcp`, `/servers/crm/sse`) under *public_url*: its canonical URI.

    Scheme and host in lower case, no default port, no trailing slash. Raises ValueError, in words for the
    operator, when *public_url* is not an absolute http(s) URL without user, query and fragment.
    """
    return _canonical(public_url) + path.rstrip("/")


def metadata_url(resource: str) -> str:
    """Where the document about *resource* lies: the well-known path goes between host and path (RFC 9728, 3.1)."""
    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path}"


def well_known(path: str, public_url: str = "") -> str | None:
    """The endpoint whose document a GET of *path* asks for, None if *path* is no such place.

    Whether there is a server of that name is not looked at: that is told to those who are logged in. *public_url*
    matters where it has a path: clients then ask for `/.well-known/…/that/path/mcp`. Nothing is normalised.
    """
    if not path.startswith(WELL_KNOWN):
        return None
    base = urlsplit(public_url).path.rstrip("/")
    # A proxy in front may have taken its part off the path, or not.
    endpoint = path[len(WELL_KNOWN) :].removeprefix(base)
    if endpoint == "":
        return ROOT_STANDS_FOR
    return endpoint if _ENDPOINT.fullmatch(endpoint) else None


def _canonical(url: str) -> str:
    parts = _split(url)
    host, port = parts.hostname or "", parts.port
    if not (_is_ipv6(host) if "[" in parts.netloc else _NAME.fullmatch(host)):
        raise ValueError(f"{url!r} has no host name that a URL can carry; write it in ASCII (xn--…)")
    path = parts.path.rstrip("/")
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ValueError(f"the path of {url!r} is not one that clients and Bascule would read alike")
    name = f"[{host}]" if ":" in host else host
    shown = "" if port is None or port == _DEFAULT_PORTS[parts.scheme] else f":{port}"
    return f"{parts.scheme}://{name}{shown}{path}"


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False


def _split(url: str) -> SplitResult:
    # `urlsplit` drops tabs and newlines from the middle of a URL; what it does not show cannot be checked after it.
    if not url.isascii() or not url.isprintable() or set(url) & set(' "\\<>^`{|}'):
        raise ValueError(f"{url!r} holds characters that do not belong in a URL")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or port == 0:
        raise ValueError(f"{url!r} is not an absolute http or https URL, such as https://tools.example.com")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError(f"{url!r} may have no user, no query and no fragment")
    return parts


# ---- documents


def document(resource: str, issuers: Sequence[str], scopes_supported: Iterable[str]) -> bytes:
    """The protected resource metadata (RFC 9728, 2) of *resource*, as JSON.

    *issuers* stand in it exactly as they are configured, because clients compare them with `iss` character by
    character; there has to be one (MCP 2026-07-28, "Authorization Server Location"). Of *scopes_supported* those
    that a client can ask for. Raises ValueError without issuers.
    """
    if not issuers:
        raise ValueError("without an issuer there is nothing to tell")
    scopes = requestable(scopes_supported)
    members: dict[str, object] = {
        "resource": resource,
        "authorization_servers": list(dict.fromkeys(issuers)),
        "bearer_methods_supported": ["header"],
    }
    if scopes:  # absent, not empty: clients then ask for no scope (MCP, "Scope Selection Strategy")
        members["scopes_supported"] = list(scopes)
    return msgspec.json.encode(members)


def requestable(scopes: Iterable[str]) -> tuple[str, ...]:
    """Those of *scopes* that a client can ask an issuer for, in their order, each once.

    Wildcards are our grammar, which no issuer knows, and a request for one would be a request for everything.
    """
    return tuple(
        dict.fromkeys(s for s in scopes if is_scope(s) and s != _REFRESH and EVERYTHING not in s.split(":"))
    )  # fmt: skip


# ---- challenges


def challenge(
    metadata: str | None, *, scopes: Iterable[str] = (), fault: Fault = "", description: str = ""
) -> tuple[bytes, bytes]:
    """The WWW-Authenticate header of a refusal: 401, 403 (`insufficient_scope`) or 400 (`invalid_request`).

    *metadata* is the URL of the document, None where there are no issuers and credentials are got by other means.
    *scopes* are all that the operation needs, so that one new login is enough (MCP 2026-07-28, "Runtime
    Insufficient Scope Errors"). Without *fault* no credential was sent, and then nothing is said to be wrong with it.
    """
    asked = " ".join(requestable(scopes))
    parameters = {
        "error": fault,
        "scope": asked if metadata else "",
        "resource_metadata": metadata or "",
        # Last, because there are clients that take the first `scope=` they see anywhere.
        "error_description": _speakable(description) if fault else "",
    }
    # A challenge has one parameter at least (RFC 6750, 3).
    said = {name: value for name, value in parameters.items() if value} or {"realm": "bascule"}
    joined = ", ".join(f'{name}="{value}"' for name, value in said.items())
    return b"www-authenticate", f"Bearer {joined}".encode("ascii")


def _speakable(text: str) -> str:
    """*text* in the characters that `error_description` may have (RFC 6750, 3), so that none needs a backslash."""
    return "".join(c if " " <= c <= "~" else "?" for c in text.translate(_UNQUOTABLE))
