"""The MCP that every pack speaks: both eras over its own pipes, with a pack that another package brings."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from packs.talking import Talk

META: Final = "io.modelcontextprotocol/"
MODERN: Final = "2026-07-28"

OPTIONS: Final = """
from bascule.packs.pack import PackOptions

class AcmeOptions(PackOptions, frozen=True):
    greeting: str = "Hello"

OPTIONS = AcmeOptions
"""
CONTRACTS: Final = """
tool: acme/greet
version: 2.1.0
description: Greets somebody.
input_schema:
  type: object
  properties: {name: {type: string, minLength: 1}, times: {type: integer, minimum: 1, maximum: 3}}
  required: [name]
  additionalProperties: false
output_schema: {type: object, properties: {text: {type: string}}, required: [text]}
side_effect: false
idempotent: true
---
tool: clock/wait
version: 1.0.0
description: Waits until it is told to stop.
input_schema: {type: object, additionalProperties: false}
side_effect: true
"""
PACK: Final = """
import asyncio
from pathlib import Path
import msgspec
from bascule.packs.pack import Argument, Asked, Pack, Prompt, Resource, ToolFailed

class Greet(msgspec.Struct, frozen=True):
    name: str
    times: int = 1

class Wait(msgspec.Struct, frozen=True):
    pass

def build(options):
    contracts = Path(__file__).parent / "contracts"
    pack = Pack("acme", title="Acme", version="2.0.0", instructions="Greet people.", contracts=contracts)

    async def greet(wanted: Greet, asked: Asked) -> dict[str, str]:
        if wanted.name == "fault":
            raise KeyError("unforeseen")
        if wanted.name == "nobody":
            raise ToolFailed("Nobody cannot be greeted.", "Name somebody.")
        text = " ".join([f"{options.greeting} {wanted.name}!"] * wanted.times)
        return {"text": f"{text} ({asked.key})" if asked.key else text}

    async def wait(wanted: Wait, asked: Asked) -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def plain(values: dict[str, str]) -> str:
        return "plain text"

    async def of_one(values: dict[str, str]) -> str:
        if values["name"] == "none":
            raise ToolFailed("There is no such page.", "Read acme://pages/one.")
        return f"page {values['name']}"

    pack.tool("acme/greet", greet)
    pack.tool("clock/wait", wait)
    pack.resource(Resource("acme://plain", "plain", "A text.", "text/plain", plain))
    pack.resource(Resource("acme://pages/{name}", "pages", "Pages.", "text/markdown", of_one))
    pack.prompt(Prompt("ask", "Asks.", [Argument("about", "What.")], lambda said: f"Tell me of {said['about']}."))
    return pack
"""


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an installed package that declares a pack."""
    folder = tmp_path_factory.mktemp("acme")
    package = folder / "acme_pack"
    (package / "contracts").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "options.py").write_text(OPTIONS)
    (package / "pack.py").write_text(PACK)
    (package / "contracts" / "acme.yaml").write_text(CONTRACTS)
    about = folder / "acme_pack-2.0.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-pack\nVersion: 2.0.0\n")
    (about / "entry_points.txt").write_text("[bascule.packs]\nacme = acme_pack\n")
    return folder


