"""Text, figures and answers out of documents: page by page, in any encoding, and null for what is not there."""

import io
import unicodedata
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.packs.cell import Unreadable
from bascule.packs.office import figures, numbers, reading, searching
from bascule.packs.office.encoding import decoded
from bascule.packs.office.figures import Line
from bascule.packs.office.searching import Counted
from packs.office import building
from packs.talking import talking

VIETNAMESE = "Báo cáo tài chính: lợi nhuận đã tăng nhờ thị trường mới."


# ---- encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_text_that_says_its_encoding_is_read_without_a_warning(encoding: str) -> None:
    found = decoded(VIETNAMESE.encode(encoding))
    assert (found.text, found.warnings) == (VIETNAMESE, [])


def test_old_vietnamese_and_western_texts_are_read_with_a_warning() -> None:
    written = "".join(_cp1258(character) for character in VIETNAMESE)
    found = decoded(written.encode("cp1258"))
    assert (found.text, found.encoding) == (VIETNAMESE, "cp1258")
    assert found.warnings == ["The text is not UTF-8; it was read as cp1258, which is a guess."]
    western = decoded("Müller bezahlt für das Café genau zwölf Euro, natürlich früh.".encode("cp1252"))
    assert "Müller" in western.text
    assert western.warnings


def _cp1258(character: str) -> str:
    """As that code page has it: letters with their own mark composed, the tone behind them."""
    parts = unicodedata.normalize("NFD", character)
    tone = next((mark for mark in parts[1:] if mark in "\u0300\u0301\u0303\u0309\u0323"), "")
    return unicodedata.normalize("NFC", parts.replace(tone, "", 1) if tone else parts) + tone


@given(st.binary(max_size=200))
def test_any_bytes_are_a_text_or_a_refusal(content: bytes) -> None:
    try:
        found = decoded(content)
    except Unreadable:
        return
    assert isinstance(found.text, str)


# ---- parts


def test_no_character_of_a_text_is_lost_in_its_parts() -> None:
    text = "# One\nfirst\n\n## Two\nsecond\n```\n# no heading\n```\n" + "long " * 4_000 + "\nend"
    read = reading.read(io.BytesIO(text.encode()), "markdown")
    assert read.text == text
    assert [part.title for part in read.parts][:2] == ["One", "Two"]
    assert all(len(part.text) <= reading.PART_CHARS for part in read.parts)


@given(st.text(st.sampled_from("# a\n`"), max_size=300))
def test_lines_of_parts_are_lines_of_the_document(text: str) -> None:
    read = reading.read(io.BytesIO(text.encode()), "markdown")
    assert read.text == text
    lines = text.split("\n")
    for part in read.parts:
        assert part.text.split("\n")[0] == lines[part.line - 1]


def test_a_word_document_is_read_as_its_reader_sees_it() -> None:
    xml = (
        '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
        '<w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t>Title</w:t></w:r></w:p>'
        "<w:p><w:r><w:t>Kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText><w:t>gone</w:t></w:r></w:del>"
        "<w:ins><w:r><w:tab/><w:t>added</w:t></w:r></w:ins><w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p>"
        "</w:tc></w:tr></w:tbl></w:body></w:document>"
    )
    read = reading.read(io.BytesIO(building.docx(document=xml)), "docx")
    assert read.text == "## Title\n\nKept\tadded\n\na\tb\n"


# ---- numbers and figures


@pytest.mark.parametrize(
    ("written", "value", "unit"),
    [
        ("38%", "0.38", "%"),
        ("38,5 %", "0.385", "%"),
        ("(1,234.50)", "-1234.5", None),
        ("$1.2M", "1200000", "USD"),
        ("-$5", "-5", "USD"),
        ("USD 3.4 billion", "3400000000", "USD"),
        ("120 tỷ đồng", "120000000000", "VND"),
        ("1.250 tỷ", "1250000000000", None),
        ("1,2 triệu", "1200000", None),
        ("1.200.000 đ", "1200000", "VND"),
        ("1 234 567,89", "1234567.89", None),
        ("0.123", "0.123", None),
        ("1,234", "1234", None),
        ("€5", "5", "EUR"),
    ],
)
def test_numbers_are_read_as_they_are_meant(written: str, value: str, unit: str | None) -> None:
    number = numbers.written(written)
    assert number is not None
    style = numbers.shared_style([number])
    assert style is not None
    assert numbers.value(number, style) == (Decimal(value), unit)


