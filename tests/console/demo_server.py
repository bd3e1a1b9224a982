"""An MCP server with tools that look like those of a company: `demo_server.py crm`. For screenshots, and to try things.

Speaks the old handshake over stdio, answers at once, and knows nothing.
"""

import json
import sys
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]


def _schema(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": [name for name in properties if name != "note"]}


_TEXT: Final[Json] = {"type": "string"}
_EMAIL: Final[Json] = {"type": "string", "format": "email"}
_AMOUNT: Final[Json] = {"type": "number", "minimum": 0}

TOOLS: Final[dict[str, dict[str, tuple[str, Json]]]] = {
    "crm": {
        "create_lead": (
            "Creates a lead. SIDE EFFECT. Fails if the email is already a lead.",
            _schema(name=_TEXT, email=_EMAIL, value=_AMOUNT, note=_TEXT),
        ),
        "find_customer": ("Finds a customer by name, email or phone.", _schema(query=_TEXT)),
        "update_stage": ("Moves a deal to another stage of the pipeline.", _schema(deal=_TEXT, stage=_TEXT)),
        "list_activities": ("Lists calls, mails and meetings with a customer.", _schema(customer=_TEXT)),
    },
    "billing": {
        "issue_refund": ("Pays money back to a customer. SIDE EFFECT.", _schema(invoice=_TEXT, amount=_AMOUNT)),
        "get_invoice": ("Returns an invoice with its lines.", _schema(invoice=_TEXT)),
        "list_unpaid": ("Lists invoices that are overdue.", _schema(days={"type": "integer", "minimum": 1})),
    },
    "docs": {
        "search": ("Searches the handbook and all wikis, and returns the best passages.", _schema(query=_TEXT)),
        "summarize": ("Summarises a document in the language that it is written in.", _schema(document=_TEXT)),
        "translate": ("Translates a document.", _schema(document=_TEXT, language=_TEXT)),
    },
    "weather": {"forecast": ("Forecast for a place, three days ahead.", _schema(place=_TEXT))},
}


def answer(name: str, method: str, params: Json) -> Json:
    """The result of one request to the server called *name*."""
    match method:
        case "initialize":
            return {
                "protocolVersion": params.get("protocolVersion", "2025-11-25"),
                "capabilities": {"tools": {"listChanged": True}},
                "serverInfo": {"name": f"{name}-server", "version": "1.4.2"},
            }
        case "tools/list":
            tools = TOOLS[name].items()
            return {"tools": [{"name": n, "description": about, "inputSchema": s} for n, (about, s) in tools]}
        case "tools/call":
            return {"content": [{"type": "text", "text": json.dumps({"ok": True, **params.get("arguments", {})})}]}
        case _:
            return {}


def main() -> None:
    name = sys.argv[1]
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            result = answer(name, message["method"], message.get("params") or {})
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
