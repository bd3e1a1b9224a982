"""What an API key is: every one can be read again, a mistyped one never, and secrets stay out of sight."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.policy.keys import (
    RANDOM_BYTES,
    KeyRecord,
    KeySnapshot,
    digest,
    new_key,
    parse,
    pepper_id,
    state_of,
)

environments = st.from_regex(r"[a-z0-9]{1,16}", fullmatch=True)
randoms = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)
FORM = re.compile(r"gw_[a-z0-9]{1,16}_[0-9a-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}")


@given(environments, randoms)
def test_a_key_has_the_written_form_and_can_be_read_again(environment: str, random: bytes) -> None:
    parts, text = new_key(environment, random)
    assert FORM.fullmatch(text)
    assert parse(text) == parts
    assert (parts.environment, len(parts.id), len(parts.secret)) == (environment, 12, 43)


@given(randoms, randoms)
def test_all_256_bits_of_the_secret_are_in_the_key(one: bytes, other: bytes) -> None:
    assert (new_key("live", one)[0].secret == new_key("live", other)[0].secret) == (one[12:] == other[12:])


@given(randoms, st.data())
def test_a_key_with_one_character_changed_is_no_key(random: bytes, data: st.DataObject) -> None:
    text = new_key("live", random)[1]
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("0Aaz_- \u0660").filter(lambda character: character != text[place]))
    assert parse(text[:place] + other + text[place + 1 :]) is None


@given(randoms, st.integers(0, 70))
def test_two_neighbours_changed_over_are_noticed(random: bytes, place: int) -> None:
    text = new_key("live", random)[1]
    swapped = text[:place] + text[place + 1 : place + 2] + text[place : place + 1] + text[place + 2 :]
    assert swapped == text or parse(swapped) is None


@given(st.text())
def test_anything_else_is_no_key(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("change", [lambda key: key[:-1], lambda key: key + "\n", lambda key: " " + key, str.upper])
def test_a_key_that_was_cut_or_padded_is_no_key(change: object) -> None:
    assert callable(change)
    assert parse(change(new_key("live", os.urandom(RANDOM_BYTES))[1])) is None


@pytest.mark.parametrize("length", [0, RANDOM_BYTES - 1, RANDOM_BYTES + 1])
def test_a_key_is_never_made_of_less_than_it_takes(length: int) -> None:
    with pytest.raises(ValueError, match="random bytes"):
        new_key("live", bytes(length))


def test_the_digest_depends_on_the_pepper_and_on_the_secret() -> None:
    # RFC 4231, test case 2.
    assert digest(b"Jefe", "what do ya want for nothing?").hex() == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
    assert len({digest(b"a" * 32, "x"), digest(b"b" * 32, "x"), digest(b"a" * 32, "y")}) == 3
    assert pepper_id(b"a" * 32) != pepper_id(b"b" * 32)
    assert (b"a" * 32).hex()[:16] != pepper_id(b"a" * 32)


def test_what_is_secret_is_not_in_a_repr() -> None:
    parts, _ = new_key("live", os.urandom(RANDOM_BYTES))
    pepper = os.urandom(32)
    record = KeyRecord(id=parts.id, caller="ci", environment="live", digest=digest(pepper, parts.secret), pepper_id="")
    shown = repr((parts, record, KeySnapshot(pepper, (record,))))
    assert parts.id in shown
    for secret in (parts.secret, repr(record.digest), repr(pepper)):
        assert secret not in shown


def test_a_key_ends_with_the_second_that_it_says() -> None:
    record = KeyRecord(id="a", caller="ci", environment="live", digest=b"", pepper_id="", expires_at_s=100.0)
    assert [state_of(record, now_s) for now_s in (0.0, 99.9, 100.0, 1e9)] == ["active", "active", "expired", "expired"]


def test_a_revoked_key_is_revoked_whatever_else_it_is() -> None:
    record = KeyRecord(
        id="a", caller="ci", environment="live", digest=b"", pepper_id="", expires_at_s=100.0, revoked_at_s=50.0
    )
    assert {state_of(record, now_s) for now_s in (0.0, 50.0, 200.0)} == {"revoked"}
