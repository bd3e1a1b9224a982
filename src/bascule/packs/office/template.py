"""One text for many people: `Dear {name}` and what stands for the name in each row. PURE."""

import re
from collections.abc import Mapping
from typing import Final

from bascule.packs.pack import ToolFailed

_PART: Final = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_]{0,39})\}|[{}]")


def fields_of(template: str) -> frozenset[str]:
    """The names in braces. Raises ToolFailed for a brace that stands alone; a brace itself is written twice."""
    found = set()
    for part in _PART.finditer(template):
        if part[1]:
            found.add(part[1])
        elif part[0] not in ("{{", "}}"):
            near = template[max(0, part.start() - 10) : part.end() + 20]
            raise ToolFailed(
                f"There is a brace near {near!r} that names no field.",
                "A field is written {like_this}, in small letters; a brace itself is written twice.",
            )
    return frozenset(found)


def filled(template: str, values: Mapping[str, str]) -> str:
    """*template* with its fields filled in. What is filled in is never looked at again: a brace in it is a brace.

    Raises ToolFailed for a field that has no value.
    """
    if missing := sorted(fields_of(template) - values.keys()):
        raise ToolFailed(f"There is no value for {', '.join(missing)}.", "Give each row all fields of the template.")
    return _PART.sub(lambda part: values[part[1]] if part[1] else part[0][0], template)
