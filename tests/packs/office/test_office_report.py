"""Markdown reports of the office pack: nothing is replaced unasked, nothing is half written."""

import os
import stat
from pathlib import Path
from typing import Any

from packs.promised import check
from packs.talking import talking

WRITE = "report__write_markdown"


async def test_a_report_is_written_and_the_same_one_again_changes_nothing(tmp_path: Path) -> None:
    async with talking("office", root=str(tmp_path)) as office:
        wanted = {"path": "reports/2026/q4.md", "content": "# Quý 4\n\n95 %"}
        made = await office.call(WRITE, **wanted)
        check("office", "report/write_markdown", made)
        assert made == {"path": "reports/2026/q4.md", "status": "created", "size_bytes": 15}
        path = tmp_path / made["path"]
        before = path.stat()
        assert (await office.call(WRITE, **wanted))["status"] == "unchanged"
        assert (await office.call(WRITE, "key-of-a-call-0001", **wanted, overwrite=True))["status"] == "unchanged"
    assert path.read_text() == "# Quý 4\n\n95 %\n"
    assert path.stat().st_ino == before.st_ino
    assert stat.S_IMODE(before.st_mode) == 0o600


async def test_another_text_is_replaced_only_with_overwrite(tmp_path: Path) -> None:
    (tmp_path / "q4.md").write_text("by hand")
    async with talking("office", root=str(tmp_path)) as office:
        said = await office.refusal(WRITE, path="q4.md", content="new")
        assert "overwrite: true" in said
        assert "nothing was written" in said
        assert (tmp_path / "q4.md").read_text() == "by hand"
        assert (await office.call(WRITE, path="q4.md", content="new", overwrite=True))["status"] == "overwritten"
    assert (tmp_path / "q4.md").read_text() == "new\n"
    assert [each for each in os.listdir(tmp_path) if each.startswith(".bascule-tmp")] == []


NO_PATHS: list[Any] = [
    ("q4.txt", "no path of a Markdown file"),
    ("reports/.md", "no path of a Markdown file"),
    ("q4.md/", "no path of a Markdown file"),
    ("../q4.md", "not a path below"),
    ("/tmp/q4.md", "not a path below"),
    ("a/../../q4.md", "not a path below"),
    ("a\\q4.md", "not a path below"),
    ("link/q4.md", "not a path below"),
    ("link.md", "not a path below"),
    (".bascule/q4.md", "not a path below"),
    (".hidden.md", "hidden"),
    ("folder.md", "folder"),
]


async def test_what_is_no_path_of_a_report_is_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "q4.md").write_text("outside")
    (root / "link").symlink_to(outside)
    (root / "link.md").symlink_to(outside / "q4.md")
    (root / "folder.md").mkdir()
    async with talking("office", root=str(root)) as office:
        for path, word in NO_PATHS:
            assert word in await office.refusal(WRITE, path=path, content="new", overwrite=True), path
    assert (outside / "q4.md").read_text() == "outside"
    assert os.listdir(outside) == ["q4.md"]


OUTSIDE: list[Any] = [{"content": ""}, {"content": "x" * 1_000_001}, {"path": "x"}, {"overwrite": "yes"}, {"mode": "w"}]


async def test_arguments_outside_of_the_schema_are_refused(tmp_path: Path) -> None:
    async with talking("office", root=str(tmp_path)) as office:
        for change in OUTSIDE:
            await office.refusal(WRITE, **{"path": "a.md", "content": "x", **change})
        assert "null" in await office.refusal(WRITE, path="b.md", content="a\0b")
        await office.call(WRITE, path="a.md", content="x" * 1_000_000)
    assert not (tmp_path / "b.md").exists()
