"""Who calls, over the wire: each kind of credential, on each endpoint, and what a client is told when it will not do.

Source: security.md A1-A4, A8, A10; RFC 6750; RFC 9728; MCP 2026-07-28, Authorization.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from authority import MACHINE, Authority
from gateway import KINDLY, Bascule, Json, alive, gateway, local, remote, serving, until
from governed import Known, Wide, bearer, credentials, names, secret, session, tool, wide

from bascule.store.keys import KeyStore
from processes import ROOT

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
PATHS: Final = ("/mcp", "/servers/it/mcp")
HELLO: Final[Json] = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


@asynccontextmanager
async def guarded(**members: Any) -> AsyncIterator[tuple[Bascule, Wide]]:
    """A Bascule before one server, `it`, with the tools `read` and `write`."""
    async with (
        wide(modern=True, tools=[tool("read"), tool("write")]) as upstream,
        gateway({"it": remote(upstream.url)}, **members) as bascule,
    ):
        yield bascule, upstream


async def tried(bascule: Bascule, shown: Mapping[str, str], path: str = "/mcp") -> tuple[int, dict[str, str], Json]:
    """(status, headers, message) of a list that is asked for with these headers."""
    async with Known(bascule, path, shown).open("tools/list") as exchange:
        return exchange.status, {k.lower(): v for k, v in exchange.headers.items()}, await exchange.last()


async def status(bascule: Bascule, shown: Mapping[str, str], path: str = "/mcp") -> int:
    return (await tried(bascule, shown, path))[0]


# ---- keys


async def test_keys_of_the_configuration_are_their_callers_credentials() -> None:
    known = credentials("agent", "desk")
    options = {"agent": {"scopes": ["it:write:read"]}, "desk": {"scopes": ["*"]}}
    async with guarded(callers=known.configured(**options), environ=known.environ) as (bascule, _):
        for path, prefix in (("/mcp", "it__"), ("/servers/it/mcp", "")):
            for name, tools in (("agent", ["read"]), ("desk", ["read", "write"])):
                for client in (Known(bascule, path, known.of(name)), await session(bascule, path, known.of(name))):
                    listed = names(await client.result("tools/list"), "tools")
                    assert listed == [prefix + each for each in tools]


async def test_without_callers_everybody_of_this_machine_may_do_everything() -> None:
    async with guarded() as (bascule, _):
        assert await status(bascule, {}) == 200
        assert await status(bascule, bearer("whatever")) == 200


async def test_who_says_nothing_is_nobody_as_soon_as_there_are_callers() -> None:
    known = credentials("agent")
    options = {"agent": {"scopes": ["*"]}}
    async with guarded(callers=known.configured(**options), environ=known.environ) as (bascule, upstream):
        for path in (*PATHS, "/status"):
            code, headers, message = await tried(bascule, {}, path)
            assert (code, headers["www-authenticate"]) == (401, 'Bearer realm="bascule"')
            assert message["error"]["data"]["code"] == 40101
        async with bascule.request("GET", "/sse", {"accept": "text/event-stream"}) as exchange:
            assert exchange.status == 401
        assert (await bascule.get("/health/live"))[0] == 200
    assert upstream.asked("tools/call") == []


async def test_a_grant_for_those_without_a_credential_is_all_that_they_may_do() -> None:
    known = credentials("agent")
    options = {"agent": {"scopes": ["*"]}}
    async with guarded(
        callers=known.configured(**options), environ=known.environ, auth={"anonymous": {"scopes": ["it:write:read"]}}
    ) as (bascule, _):
        assert names(await Known(bascule).result("tools/list"), "tools") == ["it__read"]
        assert len(names(await Known(bascule, shown=known.of("agent")).result("tools/list"), "tools")) == 2
        assert await status(bascule, bearer(secret())) == 401  # a wrong credential is not none
        assert await status(bascule, {}, "/status") == 403


async def test_the_one_token_for_everything_works_beside_callers() -> None:
    known = credentials("agent", "bearer")
    options = {"agent": {"scopes": ["it:write:read"]}}
    callers = {"agent": known.configured(**options)["agent"]}
    async with guarded(callers=callers, environ=known.environ, http={"bearer": "${env:BEARER}"}) as (bascule, _):
        assert len(names(await Known(bascule, shown=known.of("bearer")).result("tools/list"), "tools")) == 2
        assert names(await Known(bascule, shown=known.of("agent")).result("tools/list"), "tools") == ["it__read"]
        assert (await bascule.get("/status", known.of("bearer")))[0] == 200
        assert (await bascule.get("/status", known.of("agent")))[0] == 403


async def elsewhere(program: str, *words: str) -> str:
    """What *program* prints, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *words), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode().strip()


