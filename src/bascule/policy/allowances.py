"""What each caller may use up, ready for use: its own limits, or those of every caller. PURE."""

from collections.abc import Mapping

import msgspec

from bascule.contract.model import Rate, rate_of
from bascule.policy.options import CallerLimits
from bascule.policy.spending import Per, nano_of


class Allowance(msgspec.Struct, frozen=True):
    """`CallerLimits`, read and counted in units of our own; what is None has no bound."""

    rate: Rate | None = None
    concurrent: int | None = None
    budget_per: Per | None = None
    budget: int = 0  # nano-USD in each window
    session_budget: int | None = None  # nano-USD


class Allowances:
    """The allowance of each caller, by its name. *own* stand alone: nothing is added from *common*."""

    def __init__(self, common: CallerLimits, own: Mapping[str, CallerLimits]) -> None:
        self._common = _allowance(common)
        self._own = {name: _allowance(limits) for name, limits in own.items()}
        everybody = (self._common, *self._own.values())
        # Whether anybody has such a bound: where nobody has, no call needs the stage that holds it.
        self.rates = any(one.rate is not None for one in everybody)
        self.places = any(one.concurrent is not None for one in everybody)
        self.budgets = any(one.budget_per or one.session_budget is not None for one in everybody)

    def of(self, caller: str) -> Allowance:
        return self._own.get(caller, self._common)


def _allowance(limits: CallerLimits) -> Allowance:
    budget, session_usd = limits.budget, limits.session_usd
    return Allowance(
        rate=None if limits.rate is None else rate_of(limits.rate),
        concurrent=limits.concurrent,
        budget_per=None if budget is None else budget.per,
        budget=0 if budget is None else nano_of(budget.usd),
        session_budget=None if session_usd is None else nano_of(session_usd),
    )
