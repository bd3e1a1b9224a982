"""A server over stdio whose one tool, `echo`, tells what stood in the `_meta` of the call. Of one era, by option."""

import argparse
import json
import sys
from typing import Any

MODERN = "2026-07-28"
ECHO = {"name": "echo", "description": "Tells.", "inputSchema": {"type": "object"}}
INFO = {"name": "telling", "version": "1.0.0"}


def result_of(method: str, params: dict[str, Any], *, modern: bool) -> dict[str, Any] | None:
    """What *method* comes to; None if there is no such method."""
    hints = {"resultType": "complete", "ttlMs": 60_000, "cacheScope": "private"} if modern else {}
    match method:
        case "server/discover" if modern:
            return {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "serverInfo": INFO, **hints}
        case "initialize" if not modern:
            return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": INFO}
        case "tools/list":
            return {"tools": [ECHO], **hints}
        case "tools/call":
            told = {"content": [{"type": "text", "text": json.dumps(params.get("_meta", {}))}]}
            return {**told, "resultType": "complete"} if modern else told
        case _:
            return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--modern", action="store_true")
    modern = parser.parse_args().modern
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = result_of(message["method"], message.get("params", {}), modern=modern)
        said: dict[str, Any] = {"error": {"code": -32601, "message": "Method not found"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **(said if result is None else {"result": result})}))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
