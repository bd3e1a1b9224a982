"""`bascule bridge URL` as its client has it: a process, lines on its pipes, a server that comes and goes behind it."""

import asyncio
import base64
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from foreign import Asked, far
from gateway import ELICITS, META, MODERN, WITHIN_S, Bascule, Json, gateway, local, serving, text_of, until

from processes import ROOT

ACCEPTED: Json = {"action": "accept", "content": {"answer": "yes"}}
KEY = base64.b64encode(bytes(32)).decode()
NEWS = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"


@dataclass
class Bridge:
    """A running bridge, and its client."""

    process: asyncio.subprocess.Process
    early: list[Json] = field(default_factory=list)  # read while something else was waited for

    async def write(self, *lines: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"".join(line + b"\n" for line in lines))
        async with asyncio.timeout(WITHIN_S):
            await self.process.stdin.drain()

    async def send(self, *messages: Json) -> None:
        await self.write(*(json.dumps({"jsonrpc": "2.0", **message}).encode() for message in messages))

    async def raw(self) -> bytes:
        assert self.process.stdout
        async with asyncio.timeout(WITHIN_S):
            return await self.process.stdout.readline()

    async def next(self) -> Json:
        if self.early:
            return self.early.pop(0)
        line = await self.raw()
        assert line.endswith(b"\n"), line
        found: Json = json.loads(line)
        assert found["jsonrpc"] == "2.0"
        return found

    async def next_of(self, method: str) -> Json:
        message = await self.next()
        assert message.get("method") == method, message
        return message

    async def ask(self, method: str, params: Json | None = None, *, id: Any = 1) -> Json:
        """The answer; what comes before it is kept."""
        await self.send({"id": id, "method": method, "params": params or {}})
        return await self.answer_to(id)

    async def answer_to(self, id: Any) -> Json:
        before = []
        while (message := await self.next()).get("id") != id or "method" in message:
            before.append(message)
        self.early = before + self.early
        return message

    async def result(self, method: str, params: Json | None = None, *, id: Any = 1) -> Json:
        answer = await self.ask(method, params, id=id)
        assert "result" in answer, answer
        found: Json = answer["result"]
        return found

    async def call(self, tool: str, /, *, id: Any = 1, **arguments: Any) -> Json:
        return await self.result("tools/call", {"name": tool, "arguments": arguments}, id=id)

    async def initialize(self, capabilities: Json | None = None, version: str = "2025-11-25") -> Json:
        hello = {"protocolVersion": version, "capabilities": capabilities or {}, "clientInfo": {"name": "t"}}
        found = await self.result("initialize", hello, id=0)
        await self.send({"method": "notifications/initialized"})
        return found

    async def end(self) -> tuple[int, str]:
        """(exit code, what it said on stderr), after the end of its input."""
        assert self.process.stdin
        self.process.stdin.close()
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        assert self.process.stderr
        async with asyncio.timeout(WITHIN_S):
            said = await self.process.stderr.read()
            return await self.process.wait(), said.decode()

    async def said(self, text: str) -> str:
        """The next line on stderr that holds *text*."""
        assert self.process.stderr
        async with asyncio.timeout(WITHIN_S):
            while text not in (line := (await self.process.stderr.readline()).decode()):
                assert line, f"ended without a word of {text!r}"
            return line


@asynccontextmanager
async def bridge(url: str, *options: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Bridge]:
    ours = {name: value for name, value in os.environ.items() if name != "BASCULE_TOKEN"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bascule", "bridge", url, *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**ours, **(env or {})},
        cwd=ROOT,
        limit=16 * 1024 * 1024,
    )
    try:
        yield Bridge(process)
    finally:
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(WITHIN_S):
            await process.communicate()


def stamped(**params: Any) -> Json:
    return {**params, "_meta": {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}}


@pytest.fixture
async def plain() -> AsyncIterator[Bascule]:
    async with gateway({"it": local("plain")}) as bascule:
        await bascule.up("it")
        yield bascule


def endpoint(bascule: Bascule) -> str:
    return f"{bascule.url}/servers/it/mcp"


