"""Walls around real processes that try to get out, by each layer; and what is said of them."""

import ast
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from bascule.errors import Unavailable
from bascule.options_sandbox import SandboxOptions
from bascule.upstream import confine, needs, rooms, sandbox
from bascule.upstream.sandbox import Machine, walls
from bascule.upstream.stdio import StdioOptions
from upstream.walled import HERE, LAYERS, WITHIN_S, Honeypot, honeypot, reached, walled, why_not

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and bubblewrap are of Linux")

EVERYTHING = Machine(landlock=7, bubblewrap="/usr/bin/bwrap", private_network=True, filters=True)
SECRET = "s3cr3t-of-somebody"


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> Machine:
    if reason := why_not(request.param):
        pytest.skip(reason)
    return LAYERS[request.param]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with secrets in it, a state folder, and a folder of documents."""
    for name in (".ssh/id", "state/bascule.db", "docs/letter.txt", "docs/own/note.txt"):
        path = tmp_path / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SECRET)
    return tmp_path / "home"


@pytest.fixture
def trap() -> Iterator[Honeypot]:
    with honeypot() as made:
        yield made


# ---- files


@pytest.mark.parametrize("name", [".ssh/id", "state/bascule.db", "docs/letter.txt"])
def test_what_is_not_declared_cannot_be_read(name: str, layer: Machine, home: Path) -> None:
    said = reached(f"print(open({str(home / name)!r}).read())", layer, home)
    assert said.startswith(("PermissionError", "FileNotFoundError"))


@pytest.mark.parametrize(
    "code",
    [
        "open({path!r}, 'w')",
        "open({path!r}, 'a')",
        "import os; os.truncate({path!r}, 0)",
        "import os; os.unlink({path!r})",
        "import os; os.rename({path!r}, '/tmp/stolen')",
        "import os; os.link({path!r}, '/tmp/stolen')",
        "open({path!r} + '.new', 'w')",
        "import os; os.mkdir({path!r} + '.new')",
        "import os; os.symlink('/', {path!r} + '.new')",
    ],
)
def test_nothing_outside_is_changed(code: str, layer: Machine, home: Path) -> None:
    letter = home / "docs" / "letter.txt"
    for wanted in ({}, {"read": (str(home / "docs"),)}):
        reached(code.format(path=str(letter)), layer, home, **wanted)
        assert letter.read_text() == SECRET
        assert sorted(each.name for each in letter.parent.iterdir()) == ["letter.txt", "own"]


def test_what_is_declared_is_there_for_what_it_was_declared_for(layer: Machine, home: Path) -> None:
    docs = home / "docs"
    code = f"""
import os
print(open({str(docs / "letter.txt")!r}).read(), sorted(os.listdir({str(docs)!r})))
open({str(docs / "own" / "new.txt")!r}, 'w').write('made')
os.rename({str(docs / "own" / "note.txt")!r}, {str(docs / "own" / "kept.txt")!r})
try:
    open({str(docs / "letter.txt")!r}, 'w')
except OSError as error:
    print(type(error).__name__)
