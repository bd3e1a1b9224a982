"""plain.py and modern.py over Streamable HTTP: `web.py plain|modern [options of that server]`.

Prints its URL once it listens on a free port. It speaks HTTP/1.0, a connection for each request: what ends an answer
is clear, and a client that hangs up is noticed. An answer is JSON unless something has to be said before it.
"""

import argparse
import json
import queue
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final, TypeAlias

import modern
import plain
from server import INVALID_REQUEST, METHOD_NOT_FOUND, Json, World

BAD_REQUEST: Final = -32000
HEADER_MISMATCH: Final = -32020
STATUS: Final = {METHOD_NOT_FOUND: 404, modern.MISSING_CAPABILITY: 400, modern.UNSUPPORTED_VERSION: 400}
NAMED_BY: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

Messages: TypeAlias = "queue.SimpleQueue[Json | None]"  # None: there are no more


class Door(BaseHTTPRequestHandler):
    """One request: its message goes to a server, and what that server says about it comes back."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests show stderr when they fail, and requests are no failure."""

    def message(self) -> Json:
        read: Json = json.loads(self.rfile.read(int(self.headers["content-length"])))
        return read

    def reply(self, status: int, body: Json | None = None, session: str | None = None) -> None:
        encoded = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        if session is not None:
            self.send_header("mcp-session-id", session)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def refuse(self, status: int, code: int, message: str, id: Any = None) -> None:
        self.reply(status, {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})

    def stream(self, first: Json | None, following: Messages) -> bool:
        """Whether these messages, each sent as an event, ended with an answer."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.flush()
        message = first
        while message is not None:
            data = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
            self.wfile.write(f"event: message\ndata: {data}\n\n".encode())
            self.wfile.flush()
            if "method" not in message:
                return True
            message = following.get()
        return False

    @contextmanager
    def ended_by_hanging_up(self, messages: Messages) -> Iterator[None]:
        """End *messages* when the client closes its connection: with HTTP/1.0 it has no more to say on it."""

        def watch() -> None:
            try:
                self.connection.recv(1)
            except OSError:
                pass  # as good as closed
            messages.put(None)

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        except OSError:
            pass  # it hung up while something was being written


class ModernDoor(Door):
    """2026-07-28: POST alone, headers that agree with the body, and hanging up cancels the call."""

    server_of_all: ClassVar[modern.ModernServer]

    def do_POST(self) -> None:
        message = self.message()
        if "id" not in message:
            return self.reply(202)
        params = message.get("params", {})
        expected = {
            "mcp-protocol-version": params.get("_meta", {}).get(f"{modern.META}protocolVersion"),
            "mcp-method": message["method"],
            "mcp-name": params.get(NAMED_BY.get(message["method"], "")),
        }
        for name, value in expected.items():
            if value is not None and self.headers[name] != value:
                return self.refuse(400, HEADER_MISMATCH, f"{name} is not {value}", message["id"])
        said: Messages = queue.SimpleQueue()
        call = self.server_of_all.take(message, said.put)
        assert call, "it has a method and an id"
        answered = False
        with self.ended_by_hanging_up(said):
            first = said.get()
            if first is not None and "method" not in first:
                answered = True
                self.reply(STATUS.get(first.get("error", {}).get("code"), 200), first)
            elif first is not None:
                answered = self.stream(first, said)
        if not answered:
            self.server_of_all.cancel(call)
        return None


class Session:
    """A session of plain.py, and what it says outside of a call, kept until a GET comes for it."""

    def __init__(self, options: argparse.Namespace, world: World) -> None:
        self.id = uuid.uuid4().hex
        self.server = plain.PlainServer(options, world, self.say)
        self._lock = threading.Lock()
        self._kept: list[Json | None] = []
        self._listening: Messages | None = None

    def say(self, message: Json | None) -> None:
        with self._lock:
            if self._listening:
                self._listening.put(message)
            else:
                self._kept.append(message)

    def listen(self, messages: Messages) -> bool:
        """Whether *messages* is now where everything goes; one stream at a time."""
        with self._lock:
            if self._listening:
                return False
            self._listening = messages
            while self._kept:
                messages.put(self._kept.pop(0))
            return True

    def stop_listening(self) -> None:
        with self._lock:
            self._listening = None


class PlainDoor(Door):
    """2025-03-26 to 2025-11-25: sessions; a closed connection says nothing about the call."""

    options: ClassVar[argparse.Namespace]
    world: ClassVar[World]
    sessions: ClassVar[dict[str, Session]] = {}

    def do_POST(self) -> None:
        message = self.message()
        if message.get("method") == "initialize":
            session = Session(self.options, self.world)
            self.sessions[session.id] = session
        elif not (found := self.session()):
            return None
        else:
            session = found
        if "method" not in message or "id" not in message:
            session.server.take(message, session.say)
            return self.reply(202)
        said: Messages = queue.SimpleQueue()
        session.server.take(message, said.put)
        with self.ended_by_hanging_up(said):
            first = said.get()
            if first is not None and "method" not in first:
                self.reply(200, first, session.id)
            else:
                self.stream(first, said)
        return None

    def do_GET(self) -> None:
        if not (session := self.session()):
            return None
        said: Messages = queue.SimpleQueue()
        if not session.listen(said):
            return self.refuse(409, BAD_REQUEST, "Conflict: there is such a stream already")
        with self.ended_by_hanging_up(said):
            self.stream(said.get(), said)
        session.stop_listening()
        return None

    def do_DELETE(self) -> None:
        if session := self.session():
            del self.sessions[session.id]
            self.world.sessions.remove(session.server)
            session.say(None)
            self.reply(200)

    def session(self) -> Session | None:
        """The one that this request names; if it names none, it is refused here."""
        if self.headers.get("mcp-protocol-version", plain.REVISIONS[0]) not in plain.REVISIONS:
            self.refuse(400, BAD_REQUEST, "Bad Request: Unsupported protocol version")
        elif (id := self.headers["mcp-session-id"]) is None:
            self.refuse(400, BAD_REQUEST, "Bad Request: Missing session ID")
        elif not (session := self.sessions.get(id)):
            self.refuse(404, INVALID_REQUEST, "Session not found")
        else:
            return session
        return None


def main() -> None:
    era, *rest = sys.argv[1:] or [""]
    door: type[Door]
    if era == "modern":
        ModernDoor.server_of_all = modern.ModernServer(modern.arguments(__doc__).parse_args(rest))
        door = ModernDoor
    elif era == "plain":
        PlainDoor.options = plain.arguments(__doc__).parse_args(rest)
        PlainDoor.world = World(PlainDoor.options)
        door = PlainDoor
    else:
        sys.exit(__doc__)
    with ThreadingHTTPServer(("127.0.0.1", 0), door) as listening:
        print(f"http://127.0.0.1:{listening.server_port}/mcp", flush=True)
        listening.serve_forever()


if __name__ == "__main__":
    main()