MAKE: Final = """
import sys
from pathlib import Path
from bascule.store.keys import KeyStore
record, text = KeyStore(Path(sys.argv[1])).create("agent", "live")
print(record.id, text)
"""
REVOKE: Final = """
import sys
from pathlib import Path
from bascule.store.keys import KeyStore
KeyStore(Path(sys.argv[1])).revoke(sys.argv[2])
"""


async def test_a_key_that_another_process_makes_or_revokes_counts_here_soon(tmp_path: Path) -> None:
    callers = {"agent": {"scopes": ["*"]}}
    async with guarded(callers=callers, state_dir=str(tmp_path)) as (bascule, _):
        assert bascule.gateway
        edge = bascule.gateway.edge
        id, text = (await elsewhere(MAKE, str(tmp_path))).split()

        async def known() -> int:  # trying it ten times before would be ten wrong tries
            return edge.reception.identify.keys_known

        async def now() -> int:
            return await status(bascule, bearer(text))

        await until(known, lambda generation: generation > 0, within_s=5)
        assert await now() == 200
        client = await session(bascule, "/mcp", bearer(text))
        await elsewhere(REVOKE, str(tmp_path), id)
        began = time.monotonic()
        await until(now, lambda seen: seen == 401, within_s=5)
        async with client.open("tools/list") as exchange:
            assert exchange.status == 401
        assert time.monotonic() - began < 5


# ---- ten wrong ones


async def test_who_tries_ten_wrong_keys_has_to_wait_and_who_has_a_good_one_has_not() -> None:
    known = credentials("agent", "late")
    options = {"agent": {"scopes": ["*"]}, "late": {"scopes": ["*"]}}
    async with guarded(callers=known.configured(**options), environ=known.environ) as (bascule, _):
        assert await status(bascule, known.of("agent")) == 200
        assert [await status(bascule, bearer(secret())) for _ in range(10)] == [401] * 10
        code, headers, message = await tried(bascule, bearer(secret()))
        assert (code, message["error"]["data"]["code"]) == (429, 42901)
        assert 1 <= int(headers["retry-after"]) <= 60
        assert await status(bascule, known.of("agent")) == 200
        assert await status(bascule, known.of("late")) == 200  # one forgotten client must not shut out a whole office
        assert await status(bascule, bearer(secret())) == 429


async def test_a_request_without_a_credential_is_no_try() -> None:
    known = credentials("agent")
    options = {"agent": {"scopes": ["*"]}}
    async with guarded(callers=known.configured(**options), environ=known.environ) as (bascule, _):
        assert [await status(bascule, {}) for _ in range(12)] == [401] * 12
        assert await status(bascule, known.of("agent")) == 200


# ---- tokens


@asynccontextmanager
async def trusting(authority: Authority, **issuer: Any) -> AsyncIterator[tuple[Bascule, Wide]]:
    """A Bascule that takes tokens of *authority*, whose bearers may do what their tokens grant."""
    options = {"issuer": authority.issuer, "grantable": ["it:write"], **issuer}
    async with guarded(auth={"issuers": {"as": options}}, environ={"SECRET": MACHINE[1]}) as found:
        yield found


async def test_a_token_is_good_at_the_endpoint_that_it_was_made_for() -> None:
    async with Authority() as authority, trusting(authority) as (bascule, _):
        for path in (*PATHS, "/sse"):
            shown = bearer(authority.token(aud=bascule.url + path, scope="it:write"))
            for other in PATHS:
                code, headers, message = await tried(bascule, shown, other)
                if other == path:
                    assert code == 200
                    assert len(message["result"]["tools"]) == 2
                    continue
                assert code == 401
                metadata = f'resource_metadata="{bascule.url}{WELL_KNOWN}{other}"'
                assert headers["www-authenticate"].startswith(f'Bearer error="invalid_token", {metadata}, ')


