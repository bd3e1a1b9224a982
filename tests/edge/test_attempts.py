"""Ten wrong credentials in a minute, and the rest of the minute is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.edge.auth.attempts import MAX_FAILURES, MAX_ORIGINS, WINDOW_S, Attempts, origin_of

HOME = "192.0.2.7"


def failed(attempts: Attempts, ip: str, times: int, now_s: float = 0.0) -> None:
    for _ in range(times):
        attempts.failed(ip, now_s)


def test_nine_failures_are_forgiven_and_the_tenth_is_not() -> None:
    attempts = Attempts()
    failed(attempts, HOME, MAX_FAILURES - 1)
    assert attempts.wait_s(HOME, 1.0) == 0
    attempts.failed(HOME, 2.0)
    assert attempts.wait_s(HOME, 2.0) == WINDOW_S - 2


def test_the_minute_ends() -> None:
    attempts = Attempts()
    failed(attempts, HOME, MAX_FAILURES)
    assert attempts.wait_s(HOME, WINDOW_S - 0.5) == 0.5
    assert attempts.wait_s(HOME, WINDOW_S) == 0
    failed(attempts, HOME, MAX_FAILURES - 1, now_s=WINDOW_S)
    assert attempts.wait_s(HOME, WINDOW_S) == 0


def test_more_failures_do_not_make_the_wait_longer() -> None:
    attempts = Attempts()
    failed(attempts, HOME, MAX_FAILURES)
    failed(attempts, HOME, 100, now_s=30.0)
    assert attempts.wait_s(HOME, 30.0) == 30.0


def test_others_do_not_wait() -> None:
    attempts = Attempts()
    failed(attempts, HOME, MAX_FAILURES)
    for other in ("192.0.2.8", "::1", "", "2001:db8::1"):
        assert attempts.wait_s(other, 0.0) == 0


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        (HOME, f"::ffff:{HOME}", True),
        (HOME, "192.0.2.8", False),
        ("::1", "0.0.0.0", False),
        ("/run/a.sock", "", True),
        ("/run/a.sock", "0.0.0.0", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_an_ipv6_subnet_is_one_origin(one: str, other: str, is_same: bool) -> None:
    assert (origin_of(one) == origin_of(other)) is is_same


def test_a_hundred_thousand_origins_are_the_most_that_are_remembered() -> None:
    attempts = Attempts()
    for number in range(MAX_ORIGINS + 100):
        attempts.failed(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1", 0.0)
    assert len(attempts) == MAX_ORIGINS


def test_what_is_over_is_forgotten() -> None:
    attempts = Attempts()
    for number in range(50):
        attempts.failed(f"192.0.2.{number}", float(number))
    attempts.failed(HOME, WINDOW_S + 24.5)
    assert len(attempts) == 26


def test_when_there_is_no_room_the_oldest_is_forgotten_and_the_newest_counts() -> None:
    attempts = Attempts(max_failures=1, max_origins=2)
    for ip in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        attempts.failed(ip, 0.0)
    assert [attempts.wait_s(f"192.0.2.{each}", 0.0) for each in (1, 2, 3)] == [0, WINDOW_S, WINDOW_S]


@given(st.lists(st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", "::1", ""]), st.floats(0, 30)), max_size=80))
def test_nobody_waits_without_ten_failures_of_their_own_and_nobody_longer_than_a_minute(
    steps: list[tuple[str, float]],
) -> None:
    attempts, now_s, failures = Attempts(), 0.0, dict.fromkeys(("192.0.2.1", "192.0.2.2", "::1", ""), 0)
    for ip, gap_s in steps:
        now_s += gap_s
        attempts.failed(ip, now_s)
        failures[ip] += 1
        for each, count in failures.items():
            wait_s = attempts.wait_s(each, now_s)
            assert 0 <= wait_s <= WINDOW_S
            assert wait_s == 0 or count >= MAX_FAILURES
            assert attempts.wait_s(each, now_s + wait_s) == 0
