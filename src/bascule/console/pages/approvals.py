"""Approvals: calls that wait for a person, with exactly what would be sent; and what was said to those before."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from bascule.admin.approvals import READ, WRITE, NoSuchApproval, NotPending
from bascule.console.page import ROOT, Page, View, get, post
from bascule.console.paging import number_of, numbered, places
from bascule.errors import BasculeError, ScopeDenied

if TYPE_CHECKING:
    from bascule.app import Gateway

MOST_SHOWN: Final = 20  # questions with their arguments on one page
MOST_INLINE: Final = 4_000  # characters of arguments beside others; longer ones have a page of their own
_PER_PAGE: Final = 50
_MOST: Final = 1_000  # the questions of a day that can be looked through
_WATCHED: Final = 200
STATES: Final = {
    "approved": "approved, not used yet",
    "used": "approved and used",
    "denied": "denied",
    "expired": "expired",
}


async def inbox(view: View) -> Response:
    """What waits, the most urgent first."""
    found = await view.perform("approvals.list", state="pending", most=_MOST)
    waiting = sorted(found["approvals"], key=lambda each: str(each["expires"]))
    number = number_of(view.query.get("page", "1"))
    shown = waiting[(number - 1) * MOST_SHOWN : number * MOST_SHOWN]
    said: dict[str, Any] = {
        "questions": [each for question in shown if (each := await _whole(view, question["id"])) is not None],
        "waiting": len(waiting),
        "pages": places(f"{ROOT}/approvals", {}, number, MOST_SHOWN, len(waiting)),
        "own": view.caller.name,
        "may_decide": view.may(WRITE),
        "longest": MOST_INLINE,
    }
    if view.is_part:
        return view.part("approvals_inbox.html", **said)
    return view.page("approvals.html", **said)


async def _whole(view: View, id: str) -> Any:
    """A question with its arguments; None for one that was forgotten just now."""
    try:
        return await view.perform("approvals.show", id=id)
    except NoSuchApproval:
        return None


async def history(view: View) -> Response:
    """What became of the questions of the last day, the newest first."""
    asked = {name: view.query.get(name, "").strip() for name in ("state", "caller", "tool")}
    wanted = {"state": asked["state"]} if asked["state"] in STATES else {}
    found = await view.perform("approvals.list", most=_MOST, **wanted)
    fitting = [each for each in found["approvals"] if each["state"] in STATES and _fits(each, asked)]
    number = number_of(view.query.get("page", "1"))
    said: dict[str, Any] = {
        "questions": fitting[(number - 1) * _PER_PAGE : number * _PER_PAGE],
        "asked": asked,
        "states": STATES,
        "pages": places(f"{ROOT}/approvals/history", asked, number, _PER_PAGE, len(fitting)),
        "address": numbered(f"{ROOT}/approvals/history", asked, number),
    }
    if view.is_part:
        return view.part("approvals_past.html", **said)
    return view.page("approvals_history.html", title="Approvals: history", **said)


def _fits(question: Mapping[str, Any], asked: Mapping[str, str]) -> bool:
    return all(asked[name].lower() in str(question[name]).lower() for name in ("caller", "tool"))


async def show(view: View) -> Response:
    """One question: what the link in an error 40302 leads to."""
    id = view.path["id"]
    try:
        question = await view.perform("approvals.show", id=id)
    except NoSuchApproval:
        if view.is_part:
            raise
        return view.page("approvals_gone.html", title="No such question", status=404)
    said: dict[str, Any] = {"question": question, "own": view.caller.name, "may_decide": view.may(WRITE)}
    if view.is_part:
        return view.part("approvals_question.html", **said)
    return view.page("approvals_show.html", title="Question", **said)


async def approve(view: View) -> Response:
    return await _decide(view, "approvals.approve")


async def deny(view: View) -> Response:
    return await _decide(view, "approvals.deny")


async def _decide(view: View, operation: str) -> Response:
    id, note = view.path["id"], view.form.get("note", "").strip()
    try:
        question = await view.perform(operation, id=id, note=note)
    except NotPending as error:
        return view.back(f"/approvals/{id}", f"Nothing was changed: {_state_in_words(error)}", "warn")
    except ScopeDenied as error:
        return view.back(f"/approvals/{id}", error.message, "bad")
    about = f"{question['tool']} for {question['caller']}"
    if operation.endswith("approve"):
        said = f"Approved: {about}. The caller may make this one call until {_clock(question['expires'])}."
    else:
        said = f"Denied: {about}. The caller is told" + (", with your note." if note else ".")
    return view.back("/approvals" if view.form.get("from") == "inbox" else f"/approvals/{id}", said)


def _state_in_words(error: BasculeError) -> str:
    state = str(error.details.get("state", ""))
    return {
        "approved": "somebody has approved it meanwhile.",
        "used": "somebody has approved it meanwhile, and the call was made.",
        "denied": "somebody has denied it meanwhile.",
        "expired": "it has expired. If the call is made again, it is asked anew.",
    }.get(state, error.message)


def _clock(at: str) -> str:
    return f"{at[11:19]} UTC"


def _pulse(gateway: "Gateway") -> Any:
    if gateway.records is None:
        return None
    approvals = gateway.records.approvals
    now_s = approvals.now_s()
    return [(each.id, each.state_at(now_s)) for each in approvals.list_(most=_WATCHED)]


def _badge(gateway: "Gateway") -> int:
    return 0 if gateway.records is None else len(gateway.records.approvals.list_("pending", _WATCHED))


PAGE: Final = Page(
    name="approvals",
    title="Approvals",
    icon="approvals",
    scopes=(READ,),
    routes=(
        get("/approvals", inbox),
        get("/approvals/history", history),
        get("/approvals/{id}", show),
        post("/approvals/{id}/approve", approve, (WRITE,)),
        post("/approvals/{id}/deny", deny, (WRITE,)),
    ),
    pulse=_pulse,
    badge=_badge,
)