@pytest.mark.parametrize("text", ["", "Q3", "1,2,3", "5 m", "12 apples", "1.2.2025", "--5", "(5", "$5%", "1e5", "٣"])
def test_what_is_no_number_is_none(text: str) -> None:
    number = numbers.written(text)
    assert number is None or not numbers.styles(number)


@given(st.decimals(-(10**9), 10**9, places=2, allow_nan=False))
def test_a_number_comes_back_from_both_ways_of_writing(value: Decimal) -> None:
    point = f"{value:,.2f}"
    comma = point.translate(str.maketrans(",.", ".,"))
    for text, style in ((point, "point"), (comma, "comma")):
        number = numbers.written(text)
        assert number is not None
        assert style in numbers.styles(number)
        assert numbers.value(number, "point" if style == "point" else "comma").value == value


def figure(text: str, name: str, language: str = "en") -> Any:
    lines = [Line(number, None, line) for number, line in enumerate(text.split("\n"), 1)]
    return figures.extract(lines, [name], language)["values"][name]


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("Gross margin was 38% in Q3 2025.", "Gross Margin", 0.38),
        ("In Q3 2025 gross margin (note 4) fell to 38.5%.", "Gross Margin", 0.385),
        ("Gross margin fell from 41% to 38%.", "Gross Margin", 0.38),
        ("Gross margin | 38% | 41%", "Gross Margin", 0.38),
        ("Gross margin\n38%", "Gross Margin", 0.38),
        ("The gross margin target is 40%. Gross margin was 38%.", "Gross Margin", 0.38),
        ("Biên lợi nhuận gộp đạt 38,5%.", "Gross Margin", 0.385),
        ("Revenue rose by 12% to 84.3 million dollars.", "Revenue", 84_300_000),
        ("Doanh thu quý III năm 2025 đạt 1.250 tỷ đồng, tăng 15%.", "Doanh thu", 1_250_000_000_000),
        ("Revenue is discussed below. Costs were 5 million.", "Revenue", None),
        ("Net loss (1,234)", "Net loss", -1234),
        ("Headcount: 215", "Headcount", 215),
        ("There is nothing of it here: 12%.", "Gross Margin", None),
        ("Outgross marginal 12%", "Gross Margin", None),
    ],
)
def test_figures_are_found_or_null(text: str, name: str, expected: float | None) -> None:
    assert figure(text, name, "vi" if "ạ" in text else "en") == expected


@given(st.text(st.sampled_from("gross margin 38%.,\n$(tỷ"), max_size=200))
def test_a_figure_is_always_written_in_the_text(text: str) -> None:
    lines = [Line(number, None, line) for number, line in enumerate(text.split("\n"), 1)]
    found = figures.extract(lines, ["margin"], "en")
    for each in found["evidence"]:
        assert each["written"] in figures.fold(text)
    assert (found["values"]["margin"] is None) == (found["missing"] == ["margin"])


# ---- search


def test_the_document_with_all_of_the_question_is_the_first() -> None:
    terms = searching.terms("Project Alpha delay reasons")
    documents = {
        "a.txt": "Project Alpha is delayed. The reasons are staff and approvals.",
        "b.txt": "Project Beta is on time. Project Beta has a project plan for each project.",
        "c.txt": "The canteen opens at noon.",
    }
    counted = [_counted(path, text, terms) for path, text in documents.items()]
    ranked = searching.ranked(counted, terms)
    assert [each.path for each, _ in ranked] == ["a.txt", "b.txt"]
    assert ranked[0][0].passage == "Project Alpha is delayed. The reasons are staff and approvals."


def test_a_question_without_marks_finds_vietnamese() -> None:
    terms = searching.terms("du an bi cham")
    assert searching.counted("Dự án bị chậm ba tuần.", terms)["counts"] == {"du": 1, "bi": 1, "cham": 1}
    terms = searching.terms("chậm")
    assert searching.counted("Dự án châm biếm.", terms)["counts"] == {"chậm": 0}


def _counted(path: str, text: str, terms: list[str]) -> Counted:
    said = searching.counted(text, terms)
    return Counted(path, said["counts"], said["length"], said["passage"], said["line"])


# ---- the tools


