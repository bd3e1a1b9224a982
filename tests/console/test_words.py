"""How the console writes times, amounts and differences."""

import html
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from bascule.console import words

_NUMBERS = st.floats(0, 1e15)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0004, "0.4 ms"),
        (0.018, "18 ms"),
        (1.25, "1.25 s"),
        (59.999, "60.00 s"),
        (200, "3 min"),
        (None, "\N{EN DASH}"),
    ],
)
def test_a_duration_has_the_digits_that_matter(seconds: float | None, said: str) -> None:
    assert words.took(seconds) == said


@pytest.mark.parametrize(
    ("usd", "said"), [(0, "$0.00"), (0.0021, "$0.0021"), (12.5, "$12.50"), (999.994, "$999.99"), (1204, "$1,204")]
)
def test_small_amounts_keep_their_digits(usd: float, said: str) -> None:
    assert words.money(usd) == said


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0"), (950, "950"), (9999, "9,999"), (12_400, "12.4k"), (3_100_000, "3.1M"), (1.5, "1.5")]
)
def test_counts_are_short(number: float, said: str) -> None:
    assert words.count(number) == said


@given(_NUMBERS)
def test_whatever_is_counted_or_timed_or_paid_fits_into_a_tile(number: float) -> None:
    for write in (words.took, words.span, words.count):
        assert len(write(number)) < 20
    assert words.money(number).startswith("$")
    assert words.percent(0.5) == "50 %"


def test_a_moment_is_taken_in_seconds_and_as_rfc_3339() -> None:
    assert words.rfc3339(0) == "1970-01-01T00:00:00Z"
    assert words.date("1970-01-02T03:04:05Z") == "1970-01-02 03:04:05"
    assert words.moment(words.rfc3339(1_700_000_000)) == 1_700_000_000
    assert words.ago(time.time() - 130) == "2 min ago"
    assert words.ago(time.time() + 7300) == "in 2 h"
    assert words.ago(None) == "never"
    assert words.moment("yesterday") is None


@given(st.text())
def test_a_name_in_parts_is_still_text(name: str) -> None:
    parted = words.parted(name)
    assert isinstance(parted, Markup)
    escaped = str(parted).replace("<wbr>", "")
    assert "<" not in escaped
    assert escaped == html.escape(name).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


def test_a_difference_shows_what_changed_and_three_lines_around_it() -> None:
    before = "\n".join(f"line {number}" for number in range(20))
    after = before.replace("line 10", "line ten")
    found = words.diff(before, after)
    assert [line for mark, line in found if mark == "gone"] == ["line 10"]
    assert [line for mark, line in found if mark == "new"] == ["line ten"]
    assert len(found) == 8
    assert words.diff(before, before) == []


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_a_difference_holds_every_line_that_went_and_came(before: list[str], after: list[str]) -> None:
    found = words.diff("\n".join(before), "\n".join(after))
    gone, new = ([line for mark, line in found if mark == kind] for kind in ("gone", "new"))
    assert len(after) - len(before) == len(new) - len(gone)


def test_what_is_json_is_set_out_in_lines_and_what_is_none_stays_as_it_is() -> None:
    assert words.pretty({"a": [1]}) == '{\n  "a": [\n    1\n  ]\n}'
    assert words.pretty(b'{"a":1}') == '{\n  "a": 1\n}'
    assert words.pretty("not json") == "not json"
    assert words.pretty("\ud800") == "\ud800"
    assert words.pretty(b"\xff") == "\N{REPLACEMENT CHARACTER}"
