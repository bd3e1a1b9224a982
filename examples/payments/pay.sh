#!/bin/sh
# ./pay.sh KEY TO AMOUNT [TOKEN]: one payment of a stateless client (2026-07-28), TOKEN being that of a confirmation.
url=${BASCULE_URL:-http://127.0.0.1:8777/mcp}
exec curl -si "$url" \
    -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
    -H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/call' -H 'Mcp-Name: bank__pay' \
    -H "Idempotency-Key: $1" \
    -d '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "bank__pay", "arguments": {"to": "'"$2"'", "amount": '"$3"'},
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                  "io.modelcontextprotocol/clientInfo": {"name": "pay.sh", "version": "1.0.0"},
                  "io.modelcontextprotocol/clientCapabilities": {},
                  "dev.bascule/confirmationToken": "'"$4"'"}}}'
