"""The official servers, from npm and PyPI, through Bascule: what they list, a call that works, one that does not.

Skipped, with the reason, where no packages can be had.
"""

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import environments
import pytest
from aiohttp import web
from gateway import Bascule, Json, Legacy, Modern, gateway, text_of

pytestmark = pytest.mark.clients

ERAS: Final = ("legacy", "modern")


@asynccontextmanager
async def through(name: str, *arguments: str, **more: Any) -> AsyncIterator[Bascule]:
    """A gateway whose server `it` is the official one."""
    if name.startswith("server-") and not environments.can_make_node():
        pytest.skip("npm is missing")
    try:
        command, *args = environments.server(name)
    except environments.Unreachable as error:
        pytest.skip(str(error))
    entry = {"command": command, "args": [*args, *arguments], **more.pop("entry", {})}
    async with gateway({"it": entry}, **more) as bascule:
        await bascule.up("it")
        yield bascule


async def client_of(bascule: Bascule, era: str) -> Legacy | Modern:
    return await bascule.session() if era == "legacy" else bascule.modern()


async def tools(client: Legacy | Modern) -> set[str]:
    return {tool["name"].removeprefix("it__") for tool in (await client.result("tools/list"))["tools"]}


async def said(client: Legacy | Modern, tool: str, **arguments: Any) -> str:
    """The text that a tool answers with, which must not be a failure."""
    result = await client.call(f"it__{tool}", **arguments)
    assert not result.get("isError"), result
    return text_of(result)


@pytest.mark.parametrize("era", ERAS)
async def test_filesystem_reads_and_writes_below_its_folder_and_nowhere_else(era: str, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello from disk")
    async with through("server-filesystem", str(tmp_path)) as bascule:
        client = await client_of(bascule, era)
        assert {"read_text_file", "write_file", "list_directory", "search_files", "move_file"} <= await tools(client)
        assert await said(client, "read_text_file", path=str(tmp_path / "note.txt")) == "hello from disk"
        await said(client, "write_file", path=str(tmp_path / "new.txt"), content="written")
        outside = await client.call("it__read_text_file", path="/etc/passwd")
    assert (tmp_path / "new.txt").read_text() == "written"
    assert outside["isError"] is True
    assert "denied" in outside["content"][0]["text"].lower()


async def test_filesystem_runs_within_walls_and_a_person_is_asked_before_it_writes(tmp_path: Path) -> None:
    walls = {"mode": "required", "write": [str(tmp_path)], "network": "none"}
    rules = [{"match": "it/write_file", "confirm_gate": {"message": "Write {args.path}?"}}]
    more: Json = {"entry": {"sandbox": walls}, "policy": {"rules": rules}}
    async with through("server-filesystem", str(tmp_path), **more) as bascule:
        client = bascule.modern()
        assert "note" not in await said(client, "list_directory", path=str(tmp_path))
        asked = await client.call("it__write_file", path=str(tmp_path / "note.txt"), content="x")
    assert asked["_meta"]["dev.bascule/error"]["kind"] == "confirmation_required"
    assert not (tmp_path / "note.txt").exists()


@pytest.mark.parametrize("era", ERAS)
async def test_memory_keeps_what_it_is_told(era: str, tmp_path: Path) -> None:
    entry = {"env": {"MEMORY_FILE_PATH": str(tmp_path / "memory.jsonl")}}
    async with through("server-memory", entry=entry) as bascule:
        client = await client_of(bascule, era)
        assert {"create_entities", "read_graph", "search_nodes"} <= await tools(client)
        entity = {"name": "Mai", "entityType": "person", "observations": ["likes bridges"]}
        await said(client, "create_entities", entities=[entity])
        found = json.loads(await said(client, "search_nodes", query="bridges"))
    assert [each["name"] for each in found["entities"]] == ["Mai"]


@pytest.mark.parametrize("era", ERAS)
async def test_everything_echoes_and_offers_resources_and_prompts(era: str) -> None:
    async with through("server-everything", "stdio") as bascule:
        client = await client_of(bascule, era)
        assert {"echo", "get-sum"} <= await tools(client)
        assert "xin chào" in await said(client, "echo", message="xin chào")
        assert "5" in await said(client, "get-sum", a=2, b=3)
        assert (await client.result("prompts/list"))["prompts"]
        assert (await client.result("resources/list"))["resources"]


@pytest.mark.parametrize("era", ERAS)
async def test_sequential_thinking_thinks_in_steps(era: str) -> None:
    async with through("server-sequential-thinking") as bascule:
        client = await client_of(bascule, era)
        assert await tools(client) == {"sequentialthinking"}
        thought = {"thought": "first", "thoughtNumber": 1, "totalThoughts": 2, "nextThoughtNeeded": True}
        assert json.loads(await said(client, "sequentialthinking", **thought))["thoughtHistoryLength"] == 1


@pytest.mark.parametrize("era", ERAS)
async def test_time_tells_the_time(era: str) -> None:
    async with through("mcp-server-time", "--local-timezone", "UTC") as bascule:
        client = await client_of(bascule, era)
        assert await tools(client) == {"get_current_time", "convert_time"}
        assert json.loads(await said(client, "get_current_time", timezone="Asia/Ho_Chi_Minh"))["timezone"] == (
            "Asia/Ho_Chi_Minh"
        )
        assert (await client.call("it__get_current_time", timezone="Nowhere/Land"))["isError"] is True


def make_repository(folder: Path) -> None:
    """With one commit."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.test", "-C", str(folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first step"], check=True)


@pytest.mark.parametrize("era", ERAS)
async def test_git_tells_of_a_repository(era: str, tmp_path: Path) -> None:
    make_repository(tmp_path)
    async with through("mcp-server-git", "--repository", str(tmp_path)) as bascule:
        client = await client_of(bascule, era)
        assert {"git_status", "git_log", "git_commit"} <= await tools(client)
        assert "first step" in await said(client, "git_log", repo_path=str(tmp_path))


@pytest.mark.parametrize("era", ERAS)
async def test_fetch_gets_a_page(era: str) -> None:
    async def page(request: web.Request) -> web.Response:
        if request.path != "/page":
            raise web.HTTPNotFound
        return web.Response(text="<html><body><p>A page about bridges.</p></body></html>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/{path:.*}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with through("mcp-server-fetch", "--allow-private-ips") as bascule:
            client = await client_of(bascule, era)
            assert "fetch" in await tools(client)
            port = runner.addresses[0][1]
            assert "A page about bridges." in await said(client, "fetch", url=f"http://127.0.0.1:{port}/page")
            assert (await client.call("it__fetch", url=f"http://127.0.0.1:{port}/none"))["isError"] is True
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("era", ERAS)
async def test_sqlite_of_the_old_sdk_answers_a_query(era: str, tmp_path: Path) -> None:
    async with through("mcp-server-sqlite", "--db-path", str(tmp_path / "test.db")) as bascule:
        client = await client_of(bascule, era)
        assert {"read_query", "write_query", "create_table", "list_tables"} <= await tools(client)
        await said(client, "create_table", query="CREATE TABLE bridges (name TEXT)")
        await said(client, "write_query", query="INSERT INTO bridges VALUES ('Bascule')")
        assert "Bascule" in await said(client, "read_query", query="SELECT name FROM bridges")
