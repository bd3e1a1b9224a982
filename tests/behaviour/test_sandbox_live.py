"""Servers within walls, behind a gateway: what they reach, what is said of them, and that nothing of them is left."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gateway import Bascule, Json, alive, failure_of, gateway, gone, hostile, local, serving, text_of, until

from bascule.upstream import sandbox
from bascule.upstream.sandbox import Machine
from bascule.upstream.stdio import StdioOptions, StdioUpstream
from processes import ROOT, SERVERS

pytestmark = pytest.mark.skipif(
    not sandbox.machine().bubblewrap or sandbox.machine().landlock < 6,
    reason=f"bubblewrap and Landlock are not both here: {sandbox.machine()}",
)
LANDLOCK_ALONE = msgspec.structs.replace(sandbox.machine(), bubblewrap="", private_network=False)
# As the tests of this repository lie in one folder, which is what a server's own folder is.
OWN: Json = {"read": [str(SERVERS.parent)]}
DOCKER = ROOT / "tests" / "servers" / "docker"


@pytest.fixture(params=["bubblewrap", "Landlock alone"])
def layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "Landlock alone":
        monkeypatch.setattr(sandbox, "machine", lambda: LANDLOCK_ALONE)
    return str(request.param)


def reaching(**wanted: Any) -> Json:
    return local("reaching", sandbox={"mode": "required", **wanted})


async def reach(bascule: Bascule, code: str) -> str:
    """What a server of the name `far` found, that runs *code*."""
    client = await bascule.session()
    return text_of(await client.call("far__reach", code=code))


# ---- hostile


async def test_a_server_finds_neither_keys_nor_state_nor_secrets(layer: str, tmp_path: Path) -> None:
    async with gateway({"far": reaching()}, environ={"HOME": str(tmp_path)}) as bascule:
        await bascule.up("far")
        assert bascule.gateway is not None
        state = Path(bascule.gateway.config.state_dir)
        assert (state / "bascule.db").exists()
        for path in (state / "bascule.db", Path.home() / ".ssh" / "id_ed25519", ROOT / "pyproject.toml", "/etc/shadow"):
            said = await reach(bascule, f"print(open({str(path)!r}, 'rb').read())")
            assert said.split(":")[0] in ("PermissionError", "FileNotFoundError"), path
        said = await reach(bascule, f"import os; print(os.listdir({str(state)!r}))")
        assert said.split(":")[0] in ("PermissionError", "FileNotFoundError")
        said = await reach(bascule, f"print(open('/proc/{os.getpid()}/environ').read())")
        assert said.split(":")[0] in ("PermissionError", "FileNotFoundError")
        names = (await reach(bascule, "import os; print(*sorted(os.environ))")).split()
        assert {each for each in names if not each.startswith("LC_")} - {"LANG", "TZ", "PWD"} == {
            *("PATH", "HOME", "TMPDIR"),
            "BASCULE_CHILD",  # by which all that it starts is found, and ended
        }


async def test_the_state_folder_cannot_be_declared(tmp_path: Path) -> None:
    servers = {"far": reaching(read=[str(tmp_path)])}
    async with gateway(servers, state_dir=str(tmp_path / "state")) as bascule:
        said = await bascule.until("far", lambda said: said["state"] in ("down", "failed"))
        assert f"sandbox.read[0]: {tmp_path} holds {tmp_path}/state" in said["last_error"]


async def test_a_server_that_requires_walls_does_not_start_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "machine", lambda: Machine(why_not="bubblewrap is not installed"))
    async with gateway({"far": reaching(), "near": local("reaching", sandbox="auto")}) as bascule:
        await bascule.up("near")
        said = await bascule.until("far", lambda said: said["state"] in ("down", "failed"))
        assert "neither Landlock in this kernel nor bubblewrap (bubblewrap is not installed)" in said["last_error"]
        assert "install bubblewrap" in said["last_error"]
        assert said["pids"] == []
        assert (await bascule.server("near"))["sandbox"] == "limits (not held: files)"
        failure = failure_of(await bascule.modern("/servers/far/mcp").call("reach", code="1"))
        assert failure["kind"] == "unavailable"


async def test_a_command_that_cannot_run_within_its_walls_is_said_so(tmp_path: Path) -> None:
    server = {"command": str(tmp_path / "no-program"), "sandbox": "required", "start_timeout_s": 5}
    (tmp_path / "no-program").write_text("\x7fnothing")
    (tmp_path / "no-program").chmod(0o755)
    async with gateway({"far": server}) as bascule:
        said = await bascule.until("far", lambda said: said["state"] in ("down", "failed"))
        assert "its sandbox cannot be made" in said["last_error"]
        assert "cannot be run: Exec format error" in said["last_error"]


# ---- the end


@pytest.mark.parametrize("mode", ["daemon", "grandchild"])
async def test_of_a_server_that_leaves_children_nothing_is_left(mode: str, layer: str) -> None:
    before = _descendants(os.getpid())  # those of other tests, such as what multiprocessing forks from
    async with gateway({"far": hostile(mode, sandbox={"mode": "required", **OWN})}) as bascule:
        await bascule.up("far")
        family = set(_descendants(os.getpid())).difference(before)
        assert len(family) >= 2, "the server, and what it started"
        assert all(map(alive, family))
    await gone(*family, within_s=5)


async def test_of_servers_of_a_bascule_that_was_killed_nothing_is_left(tmp_path: Path) -> None:
    config = tmp_path / "bascule.json"
    walls = {"mode": "required", "read": [str(SERVERS)]}
    config.write_text(json.dumps({"servers": {"far": hostile("daemon", sandbox=walls)}, "state_dir": "state"}))
    async with serving(config, env={"TMPDIR": str(tmp_path)}) as bascule:
        await bascule.up("far")
        assert bascule.process is not None
        family = _descendants(bascule.process.pid)
        assert len(family) >= 2
        bascule.process.kill()
        await gone(*family, within_s=10)
    async with serving(config, env={"TMPDIR": str(tmp_path)}) as bascule:
        await bascule.up("far")
        houses = [name for name in os.listdir(tmp_path) if name.startswith("bascule-rooms-")]
        assert len(houses) == 1, "those of the one that was killed are swept"


async def test_a_server_that_forgets_whose_it_is_ends_with_its_namespace() -> None:
    code = "import os, subprocess; subprocess.Popen(['sleep', '600'], env={}, start_new_session=True)"
    async with gateway({"far": reaching()}) as bascule:
        await bascule.up("far")
        before = _descendants(os.getpid())
        await reach(bascule, code)
        (sleeper,) = set(_descendants(os.getpid())) - set(before)
        assert alive(sleeper)
    await gone(sleeper, within_s=5)


TIDY = """
import os, runpy, signal, sys, time
def tidy(*_):
    open({mark!r}, "w").close()
    os._exit(0)
