"""What the configuration of each MCP client looks like and where it lies: read by `import`, written by `connect`.

`known` and the formats compute; `files` and `ledger` alone touch a disk. Nothing here reads the environment or starts
a process, whatever a configuration says.
"""
