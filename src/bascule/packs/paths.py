"""What a path that a model writes may look like, below the folder of a pack. PURE: it knows no file system.

One file has one spelling: whoever judges a call by its arguments (a guardrail, a person at a confirm gate) has to
see the name of the file that is meant. So `./a`, `a//b` and `a/` are refused and not tidied up.
"""

import re
import unicodedata
from typing import Final

from bascule.packs.pack import ToolFailed

FOLDER: Final = "."  # how the folder of the pack itself is named, where a folder is meant
TRASH: Final = ".trash"
RECORDS: Final = ".bascule"  # what a pack remembers of its own deeds
TEMPORARY: Final = ".bascule-tmp-"  # how the name of a file begins that is not all written yet
MAX_PATH_BYTES: Final = 4096
MAX_NAME_BYTES: Final = 255
MAX_DEPTH: Final = 64

# Devices of Windows, with any ending: a share may be served by one, or copied to one later.
_DEVICE: Final = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)

# Controls, halves of surrogate pairs, ends of lines, and what turns the direction of a text: names that lie.
_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNING: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def names_of(path: str) -> tuple[str, ...]:
    """The names that *path* goes through; () for `.`, the folder itself. Raises ToolFailed, always with one sentence.

    >>> names_of("reports/2026.md"), names_of(".")
    (('reports', '2026.md'), ())
    """
    if path == FOLDER:
        return ()
    names = tuple(path.split("/"))
    if len(names) > MAX_DEPTH or not all(map(is_name, names)) or len(path.encode()) > MAX_PATH_BYTES:
        raise outside(path)
    return names


def is_name(name: str) -> bool:
    """Whether *name* can stand between two slashes: an entry of a folder, on any system, and nothing else."""
    if not name or name[-1] in ". " or "\\" in name or "/" in name or ":" in name:
        return False  # `.` and `..` end in a dot
    if any(each in _TURNING or unicodedata.category(each) in _UNPRINTABLE for each in name):
        return False
    return len(name.encode()) <= MAX_NAME_BYTES and not _DEVICE.fullmatch(name)


def is_hidden(name: str) -> bool:
    return name.startswith(".")


def is_ours(name: str) -> bool:
    """Whether it is a name that no model ever sees or says: what packs keep for themselves in a folder."""
    return name.casefold() in (TRASH, RECORDS) or name.casefold().startswith(TEMPORARY)


def is_composed(name: str) -> bool:
    """Whether it is in Unicode's form NFC, the one that keyboards write and models say."""
    return unicodedata.is_normalized("NFC", name)


def twin(name: str) -> str:
    """The same for names that a person, or a file system that folds case, takes for one another."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def respelled(name: str) -> set[str]:
    """Other spellings, which a file system that folds names would take for *name*."""
    forms = {name.swapcase(), unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)}
    return forms - {name}


def outside(path: str) -> ToolFailed:
    """The one answer for every path that is not one, or leads away: what is out there does not show in it."""
    return ToolFailed(
        f"{shown(path)} is not a path below the folder of this pack.",
        "Write a relative path with plain names, such as reports/2026.md; what there is, a list of the folder says.",
    )


def shown(path: str) -> str:
    """*path* in quotes for a message: nothing unprintable, and not without end."""
    return repr(path if len(path) <= 200 else f"{path[:200]}…")
