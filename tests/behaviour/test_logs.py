"""What `bascule serve` writes: to standard error one line for each call, and to standard output nothing but its URL."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from foreign import far
from gateway import CALMLY, Bascule, Json, failure_of, remote, serving
from governed import bearer, credentials, wide

TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "correct horse battery staple"


@asynccontextmanager
async def served(folder: Path, servers: Json, env: dict[str, str] | None = None, **more: Any) -> AsyncIterator[Bascule]:
    path = folder / "bascule.json"
    path.write_text(json.dumps({"servers": servers, **CALMLY, **more}))
    async with serving(path, stderr=asyncio.subprocess.PIPE, env=env) as bascule:
        yield bascule


async def lines(bascule: Bascule, event: str, count: int) -> list[Json]:
    """The next *count* lines of standard error that tell of such events; all of them have to be JSON."""
    assert bascule.process
    assert bascule.process.stderr
    found: list[Json] = []
    async with asyncio.timeout(15):
        while len(found) < count:
            said = json.loads(await bascule.process.stderr.readline())
            if said["event"] == event:
                found.append(said)
    return found


async def test_each_call_is_one_line_of_json(tmp_path: Path) -> None:
    contract = {"tool": "far/echo", "version": "1.2.0", "guardrails": [{"deny": "args.text == 'no'"}]}
    logs = {"format": "json", "calls": "all"}
    async with (
        wide(modern=True) as server,
        served(tmp_path, {"far": remote(server.url)}, logs=logs, contracts=[contract]) as bascule,
    ):
        await bascule.up("far")
        params = {"name": "far__echo", "arguments": {"text": SECRET}}
        meta = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        async with bascule.modern().open("tools/call", params, meta=meta) as exchange:
            await exchange.last()
        failure_of(await bascule.modern().call("far__echo", text="no"))
        good, bad = await lines(bascule, "call", 2)
    assert (good["trace_id"], good["tool"], good["version"], good["server"]) == (TRACE, "far/echo", "1.2.0", "far")
    assert (good["category"], good["kind"], good["level"], good["decision"]) == ("ok", "", "info", "allow")
    assert good["took_ms"] > 0
    assert (bad["category"], bad["kind"], bad["code"]) == ("security", "guardrail_denied", 40303)
    assert (bad["level"], bad["decision"], bad["rule"]) == ("warning", "deny", "guardrails.0")
    assert list(good) == list(bad)
    assert SECRET not in json.dumps([good, bad])


async def test_only_what_did_not_go_well_where_that_is_asked_for(tmp_path: Path) -> None:
    answers = {"bad": {"isError": True, "content": []}}
    logs = {"format": "json", "calls": "errors"}
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("good", "bad")]
    async with (
        wide(modern=True, tools=tools, answers=answers) as server,
        served(tmp_path, {"far": remote(server.url)}, logs=logs) as bascule,
    ):
        await bascule.up("far")
        await bascule.modern().call("far__good", text="x")
        await bascule.modern().call("far__bad", text="x")
        (only,) = await lines(bascule, "call", 1)
    assert (only["tool"], only["category"]) == ("far/bad", "failed")


async def test_who_is_turned_away_at_the_door_is_told_without_the_credential(tmp_path: Path) -> None:
    who = credentials("agent")
    logs = {"format": "json", "calls": "errors"}
    callers = who.configured(agent={"scopes": ["far"]})
    async with (
        far(modern=True) as server,
        served(tmp_path, {"far": remote(server.url)}, dict(who.environ), logs=logs, callers=callers) as bascule,
    ):
        wrong = "wrong-" + "x" * 40
        async with bascule.request("GET", "/status", bearer(wrong)) as exchange:
            assert exchange.status == 401
        (away,) = await lines(bascule, "turned_away", 1)
    assert away["kind"] == "unauthenticated"
    assert wrong not in json.dumps(away)


@pytest.mark.skipif(sys.platform == "win32", reason="processes end by signals here")
async def test_standard_output_stays_clean_and_the_last_calls_are_written_at_the_end(tmp_path: Path) -> None:
    logs = {"format": "text", "calls": "all"}
    async with far(modern=True) as server, served(tmp_path, {"far": remote(server.url)}, logs=logs) as bascule:
        await bascule.up("far")
        await bascule.modern().call("far__echo", text="x")
        assert bascule.process
        bascule.process.terminate()
        out, err = await asyncio.wait_for(bascule.process.communicate(), 20)
    assert out == b""
    (line,) = [each for each in err.decode().splitlines() if " call " in each]
    assert "method=tools/call tool=far/echo" in line
    assert "category=ok" in line


async def test_a_change_of_the_file_changes_what_is_written(tmp_path: Path) -> None:
    async with far(modern=True) as server:
        servers = {"far": remote(server.url)}
        async with served(tmp_path, servers) as bascule:
            await bascule.up("far")
            logs = {"format": "json", "calls": "all"}
            path = tmp_path / "bascule.json"
            path.write_text(json.dumps({"servers": servers, **CALMLY, "logs": logs}))
            assert bascule.process
            assert bascule.process.stderr
            async with asyncio.timeout(15):
                while not (line := await bascule.process.stderr.readline()).startswith(b"{"):
                    assert line
            await bascule.modern().call("far__echo", text="x")
            (said,) = await lines(bascule, "call", 1)
    assert said["tool"] == "far/echo"
