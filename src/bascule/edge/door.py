"""The checks before a request is read: host, origin, media types. PURE decisions over headers.

Source: MCP 2026-07-28, Streamable HTTP, "Security & Endpoint"; RFC 9110; docs/security.md.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_TARGET_BYTES: Final = 8 * 1024

# Headers whose first and last reader would differ, were they sent twice.
_SINGLE: Final = frozenset({
    b"host", b"origin", b"authorization", b"content-length", b"content-type", b"mcp-protocol-version",
    b"mcp-method", b"mcp-name", b"mcp-session-id", b"last-event-id",
})  # fmt: skip

Head: TypeAlias = Mapping[str, str]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]  # as ASGI has them

_NOTHING: Final = re.compile(r"q\s*=\s*0(\.0{0,3})?")  # a quality of zero: not acceptable
_REMEMBERED: Final = 512  # verdicts that a door keeps
_REMEMBERED_BYTES: Final = 4096  # of headers, for a verdict to be kept


class Refused(Exception):
    """An HTTP-level refusal; *error*, when there is one, also has a JSON-RPC shape."""

    def __init__(self, status: int, reason: str, headers: Headers = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Who may knock."""

    hosts: frozenset[str]
    origins: frozenset[str]  # full origins such as "https://console.example"
    loopback_origins: bool  # pages served from this machine, on any port
    max_body_bytes: int


class Door:
    """Applies the rules, and remembers whom it let in: clients repeat their headers with every request."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._admitted: dict[tuple[str, bool, tuple[tuple[bytes, bytes], ...]], Head] = {}

    def admit(self, method: str, raw: Headers, *, answered: bool = True) -> Head:
        """The headers of a request that may come in, by lower-case name; a POST's length is not among them.

        Not *answered* is a POST whose answer goes elsewhere, whatever it accepts. Raises Refused.
        """
        repeated = tuple([pair for pair in raw if pair[0] != b"content-length"])
        if len(repeated) != len(raw):
            self._check_length(raw)
        head = self._admitted.get((method, answered, repeated))
        return self._look(method, answered, repeated) if head is None else head

    def cors_for(self, raw: Headers) -> list[tuple[bytes, bytes]]:
        """What lets a page read even a refusal, if it comes from an allowed origin."""
        origin = next((value.decode("latin-1") for name, value in raw if name == b"origin"), None)
        return cors(origin) if origin is not None and origin_allowed(origin, self.rules) else []

    def preflight(self, raw: Headers) -> list[tuple[bytes, bytes]]:
        """The answer to a browser's OPTIONS. Raises Refused for a page that may not call."""
        head = read_head(raw)
        origin = head.get("origin")
        if origin is None or not origin_allowed(origin, self.rules):
            check(head, self.rules)
            raise Refused(405, "OPTIONS is for pages from elsewhere", [(b"allow", b"POST, GET, DELETE, OPTIONS")])
        return preflight(origin, head.get("access-control-request-headers", ""))

    def _look(self, method: str, answered: bool, raw: tuple[tuple[bytes, bytes], ...]) -> Head:
        head = read_head(raw)
        check(head, self.rules)
        if method == "POST":
            check_post(head)
            if answered:
                check_accept(head)
        if sum(len(name) + len(value) for name, value in raw) <= _REMEMBERED_BYTES:
            if len(self._admitted) >= _REMEMBERED:
                self._admitted.clear()
            self._admitted[method, answered, raw] = head
        return head

    def _check_length(self, raw: Headers) -> None:
        lengths = {value for name, value in raw if name == b"content-length"}
        if len(lengths) != 1:
            raise Refused(400, "the Content-Length header stands twice")
        check_length(lengths.pop(), self.rules)


def read_head(raw: Headers) -> dict[str, str]:
    """Headers by lower-case name. Raises Refused when one that must be single stands twice."""
    # White space around a value is not part of it (RFC 9110, 5.5); the server library leaves it at the end.
    head = {name.decode("latin-1"): value.decode("latin-1").strip(" \t") for name, value in raw}
    if len(head) != len(raw):
        names = [name for name, _ in raw]
        for name in _SINGLE:
            if names.count(name) > 1:
                raise Refused(400, f"the {name.decode()} header stands twice")
        if any(name.startswith(b"mcp-param-") and names.count(name) > 1 for name in names):
            raise Refused(400, "an mcp-param header stands twice")
        # The others are lists, which may come in several lines (RFC 9110, 5.3).
        for each in head:
            head[each] = ", ".join(v.decode("latin-1").strip(" \t") for n, v in raw if n.decode("latin-1") == each)
    return head


