"""An MCP server over stdio with the tools of a small company: `shop.py [--more N]` lists N further ones.

Their schemas are of all kinds that people write. A call says what it was called with, and of which number it is.
"""

import argparse
import json
import sys
from itertools import count
from typing import Any, Final

Json = dict[str, Any]

ADDRESS: Final[Json] = {
    "type": "object",
    "description": "Where it is.",
    "properties": {
        "street": {"type": "string"},
        "city": {"type": "string"},
        "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
    },
    "required": ["city"],
}
TOOLS: Final[list[Json]] = [
    {
        "name": "create_lead",
        "title": "Create a lead",
        "description": "Creates a lead for the sales team, and tells whoever looks after it.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "Of the person.", "examples": ["Ada Lovelace"]},
                "source": {"enum": ["web", "fair", "friend"], "description": "How we know them."},
                "email": {"type": "string", "format": "email"},
                "score": {"type": "integer", "minimum": 0, "maximum": 100, "default": 50},
                "budget_usd": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}]},
                "newsletter": {"type": "boolean"},
                "since": {"type": "string", "format": "date"},
                "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
                "channels": {"type": "array", "items": {"enum": ["mail", "phone", "post"]}},
                "address": {"$ref": "#/$defs/Address"},
                "extra": {"type": "object", "description": "Anything else."},
            },
            "required": ["name", "source"],
            "$defs": {"Address": ADDRESS},
        },
        "outputSchema": {"type": "object", "properties": {"number": {"type": "integer"}}},
    },
    {
        "name": "search_leads",
        "description": "Finds leads by words in their names.",
        "inputSchema": {
            "type": "object",
            "properties": {"query": {"type": "string"}, "most": {"type": "integer", "minimum": 1}},
            "required": ["query"],
        },
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "delete_lead",
        "description": "Deletes a lead for ever.",
        "inputSchema": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
    },
    {
        "name": "draw_chart",
        "description": "Draws the leads of a year, as a picture.",
        "inputSchema": {"type": "object", "properties": {}},
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "route",
        "description": "Takes one thing or another: no form can say that.",
        "inputSchema": {"type": "object", "oneOf": [{"required": ["from"]}, {"required": ["to"]}]},
    },
]
_VERBS: Final = ("list", "get", "create", "update", "archive", "count", "export", "send")
_NOUNS: Final = ("invoice", "order", "customer", "ticket", "shipment", "contract", "employee", "report")
_PIXEL: Final = "R0lGODlhAQABAAAAACwAAAAAAQABAAA="


def more(number: int) -> Json:
    """One of many: their names differ, and what is said of them."""
    verb, noun = _VERBS[number % len(_VERBS)], _NOUNS[number // len(_VERBS) % len(_NOUNS)]
    about = f"{verb.capitalize()}s every {noun} of the branch number {number}, however many there are of them."
    return {
        "name": f"{verb}_{noun}_{number:03}",
        "description": about,
        "inputSchema": {"type": "object", "properties": {"id": {"type": "string"}}},
    }


def answer_of(name: str, arguments: Json, number: int) -> Json:
    if name == "draw_chart":
        return {"content": [{"type": "image", "mimeType": "image/gif", "data": _PIXEL}]}
    if name == "delete_lead" and arguments.get("id") == "none":
        return {"content": [{"type": "text", "text": "there is no such lead"}], "isError": True}
    said = {"number": number, "tool": name, "arguments": arguments}
    return {"content": [{"type": "text", "text": json.dumps(said)}], "structuredContent": said}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--more", type=int, default=0)
    tools = [*TOOLS, *map(more, range(parser.parse_args().more))]
    numbers = count(1)
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        match message["method"]:
            case "initialize":
                told = {"capabilities": {"tools": {}}, "serverInfo": {"name": "shop", "version": "1"}}
                result = {"protocolVersion": message["params"]["protocolVersion"], **told}
            case "tools/list":
                result = {"tools": tools}
            case "tools/call":
                said = message["params"]
                result = answer_of(said["name"], said.get("arguments") or {}, next(numbers))
            case _:
                error = {"code": -32601, "message": f"no method {message['method']}"}
                print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
                continue
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)


if __name__ == "__main__":
    main()
