"""What a tree of processes costs, from Linux's /proc: CPU and resident memory, gateway and upstream apart.

Knows nothing of MCP. A process is *upstream* when it runs the marked script, and *gateway* otherwise.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Cost(NamedTuple):
    """CPU since the processes began, and memory now."""

    cpu_s: float = 0.0
    rss_bytes: int = 0
    processes: int = 0


class Reading(NamedTuple):
    """One look at the target and at the machine around it."""

    gateway: Cost
    upstream: Cost
    machine_busy_s: float  # every process, kernel and hypervisor steal, since boot


class Process(NamedTuple):
    pid: int
    parent: int
    cpu_s: float


def processes() -> dict[int, Process]:
    """Every process of the machine; one that ends while we look is left out."""
    found = {}
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            # The name, in parentheses, may itself hold spaces and parentheses.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # utime, stime and, so that a child per request is not free, those of the children waited for.
        cpu_s = sum(map(int, fields[11:15])) / TICKS_PER_S
        pid = int(folder.name)
        found[pid] = Process(pid, int(fields[1]), cpu_s)
    return found


def tree(root: int, among: dict[int, Process]) -> list[Process]:
    """*root* and all its descendants, parents first."""
    children = defaultdict(list)
    for process in among.values():
        children[process.parent].append(process)
    family = [among[root]] if root in among else []
    for process in family:
        family += children[process.pid]
    return family


def rss_bytes(pid: int) -> int:
    """Resident memory of *pid*; 0 when it has just ended."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


def runs(pid: int, script: str) -> bool:
    """Whether *pid* is an interpreter running *script*; a shell or a gateway that only names it is not."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[1:2] == [script.encode()]
    except OSError:
        return False


def machine_busy_s() -> float:
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, (PROC / "stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


class Meter:
    """Reads the cost of the trees under *roots*, in which *upstream_script* marks the upstream."""

    def __init__(self, roots: tuple[int, ...], upstream_script: str) -> None:
        self._roots = roots
        self._upstream_script = upstream_script

    def read(self) -> Reading:
        everything = processes()
        gateway, upstream = Cost(), Cost()
        for root in self._roots:
            for process in tree(root, everything):
                rss = rss_bytes(process.pid)
                if runs(process.pid, self._upstream_script):
                    upstream = add(upstream, process.cpu_s, rss)
                else:
                    gateway = add(gateway, process.cpu_s, rss)
        return Reading(gateway, upstream, machine_busy_s())


def add(cost: Cost, cpu_s: float, rss: int) -> Cost:
    return Cost(cost.cpu_s + cpu_s, cost.rss_bytes + rss, cost.processes + 1)
