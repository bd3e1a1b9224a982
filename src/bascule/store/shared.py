"""The counters that all of Bascule shares: calls in time, money in budgets, what a session has done.

`SharedState` is what a store has to offer, so that several replicas can count as one: each operation is one
round trip and atomic, keys are strings, and what is not used is forgotten by itself. The clock is the
store's own, because replicas whose clocks differ would hand out the same call twice.
`MemoryState` is the store of a single process. It never waits, and on one event loop needs no lock.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from bascule.contract.model import Rate
from bascule.errors import Overloaded
from bascule.policy.rates import NEVER_USED, left, take

Limited: TypeAlias = tuple[str, Rate]  # a key, and how often it may be taken

MOST_KEYS: Final = 500_000  # of each kind; one takes some 200 bytes
MOST_NAMES: Final = 10_000  # that are counted under one key
_LOOKS: Final = 2  # at old entries, for each new one: more than one, so that the dead do not pile up
_LOOKS_WHEN_FULL: Final = 64


class Wait(msgspec.Struct, frozen=True):
    """Nothing was taken: the limit at *index* has the longest wait."""

    index: int
    wait_s: float


class Account(msgspec.Struct, frozen=True):
    """Money in nano-USD: a budget, or with no *ceiling* a sum that is only kept.

    It is forgotten *ttl_s* after it was last used.
    """

    key: str
    ceiling: int | None
    ttl_s: float


class Short(msgspec.Struct, frozen=True):
    """Nothing was reserved: the account at *index* has only *left* (nano-USD, never below 0)."""

    index: int
    left: int


class SharedState(Protocol):
    """Counters by key. Each operation is atomic; all raise Unavailable or Overloaded when they cannot count."""

    async def take_all(self, limits: Sequence[Limited]) -> Wait | None:
        """Take one call from each of *limits*, or none of them and say how long to wait."""
        ...

    async def left(self, limits: Sequence[Limited]) -> Sequence[int]:
        """How many calls each of *limits* would grant now; nothing is taken."""
        ...

    async def reserve(self, accounts: Sequence[Account], amount: int) -> Sequence[int] | Short:
        """Add *amount* to each of *accounts*, or to none if it would not fit under a ceiling; the sums after it."""
        ...

    async def settle(self, accounts: Sequence[Account], reserved: int, actual: int) -> Sequence[int]:
        """Replace what was *reserved* by what it came to; the sums after it. Ceilings are not looked at.

        A replica that dies before it settles leaves what it reserved as spent: nothing is given away.
        """
        ...

    async def used(self, keys: Sequence[str]) -> Sequence[int]:
        """The sums of accounts, reservations included; 0 for one that is not known."""
        ...

    async def count(self, key: str, names: Sequence[str], ttl_s: float, by: int = 1) -> Sequence[int]:
        """Add *by* to each of *names* under *key*; the counts after it, never below 0.

        All that is under *key* is forgotten *ttl_s* after it was last counted.
        """
        ...

    async def counts(self, key: str) -> Mapping[str, int]:
        """All that was counted under *key*."""
        ...


# ---- in memory -----------------------------------------------------------------------------------

Entry = TypeVar("Entry")


class _Entries(Generic[Entry]):
    """Entries by key, bounded. Dead ones go little by little: each new entry pays for a look at two old ones."""

    __slots__ = ("_dead", "_line", "_most", "by_key")

    def __init__(self, dead: Callable[[Entry, float], bool], most: int) -> None:
        self.by_key: dict[str, Entry] = {}
        self._line: deque[str] = deque()  # every key once, in the order in which they are looked at
        self._dead = dead
        self._most = most

    def make_room(self, count: int, now_s: float) -> None:
        """See to it that *count* entries can be added. Raises Overloaded where there is no room for them."""
        self._look(_LOOKS * count, now_s)
        if len(self.by_key) + count > self._most:
            self._look(_LOOKS_WHEN_FULL, now_s)
            if len(self.by_key) + count > self._most:
                # To forget a live one would hand its caller a fresh allowance.
                raise Overloaded(f"{self._most} limits, budgets or sessions are in use, and there is no room for more")

    def put(self, key: str, entry: Entry) -> None:
        """Add or replace an entry, for which there is room."""
        if key not in self.by_key:
            self._line.append(key)
        self.by_key[key] = entry

    def _look(self, times: int, now_s: float) -> None:
        line, by_key = self._line, self.by_key
        for _ in range(min(times, len(line))):
            key = line.popleft()
            if self._dead(by_key[key], now_s):
                del by_key[key]
            else:
                line.append(key)


class _Sum:
    """The sum of an account."""

    __slots__ = ("amount", "until_s")

    def __init__(self, amount: int, until_s: float) -> None:
        self.amount = amount
        self.until_s = until_s


class _Tally:
    """What was counted under one key."""

    __slots__ = ("by_name", "until_s")

    def __init__(self, until_s: float) -> None:
        self.by_name: dict[str, int] = {}
        self.until_s = until_s


class MemoryState:
    """`SharedState` of one process, by one clock that does not step (seconds)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most_keys: int = MOST_KEYS) -> None:
        self._clock = clock
        self._tats: _Entries[float] = _Entries(lambda tat_s, now_s: tat_s <= now_s, most_keys)
        self._sums: _Entries[_Sum] = _Entries(lambda one, now_s: one.until_s <= now_s, most_keys)
        self._tallies: _Entries[_Tally] = _Entries(lambda one, now_s: one.until_s <= now_s, most_keys)

    def __len__(self) -> int:
        return len(self._tats.by_key) + len(self._sums.by_key) + len(self._tallies.by_key)

    async def take_all(self, limits: Sequence[Limited]) -> Wait | None:
        now_s = self._clock()
        tats = self._tats.by_key
        granted: list[tuple[str, float]] = []
        longest_s, slowest, fresh = 0.0, 0, 0
        for index, (key, rate) in enumerate(limits):
            known = tats.get(key)
            if known is None:
                known = NEVER_USED
                fresh += 1
            tat_s, wait_s = take(known, rate, now_s)
            if wait_s > longest_s:
                longest_s, slowest = wait_s, index
            granted.append((key, tat_s))
        if longest_s:
            return Wait(slowest, longest_s)
        if fresh:
            self._tats.make_room(fresh, now_s)
            for key, tat_s in granted:
                self._tats.put(key, tat_s)
        else:
            tats.update(granted)
        return None

    async def left(self, limits: Sequence[Limited]) -> Sequence[int]:
        now_s = self._clock()
        return [left(self._tats.by_key.get(key, NEVER_USED), rate, now_s) for key, rate in limits]

    async def reserve(self, accounts: Sequence[Account], amount: int) -> Sequence[int] | Short:
        now_s = self._clock()
        sums = self._opened(accounts, now_s)
        for index, (account, one) in enumerate(zip(accounts, sums, strict=True)):
            if account.ceiling is not None and one.amount + amount > account.ceiling:
                return Short(index, max(0, account.ceiling - one.amount))
        for one in sums:
            one.amount += amount
        return [one.amount for one in sums]

    async def settle(self, accounts: Sequence[Account], reserved: int, actual: int) -> Sequence[int]:
        after = []
        for one in self._opened(accounts, self._clock()):
            # What was reserved may have been forgotten since, and must not come back as a gift.
            one.amount = max(0, one.amount + actual - reserved)
            after.append(one.amount)
        return after

    async def used(self, keys: Sequence[str]) -> Sequence[int]:
        now_s = self._clock()
        found = [self._sums.by_key.get(key) for key in keys]
        return [one.amount if one is not None and one.until_s > now_s else 0 for one in found]

    def _opened(self, accounts: Sequence[Account], now_s: float) -> Sequence[_Sum]:
        """The sums of *accounts*, kept for longer: what is new or was forgotten begins at 0."""
        sums: list[_Sum] = []
        for account in accounts:
            one = self._sums.by_key.get(account.key)
            if one is None:
                self._sums.make_room(1, now_s)
                one = _Sum(0, now_s + account.ttl_s)
                self._sums.put(account.key, one)
            elif one.until_s <= now_s:
                one.amount = 0
            one.until_s = now_s + account.ttl_s
            sums.append(one)
        return sums

    async def count(self, key: str, names: Sequence[str], ttl_s: float, by: int = 1) -> Sequence[int]:
        now_s = self._clock()
        tally = self._tallies.by_key.get(key)
        if tally is None:
            self._tallies.make_room(1, now_s)
            tally = _Tally(now_s)
            self._tallies.put(key, tally)
        elif tally.until_s <= now_s:
            tally.by_name.clear()
        counts = tally.by_name
        if len(counts) >= MOST_NAMES and any(name not in counts for name in names):
            raise Overloaded(f"one session has called {MOST_NAMES} different things, and no more can be counted")
        tally.until_s = now_s + ttl_s
        for name in names:
            counts[name] = max(0, counts.get(name, 0) + by)
        return [counts[name] for name in names]

    async def counts(self, key: str) -> Mapping[str, int]:
        tally = self._tallies.by_key.get(key)
        return dict(tally.by_name) if tally is not None and tally.until_s > self._clock() else {}
