"""Named figures of a report: the number that stands with "Gross Margin", or with "Biên lợi nhuận gộp". Pure.

A figure is found or it is not: what is not there is nothing, never a guess. The words it was read from come with it.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from bascule.packs.office import numbers
from bascule.packs.office.numbers import Number, Style, Written

# Names of the same figure; each line is one.
_SAME: Final = """
gross margin | gross profit margin | tỷ suất lợi nhuận gộp | biên lợi nhuận gộp | tỷ lệ lãi gộp | biên lãi gộp
net margin | net profit margin | tỷ suất lợi nhuận ròng | biên lợi nhuận ròng | biên lãi ròng
operating margin | tỷ suất lợi nhuận hoạt động | biên lợi nhuận hoạt động
revenue | total revenue | net revenue | sales | net sales | turnover | doanh thu | tổng doanh thu | doanh thu thuần
gross profit | lợi nhuận gộp | lãi gộp
net profit | net income | profit after tax | lợi nhuận ròng | lợi nhuận sau thuế | lãi ròng | lãi sau thuế
operating profit | operating income | lợi nhuận hoạt động | lợi nhuận từ hoạt động kinh doanh
profit before tax | pre-tax profit | lợi nhuận trước thuế
ebitda
cost of goods sold | cogs | cost of sales | giá vốn hàng bán | giá vốn
operating expenses | operating costs | opex | chi phí hoạt động
total assets | tổng tài sản | tổng cộng tài sản
total liabilities | liabilities | nợ phải trả | tổng nợ | tổng nợ phải trả
equity | total equity | shareholders' equity | owners' equity | vốn chủ sở hữu
debt to equity | debt-to-equity | debt-to-equity ratio | d/e | tỷ lệ nợ trên vốn chủ sở hữu | hệ số nợ trên vốn
return on equity | roe | tỷ suất sinh lời trên vốn chủ sở hữu
return on assets | roa | tỷ suất sinh lời trên tài sản
cash | cash and cash equivalents | tiền và tương đương tiền | tiền mặt
headcount | employees | number of employees | số nhân viên | số lượng nhân viên | nhân sự
growth | growth rate | revenue growth | tăng trưởng | tốc độ tăng trưởng | tăng trưởng doanh thu
inventory | hàng tồn kho | tồn kho
"""
_NEAR_CHARS: Final = 120  # behind its name a figure is looked for
_BRIDGE_CHARS: Final = 60  # between the two
_MAX_FOUND: Final = 8  # other figures of that name that are told

_NUMBER: Final = re.compile(rf"(?<![\w.,])(?:{numbers.PATTERN})(?![\w%]|[.,]\d)", re.IGNORECASE)
_STOP: Final = re.compile(r"[.!?;](?:\s|$)")
# A number behind one of these words says when, or which, and not how much.
_WHICH: Final = re.compile(
    r"(?:\b(?:q|h|fy|quarter|year|note|page|table|section|chapter|version|no|quý|năm|tháng|ngày|trang|bảng|mục|"
    r"thuyết minh|lần|số)\.?|[#/])\s?$",
    re.IGNORECASE,
)
_MOVES: Final = re.compile(
    r"\b(?:(?:up|down|rose|fell|grew|grown|increased?|decreased?|dropped|declined|improved|gained) by|"
    r"(?:rose|fell|grew|up|down|increased|decreased|declined|tăng|giảm)(?: thêm)?)\s+$",
    re.IGNORECASE,
)
_TARGETS: Final = re.compile(
    r"\b(?:target|goal|threshold|limit|budget|plan(?:ned)?|forecast|mục tiêu|ngưỡng|kế hoạch|dự báo)\b", re.IGNORECASE
)
_FROM: Final = re.compile(r"\b(?:from|từ|against|versus|vs\.?|compared (?:to|with)|so với)\s+$", re.IGNORECASE)
_YEAR: Final = re.compile(r"(?:19|20)\d\d")


class Line(NamedTuple):
    number: int
    page: int | None
    text: str


class Figure(NamedTuple):
    number: Number
    written: str
    line: Line
    doubt: int  # 0: it stands right behind its name


def extract(lines: Sequence[Line], wanted: Sequence[str], language: str) -> dict[str, Any]:
    """For each of *wanted* its value, or None, and where it was read. Percentages are shares: 38% is 0.38."""
    style: Style | None = "comma" if language == "vi" else None
    values: dict[str, Any] = {}
    evidence = []
    for name in wanted:
        found = _found(lines, name, style)
        best = min(found, key=lambda figure: figure.doubt, default=None)
        values[name] = None if best is None else numbers.as_json(best.number.value)
        if best is not None:
            others = [other for other in found if other is not best and other.number != best.number]
            evidence.append({"name": name, **_told(best), "others": [_told(other) for other in others[:_MAX_FOUND]]})
    return {"values": values, "evidence": evidence, "missing": [name for name in wanted if values[name] is None]}


def names(wanted: str) -> list[str]:
    """*wanted* first, and what else it is called, in English and Vietnamese."""
    folded = fold(wanted)
    for line in _SAME.strip().splitlines():
        alike = [fold(each) for each in line.split("|")]
        if folded in alike:
            return [folded, *(each for each in alike if each != folded)]
    return [folded]


def fold(text: str) -> str:
    """*text* composed, in lower case, with single spaces; both ways of writing `tỷ` are one."""
    return " ".join(unicodedata.normalize("NFC", text).lower().replace("tỉ", "tỷ").split())


# ---- where they are


def _found(lines: Sequence[Line], wanted: str, style: Style | None) -> list[Figure]:
    """Figures with the name itself; where there is none, with one that means the same."""
    for name in names(wanted):
        pattern = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        found = [figure for at in range(len(lines)) for figure in _in_line(lines, at, pattern, style)]
        if found:
            return found
    return []


def _in_line(lines: Sequence[Line], at: int, name: re.Pattern[str], style: Style | None) -> Iterator[Figure]:
    """The first figure behind each place of the name in a line; a name alone in its line has it in the next one."""
    text = fold(lines[at].text)
    for match in name.finditer(text):
        rest = text[match.end() : match.end() + _NEAR_CHARS]
        longer = _is_longer(text, match)
        doubt = 4 * longer + bool(_TARGETS.search(text[max(0, match.start() - 20) : match.end()])) * 5
        if not rest.strip(" :|\t") and at + 1 < len(lines):
            rest = fold(lines[at + 1].text)[:_NEAR_CHARS]
            if not _NUMBER.match(rest):
                continue
            doubt += 1
        if (figure := _first(rest, lines[at], style, doubt)) is not None:
            yield figure


def _is_longer(text: str, match: re.Match[str]) -> bool:
    """Whether the name is part of another: `gross margin` is, in `gross margin target`."""
    behind = text[match.end() :].lstrip()
    return bool(_TARGETS.match(behind)) or bool(re.match(r"(?:growth|per|tăng trưởng)\b", behind))


def _first(rest: str, line: Line, style: Style | None, doubt: int) -> Figure | None:
    """The figure that is meant: not one that says when or which, nor by how much it moved or what from."""
    fallback: Figure | None = None
    for match in _NUMBER.finditer(rest):
        before = rest[: match.start()]
        if match.start() > _BRIDGE_CHARS or _STOP.search(before):
            break
        number = numbers.of_match(match)
        if number is None or _says_when(number, before, match) or _FROM.search(before):
            continue
        decimal = numbers.shared_style([number], style)
        if decimal is None:
            continue
        target = 5 if _TARGETS.search(before) else 0
        figure = Figure(numbers.value(number, decimal), match[0].strip(), line, doubt + target)
        if not _MOVES.search(before):
            return figure
        fallback = fallback or figure._replace(doubt=doubt + 3)
    return fallback


def _says_when(number: Written, before: str, match: re.Match[str]) -> bool:
    if _WHICH.search(before):
        return True
    if number.unit or number.scale or number.negative:
        return match["open"] is not None and len(number.digits) <= 2 and not number.unit  # (3) is a note
    return bool(_YEAR.fullmatch(number.digits))


def _told(figure: Figure) -> dict[str, Any]:
    place = {"line": figure.line.number, **({"page": figure.line.page} if figure.line.page else {})}
    return {
        "value": numbers.as_json(figure.number.value),
        "unit": figure.number.unit,
        "written": figure.written,
        "text": " ".join(figure.line.text.split())[:300],
        **place,
    }
