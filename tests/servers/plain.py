"""A well-behaved legacy MCP server over stdio, or HTTP (web.py): handshake, session, questions in mid-call."""

import argparse
import itertools
import queue
from typing import Any, ClassVar, Final

from server import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEVELS,
    Call,
    Cancelled,
    Failure,
    Json,
    Outlet,
    Question,
    Refusal,
    Server,
    World,
    lacking,
    options,
)

REVISIONS: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
URL_ELICITATION_REQUIRED: Final = -32042


class PlainServer(Server):
    """2024-11-05 to 2025-11-25. One of these is one session."""

    info: ClassVar[Json] = {"name": "plain", "version": "1.0.0"}
    resource_not_found: ClassVar = -32002

    def __init__(self, options: argparse.Namespace, world: World | None = None, outlet: Outlet | None = None) -> None:
        super().__init__(options, world, outlet)
        self.revision: str = options.revision
        self.client_capabilities: Json = {}
        self.ready = False
        self.level = LEVELS[0]
        self.subscribed: set[str] = set()
        self._numbers = itertools.count(1)
        self._asked: dict[str, queue.SimpleQueue[Json | None]] = {}
        self.methods |= {
            "initialize": self._initialize,
            "ping": lambda call: {},
            "logging/setLevel": self._set_level,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
        }

    def admit(self, call: Call) -> None:
        if not self.ready and call.method not in ("initialize", "ping"):
            raise Refusal(INVALID_REQUEST, f"{call.method} before the handshake was complete")

    def dress(self, call: Call, result: Json) -> Json:
        if self.revision >= "2025-06-18":
            return result
        if call.method == "tools/list":
            return result | {"tools": [_without(tool, "outputSchema") for tool in result["tools"]]}
        return _without(result, "structuredContent")

    def ask(self, call: Call, questions: dict[str, Question]) -> Json:
        if needed := lacking(self.client_capabilities, questions):
            raise Failure(f"the client does not support {', '.join(needed)}")
        pages: dict[str, str] = {}
        waiting = {}
        for key, (method, params) in questions.items():
            id = f"{call.id}/{key}/{next(self._numbers)}"  # a string, so it is never mistaken for one of theirs
            waiting[key] = self._asked[id] = queue.SimpleQueue()
            if params.get("mode") == "url":
                pages[key] = id
                params = params | {"elicitationId": id}
            call.send(id=id, method=method, params=params)
        answers = {key: self._answer_to(questions[key][0], answer) for key, answer in waiting.items()}
        for key, id in pages.items():
            if answers[key]["action"] == "accept":
                call.notify("elicitation/complete", elicitationId=id)
        return answers

    def visit_first(self, call: Call, url: str) -> None:
        if url not in self.world.visited:
            self.world.visited.add(url)
            page = {"mode": "url", "elicitationId": url, "url": url, "message": "Please sign in"}
            raise Refusal(URL_ELICITATION_REQUIRED, "Please sign in first", elicitations=[page])

    def cancel(self, call: Call) -> None:
        super().cancel(call)
        for id in [id for id in list(self._asked) if id.startswith(f"{call.id}/")]:
            self._asked.pop(id).put(None)

    def take_response(self, response: Json) -> None:
        if answer := self._asked.pop(response["id"], None):
            answer.put(response)

    def _answer_to(self, method: str, answer: "queue.SimpleQueue[Json | None]") -> Json:
        if (response := answer.get()) is None:
            raise Cancelled
        if "error" in response:
            raise Failure(f"{method} was refused: {response['error']['message']}")
        result: Json = response["result"]
        return result

    def take_notification(self, method: str, params: Json) -> None:
        if method == "notifications/initialized":
            self.ready = True
        super().take_notification(method, params)

    def log_level(self, call: Call) -> str | None:
        return self.level

    def tools_changed(self) -> None:
        self.notify("tools/list_changed")

    def resource_updated(self, uri: str) -> None:
        if uri in self.subscribed:
            self.notify("resources/updated", uri=uri)

    def _initialize(self, call: Call) -> Json:
        if (requested := call.params["protocolVersion"]) in REVISIONS:
            self.revision = min(requested, self.revision)
        self.client_capabilities = call.params["capabilities"]
        spoken = {"protocolVersion": self.revision, "capabilities": self.capabilities}
        return spoken | {"serverInfo": self.info, "instructions": "A server for tests."}

    def _set_level(self, call: Call) -> Json:
        if call.params["level"] not in LEVELS:
            raise Refusal(INVALID_PARAMS, f"No such level: {call.params['level']}")
        self.level = call.params["level"]
        return {}

    def _subscribe(self, call: Call) -> Json:
        if call.params["uri"] not in self.world.revisions:
            raise Refusal(self.resource_not_found, "Resource not found", uri=call.params["uri"])
        self.subscribed.add(call.params["uri"])
        return {}

    def _unsubscribe(self, call: Call) -> Json:
        self.subscribed.discard(call.params["uri"])
        return {}


def _without(mapping: Json, key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = options(description)
    parser.add_argument("--revision", choices=REVISIONS, default=REVISIONS[0], help="the newest one to speak")
    return parser


if __name__ == "__main__":
    PlainServer(arguments(__doc__).parse_args()).serve()
