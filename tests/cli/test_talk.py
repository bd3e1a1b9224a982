"""What strangers wrote comes to a terminal as what it is."""

import pytest

from bascule.cli.talk import clean


@pytest.mark.parametrize(
    "bad", ["\x1b", "\x07", "\r", "\x9b", "\x7f", "\u202e", "\u2066", "\u200f", "\u061c", "\u2028", "\U000e0041"]
)
def test_a_line_is_not_made_to_look_like_another(bad: str) -> None:
    assert clean(f"np{bad}x") == "np\N{REPLACEMENT CHARACTER}x"


@pytest.mark.parametrize("text", ["a\tb\nc", "Trần Minh", "שלום", "👩‍💻", "crm/find"])
def test_what_people_write_stays(text: str) -> None:
    assert clean(text) == text
