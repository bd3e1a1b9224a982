"""Coming in and going out: links of `bascule console open`, an OpenID provider, signing out.

A link of the command line carries its secret behind `#`: so it is in no log, and no preview of a chat uses it up.
The page that opens has a button, and what the button posts is what signs in.
"""

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from bascule.console.forms import form_of
from bascule.console.page import PART, ROOT, Missing
from bascule.console.session import wanted
from bascule.errors import BasculeError, RateLimited, Unauthenticated, Unavailable
from bascule.store.console import SignedIn

if TYPE_CHECKING:
    from bascule.console.app import Console
    from bascule.console.oidc import Oidc

WITHIN_S: Final = 600.0  # so long somebody may take at the provider
_LOGIN: Final = "bascule-login"  # the cookie of who is on the way to the provider and back


def asked_to_sign_in(request: Request) -> Response:
    """For who is not signed in, or not any more: the page that asks for it, and then back here."""
    back = request.url.path if request.method == "GET" else ROOT
    if request.url.query and request.method == "GET":
        back += f"?{request.url.query}"
    url = f"{ROOT}/sign-in?next={quote(back, safe='')}"
    if PART in request.headers:
        return Response(status_code=401, headers={"hx-redirect": f"{ROOT}/sign-in"})
    return RedirectResponse(url, 303)


class Entrance:
    """The pages for who is not signed in."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._oidc: Oidc | None = None

    def routes(self) -> list[Route]:
        return [
            Route(f"{ROOT}/sign-in", self.show, methods=["GET"]),
            Route(f"{ROOT}/open", self.show, methods=["GET"]),
            Route(f"{ROOT}/open", self.open, methods=["POST"]),
            Route(f"{ROOT}/oidc", self.go, methods=["GET"]),
            Route(f"{ROOT}/oidc/callback", self.come_back, methods=["GET"]),
            Route(f"{ROOT}/sign-out", self.leave, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        back = wanted(request.query_params.get("next"))
        if request.url.path.endswith("/sign-in") and await self._console.sign_in.visitor(request) is not None:
            return RedirectResponse(back, 303)
        return self._page(request, back, out="out" in request.query_params)

    # ---- by a link

    async def open(self, request: Request) -> Response:
        """Sign in whoever brings a link that is good."""
        sign_in = self._console.sign_in
        sign_in.check_origin(request)
        said = dict(await form_of(request))
        back = wanted(said.get("next"))
        found = await sign_in.sessions.redeem(said.get("link", "").strip(), sign_in.options.session_max_s)
        if found is None:
            self._count_failure(request)
            self._console.record("console.sign_in", "", Unauthenticated.kind, "by a link that is not good")
            return self._page(request, back, "This link is not good any more. Each works once, for a minute.")
        secret, session = found
        response = RedirectResponse(back, 303)
        await self._let_in(request, response, secret, session)
        return response

    def _count_failure(self, request: Request) -> None:
        """Raise RateLimited once too many wrong links came from one address: the audit is not there to be filled."""
        ip, now_s, attempts = request.client.host if request.client else "", time.time(), self._console.gateway.attempts
        wait_s = attempts.wait_s(ip, now_s)
        if wait_s:
            raise RateLimited("too many wrong links came from this address", wait_s)
        attempts.failed(ip, now_s)

    # ---- by an OpenID provider

    async def go(self, request: Request) -> Response:
        """Send the browser to the provider."""
        oidc, back = self.oidc, wanted(request.query_params.get("next"))
        if oidc is None:
            raise Missing("there is no OpenID provider: console.oidc is not set")
        try:
            url, kept = await oidc.begin(self._callback_url(request, oidc), back)
        except Unavailable as error:
            return self._page(request, back, error.message, status=503)
        response = RedirectResponse(url, 302)
        self._keep(request, response, kept, int(WITHIN_S))
        return response

    async def come_back(self, request: Request) -> Response:
        """Sign in whom the provider sends back."""
        oidc, sign_in = self.oidc, self._console.sign_in
        if oidc is None:
            raise Missing("there is no OpenID provider: console.oidc is not set")
        kept = request.cookies.get(sign_in.cookie_name(request, _LOGIN), "")
        try:
            person, back = await oidc.end(kept, request.query_params)
        except BasculeError as error:
            self._count_failure(request)
            self._console.record("console.sign_in", "", error.kind, f"by OpenID: {error.message}")
            return self._page(request, ROOT, error.message, status=403 if error.category == "security" else 503)
        secret, session = await sign_in.sessions.begin(person.name, person.roles, "oidc", sign_in.options.session_max_s)
        # A redirect would still count as coming from the provider, and a strict cookie would stay at home: a page of
        # ours goes on by itself.
        response = self._console.page(request, None, "signed_in.html", title="Signed in", back=back)
        await self._let_in(request, response, secret, session)
        self._keep(request, response, "", 0)
        return response

    @property
    def oidc(self) -> "Oidc | None":
        """The provider of the configuration as it is now."""
        options = self._console.sign_in.options.oidc
        if options is None:
            self._oidc = None
        elif self._oidc is None or self._oidc.options != options:
            from bascule.console.oidc import oidc_of  # with what checks signatures, which others need not load

            gateway = self._console.gateway
            self._oidc = oidc_of(options, lambda: gateway.ring, gateway.config.auth.issuers)
        return self._oidc

    def _callback_url(self, request: Request, oidc: "Oidc") -> str:
        """Where the provider sends the browser back to."""
        if oidc.options.redirect_url is not None:
            return oidc.options.redirect_url
        public = urlsplit(self._console.sign_in.public_url or str(request.base_url))
        return f"{public.scheme}://{public.netloc}{ROOT}/oidc/callback"

    def _keep(self, request: Request, response: Response, kept: str, max_age_s: int) -> None:
        # Lax: it has to come along when the provider sends the browser back.
        sign_in = self._console.sign_in
        name = sign_in.cookie_name(request, _LOGIN)
        sign_in.set_cookie(request, response, name, kept, max_age_s, strict=False)

    # ---- in and out

    async def _let_in(self, request: Request, response: Response, secret: str, session: SignedIn) -> None:
        """In place of whoever was signed in here before."""
        before = await self._console.sign_in.visitor(request)
        if before is not None:
            await self._console.sign_in.sessions.end(before.session.id)
        self._console.record(
            "console.sign_in", session.name, "done", f"by {session.how}, as {', '.join(session.roles)}"
        )
        self._console.sign_in.let_in(request, response, secret)

    async def leave(self, request: Request) -> Response:
        sign_in = self._console.sign_in
        sign_in.check_origin(request)
        visitor = await sign_in.visitor(request)
        response = RedirectResponse(f"{ROOT}/sign-in?out=1", 303)
        if visitor is not None:
            sign_in.check_token(visitor, request, await form_of(request))
            await sign_in.sessions.end(visitor.session.id)
            self._console.record("console.sign_out", visitor.session.name, "done", "")
        sign_in.show_out(request, response)
        return response

    def _page(self, request: Request, back: str, wrong: str = "", *, status: int = 0, out: bool = False) -> Response:
        return self._console.page(
            request,
            None,
            "sign_in.html",
            status=status or (403 if wrong else 200),
            title="Sign in",
            back=back,
            wrong=wrong,
            out=out,
            oidc=self._console.sign_in.options.oidc is not None,
        )
