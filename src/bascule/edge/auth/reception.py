"""What a request meets before it is read: who sends it, and what it is told if that will not do.

Knows ASGI scopes; what they come to is decided in identify.py and written in metadata.py.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from bascule.call import Caller
from bascule.edge import tls
from bascule.edge.auth import metadata
from bascule.edge.auth.callers import Credential
from bascule.edge.auth.identify import Identify
from bascule.edge.door import Headers, hostname
from bascule.errors import BasculeError, ScopeDenied, Unauthenticated
from bascule.policy.scopes import OPERATORS

_TOKEN_IN_QUERY: Final = b"access_token="


class Login(msgspec.Struct, frozen=True):
    """What clients are told of how to log in."""

    public_url: str | None = None  # what clients call us by; None: whatever they do call us by
    issuers: Sequence[str] = ()
    entry: Sequence[str] = ()  # scopes without which nobody comes in; more are asked for when a call needs them
    scopes: Sequence[str] = ()  # all that can be asked for


class Reception:
    """Finds the caller of a request, or the words and headers that refuse it."""

    def __init__(self, identify: Identify, login: Login) -> None:
        self.identify = identify
        self.login = login

    async def caller(self, scope: Mapping[str, Any], head: Mapping[str, str], resource: str) -> Caller:
        """Who sends the request. Raises Unauthenticated, ScopeDenied or RateLimited."""
        if _TOKEN_IN_QUERY in scope["query_string"]:
            # Whoever carried it here has written it into a log (RFC 6750, 5.3).
            raise Unauthenticated("a token does not belong in a URL: send it as Authorization: Bearer …",
                                  reason="invalid_request")  # fmt: skip
        client = scope.get("client")
        credential = Credential(head.get("authorization"), tls.subject_in(scope), client[0] if client else "", resource)
        return self.identify.known(credential) or await self.identify.caller(credential)

    def check_operator(self, caller: Caller) -> None:
        """Raise ScopeDenied for who may not look at how things stand."""
        if not caller.authority.covers(OPERATORS):
            raise ScopeDenied(f"this page is for operators: it needs the scope {OPERATORS[0]}", OPERATORS)

    def resource(self, scope: Mapping[str, Any], path: str) -> str:
        """The resource id of what is at *path*: a token has to be made for it (RFC 8707, 2)."""
        public = self.login.public_url
        if public is None:
            host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
            # The name is one that http.allowed_hosts lets through; the port is ours, whatever the client says: a token
            # that was made for another server on this machine is not good here.
            name = hostname(host)
            public = f"{scope['scheme']}://{f'[{name}]' if ':' in name else name}:{scope['server'][1]}"
        return _resource(public, path)

    def headers_for(self, error: BasculeError | None, resource: str) -> Headers:
        """The headers that go with a refusal: where to log in, and how long to wait."""
        told: list[tuple[bytes, bytes]] = []
        if error is not None and error.retry_after_s is not None:
            told.append((b"retry-after", b"%d" % math.ceil(error.retry_after_s)))
        match error:
            case Unauthenticated():
                told.append(self._challenge(resource, error.reason, self.login.entry, error.message))
            case ScopeDenied():
                told.append(self._challenge(resource, "insufficient_scope", error.scopes, error.message))
        return told

    def described(self, endpoint: str, scope: Mapping[str, Any]) -> bytes | None:
        """The metadata document of an endpoint; None where nobody logs in."""
        if not self.login.issuers:
            return None
        return metadata.document(self.resource(scope, endpoint), self.login.issuers, self.login.scopes)

    def _challenge(self, resource: str, fault: Any, scopes: Sequence[str], why: str) -> tuple[bytes, bytes]:
        url = metadata.metadata_url(resource) if self.login.issuers and resource else None
        return metadata.challenge(url, scopes=scopes, fault=fault, description=why)


@lru_cache(maxsize=4096)
def _resource(public: str, path: str) -> str:
    """What is at no endpoint is part of the whole. "" for an address that no URL can name."""
    endpoint = metadata.well_known(metadata.WELL_KNOWN + path) or metadata.ROOT_STANDS_FOR
    try:
        return metadata.resource_of(public, endpoint)
    except ValueError:
        return ""
