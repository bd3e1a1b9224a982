"""One call resizes, converts and compresses; another names the result; neither leaves its folder."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from agent import Agent
from png import png

CALLERS = ("agent",)
FOLDERS = ("pictures",)
DIALOG = True


@contextlib.asynccontextmanager
async def around(work: Path) -> AsyncIterator[Mapping[str, str]]:
    (work / "pictures" / "logo.png").write_bytes(png(512, 512))
    (work / "private.png").write_bytes(png(8, 8))
    yield {}


async def story(agent: Agent) -> None:
    agent.user("Lấy logo.png, thu về 128x128, nén 80 %, lưu thành assets/logo_small_128.jpg.")
    agent.reason("Three small steps in one call: a tool for each would be chatty.")
    wanted = {"path": "logo.png", "resize": {"width": 128, "height": 128}, "format": "jpeg", "quality": 80}
    made = await agent.call("image/process", {**wanted, "name": "{stem}_{width}.{ext}"})
    agent.see("it is smaller now", made["size_bytes"] < made["size_bytes_before"])
    moving = {"path": made["path"], "to": "assets/logo_small_128.jpg", "make_folders": True}
    key = "logo-2026-11-small-128"
    await agent.call("files/move_file", moving, key=key)
    agent.reason("Did that work? With the same key it is the same move, and not one of a file that is gone.")
    await agent.call("files/move_file", moving, key=key)
    small = agent.work / "pictures" / "assets" / "logo_small_128.jpg"
    agent.see("assets/logo_small_128.jpg is a JPEG", small.read_bytes().startswith(b"\xff\xd8\xff"))

    agent.reason("There may be other pictures around.")
    await agent.refused("image/process", {"path": "../private.png"}, "failed")
    agent.reason("The old logo is in the way, but to delete is not in my role; and to overwrite I have to ask.")
    await agent.refused("files/delete_file", {"path": "logo.png"}, "tool_not_found")
    agent.says_yes = False
    again = {**wanted, "name": "logo.png", "format": "png", "overwrite": True}
    await agent.refused("image/process", again, "confirmation_denied")
