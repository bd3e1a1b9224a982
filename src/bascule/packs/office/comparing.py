"""Two texts side by side: how much is the same, and what differs, line by line. Pure."""

import difflib
import re
from collections.abc import Hashable, Sequence
from typing import Any, Final

_WORD: Final = re.compile(r"\w+|[^\w\s]")
# From so many on, lines that are everywhere guide nothing: the work would grow with their square.
_MANY_LINES: Final = 2_000
_MAX_LINE_CHARS: Final = 600
_MAX_HUNK_LINES: Final = 40


def compare(first: str, second: str, max_hunks: int) -> dict[str, Any]:
    """How alike the texts are, from 0 to 1, and the first *max_hunks* differences, in order."""
    one, other = first.splitlines(), second.splitlines()
    hunks = [
        _hunk(one[begin:end], other[start:stop], begin, start)
        for how, begin, end, start, stop in _opcodes(one, other)
        if how != "equal"
    ]
    return {
        "identical": first == second,
        "similarity_score": round(similarity(_WORD.findall(first), _WORD.findall(second)), 4),
        "lines": [len(one), len(other)],
        "added_lines": sum(hunk["added_count"] for hunk in hunks),
        "removed_lines": sum(hunk["removed_count"] for hunk in hunks),
        "hunk_count": len(hunks),
        "hunks": hunks[:max_hunks],
        "truncated": len(hunks) > max_hunks or any(hunk["cut"] for hunk in hunks[:max_hunks]),
    }


def similarity(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Twice the longest common subsequence, by both lengths together: 1 for the same, 0 for nothing in common."""
    total = len(one) + len(other)
    if not total:
        return 1.0
    try:
        from rapidfuzz.distance import LCSseq
    except ImportError:
        return 2 * common_length(one, other) / total
    return 2 * LCSseq.similarity(one, other) / total


def common_length(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """The length of a longest common subsequence, with a bit for each place of *one*.

    Source: Hyyrö, "Bit-parallel LCS-length computation revisited" (2004).

    >>> common_length("the quick fox", "a quick ox")
    9
    """
    places: dict[Hashable, int] = {}
    for place, item in enumerate(one):
        places[item] = places.get(item, 0) | 1 << place
    everything = (1 << len(one)) - 1
    free = everything  # a bit is taken away where one more item is common
    for item in other:
        if matching := free & places.get(item, 0):
            free = ((free + matching) | (free - matching)) & everything
    return len(one) - free.bit_count()


def _opcodes(one: Sequence[str], other: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """As of difflib, with what is the same at both ends taken off first."""
    head = 0
    while head < min(len(one), len(other)) and one[head] == other[head]:
        head += 1
    tail = 0
    while tail < min(len(one), len(other)) - head and one[-1 - tail] == other[-1 - tail]:
        tail += 1
    middle, against = one[head : len(one) - tail], other[head : len(other) - tail]
    many = max(len(middle), len(against)) > _MANY_LINES
    found = difflib.SequenceMatcher(None, middle, against, autojunk=many).get_opcodes()
    return [(how, a + head, b + head, c + head, d + head) for how, a, b, c, d in found]


def _hunk(removed: Sequence[str], added: Sequence[str], begin: int, start: int) -> dict[str, Any]:
    """One difference; its lines count from 1, and where there are none they would stand before that line."""
    shown = {"removed": removed[:_MAX_HUNK_LINES], "added": added[:_MAX_HUNK_LINES]}
    cut = any(len(lines) > _MAX_HUNK_LINES for lines in (removed, added))
    cut = cut or any(len(line) > _MAX_LINE_CHARS for lines in shown.values() for line in lines)
    return {
        "kind": "changed" if removed and added else "removed" if removed else "added",
        "first_line": begin + 1,
        "second_line": start + 1,
        "removed_count": len(removed),
        "added_count": len(added),
        **{name: [line[:_MAX_LINE_CHARS] for line in lines] for name, lines in shown.items()},
        "cut": cut,
    }
