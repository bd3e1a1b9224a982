"""A server that pays, and counts each payment on disk before it answers: `counting.py modern|plain --count FILE`.

Each execution is one line of FILE, `TOOL ORDER RECEIPT`, appended and synced, so that no crash of anybody takes it
away. A payment that was begun is made, whoever hangs up or cancels: that is the hard case for who must not pay twice.
With --tell SOCKET it says `received ORDER` and `executed ORDER` there, as datagrams, at the moment itself.
"""

import argparse
import os
import secrets
import socket
import sys
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, Final

import modern
import plain
import web
from server import Call, Json, Server, Tool, World


class Ledger:
    """What was paid, and who is told of it."""

    def __init__(self, path: Path, listener: str | None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._listener = listener
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def tell(self, what: str, order: str) -> None:
        if self._listener is None:
            return
        try:
            self._socket.sendto(f"{what} {order}".encode(), self._listener)
        except OSError:
            pass  # nobody listens any more

    def execute(self, tool: str, order: str, amount: int, before_s: float, after_s: float) -> Json:
        self.tell("received", order)
        time.sleep(before_s)
        receipt = secrets.token_hex(8)
        os.write(self._file, f"{tool} {order} {receipt}\n".encode())  # one write: lines of threads do not mix
        os.fsync(self._file)
        self.tell("executed", order)
        time.sleep(after_s)
        return {"order": order, "amount": amount, "receipt": receipt}


def tools_of(ledger: Ledger) -> dict[str, Tool]:
    """`pay` takes its time before and after it pays, as its caller likes; `pay_idempotent` too, and may be repeated."""

    def pay(call: Call, order: str, amount: int, before_s: float = 0, after_s: float = 0) -> Json:
        """Pays an amount for an order. Each call pays again."""
        return ledger.execute("pay", order, amount, before_s, after_s)

    def pay_idempotent(call: Call, order: str, amount: int, before_s: float = 0, after_s: float = 0) -> Json:
        """Pays an amount for an order, which does no harm if it is called again."""
        return ledger.execute("pay_idempotent", order, amount, before_s, after_s)

    return {each.__name__: Tool(each.__name__, each) for each in (pay, pay_idempotent)}


CAPABILITIES: Final[Json] = {"tools": {}}


class CountingModern(modern.ModernServer):
    info: ClassVar[Json] = {"name": "counting", "version": "1.0.0"}
    capabilities: ClassVar[Json] = CAPABILITIES


class CountingPlain(plain.PlainServer):
    info: ClassVar[Json] = {"name": "counting", "version": "1.0.0"}
    capabilities: ClassVar[Json] = CAPABILITIES


class Listening(ThreadingHTTPServer):
    request_queue_size = 256  # a hundred clients may come at once
    daemon_threads = True


def serve_http(era: str, options: argparse.Namespace, world: World) -> None:
    door: type[web.Door]
    if era == "modern":
        web.ModernDoor.server_of_all = CountingModern(options, world)
        door = web.ModernDoor
    else:
        web.PlainDoor.options, web.PlainDoor.world = options, world
        door = web.PlainDoor
    with Listening(("127.0.0.1", 0), door) as listening:
        print(f"http://127.0.0.1:{listening.server_port}/mcp", flush=True)
        listening.serve_forever()


def main() -> None:
    era, *rest = sys.argv[1:] or [""]
    if era not in ("modern", "plain"):
        sys.exit(__doc__)
    parser = (modern if era == "modern" else plain).arguments(__doc__)
    parser.add_argument("--count", type=Path, required=True, metavar="FILE", help="where executions are counted")
    parser.add_argument("--tell", metavar="SOCKET", help="a datagram socket that is told of each step")
    parser.add_argument("--http", action="store_true", help="serve on a free port and print the URL")
    options = parser.parse_args(rest)
    world = World(options)
    world.tools = tools_of(Ledger(options.count, options.tell))
    if options.http:
        serve_http(era, options, world)
    else:
        server: Server = (CountingModern if era == "modern" else CountingPlain)(options, world)
        server.serve()


if __name__ == "__main__":
    main()
