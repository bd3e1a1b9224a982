"""How much work a regular expression of a schema may make, read off its text. PURE.

The linear engine takes (states x characters), and a counted repeat multiplies states: `(?:[01]{1,60}){60}`
has 3,600 and took two minutes for one MiB. Look-around and back-references need the backtracking engine,
whose steps are limited but may each read the whole text. Neither engine can be interrupted, so work is
estimated before. Estimates err upwards.
"""

import re
from typing import Final

import msgspec

_TOKEN: Final = re.compile(
    # Each alternative either fits at once or gives up soon: an unclosed class takes the rest of the text.
    r"\\[pP](?:\{[^}]{0,64}\})?|\\.|\[(?:\\.|[^\]\\])*\]?|\(\?<?[=!]|\{(\d{1,12})(?:,(\d{0,12}))?\}|.",
    re.DOTALL,
)
# One class of one code point (or of all but a few), anchored at both ends: whatever its count, one thread runs.
_PLAIN: Final = re.compile(
    r"\^(?:\[(?:\\[^pP]|[^\]\\])*\]|\\[dDwWsS]|\.)(?:[*+?]|\{\d{1,6}(?:,\d{0,6})?\})?\$", re.DOTALL
)
_LOOKS: Final = ("(?=", "(?!", "(?<=", "(?<!")

# States that an atom takes, in those of one ASCII character; measured by compile and match time.
_WIDE: Final = {"\\p": 32, "\\P": 32, "\\S": 4, "\\D": 4, "\\W": 4, ".": 4, "[^": 4}
_MANY: Final = 64  # states from which on the engine may have to follow all of them at each character, and slowly
_SLOWLY: Final = 4
_QUADRATIC: Final = 2_000  # each character of the text may have the rest of it read once more
_MOST: Final = 10**12  # no estimate needs to be larger


class Weight(msgspec.Struct, frozen=True):
    states: int  # of the compiled expression, about
    per_char: int  # steps that one character of the text may cost
    backtracks: bool  # needs the engine that knows look-around and back-references


def weigh(pattern: str) -> Weight:
    """The weight of *pattern*; for one that no engine understands, something."""
    if _PLAIN.fullmatch(pattern):
        return Weight(_states(pattern), 4, False)
    backtracks = any(token[0] in _LOOKS or _refers_back(token[0]) for token in _TOKEN.finditer(pattern))
    states = _states(pattern)
    if backtracks and not _only_looks_ahead_first(pattern):
        return Weight(states, min(states * _QUADRATIC, _MOST), True)
    return Weight(states, states * _SLOWLY if states > _MANY else states, backtracks)


def _refers_back(token: str) -> bool:
    return len(token) == 2 and token[0] == "\\" and token[1] in "123456789k"


def _states(pattern: str) -> int:
    """Atoms of *pattern* with counted repeats written out."""
    groups = [0]  # what each open group holds, the pattern itself first
    last = 0  # what a repeat that follows would repeat
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text == "(" or text in _LOOKS:
            groups.append(0)
            last = 0
        elif text == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        elif text[0] == "{" and len(text) > 1:
            # `a{3}{4}` repeats what was repeated, so the product is kept.
            repeated = min(last * _count(token[2] or token[1]), _MOST)
            groups[-1] += repeated - last
            last = repeated
        else:
            last = _WIDE.get(text[:2], 1)
            groups[-1] += last
    return min(sum(groups), _MOST)


def _count(digits: str) -> int:
    return max(1, int(digits))


def _only_looks_ahead_first(pattern: str) -> bool:
    """Whether all look-around stands right behind a leading `^`, where it is tried once and not at each character."""
    if not pattern.startswith("^"):
        return False
    depth = 0  # of open groups
    leading = True  # nothing but look-aheads so far
    for token in _TOKEN.finditer(pattern, 1):
        text = token[0]
        if _refers_back(text) or (text in _LOOKS and not (leading and depth == 0 and text in ("(?=", "(?!"))):
            return False
        if text == "|" and depth == 0:
            return False  # the other alternative is not anchored
        if text == "(" or text in _LOOKS:
            leading = leading and (text in _LOOKS or depth > 0)
            depth += 1
        elif text == ")":
            depth -= 1
        elif depth == 0:
            leading = False
    return True