@asynccontextmanager
async def running(folder: Path, options: str = "{}") -> AsyncIterator[Talk]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "bascule.packs", "acme"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(folder), "BASCULE_PACK": options},
        limit=16 * 1024 * 1024,
    )
    try:
        yield Talk(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(30):
            await process.communicate()


def modern(**more: Any) -> dict[str, Any]:
    return {**more, "_meta": {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}}


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_it_shakes_hands_in_every_version(version: str, acme: Path) -> None:
    async with running(acme) as talk:
        hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        result = (await talk.request("initialize", hello))["result"]
    assert result["protocolVersion"] == version
    assert result["serverInfo"] == {"name": "bascule-acme", "title": "Acme", "version": "2.0.0"}
    assert set(result["capabilities"]) == {"tools", "resources", "prompts"}
    assert result["instructions"] == "Greet people."


async def test_a_stateless_client_discovers_it_and_every_result_says_that_it_is_complete(acme: Path) -> None:
    async with running(acme) as talk:
        found = (await talk.request("server/discover", modern()))["result"]
        assert MODERN in found["supportedVersions"]
        assert found["_meta"][f"{META}serverInfo"]["name"] == "bascule-acme"
        for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list"):
            result = (await talk.request(method, modern()))["result"]
            assert result["resultType"] == "complete"
            assert result["ttlMs"] > 0
        called = await talk.request("tools/call", modern(name="greet", arguments={"name": "Mai"}))
        assert called["result"]["resultType"] == "complete"
        assert called["result"]["structuredContent"] == {"text": "Hello Mai!"}


async def test_a_version_that_is_not_spoken_is_refused_with_those_that_are(acme: Path) -> None:
    async with running(acme) as talk:
        params = modern()
        params["_meta"][f"{META}protocolVersion"] = "2099-01-01"
        error = (await talk.request("tools/list", params))["error"]
    assert error["code"] == -32022
    assert MODERN in error["data"]["supported"]


async def test_tools_are_listed_as_their_contracts_say(acme: Path) -> None:
    async with running(acme) as talk:
        greet, wait = (await talk.request("tools/list"))["result"]["tools"]
    assert (greet["name"], wait["name"]) == ("greet", "clock__wait")
    assert greet["annotations"] == {"readOnlyHint": True, "idempotentHint": True}
    assert wait["annotations"] == {"readOnlyHint": False, "idempotentHint": False}
    assert greet["outputSchema"]["required"] == ["text"]


async def test_arguments_are_checked_and_a_failure_says_what_to_do(acme: Path) -> None:
    async with running(acme, json.dumps({"greeting": "Xin chào"})) as talk:
        assert await talk.call("greet", name="Mai", times=2) == {"text": "Xin chào Mai! Xin chào Mai!"}
        assert await talk.call("greet", key="key-0123456789abcdef", name="Mai") == {
            "text": "Xin chào Mai! (key-0123456789abcdef)"
        }
        assert "/times: must be at most 3" in await talk.refusal("greet", name="Mai", times=4)
        assert "name" in await talk.refusal("greet")
        assert "other" in await talk.refusal("greet", name="Mai", other=1)
        assert await talk.refusal("greet", name="nobody") == "Nobody cannot be greeted. Name somebody."


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("no/such", {}, -32601),
        ("tools/call", {"name": "none"}, -32602),
        ("tools/call", {}, -32602),
        ("resources/read", {"uri": "acme://none"}, -32602),
        ("resources/read", {"uri": "acme://pages/none"}, -32602),
        ("resources/read", {"uri": "acme://pages/a/b"}, -32602),
        ("prompts/get", {"name": "none"}, -32602),
        ("prompts/get", {"name": "ask"}, -32602),
        ("prompts/get", {"name": "ask", "arguments": {"about": 1}}, -32602),
    ],
)
async def test_what_is_not_there_is_an_error_of_the_protocol(
    method: str, params: dict[str, Any], code: int, acme: Path
) -> None:
    async with running(acme) as talk:
        assert (await talk.request(method, params))["error"]["code"] == code
        assert (await talk.request("ping"))["result"] == {}, "it goes on"


async def test_a_fault_of_a_tool_is_answered_and_the_pack_goes_on(acme: Path) -> None:
    async with running(acme) as talk:
        answer = await talk.request("tools/call", {"name": "greet", "arguments": {"name": "fault"}})
        assert answer["error"]["code"] == -32603
        assert "unforeseen" not in answer["error"]["message"]
        assert await talk.call("greet", name="Mai") == {"text": "Hello Mai!"}


async def test_resources_templates_and_prompts_are_read(acme: Path) -> None:
    async with running(acme) as talk:
        for uri, text in (("acme://plain", "plain text"), ("acme://pages/a%20b", "page a b")):
            (content,) = (await talk.request("resources/read", {"uri": uri}))["result"]["contents"]
            assert (content["uri"], content["text"]) == (uri, text)
        (template,) = (await talk.request("resources/templates/list"))["result"]["resourceTemplates"]
        assert template["uriTemplate"] == "acme://pages/{name}"
        asked = {"name": "ask", "arguments": {"about": "bridges"}}
        (message,) = (await talk.request("prompts/get", asked))["result"]["messages"]
    assert message == {"role": "user", "content": {"type": "text", "text": "Tell me of bridges."}}


async def test_a_call_that_is_cancelled_is_not_answered_and_does_not_hold_up_the_end(acme: Path) -> None:
    async with running(acme) as talk:
        assert talk.process.stdin is not None
        assert talk.process.stdout is not None
        wait = {"jsonrpc": "2.0", "id": "w", "method": "tools/call", "params": {"name": "clock__wait", "arguments": {}}}
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "w"}}
        for message in (wait, cancel):
            talk.process.stdin.write(json.dumps(message).encode() + b"\n")
        assert (await talk.request("ping"))["result"] == {}
    assert talk.process.returncode == 0


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", -32700),
        (b"[]", -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "method": "ping"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": ' + b"[" * 70 + b"]" * 70 + b"}", -32600),
        (b'"' + b"x" * (5 * 1024 * 1024) + b'"', -32600),
    ],
)
async def test_a_line_that_is_no_message_is_refused_and_the_next_one_is_answered(
    line: bytes, code: int, acme: Path
) -> None:
    async with running(acme) as talk:
        assert talk.process.stdin is not None
        assert talk.process.stdout is not None
        talk.process.stdin.write(line + b"\n")
        async with asyncio.timeout(30):
            answer = json.loads(await talk.process.stdout.readline())
        assert answer["error"]["code"] == code
        assert (await talk.request("ping"))["result"] == {}


@pytest.mark.parametrize(
    ("options", "said"), [('{"greting": "x"}', "greting"), ('{"greeting": 1}', "settings.greeting")]
)
async def test_options_that_are_none_are_said_and_nothing_is_served(options: str, said: str, acme: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "bascule.packs", "acme"),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(acme), "BASCULE_PACK": options},
    )
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert said in stderr.decode()
