"""Summaries: sentences of the text and nothing else, found in English and Vietnamese, in bounded time."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.packs.office.sentences import language, plain, sentences
from bascule.packs.office.summary import summary
from packs.office import building
from packs.talking import talking

REPORT = (
    "# Project Alpha\n\nProject Alpha is three weeks late. The main reason is that two testers left in May.\n"
    "Dr. Lee leads the project.\n\n- Budget: 1.5 million dollars were approved.\n- The team has nine people.\n"
)


def texts(of: str) -> list[str]:
    return [each.text for each in sentences(of)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Smith met J. Doe at 3.5 p.m. then. It rained.", ["Dr. Smith met J. Doe at 3.5 p.m. then.", "It rained."]),
        ("See No. 5 and Fig. 2. It says no. We stop.", ["See No. 5 and Fig. 2.", "It says no.", "We stop."]),
        ("Profit was 3.14 million. It grew.", ["Profit was 3.14 million.", "It grew."]),
        ("Really?! Yes… it is. “Quite so.” He left.", ["Really?!", "Yes… it is.", "“Quite so.”", "He left."]),
        ("TP. Hồ Chí Minh đông dân. ThS. Lan đã đến.", ["TP. Hồ Chí Minh đông dân.", "ThS. Lan đã đến."]),
        ("Anh đến vào mùa thu. Chị đi lúc 7.30 sáng.", ["Anh đến vào mùa thu.", "Chị đi lúc 7.30 sáng."]),
        ("A line that is wrapped\nby a program. Next.", ["A line that is wrapped by a program.", "Next."]),
        ("# Title\n\n1. First one\n2) Second one\n* Third one", ["Title", "First one", "Second one", "Third one"]),
        ("Before.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode. Not prose.\n```\n\nAfter.", ["Before.", "After."]),
        ("\u53e5\u5b50\u3002\u53e5\u5b50\uff01", ["\u53e5\u5b50\u3002", "\u53e5\u5b50\uff01"]),
        ("", []),
        (" \n\t\n---\n***\n", []),
    ],
)  # fmt: skip
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_each_sentence_knows_its_line_and_its_kind() -> None:
    found = [(each.line, each.kind) for each in sentences(REPORT)]
    assert found == [(1, "heading"), (3, "prose"), (3, "prose"), (4, "prose"), (6, "item"), (7, "item")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The report is late because of the weather.", "en"),
        ("Báo cáo bị chậm vì thời tiết xấu.", "vi"),
        ("Ba\u0301o ca\u0301o bi\u0323 cha\u0323\u0302m vi\u0300 thơ\u0300i tie\u0302\u0301t.", "vi"),
        ("Der Bericht kommt wegen des Wetters zu spät.", "unknown"),
        ("12 34", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_language_is_told(text: str, expected: str) -> None:
    assert language(text) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("aB .!?\n#-*|\t1.…“”(ữĐ"), max_size=400), st.integers(1, 20))
def test_every_point_is_of_the_text_word_for_word(text: str, max_points: int) -> None:
    whole = plain(text)
    points = summary(text, max_points)
    assert len(points) <= max_points
    assert [point.number for point in points] == sorted({point.number for point in points})
    lines = text.splitlines()
    for point in points:
        assert point.sentence.text in whole
        assert point.sentence.text.split()[0] in plain(lines[point.sentence.line - 1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=60), max_size=12).map(". ".join))
def test_any_text_has_the_same_summary_twice(text: str) -> None:
    assert summary(text, 5) == summary(text, 5)


def test_what_says_the_same_is_said_once() -> None:
    text = "Revenue rose by 12 percent this year. Revenue rose by 12 percent this year. Costs fell in all regions."
    assert [point.sentence.text for point in summary(text, 3)] == [
        "Revenue rose by 12 percent this year.",
        "Costs fell in all regions.",
    ]


@pytest.mark.parametrize(
    "hostile",
    [
        "." * 300_000,
        "a." * 150_000,
        "Mr. " * 80_000,
        "- " * 150_000,
        "#" * 300_000,
        "|" * 300_000,
        "A b c d. " * 40_000,
        " " * 300_000 + "x",
        "\n" * 300_000,
        "(" * 300_000,
        "a" * 1_000_000,
        "1." * 150_000,
        "\t".join("x" * 100_000),
        "x\n" * 150_000,
        "=-" * 150_000,
    ],
    ids=lambda text: repr(text[:8]),
)
def test_a_hostile_text_takes_no_longer_than_its_length(hostile: str) -> None:
    begun_s = time.process_time()
    summary(hostile, 3)
    assert time.process_time() - begun_s < 4


# ---- the tool


async def test_a_text_is_summarized(tmp_path: Path) -> None:
    async with talking("office", root=str(tmp_path)) as office:
        found = await office.call("document__summarize_text", text=REPORT, max_points=3)
        again = await office.call("document__summarize_text", text=REPORT, max_points=3)
    assert found == again
    assert found["summary_points"] == [
        "Project Alpha is three weeks late.",
        "The main reason is that two testers left in May.",
        "Budget: 1.5 million dollars were approved.",
    ]
    assert found["places"] == [{"line": line, "sentence": number} for line, number in ((3, 2), (3, 3), (6, 5))]
    assert (found["language"], found["word_count"], found["truncated"]) == ("en", 35, False)


async def test_documents_of_every_kind_are_summarized(tmp_path: Path) -> None:
    points = ["Doanh thu quý III đạt 1.250 tỷ đồng, tăng 15%.", "Chi phí vận chuyển tăng vì giá xăng cao."]
    (tmp_path / "a.txt").write_text("\n".join(points), encoding="utf-16")
    (tmp_path / "a.md").write_text("# Báo cáo\n\n" + "\n\n".join(points))
    (tmp_path / "a.html").write_text("<h1>Báo cáo</h1>" + "".join(f"<p>{each}</p>" for each in points))
    (tmp_path / "a.docx").write_bytes(building.docx("# Báo cáo", *points))
    (tmp_path / "a.pdf").write_bytes(building.pdf([points[0]], [points[1]]))
    async with talking("office", root=str(tmp_path)) as office:
        for name in ("a.txt", "a.md", "a.html", "a.docx", "a.pdf"):
            found = await office.call("document__summarize_text", path=name)
            assert (name, found["summary_points"]) == (name, points)
            assert found["language"] == "vi"
    assert found["places"] == [{"line": 1, "sentence": 1, "page": 1}, {"line": 2, "sentence": 2, "page": 2}]


async def test_what_cannot_be_summarized_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "zeros.txt").write_bytes(b"a\0b")
    (tmp_path / "none.pdf").write_bytes(b"no pdf")
    (tmp_path / "none.docx").write_bytes(b"no docx")
    async with talking("office", root=str(tmp_path)) as office:
        for path, said in {
            "empty.txt": "nothing to summarise",
            "picture.png": "ending in .png are not read here",
            "zeros.txt": "It is no text",
            "none.pdf": "It is no PDF",
            "none.docx": "It is no DOCX",
            "missing.txt": "missing.txt",
            "../outside.txt": "outside",
        }.items():
            assert said in await office.refusal("document__summarize_text", path=path)
        assert "either text or path" in await office.refusal("document__summarize_text")
        assert "either text or path" in await office.refusal("document__summarize_text", text="a", path="b.txt")


async def test_arguments_outside_the_schema_are_refused(tmp_path: Path) -> None:
    async with talking("office", root=str(tmp_path)) as office:
        for wrong in ({"max_points": 0}, {"max_points": 21}, {"text": ""}, {"text": 5}, {"more": 1}):
            arguments: dict[str, Any] = {"text": "A text.", **wrong}
            assert await office.refusal("document__summarize_text", **arguments)
        found = await office.call("document__summarize_text", text="One is here.", max_points=20)
        assert found["summary_points"] == ["One is here."]
