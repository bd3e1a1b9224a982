"""Cost and budgets: what was spent in a month and by whom, what is left, and the list to charge it by."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from bascule.admin import usage
from bascule.console.page import ROOT, Page, View, get
from bascule.errors import InvalidParams, Unavailable
from bascule.policy.approvals import seen

_HERE: Final = f"{ROOT}/cost"
_MONTHS: Final = 13  # to choose from: a year, and the month that it is compared with
_ROWS: Final = 50  # of a page
_BY: Final = {"caller": "Callers", "team": "Teams", "tool": "Tools", "version": "Versions"}


async def show(view: View) -> Response:
    months = _months(time.time())
    month, by = view.query.get("month") or months[0], view.query.get("by", "caller")
    if by not in _BY:
        raise InvalidParams(f"costs are added up by {', '.join(_BY)}")
    try:
        found = await view.perform("cost.totals", month=month, by=by)
    except Unavailable as error:
        return view.page("cost.html", counted=False, why=error.message)
    budgets = (await view.perform("cost.budgets"))["budgets"]
    number, pages = _number(view.query.get("page", "1"), len(found["rows"]))
    rows = found["rows"][(number - 1) * _ROWS : number * _ROWS]
    return view.page(
        "cost.html",
        counted=True,
        found=found,
        seen=seen,
        rows=rows,
        first=(number - 1) * _ROWS + 1,
        before=_url(month, by, number - 1) if number > 1 else "",
        after=_url(month, by, number + 1) if number < pages else "",
        budgets=budgets,
        month=month,
        months=[(each, _named(each)) for each in (months if month in months else (month, *months))],
        by=by,
        tabs=[(word, _url(month, name), name == by) for name, word in _BY.items()],
        largest=max((each["cost_usd"] for each in found["rows"]), default=0.0),
    )


async def download(view: View) -> Response:
    """The charge-back of a month, for a spreadsheet."""
    found = await view.perform("usage.chargeback", month=view.query.get("month") or _months(time.time())[0])
    headers = {"content-disposition": f'attachment; filename="bascule-charge-back-{found["month"]}.csv"'}
    return Response(usage.charge_back_csv(found["rows"]), media_type="text/csv; charset=utf-8", headers=headers)


def _months(now_s: float) -> Sequence[str]:
    """The last months, YYYY-MM, the present one first."""
    now = datetime.fromtimestamp(now_s, UTC)
    numbers = [now.year * 12 + now.month - 1 - ago for ago in range(_MONTHS)]
    return [f"{number // 12:04}-{number % 12 + 1:02}" for number in numbers]


def _named(month: str) -> str:
    return datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).strftime("%B %Y")


def _url(month: str, by: str, page: int = 1) -> str:
    said: dict[str, Any] = {"month": month, "by": by} | ({"page": page} if page > 1 else {})
    return f"{_HERE}?{urlencode(said)}"


def _number(said: str, rows: int) -> tuple[int, int]:
    """(the page that is meant, how many there are)."""
    pages = max(1, -(-rows // _ROWS))
    return min(max(1, int(said)) if said.isdecimal() and len(said) < 9 else 1, pages), pages


PAGE: Final = Page(
    name="cost",
    title="Cost & budgets",
    icon="cost",
    routes=(get("/cost", show), get("/cost/charge-back.csv", download)),
)
