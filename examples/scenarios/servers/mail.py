"""A mail service behind HTTP: it sends each report once for each idempotency key, and is out of order at first.

It runs in the process of its story, which says how many answers get lost.
"""

import json
import smtplib
from contextlib import AbstractContextManager
from email.message import EmailMessage
from typing import Any

from door import Door, opened
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


class _Door(Door):
    """Streamable HTTP without streams or sessions."""

    mail: Mail

    def do_POST(self) -> None:
        request = json.loads(self.body())
        if "id" not in request:
            self.say(202)
        elif (answer := self.mail.answer(request)) is None:
            self.say(503)
        else:
            self.say(200, json.dumps(answer).encode())

    def do_GET(self) -> None:
        self.say(405)


def serving(mail: Mail) -> AbstractContextManager[str]:
    """Its `host:port`."""
    return opened(_Door, mail=mail)
