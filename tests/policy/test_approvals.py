"""What a person sees before they say yes hides nothing and deceives nobody; only a tick is a yes."""

import hashlib
import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bascule.policy.approvals import Asked, elicitation, is_valid, says_yes, shown_arguments, shown_call

SHOWN = 100_000
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


def asked(arguments: bytes = b"{}", **members: Any) -> Asked:
    plain: dict[str, Any] = {
        "caller": "ann",
        "thing": "bank/pay",
        "version": "1.2.0",
        "pin": b"",
        "fingerprint": b"",
        "question": "Pay?",
        "rule": "confirm_gate",
        "four_eyes": False,
        "trace_id": "",
    }
    return Asked(arguments=arguments, **{**plain, **members})


def read(shown: str) -> Any:
    """What somebody who knows how codes are written reads in *shown*."""
    return json.loads(re.sub(r"(?<!\\)((?:\\\\)*)\\u\{([0-9a-f]+)\}", _surrogates, shown))


def _surrogates(found: "re.Match[str]") -> str:
    char = chr(int(found[2], 16))
    return found[1] + json.dumps(char)[1:-1]


@given(st.dictionaries(st.text(max_size=10), values, max_size=5))
def test_arguments_are_shown_as_they_are_and_every_character_can_be_seen(arguments: dict[str, Any]) -> None:
    shown = shown_arguments(json.dumps(arguments, ensure_ascii=False).encode(), SHOWN)
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert read(shown) == arguments


@given(st.text())
def test_no_text_looks_like_another(text: str) -> None:
    other = text + "x"
    spelt = [shown_arguments(msgspec.json.encode([each]), SHOWN) for each in (text, other)]
    assert spelt[0] != spelt[1]


@pytest.mark.parametrize("number", ["1.0", "1e2", "-0", "0.10", "12345678901234567890123", "1.000000000000000000001"])
def test_numbers_are_shown_as_they_were_sent(number: str) -> None:
    assert shown_arguments(f'{{"amount":{number}}}'.encode(), SHOWN) == f'{{\n  "amount": {number}\n}}'


def test_text_that_is_spelt_in_codes_is_shown_as_what_it_means() -> None:
    assert shown_arguments(rb'["\u0064elete"]', SHOWN) == '[\n  "delete"\n]'


def test_a_long_text_is_cut_counted_and_hashed() -> None:
    text = "a" * 2000 + "; rm -rf /"
    shown = shown_arguments(msgspec.json.encode({"note": text, "last": 1}), SHOWN)
    assert f'a" … 10 more characters, sha256 of all {hashlib.sha256(text.encode()).hexdigest()}' in shown
    assert '"last": 1' in shown  # nothing after it is lost
    assert "more characters" not in shown_arguments(msgspec.json.encode(["a" * 2000]), SHOWN)
    assert "1 more characters" in shown_arguments(b"[1" + b"0" * 2000 + b"]", SHOWN)
    assert "1 more characters" in shown_arguments(msgspec.json.encode({"k" * 2001: 1}), SHOWN)


def test_where_all_of_it_is_too_long_its_size_and_hash_are_said() -> None:
    arguments = msgspec.json.encode({"items": list(range(100_000))})
    shown = shown_arguments(arguments, 500)
    assert len(shown) < 700
    digest = hashlib.sha256(arguments).hexdigest()
    assert shown.endswith(f"… cut here, there is more: {len(arguments)} bytes of JSON in all, sha256 {digest}")


@given(st.text(max_size=60), st.integers(1, 200))
def test_a_cut_never_goes_unsaid(text: str, most: int) -> None:
    arguments = msgspec.json.encode({"text": text, "more": [text]})
    shown, whole = shown_arguments(arguments, most), shown_arguments(arguments, SHOWN)
    assert shown == whole or "cut here, there is more" in shown


def test_a_person_sees_the_tool_its_version_the_rule_the_caller_and_the_question() -> None:
    text = shown_call(asked(b'{"amount":10}', question="Pay 10?\u202e", caller="an\u200bn"), SHOWN)
    for shown in ("Pay 10?\\u{202e}", "Tool: bank/pay, version 1.2.0", "Caller: an\\u{200b}n", "Rule: confirm_gate"):
        assert shown in text
    assert text.endswith('Arguments:\n{\n  "amount": 10\n}')
    assert shown_call(asked(question="", version=""), SHOWN).startswith("May this call be made?\n\nTool: bank/pay\n")


def test_a_question_is_one_box_that_is_not_ticked() -> None:
    params = elicitation(asked(), "the confirmation was used already")
    assert params["message"].startswith("Asked again: the confirmation was used already.\n\nPay?")
    assert params["requestedSchema"]["properties"]["confirm"]["default"] is False
    assert "Asked again" not in elicitation(asked())["message"]


def test_a_tick_is_a_yes() -> None:
    assert says_yes(Raw(b'{"action":"accept","content":{"confirm":true,"more":1},"_meta":{}}'))


@pytest.mark.parametrize(
    "answer",
    [
        *(b'{"action":"decline","content":{"confirm":true}}', b'{"action":"cancel"}', b'{"action":"accept"}', b"{}"),
        *(b'{"action":"accept","content":{"confirm":false}}', b'{"action":"accept","content":{"confirm":"true"}}'),
        *(b'{"action":"accept","content":{"confirm":1}}', b'{"action":"accept","content":null}', b"[]", b"null", b""),
        *(b'{"action":"accept","content":{"Confirm":true}}', b'{"content":{"confirm":true}}', b'"accept"', b"\xff"),
    ],
)
def test_everything_else_is_a_no(answer: bytes) -> None:
    assert not says_yes(Raw(answer))


@given(st.binary(max_size=60))
def test_garbage_is_a_no(answer: bytes) -> None:
    assert not says_yes(Raw(answer))


@given(st.floats(0, 1e10), st.floats(0.1, 300), st.floats(-1e6, 1e6))
def test_nothing_is_good_for_longer_than_it_was_given_for(at_s: float, ttl_s: float, later_s: float) -> None:
    if is_valid(at_s, at_s + ttl_s, at_s + later_s):
        assert -60.001 <= later_s <= ttl_s + 0.001
