"""The environment of each client: made on first use in `.venv-clients`, kept until its requirements change.

Every client has its own, because they disagree (`mcp` 1 and 2) and none of them is a dependency of ours.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

CACHE: Final = Path(__file__).parents[2] / ".venv-clients"
MAKE_WITHIN_S: Final = 600

# Exact versions: a client that changed is a change of this file, not a surprise in a test run.
PYTHON: Final[Mapping[str, tuple[str, ...]]] = {
    "sdk2": ("mcp==2.3.0",),
    "sdk1": ("mcp==1.30.0",),
    "fastmcp": ("fastmcp==4.1.2",),
    "openai_agents": ("openai-agents==0.24.0", "mcp==2.3.0"),
    "langchain": ("langchain-mcp-adapters==0.3.2", "mcp==1.30.0"),
    # Servers, each in an environment of its own too; the last one was written for the SDK before its version 2.
    "mcp-server-time": ("mcp-server-time==2026.10.19",),
    "mcp-server-git": ("mcp-server-git==2026.10.19",),
    "mcp-server-fetch": ("mcp-server-fetch==2026.10.24",),
    "mcp-server-sqlite": ("mcp-server-sqlite==2025.4.25", "mcp==1.30.0"),
}
# The inspector wants a newer node than many systems have. npm would quietly pick an inspector from 2025 then.
NODE: Final = ("node@22.23.3", "@modelcontextprotocol/inspector@2.12.0")
NODE_SERVERS: Final = (
    "node@22.23.3",
    *(f"@modelcontextprotocol/server-{name}@2026.8.31"
      for name in ("everything", "filesystem", "memory", "sequential-thinking")),
)  # fmt: skip
# What npm, pip and uv say when they cannot reach the place that packages come from.
_UNREACHED: Final = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|dns error|error sending request|[Cc]onnection refused"
    r"|Could not connect|Temporary failure in name resolution|Network is unreachable"
)


class Unreachable(RuntimeError):
    """The packages cannot be had here and now."""


def python(name: str) -> str:
    """The interpreter in which client *name* is installed."""
    return str(_made(name, PYTHON[name], _make_python) / "bin" / "python")


def inspector() -> list[str]:
    """The command that runs the MCP Inspector without its web page. Needs npm to be made."""
    modules = _made("node", NODE, _make_node) / "node_modules"
    launcher = modules / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"
    return [str(modules / "node" / "bin" / "node"), str(launcher), "--cli"]


def server(name: str) -> list[str]:
    """The command of the official server *name*, such as `mcp-server-time` or `server-memory`."""
    if name in PYTHON:
        return [str(Path(python(name)).with_name(name))]
    modules = _made("node-servers", NODE_SERVERS, _make_node) / "node_modules"
    return [
        str(modules / "node" / "bin" / "node"),
        str(modules / "@modelcontextprotocol" / name / "dist" / "index.js"),
    ]


def can_make_node() -> bool:
    return shutil.which("npm") is not None


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Tests may run in parallel processes; one of them makes, the others wait, or get BlockingIOError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT), "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _made(name: str, requirements: tuple[str, ...], make: Callable[[Path, tuple[str, ...]], None]) -> Path:
    key = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:8]
    folder = CACHE / name / key
    with locked(CACHE / f"{name}.lock"):
        if not (folder / ".made").exists():
            shutil.rmtree(CACHE / name, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder, requirements)
            (folder / ".made").touch()
    return folder


def _make_python(folder: Path, requirements: tuple[str, ...]) -> None:
    interpreter = str(folder / "bin" / "python")
    if uv := shutil.which("uv"):
        run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder))
        run(uv, "pip", "install", "--quiet", "--python", interpreter, *requirements)
    else:
        run(sys.executable, "-m", "venv", str(folder))
        run(interpreter, "-m", "pip", "install", "--quiet", *requirements)


def _make_node(folder: Path, requirements: tuple[str, ...]) -> None:
    (folder / "package.json").write_text('{"private": true}')
    run("npm", "install", "--no-audit", "--no-fund", "--no-save", "--prefix", str(folder), *requirements)


def run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_WITHIN_S, check=False)
    if ran.returncode and _UNREACHED.search(ran.stdout + ran.stderr):
        raise Unreachable(f"{command[0]} reaches no packages: {(ran.stderr or ran.stdout).strip()[-300:]}")
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ran.stdout}{ran.stderr}")


def _make_all() -> None:
    """Make everything ahead of a test run, in which a test has only so much time."""
    wanted: list[Callable[[], object]] = [partial(python, name) for name in PYTHON]
    if can_make_node():
        wanted += [inspector, partial(server, "server-everything")]
    for make in wanted:
        try:
            print(make())
        except Unreachable as error:
            print(error)  # tests of what is not there are skipped, with the same words


if __name__ == "__main__":
    _make_all()
