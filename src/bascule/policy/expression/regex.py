"""What a regular expression of a rule costs: the engine compiles it anew at every call. PURE.

Matching is linear in the text, whatever the pattern; compiling is not free. Measured: a Unicode class such as `\\w`
takes 240 us each time it stands there or is repeated by count, an ASCII one such as `[A-Za-z0-9_]` less than 1.
"""

import re
from typing import Final

MAX_PATTERN: Final = 256
MAX_WEIGHT: Final = 1000  # about one millisecond at each call
MAX_WEIGHT_REPEATED: Final = 50  # within a macro: for each element

_HEAVY: Final = {"w": 240, "W": 240, "p": 200, "P": 200, "d": 50, "D": 50, "s": 20, "S": 20, "b": 5, "B": 5}
_DOT: Final = 4
_PIECE: Final = re.compile(
    r"\\(?P<escape>[pPux](?=\{)|.)(?:(?<=[pPux])\{[^}]*\})?|(?P<open>\((?:\?[^:)]*:?|\?P?<[^>]*>)?)|(?P<close>\))|"
    r"\{(?P<least>\d+)(?:,(?P<most>\d*))?\}|(?P<class>\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\])|(?P<other>.)",
    re.DOTALL,
)


def too_costly(pattern: str, *, repeated: bool = False) -> str | None:
    """Why *pattern* may not stand in a rule, None where it may. *repeated*: it runs for each element of a list."""
    if len(pattern) > MAX_PATTERN:
        return f"the pattern is longer than {MAX_PATTERN} characters"
    most = MAX_WEIGHT_REPEATED if repeated else MAX_WEIGHT
    if weight(pattern) > most:
        return "the pattern takes too long to compile; write [A-Za-z0-9_] for \\w, [0-9] for \\d, and smaller counts"
    return None


def weight(pattern: str) -> int:
    """Roughly the microseconds that it takes to compile *pattern*."""
    # The weights of what is open, and of the piece before, to which a count belongs.
    open_groups, total, last = [], 0, 0
    for piece in _PIECE.finditer(pattern):
        if piece["open"]:
            open_groups.append(total + last)
            total = last = 0
        elif piece["close"]:
            total, last = (open_groups.pop() if open_groups else 0), total + last
        elif piece["least"]:
            last *= max(int(piece["least"]), int(piece["most"] or 0), 1)
        else:
            total, last = total + last, _weight_of(piece)
    return total + last + sum(open_groups)


def _weight_of(piece: re.Match[str]) -> int:
    if piece["escape"]:
        return _HEAVY.get(piece["escape"], 1)
    if piece["class"]:
        inner = sum(_HEAVY.get(letter, 0) for letter in re.findall(r"\\(.)", piece["class"]))
        return inner + (_DOT if piece["class"].startswith("[^") or not piece["class"].isascii() else 1)
    return _DOT if piece["other"] == "." or not (piece["other"] or "").isascii() else 1