# ---- both eras


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_session_from_initialize_to_the_end_of_the_input(version: str, plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        assert (await client.initialize(version=version))["protocolVersion"] == version
        assert "echo" in {tool["name"] for tool in (await client.result("tools/list", id="a"))["tools"]}
        assert text_of(await client.call("echo", text="ü\n")) == "ü\n"
        assert await client.result("ping") == {}
        assert await client.end() == (0, "")

    async def sessions() -> int:
        return int((await plain.status())["sessions"])

    await until(sessions, lambda count: count == 0)


@pytest.mark.parametrize("behind", ["plain", "modern"])
async def test_stateless_requests_need_no_session_and_mix_with_one(behind: str) -> None:
    async with gateway({"it": local(behind)}) as bascule:
        await bascule.up("it")
        async with bridge(endpoint(bascule)) as client:
            found = await client.result("server/discover", stamped())
            assert found["supportedVersions"] == [MODERN]
            assert text_of(await client.result("tools/call", stamped(name="echo", arguments={"text": "1"}))) == "1"
            await client.initialize()
            assert text_of(await client.call("echo", text="2")) == "2"
            assert text_of(await client.result("tools/call", stamped(name="echo", arguments={"text": "3"}))) == "3"
            assert (await client.ask("logging/setLevel", stamped()))["error"]["code"] == -32601
            other = {"_meta": {f"{META}protocolVersion": "2099-01-01", f"{META}clientCapabilities": {}}}
            assert (await client.ask("tools/list", other))["error"]["code"] == -32022
            assert await client.end() == (0, "")


async def test_what_comes_right_after_initialize_waits_and_what_comes_before_is_refused(plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        assert (await client.ask("tools/list"))["error"]["code"] == -32600
        assert await client.result("ping") == {}
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}}
        await client.send(
            {"id": 1, "method": "initialize", "params": hello},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "x"}}},
        )
        assert client.process.stdin
        client.process.stdin.close()  # and what is under way is still answered
        assert [(await client.next())["id"] for _ in range(2)] == [1, 2]
        assert await client.ended() == (0, "")


