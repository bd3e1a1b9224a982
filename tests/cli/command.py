"""`bascule …` as a person or a program would run it, to its end."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from processes import ROOT

BASCULE: Final = [str(Path(sys.executable).with_name("bascule"))]
WITHIN_S: Final = 60.0


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def bascule(*args: str, stdin: str = "", cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> Done:
    """Run it with no terminal; *env* is added to ours, less what would change its behaviour."""
    ours = {key: value for key, value in os.environ.items() if key not in ("BASCULE_TOKEN", "COLUMNS")}
    done = subprocess.run(
        [*BASCULE, *args],
        input=stdin.encode(),
        capture_output=True,
        cwd=cwd,
        env={**ours, **(env or {})},
        timeout=WITHIN_S,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())
