"""MCP servers in a few lines, for the scenarios: a function is a tool, its signature the schema.

Standard input and output, revision 2025-11-25, one call after another. It knows nothing of callers, prices or
approvals: what a tool promises is in the contracts beside each bascule.yaml, and holding it to that is the gateway's.
"""

import inspect
import json
import sys
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar, get_type_hints

Json: TypeAlias = dict[str, Any]
Function = TypeVar("Function", bound=Callable[..., Any])

REVISION: Final = "2025-11-25"
TYPES: Final = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}


class Failed(Exception):
    """What the tool could not do, and why: for a model to read."""


class Server:
    def __init__(self, name: str) -> None:
        self.name = name
        self.tools: dict[str, Callable[..., Json]] = {}
        self.resources: dict[str, Callable[[], Json]] = {}

    def tool(self, function: Function) -> Function:
        self.tools[function.__name__] = function
        return function

    def resource(self, uri: str) -> Callable[[Function], Function]:
        def keep(function: Function) -> Function:
            self.resources[uri] = function
            return function

        return keep

    def run(self) -> None:
        """Serve whoever started it, until its input ends."""
        for line in sys.stdin:
            answer = self.answer(json.loads(line))
            if answer is not None:
                print(json.dumps(answer), flush=True)

    def answer(self, request: Json) -> Json | None:
        """The answer to a message; None where there is none."""
        if "id" not in request:
            return None
        result = self._result(request["method"], request.get("params", {}))
        answered = {"error": {"code": -32601, "message": "no such method"}} if result is None else {"result": result}
        return {"jsonrpc": "2.0", "id": request["id"], **answered}

    def _result(self, method: str, params: Json) -> Json | None:
        match method:
            case "initialize":
                able: Json = {"tools": {}, **({"resources": {}} if self.resources else {})}
                server = {"name": self.name, "version": "1.0.0"}
                return {"protocolVersion": REVISION, "capabilities": able, "serverInfo": server}
            case "ping":
                return {}
            case "tools/list":
                return {"tools": [listed(name, function) for name, function in self.tools.items()]}
            case "tools/call":
                return called(self.tools[params["name"]], params.get("arguments", {}))
            case "resources/list":
                return {"resources": [{"uri": uri, "name": uri} for uri in self.resources]}
            case "resources/read":
                text = json.dumps(self.resources[params["uri"]]())
                return {"contents": [{"uri": params["uri"], "mimeType": "application/json", "text": text}]}
        return None


def listed(name: str, function: Callable[..., Json]) -> Json:
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters
    schema = {
        "type": "object",
        "properties": {each: {"type": TYPES[hints[each]]} for each in parameters},
        "required": [each for each, said in parameters.items() if said.default is said.empty],
    }
    return {"name": name, "description": inspect.getdoc(function), "inputSchema": schema}


def called(function: Callable[..., Json], arguments: Json) -> Json:
    try:
        result = function(**arguments)
    except Failed as error:
        return {"content": [{"type": "text", "text": str(error)}], "isError": True}
    text = json.dumps(result, ensure_ascii=False)
    return {"content": [{"type": "text", "text": text}], "structuredContent": result, "isError": False}
