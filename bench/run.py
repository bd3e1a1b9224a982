"""The benchmark: every target, round after round, on one machine; whole runs go to docs/benchmarks.md.

    python bench/run.py                      about 25 minutes: 5 rounds of 3 seconds a point
    python bench/run.py --quick              about 1 minute: one round, for a look
    python bench/run.py --only bascule,mcp   targets whose name holds one of these
    python bench/run.py --report             only write the page again, from bench/results.json

Rounds are interleaved (A B C A B C …), so that a machine that slows down does so for all alike. A point is
measured again when strangers used the processor meanwhile: that, and never the result, decides.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import peers
import report
from echo import new_loop
from exchange import Era, Load
from footprint import Footprint, footprint
from loadgen import SetupError, measure_http, measure_stdio
from report import CONNECTIONS, FEW_TOOLS, LARGE, MANY_TOOLS, SMALL, Part, Results, Row, Start
from sample import Sample, failed
from targets import BASCULE, PIPE, Running, StartError, Target, every_target, filled, running

HERE: Final = Path(__file__).resolve().parent
RESULTS: Final = HERE / "results.json"
PAGE: Final = peers.ROOT / "docs/benchmarks.md"
# Cores' worth of other people's work above which a sample is taken again.
STRANGERS_CORES: Final = 0.25


class Place(NamedTuple):
    """Where a sample is taken: a started server, or None for the bare pipe."""

    target: Target
    server: Running | None
    round: int
    tools: int = FEW_TOOLS


@dataclass
class Run:
    """One run of the benchmark: its settings, and what has been seen so far."""

    seconds: float
    warmup_s: float
    retries: int
    scratch: Path
    rows: list[Row] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def visit(self, target: Target, number: int) -> None:
        """All loads of one target in round *number*; a target that does not start leaves a note."""
        if target.name == PIPE:
            self._measure_all(Place(target, None, number))
            return
        with self.noting(target), running(target, FEW_TOOLS, self.scratch) as server:
            start = Start(
                target=target.name,
                round=number,
                cold_start_s=round(server.cold_start_s, 3),
                idle_rss_mb=server.idle_rss_mb,
            )
            self.starts.append(start)
            self._measure_all(Place(target, server, number))

    def visit_long_list(self, target: Target, number: int) -> None:
        """Few tools and many, side by side: few, many, many, few, so that drift cancels out."""
        with (
            self.noting(target),
            running(target, FEW_TOOLS, self.scratch) as few,
            running(target, MANY_TOOLS, self.scratch) as many,
        ):
            short, long = Place(target, few, number), Place(target, many, number, MANY_TOOLS)
            for place in (short, long, long, short):
                self.measure(place, self.load("legacy", 16), "catalog")

    def _measure_all(self, place: Place) -> None:
        for era in place.target.eras:
            for connections in CONNECTIONS:
                self.measure(place, self.load(era, connections), "load")
            self.measure(place, self.load(era, 16, LARGE), "load")
        if place.target.gateway:
            self.measure(place, self.load("legacy", 16), "closing")

    def load(self, era: Era, connections: int, chars: int = SMALL) -> Load:
        return Load(era, connections, chars, self.seconds, self.warmup_s)

    def measure(self, place: Place, load: Load, part: Part) -> None:
        """Take a sample, again if strangers disturbed it; the quietest one counts."""
        samples = [take(place, load)]
        while samples[-1].strangers_cores > STRANGERS_CORES and len(samples) <= self.retries:
            time.sleep(1)
            samples.append(take(place, load))
        sample = min(samples, key=lambda sample: sample.strangers_cores)
        row = Row(
            target=place.target.name,
            round=place.round,
            part=part,
            tools=place.tools,
            era=load.era,
            connections=load.connections,
            chars=load.chars,
            sample=sample,
        )
        self.rows.append(row)
        show(row)

    @contextmanager
    def noting(self, target: Target) -> Iterator[None]:
        try:
            yield
        except StartError as error:
            self.notes.append(f"{target.name} did not start: {error}")
            print(self.notes[-1], file=sys.stderr)


def take(place: Place, load: Load) -> Sample:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        try:
            if place.server is None:
                return runner.run(measure_stdio(filled(place.target.command, tools=place.tools), load))
            return runner.run(measure_http(place.server.url, load, place.server.meter, place.server.headers))
        except SetupError as error:
            return failed(str(error))


def show(row: Row) -> None:
    sample = row.sample
    print(
        f"{row.round} {row.target:<22} {row.part:<8} {row.era:<7} {row.connections:>3} x {row.chars:<6}"
        f"{row.tools:>4} tools {sample.calls_per_s:>9,.0f}/s  p50 {sample.p50_ms:>8.3f}  "
        f"p99 {sample.p99_stall_ms:>8.3f} ms  gateway {sample.gateway_cpu_us:>6.0f} us "
        f"{sample.gateway_rss_mb:>6.1f} MB  strangers {sample.strangers_cores:>5.2f}  {sample.errors or ''}",
        flush=True,
    )


def about(options: Options) -> dict[str, str]:
    """What a reader needs in order to judge the figures."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    model = found[1] if found else platform.machine()
    said = subprocess.run([*options.bascule, "--version"], check=False, capture_output=True, text=True)
    others = ", ".join(f"{name} {version}" for name, version in peers.versions(options.peers).items())
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {model}, {platform.system()}",
        "Python": platform.python_version(),
        "Bascule": said.stdout.strip() or "?",
        "peers": others or "none",
        "rounds": f"{options.rounds} of {options.seconds:g} s a point",
    }


