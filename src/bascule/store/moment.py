"""Time that nobody can turn back: retention is counted by the machine's own clock as long as the machine runs.

A wall clock that jumps a day must not let a key expire, and with it let a payment be made twice.
"""

import time
from pathlib import Path
from typing import Final

import msgspec

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Moment(msgspec.Struct, frozen=True):
    """One point in time, by both clocks."""

    wall_s: float  # since 1970
    machine: str  # which run of which machine; "" where that is not known
    up_s: float  # that the machine has been running, asleep or not

    def since(self, wall_s: float, machine: str, up_s: float) -> float:
        """Seconds that have passed since another moment. Never negative."""
        passed = self.up_s - up_s if machine and machine == self.machine else self.wall_s - wall_s
        return max(0.0, passed)


def _machine() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""  # another system: then only the wall clock is left


_MACHINE: Final = _machine()
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC) if hasattr(time, "CLOCK_MONOTONIC") else None


def now() -> Moment:
    return Moment(time.time(), _MACHINE, time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK))
