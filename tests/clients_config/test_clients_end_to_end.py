"""From the files of three clients to a call through the gateway, and from a client's own entry back to it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gateway import WITHIN_S, Json, failure_of, local, serving, text_of, until

from clients_config.place import CANARY, FILES, Place

CALLERS = "callers:\n  cursor: {{scopes: ['*']}}\nstate_dir: {state}\n"


class Client:
    """A program that has started the command of its entry and speaks MCP with it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._id = 0

    async def ask(self, method: str, **params: Any) -> Json:
        self._id += 1
        await self.tell(method, id=self._id, params=params)
        assert self.process.stdout
        async with asyncio.timeout(WITHIN_S):
            while True:
                line = await self.process.stdout.readline()
                assert line, "it ended"
                message: Json = json.loads(line)
                if message.get("id") == self._id and "method" not in message:
                    return message

    async def tell(self, method: str, **more: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", "method": method, **more}).encode() + b"\n")
        await self.process.stdin.drain()

    async def call(self, tool: str, **arguments: Any) -> Json:
        answer = await self.ask("tools/call", name=tool, arguments=arguments)
        assert "result" in answer, answer
        found: Json = answer["result"]
        return found


@asynccontextmanager
async def started(entry: Json) -> AsyncIterator[Client]:
    """The command of *entry*, as a client with windows starts it: with next to nothing in its environment."""
    words: Sequence[str] = [entry["command"], *entry["args"]]
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
        cwd="/",
    )
    client = Client(process)
    try:
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        greeting = await client.ask("initialize", **hello)
        assert greeting["result"]["protocolVersion"] == "2025-06-18"
        await client.tell("notifications/initialized")
        yield client
    finally:
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(WITHIN_S):
            await process.communicate()


def said(**more: Any) -> Json:
    """A server as clients have it."""
    found = local("plain")
    return {"command": found["command"], "args": found["args"], **more}


async def test_servers_of_three_clients_serve_one_that_is_connected(place: Place) -> None:
    place.says(FILES["claude-desktop"], {"mcpServers": {"one": said(env={"SECRET": CANARY, "LEVEL": "info"})}})
    place.says(FILES["vscode"], {"servers": {"two": {"type": "stdio", **said(cwd=str(place.home))}}})
    toml = "\n".join(f"{name} = {json.dumps(value)}" for name, value in said().items())
    place.says(FILES["codex"], f"[mcp_servers.three]\n{toml}\nenabled = true\n")
    place.yaml.write_text(CALLERS.format(state=place.state))
    imported = place.process("import", "--all", "--yes")
    assert imported.code == 0, imported.err

    async with serving(place.yaml) as bascule:
        written = await asyncio.to_thread(place.process, "connect", "cursor", "--write", "--url", f"{bascule.url}/mcp")
        assert written.code == 0, written.err
        entry = json.loads((place.home / FILES["cursor"]).read_text())["mcpServers"]["bascule"]
        async with started(entry) as client:
            tools = {each["name"] for each in (await client.ask("tools/list"))["result"]["tools"]}
            assert {f"{server}__echo" for server in ("one", "two", "three")} <= tools
            assert text_of(await client.call("two__echo", text="hello")) == "hello"
            assert (await client.call("one__env", name="SECRET"))["structuredContent"]["value"] == CANARY
            await renewed_while_it_runs(place, client, Path(entry["args"][-1]))


async def renewed_while_it_runs(place: Place, client: Client, key: Path) -> None:
    """A key that is revoked and made anew is taken up by the bridge that runs."""
    listed = json.loads((await asyncio.to_thread(place.process, "keys", "list", "--json")).out)
    assert [(each["caller"], each["state"]) for each in listed] == [("cursor", "active")]
    assert (await asyncio.to_thread(place.process, "keys", "revoke", listed[0]["id"])).code == 0
    # A gateway hears of it within seconds.
    answer = await until(partial(client.call, "one__echo", text="x"), lambda found: found.get("isError"))
    assert failure_of(answer)["details"]["http_status"] == 401
    before = await asyncio.to_thread(key.read_text)
    assert (await asyncio.to_thread(place.process, "connect", "cursor", "--write")).code == 0
    assert await asyncio.to_thread(key.read_text) != before
    assert text_of(await client.call("one__echo", text="again")) == "again"


async def test_a_gateway_that_asks_for_no_key_is_called_by_url_or_bridge(place: Place) -> None:
    place.says(FILES["zed"], {"context_servers": {"one": {**said(), "env": {}}}})
    place.yaml.write_text(f"state_dir: {place.state}\n")
    assert place.process("import", "--all", "--yes").code == 0
    async with serving(place.yaml) as bascule:
        at = ("--url", f"{bascule.url}/mcp")
        shown = json.loads((await asyncio.to_thread(place.process, "connect", "claude-desktop", *at)).out)
        async with started(shown["mcpServers"]["bascule"]) as client:
            assert text_of(await client.call("one__echo", text="x")) == "x"
        shown = json.loads((await asyncio.to_thread(place.process, "connect", "claude-code", *at)).out)
        assert shown["mcpServers"]["bascule"] == {"type": "http", "url": f"{bascule.url}/mcp"}