"""
    said = reached(code, layer, home, read=("~/docs",), write=("~/docs/own",))
    assert said.splitlines()[0] == f"{SECRET} ['letter.txt', 'own']"
    assert said.splitlines()[1] in ("PermissionError", "OSError")
    assert (docs / "own" / "new.txt").read_text() == "made"
    assert (docs / "own" / "kept.txt").read_text() == SECRET


def test_a_link_is_followed_to_what_was_declared_and_no_further(layer: Machine, home: Path) -> None:
    (home / "short").symlink_to(home / "docs" / "own")
    (home / "docs" / "own" / "out").symlink_to(home / ".ssh")
    assert (
        reached(f"print(open({str(home / 'short' / 'note.txt')!r}).read())", layer, home, read=("~/short",)) == SECRET
    )
    said = reached(f"open({str(home / 'short' / 'out' / 'id')!r})", layer, home, read=("~/short",))
    assert said.startswith(("PermissionError", "FileNotFoundError"))


def test_a_link_that_a_server_could_have_made_itself_opens_nothing_at_its_next_start(
    layer: Machine, home: Path
) -> None:
    own, theirs = home / "docs" / "own", home / "theirs"
    theirs.mkdir()
    (theirs / "key").write_text(SECRET)
    steal = f"import os, shutil; shutil.rmtree({str(own)!r}); os.symlink({str(theirs)!r}, {str(own)!r})"
    assert not reached(steal, layer, home, write=("~/docs",), read=("~/docs/own",))
    for field in ("read", "write"):
        with pytest.raises(Unavailable, match=rf"sandbox\.{field}\[\d\]: .*own, which the server could .*theirs"):
            reached(f"print(open({str(own / 'key')!r}).read())", layer, home, **_with(field, "~/docs/own"))
    own.unlink()
    own.symlink_to(home / "docs")  # nothing that it did not have
    assert (
        reached(f"print(open({str(own / 'letter.txt')!r}).read())", layer, home, **_with("read", "~/docs/own"))
        == SECRET
    )


def _with(field: str, path: str) -> dict[str, tuple[str, ...]]:
    return {"write": ("~/docs", path)} if field == "write" else {"write": ("~/docs",), field: (path,)}


def test_home_and_temporary_files_are_private_and_do_not_outlive_the_process(layer: Machine, home: Path) -> None:
    code = """
import os, stat, tempfile
home = os.path.expanduser("~")
open(os.path.join(home, "kept"), "w").write("x")
file = tempfile.NamedTemporaryFile(delete=False)
print(home, oct(stat.S_IMODE(os.stat(home).st_mode)), oct(stat.S_IMODE(os.stat(tempfile.gettempdir()).st_mode)))
"""
    one, other = reached(code, layer, home).split(), reached(code, layer, home).split()
    assert one[1:] == ["0o700", "0o700"]
    assert one[0] != other[0]
    assert not Path(one[0]).exists()
    assert str(home) not in one[0]


def test_the_folder_it_works_in_can_be_read_if_it_was_declared(layer: Machine, home: Path) -> None:
    code = "import os; print(os.getcwd(), open('letter.txt').read())"
    assert reached(code, layer, home, cwd=str(home / "docs")) == f"{home / 'docs'} {SECRET}"
    assert reached("open('x', 'w')", layer, home, cwd=str(home / "docs")).startswith(("PermissionError", "OSError"))


# ---- network


CONNECTS = """
import socket
def connect(port, kind=socket.SOCK_STREAM, protocol=0):
    with socket.socket(socket.AF_INET, kind, protocol) as made:
        made.settimeout(5)
        made.connect(("127.0.0.1", port))
        made.send(b"x")
