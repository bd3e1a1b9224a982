"""What it costs that a call is made at most once: a governed call with an idempotency key, and the same without.

    python bench/keyed.py [--calls 1500]     about 20 seconds

One client, one connection, one call after the other. The gateway is the governed one of bench/governance.py, with
SQLite in a state folder beside its configuration; every keyed call waits for two syncs of the disk. Modes take turns.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import report
from echo import MODERN
from exchange import META, compact
from governance import GOVERNED, Options, parse, policy, served
from targets import Running, running

GOAL_MS: Final = 1.5
_BODY: Final = compact({
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "echo", "arguments": {"text": "hello"}, "_meta": META},
})  # fmt: skip
_HEAD: Final = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": MODERN,
    "Mcp-Method": "tools/call",
    "Mcp-Name": "echo",
}


def timed(server: Running, calls: int, *, keyed: bool) -> list[float]:
    """How long each of *calls* took, in ms."""
    url = urlsplit(server.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    taken = []
    for _ in range(calls):
        head = {**_HEAD, **server.headers, **({"Idempotency-Key": uuid.uuid4().hex} if keyed else {})}
        began = time.perf_counter()
        connection.request("POST", url.path, _BODY, head)
        response = connection.getresponse()
        answer = json.load(response)
        taken.append((time.perf_counter() - began) * 1000)
        if response.status != 200 or "result" not in answer or answer["result"].get("isError"):
            raise SystemExit(f"a call failed: HTTP {response.status}, {answer}")
    connection.close()
    return taken


def row(name: str, taken: Sequence[float]) -> str:
    ordered = sorted(taken)
    return f"{name:<14} p50 {statistics.median(ordered):6.3f} ms   p99 {ordered[int(len(ordered) * 0.99)]:6.3f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=1500, help="of each kind")
    calls: int = parser.parse_args().calls
    options: Options = parse([])
    config = {**policy(), "journal": {"max_per_caller": 10 * calls}}
    with (
        tempfile.TemporaryDirectory(prefix="bascule-bench-") as scratch,
        running(served(GOVERNED, options.bascule, config), report.FEW_TOOLS, Path(scratch)) as server,
    ):
        timed(server, 200, keyed=True)
        plain: list[float] = []
        keyed: list[float] = []
        for _ in range(5):
            plain += timed(server, calls // 5, keyed=False)
            keyed += timed(server, calls // 5, keyed=True)
    print(row("without a key", plain))
    print(row("with a key", keyed))
    print(f"wanted: p50 of a keyed call ≤ {GOAL_MS} ms: {'met' if statistics.median(keyed) <= GOAL_MS else 'missed'}")


if __name__ == "__main__":
    main()
