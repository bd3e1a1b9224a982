"""G07: a folder that is exchanged with a link to the outside, again and again, while it is used: no call gets out.

Another process exchanges the two by one system call each time, so that every moment has one or the other. What the
pack returns is searched for what stands outside, and what stands outside is looked at afterwards.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from bascule.packs.pack import ToolFailed
from bascule.packs.rooted import Root
from packs.talking import talking

RACE_S: Final = float(os.environ.get("BASCULE_RACE_S", "3"))  # security.md asks for 60, once in a while
CANARY: Final = "canary-outside-9b04cd"

# Says when it has begun; ends with its input. RENAME_EXCHANGE is 2.
SWAPPER: Final = """
import ctypes, os, select, sys
libc = ctypes.CDLL(None, use_errno=True)
one, other = (os.fsencode(each) for each in sys.argv[1:])
swaps = 0
print("ready", flush=True)
while not select.select([0], [], [], 0)[0]:
    for _ in range(100):
        if libc.renameat2(-100, one, -100, other, 2):
            sys.exit(os.strerror(ctypes.get_errno()))
        swaps += 1
print(swaps, flush=True)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="exchanging two names is a system call of Linux")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root with the folder `d`, and beside it a link to a folder outside in which the same names stand."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f.txt").write_text(CANARY)
    (tmp_path / "outside" / "deep").mkdir()
    (tmp_path / "outside" / "deep" / "f.txt").write_text(CANARY)
    root = tmp_path / "root"
    (root / "d" / "deep").mkdir(parents=True)
    (root / "d" / "f.txt").write_text("inside")
    (root / "d" / "deep" / "f.txt").write_text("inside")
    (root / "l").symlink_to(tmp_path / "outside")
    return root


@asynccontextmanager
async def swapping(one: Path, other: Path) -> AsyncIterator[None]:
    """These two are exchanged in a tight loop meanwhile."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SWAPPER, str(one), str(other)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert await process.stdout.readline() == b"ready\n"
    try:
        yield
    finally:
        process.stdin.close()
        swaps, _ = await process.communicate()
    assert int(swaps) > 1000, "it was hardly ever exchanged"


def outside(folder: Path) -> dict[str, bytes | None]:
    top = folder.parent / "outside"
    return {str(path): path.read_bytes() if path.is_file() else None for path in top.rglob("*")}


@pytest.mark.parametrize("openat2", [True, False], ids=["openat2", "step by step"])
async def test_a_folder_that_becomes_a_link_lets_nothing_out(folder: Path, openat2: bool) -> None:
    before, root, came = outside(folder), Root(folder, openat2=openat2), Counter[str]()
    until = asyncio.get_running_loop().time() + RACE_S

    def tried(name: str) -> str:
        """What comes of one attempt of each kind."""
        said = ""
        for attempt in (
            lambda: root.read("d/f.txt", 100),
            lambda: root.read("d/deep/f.txt", 100),
            lambda: [root.read(each.path, 100) for each in root.walk("d") if each.kind == "file"],
            lambda: root.write(f"d/{name}", b"mine"),
            lambda: root.write("d/deep/f.txt", b"inside", overwrite=True),
            lambda: root.move(f"d/{name}", f"d/deep/{name}"),
            lambda: root.make_folder(f"d/deep/{name}-folder"),
            lambda: root.restore(root.delete(f"d/deep/{name}") or ""),
            lambda: root.delete(f"d/deep/{name}"),
        ):
            try:
                said += repr(attempt())
                came["done"] += 1
            except ToolFailed as error:
                said += str(error)
                came["refused"] += 1
        return said

    async with swapping(folder / "d", folder / "l"):
        rounds = 0
        while asyncio.get_running_loop().time() < until:
            assert CANARY not in await asyncio.to_thread(tried, f"n{rounds}")
            rounds += 1
    root.close()
    assert outside(folder) == before
    assert min(came["done"], came["refused"]) > 100, came  # it was both, and so in between


async def test_the_pack_itself_lets_nothing_out_meanwhile(folder: Path) -> None:
    before, came = outside(folder), Counter[str]()
    until = asyncio.get_running_loop().time() + RACE_S
    async with talking("files", root=str(folder)) as files, swapping(folder / "d", folder / "l"):
        rounds = 0
        while asyncio.get_running_loop().time() < until:
            rounds += 1
            for tool, arguments in (
                ("read_file", {"path": "d/f.txt"}),
                ("search_files", {"text": "canary"}),
                ("search_files", {"text": "inside"}),
                ("list_folder", {"path": "d"}),
                ("write_file", {"path": f"d/deep/{rounds}", "content": "mine"}),
                ("move_file", {"path": f"d/deep/{rounds}", "to": f"d/{rounds}"}),
                ("delete_file", {"path": f"d/{rounds}"}),
            ):
                result = await files.try_call(tool, **arguments)
                assert CANARY not in str(result)
                came["refused" if result.get("isError") else "done"] += 1
    assert outside(folder) == before
    assert min(came["done"], came["refused"]) > 20, came
