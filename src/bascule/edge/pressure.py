"""When requests are turned away before they are read: too many calls, a late event loop, too little memory.

`judge` decides from three numbers and is pure; `Pressure` measures them. What is turned away is work: lists, discovery,
pings, handshakes, answers to questions and cancellations go through, because they cost little and calm things down.
Source: docs/reliability.md, "Overload"; Linux: proc(5), cgroups(7).
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from bascule.config import OverloadOptions
from bascule.errors import Overloaded

_TICK_S: Final = 0.1  # between two looks at the clock of the loop
_LOOK_AT_MEMORY: Final = 10  # ticks
_RETRY_AFTER_S: Final = 1.0

# What costs a server work. In the body of a legacy request, which no header names, it is looked for as a JSON string
# of its own: inside any other string its quotes would be escaped.
_WORK: Final = ("tools/call", "prompts/get", "resources/read", "completion/complete")
_WORK_SPELT: Final = tuple(b'"%b"' % method.encode() for method in _WORK)
_EXEMPT: Final = frozenset({"server/discover", "ping", "initialize", "subscriptions/listen"})


class Reading(NamedTuple):
    """How things stand at one moment."""

    calls: int
    lag_s: float
    memory_percent: float | None  # None where it cannot be told


def judge(reading: Reading, options: OverloadOptions) -> str:
    """Why work is turned away now: `calls`, `lag` or `memory`; "" if it is not."""
    if reading.calls >= options.max_calls:
        return "calls"
    if reading.lag_s > options.max_lag_s:
        return "lag"
    if reading.memory_percent is not None and reading.memory_percent > options.max_memory_percent:
        return "memory"
    return ""


def is_work(method: str) -> bool:
    """Whether a stateless request of *method* may be turned away; its header says it."""
    return not (method in _EXEMPT or method.endswith("/list") or method.startswith("notifications/"))


def holds_work(body: bytes) -> bool:
    """Whether the *body* of a legacy request, not parsed yet, asks for work."""
    if b"\\/" in body:
        body = body.replace(b"\\/", b"/")  # as PHP writes it
    return any(spelt in body for spelt in _WORK_SPELT)


class Pressure:
    """One timer: it is late by as much as any other work of the loop is."""

    def __init__(self, calls: Callable[[], int], options: Callable[[], OverloadOptions] = OverloadOptions) -> None:
        """*calls* tells how many run or wait; *options* are those of now."""
        self._calls = calls
        self._options = options
        self._shed: Counter[str] = Counter()
        self._lag_s = self._lag_before_s = 0.0  # of the last look, and of the one before it
        self._due = 0.0  # when the timer should run
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._limit_bytes = memory_limit()
        self._memory_percent: float | None = None

    # ---- measuring

    def start(self, options: Callable[[], OverloadOptions]) -> None:
        self._options = options
        self._memory_percent = self._memory()
        self._wind()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wind(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + _TICK_S
        self._timer = loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._lag_before_s, self._lag_s = self._lag_s, max(0.0, asyncio.get_running_loop().time() - self._due)
        self._ticks += 1
        if self._ticks % _LOOK_AT_MEMORY == 0:
            self._memory_percent = self._memory()
        self._wind()

    def _memory(self) -> float | None:
        used = resident_bytes()
        return None if used is None or self._limit_bytes is None else 100 * used / self._limit_bytes

    def _reading(self) -> Reading:
        # The timer has measured the last turn of the loop; in this one it may be overdue already.
        overdue_s = asyncio.get_running_loop().time() - self._due if self._timer is not None else 0.0
        # Late once is a machine that slept, or a hiccup; late twice running is more work than there is time for.
        lag_s = max(min(self._lag_before_s, self._lag_s), min(self._lag_s, overdue_s))
        return Reading(self._calls(), lag_s, self._memory_percent)

    # ---- deciding

    def check(self, method: str) -> None:
        """Raise Overloaded if a stateless request of *method* has to be turned away now."""
        if (reason := judge(self._reading(), self._options())) and is_work(method):
            raise self._refusal(reason)

    def check_body(self, body: bytes) -> None:
        """The same for a request of a session, whose *body* has arrived and is not parsed."""
        if (reason := judge(self._reading(), self._options())) and holds_work(body):
            raise self._refusal(reason)

    def _refusal(self, reason: str) -> Overloaded:
        self._shed[reason] += 1
        error = Overloaded(_IN_WORDS[reason], limit="process", reason=reason)
        error.retry_after_s = _RETRY_AFTER_S
        return error

    def report(self) -> dict[str, Any]:
        """What `/status` says."""
        reading, options = self._reading(), self._options()
        percent = reading.memory_percent
        return {
            "now": judge(reading, options) or "none",
            "calls": reading.calls,
            "max_calls": options.max_calls,
            "lag_ms": round(reading.lag_s * 1000, 1),
            "memory_percent": None if percent is None else round(percent, 1),
            "shed": {reason: self._shed[reason] for reason in _IN_WORDS},
        }


_IN_WORDS: Final = {
    "calls": "as many calls as overload.max_calls allows are running or waiting here",
    "lag": "this process is late with its work",
    "memory": "this process has used nearly all the memory that it may have",
}


# ---- memory


def resident_bytes() -> int | None:
    """What this process keeps in memory now; None where there is no /proc."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def memory_limit() -> int | None:
    """What this process may have: the limit of its cgroup or of one around it, else what the machine has."""
    limits = limits_of(_read("/proc/self/cgroup"), _read)
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        physical = -1
    return min([*limits, physical] if physical > 0 else limits, default=None)


def limits_of(membership: str, read: Callable[[str], str]) -> list[int]:
    """The limits in bytes that hold for the members of *membership*, the text of /proc/self/cgroup.

    *read* gives the text of a file, "" where there is none. In a container its own cgroup may be mounted as the root,
    so that every folder up to that one is looked at.
    """
    found = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = PurePosixPath("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            root, name = PurePosixPath("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        inside = PurePosixPath(path.lstrip("/"))
        found += [read(str(root / folder / name)).strip() for folder in (inside, *inside.parents)]
    return [int(each) for each in found if each.isdigit()]  # `max` is none


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
