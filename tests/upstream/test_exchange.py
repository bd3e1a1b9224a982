"""When a server that is busy says that one may come back."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.upstream.exchange import retry_after_s

NOW_S = 1_795_000_000.0


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0.0),
        (" 17 ", 17.0),
        ("99999999999999999999", 86_400.0),
        (formatdate(NOW_S + 90, usegmt=True), 90.0),
        (formatdate(NOW_S + 90), 90.0),
        (formatdate(NOW_S - 90, usegmt=True), 0.0),
        (formatdate(NOW_S + 1e7, usegmt=True), 86_400.0),
        ("Tuesday, 10-Nov-26 10:00:00 GMT", 0.0),
        *((nonsense, None) for nonsense in ("", "soon", "-1", "1.5", "1e3", "٣", "Fri, 99 Nov 2026 10:00:00 GMT")),
    ],
)
def test_a_number_of_seconds_or_a_date_is_read_and_nothing_else(said: str, seconds: float | None) -> None:
    assert retry_after_s(said, NOW_S) == seconds


dates = st.builds(formatdate, st.floats(0, 4e9), usegmt=st.booleans())


@given(st.text() | st.from_regex(r"[A-Za-z]{3}, ?\d{1,30} [A-Za-z]{3} \d{1,30} [\d:]{0,20} [+-]?\w{0,30}") | dates)
def test_whatever_it_says_it_is_a_short_time_or_none(said: str) -> None:
    found = retry_after_s(said, NOW_S)
    assert found is None or 0 <= found <= 86_400