def check(head: Head, rules: Rules) -> None:
    """Raise Refused (400, 403, 421) unless the request may come in at all."""
    check_host(head, rules)
    origin = head.get("origin")
    if origin is not None and not origin_allowed(origin, rules):
        raise Refused(403, f"origin {origin!r} may not call; add it to http.allowed_origins")


def check_host(head: Head, rules: Rules) -> None:
    """Raise Refused (400, 421) unless the request is meant for this host."""
    host = head.get("host")
    if not host:
        raise Refused(400, "the Host header is missing")
    if hostname(host) not in rules.hosts:
        raise Refused(421, f"host {host!r} is not served here; add it to http.allowed_hosts")


def origin_allowed(origin: str, rules: Rules) -> bool:
    if origin in rules.origins:
        return True
    scheme, found, rest = origin.partition("://")
    # Nothing but a host and a port may follow: no path, no user part that hides another host.
    if not rules.loopback_origins or not found or scheme not in ("http", "https") or set(rest) & set("/@?#\\"):
        return False
    return hostname(rest) in LOOPBACK


def hostname(host: str) -> str:
    """The host of a `host[:port]`, lower case, brackets of IPv6 removed; "" if it is not one."""
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        if not closed or (port and not _is_port(port)):
            return ""
        return name.lower()
    name, found, port = host.partition(":")
    if (found and not port.isascii()) or (found and not port.isdigit()):
        return ""
    return name.lower()


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit()


def check_post(head: Head) -> None:
    """Raise Refused (415) unless the body can be read."""
    kind, _, parameters = head.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise Refused(415, "Content-Type has to be application/json in UTF-8")
    if head.get("content-encoding", "identity") != "identity":
        raise Refused(415, "compressed bodies are not accepted")


def check_accept(head: Head) -> None:
    """Raise Refused (406) unless the answer can be delivered, in whatever form it will have."""
    if not (accepts(head, "application/json") and accepts(head, "text/event-stream")):
        raise Refused(406, "Accept has to list both application/json and text/event-stream")


def check_length(length: bytes, rules: Rules) -> None:
    """Raise Refused (400, 413) for a Content-Length that is none, or more than a body may have."""
    if not length.isdigit():  # of bytes: ASCII digits only, no sign, no underscore
        raise Refused(400, "Content-Length is not a number")
    if len(length) > 18 or int(length) > rules.max_body_bytes:
        raise too_large(rules)


def too_large(rules: Rules) -> Refused:
    return Refused(413, f"the body is larger than http.max_body_bytes ({rules.max_body_bytes})")


def accepts(head: Head, media_type: str) -> bool:
    """Whether Accept allows *media_type*; no header at all allows everything (RFC 9110, 12.5.1)."""
    accept = head.get("accept")
    if accept is None:
        return True
    wanted: dict[str, bool] = {}
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        wanted[name] = not any(_NOTHING.fullmatch(parameter) for parameter in parameters)
    # The most specific range decides.
    family = media_type.partition("/")[0] + "/*"
    return next((wanted[name] for name in (media_type, family, "*/*") if name in wanted), False)


def cors(origin: str) -> list[tuple[bytes, bytes]]:
    """Headers that let a page from an allowed *origin* read the answer."""
    return [
        (b"access-control-allow-origin", origin.encode()),
        (b"access-control-expose-headers", b"mcp-session-id, www-authenticate"),
        (b"vary", b"origin"),
    ]


def preflight(origin: str, requested: str) -> list[tuple[bytes, bytes]]:
    """The answer to a browser's OPTIONS before it calls."""
    return [
        *cors(origin),
        (b"access-control-allow-methods", b"POST, GET, DELETE, OPTIONS"),
        (b"access-control-allow-headers", requested.encode("latin-1", "ignore")),
        (b"access-control-max-age", b"600"),
    ]
