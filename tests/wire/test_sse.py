"""Events come out the same, however the stream is cut into chunks (WHATWG HTML, "Server-sent events")."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.wire import sse
from bascule.wire.sse import Event, Parser

LIMIT = 200

lines = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([
        *(b"data: x", b"data:x", b"data", b"data:", b"data: ", b"data:  two", b"event: ping", b"event:", b"id: 7"),
        b"id",
        *(b"id: a\0b", b"retry: 5", b"retry: x", b"retry: -1", b": comment", b"DATA: x", b"unknown: x", b"", b"", b""),
    ]),
)  # fmt: skip
ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
streams = st.builds(
    lambda bom, parts: bom + b"".join(line + end for line, end in parts),
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xef\xbb\xbf\xef\xbb\xbf"]),
    st.lists(st.tuples(lines, ends), max_size=30),
)


def parsed(*chunks: bytes, limit: int = LIMIT) -> list[Event]:
    parser = Parser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


def outcome(chunks: list[bytes], limit: int) -> tuple[list[Event], bool]:
    """(events, whether the parser gave up)."""
    parser, events = Parser(limit), []
    try:
        for chunk in chunks:
            for event in parser.feed(chunk):
                events.append(event)  # noqa: PERF402 - those before the error count too
    except ValueError:
        return events, True
    return events, False


@st.composite
def cut(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    stream = draw(streams)
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    return stream, [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


@given(cut(), st.sampled_from([5, 20, LIMIT]))
def test_chunks_do_not_matter(pair: tuple[bytes, list[bytes]], limit: int) -> None:
    stream, chunks = pair
    whole = outcome([stream], limit)
    assert outcome(chunks, limit) == whole
    assert outcome([bytes([byte]) for byte in stream], limit) == whole


message = st.binary().filter(lambda data: not data.endswith((b"\n", b"\r")))
names = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])).filter(
    lambda name: not name.startswith(" ")
)


@given(message, names, names, st.none() | st.integers(0, 10**6))
def test_what_we_frame_parses_back_with_its_newlines_made_plain(
    data: bytes, id: str, name: str, retry_ms: int | None
) -> None:
    (event,) = parsed(sse.frame(data, id=id, name=name, retry_ms=retry_ms), limit=10**6)
    plain = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert event == Event(plain, name or "message", id, retry_ms)


def test_a_frame_without_newlines_is_one_data_line() -> None:
    assert sse.frame(b'{"a":1}', id="3", name="message", retry_ms=9) == (
        b'event: message\nid: 3\nretry: 9\ndata: {"a":1}\n\n'
    )


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_of_the_standard_ends_a_line(end: bytes) -> None:
    assert parsed(end.join([b"event: a", b"data: 1", b"data: 2", b"", b"data: 3", b"", b""])) == [
        Event(b"1\n2", "a"),
        Event(b"3"),
    ]


def test_a_crlf_that_is_cut_in_two_is_one_line_end() -> None:
    assert parsed(b"data: 1\r", b"\ndata: 2\r", b"\n", b"\r\n") == [Event(b"1\n2")]
    assert parsed(b"data: x\r", b"\n", b"\n") == [Event(b"x")]
    assert parsed(b"data: x\r", b"", b"\n", b"\n") == [Event(b"x")]


@pytest.mark.parametrize("at", range(4))
def test_a_byte_order_mark_is_skipped_wherever_it_is_cut(at: int) -> None:
    stream = b"\xef\xbb\xbfdata: 1\n\n"
    assert parsed(stream[:at], stream[at:]) == [Event(b"1")]


def test_comments_and_unknown_fields_carry_nothing() -> None:
    assert parsed(sse.KEEP_ALIVE, b": x\nfoo: bar\n\n", b"data: 1\n: between\n\n") == [Event(b"1")]


def test_only_one_space_after_the_colon_is_dropped() -> None:
    assert parsed(b"data:  a \n\n") == [Event(b" a ")]


def test_an_id_stays_until_the_next_one_and_may_be_cleared() -> None:
    assert [e.id for e in parsed(b"id: 1\ndata:\n\ndata:\n\nid: 2\n\ndata:\n\nid\ndata:\n\n")] == ["1", "1", "2", ""]


def test_an_id_with_a_nul_is_ignored() -> None:
    assert [e.id for e in parsed(b"id: 1\ndata:\n\nid: a\0b\ndata:\n\n")] == ["1", "1"]


@pytest.mark.parametrize(
    ("value", "retry_ms"), [(b"1500", 1500), (b"", None), (b"1.5", None), (b"-1", None), ("٣".encode(), None)]
)
def test_retry_is_digits_or_nothing(value: bytes, retry_ms: int | None) -> None:
    assert parsed(b"retry: " + value + b"\ndata:\n\n")[0].retry_ms == retry_ms


def test_a_retry_of_five_thousand_digits_is_ignored() -> None:
    assert parsed(b"retry: " + b"9" * 5000 + b"\ndata: 1\n\n", limit=10_000) == [Event(b"1")]


def test_an_event_without_data_is_none_and_its_name_is_forgotten() -> None:
    assert parsed(b"event: ping\n\ndata: 1\n\n") == [Event(b"1")]


def test_an_empty_data_line_is_an_event_with_no_bytes() -> None:
    assert parsed(b"id: 0\ndata:\n\n") == [Event(b"", id="0")]


def test_an_event_that_the_stream_does_not_finish_is_not_dispatched() -> None:
    assert parsed(b"data: 1\n") == []


def test_an_event_up_to_the_bound_passes_after_one_that_was_nearly_as_large() -> None:
    big = b"a" * (LIMIT - len(b"data: "))
    assert parsed(b"data: " + big + b"\n", b"\ndata: " + big, b"\n\n") == [Event(big), Event(big)]


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: " + b"a" * LIMIT + b"\n\n"],
        [b"data: " + b"a" * LIMIT],
        [b"a" * 10] * 30,
        [b"data: aaaaaaaaaa\n"] * 20,
        [b"data:\n"] * 1000,
    ],
    ids=["one line", "an unfinished line", "chunks without a line end", "many lines", "many empty lines"],
)
def test_an_event_over_the_bound_is_a_value_error(chunks: list[bytes]) -> None:
    with pytest.raises(ValueError, match="larger than 200 bytes"):
        parsed(*chunks)


def test_events_before_the_one_that_is_too_large_are_delivered() -> None:
    assert outcome([b"data: 1\n\ndata: " + b"a" * LIMIT], LIMIT) == ([Event(b"1")], True)
