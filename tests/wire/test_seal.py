"""A sealed token opens to what was sealed, under a key of the ring and for its purpose, or to nothing at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.wire.seal import KEY_BYTES, NONCE_BYTES, KeyRing

keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
nonces = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)
contents = st.binary(max_size=300)
purposes = st.sampled_from(["session", "sse", "parked", "", "séance"])

ONE, OTHER = bytes(range(32)), bytes(range(32, 64))
NONCE = bytes(12)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(keys, purposes, contents, nonces)
def test_what_was_sealed_comes_out_again(key: bytes, purpose: str, content: bytes, nonce: bytes) -> None:
    ring = KeyRing([key])
    token = ring.seal(purpose, content, nonce)
    assert ring.open(purpose, token) == content
    assert set(token) <= set(ALPHABET)  # what a header and a query can carry as it is


@given(contents, st.data())
def test_no_changed_character_is_accepted(content: bytes, data: st.DataObject) -> None:
    ring = KeyRing([ONE])
    token = ring.seal("session", content, NONCE)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(ALPHABET + "=+/ \n\x00é").filter(lambda c: c != token[at]))
    assert ring.open("session", token[:at] + other + token[at + 1 :]) is None


@given(contents, st.data())
def test_no_part_of_a_token_is_accepted(content: bytes, data: st.DataObject) -> None:
    ring = KeyRing([ONE])
    token = ring.seal("session", content, NONCE)
    start = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(start, len(token)).filter(lambda end: end - start < len(token)))
    assert ring.open("session", token[start:end]) is None


@given(contents, st.text(min_size=1, max_size=20), st.booleans())
def test_nothing_may_be_added(content: bytes, more: str, in_front: bool) -> None:
    ring = KeyRing([ONE])
    token = ring.seal("session", content, NONCE)
    assert ring.open("session", more + token if in_front else token + more) is None


@given(st.text(max_size=200))
def test_garbage_opens_to_nothing(text: str) -> None:
    assert KeyRing([ONE]).open("session", text) is None


@given(contents, purposes, purposes)
def test_another_purpose_is_refused(content: bytes, one: str, other: str) -> None:
    ring = KeyRing([ONE])
    opened = ring.open(other, ring.seal(one, content, NONCE))
    assert opened == (content if one == other else None)


@given(keys, keys, contents)
def test_another_key_is_refused(one: bytes, other: bytes, content: bytes) -> None:
    opened = KeyRing([other]).open("session", KeyRing([one]).seal("session", content, NONCE))
    assert opened == (content if one == other else None)


@given(contents)
def test_keys_are_rotated_without_losing_what_the_old_one_sealed(content: bytes) -> None:
    old, both, new = KeyRing([OTHER]), KeyRing([ONE, OTHER]), KeyRing([ONE])
    before, during = old.seal("session", content, NONCE), both.seal("session", content, NONCE)
    assert both.open("session", before) == content
    assert (new.open("session", during), old.open("session", during)) == (content, None)  # the first seals
    assert new.open("session", before) is None


def test_a_text_of_any_length_is_refused_quickly() -> None:
    assert KeyRing([ONE]).open("session", "A" * 10_000_000) is None


@pytest.mark.parametrize("keys", [[], [b""], [ONE[:-1]], [ONE, ONE + b"x"]])
def test_a_ring_of_no_keys_or_of_bad_ones_is_none(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyRing(keys)


def test_a_token_that_may_be_long_is_opened_where_that_is_said_and_nowhere_else() -> None:
    ring = KeyRing([ONE])
    content = bytes(100_000)
    token = ring.seal("round", content, NONCE)
    assert ring.open("round", token) is None
    assert ring.open("round", token, len(token)) == content
    assert ring.open("round", token, len(token) - 1) is None
