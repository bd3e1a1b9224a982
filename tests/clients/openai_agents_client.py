"""The OpenAI Agents SDK's way to MCP servers, without its models: `openai_agents_client.py URL`."""

import argparse
import asyncio

import features
from agents.mcp import MCPServerStreamableHttp
from features import TEXT


class Exercise:
    """The two of features.BASICS."""

    def __init__(self, server: MCPServerStreamableHttp) -> None:
        self.server = server

    async def tools(self) -> list[str]:
        return [tool.name for tool in await self.server.list_tools()]

    async def echo(self) -> str:
        said: str = (await self.server.call_tool("echo", {"text": TEXT})).content[0].text
        return said


async def main(args: argparse.Namespace) -> None:
    async with MCPServerStreamableHttp({"url": args.where[0]}) as server:
        assert server.session
        await features.report(str(server.session.protocol_version), Exercise(server), everything=False)


if __name__ == "__main__":
    asyncio.run(main(features.arguments(__doc__)))
