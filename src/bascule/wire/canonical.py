"""One spelling for each JSON value, so that equal values have equal hashes. PURE.

RFC 8785 (JCS), with one deliberate difference: an integer beyond ±(2**53 - 1) keeps its exact digits. RFC 8785 would
round it to a double, and 9007199254740993 would have the hash of 9007199254740992: two payments would be one.
A number that is written with a point or an exponent is a double before it gets here, and stays one.
Source: RFC 8785; ECMA-262, "Number::toString".
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

_SAFE: Final = 2**53 - 1  # the integers that a double holds, and its neighbours do not
_text = msgspec.json.Encoder().encode  # escapes what RFC 8785 (3.2.2.2) wants escaped, the same way, and nothing else
_plain = msgspec.json.Encoder(order="deterministic").encode  # sorts by code points


def canonical(value: Any, *, exact: bool = False) -> bytes:
    """The canonical JSON text of a decoded JSON *value*: the same bytes for the same value, in UTF-8.

    Integers of any size keep their digits, so two different ones never have the same text (RFC 8785 allows no
    others than doubles). A large double may look like an integer that it is not; with *exact*, which RFC 8785 does
    not know, it ends in `.0` and looks like none. Raises ValueError for what JSON does not have: NaN, infinities,
    half of a surrogate pair, keys that are no text, other types; and for what is nested too deeply or has more
    digits than Python prints.
    """
    try:
        if _is_plain(value):
            return _plain(value)
        parts: list[bytes] = []
        _spell(value, parts, exact=exact)
        return b"".join(parts)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def flat(members: Mapping[str, str | int | bool]) -> bytes:
    """`canonical` of an object without anything in it, whose names are ASCII and whose integers are all small.

    Raises ValueError for half of a surrogate pair.
    """
    return _plain(members)


def _is_plain(value: Any) -> bool:
    """Whether msgspec writes *value* as RFC 8785 does: no doubles, no large integers, keys in ASCII.

    Code points, by which msgspec sorts, and UTF-16 units come in different orders only beyond ASCII.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-_SAFE <= value <= _SAFE)
    if kind is dict:
        return all(type(key) is str and key.isascii() and _is_plain(value[key]) for key in value)
    return kind is list and all(map(_is_plain, value))


def _spell(value: Any, parts: list[bytes], *, exact: bool) -> None:
    match value:
        case None | bool() | str():
            parts.append(_text(value))
        case int():
            parts.append(b"%d" % value)
        case float():
            parts.append(_double(value).encode() + (b".0" if exact and abs(value) > _SAFE else b""))
        case dict():
            _spell_object(value, parts, exact=exact)
        case list() | tuple():
            mark = b"["
            for item in value:
                parts.append(mark)
                _spell(item, parts, exact=exact)
                mark = b","
            parts.append(b"]" if value else b"[]")
        case _:
            raise ValueError(f"JSON has no {type(value).__name__}")


def _spell_object(value: dict[Any, Any], parts: list[bytes], *, exact: bool) -> None:
    if not all(isinstance(key, str) for key in value):
        raise ValueError("a key of a JSON object is a text")
    mark = b"{"
    for key in sorted(value, key=_utf_16):
        parts += (mark, _text(key), b":")
        _spell(value[key], parts, exact=exact)
        mark = b","
    parts.append(b"}" if value else b"{}")


def _utf_16(key: str) -> bytes:
    return key.encode("utf-16-be")  # compares as its code units do


def _double(value: float) -> str:
    """*value* as ECMAScript prints it: Python finds the same shortest digits, and places the point elsewhere."""
    if not math.isfinite(value):
        raise ValueError("JSON has neither NaN nor infinities")
    if value == 0:
        return "0"  # -0 too
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}e0".partition("e")
    whole, _, fraction = mantissa.partition(".")
    written = int(exponent.removesuffix("e0") or 0)
    padded = (whole + fraction).rstrip("0")
    digits = padded.lstrip("0")
    point = len(whole) + written - (len(padded) - len(digits))  # the value is 0.digits times ten to the power of this
    return sign + _placed(digits, point)


def _placed(digits: str, point: int) -> str:
    """ECMA-262, Number::toString, steps 6 to 11; *point* is its `n`, the length of *digits* its `k`."""
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"
