"""The upstream that the conformance suite is pointed at: one server with everything the suite asks for.

    everything.py http PORT [--era legacy|modern]     0 picks a free port; the URL is the first line on stdout
    everything.py stdio     [--era legacy|modern]

Every tool is written once, against `Call.ask`, and so works in both eras: a question to the person, the model
or the file system travels as a multi round-trip result (2026-07-28), as a server-to-client request (2025-*),
or as the input of a task (SEP-2663). With `--era` the other era is refused as a server that never heard of it
would refuse it. Needs the official SDK, `mcp>=2.3,<3`; it knows nothing about Bascule.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import uuid
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

import anyio
import mcp_types as types
import uvicorn
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.runner import _serve_modern_stream, serve_dual_era_loop, serve_loop
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.shared.inbound import decode_header_value
from mcp.shared.message import ServerMessageMetadata
from mcp_types.methods import CACHEABLE_METHODS
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

warnings.simplefilter("ignore", MCPDeprecationWarning)  # logging and sampling: the suite still tests them

Json: TypeAlias = dict[str, Any]
Context: TypeAlias = ServerRequestContext[Any, Any]

TASKS: Final = "io.modelcontextprotocol/tasks"
TTL_MS: Final = 300_000
PIXEL: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAHLCMmQAAAABJRU5ErkJggg=="
SILENCE: Final = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA=="

STRING: Final[Json] = {"type": "string"}
NUMBER: Final[Json] = {"type": "number"}
BOOLEAN: Final[Json] = {"type": "boolean"}


def takes(**properties: Json) -> Json:
    """The schema of an object with exactly these properties, all required."""
    return {"type": "object", "properties": properties, "required": [*properties]}


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def embedded(uri: str, mime: str, words: str) -> Json:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime, "text": words}}


# --- What a server may ask of its client

ANSWERS: Final[dict[str, tuple[str, type[Any], type[types.Result]]]] = {
    "elicitation/create": ("elicitation", types.ElicitRequest, types.ElicitResult),
    "sampling/createMessage": ("sampling", types.CreateMessageRequest, types.CreateMessageResult),
    "roots/list": ("roots", types.ListRootsRequest, types.ListRootsResult),
}
"""Method → the capability it needs, its request and its result."""


def form(message: str, **properties: Json) -> Json:
    params = {"message": message, "requestedSchema": takes(**properties)}
    return {"method": "elicitation/create", "params": params}


def sample(prompt: str, max_tokens: int = 100) -> Json:
    message = {"role": "user", "content": text(prompt)}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": max_tokens}}


ROOTS: Final[Json] = {"method": "roots/list", "params": {}}


class Ask(Protocol):
    """Answers to the named requests, under the same names."""

    async def __call__(self, **requests: Json) -> Json: ...


class InputRequired(Exception):
    """This round ends here: the client answers *requests* and calls again with *state*."""

    def __init__(self, requests: Json, state: str) -> None:
        self.result: Json = {"resultType": "input_required", "inputRequests": requests, "requestState": state}


class Failed(Exception):
    """The tool ran and failed: a result with `isError`, never a JSON-RPC error."""


def is_modern(ctx: Context) -> bool:
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def declared(ctx: Context) -> Json:
    """The capabilities of the client behind this request, as on the wire."""
    capabilities = ctx.session.client_capabilities
    return capabilities.model_dump(by_alias=True, exclude_none=True) if capabilities else {}


def has_tasks(ctx: Context) -> bool:
    return is_modern(ctx) and TASKS in declared(ctx).get("extensions", {})


def missing(capabilities: Json) -> MCPError:
    return MCPError(
        types.MISSING_REQUIRED_CLIENT_CAPABILITY,
        "The client did not declare a capability that this request needs",
        {"requiredCapabilities": capabilities},
    )


def ask_by_rounds(ctx: Context) -> Ask:
    """2026-07-28: end the round with what is unknown; the state is every answer so far, sealed later."""
    params = ctx.params or {}
    known = {**json.loads(params.get("requestState") or "{}"), **(params.get("inputResponses") or {})}

    async def ask(**requests: Json) -> Json:
        if unknown := {key: request for key, request in requests.items() if key not in known}:
            raise InputRequired(unknown, json.dumps(known))
        return {key: known[key] for key in requests}

    return ask


def ask_by_request(ctx: Context) -> Ask:
    """2025-*: one server-to-client request per question, all at once, on the stream of the call that asks."""

    async def ask(**requests: Json) -> Json:
        answers = await asyncio.gather(*map(send, requests.values()))
        return dict(zip(requests, answers, strict=True))

    async def send(request: Json) -> Json:
        _, request_type, result_type = ANSWERS[request["method"]]
        answer = await ctx.session.send_request(
            request_type.model_validate(request),
            result_type,
            metadata=ServerMessageMetadata(related_request_id=ctx.request_id),
        )
        return answer.model_dump(by_alias=True, mode="json", exclude_none=True)

    return ask


@dataclass
class Call:
    """One call of a tool or prompt: its arguments, and the ways to talk to the client meanwhile."""

    ctx: Context
    arguments: Json

    async def ask(self, **requests: Json) -> Json:
        """Ask the client; in 2025 whether it can answer or not, which is what the SDKs of that era do."""
        if not is_modern(self.ctx):
            return await ask_by_request(self.ctx)(**requests)
        needed = {ANSWERS[request["method"]][0] for request in requests.values()}
        if absent := needed - declared(self.ctx).keys():
            raise missing({name: {} for name in absent})
        return await ask_by_rounds(self.ctx)(**requests)

    async def log(self, line: str) -> None:
        await self.ctx.session.send_log_message("info", line, related_request_id=self.ctx.request_id)

    async def progress(self, done: float) -> None:
        await self.ctx.session.report_progress(done, 100)


# --- Tasks (SEP-2663)


@dataclass(frozen=True)
class Later:
    """Work that becomes a task when the client knows tasks; else it runs now, unless that is impossible."""

    work: Callable[[Ask], Awaitable[Outcome]]
    impossible_now: bool = False


Outcome: TypeAlias = "str | list[Json] | Later"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Task:
    """One piece of work on its way: `working` ⇄ `input_required` → `completed` | `failed` | `cancelled`."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)
    status: str = "working"
    requests: Json = field(default_factory=dict)
    answers: Json = field(default_factory=dict)
    outcome: Json = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    runner: asyncio.Task[None] | None = None

    @property
    def envelope(self) -> Json:
        named = {"taskId": self.id, "status": self.status}
        return {
            **named,
            "createdAt": self.created,
            "lastUpdatedAt": self.updated,
            "ttlMs": TTL_MS,
            "pollIntervalMs": 100,
        }

    @property
    def details(self) -> Json:
        requests = {"inputRequests": self.requests} if self.status == "input_required" else {}
        return {**self.envelope, **requests, **self.outcome}

    def move(self, status: str, **outcome: Any) -> None:
        if self.status not in ("completed", "failed", "cancelled"):
            self.status, self.outcome, self.updated = status, outcome, now()

    async def ask(self, **requests: Json) -> Json:
        self.requests = dict(requests)
        self.answered.clear()
        self.move("input_required")
        await self.answered.wait()
        return {key: self.answers[key] for key in requests}

    def answer(self, responses: Json) -> None:
        """Take the answers that were asked for; go on when none is outstanding."""
        for key in self.requests.keys() & responses.keys():
            self.answers[key] = responses[key]
            del self.requests[key]
        if not self.requests and self.status == "input_required":
            self.move("working")
            self.answered.set()

    async def run(self, later: Later) -> None:
        try:
            self.move("completed", result=await settled(later.work(self.ask)))
        except MCPError as error:
            self.move("failed", error=error.error.model_dump(exclude_none=True))

    def cancel(self) -> None:
        self.move("cancelled")
        if self.runner:
            self.runner.cancel()


