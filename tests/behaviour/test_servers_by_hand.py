"""Servers that an operator restarts, switches off and on: by REST and by the command line."""

import asyncio
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from gateway import Bascule, Headers, Json, failure_of, gateway, local, text_of, until
from governed import credentials

SERVERS: Json = {"a": local("plain"), "b": local("plain")}


async def asked(
    bascule: Bascule, path: str, body: Json | None = None, shown: Headers | None = None
) -> tuple[int, Json]:
    head = {"content-type": "application/json", "accept": "application/json", **(shown or {})}
    async with bascule.request("POST", path, head, json.dumps(body or {}).encode()) as exchange:
        return exchange.response.status, await exchange.response.json()


async def _runs(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")  # noqa: ASYNC240 - no disk is asked


async def tools(bascule: Bascule) -> set[str]:
    return {each["name"].partition("__")[0] for each in (await bascule.modern().result("tools/list"))["tools"]}


async def test_a_server_that_is_switched_off_runs_no_more_and_one_that_is_switched_on_does() -> None:
    async with gateway(SERVERS) as bascule:
        await bascule.up("a", "b")
        (pid,) = (await bascule.server("a"))["pids"]
        status, found = await asked(bascule, "/api/servers/a/disable", {"note": "maintenance"})
        assert (status, found["state"], found["off"]["note"]) == (200, "off", "maintenance")
        assert await tools(bascule) == {"b"}
        for client in (bascule.modern(), await bascule.session()):
            failure = failure_of(await client.call("a__echo", text="x"))
            assert (failure["kind"], failure["retryable"]) == ("unavailable", True)
            assert "maintenance" in failure["message"], "it is not gone for good"
        await bascule.until("a", lambda said: said["pids"] == [] and "maintenance" in said["last_error"])
        await until(partial(_runs, pid), lambda runs: not runs)
        assert (await bascule.get("/health/ready"))[0] == 200, "somebody wants it so"
        status, found = await asked(bascule, "/api/servers/a/enable")
        assert (status, found["off"]) == (200, None)
        await bascule.up("a")
        assert await tools(bascule) == {"a", "b"}


async def test_a_restart_of_a_server_is_a_new_process_and_drops_no_call() -> None:
    async with gateway(SERVERS) as bascule:
        await bascule.up("a", "b")
        before, other = (await bascule.server("a"))["pids"], (await bascule.server("b"))["pids"]
        running = asyncio.ensure_future(bascule.modern("/servers/a/mcp").call("sleep", seconds=1))
        await bascule.until("a", lambda said: said["in_flight"] == 1)
        assert (await asked(bascule, "/api/servers/a/restart"))[0] == 200
        await bascule.until("a", lambda said: said["pids"] not in ([], before))
        assert text_of(await running)
        assert (await bascule.server("b"))["pids"] == other


@pytest.mark.parametrize("verb", ["restart", "disable", "enable"])
async def test_only_who_has_the_scope_may(verb: str) -> None:
    known = credentials("agent", "boss")
    callers = known.configured(agent={"scopes": ["a", "bascule.status:read"]}, boss={"scopes": ["bascule.servers"]})
    async with gateway(SERVERS, callers=callers, environ=known.environ) as bascule:
        assert (await asked(bascule, f"/api/servers/a/{verb}", shown=known.of("agent")))[0] == 403
        assert (await asked(bascule, f"/api/servers/a/{verb}"))[0] == 401
        assert (await asked(bascule, f"/api/servers/a/{verb}", shown=known.of("boss")))[0] == 200
        assert (await asked(bascule, f"/api/servers/nobody/{verb}", shown=known.of("boss")))[0] == 404


async def test_what_is_switched_off_stays_off_over_a_restart_of_bascule(tmp_path: Path) -> None:
    state: Any = {"state_dir": str(tmp_path / "state")}
    async with gateway(SERVERS, **state) as bascule:
        await asked(bascule, "/api/servers/a/disable")
    async with gateway(SERVERS, **state) as bascule:
        await bascule.up("b")
        assert (await bascule.server("a"))["state"] == "off"
        async with gateway(SERVERS, **state) as other:
            await asked(other, "/api/servers/a/enable")
            await bascule.up("a")  # another process, by the state folder


async def test_each_of_it_is_on_record() -> None:
    known = credentials("boss")
    callers = known.configured(boss={"scopes": ["bascule.servers", "bascule.audit"]})
    async with gateway(SERVERS, callers=callers, environ=known.environ) as bascule:
        await asked(bascule, "/api/servers/a/disable", {"note": "why not"}, shown=known.of("boss"))
        assert bascule.gateway is not None
        records = bascule.gateway.records
        assert records is not None
        await records.writer.write(lambda _: None, durable=False)
        (entry,) = records.writer.read("SELECT entry FROM audit WHERE kind = 'action'")
        said = json.loads(entry[0])
        assert (said["method"], said["thing"], said["caller"]) == ("servers.disable", "a", "boss")
        assert (said["outcome"], said["note"]) == ("done", "why not")