def disturbance(rows: Sequence[Row]) -> str:
    """How busy strangers kept the machine, in words for the reader."""
    cores = [row.sample.strangers_cores for row in rows]
    loud = sum(figure > STRANGERS_CORES for figure in cores)
    usual = statistics.median(cores)
    return f"{usual:.2f} cores in the median; over {STRANGERS_CORES} in {loud} of {len(cores)} samples"


class Options(argparse.Namespace):
    rounds: int
    seconds: float
    only: list[str]
    quick: bool
    report: bool
    peers: Path
    bascule: list[str]

    @property
    def whole(self) -> bool:
        """Whether the page may show it: a look, or a few targets, must not replace a whole run."""
        return not self.quick and self.only == [""]


def parse() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measured window")
    parser.add_argument("--only", type=lambda text: text.lower().split(","), default=[""])
    parser.add_argument("--quick", action="store_true", help="1 round of 0.4 s, nothing measured twice")
    parser.add_argument("--report", action="store_true", help="write the tables from the last results")
    parser.add_argument("--peers", type=Path, default=peers.FOLDER, help="folder of the peers' environments")
    parser.add_argument("--bascule", type=shlex.split, default=[sys.executable, "-m", "bascule"])
    options = parser.parse_args(namespace=Options())
    if options.quick:
        options.rounds, options.seconds = 1, 0.4
    return options


def measure(options: Options) -> Results:
    """One whole run. Creates the peers that are missing."""
    peers.create(options.peers)
    targets = [
        target
        for target in every_target(options.bascule, options.peers.resolve())
        if any(part in target.name.lower() for part in options.only)
    ]
    with tempfile.TemporaryDirectory(prefix="bascule-bench-") as scratch:
        run = Run(options.seconds, min(0.7, options.seconds / 2), 0 if options.quick else 2, Path(scratch))
        for number in range(1, options.rounds + 1):
            for target in targets:
                run.visit(target, number)
            for target in targets:
                if target.name == BASCULE or (target.gateway and not options.quick):
                    run.visit_long_list(target, number)
    judged = any(target.name == BASCULE for target in targets)
    weight = footprint(options.bascule, 1 if options.quick else 5) if judged else Footprint()
    return Results(
        about={**about(options), "strangers": disturbance(run.rows)},
        rows=run.rows,
        starts=run.starts,
        footprint=weight,
        notes=[*dict.fromkeys(run.notes), *weight.notes],
    )


def main() -> None:
    options = parse()
    results = report.parsed(json.loads(RESULTS.read_text())) if options.report else measure(options)
    print(report.every_table(results, report.TABLES))
    if options.whole:
        RESULTS.write_text(json.dumps(asdict(results), indent=1))
        PAGE.write_text(report.with_tables(PAGE.read_text(), results, report.TABLES))


if __name__ == "__main__":
    main()
