"""Whoever asks whether the process lives, has started and is ready gets a plain answer, without showing anything."""

import pytest
from foreign import far
from gateway import gateway, hostile, local, remote, until
from governed import credentials


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/health", "live"),
        ("/health/live", "live"),
        ("/health/ready", "ready"),
        ("/ready", "ready"),
        ("/health/startup", "started"),
    ],
)
async def test_a_process_that_is_well_says_so_to_everybody(path: str, says: str) -> None:
    who = credentials("agent")
    callers = who.configured(agent={"scopes": ["*"]})
    async with gateway({}, environ=who.environ, callers=callers) as bascule:
        status, said = await bascule.get(path)
        assert (status, said["status"]) == (200, says)
        assert (await bascule.get("/status"))[0] == 401


async def test_until_a_required_server_is_there_it_starts() -> None:
    async with gateway({"bad": hostile("dies-at-start", required=True)}) as bascule:
        for path, says in (("/health/startup", "starting"), ("/health/ready", "not ready")):
            status, said = await bascule.get(path)
            assert (status, said["status"]) == (503, says)
            assert said["reasons"]
        assert (await bascule.get("/health/live"))[0] == 200


async def test_names_of_servers_are_not_for_everybody_where_callers_say_who_they_are() -> None:
    who = credentials("agent")
    callers = who.configured(agent={"scopes": ["*"]})
    async with gateway(
        {"bad": hostile("dies-at-start", required=True)}, environ=who.environ, callers=callers
    ) as bascule:
        assert await bascule.get("/health/startup") == (503, {"status": "starting"})


async def test_what_has_started_has_started_even_when_a_server_goes_away() -> None:
    async with far(modern=True) as server, gateway({"far": remote(server.url, required=True)}) as bascule:

        async def started() -> int:
            return (await bascule.get("/health/startup"))[0]

        await until(started, lambda status: status == 200)
        assert bascule.gateway
        await bascule.gateway.upstreams["far"].stop()
        assert (await bascule.get("/health/ready"))[0] == 503
        assert await started() == 200


async def test_a_process_that_is_about_to_end_is_not_ready_and_lives() -> None:
    async with gateway({"near": local("telling")}) as bascule:
        assert bascule.gateway
        bascule.gateway.edge.leave()
        assert (await bascule.get("/ready"))[0] == 503
        assert (await bascule.get("/health"))[0] == 200


@pytest.mark.parametrize("path", ["/healthz", "/health/", "/ready/", "/health/other"])
async def test_nothing_else_is_a_probe(path: str) -> None:
    async with gateway({}) as bascule:
        status, _ = await bascule.get(path)
    assert status in (404, 405)