signal.signal(signal.SIGTERM, tidy)
sys.path.insert(0, {servers!r})
sys.argv = ["reaching.py"]
runpy.run_path({servers!r} + "/reaching.py", run_name="__main__")
time.sleep(60)
"""


async def test_a_server_that_tidies_up_at_sigterm_has_the_time_to_do_so(layer: str, tmp_path: Path) -> None:
    mark = tmp_path / "tidied"
    code = TIDY.format(mark=str(mark), servers=str(SERVERS))
    walls = {"mode": "required", "read": [str(SERVERS)], "write": [str(tmp_path)]}
    server = {"command": sys.executable, "args": ["-c", code], "sandbox": walls, "stop_grace_s": 0.5}
    async with gateway({"far": server}) as bascule:
        await bascule.up("far")
        (pid,) = (await bascule.server("far"))["pids"]
        assert not mark.exists()
    assert mark.exists()
    assert not alive(pid)


async def test_how_a_server_died_is_said_through_what_is_around_it(layer: str) -> None:
    async with gateway({"far": {**reaching(), "start": "lazy"}}) as bascule:
        client = bascule.modern("/servers/far/mcp")
        await client.call("reach", code="import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
        said = await bascule.until("far", lambda said: bool(said["last_error"]))
        assert said["last_error"] == "the process was killed by SIGSEGV"


async def test_the_room_of_a_process_is_removed_when_it_ends(layer: str) -> None:
    async with gateway({"far": reaching()}) as bascule:
        await bascule.up("far")
        home = Path(await reach(bascule, "import os; print(os.environ['HOME'])"))
        assert home.is_dir()  # noqa: ASYNC240 - no disk is asked
        await reach(bascule, "import os; open(os.path.expanduser('~/x'), 'w').close()")
        assert (home / "x").exists()
    assert not home.parent.exists()


def _descendants(pid: int) -> list[int]:
    """All processes that *pid* has started, and they, without the warden."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, waiting = [], [pid]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if b"family.py" not in _cmdline(child):
                found.append(child)
            waiting.append(child)
    return found


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# ---- those that do no harm


