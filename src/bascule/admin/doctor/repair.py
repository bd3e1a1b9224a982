"""What `--fix` does: folders that are missing, and permissions that are too wide. Nothing else, and no secret."""

import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bascule.admin.doctor.finding import Finding, Repair


class Done(msgspec.Struct, frozen=True):
    """What became of one repair."""

    finding: Finding
    how: str  # what was done, and what undoes it
    error: str = ""  # why it could not be done


def apply(found: Sequence[Finding]) -> list[Done]:
    """Do all repairs of *found*, each once."""
    return [_done(each, each.repair) for each in found if each.repair is not None]


def _done(finding: Finding, repair: Repair) -> Done:
    path = Path(repair.path)
    try:
        match repair.kind:
            case "mkdir":
                path.mkdir(mode=repair.mode, parents=True, exist_ok=True)
                return Done(finding, f"made {path}; rmdir {path} undoes it")
            case "chmod":
                before = path.lstat().st_mode
                if stat.S_ISLNK(before):  # what it leads to may be somebody else's
                    return Done(finding, "", f"{path} is a link; look where it leads, and do it by hand")
                path.chmod(repair.mode)
                return Done(finding, f"chmod {repair.mode:o} {path}; chmod {before & 0o7777:o} {path} undoes it")
    except OSError as error:
        return Done(finding, "", f"{path}: {error.strerror}")
