"""Versions of one tool side by side, through the whole gateway: which server answers, and what a client is told."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from gateway import Bascule, Json, Legacy, Modern, failure_of, gateway, remote
from governed import Known, Wide, credentials, tool, wide

from bascule import config as configuration
from bascule.errors import ConfigInvalid
from bascule.wire.versions import Era

CALL = "dev.bascule/call"
CONTRACT = "dev.bascule/contract"
ONE: Json = {"tool": "crm/work", "version": "1.0.0"}
TWO: Json = {"tool": "crm/work", "version": "2.0.0", "served_by": "crm2/work_anew"}


@asynccontextmanager
async def two(*contracts: Json, **members: Any) -> AsyncIterator[tuple[Bascule, Wide, Wide]]:
    """Two servers: `crm` with the tool `work`, and `crm2` with `work_anew`."""
    anew = tool("work_anew", result={"type": "object"})
    anew["description"] = "Does it better."
    async with (
        wide(modern=True, tools=[tool("work")]) as first,
        wide(modern=True, tools=[anew]) as second,
        gateway({"crm": remote(first.url), "crm2": remote(second.url)}, contracts=list(contracts), **members) as b,
    ):
        second.answers["work_anew"] = {"content": [], "structuredContent": {}}
        assert b.gateway is not None
        for server in ("crm", "crm2"):
            await b.gateway.registry.settled(server, Era.MODERN)
        yield b, first, second


async def asked(client: Modern | Legacy, name: str, wanted: str = "") -> Json:
    """The answer message to a call of *name*, with a version in `_meta` if one is *wanted*."""
    params: Json = {"name": name, "arguments": {"text": "x"}}
    meta = {"dev.bascule/version": wanted} if wanted else {}
    if isinstance(client, Legacy):
        return await client.ask("tools/call", {**params, "_meta": meta})
    async with client.open("tools/call", params, meta=meta) as exchange:
        return await exchange.last()


async def called(bascule: Bascule, name: str, *, wanted: str = "", legacy: bool = False) -> Json:
    found: Json = (await asked(await bascule.session() if legacy else bascule.modern(), name, wanted))["result"]
    return found


@pytest.mark.parametrize("legacy", [False, True])
async def test_each_version_is_answered_by_its_own_server(legacy: bool) -> None:
    async with two(ONE, TWO) as (bascule, first, second):
        for name, wanted, version in (
            ("crm/work", "", "2.0.0"),
            ("crm__work", "", "2.0.0"),
            ("crm/work@1", "", "1.0.0"),
            ("crm__work@2", "", "2.0.0"),
            ("crm/work@1.0.0", "", "1.0.0"),
            ("crm/work", "1", "1.0.0"),
            ("crm/work", ">=1 <2", "1.0.0"),
            ("crm/work@2", "2", "2.0.0"),
        ):
            first.seen.clear()
            second.seen.clear()
            result = await called(bascule, name, wanted=wanted, legacy=legacy)
            assert result["_meta"][CALL]["version"] == version, name
            assert len(first.calls("work")) == (version == "1.0.0")
            assert len(second.calls("work_anew")) == (version == "2.0.0")


@pytest.mark.parametrize("legacy", [False, True])
async def test_a_server_s_own_endpoint_knows_versions_too(legacy: bool) -> None:
    other = {"tool": "crm/work", "version": "1.1.0", "owner_team": "sales"}
    async with two(ONE, other) as (bascule, first, _):
        path = "/servers/crm/mcp"
        client = await bascule.session(path) if legacy else bascule.modern(path)
        for name, version in (("work@1.0", "1.0.0"), ("work@1", "1.1.0"), ("work", "1.1.0")):
            assert (await asked(client, name))["result"]["_meta"][CALL]["version"] == version
        assert failure_of((await asked(client, "work@9"))["result"])["kind"] == "version_not_found"
        assert len(first.calls("work")) == len(first.asked("tools/call")) == 3, "under the name that it has there"


async def test_the_list_shows_the_version_that_goes_without_being_named() -> None:
    async with two(ONE, TWO) as (bascule, _, __):
        for client in (bascule.modern(), await bascule.session()):
            listed = {each["name"]: each for each in (await client.result("tools/list"))["tools"]}
            assert listed["crm__work"]["description"] == "Does it better."
            assert listed["crm__work"]["_meta"][CONTRACT]["version"] == "2.0.0"
            assert listed["crm__work"]["_meta"][CONTRACT]["versions"] == ["1.0.0", "2.0.0"]


@pytest.mark.parametrize("wanted", ["3", "1.1", "soon"])
async def test_an_unknown_version_is_an_error_and_nothing_is_called(wanted: str) -> None:
    async with two(ONE, TWO) as (bascule, first, second):
        for name, said in ((f"crm/work@{wanted}", ""), ("crm/work", wanted)):
            failure = failure_of(await called(bascule, name, wanted=said))
            assert (failure["code"], failure["kind"]) == (40002, "version_not_found")
            assert failure["details"]["versions"] == ["1.0.0", "2.0.0"]
        assert first.calls("work") == second.calls("work_anew") == []


async def test_a_tool_with_one_version_has_no_other_and_one_without_any_has_none() -> None:
    async with two(ONE) as (bascule, first, _):
        assert (await called(bascule, "crm/work@1"))["_meta"][CALL]["version"] == "1.0.0"
        assert failure_of(await called(bascule, "crm/work@2"))["kind"] == "version_not_found"
        assert failure_of(await called(bascule, "crm2/work_anew@1"))["kind"] == "version_not_found"
        assert len(first.calls("work")) == 1


async def test_a_name_with_an_at_sign_of_its_own_is_a_name() -> None:
    async with (
        wide(modern=True, tools=[tool("mail@home")]) as server,
        gateway({"it": remote(server.url)}) as bascule,
    ):
        await bascule.modern().result("tools/list")
        await called(bascule, "it/mail@home")
        assert len(server.calls("mail@home")) == 1


async def test_two_versions_in_one_request_are_refused() -> None:
    async with two(ONE, TWO) as (bascule, first, second):
        assert (await asked(bascule.modern(), "crm/work@1", "2"))["error"]["code"] == -32602
        assert first.calls("work") == second.calls("work_anew") == []


async def test_a_version_that_is_gone_says_what_replaces_it() -> None:
    gone = {**ONE, "status": "gone", "deprecation": {"replaced_by": "crm/work@2", "migration": "`source` is required"}}
    async with two(gone, TWO) as (bascule, first, _):
        failure = failure_of(await called(bascule, "crm/work@1"))
        assert (failure["code"], failure["kind"]) == (41001, "gone")
        assert "crm/work@2" in failure["message"]
        assert first.calls("work") == []


async def test_a_deprecated_version_warns_in_every_result_until_its_sunset_and_is_gone_then() -> None:
    today = datetime.now(UTC).date()
    for days, warns in ((1, True), (0, False)):
        sunset = (today + timedelta(days=days)).isoformat()
        old = {**ONE, "status": "deprecated", "deprecation": {"sunset": sunset, "replaced_by": "crm/work@2"}}
        async with two(old, TWO) as (bascule, _, __):
            result = await called(bascule, "crm/work@1")
            if warns:
                assert any(sunset in said and "crm/work@2" in said for said in result["_meta"][CALL]["warnings"])
            else:
                assert failure_of(result)["kind"] == "gone"


async def test_a_version_whose_server_is_down_is_unavailable_and_the_other_one_is_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}/mcp"
        async with (
            wide(modern=True, tools=[tool("work")]) as first,
            gateway({"crm": remote(first.url), "crm2": remote(nobody)}, contracts=[ONE, TWO], patience_s=0.2) as b,
        ):
            await b.up("crm")
            failure = failure_of(await called(b, "crm/work"))
            assert (failure["kind"], failure["retryable"], failure["source"]) == ("unavailable", True, "crm2")
            assert (await called(b, "crm/work@1"))["_meta"][CALL]["version"] == "1.0.0"
            assert len(first.calls("work")) == 1


def test_a_version_that_no_server_could_answer_for_is_refused_with_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "bascule.json"
    path.write_text(json.dumps({"servers": {"crm": {"url": "http://127.0.0.1:9/mcp"}}, "contracts": [ONE, TWO]}))
    with pytest.raises(ConfigInvalid, match="there is no server 'crm2'"):
        configuration.load(path, {})


async def test_who_may_not_see_a_tool_learns_nothing_of_its_versions_and_who_may_see_one_can_call_it() -> None:
    known = credentials("ann", "bea")
    callers = known.configured(ann={"scopes": ["crm2"]}, bea={"scopes": ["old:write"]})
    one, new = {**ONE, "security_scope": "old:write"}, {**TWO, "security_scope": "new:write"}
    async with two(one, new, callers=callers, environ=known.environ) as (bascule, first, second):
        for name in ("crm/work@9", "crm/work@1", "crm/work"):
            unseen = await asked(Known(bascule, shown=known.of("ann")), name)
            assert unseen["error"]["code"] == -32602
            assert unseen["error"]["message"] == f"no tool {name!r}"
        allowed = await asked(Known(bascule, shown=known.of("bea")), "crm/work@1")
        assert allowed["result"]["_meta"][CALL]["version"] == "1.0.0"
        assert (len(first.calls("work")), len(second.calls("work_anew"))) == (1, 0)
