"""A mail service behind HTTP: it sends each report once for each idempotency key, and is out of order at first.

It runs in the process of its story, which says how many answers get lost.
"""

import contextlib
import json
import smtplib
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tiny import Server

KEY = "dev.bascule/idempotencyKey"


class Mail:
    """Sends by SMTP to *port*. What it has sent for a key it sends to nobody again."""

    def __init__(self, port: int, lost: int) -> None:
        self.port = port
        self.lost = lost  # so many answers of tools/call are lost: the caller gets 503
        self.sent: dict[str, dict[str, Any]] = {}
        self.tried = 0
        self._key = ""
        self.server = Server("email")
        self.server.tool(self.send_report)

    def send_report(self, to: list, subject: str, body: str) -> dict[str, Any]:  # type: ignore[type-arg]
        """Mails a report. SIDE EFFECT."""
        if self._key not in self.sent:
            mail = EmailMessage()
            mail["From"], mail["To"], mail["Subject"] = "reports@example.com", ", ".join(to), subject
            mail.set_content(body)
            with smtplib.SMTP("127.0.0.1", self.port) as smtp:
                smtp.send_message(mail)
            self.sent[self._key] = {"message_id": f"M-{len(self.sent) + 1:04}", "recipients": len(to)}
        return self.sent[self._key]

    def answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer, or None when it is lost: the work is done all the same."""
        if request["method"] != "tools/call":
            return self.server.answer(request)
        self.tried += 1
        self._key = request["params"]["_meta"][KEY]
        answer = self.server.answer(request)
        return None if self.tried <= self.lost else answer


class _Door(BaseHTTPRequestHandler):
    """Streamable HTTP without streams or sessions."""

    mail: Mail

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in request:
            self._say(202)
        elif (answer := self.mail.answer(request)) is None:
            self._say(503)
        else:
            self._say(200, json.dumps(answer).encode())

    def do_GET(self) -> None:
        self._say(405)

    def _say(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass  # the screen is for the story


@contextlib.contextmanager
def serving(mail: Mail) -> Iterator[str]:
    """Its `host:port`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Door", (_Door,), {"mail": mail})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
