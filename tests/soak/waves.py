"""Thousands of calls that wait for their stateless clients at the same time, at a server with a handshake.

Each call asks several times. Most are answered in random order; some
are abandoned, cancelled in the middle, presented twice at once, replayed, or presented by another caller.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import uvloop
from msgspec import Raw

from bascule import config as configuration
from bascule.app import Gateway
from bascule.call import Call, Caller, Result
from bascule.crossing.bilingual import Bilingual
from bascule.errors import BasculeError, InvalidParams, Unavailable
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import LATEST_MODERN
from processes import running
from soak.server import answer_to

Json: TypeAlias = dict[str, Any]

SERVER: Final = [sys.executable, str(Path(__file__).parent / "server.py")]
META: Final = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
}
FATES: Final = {"answered": 60, "abandoned": 8, "cancelled": 8, "doubled": 8, "replayed": 8, "stolen": 8}  # of 100
THINKING_S: Final = 0.2  # a person's longest thought
SETTLED_WITHIN_S: Final = 60.0
GROWTH_KIB: Final = 1.0  # per call, once the first waves have filled pools and caches: what a leaked call would take
OPEN_FILES: Final = 20_000


@dataclass
class Soak:
    """One run: its gateway, and what went wrong in it."""

    gateway: Gateway
    callers: Sequence[Caller]
    dice: random.Random
    ttl_s: float
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    # ---- call.Client

    def notify(self, method: str, params: Params) -> None:
        self.violations.append(f"a notification that nobody wanted: {method}")

    async def ask(self, method: str, params: Params) -> Result:
        raise Unavailable("a stateless client cannot be asked during a call")

    # ---- one call

    async def send(self, caller: Caller, tool: str, arguments: Json, more: Json | None = None) -> Json:
        members = {"name": tool, "arguments": arguments, **(more or {}), "_meta": META}
        call = Call(
            caller=caller,
            client=self,
            revision=LATEST_MODERN,
            method="tools/call",
            params={key: jsonrpc.encode(value) for key, value in members.items()},
            id=Raw(b"1"),  # the same for all
            view="it",
        )
        result = await self.gateway.forward(call)
        found: Json = jsonrpc.decode(result.value)
        return {"error": found} if result.refused else found

    async def life(self, number: int, wave: int, fate: str) -> None:
        """One call from its beginning to whatever end its *fate* has for it."""
        caller = self.dice.choice(self.callers)
        canary = f"{caller.name}/{wave}/{number}/{self.dice.getrandbits(64):x}"
        rounds = self.dice.randint(1, 4)
        arguments = {"canary": canary, "rounds": rounds}
        turning = self.dice.randint(1, rounds)  # the round in which it happens
        try:
            asked = await self.send(caller, "talk", arguments)
            met = 0
            while "inputRequests" in asked:
                answers = self.answers(canary, asked)
                await asyncio.sleep(self.dice.random() * THINKING_S)
                again = {"inputResponses": answers, "requestState": asked["requestState"]}
                met += 1
                if met == turning and fate != "answered":
                    if fate in ("abandoned", "cancelled"):
                        await self.leave(fate, caller, arguments, again)
                        return
                    asked = await self.interfere(fate, caller, arguments, again)
                else:
                    asked = await self.send(caller, "talk", arguments, again)
        except BasculeError as error:
            self.violations.append(f"{canary}, {fate}: {error.kind}: {error.message}")
            return
        if asked.get("isError") or [each["text"] for each in asked.get("content", [])] != [
            f"{canary} has {rounds} rounds"
        ]:
            self.violations.append(f"{canary}, {fate}, got {json.dumps(asked)[:300]}")
        self.counts[fate] += 1

    def answers(self, canary: str, asked: Json) -> Json:
        """The answers to the questions of *asked*, each of which has to be about *canary*."""
        answers = {}
        for key, question in asked["inputRequests"].items():
            whose, _, secret = question["params"]["message"].partition("?")
            if whose != canary:
                self.violations.append(f"{canary} was asked what {whose} should have been")
            answers[key] = {"action": "accept", "content": {"answer": answer_to(canary, secret)}}
            self.counts["questions"] += 1
        return answers

    async def leave(self, fate: str, caller: Caller, arguments: Json, again: Json) -> None:
        self.counts[fate] += 1
        if fate == "abandoned":
            return
        leaving = asyncio.ensure_future(self.send(caller, "talk", arguments, again))
        await asyncio.sleep(self.dice.random() * 0.02)
        leaving.cancel()
        await asyncio.wait({leaving})

    async def interfere(self, fate: str, caller: Caller, arguments: Json, again: Json) -> Json:
        """Present the state as nobody should; what its owner gets all the same."""
        if fate == "stolen":
            thief = self.dice.choice([each for each in self.callers if each != caller])
            await self.refused(fate, thief, arguments, again)
            return await self.send(caller, "talk", arguments, again)
        if fate == "doubled":
            both = [asyncio.ensure_future(self.send(caller, "talk", arguments, again)) for _ in range(3)]
            outcomes = await asyncio.gather(*both, return_exceptions=True)
            won = [each for each in outcomes if isinstance(each, dict)]
            if len(won) != 1 or sum(isinstance(each, InvalidParams) for each in outcomes) != 2:
                self.violations.append(f"{arguments['canary']}: of three at once {len(won)} went on: {outcomes}"[:400])
            return won[0] if won else {}
        asked = await self.send(caller, "talk", arguments, again)
        await self.refused(fate, caller, arguments, again)
        return asked

    async def refused(self, fate: str, caller: Caller, arguments: Json, again: Json) -> None:
        try:
            asked = await self.send(caller, "talk", arguments, again)
        except InvalidParams:
            self.counts["refused"] += 1
        else:
            self.violations.append(f"{arguments['canary']}: {fate} and answered: {json.dumps(asked)[:200]}")

    # ---- a wave of them

    async def wave(self, calls: int, wave: int) -> Json:
        """So many lives at once; what is left, and what it took."""
        began = time.monotonic()
        fates = self.dice.choices(list(FATES), weights=list(FATES.values()), k=calls)
        lives = [asyncio.ensure_future(self.life(number, wave, fate)) for number, fate in enumerate(fates)]
        most = await self.watched(lives)
        took_s = time.monotonic() - began
        await self.settle()
        gc.collect()
        return {
            "calls": calls,
            "took_s": round(took_s, 1),
            "parked_at_most": most,
            "rss_mib": round(rss_mib(), 1),
            "tasks": len(asyncio.all_tasks()),
            "sockets": open_sockets(),  # kept-alive connections among them
            "sessions": len(self.crossing.pool),
        }

    async def watched(self, lives: "Sequence[asyncio.Future[None]]") -> int:
        most = 0
        pending = set(lives)
        while pending:
            _, pending = await asyncio.wait(pending, timeout=0.1)
            most = max(most, len(self.gateway.parking))
        return most

    @property
    def crossing(self) -> Any:
        upstream = self.gateway.upstreams["it"]
        assert isinstance(upstream, Bilingual)
        return upstream._as_modern

    def left(self) -> list[str]:
        """What still hangs on calls that are over."""
        conversations = sum(len(session.conversations) for session in self.crossing.pool._all())
        tasks = sum("Conversation" in repr(task) or "._answer" in repr(task) for task in asyncio.all_tasks())
        found = {
            "parked": len(self.gateway.parking),
            "counted as parked": sum(self.gateway.parking._held.values()),
            "conversations": conversations,
            "tasks": tasks,
            "in flight": self.gateway.upstreams["it"].status().in_flight,
        }
        return [f"{count} {what} left" for what, count in found.items() if count]

    async def settle(self) -> None:
        """Wait until everything that was abandoned is given up. What is left then is a violation."""
        deadline = time.monotonic() + self.ttl_s + SETTLED_WITHIN_S
        while self.left() and time.monotonic() < deadline:  # noqa: ASYNC110 - what is left has no event
            await asyncio.sleep(0.05)
        self.violations += self.left()
        stats = await self.server()
        while (stats["open"] or stats["waiting"]) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            stats = await self.server()
        self.violations += [f"{stats[name]} {name} at the server" for name in ("open", "waiting") if stats[name]]

    async def server(self) -> Json:
        """What the server has seen."""
        found: Json = (await self.send(self.callers[0], "stats", {}))["structuredContent"]
        return found


async def soak(calls: int, callers: int, waves: int, seed: int, url: str, ttl_s: float) -> Json:
    """The whole run against the server at *url*."""
    with TemporaryDirectory(prefix="bascule-") as folder:
        path = Path(folder) / "bascule.json"
        # As many as 256 may be worked at, whatever number is parked: that is the default.
        servers = {"it": {"url": url}}
        path.write_text(json.dumps({"servers": servers, "parking": {"ttl_s": ttl_s, "max_per_caller": calls}}))
        gateway = Gateway(configuration.load(path, {}))
    before = open_sockets()
    await gateway.start()
    run = Soak(gateway, [Caller(f"caller-{n}") for n in range(callers)], random.Random(seed), ttl_s)
    try:
        measured = [await run.wave(calls, wave) for wave in range(waves)]
        server = await run.server()
    finally:
        await gateway.stop()
    gc.collect()
    await asyncio.sleep(0.5)  # transports close a moment after their owners
    run.violations += judged(measured, server)
    if (after := open_sockets()) > before:
        run.violations.append(f"{after - before} sockets are open that were not before")
    return {
        "ok": not run.violations,
        "violations": len(run.violations),
        "first": run.violations[:10],
        "calls": calls * waves,
        "callers": callers,
        "counts": dict(run.counts),
        "waves": measured,
        "server": server,
    }


def judged(waves: Sequence[Json], server: Json) -> list[str]:
    """What the figures say that no call has noticed. The first wave fills caches and pools."""
    found = [f"wrong answers at the server: {server['wrong']}"] if server.get("wrong answers") else []
    found += [f"{server['broken']} calls broken at the server"] if server.get("broken") else []
    half = len(waves) // 2
    warm, last = waves[half], waves[-1]
    calls = (len(waves) - 1 - half) * last["calls"]
    if calls and (last["rss_mib"] - warm["rss_mib"]) * 1024 > max(1024.0, GROWTH_KIB * calls):
        found.append(f"memory grew from {warm['rss_mib']} to {last['rss_mib']} MiB within {calls} calls")
    found += [
        f"{name} grew from {warm[name]} to {last[name]}"
        for name in ("tasks", "sessions")
        if last[name] > warm[name] + 2
    ]
    return found


def open_sockets() -> int:
    """How many sockets are open. Other files are the loop's own business."""
    sockets = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            sockets += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except OSError:
            continue  # it was the one for the listing
    return sockets


def rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def run(calls: int, callers: int, waves: int = 3, seed: int = 1, ttl_s: float = 15.0) -> Json:
    """Run with a server of its own. Raises the limit of open files as far as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))
    with running(SERVER) as url:
        return uvloop.run(soak(calls, callers, waves, seed, url, ttl_s))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000, help="in each wave, all at once")
    parser.add_argument("--callers", type=int, default=50)
    parser.add_argument("--waves", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ttl-s", type=float, default=15.0, help="how long an abandoned call waits")
    chosen = parser.parse_args()
    report = run(chosen.calls, chosen.callers, chosen.waves, chosen.seed, chosen.ttl_s)
    print(json.dumps(report))  # noqa: T201 - a command prints
    return 0 if report["ok"] else 1