async def test_the_metadata_of_an_endpoint_name_it_and_its_issuer() -> None:
    async with Authority() as authority, trusting(authority) as (bascule, _):
        for path in (*PATHS, "/sse", "/servers/it/sse"):
            code, document = await bascule.get(WELL_KNOWN + path)
            assert (code, document["resource"]) == (200, bascule.url + path)
            assert document["authorization_servers"] == [authority.issuer]
            assert document["scopes_supported"] == ["it:write"]
        assert (await bascule.get(WELL_KNOWN))[1]["resource"] == f"{bascule.url}/mcp"


async def test_a_401_without_a_credential_says_where_to_log_in_and_nothing_of_a_fault() -> None:
    async with Authority() as authority, trusting(authority) as (bascule, _):
        for path in PATHS:
            code, headers, _message = await tried(bascule, {}, path)
            assert (code, headers["www-authenticate"]) == (
                401,
                f'Bearer resource_metadata="{bascule.url}{WELL_KNOWN}{path}"',
            )


BROKEN: Final[Mapping[str, Json]] = {
    "another audience": {"aud": "https://elsewhere.example/mcp"},
    "expired": {"exp": 1_700_000_000, "iat": 1_699_999_000},
    "another issuer": {"iss": "https://elsewhere.example"},
    "not yet": {"nbf": 4_000_000_000},
    "no subject": {"sub": ...},
}


async def test_a_token_that_will_not_do_gets_a_challenge_that_says_so() -> None:
    async with Authority() as authority, trusting(authority) as (bascule, upstream):
        for name, claims in BROKEN.items():
            shown = bearer(authority.token(**{"aud": f"{bascule.url}/mcp", "scope": "it:write", **claims}))
            code, headers, _message = await tried(bascule, shown)
            assert code == 401, name
            assert headers["www-authenticate"].startswith('Bearer error="invalid_token", resource_metadata="'), name
        assert upstream.asked("tools/call") == []


async def test_a_malformed_authorization_is_a_bad_request() -> None:
    async with Authority() as authority, trusting(authority) as (bascule, _):
        for value in ("Bearer", "Bearer a b"):
            code, headers, _message = await tried(bascule, {"authorization": value})
            assert code == 400, value
            assert headers["www-authenticate"].startswith('Bearer error="invalid_request", resource_metadata="')
        assert await status(bascule, {"authorization": "Basic YTpi"}) == 401


async def test_a_token_that_grants_nothing_is_told_what_to_ask_for() -> None:
    async with Authority() as authority, trusting(authority) as (bascule, _):
        code, headers, message = await tried(bascule, bearer(authority.token(aud=f"{bascule.url}/mcp")))
        assert (code, message["error"]["data"]["code"]) == (403, 40301)
        assert headers["www-authenticate"] == (
            f'Bearer error="insufficient_scope", scope="it:write", resource_metadata="{bascule.url}{WELL_KNOWN}/mcp", '
            'error_description="the token grants nothing here"'
        )


async def test_a_key_of_the_issuer_that_changes_costs_nobody_a_401() -> None:
    async with Authority() as authority, trusting(authority) as (bascule, _):
        aud = f"{bascule.url}/mcp"
        assert await status(bascule, bearer(authority.token(aud=aud, scope="it:write"))) == 200
        seen: list[int] = []

        async def come_back(times: int) -> None:
            for _ in range(times):
                code = await status(bascule, bearer(authority.token(aud=aud, scope="it:write")))
                seen.append(code)

        coming = asyncio.gather(*(come_back(20) for _ in range(4)))
        while len(seen) < 10:  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.005)
        authority.rotate()
        await coming
        assert seen == [200] * 80


