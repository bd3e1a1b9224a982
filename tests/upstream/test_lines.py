"""Lines come out the same, however the pipe cuts them; an overlong one is never held."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from bascule.wire.lines import Lines

HEAD = 1024  # bytes of an overlong line that are reported


class Cutter:
    """A `Lines` and everything that it reported, in order."""

    def __init__(self, max_bytes: int) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self.lines = Lines(
            max_bytes, lambda line: self.seen.append(("line", line)), lambda head: self.seen.append(("overlong", head))
        )

    def feed(self, *chunks: bytes) -> list[tuple[str, bytes]]:
        for chunk in chunks:
            self.lines.feed(chunk)
        return self.seen


streams = st.lists(st.sampled_from([b"a", b"bb", b"\n", b"\r", b" ", b"{}", b"\xff", b"0123456789"]), max_size=60)


@given(streams, st.integers(1, 12))
def test_chunks_do_not_matter(pieces: list[bytes], max_bytes: int) -> None:
    stream = b"".join(pieces)
    whole = Cutter(max_bytes).feed(stream)
    for chunks in (pieces, [bytes([byte]) for byte in stream]):
        found = Cutter(max_bytes).feed(*chunks)
        # Of a line without an end only chunks can tell that it is overlong, so it may be reported sooner.
        assert [kind for kind, _ in found] == [kind for kind, _ in whole]
        for (kind, one), (_, other) in zip(found, whole, strict=True):
            assert one == other if kind == "line" else other.startswith(one) or one.startswith(other)
            assert kind == "line" or len(one) > max_bytes


@given(streams)
def test_every_line_that_holds_anything_comes_out_once(pieces: list[bytes]) -> None:
    stream = b"".join(pieces)
    expected = [("line", line) for line in stream.split(b"\n")[:-1] if line.strip()]
    assert Cutter(10_000).feed(*pieces) == expected


def test_a_line_of_exactly_the_bound_passes_and_one_byte_more_does_not() -> None:
    assert Cutter(4).feed(b"1234\n12345\n1\n") == [("line", b"1234"), ("overlong", b"12345"), ("line", b"1")]
    assert Cutter(4).feed(b"12", b"34\n12", b"345", b"\n1\n") == [
        ("line", b"1234"),
        ("overlong", b"12345"),
        ("line", b"1"),
    ]


def test_an_overlong_line_is_reported_once_with_its_head_however_long_it_goes_on() -> None:
    cutter = Cutter(2000)
    assert cutter.feed(*[b"x" * 700] * 50) == [("overlong", b"x" * HEAD)]
    assert cutter.feed(b"tail\nnext\n") == [("overlong", b"x" * HEAD), ("line", b"next")]


def test_an_overlong_line_in_one_chunk_is_reported_with_its_head() -> None:
    assert Cutter(2000).feed(b"x" * 5000 + b"\nnext\n") == [("overlong", b"x" * HEAD), ("line", b"next")]


def test_a_line_that_becomes_overlong_with_its_last_piece_is_reported_once() -> None:
    assert Cutter(4).feed(b"123", b"456\nok\n") == [("overlong", b"123456"), ("line", b"ok")]


@given(st.lists(st.integers(1, 500), min_size=1, max_size=200))
def test_never_more_than_the_bound_is_held(sizes: list[int]) -> None:
    cutter = Cutter(1000)
    for size in sizes:
        cutter.lines.feed(b"x" * size)
        assert sum(map(len, cutter.lines._parts)) <= 1000


def test_many_tiny_chunks_of_a_skipped_line_cost_nothing() -> None:
    cutter = Cutter(100)
    cutter.feed(*[b"x"] * 10_000)
    assert sys.getsizeof(cutter.lines._parts) < 1000
    assert len(cutter.seen) == 1


def test_blank_lines_are_none() -> None:
    assert Cutter(100).feed(b"\n\r\n  \n\t\na\r\n") == [("line", b"a\r")]
