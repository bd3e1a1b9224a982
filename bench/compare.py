"""Bascule now and Bascule as it was: the same loads on both, in one run, and their ratios.

    python bench/compare.py REVISION        about 8 minutes: 6 rounds; then `now / before` for each load

Rounds go before, now, now, before, so that a machine that drifts does so for both alike. A ratio is that of
the medians; what it has to be judged by is the spread, which stands beside it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final

import peers
from exchange import Era, Load
from governance import GOVERNED, policy, served
from report import SMALL
from run import Place, take
from sample import Sample
from targets import BASCULE, BASCULE_HTTP, Target, every_target, running

LOADS: Final[tuple[tuple[Era, int], ...]] = (("legacy", 1), ("modern", 1), ("legacy", 16), ("modern", 16))
BEFORE, NOW = "before", "now"


def command(source: Path) -> list[str]:
    return ["env", f"PYTHONPATH={source}", sys.executable, "-m", "bascule"]


def targets(source: Path) -> list[Target]:
    named = every_target(command(source), peers.FOLDER.resolve())
    ungoverned = [target for target in named if target.name in (BASCULE, BASCULE_HTTP)]
    return [*ungoverned, served(GOVERNED, command(source), policy())]


def unpacked(revision: str, folder: Path) -> Path:
    """The sources of *revision* in *folder*."""
    archive = subprocess.run(["git", "archive", revision, "src"], cwd=peers.ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder / "src"


def row(name: str, before: list[float], now: list[float], unit: str) -> str:
    ratio = statistics.median(now) / statistics.median(before)
    spread = ", ".join(f"{figures[0]:,.1f} to {figures[-1]:,.1f}" for figures in (sorted(before), sorted(now)))
    return f"{name:<44} {ratio:>6.3f}   {spread} {unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measured window")
    options = parser.parse_args()
    found: dict[tuple[str, Era, int, str], list[Sample]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bascule-compare-") as scratch:
        sources = {BEFORE: unpacked(options.revision, Path(scratch)), NOW: peers.ROOT / "src"}
        for number in range(options.rounds):
            for when in (BEFORE, NOW) if number % 2 == 0 else (NOW, BEFORE):
                for target in targets(sources[when]):
                    with running(target, 5, Path(scratch)) as server:
                        for era, connections in LOADS:
                            load = Load(era, connections, SMALL, options.seconds, 0.5)
                            sample = take(Place(target, server, number), load)
                            found[target.name, era, connections, when].append(sample)
    print("now / before")
    for name, era, connections, when in list(found):
        if when == BEFORE:
            before, now = found[name, era, connections, BEFORE], found[name, era, connections, NOW]
            what = f"{name}, {era}, {connections} connection{'s' * (connections > 1)}"
            print(row(f"{what}: CPU", [s.gateway_cpu_us for s in before], [s.gateway_cpu_us for s in now], "us a call"))
            print(row(f"{what}: calls", [s.calls_per_s for s in before], [s.calls_per_s for s in now], "/s"))


if __name__ == "__main__":
    main()
