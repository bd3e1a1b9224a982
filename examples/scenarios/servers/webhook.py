"""A channel of a team: takes what is posted to its webhook, as Slack does, or says that the token is none."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Channel:
    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.revoked = False


class _Door(BaseHTTPRequestHandler):
    channel: Channel

    def do_POST(self) -> None:
        post = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.channel.revoked:
            self.channel.posts.append(post)
        body = b"invalid_token" if self.channel.revoked else b"ok"
        self.send_response(403 if self.channel.revoked else 200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass  # the screen is for the story


@contextlib.contextmanager
def webhook(channel: Channel) -> Iterator[str]:
    """Its `host:port`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Door", (_Door,), {"channel": channel})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