async def test_a_good_server_works_within_walls_and_says_which(layer: str) -> None:
    async with gateway({"far": local("plain", sandbox={"mode": "required", "network": "none", **OWN})}) as bascule:
        await bascule.up("far")
        assert text_of(await bascule.modern().call("far__add", a=1, b=2)) == '{"sum": 3}'
        said = (await bascule.server("far"))["sandbox"]
        assert (
            said
            == {
                "bubblewrap": f"bubblewrap + Landlock {sandbox.machine().landlock} + seccomp + limits",
                "Landlock alone": f"Landlock {sandbox.machine().landlock} + seccomp + limits",
            }[layer]
        )


async def test_a_command_that_is_named_by_a_relative_path_is_found_within_walls(layer: str) -> None:
    entry = local("plain", sandbox={"mode": "required", "network": "none", **OWN})
    entry["command"] = os.path.relpath(entry["command"])  # noqa: ASYNC240 - no disk is asked
    async with gateway({"far": entry}) as bascule:
        await bascule.up("far")
        assert text_of(await bascule.modern().call("far__add", a=1, b=2)) == '{"sum": 3}'


async def test_a_server_without_walls_has_limits_and_says_so() -> None:
    async with gateway({"far": local("reaching")}) as bascule:
        await bascule.up("far")
        assert (await bascule.server("far"))["sandbox"] == "limits"
        code = "import resource as r; print(r.getrlimit(r.RLIMIT_CORE), r.getrlimit(r.RLIMIT_NOFILE)[0])"
        assert await reach(bascule, code) == "(0, 0) 1024"


def _npm_server() -> Path | None:
    """The official server of everything, where some folder of this machine has it."""
    places = (
        *Path.home().glob(".npm/_npx/*"),
        ROOT,
        *ROOT.parents,
        *map(Path, os.environ.get("NODE_PATH", "").split(":")),
    )
    scripts = (each / "node_modules/@modelcontextprotocol/server-everything/dist/index.js" for each in places)
    return next((each for each in scripts if each.is_file()), None)


async def test_an_npm_server_works_within_walls(layer: str) -> None:
    script, node = _npm_server(), shutil.which("node")
    if script is None or node is None:
        pytest.skip("there is no node, or @modelcontextprotocol/server-everything is not installed")
    server = {"command": "node", "args": [str(script), "stdio"], "sandbox": {"mode": "required", "network": "none"}}
    async with gateway({"far": server}) as bascule:
        await bascule.up("far")
        session = await bascule.session()
        assert "hello" in text_of(await session.call("far__echo", message="hello"))


# Each pack with the folder that it works in; what it does there is tested with the pack.
PACKS: dict[str, Any] = {
    "office": lambda folder: {"root": folder},
    "files": lambda folder: {"root": folder},
    "database": lambda folder: {"sqlite": "sample", "folder": folder},
    "crm": lambda folder: {"folder": folder},
    "finance": lambda folder: {"folder": folder},
    "media": lambda folder: {"root": folder},
    "research": lambda folder: {},
    "communication": lambda folder: {"root": folder},
}


