"""The console as one ASGI application: routes, what every request has to pass, and what every answer carries.

The raw edge hands over what is under /console, after its own checks of the host and of the request's length.
Credentials of MCP mean nothing here, and the console's cookie means nothing there.
"""

import math
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

import bascule
from bascule.admin.actions import Actions
from bascule.console import live, words
from bascule.console.assets import Assets
from bascule.console.entrance import Entrance, asked_to_sign_in
from bascule.console.forms import form_of
from bascule.console.page import PART, ROOT, At, Missing, Page, View, html
from bascule.console.pages import pages
from bascule.console.session import PROOF, THEME, THEMES, SignIn, Visitor, theme_of, wanted
from bascule.errors import BasculeError, Misused, Refusal, ScopeDenied
from bascule.store.console import ConsoleSessions
from bascule.store.record import Record
from bascule.store.records import Records

if TYPE_CHECKING:
    from bascule.app import Gateway

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_ASK: Final = "ask who runs this gateway for a role that may do it"
_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self';"
        b" form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    # Not `no-referrer`: with it browsers say `Origin: null` of our own forms. Other sites hear nothing either way.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


def console_of(gateway: "Gateway") -> App:
    """The console of *gateway*, for the paths under /console."""
    if gateway.records is None:
        return _guarded(_without_records)
    return Console(gateway, gateway.records).app


