"""Tables: every way of writing them, values by the evidence of whole columns, bounded answers, letters for formulas."""

import csv
import io
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.packs.cell import Unreadable
from bascule.packs.office import columns, extraction, tables
from packs.office import building, scoring
from packs.talking import talking

TOOL = "spreadsheet__extract_table_to_json"


def read(text: str, **wanted: Any) -> dict[str, Any]:
    return extraction.table(io.BytesIO(text.encode()), **{"format": "auto", **wanted})


def values(text: str, **wanted: Any) -> list[list[Any]]:
    rows: list[list[Any]] = read(text, shape="arrays", **wanted)["rows"]
    return rows


@pytest.mark.parametrize("table", scoring.tables(), ids=lambda table: table.id)
def test_a_labelled_table_is_read_without_a_failure(table: scoring.Table) -> None:
    """What comes out right is measured (test_office_quality.py); here it must come out at all."""
    found = extraction.table(io.BytesIO(table.file()), format=table.format, table=table.table)
    assert found["rows"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,234.56", "7"], [1234.56, 7]),
        (["1.234,56", "1.000"], [1234.56, 1000]),
        (["1,234", "5,000"], [1234, 5000]),
        (["0,5", "1,234"], [0.5, 1.234]),
        (["12%", "7.5%"], [0.12, 0.075]),
        (["$5", "$1,000"], [5, 1000]),
        (["$5", "€6"], ["$5", "€6"]),
        (["5%", "6"], ["5%", "6"]),
        (["007", "123"], ["007", "123"]),
        (["0", "0.5"], [0, 0.5]),
        (["12", "unknown"], ["12", "unknown"]),
        (["12", "n/a"], [12, None]),
        (["12", ""], [12, None]),
        (["1234567890123456", "1"], ["1234567890123456", "1"]),
        (["TRUE", "false"], [True, False]),
        (["yes", "no"], ["yes", "no"]),
        (["(5)", "3"], [-5, 3]),
        (["1.5", "2,5"], ["1.5", "2,5"]),
        (["=1+1", "2"], ["=1+1", "2"]),
        (["NaN", "1"], ["NaN", "1"]),
        (["1e999", "1"], ["1e999", "1"]),
    ],
)
def test_a_column_is_one_kind_of_value(cells: list[str], expected: list[Any]) -> None:
    rows = columns.typed([["name", "value"], *(["x", cell] for cell in cells)])
    assert [type(value) for value in rows.columns[1].values] == [type(value) for value in expected]
    assert rows.columns[1].values == expected


def test_one_column_tells_the_decimal_mark_of_the_others() -> None:
    assert values("a;b\n1.500;2,5\n2.250;3,75\n") == [[1500, 2.5], [2250, 3.75]]
    assert values("a;b\n1.500;2.5\n2.250;3.75\n") == [[1.5, 2.5], [2.25, 3.75]]


def test_dates_stay_as_written_unless_asked() -> None:
    text = "name,day\na,31/12/2025\nb,01/02/2025\n"
    assert [row[1] for row in values(text)] == ["31/12/2025", "01/02/2025"]
    assert [row[1] for row in values(text, dates="iso")] == ["2025-12-31", "2025-02-01"]
    assert [row[1] for row in values("n,day\na,12/31/2025\n", dates="iso")] == ["2025-12-31"]
    assert [row[1] for row in values("n,day\na,31/12/2025\nb,12/31/2025\n", dates="iso")] == [
        "31/12/2025",
        "12/31/2025",
    ]
    assert [row[1] for row in values("n,day\na,30/02/2025\n", dates="iso")] == ["30/02/2025"]


def test_names_of_columns_are_their_own() -> None:
    found = read("a,a,,b\n1,2,3,4\n5,6,7,8\n")
    assert [column["name"] for column in found["columns"]] == ["a", "a (2)", "column_3", "b"]
    assert found["rows"][0] == {"a": 1, "a (2)": 2, "column_3": 3, "b": 4}


