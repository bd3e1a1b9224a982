"""Landlock keeps a process to what it was left: tried on real processes, where the kernel has it."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from bascule import landlock

PYTHON: Final = (sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64", "/etc", "/dev/null")

pytestmark = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")


def confined(rules: str, act: str, *values: object) -> str:
    """What a fresh process prints that is confined by *rules* and then does *act*, with *values* as its arguments."""
    begin = f"import os, socket, sys\nfrom bascule import landlock\nlandlock.confine({rules})\n"
    begin += f"try:\n    {act}\nexcept OSError as error:\n    print(type(error).__name__)\nelse:\n    print('done')\n"
    command = [sys.executable, "-c", begin, *map(str, values)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_a_file_outside_cannot_be_read_and_one_inside_can(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    for folder in (inside, outside):
        (folder / "note.txt").write_text("text")
    rules = f"read={(*PYTHON, str(inside))!r}"
    assert confined(rules, "open(sys.argv[1]).read()", inside / "note.txt") == "done"
    assert confined(rules, "open(sys.argv[1]).read()", outside / "note.txt") == "PermissionError"
    assert confined(rules, "os.listdir(sys.argv[1])", outside) == "PermissionError"


def test_what_may_be_read_cannot_be_changed_and_what_may_be_changed_can(tmp_path: Path) -> None:
    file = tmp_path / "note.txt"
    file.write_text("text")
    for act in ("open(sys.argv[1], 'w')", "os.truncate(sys.argv[1], 0)", "os.remove(sys.argv[1])"):
        assert confined(f"read={(*PYTHON, str(tmp_path))!r}", act, file) == "PermissionError"
    assert file.read_text() == "text"
    assert confined(f"read={PYTHON!r}, write=({str(tmp_path)!r},)", "os.remove(sys.argv[1])", file) == "done"


def test_a_single_file_may_be_named_and_one_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "note.txt"
    file.write_text("text")
    rules = f"read={(*PYTHON, str(file), str(tmp_path / 'none'))!r}"
    assert confined(rules, "open(sys.argv[1]).read()", file) == "done"


def test_programs_run_only_where_it_is_said() -> None:
    run = "os.execv('/bin/true', ['true'])"
    assert confined(f"read={PYTHON!r}", run) == "PermissionError"
    assert confined(f"execute={PYTHON!r}", run) == ""


@pytest.mark.skipif(landlock.abi() < landlock.NETWORK_ABI, reason="this kernel's Landlock has no rules for ports")
def test_only_the_ports_that_are_named_are_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        connect = "socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
        assert confined("read=('/',)", connect, port) == "PermissionError"
        assert confined(f"read=('/',), connect=({port},)", connect, port) == "done"
        assert confined("read=('/',), connect=None", connect, port) == "done"
        bind = "socket.create_server(('127.0.0.1', 0))"
        assert confined("read=('/',)", bind) == "PermissionError"
        assert confined("read=('/',), bind=None", bind) == "done"


@pytest.mark.skipif(landlock.abi() < landlock.SCOPE_ABI, reason="this kernel's Landlock has no scopes")
def test_nobody_outside_is_sent_a_signal() -> None:
    assert confined("read=('/',)", "os.kill(os.getppid(), 0)") == "PermissionError"
    assert confined("read=('/',), scoped=False", "os.kill(os.getppid(), 0)") == "done"


def test_a_program_that_is_started_is_confined_as_well(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("text")
    act = "sys.exit(0) if os.spawnv(os.P_WAIT, '/bin/cat', ['cat', sys.argv[1]]) else print('read')"
    assert confined(f"execute={PYTHON!r}", act, tmp_path / "note.txt") == ""
