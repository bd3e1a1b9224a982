"""What is turned away under pressure, and from which numbers that follows."""

import asyncio
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.config import OverloadOptions
from bascule.edge.pressure import (
    Pressure,
    Reading,
    holds_work,
    is_work,
    judge,
    limits_of,
    memory_limit,
    resident_bytes,
)
from bascule.errors import Overloaded

OPTIONS = OverloadOptions(max_lag_s=0.25, max_memory_percent=80, max_calls=100)
CALM = Reading(99, 0.25, 80.0)


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (CALM, ""),
        (CALM._replace(memory_percent=None), ""),
        (CALM._replace(calls=100), "calls"),
        (CALM._replace(lag_s=0.26), "lag"),
        (CALM._replace(memory_percent=80.1), "memory"),
        (Reading(100, 1, 100), "calls"),
    ],
)
def test_each_bound_holds_up_to_its_number(reading: Reading, reason: str) -> None:
    assert judge(reading, OPTIONS) == reason


@given(st.integers(0, 10**6), st.floats(0, 60), st.none() | st.floats(0, 100))
def test_more_pressure_never_lets_more_through(calls: int, lag_s: float, percent: float | None) -> None:
    if judge(Reading(calls, lag_s, percent), OPTIONS):
        assert judge(Reading(calls + 1, lag_s + 1, percent), OPTIONS)


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read", "tasks/get", "foo/bar", ""])
def test_work_is_turned_away(method: str) -> None:
    assert is_work(method)


@pytest.mark.parametrize(
    "method",
    ["tools/list", "resources/templates/list", "server/discover", "ping", "initialize", "subscriptions/listen"],
)
def test_what_calms_things_down_is_not(method: str) -> None:
    assert not is_work(method)


@given(st.recursive(st.none() | st.text() | st.just("tools/call "), lambda inner: st.lists(inner, max_size=4)))
def test_words_inside_a_text_are_no_work(value: object) -> None:
    answer = {"jsonrpc": "2.0", "id": 1, "result": {"value": value, "said": 'he said "tools/call" twice'}}
    assert not holds_work(json.dumps(answer).encode())
    assert holds_work(json.dumps({"method": "tools/call", "params": {"value": value}}).encode())


async def test_the_timer_measures_how_late_the_loop_is_and_forgets_it() -> None:
    pressure = Pressure(lambda: 3)
    pressure.start(lambda: OPTIONS)
    try:
        pressure.check("tools/call")
        time.sleep(0.4)  # noqa: ASYNC251 - that is what is measured
        pressure.check("tools/call")  # once is no overload: a machine that slept, a hiccup
        await asyncio.sleep(0)  # the timer, which is overdue, runs in this turn of the loop
        await asyncio.sleep(0)
        time.sleep(0.4)  # noqa: ASYNC251
        with pytest.raises(Overloaded) as refused:
            pressure.check("tools/call")
        assert refused.value.details == {"limit": "process", "reason": "lag"}
        assert refused.value.retry_after_s
        pressure.check("tools/list")
        with pytest.raises(Overloaded):
            pressure.check_body(b'{"method":"tools/call"}')
        pressure.check_body(b'{"result":{}}')
        said = pressure.report()
        assert said["shed"] == {"calls": 0, "lag": 2, "memory": 0}
        assert said["now"] == "lag"
        assert said["lag_ms"] > 250
        assert said["calls"] == 3
        async with asyncio.timeout(5):
            while pressure.report()["now"] == "lag":  # noqa: ASYNC110 - the timer has no event
                await asyncio.sleep(0.01)
        pressure.check("tools/call")
    finally:
        pressure.stop()


@pytest.mark.parametrize(
    ("membership", "files", "limits"),
    [
        ("0::/\n", {"/sys/fs/cgroup/memory.max": "536870912\n"}, [536870912]),
        ("0::/\n", {"/sys/fs/cgroup/memory.max": "max\n"}, []),
        (
            "0::/a.slice/b.scope\n",
            {"/sys/fs/cgroup/a.slice/b.scope/memory.max": "max", "/sys/fs/cgroup/a.slice/memory.max": "1000"},
            [1000],
        ),
        (
            "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n",
            {
                "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "1000",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            [1000, 9223372036854771712],
        ),
        ("", {}, []),
    ],
)
def test_the_limit_is_that_of_the_cgroup_and_of_those_around_it(
    membership: str, files: dict[str, str], limits: list[int]
) -> None:
    assert limits_of(membership, lambda path: files.get(path, "")) == limits


def test_this_very_process_has_memory_and_a_limit() -> None:
    used, limit = resident_bytes(), memory_limit()
    assert used is not None
    assert limit is not None
    assert 1_000_000 < used < limit
