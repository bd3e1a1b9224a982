"""Addresses of lists say all that is looked for, and nothing that is not."""

import pytest

from bascule.console.paging import address, number_of, numbered, places


def test_an_address_leaves_out_what_is_empty_and_spells_the_rest_out() -> None:
    assert address("/a", {"x": "", "y": "b c&d"}, format="csv", before=None) == "/a?y=b+c%26d&format=csv"
    assert address("/a", {"x": ""}) == "/a"
    assert (numbered("/a", {}, 1), numbered("/a", {"x": "1"}, 3)) == ("/a", "/a?x=1&page=3")


@pytest.mark.parametrize(
    ("text", "number"), [("3", 3), ("", 1), ("0", 1), ("-1", 1), ("9" * 50, 1), ("²", 1), ("x", 1)]
)
def test_what_is_no_number_of_a_page_is_the_first(text: str, number: int) -> None:
    assert number_of(text) == number


def test_where_one_is_stands_below_a_list_that_has_more_pages_than_one() -> None:
    assert places("/a", {}, 1, 50, 50) == ("", "", "")
    assert places("/a", {}, 1, 50, 51) == ("", "/a?page=2", "1 to 50 of 51")
    assert places("/a", {}, 2, 50, 51) == ("/a", "", "51 to 51 of 51")
    assert places("/a", {}, 9, 50, 51) == ("/a?page=8", "", "51 in all")
