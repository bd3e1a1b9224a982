"""The files pack behind Bascule, within its walls: its contracts hold there, and the gate before what is destroyed."""

from pathlib import Path

import pytest
from gateway import ELICITS, Bascule, Json, gateway

from bascule.packs.files.options import FilesOptions

PACK: Json = {"pack": "files", "sandbox": "required"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "reports").mkdir(parents=True)
    (root / "a.txt").write_text("one")
    return root


def served(folder: Path, **settings: object) -> Json:
    return {"files": PACK | {"settings": {"root": str(folder), **settings}}}


async def answered(bascule: Bascule, tool: str, action: str, arguments: Json) -> Json:
    """The result of a call whose gate is answered with *action*; fails if no gate asks."""
    client = await bascule.session(capabilities=ELICITS)
    async with client.open("tools/call", {"name": tool, "arguments": arguments}) as exchange:
        question = await exchange.next_of("elicitation/create")
        content = {"content": {"confirm": True}} if action == "accept" else {}
        await client.answer(question, {"action": action, **content})
        result: Json = (await exchange.last())["result"]
        return result


async def test_within_its_walls_every_tool_works(folder: Path) -> None:
    async with gateway(served(folder)) as bascule:
        await bascule.up("files")
        client = bascule.modern()
        listed = [tool["name"] for tool in (await client.result("tools/list"))["tools"]]
        assert len(listed) == 8
        calls: dict[str, Json] = {
            "write_file": {"path": "b/c.txt", "content": "two", "make_folders": True},
            "move_file": {"path": "a.txt", "to": "reports/a.txt"},
            "read_file": {"path": "b/c.txt"},
            "search_files": {"text": "one"},
        }
        for tool, arguments in calls.items():
            result = await client.call(f"files__{tool}", **arguments)
            assert not result.get("isError"), result
        assert result["structuredContent"]["matches"][0]["path"] == "reports/a.txt"
        gone = await answered(bascule, "files__delete_file", "accept", {"path": "reports/a.txt"})
        kept = gone["structuredContent"]["kept_as"]
        assert not (folder / "reports" / "a.txt").exists()
        assert not (await client.call("files__restore_file", kept_as=kept)).get("isError")
    assert (folder / "reports" / "a.txt").read_text() == "one"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("files__delete_file", {"path": "a.txt"}),
        ("files__write_file", {"path": "a.txt", "content": "x", "overwrite": True}),
    ],
)
async def test_what_is_there_is_not_destroyed_without_a_persons_yes(folder: Path, tool: str, arguments: Json) -> None:
    async with gateway(served(folder)) as bascule:
        await bascule.up("files")
        refused = await answered(bascule, tool, "decline", arguments)
        assert refused["isError"] is True
        assert (folder / "a.txt").read_text() == "one"
        alone = await bascule.modern().call(tool, **arguments)
        assert alone["_meta"]["dev.bascule/error"]["kind"] == "confirmation_required"
        assert (folder / "a.txt").read_text() == "one"


async def test_a_read_only_folder_is_one_for_the_kernel_too(folder: Path) -> None:
    assert FilesOptions(root=str(folder), read_only=True).sandbox().write == ()
    async with gateway(served(folder, read_only=True)) as bascule:
        await bascule.up("files")
        client = bascule.modern()
        assert len((await client.result("tools/list"))["tools"]) == 3
        assert (await client.call("files__read_file", path="a.txt"))["structuredContent"]["content"] == "one"
