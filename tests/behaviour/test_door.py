"""Who may come in, and in what form: over a real socket, and one shape for every refusal."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

import pytest
from gateway import KINDLY, WITHIN_S, Bascule, Exchange, Legacy, gateway, local

LIST = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
TOKEN = "a-token-of-sixteen-or-more"


@pytest.fixture
async def plain() -> AsyncIterator[Bascule]:
    async with gateway({"it": local("plain", start="lazy")}, http={"max_body_bytes": 100_000}) as bascule:
        yield bascule


async def raw(bascule: Bascule, *parts: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """(status, headers, body) of what is answered to these very bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(bascule.url.rpartition(":")[2]))
    try:
        for part in parts:
            writer.write(part)
        async with asyncio.timeout(WITHIN_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
            return int(first.split()[1]), headers, await reader.readexactly(int(headers.get("content-length", 0)))
    finally:
        writer.close()


def head(bascule: Bascule, *lines: str, target: str = "/mcp", method: str = "POST", host: str | None = None) -> bytes:
    host = host if host is not None else bascule.url.removeprefix("http://")
    whole = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host else []), *lines]
    return "\r\n".join([*whole, "", ""]).encode()


ACCEPT = "Accept: application/json, text/event-stream"
TYPE = "Content-Type: application/json"
LENGTH = f"Content-Length: {len(LIST)}"


async def is_refusal(exchange: Exchange, status: int, code: int | None = None) -> None:
    """One shape for all: a JSON-RPC error with our data, and nothing of ours leaking."""
    body = await exchange.body()
    assert exchange.status == status, body
    assert exchange.response.content_type == "application/json"
    looks_right(body, code)


def looks_right(body: bytes, code: int | None = None) -> None:
    message = json.loads(body)
    assert message["jsonrpc"] == "2.0"
    assert set(message) <= {"jsonrpc", "id", "error"}
    assert {"code", "message", "data"} <= set(message["error"])
    assert {"code", "kind", "category", "retryable", "trace_id", "source"} <= set(message["error"]["data"])
    assert code is None or message["error"]["code"] == code
    assert b"Traceback" not in body


@pytest.mark.parametrize(
    "host", ["evil.com", "localhost.evil.com", "127.0.0.1.evil.com", "localhost:80@evil.com", "[::2]"]
)
@pytest.mark.parametrize("path", ["/mcp", "/status", "/servers/it/mcp"])
async def test_a_foreign_host_is_421(host: str, path: str, plain: Bascule) -> None:
    status, _, body = await raw(plain, head(plain, ACCEPT, TYPE, LENGTH, host=host, target=path), LIST)
    assert status == 421
    looks_right(body)


async def test_a_missing_host_is_400(plain: Bascule) -> None:
    status, _, _ = await raw(plain, head(plain, ACCEPT, TYPE, LENGTH, host=""), LIST)
    assert status == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80"])
async def test_loopback_names_are_hosts(host: str, plain: Bascule) -> None:
    async with plain.request("GET", "/status", {"host": host}) as exchange:
        assert exchange.status == 200


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.com", "null", "", "http://localhost.evil.com", "http://localhost:80@evil.com", "file://"),
        *(
            "https://127.0.0.1.evil.com",
            "http://localhost/",
            "http://localhost:x",
            "localhost",
            "chrome-extension://localhost",
        ),
    ],
)
async def test_a_foreign_origin_is_403(origin: str, plain: Bascule) -> None:
    for method, path in (("POST", "/mcp"), ("GET", "/status"), ("OPTIONS", "/mcp"), ("DELETE", "/mcp")):
        async with plain.request(method, path, {**KINDLY, "origin": origin}, LIST) as exchange:
            await is_refusal(exchange, 403)
            assert "access-control-allow-origin" not in exchange.headers


async def test_two_origins_are_400(plain: Bascule) -> None:
    origins = ("Origin: http://localhost", "Origin: http://evil.com")
    for pair in (origins, origins[::-1]):
        status, _, body = await raw(plain, head(plain, ACCEPT, TYPE, LENGTH, *pair), LIST)
        assert status == 400
        looks_right(body)


