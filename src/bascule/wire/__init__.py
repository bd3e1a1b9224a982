"""MCP as bytes and state. PURE: nothing here awaits, opens, reads a clock or the environment."""
