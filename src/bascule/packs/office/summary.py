"""The sentences of a text that say most, as they stand: TextRank over TF-IDF, with where a sentence stands. Pure.

No model, no randomness: the same text has the same summary. Source: Mihalcea and Tarau, "TextRank: Bringing Order
into Texts" (2004), with weights of our own (bench/office.py measures them).
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from bascule.packs.office.sentences import Sentence, sentences, words
from bascule.packs.office.vocabulary import STOPWORDS

# So many are compared with each other; in a longer text each one is compared with the whole.
_RANKED: Final = 300
MAX_SENTENCES: Final = 20_000  # that are looked at
_DAMPING: Final = 0.85
_ROUNDS: Final = 30
_ALIKE: Final = 0.6  # two sentences that share so much say the same

# What a sentence is worth: by its rank, which is at most 1 …
_RANK: Final = 0.5
# … and besides.
_FIRST: Final = 0.15  # of the text
_OPENS: Final = 0.12  # a paragraph
_LAST: Final = 0.05
_FIGURES: Final = 0.15  # for each number, up to two
_LONG: Final = 0.3  # it says much, of so many words …
_LONG_WORDS: Final = 24
_TITLE: Final = 0.4  # shares all its words with the headings
_CUE: Final = 0.3  # says that it is the point
_LEANS: Final = -0.15  # on the sentence before it
_ASKS: Final = -0.3

_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*%?")
_CUES: Final = re.compile(
    r"\b(?:in (?:conclusion|summary|short)|to sum up|overall|therefore|as a result|we (?:recommend|propose|conclude)|"
    r"the (?:main|key|most important|biggest)|(?:results?|findings?) shows?|recommend(?:s|ed|ation)?|decided|"
    r"must|will|approved?|deadline|because|due to|(?:main |root )?reason|cause[ds]?|never|from now on|"
    r"tóm lại|kết luận|nhìn chung|do đó|vì vậy|vì thế|kết quả|đề xuất|kiến nghị|quyết định|quan trọng nhất|"
    r"chủ yếu|nguyên nhân|mục tiêu|yêu cầu|phải|sẽ|phê duyệt|thời hạn|vì|từ nay|chỉ được|không được)\b"
)
_LEANING: Final = re.compile(
    r"(?:this|that|these|those|it|they|he|she|however|but|and|also|moreover|for example|for instance|in addition|"
    r"meanwhile|then|still|such|ngoài ra|tuy nhiên|nhưng|và|bên cạnh đó|ví dụ|chẳng hạn|điều này|đó là|họ|nó|"
    r"trong khi đó|sau đó)\b"
)
_SUFFIXES: Final = ("ing", "ed", "es", "s")


class Point(NamedTuple):
    sentence: Sentence
    number: int  # of the sentence, from 1


def summary(text: str, max_points: int) -> list[Point]:
    """At most *max_points* sentences of *text*, in its order; none if it has none."""
    return picked(sentences(text, MAX_SENTENCES), max_points)


def picked(found: Sequence[Sentence], max_points: int) -> list[Point]:
    """The sentences of *found* that say most."""
    candidates = [index for index, each in enumerate(found) if each.kind != "heading" and _says_something(each)]
    if not candidates:
        # A text of headings alone, or of words: what there is.
        candidates = list(range(len(found)))
    ranked = _ranked(found, candidates)
    chosen: list[int] = []
    terms = {index: Counter(stems(found[index].text)) for index in candidates}
    for index in ranked:
        if len(chosen) == max_points:
            break
        if all(_overlap(terms[index], terms[other]) < _ALIKE for other in chosen):
            chosen.append(index)
    return [Point(found[index], index + 1) for index in sorted(chosen)]


def stems(text: str) -> list[str]:
    """The words of *text* that carry meaning, without English endings."""
    return [stem(word) for word in words(text) if word not in STOPWORDS and (len(word) > 1 or word.isdigit())]


def stem(word: str) -> str:
    """
    >>> [stem(word) for word in ("delays", "delayed", "reason", "bus", "processes", "quý")]
    ['delay', 'delay', 'reason', 'bus', 'process', 'quý']
    """
    if not word.isascii():
        return word
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 4 and not word.endswith("ss"):
            return word[: -len(suffix)]
    return word


def _says_something(sentence: Sentence) -> bool:
    return len(sentence.text.split(maxsplit=4)) >= 4


def _ranked(found: Sequence[Sentence], candidates: Sequence[int]) -> list[int]:
    """*candidates*, the best one first; of equals the one that stands first."""
    vectors = _vectors([_terms(found[index].text) for index in candidates])
    ranks = _text_rank(vectors) if len(vectors) <= _RANKED else _closeness(vectors)
    titles = {stem for each in found if each.kind == "heading" for stem in stems(each.text)}
    scores = {
        index: _RANK * rank * _fit(found[index].text) + _worth(found, index, candidates, titles)
        for index, rank in zip(candidates, ranks, strict=True)
    }
    return sorted(candidates, key=lambda index: (-round(scores[index], 9), index))


def _terms(text: str) -> list[str]:
    """Stems, and pairs of neighbours: most words of Vietnamese are two syllables."""
    single = stems(text)
    return single + [f"{one} {other}" for one, other in pairwise(single)]


def _vectors(texts: Sequence[Sequence[str]]) -> list[dict[str, float]]:
    """TF-IDF of each text, of length 1."""
    counts = [Counter(text) for text in texts]
    spread = Counter(term for count in counts for term in count)
    vectors = []
    for count in counts:
        raw = {term: (1 + math.log(times)) * math.log(1 + len(texts) / spread[term]) for term, times in count.items()}
        length = math.sqrt(math.fsum(weight * weight for weight in raw.values())) or 1.0
        vectors.append({term: weight / length for term, weight in raw.items()})
    return vectors


def _text_rank(vectors: Sequence[dict[str, float]]) -> list[float]:
    """How much each is like the others that are like many; the best is 1."""
    count = len(vectors)
    likeness = [[0.0] * count for _ in range(count)]
    for one in range(count):
        for other in range(one):
            likeness[one][other] = likeness[other][one] = _dot(vectors[one], vectors[other])
    sums = [math.fsum(row) for row in likeness]
    ranks = [1.0] * count
    for _ in range(_ROUNDS):
        shares = [rank / total if total else 0.0 for rank, total in zip(ranks, sums, strict=True)]
        ranks = [
            (1 - _DAMPING) + _DAMPING * math.fsum(a * b for a, b in zip(row, shares, strict=True)) for row in likeness
        ]
    return _scaled(ranks)


def _closeness(vectors: Sequence[dict[str, float]]) -> list[float]:
    """How much each is like the whole; the best is 1."""
    whole: dict[str, float] = {}
    for vector in vectors:
        for term, weight in vector.items():
            whole[term] = whole.get(term, 0.0) + weight
    return _scaled([_dot(vector, whole) for vector in vectors])


def _scaled(ranks: Sequence[float]) -> list[float]:
    best = max(ranks, default=0.0) or 1.0
    return [rank / best for rank in ranks]


def _dot(one: dict[str, float], other: dict[str, float]) -> float:
    if len(other) < len(one):
        one, other = other, one
    return math.fsum(weight * other[term] for term, weight in one.items() if term in other)


def _fit(text: str) -> float:
    """Less for what is too short to say much, or too long for a point."""
    count = len(text.split())
    if count < 8:
        return count / 8
    return 1.0 if count <= 40 else max(0.3, 40 / count)


def _worth(found: Sequence[Sentence], index: int, candidates: Sequence[int], titles: set[str]) -> float:
    sentence = found[index]
    lower = sentence.text.lower()
    worth = _FIRST if index == candidates[0] else 0.0
    worth += _LAST if index == candidates[-1] else 0.0
    worth += _OPENS if sentence.opens else 0.0
    worth += _FIGURES * min(2, len(_NUMBER.findall(lower)))
    worth += _LONG * min(1.0, len(lower.split()) / _LONG_WORDS)
    worth += _CUE if _CUES.search(lower) else 0.0
    worth += _LEANS if _LEANING.match(lower) else 0.0
    worth += _ASKS if lower.endswith("?") else 0.0
    own = set(stems(lower))
    return worth + (_TITLE * len(own & titles) / len(own) if own else 0.0)


def _overlap(one: Counter[str], other: Counter[str]) -> float:
    """The share of the shorter one's words that the other has, too."""
    smaller = min(one.total(), other.total())
    return (one & other).total() / smaller if smaller else 0.0
