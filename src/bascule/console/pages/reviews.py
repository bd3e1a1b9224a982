"""Reviews: what servers list anew or otherwise than it was approved, and contracts on their way into the registry."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from bascule.admin.api.reviews import READ
from bascule.admin.registry import ASPECTS, DECISIONS
from bascule.admin.reviews import STATES, WRITE, AlreadyDecided, NoSuchReview
from bascule.console.page import ROOT, Missing, Page, View, get, post
from bascule.console.paging import number_of, numbered
from bascule.errors import InvalidParams, ScopeDenied
from bascule.policy.approvals import seen
from bascule.store.contracts import NoSuchContract, NotAllowed

if TYPE_CHECKING:
    from bascule.app import Gateway

_HERE: Final = f"{ROOT}/reviews"
_PER_PAGE: Final = 50
_MOST: Final = 1000
_WATCHED: Final = 200
_CODE: Final = re.compile(r"(\\u\{[0-9a-f]+\})")  # how what cannot be seen is spelt out (policy/template.py)
_STATES: Final = [("", "any"), ("pending", "waiting"), ("approved", "approved"), ("denied", "denied")]


def marked(text: str) -> Sequence[tuple[bool, str]]:
    """(whether it stands for a character that cannot be seen, a part) of *text*."""
    return [(bool(_CODE.fullmatch(part)), part) for part in _CODE.split(text) if part]


# ---- lists


async def waiting(view: View) -> Response:
    server, number = view.query.get("server", "").strip(), number_of(view.query.get("page", "1"))
    said = {"state": "pending", **({"server": server} if server else {})}
    shown, pages = await _page_of(view, said, {"server": server}, _HERE, number)
    contracts = (await view.perform("registry.list", status="in_review"))["contracts"] if number == 1 else []
    context: dict[str, Any] = {
        "reviews": shown,
        "contracts": [] if server else contracts,
        "server": server,
        "needed": _needed(view),
        "pages": pages,
        "marked": marked,
        "address": numbered(_HERE, {"server": server}, number),
    }
    if view.is_part:
        return view.part("reviews_list.html", **context)
    return view.page("reviews.html", **context)


async def everything(view: View) -> Response:
    """All definitions: also what was taken at first sight."""
    asked = {name: view.query.get(name, "").strip() for name in ("state", "server")}
    number = number_of(view.query.get("page", "1"))
    state = asked["state"] if asked["state"] in STATES else "all"
    said = {"state": state, **({"server": asked["server"]} if asked["server"] else {})}
    shown, pages = await _page_of(view, said, asked, f"{_HERE}/all", number)
    context: dict[str, Any] = {
        "reviews": shown,
        "asked": asked,
        "states": _STATES,
        "pages": pages,
        "marked": marked,
        "address": numbered(f"{_HERE}/all", asked, number),
    }
    if view.is_part:
        return view.part("reviews_all_list.html", **context)
    return view.page("reviews_all.html", title="Reviews: all definitions", **context)


async def _page_of(
    view: View, said: Mapping[str, str], asked: Mapping[str, str], path: str, number: int
) -> tuple[Sequence[Mapping[str, Any]], tuple[str, str, str]]:
    """(the definitions of a page, what stands below them)."""
    first = (number - 1) * _PER_PAGE
    found = (await view.perform("reviews.list", **said, most=min(first + _PER_PAGE + 1, _MOST)))["reviews"]
    shown = found[first : first + _PER_PAGE]
    newer = numbered(path, asked, number - 1) if number > 1 else ""
    older = numbered(path, asked, number + 1) if len(found) > first + _PER_PAGE else ""
    numbers = f"{first + 1} to {first + len(shown)}" if newer or older else ""
    return shown, (newer, older, numbers)


async def history(view: View) -> Response:
    """Every wording of one thing that is kept."""
    tool, kind = view.query.get("tool", ""), view.query.get("kind", "tool")
    try:
        found = await view.perform("reviews.history", tool=tool, kind=kind)
    except NoSuchReview as error:
        raise Missing(error.message) from None
    return view.page("reviews_history.html", title=f"Definitions of {tool}", tool=tool, wordings=found["definitions"],
                     marked=marked)  # fmt: skip


# ---- one definition


async def show(view: View) -> Response:
    id = view.path["id"]
    try:
        found = await view.perform("reviews.show", id=id)
    except NoSuchReview as error:
        raise Missing(error.message) from None
    before = found["approved"]
    said: dict[str, Any] = {
        "review": found,
        "differences": [_sides(each) for each in found["differences"]],
        "description": seen(str(found["definition"].get("description", ""))),
        "aspects": [_aspect(view, each, found) for each in _needed(view) or ("",)],
        "before": before,
        "marked": marked,
    }
    if view.is_part:
        return view.part("reviews_decision.html", **said)
    return view.page("reviews_show.html", title=found["tool"], **said)


def _needed(view: View) -> Sequence[str]:
    return view.gateway.config.registry.sign_offs


def _sides(difference: Mapping[str, Any]) -> Mapping[str, Any]:
    """A difference as two texts side by side, each with what is only in it."""
    words = difference["words"] or _whole(difference)
    return {
        "where": difference["where"],
        "before": None if difference["before"] is None else _together(words, "new"),
        "after": None if difference["after"] is None else _together(words, "gone"),
    }


def _together(words: Sequence[Sequence[str]], without: str) -> Sequence[tuple[str, str]]:
    """*words* without those of one kind; what changed stands together where nothing but space is between."""
    found: list[tuple[str, str]] = []
    for mark, text in words:
        if mark == without:
            continue
        if len(found) > 1 and found[-1][0] == "same" and not found[-1][1].strip() and found[-2][0] == mark:
            space, before = found.pop()[1], found.pop()[1]
            text = before + space + text
        elif found and found[-1][0] == mark:
            text = found.pop()[1] + text
        found.append((mark, text))
    return found


def _whole(difference: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    texts = (("gone", difference["before"]), ("new", difference["after"]))
    return [(mark, text) for mark, text in texts if text is not None]


def _aspect(view: View, aspect: str, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is said for *aspect*, and whether this person may say something."""
    said = next((each for each in found["sign_offs"] if each["aspect"] == aspect), None)
    others = [each for each in found["sign_offs"] if each["aspect"] != aspect]
    mine = f"caller:{view.caller.name}".casefold()
    return {
        "name": aspect,
        "said": said,
        "may": view.may(f"{WRITE}:{aspect}") if aspect else any(view.may(f"{WRITE}:{each}") for each in ASPECTS),
        "spoke": next((each["aspect"] for each in others if str(each["signer"]).casefold() == mine), ""),
    }


