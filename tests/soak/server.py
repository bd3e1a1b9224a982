"""A server with a handshake, over HTTP, for thousands of calls that ask at the same time: `server.py`.

Prints its URL once it listens. Its tool `talk` asks, round after round, questions that only its own caller can answer
rightly: the answer has to be the question's `secret` signed with the name of the call. `stats` says what it has seen.
"""

import asyncio
import itertools
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

HEAD = "HTTP/1.1 {status} .\r\ncontent-type: {kind}\r\n{more}\r\n"
_ids = itertools.count(1)
_dice = random.Random(1)


def answer_to(canary: str, secret: str) -> str:
    """What the caller of the call *canary*, and nobody else, says to the question *secret*."""
    return f"{canary}|{secret}"


@dataclass
class Server:
    stats: Counter[str] = field(default_factory=Counter)
    waiting: "dict[str, asyncio.Future[Json]]" = field(default_factory=dict)  # by the id of the question
    calls: "dict[tuple[str, Any], asyncio.Task[None]]" = field(default_factory=dict)  # by session and id
    wrong: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").rstrip().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self.take(first.split()[0], headers.get("mcp-session-id", ""), json.loads(body or b"{}"), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        finally:
            writer.close()

    async def take(self, method: str, session: str, message: Json, writer: asyncio.StreamWriter) -> None:
        match message:
            case {"method": "tools/call", "id": id, "params": {"name": "talk", "arguments": arguments}}:
                await self.talk(session, id, arguments, writer)
            case {"method": "notifications/cancelled", "params": {"requestId": id}}:
                if (session, id) in self.calls:
                    self.calls[session, id].cancel()
                respond(writer, 202)
            case {"method": "initialize", "id": id, "params": params}:
                spoken = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}}
                self.stats["sessions"] += 1
                result = {**spoken, "serverInfo": {"name": "soak", "version": "1"}}
                respond(writer, 200, {"jsonrpc": "2.0", "id": id, "result": result}, f"session-{next(_ids)}")
            case {"method": name, "id": id}:
                respond(writer, 200, {"jsonrpc": "2.0", "id": id, **self.other(name)})
            case {"id": id} if "method" not in message:
                self.answered(str(id), message)
                respond(writer, 202)
            case _:
                respond(writer, 202 if method == "POST" else 204 if method == "DELETE" else 405)
        await writer.drain()

    def other(self, name: str) -> Json:
        match name:
            case "tools/list":
                schema = {"type": "object"}
                return {"result": {"tools": [{"name": name, "inputSchema": schema} for name in ("talk", "stats")]}}
            case "tools/call":
                self.stats["open"] = len(self.calls)
                self.stats["waiting"] = len(self.waiting)
                said = {**self.stats, "wrong": self.wrong[:10]}
                return {"result": {"content": [], "structuredContent": said}}
            case _:
                return {"error": {"code": -32601, "message": "Method not found"}}

    def answered(self, id: str, message: Json) -> None:
        future = self.waiting.pop(id, None)
        if future is None or future.done():
            self.stats["answers to nothing"] += 1
        else:
            future.set_result(message)

    async def talk(self, session: str, id: Any, arguments: Json, writer: asyncio.StreamWriter) -> None:
        """One call, whose task is cancelled when its caller cancels it."""
        writer.write(HEAD.format(status=200, kind="text/event-stream", more="transfer-encoding: chunked\r\n").encode())
        key = (session, id)
        self.calls[key] = task = asyncio.ensure_future(self.converse(id, arguments, writer))
        self.stats["begun"] += 1
        await asyncio.wait({task})
        del self.calls[key]
        self.stats["cancelled" if task.cancelled() else "broken" if task.exception() else "finished"] += 1
        writer.write(b"0\r\n\r\n")

    async def converse(self, id: Any, arguments: Json, writer: asyncio.StreamWriter) -> None:
        canary, rounds = arguments["canary"], arguments["rounds"]
        asked: list[str] = []
        try:
            for round in range(rounds):
                answers = {}
                for number in range(_dice.choice((1, 1, 2, 3))):
                    secret = f"{round}.{number}"
                    asked.append(question := f"q{next(_ids)}")
                    answers[secret] = self.waiting[question] = asyncio.get_running_loop().create_future()
                    params = {"message": f"{canary}?{secret}", "requestedSchema": {"type": "object", "properties": {}}}
                    say(writer, {"id": question, "method": "elicitation/create", "params": params})
                for secret, answer in answers.items():
                    message = await answer
                    if not self.right(canary, secret, message):
                        text = {"content": [{"type": "text", "text": f"{canary} was given up"}], "isError": True}
                        say(writer, {"id": id, "result": text})
                        return
                await asyncio.sleep(_dice.random() * 0.02)  # its work
            say(writer, {"id": id, "result": {"content": [{"type": "text", "text": f"{canary} has {rounds} rounds"}]}})
        finally:
            for question in asked:
                self.waiting.pop(question, None)

    def right(self, canary: str, secret: str, message: Json) -> bool:
        """Whether the person answered. An answer that is somebody else's is a violation."""
        result = message.get("result", {})
        if result.get("action") != "accept":
            self.stats["given up"] += 1
            return False
        self.stats["answers"] += 1
        if result["content"]["answer"] != answer_to(canary, secret):
            self.stats["wrong answers"] += 1
            self.wrong.append(f"{canary}?{secret} got {result['content']['answer']}")
        return True


def say(writer: asyncio.StreamWriter, message: Json) -> None:
    data = f"data: {json.dumps({'jsonrpc': '2.0', **message})}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


def respond(writer: asyncio.StreamWriter, status: int, message: Json | None = None, session: str = "") -> None:
    body = b"" if message is None else json.dumps(message).encode()
    more = f"content-length: {len(body)}\r\n" + (f"mcp-session-id: {session}\r\n" if session else "")
    writer.write(HEAD.format(status=status, kind="application/json", more=more).encode() + body)


async def main() -> None:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/mcp", flush=True)  # noqa: T201 - a server prints
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