@pytest.mark.parametrize("pack", PACKS)
async def test_a_pack_runs_with_what_it_declares_and_nothing_else(pack: str, layer: str, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    server = {"pack": pack, "settings": PACKS[pack](str(tmp_path / "own")), "sandbox": "required"}
    async with gateway({"it": server}) as bascule:
        await bascule.up("it")
        said = await bascule.server("it")
        assert "seccomp + limits" in said["sandbox"]
        assert ("bubblewrap" in said["sandbox"]) == (layer == "bubblewrap")
        assert said["tools"]


async def test_a_pack_reaches_the_files_that_it_was_given(layer: str, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "note.txt").write_text("Sales rose in March.")
    server = {"pack": "files", "settings": {"root": str(tmp_path / "own")}, "sandbox": "required"}
    async with gateway({"files": server}) as bascule:
        await bascule.up("files")
        reading = next(name for name in (await bascule.server("files"))["tools"] if "read" in name)
        said = await bascule.modern("/servers/files/mcp").call(reading.rpartition("/")[2], path="note.txt")
        assert "Sales rose in March." in json.dumps(said)


# ---- containers


def contained(tmp_path: Path, **more: Any) -> tuple[Json, Mapping[str, str]]:
    """A server in a container of the stand-in for Docker, which runs the command and writes down what it was told."""
    return (
        {**local("reaching"), "runtime": "docker", "image": "example/server:1", **more},
        {**os.environ, "PATH": f"{DOCKER}:{os.environ['PATH']}", "DOCKER_RECORD": str(tmp_path / "record")},
    )


def recorded(tmp_path: Path) -> list[list[str]]:
    path = tmp_path / "record"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def _upstream(server: Json, environ: Mapping[str, str]) -> StdioUpstream:
    upstream = StdioUpstream("far", msgspec.convert(server, StdioOptions), environ)
    await upstream.eras()
    return upstream


async def test_a_container_is_run_with_nothing_but_what_was_declared(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    walls = {
        "mode": "required",
        "read": [str(tmp_path / "in")],
        "write": [str(tmp_path / "out")],
        "network": "none",
        "memory_bytes": 1 << 28,
        "processes": 64,
    }
    server, environ = contained(tmp_path, env={"TOKEN": "s3cr3t"}, sandbox=walls)
    upstream = await _upstream(server, environ)
    try:
        run = next(words for words in recorded(tmp_path) if words[0] == "run")
    finally:
        await upstream.stop()
    told = " ".join(run)
    for each in (
        *("--rm -i --init --name bascule-", "--cap-drop ALL", "--security-opt no-new-privileges", "--read-only"),
        *("--tmpfs /tmp", "--network none", "--pids-limit 64", f"--memory {1 << 28}", "-e TOKEN"),
        f"--user {os.getuid()}:{os.getgid()}",
        f"--mount type=bind,source={tmp_path}/in,target={tmp_path}/in,readonly",
        f"--mount type=bind,source={tmp_path}/out,target={tmp_path}/out --",
    ):
        assert each in told + " --" or each.removesuffix(" --") in run, each
    assert run[run.index("example/server:1") + 1 :] == [server["command"], *server["args"]]
    assert "s3cr3t" not in json.dumps(recorded(tmp_path))


async def test_a_container_is_removed_however_its_client_ends(tmp_path: Path) -> None:
    server, environ = contained(tmp_path, stop_grace_s=0.3)
    upstream = await _upstream(server, environ)
    (pid,) = upstream.status().pids
    os.kill(pid, 9)
    name = next(words[words.index("--name") + 1] for words in recorded(tmp_path) if words[0] == "run")

    async def removals() -> list[list[str]]:
        return [words for words in recorded(tmp_path) if words[0] == "rm"]

    await until(removals, lambda found: ["rm", "-f", name] in found)
    await upstream.stop()


async def test_a_container_is_removed_when_bascule_itself_is_killed(tmp_path: Path) -> None:
    server, environ = contained(tmp_path)
    config = tmp_path / "bascule.json"
    config.write_text(json.dumps({"servers": {"far": server}, "state_dir": str(tmp_path / "state")}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bascule", "serve", "-c", str(config), "--port", "0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**environ, "HOME": str(tmp_path)},
        start_new_session=True,
    )

    async def told(verb: str) -> list[list[str]]:
        return [words for words in recorded(tmp_path) if words[0] == verb]

    try:
        ((run),) = await until(partial(told, "run"), bool)
    finally:
        process.kill()
        await process.wait()
    await until(partial(told, "rm"), lambda found: ["rm", "-f", run[run.index("--name") + 1]] in found)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "`docker`, which is not on PATH: install Docker"),
        ("echo 'Cannot connect to the Docker daemon at unix:///x.' >&2; exit 1", "Cannot connect to the Docker daemon"),
    ],
)
async def test_without_docker_nothing_starts(answer: str | None, said: str, tmp_path: Path) -> None:
    server, environ = contained(tmp_path)
    if answer is not None:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "docker").chmod(0o755)
    upstream = StdioUpstream("far", msgspec.convert(server, StdioOptions), {**environ, "PATH": str(tmp_path)})
    with pytest.raises(Exception, match="is down") as caught:
        await upstream.eras()
    assert said in str(caught.value)
    await upstream.stop()