async def approve(view: View) -> Response:
    return await _decide(view, "approve")


async def deny(view: View) -> Response:
    return await _decide(view, "deny")


async def _decide(view: View, verb: str) -> Response:
    id, aspect = view.path["id"], view.form.get("aspect", "")
    said = {"note": view.form.get("note", "").strip(), **({"aspect": aspect} if aspect else {})}
    try:
        found = await view.perform(f"reviews.{verb}", id=id, **said)
    except (AlreadyDecided, InvalidParams, ScopeDenied) as error:
        return view.back(f"/reviews/{id}", f"Nothing was changed: {error.message}.", "warn")
    return view.back(f"/reviews/{id}", _done(found, verb, aspect))


def _done(found: Mapping[str, Any], verb: str, aspect: str) -> str:
    tool = found["tool"]
    if verb == "deny":
        return f"Denied. {tool} stays withheld as long as it is listed so."
    if found["missing"]:
        return f"Signed off for {aspect}. It still needs {' and '.join(found['missing'])}, by somebody else."
    return f"Approved. {tool} can be called as it is listed now."


# ---- contracts


async def contract(view: View) -> Response:
    """A version of a contract, for whoever signs it off."""
    said = {name: value for name in ("tool", "version", "kind") if (value := view.query.get(name, ""))}
    try:
        found = await view.perform("registry.show", **said)
    except NoSuchContract as error:
        raise Missing(error.message) from None
    signed = {**found, "sign_offs": found["signed"]}
    aspects = [_aspect(view, each, signed) for each in found["needs"] or ASPECTS]
    title = f"{found['id']} {found['version']}"
    return view.page("reviews_contract.html", title=title, contract=found, aspects=aspects, needed=found["needs"],
                     marked=marked)  # fmt: skip


async def sign(view: View) -> Response:
    said = {name: view.form.get(name, "") for name in ("tool", "version", "kind", "aspect", "decision")}
    path = "/reviews/contract?" + urlencode({name: said[name] for name in ("tool", "version", "kind")})
    if said["decision"] not in DECISIONS:
        raise InvalidParams("`decision` says what came of it")
    try:
        await view.perform("registry.sign", **said, note=view.form.get("note", "").strip())
    except (NotAllowed, InvalidParams, ScopeDenied) as error:
        return view.back(path, f"Nothing was changed: {error.message}.", "warn")
    what = "Signed off" if said["decision"] == "approved" else "Refused"
    return view.back(path, f"{what} for {said['aspect']}: {said['tool']} {said['version']}.")


# ---- what waits


def _pulse(gateway: "Gateway") -> Any:
    if gateway.records is None:
        return None
    read = gateway.records.writer.read
    return (
        read(f"SELECT id FROM definitions WHERE state = 'pending' ORDER BY seen_at_s DESC LIMIT {_WATCHED}"),
        read("SELECT kind, number FROM generations ORDER BY kind"),
        read("SELECT count(*), max(at_s) FROM sign_offs"),
        read("SELECT kind, thing, version FROM contracts WHERE status = 'in_review'"),
    )


def _badge(gateway: "Gateway") -> int:
    if gateway.records is None:
        return 0
    ((definitions, contracts),) = gateway.records.writer.read(
        "SELECT (SELECT count(*) FROM definitions WHERE state = 'pending'),"
        " (SELECT count(*) FROM contracts WHERE status = 'in_review')"
    )
    return int(definitions) + int(contracts)


PAGE: Final = Page(
    name="reviews",
    title="Reviews",
    icon="reviews",
    scopes=READ,
    routes=(
        get("/reviews", waiting),
        get("/reviews/all", everything),
        get("/reviews/history", history),
        get("/reviews/contract", contract),
        post("/reviews/contract", sign),
        get("/reviews/{id}", show),
        post("/reviews/{id}/approve", approve),
        post("/reviews/{id}/deny", deny),
    ),
    pulse=_pulse,
    badge=_badge,
)
