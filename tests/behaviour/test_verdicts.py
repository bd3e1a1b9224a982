"""Which era a server is taken for, what is no verdict, and what happens when a verdict proves wrong.

Straight at the upstreams, with real processes and sockets: what a client sees of a server of the other era is
another matter. Source: MCP 2026-07-28, "Backward Compatibility" of stdio and of Streamable HTTP.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from foreign import Asked, Foreign, Handler, Visitor, ask, echoed, far, reaching
from gateway import Json, gone, hostile, local

from bascule.errors import BasculeError, RateLimited, TimedOut, Unavailable, UpstreamBrokeProtocol
from bascule.upstream.base import WrongEra
from bascule.upstream.http import HttpUpstream
from bascule.upstream.stdio import StdioOptions, StdioUpstream
from bascule.wire.versions import Era
from processes import SERVERS

BOTH = set(Era)
MODERN = {Era.MODERN}
LEGACY = {Era.LEGACY}


@asynccontextmanager
async def process(server: Json) -> AsyncIterator[StdioUpstream]:
    """An upstream for the server of this configuration."""
    upstream = StdioUpstream("it", StdioOptions(**{**server, "args": tuple(server["args"])}))
    try:
        yield upstream
    finally:
        await upstream.stop()


@asynccontextmanager
async def remote(*, modern: bool = False, **more: Any) -> AsyncIterator[tuple[Foreign, HttpUpstream]]:
    async with far(modern=modern) as foreign, reaching(foreign, **more) as upstream:
        yield foreign, upstream


def initialized(upstream: StdioUpstream) -> bool:
    """Whether a process was ever asked to shake hands."""
    return "initialize" in upstream.status().stderr


# ---- stdio: the probe ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["banner", "bad-params", "odd-refusal", "answers-anything", "ends-at-probe"])
async def test_a_process_that_answers_the_probe_with_anything_else_gets_the_handshake(mode: str) -> None:
    async with process(hostile(mode)) as upstream:
        assert set(await upstream.eras()) == LEGACY
        assert (await ask(upstream, "initialize", session=Visitor()))["serverInfo"]["name"] == "hostile"
        assert await echoed(upstream, "x", Visitor()) == "x"


async def test_a_process_that_discovers_only_old_versions_gets_the_handshake() -> None:
    async with process(hostile("old-versions")) as upstream:
        assert set(await upstream.eras()) == LEGACY
        assert await echoed(upstream, "x", Visitor()) == "x"


async def test_a_process_that_is_silent_to_the_probe_gets_the_handshake_and_its_late_answer_is_dropped() -> None:
    async with process(hostile("late-probe", start_timeout_s=4)) as upstream:
        assert set(await upstream.eras()) == LEGACY
        assert await echoed(upstream, "x", Visitor()) == "x"
        assert upstream.status().dropped == {"unmatched_answer": 1}
        assert set(await upstream.eras()) == LEGACY


async def test_a_stateless_process_that_was_too_slow_for_the_probe_goes_on_as_what_it_is() -> None:
    async with process(hostile("late-new", start_timeout_s=4)) as upstream:
        eras = set(await upstream.eras())
        (pid,) = upstream.status().pids
        assert eras == MODERN
        assert set(await upstream.eras()) == MODERN
        assert upstream.status().pids == [pid]


async def test_a_process_of_versions_to_come_is_out_of_reach_and_never_asked_to_shake_hands() -> None:
    async with process(hostile("future")) as upstream:
        with pytest.raises(Unavailable, match="2027-01-01"):
            await upstream.eras()
        assert "2027-01-01" in (upstream.status().last_error or "")
        assert not initialized(upstream)


async def test_a_process_that_is_down_is_no_verdict() -> None:
    async with process({"command": "no-such-command-here", "args": []}) as upstream:
        with pytest.raises(Unavailable):
            await upstream.eras()


# ---- stdio: the handshake of a server that answered the probe ------------------------------------


@pytest.mark.parametrize("server", [hostile("new"), local("modern")], ids=["-32601", "-32022"])
async def test_a_stateless_process_that_refuses_the_handshake_is_stateless_only(server: Json) -> None:
    async with process(server) as upstream:
        assert set(await upstream.eras()) == BOTH
        with pytest.raises(WrongEra):
            await ask(upstream, "initialize", session=Visitor())
        assert set(await upstream.eras()) == MODERN
        assert await echoed(upstream, "x") == "x"
        with pytest.raises(WrongEra):
            await upstream.watch(Visitor())
        (pid,) = upstream.status().pids  # of the handshake none is left
        assert pid


async def test_a_process_of_both_eras_is_used_in_both() -> None:
    async with process(hostile("both-eras")) as upstream:
        assert set(await upstream.eras()) == BOTH
        assert await echoed(upstream, "x", Visitor()) == "x"
        assert await echoed(upstream, "y") == "y"
        assert set(await upstream.eras()) == BOTH


# ---- stdio: another server in the place of the old one -------------------------------------------


class Turncoat:
    """A command whose next process is a server of whatever mode stands in a file."""

    def __init__(self, folder: Path, mode: str) -> None:
        self._mode = folder / "mode"
        self.turn(mode)

    def turn(self, mode: str) -> None:
        self._mode.write_text(mode)

    @property
    def server(self) -> Json:
        script = 'exec "$0" "$1" --mode "$(cat "$2")"'
        args = ["-c", script, sys.executable, str(SERVERS / "hostile.py"), str(self._mode)]
        return {"command": "sh", "args": args, "stop_grace_s": 0.3, "start": "lazy"}


async def killed(upstream: StdioUpstream) -> None:
    pids = upstream.status().pids
    for pid in pids:
        os.kill(pid, 9)
    await gone(*pids)
    async with asyncio.timeout(10):
        while upstream.status().pids:  # noqa: ASYNC110 - an upstream has no event for it
            await asyncio.sleep(0.01)


async def until_back(request: Callable[[], Any]) -> Any:
    """Ask until the pause after a crash is over."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await request()
            except Unavailable as error:
                if isinstance(error, WrongEra) or error.retry_after_s is None:
                    raise
                await asyncio.sleep(error.retry_after_s)


