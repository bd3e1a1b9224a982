"""Whether a failed call is made again, and when. PURE.

A call is repeated by itself only when that can do no harm; never much, so that a server which fails gets hardly
more to do than before; and never in step with others.
Source: M. Brooker, "Exponential Backoff And Jitter" (full jitter); Google, "Site Reliability Engineering", ch. 21
(retry budget as a share of requests); Envoy, `RetryBudget` (retries at one time).
"""

from typing import Final

import msgspec

from bascule.errors import BasculeError, CircuitOpen, Draining


class RetryRules(msgspec.Struct, frozen=True):
    most: int = 2  # retries of one call
    base_s: float = 0.1
    cap_s: float = 2.0
    longest_s: float = 10.0  # as a server asks; who gets the error sooner can do something else meanwhile
    share: float = 0.1  # of the calls to a server may be retries,
    saved: float = 10.0  # this many at once when there were none for a while,
    per_s: float = 0.1  # and this many for nothing: a share of the calls of a quiet server is none
    least_at_once: int = 3  # retries at one time,
    share_at_once: float = 0.2  # or this share of the calls that are under way


RETRIES: Final = RetryRules()


def repeatable(error: BasculeError, *, failed: bool, harmless: bool) -> bool:
    """Whether the call that *error* ended may be sent once more.

    *failed*: the error is a failure of the server, not an answer. *harmless*: running the call twice is the same as
    running it once, because it only reads, or is idempotent, or has a key by which the server itself tells.
    """
    if isinstance(error, CircuitOpen | Draining):
        return False  # nothing will be different in a moment
    return error.unsent or (failed and harmless)


def pause_s(retry: int, chance: float, asked_s: float | None, rules: RetryRules = RETRIES) -> float:
    """Seconds before *retry* (1, 2, …); *chance* is drawn from 0 to 1, *asked_s* what the server said itself."""
    spread_s = chance * min(rules.cap_s, rules.base_s * 2.0 ** (retry - 1))
    return spread_s if asked_s is None else max(0.0, asked_s) + spread_s


def fits(wait_s: float, now_s: float, due_s: float | None, rules: RetryRules = RETRIES) -> bool:
    """Whether, after a wait from now on, there is any time left before *due_s*."""
    return wait_s <= rules.longest_s and (due_s is None or now_s + wait_s < due_s)


class RetryBudget:
    """How much the calls to one server may be repeated, all callers together.

    Mutable, because every call is counted here: `calls` and `active` are kept by the stage itself.
    """

    __slots__ = ("_at_s", "_seen", "_tokens", "active", "calls", "refused", "retrying", "rules", "taken")

    def __init__(self, now_s: float, rules: RetryRules = RETRIES) -> None:
        self.rules = rules
        self.calls = 0  # first attempts, all together
        self.active = 0  # calls under way, those that wait for their retry included
        self.retrying = 0  # of these, the ones that are being repeated
        self.taken = 0  # retries so far
        self.refused = 0  # retries that were too many
        self._tokens = rules.saved
        self._seen = 0  # calls that have been turned into tokens
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Begin a retry, if the budget has one; `give` when it has ended."""
        rules = self.rules
        earned = (self.calls - self._seen) * rules.share + max(0.0, now_s - self._at_s) * rules.per_s
        self._tokens = min(rules.saved, self._tokens + earned)
        self._seen, self._at_s = self.calls, max(self._at_s, now_s)
        if self._tokens < 1 or self.retrying >= max(rules.least_at_once, int(rules.share_at_once * self.active)):
            self.refused += 1
            return False
        self._tokens -= 1
        self.retrying += 1
        self.taken += 1
        return True

    def give(self) -> None:
        self.retrying -= 1

    @property
    def tokens(self) -> float:
        """As far as they have been counted."""
        return self._tokens
