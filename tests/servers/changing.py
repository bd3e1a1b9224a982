"""An MCP server over stdio whose list is what stands in a file: `changing.py --tools FILE [--churn]`.

The file is read at each `tools/list`, so a test changes a definition by writing it. `nudge` tells that the list has
changed. With `--churn` each list is another one.
"""

import argparse
import json
import sys
from itertools import count
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

NUDGE: Final[Json] = {"name": "nudge", "inputSchema": {"type": "object"}}


def send(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def listed(path: Path, churn: bool, lists: "count[int]") -> list[Json]:
    found: list[Json] = [*json.loads(path.read_text())["tools"], NUDGE]
    number = next(lists)
    return [{**each, "description": f"List {number}."} for each in found] if churn else found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--churn", action="store_true")
    options = parser.parse_args()
    lists = count(1)
    for line in sys.stdin:
        message = json.loads(line)
        match message.get("method"):
            case _ if "id" not in message:
                continue
            case "initialize":
                told = {"name": "changing", "version": "1"}
                spoken = message["params"]["protocolVersion"]
                answer: Json = {"capabilities": {"tools": {"listChanged": True}}, "serverInfo": told}
                send(id=message["id"], result={"protocolVersion": spoken, **answer})
            case "tools/list":
                send(id=message["id"], result={"tools": listed(options.tools, options.churn, lists)})
            case "tools/call":
                name = message["params"]["name"]
                if name == "nudge":
                    send(method="notifications/tools/list_changed")
                send(id=message["id"], result={"content": [{"type": "text", "text": f"{name} ran"}]})
            case "ping":
                send(id=message["id"], result={})
            case method:
                send(id=message["id"], error={"code": -32601, "message": f"no method {method}"})


if __name__ == "__main__":
    main()