async def test_a_restarted_process_that_is_an_old_server_now_gets_a_fresh_verdict(tmp_path: Path) -> None:
    command = Turncoat(tmp_path, "new")
    async with process(command.server) as upstream:
        assert set(await upstream.eras()) == BOTH
        assert await echoed(upstream, "x") == "x"
        command.turn("banner")
        await killed(upstream)
        with pytest.raises(WrongEra):
            await until_back(lambda: echoed(upstream, "y"))
        assert set(await upstream.eras()) == LEGACY
        assert await echoed(upstream, "z", Visitor()) == "z"
        assert len(upstream.status().pids) == 1


@pytest.mark.parametrize("knew_both", [False, True])
async def test_a_restarted_process_that_is_a_stateless_server_now_gets_a_fresh_verdict(
    knew_both: bool, tmp_path: Path
) -> None:
    command = Turncoat(tmp_path, "both-eras" if knew_both else "banner")
    async with process(command.server) as upstream:
        assert set(await upstream.eras()) == (BOTH if knew_both else LEGACY)
        visitor = Visitor()
        assert await echoed(upstream, "x", visitor) == "x"
        command.turn("new")
        await killed(upstream)
        with pytest.raises(WrongEra):
            await until_back(lambda: echoed(upstream, "y", visitor))
        assert set(await upstream.eras()) == MODERN
        assert await until_back(lambda: echoed(upstream, "z")) == "z"
        assert len(upstream.status().pids) == 1


async def test_a_process_that_refuses_the_version_it_spoke_is_asked_again() -> None:
    async with process(hostile("turns-old")) as upstream:
        assert set(await upstream.eras()) == BOTH
        assert await echoed(upstream, "x") == "x"
        with pytest.raises(WrongEra):
            await echoed(upstream, "forget")
        assert set(await upstream.eras()) == LEGACY


