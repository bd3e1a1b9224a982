"""FastMCP's client: `fastmcp_client.py URL [--mode auto|legacy|2026-07-28]`."""

import argparse
import asyncio
import json

from fastmcp import Client

TEXT = "Zuglbrücke ⇅ 😀"
WITHIN_S = 15


async def main(url: str, mode: str) -> None:
    async with asyncio.timeout(WITHIN_S), Client(url, mode=mode) as client:
        tools = [tool.name for tool in await client.list_tools()]
        echo = (await client.call_tool("echo", {"text": TEXT})).content[0].text
        said = {"protocol": client.session.protocol_version, "tools": tools, "echo": echo}
    print(json.dumps(said))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--mode", default="auto")
    args = parser.parse_args()
    asyncio.run(main(args.url, args.mode))
