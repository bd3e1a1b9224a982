"""A door for HTTP on loopback, for the services of the stories: what comes in is up to whoever is behind it."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Door(BaseHTTPRequestHandler):
    def body(self) -> bytes:
        """What was sent."""
        return self.rfile.read(int(self.headers["Content-Length"]))

    def say(self, status: int, body: bytes = b"", kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass  # the screen is for the story


@contextlib.contextmanager
def opened(door: type[Door], **behind: object) -> Iterator[str]:
    """Its `host:port`; *behind* are members that the *door* knows."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Door", (door,), behind)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