"""
WAYS = {
    "TCP": "connect({port})",
    "UDP": "connect({port}, socket.SOCK_DGRAM)",
    "multipath TCP": "connect({port}, protocol=262)",
    "TCP Fast Open": "socket.socket().sendto(b'x', 0x20000000, ('127.0.0.1', {port}))",
    "UDP-Lite": "connect({port}, socket.SOCK_DGRAM, 136)",
    "raw": "connect({port}, socket.SOCK_RAW, 6)",
}


@pytest.mark.parametrize("way", WAYS)
def test_without_a_network_there_is_none(way: str, layer: Machine, home: Path, trap: Honeypot) -> None:
    said = reached(CONNECTS + WAYS[way].format(port=trap.port), layer, home, network="none")
    assert "Error" in said
    assert trap.visits == 0


@pytest.mark.parametrize("way", [way for way in WAYS if way != "UDP"])
def test_of_ports_in_a_list_no_other_is_reached(way: str, layer: Machine, home: Path, trap: Honeypot) -> None:
    if layer.landlock == 0:
        with pytest.raises(Unavailable, match="TCP ports cannot be held here"):
            reached("", layer, home, network=(1,))
        return
    with honeypot() as allowed:
        said = reached(CONNECTS + WAYS[way].format(port=trap.port), layer, home, network=(allowed.port,))
        assert "Error" in said
        assert trap.visits == 0
        assert reached(CONNECTS + f"connect({allowed.port})", layer, home, network=(allowed.port,)) == ""
        assert allowed.visits == 1


def test_any_network_is_any(layer: Machine, home: Path, trap: Honeypot) -> None:
    assert reached(CONNECTS + WAYS["TCP"].format(port=trap.port), layer, home) == ""
    assert trap.visits == 1


def test_where_ports_are_listed_none_can_be_listened_on(layer: Machine, home: Path) -> None:
    if layer.landlock:
        assert "PermissionError" in reached(
            "import socket; socket.create_server(('127.0.0.1', 0))", layer, home, network=(1,)
        )


@pytest.mark.parametrize("address", ["path", "abstract"])
def test_sockets_of_the_machine_are_out_of_reach(address: str, home: Path, layer: Machine) -> None:
    name = str(home / "agent.sock") if address == "path" else f"\0bascule-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(name)
        agent.listen()
        agent.setblocking(False)
        said = reached(f"import socket; socket.socket(socket.AF_UNIX).connect({name!r})", layer, home)
        assert "Error" in said
        with pytest.raises(BlockingIOError):
            agent.accept()


def test_a_socket_that_was_declared_can_be_asked(layer: Machine, home: Path) -> None:
    path = str(home / "docs" / "db.sock")
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(path)
        served.listen()
        code = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
        assert reached(code, layer, home, write=(path,)) == ""


# ---- processes


def test_the_environment_holds_nothing_of_ours(layer: Machine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "BASCULE_TOKEN", "USER"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("LC_TIME", "C")
    said = reached("import os; print(sorted(os.environ))", layer, home, env={"TOKEN": "its own"})
    # LC_CTYPE is Python's own, where there is no language; PWD is what bubblewrap says of the folder.
    found = set(ast.literal_eval(said)) - {"LC_CTYPE", "LANG", "TZ", "PWD"}
    assert found - {each for each in found if each.startswith("LC_")} == {"PATH", "HOME", "TMPDIR", "TOKEN"}
    assert "LC_TIME" in found


@pytest.mark.parametrize("what", ["environ", "cmdline", "maps"])
def test_of_the_process_that_started_it_nothing_is_read(what: str, layer: Machine, home: Path) -> None:
    code = f"""
import os
for pid in {{os.getppid(), {os.getpid()}}} - {{0, 1, os.getpid()}}:
    print(open(f"/proc/{{pid}}/{what}", "rb").read())
"""
    said = reached(code, layer, home)
    assert said == "" or said.startswith(("PermissionError", "FileNotFoundError"))


def test_it_sees_its_own_process(layer: Machine, home: Path) -> None:
    assert "VmRSS" in reached("print(open('/proc/self/status').read())", layer, home)
    assert reached("import os; print(len(os.listdir('/proc/self/fd')) > 2)", layer, home) == "True"


def test_it_cannot_signal_a_process_outside(layer: Machine, home: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        try:
            said = reached(f"import os; os.kill({bystander.pid}, 9)", layer, home)
            assert said.startswith(("PermissionError", "ProcessLookupError"))
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_it_has_no_privileges_and_gains_none(layer: Machine, home: Path) -> None:
    said = reached("print(open('/proc/self/status').read())", layer, home)
    facts = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert facts["NoNewPrivs"] == "1"
    assert {int(facts[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}


def test_memory_is_bounded(layer: Machine, home: Path) -> None:
    assert reached("bytearray(1 << 30)", layer, home, memory_bytes=512 << 20) == "MemoryError"


def test_a_file_is_bounded(layer: Machine, home: Path) -> None:
    said = reached("import os; os.write(os.open('big', 65), bytes(1 << 20))", layer, home, file_bytes=4096)
    assert "Error" in said or said == ""
    code = "open('/tmp/big' if __import__('os').path.ismount('/tmp') else __import__('tempfile').gettempdir() + '/big'"
    assert reached(f"{code}, 'wb').write(bytes(1 << 20))", layer, home, file_bytes=4096).startswith(
        "OSError: [Errno 27]"
    )


def test_open_files_are_bounded_and_core_dumps_off(layer: Machine, home: Path) -> None:
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CORE))"
    assert reached(code, layer, home, open_files=64) == "(64, 64) (0, 0)"


FORKS = """
import os, time
try:
    for _ in range(200):
        if not os.fork():
            time.sleep(20)
            os._exit(0)
except BlockingIOError:
    print("no more", flush=True)
