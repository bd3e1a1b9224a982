"""Calls as the stages of the pipeline see them, for their tests."""

import asyncio
from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from bascule.call import Call, Caller, Result
from bascule.contract.model import Contract
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import BY_VERSION, LATEST_LEGACY

MODERN = BY_VERSION["2026-07-28"]
ANSWER = Result(Raw(b'{"content":[]}'))


class Standing:
    """A legacy session, as far as stages look at it."""

    def __init__(self, id: str, caller: str = "me", family: str = "") -> None:
        self.id = id
        self.family = family or id
        self.caller = Caller(caller)
        self.revision = LATEST_LEGACY
        self.hello: Params = {}
        self.capabilities: Mapping[str, Any] = {}

    def notify(self, method: str, params: Params) -> None:
        raise AssertionError("no stage does")

    def announce(self, method: str, params: Params) -> None:
        raise AssertionError("no stage does")

    async def ask(self, method: str, params: Params) -> Result:
        raise AssertionError("no stage does")


def call(
    caller: str = "me", contract: Contract | None = None, *, session: str = "", method: str = "tools/call"
) -> Call:
    standing = Standing(session, caller)
    return Call(
        caller=Caller(caller),
        client=standing,
        revision=LATEST_LEGACY if session else MODERN,
        method=method,
        session=standing if session else None,
        contract=contract,
    )


class Server:
    """The end of a chain: answers at once, or (*held*) when it is let go."""

    def __init__(self, answer: Result = ANSWER, *, held: bool = False) -> None:
        self.answer = answer
        self.calls = 0
        self.running = 0
        self.most = 0
        self._open = asyncio.Event()
        if not held:
            self._open.set()

    async def __call__(self, call: Call) -> Result:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self._open.wait()
        finally:
            self.running -= 1
        return self.answer

    def let_go(self) -> None:
        self._open.set()


async def settled() -> None:
    """Let every task run until it waits for something that does not come by itself."""
    for _ in range(20):
        await asyncio.sleep(0)
