"""What plain.py and modern.py share: JSON lines over stdio, calls in threads, and the toolbox.

A server is a table of methods. `tools/call` and `prompts/get` run in a thread of their own, so they overlap and
finish in any order; everything else is answered by the reading thread, so its effect is in place before the next
line. How a revision asks the client, announces a change and dresses a result is left to the subclasses.
`web.py` serves the same over HTTP: what concerns a call goes out on its outlet, all else on the server's.
"""

import argparse
import base64
import inspect
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeAlias

Json: TypeAlias = dict[str, Any]
Id: TypeAlias = int | str
Outlet: TypeAlias = Callable[[Json | None], None]  # None: nothing more will be said about a call
Question: TypeAlias = tuple[str, Json]  # a method and its params

INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
SCHEMA_TYPES: Final = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}
NOTES: Final = tuple(f"test://notes/{number}" for number in (1, 2, 3))
PIXEL: Final = "test://pixel"
PIXEL_BYTES: Final = base64.b64encode(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;").decode()
STYLES: Final = ("formal", "friendly", "french")
FORM: Final[Json] = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}

URL_MODE: Final[Json] = {"elicitation": {"url": {}}}
NEEDS: Final[dict[str, Json]] = {  # the client capability without which a request must not be sent
    "elicitation/create": {"elicitation": {}},
    "sampling/createMessage": {"sampling": {}},
    "roots/list": {"roots": {}},
}


