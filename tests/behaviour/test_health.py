"""What Bascule says of itself is the truth."""

from pathlib import Path

import pytest
from gateway import gateway, hostile, local, remote, text_of


async def test_it_is_live_whatever_its_servers_do() -> None:
    async with gateway({"bad": hostile("dies-at-start", required=True)}) as bascule:
        status, said = await bascule.get("/health/live")
        assert (status, said["status"]) == (200, "live")
        assert said["version"]


async def test_without_servers_it_is_ready() -> None:
    async with gateway({}) as bascule:
        assert await bascule.get("/health/ready") == (200, {"status": "ready"})
        assert (await (await bascule.session()).result("tools/list")) == {"tools": []}


async def test_it_is_not_ready_while_a_required_server_is_down_and_says_which_and_why(tmp_path: Path) -> None:
    flag = tmp_path / "up"
    async with gateway({"it": local("once", "--while", str(flag), required=True), "good": local("plain")}) as bascule:
        await bascule.until("it", lambda said: said["last_error"])
        status, said = await bascule.get("/health/ready")
        assert status == 503
        assert len(said["reasons"]) == 1
        assert said["reasons"][0].startswith("it: ")
        assert (await bascule.status())["status"] == "not ready"
        flag.touch()
        await bascule.until("it", lambda said: said["lists"] == "fresh", within_s=30)
        assert await bascule.get("/health/ready") == (200, {"status": "ready"})


async def test_it_is_not_ready_again_when_a_required_server_goes_down_later(tmp_path: Path) -> None:
    flag = tmp_path / "up"
    flag.touch()
    async with gateway({"it": local("once", "--while", str(flag), required=True)}) as bascule:
        await bascule.up("it")
        assert (await bascule.get("/health/ready"))[0] == 200
        flag.unlink()
        client = await bascule.session("/servers/it/mcp")
        await client.call("crash", code=1)
        await bascule.until("it", lambda said: said["state"] == "down")
        status, said = await bascule.get("/health/ready")
        assert status == 503
        assert "exited with code 1" in said["reasons"][0]


async def test_a_server_that_is_not_required_does_not_make_it_unready() -> None:
    async with gateway({"bad": hostile("dies-at-start"), "good": local("plain", required=True)}) as bascule:
        await bascule.up("good")
        assert (await bascule.get("/health/ready"))[0] == 200


async def test_an_http_server_that_is_gone_is_down_and_named() -> None:
    async with gateway({"a": local("plain")}) as inner:
        await inner.up("a")
        async with gateway({"far": remote(f"{inner.url}/servers/a/mcp", required=True)}) as bascule:
            await bascule.up("far")
            assert (await bascule.get("/health/ready"))[0] == 200
    async with gateway({"far": remote(f"{inner.url}/servers/a/mcp", required=True)}) as bascule:
        said = await bascule.until("far", lambda said: said["state"] == "down")
        assert said["last_error"]
        status, said = await bascule.get("/health/ready")
        assert status == 503
        assert said["reasons"][0].startswith("far: ")


@pytest.mark.parametrize("path", ["/status", "/mcp-status"])
async def test_status_tells_the_truth_per_server(path: str) -> None:
    servers = {"old": local("plain"), "new": local("modern"), "lazy": local("plain", start="lazy")}
    async with gateway(servers) as bascule:
        await bascule.up("old", "new")
        client = await bascule.session("/servers/old/mcp")
        pid = (await client.call("pid"))["structuredContent"]["pid"]
        async with client.open("tools/call", {"name": "sleep", "arguments": {"seconds": 0.5}}) as call:
            await bascule.until("old", lambda said: said["in_flight"] == 1)
            await call.last()
        status, said = await bascule.get(path)
        assert status == 200
        assert said["status"] == "ready"
        assert said["sessions"] == 1
        assert said["config"]["error"] is None
        old, new, lazy = (said["servers"][name] for name in servers)
        assert (old["kind"], old["state"], old["pids"], old["restarts"], old["in_flight"]) == (
            "stdio",
            "ready",
            [pid],
            0,
            0,
        )
        assert old["eras"] == ["legacy"]
        assert old["server"] == {"name": "plain", "version": "1.0.0"}
        assert "echo" in old["tools"]
        assert (old["prompts"], old["resources"], old["lists"], old["last_error"]) == (1, 4, "fresh", None)
        assert new["eras"] == ["modern"]
        assert (lazy["state"], lazy["pids"], lazy["lists"]) == ("idle", [], "unknown")
        assert said["calls"]["by_method"]["tools/call"] == 2


async def test_outcomes_count_refusals_and_failures() -> None:
    async with gateway({"bad": hostile("dies"), "old": local("plain")}) as bascule:
        client = await bascule.session("/servers/bad/mcp")
        await client.call("echo", text="x")
        other = await bascule.session("/mcp")
        await other.ask("tools/call", {"name": "nothing"})
        outcomes = (await bascule.status())["calls"]["by_outcome"]
        assert outcomes["upstream_protocol"] == 1
        assert outcomes["tool_not_found"] == 1


async def test_no_secret_of_the_configuration_is_in_the_status() -> None:
    servers = {
        "old": local("plain", env={"SECRET": "do-not-show-me"}),
        "far": remote("http://127.0.0.1:9/mcp", headers={"x": "do-not-show-me"}),
    }
    async with gateway(servers) as bascule:
        await bascule.up("old")
        await bascule.until("far", lambda said: said["last_error"])
        async with bascule.request("GET", "/status") as exchange:
            assert b"do-not-show-me" not in await exchange.body()


async def test_a_server_does_not_see_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASCULE_TEST_SECRET", "do-not-show-me")
    async with gateway({"old": local("plain", env={"MINE": "yes"})}) as bascule:
        client = await bascule.session("/servers/old/mcp")
        assert (await client.call("env", name="BASCULE_TEST_SECRET"))["structuredContent"] == {"value": None}
        assert (await client.call("env", name="MINE"))["structuredContent"] == {"value": "yes"}
        assert text_of(await client.call("echo", text="x")) == "x"


@pytest.mark.parametrize("server", ["plain", "modern"])
async def test_a_call_that_waits_for_a_person_is_answered_before_the_process_ends(server: str) -> None:
    async with gateway({"it": local(server)}) as bascule:
        await bascule.up("it")
        client = await bascule.session("/servers/it/mcp", capabilities={"elicitation": {}})
        async with client.open("tools/call", {"name": "ask", "arguments": {"question": "still there?"}}) as call:
            await call.next_of("elicitation/create")
            assert bascule.gateway is not None
            bascule.gateway.edge.drain()
            bascule.gateway.edge.flights.strike()  # as the end of the process does after a while
            result = (await call.last())["result"]
        assert result["isError"]
