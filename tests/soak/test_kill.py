"""At most once, whatever dies: the kill campaign of a hundred seeds, and races for one key."""

import asyncio

import pytest
from gateway import WITHIN_S

from soak.campaign import campaign, report
from soak.race import race
from soak.story import POINTS

SEEDS = 100


def test_no_kill_makes_a_payment_twice_or_loses_one_that_was_answered() -> None:
    found = asyncio.run(campaign(range(1, SEEDS + 1), per_story=1, side_by_side=2))
    said = report(found, 0)
    assert found.ok, said
    assert said.splitlines()[-1] == f"kills {SEEDS} double 0 lost 0 chain ok"
    # A campaign that kills too late, or nobody, proves nothing.
    for point in POINTS:
        assert found.kills[point] >= SEEDS // len(POINTS) // 2, said
    for point in ("CP0", "CP1", "CP2", "CP3", "CP4", "CP5", "CP6", "CP7"):
        assert found.outcomes[point], said
    assert found.counts["CP7 recovered"], "the audit of a call that was answered a moment ago was never lost"


@pytest.mark.parametrize("setting", ["modern http", "plain stdio"])
@pytest.mark.parametrize("processes", [1, 2])
def test_of_a_hundred_first_sends_one_is_executed_and_the_others_hear_that_it_runs(
    setting: str, processes: int
) -> None:
    outcome = asyncio.run(race(setting, processes, senders=100, wait_s=0))
    assert outcome.executions == 1
    assert outcome.heard == {"result": 1, "in flight": 99}


@pytest.mark.parametrize("processes", [1, 2])
def test_of_a_hundred_first_sends_that_wait_all_get_the_one_result(processes: int) -> None:
    outcome = asyncio.run(race("modern http", processes, senders=100, wait_s=int(WITHIN_S)))
    assert outcome.executions == 1
    assert outcome.heard == {"result": 1, "replay": 99}
    assert len(outcome.texts) == 1