class Refusal(Exception):
    """A request that is answered with a JSON-RPC error."""

    def __init__(self, code: int, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.error: Json = {"code": code, "message": message} | ({"data": facts} if facts else {})


class Failure(Exception):
    """A tool that ran and failed: a result with isError."""


class Whole(Json):
    """A tool's answer that is the result itself, not something to wrap into one."""


class Cancelled(Exception):
    """The client took the request back, so it gets no answer."""


@dataclass
class Call:
    """One request in flight, and the way back to its client."""

    server: "Server"
    id: Id
    method: str
    params: Json
    outlet: Outlet
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def meta(self) -> Json:
        meta: Json = self.params.get("_meta", {})
        return meta

    def wait(self, seconds: float) -> None:
        if self.cancelled.wait(seconds):
            raise Cancelled

    def send(self, **message: Any) -> None:
        self.outlet({"jsonrpc": "2.0", **message})

    def notify(self, name: str, **params: Any) -> None:
        self.send(method=f"notifications/{name}", params=params)

    def report(self, progress: float, total: float, message: str) -> None:
        """Tell the client how far this call is, if it wants to know."""
        if (token := self.meta.get("progressToken")) is not None:
            self.notify("progress", progressToken=token, progress=progress, total=total, message=message)

    def ask(self, key: str, method: str, params: Json) -> Json:
        """The client's result for *method*. *key* is unique within this call."""
        answer: Json = self.ask_at_once({key: (method, params)})[key]
        return answer

    def ask_at_once(self, questions: dict[str, Question]) -> Json:
        """The client's results for all *questions*, none of which waits for another."""
        return self.server.ask(self, questions)


Method: TypeAlias = Callable[[Call], Json | None]  # None: answered later, or never


class Tool:
    """A plain function served as a tool: its signature is the input schema, its docstring the description."""

    def __init__(self, name: str, run: Callable[..., str | Json]) -> None:
        parameters = list(inspect.signature(run).parameters.values())[1:]
        self.run = run
        self.definition: Json = {
            "name": name,
            "description": run.__doc__,
            "inputSchema": {
                "type": "object",
                "properties": {p.name: {"type": SCHEMA_TYPES[p.annotation]} for p in parameters},
                "required": [p.name for p in parameters if p.default is p.empty],
            },
        }
        if inspect.signature(run).return_annotation == Json:
            self.definition["outputSchema"] = {"type": "object"}

    def __call__(self, call: Call) -> Json:
        arguments = call.params.get("arguments") or {}
        try:
            inspect.signature(self.run).bind(call, **arguments)
        except TypeError as error:
            return _text(str(error)) | {"isError": True}
        try:
            answer = self.run(call, **arguments)
        except Failure as error:
            return _text(str(error)) | {"isError": True}
        if isinstance(answer, Whole):
            return answer
        if isinstance(answer, str):
            return _text(answer)
        return _text(json.dumps(answer, ensure_ascii=False)) | {"structuredContent": answer}


class World:
    """What the sessions of one process share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.tools = {name: Tool(name, run) for name, run in TOOLS.items()}
        self.tools |= {name: Tool(name, echo) for name in (f"tool_{n:04}" for n in range(options.tools))}
        self.cancelled: list[Id] = []
        self.cancellation = threading.Condition()
        self.revisions = dict.fromkeys((*NOTES, PIXEL), 1)
        self.visited: set[str] = set()
        self.sessions: list[Server] = []

    def tools_changed(self) -> None:
        for session in list(self.sessions):
            session.tools_changed()

    def resource_updated(self, uri: str) -> None:
        for session in list(self.sessions):
            session.resource_updated(uri)


class Server:
    """A well-behaved MCP server: for stdin and stdout, unless it is given another outlet."""

    info: ClassVar[Json]
    capabilities: ClassVar[Json] = {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True},
        "prompts": {},
        "completions": {},
        "logging": {},
    }
    resource_not_found: ClassVar[int]

    def __init__(self, options: argparse.Namespace, world: World | None = None, outlet: Outlet | None = None) -> None:
        self.world = world or World(options)
        self.world.sessions.append(self)
        self.outlet = outlet or Stdout()
        self.page_size: int | None = options.page_size
        self.methods: dict[str, Method] = {
            "tools/list": lambda call: self._page(call, "tools", [t.definition for t in self.tools.values()]),
            "tools/call": self._call_tool,
            "resources/list": lambda call: self._page(call, "resources", map(_resource, self.world.revisions)),
            "resources/templates/list": lambda call: self._page(call, "resourceTemplates", [NOTE_TEMPLATE]),
            "resources/read": self._read,
            "prompts/list": lambda call: self._page(call, "prompts", [GREETING]),
            "prompts/get": _get_prompt,
            "completion/complete": _complete,
        }
        self._in_flight: dict[Id, Call] = {}

    @property
    def tools(self) -> dict[str, Tool]:
        return self.world.tools

    # What a revision decides.

    def admit(self, call: Call) -> None:
        """Raise Refusal if *call* may not be served now."""
        raise NotImplementedError

    def run(self, method: Method, call: Call) -> Json | None:
        return method(call)

    def dress(self, call: Call, result: Json) -> Json:
        """*result* with what the revision adds to it, or without what it does not know."""
        raise NotImplementedError

    def ask(self, call: Call, questions: dict[str, Question]) -> Json:
        raise NotImplementedError

    def visit_first(self, call: Call, url: str) -> None:
        """Return once the person was sent to *url*; only the retried call may get there."""
        raise NotImplementedError

    def log_level(self, call: Call) -> str | None:
        """The least level that the client of *call* wants to hear of, or None for silence."""
        raise NotImplementedError

    def tools_changed(self) -> None:
        raise NotImplementedError

    def resource_updated(self, uri: str) -> None:
        raise NotImplementedError

    def take_response(self, response: Json) -> None:
        """A client that answers what it was never asked is ignored."""

    def take_notification(self, method: str, params: Json) -> None:
        if method == "notifications/cancelled" and (call := self._in_flight.get(params["requestId"])):
            self.cancel(call)

    def cancel(self, call: Call) -> None:
        call.cancelled.set()
        with self.world.cancellation:
            self.world.cancelled.append(call.id)
            self.world.cancellation.notify_all()

    # The wire.

    def serve(self) -> None:
        """Answer until end of file; calls still in flight then are lost."""
        for line in sys.stdin.buffer:
            self.take(json.loads(line), self.outlet)

    def take(self, message: Json, outlet: Outlet) -> Call | None:
        """What a client sent. A request is answered, sooner or later, on *outlet*; this gives its Call."""
        match message:
            case {"method": method, "id": id}:
                call = Call(self, id, method, message.get("params", {}), outlet)
                self._take_request(call)
                return call
            case {"method": method}:
                self.take_notification(method, message.get("params", {}))
            case response:
                self.take_response(response)
        return None

    def notify(self, name: str, **params: Any) -> None:
        """Tell the client what belongs to no call."""
        self.outlet({"jsonrpc": "2.0", "method": f"notifications/{name}", "params": params})

    def _take_request(self, call: Call) -> None:
        if call.method in ("tools/call", "prompts/get"):
            self._in_flight[call.id] = call
            threading.Thread(target=self._answer, args=[call], daemon=True).start()
        else:
            self._answer(call)

    def _answer(self, call: Call) -> None:
        try:
            if not (method := self.methods.get(call.method)):
                raise Refusal(METHOD_NOT_FOUND, f"Method not found: {call.method}")
            self.admit(call)
            result = self.run(method, call)
            if call.cancelled.is_set():
                raise Cancelled
            if result is not None:
                call.send(id=call.id, result=self.dress(call, result))
        except Refusal as refusal:
            call.send(id=call.id, error=refusal.error)
        except Cancelled:
            call.outlet(None)
        except Exception as error:  # the rim: whatever a test sends, it gets an answer
            call.send(id=call.id, error={"code": INTERNAL_ERROR, "message": repr(error)})
        finally:
            self._in_flight.pop(call.id, None)

    # The methods that both eras have.

    def _page(self, call: Call, key: str, items: Iterable[Json]) -> Json:
        everything = list(items)
        size = self.page_size or len(everything) or 1
        cursors = {f"from-{start}": start for start in range(size, len(everything), size)}
        try:
            start = 0 if (cursor := call.params.get("cursor")) is None else cursors[cursor]
        except KeyError:
            raise Refusal(INVALID_PARAMS, f"No such cursor: {cursor}") from None
        following = f"from-{start + size}"
        return {key: everything[start : start + size]} | ({"nextCursor": following} if following in cursors else {})

    def _call_tool(self, call: Call) -> Json:
        if not (tool := self.tools.get(call.params["name"])):
            raise Refusal(INVALID_PARAMS, f"Unknown tool: {call.params['name']}")
        return tool(call)

    def _read(self, call: Call) -> Json:
        uri = call.params["uri"]
        if uri == PIXEL:
            return {"contents": [{"uri": uri, "mimeType": "image/gif", "blob": PIXEL_BYTES}]}
        if not (revision := self.world.revisions.get(uri)):
            raise Refusal(self.resource_not_found, "Resource not found", uri=uri)
        return {"contents": [{"uri": uri, "mimeType": "text/plain", "text": f"{uri}, revision {revision} ✓"}]}


def lacking(capabilities: Json, questions: dict[str, Question]) -> Json | None:
    """The first capability that *questions* need and *capabilities* lack."""
    for method, params in questions.values():
        needed = URL_MODE if params.get("mode") == "url" else NEEDS[method]
        for name, modes in needed.items():
            if name not in capabilities or not modes.keys() <= capabilities[name].keys():
                return needed
    return None


class Stdout:
    """Standard output, a line for each message. Threads may share it."""

    def __init__(self) -> None:
        self._writing = threading.Lock()

    def __call__(self, message: Json | None) -> None:
        if message is None:
            return
        line = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
        with self._writing:
            sys.stdout.buffer.write(line.encode() + b"\n")
            sys.stdout.buffer.flush()


def options(description: str | None) -> argparse.ArgumentParser:
    """The command line that both servers have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--page-size", type=int, metavar="N", help="list at most N things at a time")
    parser.add_argument("--tools", type=int, default=0, metavar="N", help="N more tools, named tool_0000 on")
    return parser


# The toolbox.


def echo(call: Call, text: str) -> str:
    """Returns the text."""
    return text


def add(call: Call, a: float, b: float) -> Json:
    """Adds two numbers."""
    return {"sum": a + b}


def raw(call: Call, result: dict) -> Whole:  # type: ignore[type-arg]  # SCHEMA_TYPES knows it by this
    """Returns this very result, whatever it holds."""
    return Whole(result)


def sleep(call: Call, seconds: float) -> str:
    """Takes its time, unless cancelled. Reports progress once, when it has begun."""
    call.report(0, seconds, "asleep")
    call.wait(seconds)
    return f"slept {seconds} s"


def cancelled(call: Call, at_least: int = 0) -> Json:
    """The ids, as this server saw them, of calls cancelled in flight. Waits 10 s until there are so many."""
    world = call.server.world
    with world.cancellation:
        world.cancellation.wait_for(lambda: len(world.cancelled) >= at_least, timeout=10)
    return {"ids": world.cancelled}


def progress(call: Call, steps: int) -> str:
    """Reports each step to those who sent a progress token."""
    for step in range(1, steps + 1):
        call.report(step, steps, f"step {step}")
    return f"{steps} steps done"


def log(call: Call, level: str, message: str) -> str:
    """Logs a message to the client."""
    least = call.server.log_level(call)
    if least is not None and LEVELS.index(level) >= LEVELS.index(least):
        call.notify("message", level=level, logger="test", data=message)
    return "logged" if least is not None else "nobody listens"


def ask(call: Call, question: str, times: int = 1) -> Json:
    """Asks the person behind the client, as often as told, one question after the other."""
    return {"answers": [call.ask(f"answer-{n}", *_form(question)) for n in range(times)]}


def survey(call: Call, one: str, other: str) -> Json:
    """Asks the person twice, the model and the client, all at once."""
    asked = {"one": _form(one), "other": _form(other), "said": _sampling(one), "roots": ("roots/list", {})}
    return call.ask_at_once(asked)


def visit(call: Call, url: str) -> Json:
    """Asks the person to visit a page."""
    page = {"mode": "url", "message": "Please sign in", "url": url}
    return call.ask("visited", "elicitation/create", page)


def visit_first(call: Call, url: str) -> str:
    """Refuses until the person was sent to a page, as 2025-11-25 does with -32042."""
    call.server.visit_first(call, url)
    return f"welcome back from {url}"


def sample(call: Call, prompt: str) -> Json:
    """Asks the model behind the client."""
    return call.ask("said", *_sampling(prompt))


def roots(call: Call) -> Json:
    """Asks the client for its roots."""
    return call.ask("roots", "roots/list", {})


def touch(call: Call, uri: str = NOTES[0]) -> str:
    """Changes a resource and tells those who subscribed to it."""
    world = call.server.world
    world.revisions[uri] += 1
    world.resource_updated(uri)
    return f"{uri} is at revision {world.revisions[uri]}"


def rename(call: Call, tool: str, to: str) -> str:
    """Renames a tool and tells the clients that the list changed."""
    world = call.server.world
    world.tools[tool].definition["name"] = to
    # A new table in one step: the reading thread may be listing the old one.
    world.tools = {to if name == tool else name: each for name, each in world.tools.items()}
    world.tools_changed()
    return f"{tool} is now {to}"


def redefine(call: Call, tool: str, description: str) -> str:
    """Gives a tool another description and tells the clients that the list changed."""
    world = call.server.world
    world.tools[tool].definition["description"] = description
    world.tools_changed()
    return f"{tool} is redefined"


def fail(call: Call, reason: str) -> str:
    """Fails, as a tool does."""
    raise Failure(reason)


def crash(call: Call, code: int) -> str:
    """Ends the whole process, mid-call."""
    os._exit(code)


def pid(call: Call) -> Json:
    """The process id of this server."""
    return {"pid": os.getpid()}


def env(call: Call, name: str) -> Json:
    """The value of an environment variable, or null."""
    return {"value": os.environ.get(name)}


def meta(call: Call) -> Json:
    """The `_meta` of this very call."""
    return {"meta": call.meta}


def params(call: Call) -> Json:
    """The parameters of this very call."""
    return {"params": call.params}


_TOOLBOX: Final[tuple[Callable[..., str | Json], ...]] = (
    echo, add, raw, sleep, cancelled, progress, log, ask, survey, visit, visit_first, sample, roots,
    touch, rename, redefine, fail, crash, pid, env, meta, params,
)  # fmt: skip
TOOLS: Final = {tool.__name__: tool for tool in _TOOLBOX}


def _form(question: str) -> Question:
    return "elicitation/create", {"message": question, "requestedSchema": FORM}


def _sampling(prompt: str) -> Question:
    said = {"role": "user", "content": {"type": "text", "text": prompt}}
    return "sampling/createMessage", {"messages": [said], "maxTokens": 100}


# Resources, prompts and completion.

NOTE_TEMPLATE: Final[Json] = {"uriTemplate": "test://notes/{number}", "name": "note"}
GREETING: Final[Json] = {
    "name": "greet",
    "description": "Greets somebody.",
    "arguments": [{"name": "name", "required": True}, {"name": "style", "required": False}],
}


def _text(text: str) -> Json:
    return {"content": [{"type": "text", "text": text}]}


def _resource(uri: str) -> Json:
    kind = "image/gif" if uri == PIXEL else "text/plain"
    return {"uri": uri, "name": uri.removeprefix("test://"), "mimeType": kind}


def _get_prompt(call: Call) -> Json:
    """The listed prompt `greet`, or `interview`, which is not listed and asks the person."""
    match call.params["name"], call.params.get("arguments") or {}:
        case "greet", {"name": name, **rest}:
            said = f"Greet {name} in a {rest.get('style', STYLES[0])} way."
        case "interview", _:
            answer = call.ask("whom", *_form("whom?"))
            said = f"Greet {answer.get('content', {}).get('answer', answer['action'])}."
        case _:
            raise Refusal(INVALID_PARAMS, "The prompts are greet, which needs a name, and interview")
    return {"messages": [{"role": "user", "content": {"type": "text", "text": said}}]}


def _complete(call: Call) -> Json:
    choices: tuple[str, ...] = ()
    match call.params["ref"], call.params["argument"]["name"]:
        case {"type": "ref/prompt", "name": "greet"}, "style":
            choices = STYLES
        case {"type": "ref/resource", "uri": "test://notes/{number}"}, "number":
            choices = ("1", "2", "3")
    values = [choice for choice in choices if choice.startswith(call.params["argument"]["value"])]
    return {"completion": {"values": values, "total": len(values), "hasMore": False}}
