"""Where papers are looked up: a sample that comes along, or a service that answers in JSON.

The sample's papers do not exist, and everything that tells of them says so.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

from bascule import egress
from bascule.packs.pack import ToolFailed
from bascule.packs.research.options import CatalogueOptions
from bascule.packs.research.pages import plain

SAMPLE: Final = Path(__file__).parent / "sample.yaml"
_ANSWER_BYTES: Final = 4 * 1024 * 1024
_TIMEOUT_S: Final = 10.0
_MAX_CHARS: Final = 2000  # of one field of a stranger's
_MAX_AUTHORS: Final = 10
_WORD: Final = re.compile(r"\w+")

Order = Literal["relevance", "newest"]


class Paper(msgspec.Struct, frozen=True):
    id: str
    title: str
    authors: Sequence[str] = ()
    year: int | None = None
    venue: str = ""
    url: str = ""
    abstract: str = ""
    sample: bool = False  # it does not exist


class SamplePaper(msgspec.Struct, frozen=True):
    """One of the sample, with its text."""

    paper: Paper
    text: str


class Catalogue(Protocol):
    source: str  # what its papers are told to come from

    async def search(self, query: str, limit: int, order: Order) -> Sequence[Paper]:
        """At most *limit* papers, the best or the newest first. Raises ToolFailed."""


# ---- the sample


@cache
def sample() -> Mapping[str, SamplePaper]:
    """The papers of the sample by their ids."""
    raw = msgspec.yaml.decode(SAMPLE.read_bytes(), type=list[dict[str, Any]])
    papers = [
        SamplePaper(
            msgspec.convert({name: value for name, value in each.items() if name != "text"} | {"sample": True}, Paper),
            each["text"],
        )
        for each in raw
    ]
    return {each.paper.id: each for each in papers}


class SampleCatalogue:
    source = "sample catalogue of Bascule: these papers do not exist"

    async def search(self, query: str, limit: int, order: Order) -> Sequence[Paper]:
        return ranked(query, sample().values(), order)[:limit]


def ranked(query: str, papers: Iterable[SamplePaper], order: Order) -> list[Paper]:
    """The papers that hold words of *query*, by how much those words say (TF-IDF; a title counts three times)."""
    held = [(each.paper, _weights(each)) for each in papers]
    known = Counter(word for _, words in held for word in words)
    wanted = {word: math.log(1 + len(held) / known[word]) for word in _words(query) if word in known}
    scores = [
        (sum(worth * (1 + math.log(words[word])) for word, worth in wanted.items() if word in words), paper)
        for paper, words in held
    ]
    most = max((score for score, _ in scores), default=0.0)
    found = [(score, paper) for score, paper in scores if score > 0.3 * most]
    if order == "newest":
        found.sort(key=lambda each: (-(each[1].year or 0), -each[0], each[1].id))
    else:
        found.sort(key=lambda each: (-each[0], -(each[1].year or 0), each[1].id))
    return [paper for _, paper in found]


def _weights(each: SamplePaper) -> Counter[str]:
    words = Counter(_words(each.paper.abstract))
    for word in _words(each.paper.title):
        words[word] += 3
    return words


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


# ---- a service


class ServiceCatalogue:
    """An API of papers, asked with the words and how many."""

    def __init__(self, options: CatalogueOptions) -> None:
        self._options = options
        self.source = egress.host_of(options.url)

    async def search(self, query: str, limit: int, order: Order) -> Sequence[Paper]:
        options = self._options
        url = egress.below(options.url, query={options.query: query, options.limit: limit})
        headers = {} if options.api_key is None else {options.key_header: options.api_key}
        try:
            answer = await egress.ask(
                "GET", url, base=options.url, headers=headers, limit_bytes=_ANSWER_BYTES, timeout_s=_TIMEOUT_S
            )
            if answer.status != 200:
                raise ToolFailed(
                    f"The catalogue of papers answered HTTP {answer.status}.", "Try again later, or with other words."
                )
            content = answer.json()
        except egress.FetchFailed as error:
            raise ToolFailed("The catalogue of papers cannot be reached.", "Try again later.") from error
        papers = [_paper(each, options) for each in _at(content, options.fields.results)][:limit]
        found = [paper for paper in papers if paper.title]
        return sorted(found, key=lambda paper: -(paper.year or 0)) if order == "newest" else found


def _paper(said: Any, options: CatalogueOptions) -> Paper:
    fields = options.fields
    year = _first(said, fields.year)
    return Paper(
        id=_text(_first(said, fields.id)),
        title=_text(_first(said, fields.title)),
        authors=[_text(each) for each in _at(said, fields.authors)][:_MAX_AUTHORS],
        year=year if type(year) is int and 0 < year < 10_000 else None,
        venue=_text(_first(said, fields.venue)),
        url=_text(_first(said, fields.url)),
        abstract=_text(_abstract(_first(said, fields.abstract))),
    )


def _at(said: Any, path: str) -> list[Any]:
    """All values at a dotted path, `[]` behind a name for each member of its array; the last array is spread.

    >>> _at({"a": [{"b": 1}, {"b": 2}]}, "a[].b")
    [1, 2]
    """
    found = [said]
    for name in path.split("."):
        key = name.removesuffix("[]")
        found = [each[key] for each in found if isinstance(each, dict) and key in each]
        if name.endswith("[]"):
            found = [member for each in found if isinstance(each, list) for member in each]
    return found[0] if len(found) == 1 and isinstance(found[0], list) else found


def _first(said: Any, path: str) -> Any:
    return next(iter(_at(said, path)), None)


def _abstract(said: Any) -> Any:
    """*said*, or the text of an inverted index: each word with the positions at which it stands."""
    if not isinstance(said, dict):
        return said
    placed = [
        (at, word)
        for word, positions in said.items()
        if isinstance(positions, list)
        for at in positions[:_MAX_CHARS]
        if type(at) is int
    ]
    return " ".join(word for _, word in sorted(placed))


def _text(said: Any) -> str:
    return " ".join(plain(said[: 2 * _MAX_CHARS]).split())[:_MAX_CHARS] if isinstance(said, str) else ""
