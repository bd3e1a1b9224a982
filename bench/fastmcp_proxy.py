"""FastMCP's own proxy in front of a stdio server, as its documentation shows it: the peer of `bascule run`.

Run by the interpreter that has FastMCP (`peers.py`): python fastmcp_proxy.py PORT COMMAND [ARGUMENT …]
"""

from __future__ import annotations

import sys

from fastmcp.client.transports import StdioTransport  # type: ignore[import-not-found]
from fastmcp.server import create_proxy  # type: ignore[import-not-found]


def main(port: str, command: str, *arguments: str) -> None:
    proxy = create_proxy(StdioTransport(command, list(arguments)), name="echo")
    proxy.run("http", host="127.0.0.1", port=int(port), log_level="error", show_banner=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
