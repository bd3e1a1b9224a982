"""From one era to the other, message by message: what both can say, and honestly what only one can. PURE.

*To legacy* is the way of a stateless client's request to a server with a handshake, *to modern* the
way of a session's request to a stateless server; results and errors come back the other way.
Source: MCP 2026-07-28, "Key Changes"; MCP 2025-11-25, "Elicitation"; docs/protocol.md, "Crossing eras".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from bascule.errors import InvalidParams
from bascule.wire import jsonrpc, legacy, modern
from bascule.wire.jsonrpc import NOTHING, Params
from bascule.wire.versions import LATEST_MODERN, MODERN_VERSIONS, Revision

ELICIT: Final = "elicitation/create"
# Only these may be answered with questions (MCP 2026-07-28, "Multi Round-Trip Requests").
MAY_ASK: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
# Complete results of these say how long they may be kept (MCP 2026-07-28, "Caching").
_CACHEABLE: Final = frozenset(
    {modern.DISCOVER, "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"}
)
_STATELESS_META: Final = frozenset(
    {modern.PROTOCOL_VERSION, modern.CLIENT_INFO, modern.CLIENT_CAPABILITIES, modern.LOG_LEVEL}
)
_ONLY_MODERN: Final = frozenset({"resultType", "ttlMs", "cacheScope"})  # members of results
_RESERVED_IN_MODERN: Final = range(-32099, -32019)
_NOT_FOUND: Final = -32002  # of a resource, until 2025-11-25
_URL_NEEDED: Final = -32042  # until 2025-11-25: the call works once somebody has visited a URL
CAPABILITY_MISSING: Final = -32021
_INVALID_PARAMS: Final = -32602
_INTERNAL: Final = -32603
_TRUE: Final = Raw(b"true")

CALL_META: Final = "dev.bascule/call"  # what Bascule says of a call; here, its warnings
_NOT_THE_SERVERS: Final = frozenset({CALL_META, modern.SERVER_INFO})  # what is said elsewhere, or is ours to say


class Question(msgspec.Struct, frozen=True):
    """What a server wants to know of its client in the middle of a call."""

    method: str
    params: Params


class InputRequired(msgspec.Struct, frozen=True):
    """A stateless server's result that is no answer yet; at least one of the two has something."""

    questions: Mapping[str, Question]
    state: Raw | None


# ---- a stateless client's request, for a server with a handshake


def to_legacy(params: Params) -> dict[str, Raw]:
    """*params* without what only the stateless protocol knows; vendor and trace keys of `_meta` stay."""
    kept = {key: value for key, value in params.items() if key not in ("inputResponses", "requestState")}
    meta = {key: value for key, value in modern.meta_of(params).items() if key not in _STATELESS_META}
    return _with_meta(kept, meta)


def capabilities_for_legacy(declared: Mapping[str, Any]) -> dict[str, Any]:
    """A stateless client's capabilities, for a handshake on its behalf. Extensions did not exist."""
    return {key: value for key, value in declared.items() if key != "extensions"}


def result_for_modern(method: str, result: Raw, server: Raw | None = None) -> Raw:
    """A legacy server's result as a stateless client expects it; *server* is the server's own description."""
    members: dict[str, Any] = {**jsonrpc.members(result), "resultType": "complete"}
    if method == "tools/list" and b'"taskSupport"' in bytes(result):
        members = _without_tasks(members)
    if method in _CACHEABLE:
        # An old server gives no hint, so nothing may be kept.
        members |= {"ttlMs": 0, "cacheScope": "private"}
    if server:
        members["_meta"] = {**modern.meta_of(members), modern.SERVER_INFO: server}
    return jsonrpc.encode(members)


def _without_tasks(members: Mapping[str, Any]) -> dict[str, Any]:
    """A list of tools without those that run as tasks of 2025-11-25 only: every call of one would fail."""
    tools = jsonrpc.items(members.get("tools", Raw(b"[]")))
    kept = [tool for tool in tools if not _needs_task(tool)]
    if len(kept) == len(tools):
        return dict(members)
    names = [jsonrpc.text(jsonrpc.members(tool).get("name")) or "?" for tool in tools if tool not in kept]
    warnings = [f"tool {name} was left out: it runs as a task of 2025-11-25 only" for name in names]
    meta = {**modern.meta_of(members), CALL_META: {"warnings": warnings}}
    return jsonrpc.replaced(members, tools=kept, meta_=meta)


