"""What an image that was made is called: by a rule such as `{stem}_small_{width}.{ext}`. PURE."""

import re
from collections.abc import Mapping
from typing import Final

from bascule.packs import paths
from bascule.packs.pack import ToolFailed
from bascule.packs.paths import shown

# What an image can be saved as, and the ending that names have.
ENDINGS: Final[Mapping[str, str]] = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif"}
_FORMATS: Final = {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "webp": "webp", "gif": "gif"}
_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_KNOWN: Final = ("stem", "width", "height", "format", "ext")


def format_of(name: str) -> str | None:
    """The format that the ending of *name* says; None if it is open.

    >>> format_of("logo.JPG"), format_of("{stem}.{ext}")
    ('jpeg', None)
    """
    return _FORMATS.get(name.rpartition(".")[2].lower())


def check_rule(rule: str) -> None:
    """Raises ToolFailed for a rule with other places than there are."""
    for place in _PLACE.findall(rule):
        if place not in _KNOWN:
            known = ", ".join(f"{{{each}}}" for each in _KNOWN)
            raise ToolFailed(f"{shown(rule)} has a place {{{place[:40]}}}.", f"There are {known}.")


def named(rule: str, source: str, folder: str | None, *, width: int, height: int, format: str) -> str:
    """The path of what is made of the image *source*: in *folder*, else beside it. Raises ToolFailed.

    >>> named("{stem}_small_{width}.{ext}", "in/a.png", None, width=8, height=6, format="jpeg")
    'in/a_small_8.jpg'
    """
    check_rule(rule)
    above, _, name = source.rpartition("/")
    values = {
        "stem": name.rpartition(".")[0] or name,
        "width": str(width),
        "height": str(height),
        "format": format,
        "ext": ENDINGS[format],
    }
    made = _PLACE.sub(lambda found: values[found[1]], rule)
    if "/" in made or not paths.is_name(made):
        raise paths.outside(made)
    if format_of(made) != format:
        raise ToolFailed(f"The name {shown(made)} does not end as {format} does.", f"End it with .{ENDINGS[format]}.")
    where = above if folder is None else "" if folder == paths.FOLDER else folder
    return f"{where}/{made}" if where else made
