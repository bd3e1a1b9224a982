"""A well-behaved legacy MCP server over stdio: handshake, session, questions to the client in mid-call."""

import argparse
import itertools
import queue
from typing import Any, ClassVar, Final

from server import INVALID_PARAMS, INVALID_REQUEST, LEVELS, Call, Failure, Json, Refusal, Server, options

REVISIONS: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
NEEDS: Final = {  # the client capability without which a request must not be sent
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}


class PlainServer(Server):
    """2024-11-05 to 2025-11-25. One process is one session."""

    info: ClassVar[Json] = {"name": "plain", "version": "1.0.0"}
    resource_not_found: ClassVar = -32002

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.revision: str = options.revision
        self.client_capabilities: Json = {}
        self.ready = False
        self.level = LEVELS[0]
        self.subscribed: set[str] = set()
        self._numbers = itertools.count(1)
        self._asked: dict[str, queue.SimpleQueue[Json]] = {}
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

    def ask(self, call: Call, key: str, method: str, params: Json) -> Json:
        if NEEDS[method] not in self.client_capabilities:
            raise Failure(f"the client does not support {NEEDS[method]}")
        id = f"{call.id}/{key}/{next(self._numbers)}"  # a string, so it is never mistaken for one of theirs
        answer = self._asked[id] = queue.SimpleQueue()
        self.send(id=id, method=method, params=params)
        response = answer.get()
        if "error" in response:
            raise Failure(f"{method} was refused: {response['error']['message']}")
        result: Json = response["result"]
        return result

    def take_response(self, response: Json) -> None:
        if answer := self._asked.pop(response["id"], None):
            answer.put(response)

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
        if call.params["uri"] not in self.revisions:
            raise Refusal(self.resource_not_found, "Resource not found", uri=call.params["uri"])
        self.subscribed.add(call.params["uri"])
        return {}

    def _unsubscribe(self, call: Call) -> Json:
        self.subscribed.discard(call.params["uri"])
        return {}


def _without(mapping: Json, key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--revision", choices=REVISIONS, default=REVISIONS[0], help="the newest one to speak")
    PlainServer(parser.parse_args()).serve()
