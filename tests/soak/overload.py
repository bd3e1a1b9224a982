"""Ten times as many calls as a server can bear, through a real gateway: `python tests/soak/overload.py --seconds 60`.

The server has so many places, and each call takes so long: that is its capacity, known beforehand. Calls are sent at
their times whatever becomes of those before (an open loop), because people do not wait for one another either.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import uvloop

sys.path[:0] = [str(Path(__file__).parent.parent / folder) for folder in ("", "behaviour")]

from gateway import Bascule, local, serving, until  # noqa: E402 - as a program, the tests are on no path before

PLACES: Final = 4  # calls at one time that the server is given
WORK_S: Final = 0.08  # that each takes
CAPACITY: Final = PLACES / WORK_S  # calls per second
QUEUED: Final = 3  # so that a call waits less than it runs
HANGS_AFTER_S: Final = 5.0
LISTS_EVERY_S: Final = 0.25

BOUNDS: Final[dict[str, Any]] = {
    "server": {"limits": {"queued": QUEUED, "queue_timeout_s": 1, "servers": {"it": {"concurrent": PLACES}}}},
    "process": {"overload": {"max_calls": PLACES}},  # nobody waits: whoever finds no place is told so with a 503
}


@dataclass
class Load:
    """What became of the calls of one run."""

    seconds: float
    offered: int = 0
    ends: Counter[str] = field(default_factory=Counter)  # "done", or the reason of a refusal
    took_s: list[float] = field(default_factory=list)  # of those that were done
    refused_s: list[float] = field(default_factory=list)
    lists_s: list[float] = field(default_factory=list)
    rss_kib: list[int] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        """Of what the server can do."""
        return self.ends["done"] / (CAPACITY * self.seconds)

    def report(self) -> dict[str, Any]:
        return {
            "offered_per_s": round(self.offered / self.seconds, 1),
            "capacity_per_s": CAPACITY,
            "goodput": round(self.goodput, 3),
            "ends": dict(self.ends),
            "done_ms": milliseconds(self.took_s),
            "refused_ms": milliseconds(self.refused_s),
            "lists_ms": milliseconds(self.lists_s),
            "rss_kib": [self.rss_kib[0], self.rss_kib[-1], max(self.rss_kib)],
            "oddities": self.oddities[:5],
        }


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    return {f"p{part}": round(1000 * percentile(seconds, part), 1) for part in (50, 99)} if seconds else {}


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part / 100))]


async def call(bascule: Bascule, load: Load) -> None:
    began = time.monotonic()
    try:
        async with asyncio.timeout(HANGS_AFTER_S):
            reason = await _outcome(bascule, load)
    except TimeoutError:
        reason = "hangs"
    load.ends[reason] += 1
    (load.took_s if reason == "done" else load.refused_s).append(time.monotonic() - began)


async def _outcome(bascule: Bascule, load: Load) -> str:
    params = {"name": "it__sleep", "arguments": {"seconds": WORK_S}}
    async with bascule.modern().open("tools/call", params) as exchange:
        message = await exchange.last()
        if exchange.status == 503:
            found: str = message["error"]["data"]["details"]["reason"]
            if exchange.headers.get("retry-after") is None or message["error"]["data"]["code"] != 50004:
                load.oddities.append(json.dumps(message))
            return found
        result = message.get("result", {})
        if not result.get("isError"):
            return "done" if "content" in result else f"odd: {message}"
        error = result["_meta"]["dev.bascule/error"]
        return str(error["details"].get("reason", error["kind"]))


async def watch(bascule: Bascule, load: Load) -> None:
    """What an operator does meanwhile."""
    assert bascule.process
    while True:
        began = time.monotonic()
        answer = await bascule.modern().ask("tools/list")
        load.lists_s.append(time.monotonic() - began)
        if "result" not in answer:
            load.oddities.append(json.dumps(answer))
        load.rss_kib.append(rss_kib(bascule.process.pid))
        await asyncio.sleep(LISTS_EVERY_S)


def rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def offer(bascule: Bascule, per_s: float, seconds: float) -> Load:
    """Send calls at a steady rate for so long, and wait for what became of each."""
    load = Load(seconds)
    watching = asyncio.ensure_future(watch(bascule, load))
    began = time.monotonic()
    async with asyncio.TaskGroup() as calls:
        while (elapsed := time.monotonic() - began) < seconds:
            for _ in range(int(elapsed * per_s) - load.offered + 1):
                calls.create_task(call(bascule, load))
                load.offered += 1
            await asyncio.sleep(1 / per_s)
    watching.cancel()
    await asyncio.wait({watching})
    if not watching.cancelled():
        watching.result()
    return load


async def run(seconds: float, factor: float, bound: str) -> tuple[Load, Load, dict[str, Any]]:
    """(unloaded, loaded, what /status says of pressure afterwards), with one of BOUNDS."""
    with TemporaryDirectory(prefix="bascule-") as folder:
        path = Path(folder) / "bascule.json"
        path.write_text(json.dumps({"servers": {"it": local("plain")}, **BOUNDS[bound]}))
        async with serving(path) as bascule:
            await bascule.up("it")
            unloaded = await offer(bascule, CAPACITY / 4, 2)
            await offer(bascule, CAPACITY * factor, 1)  # caches and pools fill
            loaded = await offer(bascule, CAPACITY * factor, seconds)
            said = await until(bascule.status, lambda said: not said["pressure"]["calls"])
            return unloaded, loaded, said["pressure"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--factor", type=float, default=10)
    parser.add_argument("--bound", choices=BOUNDS, default="server")
    options = parser.parse_args()
    unloaded, loaded, pressure = uvloop.run(run(options.seconds, options.factor, options.bound))
    sys.stdout.write(
        json.dumps({"unloaded": unloaded.report(), "loaded": loaded.report(), "pressure": pressure}, indent=2)
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
