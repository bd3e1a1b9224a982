"""One tool: what holds for it, its versions and definitions, how it is used, and a form to try it with."""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from starlette.responses import Response

from bascule.admin import catalog, tryout
from bascule.admin.approvals import READ
from bascule.admin.catalog import Entry
from bascule.config import identifies
from bascule.console import schema_form
from bascule.console.page import ROOT, At, Missing, View, get, post
from bascule.console.schema_form import Field, Filled
from bascule.console.snippets import Snippet
from bascule.errors import BasculeError
from bascule.policy.approvals import seen

TABS: Final = {
    "": "Overview",
    "try": "Try it",
    "contract": "Contract",
    "versions": "Versions",
    "definition": "Definition",
    "calls": "Last calls",
}
_ARGUMENT: Final = "arg:"  # before the place of a field, in the names of a form
_JSON: Final = "json"  # the field for all arguments
_MOST_SHOWN: Final = 40_000  # characters of a result
_MOST_ABOUT: Final = 5_000  # of a description
_MOST_CODE: Final = 20_000  # of a command; what is longer nobody copies
_SCHEMAS: Final = (
    ("Arguments", "input_schema", "There is no schema."),
    ("Results", "output_schema", "There is no schema: results may be anything."),
)
_PATIENCE_MS: Final = 200  # for figures
_GOOD: Final = frozenset({"answered", "completed"})


# ---- looking -------------------------------------------------------------------------------------


async def show(view: View) -> Response:
    tab = view.query.get("tab", "")
    if tab not in TABS:
        raise Missing(f"there is no {tab[:40]!r} of a tool")
    if tab == "try":
        version = view.query.get("version", "")
        return _page(view, tab, _try_said(view, _entry(view, version), _Draft(key=_new_key(), version=version)))
    calls = catalog.LAST_CALLS if tab == "calls" else 0  # to find those takes long where there are many of others
    found = await view.perform("catalog.tool", tool=view.path["id"], calls=calls, patience_ms=_PATIENCE_MS)
    schemas = [(title, _schema(found[name]), empty) for title, name, empty in _SCHEMAS]
    about = found["description"]
    said = {**found, "description": about if len(about) <= _MOST_ABOUT else f"{about[:_MOST_ABOUT]} …"}
    return _page(view, tab, {"tool": said, "mark_of": _mark_of, "schemas": schemas})


def _schema(schema: Any) -> str:
    return "" if schema is None else _cut(_pretty(schema))


def _page(view: View, tab: str, said: Mapping[str, Any], status: int = 200) -> Response:
    id = view.path["id"]
    here = path_of(id)
    tabs = [(word, f"{here}?{urlencode({'tab': name})}" if name else here, name == tab) for name, word in TABS.items()]
    return view.page(
        f"tool_{tab or 'overview'}.html", title=seen(id), status=status, id=id, here=here, tabs=tabs, seen=seen, **said
    )


def path_of(id: str) -> str:
    """The address of a tool's page: logical ids may hold anything."""
    return f"{ROOT}/tools/{quote(id, safe='/')}"


def _entry(view: View, version: str) -> Entry:
    found = catalog.entry(view.gateway, view.path["id"])
    if found is None:
        raise Missing(f"no server is known to list the tool {view.path['id']!r}")
    return catalog.of_version(view.gateway, found, version)


def _mark_of(outcome: str) -> str:
    """The kind of badge of a call's outcome."""
    return "ok" if outcome in _GOOD else "warn" if outcome in ("confirmation_required", "cancelled") else "bad"


# ---- trying --------------------------------------------------------------------------------------