async def test_a_document_comes_in_parts_until_its_end(tmp_path: Path) -> None:
    pages = [[f"Page {number} says so." for _ in range(45)] for number in range(1, 31)]
    (tmp_path / "long.pdf").write_bytes(building.pdf(*pages))
    async with talking("office", root=str(tmp_path)) as office:
        seen: list[tuple[int, str]] = []
        following: Any = 1
        while following is not None:
            found = await office.call("document__extract_text", path="long.pdf", first_part=following, max_chars=8000)
            assert found["truncated"] == (found["next_part"] is not None)
            seen += [(part["page"], part["text"].split(" says")[0]) for part in found["parts"]]
            following = found["next_part"]
        assert seen == [(number, f"Page {number}") for number in range(1, 31)]
        last = seen[-1][0] - len(found["parts"]) + 1
        again = await office.call("document__extract_text", path="long.pdf", first_part=last, max_chars=8000)
        assert again == found
        assert "no part 31" in await office.refusal("document__extract_text", path="long.pdf", first_part=31)
        for wrong in ({"max_chars": 7999}, {"first_part": 0}, {"path": ""}):
            arguments: dict[str, Any] = {"path": "long.pdf", **wrong}
            assert await office.refusal("document__extract_text", **arguments)


async def test_a_picture_of_text_and_a_locked_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(building.raw_pdf([b"0 0 m 10 10 l S"]))
    locked = b"<</Filter/Standard/V 1/R 2/O<" + b"00" * 32 + b">/U<" + b"00" * 32 + b">/P -4>>"
    whole = building.pdf(["secret"]).replace(b"/Root 1 0 R", b"/Root 1 0 R/ID[<00><00>]/Encrypt " + locked)
    (tmp_path / "locked.pdf").write_bytes(whole)
    async with talking("office", root=str(tmp_path)) as office:
        found = await office.call("document__extract_text", path="scan.pdf")
        assert "pictures" in found["warnings"][0]
        assert "encrypted" in await office.refusal("document__extract_text", path="locked.pdf")


async def test_figures_of_a_report_come_with_their_words(tmp_path: Path) -> None:
    (tmp_path / "Q3-2025.pdf").write_bytes(building.pdf(["Report"], ["Gross margin fell from 41% to 38% in Q3 2025."]))
    async with talking("office", root=str(tmp_path)) as office:
        wanted: dict[str, Any] = {"path": "Q3-2025.pdf", "data_points": ["Gross Margin", "EBITDA"]}
        found = await office.call("document__extract_data", **wanted)
        assert found == await office.call("document__extract_data", **wanted)
        assert found["values"] == {"Gross Margin": 0.38, "EBITDA": None}
        assert found["missing"] == ["EBITDA"]
        assert found["evidence"][0]["text"] == "Gross margin fell from 41% to 38% in Q3 2025."
        assert (found["evidence"][0]["page"], found["evidence"][0]["written"]) == (2, "38%")
        for wrong in ([], ["x"] * 21, [""]):
            assert await office.refusal("document__extract_data", text="a", data_points=wrong)
        assert "either text or path" in await office.refusal("document__extract_data", data_points=["a"])


async def test_reports_are_found_and_broken_ones_do_not_stop_the_search(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "report_A.pdf").write_bytes(
        building.pdf(["Project Alpha is delayed.", "The reason is a lack of staff."])
    )
    (tmp_path / "deep" / "report_B.docx").write_bytes(building.docx("Project Alpha: errors of integration delay it."))
    (tmp_path / "menu.txt").write_text("Soup and bread.")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    async with talking("office", root=str(tmp_path)) as office:
        found = await office.call("document__search_reports", query="Project Alpha delay reasons")
        assert found == await office.call("document__search_reports", query="Project Alpha delay reasons")
        assert found["reports"] == ["report_A.pdf", "deep/report_B.docx"]
        assert found["matches"][0]["passage"] == "Project Alpha is delayed. The reason is a lack of staff."
        assert [each["path"] for each in found["unread"]] == ["broken.pdf"]
        assert (found["searched"], found["truncated"]) == (3, False)
        below = await office.call("document__search_reports", query="alpha", folder="deep")
        assert below["reports"] == ["deep/report_B.docx"]
        assert "no word" in await office.refusal("document__search_reports", query="the of and")
        assert await office.refusal("document__search_reports", query="alpha", folder="../..")
        assert await office.refusal("document__search_reports", query="")