tasks: dict[str, Task] = {}


def begin(later: Later) -> Json:
    task = Task()
    tasks[task.id] = task
    task.runner = asyncio.create_task(task.run(later))
    return {"resultType": "task", **task.envelope}


async def settled(work: Awaitable[Outcome]) -> Json | Later:
    """The tool result of *work*: a failure is a result, and so is a question; work for later stays so."""
    try:
        outcome = await work
    except Failed as failure:
        return {"content": [text(str(failure))], "isError": True}
    except InputRequired as required:
        return required.result
    if isinstance(outcome, str):
        outcome = [text(outcome)]
    return {"content": outcome} if isinstance(outcome, list) else outcome


class TaskParams(types.RequestParams):
    task_id: str
    input_responses: dict[str, Any] | None = None


async def on_task(act: Callable[[Task, Json], Json | None], ctx: Context, params: TaskParams) -> Json:
    """One `tasks/*` method: declared, routed to the task it names, known, then *act*."""
    if not has_tasks(ctx):
        raise missing({"extensions": {TASKS: {}}})
    if ctx.request is not None and decode_header_value(ctx.request.headers.get("mcp-name")) != params.task_id:
        raise MCPError(types.HEADER_MISMATCH, "Mcp-Name does not name the task of the request body")
    if (task := tasks.get(params.task_id)) is None:
        raise MCPError(types.INVALID_PARAMS, "Unknown task", {"taskId": params.task_id})
    return act(task, params.input_responses or {}) or {}


