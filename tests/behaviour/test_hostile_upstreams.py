"""What of the hostile cases (docs/security.md, groups M and N) no file of cases can say.

It takes a client that does not read, a torn connection, a process that is measured, or a server that looks around.
"""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from foreign import Asked, Foreign, far
from gateway import (
    KINDLY,
    META,
    MODERN,
    SOON,
    Bascule,
    Json,
    alive,
    failure_of,
    gateway,
    gone,
    local,
    remote,
    serving,
    text_of,
)

from bascule.edge import server
from processes import server as command_of

MIB: Final = 1 << 20
KIB_64: Final = 65_536
WITHIN_S: Final = 10.0
SECRET: Final = "canary-environment-6b1f0c2d9e8a4735"


def scripted(script: Json, journal: Path, **more: Any) -> Json:
    """A server over stdio that does what *script* says, and notes in *journal* what it sees."""
    command, *args = command_of("hostile_script", json.dumps(script), str(journal))
    return {"command": command, "args": args, "stop_grace_s": 0.3, **more}


def noted(journal: Path, kind: str) -> list[str]:
    """What the server has noted of this *kind*."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [line.removeprefix(f"{kind} ") for line in lines if line.startswith(f"{kind} ")]


def peak_bytes(pid: int) -> int:
    """The most memory that the process has ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


# ---- raw clients ---------------------------------------------------------------------------------


@asynccontextmanager
async def raw(bascule: Bascule) -> AsyncIterator[socket.socket]:
    """A connection whose other end nobody reads but the test, with as little room as can be had."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", int(bascule.url.rpartition(":")[2])))
    with sock:
        yield sock


def request(bascule: Bascule, method: str, params: Json, headers: Json, path: str = "/servers/far/mcp") -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    head = {"host": bascule.url.removeprefix("http://"), "content-length": str(len(body)), **KINDLY, **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def modern_call(bascule: Bascule, text: str = "slow") -> bytes:
    meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}, "progressToken": "mine"}
    params = {"name": "echo", "arguments": {"text": text}, "_meta": meta}
    headers = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "echo"}
    return request(bascule, "tools/call", params, headers)


def tear(sock: socket.socket) -> None:
    """Close with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# ---- M04: clients that stop reading ---------------------------------------------------------------


async def flood(asked: Asked, most_bytes: int) -> int:
    """Say one progress event after the other, until the client has left; how many bytes that were."""
    token = asked.message["params"].get("_meta", {}).get("progressToken", 0)
    said = 0
    await asked.stream()
    with contextlib.suppress(ConnectionError):
        while said < most_bytes and not asked.reader.at_eof():
            params = {"progressToken": token, "progress": said, "message": "x" * KIB_64}
            await asked.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            said += KIB_64
    return said


async def test_who_stops_reading_is_given_up_and_so_is_the_call_at_the_server(tmp_path: Path) -> None:
    given_up: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def endless(asked: Asked) -> None:
        given_up.set_result(await flood(asked, 1024 * MIB))

    async with far(modern=True) as foreign, configured(tmp_path, {"far": remote(foreign.url)}) as bascule:
        await bascule.up("far")
        assert bascule.process
        before = peak_bytes(bascule.process.pid)
        foreign.on["tools/call"] = endless
        async with raw(bascule) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, modern_call(bascule))
            async with asyncio.timeout(WITHIN_S):
                said = await given_up
        # 1 MiB is kept for the client; the rest is in the buffers of sockets.
        assert said < 32 * MIB
        assert peak_bytes(bascule.process.pid) - before < 24 * MIB
        await still_answers(bascule, foreign)


async def test_a_session_that_does_not_read_costs_a_bounded_memory_and_nobody_else(tmp_path: Path) -> None:
    """Its call runs on: a client of a session may come back for the answer."""
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def long(asked: Asked) -> None:
        done.set_result(await flood(asked, 128 * MIB))
        with contextlib.suppress(ConnectionError):
            await asked.event({"jsonrpc": "2.0", "id": asked.id, "result": {"content": []}})
            await asked.end()

    async with far() as foreign, configured(tmp_path, {"far": remote(foreign.url)}) as bascule:
        await bascule.up("far")
        session = await bascule.session("/servers/far/mcp")
        foreign.on["tools/call"] = long
        assert bascule.process
        before = peak_bytes(bascule.process.pid)
        params = {"name": "echo", "arguments": {"text": "x"}, "_meta": {"progressToken": "mine"}}
        headers = {name: value for name, value in session.headers.items() if value}
        async with raw(bascule) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, request(bascule, "tools/call", params, headers))
            async with asyncio.timeout(WITHIN_S):
                assert await done == 128 * MIB
            assert peak_bytes(bascule.process.pid) - before < 24 * MIB
        await still_answers(bascule, foreign)


