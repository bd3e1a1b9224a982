"""Each caller has its own limits, or those of everybody."""

import pytest

from bascule.contract.model import Rate
from bascule.policy.allowances import Allowance, Allowances
from bascule.policy.options import Budget, CallerLimits

COMMON = CallerLimits(rate="600/minute", session_usd=0.5)


def test_a_caller_with_limits_of_its_own_has_only_those() -> None:
    own = CallerLimits(concurrent=3, budget=Budget(usd=2.5, per="month"))
    allowances = Allowances(COMMON, {"batch": own})
    assert allowances.of("batch") == Allowance(None, 3, "month", 2_500_000_000, None)
    assert allowances.of("anybody") == Allowance(Rate(600, 60.0), None, None, 0, 500_000_000)


@pytest.mark.parametrize(
    ("limits", "rates", "places", "budgets"),
    [
        (CallerLimits(), False, False, False),
        (CallerLimits(rate="1/second"), True, False, False),
        (CallerLimits(concurrent=1), False, True, False),
        (CallerLimits(budget=Budget(usd=1)), False, False, True),
        (CallerLimits(session_usd=1), False, False, True),
    ],
)
def test_it_is_known_which_bounds_anybody_has(limits: CallerLimits, rates: bool, places: bool, budgets: bool) -> None:
    for allowances in (Allowances(limits, {}), Allowances(CallerLimits(), {"me": limits})):
        assert (allowances.rates, allowances.places, allowances.budgets) == (rates, places, budgets)
