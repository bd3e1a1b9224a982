"""Minutes of calls through a real Bascule, over a network that misbehaves: what comes back, how late, and what is left.

Clients of both eras call servers of both eras, each server behind a proxy (proxy.py). Every call has a deadline and
a canary of its own: whatever happens, an answer comes before the one and holds no other than the other.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiohttp
from gateway import Bascule, Exchange, Legacy, Modern, until

from processes import running
from processes import server as command_of
from soak.lives import Life, prepare_forks
from soak.proxy import CALM, CANARY, FAULTS, Proxy

Json: TypeAlias = dict[str, Any]

DEADLINE_S: Final = 2.5  # that clients give
SLACK_S: Final = 1.5  # two cores for clients, proxies, servers and Bascule
SILENT_S: Final = 2.0  # that servers may be
SERVERS: Final = {"new": "modern", "old": "legacy"}
WORKERS: Final = 12
TASKS_MORE: Final = 3  # than before the storm, at rest
FILES_MORE: Final = 8  # a stream that was cut is opened again, after a pause
SLOPE_MIB: Final = 1.0  # a minute, over the second half
SHORTEST_SLOPE_S: Final = 240.0  # less than this says nothing about memory


@dataclass
class Figures:
    """What calls met under one fault."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0

    def take(self, outcome: str, took_s: float) -> None:
        self.outcomes[outcome] += 1
        self.slowest_s = max(self.slowest_s, took_s)


@dataclass
class Sample:
    """A process at rest, or nearly."""

    tasks: int
    files: int
    children: int
    rss_mib: float


@dataclass
class Report:
    figures: dict[str, Figures] = field(default_factory=lambda: defaultdict(Figures))
    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    before: Sample | None = None
    after: Sample | None = None
    slope_mib: float = 0.0  # a minute
    kinds_of_tasks: tuple[Json, Json] = ({}, {})  # before and after


