"""One process takes over from another under load: no call with a key fails, and none is made twice."""

import asyncio
import json
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from gateway import Bascule, alive, local, serving

PER_S: Final = 100
RESTARTS: Final = 3
SERVES_S: Final = 1.5  # each process, before the next one takes over
DELAY_S: Final = 0.3  # for which it serves although it says that it is not ready
MOVE: Final = 50005
RUNNING: Final = 40901
WITHIN_S: Final = 20.0


@dataclass
class Client:
    """Sends calls with keys to the process that it knows, and goes on to the next when that one sends it away."""

    processes: list[Bascule] = field(default_factory=list)
    receipts: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    at: int = 0  # of the processes

    async def pay(self, order: str) -> None:
        try:
            async with asyncio.timeout(WITHIN_S):
                while (receipt := await self._try(order)) is None:  # noqa: ASYNC110 - a process far away has no event
                    await asyncio.sleep(0.05)
                self.receipts[order] = receipt
        except (AssertionError, TimeoutError) as error:
            self.failures.append(f"{order}: {error or 'no end'}")

    async def _try(self, order: str) -> str | None:
        """The receipt; None if the same key has to be sent again."""
        at = self.at
        params = {"name": "bank__pay", "arguments": {"order": order, "amount": 1, "after_s": 0.02}}
        headers: Any = {"idempotency-key": f"key-of-order-{order}"}
        try:
            async with self.processes[at].modern().open("tools/call", params, headers=headers) as exchange:
                message = await exchange.last()
                replayed = "idempotent-replayed" in exchange.headers
        except (aiohttp.ClientError, AssertionError) as error:  # refused, or cut in the middle
            self._move(at, type(error).__name__)
            return None
        if "result" in message and not message["result"].get("isError"):
            self.seen["replayed" if replayed else "made"] += 1
            receipt: str = message["result"]["structuredContent"]["receipt"]
            return receipt
        data = message["error"]["data"] if "error" in message else message["result"]["_meta"]["dev.bascule/error"]
        assert data["code"] in (MOVE, RUNNING), data
        if data["code"] == MOVE:
            self._move(at, "draining")
        return None

    def _move(self, from_: int, why: str) -> None:
        self.seen[why] += 1
        if self.at == from_:
            self.at = min(from_ + 1, len(self.processes) - 1)


async def roll(client: Client, stack: AsyncExitStack, path: Path) -> list[int]:
    """Start the next process, end the one before, so many times; the children there were."""
    children: list[int] = []
    for _ in range(RESTARTS):
        await asyncio.sleep(SERVES_S)
        old = client.processes[-1]
        children += (await old.server("bank"))["pids"]
        await begin(client, stack, path)
        assert old.process
        old.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WITHIN_S):
            assert await old.process.wait() == 0
    await asyncio.sleep(SERVES_S)
    return children


async def begin(client: Client, stack: AsyncExitStack, path: Path) -> None:
    bascule = await stack.enter_async_context(serving(path))
    await bascule.up("bank")
    client.processes.append(bascule)


async def test_a_rolling_restart_loses_no_call_with_a_key_and_makes_none_twice(tmp_path: Path) -> None:
    path, count = tmp_path / "bascule.json", tmp_path / "count"
    servers = {"bank": local("counting", "modern", "--count", str(count))}
    drain = {"delay_s": DELAY_S, "calls_s": 10}
    path.write_text(json.dumps({"servers": servers, "state_dir": str(tmp_path / "state"), "drain": drain}))
    client = Client()
    async with AsyncExitStack() as stack:
        await begin(client, stack, path)
        rolling = asyncio.ensure_future(roll(client, stack, path))
        began, sent = time.monotonic(), 0
        async with asyncio.TaskGroup() as calls:
            while not rolling.done():
                for _ in range(int((time.monotonic() - began) * PER_S) - sent + 1):
                    calls.create_task(client.pay(f"{sent:08}"))
                    sent += 1
                await asyncio.sleep(1 / PER_S)
        children = await rolling
    executed = [line.split()[:3] for line in count.read_text().splitlines()]
    receipts = {order: receipt for _, order, receipt in executed}
    assert client.failures == []
    assert len(client.receipts) == sent
    assert len(executed) == len(receipts), "made twice"
    assert client.receipts == receipts
    assert len(children) == RESTARTS
    assert not any(map(alive, children))
    assert client.seen["draining"] + sum(each for why, each in client.seen.items() if why.endswith("Error")) > 0
