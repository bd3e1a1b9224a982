"""A bank that can only pay: each payment is a line of payments.txt. An MCP server over stdio, of the old protocol."""

import json
import sys
import time

PAY = {
    "name": "pay",
    "description": "Pays an amount. Each call pays again.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "to": {"type": "string"},
            "amount": {"type": "number", "exclusiveMinimum": 0},
            "takes_s": {"type": "number", "description": "How long the bank thinks about it."},
        },
        "required": ["to", "amount"],
        "additionalProperties": False,
    },
}


def pay(to, amount, takes_s=0):
    time.sleep(takes_s)
    with open("payments.txt", "a", encoding="utf-8") as ledger:
        print(amount, to, file=ledger)
    return {"content": [{"type": "text", "text": f"paid {amount} to {to}"}]}


def answer_to(method, params):
    if method == "initialize":
        server = {"name": "bank", "version": "1.0.0"}
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": server}
    if method == "tools/list":
        return {"tools": [PAY]}
    if method == "tools/call":
        return pay(**params["arguments"])
    return {} if method == "ping" else None


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    reply = {"jsonrpc": "2.0", "id": request["id"]}
    result = answer_to(request["method"], request.get("params", {}))
    if result is None:
        reply["error"] = {"code": -32601, "message": "no such method"}
    else:
        reply["result"] = result
    print(json.dumps(reply), flush=True)