async def test_a_process_that_is_stateless_and_refuses_a_call_is_believed() -> None:
    async with process(hostile("refuses-version")) as upstream:
        params = {"name": "echo", "arguments": {"text": "x"}}
        assert (await ask(upstream, "tools/call", params))["error"]["code"] == -32022
        assert set(await upstream.eras()) == BOTH
        assert (await ask(upstream, "tools/list"))["tools"]


# ---- an era that is configured -------------------------------------------------------------------


@pytest.mark.parametrize(("era", "mode"), [("legacy", "new"), ("modern", "banner")])
async def test_a_configured_era_stands_even_if_a_process_refuses_it(era: str, mode: str) -> None:
    async with process(hostile(mode, era=era)) as upstream:
        with pytest.raises(Unavailable, match=f"`era: {era}`") as caught:
            await upstream.eras()
        assert not isinstance(caught.value, WrongEra)
        assert initialized(upstream) is False
        assert f"`era: {era}`" in (upstream.status().last_error or "")


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_configured_era_is_never_probed(era: str) -> None:
    async with remote(modern=era == "modern", era=era) as (foreign, upstream):
        assert set(await upstream.eras()) == {Era(era)}
        assert await echoed(upstream, "x", Visitor() if era == "legacy" else None) == "x"
        assert not foreign.asked("server/discover")
        assert ("initialize" in {asked.name for asked in foreign.seen}) == (era == "legacy")


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_configured_era_stands_even_if_a_url_refuses_it(era: str) -> None:
    async with remote(modern=era == "legacy", era=era) as (foreign, upstream):
        foreign.on["tools/call"] = saying(404, b"", "text/plain")
        with pytest.raises(UpstreamBrokeProtocol):
            await echoed(upstream, "x", Visitor() if era == "legacy" else None)
        assert set(await upstream.eras()) == {Era(era)}
        assert not foreign.asked("server/discover")


# ---- HTTP: the probe -----------------------------------------------------------------------------


def saying(status: int, body: bytes, kind: str = "application/json") -> Handler:
    return lambda asked: asked.reply(status, body, kind)


def error(code: int, *, id: Any = None, **facts: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "no", "data": facts}}).encode()


def refusing(code: int, status: int, **facts: Any) -> Handler:
    return lambda asked: asked.reply(status, error(code, id=asked.id, **facts))


OLD_ANSWERS: dict[str, Handler] = {
    "400-empty": saying(400, b"", "text/plain"),
    "400-null-id": saying(400, error(-32000)),
    "400-other-id": saying(400, error(-32600, id="server-error")),
    "404-page": saying(404, b"<h1>Not Found</h1>", "text/html"),
    "405-json": saying(405, b'{"detail":"Method Not Allowed"}'),
}
old_answers = pytest.mark.parametrize("answer", OLD_ANSWERS.values(), ids=OLD_ANSWERS)


@old_answers
async def test_a_url_that_refuses_the_probe_as_old_servers_do_gets_the_handshake(answer: Handler) -> None:
    async with remote() as (foreign, upstream):
        foreign.on["server/discover"] = answer
        assert set(await upstream.eras()) == LEGACY
        assert await echoed(upstream, "x", Visitor()) == "x"
        assert len(foreign.asked("server/discover")) == 1


@pytest.mark.parametrize("code", [-32601, -32602, -32000, -7])
@pytest.mark.parametrize("status", [200, 400])
async def test_no_single_error_code_decides(code: int, status: int) -> None:
    async with remote() as (foreign, upstream):
        foreign.on["server/discover"] = refusing(code, status)
        assert set(await upstream.eras()) == LEGACY


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("code", [-32020, -32021])
async def test_a_url_that_answers_with_a_modern_error_is_never_asked_to_shake_hands(code: int, status: int) -> None:
    async with remote(modern=True) as (foreign, upstream):
        foreign.on["server/discover"] = refusing(code, status)
        assert set(await upstream.eras()) == MODERN
        assert await echoed(upstream, "x") == "x"
        assert not foreign.asked("initialize")