def test_letters_and_ranges_are_those_of_the_spreadsheet() -> None:
    content = building.xlsx(
        {"Sales": [["", "Sales 2025"], [], ["", "Product", "Revenue"], ["", "A", 100], ["", "B", 200]]}
    )
    found = extraction.table(io.BytesIO(content), format="xlsx")
    assert [(each["name"], each["letter"], each["range"]) for each in found["columns"]] == [
        ("Product", "B", "B4:B5"),
        ("Revenue", "C", "C4:C5"),
    ]
    assert found["source"] == {
        "format": "xlsx",
        "place": "sheet 'Sales'",
        "range": "B3:C5",
        "title": "Sales 2025",
        "sheets": ["Sales"],
    }


def test_values_of_a_workbook_keep_their_kind() -> None:
    rows: list[list[Any]] = [
        ["id", "share", "day", "on"],
        ["007", {"value": 0.5, "format": "0.0%"}, {"date": "2025-12-31"}, True],
    ]
    found = extraction.table(io.BytesIO(building.xlsx({"S": rows})), format="xlsx")
    assert found["rows"] == [{"id": "007", "share": 0.5, "day": "2025-12-31", "on": True}]
    assert [column["type"] for column in found["columns"]] == ["text", "percent", "date", "boolean"]


def test_a_sheet_is_chosen_by_its_name() -> None:
    content = building.xlsx({"Empty": [], "One": [["a", "b"], [1, 2]], "Two": [["c", "d"], [3, 4]]})
    assert extraction.table(io.BytesIO(content), format="xlsx")["rows"] == [{"a": 1, "b": 2}]
    assert extraction.table(io.BytesIO(content), format="xlsx", sheet="Two")["rows"] == [{"c": 3, "d": 4}]
    with pytest.raises(Unreadable, match=r"There is no sheet 'Three'\. There are: 'Empty', 'One', 'Two'\."):
        extraction.table(io.BytesIO(content), format="xlsx", sheet="Three")


def test_rows_come_in_pieces() -> None:
    text = "n,square\n" + "".join(f"{n},{n * n}\n" for n in range(1, 11))
    first = read(text, max_rows=4)
    assert (len(first["rows"]), first["row_count"], first["truncated"]) == (4, 10, True)
    last = read(text, first_row=9, max_rows=4)
    assert [row["n"] for row in last["rows"]] == [9, 10]
    assert last["truncated"] is False


@given(
    st.lists(
        st.lists(st.text(st.sampled_from('ab1.,;"|\n -%$€'), max_size=6), min_size=3, max_size=3),
        min_size=2,
        max_size=6,
    ),
    st.sampled_from(",;\t"),
)
def test_whatever_a_csv_holds_each_cell_is_its_text_or_its_number(rows: list[list[str]], delimiter: str) -> None:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([["x", "y", "z"], *rows])
    found = tables.delimited(written.getvalue(), delimiter)
    assert [[cell.strip() for cell in row] for row in found.rows[1:]] == [
        [cell.strip() for cell in row] for row in rows
    ]
    for column, cells in zip(columns.typed(found.rows, header=True).columns, zip(*rows, strict=True), strict=False):
        if column.type == "text":
            assert {value for value in column.values if value is not None} <= {cell.strip() for cell in cells}


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab1|-+ \t,;\n<>/table\"'"), max_size=300))
def test_any_text_is_tables_or_a_refusal(text: str) -> None:
    try:
        first = read(text)
    except Unreadable:
        return
    assert first == read(text)
    assert first["table_count"] >= 1
    widths = {len(row) for row in first["rows"]}
    assert widths <= {len(first["columns"])}