async def test_without_its_issuer_a_token_that_nobody_can_judge_is_503_and_not_let_in() -> None:
    async with Authority() as authority:
        await authority.shut()
        async with trusting(authority) as (bascule, upstream):
            shown = bearer(authority.token(aud=f"{bascule.url}/mcp", scope="it:write"))
            code, headers, message = await tried(bascule, shown)
            assert (code, message["error"]["data"]["kind"]) == (503, "unavailable")
            assert int(headers["retry-after"]) > 0
            assert "tools" not in json.dumps(message)
        assert upstream.asked("tools/call") == []


async def test_keys_that_are_known_outlive_an_outage_of_their_issuer() -> None:
    async with Authority() as authority, trusting(authority) as (bascule, _):
        aud = f"{bascule.url}/mcp"
        assert await status(bascule, bearer(authority.token(aud=aud, scope="it:write"))) == 200
        await authority.shut()
        assert await status(bascule, bearer(authority.token(aud=aud, scope="it:write"))) == 200
        authority.rotate()  # a key that nobody can be asked for
        assert await status(bascule, bearer(authority.token(aud=aud, scope="it:write"))) in (401, 503)


async def test_opaque_tokens_are_looked_up_and_soon_refused_when_they_are_revoked() -> None:
    asking = {"client_id": MACHINE[0], "client_secret": "${env:SECRET}", "cache_s": 0}
    async with (
        Authority(opaque=True) as authority,
        trusting(authority, introspection=asking, grantable=[]) as (bascule, _),
    ):
        text = authority.opaque_token(aud=f"{bascule.url}/mcp", scope="it:write:read")
        client = Known(bascule, "/mcp", bearer(text))
        assert names(await client.result("tools/list"), "tools") == ["it__read"]
        assert await status(bascule, bearer(text), "/servers/it/mcp") == 401
        authority.revoke(text)
        await until(lambda: status(bascule, bearer(text)), lambda seen: seen == 401, within_s=5)
        assert await status(bascule, bearer(secret())) == 401


# ---- tokens where they do not belong


async def test_a_token_in_a_query_is_refused_wherever_it_is_sent_and_stands_in_no_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, canary = tmp_path / "bascule.json", f"canary-{secret()}"
    callers = {"agent": {"keys": ["${env:AGENT}"], "scopes": ["*"]}}
    path.write_text(json.dumps({"servers": {"it": local("plain")}, "callers": callers}))
    async with serving(path, env={"AGENT": canary}) as bascule:
        await until(lambda: status(bascule, bearer(canary)), lambda seen: seen == 200)
        for where in ("/mcp", "/servers/it/mcp", "/sse", "/status", "/nowhere"):
            for method in ("GET", "POST"):
                async with bascule.request(method, f"{where}?access_token={canary}", KINDLY, b"{}") as exchange:
                    assert exchange.status == 400, (method, where)
                    assert exchange.headers["www-authenticate"].startswith('Bearer error="invalid_request"')
                    assert canary.encode() not in await exchange.body()
                    assert canary not in str(exchange.headers)
    out, err = capfd.readouterr()
    assert "ready" in out or "status:" in err
    assert canary not in out + err


