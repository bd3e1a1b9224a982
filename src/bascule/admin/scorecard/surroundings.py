"""The files beside a configuration: what a setup is deployed, watched and tested with, as far as it lies there.

What is commented out is not there. Nothing is run, and links are not followed.
"""

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import msgspec

MOST_FILES: Final = 2_000
MOST_BYTES: Final = 256 * 1024  # of one file
DEPTH: Final = 4
_SKIPPED: Final = frozenset({".git", "node_modules", ".venv", "venv", "__pycache__", "dist", "build", "site-packages"})
_KINDS: Final = frozenset({
    *(".yml", ".yaml", ".json", ".toml", ".conf", ".sh", ".js", ".ts", ".py", ".service", ".timer", ".tpl", ".tf"),
    *(".container", ".cron", ".cfg", ".ini", ".template"),
})  # fmt: skip
_NAMES: Final = (
    "dockerfile*",
    "containerfile*",
    "makefile",
    "justfile",
    "jenkinsfile",
    "caddyfile",
    "crontab",
    "locustfile*",
)
_COMMENT: Final = re.compile(r"^[ \t]*(#|//).*$", re.MULTILINE)


class Surroundings(msgspec.Struct, frozen=True):
    """Texts by their path below *folder*, written with slashes."""

    folder: str
    texts: Mapping[str, str] = {}

    def named(self, *patterns: str) -> list[str]:
        """The paths whose last part fits one of *patterns*, in small letters; with a slash, the whole path."""
        return [path for path in self.texts if any(_fits(path.lower(), pattern) for pattern in patterns)]

    def holding(self, expression: str, *patterns: str) -> list[str]:
        """Those of the named files, or of all, in which *expression* is found, a line at a time, whatever its case."""
        wanted = re.compile(expression, re.IGNORECASE | re.MULTILINE)
        among = self.named(*patterns) if patterns else list(self.texts)
        return [path for path in among if wanted.search(self.texts[path])]


def _fits(path: str, pattern: str) -> bool:
    return fnmatchcase(path if "/" in pattern else path.rpartition("/")[2], pattern)


def files_beside(folder: Path) -> Surroundings:
    """What lies in *folder* and below it, as far as it may be about this."""
    texts: dict[str, str] = {}
    for path in _candidates(folder):
        if len(texts) >= MOST_FILES:
            break
        if (text := _text(path)) is not None:
            texts[path.relative_to(folder).as_posix()] = text
    return Surroundings(str(folder), texts)


def _candidates(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        depth = len(Path(here).relative_to(folder).parts)
        folders[:] = sorted(each for each in folders if each not in _SKIPPED and depth < DEPTH)
        for name in sorted(names):
            if Path(name).suffix.lower() in _KINDS or any(fnmatchcase(name.lower(), each) for each in _NAMES):
                yield Path(here, name)


def _text(path: Path) -> str | None:
    """What stands in *path* and is no comment; None for what is no text, or too much of it."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        return _COMMENT.sub("", path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