@pytest.mark.parametrize(
    "hostile",
    [
        "|" * 500_000,
        "a|" * 250_000,
        "a,\n" * 150_000,
        "a,b\n" * 99_000,
        "\t" * 500_000,
        '"' * 500_000,
        "+-" * 250_000,
        "-" * 500_000,
        "|-" * 200_000 + "\n" + "|-" * 200_000,
        "a  b\n" * 80_000,
        " " * 500_000,
        "a | b\n--|--\n" * 40_000,
        "<table>" * 100_000,
        "<table><tr><td colspan=200 rowspan=200>" * 20_000,
        "<" * 500_000,
        "<!--" * 100_000,
        "&" * 500_000,
        "<a " + "b=" * 200_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_hostile_text_takes_no_longer_than_its_length(hostile: str) -> None:
    begun_s = time.process_time()
    try:
        read(hostile)
    except Unreadable:
        pass  # is what is expected of most
    assert time.process_time() - begun_s < 4


# ---- the tool


async def test_files_of_every_kind_give_the_same_rows(tmp_path: Path) -> None:
    cells = [["Product", "Revenue"], ["A", "100"], ["B", "200"]]
    (tmp_path / "a.csv").write_text("\n".join(map(",".join, cells)))
    (tmp_path / "a.tsv").write_text("\n".join(map("\t".join, cells)))
    (tmp_path / "a.md").write_text("| Product | Revenue |\n|---|---|\n| A | 100 |\n| B | 200 |\n")
    (tmp_path / "a.txt").write_text("Product   Revenue\nA             100\nB             200\n")
    (tmp_path / "a.html").write_text(
        "<table>" + "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in cells) + "</table>"
    )
    (tmp_path / "a.xlsx").write_bytes(building.xlsx({"S": [["Product", "Revenue"], ["A", 100], ["B", 200]]}))
    (tmp_path / "a.docx").write_bytes(building.docx(cells))
    (tmp_path / "a.pdf").write_bytes(building.pdf(cells))
    async with talking("office", root=str(tmp_path)) as office:
        for ending in ("csv", "tsv", "md", "txt", "html", "xlsx", "docx", "pdf"):
            found = await office.call(TOOL, path=f"a.{ending}")
            assert (ending, found["rows"]) == (
                ending,
                [{"Product": "A", "Revenue": 100}, {"Product": "B", "Revenue": 200}],
            )
            assert [column["letter"] for column in found["columns"]] == ["A", "B"]
        assert found == await office.call(TOOL, path="a.pdf")


async def test_a_text_file_may_be_said_to_be_csv(tmp_path: Path) -> None:
    (tmp_path / "Sales_Data.txt").write_text("Product,Revenue\nA,100\nB,200\n")
    async with talking("office", root=str(tmp_path)) as office:
        found = await office.call(TOOL, path="Sales_Data.txt", format="csv", shape="arrays")
    assert found["rows"] == [["A", 100], ["B", 200]]
    assert found["columns"][1]["range"] == "B2:B3"


async def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("There is no table in here.")
    (tmp_path / "a.xlsx").write_bytes(b"PK no workbook")
    (tmp_path / "b.xlsx").write_bytes(building.docx("a document"))
    (tmp_path / "a.json").write_text("{}")
    async with talking("office", root=str(tmp_path)) as office:
        assert "No table was found." in await office.refusal(TOOL, path="a.txt")
        assert "It is no XLSX" in await office.refusal(TOOL, path="a.xlsx")
        assert "It is no XLSX" in await office.refusal(TOOL, path="b.xlsx")
        assert "No tables are read from files ending in .json" in await office.refusal(TOOL, path="a.json")
        assert "There are 1 tables" in await office.refusal(TOOL, text="a,b\n1,2\n", table=2)
        assert "A text is no xlsx" in await office.refusal(TOOL, text="a,b", format="xlsx")
        assert "either text or path" in await office.refusal(TOOL)
        for wrong in ({"table": 0}, {"max_rows": 5001}, {"format": "ods"}, {"first_row": 0}, {"shape": "x"}, {"x": 1}):
            arguments: dict[str, Any] = {"text": "a,b\n1,2\n", **wrong}
            assert await office.refusal(TOOL, **arguments)
