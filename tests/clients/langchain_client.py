"""LangChain's MCP adapter, where each call opens a session of its own: `langchain_client.py URL`."""

import asyncio
import json
import sys

from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.sessions import StreamableHttpConnection

TEXT = "Zuglbrücke ⇅ 😀"
WITHIN_S = 15


async def main(url: str) -> None:
    client = MultiServerMCPClient({"bascule": StreamableHttpConnection(transport="streamable_http", url=url)})
    async with asyncio.timeout(WITHIN_S):
        tools = {tool.name: tool for tool in await client.get_tools()}
        echo = await tools["echo"].ainvoke({"text": TEXT})
        async with client.session("bascule", auto_initialize=False) as session:
            protocol = (await session.initialize()).protocolVersion
    said = {"protocol": protocol, "tools": list(tools), "echo": echo[0]["text"]}
    print(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
