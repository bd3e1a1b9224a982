"""A hundred clients send one key for the first time, at the same moment."""

import asyncio
import contextlib
import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gateway import Bascule

from soak.lives import Bank, Life, prepare_forks
from soak.payments import Heard, Payment, client_of, send

WORKING_S = 0.6  # longer than a hundred requests take to arrive


@dataclass(frozen=True)
class Outcome:
    heard: Counter[str]  # by kind
    texts: frozenset[str]  # of results, first or replayed
    executions: int


async def race(setting: str, processes: int, senders: int, wait_s: int) -> Outcome:
    """*senders* of one key, shared among so many *processes* of Bascule on one state folder."""
    prepare_forks()
    payment = Payment("kill-race.0.0-0000000000", "pay", 7, in_header=True, before_s=WORKING_S)
    with tempfile.TemporaryDirectory(prefix="bascule-race-") as name:
        folder = Path(name)
        async with Bank(folder).open() as bank, contextlib.AsyncExitStack() as stack:
            (folder / "bascule.json").write_text(json.dumps(bank.config(setting, folder / "state")))
            gates = [await _running(stack, Life(str(number), folder)) for number in range(processes)]
            sending = (send(gates[number % processes], payment, wait_s) for number in range(senders))
            heard: list[Heard] = await asyncio.gather(*sending)
            executions = bank.executions()[payment.key]
    texts = frozenset(each.text for each in heard if each.kind in ("result", "replay"))
    return Outcome(Counter(each.kind for each in heard), texts, executions)


async def _running(stack: contextlib.AsyncExitStack, life: Life) -> Bascule:
    """A Bascule that has its lists, until *stack* ends."""
    bascule = await stack.enter_async_context(client_of(await life.start("", 0)))
    stack.push_async_callback(life.ended)
    stack.callback(life.terminate)
    await bascule.up("bank")
    return bascule
