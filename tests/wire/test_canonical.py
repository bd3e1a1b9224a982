"""One spelling for each JSON value (RFC 8785), and exact digits for integers that RFC 8785 would round."""

import json
import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.wire import canonical as module
from bascule.wire.canonical import canonical

SAFE = 2**53 - 1
text = st.text(st.characters(exclude_categories=["Cs"]))
doubles = st.floats(allow_nan=False, allow_infinity=False)


def values(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.one_of(st.none(), st.booleans(), text, leaves),
        lambda inner: st.lists(inner) | st.dictionaries(text, inner),
        max_leaves=30,
    )


# ---- the vectors of RFC 8785


@pytest.mark.parametrize(
    ("bits", "spelled"),
    [  # appendix B
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"),
        ("41b3de4355555555", "333333333.3333333"),
        ("41b3de4355555556", "333333333.3333334"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_doubles_are_spelled_as_in_appendix_b(bits: str, spelled: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(value).decode() == spelled


def test_the_sample_of_section_3_2_2() -> None:
    sample = rb"""{
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"""
    wanted = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(json.loads(sample)).decode() == wanted


def test_members_are_sorted_by_utf_16_units_as_in_section_3_2_3() -> None:
    sample = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    order = ["Carriage Return", "One", "Control", "Latin Small Letter O With Diaeresis"]
    order += ["Euro Sign", "Emoji: Grinning Face", "Hebrew Letter Dalet With Dagesh"]
    assert list(json.loads(canonical(sample)).values()) == order


@given(values(doubles | st.integers(-SAFE, SAFE)))
def test_it_is_what_another_implementation_of_rfc_8785_says(value: Any) -> None:
    oracle = pytest.importorskip("rfc8785")
    assert canonical(value) == oracle.dumps(value)


# ---- the properties


@given(values(st.integers() | st.floats(-SAFE, SAFE)))
def test_it_says_the_same(value: Any) -> None:
    assert json.loads(canonical(value)) == value


@given(values(doubles | st.integers()))
def test_its_own_text_is_canonical(value: Any) -> None:
    spelled = canonical(value)
    assert canonical(json.loads(spelled)) == spelled


@given(values(st.integers()))
def test_what_msgspec_may_write_is_what_would_be_spelled_by_hand(value: Any) -> None:
    parts: list[bytes] = []
    module._spell(value, parts, exact=False)
    assert canonical(value) == b"".join(parts)


@given(st.dictionaries(text, st.integers(), min_size=2))
def test_the_order_of_members_makes_no_difference(value: dict[str, int]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@given(st.integers(), st.integers())
def test_two_different_integers_never_have_the_same_text(one: int, other: int) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, -(2**53) - 1, 2**64 + 1, 10**400 + 1])
def test_an_integer_keeps_its_digits(number: int) -> None:
    assert canonical([number]) == b"[%d]" % number


@given(doubles, doubles)
def test_two_different_doubles_never_have_the_same_text(one: float, other: float) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)


def test_truth_is_no_number() -> None:
    assert canonical([True, 1, False, 0, None]) == b"[true,1,false,0,null]"


def test_what_holds_nothing() -> None:
    assert canonical([{}, [], ""]) == b'[{},[],""]'
    assert canonical([{}, [], 0.5]) == b"[{},[],0.5]"


# ---- what JSON does not have

deep: Any = 0.5
for _ in range(100_000):
    deep = [deep]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        [-math.inf],
        {"a": {"b": math.nan}},
        "\ud800",
        ["\udfff", 0.5],
        {"\ud800": 1},
        {"\ud800": 0.5, "a": 1},
        {1: 2},
        {None: 0.5},
        b"bytes",
        msgspec.Raw(b"1"),
        {"a": {1, 2}},
        10**5000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical(value)


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        canonical(deep)
