"""Tools that come with Bascule: each pack an ordinary MCP server, in a process of its own.

`pack.py` is what a pack is made of, `server.py` speaks MCP for it, `catalog.py` knows which there are, `entry.py`
makes a server of a configuration out of one, `apart.py` reads untrusted files in a child that may be killed.
A folder for each pack: `contracts/` says what its tools promise, `options.py` what can be set and what the process
needs of the machine, `pack.py` puts it together. Another package's pack is found by the entry point `bascule.packs`.
"""