async def test_a_page_of_this_machine_may_call_and_reads_the_answer(plain: Bascule) -> None:
    async with plain.request("OPTIONS", "/mcp", {"origin": "http://localhost:6274",
                             "access-control-request-method": "POST",
                             "access-control-request-headers": "mcp-session-id,content-type"}) as exchange:  # fmt: skip
        assert exchange.status == 204
        assert exchange.headers["access-control-allow-origin"] == "http://localhost:6274"
        assert "mcp-session-id" in exchange.headers["access-control-allow-headers"]
        assert "POST" in exchange.headers["access-control-allow-methods"]
    client = await plain.session(headers={"origin": "http://localhost:6274"})
    async with client.open("tools/list") as exchange:
        assert exchange.headers["access-control-allow-origin"] == "http://localhost:6274"
        assert "mcp-session-id" in exchange.headers["access-control-expose-headers"]


async def test_a_refusal_can_be_read_by_an_allowed_page(plain: Bascule) -> None:
    async with plain.request("POST", "/nowhere", {**KINDLY, "origin": "http://localhost"}, LIST) as exchange:
        await is_refusal(exchange, 404)
        assert exchange.headers["access-control-allow-origin"] == "http://localhost"


async def test_an_origin_of_the_configuration_may_call() -> None:
    async with gateway({}, http={"allowed_origins": ["https://console.example"]}) as bascule:
        for origin, status in (("https://console.example", 200), ("http://console.example", 403),
                               ("https://console.example:444", 403)):  # fmt: skip
            async with bascule.request("GET", "/status", {"origin": origin}) as exchange:
                assert exchange.status == status


@pytest.mark.parametrize(("path", "method"), [("/mcp", "PUT"), ("/mcp", "PATCH"), ("/status", "POST"), ("/mcp", "GET")])
async def test_a_method_that_is_not_served_is_405_with_allow(path: str, method: str, plain: Bascule) -> None:
    async with plain.request(method, path, KINDLY, LIST if method != "GET" else None) as exchange:
        await is_refusal(exchange, 405)
        assert exchange.headers["allow"]


async def test_a_modern_get_and_delete_are_405(plain: Bascule) -> None:
    for method in ("GET", "DELETE"):
        async with plain.request(method, "/mcp", {**KINDLY, "mcp-protocol-version": "2026-07-28"}) as exchange:
            await is_refusal(exchange, 405)
            assert exchange.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "target",
    [
        *("/", "/MCP", "/mcp/", "//mcp", "/mcp/../status", "/%6dcp", "/servers//mcp", "/servers/nobody/mcp"),
        *(
            "/servers/it/mcp/",
            "/servers/../servers/it/mcp",
            "/servers/%69t/mcp",
            "/mcp/%2e%2e/status",
            "/servers/it%2fmcp",
        ),
    ],
)
async def test_a_path_that_is_not_exactly_an_endpoint_is_404(target: str, plain: Bascule) -> None:
    status, _, body = await raw(plain, head(plain, ACCEPT, TYPE, LENGTH, target=target), LIST)
    assert status == 404
    looks_right(body)


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json", "text/event-stream", "application/json, text/event-stream;q=0", ""]
)
async def test_an_accept_that_rules_out_an_answer_is_406(accept: str, plain: Bascule) -> None:
    async with plain.request("POST", "/mcp", {**KINDLY, "accept": accept}, LIST) as exchange:
        await is_refusal(exchange, 406)


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/jsonp", "application/json; charset=utf-16", "multipart/form-data; boundary=x", ""],
)
async def test_another_content_type_is_415(kind: str, plain: Bascule) -> None:
    async with plain.request("POST", "/mcp", {**KINDLY, "content-type": kind}, LIST) as exchange:
        await is_refusal(exchange, 415)


async def test_a_compressed_body_is_415(plain: Bascule) -> None:
    for coding in ("gzip", "br", "GZIP", "identity, gzip"):
        status, _, body = await raw(plain, head(plain, ACCEPT, TYPE, LENGTH, f"Content-Encoding: {coding}"), LIST)
        assert status == 415
        looks_right(body)


async def test_a_large_body_is_413_before_it_is_sent(plain: Bascule) -> None:
    status, _, body = await raw(plain, head(plain, ACCEPT, TYPE, "Content-Length: 100001"))
    assert status == 413
    looks_right(body)


async def test_a_large_body_in_chunks_is_413_before_it_ends(plain: Bascule) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    status, _, body = await raw(plain, head(plain, ACCEPT, TYPE, "Transfer-Encoding: chunked"), *[chunk] * 4)
    assert status == 413
    looks_right(body)


