"""What a call costs: as reported, else as measured, else as estimated; and when a budget begins anew."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bascule.contract.model import CostModel, Unit
from bascule.policy.spending import (
    NANO,
    Answer,
    Per,
    Reported,
    Used,
    answer_of,
    cost,
    cost_unanswered,
    estimate,
    nano_of,
    usd_of,
    window_of,
)

USED = Used(seconds=2.5, size_bytes=3_000_000)
SAYS_NOTHING = Answer()


def model(unit: Unit = "call", price_usd: float = 0.002, units: float = 1.0) -> CostModel:
    return CostModel(unit=unit, price_usd=price_usd, estimated_units=units)


def result(said: Any) -> Raw:
    return Raw(msgspec.json.encode({"content": [], "_meta": {"dev.bascule/cost": said, "other": 1}}))


# ---- money


@given(st.floats(0, 1e9))
def test_money_crosses_to_integers_and_back_without_loss_above_a_billionth(usd: float) -> None:
    assert usd_of(nano_of(usd)) == pytest.approx(usd, abs=1e-9, rel=1e-15)
    assert (nano_of(usd) == 0) == (usd == 0), "what is not free never becomes free by rounding"


def test_a_thousand_small_prices_come_to_exactly_their_sum() -> None:
    assert sum(nano_of(0.1) for _ in range(1000)) == nano_of(100.0)
    assert nano_of(1e300) > 0


# ---- the price of a call


def test_a_call_is_reserved_for_its_estimated_units() -> None:
    assert estimate(None) == 0
    assert estimate(model()) == 2_000_000
    assert estimate(model("token", 0.15e-6, 800)) == 120_000
    assert estimate(model("token", 0.0)) == 0


@pytest.mark.parametrize(
    ("unit", "usd"),
    [("call", 0.002), ("second", 0.005), ("MB", 0.006), ("token", 0.014), ("page", 0.014)],
)
def test_without_a_report_a_call_costs_what_was_measured_or_else_its_estimate(unit: Unit, usd: float) -> None:
    assert cost(model(unit, units=7), USED, SAYS_NOTHING) == (nano_of(usd), ())


@pytest.mark.parametrize("unit", ["call", "second", "MB", "token", "page"])
def test_a_reported_cost_goes_before_everything(unit: Unit) -> None:
    assert cost(model(unit), USED, Answer(Reported(usd=0.5))) == (nano_of(0.5), ())
    assert cost(model(unit), USED, Answer(Reported(usd=0.0))) == (0, ())
    assert cost(model(unit), USED, Answer(Reported(units=10))) == (nano_of(0.02), ())


def test_a_report_prices_a_tool_without_a_model_if_it_is_money() -> None:
    assert cost(None, USED, SAYS_NOTHING) == (None, ())
    assert cost(None, USED, Answer(Reported(usd=0.5))) == (nano_of(0.5), ())
    paid, warnings = cost(None, USED, Answer(Reported(units=3)))
    assert paid is None
    assert "no cost model" in warnings[0]


def test_units_that_come_to_an_absurd_price_are_not_believed() -> None:
    paid, warnings = cost(model(price_usd=1.0), USED, Answer(Reported(units=20_000)))
    assert paid == nano_of(1.0)
    assert "not believed" in warnings[0]


def test_a_call_that_goes_on_is_paid_by_its_last_round() -> None:
    asks = Answer(finished=False)
    assert [cost(model(unit), USED, asks)[0] for unit in ("call", "token", "page")] == [0, 0, 0]
    assert cost(model("second"), USED, asks)[0] == nano_of(0.005), "time is taken in each round"
    assert cost(model(), USED, Answer(Reported(usd=0.5), finished=False))[0] == nano_of(0.5)


def test_a_call_that_was_never_answered_costs_its_estimate_or_its_time() -> None:
    assert cost_unanswered(None, 10) == 0
    assert cost_unanswered(model(), 10) == nano_of(0.002)
    assert cost_unanswered(model("second", 1.0, units=2), 10) == nano_of(10)
    assert cost_unanswered(model("second", 1.0, units=20), 10) == nano_of(20)


# ---- what servers report


@pytest.mark.parametrize(
    ("said", "reported"),
    [
        ({"usd": 0.25}, Reported(usd=0.25)),
        ({"usd": 1}, Reported(usd=1.0)),
        ({"usd": 0}, Reported(usd=0.0)),
        ({"units": 1200}, Reported(units=1200.0)),
        ({"usd": 0.25, "units": 1200, "currency": "USD"}, Reported(usd=0.25)),
    ],
)
def test_money_or_units_are_understood(said: Any, reported: Reported) -> None:
    assert answer_of(result(said)) == Answer(reported)


def test_a_report_is_found_where_slashes_are_escaped() -> None:
    assert answer_of(Raw(rb'{"_meta":{"dev.bascule\/cost":{"usd":0.5}}}')) == Answer(Reported(usd=0.5))


HOSTILE: list[Any] = [
    *({"usd": usd} for usd in (-1, -0.0001, 10_001, 1e308, "0.5", None, True, [1], {"n": 1}, 10**400)),
    *({"units": units} for units in (-1, 1e13, "12", False, None)),
    *({}, {"eur": 1}, {"USD": 1}, 5, "5", None, [], [{"usd": 1}], True),
    {"usd": "x", "units": 5},
]


@pytest.mark.parametrize("said", HOSTILE, ids=lambda said: repr(said)[:30])
def test_an_impossible_report_is_ignored_with_a_warning(said: Any) -> None:
    # The json of the standard library, because msgspec writes no integer of 400 digits.
    answer = answer_of(Raw(b'{"content":[],"_meta":{"dev.bascule/cost":%b}}' % json.dumps(said).encode()))
    assert answer.reported is None
    assert "not believed" in answer.warning
    assert cost(model(), USED, answer) == (nano_of(0.002), (answer.warning,))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "-1e400", "0x10", "01"])
def test_what_is_no_number_of_json_is_never_charged(number: str) -> None:
    answer = answer_of(Raw(b'{"_meta":{"dev.bascule/cost":{"usd":%b}}}' % number.encode()))
    assert answer.reported is None


@pytest.mark.parametrize(
    "value",
    [
        b'{"content":[]}',
        b"[]",
        b'"dev.bascule/cost"',
        b"null",
        b"",
        b'{"_meta":null,"x":"dev.bascule"}',
        b'{"_meta":["dev.bascule/cost"]}',
        b'{"_meta":"dev.bascule/cost"}',
        b'{"content":[{"type":"text","text":"dev.bascule/cost: {usd: 5}"}]}',
        b'{"structuredContent":{"_meta":{"dev.bascule/cost":{"usd":5}}}}',
        b'{"_meta":{"dev.bascule/cost":' + b"[" * 5000 + b"]" * 5000 + b"}}",
        b'{"x":' + b"[" * 100_000 + b'"dev.bascule"',
        b'{"resultType":5,"x":"input_required"}',
    ],
    ids=range(13),
)
def test_a_result_that_reports_nothing_costs_what_was_measured(value: bytes) -> None:
    answer = answer_of(Raw(value))
    assert answer.reported is None
    assert answer.finished


def test_a_result_that_asks_for_input_is_not_the_end_of_the_call() -> None:
    assert not answer_of(Raw(b'{"resultType": "input_required","inputRequests":{}}')).finished
    assert answer_of(Raw(b'{"resultType":"complete","content":[{"text":"input_required"}]}')).finished


@given(st.binary(max_size=60))
def test_no_bytes_whatever_raise_an_error_or_are_charged_below_zero(noise: bytes) -> None:
    for value in (noise, b'{"_meta":{"dev.bascule/cost":' + noise + b"}}"):
        paid, _ = cost(model(), USED, answer_of(Raw(value)))
        assert paid is not None
        assert 0 <= paid <= 10_000 * NANO


# ---- windows


@pytest.mark.parametrize(
    ("per", "now", "name", "end"),
    [
        ("hour", datetime(2026, 11, 20, 19, 59, 59, 999999, UTC), "2026-11-20T19", "2026-11-20T20:00:00Z"),
        ("hour", datetime(2026, 12, 31, 23, 0, tzinfo=UTC), "2026-12-31T23", "2027-01-01T00:00:00Z"),
        ("day", datetime(2028, 2, 29, 0, 0, tzinfo=UTC), "2028-02-29", "2028-03-01T00:00:00Z"),
        ("month", datetime(2026, 12, 5, tzinfo=UTC), "2026-12", "2027-01-01T00:00:00Z"),
        ("month", datetime(2027, 2, 28, 23, tzinfo=UTC), "2027-02", "2027-03-01T00:00:00Z"),
    ],
)
def test_a_window_begins_with_the_hour_the_day_or_the_month_in_utc(
    per: Per, now: datetime, name: str, end: str
) -> None:
    window = window_of(per, now.timestamp())
    assert (window.name, window.end) == (name, end)


@given(st.sampled_from(["hour", "day", "month"]), st.floats(0, 4e9))
def test_windows_follow_one_another_without_a_gap(per: Per, now_s: float) -> None:
    window = window_of(per, now_s)
    assert window.start_s <= now_s < window.end_s
    assert window_of(per, window.start_s) == window
    assert window_of(per, window.end_s).start_s == window.end_s
    assert window_of(per, math.nextafter(window.end_s, 0)) == window
    assert window_of(per, window.end_s).name > window.name
