"""Numbers as people write them: 1,234.56 and 1.234,56, percentages, amounts of money, in English and Vietnamese. Pure.

A text alone may not say which mark is the decimal one; `Style` is what is known, and `styles` what a text allows.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal, NamedTuple, TypeAlias

Style: TypeAlias = Literal["point", "comma"]  # the decimal mark
Unit: TypeAlias = str  # "%", or a code of ISO 4217

STYLES: Final[tuple[Style, Style]] = ("point", "comma")
MAX_CHARS: Final = 40

_CURRENCIES: Final = {
    "$": "USD", "us$": "USD", "usd": "USD", "€": "EUR", "eur": "EUR", "£": "GBP", "gbp": "GBP", "¥": "JPY",
    "jpy": "JPY", "₫": "VND", "đ": "VND", "vnd": "VND", "vnđ": "VND", "đồng": "VND",
}  # fmt: skip
_SCALES: Final = {
    "k": 3, "thousand": 3, "nghìn": 3, "ngàn": 3, "m": 6, "mn": 6, "mio": 6, "million": 6, "millions": 6, "tr": 6,
    "triệu": 6, "bn": 9, "b": 9, "billion": 9, "billions": 9, "tỷ": 9, "tỉ": 9, "trillion": 12, "nghìn tỷ": 12,
    "ngàn tỷ": 12,
}  # fmt: skip
_VIETNAMESE: Final = frozenset({"nghìn", "ngàn", "tr", "triệu", "tỷ", "tỉ", "nghìn tỷ", "ngàn tỷ"})
_SIGNS: Final = "+\u2212\u2013-"  # the last one where it makes no range

_DIGITS: Final = r"[0-9]+(?:[.,\u00a0\u202f\u2009 '][0-9]+)*"
_MONEY: Final = "|".join(re.escape(each) for each in sorted(_CURRENCIES, key=len, reverse=True))
_SCALE: Final = "|".join(re.escape(each) for each in sorted(_SCALES, key=len, reverse=True))
PATTERN: Final = (
    rf"(?P<open>\()?\s?(?P<sign>[{_SIGNS}])?\s?(?P<before>{_MONEY})?\s?(?P<inner>[{_SIGNS}])?"
    rf"(?P<digits>{_DIGITS}|[.,][0-9]+)"
    rf"(?:\s?(?P<percent>%)|\s?(?P<scale>{_SCALE})(?![^\W\d_])\.?)?\s?(?P<after>(?:{_MONEY})(?![^\W\d_]))?(?P<close>\))?"
)
_WHOLE: Final = re.compile(PATTERN, re.IGNORECASE)
_SPACES: Final = re.compile("[\u00a0\u202f\u2009 ']")
_GROUPED: Final = {
    "point": re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?"),
    "comma": re.compile(r"[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]+)?"),
}
_PLAIN: Final = {"point": re.compile(r"[0-9]*(?:\.[0-9]+)?"), "comma": re.compile(r"[0-9]*(?:,[0-9]+)?")}
_SPACED: Final = re.compile("[0-9]{1,3}(?:[\u00a0\u202f\u2009 '][0-9]{3})+(?:[.,][0-9]+)?|[^\u00a0\u202f\u2009 ']+")


class Number(NamedTuple):
    value: Decimal  # of a percentage its share: 0.38
    unit: Unit | None


class Written(NamedTuple):
    """A number as it is written, before it is known which mark is the decimal one."""

    digits: str
    negative: bool
    scale: int  # the power of ten that a word behind it says
    unit: Unit | None
    vietnamese: bool = False  # by the words beside it


def written(text: str) -> Written | None:
    """*text*, if it is one number and nothing else.

    >>> written("(1,234.50)").negative, written("120 tỷ đồng").scale, written("38%").unit, written("Q3") is None
    (True, 9, '%', True)
    """
    stripped = text.strip()
    if not stripped or len(stripped) > MAX_CHARS:
        return None
    match = _WHOLE.fullmatch(stripped)
    return None if match is None else of_match(match)


def of_match(match: re.Match[str]) -> Written | None:
    """What a match of PATTERN says; None where it contradicts itself."""
    before, after = match["before"], match["after"]
    if bool(match["open"]) != bool(match["close"]) or (before and after) or (match["sign"] and match["inner"]):
        return None
    digits = match["digits"]
    if not _SPACED.fullmatch(digits):
        return None
    sign = match["sign"] or match["inner"] or "+"
    currency = _CURRENCIES.get((before or after or "").lower())
    scale = (match["scale"] or "").lower()
    if (match["percent"] and currency) or (len(scale) == 1 and not currency):  # 5 m may be a length
        return None
    return Written(
        _SPACES.sub("", digits),
        bool(match["open"]) or sign != "+",
        _SCALES.get(scale, 0),
        "%" if match["percent"] else currency,
        currency == "VND" or scale in _VIETNAMESE,
    )


def styles(number: Written) -> frozenset[Style]:
    """How it may be meant.

    >>> sorted(styles(written("1.234,5"))), sorted(styles(written("12,5"))), sorted(styles(written("1.234")))
    (['comma'], ['comma'], ['comma', 'point'])
    """
    return frozenset(style for style in STYLES if _fits(number.digits, style))


def _fits(digits: str, style: Style) -> bool:
    return bool(_PLAIN[style].fullmatch(digits) or _GROUPED[style].fullmatch(digits))


def says_style(number: Written) -> bool:
    """Whether it leaves no doubt which mark is the decimal one."""
    return len(styles(number)) == 1


def value(number: Written, style: Style) -> Number:
    """What it is worth. *style* is one of its styles."""
    group, point = (",", ".") if style == "point" else (".", ",")
    amount = Decimal(number.digits.replace(group, "").replace(point, ".")).scaleb(number.scale)
    if number.unit == "%":
        amount = amount.scaleb(-2)
    return Number(-amount if number.negative else amount, number.unit)


def shared_style(numbers: Iterable[Written], otherwise: Style | None = None) -> Style | None:
    """The style that all of *numbers* have; None if there is none. Where both fit, *otherwise*, or what is usual."""
    listed = list(numbers)
    allowed = [style for style in STYLES if all(style in styles(number) for number in listed)]
    if len(allowed) < 2:
        return allowed[0] if allowed else None
    return otherwise or usual(listed)


def usual(numbers: Iterable[Written]) -> Style:
    """What is meant by numbers that fit both ways, all of them with three digits behind their marks.

    A comma groups, and so does a point with Vietnamese words beside it; behind a zero each is a decimal mark.
    """
    for number in numbers:
        if "," in number.digits:
            return "comma" if number.digits.startswith(("0,", ",")) else "point"
        if "." in number.digits:
            return "comma" if number.vietnamese and not number.digits.startswith("0") else "point"
    return "point"


def as_json(amount: Decimal) -> int | float:
    """*amount* as JSON has it: whole where it is whole."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)
