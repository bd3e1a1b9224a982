"""What is kept of arguments says nothing that was meant to be a secret."""

import hashlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.store.redaction import HIDDEN, MAX_TEXT_BYTES, kept, redacted
from bascule.wire.canonical import canonical

CANARY = "c4n4ry-9f2e"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)


NAMES = """
    password Passwd user_password PASSPHRASE pwd secret clientSecret token access-token refresh_token apiKey API_KEY
    x-api-key Authorization auth credentials privateKey Set-Cookie bearer otp smsOtp pin cvv card_cvc X-Hub-Signature
    aws_access_key_id
"""


@pytest.mark.parametrize("name", NAMES.split())
@pytest.mark.parametrize("value", [CANARY, 12345, [CANARY], {"inner": CANARY}, None])
def test_the_value_of_a_name_that_promises_a_secret_is_hidden(name: str, value: Any) -> None:
    assert redacted({"a": [{name: value, "plain": 1}]}) == {"a": [{name: HIDDEN, "plain": 1}]}


@pytest.mark.parametrize("name", ["keyboard", "email", "author", "pinned", "spin", "amount", "laptop_price", "monkey"])
def test_other_names_are_kept(name: str) -> None:
    assert redacted({name: CANARY}) == {name: CANARY}


@pytest.mark.parametrize(
    "text",
    [
        "Bearer abcdefghijkl",
        "send Authorization: basic dXNlcjpwYXNz",
        "sk-proj-abc",
        "sk_live_abc",
        "ghp_abcdefghijklmnopqrstu",
        "github_pat_11AA",
        "glpat-xyz",
        "xoxb-1-2",
        "AKIAIOSFODNN7EXAMPLE",
        "AIza" + "a" * 35,
        "gw_live_4m1x0e9q7c2k_secret",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x",
        "-----BEGIN RSA PRIVATE KEY-----\nMII",
        "postgres://admin:hunter2@db/crm",
    ],
)
def test_a_value_that_is_a_secret_is_hidden_whatever_it_is_called(text: str) -> None:
    assert redacted({"note": [f"see: {text}"]}) == {"note": [HIDDEN]}


def test_what_the_operator_names_is_hidden_in_any_case_and_at_any_depth() -> None:
    value = {"Salary": 1, "a": [{"SALARY": {"b": 2}, "c": 3}]}
    assert redacted(value, {"salary"}) == {"Salary": HIDDEN, "a": [{"SALARY": HIDDEN, "c": 3}]}


@given(json_values)
def test_redacting_twice_is_redacting_once(value: Any) -> None:
    assert redacted(redacted(value)) == redacted(value)


@given(json_values)
def test_the_digest_is_that_of_the_canonical_text(value: Any) -> None:
    digest, text = kept(json.dumps(value).encode(), text=False)
    assert digest == hashlib.sha256(canonical(value)).hexdigest()
    assert text is None


@given(json_values)
def test_what_is_kept_is_canonical_and_short(value: Any) -> None:
    _, text = kept(json.dumps(value).encode(), text=True)
    assert text is not None
    assert text.encode() == canonical(json.loads(text))
    assert len(text) <= MAX_TEXT_BYTES


@pytest.mark.parametrize("arguments", [b"", b"{", b'{"x":1e400}', b"\xff", b"[" * 100_000, b"9" * 5000])
def test_arguments_that_cannot_be_read_have_a_digest_of_their_bytes(arguments: bytes) -> None:
    assert kept(arguments, text=True) == (f"raw:{hashlib.sha256(arguments).hexdigest()}", None)


@pytest.mark.parametrize(
    "text", ["bearer ", "-eyJ", "://a:", "://:", "-----BEGIN A", "basic  ", "gw_a_", "sk-live", " sk_", "AIza-"]
)
def test_no_text_takes_long(text: str) -> None:
    began_s = time.perf_counter()
    redacted(text * (1_000_000 // len(text)))
    assert time.perf_counter() - began_s < 2
