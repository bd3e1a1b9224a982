"""Text to sentences, English and Vietnamese: where each begins, and what kind of line it was. Pure.

Every sentence is a piece of the text as it stands, but for runs of white space. The work grows with the length of
the text and with nothing else, whatever is in it.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple, TypeAlias

from bascule.packs.office.vocabulary import BEFORE_NUMBERS, ENGLISH, TITLES, VIETNAMESE

Kind: TypeAlias = Literal["heading", "item", "prose"]
Language: TypeAlias = Literal["en", "vi", "unknown"]


class Sentence(NamedTuple):
    text: str
    line: int  # of the text, from 1
    kind: Kind
    opens: bool  # whether a paragraph begins with it


class _Block(NamedTuple):
    kind: Kind
    lines: list[tuple[int, str]]  # number and text of each


_CLOSERS: Final = "\"'\u201d\u2019»)]}"
_ENDERS: Final = ".!?…\u3002\uff01\uff1f"
_WIDE_ENDERS: Final = "\u3002\uff01\uff1f"  # no space follows these

_ITEM: Final = re.compile(r"\s{0,12}(?:[-*+•‣◦▪\u2013\u2014·]|\(?\d{1,3}[.)]|\(?[A-Za-zđĐ][.)])\s+(?=\S)")
_HEADING_MARK: Final = re.compile(r"\s{0,3}#{1,6}\s+(?=\S)")
_CLOSING_MARK: Final = re.compile(r"\s+#{1,6}\s*$")
_RULE: Final = re.compile(r"\s{0,3}(?:[-=*_~]\s?){3,200}\s*")
_NUMBERED: Final = re.compile(r"(?:\d{1,3}(?:\.\d{1,3}){0,4}|[IVXLC]{1,6}|[A-ZĐ])[.)]?\s+(?=\S)")
_COLUMNS: Final = re.compile(r"\S(?:\t| {3,40}|\s?\|\s?)(?=\S)")
_SPACE: Final = re.compile(r"\s+")
_LAST_WORD: Final = re.compile(r"[^\s(\[\"'\u201c\u2018«]{1,12}$")

_HEADING_WORDS: Final = 12
_SHORT_LINE: Final = 0.6  # of the longest line of its paragraph: such a line was ended on purpose
_MAX_SENTENCE_CHARS: Final = 1200  # what has no end is cut at a space


def sentences(text: str, most: int | None = None) -> list[Sentence]:
    """The first *most* sentences of *text*, headings and items of lists among them; tables and code are left out."""
    return list(islice((each for block in _blocks(text) for each in _of_block(block)), most))


def plain(text: str) -> str:
    """*text* with each run of white space as one space."""
    return _SPACE.sub(" ", text).strip()


# ---- blocks


def _blocks(text: str) -> Iterator[_Block]:
    """Paragraphs, headings and items. Fences and columns end what was before them, and are nothing themselves."""
    lines = text.splitlines()
    open_block: _Block | None = None
    fenced = False
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        kind = None if fenced or not line.strip() else _kind_of(line, lines, number)
        if kind is None:
            if open_block is not None:
                yield open_block
            open_block = None
        elif kind == "prose" and open_block is not None:
            open_block.lines.append((number, line))
        else:
            if open_block is not None:
                yield open_block
            open_block = _Block(kind, [(number, _without_mark(line))])
            if kind == "heading":
                yield open_block
                open_block = None
    if open_block is not None:
        yield open_block


def _kind_of(line: str, lines: Sequence[str], number: int) -> Kind | None:
    """What a line begins, if it is not the next one of what is open; None for one without sentences."""
    head = line[:400]
    if _RULE.fullmatch(line) or line.startswith("```"):
        return None
    if _HEADING_MARK.match(head):
        return "heading"
    if _ITEM.match(head):
        return "heading" if _is_numbered_heading(line, lines, number) else "item"
    if _is_row(head):
        return None
    if _stands_alone(lines, number) and _looks_like_heading(line):
        return "heading"
    return "prose"


def _is_row(head: str) -> bool:
    """Whether a line is one of a table: several columns in it."""
    return head.lstrip().startswith("|") or "\t" in head.strip() or len(_COLUMNS.findall(head)) >= 2


def _is_numbered_heading(line: str, lines: Sequence[str], number: int) -> bool:
    return bool(_NUMBERED.match(line.strip())) and _stands_alone(lines, number) and _looks_like_heading(line)


def _stands_alone(lines: Sequence[str], number: int) -> bool:
    """Whether the lines around it are empty, or rules below a title."""
    before = number < 2 or not lines[number - 2].strip()
    after = number >= len(lines) or not lines[number].strip() or bool(_RULE.fullmatch(lines[number]))
    return before and after


def _looks_like_heading(line: str) -> bool:
    stripped = line.strip()
    return len(stripped.split(maxsplit=_HEADING_WORDS + 1)) <= _HEADING_WORDS and stripped[-1] not in _ENDERS + ";,"


def _without_mark(line: str) -> str:
    if match := _HEADING_MARK.match(line):
        return _CLOSING_MARK.sub("", line[match.end() :])
    if match := _ITEM.match(line):
        return line[match.end() :]
    return line


# ---- sentences of a block


def _of_block(block: _Block) -> Iterator[Sentence]:
    opens = True
    for run in _runs(block):
        text, starts = _joined(run)
        for begin, end in _spans(text) if block.kind != "heading" else [(0, len(text))]:
            piece = plain(text[begin:end])
            if any(character.isalnum() for character in piece):
                first = begin + len(text[begin:end]) - len(text[begin:end].lstrip())
                yield Sentence(piece, _line_at(starts, first), block.kind, opens)
                opens = False


def _runs(block: _Block) -> Iterator[list[tuple[int, str]]]:
    """The lines of a block that belong together: a line that was ended on purpose is the last of its run."""
    longest = max(len(line) for _, line in block.lines)
    run: list[tuple[int, str]] = []
    for (number, line), following in zip(block.lines, [*block.lines[1:], None], strict=True):
        run.append((number, line))
        if following is None or (len(line) < _SHORT_LINE * longest and following[1].lstrip()[:1].isupper()):
            yield run
            run = []


def _joined(run: Sequence[tuple[int, str]]) -> tuple[str, list[tuple[int, int]]]:
    """The lines as one text, and (offset, line number) of each of them."""
    starts, pieces, offset = [], [], 0
    for number, line in run:
        starts.append((offset, number))
        pieces.append(line)
        offset += len(line) + 1
    return "\n".join(pieces), starts


def _line_at(starts: Sequence[tuple[int, int]], offset: int) -> int:
    return next(number for start, number in reversed(starts) if start <= offset)


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """(begin, end) of each sentence."""
    begin = position = 0
    while position < len(text):
        if position - begin >= _MAX_SENTENCE_CHARS and text[position].isspace():
            yield begin, position
            begin = position
        if text[position] not in _ENDERS:
            position += 1
            continue
        end = position + 1
        while end < len(text) and text[end] in _ENDERS + _CLOSERS:
            end += 1
        if _ends(text, begin, position, end):
            yield begin, end
            begin = end
        position = end
    if begin < len(text):
        yield begin, len(text)


def _ends(text: str, begin: int, position: int, end: int) -> bool:
    """Whether the mark at *position*, with what closes behind it up to *end*, ends a sentence."""
    if text[position] in _WIDE_ENDERS:
        return True
    if end < len(text) and not text[end].isspace():
        return False  # a decimal, a name with a dot, an address
    following = text[end : end + 40].lstrip()[:1]
    if following.islower():
        return False
    if text[position] != "." or (end - position > 1 and text[position + 1] in _ENDERS):
        return True
    word = _LAST_WORD.search(text[max(begin, position - 12) : position])
    return word is None or not _is_short(word[0], following)


def _is_short(word: str, following: str) -> bool:
    """Whether a full stop behind *word* belongs to it: `Dr`, `TP`, an initial, `No` before a number.

    >>> [_is_short(word, "A") for word in ("Dr", "ThS", "J", "U.S", "no", "margin")]
    [True, True, True, False, False, False]
    >>> _is_short("no", "5")
    True
    """
    lower = unicodedata.normalize("NFC", word).lower()
    if following.isdigit() and lower in BEFORE_NUMBERS:
        return True
    return lower in TITLES or (len(word) == 1 and word.isupper())


# ---- words and language

_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019\-][^\W_]+)*")
# Letters of Vietnamese that hardly any other language in Latin script has.
_OF_VIETNAMESE: Final = re.compile(r"[ăđơưĂĐƠƯ\u1ea0-\u1ef9]")


def words(text: str) -> list[str]:
    """The words of *text*, composed and in lower case."""
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


def language(text: str) -> Language:
    """What *text* is written in, by its letters and its small words; a sample of it is looked at."""
    found = words(text[:20_000])
    if not found:
        return "unknown"
    marked = sum(1 for word in found if _OF_VIETNAMESE.search(word))
    english = sum(1 for word in found if word in ENGLISH)
    vietnamese = marked + sum(1 for word in found if word in VIETNAMESE)
    if marked >= 0.1 * len(found) and vietnamese > english:
        return "vi"
    return "en" if english >= 0.08 * len(found) else "unknown"
