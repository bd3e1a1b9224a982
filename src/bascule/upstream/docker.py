"""A server in a container: `docker run`, and the certainty that nothing of it is left when it ends.

Whoever kills the client of Docker does not end the container. So a small process waits beside each for the end of its
input, which we hold: when we let go, or end in whatever way, it removes the container. Knows nothing of MCP.
"""

import csv
import io
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bascule.errors import Unavailable
from bascule.options_sandbox import SandboxOptions
from bascule.upstream.sandbox import Launch, Reach, Walls, options_of

if TYPE_CHECKING:
    from bascule.upstream.stdio import StdioOptions

_PROBE_S: Final = 10.0
_REMOVAL_S: Final = 15.0
_MOST_PROCESSES: Final = 512
# What the client itself is told; its configuration is named, for HOME is that of the server.
_OF_THE_CLIENT: Final = ("PATH", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK")
_OF_DOCKER: Final = "DOCKER_"
# It outlives the signals that end a whole group of processes: it is the one who has to be there last. And it looks
# again for some seconds: of a client that was killed meanwhile, Docker goes on to make the container.
_SENTINEL: Final = """
trap "" TERM INT HUP
remove() { "$docker" rm -f "$name" >/dev/null 2>&1; }
docker=$0 name=$1
cat >/dev/null
remove
for again in 1 2 3 4 5 6 7 8 9 10; do sleep 1; remove; done &
"""


def walls(options: SandboxOptions) -> Walls:
    """What a container holds of *options*. PURE."""
    loose, missing = [], ""
    if not isinstance(options.network, str):
        loose.append("TCP ports")
        if options.mode == "required":
            missing = "a container has all of the network or none: say `network: none` or `any`, or `runtime: process`"
    return Walls(layers=["docker"], loose=loose, missing=missing)


def problem(environ: Mapping[str, str]) -> str:
    """Why no container can be started, and what to do; "" if one can. Asks the daemon, and waits for it."""
    program = shutil.which("docker", path=environ.get("PATH"))
    if program is None:
        return "`runtime: docker` needs the program `docker`, which is not on PATH: install Docker"
    try:
        done = subprocess.run(
            (program, "info", "--format", "{{.ServerVersion}}"),
            env=_environment(environ),
            capture_output=True,
            timeout=_PROBE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"`docker info` does not answer: {error}"
    if done.returncode or not done.stdout.strip():
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return f"`runtime: docker` needs a Docker that runs; `docker info` says: {said}: start it, or set DOCKER_HOST"
    return ""


def furnish(options: "StdioOptions", environ: Mapping[str, str], hidden: Iterable[Path]) -> Launch:
    """How a container of the image starts. Raises Unavailable. Blocks: it asks Docker."""
    wanted = options_of(options)
    found = walls(wanted)
    if reason := found.missing or problem(environ):
        raise Unavailable(reason)
    program = shutil.which("docker", path=environ.get("PATH")) or "docker"
    home = environ.get("HOME") or str(Path.home())
    rules = Reach(home, [Path(home, ".ssh"), *hidden]).declared(options, wanted)
    name = f"bascule-{secrets.token_hex(8)}"
    client = _environment(environ)
    sentinel = _sentinel(program, name, client)
    return Launch(
        command=[program, *_run(options, wanted, name, rules)],
        env={**client, "HOME": "/tmp", **options.env},
        cwd=None,
        sandbox=found.said,
        relayed=True,
        end=lambda: _remove(sentinel),
    )


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name in _OF_THE_CLIENT or name.startswith(_OF_DOCKER)}
    return {"DOCKER_CONFIG": str(Path(environ.get("HOME") or Path.home(), ".docker")), **kept}


def _run(options: "StdioOptions", wanted: SandboxOptions, name: str, rules: Sequence[tuple[str, str]]) -> list[str]:
    """`run …`. Values of variables are in the environment of the client: its arguments are for everybody to see."""
    said = ["run", "--rm", "-i", "--init", "--name", name, "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    said += ["--read-only", "--tmpfs", "/tmp", "--ulimit", "core=0"]
    said += ["--network", "none" if wanted.network == "none" else "bridge"]
    said += ["--pids-limit", str(wanted.processes or _MOST_PROCESSES), "--ulimit", f"nofile={wanted.open_files}"]
    if wanted.memory_bytes is not None:
        said += ["--memory", str(wanted.memory_bytes), "--memory-swap", str(wanted.memory_bytes)]
    if wanted.file_bytes is not None:
        said += ["--ulimit", f"fsize={wanted.file_bytes}"]
    # As ourselves, without any capability: what we may read and write of the declared files, it may.
    said += ["--user", f"{os.getuid()}:{os.getgid()}"]
    for access, path in rules:
        said += ["--mount", _mount(path, "readonly" if access == "read" else "")]
    if options.cwd is not None:
        said += ["--workdir", os.path.abspath(options.cwd)]
    for variable in ("HOME", *(each for each in options.env if each != "HOME")):
        said += ["-e", variable]
    return [*said, str(options.image), options.command, *options.args]


def _mount(path: str, more: str) -> str:
    """One bind mount, as the client reads it: a line of CSV."""
    line = io.StringIO()
    fields = ["type=bind", f"source={path}", f"target={path}", *([more] if more else [])]
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _sentinel(program: str, name: str, client: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Waits beside the container *name*, and removes it at the end of its input. Raises Unavailable."""
    try:
        return subprocess.Popen(
            ("/bin/sh", "-c", _SENTINEL, program, name),
            env=dict(client),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"cannot start /bin/sh, which looks after the container: {error}") from error


def _remove(sentinel: "subprocess.Popen[bytes]") -> None:
    assert sentinel.stdin is not None
    sentinel.stdin.close()
    try:
        sentinel.wait(_REMOVAL_S)
    except subprocess.TimeoutExpired:
        pass  # it goes on trying without us
