"""LangChain's MCP adapter, where each call opens a session of its own: `langchain_client.py URL`."""

import argparse
import asyncio

import features
from features import TEXT
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.sessions import StreamableHttpConnection


class Exercise:
    """The two of features.BASICS."""

    def __init__(self, client: MultiServerMCPClient) -> None:
        self.client = client

    async def tools(self) -> list[str]:
        return [tool.name for tool in await self.client.get_tools()]

    async def echo(self) -> str:
        found = {tool.name: tool for tool in await self.client.get_tools()}
        said: str = (await found["echo"].ainvoke({"text": TEXT}))[0]["text"]
        return said


async def main(args: argparse.Namespace) -> None:
    connection = StreamableHttpConnection(transport="streamable_http", url=args.where[0])
    client = MultiServerMCPClient({"bascule": connection})
    async with client.session("bascule", auto_initialize=False) as session:
        protocol = (await session.initialize()).protocolVersion
    await features.report(str(protocol), Exercise(client), everything=False)


if __name__ == "__main__":
    asyncio.run(main(features.arguments(__doc__)))
