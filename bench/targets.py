"""What is measured: each gateway's command line, how it is started, waited for and stopped.

Knows nothing of rounds or tables. Every target gets its own port and a scratch folder as home and working
folder, so that no configuration of the user takes part.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import peers
from exchange import Era
from loadgen import ECHO, NO_HEADERS, SetupError, call_once
from proc import Meter, processes, tree
from sample import megabytes

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 5.0
BOTH: Final[tuple[Era, ...]] = ("legacy", "modern")
STDIO_UPSTREAM: Final = (sys.executable, ECHO, "stdio", "--tools", "{tools}")
HTTP_UPSTREAM: Final = (sys.executable, ECHO, "http", "{upstream_port}", "--tools", "{tools}")

PIPE, DIRECT_HTTP = "direct, stdio", "direct, HTTP"
BASCULE, BASCULE_HTTP = "Bascule", "Bascule, HTTP upstream"
MCP_PROXY, FASTMCP, SUPERGATEWAY = "mcp-proxy", "FastMCP proxy", "supergateway"


class StartError(Exception):
    """The target never answered a call; the text says what it said instead."""


@dataclass(frozen=True)
class Target:
    """One thing to measure; its commands hold {port}, {upstream_port}, {tools}, {servers} and {config} to fill in."""

    name: str
    command: tuple[str, ...]
    eras: tuple[Era, ...] = BOTH
    path: str = "/mcp"
    upstream: tuple[str, ...] = ()  # a process of its own, for gateways that reach it over HTTP
    gateway: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)  # written, as JSON, to the file {config}
    key: tuple[str, ...] = ()  # a command that prints the API key which the calls are made with


def every_target(bascule: Sequence[str], folder: Path) -> list[Target]:
    """All targets, in the order of a round; *folder* holds the peers' environments."""
    node_command = (str(peers.supergateway(folder)), "--stdio", " ".join(STDIO_UPSTREAM), "--stateful")
    fastmcp = (str(peers.python(folder, "fastmcp")), str(Path(__file__).with_name("fastmcp_proxy.py")))
    mcp_proxy = (str(peers.python(folder, "mcp-proxy").with_name("mcp-proxy")), "--pass-environment")
    return [
        Target(PIPE, STDIO_UPSTREAM, gateway=False),
        Target(DIRECT_HTTP, tuple(part.replace("upstream_", "") for part in HTTP_UPSTREAM), gateway=False),
        Target(BASCULE, (*bascule, "run", "--port", "{port}", "--", *STDIO_UPSTREAM)),
        Target(
            BASCULE_HTTP,
            (*bascule, "serve", "--servers", "{servers}", "--port", "{port}"),
            path="/servers/echo/mcp",
            upstream=HTTP_UPSTREAM,
        ),
        # Logging per request is switched off wherever a peer allows it: we compare forwarding, not logging.
        Target(
            MCP_PROXY,
            (*mcp_proxy, "--log-level", "ERROR", "--port", "{port}", "--", *STDIO_UPSTREAM),
            eras=("legacy",),
        ),
        Target(FASTMCP, (*fastmcp, "{port}", *STDIO_UPSTREAM)),
        Target(
            SUPERGATEWAY,
            (*node_command, "--outputTransport", "streamableHttp", "--logLevel", "none", "--port", "{port}"),
            eras=("legacy",),
        ),
    ]


@dataclass(frozen=True)
class Running:
    """A started target that has answered its first call."""

    url: str
    meter: Meter
    cold_start_s: float
    idle_rss_mb: float
    headers: Mapping[str, str] = field(default_factory=dict)  # that requests have to carry


def filled(command: Sequence[str], **values: object) -> list[str]:
    return [part.format(**values) for part in command]


@contextmanager
def running(target: Target, tools: int, scratch: Path) -> Iterator[Running]:
    """Start *target* and its upstream, wait for a good call, and stop them in the end. Raises StartError."""
    port, upstream_port = free_port(), free_port()
    home = Path(mkdtemp(dir=scratch))
    servers, config, log = home / "servers.json", home / "bascule.json", home / "log"
    config.write_text(json.dumps(target.config))
    servers.write_text(json.dumps({"mcpServers": {"echo": {"url": f"http://127.0.0.1:{upstream_port}/mcp"}}}))
    values = {"port": port, "upstream_port": upstream_port, "tools": tools, "servers": servers, "config": config}
    url, children = f"http://127.0.0.1:{port}{target.path}", []
    try:
        if target.upstream:
            children.append(spawn(filled(target.upstream, **values), log))
            wait_for_call(f"http://127.0.0.1:{upstream_port}/mcp", log, children[0])
        headers = {"Authorization": f"Bearer {printed(filled(target.key, **values), home)}"} if target.key else {}
        began = time.perf_counter()
        children.append(spawn(filled(target.command, **values), log))
        wait_for_call(url, log, children[-1], headers)
        cold_start_s = time.perf_counter() - began
        meter = Meter(tuple(child.pid for child in children), ECHO)
        time.sleep(0.5)
        yield Running(url, meter, cold_start_s, megabytes(meter.read().gateway), headers)
    finally:
        for child in reversed(children):
            stop(child)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def spawn(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start *command* as its own process group, in the folder of *log* and with that folder as its home."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env=environment(log.parent),
            start_new_session=True,
        )


def printed(command: Sequence[str], home: Path) -> str:
    """What *command* prints, run with *home* as its home. Raises StartError."""
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=home, env=environment(home))
    if ran.returncode:
        raise StartError(f"{command[-1]}: exit code {ran.returncode}; it said: {ran.stderr.strip()[-600:]}")
    return ran.stdout.strip()


def environment(home: Path) -> Mapping[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("XDG_")}
    return {**kept, "HOME": str(home)}


def wait_for_call(url: str, log: Path, child: subprocess.Popen[bytes], headers: Mapping[str, str] = NO_HEADERS) -> None:
    """Return as soon as one call succeeded. Raises StartError."""
    deadline, last = time.monotonic() + START_TIMEOUT_S, ""
    while time.monotonic() < deadline and child.poll() is None:
        try:
            return asyncio.run(call_once(url, "legacy", headers))
        except SetupError as error:
            last = str(error)
        time.sleep(0.005)
    said = log.read_text(errors="replace").strip()[-600:]
    raise StartError(f"exit code {child.poll()}; last answer: {last}; it said: {said}")


def stop(child: subprocess.Popen[bytes]) -> None:
    """End *child*; what it started and left behind is killed by id."""
    family = [process.pid for process in tree(child.pid, processes())]
    child.send_signal(signal.SIGINT)  # as a person ends it: SIGTERM has a server serve on for a while
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for pid in family[1:]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