async def test_a_url_of_versions_to_come_is_out_of_reach_and_never_asked_to_shake_hands() -> None:
    async with remote(modern=True) as (foreign, upstream):
        foreign.on["server/discover"] = refusing(-32022, 400, supported=["2027-01-01"])
        with pytest.raises(Unavailable, match="2027-01-01"):
            await upstream.eras()
        assert not foreign.asked("initialize")
        del foreign.on["server/discover"]
        assert set(await upstream.eras()) == BOTH


async def test_a_url_that_offers_only_old_versions_gets_the_handshake() -> None:
    async def offer(asked: Asked) -> None:
        await asked.answer({"supportedVersions": ["2025-11-25"], "capabilities": {}})

    async with remote() as (foreign, upstream):
        foreign.on["server/discover"] = offer
        assert set(await upstream.eras()) == LEGACY
        foreign.on["server/discover"] = refusing(-32022, 400, supported=["2025-11-25"])
        async with reaching(foreign) as other:
            assert set(await other.eras()) == LEGACY
            assert await echoed(other, "x", Visitor()) == "x"


async def say_nothing(asked: Asked) -> None:
    await asked.left()


async def open_a_silent_stream(asked: Asked) -> None:
    await asked.stream()
    await asked.left()


async def end_stream(asked: Asked) -> None:
    await asked.stream()
    await asked.end()


UNHEARD: dict[str, Handler] = {
    "silent": say_nothing,
    "silent-stream": open_a_silent_stream,
    "empty-stream": end_stream,
    "accepted": saying(202, b"", "text/plain"),
}


@pytest.mark.parametrize("answer", UNHEARD.values(), ids=UNHEARD)
async def test_a_url_that_does_not_really_answer_the_probe_shows_its_era_by_the_handshake(answer: Handler) -> None:
    async with remote(call_timeout_s=1) as (foreign, upstream):
        foreign.on["server/discover"] = answer
        assert set(await upstream.eras()) == LEGACY
        assert len(foreign.asked("DELETE")) == 1  # that session was only for the question
        assert await echoed(upstream, "x", Visitor()) == "x"
        assert len(foreign.asked("server/discover")) == 1
    async with remote(modern=True, call_timeout_s=1) as (foreign, upstream):
        foreign.on["server/discover"] = answer
        assert set(await upstream.eras()) == MODERN


NO_VERDICTS: dict[str, Handler] = {
    "401": saying(401, error(-32001)),
    "403": saying(403, b"<h1>Forbidden</h1>", "text/html"),
    "407": saying(407, b"", "text/plain"),
    "429": saying(429, b"slow down", "text/plain"),
    "500": saying(500, b"", "text/plain"),
    "503": saying(503, error(-32000)),
    "302": saying(302, b"", "text/plain"),
    "login-page": saying(200, b"<h1>Sign in</h1>", "text/html"),
    "silent": say_nothing,
}


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("answer", NO_VERDICTS.values(), ids=NO_VERDICTS)
async def test_a_guard_an_outage_and_silence_are_no_verdict(answer: Handler, modern: bool) -> None:
    async with remote(modern=modern, call_timeout_s=1) as (foreign, upstream):
        foreign.on["POST"] = answer
        kinds = {say_nothing: TimedOut, NO_VERDICTS["429"]: RateLimited}
        with pytest.raises(kinds.get(answer, UpstreamBrokeProtocol)):
            await upstream.eras()
        del foreign.on["POST"]
        assert set(await upstream.eras()) == (BOTH if modern else LEGACY)


