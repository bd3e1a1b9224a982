"""Real clients, each in its own environment and process, list and call through a real Bascule.

Every client finds its own era, whatever the server speaks; one that negotiates finds the modern one.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

import features
import pytest
from real import LEGACY, MODERN, Inspector, Script, Way

from processes import BRIDGE, running_bascule, server

pytestmark = pytest.mark.clients

UPSTREAMS: Final = ("plain", "modern")
CLIENTS: Final[Mapping[Script | Inspector, str]] = {  # and the version that each works at
    Script("sdk1", "sdk1"): LEGACY,
    Script("sdk2", "sdk2", "legacy"): LEGACY,
    Script("sdk2", "sdk2", "auto"): MODERN,
    Script("sdk2", "sdk2", MODERN): MODERN,
    Script("fastmcp_client", "fastmcp", "legacy"): LEGACY,
    Script("fastmcp_client", "fastmcp", "auto"): MODERN,
    Script("fastmcp_client", "fastmcp", MODERN): MODERN,
    Script("openai_agents_client", "openai_agents"): MODERN,
    Script("langchain_client", "langchain"): LEGACY,
    Inspector("legacy"): LEGACY,
    Inspector("auto"): MODERN,
    Inspector("modern"): MODERN,
}


@pytest.fixture(scope="module")
def urls() -> Iterator[Mapping[str, str]]:
    """One Bascule for each upstream, for all clients. The upstreams list in pages."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(running_bascule(*BRIDGE, *server(name, "--page-size", "5"))) for name in UPSTREAMS
        }


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_lists_all_tools_and_gets_its_text_back(
    client: Script | Inspector, upstream: str, urls: Mapping[str, str]
) -> None:
    report = client.report(Way([urls[upstream]]))
    assert report["protocol"] == CLIENTS[client]
    tools = report["features"]["tools"]["got"]
    assert tools[:2] == ["echo", "add"]
    assert tools[-1] == "params"  # on the last page of the upstream
    assert report["features"]["echo"] == {"got": features.TEXT}
