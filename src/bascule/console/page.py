"""What a page of the console is, and what it is made from: a registry entry, its routes, and the view of one request.

A page file knows its own data and template. It knows nothing of cookies, tokens or headers.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from bascule.call import Caller
from bascule.errors import BasculeError, ScopeDenied
from bascule.policy.scopes import OPERATORS
from bascule.store.console import SignedIn

if TYPE_CHECKING:
    from bascule.app import Gateway
    from bascule.console.app import Console

ROOT: Final = "/console"
PART: Final = "hx-request"  # the header of a request for a part of a page

Kind: TypeAlias = Literal["ok", "warn", "bad", "info"]
Run: TypeAlias = "Callable[[View], Awaitable[Response]]"


class Missing(Exception):
    """There is nothing of that name; the message says of which."""


def html(text: str, status: int = 200) -> HTMLResponse:
    """*text* as it is sent: half a character that somebody has smuggled in must not spoil the page."""
    return HTMLResponse(text.encode(errors="replace"), status)


def redirect(url: str) -> Response:
    return RedirectResponse(url, 303)


class At(msgspec.Struct, frozen=True):
    """One address of a page, below /console."""

    method: Literal["GET", "POST"]
    path: str  # "/servers/{name}"; "{id:path}" takes slashes too
    run: Run
    scopes: tuple[str, ...] | None = None  # all are needed; None: those of the page


def get(path: str, run: Run, scopes: tuple[str, ...] | None = None) -> At:
    return At("GET", path, run, scopes)


def post(path: str, run: Run, scopes: tuple[str, ...] | None = None) -> At:
    """What changes something: only with the token of its session, and from our own pages."""
    return At("POST", path, run, scopes)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the navigation, and all that is behind it."""

    name: str  # "servers": the first part of its addresses, and what `live:servers` is about
    title: str
    icon: str = "dot"  # of templates/icons.html
    scopes: tuple[str, ...] = OPERATORS  # who may see it at all
    hidden: bool = False  # not in the navigation: something else leads to it
    routes: Sequence[At]
    # Something small that changes when the page would look different: then its live parts are loaded again.
    pulse: "Callable[[Gateway], Any] | None" = None
    # How much waits for somebody; shown beside the title in the navigation.
    badge: "Callable[[Gateway], int] | None" = None

    @property
    def path(self) -> str:
        return ROOT + self.routes[0].path


class View:
    """One request of somebody who is signed in."""

    def __init__(self, console: "Console", request: Request, session: SignedIn, caller: Caller, csrf: str) -> None:
        self._console = console
        self.request = request
        self.session = session
        self.caller = caller
        self.csrf = csrf
        self.page_shown: Page | None = None
        self.pulse = ""  # of the moment before anything was read for the page
        self.form: Mapping[str, str] = {}  # of a POST, each name once
        self.forms: Sequence[tuple[str, str]] = ()  # of a POST, as they came

    @property
    def gateway(self) -> "Gateway":
        return self._console.gateway

    @property
    def path(self) -> Mapping[str, str]:
        """What stands for the braces of the route."""
        return self.request.path_params

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    @property
    def is_part(self) -> bool:
        """Whether htmx asks, which wants a part of a page."""
        return PART in self.request.headers

    def may(self, *scopes: str) -> bool:
        """Whether this person holds all of *scopes*: what they may not do is not offered."""
        return self.caller.authority.covers(scopes)

    def waiting(self) -> Mapping[str, int]:
        """How much waits for somebody, by page, of the pages that this person may open."""
        return self._console.live.badges(self)

    # ---- answers

    def page(self, template: str, *, title: str = "", status: int = 200, **context: Any) -> Response:
        """A whole page. *title* stands in place of the one in the navigation."""
        said = {"title": title or self._title(), **context}
        return self._console.page(self.request, self, template, status=status, **said)

    def part(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """What replaces a part of a page: a template without a base."""
        return html(self._console.render(template, view=self, csrf=self.csrf, **context), status)

    def back(self, path: str, said: str = "", kind: Kind = "ok") -> Response:
        """After a POST: to the page at *path* ("/servers"), which says once what was done."""
        url = quote(ROOT + path, safe="/?&=#%:@+,;~")  # names in it may be made up
        response = Response(status_code=204, headers={"hx-redirect": url}) if self.is_part else redirect(url)
        if said:
            self._console.sign_in.tell(response, self, kind, said)
        return response

    def failed(self, error: BasculeError) -> Response:
        """A refusal in words, as a page or as a part of one."""
        return self._console.refused(self.request, self, error)

    def _title(self) -> str:
        return "" if self.page_shown is None else self.page_shown.title

    # ---- doing

    def check(self, *scopes: str) -> None:
        """Raise ScopeDenied for who lacks one of *scopes*."""
        if not self.may(*scopes):
            raise ScopeDenied(f"this needs the scope {' and '.join(scopes)}", scopes)

    async def perform(self, name: str, **said: Any) -> Any:
        """What the operation called *name* (admin/actions.py) answers; it is checked and recorded there.

        Raises our errors, and Missing where the operation knows of no such thing.
        """
        actions = self._console.actions
        answer = await actions.perform(actions[name], self.caller, said)
        if answer is None:
            raise Missing("there is nothing of that id any more; it may be over, or belong to another gateway")
        return answer
