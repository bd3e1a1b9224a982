"""Audit: the record of every call, searched, opened, exported, verified. What is looked for stands in the address."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec
from starlette.responses import Response, StreamingResponse

from bascule.admin.api.audit import READ, filters_of
from bascule.admin.audit import MOST_OF_TRACE, Filters, Log, csv_head, csv_row, escaped, report
from bascule.console.page import ROOT, Missing, Page, View, get, post
from bascule.console.paging import address
from bascule.errors import InvalidParams, Unavailable
from bascule.store.record import Kind

if TYPE_CHECKING:
    from bascule.app import Gateway

_HERE: Final = f"{ROOT}/audit"
_PER_PAGE: Final = 50
_EXPORTED_AT_ONCE: Final = 200  # entries in one piece of a download
_ASKED: Final = ("caller", "tool", "outcome", "decision", "kind", "trace", "since", "from", "until", "intents")
SPANS: Final = {"": "any", "15m": "last 15 min", "1h": "last hour", "24h": "last 24 h", "7d": "last 7 d"}
_KINDS: Final = [("", "any"), *((kind, kind.replace("_", " ")) for kind in get_args(Kind))]
_CALLS: Final = frozenset({"call", "intent", "outcome_recovered"})
_GOOD: Final = frozenset({"answered", "done", "approved", "signed", "first_sight", "never_ran", "published"})
_OPEN: Final = frozenset({"asked", "new", "changed", ""})
_FORMS: Final = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


async def search(view: View) -> Response:
    """A page of entries, the newest first."""
    asked = _asked(view)
    said: dict[str, Any] = {"asked": asked, "spans": SPANS, "kinds": _KINDS, "live": "live" in view.query}
    try:
        found = await view.perform("audit.search", **_said(asked), **_cursor(view), most=_PER_PAGE)
    except InvalidParams as error:
        return _answer(view, status=error.http if error.http > 400 else 422, wrong=error.message, **_nothing(), **said)
    rows = [_row(each) for each in found["entries"]]
    newer = "" if found["newer"] is None else address(_HERE, asked, after=found["newer"])
    older = "" if found["older"] is None else address(_HERE, asked, before=found["older"])
    numbers = f"Entries {rows[0]['seq']:,} to {rows[-1]['seq']:,}" if rows else ""
    chain = await view.perform("audit.verification")
    return _answer(
        view,
        rows=rows,
        pages=(newer, older, numbers),
        exports=[(form, address(f"{_HERE}/export", asked, format=form)) for form in _FORMS],
        chain=chain,
        wrong="",
        **said,
    )


def _nothing() -> Mapping[str, Any]:
    return {"rows": [], "pages": ("", "", ""), "exports": [], "chain": None}


def _answer(view: View, status: int = 200, **said: Any) -> Response:
    at = {"still": address(_HERE, said["asked"]), "moving": address(_HERE, said["asked"], live="1")}
    if view.is_part:
        return view.part("audit_list.html", status=status, **at, **said)
    return view.page("audit.html", status=status, **at, **said)


def _asked(view: View) -> dict[str, str]:
    return {name: view.query.get(name, "").strip() for name in _ASKED}


def _said(asked: Mapping[str, str]) -> dict[str, str]:
    """What the operation is asked: the times of the two fields count before the span."""
    said = {name: value for name, value in asked.items() if value and name not in ("from", "intents")}
    if asked["from"]:
        said["since"] = asked["from"]
    if asked["intents"]:
        said["intents"] = "true"
    return said


def _cursor(view: View) -> Mapping[str, str]:
    return {name: value for name in ("before", "after") if (value := view.query.get(name, ""))}


def _row(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """An entry as a table shows it; whatever clients have made up can be seen."""
    entry = found["entry"]

    def text(name: str) -> str:
        return escaped(str(entry.get(name, "")))

    kind, outcome = text("kind"), text("outcome")
    return {
        "seq": found["seq"],
        "time": found["time"],
        "date": found["time"][:10],
        "clock": found["time"][11:-1],
        "kind": kind,
        "caller": text("caller") or text("approved_by"),
        # Of a call it is what was called; of anything else, what was done comes first.
        "thing": text("thing") if kind in _CALLS and entry.get("thing") else text("method") or text("thing"),
        "about": text("thing") if kind not in _CALLS and entry.get("method") else "",
        "method": text("method") if entry.get("thing") else "",
        "outcome": outcome or ("no end is known" if found["endless"] else "begun"),
        "mark": "warn" if found["endless"] else _mark(entry, outcome),
        "decision": text("decision"),
        "trace": entry.get("trace_id", ""),
        "note": text("note"),
        "took_s": entry["took_us"] / 1e6 if isinstance(entry.get("took_us"), int) else None,
    }


def _mark(entry: Mapping[str, Any], outcome: str) -> str:
    if entry.get("kind") == "damaged" or entry.get("decision") == "deny":
        return "bad"
    if outcome in _GOOD:
        return "ok"
    return "off" if outcome in _OPEN else "warn"


# ---- one entry, one trace


async def entry(view: View) -> Response:
    found = await view.perform("audit.entry", id=view.path["seq"])
    title = f"Entry {found['seq']:,}"
    return view.page("audit_entry.html", title=title, row=_row(found), found=found, fields=_fields(found))


def _fields(found: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    return [(name, escaped(str(value))) for name, value in sorted(found["entry"].items())]


async def trace(view: View) -> Response:
    """All that is on record of a trace: calls that one has caused, questions, decisions."""
    id = view.path["id"]
    try:
        found = await view.perform("audit.trace", id=id)
    except Missing:
        raise Missing("no entry has this trace; it may be of another gateway, or too new by a moment") from None
    entries = found["entries"]
    said: dict[str, Any] = {"id": id, "steps": _steps(entries), "is_cut": len(entries) == MOST_OF_TRACE}
    return view.page("audit_trace.html", title="Trace", **said)


def _steps(entries: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The rows of a trace, each with where it lies between the first moment and the last, in parts of one."""
    rows = [_row(each) for each in entries]
    ends = [_number(each["entry"].get("at_us")) for each in entries]
    begins = [end - _number(each["entry"].get("took_us")) for end, each in zip(ends, entries, strict=True)]
    first, whole = min(begins), max(1, max(ends) - min(begins))
    return [
        {**row, "after_s": (begin - first) / 1e6, "from": (begin - first) / whole, "part": (end - begin) / whole}
        for row, begin, end in zip(rows, begins, ends, strict=True)
    ]


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


