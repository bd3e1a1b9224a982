"""How long a client waits for `bascule bridge`: from the start of the process to the answer to `initialize`.

    python bench/cold_start.py [--runs 10]

Starts a Bascule with one small server first, and measures when it is warm: that is what a client meets.
Prints the milliseconds of each run, sorted, and the median. It asserts nothing.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from processes import running_bascule, server  # the same processes as in the tests

HELLO: Final = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}


def cold_start_ms(url: str) -> float:
    """Milliseconds until a fresh bridge to *url* has answered."""
    began_s = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "bascule", "bridge", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(HELLO).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        took_ms = (time.perf_counter() - began_s) * 1000
        process.stdin.close()
    assert "result" in answer, answer
    return took_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    with running_bascule("run", "--port", "0", "--", *server("plain")) as url:
        cold_start_ms(url)  # the server's own first answer is another matter
        taken_ms = sorted(cold_start_ms(url) for _ in range(runs))
    print(" ".join(f"{each:.0f}" for each in taken_ms), f"median {statistics.median(taken_ms):.0f} ms")


if __name__ == "__main__":
    main()
