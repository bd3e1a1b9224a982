"""What several servers say at once through `/mcp`: each thing to whom it belongs, under one roof."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from foreign import Asked, far
from gateway import META, Bascule, Json, gateway, local, remote, text_of

NOTES = "test://notes/1"
FAR = "far://x"


@pytest.fixture
async def two() -> AsyncIterator[Bascule]:
    async with gateway({"a": local("plain"), "b": local("plain")}) as bascule:
        await bascule.up("a", "b")
        yield bascule


async def test_one_subscription_hears_of_resources_of_two_servers() -> None:
    async def offer(asked: Asked) -> None:
        offered = {"supportedVersions": ["2026-07-28"], "capabilities": {"resources": {"subscribe": True}}}
        await asked.answer({"resultType": "complete", "ttlMs": 60_000, "cacheScope": "private", **offered})

    async def listen(asked: Asked) -> None:
        tag = {"_meta": {f"{META}subscriptionId": asked.id}}
        wanted = asked.message["params"]["notifications"]
        assert wanted == {"resourceSubscriptions": [FAR]}
        await asked.stream()
        acknowledged = {"notifications": wanted, **tag}
        for name, params in (("subscriptions/acknowledged", acknowledged), ("resources/updated", {"uri": FAR, **tag})):
            await asked.event({"jsonrpc": "2.0", "method": f"notifications/{name}", "params": params})
        await asked.left()

    async with far(modern=True) as foreign:
        resources: Json = {"resources": [{"uri": FAR, "name": "x"}], "ttlMs": 60_000, "cacheScope": "private"}
        foreign.on["server/discover"] = offer
        foreign.on["subscriptions/listen"] = listen
        foreign.on["resources/list"] = lambda asked: asked.answer({"resultType": "complete", **resources})
        async with gateway({"a": local("modern"), "far": remote(foreign.url)}) as bascule:
            await bascule.up("a", "far")
            client = bascule.modern()
            wanted: Json = {"resourceSubscriptions": [NOTES, FAR, "nobody://x"]}
            async with client.open("subscriptions/listen", {"notifications": wanted}, id="mine") as ear:
                tag = {f"{META}subscriptionId": "mine"}
                acknowledged = (await ear.next_of("notifications/subscriptions/acknowledged"))["params"]
                assert acknowledged == {"_meta": tag, "notifications": {"resourceSubscriptions": [NOTES, FAR]}}
                heard: set[str] = set()
                while heard != {NOTES, FAR}:
                    hearing = asyncio.ensure_future(ear.next_of("notifications/resources/updated"))
                    while not (await asyncio.wait({hearing}, timeout=0.1))[0]:
                        await client.call("a__touch", uri=NOTES)  # until the server has the subscription, too
                    update = (await hearing)["params"]
                    assert update["_meta"] == tag
                    heard.add(update["uri"])
            async with asyncio.timeout(2):
                await foreign.asked("subscriptions/listen")[-1].left()  # it ends with its client


async def test_progress_of_two_servers_at_once_comes_to_its_own_call(two: Bascule) -> None:
    client = await two.session()

    async def heard(server: str, steps: int) -> list[Json]:
        params = {"name": f"{server}__progress", "arguments": {"steps": steps}, "_meta": {"progressToken": "same"}}
        async with client.open("tools/call", params, id=server) as call:
            messages = [await call.next() for _ in range(steps + 1)]
            assert messages[-1]["id"] == server
            return [message["params"] for message in messages[:-1]]

    few, many = await asyncio.gather(heard("a", 3), heard("b", 7))
    assert [told["progress"] for told in few] == [1, 2, 3]
    assert [told["total"] for told in many] == [7] * 7
    assert {told["progressToken"] for told in few + many} == {"same"}


async def test_a_log_level_of_the_whole_holds_for_every_server_known_or_not_yet(two: Bascule) -> None:
    client = await two.session()
    assert text_of(await client.call("a__echo", text="x")) == "x"  # a knows the session, b does not
    assert await client.result("logging/setLevel", {"level": "error"}) == {}
    for server in ("a", "b"):
        for level, expected in (("info", 0), ("error", 1)):
            arguments = {"level": level, "message": f"of {server}"}
            async with client.open("tools/call", {"name": f"{server}__log", "arguments": arguments}) as call:
                messages = [await call.next()]
                while "id" not in messages[-1]:
                    messages.append(await call.next())
            assert [message["params"]["data"] for message in messages[:-1]] == [f"of {server}"] * expected


async def test_a_change_of_one_server_is_announced_once_to_a_client_of_the_whole(two: Bascule) -> None:
    client = await two.session()
    for server in ("a", "b"):
        await client.call(f"{server}__echo", text="x")
    async with client.listen() as ear:
        for number, server in enumerate(("a", "b")):
            await client.call(f"{server}__rename", tool="fail", to=f"failing-{number}")
            await ear.next_of("notifications/tools/list_changed")
        silent = asyncio.ensure_future(ear.raw())
        assert not (await asyncio.wait({silent}, timeout=0.2))[0]
        silent.cancel()
