"""Callers and keys: who calls, what they may and spend, their keys; and who is signed in here."""

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from bascule.admin.api.keys import OVERLAP, WRITE
from bascule.console.page import ROOT, Page, View, get, post
from bascule.errors import BasculeError, InvalidRequest
from bascule.policy.approvals import seen

_LIFETIMES: Final = (("90d", "90 days"), ("30d", "30 days"), ("7d", "7 days"), ("365d", "a year"), ("", "no end"))
_OVERLAPS: Final = (("0s", "not at all"), ("1h", "1 hour"), (OVERLAP, "1 day"), ("7d", "7 days"), ("30d", "30 days"))
_TOOLS: Final = 50  # of a page
_SESSIONS: Final = 50


async def list_(view: View) -> Response:
    q, number = view.query.get("q", ""), view.query.get("page", "")
    found = await view.perform("callers.list", q=q, page=number if number.isdecimal() and int(number[:9]) else "1")
    said = {
        "found": found,
        "seen": seen,
        "q": q,
        "before": _url(q, found["page"] - 1) if found["page"] > 1 else "",
        "after": _url(q, found["page"] + 1) if found["page"] < found["pages"] else "",
    }
    if view.is_part:
        return view.part("callers_found.html", **said)
    may_write = view.may(*WRITE)
    sessions = (await view.perform("console.sessions"))["sessions"] if may_write else []
    return view.page("callers.html", **said, sessions=sessions[:_SESSIONS], mine=view.session.id, may_write=may_write)


def _url(q: str, page: int) -> str:
    return f"{ROOT}/callers?{urlencode({'q': q, 'page': page})}"


async def show(view: View) -> Response:
    return await _page(view)


async def _page(view: View, status: int = 200, **more: Any) -> Response:
    """The page of a caller; what was just made is on it this once."""
    found = await view.perform("callers.show", caller=view.path["name"])
    wanted = view.query.get("q", "").casefold()
    sees = [each for each in found["sees"] if wanted in each["tool"].casefold()]
    number, pages = _number(view.query.get("page", "1"), len(sees))
    said = {
        "found": found,
        "seen": seen,
        "sees": sees[(number - 1) * _TOOLS : number * _TOOLS],
        "all_sees": len(sees),
        "number": number,
        "pages": pages,
        "q": view.query.get("q", ""),
    }
    if view.is_part:
        return view.part("caller_tools.html", **said)
    keys = {"lifetimes": _LIFETIMES, "overlaps": _OVERLAPS, "overlap": OVERLAP, "once": secrets.token_hex(16)}
    shown: dict[str, Any] = {"made": None, "replaced": None, "wrong": "", "form": {}, **more}
    title = f"Caller {view.path['name']}"
    return view.page("caller.html", title=title, status=status, may_write=view.may(*WRITE), **said, **keys, **shown)


def _number(said: str, rows: int) -> tuple[int, int]:
    """(the page that is meant, how many there are)."""
    pages = max(1, -(-rows // _TOOLS))
    return min(max(1, int(said)) if said.isdecimal() and len(said) < 9 else 1, pages), pages


# ---- keys ----------------------------------------------------------------------------------------


class _Once:
    """Forms that were sent: the answer to one that makes a key cannot be loaded again, or it would make another."""

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._sent: OrderedDict[str, None] = OrderedDict()

    def take(self, form: str) -> None:
        """Raises InvalidRequest for a form that was sent before."""
        if not form or form in self._sent:
            raise InvalidRequest("this form was sent before, and its key was shown then: make another, revoke that one")
        self._sent[form] = None
        while len(self._sent) > self._most:
            self._sent.popitem(last=False)


_once: Final = _Once()


async def create(view: View) -> Response:
    said: dict[str, Any] = {
        "caller": view.path["name"],
        "note": view.form.get("note", "").strip(),
        "expires": view.form.get("expires", ""),
        "scopes": view.form.get("scopes", "").split(),
        "networks": view.form.get("networks", "").replace(",", " ").split(),
    }
    return await _make(view, "keys.create", {name: value for name, value in said.items() if value})


async def rotate(view: View) -> Response:
    return await _make(view, "keys.rotate", {"id": view.path["id"], "overlap": view.form.get("overlap", OVERLAP)})


async def _make(view: View, operation: str, said: Mapping[str, Any]) -> Response:
    try:
        _once.take(view.form.get("once", ""))
        made = await view.perform(operation, **said)
    except BasculeError as error:
        status = error.http if error.http >= 400 else 422
        return await _page(view, status=status, wrong=error.message, form=view.form)
    return await _page(view, made=made, replaced=made.get("replaced"))


async def revoke(view: View) -> Response:
    id, note = view.path["id"], view.form.get("note", "").strip()
    await view.perform("keys.revoke", id=id, **({"note": note} if note else {}))
    return view.back(f"/callers/{view.path['name']}", f"Key {id} is revoked: it is refused within seconds.")


async def end(view: View) -> Response:
    await view.perform("console.end", id=view.path["id"])
    return view.back("/callers", "That session is over.")


PAGE: Final = Page(
    name="callers",
    title="Callers & keys",
    icon="callers",
    routes=(
        get("/callers", list_),
        get("/callers/{name}", show),
        post("/callers/{name}/keys", create, WRITE),
        post("/callers/{name}/keys/{id}/rotate", rotate, WRITE),
        post("/callers/{name}/keys/{id}/revoke", revoke, WRITE),
        post("/sessions/{id}/end", end, WRITE),
    ),
)
