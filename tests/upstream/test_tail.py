"""What a server wrote to stderr: the end of it is kept, whatever and however much it was."""

from hypothesis import given
from hypothesis import strategies as st

from bascule.upstream.process import STDERR_BYTES, STDERR_LINES, Tail
from bascule.wire.lines import Lines

CHUNKS = st.lists(st.binary(max_size=200).map(lambda part: part.replace(b"a", b"\n")), max_size=60)


def tail_of(*chunks: bytes) -> Tail:
    tail = Tail()
    for chunk in chunks:
        tail.feed(chunk)
    return tail


@given(CHUNKS)
def test_the_last_lines_are_kept_however_they_were_cut(chunks: list[bytes]) -> None:
    lines = [line for line in b"".join(chunks).split(b"\n") if line and not line.isspace()]
    assert tail_of(*chunks).lines() == [line[:1000].decode(errors="replace") for line in lines[-STDERR_LINES:]]


def test_of_a_flood_in_small_pieces_only_the_end_is_kept() -> None:
    tail = tail_of(*(b"%d\n" % number for number in range(100_000)))
    assert tail.lines() == [str(number) for number in range(100_000 - STDERR_LINES, 100_000)]


def test_of_one_endless_line_only_its_end_is_looked_at() -> None:
    tail = tail_of(*[b"x" * STDERR_BYTES] * 100, b"the end")
    (line,) = tail.lines()
    assert line == "x" * 1000


def test_what_a_process_said_last_is_kept_without_its_newline() -> None:
    assert tail_of(b"starting\nno such data", b"base").lines() == ["starting", "no such database"]


@given(st.lists(st.integers(1, 50), max_size=20))
def test_what_of_an_overlong_line_was_dropped_is_counted_until_it_ends(sizes: list[int]) -> None:
    lines = Lines(20, lambda line: None, lambda head: None)
    for size in sizes:
        lines.feed(b"x" * size)
    whole = sum(sizes)
    assert lines.skipped_bytes == (whole if whole > 20 else 0)
    lines.feed(b"\nx")
    assert lines.skipped_bytes == 0