os.kill(0, 9)
"""


def test_a_fork_bomb_is_bounded_for_who_is_not_root() -> None:
    """The launcher itself, as another user where we are root: the kernel counts nothing of root's."""
    python = "/usr/bin/python3"
    if not os.access(python, os.X_OK):
        pytest.skip(f"there is no {python}, which any user may run")
    spec = {
        "landlock": False,
        "rules": [],
        "ports": None,
        "sockets": "any",
        "unix": True,
        "filtered": False,
        "own_proc": False,
        "limits": {"NPROC": 40},
    }
    nobody = 54321 if os.geteuid() == 0 else None
    with TemporaryDirectory() as folder:
        package = Path(folder)
        package.chmod(0o755)
        (package / "upstream").mkdir()
        for name in ("landlock.py", "seccomp.py", "upstream/confine.py"):
            (package / name).write_text((Path(sandbox.__file__).parent.parent / name).read_text())
        launcher = [python, "-I", "-S", str(package / "upstream" / "confine.py"), msgspec.json.encode(spec).decode()]
        done = subprocess.run(
            [*launcher, python, "-c", FORKS],
            user=nobody,
            group=nobody,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            start_new_session=True,
            cwd="/",
        )
    assert done.stdout.strip() == "no more", done.stderr
    assert done.returncode == -signal.SIGKILL


def test_a_bound_on_processes_that_cannot_be_held_is_refused() -> None:
    root = msgspec.structs.replace(EVERYTHING, root=True)
    assert "another user" in walls(SandboxOptions(mode="required", processes=9), root).missing
    found = walls(SandboxOptions(mode="auto", processes=9), root)
    assert (found.missing, "processes" in found.said) == ("", True)


