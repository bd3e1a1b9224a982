"""The tutorials are true: their files are written, their commands are run in order, what they show is what comes out.

A fence with a file name (```yaml bascule.yaml) is that file; one of ```console holds commands behind `$ `, each
followed by what it prints, where `…` stands for anything. A command that ends with `&` serves until the end, or until
`kill %1`. What `npm` and `npx` would fetch is there already (environments.py): nothing is downloaded in the middle.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import environments
import pytest
from command import BASCULE

from processes import ROOT

PAGES: Final = sorted((ROOT / "docs/tutorials").glob("*.md"))
FENCE: Final = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITHIN_S: Final = 120
NPM: Final = "npm-server"
PACKAGE: Final = next(each for each in environments.NODE_SERVERS if "filesystem" in each)
# `npx -y PACKAGE WORDS…` and `npm install --prefix FOLDER PACKAGE`, as the tutorial has them.
NPX: Final = """#!/bin/sh
[ "$1 $2" = '-y {package}' ] || {{ echo "not made for this test: $*"; exit 1; }}
shift 2
exec {command} "$@"
"""
NPM_INSTALL: Final = """#!/bin/sh
[ "$1 $2 $4" = 'install --prefix {package}' ] || {{ echo "not made for this test: $*"; exit 1; }}
mkdir -p "$3" && ln -s {modules} "$3/node_modules" && echo "added 1 package"
"""


class Command(NamedTuple):
    words: str
    shown: str


def commands(block: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        words, _, shown = part.partition("\n")
        yield Command(words, shown.rstrip("\n"))


def fits(shown: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in shown.split("…"))
    return re.fullmatch(pattern, printed.strip("\n"), re.DOTALL) is not None


class Shell:
    """One shell session in a folder of its own; `export` is kept from one command to the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("BASCULE", "XDG_", "COLUMNS"))}
        path = f"{Path(BASCULE[0]).parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {**kept, "HOME": str(folder / "home"), "PATH": path}

    def here(self, text: str) -> str:
        """*text* with the port that is free on this machine."""
        return text.replace("8777", self.port)

    def run(self, command: Command) -> None:
        words = self.here(command.words)
        if words.startswith("export "):
            name, _, value = words.removeprefix("export ").partition("=")
            self.env[name] = self._printed(f"printf %s {value}")
        elif words.endswith(" &"):
            self._serve(words.removesuffix(" &"), self.here(command.shown))
        elif words == "kill %1":
            self._end(self.running.pop(0))
        else:
            printed = self._printed(words)
            assert fits(self.here(command.shown), printed), f"$ {words}\n{printed}"

    def _printed(self, words: str) -> str:
        done = subprocess.run(
            ["bash", "-c", f"exec 2>&1; {words}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.folder,
            env=self.env,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        return done.stdout

    def _serve(self, words: str, shown: str) -> None:
        if "bascule serve" in words or "bascule run" in words or "bascule up" in words:
            words = (
                words.replace(" -- ", f" --port {self.port} -- ") if " -- " in words else f"{words} --port {self.port}"
            )
        with (self.folder / "stderr").open("w") as stderr:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {words}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=self.folder,
                env=self.env,
                text=True,
                start_new_session=True,
            )
        self.running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert fits(shown, line), line + (self.folder / "stderr").read_text()

    def close(self) -> None:
        for process in self.running:
            self._end(process)

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGINT)
        process.wait(40)
        assert process.stdout is not None
        process.stdout.close()

    def install_npm(self) -> None:
        """Put `node`, `npm` and `npx` on PATH, with the package of the tutorial. Skips where it cannot be had."""
        if not environments.can_make_node():
            pytest.skip("npm is missing")
        try:
            node, script = environments.server("server-filesystem")
        except environments.Unreachable as error:
            pytest.skip(str(error))
        modules = str(Path(node).parents[2])
        programs = self.folder / "programs"
        programs.mkdir()
        (programs / "npx").write_text(NPX.format(package=PACKAGE, command=shlex.join((node, script))))
        (programs / "npm").write_text(NPM_INSTALL.format(package=PACKAGE, modules=shlex.quote(modules)))
        for name in ("npx", "npm"):
            (programs / name).chmod(0o755)
        self.env["PATH"] = f"{programs}:{Path(node).parent}:{self.env['PATH']}"


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.stem, marks=[pytest.mark.clients] if page.stem == NPM else []) for page in PAGES],
)
def test_a_tutorial_can_be_followed_word_by_word(page: Path, tmp_path: Path) -> None:
    content = page.read_text(encoding="utf-8")
    if "curl " in content and shutil.which("curl") is None:
        pytest.skip("curl is missing")
    (tmp_path / "home").mkdir()
    shell = Shell(tmp_path)
    if page.stem == NPM:
        shell.install_npm()
    ran = 0
    try:
        for language, name, text in FENCE.findall(content):
            if name:
                file = tmp_path / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(shell.here(text), encoding="utf-8")
            elif language == "console":
                for command in commands(text):
                    shell.run(command)
                    ran += 1
    finally:
        shell.close()
    assert ran >= 5, "a tutorial is done, not only read"


def test_there_are_the_tutorials_that_a_newcomer_needs() -> None:
    assert {page.stem for page in PAGES} >= {"first-server", "npm-server", "contract", "payment"}
