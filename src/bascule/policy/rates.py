"""How many calls in how much time: the generic cell rate algorithm (GCRA). PURE.

All that is kept of a limit is one time, its *theoretical arrival time* (TAT): when every call that was granted
would have ended, had they come evenly spaced. A limit that nobody used for a while has a TAT in the past, and
is the same as one that was never used, so it can be forgotten.
Source: ITU-T I.371, A.1, the virtual scheduling algorithm.
"""

from typing import Final

from bascule.contract.model import Rate

NEVER_USED: Final = float("-inf")  # a theoretical arrival time that any clock has passed
# Adding up many small times is off by a few units in the last place, which must not cost the last call of a burst.
_SLACK: Final = 1e-3  # of the time between two calls


def take(tat_s: float, rate: Rate, now_s: float) -> tuple[float, float]:
    """Spend one call; return the new TAT and the seconds to wait (0 = granted). A refusal spends nothing.

    A clock that steps back mints nothing: the TAT never moves back, so it only takes longer.
    """
    interval_s = rate.per_s / rate.calls
    start_s = tat_s if tat_s > now_s else now_s
    early_s = start_s - now_s - rate.per_s + interval_s  # by how much the burst would be exceeded
    if early_s > interval_s * _SLACK:
        return tat_s, early_s
    return start_s + interval_s, 0.0


def left(tat_s: float, rate: Rate, now_s: float) -> int:
    """How many calls would be granted at once."""
    interval_s = rate.per_s / rate.calls
    spent_s = max(0.0, tat_s - now_s)
    return max(0, int((rate.per_s - spent_s) / interval_s + _SLACK))