def test_signals_and_pipes_are_as_they_would_be_without_walls(layer: Machine, home: Path) -> None:
    code = """
import signal, sys
lines = dict(line.split(":\\t") for line in open("/proc/self/status") if line.startswith("Sig"))
print(int(lines["SigIgn"], 16) & ~(1 << (signal.SIGPIPE - 1)) & ~(1 << (signal.SIGXFSZ - 1)), sys.stdin.isatty())
"""
    look = ("/bin/sh", "-c", "exec grep SigIgn /proc/self/status")
    # Whoever runs the tests in the background ignores Ctrl-C, and so do children, with walls and without.
    without = subprocess.run(look, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout
    assert reached(code, layer, home) == f"{int(without.split()[1], 16)} False"  # the two are ignored by Python
    done = walled(look, layer, home)
    assert done.stdout == without, done.stderr


# ---- commands that are not Python


def test_a_command_of_the_system_runs(layer: Machine, home: Path) -> None:
    done = walled(("/usr/bin/env", "sh", "-c", "echo $0 > /dev/null && ls /usr/bin | head -1"), layer, home)
    assert done.stdout.strip(), done.stderr


def test_a_tool_in_the_home_folder_brings_its_environment_with_it(layer: Machine, home: Path) -> None:
    """As `uv tool install` and `pipx` lay them out: in ~/.local/bin a link to a script with its own interpreter."""
    venv = home / ".local" / "share" / "tools" / "time"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(f"home = {sys.base_prefix}/bin\n")
    (venv / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    (venv / "words.txt").write_text("its own")
    script = venv / "bin" / "server-time"
    script.write_text(
        f"#!{venv}/bin/python\nimport os, sys\nprint(open(os.path.join(sys.prefix, 'words.txt')).read())\n"
        f"try:\n    open({str(home / '.local' / 'secret')!r})\nexcept OSError:\n    print('no more')\n"
    )
    script.chmod(0o755)
    (home / ".local" / "secret").write_text(SECRET)
    (home / ".local" / "bin").mkdir()
    command = home / ".local" / "bin" / "server-time"
    command.symlink_to("../share/tools/time/bin/server-time")
    done = walled((str(command),), layer, home)
    assert done.stdout.split("\n")[:2] == ["its own", "no more"], done.stderr


def test_the_script_of_an_interpreter_is_part_of_the_command(layer: Machine, home: Path) -> None:
    folder = home / "server"
    folder.mkdir()
    (folder / "beside.py").write_text("WORD = 'found'")
    (folder / "main.py").write_text("import beside\nprint(beside.WORD)")
    assert walled((sys.executable, str(folder / "main.py")), layer, home).stdout.strip() == "found"
    (home / "main.py").write_text(f"print(1)\nopen({str(home / 'docs' / 'letter.txt')!r})")
    done = walled((sys.executable, str(home / "main.py")), layer, home)
    assert (done.stdout.strip(), done.returncode) == ("1", 1), "not all of the home folder, for one file in it"


def test_git_finds_its_way(layer: Machine, home: Path) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("there is no git")
    done = walled((git, "init", "-q", str(home / "docs" / "own" / "repository")), layer, home, write=("~/docs/own",))
    assert done.returncode == 0, done.stderr
    assert (home / "docs" / "own" / "repository" / ".git" / "HEAD").exists()


# ---- what is refused


def test_a_declared_path_that_is_not_there_is_an_error_with_its_field(home: Path) -> None:
    with pytest.raises(Unavailable, match=r"sandbox\.read\[1\]: there is no .*/nowhere") as caught:
        reached("", EVERYTHING, home, read=("~/docs", "~/nowhere"))
    assert caught.value.details["field"] == "sandbox.read[1]"


@pytest.mark.parametrize("said", ["~", "~/.ssh", "~/.ssh/id", "/", "~/state", "~/state/bascule.db"])
def test_what_nobody_may_read_nobody_can_declare(said: str, home: Path) -> None:
    for field in ("read", "write"):
        with pytest.raises(Unavailable, match=rf"sandbox\.{field}\[0\]"):
            reached("", EVERYTHING, home, hidden=[home / "state"], **{field: (said,)})


def test_a_working_folder_that_holds_what_nobody_may_read_is_refused(home: Path) -> None:
    with pytest.raises(Unavailable, match=r"cwd: .* holds .*own"):
        reached("", EVERYTHING, home, hidden=[home / "docs" / "own"], cwd=str(home / "docs"))


def test_a_wall_that_cannot_be_put_up_ends_the_process_with_a_sentence(home: Path) -> None:
    done = walled((str(home / "docs" / "letter.txt"),), LAYERS["Landlock"], home, mode="auto")
    assert done.returncode == confine.REFUSED
    said = sandbox.complaint(done.returncode, done.stderr.splitlines())
    assert said is not None
    assert said.startswith(f"its sandbox cannot be made: {home}/docs/letter.txt cannot be run: ")
    assert sandbox.complaint(1, done.stderr.splitlines()) is None
    assert "bwrap: " in (sandbox.complaint(1, ["bwrap: Can't find source path /x"]) or "")


# ---- what is said


@pytest.mark.parametrize(
    ("wanted", "machine", "said", "refused"),
    [
        ({"mode": "off"}, EVERYTHING, "limits", ""),
        ({"mode": "required"}, EVERYTHING, "bubblewrap + Landlock 7 + limits", ""),
        ({"mode": "required", "network": "none"}, EVERYTHING, "bubblewrap + Landlock 7 + seccomp + limits", ""),
        ({"network": (443,)}, EVERYTHING, "bubblewrap + Landlock 7 + seccomp + limits (not held: UDP)", ""),
        ({"mode": "required"}, Machine(landlock=7, filters=True), "Landlock 7 + seccomp + limits", ""),
        ({"mode": "required"}, Machine(landlock=7), "Landlock 7 + limits (not held: unix sockets)", ""),
        (
            {"mode": "required"},
            Machine(landlock=2, filters=True),
            "Landlock 2 + seccomp + limits (not held: emptying files, signals to other processes)",
            "",
        ),
        (
            {"mode": "required", "network": (443,)},
            Machine(landlock=3, filters=True),
            "Landlock 3 + seccomp + limits (not held: signals to other processes, TCP ports, UDP)",
            "TCP ports cannot be held here",
        ),
        (
            {"mode": "required", "network": "none"},
            Machine(landlock=7),
            "Landlock 7 + limits (not held: unix sockets, UDP)",
            "UDP cannot be held here",
        ),
        (
            {"mode": "required", "network": "none"},
            Machine(bubblewrap="bwrap", private_network=True),
            "bubblewrap + limits",
            "",
        ),
        ({"mode": "auto"}, Machine(), "limits (not held: files)", ""),
        ({"mode": "required"}, Machine(why_not="none"), "limits (not held: files)", "install bubblewrap"),
    ],
)
def test_the_layers_are_said_with_what_they_do_not_hold(
    wanted: dict[str, Any], machine: Machine, said: str, refused: str
) -> None:
    found = walls(SandboxOptions(**wanted), machine)
    assert found.said == said
    assert refused in found.missing
    assert bool(refused) == bool(found.missing)


def test_what_is_required_and_not_to_be_had_does_not_start(home: Path) -> None:
    with pytest.raises(Unavailable, match="neither Landlock in this kernel nor bubblewrap"):
        reached("", Machine(why_not="bubblewrap is not installed"), home)
    assert reached("print(1)", Machine(), home, mode="auto") == "1"


def test_this_machine_is_looked_at_once() -> None:
    assert sandbox.machine() is HERE


def test_a_bubblewrap_that_does_not_work_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = sandbox.machine.__wrapped__()
    assert found.bubblewrap == ""
    assert "No permissions to create new namespace" in found.why_not


@pytest.mark.parametrize(
    "wrong", [{"runtime": "docker"}, {"image": "x"}, {"sandbox": "auto", "pass_environment": True}]
)
def test_options_that_do_not_go_together_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="`"):
        msgspec.convert({"command": "x", **wrong}, StdioOptions)


# ---- without walls


def test_without_walls_there_are_limits_nevertheless() -> None:
    options = StdioOptions(command="sh")
    launch = sandbox.furnish(options, ("/bin/sh",), {"PATH": "/bin", "HOME": "/h", "SECRET": "x"})
    assert launch.limits["CORE"] == (0, 0)
    assert launch.limits["NOFILE"][0] == 1024
    assert dict(launch.env) == {"PATH": "/bin", "HOME": "/h"}
    assert (launch.command, launch.sandbox) == (("/bin/sh",), "limits")


# ---- rooms


def test_rooms_that_a_killed_bascule_left_are_removed(tmp_path: Path) -> None:
    code = "import os, sys\nfrom bascule.upstream import rooms\nprint(rooms.make().path, flush=True)\n"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    killed = subprocess.Popen(
        [sys.executable, "-c", code + "sys.stdin.read()"], env=env, stdin=-1, stdout=-1, text=True
    )
    assert killed.stdout is not None
    assert killed.stdin is not None
    room = Path(killed.stdout.readline().strip())
    again = [sys.executable, "-c", code]
    subprocess.run(again, env=env, check=True, capture_output=True)
    assert room.exists(), "its owner lives"
    killed.kill()
    killed.wait()
    killed.stdin.close()
    killed.stdout.close()
    assert room.exists()
    subprocess.run(again, env=env, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []


def test_rooms_are_made_by_several_threads_at_once() -> None:
    made: list[rooms.Room] = []
    threads = [threading.Thread(target=lambda: made.append(rooms.make())) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({room.path for room in made}) == 8
    assert {room.home.stat().st_mode & 0o777 for room in made} == {0o700}
    for room in made:
        room.remove()
    assert not any(room.path.exists() for room in made)


def test_a_program_is_found_with_what_it_links_to(tmp_path: Path) -> None:
    modules = tmp_path / "project" / "node_modules"
    (modules / ".bin").mkdir(parents=True)
    (modules / "server" / "dist").mkdir(parents=True)
    (modules / "server" / "dist" / "index.js").write_text("#!/usr/bin/env node\n")
    (modules / ".bin" / "server").symlink_to("../server/dist/index.js")
    node = tmp_path / "node" / "bin" / "node"
    (tmp_path / "node" / "lib").mkdir(parents=True)
    node.parent.mkdir()
    node.write_text("")
    node.chmod(0o755)
    found = needs.of_command(str(modules / ".bin" / "server"), (), str(node.parent))
    assert {str(modules), str(node.parent), str(tmp_path / "node" / "lib")} <= set(found)
    assert str(tmp_path / "project") not in found
    assert str(tmp_path / "node") not in found


def test_limits_of_ours_are_not_raised_by_a_larger_one(home: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
    assert int(reached(code, HERE, home, mode="auto", open_files=1 << 30)) <= max(hard, 1 << 30)
