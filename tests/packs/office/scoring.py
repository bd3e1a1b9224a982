"""How well summaries and tables come out, measured on the labelled set (labelled/*.yaml). Values in, values out."""

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
import yaml

from bascule.packs.cell import Unreadable
from bascule.packs.office import extraction
from bascule.packs.office.sentences import plain, sentences, words
from bascule.packs.office.summary import summary
from packs.office import building

LABELLED: Final = Path(__file__).parent / "labelled"
POINTS: Final = 3
_MARK: Final = "* "


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text, with the sentences that a person picked marked in it."""

    id: str
    paragraphs: tuple[tuple[str, ...], ...]
    held_out: bool = False

    @property
    def language(self) -> str:
        return self.id[:2]

    @property
    def text(self) -> str:
        return "\n\n".join(" ".join(each.removeprefix(_MARK) for each in part) for part in self.paragraphs)

    @property
    def picked(self) -> list[str]:
        return [each.removeprefix(_MARK) for part in self.paragraphs for each in part if each.startswith(_MARK)]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table as a text, or what a file of it is built of, and the rows that a person reads in it."""

    id: str
    format: Literal["csv", "tsv", "markdown", "html", "text", "xlsx", "pdf", "docx"]
    rows: tuple[dict[str, Any], ...]
    text: str = ""
    cells: tuple[tuple[Any, ...], ...] = ()
    table: int = 1
    ruled: bool = True
    held_out: bool = False

    def file(self) -> bytes:
        match self.format:
            case "xlsx":
                return building.xlsx({"Sheet": self.cells})
            case "docx":
                return building.docx("Before the table.", self.cells)
            case "pdf":
                return building.pdf(self.cells, ruled=self.ruled)
        return self.text.encode()


class Score(NamedTuple):
    """Of summaries: ours, and that of the first sentences."""

    f1: float
    rouge: float
    first_f1: float
    first_rouge: float
    texts: int


@cache
def texts() -> tuple[Text, ...]:
    found: tuple[Text, ...] = _read("texts.yaml", tuple[Text, ...])
    return found


@cache
def tables() -> tuple[Table, ...]:
    found: tuple[Table, ...] = _read("tables.yaml", tuple[Table, ...])
    return found


def _read(name: str, kind: Any) -> Any:
    return msgspec.convert(yaml.load((LABELLED / name).read_text(encoding="utf-8"), yaml.CSafeLoader), kind)


# ---- summaries


def of_summaries(chosen: Iterable[Text]) -> Score:
    """The means over *chosen*."""
    listed = list(chosen)
    ours = [[point.sentence.text for point in summary(each.text, POINTS)] for each in listed]
    first = [[each.text for each in sentences(text.text)[:POINTS]] for text in listed]
    return Score(
        _mean(overlap(found, text.picked) for found, text in zip(ours, listed, strict=True)),
        _mean(rouge(found, text.picked) for found, text in zip(ours, listed, strict=True)),
        _mean(overlap(found, text.picked) for found, text in zip(first, listed, strict=True)),
        _mean(rouge(found, text.picked) for found, text in zip(first, listed, strict=True)),
        len(listed),
    )


def overlap(found: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of whole sentences."""
    return _f1(Counter(map(plain, found)), Counter(map(plain, wanted)))


def rouge(found: Sequence[str], wanted: Sequence[str]) -> float:
    """ROUGE-1: F1 of words. Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004)."""
    return _f1(Counter(words(" ".join(found))), Counter(words(" ".join(wanted))))


# ---- tables


def of_tables(chosen: Iterable[Table]) -> float:
    """F1 of the cells of *chosen*: the right value in the right row under the right name."""
    found: Counter[Any] = Counter()
    wanted: Counter[Any] = Counter()
    for table in chosen:
        found.update(_cells(table.id, read(table)))
        wanted.update(_cells(table.id, table.rows))
    return _f1(found, wanted)


def read(table: Table) -> Sequence[Mapping[str, Any]]:
    """What we read in it; nothing where we refuse it."""
    try:
        said = extraction.table(io.BytesIO(table.file()), format=table.format, table=table.table)
    except Unreadable:
        return ()
    rows: Sequence[Mapping[str, Any]] = said["rows"]
    return rows


def _cells(id: str, rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, int, str, str]]:
    """(table, row, column, value as JSON) of each cell: 1 and 1.0 are one value, 1 and "1" are two."""
    for at, row in enumerate(rows):
        for name, value in row.items():
            is_whole = isinstance(value, float) and value.is_integer()
            yield id, at, name, msgspec.json.encode(int(value) if is_whole else value).decode()


def _f1(found: Counter[Any], wanted: Counter[Any]) -> float:
    both = (found & wanted).total()
    return 2 * both / (found.total() + wanted.total()) if both else 0.0


def _mean(scores: Iterable[float]) -> float:
    listed = list(scores)
    return sum(listed) / len(listed) if listed else 0.0
