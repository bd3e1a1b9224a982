"""What things are called when several servers share one endpoint, and that every name leads where it should."""

from collections.abc import AsyncIterator

import pytest
from gateway import Bascule, gateway, local, text_of

LONG = "t" * 70


@pytest.fixture
async def two() -> AsyncIterator[Bascule]:
    """Two plain servers; one tool has an alias."""
    aliases = {"a/add": "sum-up"}
    async with gateway({"a": local("plain"), "b": local("plain")}, aliases=aliases) as bascule:
        await bascule.up("a", "b")
        yield bascule


async def test_tools_of_two_servers_are_listed_under_their_namespaces(two: Bascule) -> None:
    client = await two.session()
    names = [tool["name"] for tool in (await client.result("tools/list"))["tools"]]
    assert len(names) == len(set(names))
    assert {"a__echo", "b__echo", "sum-up", "b__add"} <= set(names)
    assert "a__add" not in names


async def test_a_name_leads_to_its_own_server(two: Bascule) -> None:
    client = await two.session()
    pids = {name: (await client.call(f"{name}__pid"))["structuredContent"]["pid"] for name in ("a", "b")}
    for name, pid in pids.items():
        assert (await two.server(name))["pids"] == [pid]


async def test_the_logical_id_is_accepted_on_calls(two: Bascule) -> None:
    client = await two.session()
    assert text_of(await client.call("b/echo", text="x")) == "x"
    assert (await client.call("a/pid"))["structuredContent"]["pid"] in (await two.server("a"))["pids"]


async def test_an_alias_and_the_logical_id_work_and_the_made_up_name_does_not(two: Bascule) -> None:
    client = await two.session()
    for name in ("sum-up", "a/add"):
        assert (await client.call(name, a=1, b=2))["structuredContent"] == {"sum": 3}
    answer = await client.ask("tools/call", {"name": "a__add", "arguments": {"a": 1, "b": 2}})
    assert answer["error"]["code"] == -32602


@pytest.mark.parametrize(
    "name", ["echo", "a__nothing", "c__echo", "", "a__", "A__echo", "a/", "a__echo\u0000", "\u0430__echo"]
)
async def test_an_unknown_tool_is_invalid_params_and_reaches_no_server(name: str, two: Bascule) -> None:
    answer = await (await two.session()).ask("tools/call", {"name": name, "arguments": {"text": "x"}})
    assert answer["error"]["code"] == -32602
    assert answer["error"]["data"]["kind"] == "tool_not_found"


@pytest.mark.parametrize("params", [{}, {"name": None}, {"name": 1}, {"name": ["a__echo"]}])
async def test_a_call_without_a_name_is_invalid_params(params: dict[str, object], two: Bascule) -> None:
    assert (await (await two.session()).ask("tools/call", params))["error"]["code"] == -32602


async def test_prompts_are_prefixed_and_un_prefixed_on_the_way(two: Bascule) -> None:
    client = await two.session()
    assert [p["name"] for p in (await client.result("prompts/list"))["prompts"]] == ["a__greet", "b__greet"]
    for name in ("a__greet", "b/greet"):
        said = await client.result("prompts/get", {"name": name, "arguments": {"name": "Bo"}})
        assert said["messages"][0]["content"]["text"] == "Greet Bo in a formal way."
    assert (await client.ask("prompts/get", {"name": "greet"}))["error"]["code"] == -32602


async def test_completion_references_are_un_prefixed(two: Bascule) -> None:
    client = await two.session()
    for ref, argument, expected in (
        ({"type": "ref/prompt", "name": "b__greet"}, {"name": "style", "value": "f"}, ["formal", "friendly", "french"]),
        ({"type": "ref/resource", "uri": "test://notes/{number}"}, {"name": "number", "value": ""}, ["1", "2", "3"]),
    ):
        found = await client.result("completion/complete", {"ref": ref, "argument": argument})
        assert found["completion"]["values"] == expected


