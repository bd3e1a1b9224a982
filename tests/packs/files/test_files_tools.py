"""The tools of the files pack, through its own process: what they take, what they do, what they say instead."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from bascule.packs.files.deeds import Deed
from packs.talking import Talk, talking


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "reports").mkdir(parents=True)
    (root / "a.txt").write_text("one\ntwo\nthree\n")
    (root / "reports" / "q1.md").write_text("# Quý 1\nDoanh thu tăng\n")
    (root / "reports" / "Q2.md").write_text("# Quý 2\nnothing\n")
    (root / "picture.bin").write_bytes(bytes(range(256)))
    (root / ".env").write_text("KEY=1")
    return root


@pytest_asyncio.fixture
async def files(folder: Path) -> AsyncIterator[Talk]:
    async with talking("files", root=str(folder)) as talk:
        yield talk


TOOLS: dict[str, dict[str, Any]] = {
    "list_folder": {},
    "search_files": {},
    "read_file": {"path": "a.txt"},
    "write_file": {"path": "new.txt", "content": "x"},
    "make_folder": {"path": "new"},
    "move_file": {"path": "a.txt", "to": "b.txt"},
    "delete_file": {"path": "a.txt"},
    "restore_file": {"kept_as": ".trash/1/a.txt"},
}


async def test_its_tools_say_what_they_take_and_give_and_change(files: Talk) -> None:
    listed = {tool["name"]: tool for tool in (await files.request("tools/list"))["result"]["tools"]}
    assert list(listed) == list(TOOLS)
    assert all(tool["inputSchema"]["additionalProperties"] is False for tool in listed.values())
    assert all(tool["outputSchema"]["type"] == "object" for tool in listed.values())
    reading = [name for name, tool in listed.items() if tool["annotations"]["readOnlyHint"]]
    assert reading == ["list_folder", "search_files", "read_file"]


@pytest.mark.parametrize("tool", TOOLS)
async def test_arguments_that_do_not_fit_are_refused(files: Talk, folder: Path, tool: str) -> None:
    for wrong in ({"other": 1}, {"path": 1, "kept_as": 1}, {"path": "a" * 5000, "kept_as": "a" * 5000}):
        assert await files.refusal(tool, **{**TOOLS[tool], **wrong})
    for name in TOOLS[tool]:
        assert name in await files.refusal(tool, **{each: value for each, value in TOOLS[tool].items() if each != name})
    assert (folder / "a.txt").read_text() == "one\ntwo\nthree\n"


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a\0", "C:\\x", "./a.txt", "reports/../a.txt"])
async def test_every_path_of_every_tool_is_below_the_folder(files: Talk, path: str) -> None:
    outside = "is not a path below the folder of this pack"
    for tool, arguments in TOOLS.items():
        for name in ("path", "to") if "to" in arguments else ("path",) if tool != "restore_file" else ():
            assert outside in await files.refusal(tool, **{**arguments, name: path})
    assert outside in await files.refusal("restore_file", kept_as=path)
    assert outside in await files.refusal("restore_file", kept_as=f".trash/1/{path}")


# ---- to look


async def test_a_folder_is_listed_by_name_without_what_is_hidden(files: Talk) -> None:
    whole = await files.call("list_folder")
    assert [(each["path"], each["kind"]) for each in whole["entries"]] == [
        ("a.txt", "file"),
        ("picture.bin", "file"),
        ("reports", "folder"),
    ]
    assert whole["complete"] is True
    assert whole["entries"][1]["size_bytes"] == 256
    part = await files.call("list_folder", max_entries=1)
    assert ([each["path"] for each in part["entries"]], part["complete"]) == (["a.txt"], False)
    rest = await files.call("list_folder", after="a.txt", max_entries=2)
    assert ([each["path"] for each in rest["entries"]], rest["complete"]) == (["picture.bin", "reports"], True)
    assert [each["path"] for each in (await files.call("list_folder", path="reports"))["entries"]] == [
        "reports/Q2.md",
        "reports/q1.md",
    ]
    assert "There is no 'none'" in await files.refusal("list_folder", path="none")
    assert "'a.txt' is no folder" in await files.refusal("list_folder", path="a.txt")


async def test_hidden_files_are_served_where_that_is_set(folder: Path) -> None:
    async with talking("files", root=str(folder), hidden=True) as files:
        assert (await files.call("read_file", path=".env"))["content"] == "KEY=1"
        await files.call("delete_file", path=".env")
        assert ".trash" not in [each["path"] for each in (await files.call("list_folder"))["entries"]]


async def test_files_are_found_by_name_and_by_what_is_in_them(files: Talk) -> None:
    async def found(**wanted: Any) -> list[Any]:
        result = await files.call("search_files", **wanted)
        assert result["complete"] is True
        return [(each["path"], each.get("line")) for each in result["matches"]]

    assert await found(name="q?.md") == [("reports/Q2.md", None), ("reports/q1.md", None)]
    assert await found(name="reports/*", path="reports") == [("reports/Q2.md", None), ("reports/q1.md", None)]
    assert await found(text="DOANH THU") == [("reports/q1.md", 2)]
    assert await found(text="quý", name="*1*") == [("reports/q1.md", 1)]
    assert await found(text="KEY") == []
    assert await found(text=".*") == []
    assert await found(name="*.none") == []


async def test_a_search_says_when_it_has_not_seen_all(files: Talk) -> None:
    some = await files.call("search_files", max_matches=2)
    assert len(some["matches"]) == 2
    assert (some["complete"], some["ended_because"]) == (False, "there are more matches")
    assert (await files.call("search_files", text="t", max_matches=2))["complete"] is False


async def test_a_search_says_what_it_could_not_see(files: Talk, folder: Path) -> None:
    (folder / Path(*["deep"] * 40)).mkdir(parents=True)
    result = await files.call("search_files", name="*.none")
    assert result["complete"] is False
    assert result["ended_because"] == f"not all of '{'/'.join(['deep'] * 32)}' could be seen"


async def test_a_pattern_that_could_take_for_ever_does_not(files: Talk, folder: Path) -> None:
    (folder / ("a" * 250)).touch()
    result = await files.call("search_files", name="*a" * 100 + "b")
    assert result["matches"] == []


async def test_a_text_is_read_whole_or_in_parts(files: Talk) -> None:
    whole = await files.call("read_file", path="a.txt")
    assert whole == {
        "path": "a.txt", "content": "one\ntwo\nthree\n", "size_bytes": 14,
        "first_line": 1, "lines": 3, "lines_of_all": 3, "complete": True,
    }  # fmt: skip
    part = await files.call("read_file", path="a.txt", first_line=2, max_lines=1)
    assert (part["content"], part["next_line"], part["complete"]) == ("two\n", 3, False)
    last = await files.call("read_file", path="a.txt", first_line=3)
    assert (last["content"], last["complete"]) == ("three\n", False)
    assert "next_line" not in last
    assert "has 3 lines, and no line 4" in await files.refusal("read_file", path="a.txt", first_line=4)
    assert "is a folder" in await files.refusal("read_file", path="reports")


async def test_what_is_no_text_is_refused_or_read_as_base64(files: Talk, folder: Path) -> None:
    assert "as base64" in await files.refusal("read_file", path="picture.bin")
    read = await files.call("read_file", path="picture.bin", **{"as": "base64"})
    assert base64.b64decode(read["content"]) == bytes(range(256))
    (folder / "old.txt").write_bytes("Tiếng Anh: café".replace("ế", "e").encode("windows-1252"))
    assert "not text in utf-8" in await files.refusal("read_file", path="old.txt")
    assert (await files.call("read_file", path="old.txt", encoding="windows-1252"))["content"].endswith("café")
    (folder / "windows.txt").write_bytes("xin chào".encode("utf-16"))
    assert (await files.call("read_file", path="windows.txt"))["content"] == "xin chào"
    (folder / "empty").touch()
    assert (await files.call("read_file", path="empty"))["complete"] is True


async def test_what_is_too_large_is_cut_at_a_line_or_refused(folder: Path) -> None:
    (folder / "long.txt").write_text("12345678\n" * 4)
    (folder / "line.txt").write_text("1234567890123456789012")
    async with talking("files", root=str(folder), max_bytes=20) as files:
        read = await files.call("read_file", path="long.txt")
        assert (read["content"], read["next_line"], read["complete"]) == ("12345678\n" * 2, 3, False)
        assert "longer than 20 bytes" in await files.refusal("read_file", path="line.txt")
        assert "larger than 20 bytes" in await files.refusal("read_file", path="long.txt", **{"as": "base64"})
        assert "at most 20" in await files.refusal("write_file", path="x", content="x" * 21)
        assert "at most 20" in await files.refusal("write_file", path="x", content="é" * 11)
        await files.call("write_file", path="x", content="x" * 20)


# ---- to change


async def test_a_file_is_written_and_replaced_when_asked_for(files: Talk, folder: Path) -> None:
    assert await files.call("write_file", path="n.md", content="chào") == {
        "path": "n.md",
        "size_bytes": 5,
        "changed": True,
    }
    assert (folder / "n.md").read_text() == "chào"
    assert (await files.call("write_file", path="n.md", content="chào"))["changed"] is False
    assert "already" in await files.refusal("write_file", path="n.md", content="x")
    assert (await files.call("write_file", path="n.md", content="x", overwrite=True))["changed"] is True
    assert (folder / "n.md").read_text() == "x"
    encoded = base64.b64encode(b"\0\1").decode()
    await files.call("write_file", path="d/e/n.bin", content=encoded, make_folders=True, **{"as": "base64"})
    assert (folder / "d" / "e" / "n.bin").read_bytes() == b"\0\1"
    assert "not base64" in await files.refusal("write_file", path="y", content="?", **{"as": "base64"})
    assert "no folder 'z'" in await files.refusal("write_file", path="z/y", content="")


async def test_a_folder_is_made_once(files: Talk, folder: Path) -> None:
    assert (await files.call("make_folder", path="x/y"))["changed"] is True
    assert (await files.call("make_folder", path="x/y"))["changed"] is False
    assert "'a.txt' is no folder" in await files.refusal("make_folder", path="a.txt")
    assert (folder / "a.txt").is_file()


async def test_a_file_is_moved_deleted_and_brought_back(files: Talk, folder: Path) -> None:
    moved = await files.call("move_file", path="a.txt", to="old/a.txt", make_folders=True)
    assert moved == {"path": "a.txt", "moved_to": "old/a.txt"}
    assert "already" in await files.refusal("move_file", path="picture.bin", to="old/a.txt")
    gone = await files.call("delete_file", path="old/a.txt")
    assert (await files.call("delete_file", path="old")) == {"path": "old", "deleted": True}
    assert not (folder / "old").exists()
    assert await files.call("restore_file", kept_as=gone["kept_as"]) == {"path": "old/a.txt"}
    assert (folder / "old" / "a.txt").read_text() == "one\ntwo\nthree\n"
    assert "not empty" in await files.refusal("delete_file", path="reports")
    assert "There is no" in await files.refusal("delete_file", path="none")


async def test_without_a_trash_nothing_is_kept(folder: Path) -> None:
    async with talking("files", root=str(folder), trash=False) as files:
        assert await files.call("delete_file", path="a.txt") == {"path": "a.txt", "deleted": True}
    assert not (folder / ".trash").exists()


async def test_a_read_only_pack_has_only_tools_that_look(folder: Path) -> None:
    before = names(folder)
    async with talking("files", root=str(folder), read_only=True) as files:
        listed = (await files.request("tools/list"))["result"]["tools"]
        assert [tool["name"] for tool in listed] == ["list_folder", "search_files", "read_file"]
        answer = await files.request("tools/call", {"name": "delete_file", "arguments": {"path": "a.txt"}})
        assert answer["error"]["code"] == -32602
    assert names(folder) == before


def names(folder: Path) -> set[str]:
    """Of the files in it."""
    return {path.name for path in folder.iterdir() if path.is_file()}


# ---- the same deed


@pytest.mark.parametrize("tool", ["write_file", "move_file", "delete_file", "restore_file"])
async def test_the_same_key_is_the_same_deed_also_in_a_new_process(folder: Path, tool: str) -> None:
    arguments: dict[str, Any] = TOOLS[tool]
    async with talking("files", root=str(folder)) as files:
        if tool == "restore_file":
            arguments = {"kept_as": (await files.call("delete_file", path="a.txt"))["kept_as"]}
        first = await files.call(tool, key="k1", **arguments)
        assert await files.call(tool, key="k1", **arguments) == first
        assert "another call" in await files.refusal(tool, key="k1", **{**arguments, next(iter(arguments)): "other"})
        assert "another call" in await files.refusal("delete_file", key="k1", path="reports/q1.md")
    async with talking("files", root=str(folder)) as files:
        assert await files.call(tool, key="k1", **arguments) == first
        if tool != "write_file":  # which changes nothing the second time
            assert "There is no" in await files.refusal(tool, key="k2", **arguments)
    assert (folder / "reports" / "q1.md").exists()


@pytest.mark.parametrize("tool", ["write_file", "move_file", "delete_file", "restore_file"])
async def test_a_deed_whose_answer_was_lost_is_not_done_again(folder: Path, tool: str) -> None:
    """The process dies between the deed and the note of its result: only what was noted before is there."""
    arguments: dict[str, Any] = TOOLS[tool]
    async with talking("files", root=str(folder)) as files:
        if tool == "restore_file":
            arguments = {"kept_as": (await files.call("delete_file", path="a.txt"))["kept_as"]}
        first = await files.call(tool, key="k", **arguments)
        note = folder / ".bascule" / hashlib.sha256(b"k").hexdigest()
        deed = msgspec.json.decode(note.read_bytes(), type=Deed)
        note.write_bytes(msgspec.json.encode(Deed(deed.asked, deed.facts)))
        again = await files.call(tool, key="k", **arguments)
        assert {**again, "changed": None} == {**first, "changed": None}


@pytest.mark.parametrize("tool", ["write_file", "move_file", "delete_file"])
async def test_a_deed_that_was_only_noted_is_done(folder: Path, tool: str) -> None:
    arguments = TOOLS[tool]
    async with talking("files", root=str(folder)) as files:
        before = contents(folder)
        await files.call(tool, key="k", **arguments)
        note = folder / ".bascule" / hashlib.sha256(b"k").hexdigest()
        deed = msgspec.json.decode(note.read_bytes(), type=Deed)
        note.write_bytes(msgspec.json.encode(Deed(deed.asked, deed.facts)))
        _undo(folder, before)
        await files.call(tool, key="k", **arguments)
    done = {"write_file": {"a.txt", "new.txt"}, "move_file": {"b.txt"}, "delete_file": set()}[tool]
    assert names(folder) == done | {".env", "picture.bin"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _undo(folder: Path, before: dict[str, bytes]) -> None:
    """As if the deed had not been: the same file is back at its place, or the new one is gone."""
    if (folder / "b.txt").exists():
        (folder / "b.txt").rename(folder / "a.txt")
    for kept in folder.glob(".trash/*/a.txt"):
        kept.rename(folder / "a.txt")
    (folder / "new.txt").unlink(missing_ok=True)
    assert contents(folder) == before


async def test_a_folder_that_is_not_there_ends_the_process_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="Expecting value"):
        async with talking("files", root=str(tmp_path / "none")) as files:
            await files.request("tools/list")
    assert files.process.returncode == 2