class Console:
    """What pages share: the gateway, its operations, the templates, who is signed in."""

    def __init__(self, gateway: "Gateway", records: Records) -> None:
        self.gateway = gateway
        self.pages = pages()
        self.assets = Assets()
        self._templates = words.environment(str(Path(__file__).parent / "templates"))
        self._templates.globals.update(asset=self._asset, root=ROOT, version=bascule.__version__, now_s=time.time)
        self.sign_in = SignIn(ConsoleSessions(records.writer), gateway)
        self.live = live.Live(self)
        self.app = _guarded(self._application())

    @property
    def actions(self) -> Actions:
        return self.gateway.actions

    def render(self, template: str, **context: Any) -> str:
        return self._templates.get_template(template).render(**context)

    def shown_to(self, view: View) -> Sequence[Page]:
        """The pages that this person may open."""
        return [page for page in self.pages if view.may(*page.scopes)]

    def chrome(self, request: Request, view: View | None) -> Mapping[str, Any]:
        """What every whole page is framed by."""
        return {
            "request": request,
            "view": view,
            "theme": theme_of(request),
            "nav": [] if view is None else [page for page in self.shown_to(view) if not page.hidden],
            "badges": {} if view is None else self.live.badges(view),
            "told": None if view is None else self.sign_in.told(request, view.csrf),
            "csrf": "" if view is None else view.csrf,
        }

    def page(self, request: Request, view: View | None, template: str, *, status: int = 200, **said: Any) -> Response:
        response = html(self.render(template, **{**self.chrome(request, view), **said}), status)
        if view is not None:
            self.sign_in.forget_told(request, response)
        return response

    def refusal(self, request: Request, view: View | None, status: int, message: str, advice: str = "") -> Response:
        """A refusal in words: a page, or a part for who asked for one."""
        about = {"number": status, "reason": HTTPStatus(status).phrase, "message": message, "advice": advice}
        if PART in request.headers:
            return html(self.render("refusal_part.html", **about), status)
        return self.page(request, view, "refusal.html", status=status, title=about["reason"], **about)

    def refused(self, request: Request, view: View | None, error: BasculeError) -> Response:
        # What a program is advised to do is of no use to a person who lacks a role.
        advice = _ASK if isinstance(error, ScopeDenied) else error.advice
        response = self.refusal(request, view, status_of(error), error.message, advice)
        if error.retry_after_s is not None:
            response.headers["retry-after"] = str(math.ceil(error.retry_after_s))
        return response

    def record(self, what: str, name: str, outcome: str, note: str) -> None:
        """Put on record who came and went: `what` is `console.sign_in` or the like."""
        records = self.gateway.records
        if records is None or records.audit is None:
            return
        record = Record(
            kind="action",
            at_us=time.time_ns() // 1000,
            caller=name,
            proof=PROOF,
            method=what,
            decision="allow" if outcome == "done" else "deny",
            outcome=outcome,
            note=note,
        )
        records.audit.post(record)

    def _asset(self, file: str) -> str:
        return f"{ROOT}/static/{self.assets.name(file)}"

    # ---- routes

    def _application(self) -> Starlette:
        own = [
            Route(f"{ROOT}/static/{{name}}", self._static, methods=["GET"]),
            Route(f"{ROOT}/theme", self._theme, methods=["POST"]),
            Route(f"{ROOT}/events", self.live.serve, methods=["GET"]),
            Route(ROOT, self._home, methods=["GET"]),
            Route(f"{ROOT}/", self._home, methods=["GET"]),
            *Entrance(self).routes(),
        ]
        routes = [
            Route(ROOT + at.path, self._endpoint(page, at), methods=[at.method])
            for page in self.pages
            for at in page.routes
        ]
        handlers: Any = {HTTPException: self._http_refusal, BasculeError: self._our_refusal, Missing: self._missing}
        made = Starlette(routes=[*own, *routes], exception_handlers=handlers | {500: self._fault})
        made.router.redirect_slashes = False  # it would send browsers to whatever the Host header says, without TLS
        return made

    def _endpoint(self, page: Page, at: At) -> Callable[[Request], Awaitable[Response]]:
        """What answers at one address of *page*: everything that has to hold, and then what the page does."""

        async def serve(request: Request) -> Response:
            visitor = await self.sign_in.visitor(request)
            if visitor is None:
                if at.method == "POST":
                    self.sign_in.check_origin(request)
                return asked_to_sign_in(request)
            view = self.view(request, visitor)
            view.page_shown = page
            view.pulse = self.live.pulse(page)
            if at.method == "POST":
                await self._admit(view, visitor, page, at)
            else:
                view.check(*(page.scopes if at.scopes is None else at.scopes))
            return await at.run(view)

        return serve

    async def _admit(self, view: View, visitor: Visitor, page: Page, at: At) -> None:
        """Read what is posted. Raises ScopeDenied, on record, where it is not of our page, or not for this person."""
        name, path = visitor.session.name, view.request.url.path
        try:
            self.sign_in.check_origin(view.request)
            view.forms = await form_of(view.request)
            self.sign_in.check_token(visitor, view.request, view.forms)
        except ScopeDenied as error:
            # Another site's page may send very many of them: their number is bounded there, as of all at the door.
            self.gateway.observe.turned_away(error, f"{name} at {path}: {error.message}")
            raise
        view.form = dict(view.forms)
        try:
            view.check(*(page.scopes if at.scopes is None else at.scopes))
        except ScopeDenied as error:
            self.record("console.post", name, error.kind, f"{path}: {error.message}")
            raise

    def view(self, request: Request, visitor: Visitor) -> View:
        view = View(self, request, visitor.session, visitor.caller, visitor.csrf)
        request.state.view = view  # for whoever has to say what went wrong
        return view

    async def _static(self, request: Request) -> Response:
        return self.assets.response(request.path_params["name"], request.headers.get("accept-encoding", ""))

    async def _home(self, request: Request) -> Response:
        return RedirectResponse(self.pages[0].path, 303)

    async def _theme(self, request: Request) -> Response:
        """Light, dark, or as the system has it. It is no secret and changes nothing, so anybody may."""
        self.sign_in.check_origin(request)
        said = dict(await form_of(request))
        response = RedirectResponse(wanted(said.get("next")), 303)
        theme = said.get("theme", "")
        response.set_cookie(THEME, theme if theme in THEMES else "", 31_536_000, path=ROOT, samesite="strict")
        return response

    # ---- refusals

    async def _http_refusal(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        said = {404: "There is no such page.", 405: "This address is not asked for that way."}
        return self.refusal(request, await self._view_of(request), status, said.get(status, HTTPStatus(status).phrase))

    async def _our_refusal(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, BasculeError)
        return self.refused(request, await self._view_of(request), error)

    async def _missing(self, request: Request, error: Exception) -> Response:
        return self.refusal(request, await self._view_of(request), 404, str(error))

    async def _view_of(self, request: Request) -> View | None:
        """Of whoever is refused something, if they are signed in."""
        found: View | None = getattr(request.state, "view", None)
        if found is not None:
            return found
        try:
            visitor = await self.sign_in.visitor(request)
        except BasculeError:
            return None  # the records cannot be read, which may be what is to be said
        return None if visitor is None else self.view(request, visitor)

    async def _fault(self, request: Request, error: Exception) -> Response:
        message = "This is a fault of Bascule's. Its log says more."
        return self.refusal(request, None, 500, message)


async def _without_records(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    said = "The console keeps who is signed in in the state folder, and there is none: set state_dir.\n"
    await Response(said, 503, media_type="text/plain")(scope, receive, send)


def status_of(error: BasculeError) -> int:
    """The HTTP status that says best what *error* says."""
    if error.http >= 400:
        return error.http
    if isinstance(error, Refusal):
        return 403
    return 409 if isinstance(error, Misused) else 503 if error.category == "transient" else 500


def _guarded(app: App) -> App:
    """*app*, whose answers all tell browsers what they must not do, and which are kept by nobody."""

    async def guarded(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                said = {name.lower() for name, _ in message["headers"]}
                kept = () if b"cache-control" in said else ((b"cache-control", b"no-store"),)
                message["headers"] = [*message["headers"], *_HEADERS, *kept]
            await send(message)

        await app(scope, receive, sending)

    return guarded