# ---- verifying


async def verification(view: View) -> Response:
    chain = await view.perform("audit.verification")
    if view.is_part:
        return view.part("audit_verdict.html", chain=chain)
    return view.page("audit_verify.html", title="Verify the audit", chain=chain)


async def verify(view: View) -> Response:
    await view.perform("audit.verify")
    return view.back("/audit/verify")


# ---- downloads


async def export(view: View) -> Response:
    """All that fits, the oldest first, as a file. It is read while it is sent."""
    form = view.query.get("format", "jsonl")
    if form not in _FORMS:
        raise InvalidParams(f"`format` is one of {', '.join(_FORMS)}")
    records = view.gateway.records
    if records is None:
        raise Unavailable("nothing is recorded here: the operator has to set state_dir")
    filters = filters_of({name: value for name, value in _said(_asked(view)).items() if name != "intents"}, time.time())
    name = time.strftime(f"audit-%Y%m%d-%H%M%S.{form}", time.gmtime())
    log = await asyncio.to_thread(Log, records.state, any_thread=True)
    return StreamingResponse(
        _pieces(log, filters, form),
        media_type=_FORMS[form],
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


async def _pieces(log: Log, filters: Filters, form: str) -> AsyncIterator[bytes]:
    pieces = _texts(log, filters, form)
    reading: asyncio.Future[bytes] | None = None
    try:
        while True:
            reading = asyncio.ensure_future(asyncio.to_thread(next, pieces, b""))
            if not (piece := await asyncio.shield(reading)):
                return
            yield piece
    finally:
        if reading is not None:
            await asyncio.wait([reading])  # whoever downloads may have gone; the thread may read yet
        log.close()


def _texts(log: Log, filters: Filters, form: str) -> Iterator[bytes]:
    """The file, piece by piece. None of them is empty."""
    lines = [csv_head()] if form == "csv" else []
    for each in log.everything(filters):
        lines.append(csv_row(each) if form == "csv" else msgspec.json.encode(report(each)).decode())
        if len(lines) >= _EXPORTED_AT_ONCE:
            yield _joined(lines, form)
            lines = []
    if lines:
        yield _joined(lines, form)


def _joined(lines: Sequence[str], form: str) -> bytes:
    end = "\r\n" if form == "csv" else "\n"  # RFC 4180
    return "".join(f"{line}{end}" for line in lines).encode(errors="replace")


def _pulse(gateway: "Gateway") -> Any:
    if gateway.records is None:
        return None
    return gateway.records.writer.read("SELECT max(seq) FROM audit")


PAGE: Final = Page(
    name="audit",
    title="Audit",
    icon="audit",
    scopes=READ,
    routes=(
        get("/audit", search),
        get("/audit/export", export),
        get("/audit/verify", verification),
        post("/audit/verify", verify),
        get("/audit/trace/{id}", trace),
        get("/audit/{seq}", entry),
    ),
    pulse=_pulse,
)
