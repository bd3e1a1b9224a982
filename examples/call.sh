#!/usr/bin/env bash
# One stateless call (MCP 2026-07-28) with nothing but curl:  examples/call.sh http://127.0.0.1:8777/mcp TOOL '{"argument": "value"}'
set -euo pipefail
curl -sS "$1" \
    -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' \
    -H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/call' -H "Mcp-Name: $2" \
    ${BASCULE_TOKEN:+-H "Authorization: Bearer $BASCULE_TOKEN"} \
    -d '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "'"$2"'", "arguments": '"${3:-{\}}"',
         "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}}'
echo
