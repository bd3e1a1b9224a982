#!/usr/bin/env python3
"""Plays a scenario: a real `bascule serve`, a scripted model, and the record of it afterwards.

    python examples/scenarios/play.py --list
    python examples/scenarios/play.py travel
    python examples/scenarios/play.py travel --client sdk

Needs no network and, but for `--client sdk`, nothing but Python and Bascule. Exit code 0: all went as it is told.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit

HERE: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "servers")]

from agent import Agent, Client, Unexpected, show  # noqa: E402  (beside this file, wherever it is started)

STOP_WITHIN_S: Final = 15.0


def names() -> list[str]:
    return sorted(path.parent.name for path in HERE.glob("*/story.py"))


def story_of(name: str) -> ModuleType:
    """`story(agent)`; CALLERS, the first of them the agent; perhaps FOLDERS in `work`, DIALOG, `around(work)`."""
    spec = importlib.util.spec_from_file_location(f"story_{name}", HERE / name / "story.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def title(name: str) -> str:
    return (story_of(name).__doc__ or "").strip().splitlines()[0]


# ---- Bascule


class Bascule:
    """`bascule` in the folder of one scenario, with a home and a state folder of its own."""

    def __init__(self, command: Sequence[str], folder: Path, home: Path, more: Mapping[str, str]) -> None:
        self.command = command
        self.folder = folder
        kept = {name: said for name, said in os.environ.items() if not name.startswith(("BASCULE_", "XDG_"))}
        self.environ = {
            **kept,
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            # `python3` of the configurations is the one that runs this.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "WORK": str(home / "work"),
            **more,
        }

    def run(self, *words: str) -> str:
        """What `bascule words…` prints. Raises Unexpected."""
        done = subprocess.run(
            [*self.command, *words],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise Unexpected(f"bascule {' '.join(words)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """`bascule serve` on a free port; its URL without a path. Nothing of it is left afterwards."""
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                [*self.command, "serve", "--port", "0"],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl+C is for us; we tell it
            )
            assert process.stdout
            try:
                first = process.stdout.readline()
                if not first:
                    raise Unexpected("bascule does not start")
                parts = urlsplit(first.split()[0])
                yield f"{parts.scheme}://{parts.netloc}"
            except BaseException:
                log.seek(0)
                sys.stderr.write(log.read().decode(errors="replace"))
                raise
            finally:
                stop(process)


def stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_WITHIN_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


# ---- a play


async def play(name: str, client: ModuleType, command: Sequence[str]) -> None:
    """The whole of it, from an empty folder to an audit that is intact. Raises Unexpected."""
    module = story_of(name)
    show("SCENARIO", f"{name}: {title(name)}")
    async with AsyncExitStack() as open_:
        home = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="scenario-")))
        work = home / "work"
        work.mkdir()
        for folder in getattr(module, "FOLDERS", ()):
            (work / folder).mkdir()
        if (files := HERE / name / "files").is_dir():
            shutil.copytree(files, work, dirs_exist_ok=True)
        more = await open_.enter_async_context(around(module, work))
        bascule = Bascule(command, HERE / name, home, more)
        keys = {caller: bascule.run("keys", "create", caller).split()[0] for caller in module.CALLERS}
        with bascule.serving() as url:
            clients: dict[str, Client] = {}
            agent = Agent(url, keys, clients, work)
            person = agent.person if getattr(module, "DIALOG", False) else None
            async with AsyncExitStack() as callers:
                for caller, key in keys.items():
                    clients[caller] = await callers.enter_async_context(client.Client(f"{url}/mcp", key, person))
                await agent.tools()  # a list waits until all servers are there
                await module.story(agent)
        trail(bascule, agent)


def around(module: ModuleType, work: Path) -> AbstractAsyncContextManager[Mapping[str, str]]:
    """What the story needs beside the gateway, and the environment that tells the servers where it is."""
    found: Any = getattr(module, "around", None)
    if found is None:
        return nothing()
    world: AbstractAsyncContextManager[Mapping[str, str]] = found(work)
    return world


@contextlib.asynccontextmanager
async def nothing() -> AsyncIterator[Mapping[str, str]]:
    yield {}


def trail(bascule: Bascule, agent: Agent) -> None:
    """What the audit has of the story's trace, and that it is whole. Raises Unexpected."""
    show("TRACE", agent.trace_id)
    rows = json.loads(bascule.run("audit", "search", "--trace", agent.trace_id, "--json"))
    # In the order of what happened; in the chain they stand as they were written.
    entries = sorted((row.get("entry", row) for row in rows), key=lambda entry: entry["at_us"])
    for entry in entries:
        digest = [f"arguments {entry['arguments_sha256'][:12]}…"] if "arguments_sha256" in entry else []
        told = [entry.get(each) for each in ("kind", "caller", "thing", "version", "decision", "outcome", "rule")]
        yes = [f"by {entry['approved_by']}"] if entry.get("approved_by") else []
        took = [f"{entry['took_us'] / 1000:.1f} ms"] if "took_us" in entry else []
        told += [word for word in ("replayed", "cached") if entry.get(word)] + yes + took + digest
        show("AUDIT", " ".join(str(each) for each in told if each))
    if (recorded := sum(entry["kind"] == "call" for entry in entries)) < agent.calls:
        raise Unexpected(f"{agent.calls} calls were made, and {recorded} are on record")
    show("AUDIT", bascule.run("audit", "verify").strip())


def command_of(said: str | None) -> list[str]:
    """How Bascule is started: as it is said, beside this interpreter, or on PATH."""
    beside = shutil.which("bascule", path=str(Path(sys.executable).parent))
    found = said or beside or shutil.which("bascule")
    if not found:
        sys.exit("bascule is not installed: pip install bascule, or say where it is with --bascule")
    return [found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=names(), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name all scenarios")
    parser.add_argument("--client", choices=["ours", "sdk"], default="ours", help="sdk: the official one, of `mcp`")
    parser.add_argument("--bascule", metavar="PATH", help="the program; default: beside this Python, or on PATH")
    said = parser.parse_args()
    if said.list or not said.name:
        for name in names():
            print(f"{name:<16} {title(name)}")
        return
    client = importlib.import_module("sdk" if said.client == "sdk" else "client")
    try:
        asyncio.run(play(said.name, client, command_of(said.bascule)))
    except Unexpected as error:
        sys.exit(f"{said.name}: {error}")


if __name__ == "__main__":
    main()