# --- Tools

Work: TypeAlias = Callable[[Call], Awaitable[Outcome]]
tools: dict[str, tuple[Json, Work]] = {}


def tool(schema: Json | None = None) -> Callable[[Work], Work]:
    """Offer the function below as a tool; its docstring is the description."""

    def offer(work: Work) -> Work:
        name = work.__name__
        definition = {"name": name, "description": work.__doc__, "inputSchema": schema or takes()}
        tools[name] = (definition, work)
        return work

    return offer


@tool()
async def test_simple_text(call: Call) -> Outcome:
    """One line of text."""
    return "This is a simple text response for testing."


@tool()
async def test_image_content(call: Call) -> Outcome:
    """One image."""
    return [{"type": "image", "data": PIXEL, "mimeType": "image/png"}]


@tool()
async def test_audio_content(call: Call) -> Outcome:
    """One sample of silence."""
    return [{"type": "audio", "data": SILENCE, "mimeType": "audio/wav"}]


@tool()
async def test_embedded_resource(call: Call) -> Outcome:
    """One embedded resource."""
    return [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]


@tool()
async def test_multiple_content_types(call: Call) -> Outcome:
    """Text, an image and a resource together."""
    return [
        text("Multiple content types test:"),
        {"type": "image", "data": PIXEL, "mimeType": "image/png"},
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ]


@tool()
async def test_error_handling(call: Call) -> Outcome:
    """Always fails."""
    raise Failed("This tool intentionally returns an error for testing")


@tool()
async def test_tool_with_logging(call: Call) -> Outcome:
    """Three log lines while it works."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await call.log(line)
        await asyncio.sleep(0.05)
    return "Logged three lines."


@tool()
async def test_logging_tool(call: Call) -> Outcome:
    """One log line."""
    await call.log("A line for whoever asked for lines")
    return "Logged one line."


@tool()
async def test_tool_with_progress(call: Call) -> Outcome:
    """Progress 0, 50, 100."""
    for done in (0, 50, 100):
        await call.progress(done)
        await asyncio.sleep(0.05)
    return "Done, in three steps."


@tool()
async def test_reconnection(call: Call) -> Outcome:
    """Hangs up on the caller midway (SEP-1699); the result waits on the stream that replaces this one."""
    await call.log("Before the disconnect")
    if call.ctx.close_sse_stream:
        await call.ctx.close_sse_stream()
    await asyncio.sleep(0.3)
    await call.log("After the disconnect")
    return "Reconnection test completed"


@tool(takes(prompt=STRING))
async def test_sampling(call: Call) -> Outcome:
    """Asks the client's model."""
    answer = await call.ask(reply=sample(call.arguments["prompt"]))
    return f"LLM response: {answer['reply']['content'].get('text')}"


