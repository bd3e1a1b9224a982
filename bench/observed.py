"""What it costs to be watched: metrics, the log of calls and traces, each alone and all together.

    python bench/observed.py           about 3 minutes: whole gateways, 3 rounds of 2 seconds each, interleaved
    python bench/observed.py --quick   about 20 seconds: one short round, for a look
    python bench/observed.py --stages  about 10 seconds: the stages alone, in this process, in microseconds a call

Everything runs in the same rounds, there and back again, so that drift hits all alike; differences are taken within
a round. CPU says more than calls per second where others use the machine too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import io
import random
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from operator import sub
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import Raw

import governance
import report
import run
from bascule.call import Call, Caller, Result
from bascule.call import Target as Goal
from bascule.contract.model import Contract
from bascule.observe.instruments import Instruments
from bascule.observe.options import LogsOptions, MetricsOptions, TracingOptions
from bascule.observe.traces import Span, Tracing
from bascule.pipeline.chain import Stage, compose
from bascule.pipeline.observe import Observe
from bascule.pipeline.trace import Attempt, Begin
from bascule.store.record import Record
from bascule.wire import jsonrpc
from bascule.wire.versions import LATEST_MODERN
from echo import Json
from footprint import Footprint
from report import GATEWAY_CPU, P99, RATE, Point, Results, by_round
from sink import collecting
from targets import Target, running

CONNECTIONS: Final = (1, 16)
NOTHING: Final = "nothing but the audit"
OFF: Final[Json] = {"metrics": {"enabled": False}, "logs": {"calls": "off"}}
JSON_ALL: Final[Json] = {"format": "json", "calls": "all"}


def variants(collector: str) -> dict[str, Json]:
    """What is turned on in each gateway, by its name."""

    def traced(sample: float) -> Json:
        return {**OFF, "tracing": {"endpoint": collector, "sample": sample}}

    return {
        NOTHING: OFF,
        "metrics": {**OFF, "metrics": {}},
        "log of errors": {**OFF, "logs": {"format": "json", "calls": "errors"}},
        "log of all calls": {**OFF, "logs": JSON_ALL},
        "traces, none sampled": traced(0.0),
        "traces, 0.1 sampled": traced(0.1),
        "traces, all sampled": traced(1.0),
        "metrics, log of all, traces 0.1": {**traced(0.1), "metrics": {}, "logs": JSON_ALL},
    }


# ------------------------------------------------------------------ whole gateways


def measured(options: Options) -> Results:
    with tempfile.TemporaryDirectory(prefix="bascule-bench-") as scratch, collecting() as collector:
        seen = run.Run(options.seconds, min(0.7, options.seconds / 2), 0, Path(scratch))
        base = {"servers": governance.servers(), "state_dir": "state"}
        targets = [
            governance.served(name, options.bascule, {**base, **config}) for name, config in variants(collector).items()
        ]
        for number in range(1, options.rounds + 1):
            for target in targets[:: 1 if number % 2 else -1]:
                visit(seen, target, number)
    return Results(about={}, rows=seen.rows, starts=seen.starts, footprint=Footprint(), notes=seen.notes)


def visit(seen: run.Run, target: Target, number: int) -> None:
    with seen.noting(target), running(target, report.FEW_TOOLS, seen.scratch) as server:
        for connections in CONNECTIONS:
            seen.measure(run.Place(target, server, number), seen.load("modern", connections), "load")


def table(results: Results) -> str:
    lines = [
        "| turned on | CPU a call, µs | above nothing, µs | calls/s | p99 at 1 connection, ms |",
        "|---|---|---|---|---|",
    ]
    for name in report.measured(results):
        point, least = Point(name, "modern", 16), Point(NOTHING, "modern", 16)
        cpu = by_round(results, point, GATEWAY_CPU)
        above = report.compared(cpu, by_round(results, least, GATEWAY_CPU), sub)
        figures = (
            report.cell(report.spread(cpu.values())),
            report.number(above),
            report.cell(report.spread(by_round(results, point, RATE).values())),
            report.cell(report.spread(by_round(results, Point(name, "modern", 1), P99).values())),
        )
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return "\n".join(lines)


# ------------------------------------------------------------------ the stages alone


CALLS: Final = 2000
ANSWER: Final = Result(Raw(b'{"content":[{"type":"text","text":"hello"}],"resultType":"complete"}'))
META: Final = (
    b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}'
)
PARAMS: Final = {
    "name": jsonrpc.encode("echo"),
    "arguments": Raw(b'{"text":"a bridge with a counterweight"}'),
    "_meta": Raw(META),
}
CONTRACT: Final = Contract(id="echo/echo", version="1.2.0")


class _Server:
    name = "echo"


class _Deaf:
    """In the place of the audit, which is on by default: the record of a call is made, and goes nowhere."""

    full = False

    def post(self, record: Record, arguments: bytes | None = None) -> None:
        pass


class _Nowhere:
    """Hears of spans, and tells nobody."""

    lost = 0

    def __call__(self, spans: Sequence[Span]) -> None:
        pass


async def answer(call: Call) -> Result:
    call.trip.contract, call.trip.listed = CONTRACT, True
    call.trip.server = "echo"
    return ANSWER


class Watched(NamedTuple):
    """A chain, and what it tells of its calls to."""

    chain: Any
    instruments: Instruments


def watched(config: Json) -> Watched:
    tracing = config.get("tracing")
    instruments = Instruments(
        MetricsOptions(**config.get("metrics", {})),
        TracingOptions(),
        LogsOptions(**config.get("logs", {})),
        trusts=lambda server: False,
        stream=io.StringIO(),
    )
    instruments.tracing = None if tracing is None else Tracing(_Nowhere(), sample=tracing["sample"])
    audit: Any = _Deaf()
    observe = Observe(audit, metrics=instruments.metrics, log=instruments.log, tracing=instruments.tracing)
    stages: list[Stage] = [observe]
    if instruments.tracing is not None:
        stages = [Begin(instruments.tracing), observe, Attempt(instruments.tracing)]
    return Watched(compose(stages, answer), instruments)


async def each_us(chain: Any) -> float:
    """Microseconds of one call, over many."""
    made = [
        Call(
            caller=Caller("agent", proof="key"),
            client=None,  # type: ignore[arg-type]  # nobody is told anything
            revision=LATEST_MODERN,
            method="tools/call",
            params=PARAMS,
            id=Raw(b"1"),
            trace_id=f"{random.getrandbits(128):032x}",
            target=Goal(_Server(), PARAMS),  # type: ignore[arg-type]  # nobody is reached
        )
        for _ in range(CALLS)
    ]
    began_s = time.thread_time()  # others use the machine too
    for call in made:
        await chain(call)
    return (time.thread_time() - began_s) * 1_000_000 / CALLS


async def alone(rounds: int) -> str:
    """The table of the stages alone. What a thread of ours does with what it is told is not in it."""
    chains = {name: watched(config) for name, config in variants("http://127.0.0.1").items()}
    seen: dict[str, list[float]] = {name: [] for name in chains}
    gc.disable()
    for number in range(rounds):
        for name in list(chains)[:: 1 if number % 2 else -1]:
            seen[name].append(await each_us(chains[name].chain))
            await asyncio.sleep(0.01)  # for the threads
    for each in chains.values():
        each.instruments.close()
    lines = ["| turned on | µs of CPU a call | above nothing |", "|---|---|---|"]
    for name, figures in seen.items():
        above = statistics.median(map(sub, figures, seen[NOTHING]))
        lines.append(f"| {name} | {min(figures):.2f} | {above:.2f} |")
    return "\n".join(lines)


# ------------------------------------------------------------------ command line


class Options(argparse.Namespace):
    rounds: int
    seconds: float
    quick: bool
    stages: bool
    bascule: list[str]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measured window")
    parser.add_argument("--quick", action="store_true", help="1 round of 0.5 s")
    parser.add_argument("--stages", action="store_true", help="the stages alone, in this process")
    parser.add_argument("--bascule", type=shlex.split, default=[sys.executable, "-m", "bascule"])
    options = parser.parse_args(arguments, namespace=Options())
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    if options.stages:
        print(asyncio.run(alone(40)))
        return
    results = measured(options)
    print(table(results))
    for note in results.notes:
        print(note, file=sys.stderr)


if __name__ == "__main__":
    main()
