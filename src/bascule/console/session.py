"""Who looks at the console: cookies, the tokens that our own forms carry, what a page says once.

A POST counts when it comes from one of our pages (Origin) and carries the token of its session. Both are checked
before anything of it is believed. Source: OWASP, "Cross-Site Request Forgery Prevention"; RFC 6265bis, 4.1.3.
"""

import base64
import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from bascule.call import Caller
from bascule.console.options import ConsoleOptions
from bascule.edge.door import LOOPBACK, hostname
from bascule.errors import ScopeDenied
from bascule.policy.roles import scopes_of
from bascule.policy.scopes import Authority
from bascule.store.console import ConsoleSessions, SignedIn

if TYPE_CHECKING:
    from bascule.app import Gateway
    from bascule.console.page import Kind, View

PROOF: Final = "console"
CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
LIVE: Final = "bascule-live"  # the header of what a page loads by itself: that somebody is there it does not show
THEME: Final = "bascule-theme"  # the cookie
THEMES: Final = ("light", "dark")
_MOST_SAID: Final = 500  # characters of what a page says once


class Told(msgspec.Struct, frozen=True):
    """What a page says once, of what was done before it."""

    kind: str
    text: str


class Visitor(msgspec.Struct, frozen=True):
    """Somebody who is signed in."""

    secret: str
    session: SignedIn
    caller: Caller
    csrf: str


class SignIn:
    """Sessions in cookies."""

    def __init__(self, sessions: ConsoleSessions, gateway: "Gateway") -> None:
        self.sessions = sessions
        self._gateway = gateway

    @property
    def options(self) -> ConsoleOptions:
        return self._gateway.config.console

    @property
    def public_url(self) -> str | None:
        return self._gateway.config.http.public_url

    # ---- requests

    async def visitor(self, request: Request, *, is_live: bool = False) -> Visitor | None:
        """Who sends *request*; None for who has to sign in first. *is_live*: a page sends it by itself."""
        secret = request.cookies.get(self._cookie(request), "")
        if not secret:
            return None
        idle_s = self.options.session_idle_s
        if is_live or LIVE in request.headers:
            session = self.sessions.look(secret, idle_s)
        else:
            session = await self.sessions.find(secret, idle_s)
        if session is None:
            return None
        authority = Authority(scopes_of(session.roles))
        caller = Caller(session.name, authority, frozenset(session.roles), proof=PROOF)
        return Visitor(secret, session, caller, _csrf(secret))

    def still_there(self, visitor: Visitor) -> bool:
        """Whether the session has not been ended meanwhile."""
        return self.sessions.look(visitor.secret, self.options.session_idle_s) is not None

    def check_origin(self, request: Request) -> None:
        """Raise ScopeDenied for a POST that another site's page sends."""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if origin is None and site is None:
            raise ScopeDenied("the request does not say which page it comes from; is the browser very old?")
        if origin is not None and not self._is_ours(origin, request):
            raise ScopeDenied(f"the request comes from a page of {origin[:200]}, and not from the console")
        if site not in (None, "same-origin"):
            raise ScopeDenied("the request comes from another site, and not from the console")

    def check_token(self, visitor: Visitor, request: Request, said: Sequence[tuple[str, str]]) -> None:
        """Raise ScopeDenied for a POST without the token of its session."""
        token = request.headers.get(CSRF_HEADER) or next((value for name, value in said if name == CSRF_FIELD), "")
        if not hmac.compare_digest(token.encode(), visitor.csrf.encode()):
            raise ScopeDenied("the form is of another session: go back, load the page again, and repeat it")

    def _is_ours(self, origin: str, request: Request) -> bool:
        """Whether *origin*, which anybody may have written, is letter for letter the one of our own pages."""
        host = request.headers.get("host", "")
        # A proxy that ends TLS may have said nothing of it; where it is known, a page without TLS is another one.
        is_certain = self.is_secure(request) and hostname(host) not in LOOPBACK
        ours = {f"{scheme}://{host}" for scheme in (("https",) if is_certain else ("http", "https"))}
        if self.public_url is not None:
            public = urlsplit(self.public_url)
            ours.add(f"{public.scheme}://{public.netloc}")
        return origin in ours

    # ---- cookies

    def let_in(self, request: Request, response: Response, secret: str) -> None:
        self.set_cookie(request, response, self._cookie(request), secret, int(self.options.session_max_s))

    def show_out(self, request: Request, response: Response) -> None:
        self.set_cookie(request, response, self._cookie(request), "", 0)

    def set_cookie(
        self, request: Request, response: Response, name: str, value: str, max_age_s: int, *, strict: bool = True
    ) -> None:
        # `__Host-` asks for the whole path; without TLS our own is enough.
        secure = self.is_secure(request)
        response.set_cookie(
            name,
            value,
            max_age=max_age_s,
            path="/" if secure else "/console",
            secure=secure,
            httponly=True,
            samesite="strict" if strict else "lax",
        )

    def cookie_name(self, request: Request, base: str) -> str:
        # Cookies do not know ports: two gateways on one machine must not sign each other's people out.
        if self.is_secure(request):
            return f"__Host-{base}"
        return f"{base}-{request.url.port or 80}"

    def is_secure(self, request: Request) -> bool:
        """Whether browsers reach us by https, be it through a proxy that ends TLS."""
        return request.url.scheme == "https" or (self.public_url or "").startswith("https://")

    def _cookie(self, request: Request) -> str:
        return self.cookie_name(request, "bascule-console")

    # ---- what is said once

    def tell(self, response: Response, view: "View", kind: "Kind", text: str) -> None:
        """Let the next page say *text*, to this session alone."""
        said = base64.urlsafe_b64encode(msgspec.json.encode([kind, text[:_MOST_SAID]])).decode()
        mark = _mark(view.csrf, said)
        name = self.cookie_name(view.request, "bascule-said")
        self.set_cookie(view.request, response, name, f"{mark}.{said}", 60)

    def told(self, request: Request, csrf: str) -> Told | None:
        """What the page before wanted said here."""
        mark, _, said = request.cookies.get(self.cookie_name(request, "bascule-said"), "").partition(".")
        if not said or not hmac.compare_digest(mark.encode(), _mark(csrf, said).encode()):
            return None
        kind, text = msgspec.json.decode(base64.urlsafe_b64decode(said), type=tuple[str, str])
        return Told(kind, text)

    def forget_told(self, request: Request, response: Response) -> None:
        name = self.cookie_name(request, "bascule-said")
        if name in request.cookies:
            self.set_cookie(request, response, name, "", 0)


def theme_of(request: Request) -> str:
    """`light`, `dark`, or "" for what the system says."""
    said = request.cookies.get(THEME, "")
    return said if said in THEMES else ""


def wanted(path: Any) -> str:
    """Where to go after signing in: a page of ours, whatever was said."""
    if not isinstance(path, str) or not path.startswith("/console") or len(path) > 500 or not path.isprintable():
        return "/console"
    # `/console` alone begins it: no other host, no scheme, nothing that a browser would read as one.
    return path if path[8:9] in ("", "/", "?") and "\\" not in path and "//" not in path else "/console"


def _csrf(secret: str) -> str:
    """The token of a session's forms: made from its secret, which cannot be found out from it."""
    return hmac.new(secret.encode(), b"bascule console csrf", sha256).hexdigest()


def _mark(csrf: str, said: str) -> str:
    return hmac.new(csrf.encode(), said.encode(), sha256).hexdigest()[:32]
