"""MCP servers over stdio that misbehave, each in one way: `hostile.py --mode MODE`.

Whatever MODES does not mention is done right: the handshake, the list of one tool (`echo`) and its calls.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

Json: TypeAlias = dict[str, Any]
Id: TypeAlias = int | str

LIFETIME_S: Final = 120  # nothing started here outlives a test run, however badly the run ends
MIB: Final = 1 << 20
FLOOD_PAUSE_S: Final = 0.02  # 64 KiB each: about 3 MiB/s, without taking a whole core
LINGERING: Final = [sys.executable, "-c", f"import signal; signal.alarm({LIFETIME_S}); signal.pause()"]
ECHO: Final[Json] = {
    "name": "echo",
    "description": "Returns the text.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}
INFO: Final[Json] = {"name": "hostile", "version": "1.0.0"}
COMPLETE: Final[Json] = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
GARBAGE: Final = (b"Starting up...", b"", b"[1, 2]", b"null", b'"{"', b'{"level":"info","msg":"ready"}')


def write(*lines: bytes) -> None:
    for line in lines:
        sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def send(id: Id | None, **rest: Any) -> None:
    write(json.dumps({"jsonrpc": "2.0", "id": id, **rest}).encode())


def text(said: str) -> Json:
    return {"content": [{"type": "text", "text": said}]}


# What to do with tools/call. Each takes the id of the request and the text to echo.


def echo(id: Id, said: str) -> None:
    send(id, result=text(said))


def say_nothing(id: Id, said: str) -> None:
    pass


def die(id: Id, said: str) -> NoReturn:
    os._exit(3)


def pause(id: Id, said: str) -> None:
    while True:
        signal.pause()


def write_without_newline(id: Id, said: str) -> None:
    for _ in range(64):
        sys.stdout.buffer.write(b"x" * MIB)
    sys.stdout.buffer.flush()


def answer_twice(id: Id, said: str) -> None:
    echo(id, said)
    echo(id, f"not {said}")


def answer_another(id: Id, said: str) -> None:
    echo(f"{id}-and-more", said)


def answer_as_string(id: Id, said: str) -> None:
    echo(str(id), said)


def answer_with_both(id: Id, said: str) -> None:
    send(id, result=text(said), error={"code": -32603, "message": "and yet"})


def answer_with_neither(id: Id, said: str) -> None:
    send(id)


def answer_in_latin_1(id: Id, said: str) -> None:
    reply = {"jsonrpc": "2.0", "id": id, "result": text("café")}
    write(json.dumps(reply, ensure_ascii=False).encode("latin-1"))


def answer_half(id: Id, said: str) -> None:
    write(b'{"jsonrpc": "2.0", "id": ' + json.dumps(id).encode() + b', "result": {"content": [')


def answer_nan(id: Id, said: str) -> None:
    send(id, result=text(said) | {"structuredContent": {"value": float("nan")}})


def answer_at_length(id: Id, said: str) -> None:
    echo(id, "x" * (10 * MIB))


def answer_in_batch(id: Id, said: str) -> None:
    write(json.dumps([{"jsonrpc": "2.0", "id": id, "result": text(said)}]).encode())


def answer_nobody(id: Id, said: str) -> None:
    send(None, error={"code": -32700, "message": "Parse error"})


def answer_unknown(id: Id, said: str) -> None:
    send(id, result=text(said) | {"resultType": "dev.example/mystery"})


def answer_with_garbage(id: Id, said: str) -> None:
    write(*GARBAGE)
    echo(id, said)
    write(*GARBAGE)


def tell_hello(id: Id, said: str) -> None:
    echo(id, json.dumps(hellos[-1]))


hellos: list[Json] = []  # what came with each `initialize`

# What to do with server/discover.


def know_nothing_of_it(id: Id) -> None:
    send(id, error={"code": -32601, "message": "Method not found: server/discover"})


def discover(id: Id) -> None:
    offer = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
    send(id, result=offer | COMPLETE | {"_meta": {"io.modelcontextprotocol/serverInfo": INFO}})


def offer_old_versions(id: Id) -> None:
    send(id, result={"supportedVersions": ["2025-11-25", "2025-06-18"], "capabilities": {}} | COMPLETE)


def refuse_parameters(id: Id) -> None:
    send(id, error={"code": -32602, "message": "Invalid request parameters"})


def refuse_oddly(id: Id) -> None:
    send(id, error={"code": -7, "message": "not before initialize"})


def answer_something(id: Id) -> None:
    send(id, result={})


def refuse_to_begin(id: Id) -> NoReturn:
    sys.exit("that is no initialize")


def put_off(id: Id) -> None:
    """Answer, but the first time only after the next request, whatever that is."""
    if late:
        discover(id)
    else:
        late.append(id)


def want_the_future(id: Id) -> None:
    supported = {"supported": ["2027-01-01"], "requested": "2026-07-28"}
    send(id, error={"code": -32022, "message": "Unsupported protocol version", "data": supported})


def discover_while_known(id: Id) -> None:
    (discover if knows else know_nothing_of_it)(id)


def forget_all(id: Id, said: str) -> None:
    """From now on this is another server: an old one."""
    if said == "forget":
        knows.clear()
    if knows:
        send(id, result=text(said) | COMPLETE)
    else:
        want_the_future(id)


late: list[Id] = []  # the probe that was put off
came_late: list[Id] = []  # the same, once it is answered
knows = ["2026-07-28"]


# What to do at the start.


def nothing() -> None:
    pass


def print_garbage() -> None:
    write(*GARBAGE)


def exit_at_once() -> None:
    sys.exit("cannot start: no such database")


def flood_stderr() -> None:
    def flood() -> None:
        pause = threading.Event()
        while not pause.wait(FLOOD_PAUSE_S):
            sys.stderr.write(f"{'stderr ' * 9}\n" * 1024)

    threading.Thread(target=flood, daemon=True).start()


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def leave_grandchild() -> None:
    child = subprocess.Popen(LINGERING)
    print(f"grandchild {child.pid}", file=sys.stderr, flush=True)


def leave_daemon() -> None:
    child = subprocess.Popen(LINGERING, start_new_session=True)
    print(f"grandchild {child.pid}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Mode:
    """One way to misbehave; every default is good behaviour."""

    does: str
    at_start: Callable[[], None] = nothing
    on_call: Callable[[Id, str], None] = echo
    on_discover: Callable[[Id], None] = know_nothing_of_it
    shakes_hands: bool = True
    stops_at_eof: bool = True
    modern: bool = False  # 2026-07-28 instead of the handshake


MODES: Final = {
    "banner": Mode("prints garbage before and between", at_start=print_garbage, on_call=answer_with_garbage),
    "stderr-flood": Mode("writes megabytes a second to stderr, forever", at_start=flood_stderr),
    "long-line": Mode("writes 64 MiB without a newline", on_call=write_without_newline),
    "silent": Mode("never answers a call", on_call=say_nothing),
    "silent-init": Mode("never answers initialize", shakes_hands=False),
    "dies": Mode("exits in mid-call", on_call=die),
    "dies-at-start": Mode("exits before the handshake", at_start=exit_at_once),
    "answers-twice": Mode("answers again, differently", on_call=answer_twice),
    "wrong-id": Mode("answers a request that nobody sent", on_call=answer_another),
    "id-as-string": Mode('answers "1" instead of 1', on_call=answer_as_string),
    "both": Mode("answers with a result and an error", on_call=answer_with_both),
    "neither": Mode("answers with no result and no error", on_call=answer_with_neither),
    "bad-utf8": Mode("answers in Latin-1", on_call=answer_in_latin_1),
    "not-json": Mode("answers with half an object", on_call=answer_half),
    "deaf": Mode("never reads stdin again after a call", on_call=pause),
    "ignores-eof-and-sigterm": Mode("has to be killed", at_start=ignore_sigterm, stops_at_eof=False),
    "grandchild": Mode("leaves a child that keeps stdout open", at_start=leave_grandchild),
    "daemon": Mode("leaves such a child in a session of its own", at_start=leave_daemon),
    "nan": Mode("answers with NaN", on_call=answer_nan),
    "huge-result": Mode("answers with 10 MiB", on_call=answer_at_length),
    "batch-reply": Mode("answers with an array", on_call=answer_in_batch),
    "null-id-error": Mode("answers with an error for nobody", on_call=answer_nobody),
    "unknown-result-type": Mode(
        "answers with an unknown resultType", on_call=answer_unknown, on_discover=discover, modern=True
    ),
    # Well-behaved but for how they meet a client of the other era.
    "new": Mode("is stateless, and has never heard of initialize", on_discover=discover, modern=True),
    "both-eras": Mode("knows both eras", on_discover=discover),
    "tells-hello": Mode("answers with what came with initialize", on_call=tell_hello),
    "old-versions": Mode("discovers only old versions", on_discover=offer_old_versions),
    "bad-params": Mode("calls the probe badly parametrised", on_discover=refuse_parameters),
    "odd-refusal": Mode("refuses the probe with a code of its own", on_discover=refuse_oddly),
    "answers-anything": Mode("answers the probe with an empty result", on_discover=answer_something),
    "ends-at-probe": Mode("exits when it is probed", on_discover=refuse_to_begin),
    "late-probe": Mode("answers the probe when it is too late", on_discover=put_off),
    "late-new": Mode("is stateless and slow to say so", on_discover=put_off, modern=True),
    "future": Mode("speaks only versions to come", on_discover=want_the_future),
    "turns-old": Mode(
        "is stateless until it is told to forget it", on_discover=discover_while_known, on_call=forget_all
    ),
    "refuses-version": Mode(
        "refuses calls for their version, and is modern",
        on_discover=discover,
        on_call=lambda id, said: want_the_future(id),
        modern=True,
    ),
}


def reply(mode: Mode, id: Id, method: str, params: Json) -> None:
    complete = COMPLETE if mode.modern else {}
    match method:
        case "tools/call":
            mode.on_call(id, params["arguments"]["text"])
        case "tools/list":
            send(id, result={"tools": [ECHO], **complete})
        case "ping":
            send(id, result={})
        case "server/discover":
            mode.on_discover(id)
        case "initialize" if not mode.modern:
            hellos.append(params)
            print("initialize", file=sys.stderr, flush=True)
            if mode.shakes_hands:
                spoken = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}}
                send(id, result=spoken | {"serverInfo": INFO})
        case _:
            send(id, error={"code": -32601, "message": f"Method not found: {method}"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", required=True, choices=MODES)
    mode = MODES[parser.parse_args().mode]
    signal.alarm(LIFETIME_S)
    mode.at_start()
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "method" in message and "id" in message:
            waiting = late.copy()
            reply(mode, message["id"], message["method"], message.get("params", {}))
            if waiting and not came_late:
                came_late.append(waiting[0])
                discover(waiting[0])
    if not mode.stops_at_eof:
        pause(0, "")


if __name__ == "__main__":
    main()
