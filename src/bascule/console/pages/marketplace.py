"""The marketplace: tools to search through, and to choose among by what they do, cost and promise."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from bascule.admin.catalog import Wanted
from bascule.console.page import ROOT, Page, View, get
from bascule.console.pages import tool
from bascule.policy.approvals import seen

PATH: Final = f"{ROOT}/marketplace"
_ASKED: Final = Wanted.__struct_fields__
PATIENCE_MS: Final = (
    150  # for figures: a page without them is better than none, and they are loaded when they are there
)
LONGER_MS: Final = 5000  # of one that is in their order
_COSTS: Final = (
    ("", "any"),
    ("free", "free"),
    ("priced", "priced"),
    ("to_0.01", "up to 1 ¢"),
    ("to_0.1", "1 to 10 ¢"),
    ("to_1", "10 ¢ to $1"),
    ("over_1", "over $1"),
)
_LEVELS: Final = (("", "any"), ("LOW", "low"), ("MEDIUM", "medium"), ("HIGH", "high"), ("none", "not said"))
_STATUSES: Final = (
    ("", "any"),
    ("active", "active"),
    ("deprecated", "deprecated"),
    ("withheld", "withheld"),
    ("gone", "gone"),
)
_EFFECTS: Final = (("", "any"), ("reads", "reads only"), ("writes", "has side effects"))
_SORTS: Final = (
    ("name", "name"),
    ("calls", "most called"),
    ("cost", "dearest"),
    ("slow", "slowest"),
    ("errors", "most errors"),
)


async def show(view: View) -> Response:
    wanted = {name: view.query[name] for name in _ASKED if view.query.get(name)}
    number = view.query.get("page", "1")
    found = await view.perform(
        "catalog.search",
        **wanted,
        page=number if number.isdecimal() and number != "0" else "1",
        patience_ms=LONGER_MS if wanted.get("sort", "name") != "name" else PATIENCE_MS,
    )
    said = {
        "found": found,
        "seen": seen,
        "wanted": {name: wanted.get(name, "") for name in _ASKED},
        "is_narrowed": any(name != "sort" for name in wanted),
        "again": _url(wanted, found["page"]),
        "before": _url(wanted, found["page"] - 1) if found["page"] > 1 else "",
        "after": _url(wanted, found["page"] + 1) if found["page"] < found["pages"] else "",
    }
    if view.is_part:
        return view.part("marketplace_found.html", **said)
    return view.page("marketplace.html", **said, fields=_fields(found["choices"]))


def _fields(choices: Mapping[str, Sequence[str]]) -> Sequence[tuple[str, str, Sequence[tuple[str, str]]]]:
    """(name, label, options) of what can be chosen beside the words."""
    names: dict[str, Any] = {name: [("", "any"), *((each, each) for each in said)] for name, said in choices.items()}
    return (
        ("verb", "Function", names["verb"]),
        ("server", "Namespace", names["server"]),
        ("team", "Team", names["team"]),
        ("cost", "Price of a call", _COSTS),
        ("level", "Security", _LEVELS),
        ("status", "Status", _STATUSES),
        ("effect", "Effect", _EFFECTS),
        ("sort", "Order by", _SORTS),
    )


def _url(wanted: Mapping[str, str], page: int) -> str:
    return f"{PATH}?{urlencode({**wanted, 'page': page})}"


PAGE: Final = Page(
    name="marketplace",
    title="Marketplace",
    icon="marketplace",
    routes=(get("/marketplace", show), *tool.ROUTES),
)
