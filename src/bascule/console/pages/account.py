"""Who one is here: roles, scopes, when the session ends, and how to end all that one has."""

from typing import Final

from starlette.responses import Response

from bascule.admin import console
from bascule.console.page import Page, View, get, post
from bascule.errors import Unavailable
from bascule.store.console import ConsoleSessions


async def show(view: View) -> Response:
    return view.page("account.html", scopes=sorted(view.caller.authority.granted))


async def end_all(view: View) -> Response:
    """Everybody may end their own sessions, wherever they are."""
    records = view.gateway.records
    if records is None:
        raise Unavailable("sessions are kept in the state folder, and there is none")
    await console.end(records, ConsoleSessions(records.writer), name=view.session.name, by=view.caller.name)
    return view.back("/sign-in?out=1")


PAGE: Final = Page(
    name="account",
    title="Your account",
    icon="callers",
    scopes=(),
    hidden=True,
    routes=(get("/account", show), post("/account/end", end_all)),
)
