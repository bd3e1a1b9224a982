"""Which documents a question is about, and what they say of it: BM25 over counts, the best passage of each. Pure.

A document is counted where it is read; ranking needs the counts alone. Source: Robertson and Zaragoza, "The
Probabilistic Relevance Framework: BM25 and Beyond" (2009).
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from bascule.packs.office.sentences import Sentence, language, sentences, words
from bascule.packs.office.summary import stem
from bascule.packs.office.vocabulary import STOPWORDS, VIETNAMESE

_SATURATION: Final = 1.2
_LENGTH_WEIGHT: Final = 0.75
_PASSAGE_SENTENCES: Final = 2
_MAX_PASSAGE_CHARS: Final = 600


class Counted(NamedTuple):
    """One document: how often it has each term, how long it is, and its best passage with the line it begins at."""

    path: str
    counts: Mapping[str, int]
    length: int
    passage: str
    line: int


def terms(query: str) -> list[str]:
    """What is looked for, each once, in the order of the question.

    >>> terms("Why is Project Alpha delayed?")
    ['why', 'project', 'alpha', 'delay']
    """
    # What is a small word in English may be half a word of a Vietnamese question without marks.
    small = {"en": STOPWORDS, "vi": VIETNAMESE, "unknown": frozenset[str]()}[language(query)]
    return list(dict.fromkeys(stem(word) for word in words(query) if word not in small))


def counted(text: str, wanted: Sequence[str]) -> dict[str, Any]:
    """What ranking needs to know of a document."""
    exact = any(not term.isascii() for term in wanted)
    found = sentences(text)
    split = [[stem(word if exact else _bare(word)) for word in words(each.text)] for each in found]
    counts = {term: sum(words.count(term) for words in split) for term in wanted}
    passage, line = _passage(found, split, wanted)
    return {"counts": counts, "length": sum(map(len, split)), "passage": passage, "line": line}


def ranked(documents: Sequence[Counted], wanted: Sequence[str]) -> list[tuple[Counted, float]]:
    """Those that have any of the terms, the best first; of equals the first by path."""
    average = sum(each.length for each in documents) / len(documents) if documents else 1.0
    spread = {term: sum(1 for each in documents if each.counts.get(term)) for term in wanted}
    scored = []
    for each in documents:
        score = math.fsum(_score(each, term, spread[term], len(documents), average or 1.0) for term in wanted)
        # All of the question in one document says more than one word of it often.
        covered = sum(1 for term in wanted if each.counts.get(term)) / max(1, len(wanted))
        if score > 0:
            scored.append((each, round(score * covered, 4)))
    return sorted(scored, key=lambda pair: (-pair[1], pair[0].path))


def _score(document: Counted, term: str, having: int, total: int, average: float) -> float:
    times = document.counts.get(term, 0)
    if not times:
        return 0.0
    rarity = math.log(1 + (total - having + 0.5) / (having + 0.5))
    length = 1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * document.length / average
    return rarity * times * (_SATURATION + 1) / (times + _SATURATION * length)


def _passage(found: Sequence[Sentence], split: Sequence[Sequence[str]], wanted: Sequence[str]) -> tuple[str, int]:
    """The neighbouring sentences with most of the terms, and their line; the first ones with as many."""
    best, best_score = 0, -1.0
    for at in range(len(found)):
        window = [word for words in split[at : at + _PASSAGE_SENTENCES] for word in words]
        have = set(window)
        score = sum(1 for term in wanted if term in have) + 0.01 * sum(1 for word in window if word in wanted)
        score -= 0.5 if found[at].kind == "heading" else 0.0
        if score > best_score:
            best, best_score = at, score
    if not found or best_score < 1:
        return "", 1
    said = " ".join(each.text for each in found[best : best + _PASSAGE_SENTENCES])
    return said[:_MAX_PASSAGE_CHARS], found[best].line


def _bare(word: str) -> str:
    """Without marks, for a question that was typed without them."""
    plain = unicodedata.normalize("NFD", word.replace("đ", "d"))
    return "".join(character for character in plain if not unicodedata.combining(character))