async def test_a_dead_socket_is_no_verdict() -> None:
    async def reset(asked: Asked) -> None:
        asked.reset()

    async with remote(modern=True) as (foreign, upstream):
        foreign.on["POST"] = reset
        with pytest.raises(UpstreamBrokeProtocol):
            await upstream.eras()
        del foreign.on["POST"]
        assert set(await upstream.eras()) == BOTH
    async with reaching(foreign) as other:
        with pytest.raises(Unavailable):
            await other.eras()


async def test_all_who_wait_for_a_verdict_share_one_probe() -> None:
    async with remote(modern=True) as (foreign, upstream):
        verdicts = await asyncio.gather(*(upstream.eras() for _ in range(20)))
        assert {frozenset(verdict) for verdict in verdicts} == {frozenset(Era)}
        assert len(foreign.asked("server/discover")) == 1


# ---- HTTP: the handshake of a server that answered the probe -------------------------------------

NO_HANDSHAKE: dict[str, Handler] = {
    "-32022": refusing(-32022, 400, supported=["2026-07-28"]),
    "-32020": refusing(-32020, 400),
    "-32602": refusing(-32602, 400),
    "-32601": refusing(-32601, 404),
    "-32601-200": refusing(-32601, 200),
    "404": saying(404, b"", "text/plain"),
    "405": saying(405, b"", "text/plain"),
}


@pytest.mark.parametrize("answer", NO_HANDSHAKE.values(), ids=NO_HANDSHAKE)
async def test_a_stateless_url_that_refuses_the_handshake_is_stateless_only(answer: Handler) -> None:
    async with remote(modern=True) as (foreign, upstream):
        foreign.on["initialize"] = answer
        assert set(await upstream.eras()) == BOTH
        with pytest.raises(WrongEra):
            await ask(upstream, "initialize", session=Visitor())
        assert set(await upstream.eras()) == MODERN
        with pytest.raises(WrongEra):
            await upstream.watch(Visitor())
        assert await echoed(upstream, "x") == "x"
        assert len(foreign.asked("server/discover")) == 1
        assert not foreign.asked("GET")


@pytest.mark.parametrize("answer", NO_VERDICTS.values(), ids=NO_VERDICTS)
async def test_a_guard_an_outage_and_silence_at_the_handshake_are_no_verdict(answer: Handler) -> None:
    async with remote(modern=True, call_timeout_s=1) as (foreign, upstream):
        foreign.on["initialize"] = answer
        assert set(await upstream.eras()) == BOTH
        with pytest.raises(BasculeError) as caught:
            await ask(upstream, "initialize", session=Visitor())
        assert not isinstance(caught.value, WrongEra)
        assert set(await upstream.eras()) == BOTH


# ---- HTTP: another server in the place of the old one --------------------------------------------


@pytest.mark.parametrize("answer", [*OLD_ANSWERS.values(), refusing(-32022, 400)], ids=[*OLD_ANSWERS, "-32022"])
async def test_a_call_that_an_old_server_refuses_where_a_stateless_one_was_gets_a_fresh_verdict(
    answer: Handler,
) -> None:
    async with remote(modern=True) as (foreign, upstream):
        assert set(await upstream.eras()) == BOTH
        assert await echoed(upstream, "x") == "x"
        foreign.modern = False
        foreign.on["tools/call"] = answer
        results = await asyncio.gather(*(echoed(upstream, "y") for _ in range(5)), return_exceptions=True)
        assert {type(result) for result in results} == {WrongEra}
        assert set(await upstream.eras()) == LEGACY
        assert len(foreign.asked("server/discover")) == 2
        del foreign.on["tools/call"]
        assert await echoed(upstream, "z", Visitor()) == "z"


@pytest.mark.parametrize("answer", [*OLD_ANSWERS.values(), refusing(-32022, 400)], ids=[*OLD_ANSWERS, "-32022"])
async def test_a_stateless_url_that_refuses_a_call_oddly_is_believed_when_asked_again(answer: Handler) -> None:
    async with remote(modern=True) as (foreign, upstream):
        assert set(await upstream.eras()) == BOTH
        foreign.on["tools/call"] = answer
        refusals = await asyncio.gather(
            ask(upstream, "tools/call", {"name": "echo", "arguments": {}}), return_exceptions=True
        )
        assert not isinstance(refusals[0], WrongEra)
        assert len(foreign.asked("tools/call")) == 1
        assert set(await upstream.eras()) == BOTH


