"""The words that a person reads before they say yes: no value may hide anything, or look like words of ours."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.policy.facts import Facts
from bascule.policy.template import MAX_SHOWN, BadTemplate, parse_template, shown, visible


def rendered(template: str, **args: Any) -> str:
    return parse_template(template).render(Facts(args, {"name": "agent"}, {}, {}, datetime(2026, 7, 28, tzinfo=UTC)))


def test_values_stand_where_the_template_says() -> None:
    assert (
        rendered("{caller.name} pays {args.to.name}: {args.amount}", to={"name": "x"}, amount=1.5)
        == '"agent" pays "x": 1.5'
    )


def test_braces_are_written_twice() -> None:
    assert rendered("{{args.a}} {args.a}", a=1) == "{args.a} 1"


def test_what_is_not_there_is_said_to_be_none() -> None:
    assert rendered("{args.a} {args.b.c}", b=3) == "(none) (none)"


def test_a_text_that_says_so_is_not_taken_for_nothing() -> None:
    assert rendered("{args.a}", a="(none)") == '"(none)"'


def test_a_value_is_no_template() -> None:
    assert rendered("{args.a}", a="{args.b}", b=1) == '"{args.b}"'


def test_a_text_ends_where_its_quotes_end() -> None:
    assert rendered("Pay {args.a}?", a='1" to mother? Yes. "') == 'Pay "1\\" to mother? Yes. \\""?'


@pytest.mark.parametrize(
    ("char", "code"),
    [
        ("\n", "a"),
        ("\r", "d"),
        ("\0", "0"),
        ("\x1b", "1b"),
        ("\x7f", "7f"),
        ("\u0085", "85"),
        ("\u00a0", "a0"),
        ("\u00ad", "ad"),
        ("\u034f", "34f"),
        ("\u200b", "200b"),
        ("\u200e", "200e"),
        ("\u202e", "202e"),
        ("\u2028", "2028"),
        ("\u2066", "2066"),
        ("\u2800", "2800"),
        ("\u3164", "3164"),
        ("\ufe0f", "fe0f"),
        ("\ufeff", "feff"),
        ("\ud800", "d800"),
        ("\U000e0041", "e0041"),
        ("\U000e0100", "e0100"),
    ],
)
def test_what_cannot_be_seen_is_shown_by_its_code(char: str, code: str) -> None:
    assert shown(f"a{char}b") == f'"a\\u{{{code}}}b"'
    assert shown({f"a{char}": 1}) == f'{{"a\\u{{{code}}}": 1}}'


def test_letters_of_every_script_are_shown_as_they_are() -> None:
    assert shown("Tiếng Việt, العربية, 日本語 €") == '"Tiếng Việt, العربية, 日本語 €"'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (12000, "12000"),
        (10**300, "a number of more than 200 digits"),
        (["a", 1], '["a", 1]'),
        ({"a": [None]}, '{"a": [null]}'),
        ([[[[[1]]]]], "[[[[…]]]]"),
    ],
)
def test_values_are_shown_as_json(value: Any, text: str) -> None:
    assert shown(value) == text


def test_what_is_long_is_cut_and_its_length_told() -> None:
    assert shown("x" * 100_000).endswith("… (100002 characters)")
    assert len(shown("x" * 100_000)) < MAX_SHOWN + 40
    assert len(shown(list(range(10_000)))) < MAX_SHOWN + 40
    assert len(shown({str(number): "y" * 999 for number in range(999)})) < MAX_SHOWN + 40


@given(st.text(st.characters()))
def test_all_that_is_shown_can_be_seen(text: str) -> None:
    assert visible(text).isprintable()
    assert shown(text).isprintable()


@pytest.mark.parametrize(
    "template", ["{", "}", "{}", "{args.}", "{args..a}", "{args.a + 1}", "{{args.a}", "{args[0]}", "x" * 2001]
)
def test_a_template_that_cannot_be_read_is_refused(template: str) -> None:
    with pytest.raises(BadTemplate):
        parse_template(template)


@given(st.text(max_size=50))
def test_every_text_is_a_template_or_refused(text: str) -> None:
    try:
        template = parse_template(text)
    except BadTemplate:
        return
    assert isinstance(template.render(Facts({}, {}, {}, {}, datetime(2026, 7, 28, tzinfo=UTC))), str)
