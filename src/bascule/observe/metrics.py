"""How many calls there were, how they ended and how long they took: counted in plain numbers, in the loop's thread.

A scrape reads them (exposition.py). Labels are bounded: methods that MCP knows, servers of the configuration, tools
that some server lists. What a client makes up is counted, and gets no line of its own.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from bascule.policy.outcome import CATEGORIES, UNTIMED, category_of
from bascule.store.record import Record

# Upper bounds, in seconds; the last bucket has none.
BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
MOST_SERIES: Final = 10_000  # a server that lists ever new names must not fill our memory, nor that of Prometheus
OTHER: Final = "other"  # a method that MCP does not know
METHODS: Final = frozenset({
    *("initialize", "ping", "server/discover", "subscriptions/listen", "logging/setLevel", "completion/complete"),
    *("tools/list", "tools/call", "prompts/list", "prompts/get"),
    *("resources/list", "resources/templates/list", "resources/read", "resources/subscribe", "resources/unsubscribe"),
    *("tasks/get", "tasks/update", "tasks/list", "tasks/result", "tasks/cancel"),
})  # fmt: skip

_BOUNDS_US: Final = tuple(round(bound * 1_000_000) for bound in BUCKETS_S)
_NUMBER: Final = {category: number for number, category in enumerate(CATEGORIES)}
_TIMED: Final = tuple(category not in UNTIMED for category in CATEGORIES)

Labels: TypeAlias = tuple[str, str, str]  # method, tool, server


class Series(msgspec.Struct):
    """The calls of one tool, with one method, at one server."""

    calls: list[int] = msgspec.field(default_factory=lambda: [0] * len(CATEGORIES))
    took: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))  # calls by bucket, not summed
    took_us: int = 0
    cost_nano_usd: int = 0

    def copy(self) -> "Series":
        return Series(self.calls.copy(), self.took.copy(), self.took_us, self.cost_nano_usd)


class CallMetrics:
    """The series of all calls."""

    def __init__(self) -> None:
        self._series: dict[Labels, Series] = {}
        self._numbers: dict[str, int] = {}  # of categories, by outcome: those are our own words, and few

    def count(self, record: Record) -> None:
        """Count the call that *record* tells of."""
        series = self._series.get((record.method, record.thing, record.server))
        if series is None:
            series = self._found(record)
        number = self._numbers.get(record.outcome)
        if number is None:
            number = self._numbers[record.outcome] = _NUMBER[category_of(record.outcome)]
        series.calls[number] += 1
        if _TIMED[number]:
            took_us = record.took_us
            series.took[bisect_left(_BOUNDS_US, took_us)] += 1
            series.took_us += took_us
        if record.cost_nano_usd:
            series.cost_nano_usd += record.cost_nano_usd

    def read(self) -> Sequence[tuple[Labels, Series]]:
        """All series, as they are now."""
        return [(labels, series.copy()) for labels, series in self._series.items()]

    def _found(self, record: Record) -> Series:
        method = record.method if record.method in METHODS else OTHER
        tool = record.thing if record.version else ""  # only what is listed has one
        if len(self._series) >= MOST_SERIES and (method, tool, record.server) not in self._series:
            tool = ""
        return self._series.setdefault((method, tool, record.server), Series())