def _needs_task(tool: Raw) -> bool:
    execution = _members_or_none(_members_or_none(tool).get("execution", NOTHING))
    return jsonrpc.text(execution.get("taskSupport")) == "required"


def error_for_modern(error: Raw) -> Raw:
    """A legacy server's error with a code that still means the same."""
    code = modern.error_code(error)
    if code == _NOT_FOUND:
        return _recoded(error, _INVALID_PARAMS)
    return _recoded(error, _INTERNAL) if code in _RESERVED_IN_MODERN else error


def discovered(greeting: Raw) -> Raw:
    """The DiscoverResult that says what an InitializeResult says."""
    members = jsonrpc.members(greeting)
    offered = jsonrpc.value_of(members.get("capabilities"), dict) or {}
    found: dict[str, Any] = {
        "supportedVersions": MODERN_VERSIONS,
        # Tasks are an extension now, and another protocol (SEP-2663): what the server has is out of reach.
        "capabilities": {key: value for key, value in offered.items() if key != "tasks"},
    }
    if "instructions" in members:
        found["instructions"] = members["instructions"]
    return result_for_modern(modern.DISCOVER, jsonrpc.encode(found), members.get("serverInfo"))


def urls_needed(error: Raw) -> list[Question]:
    """The URLs that somebody has to visit before the call works (MCP 2025-11-25, "URL Elicitation Required")."""
    if modern.error_code(error) != _URL_NEEDED:
        return []
    try:
        found = jsonrpc.members(jsonrpc.members(error)["data"])["elicitations"]
        wanted = [jsonrpc.members(raw) for raw in jsonrpc.items(found)]
    except (KeyError, InvalidParams):
        return []
    return [question_for_modern(ELICIT, params) for params in wanted]


def question_for_modern(method: str, params: Params) -> Question:
    """A legacy server's request to its client, as a stateless client is asked it."""
    # The id served a notification that is gone (SEP-2322); a question is no task and reports no progress.
    kept = {key: value for key, value in params.items() if key not in ("elicitationId", "task")}
    meta = {key: value for key, value in modern.meta_of(params).items() if key != "progressToken"}
    return Question(method, _with_meta(kept, meta))


def capability_missing(needed: Mapping[str, Any]) -> Raw:
    """The error for a client that did not declare what its call *needed* (MissingRequiredClientCapabilityError)."""
    return jsonrpc.encode({
        "code": CAPABILITY_MISSING,
        "message": f"the server needs a client with {' and '.join(needed)} for this call",
        "data": {"requiredCapabilities": needed},
    })  # fmt: skip


def failed(result: Raw) -> bool:
    """Whether a tool's result says that the tool failed."""
    return b'"isError"' in bytes(result) and jsonrpc.members(result).get("isError") == _TRUE


def input_required(questions: Mapping[str, Question], state: str) -> Raw:
    """The result that puts *questions* to a stateless client."""
    asked = {
        key: {"method": each.method, **({"params": each.params} if each.params else {})}
        for key, each in questions.items()
    }
    return jsonrpc.encode({"resultType": "input_required", "inputRequests": asked, "requestState": state})


# ---- a session's request, for a stateless server


def to_modern(params: Params, *, info: Raw, capabilities: Mapping[str, Any], level: str | None) -> dict[str, Raw]:
    """*params* with the metadata that a stateless request carries; *level* is the least that is logged."""
    meta: dict[str, Any] = {
        **modern.meta_of(params),
        modern.PROTOCOL_VERSION: LATEST_MODERN.version,
        modern.CLIENT_INFO: info,
        modern.CLIENT_CAPABILITIES: capabilities,
    }
    if level is not None:
        meta[modern.LOG_LEVEL] = level
    # A server without tasks runs a call that asks for one like any other (MCP 2025-11-25, "Tasks").
    return jsonrpc.replaced({key: value for key, value in params.items() if key != "task"}, meta_=meta)