async def test_a_body_of_exactly_the_limit_is_read(plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp")
    async with client.post(LIST + b" " * (100_000 - len(LIST))) as exchange:
        assert "result" in await exchange.last()


@pytest.mark.parametrize("length", ["+46", "4_6", "0x2e", "-1", "46, 46", "٤٦", "46 46"])
async def test_a_content_length_that_is_no_number_is_400(length: str, plain: Bascule) -> None:
    status, _, _ = await raw(plain, head(plain, ACCEPT, TYPE, f"Content-Length: {length}"), LIST)
    assert status == 400


async def test_a_long_target_is_414(plain: Bascule) -> None:
    for target in ("/mcp?" + "x" * 9000, "/" + "x" * 9000):
        status, _, body = await raw(plain, head(plain, ACCEPT, TYPE, LENGTH, target=target), LIST)
        assert status == 414
        looks_right(body)


def nested(depth: int) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":' + b"[" * depth + b"]" * depth + b"}}"


BAD_BODIES = {
    "empty": (b"", -32700),
    "cut": (b'{"jsonrpc":"2.0",', -32700),
    "trailing": (LIST + b"x", -32700),
    "comment": (b"/**/" + LIST, -32700),
    "comma": (LIST[:-1] + b",}", -32700),
    "bom": (b"\xef\xbb\xbf" + LIST, -32700),
    "utf-16": (LIST.decode().encode("utf-16"), -32700),
    "latin-1": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":"\xe9"}}', -32700),
    "nan": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":NaN}}', -32700),
    "infinity": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":-Infinity}}', -32700),
    "a number": (b"1", -32600),
    "null": (b"null", -32600),
    "a string": (b'"x"', -32600),
    "batch": (b"[%b]" % LIST, -32600),
    "empty batch": (b"[]", -32600),
    "no version": (b'{"id":1,"method":"tools/list"}', -32600),
    "version 1.0": (b'{"jsonrpc":"1.0","id":1,"method":"tools/list"}', -32600),
    "version as number": (b'{"jsonrpc":2.0,"id":1,"method":"tools/list"}', -32600),
    "id true": (b'{"jsonrpc":"2.0","id":true,"method":"tools/list"}', -32600),
    "id null": (b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}', -32600),
    "id float": (b'{"jsonrpc":"2.0","id":1.0,"method":"tools/list"}', -32600),
    "id -0": (b'{"jsonrpc":"2.0","id":-0,"method":"tools/list"}', -32600),
    "id object": (b'{"jsonrpc":"2.0","id":{},"method":"tools/list"}', -32600),
    "two ids": (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}', -32600),
    "two names": (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}', -32600),
    "two arguments": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"x":2}}}',
        -32600,
    ),
    "two by escape": (b'{"jsonrpc":"2.0","id":1,"\\u0069d":2,"method":"tools/list"}', -32600),
    "Method": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}', -32600),
    "long s": ('{"jsonrpc":"2.0","id":1,"method":"tools/list","param\u017f":{}}'.encode(), -32600),
    "Name": (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}', -32600),
    "lone surrogate": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":"\\ud800"}}', -32600),
    "depth 65": (nested(63), -32600),
    "params array": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}', -32602),
    "params null": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":null}', -32602),
    "result and method": (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","result":{}}', -32600),
    "neither": (b'{"jsonrpc":"2.0","id":1}', -32600),
    "method number": (b'{"jsonrpc":"2.0","id":1,"method":1}', -32600),
}