@asynccontextmanager
async def configured(folder: Path, servers: Json, **more: Any) -> AsyncIterator[Bascule]:
    """`bascule serve` with these servers."""
    path = folder / "bascule.json"
    path.write_text(json.dumps({"servers": servers, "drain": SOON, **more}))
    async with serving(path) as bascule:
        yield bascule


async def still_answers(bascule: Bascule, foreign: Foreign) -> None:
    foreign.on.clear()
    result = await (await bascule.session("/servers/far/mcp")).call("echo", text="still here")
    assert text_of(result) == "still here"


# ---- M05: connections that are torn ---------------------------------------------------------------


@pytest.mark.parametrize("spoken", ["nothing", "progress", "half"])
@pytest.mark.parametrize("way", ["reset", "closed", "half-closed"])
async def test_a_torn_connection_cancels_the_call_at_the_server_within_a_second(way: str, spoken: str) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def slow(asked: Asked) -> None:
        if spoken != "nothing":
            await asked.stream()
            params = {"progressToken": asked.message["params"]["_meta"]["progressToken"], "progress": 1}
            await asked.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        if spoken == "half":
            await asked.chunk(b'data: {"jsonrpc":"2.0",')
        begun.set()
        await asked.left()
        left.set()

    async with far(modern=True) as foreign, gateway({"far": remote(foreign.url)}) as bascule:
        await bascule.up("far")
        foreign.on["tools/call"] = slow
        async with raw(bascule) as sock, asyncio.timeout(WITHIN_S):
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, modern_call(bascule))
            await begun.wait()
            if spoken != "nothing":
                assert await loop.sock_recv(sock, 4096)
            match way:
                case "reset":
                    tear(sock)
                case "closed":
                    sock.close()
                case _:
                    sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(1):
                await left.wait()
        await still_answers(bascule, foreign)


async def test_a_torn_connection_cancels_the_call_at_a_local_server(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    script = {"modern": True, "calls": [[]]}
    async with gateway({"far": scripted(script, journal)}) as bascule:
        await bascule.up("far")
        async with raw(bascule) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, modern_call(bascule))
            await soon(lambda: noted(journal, "call"))
            tear(sock)
            await soon(lambda: noted(journal, "cancelled"), within_s=1)


async def soon(look: Any, within_s: float = WITHIN_S) -> None:
    """Wait until *look* finds something."""
    async with asyncio.timeout(within_s):
        while not look():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)


# ---- M07: a TLS handshake that stalls -------------------------------------------------------------