async def test_a_credential_goes_to_no_server_no_child_no_log_and_no_answer(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every byte that a server gets, every environment and command line, every answer."""
    canaries = [f"canary-{secret()}" for _ in range(3)]
    good, wrong, _ = canaries
    path = tmp_path / "bascule.json"
    everywhere = tool("env")
    async with wide(modern=True, tools=[everywhere]) as far_away, wide(tools=[everywhere]) as old:
        servers = {"near": local("plain"), "far": remote(far_away.url), "old": remote(old.url)}
        callers = {"agent": {"keys": ["${env:AGENT}"], "scopes": ["*"]}}
        path.write_text(json.dumps({"servers": servers, "callers": callers}))
        said = bytearray()
        async with serving(path, env={"AGENT": good}) as bascule:
            await until(lambda: status(bascule, bearer(good)), lambda seen: seen == 200)
            for shown in (good, wrong):
                for where in ("/mcp", "/servers/near/mcp", "/servers/far/mcp", "/status"):
                    said += await _answers(bascule, where, bearer(shown))
            client = await session(bascule, "/mcp", bearer(good))
            for name, arguments in (("near__env", {"name": "AGENT"}), ("far__env", {}), ("old__env", {})):
                for each in (client, Known(bascule, "/mcp", bearer(good))):
                    said += json.dumps(await each.ask("tools/call", {"name": name, "arguments": arguments})).encode()
            pids = json.loads(await _answers(bascule, "/status", bearer(good), "GET"))["servers"]["near"]["pids"]
            assert all(alive(pid) for pid in pids)
            said += b"".join(_seen_of(pid) for pid in pids)
        for upstream in (far_away, old):
            assert upstream.calls("env")
            for asked in upstream.seen:
                said += asked.body + repr(sorted(asked.headers.items())).encode() + asked.path.encode()
                assert "authorization" not in asked.headers
    out, err = capfd.readouterr()
    for canary in canaries:
        assert canary.encode() not in said
        assert canary not in out + err


def _seen_of(pid: int) -> bytes:
    return b"".join(Path(f"/proc/{pid}/{file}").read_bytes() for file in ("environ", "cmdline"))


async def _answers(bascule: Bascule, path: str, shown: Mapping[str, str], method: str = "POST") -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
    body = None if method == "GET" else json.dumps(message).encode()
    async with bascule.request(method, path, {**KINDLY, **shown}, body) as exchange:
        return await exchange.body()


# ---- sessions


@pytest.mark.parametrize("path", PATHS)
async def test_a_session_is_its_callers_and_for_anybody_else_there_is_none(path: str) -> None:
    known = credentials("one", "other")
    options = {"one": {"scopes": ["*"]}, "other": {"scopes": ["*"]}}
    async with guarded(callers=known.configured(**options), environ=known.environ) as (bascule, _):
        client = await session(bascule, path, known.of("one"))
        id = client.headers["mcp-session-id"]
        assert id
        message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
        for method, body in (("POST", message), ("GET", None), ("DELETE", None)):
            told = []
            for foreign in (id, "x" * len(id)):
                head = {**KINDLY, **client.headers, **known.of("other"), "mcp-session-id": foreign}
                async with bascule.request(method, path, head, body) as exchange:
                    told.append((exchange.status, _untraced(await exchange.json())))
            assert told[0] == told[1]
            assert told[0][0] == 404
        assert await client.result("tools/list")  # it is still there
        elsewhere_path = PATHS[1 - PATHS.index(path)]
        async with bascule.request("POST", elsewhere_path, {**KINDLY, **client.headers}, message) as exchange:
            assert exchange.status == 404


def _untraced(message: Json) -> Json:
    return {**message, "error": {**message["error"], "data": {**message["error"]["data"], "trace_id": ""}}}


async def test_in_one_session_each_request_may_do_what_its_own_key_may(tmp_path: Path) -> None:
    """A narrow key and a wide one of the same caller, at the same time: neither lends the other anything."""
    with KeyStore(tmp_path) as store:
        wide_key = store.create("agent", "live")[1]
        narrow = store.create("agent", "live", scopes=frozenset({"it:write:read"}))[1]
    async with guarded(callers={"agent": {"scopes": ["*"]}}, state_dir=str(tmp_path)) as (bascule, upstream):
        for opened_with in (wide_key, narrow):
            client = await session(bascule, "/mcp", bearer(opened_with))

            async def call(key: str, number: int, client: Any = client) -> None:
                name = ("it__read", "it__write")[number % 2]
                params = {"name": name, "arguments": {"text": f"{key[-4:]}"}}
                message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
                async with client.post(message, bearer(key)) as exchange:
                    answer = await exchange.last()
                if key == narrow and name == "it__write":
                    assert answer["error"]["data"]["kind"] == "tool_not_found"
                else:
                    assert "result" in answer

            await asyncio.gather(*(call(key, number) for number in range(40) for key in (wide_key, narrow)))
            for key, count in ((wide_key, 2), (narrow, 1)):
                async with client.open("tools/list", headers=bearer(key)) as exchange:
                    assert len((await exchange.last())["result"]["tools"]) == count
        assert {each.text for each in upstream.calls("write")} == {wide_key[-4:]}
