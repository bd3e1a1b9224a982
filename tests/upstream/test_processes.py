"""What a process is told of the clients that it serves, by the way it is shared."""

import json
from typing import Any

import pytest
from foreign import Visitor, ask, echoed
from gateway import hostile
from msgspec import Raw

from bascule.upstream.stdio import StdioOptions, StdioUpstream
from bascule.wire import jsonrpc, legacy
from bascule.wire.versions import BY_VERSION


def visitor(name: str, version: str, **capabilities: Any) -> Visitor:
    made = Visitor(name, revision=BY_VERSION[version], capabilities=capabilities)
    made.hello = {**made.hello, "protocolVersion": jsonrpc.encode(version), "dev.example/more": Raw(b"1.0")}
    return made


@pytest.mark.parametrize("sharing", ["per_session", "per_caller", "shared"])
async def test_a_process_of_one_session_is_greeted_with_its_own_words(sharing: str) -> None:
    server = hostile("tells-hello", sharing=sharing)
    upstream = StdioUpstream("it", StdioOptions(**{**server, "args": tuple(server["args"])}))
    one, other = visitor("one", "2025-03-26", roots={}), visitor("other", "2025-11-25", elicitation={"form": {}})
    try:
        for each in (one, other):
            greeting = await ask(upstream, "initialize", session=each)
            hello = json.loads(await echoed(upstream, "", each))
            if sharing == "per_session":
                assert hello == {key: jsonrpc.decode(raw) for key, raw in each.hello.items()}
                assert greeting["protocolVersion"] == each.revision.version
            else:
                assert hello["capabilities"] == legacy.RELAYED_CAPABILITIES
                assert hello["clientInfo"]["name"] == "bascule"
        assert len(upstream.status().pids) == {"per_session": 2}.get(sharing, 1)
    finally:
        await upstream.stop()