@tool(takes(message=STRING))
async def test_elicitation(call: Call) -> Outcome:
    """Asks the person for a response."""
    return told(await call.ask(answer=form(call.arguments["message"], response=STRING)))


@tool()
async def test_elicitation_sep1034_defaults(call: Call) -> Outcome:
    """Asks the person, proposing an answer of each primitive type."""
    fields: Json = {
        "name": STRING | {"default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": NUMBER | {"default": 95.5},
        "status": STRING | {"enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": BOOLEAN | {"default": True},
    }
    return told(await call.ask(answer=form("Please check these details", **fields)))


@tool()
async def test_elicitation_sep1330_enums(call: Call) -> Outcome:
    """Asks the person to choose, in every way that a choice can be written."""
    values = ["one", "two", "three"]
    titled = [{"const": value, "title": f"Option {value}"} for value in values]
    fields: Json = {
        "untitledSingle": STRING | {"enum": values},
        "titledSingle": STRING | {"oneOf": titled},
        "legacyEnum": STRING | {"enum": values, "enumNames": [each["title"] for each in titled]},
        "untitledMulti": {"type": "array", "items": STRING | {"enum": values}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    return told(await call.ask(answer=form("Please choose", **fields)))


def told(answers: Json) -> str:
    answer = answers["answer"]
    return f"User response: action={answer['action']}, content={json.dumps(answer.get('content', {}))}"


@tool()
async def test_streaming_elicitation(call: Call) -> Outcome:
    """Streams a little, then asks the person."""
    await call.progress(50)
    return told(await call.ask(answer=form("Continue?", ok=BOOLEAN)))


@tool()
async def test_missing_capability(call: Call) -> Outcome:
    """Cannot run for a client without sampling."""
    answer = await call.ask(reply=sample("Say hello", 50))
    return f"The client can sample: {answer['reply']['content'].get('text')}"


@tool(takes(region=STRING | {"x-mcp-header": "Region"}))
async def test_custom_header(call: Call) -> Outcome:
    """Says where it would run; HTTP clients mirror the region in `Mcp-Param-Region` (SEP-2243)."""
    return f"region={call.arguments['region']}"


@tool(
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": STRING, "city": STRING},
            }
        },
        "properties": {
            "name": STRING,
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": STRING | {"enum": ["phone", "email"]},
            "phone": STRING,
            "email": STRING,
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    }
)
async def json_schema_2020_12_tool(call: Call) -> Outcome:
    """Repeats its arguments; what matters is its schema (SEP-1613, SEP-2106)."""
    return json.dumps(call.arguments)


# Multi round-trip requests (SEP-2322): the keys and the counts of rounds are what the suite looks for.


@tool()
async def test_input_required_result_elicitation(call: Call) -> Outcome:
    """Asks for a name."""
    answers = await call.ask(user_name=form("What is your name?", name=STRING))
    return f"Hello, {content(answers['user_name'], 'name')}!"


@tool()
async def test_input_required_result_sampling(call: Call) -> Outcome:
    """Asks the model for a capital."""
    answers = await call.ask(capital_question=sample("What is the capital of France?"))
    return f"The model says: {answers['capital_question']['content'].get('text')}"


@tool()
async def test_input_required_result_list_roots(call: Call) -> Outcome:
    """Asks for the roots."""
    answers = await call.ask(client_roots=ROOTS)
    return f"{len(answers['client_roots']['roots'])} root(s)"


@tool()
async def test_input_required_result_request_state(call: Call) -> Outcome:
    """Asks for a confirmation."""
    answers = await call.ask(confirm=form("Please confirm", ok=BOOLEAN))
    return f"state-ok: {content(answers['confirm'], 'ok')}"


@tool()
async def test_input_required_result_tampered_state(call: Call) -> Outcome:
    """Asks for a confirmation; a state that was changed on the way never gets here."""
    return await test_input_required_result_request_state(call)


@tool()
async def test_input_required_result_multiple_inputs(call: Call) -> Outcome:
    """Asks for three things at once."""
    await call.ask(
        user_name=form("What is your name?", name=STRING),
        greeting=sample("Generate a greeting", 50),
        client_roots=ROOTS,
    )
    return "All three answers arrived."


@tool()
async def test_input_required_result_multi_round(call: Call) -> Outcome:
    """Asks for a name, then for a color."""
    first = await call.ask(step1=form("Step 1: What is your name?", name=STRING))
    second = await call.ask(step2=form("Step 2: What is your favorite color?", color=STRING))
    return f"{content(first['step1'], 'name')} likes {content(second['step2'], 'color')}."


@tool()
async def test_input_required_result_capabilities(call: Call) -> Outcome:
    """Asks only for what this client can answer."""
    possible = {"sampling": sample("Say hello", 50), "elicitation": form("What is your name?", name=STRING)}
    able = declared(call.ctx)
    await call.ask(**{name: request for name, request in possible.items() if name in able})
    return "Every possible answer arrived."


def content(answer: Json, key: str) -> Any:
    return answer.get("content", {}).get(key, answer.get("action"))


# Tasks: what runs long, fails, or waits for a person.


@tool(takes(name=STRING))
async def greet(call: Call) -> Outcome:
    """Says hello, at once."""
    return f"Hello, {call.arguments['name']}!"


@tool(takes(seconds=NUMBER, label=STRING))
async def slow_compute(call: Call) -> Outcome:
    """Takes as long as it is told to."""

    async def work(ask: Ask) -> Outcome:
        await asyncio.sleep(call.arguments["seconds"])
        return f"{call.arguments['label']}: done after {call.arguments['seconds']} s"

    return Later(work)


@tool()
async def failing_job(call: Call) -> Outcome:
    """Fails after a while; only ever runs as a task."""

    async def work(ask: Ask) -> Outcome:
        await asyncio.sleep(0.5)
        raise Failed("The job failed")

    return Later(work, impossible_now=True)


@tool()
async def protocol_error_job(call: Call) -> Outcome:
    """Breaks the protocol."""

    async def work(ask: Ask) -> Outcome:
        raise MCPError(types.INTERNAL_ERROR, "The job broke")

    return Later(work)


@tool(takes(filename=STRING))
async def confirm_delete(call: Call) -> Outcome:
    """Would delete a file, if the person says so."""

    async def work(ask: Ask) -> Outcome:
        answers = await ask(confirm=form(f"Delete {call.arguments['filename']}?", confirm=BOOLEAN))
        return f"Confirmed: {content(answers['confirm'], 'confirm')}"

    return Later(work)


@tool()
async def multi_input(call: Call) -> Outcome:
    """Waits for two answers at once."""

    async def work(ask: Ask) -> Outcome:
        await ask(first=form("First?", name=STRING), second=form("Second?", name=STRING))
        return "Both answers arrived."

    return Later(work)


@tool()
async def test_tool_with_task(call: Call) -> Outcome:
    """Asks first, in rounds, and only then becomes a task."""
    answers = await call.ask(user_name=form("What is your name?", name=STRING))

    async def work(ask: Ask) -> Outcome:
        return f"Done for {content(answers['user_name'], 'name')}"

    return Later(work, impossible_now=True)


# --- Lists that change

bus = InMemorySubscriptionBus()
DYNAMIC: Final[Json] = {"name": "test_dynamic", "description": "Comes and goes."}

shown: set[str] = set()
"""What a trigger has put into a list; the next call takes it out again, so that every call is a change."""


@tool()
async def test_trigger_tool_change(call: Call) -> Outcome:
    """Adds a tool to the list, or takes it away, and tells whoever listens."""
    shown.symmetric_difference_update({"tool"})
    await bus.publish(ToolsListChanged())
    if not is_modern(call.ctx):
        await call.ctx.session.send_tool_list_changed()
    return "The tool list changed."


@tool()
async def test_trigger_prompt_change(call: Call) -> Outcome:
    """Adds a prompt to the list, or takes it away, and tells whoever listens."""
    shown.symmetric_difference_update({"prompt"})
    await bus.publish(PromptsListChanged())
    if not is_modern(call.ctx):
        await call.ctx.session.send_prompt_list_changed()
    return "The prompt list changed."


async def list_tools(ctx: Context, params: types.PaginatedRequestParams) -> Json:
    listed = [definition for definition, _ in tools.values()]
    if "tool" in shown:
        listed.append(DYNAMIC | {"inputSchema": takes()})
    return {"tools": listed}


async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> Json:
    if params.name not in tools:
        raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}")
    _, work = tools[params.name]
    call = Call(ctx, params.arguments or {})
    outcome = await settled(work(call))
    if not isinstance(outcome, Later):
        return outcome
    if has_tasks(ctx):
        return begin(outcome)
    if outcome.impossible_now and is_modern(ctx):
        raise missing({"extensions": {TASKS: {}}})
    said = await settled(outcome.work(call.ask))
    assert isinstance(said, dict), "work for later is not put off twice"
    return said


# --- Prompts and resources

prompts: dict[str, tuple[Json, Work]] = {}


def prompt(*arguments: str) -> Callable[[Work], Work]:
    """Offer the function below as a prompt that needs these arguments; it returns what the user says."""

    def offer(work: Work) -> Work:
        needed = [{"name": name, "required": True} for name in arguments]
        name = work.__name__
        prompts[name] = ({"name": name, "description": work.__doc__, "arguments": needed}, work)
        return work

    return offer


@prompt()
async def test_simple_prompt(call: Call) -> Outcome:
    """One message."""
    return "This is a simple prompt for testing."


@prompt("arg1", "arg2")
async def test_prompt_with_arguments(call: Call) -> Outcome:
    """One message with two arguments in it."""
    return f"Prompt with arguments: arg1='{call.arguments['arg1']}', arg2='{call.arguments['arg2']}'"


@prompt("resourceUri")
async def test_prompt_with_embedded_resource(call: Call) -> Outcome:
    """A resource and what to do with it."""
    uri = call.arguments["resourceUri"]
    return [embedded(uri, "text/plain", "An embedded resource."), text("Please read it.")]


@prompt()
async def test_prompt_with_image(call: Call) -> Outcome:
    """An image and what to do with it."""
    return [{"type": "image", "data": PIXEL, "mimeType": "image/png"}, text("Please look at it.")]


@prompt()
async def test_input_required_result_prompt(call: Call) -> Outcome:
    """Asks for its context first."""
    answers = await call.ask(user_context=form("What context should the prompt use?", context=STRING))
    return f"Use this context: {content(answers['user_context'], 'context')}"


async def list_prompts(ctx: Context, params: types.PaginatedRequestParams) -> Json:
    listed = [definition for definition, _ in prompts.values()]
    return {"prompts": [*listed, DYNAMIC | {"arguments": []}] if "prompt" in shown else listed}


async def get_prompt(ctx: Context, params: types.GetPromptRequestParams) -> Json:
    if params.name not in prompts:
        raise MCPError(types.INVALID_PARAMS, f"Unknown prompt: {params.name}")
    _, work = prompts[params.name]
    said = await settled(work(Call(ctx, dict(params.arguments or {}))))
    if isinstance(said, Later) or said.get("resultType") == "input_required":
        return said if isinstance(said, dict) else {}
    return {"messages": [{"role": "user", "content": part} for part in said["content"]]}


RESOURCES: Final[dict[str, Json]] = {
    "test://static-text": {"mimeType": "text/plain", "text": "The content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PIXEL},
    "test://watched-resource": {"mimeType": "text/plain", "text": "Subscribe to me."},
}
TEMPLATE: Final = "test://template/{id}/data"
NOT_FOUND_2025: Final = -32002


async def list_resources(ctx: Context, params: types.PaginatedRequestParams) -> Json:
    return {"resources": [{"uri": uri, "name": uri.rpartition("/")[2]} for uri in RESOURCES]}


async def list_templates(ctx: Context, params: types.PaginatedRequestParams) -> Json:
    template = {"uriTemplate": TEMPLATE, "name": "template", "mimeType": "application/json"}
    return {"resourceTemplates": [template]}


async def read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> Json:
    before, after = TEMPLATE.split("{id}")
    uri = str(params.uri)
    if uri in RESOURCES:
        contents = RESOURCES[uri]
    elif uri.startswith(before) and uri.endswith(after):
        row = {"id": uri[len(before) : -len(after)], "templateTest": True}
        contents = {"mimeType": "application/json", "text": json.dumps(row)}
    else:
        code = types.INVALID_PARAMS if is_modern(ctx) else NOT_FOUND_2025
        raise MCPError(code, "Resource not found", {"uri": uri})
    return {"contents": [{"uri": uri, **contents}]}


async def suggest(ctx: Context, params: types.CompleteRequestParams) -> Json:
    values = [word for word in ("paris", "park", "party") if word.startswith(params.argument.value)]
    return {"completion": {"values": values, "total": len(values), "hasMore": False}}


async def agree(ctx: Context, params: types.RequestParams) -> Json:
    return {}


# --- The server and its two doors


class Everything(Server[Json]):
    """The SDK's server, announcing to handshake clients too that its lists change."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, Json] | None = None,
        extensions: dict[str, Json] | None = None,
    ) -> InitializationOptions:
        changing = notification_options or NotificationOptions(prompts_changed=True, tools_changed=True)
        return super().create_initialization_options(changing, experimental_capabilities, extensions)


Handler: TypeAlias = Callable[[Context, Any], Awaitable[Json]]

HANDLERS: Final[tuple[tuple[str, type[types.RequestParams], Handler], ...]] = (
    ("tools/list", types.PaginatedRequestParams, list_tools),
    ("tools/call", types.CallToolRequestParams, call_tool),
    ("prompts/list", types.PaginatedRequestParams, list_prompts),
    ("prompts/get", types.GetPromptRequestParams, get_prompt),
    ("resources/list", types.PaginatedRequestParams, list_resources),
    ("resources/templates/list", types.PaginatedRequestParams, list_templates),
    ("resources/read", types.ReadResourceRequestParams, read_resource),
    ("resources/subscribe", types.SubscribeRequestParams, agree),
    ("resources/unsubscribe", types.UnsubscribeRequestParams, agree),
    ("completion/complete", types.CompleteRequestParams, suggest),
    ("logging/setLevel", types.SetLevelRequestParams, agree),
    ("tasks/get", TaskParams, partial(on_task, lambda task, _: task.details)),
    ("tasks/update", TaskParams, partial(on_task, Task.answer)),
    ("tasks/cancel", TaskParams, partial(on_task, lambda task, _: task.cancel())),
)


async def completed(handler: Handler, ctx: Context, params: Any) -> Json:
    """What *handler* says, marked complete unless it says otherwise; the handshake era has no mark."""
    said = await handler(ctx, params)
    return {"resultType": "complete", **said} if is_modern(ctx) else said


def everything() -> Everything:
    server = Everything("everything", version="1.0.0", on_subscriptions_listen=ListenHandler(bus))
    server.extensions = {TASKS: {}}
    server.cache_hints = dict.fromkeys(CACHEABLE_METHODS, CacheHint(ttl_ms=1_000, scope="public"))
    sealed = RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=server.name)
    server.middleware.append(sealed)
    for method, params_type, handler in HANDLERS:
        server.add_request_handler(method, params_type, partial(completed, handler))
    return server


class Events(EventStore):
    """Every event of every stream, in order; an id is a place in that order. Enough for one test run."""

    def __init__(self) -> None:
        self._events: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id)
        wanted = self._events[last - 1][0]
        for place, (stream, message) in enumerate(self._events[last:], last + 1):
            if stream == wanted and message is not None:
                await send_callback(EventMessage(message, str(place)))
        return wanted


def refuse_modern(app: ASGIApp) -> ASGIApp:
    """What an HTTP server older than 2026-07-28 does with that version."""

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        version = asked_version(scope)
        if version not in MODERN_PROTOCOL_VERSIONS:
            await app(scope, receive, send)
            return
        refusal = refused(None, -32000, f"Bad Request: Unsupported protocol version: {version}")
        await refusal(scope, receive, send)

    return door


def refuse_legacy(app: ASGIApp) -> ASGIApp:
    """What an HTTP server of 2026-07-28 alone does with a handshake, a session or no version at all."""

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        version = asked_version(scope)
        if scope["type"] != "http" or version in MODERN_PROTOCOL_VERSIONS:
            await app(scope, receive, send)
        elif scope["method"] != "POST":
            await Response(status_code=405, headers={"Allow": "POST"})(scope, receive, send)
        else:
            await refuse(await Request(scope, receive).json(), version)(scope, receive, send)

    def refuse(request: Json, version: str) -> Response:
        if not version and request["method"] != "initialize":
            return refused(request.get("id"), types.HEADER_MISMATCH, "The MCP-Protocol-Version header is missing")
        requested = version or request["params"]["protocolVersion"]
        supported = {"supported": [*MODERN_PROTOCOL_VERSIONS], "requested": requested}
        return refused(request.get("id"), types.UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version", supported)

    return door


def asked_version(scope: Scope) -> str:
    return dict(scope.get("headers", [])).get(b"mcp-protocol-version", b"").decode()


def refused(id: Any, code: int, message: str, data: Json | None = None) -> Response:
    error = {"code": code, "message": message, **({"data": data} if data else {})}
    return JSONResponse({"jsonrpc": "2.0", "id": id, "error": error}, 400)


DOORS: Final = {"legacy": refuse_modern, "modern": refuse_legacy}
LOOPS: Final = {
    None: serve_dual_era_loop,
    "legacy": serve_loop,
    "modern": partial(_serve_modern_stream, raise_exceptions=False),
}


async def serve_http(server: Everything, port: int, era: str | None) -> None:
    door = socket.create_server(("127.0.0.1", port))
    print(f"http://127.0.0.1:{door.getsockname()[1]}/mcp", flush=True)
    app: ASGIApp = server.streamable_http_app(event_store=Events(), retry_interval=100)
    app = DOORS[era](app) if era else app
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[door])


async def serve_stdio(server: Everything, era: str | None) -> None:
    async with stdio_server() as (reader, writer):
        await LOOPS[era](server, reader, writer, lifespan_state={})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("transport", choices=["http", "stdio"])
    parser.add_argument("port", type=int, nargs="?", default=0)
    parser.add_argument("--era", choices=["legacy", "modern"], help="speak only this era; default: both")
    options = parser.parse_args()
    if options.transport == "http":
        anyio.run(serve_http, everything(), options.port, options.era)
    else:
        anyio.run(serve_stdio, everything(), options.era)


if __name__ == "__main__":
    main()