async def test_resources_are_read_where_they_are_listed_and_by_template() -> None:
    async with gateway({"a": local("modern"), "b": local("plain")}) as bascule:
        await bascule.up("a", "b")
        client = await bascule.session()
        for uri in ("test://notes/2", "test://pixel"):
            (content,) = (await client.result("resources/read", {"uri": uri}))["contents"]
            assert content["uri"] == uri
        assert (await client.result("resources/templates/list"))["resourceTemplates"][0]["name"] == "note"
        answer = await client.ask(
            "resources/read", {"uri": "test://notes/99"}
        )  # the template matches, the note is missing
        assert answer["error"]["code"] in (-32002, -32602)
        assert answer["error"]["data"]["uri"] == "test://notes/99"


async def test_a_resource_that_nobody_has_is_an_error_with_its_uri(two: Bascule) -> None:
    answer = await (await two.session()).ask("resources/read", {"uri": "nobody://x"})
    assert answer["error"]["code"] in (-32002, -32602)
    assert "nobody://x" in str(answer["error"])


async def test_a_resource_listed_twice_is_shown_once_and_reported(two: Bascule) -> None:
    uris = [r["uri"] for r in (await (await two.session()).result("resources/list"))["resources"]]
    assert len(uris) == len(set(uris)) == 4
    shadowed = (await two.status())["names"]["shadowed"]
    assert len(shadowed) == 4
    assert any("test://pixel" in each and "'b'" in each and "'a'" in each for each in shadowed)


async def test_names_that_clash_are_reported_and_only_one_is_listed() -> None:
    aliases = {"a/echo": "b__add"}
    async with gateway({"a": local("plain"), "b": local("plain")}, aliases=aliases) as bascule:
        await bascule.up("a", "b")
        client = await bascule.session()
        names = [tool["name"] for tool in (await client.result("tools/list"))["tools"]]
        assert names.count("b__add") == 1
        assert text_of(await client.call("b__add", text="the alias wins")) == "the alias wins"
        (clash,) = (await bascule.status())["names"]["withheld"]
        assert "b/add" in clash
        assert "a/echo" in clash


async def test_clashing_characters_are_reported_too() -> None:
    async with gateway({"a": local("plain")}) as bascule:
        await bascule.up("a")
        client = await bascule.session()
        await client.call("a__rename", tool="echo", to="x.y")
        await client.call("a__rename", tool="add", to="x/y")
        await bascule.until("a", lambda said: "x/y" in (said["tools"] or ()))
        names = [tool["name"] for tool in (await client.result("tools/list"))["tools"]]
        assert names.count("a__x_y") == 1
        assert len((await bascule.status())["names"]["withheld"]) == 1


async def test_a_name_that_is_too_long_is_cut_to_64_characters_and_stays_itself(two: Bascule) -> None:
    client = await two.session()
    await client.call("a__rename", tool="echo", to=f"{LONG}1")
    await client.call("a__rename", tool="sleep", to=f"{LONG}2")
    await two.until("a", lambda said: f"{LONG}2" in said["tools"])
    names = [tool["name"] for tool in (await client.result("tools/list"))["tools"]]
    first, second = [name for name in names if name.startswith("a__ttt")]
    assert first != second
    assert max(map(len, names)) == 64
    assert text_of(await client.call(first, text="x")) == "x"
    assert text_of(await client.call(second, seconds=0)) == "slept 0 s"
    assert text_of(await client.call(f"a/{LONG}1", text="x")) == "x"


async def test_one_server_alone_has_its_own_names(two: Bascule) -> None:
    client = await two.session("/servers/a/mcp")
    names = {tool["name"] for tool in (await client.result("tools/list"))["tools"]}
    assert {"echo", "add"} <= names
    assert text_of(await client.call("echo", text="x")) == "x"


async def test_a_sole_server_has_its_own_names_on_mcp() -> None:
    async with gateway({"it": local("plain")}, sole="it") as bascule:
        client = await bascule.session()
        assert text_of(await client.call("echo", text="x")) == "x"


async def test_modern_names_are_un_prefixed_with_headers_made_anew() -> None:
    async with (
        gateway({"a": local("modern")}) as inner,
        gateway({"far": {"url": f"{inner.url}/servers/a/mcp"}}) as bascule,
    ):
        await inner.up("a")
        await bascule.up("far")
        client = bascule.modern()
        assert text_of(await client.call("far__echo", text="x")) == "x"
        said = await client.result("prompts/get", {"name": "far__greet", "arguments": {"name": "Bo"}})
        assert said["messages"]
        assert (await client.result("resources/read", {"uri": "test://notes/1"}))["contents"]
