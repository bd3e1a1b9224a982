"""`subscriptions/listen` of stateless clients on a server with a handshake (MCP 2026-07-28, "Subscriptions")."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from foreign import Asked
from gateway import META, WITHIN_S, Bascule, Exchange, Json, gateway, local, remote, text_of

from bascule.call import Caller
from bascule.errors import InvalidParams
from bascule.policy.scopes import UNLIMITED
from crossing.old import Old, old
from crossing.stateless import Stateless, as_modern, eventually
from processes import running
from processes import server as command_of

LISTS = ("tools", "prompts", "resources")
NOTE = "test://notes/1"


@dataclass
class Scene:
    old: Old
    bascule: Bascule

    def stateless(self, name: str = "ann", **more: Any) -> Stateless:
        assert self.bascule.gateway is not None
        return Stateless(self.bascule.gateway, Caller(name, UNLIMITED), **more)

    @asynccontextmanager
    async def listening(
        self, *uris: str, lists: tuple[str, ...] = (), client: Stateless | None = None, id: Any = "mine"
    ) -> AsyncIterator[Stateless]:
        """A client that listens, after its acknowledgement, which has to honour everything."""
        client = client or self.stateless()
        wanted: Json = {f"{kind}ListChanged": True for kind in lists}
        wanted |= {"resourceSubscriptions": list(uris)} if uris else {}
        work = asyncio.ensure_future(client.send("subscriptions/listen", {"notifications": wanted}, id=id))
        try:
            acknowledged = await client.next_of("notifications/subscriptions/acknowledged")
            assert acknowledged == {"notifications": wanted, "_meta": {f"{META}subscriptionId": id}}
            yield client
        finally:
            work.cancel()
            await asyncio.wait({work})

    async def streams(self, count: int) -> None:
        """Wait until so many sessions have their standing stream at the server."""
        await self.old.until(lambda server: len(server.streams) == count)

    async def update(self, uri: str, session: str | None = None) -> None:
        await self.old.say({"method": "notifications/resources/updated", "params": {"uri": uri, "n": 1.0}}, session)

    async def change(self, kind: str, session: str | None = None) -> None:
        await self.old.say({"method": f"notifications/{kind}/list_changed"}, session)


@pytest.fixture
async def it() -> AsyncIterator[Scene]:
    async with old() as server, gateway({"it": remote(server.url)}) as bascule:
        server.offered["prompts"] = {"listChanged": True}
        await bascule.up("it")
        await server.until(lambda each: len(each.streams) == 1)  # Bascule's own
        yield Scene(server, bascule)


def uris(messages: list[Json]) -> list[str]:
    return [each["uri"] for each in messages]


# ---- the acknowledgement -------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["mine", "1", 1, 0, 2**62])
async def test_the_first_message_says_what_is_honoured_and_all_have_the_clients_own_id(id: Any, it: Scene) -> None:
    client = it.bascule.modern("/servers/it/mcp")
    wanted = {"toolsListChanged": True, "resourceSubscriptions": [NOTE]}
    async with client.open("subscriptions/listen", {"notifications": wanted}, id=id) as exchange:
        first = await exchange.next_of("notifications/subscriptions/acknowledged")
        assert first["params"] == {"notifications": wanted, "_meta": {f"{META}subscriptionId": id}}
        await it.streams(2)
        await it.update(NOTE)
        await it.change("tools")
        heard = [await exchange.next() for _ in range(2)]
    assert {each["method"].split("/", 1)[1] for each in heard} == {"resources/updated", "tools/list_changed"}
    for each in [first, *heard]:
        tag = each["params"]["_meta"][f"{META}subscriptionId"]
        assert (tag, type(tag)) == (id, type(id))
        assert "id" not in each


@pytest.mark.parametrize(
    ("offered", "honoured"),
    [
        ({"tools": {"listChanged": True}, "resources": {"subscribe": True}}, {"toolsListChanged": True, "uris": True}),
        ({"tools": {}, "resources": {"listChanged": True}}, {"resourcesListChanged": True}),
        ({"tools": {"listChanged": False}, "resources": {"subscribe": False}}, {}),
        ({"tools": {"listChanged": "yes"}, "resources": None}, {}),
        ({}, {}),
    ],
)
async def test_only_what_the_server_offers_is_honoured(offered: Json, honoured: Json) -> None:
    async with old() as server, gateway({"it": remote(server.url)}) as bascule:
        server.offered = offered
        assert bascule.gateway is not None
        client = Stateless(bascule.gateway)
        wanted = {**{f"{kind}ListChanged": True for kind in LISTS}, "resourceSubscriptions": [NOTE], "other": True}
        work = asyncio.ensure_future(client.send("subscriptions/listen", {"notifications": wanted}))
        acknowledged = await client.next_of("notifications/subscriptions/acknowledged")
        work.cancel()
    expected: Json = {key: True for key in honoured if key != "uris"}
    assert acknowledged["notifications"] == {
        **expected,
        **({"resourceSubscriptions": [NOTE]} if "uris" in honoured else {}),
    }
    assert len(server.sent("resources/subscribe")) == ("uris" in honoured)


async def test_a_resource_that_the_server_refuses_is_not_honoured_and_the_others_are(it: Scene) -> None:
    async def subscribe(asked: Asked) -> None:
        await (asked.refuse(-32002, "no") if asked.message["params"]["uri"] == "test://no" else asked.answer({}))

    it.old.foreign.on["resources/subscribe"] = subscribe
    client = it.stateless()
    wanted = {"notifications": {"resourceSubscriptions": ["test://a", "test://no", 5, "test://a", "test://b"]}}
    work = asyncio.ensure_future(client.send("subscriptions/listen", wanted))
    acknowledged = await client.next_of("notifications/subscriptions/acknowledged")
    assert acknowledged["notifications"] == {"resourceSubscriptions": ["test://a", "test://b"]}
    assert uris(it.old.sent("resources/subscribe")) == ["test://a", "test://no", "test://b"]
    work.cancel()
    await it.old.until(lambda server: len(server.sent("resources/unsubscribe")) == 2)
    assert sorted(uris(it.old.sent("resources/unsubscribe"))) == ["test://a", "test://b"]


@pytest.mark.parametrize("notifications", [None, 5, [], "x"])
async def test_what_is_no_filter_is_refused(notifications: Any, it: Scene) -> None:
    with pytest.raises(InvalidParams):
        await it.stateless().send("subscriptions/listen", {"notifications": notifications})


@pytest.mark.parametrize(
    "odd", [{"resourceSubscriptions": "test://a"}, {"toolsListChanged": 1}, {"toolsListChanged": None}]
)
async def test_what_a_filter_says_wrongly_is_not_wanted(odd: Json, it: Scene) -> None:
    client = it.stateless()
    work = asyncio.ensure_future(client.send("subscriptions/listen", {"notifications": odd}))
    assert (await client.next_of("notifications/subscriptions/acknowledged"))["notifications"] == {}
    work.cancel()


# ---- counting ------------------------------------------------------------------------------------


async def test_a_resource_is_subscribed_to_once_and_given_back_by_the_last(it: Scene) -> None:
    async with it.listening("test://a", "test://b"):
        async with it.listening("test://b", "test://c"):
            async with it.listening("test://b"):
                assert uris(it.old.sent("resources/subscribe")) == ["test://a", "test://b", "test://c"]
            assert it.old.sent("resources/unsubscribe") == []
        await it.old.until(lambda server: uris(server.sent("resources/unsubscribe")) == ["test://c"])
    await it.old.until(lambda server: len(server.sent("resources/unsubscribe")) == 3)
    assert sorted(uris(it.old.sent("resources/unsubscribe"))) == ["test://a", "test://b", "test://c"]
    async with it.listening("test://a"):
        assert uris(it.old.sent("resources/subscribe"))[3:] == ["test://a"]
    await eventually(lambda: not any(session._holders for session in as_modern(it.bascule).pool._all()))


async def test_each_caller_subscribes_for_itself(it: Scene) -> None:
    async with it.listening("test://a"), it.listening("test://a", client=it.stateless("ben")):
        assert uris(it.old.sent("resources/subscribe")) == ["test://a"] * 2
        sessions = {each.headers["mcp-session-id"] for each in it.old.foreign.asked("resources/subscribe")}
        assert len(sessions) == 2


async def test_many_who_come_and_go_at_once_leave_nothing(it: Scene) -> None:
    async def visit(number: int) -> None:
        async with it.listening("test://a", f"test://{number % 3}"):
            await asyncio.sleep(0)

    await asyncio.gather(*(visit(number) for number in range(30)))
    await eventually(lambda: not any(session._holders for session in as_modern(it.bascule).pool._all()))
    left: dict[str, int] = {}
    for name, step in (("resources/subscribe", 1), ("resources/unsubscribe", -1)):
        for uri in uris(it.old.sent(name)):
            left[uri] = left.get(uri, 0) + step
    assert all(count >= 0 for count in left.values())
    assert not any(session.busy for session in as_modern(it.bascule).pool._all())


async def test_a_client_that_leaves_while_it_subscribes_leaves_nothing(it: Scene) -> None:
    going_on = asyncio.Event()

    async def subscribe(asked: Asked) -> None:
        await it.old.moved()
        if asked.message["params"]["uri"] == "test://slow":
            await going_on.wait()
        await asked.answer({})

    it.old.foreign.on["resources/subscribe"] = subscribe
    wanted = {"notifications": {"resourceSubscriptions": ["test://a", "test://slow"]}}
    work = asyncio.ensure_future(it.stateless().send("subscriptions/listen", wanted))
    await it.old.until(lambda server: len(server.sent("resources/subscribe")) == 2)
    work.cancel()
    await asyncio.wait({work})
    going_on.set()
    async with asyncio.timeout(2):
        await it.old.until(lambda server: "test://a" in uris(server.sent("resources/unsubscribe")))
    await eventually(lambda: not any(session._holders for session in as_modern(it.bascule).pool._all()))


async def test_the_last_to_leave_and_the_next_to_come_do_not_overtake_one_another(it: Scene) -> None:
    holding, arrived = asyncio.Event(), asyncio.Event()

    async def unsubscribe(asked: Asked) -> None:
        arrived.set()
        await holding.wait()
        await asked.answer({})

    it.old.foreign.on["resources/unsubscribe"] = unsubscribe
    async with it.listening("test://a"):
        pass
    await arrived.wait()
    coming = asyncio.ensure_future(_listened(it, "test://a"))
    done, _ = await asyncio.wait({coming}, timeout=0.3)
    assert not done, "it subscribed while the server was still unsubscribing"
    holding.set()
    await coming


async def _listened(it: Scene, uri: str) -> None:
    async with it.listening(uri):
        pass


# ---- news ----------------------------------------------------------------------------------------


async def test_updates_reach_only_who_subscribed_to_them(it: Scene) -> None:
    async with (
        it.listening("test://a", id="one") as one,
        it.listening("test://b", id=2) as two,
        it.listening(lists=("tools",), id="three") as three,
    ):
        await it.streams(2)  # Bascule's own, and one for all of this caller
        for uri in ("test://b", "test://c", "test://a/part"):
            await it.update(uri)
        await it.change("tools")  # after all else
        heard = await one.next_of("notifications/resources/updated")
        assert heard == {"uri": "test://a/part", "n": 1.0, "_meta": {f"{META}subscriptionId": "one"}}
        heard = await two.next_of("notifications/resources/updated")
        assert heard == {"uri": "test://b", "n": 1.0, "_meta": {f"{META}subscriptionId": 2}}
        await three.next_of("notifications/tools/list_changed")
        assert one.heard.empty()
        assert two.heard.empty()
        assert three.heard.empty()


async def test_one_callers_updates_never_reach_another(it: Scene) -> None:
    async with it.listening("test://a", lists=("tools",)) as ann, it.listening(
        "test://a", lists=("tools",), client=it.stateless("ben")
    ) as ben:  # fmt: skip
        await it.streams(3)
        of_ann = it.old.foreign.asked("resources/subscribe")[0].headers["mcp-session-id"]
        await it.update("test://a", of_ann)
        await ann.next_of("notifications/resources/updated")
        await it.change("tools")
        await ben.next_of("notifications/tools/list_changed")


@pytest.mark.parametrize("kind", LISTS)
async def test_a_list_that_changed_is_news_once_whichever_session_hears_of_it(kind: str, it: Scene) -> None:
    async with it.listening(lists=(kind,)) as ann, it.listening(lists=LISTS, client=it.stateless("ben")) as ben:
        await it.streams(3)
        _, *theirs = it.old.streams  # the first is Bascule's own
        for session in [*theirs, None]:  # one after the other, then all at once
            await it.change(kind, session)
            for client in (ann, ben):
                tag = {f"{META}subscriptionId": "mine"}
                assert await client.next_of(f"notifications/{kind}/list_changed") == {"_meta": tag}
        assert ann.heard.empty()
        assert ben.heard.empty()


async def test_a_list_that_changed_during_a_call_is_news_too(it: Scene) -> None:
    async with it.listening("test://a", lists=("tools",)) as ann:
        caller = it.stateless("ben")
        calling = asyncio.ensure_future(caller.call("turn"))
        turn = await it.old.turn()
        await turn.notify("tools/list_changed")
        await ann.next_of("notifications/tools/list_changed")
        await turn.answer("x")
        await calling
        assert caller.heard.empty()


async def test_nobody_hears_what_was_not_asked_for(it: Scene) -> None:
    async with it.listening(lists=("prompts",)) as ann:
        await it.streams(2)
        await it.change("tools")
        await it.old.say({"method": "notifications/message", "params": {"level": "error", "data": "x"}})
        await it.old.say({"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}})
        await it.update("test://a")
        await it.change("prompts")
        await ann.next_of("notifications/prompts/list_changed")


async def test_on_the_aggregate_the_same_is_heard(it: Scene) -> None:
    async def list_resources(asked: Asked) -> None:
        await asked.answer({"resources": [{"uri": "test://a", "name": "a"}]})

    it.old.foreign.on["resources/list"] = list_resources
    await it.change("resources")
    client = it.bascule.modern()
    await eventually(lambda: _listed(it) == "test://a")
    wanted = {"resourceSubscriptions": ["test://a"]}
    async with client.open("subscriptions/listen", {"notifications": wanted}, id="mine") as exchange:
        await exchange.next_of("notifications/subscriptions/acknowledged")
        await it.old.until(lambda server: len(server.sent("resources/subscribe")) == 1)
        session = it.old.foreign.asked("resources/subscribe")[0].headers["mcp-session-id"]
        await it.old.until(lambda server: session in server.streams)
        await it.update("test://a")
        heard = await exchange.next_of("notifications/resources/updated")
        assert heard["params"] == {"uri": "test://a", "n": 1.0, "_meta": {f"{META}subscriptionId": "mine"}}
    await it.old.until(lambda server: len(server.sent("resources/unsubscribe")) == 1)


def _listed(it: Scene) -> str:
    assert it.bascule.gateway is not None
    follower = it.bascule.gateway.registry.listing("it", next(iter(_eras(it))))
    return follower.resources[0].key if follower and follower.resources else ""


def _eras(it: Scene) -> Any:
    assert it.bascule.gateway is not None
    return {era for _, era in it.bascule.gateway.registry._followers}


# ---- real servers, and their restarts ------------------------------------------------------------


@pytest.fixture(params=["stdio", "http"])
async def plain(request: pytest.FixtureRequest) -> AsyncIterator[Bascule]:
    if request.param == "stdio":
        async with gateway({"it": local("plain")}) as bascule:
            await bascule.up("it")
            yield bascule
    else:
        with running(command_of("web", "plain")) as url:
            async with gateway({"it": remote(url)}) as bascule:
                await bascule.up("it")
                yield bascule


@asynccontextmanager
async def hearing(bascule: Bascule, id: Any, **wanted: Any) -> AsyncIterator[Exchange]:
    client = bascule.modern("/servers/it/mcp")
    async with client.open("subscriptions/listen", {"notifications": wanted}, id=id) as exchange:
        acknowledged = await exchange.next_of("notifications/subscriptions/acknowledged")
        assert acknowledged["params"]["notifications"] == wanted
        yield exchange


async def test_real_servers_tell_of_resources_and_lists(plain: Bascule) -> None:
    client = plain.modern("/servers/it/mcp")
    async with (
        hearing(plain, 1, resourceSubscriptions=[NOTE]) as one,
        hearing(plain, "1", resourceSubscriptions=["test://notes/2"], toolsListChanged=True) as other,
    ):
        await client.call("touch", uri=NOTE)
        await client.call("touch", uri="test://notes/2")
        await client.call("touch", uri="test://notes/3")
        heard = await one.next_of("notifications/resources/updated")
        assert heard["params"] == {"uri": NOTE, "_meta": {f"{META}subscriptionId": 1}}
        heard = await other.next_of("notifications/resources/updated")
        assert heard["params"] == {"uri": "test://notes/2", "_meta": {f"{META}subscriptionId": "1"}}
        await client.call("rename", tool="fail", to="failing")
        await other.next_of("notifications/tools/list_changed")
        assert "failing" in [tool["name"] for tool in (await client.result("tools/list"))["tools"]]


async def test_a_client_that_leaves_is_forgotten(plain: Bascule) -> None:
    async with hearing(plain, 1, resourceSubscriptions=[NOTE]):
        assert any(session.busy for session in as_modern(plain).pool._all())
    await eventually(lambda: not any(session.busy for session in as_modern(plain).pool._all()))
    await eventually(lambda: not as_modern(plain).pool._leaving)
    assert not any(session._holders for session in as_modern(plain).pool._all())


async def test_after_the_restart_of_a_process_subscriptions_are_back_and_lists_are_announced() -> None:
    async with gateway({"it": local("plain")}) as bascule:
        await bascule.up("it")
        client = bascule.modern("/servers/it/mcp")
        async with hearing(bascule, 1, resourceSubscriptions=[NOTE], toolsListChanged=True) as ear:
            (pid,) = (await bascule.server("it"))["pids"]
            await client.ask("tools/call", {"name": "crash", "arguments": {"code": 1}})
            await ear.next_of("notifications/tools/list_changed")
            await bascule.until("it", lambda said: said["pids"] and said["pids"] != [pid])
            assert "revision 2" in text_of(await client.call("touch", uri=NOTE))
            await ear.next_of("notifications/resources/updated")


async def test_after_the_restart_of_a_remote_server_subscriptions_are_back_and_lists_are_announced(it: Scene) -> None:
    async with it.listening("test://a", lists=("tools",)) as ann:
        await it.streams(2)
        forgotten = set(it.old.streams)
        known = dict(it.old.foreign.on)

        async def guard(asked: Asked) -> None:
            if asked.headers.get("mcp-session-id") in forgotten:
                await asked.refuse(-32600, "no such session", 404)
            else:
                await (known.get(asked.name) or known.get(asked.method) or it.old.foreign.answer)(asked)

        it.old.foreign.on = {"*": guard}
        for stream in list(it.old.streams.values()):
            stream.reset()
        async with asyncio.timeout(5):
            await ann.next_of("notifications/tools/list_changed")
        await it.old.until(lambda server: uris(server.sent("resources/subscribe")) == ["test://a"] * 2)
        await it.old.until(lambda server: len(set(server.streams) - forgotten) >= 1)
        await it.update("test://a")
        heard = ""
        async with asyncio.timeout(WITHIN_S):
            while heard != "notifications/resources/updated":
                heard, _ = await ann.heard.get()


async def test_a_stream_that_breaks_is_opened_again_and_nothing_is_subscribed_anew(it: Scene) -> None:
    async with it.listening("test://a") as ann:
        await it.streams(2)
        session = it.old.foreign.asked("resources/subscribe")[0].headers["mcp-session-id"]
        broken = it.old.streams[session]
        broken.reset()
        await it.old.until(lambda server: server.streams.get(session) not in (None, broken))
        await it.update("test://a")
        await ann.next_of("notifications/resources/updated")
        assert len(it.old.sent("resources/subscribe")) == 1
