"""`bascule status`: what it shows of real gateways, in 80 columns, on terminals and off them, and of none at all."""

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from command import Done
from doctoring import Json, arguments, doctored, write
from gateway import WITHIN_S, local, serving, until

from bascule.cli import status
from bascule.cli.status import Look

CONFIG: Final[Json] = {
    "servers": {"plain": local("plain"), "ends": {"command": "sh", "args": ["-c", "exit 3"]}},
    "state_dir": "state",
}
_CODES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


async def shown(*words: str, cwd: Path, env: dict[str, str] | None = None) -> Done:
    return await asyncio.to_thread(doctored, "status", *words, cwd=cwd, env=env)


async def test_a_running_gateway_is_shown_at_a_glance(tmp_path: Path) -> None:
    path = write(tmp_path, CONFIG)
    async with serving(path) as bascule:
        await bascule.up("plain")
        await bascule.until("ends", lambda said: said["state"] == "failed")
        session = await bascule.session()
        await session.call("plain__add", a=1, b=2)
        await until(lambda: bascule.get("/api/usage"), lambda found: found[1]["calls"] > 0)
        await session.ask("tools/call", {"name": "no-such-tool", "arguments": {}})
        said = await bascule.status()
        done = await shown(bascule.url, cwd=tmp_path)
        as_json = await shown(bascule.url, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.lines[0].startswith(f"bascule {said['version']}  ready  for ")
    assert done.lines[0].endswith(bascule.url)
    assert "so far    " in done.out
    assert re.search(r"^last hour \d+ calls, \S+ % not ok, p50 \d+ ms, p95 \d+ ms, p99 \d+ ms$", done.out, re.MULTILINE)
    (plain,) = [line.split() for line in done.lines if line.startswith("plain ")]
    tools = str(len(said["servers"]["plain"]["tools"]))
    assert plain == ["plain", "ready", str(said["servers"]["plain"]["pids"][0]), "0", "0", "closed", tools]
    assert "ends: the process exited with code 3; tried again in" in done.out
    assert max(map(len, done.lines)) <= 80
    assert "\x1b" not in done.out
    report = json.loads(as_json.out)
    assert report["servers"].keys() == {"plain", "ends"}
    assert report["approvals_waiting"] is None, "nobody is named here, so nobody may see them"


def _as_from_a_shell() -> None:
    """Whoever runs the tests in the background ignores Ctrl-C, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def test_watched_off_a_terminal_it_is_a_line_a_second(tmp_path: Path) -> None:
    path = write(tmp_path, CONFIG | {"servers": {"plain": local("plain")}})
    async with serving(path) as bascule:
        await bascule.up("plain")
        process = await asyncio.create_subprocess_exec(
            *arguments("status", bascule.url, "--watch"),
            stdout=asyncio.subprocess.PIPE,
            cwd=tmp_path,
            preexec_fn=_as_from_a_shell,
        )
        assert process.stdout
        async with asyncio.timeout(WITHIN_S):
            lines = [(await process.stdout.readline()).decode() for _ in range(2)]
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    assert re.fullmatch(r"\d\d:\d\d:\d\dZ ready, \S+ calls/s since its start, 0 in flight\n", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\dZ ready, \S+ calls/s, 0 in flight\n", lines[1])


@pytest.mark.skipif(os.name != "posix", reason="terminals of another kind")
@pytest.mark.parametrize(("colour", "drawn"), [({}, True), ({"NO_COLOR": "1"}, False)])
async def test_watched_on_a_terminal_it_is_drawn_again_and_outlives_the_gateway(
    colour: dict[str, str], drawn: bool, tmp_path: Path
) -> None:
    import pty
    import termios

    path = write(tmp_path, CONFIG | {"servers": {"plain": local("plain")}})
    mine, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    env = {**{k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}, "TERM": "xterm", **colour}
    async with serving(path) as bascule:
        await bascule.up("plain")
        process = await asyncio.create_subprocess_exec(
            *arguments("status", bascule.url, "--watch"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=tmp_path,
            env=env,
            preexec_fn=_as_from_a_shell,
        )
        os.close(theirs)
        first = await _read_until(mine, "calls/s, ")
    rest = await _read_until(mine, "cannot be reached")
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(WITHIN_S):
        assert await process.wait() == 0
    os.close(mine)
    assert ("\x1b[1A" in first) == drawn
    assert ("plain" in _CODES.sub("", first)) == drawn
    lines = _CODES.sub("", first + rest).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= (80 if drawn else 200)


async def _read_until(descriptor: int, words: str) -> str:
    """What the terminal got, up to *words*."""
    got = ""
    async with asyncio.timeout(WITHIN_S):
        while words not in got:
            got += (await asyncio.to_thread(os.read, descriptor, 4096)).decode()
    return got


def test_a_gateway_that_is_not_there_is_said_with_what_to_do(tmp_path: Path) -> None:
    done = doctored("status", "http://127.0.0.1:9", cwd=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "127.0.0.1:9: cannot be reached" in done.err
    assert "is it running, and is that its address?" in done.err


async def test_a_key_that_may_not_look_is_told_which_scope_it_lacks(tmp_path: Path) -> None:
    callers = {
        "ops": {"scopes": ["bascule.status:read", "bascule.approvals:read"], "keys": ["${env:OPS}"]},
        "ci": {"scopes": ["plain:read"], "keys": ["${env:CI}"]},
    }
    path = write(tmp_path, CONFIG | {"servers": {"plain": local("plain")}, "callers": callers})
    keys = {"OPS": "o1p2s3-0123456789abcdefghijklmnop", "CI": "c1i2-0123456789abcdefghijklmnopqr"}
    async with serving(path, env=keys) as bascule:
        lacking = await shown(bascule.url, cwd=tmp_path, env={"BASCULE_TOKEN": keys["CI"]})
        allowed = await shown(bascule.url, cwd=tmp_path, env={"BASCULE_TOKEN": keys["OPS"]})
        nobody = await shown(bascule.url, cwd=tmp_path)
    assert (lacking.code, nobody.code, allowed.code) == (1, 1, 0)
    assert "bascule.status:read" in lacking.err
    assert "export BASCULE_TOKEN" in nobody.err
    assert "approvals 0 waiting" in allowed.out


# ---- in words


def look(at_s: float = 0.0, **more: Any) -> Look:
    report = {
        "version": "1",
        "status": "ready",
        "uptime_s": 10.0,
        "calls": {"in_flight": 1, "by_outcome": {"answered": 30}},
    }
    return Look(at_s, {**report, **more})


def test_the_rate_is_that_of_the_last_second() -> None:
    later = look(2.0, calls={"in_flight": 3, "by_outcome": {"answered": 50, "timeout": 4}})
    assert status.summary(look(), None) == "ready, 3.0 calls/s since its start, 1 in flight"
    assert status.summary(later, look()) == "ready, 12.0 calls/s, 3 in flight"
    assert status.by_category(later.report) == {"ok": 50, "transient": 4}


def test_a_promise_that_is_not_kept_is_said() -> None:
    budget = {"tool": "crm/find", "objective": "success", "target": 99.9, "state": "spent"}
    now = look()._replace(budgets=[budget, budget | {"state": "ok", "tool": "crm/other"}])
    assert status.summary(now, None).endswith("; crm/find: of success 99.9 it is spent")


def test_a_gateway_that_was_started_again_counts_from_nothing() -> None:
    assert (
        status.summary(look(10.0), look(0.0, calls={"by_outcome": {"answered": 900}})).split(", ")[1] == "3.0 calls/s"
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"servers": {"crm": {"state": "down"}}}, "down: crm"),
        ({"config": {"error": "b.yaml:3"}}, "the last edit is not in use: b.yaml:3"),
        ({"audit": {"problem": "disk full"}}, "disk full"),
        ({"audit": {"anchor_problem": "read-only"}}, "read-only"),
        ({"audit": {"unrecorded": 4}}, "4 calls were not recorded"),
        ({"pressure": {"now": "memory"}}, "work is turned away: memory"),
        ({"names": {"withheld": ["a__b"]}}, "cannot be reached on /mcp: a__b"),
    ],
)
def test_what_somebody_should_look_at_stands_at_the_end(more: Json, said: str) -> None:
    assert status.summary(look(**more), None).endswith(f"; {said}")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.9, "59 s"), (725, "12 min 5 s"), (3600, "1 h"), (90_061, "1 d 1 h"), (86_405, "1 d 5 s")],
)
def test_a_time_is_told_in_its_two_largest_parts(seconds: float, words: str) -> None:
    assert status.lasting(seconds) == words


def test_words_of_servers_cannot_move_the_cursor() -> None:
    from rich.console import Console

    servers = {"crm": {"state": "down", "last_error": "\x1b[2Jgone\r\nbascule: all is well", "pids": []}}
    console = Console(width=80, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(status.view("http://x", look(servers=servers), None))
    assert "\x1b" not in capture.get()
    assert "gone" in capture.get()
    assert sys.stdout is not None


def test_a_long_name_and_a_hundred_servers_fit() -> None:
    from rich.console import Console

    server = {"state": "ready", "pids": [1234567, 1234568], "circuit": {"state": "half_open"}, "tools": ["a"] * 1000}
    servers = {f"{'n' * 29}{number:03}": server for number in range(100)}
    console = Console(width=80, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(status.view("http://127.0.0.1:8777", look(servers=servers), None))
    assert max(map(len, capture.get().splitlines())) <= 80
