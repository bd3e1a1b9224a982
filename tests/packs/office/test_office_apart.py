"""The office without its extras, and its reading within the limits that are set."""

import io
import logging
import sys
from pathlib import Path

import pytest

from bascule.packs.cell import Unreadable
from bascule.packs.office import extraction, portable, readers
from packs.office import building
from packs.talking import talking


def test_what_is_not_installed_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pdf, xlsx = building.pdf(["text"]), building.xlsx({"S": [["a", "b"], [1, 2]]})
    for name in ("pdfplumber", "pypdfium2", "openpyxl"):
        monkeypatch.setitem(sys.modules, name, None)
    for read in (
        lambda: list(portable.pages(io.BytesIO(pdf), 1)),
        lambda: list(portable.tables(io.BytesIO(pdf), 1)),
        lambda: extraction.table(io.BytesIO(xlsx), format="xlsx"),
    ):
        with pytest.raises(Unreadable, match=r"is not installed\. Install it with: pip install 'bascule\[office\]'"):
            read()


def test_a_reader_quietens_its_library_and_not_the_process() -> None:
    assert list(portable.tables(io.BytesIO(building.pdf(["text"])), 1)) == []
    assert not logging.getLogger("pdfminer.pdfpage").isEnabledFor(logging.ERROR)
    assert logging.getLogger("bascule").isEnabledFor(logging.ERROR)


def test_everything_else_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    docx = building.docx("Dr. Lee came.", [["a", "b"], ["1", "2"]])
    for name in (
        "pdfplumber",
        "pypdfium2",
        "openpyxl",
        "docx",
        "rapidfuzz",
        "rapidfuzz.distance",
        "charset_normalizer",
    ):
        monkeypatch.setitem(sys.modules, name, None)
    assert readers.summary(io.BytesIO(docx), kind="docx", max_points=1)["summary_points"] == ["Dr. Lee came."]
    assert readers.table(io.BytesIO(docx), format="docx")["rows"] == [{"a": 1, "b": 2}]
    western = readers.extract(io.BytesIO("Müller zahlt".encode("cp1252")), kind="text", first=1, max_chars=8000)
    assert (western["parts"][0]["text"], western["encoding"]) == ("Müller zahlt", "cp1252")
    assert readers.compare(io.BytesIO(b'["a b", "a c"]'), max_hunks=1)["similarity_score"] == 0.5


async def test_the_limits_of_the_settings_hold(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A sentence of some words. " * 100)
    async with talking("office", root=str(tmp_path), reading={"file_bytes": 1000}) as office:
        refusal = await office.refusal("document__summarize_text", path="a.txt")
        assert refusal.startswith("The file has 2600 bytes; at most 1000 are read.")
    async with talking("office", root=str(tmp_path), reading={"result_bytes": 1000}) as office:
        refusal = await office.refusal("document__extract_text", path="a.txt")
        assert refusal == "What was made of the file is too large. Ask for less of it."


async def test_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.txt").write_text("A canary sings. It sings all day.")
    (tmp_path / "root" / "link.txt").symlink_to(tmp_path / "secret.txt")
    async with talking("office", root=str(tmp_path / "root")) as office:
        for path in ("link.txt", "../secret.txt", str(tmp_path / "secret.txt")):
            for tool in ("document__extract_text", "document__summarize_text", "spreadsheet__extract_table_to_json"):
                assert "canary" not in await office.refusal(tool, path=path)
        found = await office.call("document__search_reports", query="canary")
        assert (found["reports"], found["searched"]) == ([], 0)
