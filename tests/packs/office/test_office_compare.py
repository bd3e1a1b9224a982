"""Comparison: how alike, the same with rapidfuzz and without, and what differs, line by line."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.packs.office.comparing import common_length, compare, similarity
from packs.office import building
from packs.talking import talking

TEXTS = st.text(st.sampled_from("ab \n."), max_size=60)


@given(st.lists(st.integers(0, 4), max_size=40), st.lists(st.integers(0, 4), max_size=40))
def test_what_is_common_is_as_long_as_the_textbook_says(one: list[int], other: list[int]) -> None:
    assert common_length(one, other) == _textbook(one, other)


def _textbook(one: Sequence[int], other: Sequence[int]) -> int:
    row = [0] * (len(other) + 1)
    for a in one:
        before = 0
        for at, b in enumerate(other, 1):
            before, row[at] = row[at], before + 1 if a == b else max(row[at], row[at - 1])
    return row[-1]


def test_rapidfuzz_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rapidfuzz")
    one, other = list("the quick fox"), list("a quick ox there")
    with_it = similarity(one, other)
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    assert similarity(one, other) == with_it == 2 * 9 / 29


@given(TEXTS, TEXTS)
def test_both_sides_weigh_the_same(first: str, second: str) -> None:
    one, other = compare(first, second, 200), compare(second, first, 200)
    assert one["similarity_score"] == other["similarity_score"]
    assert 0 <= one["similarity_score"] <= 1
    assert one["identical"] == (first == second)
    assert not one["identical"] or (one["similarity_score"], one["hunks"]) == (1, [])


@given(TEXTS, TEXTS)
def test_the_hunks_turn_the_first_text_into_the_second(first: str, second: str) -> None:
    lines = first.splitlines()
    for hunk in reversed(compare(first, second, 200)["hunks"]):
        begin = hunk["first_line"] - 1
        assert lines[begin : begin + hunk["removed_count"]] == hunk["removed"]
        lines[begin : begin + hunk["removed_count"]] = hunk["added"]
    assert lines == second.splitlines()


def test_differences_are_told_with_their_lines() -> None:
    found = compare("same\nold\nsame\ngone\n", "same\nnew\nsame\nmore\nmore\n", 1)
    assert found["hunks"] == [
        {
            "kind": "changed",
            "first_line": 2,
            "second_line": 2,
            "removed_count": 1,
            "added_count": 1,
            "removed": ["old"],
            "added": ["new"],
            "cut": False,
        }
    ]
    assert (found["hunk_count"], found["added_lines"], found["removed_lines"], found["truncated"]) == (2, 3, 2, True)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x\n" * 100_000, "y\nx\n" * 50_000),
        ("\n".join(map(str, range(60_000))), "\n".join(map(str, reversed(range(60_000))))),
        ("a b\nc\n" * 30_000, "c\na b\n" * 30_000),
        ("x " * 200_000, "y " * 200_000),
    ],
    ids=["same-lines", "reversed", "shifted", "one-line"],
)
def test_hostile_texts_take_no_longer_than_others(first: str, second: str) -> None:
    begun_s = time.process_time()
    assert compare(first, second, 50)
    assert time.process_time() - begun_s < 4


# ---- the tool


async def test_a_text_and_a_document_are_compared(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("Điều 1. Giá là 100.\nĐiều 2. Giao trong 5 ngày.")
    (tmp_path / "new.docx").write_bytes(building.docx("Điều 1. Giá là 120.", "Điều 2. Giao trong 5 ngày."))
    async with talking("office", root=str(tmp_path)) as office:
        found = await office.call("document__compare", first_path="old.txt", second_path="new.docx")
        again = await office.call("document__compare", first_path="old.txt", second_path="new.docx")
        same = await office.call("document__compare", first_text="a", second_text="a")
    assert found == again
    assert found["similarity_score"] == pytest.approx(0.9375, abs=0.01)
    assert found["hunks"][0]["removed"] == ["Điều 1. Giá là 100."]
    assert found["hunks"][0]["added"] == ["Điều 1. Giá là 120.", ""]
    assert (same["identical"], same["similarity_score"], same["hunks"], same["truncated"]) == (True, 1, [], False)


async def test_each_side_is_said_once(tmp_path: Path) -> None:
    async with talking("office", root=str(tmp_path)) as office:
        refusal = await office.refusal("document__compare", first_text="a")
        assert "Say either second_text or second_path." in refusal
        refusal = await office.refusal("document__compare", first_text="a", first_path="b", second_text="c")
        assert "Say either first_text or first_path." in refusal
        assert await office.refusal("document__compare", first_text="a", second_text="b", max_hunks=0)
        empty = await office.call("document__compare", first_text="", second_text="")
        assert empty["similarity_score"] == 1