@pytest.mark.parametrize(("body", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
async def test_a_malformed_body_is_400_with_the_code_of_its_fault(body: bytes, code: int, plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp")
    async with client.post(body) as exchange:
        await is_refusal(exchange, 400, code)
    assert (await client.result("tools/list"))["tools"]


@pytest.mark.parametrize("depth", [1_000, 49_000])
async def test_very_deep_json_is_400_and_harms_nothing(depth: int, plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp")
    for body in (nested(depth), b"[" * depth, b'{"a":' * (depth // 5)):
        async with client.post(body) as exchange:
            await is_refusal(exchange, 400)
    assert (await client.result("tools/list"))["tools"]


async def test_depth_64_passes(plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp")
    async with client.post(nested(62)) as exchange:
        assert "result" in await exchange.last()


async def test_a_number_of_5000_digits_is_400_or_crosses_but_never_500(plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp")
    async with client.post(
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":' + b"9" * 5000 + b"}}"
    ) as exchange:
        await is_refusal(exchange, 400, -32700)


async def test_a_batch_is_legal_in_a_session_of_2025_03_26_only(plain: Bascule) -> None:
    batch = b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"notifications/x"},' \
            b'{"jsonrpc":"2.0","id":"two","method":"tools/list"}]'  # fmt: skip
    client = await plain.session("/servers/it/mcp", "2025-03-26")
    async with client.post(batch) as exchange:
        assert exchange.status == 200
        answers = {answer["id"]: answer for answer in json.loads(await exchange.body())}
    assert answers[1]["result"] == {}
    assert answers["two"]["result"]["tools"]
    async with client.post(b'[{"jsonrpc":"2.0","method":"notifications/x"}]') as exchange:
        assert exchange.status == 202
    for version in ("2024-11-05", "2025-06-18", "2025-11-25"):
        async with (await plain.session("/servers/it/mcp", version)).post(batch) as exchange:
            await is_refusal(exchange, 400, -32600)


async def test_initialize_in_a_batch_is_refused(plain: Bascule) -> None:
    client = await plain.session("/servers/it/mcp", "2025-03-26")
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-03-26", "capabilities": {}},
    }
    async with client.post([{"jsonrpc": "2.0", "id": 2, "method": "ping"}, hello]) as exchange:
        answers = {each["id"]: each for each in json.loads(await exchange.body())}
    assert "error" in answers[1]


# What is no credential at all is a bad request (RFC 6750, 3.1).
MALFORMED = ("Bearer", "Bearer ", f"Bearer é{TOKEN}")


async def test_a_bearer_is_needed_everywhere_when_configured() -> None:
    async with gateway({"it": local("plain")}, http={"bearer": "${env:TOKEN}"}, environ={"TOKEN": TOKEN}) as bascule:
        for wrong in (
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer x",
            f"Basic {TOKEN}",
            f"Bearer {TOKEN}x",
            TOKEN,
            f"Bearer é{TOKEN}",
        ):
            for method, path in (("POST", "/mcp"), ("GET", "/mcp"), ("DELETE", "/mcp"), ("GET", "/status")):
                async with bascule.request(method, path, {**KINDLY, "authorization": wrong}, LIST) as exchange:
                    await is_refusal(exchange, 400 if wrong in MALFORMED else 401)
                    assert exchange.headers["www-authenticate"].startswith("Bearer")
                    assert TOKEN.encode() not in await exchange.body()
        client = await bascule.session(headers={"authorization": f"Bearer {TOKEN}"})
        assert (await client.result("tools/list"))["tools"]
        stranger = Legacy(bascule, "/mcp", client.version, {**client.headers, "authorization": None})
        async with stranger.open("tools/list") as exchange:
            await is_refusal(exchange, 401)


async def test_a_token_in_the_query_does_not_open_the_door() -> None:
    async with gateway({}, http={"bearer": "${env:TOKEN}"}, environ={"TOKEN": TOKEN}) as bascule:
        for query, status in ((f"?access_token={TOKEN}", 400), (f"?token={TOKEN}", 401)):
            async with bascule.request("GET", f"/status{query}") as exchange:
                await is_refusal(exchange, status)


async def test_two_authorization_headers_are_400() -> None:
    async with gateway({}, http={"bearer": "${env:TOKEN}"}, environ={"TOKEN": TOKEN}) as bascule:
        twice = (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer x")
        for pair in (twice, twice[::-1]):
            status, _, _ = await raw(bascule, head(bascule, *pair, method="GET", target="/status"))
            assert status == 400


async def test_a_preflight_needs_no_token() -> None:
    async with gateway({}, http={"bearer": "${env:TOKEN}"}, environ={"TOKEN": TOKEN}) as bascule:
        wish = {"origin": "http://localhost", "access-control-request-method": "POST"}
        async with bascule.request("OPTIONS", "/mcp", wish) as exchange:
            assert exchange.status == 204


async def test_health_of_a_closed_door_can_be_probed_without_a_token() -> None:
    """Load balancers and kubelets carry no credentials."""
    async with gateway({}, http={"bearer": "${env:TOKEN}"}, environ={"TOKEN": TOKEN}) as bascule:
        for path in ("/health/live", "/health/ready"):
            assert (await bascule.get(path))[0] == 200