def capabilities_for_modern(declared: Mapping[str, Any], revision: Revision) -> dict[str, Any]:
    """What a session's client can be asked, in the words of a stateless request."""
    able = {key: declared[key] for key in ("experimental", "sampling", "elicitation") if key in declared}
    if "roots" in declared:
        able["roots"] = {}  # that they change is nothing that a stateless server could hear
    if isinstance(able.get("elicitation"), dict) and not revision.elicits_url:
        able["elicitation"] = {key: value for key, value in able["elicitation"].items() if key != "url"}
    return able


def greeting(discovered: Raw, revision: Revision, name: str) -> Raw:
    """The InitializeResult that says what a DiscoverResult says; *name* is for a server that says none."""
    members = jsonrpc.members(discovered)
    offered = jsonrpc.value_of(members.get("capabilities"), dict) or {}
    info = modern.server_info(members)
    said: dict[str, Any] = {
        "protocolVersion": revision.version,
        "capabilities": {key: value for key, value in offered.items() if key != "extensions"},
        "serverInfo": {"name": name, "version": "", **info},
    }
    if "instructions" in members:
        said["instructions"] = members["instructions"]
    return jsonrpc.encode(said)


def asks_for_input(result: Raw) -> InputRequired | None:
    """What a stateless server's *result* asks for; None if it is an answer. Raises InvalidParams if it is neither."""
    if b"input_required" not in bytes(result):
        return None
    members = jsonrpc.members(result)
    if jsonrpc.text(members.get("resultType")) != "input_required":
        return None
    asked = jsonrpc.members(members["inputRequests"]) if "inputRequests" in members else {}
    state = members.get("requestState")
    if not asked and state is None:
        raise InvalidParams("input_required without inputRequests or requestState")
    return InputRequired({key: _question(raw) for key, raw in asked.items()}, state)


def _question(raw: Raw) -> Question:
    members = jsonrpc.members(raw)
    method = jsonrpc.text(members.get("method"))
    if method not in legacy.ASKS:
        raise InvalidParams(f"an input request for {method!r}")
    return Question(method, jsonrpc.members(members["params"]) if "params" in members else {})


def question_for_legacy(question: Question, mint: str) -> Params:
    """The parameters of a request to a session's client; *mint* is the id of a URL elicitation."""
    if question.method == ELICIT and jsonrpc.text(question.params.get("mode")) == "url":
        return {**question.params, "elicitationId": jsonrpc.encode(mint)}
    return question.params


def dropped_for_modern(params: Params) -> list[str]:
    """What of a session's request a stateless server does not get, in words for its warnings."""
    return ["the call did not become a task: across the eras there are none"] if "task" in params else []


def result_for_legacy(method: str, result: Raw, revision: Revision, dropped: Sequence[str] = ()) -> Raw:
    """A stateless server's result as a client of *revision* expects it.

    What it cannot carry stands in its warnings, after what was *dropped* of the request.
    """
    members = {key: value for key, value in jsonrpc.members(result).items() if key not in _ONLY_MODERN}
    meta: dict[str, Any] = {k: v for k, v in modern.meta_of(members).items() if k not in _NOT_THE_SERVERS}
    warnings = list(dropped)
    match method:
        case "tools/call":
            members = _fit_structured(_fit_content(members, "content", revision, warnings), warnings)
        case "prompts/get":
            members = _fit_messages(members, revision, warnings)
        case "tools/list":
            members = _fit_tools(members, warnings)
        case _:
            pass  # the same in every revision
    if warnings:
        meta[CALL_META] = {"warnings": warnings}
    return jsonrpc.encode(_with_meta(members, meta))


def warnings_in(result: Raw) -> tuple[str, ...]:
    """What `result_for_legacy` has to say beside the result that it made."""
    if CALL_META.encode() not in bytes(result):
        return ()
    said = jsonrpc.value_of(modern.meta_of(jsonrpc.members(result)).get(CALL_META), dict) or {}
    return tuple(said.get("warnings", ()))