async def test_questions_of_the_server_are_asked_on_stdout_and_answered_on_stdin(plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        await client.initialize(ELICITS)
        params = {"name": "ask", "arguments": {"question": "sure?", "times": 2}}
        await client.send({"id": "q", "method": "tools/call", "params": params})
        for _ in range(2):
            question = await client.next_of("elicitation/create")
            assert question["params"]["message"] == "sure?"
            await client.send({"id": question["id"], "result": ACCEPTED})
        answer = await client.answer_to("q")
        assert answer["result"]["structuredContent"]["answers"] == [ACCEPTED, ACCEPTED]


@pytest.mark.parametrize("stateless", [False, True])
async def test_a_cancelled_request_is_not_answered_and_stops_at_the_server(stateless: bool, plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        await client.initialize()
        params = {"name": "sleep", "arguments": {"seconds": 30}}
        meta = {**(stamped()["_meta"] if stateless else {}), "progressToken": 7}
        await client.send({"id": "long", "method": "tools/call", "params": {**params, "_meta": meta}})
        assert (await client.next_of("notifications/progress"))["params"]["progressToken"] == 7
        await client.send({"method": "notifications/cancelled", "params": {"requestId": "long"}})
        await client.send(
            {"id": 2, "method": "tools/call", "params": {"name": "cancelled", "arguments": {"at_least": 1}}}
        )
        answer = await client.next()
        assert answer["id"] == 2
        assert len(answer["result"]["structuredContent"]["ids"]) == 1


async def test_requests_run_beside_each_other(plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        await client.initialize()
        await client.send({"id": 1, "method": "tools/call", "params": {"name": "sleep", "arguments": {"seconds": 0.5}}})
        assert text_of(await client.call("echo", id=2, text="quick")) == "quick"
        assert text_of((await client.answer_to(1))["result"]) == "slept 0.5 s"


# ---- news


async def heard(client: Bridge, method: str) -> Json:
    """The next notification of *method*, whatever else is said before it."""
    while (message := await client.next()).get("method") != method:
        pass
    return message


async def test_news_reach_a_legacy_client(plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        await client.initialize()
        await client.result("resources/subscribe", {"uri": "test://notes/1"})
        await until_watched(plain)
        await client.call("touch", uri="test://notes/1")
        assert (await heard(client, UPDATED))["params"]["uri"] == "test://notes/1"
        await client.call("rename", tool="fail", to="failing")
        await heard(client, NEWS)


async def until_watched(bascule: Bascule) -> None:
    """Wait until the bridge has its standing stream: from then on nothing is missed."""
    assert bascule.gateway
    edge = bascule.gateway.edge

    async def carried() -> bool:
        return any(session.standing.carried for session in edge.sessions._open.values())

    await until(carried, bool)


async def test_a_subscription_is_acknowledged_fed_and_ends_well(plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        wanted = {"toolsListChanged": True}
        await client.send({"id": "s", "method": "subscriptions/listen", "params": stamped(notifications=wanted)})
        first = await client.next_of("notifications/subscriptions/acknowledged")
        assert first["params"]["_meta"] == {f"{META}subscriptionId": "s"}
        await client.result("tools/call", stamped(name="rename", arguments={"tool": "fail", "to": "failing"}))
        assert (await heard(client, NEWS))["params"]["_meta"] == {f"{META}subscriptionId": "s"}
        client.process.send_signal(signal.SIGTERM)
        assert (await client.answer_to("s"))["result"]["resultType"] == "complete"
        assert (await client.next_of("notifications/cancelled"))["params"] == {"requestId": "s"}
        assert await client.ended() == (0, "")


async def test_a_subscription_that_the_client_ends_is_silent(plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        wanted = {"toolsListChanged": True}
        await client.send({"id": "s", "method": "subscriptions/listen", "params": stamped(notifications=wanted)})
        await client.next_of("notifications/subscriptions/acknowledged")
        await client.send({"method": "notifications/cancelled", "params": {"requestId": "s"}})
        await client.result("ping")
        assert client.early == []
        assert await client.end() == (0, "")


# ---- lines


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nonsense", -32700),
        (b'{"jsonrpc":"2.0",', -32700),
        (b"\xff\xfe", -32700),
        (b"[]", -32600),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}', -32602),
        (b'"' + b"x" * 5_000_000 + b'"', -32600),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_bad_line_is_answered_and_ends_nothing(line: bytes, code: int, plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        await client.write(line, b"", b"  ")
        assert (await client.next())["error"]["code"] == code
        assert await client.result("ping") == {}
        assert (await client.end())[0] == 0


async def test_an_answer_is_one_line_however_the_server_writes_it() -> None:
    async def spread(asked: Asked) -> None:
        pretty = {"jsonrpc": "2.0", "id": asked.id, "result": {"content": [{"type": "text", "text": "a\r\nb"}]}}
        await asked.reply(200, json.dumps(pretty, indent=2).replace("\n", "\r\n").encode())

    async with far(modern=False) as server:
        server.on["tools/call"] = spread
        async with bridge(server.url) as client:
            await client.initialize()
            assert text_of(await client.call("echo", text="x")) == "a\r\nb"


async def test_a_last_line_without_its_end_is_read(plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        assert client.process.stdin
        client.process.stdin.write(b'{"jsonrpc":"2.0","id":"last","method":"ping"}')
        client.process.stdin.close()
        assert await client.next() == {"jsonrpc": "2.0", "id": "last", "result": {}}


async def test_files_are_as_good_as_pipes(plain: Bascule, tmp_path: Path) -> None:
    questions, answers = tmp_path / "in", tmp_path / "out"
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": stamped()}
    questions.write_text(json.dumps(request) + "\n")
    with questions.open() as stdin, answers.open("w") as stdout:
        command = (sys.executable, "-m", "bascule", "bridge", endpoint(plain))
        process = await asyncio.create_subprocess_exec(*command, stdin=stdin, stdout=stdout, cwd=ROOT)
        async with asyncio.timeout(WITHIN_S):
            assert await process.wait() == 0
    assert json.loads(answers.read_text())["result"]["tools"]


async def answering(asked: Asked) -> None:
    """As many bytes as the call asks for."""
    size = asked.message["params"]["arguments"]["size"]
    await asked.answer({"resultType": "complete", "content": [{"type": "text", "text": "x" * size}]})


def sized(id: int, size: int) -> bytes:
    params = stamped(name="echo", arguments={"size": size}, padding=" " * 1000)
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).encode()


async def test_who_does_not_read_is_not_listened_to() -> None:
    async with far(modern=True) as server:
        server.on["tools/call"] = answering
        async with bridge(server.url) as client:
            sent = 0
            blocked = False
            while not blocked:  # until the pipe is full, which takes some thousands
                try:
                    async with asyncio.timeout(1):
                        assert client.process.stdin
                        client.process.stdin.write(sized(sent, 10_000) + b"\n")
                        sent += 1
                        await client.process.stdin.drain()
                except TimeoutError:
                    blocked = True
            assert memory_of(client) < 250 * 2**20
            answered = {(await client.next())["id"] for _ in range(sent)}
            assert answered == set(range(sent)), "once it reads, everything is answered"


async def test_who_asks_for_much_and_never_reads_is_given_up() -> None:
    async with far(modern=True) as server:
        server.on["tools/call"] = answering
        async with bridge(server.url) as client:
            await client.write(*(sized(id, 1_000_000) for id in range(150)))
            code, said = await client.ended()
            assert code == 1
            assert "has not read" in said
            assert len(server.asked("tools/call")) > 60


def memory_of(client: Bridge) -> int:
    """The most that the process ever used, in bytes."""
    lines = Path(f"/proc/{client.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


async def test_a_client_that_vanishes_ends_it(plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        await client.initialize()
        reader = client.process.stdout
        assert reader
        reader._transport.close()  # type: ignore[attr-defined]  # the pipe that asyncio wraps

        async def noticed() -> bool:
            assert client.process.stdin
            if not client.process.stdin.is_closing():
                client.process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')  # only who writes finds out
            return client.process.returncode is not None

        await until(noticed, bool)
        assert (await client.ended())[0] == 0


# ---- a server that comes and goes


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def configured(folder: Path, **more: Any) -> Path:
    path = folder / "bascule.json"
    path.write_text(json.dumps({"servers": {"it": local("plain")}, **more}))
    return path


async def test_a_server_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    async with bridge(f"http://127.0.0.1:{port}/servers/it/mcp", "--wait", "30") as client:
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}}
        await client.send({"id": 0, "method": "initialize", "params": hello})
        await client.said("Cannot connect")
        async with serving(configured(tmp_path), "--port", str(port)):
            assert "result" in await client.answer_to(0)
            assert text_of(await client.call("echo", text="x")) == "x"
            await client.end()


async def test_a_server_that_stays_away_is_named_and_found_again_later(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/servers/it/mcp"
    async with bridge(url, "--wait", "0.3") as client:
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}}
        error = (await client.ask("initialize", hello))["error"]
        assert error["data"]["kind"] == "unavailable"
        assert url in error["message"]
        assert "Is it running" in error["message"]
        assert "connection refused" in await client.said("cannot be reached")
        assert "is it running, and is that its address?" in await client.said("is it running")
        assert (await client.ask("tools/list", stamped()))["error"]["data"]["kind"] == "unavailable"
        async with serving(configured(tmp_path), "--port", str(port)):
            await client.initialize()
            assert text_of(await client.call("echo", text="x")) == "x"
        assert (await client.end())[0] == 0


@pytest.mark.parametrize("keys", [True, False])
async def test_a_restart_of_the_server_is_not_noticed(keys: bool, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/servers/it/mcp"
    path = configured(tmp_path, **({"seal": {"keys": ["${env:KEY}"]}} if keys else {}))
    env = {"KEY": KEY}
    async with bridge(url) as client:
        async with serving(path, "--port", str(port), env=env):
            await client.initialize()
            assert text_of(await client.call("echo", text="1")) == "1"
            wanted = {"toolsListChanged": True}
            await client.send({"id": "s", "method": "subscriptions/listen", "params": stamped(notifications=wanted)})
            await heard(client, "notifications/subscriptions/acknowledged")
        async with serving(path, "--port", str(port), env=env):
            assert text_of(await client.call("echo", text="2")) == "2"
            assert text_of(await client.result("tools/call", stamped(name="echo", arguments={"text": "3"}))) == "3"
            # What changed while nobody could hear it is said once the subscription stands again.
            assert (await heard_with_tag(client))["method"] == NEWS
            client.early.clear()
            await client.call("rename", tool="fail", to="failing")
            await heard_with_tag(client)
            if keys:  # without, the session is another one, whose stream opens with it
                await client.result("resources/subscribe", {"uri": "test://notes/1"})
                await client.call("touch", uri="test://notes/1")
                assert (await heard(client, UPDATED))["params"]["uri"] == "test://notes/1"
            assert (await client.end())[0] == 0


async def heard_with_tag(client: Bridge) -> Json:
    """The next notification of the subscription `s`."""
    while True:
        message = await client.next()
        assert message.get("method") != "notifications/subscriptions/acknowledged", "it was acknowledged before"
        if message.get("params", {}).get("_meta") == {f"{META}subscriptionId": "s"}:
            return message


async def test_a_call_that_may_have_run_is_not_repeated() -> None:
    async def crash(asked: Asked) -> None:
        asked.reset()

    async with far(modern=True) as server:
        server.on["tools/call"] = crash
        async with bridge(server.url) as client:
            answer = await client.ask("tools/call", stamped(name="echo", arguments={"text": "x"}))
            assert answer["result"]["_meta"]["dev.bascule/error"]["kind"] == "upstream_protocol"
            assert len(server.asked("tools/call")) == 1


async def test_a_list_that_was_cut_off_is_asked_for_again() -> None:
    async def crash_once(asked: Asked) -> None:
        if len(server.asked("tools/list")) == 1:
            asked.reset()
        else:
            await server.answer(asked)

    async with far(modern=True) as server:
        server.on["tools/list"] = crash_once
        async with bridge(server.url) as client:
            assert (await client.result("tools/list", stamped()))["tools"]


# ---- credentials


async def test_the_credentials_of_the_environment_are_sent_and_nothing_else_is_said_of_them() -> None:
    env = {"BASCULE_TOKEN": "the-token", "OTHER": "the-other"}
    async with far(modern=True) as server:
        async with bridge(server.url, "--header-env", "X-Other=OTHER", env=env) as client:
            assert (await client.result("tools/list", stamped()))["tools"]
            assert await client.end() == (0, "")
        assert {asked.headers.get("authorization") for asked in server.seen} == {"Bearer the-token"}
        assert {asked.headers.get("x-other") for asked in server.seen} == {"the-other"}
        server.seen.clear()
        async with bridge(server.url, "--header-env=Authorization=OTHER", env=env) as client:
            await client.result("tools/list", stamped())
        assert {asked.headers.get("authorization") for asked in server.seen} == {"the-other"}


async def test_a_missing_credential_is_explained() -> None:
    token = "a-token-of-sixteen-or-more"
    async with gateway({"it": local("plain")}, http={"bearer": "${env:T}"}, environ={"T": token}) as bascule:
        async with bridge(endpoint(bascule)) as client:
            answer = await client.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})
            assert "401" in answer["error"]["message"]
            assert "credential" in await client.said("BASCULE_TOKEN")
        async with bridge(endpoint(bascule), env={"BASCULE_TOKEN": token}) as client:
            await client.initialize()


async def test_a_message_that_is_too_long_is_answered_with_its_id_and_the_limit(plain: Bascule) -> None:
    async with bridge(endpoint(plain)) as client:
        await client.initialize()
        long = b'{"jsonrpc":"2.0","id":"mine","method":"tools/call","params":{"x":"%b"}}' % (b"x" * 5_000_000)
        await client.write(long)
        answer = await client.next()
        assert (answer["id"], answer["error"]["code"]) == ("mine", -32600)
        assert "4194304 bytes" in answer["error"]["message"]
        assert await client.result("ping") == {}


async def test_white_space_around_the_token_of_the_environment_is_not_part_of_it() -> None:
    token = "a-token-of-sixteen-or-more"
    async with gateway({"it": local("plain")}, http={"bearer": "${env:T}"}, environ={"T": token}) as bascule:
        async with bridge(endpoint(bascule), env={"BASCULE_TOKEN": f"{token}\n"}) as client:
            await client.initialize()
        async with bridge(endpoint(bascule), env={"BASCULE_TOKEN": "two\nlines"}) as client:
            code, said = await client.ended()
            assert (code, "BASCULE_TOKEN holds what an HTTP header cannot carry" in said) == (2, True)
            assert "lines" not in said