@pytest.mark.parametrize("code", [-32601, -32602, -32021])
async def test_a_modern_refusal_of_a_call_raises_no_doubt(code: int) -> None:
    async with remote(modern=True) as (foreign, upstream):
        assert set(await upstream.eras()) == BOTH
        foreign.on["tools/call"] = refusing(code, 404 if code == -32601 else 400)
        assert (await ask(upstream, "tools/call", {"name": "echo", "arguments": {}}))["error"]["code"] == code
        assert len(foreign.asked("server/discover")) == 1


@pytest.mark.parametrize("lost", [
    saying(404, b"", "text/plain"),
    refusing(-32020, 400),
    refusing(-32602, 400),
    refusing(-32601, 404),
], ids=["404", "-32020", "-32602", "-32601"])  # fmt: skip
@pytest.mark.parametrize("handshake", NO_HANDSHAKE.values(), ids=NO_HANDSHAKE)
async def test_a_session_that_a_stateless_server_refuses_gets_a_fresh_verdict(
    lost: Handler, handshake: Handler
) -> None:
    async with remote() as (foreign, upstream):
        assert set(await upstream.eras()) == LEGACY
        visitor = Visitor()
        assert await echoed(upstream, "x", visitor) == "x"
        foreign.modern = True
        foreign.on |= {"tools/call": lost, "ping": lost, "initialize": handshake}
        with pytest.raises(WrongEra):
            await echoed(upstream, "y", visitor)
        assert set(await upstream.eras()) == MODERN
        del foreign.on["tools/call"]
        assert await echoed(upstream, "z") == "z"


@pytest.mark.parametrize("answer", [refusing(-32602, 400), saying(404, b"", "text/plain")], ids=["json-rpc", "page"])
async def test_an_old_url_that_refuses_the_handshake_for_a_reason_of_its_own_says_so(answer: Handler) -> None:
    async with remote() as (foreign, upstream):
        foreign.on["initialize"] = answer
        assert set(await upstream.eras()) == LEGACY
        with pytest.raises(UpstreamBrokeProtocol):
            await ask(upstream, "initialize", session=Visitor())
        assert set(await upstream.eras()) == LEGACY
        del foreign.on["initialize"]
        assert await echoed(upstream, "x", Visitor()) == "x"


# ---- a session that is lost, or is not -----------------------------------------------------------


@pytest.mark.parametrize("lost", [*OLD_ANSWERS.values(), refusing(-32600, 400)], ids=[*OLD_ANSWERS, "400-own-id"])
async def test_a_session_that_is_lost_with_another_status_than_404_is_opened_anew(lost: Handler) -> None:
    async def mind_the_session(asked: Asked) -> None:
        await (lost if asked.headers["mcp-session-id"] == "session-1" else foreign.answer)(asked)

    async with remote(era="legacy") as (foreign, upstream):
        visitor = Visitor()
        assert await echoed(upstream, "x", visitor) == "x"
        foreign.on |= {"tools/call": mind_the_session, "ping": mind_the_session}
        assert await echoed(upstream, "y", visitor) == "y"
        assert foreign.sessions == 2


async def test_a_refusal_with_400_in_a_session_that_is_alive_is_passed_on() -> None:
    async def pong(asked: Asked) -> None:
        await asked.answer({})

    async with remote(era="legacy") as (foreign, upstream):
        foreign.on |= {"tools/call": refusing(-32602, 400), "ping": pong}
        params = {"name": "echo", "arguments": {}}
        assert (await ask(upstream, "tools/call", params, session=Visitor()))["error"]["code"] == -32602
        assert (foreign.sessions, len(foreign.asked("tools/call"))) == (1, 1)
