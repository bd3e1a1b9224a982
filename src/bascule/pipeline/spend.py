"""`spend`: budgets. Money is reserved before a call, by its estimate, and settled after it, by what it took.

A call that never reached its server costs nothing. One that reached it and brought no answer costs its
estimate: the server may have done the work.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from bascule.call import Call, Forward, Result, Trip
from bascule.contract.model import Contract
from bascule.errors import BasculeError, BudgetExceeded
from bascule.pipeline.tally import SESSION_IDLE_S
from bascule.pipeline.whose import session_key, window_key
from bascule.policy.allowances import Allowance
from bascule.policy.spending import (
    Per,
    Used,
    Window,
    answer_of,
    cost,
    cost_unanswered,
    estimate,
    usd_of,
    window_of,
)
from bascule.store.shared import Account, SharedState, Short

Warnings: TypeAlias = tuple[str, ...]

_WARN_FROM: Final = 0.8  # of a budget
_NO_SUMS: Final[Sequence[int]] = ()
# A window's sum outlives it, for the calls that end after it and for clocks that step back.
_KEPT_AFTER_S: Final = 3600.0


class Spend:
    """Pays each call from the budgets of its caller and of its session, and says what it cost."""

    def __init__(
        self,
        contract: Contract,
        *,
        allowance_of: Callable[[str], Allowance],
        state: SharedState,
        clock: Callable[[], float] = time.time,
        summing: bool = True,
    ) -> None:
        """*allowance_of* tells what a caller of a name may use; *clock* gives Unix time.

        *summing*: some rule looks at what a session has spent, so that it is kept without a budget, too.
        """
        self._model = contract.cost_model
        self._allowance_of = allowance_of
        self._state = state
        self._clock = clock
        self._summing = summing
        # A tool without a cost model is reserved what it last reported, so that a spent budget stops it, too.
        self._estimate = estimate(self._model)
        self._windows: dict[Per, Window] = {}

    async def __call__(self, call: Call, forward: Forward) -> Result:
        accounts = self._accounts(call)
        reserved, sums = self._needed(accounts), _NO_SUMS
        if reserved:
            sums = await self._reserve(call, accounts, reserved)
        trip, result = call.trip, None
        try:
            result = await forward(call)
        finally:
            paid, warnings = self._bill(trip, result, reserved)
            trip.cost_nano_usd = paid or 0
            if reserved != (paid or 0):  # most calls cost just what was reserved for them
                sums, problems = await self._settle(accounts, reserved, paid or 0)
                warnings += problems
        if sums:
            warnings += self._warnings(call, accounts, sums)
        if paid is None and not warnings:
            return result
        cost_usd = None if paid is None else usd_of(paid)
        return msgspec.structs.replace(result, cost_usd=cost_usd, warnings=(*result.warnings, *warnings))

    async def peek(self, call: Call) -> tuple[str, ...]:
        """What is left of each budget, in words; reserves nothing. Raises what the call would be refused with."""
        accounts = self._accounts(call)
        needed = self._needed(accounts)
        said = [f"{usd_of(needed):g} USD are reserved for it"]
        for account, used in zip(accounts, await self._state.used([a.key for a in accounts]), strict=True):
            if account.ceiling is not None:
                left = max(0, account.ceiling - used)
                if needed > left:
                    raise self._refusal(call, account, left, needed)
                said.append(f"{usd_of(left):g} USD are left of {self._budget(call, account).words}")
        return tuple(said)

    def _needed(self, accounts: Sequence[Account]) -> int:
        if self._model is not None:
            return self._estimate
        # What its server reported of the last call, whoever made it, must not shut out who has spent little.
        return min([self._estimate, *(account.ceiling // 2 for account in accounts if account.ceiling is not None)])

    def _accounts(self, call: Call) -> list[Account]:
        """What the call is paid from."""
        caller = call.caller.name
        allowance = self._allowance_of(caller)
        accounts = []
        if allowance.budget_per is not None:
            now_s = self._clock()
            window = self._window(allowance.budget_per, now_s)
            ttl_s = window.end_s - now_s + _KEPT_AFTER_S
            accounts.append(Account(window_key(window.name, caller), allowance.budget, ttl_s))
        if self._summing or allowance.session_budget is not None:
            accounts.append(Account(session_key(call), allowance.session_budget, SESSION_IDLE_S))
        return accounts

    def _window(self, per: Per, now_s: float) -> Window:
        window = self._windows.get(per)
        if window is None or not window.start_s <= now_s < window.end_s:
            window = self._windows[per] = window_of(per, now_s)
        return window

    async def _reserve(self, call: Call, accounts: Sequence[Account], amount: int) -> Sequence[int]:
        """The sums of *accounts* with *amount* in them. Raises BudgetExceeded."""
        sums = await self._state.reserve(accounts, amount)
        if isinstance(sums, Short):
            raise self._refusal(call, accounts[sums.index], sums.left, amount)
        return sums

    async def _settle(self, accounts: Sequence[Account], reserved: int, paid: int) -> tuple[Sequence[int], Warnings]:
        """(the sums after it, warnings). The call has been made: nothing that fails here may hide its outcome."""
        try:
            return await self._state.settle(accounts, reserved, paid), ()
        except BasculeError as error:
            return _NO_SUMS, (f"the cost was not recorded, only its estimate: {error.message}",)

    def _bill(self, trip: Trip, result: Result | None, reserved: int) -> tuple[int | None, tuple[str, ...]]:
        """(nano-USD to pay, or None where nobody can tell; warnings)."""
        if not trip.sent:
            return (None if self._model is None else 0), ()
        if result is None:
            return max(reserved, cost_unanswered(self._model, trip.seconds)), ()
        answer = answer_of(result.value)
        paid, warnings = cost(self._model, Used(trip.seconds, len(bytes(result.value))), answer)
        if self._model is None and paid is not None:
            self._estimate = paid
        return paid, warnings

    # ---- in words

    def _budget(self, call: Call, account: Account) -> "_Budget":
        per = self._allowance_of(call.caller.name).budget_per
        if per is None or account.key == session_key(call):
            return _Budget("session", "this session", account.ceiling or 0, None)
        return _Budget(per, f"this caller for this {per}", account.ceiling or 0, self._window(per, self._clock()).end)

    def _warnings(self, call: Call, accounts: Sequence[Account], sums: Sequence[int]) -> Warnings:
        return tuple([
            self._warning(call, account, used)
            for account, used in zip(accounts, sums, strict=True)
            if account.ceiling is not None and used >= _WARN_FROM * account.ceiling
        ])  # fmt: skip

    def _warning(self, call: Call, account: Account, used: int) -> str:
        budget = self._budget(call, account)
        return f"{used / budget.nano:.0%} of {budget.words} are spent; {budget.renewal}"

    def _refusal(self, call: Call, account: Account, left: int, needed: int) -> BudgetExceeded:
        budget = self._budget(call, account)
        needed_usd, left_usd = usd_of(needed), usd_of(left)
        return BudgetExceeded(
            f"the call needs {needed_usd:g} USD, and {left_usd:g} USD are left of {budget.words}; {budget.renewal}",
            budget=budget.per,
            limit_usd=usd_of(budget.nano),
            left_usd=left_usd,
            needed_usd=needed_usd,
            renews_at=budget.renews_at,
        )


class _Budget(msgspec.Struct, frozen=True):
    """A budget as callers are told of it."""

    per: str
    whose: str
    nano: int
    renews_at: str | None  # None: it ends with the session

    @property
    def words(self) -> str:
        return f"the budget of {self.whose} ({usd_of(self.nano):g} USD)"

    @property
    def renewal(self) -> str:
        if self.renews_at is not None:
            return f"it renews at {self.renews_at}"
        return f"it ends with the session, or {SESSION_IDLE_S / 60:g} minutes after its last call"
