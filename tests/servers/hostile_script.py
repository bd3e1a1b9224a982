"""An MCP server over stdio that does with calls what it is told: `hostile_script.py SCRIPT JOURNAL`.

SCRIPT is JSON: `at_start`, `calls` (what to do with the first call, the second, …; the last one repeats) and `at_eof`
are lists of steps, as `_STEPS` has them; `modern` is its era. Handshake, lists and pings are answered as they should
be. JOURNAL is a file to which it adds a line for every call that it reads, and for every process that it is.

In texts <ID> stands for the id of the call as JSON, <SAID> for the text that it carries as JSON, <GOOD> for the right
answer.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]
Words: TypeAlias = Mapping[str, str]

LIFETIME_S: Final = 60  # nothing started here outlives a test run, however badly the run ends
ECHO: Final[Json] = {
    "name": "echo",
    "description": "Returns the text.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}
INFO: Final[Json] = {"name": "hostile", "version": "1.0.0"}
COMPLETE: Final[Json] = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
LINGERING: Final = [sys.executable, "-c", f"import signal; signal.alarm({LIFETIME_S}); signal.pause()"]
STUBBORN: Final = f"import signal; signal.signal(15, signal.SIG_IGN); signal.alarm({LIFETIME_S}); signal.pause()"

script: Json = {}
journal = -1
called = 0
listed = 0


def main() -> None:
    global journal
    signal.alarm(LIFETIME_S)
    script.update(json.loads(sys.argv[1]))
    journal = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    note(f"pid {os.getpid()}")
    do(script.get("at_start", ()), {})
    for line in sys.stdin.buffer:
        answer(json.loads(line))
    do(script.get("at_eof", ()), {})


def note(said: str) -> None:
    os.write(journal, f"{said}\n".encode())


def answer(message: Json) -> None:
    global called, listed
    id, params = message.get("id"), message.get("params", {})
    match message.get("method"):
        case "tools/call":
            called += 1
            note(f"call {json.dumps(message)}")
            calls = script.get("calls") or [[{"say": "<GOOD>"}]]
            do(calls[min(called, len(calls)) - 1], _words(id, params))
        case "tools/list":
            listed += 1
            tools = [{**ECHO, **script.get("tool", {})}]
            if script.get("churns"):
                tools = [{**ECHO, "description": f"Returns the text, since {listed}."}]
            _send(id, {"tools": tools, **(COMPLETE if script.get("modern") else {})})
        case "server/discover" if script.get("modern"):
            offer = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": True}}}
            _send(id, {**offer, **COMPLETE, "_meta": {"io.modelcontextprotocol/serverInfo": INFO}})
        case "initialize" if not script.get("modern"):
            spoken = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {"listChanged": True}}}
            _send(id, {**spoken, "serverInfo": INFO})
        case "notifications/cancelled":
            note(f"cancelled {json.dumps(params)}")
        case "ping":
            _send(id, {})
        case method if id is not None and method is not None:
            error = {"code": -32601, "message": f"Method not found: {method}"}
            _write(json.dumps({"jsonrpc": "2.0", "id": id, "error": error}) + "\n")


def _words(id: Any, params: Json) -> Words:
    said = json.dumps(params.get("arguments", {}).get("text"))
    complete = '"resultType":"complete",' if script.get("modern") else ""
    good = (
        f'{{"jsonrpc":"2.0","id":{json.dumps(id)},"result":{{{complete}"content":[{{"type":"text","text":{said}}}]}}}}'
    )
    return {"<GOOD>": good, "<ID>": json.dumps(id), "<SAID>": said, "<COMPLETE>": complete}


def _send(id: Any, result: Json) -> None:
    _write(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}) + "\n")


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


# ---- steps


def do(steps: Sequence[Json], words: Words) -> None:
    for step in steps:
        ((name, value),) = step.items()
        _STEPS[name](value, words)


def _worded(text: str, words: Words) -> str:
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


def _say(text: str, words: Words) -> None:
    _write(_worded(text, words) + "\n")


def _say_part(text: str, words: Words) -> None:
    _write(_worded(text, words))


def _say_hex(digits: str, words: Words) -> None:
    """A line of bytes that need not be text."""
    sys.stdout.buffer.write(bytes.fromhex(_worded(digits, words)) + b"\n")
    sys.stdout.buffer.flush()


def _say_long(how: Json, words: Words) -> None:
    """*start*, then *bytes* of *of*, then *end*; a write that fails means that we have been left."""
    _write(_worded(how.get("start", ""), words))
    whole = (how.get("of", "x") * 65536)[:65536].encode()
    for _ in range(how["bytes"] // len(whole)):
        sys.stdout.buffer.write(whole)
    _write(_worded(how.get("end", ""), words))


def _flood_stderr(how: Json, words: Words) -> None:
    text = how.get("of", "stderr ") * (65536 // len(how.get("of", "stderr ")))
    for _ in range(how["bytes"] // 65536):
        os.write(2, text.encode())


def _again(how: Json, words: Words) -> None:
    for _ in range(how["times"]):
        do(how["do"], words)


def _exit(code: int, words: Words) -> None:
    os._exit(code)


def _signal(name: str, words: Words) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.Signals[name])


def _sleep(seconds: float, words: Words) -> None:
    time.sleep(seconds)


def _close(fd: int, words: Words) -> None:
    os.close(fd)


def _ignore(names: Sequence[str], words: Words) -> None:
    for name in names:
        signal.signal(signal.Signals[name], signal.SIG_IGN)


def _linger(value: Any, words: Words) -> None:
    while True:
        signal.pause()


def _leave(how: Json, words: Words) -> None:
    """A child that holds our pipes open: of our group or not, and deaf to SIGTERM or not."""
    command = [sys.executable, "-c", STUBBORN] if how.get("stubborn") else LINGERING
    output = None if how.get("holds", True) else subprocess.DEVNULL
    child = subprocess.Popen(command, start_new_session=how.get("session", False), stdout=output, stderr=output)
    note(f"pid {child.pid}")


def _meanwhile(steps: Sequence[Json], words: Words) -> None:
    """Do them beside all that follows."""
    threading.Thread(target=do, args=(steps, words), daemon=True).start()


def _look(texts: Sequence[str], words: Words) -> None:
    """Note which of *texts*, spelt backwards, are in what the system tells of this process and of its parent."""
    for pid in ("self", str(os.getppid())):
        for name in ("environ", "cmdline"):
            try:
                with open(f"/proc/{pid}/{name}", "rb") as file:
                    read = file.read()
            except OSError as error:
                note(f"cannot read {pid} {name}: {error.strerror}")
                continue
            for text in texts:
                if text[::-1].encode() in read:
                    note(f"found {text[::-1]} in {pid} {name}")


_STEPS: Final[Mapping[str, Callable[[Any, Words], None]]] = {
    "say": _say,
    "say_part": _say_part,
    "say_hex": _say_hex,
    "say_long": _say_long,
    "flood_stderr": _flood_stderr,
    "again": _again,
    "exit": _exit,
    "signal": _signal,
    "sleep": _sleep,
    "close": _close,
    "ignore": _ignore,
    "linger": _linger,
    "leave": _leave,
    "meanwhile": _meanwhile,
    "look": _look,
}


if __name__ == "__main__":
    main()
