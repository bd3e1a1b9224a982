"""A home folder of its own, with the files of clients in it, and somebody who types commands there."""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from command import Done, bascule

from bascule.cli.commands import app

CANARY = "CANARY-9f8e7d6c5b4a"  # in every secret of these tests; nothing that is printed may hold it
FILES = {
    "claude-desktop": ".config/Claude/claude_desktop_config.json",
    "claude-code": ".claude.json",
    "cursor": ".cursor/mcp.json",
    "vscode": ".config/Code/User/mcp.json",
    "codex": ".codex/config.toml",
    "zed": ".config/zed/settings.json",
    "windsurf": ".codeium/windsurf/mcp_config.json",
}


class Place:
    """A home folder and a project, in which somebody types `bascule …`."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.project = folder / "project"
        self.state = self.home / ".local" / "state" / "bascule"
        for each in (self.home, self.project):
            each.mkdir()

    def __call__(self, *words: str, stdin: str = "") -> Done:
        """Type it, in this process, with no terminal. Whatever was printed holds no secret."""
        out, err, here, found = io.StringIO(), io.StringIO(), Path.cwd(), 0
        with (
            mock.patch.dict(os.environ, self.environ),
            mock.patch.object(sys, "stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            os.chdir(self.project)
            try:
                app(list(words), prog_name="bascule")
            except SystemExit as done:
                found = done.code if isinstance(done.code, int) else 0
            finally:
                os.chdir(here)
        return self._silent(Done(found, out.getvalue(), err.getvalue()))

    def process(self, *words: str, stdin: str = "") -> Done:
        """The same as a process of its own."""
        return self._silent(bascule(*words, stdin=stdin, cwd=self.project, env=self.environ))

    @property
    def environ(self) -> dict[str, str]:
        alone = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR", "BASCULE_TOKEN")
        return {"HOME": str(self.home), **dict.fromkeys(alone, "")}

    @staticmethod
    def _silent(done: Done) -> Done:
        assert CANARY not in done.out + done.err
        return done

    def says(self, file: str, content: Any) -> Path:
        """The file of a client, below the home folder, with this text or value in it."""
        path = self.home / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    @property
    def yaml(self) -> Path:
        return self.project / "bascule.yaml"

    def named(self, text: str) -> str:
        """*text* with names in place of what is different on each machine."""
        program = str(Path(sys.executable).with_name("bascule"))
        for found, name in ((program, "BASCULE"), (str(self.home), "HOME"), (str(self.project), "PROJECT")):
            text = text.replace(found, name)
        return text
