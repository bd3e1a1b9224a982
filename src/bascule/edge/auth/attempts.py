"""Who tried too many wrong credentials: a count per address and minute, in bounded memory. PURE.

Knows neither what a credential is nor the clock: times are given, in seconds of any clock that runs forward.
Source: security.md A10.
"""

from functools import lru_cache
from typing import Final, TypeAlias

from bascule.policy.addresses import address_of

Origin: TypeAlias = tuple[int, int]  # version of IP, and the address or the part of it that counts

MAX_FAILURES: Final = 10
WINDOW_S: Final = 60.0
MAX_ORIGINS: Final = 100_000
_NOWHERE: Final[Origin] = (0, 0)  # whatever has no IP address, such as a Unix socket
_SUBNET_BITS: Final = 64  # of IPv6: one customer has at least a /64, and so all addresses in it


class Attempts:
    """Failed credentials, by where they came from. A minute begins with the first failure in it."""

    def __init__(
        self, max_failures: int = MAX_FAILURES, window_s: float = WINDOW_S, max_origins: int = MAX_ORIGINS
    ) -> None:
        self._max_failures = max_failures
        self._window_s = window_s
        self._max_origins = max_origins
        self._windows: dict[Origin, tuple[float, int]] = {}  # (its begin, failures in it), the oldest begin first

    def __len__(self) -> int:
        return len(self._windows)

    def wait_s(self, ip: str, now_s: float) -> float:
        """Seconds until *ip* may try again; 0 if it may now."""
        if not self._windows:
            return 0.0
        begin_s, failures = self._windows.get(origin_of(ip), (now_s, 0))
        if failures < self._max_failures:
            return 0.0
        return min(self._window_s, max(0.0, begin_s + self._window_s - now_s))

    def failed(self, ip: str, now_s: float) -> None:
        """Count a wrong credential from *ip*."""
        self._forget(now_s)
        origin = origin_of(ip)
        if origin not in self._windows and len(self._windows) >= self._max_origins:
            # Somebody has a hundred thousand addresses: the one that waited longest gets its tries back early.
            del self._windows[next(iter(self._windows))]
        begin_s, failures = self._windows.get(origin, (now_s, 0))
        self._windows[origin] = begin_s, failures + 1

    def _forget(self, now_s: float) -> None:
        while self._windows:
            origin = next(iter(self._windows))
            if self._windows[origin][0] + self._window_s > now_s:
                return
            del self._windows[origin]


@lru_cache(maxsize=4096)
def origin_of(ip: str) -> Origin:
    """What counts as one origin: an IPv4 address, or an IPv6 subnet."""
    address = address_of(ip)
    if address is None:
        return _NOWHERE
    return address.version, int(address) >> (_SUBNET_BITS if address.version == 6 else 0)