def error_for_legacy(method: str, error: Raw) -> Raw:
    """A stateless server's error with a code that a session's client knows."""
    code = modern.error_code(error)
    if code == _INVALID_PARAMS and method == "resources/read" and b'"uri"' in bytes(error):
        return _recoded(error, _NOT_FOUND)
    if code == CAPABILITY_MISSING:  # what the client did not declare, it cannot declare now
        return _recoded(error, _INVALID_PARAMS)
    return _recoded(error, _INTERNAL) if code in modern.ERROR_CODES else error


# ---- what a revision cannot carry


def _fit_structured(members: Params, warnings: list[str]) -> dict[str, Raw]:
    """Structured content is an object for a session's client; anything else stays as text."""
    fitting = dict(members)
    found = fitting.get("structuredContent")
    if found is None or bytes(found).startswith(b"{"):
        return fitting
    del fitting["structuredContent"]
    warnings.append("structuredContent was dropped: before 2026-07-28 it is an object")
    if not jsonrpc.items(fitting.get("content", Raw(b"[]"))):
        fitting["content"] = jsonrpc.encode([{"type": "text", "text": bytes(found).decode()}])
    return fitting


def _fit_content(members: Params, key: str, revision: Revision, warnings: list[str]) -> dict[str, Raw]:
    """Content blocks of kinds that *revision* does not have become text."""
    fitting = dict(members)
    raw = fitting.get(key)
    if raw is None or not bytes(raw).startswith(b"["):
        return fitting
    blocks = jsonrpc.items(raw)
    fitted = [_fit_block(block, revision, warnings) for block in blocks]
    if fitted != blocks:
        fitting[key] = jsonrpc.encode(fitted)
    return fitting


def _fit_block(block: Raw, revision: Revision, warnings: list[str]) -> Raw:
    if not bytes(block).startswith(b"{"):
        return block
    members = jsonrpc.members(block)
    kind = jsonrpc.text(members.get("type"))
    if kind in revision.contents or kind not in LATEST_MODERN.contents:
        return block  # what no revision knows is for the two ends to understand
    said = jsonrpc.text(members.get("uri")) or jsonrpc.text(members.get("mimeType")) or ""
    warnings.append(f"content of type {kind} became text: {revision.version} has no such type")
    return jsonrpc.encode({"type": "text", "text": f"[{kind}: {said}]" if said else f"[{kind}]"})


def _fit_messages(members: Params, revision: Revision, warnings: list[str]) -> dict[str, Raw]:
    fitting = dict(members)
    raw = fitting.get("messages")
    if raw is None or revision.contents >= LATEST_MODERN.contents:
        return fitting
    messages = [jsonrpc.members(each) for each in jsonrpc.items(raw)]
    for message in messages:
        if "content" in message:
            message["content"] = _fit_block(message["content"], revision, warnings)
    fitting["messages"] = jsonrpc.encode(messages)
    return fitting


def _fit_tools(members: Params, warnings: list[str]) -> dict[str, Raw]:
    """Output schemas describe objects for a session's client; others are left out."""
    fitting = dict(members)
    raw = fitting.get("tools")
    if raw is None or b'"outputSchema"' not in bytes(raw):
        return fitting
    fitting["tools"] = jsonrpc.encode([_fit_tool(tool, warnings) for tool in jsonrpc.items(raw)])
    return fitting


def _fit_tool(tool: Raw, warnings: list[str]) -> Raw:
    if not bytes(tool).startswith(b"{"):
        return tool
    members = jsonrpc.members(tool)
    schema = members.get("outputSchema")
    if schema is None or jsonrpc.text(_members_or_none(schema).get("type")) == "object":
        return tool
    del members["outputSchema"]
    name = jsonrpc.text(members.get("name"))
    warnings.append(f"the output schema of {name} was dropped: before 2026-07-28 it describes an object")
    return jsonrpc.encode(members)


def _members_or_none(raw: Raw) -> Params:
    return jsonrpc.members(raw) if bytes(raw).startswith(b"{") else {}


def _with_meta(members: Params, meta: Mapping[str, object]) -> dict[str, Raw]:
    kept = {key: value for key, value in members.items() if key != "_meta"}
    return jsonrpc.replaced(kept, meta_=meta) if meta else kept


def _recoded(error: Raw, code: int) -> Raw:
    return jsonrpc.encode(jsonrpc.replaced(jsonrpc.members(error), code=code))