@pytest.mark.parametrize(
    "said", [b"", b"\x16", b"\x16\x03\x01\x02\x00", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
)
async def test_a_handshake_that_stalls_is_ended(said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_WITHIN_S", 0.3)
    async with gateway({}, http={"tls": certificate(tmp_path)}) as bascule, raw(bascule) as sock:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, said)
        async with asyncio.timeout(3):
            with contextlib.suppress(ConnectionError):
                while await loop.sock_recv(sock, 4096):
                    pass  # an alert may come before the end
        trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        async with bascule.http.get(f"https{bascule.url.removeprefix('http')}/health/live", ssl=trusting) as answer:
            assert answer.status == 200


def certificate(folder: Path) -> Json:
    """The options of TLS with a certificate that vouches for itself."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    private = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))
    (folder / "key.pem").chmod(0o600)
    return {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}


# ---- N02, N04: memory ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "floods",
    [
        {"say_long": {"bytes": 256 * MIB, "end": "\n"}},
        {"say_long": {"start": '{"jsonrpc":"2.0","id":<ID>,"result":"', "bytes": 256 * MIB, "end": "\n"}},
        {"flood_stderr": {"bytes": 512 * MIB}},
        {"flood_stderr": {"bytes": 512 * MIB, "of": "x"}},
        {"flood_stderr": {"bytes": 64 * MIB, "of": "\n"}},
    ],
    ids=["a line", "an answer", "stderr", "a line of stderr", "empty lines"],
)
async def test_a_flood_of_a_local_server_leaves_memory_where_it_is_and_others_are_served(
    floods: Json, tmp_path: Path
) -> None:
    script = {"calls": [[floods, {"say": "<GOOD>"}]]}
    servers = {"bad": scripted(script, tmp_path / "journal", call_timeout_s=20), "good": local("plain")}
    async with configured(tmp_path, servers) as bascule:
        await bascule.up("bad", "good")
        bad, good = await bascule.session("/servers/bad/mcp"), await bascule.session("/servers/good/mcp")
        await bad.result("tools/list")
        assert bascule.process
        before = peak_bytes(bascule.process.pid)
        call = asyncio.ensure_future(bad.call("echo", text="hello"))
        for _ in range(5):
            async with asyncio.timeout(3):
                assert text_of(await good.call("echo", text="still here")) == "still here"
        await call
        assert peak_bytes(bascule.process.pid) - before < 24 * MIB
        kept = (await bascule.server("bad"))["stderr"]
        assert sum(map(len, kept)) <= 64 * 1024


# ---- N07: crash after crash -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["exit", "segmentation fault"])
async def test_a_server_that_dies_at_every_call_is_left_alone_after_five(mode: str, tmp_path: Path) -> None:
    dies = {"exit": 1} if mode == "exit" else {"signal": "SIGSEGV"}
    journal = tmp_path / "journal"
    async with gateway({"far": scripted({"calls": [[dies]]}, journal), "good": local("plain")}) as bascule:
        await bascule.up("far", "good")
        client = await bascule.session("/servers/far/mcp")
        for crash in range(1, 6):
            await bascule.until("far", lambda said: said["state"] == "ready")
            assert failure_of(await client.call("echo", text="x"))["kind"] == "upstream_protocol"
            await bascule.until("far", lambda said: said["state"] in ("down", "failed", "starting", "ready"))
            assert len(noted(journal, "call")) == crash  # once each: what may have run is not sent again
        assert (await bascule.server("far"))["state"] == "failed"
        refused = failure_of(await client.call("echo", text="x"))
        assert refused["kind"] in ("unavailable", "circuit_open")
        assert refused["retry_after_ms"] > 5000
        assert len(noted(journal, "call")) == 5
        good = await bascule.session("/servers/good/mcp")
        assert text_of(await good.call("echo", text="still here")) == "still here"


# ---- N16, N19: what a server can see of us --------------------------------------------------------


async def test_a_local_server_has_its_three_pipes_and_no_other_file_of_ours(tmp_path: Path) -> None:
    """Least of all the socket that clients connect to: who has it can take them."""
    async with configured(tmp_path, {"far": local("plain"), "more": local("plain")}) as bascule:
        await bascule.up("far", "more")
        pids = [pid for name in ("far", "more") for pid in (await bascule.server(name))["pids"]]
        assert len(pids) == 2
        for pid in pids:
            assert {int(name) for name in os.listdir(f"/proc/{pid}/fd")} == {0, 1, 2}


async def test_a_local_server_finds_no_secret_of_ours_in_its_environment(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    path = tmp_path / "bascule.json"
    servers = {"far": scripted({"calls": [[{"look": [SECRET[::-1]]}, {"say": "<GOOD>"}]]}, journal)}
    path.write_text(json.dumps({"servers": servers, "http": {"bearer": "${env:BEARER}"}, "drain": SOON}))
    async with serving(path, env={"BEARER": SECRET, "OTHER_SECRET": SECRET}) as bascule:
        bascule.http.headers["authorization"] = f"Bearer {SECRET}"
        client = await bascule.session("/servers/far/mcp")
        await client.call("echo", text="x")
    found = noted(journal, "found")
    assert f"{SECRET} in self environ" not in found
    assert not any("cmdline" in each for each in found)


async def test_a_server_that_was_given_a_daemon_takes_it_along(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    script = {"at_start": [{"leave": {"session": True, "stubborn": True}}], "at_eof": [{"linger": 1}]}
    async with configured(tmp_path, {"far": scripted(script, journal)}) as bascule:
        await bascule.up("far")
        pids = [int(pid) for pid in noted(journal, "pid")]
        assert len(pids) == 2
        assert all(map(alive, pids))
    await gone(*pids, within_s=1)