class _Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A try, as somebody has written it so far."""

    key: str
    texts: Mapping[str, Sequence[str]] = {}  # by the place of a field
    as_json: bool = False
    version: str = ""
    token: str = ""
    is_sure: bool = False


def _new_key() -> str:
    return f"try-{secrets.token_hex(12)}"


async def attempt(view: View) -> Response:
    """What the form of a try is posted to: a call, or another look at the same form."""
    draft = _draft_of(view)
    entry = _entry(view, draft.version)
    form = _form(entry, draft)
    match view.form.get("do", "call"):
        case "json" | "form":
            return _page(view, "try", _switched(view, entry, draft))
        case "code":
            filled = schema_form.filled(form, draft.texts, complete=False)
            return _page(view, "try", _try_said(view, entry, draft, filled), 422 if filled.wrong else 200)
    filled = schema_form.filled(form, draft.texts)
    wrong = dict(filled.wrong)
    if entry.contract.side_effect and not draft.is_sure:
        wrong["sure"] = "tick it: the call changes something"
    if wrong:
        return _page(view, "try", _try_said(view, entry, draft, Filled(filled.value, wrong)), 422)
    return await _called(view, entry, draft, filled)


async def _called(view: View, entry: Entry, draft: _Draft, filled: Filled) -> Response:
    said: dict[str, str] = {
        "version": draft.version,
        "confirmation_token": draft.token,
        "idempotency_key": draft.key if entry.contract.side_effect else "",
    }
    try:
        found = await view.perform(
            "tools.call", tool=entry.id, arguments=filled.value, **{name: text for name, text in said.items() if text}
        )
    except BasculeError as error:
        return _page(view, "try", _try_said(view, entry, draft, filled, refused=error.message), 422)
    # What waits for a person is the same call when it is sent again; anything else is a new one.
    waits = found["outcome"] == "needs_confirmation"
    after = draft if waits else msgspec.structs.replace(draft, key=_new_key(), token="", is_sure=False)
    wrong = schema_form.placed(_form(entry, draft), _problems(found))
    came = {**_came(found), "question": await _question(view, found) if waits else ""}
    return _page(view, "try", _try_said(view, entry, after, Filled(filled.value, wrong), came=came))


async def _question(view: View, found: Mapping[str, Any]) -> str:
    """What somebody is asked before the call may go."""
    token = _details(found["error"]).get("confirmation_token")
    if not token or not view.may(READ):
        return ""
    said: str = (await view.perform("approvals.show", id=token))["question"]
    return said


def _problems(found: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    error = found["error"] or {}
    problems = _details(error).get("problems")
    if error.get("kind") != "invalid_argument" or not isinstance(problems, list):
        return ()
    return [each for each in problems if isinstance(each, dict)]


def _details(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of an error, which may be a server's own and hold anything."""
    found = error.get("details")
    return found if isinstance(found, dict) else {}


def _draft_of(view: View) -> _Draft:
    texts: dict[str, list[str]] = {}
    for name, value in view.forms:
        if name.startswith(_ARGUMENT):
            texts.setdefault(name.removeprefix(_ARGUMENT), []).append(value)
    as_json = view.form.get("as") == _JSON
    return _Draft(
        key=view.form.get("key") or _new_key(),
        texts={"": [view.form.get(_JSON, "")]} if as_json else texts,
        as_json=as_json,
        version=view.form.get("version", ""),
        token=view.form.get("token", "").strip(),
        is_sure="sure" in view.form,
    )


def _form(entry: Entry, draft: _Draft) -> Field:
    whole = Field(place="", kind="json", needed=True)
    return whole if draft.as_json else schema_form.form_of(entry.contract.input_schema)


def _switched(view: View, entry: Entry, draft: _Draft) -> dict[str, Any]:
    """The same arguments in the other way to write them, or where they are with what stands in the way."""
    filled = schema_form.filled(_form(entry, draft), draft.texts, complete=False)
    if filled.wrong:
        return _try_said(view, entry, draft, filled)
    if not draft.as_json:
        texts = {"": [json.dumps(filled.value, indent=2, ensure_ascii=False)]}
        return _try_said(view, entry, msgspec.structs.replace(draft, as_json=True, texts=texts))
    fields = schema_form.form_of(entry.contract.input_schema)
    found = schema_form.written(fields, filled.value)
    if found is None:
        wrong = {"": "the form has no place for all of this: it can only be said in JSON"}
        return _try_said(view, entry, draft, Filled(None, wrong))
    return _try_said(view, entry, msgspec.structs.replace(draft, as_json=False, texts=found))


