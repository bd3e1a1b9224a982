"""What of a text is shown: whole lines, within bounds, nothing lost between two parts."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.packs.files import reading
from bascule.packs.pack import ToolFailed

LINES = st.lists(st.text("ab\né\r\n\u2028\x0b", max_size=8), max_size=10).map("".join)


@given(LINES)
def test_lines_are_all_of_a_text(text: str) -> None:
    lines = reading.lines_of(text)
    assert "".join(lines) == text
    assert all(line for line in lines)
    assert (
        len(lines) == len(text.replace("\r\n", "\n").replace("\r", "\n").splitlines())
        or "\u2028" in text
        or "\x0b" in text
    )


@given(LINES, st.integers(1, 4), st.integers(24, 40))
def test_parts_one_after_the_other_are_the_whole(text: str, count: int, max_bytes: int) -> None:
    found, first = "", 1
    while True:
        try:
            part = reading.part_of("x", text, first, count, max_bytes)
        except ToolFailed as error:
            assert "longer than" in str(error)  # noqa: PT017 - a generated line may be
            return
        assert len(part.text.encode()) <= max_bytes
        found += part.text
        first += part.lines
        if first > part.lines_of_all:
            break
    assert found == text


@given(st.binary(max_size=60), st.sampled_from(["utf-8", "utf-16", "latin-1", "windows-1258", "gb18030"]))
def test_bytes_are_text_or_refused(content: bytes, encoding: str) -> None:
    try:
        text = reading.decoded("x", content, encoding)
    except ToolFailed as error:
        assert "base64" in str(error)  # noqa: PT017 - most of what is generated is no text
        return
    assert "\0" not in text


def test_a_text_is_found_in_any_form_of_its_letters() -> None:
    decomposed = b"Doanh thu t\xc4\x83ng\nQuy\xcc\x81 1\n"
    assert list(reading.found_in(decomposed, reading.folded("quý"))) == [(2, "Quy\u0301 1")]
    assert list(reading.found_in(b"\0\1quy", "quy")) == []
    ((number, shown),) = reading.found_in(b"x" * 1000, "x")
    assert (number, len(shown)) == (1, reading.LINE_SHOWN)


@pytest.mark.parametrize(
    ("path", "pattern", "named"),
    [("a/b.md", "*.md", True), ("a/b.md", "a/*", True), ("a/b.md", "b", False), ("a/[x].md", "[[]x].md", True)],
)
def test_a_pattern_is_of_the_name_or_with_a_slash_of_the_path(path: str, pattern: str, named: bool) -> None:
    assert reading.is_named(path, pattern) is named


@pytest.mark.parametrize("line", ["\n", "\r", "a\r\n", "a"])
def test_the_lines_of_a_large_file_are_found_in_one_pass(line: str) -> None:
    since = time.process_time()
    found = reading.lines_of(line * 1_000_000)
    assert "".join(found) == line * 1_000_000
    assert time.process_time() - since < 5  # each line looking for its end in all that follows takes minutes
