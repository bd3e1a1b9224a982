"""The OpenAI Agents SDK's way to MCP servers, without its models: `openai_agents_client.py URL`."""

import asyncio
import json
import sys

from agents.mcp import MCPServerStreamableHttp

TEXT = "Zuglbrücke ⇅ 😀"
WITHIN_S = 15


async def main(url: str) -> None:
    async with asyncio.timeout(WITHIN_S), MCPServerStreamableHttp({"url": url}) as server:
        tools = [tool.name for tool in await server.list_tools()]
        echo = (await server.call_tool("echo", {"text": TEXT})).content[0].text
        assert server.session
        said = {"protocol": server.session.protocol_version, "tools": tools, "echo": echo}
    print(json.dumps(said))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