def _try_said(
    view: View,
    entry: Entry,
    draft: _Draft,
    filled: Filled | None = None,
    *,
    came: Mapping[str, Any] | None = None,
    refused: str = "",
) -> dict[str, Any]:
    """What the page of a try is made of."""
    contract, choice, form = entry.contract, entry.way.choice, _form(entry, draft)
    wrong = {} if filled is None else filled.wrong
    return {
        "tool": catalog.card(entry, catalog.Figures()),
        "form": form,
        "draft": draft,
        "texts": draft.texts,
        "wrong": wrong,
        "can_be_form": schema_form.form_of(contract.input_schema).kind == "group",
        "versions": []
        if choice is None
        else [("", f"as calls go now ({choice.default.version})"), *_pairs(choice.said)],
        "lacking": tryout.lacking(view.gateway, view.caller, entry.way, entry.server),
        "came": came,
        "refused": refused,
        "snippets": _snippets(view, entry, draft, _arguments(form, draft, filled)),
        "has_own_credential": identifies(view.gateway.config),
    }


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return [(word, word) for word in words]


def _arguments(form: Field, draft: _Draft, filled: Filled | None) -> Mapping[str, Any]:
    """What the code calls the tool with: what is in the form, or something such as the schema asks for."""
    if filled is not None and isinstance(filled.value, dict):
        return filled.value
    found = schema_form.filled(form, draft.texts, complete=False).value if draft.texts else schema_form.sample(form)
    return found if isinstance(found, dict) else {}


def _snippets(view: View, entry: Entry, draft: _Draft, arguments: Mapping[str, Any]) -> Sequence[tuple[str, str, str]]:
    """(what it is, how its button says so, the text)."""
    base = view.gateway.config.http.public_url or str(view.request.base_url)
    snippet = Snippet(
        url=f"{base.rstrip('/')}/mcp",
        tool=entry.wire,
        arguments=arguments,
        version=draft.version,
        key=draft.key if entry.contract.side_effect else "",
        needs_credential=identifies(view.gateway.config),
        mirrored=entry.item.mirrored,
    )
    found = (
        ("curl", "Copy as curl", snippet.curl()),
        ("Python", "Copy as Python", snippet.python()),
        ("Client configuration", "Copy client JSON", snippet.client()),
    )
    return [each for each in found if len(each[2]) <= _MOST_CODE]


# ---- what came of it -----------------------------------------------------------------------------

_WORDS: Final = {
    "answered": ("ok", "It answered"),
    "failed": ("bad", "The tool ran, and says that it failed"),
    "asks": ("wait", "Its server asks for more, which only a client can answer"),
    "refused": ("bad", "The call was refused"),
    "needs_confirmation": ("wait", "A person has to confirm this call"),
}


def _came(found: Mapping[str, Any]) -> dict[str, Any]:
    """What came of a call, as a page shows it."""
    kind, word = _WORDS[found["outcome"]]
    result, error = found["result"], found["error"] or {}
    details = _details(error) if found["outcome"] == "needs_confirmation" else {}
    content = (result or {}).get("content")
    return {
        **found,
        "kind": kind,
        "word": word,
        "blocks": [_block(each) for each in content if isinstance(each, dict)] if isinstance(content, list) else [],
        "structured": _cut(_pretty(result["structuredContent"])) if "structuredContent" in (result or {}) else "",
        "whole": _cut(_pretty(result or error)),
        "message": error.get("message", ""),
        "token": details.get("confirmation_token", ""),
        "expires_at": details.get("expires_at"),
    }


def _block(block: Mapping[str, Any]) -> Mapping[str, str]:
    """One part of a result: text as it is, everything else in words."""
    match block.get("type"):
        case "text":
            return {"about": "", "text": _cut(str(block.get("text", "")))}
        case "image" | "audio" as kind:
            size = len(str(block.get("data", ""))) * 3 // 4
            return {"about": f"{kind}, {block.get('mimeType', 'of some kind')}, {size:,} bytes", "text": ""}
        case "resource_link":
            return {"about": f"a link to the resource {block.get('uri', '')}", "text": ""}
        case "resource":
            said = block.get("resource")
            inside: Mapping[str, Any] = said if isinstance(said, dict) else {}
            return {"about": f"the resource {inside.get('uri', '')}", "text": _cut(str(inside.get("text", "")))}
        case _:
            return {"about": "", "text": _cut(_pretty(block))}


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _cut(text: str) -> str:
    left = len(text) - _MOST_SHOWN
    said = seen(text[:_MOST_SHOWN])
    return said if left <= 0 else f"{said}\n… {left:,} more characters; take the code to see them all"


ROUTES: Final[Sequence[At]] = (get("/tools/{id:path}", show), post("/tools/{id:path}", attempt))
