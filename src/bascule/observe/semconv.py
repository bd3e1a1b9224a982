"""The names that spans are told by. PURE: nothing but words.

Source: OpenTelemetry semantic conventions for generative AI, "Model Context Protocol" (status: Development, so that
names may still change: here and nowhere else); what they have no name for is ours, under `bascule.`.
"""

from typing import Final

# ---- of MCP and of what it is made of
MCP_METHOD: Final = "mcp.method.name"
MCP_VERSION: Final = "mcp.protocol.version"
MCP_SESSION: Final = "mcp.session.id"
MCP_RESOURCE: Final = "mcp.resource.uri"
JSONRPC_REQUEST: Final = "jsonrpc.request.id"
RPC_STATUS: Final = "rpc.response.status_code"  # the code of a JSON-RPC error, as text
OPERATION: Final = "gen_ai.operation.name"
EXECUTE_TOOL: Final = "execute_tool"
TOOL: Final = "gen_ai.tool.name"
PROMPT: Final = "gen_ai.prompt.name"
TRANSPORT: Final = "network.transport"  # "tcp" or "pipe"
ERROR: Final = "error.type"
TOOL_ERROR: Final = "tool_error"  # of a result that says `isError`

# ---- ours
CALLER: Final = "bascule.caller"
SERVER: Final = "bascule.server"
VERSION: Final = "bascule.contract.version"
CATEGORY: Final = "bascule.category"
CODE: Final = "bascule.code"  # of our error (errors.py)
DECISION: Final = "bascule.decision"
RULE: Final = "bascule.rule"
COST: Final = "bascule.cost_usd"
ATTEMPTS: Final = "bascule.attempts"
CACHED: Final = "bascule.cached"
REPLAYED: Final = "bascule.replayed"

# ---- of the process
SERVICE: Final = "service.name"
SERVICE_VERSION: Final = "service.version"

# What calls one thing by name: its method, and the attribute that the name stands under.
NAMED: Final = {"tools/call": TOOL, "prompts/get": PROMPT}