class Storm:
    """Clients that call, whatever happens to the network."""

    def __init__(self, bascule: Bascule, seed: int, report: Report) -> None:
        self._bascule = bascule
        self._dice = random.Random(seed)
        self._report = report
        self._sessions: list[Legacy] = []
        self.fault = CALM

    async def open_sessions(self) -> None:
        for name in SERVERS:
            self._sessions += [await self._bascule.session(f"/servers/{name}/mcp") for _ in range(3)]

    async def close_sessions(self) -> None:
        for each in self._sessions:
            await each.end()

    async def blow(self, fault: str, seconds: float, workers: int = WORKERS) -> None:
        """Call for so long."""
        self.fault = fault
        end = time.monotonic() + seconds
        await asyncio.gather(*(self._work(end) for _ in range(workers)))

    async def _work(self, end: float) -> None:
        kinds = {self._echo: 70, self._count: 15, self._leave: 10, self._visit: 5}
        while time.monotonic() < end:
            kind = self._dice.choices(list(kinds), list(kinds.values()))[0]
            canary = f"canary-{self._dice.getrandbits(64):016x}"
            began = time.monotonic()
            try:
                outcome = await kind(canary)
            except (TimeoutError, AssertionError, aiohttp.ClientError, ValueError, KeyError) as error:
                outcome = "no answer"
                self.wrong(f"{canary} ({kind.__name__}): {type(error).__name__}: {error}"[:400])
            took_s = time.monotonic() - began
            self._report.figures[self.fault].take(outcome, took_s)
            most_s = 2 * SILENT_S if kind == self._visit else DEADLINE_S  # a visit is two requests, without a deadline
            if took_s > most_s + SLACK_S:
                self.wrong(f"{canary} ({kind.__name__}) took {took_s:.1f} s: {outcome}")

    def wrong(self, what: str) -> None:
        self._report.wrong.append(f"{self.fault}: {what}")

    def _client(self) -> Modern | Legacy:
        if self._dice.random() < 0.5:
            return self._dice.choice(self._sessions)
        return self._bascule.modern(f"/servers/{self._dice.choice(list(SERVERS))}/mcp")

    # ---- calls

    async def _echo(self, canary: str) -> str:
        """The caller's own text comes back, or an error that says why it does not."""
        async with self._opened("echo", {"text": canary}, canary) as exchange:
            message = await exchange.last()
        return self._judged(message, canary, canary)

    async def _count(self, canary: str) -> str:
        """A stream of events, each for this call and no other."""
        steps = self._dice.randint(2, 9)
        async with self._opened("progress", {"steps": steps}, canary) as exchange:
            while "method" in (message := await exchange.next()):
                token = message.get("params", {}).get("progressToken")
                if message["method"] == "notifications/progress" and token != canary:
                    self.wrong(f"{canary} was told of the progress of {token}")
        return self._judged(message, canary, f"{steps} steps done")

    async def _leave(self, canary: str) -> str:
        """A client that goes before its answer comes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._dice.random() * 0.1):
                await self._echo(canary)
        return "left"

    async def _visit(self, canary: str) -> str:
        """A session that is opened for one call."""
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        client = Legacy(self._bascule, f"/servers/{self._dice.choice(list(SERVERS))}/mcp", "2025-11-25")
        async with client.open("initialize", hello, id=0) as exchange:
            message = await exchange.last()
            client.headers["mcp-session-id"] = exchange.headers.get("mcp-session-id")
        if "result" not in message:
            return _kind(message)
        client.headers["mcp-protocol-version"] = message["result"]["protocolVersion"]
        await client.end()
        return "ok"

    def _opened(self, tool: str, arguments: Json, canary: str) -> "contextlib.AbstractAsyncContextManager[Exchange]":
        headers = {"x-request-timeout-ms": str(int(DEADLINE_S * 1000))}
        params = {"name": tool, "arguments": arguments}
        client = self._client()
        if isinstance(client, Modern):
            return client.open("tools/call", params, id=canary, headers=headers, meta={"progressToken": canary})
        return client.open("tools/call", {**params, "_meta": {"progressToken": canary}}, id=canary, headers=headers)

    def _judged(self, message: Json, canary: str, expected: str) -> str:
        said = json.dumps(message)
        if message.get("id") != canary:
            self.wrong(f"{canary} got the answer to another call: {said[:300]}")
        foreign = {each.decode() for each in CANARY.findall(said.encode())} - {canary}
        if foreign:
            self.wrong(f"{canary} got what belongs to {foreign}")
        result = message.get("result", {})
        if "error" in message or result.get("isError"):
            return _kind(message)
        text = "".join(each.get("text", "") for each in result.get("content", []))
        if text != expected:
            self.wrong(f"{canary} got {said[:300]}")
        return "ok"


def _kind(message: Json) -> str:
    """Why a call failed, in the word that Bascule has for it."""
    result = message.get("result", {})
    error = message.get("error", {}).get("data") or result.get("_meta", {}).get("dev.bascule/error") or {}
    return str(error.get("kind") or message.get("error", {}).get("code") or f"tool said {result.get('content')}")


# ---- what is left


class Watch:
    """What a running Bascule holds."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self.history: list[tuple[float, float]] = []  # (monotonic s, MiB)

    async def sample(self) -> Sample:
        tasks = await self._life.tasks()
        return Sample(sum(tasks.values()), self._files(), self._children(), self.rss_mib())

    def _files(self) -> int:
        return len(os.listdir(f"/proc/{self._life.pid}/fd"))

    def _children(self) -> int:
        return len(Path(f"/proc/{self._life.pid}/task/{self._life.pid}/children").read_text().split())

    def rss_mib(self) -> float:
        pages = int(Path(f"/proc/{self._life.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    async def follow(self) -> None:
        while True:
            self.history.append((time.monotonic(), self.rss_mib()))
            await asyncio.sleep(1)

    def slope_mib(self) -> float:
        """MiB a minute over the second half, by least squares."""
        half = self.history[len(self.history) // 2 :]
        if len(half) < 2:
            return 0.0
        mean_at = sum(at for at, _ in half) / len(half)
        mean = sum(mib for _, mib in half) / len(half)
        spread = sum((at - mean_at) ** 2 for at, _ in half)
        return 60 * sum((at - mean_at) * (mib - mean) for at, mib in half) / spread


# ---- the whole


@contextlib.asynccontextmanager
async def grounds(folder: Path, seed: int, *, patient: bool) -> AsyncIterator[tuple[Bascule, Life, Sequence[Proxy]]]:
    """A real Bascule, and two servers behind proxies; a *patient* one goes on calling a server that fails."""
    async with contextlib.AsyncExitStack() as stack:
        proxies, servers = [], {}
        for number, (name, era) in enumerate(SERVERS.items()):
            url = stack.enter_context(running(command_of("web", "modern" if era == "modern" else "plain")))
            proxy = Proxy(url, seed * 2 + number)
            proxies.append(proxy)
            through = await stack.enter_async_context(proxy.open())
            servers[name] = {"url": through, "era": era, "call_timeout_s": SILENT_S}
        config = {
            "servers": servers,
            "policy": {"rules": [{"match": "*", "max_timeout_seconds": DEADLINE_S + 0.5}]},
            "state_dir": str(folder / "state"),
            "drain": {"delay_s": 0},
            "overload": {"max_lag_s": 60},  # on a busy machine, a refusal would say nothing about the network
        }
        (folder / "bascule.json").write_text(json.dumps(config))
        life = Life("storm", folder)
        http = await stack.enter_async_context(_http())
        bascule = Bascule(await life.start("", 0, patient=patient), http)
        try:
            await bascule.up(*SERVERS)
            yield bascule, life, proxies
        finally:
            life.terminate()
            await life.ended(40)


def _http() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=4 * (DEADLINE_S + SLACK_S)),
        auto_decompress=False,
    )


async def weather(phases: Sequence[tuple[str, float]], seed: int, *, patient: bool = True) -> Report:
    """A calm, the *phases* (fault, seconds), and a look at what is left."""
    report = Report()
    prepare_forks()
    with tempfile.TemporaryDirectory(prefix="bascule-chaos-") as name:
        async with grounds(Path(name), seed, patient=patient) as (bascule, life, proxies):
            storm, watch = Storm(bascule, seed, report), Watch(life)
            await storm.open_sessions()
            await storm.blow(CALM, min(5.0, phases[0][1]))
            report.before = await _at_rest(bascule, watch, proxies)
            before = await life.tasks()
            following = asyncio.ensure_future(watch.follow())
            for fault, seconds in phases:
                for proxy in proxies:
                    proxy.fault = fault
                await storm.blow(fault, seconds)
            following.cancel()
            for proxy in proxies:
                proxy.fault = CALM
                report.faults += proxy.done
                report.wrong += [
                    f"{canary} was sent {times} times" for canary, times in proxy.passed.items() if times > 1
                ]
            report.slope_mib = watch.slope_mib()
            report.after = await _at_rest(bascule, watch, proxies)
            report.kinds_of_tasks = before, await life.tasks()
            await storm.close_sessions()
    if sum(seconds for _, seconds in phases) < SHORTEST_SLOPE_S:
        report.slope_mib = 0.0
    report.wrong += _leaks(report)
    return report


async def _at_rest(bascule: Bascule, watch: Watch, proxies: Sequence[Proxy]) -> Sample:
    """A sample once nothing runs any more, and no connection is kept for later."""

    async def running() -> int:
        found: int = (await bascule.status())["calls"]["in_flight"]
        return found

    await until(running, lambda count: not count)
    for proxy in proxies:
        proxy.hang_up()
    await asyncio.sleep(1.0)  # connections are noticed to be closed, streams opened again
    return await watch.sample()


def _leaks(report: Report) -> list[str]:
    before, after = report.before, report.after
    if before is None or after is None:
        return ["the storm broke off"]
    grown = [
        ("tasks", after.tasks - before.tasks, TASKS_MORE),
        ("open files", after.files - before.files, FILES_MORE),
        ("children", after.children - before.children, 0),
        ("MiB a minute", report.slope_mib, SLOPE_MIB),
    ]
    found = [f"left: {more:.1f} {what} more" for what, more, most in grown if more > most]
    if after.tasks - before.tasks > TASKS_MORE:
        found.append(f"tasks before and after: {report.kinds_of_tasks}")
    return found


def table(report: Report) -> str:
    """What was met, fault by fault, and what is left."""
    lines = [f"{'fault':12} {'done':>6} {'calls':>7} {'ok':>7} {'slowest':>8}  what else came back"]
    for fault, figures in report.figures.items():
        others = ", ".join(f"{kind} {n}" for kind, n in figures.outcomes.most_common() if kind != "ok")
        counts = f"{report.faults[fault]:>6} {figures.outcomes.total():>7} {figures.outcomes['ok']:>7}"
        lines.append(f"{fault:12} {counts} {figures.slowest_s:>6.1f} s  {others}")
    for when, sample in (("before", report.before), ("after", report.after)):
        if sample is not None:
            lines.append(
                f"{when:7} tasks {sample.tasks}, open files {sample.files}, children {sample.children},"
                f" {sample.rss_mib:.1f} MiB"
            )
    lines.append(f"memory {report.slope_mib:+.2f} MiB a minute over the second half")
    lines += report.wrong[:20]
    lines.append(f"calls {sum(f.outcomes.total() for f in report.figures.values())} wrong {len(report.wrong)}")
    return "\n".join(lines)


def phases_for(seconds: float, each_s: float) -> Iterator[tuple[str, float]]:
    """Each fault in its turn, then all together; again and again."""
    left = seconds
    while left > 0:
        for fault in (*FAULTS, "all"):
            if left > 0:
                yield fault, min(each_s, left)
                left -= each_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--phase", type=float, default=12.0, metavar="SECONDS", help="of each fault, in turn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--breaker", action="store_true", help="let circuits open, which spares most calls the network")
    chosen = parser.parse_args()
    report = asyncio.run(
        weather(list(phases_for(chosen.minutes * 60, chosen.phase)), chosen.seed, patient=not chosen.breaker)
    )
    print(table(report))  # noqa: T201 - a command prints
    return 1 if report.wrong else 0
