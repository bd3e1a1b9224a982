"""A client of one pack's own process, as `bascule.packs` runs it: real pipes, one request at a time."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

WITHIN_S: Final = 30.0  # nothing that a test waits for takes longer


class Talk:
    """A pack that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._ids = 0

    async def request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The whole answer: a message with a `result` or an `error`."""
        self._ids += 1
        message = {"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params or {}}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        async with asyncio.timeout(WITHIN_S):
            line = await self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line)
        assert answer["id"] == self._ids
        return answer

    async def call(self, tool: str, key: str | None = None, **arguments: Any) -> dict[str, Any]:
        """What a tool gives. Fails, showing what it said, if it could not do it."""
        result = await self.try_call(tool, key, **arguments)
        assert not result.get("isError"), result["content"][0]["text"]
        found: dict[str, Any] = result["structuredContent"]
        return found

    async def refusal(self, tool: str, key: str | None = None, **arguments: Any) -> str:
        """What a tool says that cannot do it. Fails, showing the result, if it could."""
        result = await self.try_call(tool, key, **arguments)
        assert result.get("isError") is True, result
        text: str = result["content"][0]["text"]
        return text

    async def try_call(self, tool: str, key: str | None = None, **arguments: Any) -> dict[str, Any]:
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        if key is not None:
            params["_meta"] = {"dev.bascule/idempotencyKey": key}
        answer = await self.request("tools/call", params)
        assert "result" in answer, answer["error"]
        result: dict[str, Any] = answer["result"]
        return result


@asynccontextmanager
async def talking(pack: str, **settings: Any) -> AsyncIterator[Talk]:
    """The pack with these *settings*, started as the gateway starts it, and ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "bascule.packs", pack),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"BASCULE_PACK": json.dumps(settings), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        limit=16 * 1024 * 1024,
    )
    try:
        yield Talk(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(WITHIN_S):
            await process.wait()
