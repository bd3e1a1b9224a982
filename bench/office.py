"""How good the summaries and tables of the office pack are, on the labelled set that its tests ship.

    python bench/office.py           prints the scores and writes them into docs/packs/office-quality.md
    python bench/office.py --check   exit 1 if that page has other numbers

Some seconds; nothing is timed, so that every machine has the same numbers. Run it where bascule[office] is installed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from bascule.packs.office.summary import summary

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from packs.office import scoring  # noqa: E402 - it stands among the tests
from packs.office.scoring import Table, Text  # noqa: E402

PAGE: Final = ROOT / "docs" / "packs" / "office-quality.md"
_MEASURED: Final = re.compile(r"(?<=<!-- measured: office -->\n).*?(?=<!-- /measured -->)", re.DOTALL)
LANGUAGES: Final = {"en": "English", "vi": "Vietnamese"}
FORMATS: Final = ("csv", "tsv", "markdown", "html", "text", "xlsx", "docx", "pdf")


def measured() -> str:
    """The tables of the page."""
    return "\n".join(["", *_summaries(), "", *_tables(), "", ""])


def _summaries() -> Iterator[str]:
    yield "| summaries | texts | sentences F1 | first three | words F1 (ROUGE-1) | first three |"
    yield "|---|---:|---:|---:|---:|---:|"
    for code, language in LANGUAGES.items():
        for held_out in (False, True):
            score = scoring.of_summaries(
                each for each in scoring.texts() if each.language == code and each.held_out == held_out
            )
            name = f"{language}, held out" if held_out else language
            numbers = (score.f1, score.first_f1, score.rouge, score.first_rouge)
            yield f"| {name} | {score.texts} | {' | '.join(f'{number:.2f}' for number in numbers)} |"


def _tables() -> Iterator[str]:
    yield "| tables | seen | cells F1 | held out | cells F1 |"
    yield "|---|---:|---:|---:|---:|"
    for name in (*FORMATS, "all"):
        of_format = [each for each in scoring.tables() if name in (each.format, "all")]
        seen, rest = _split(of_format)
        numbers = (len(seen), f"{scoring.of_tables(seen):.2f}", len(rest), f"{scoring.of_tables(rest):.2f}")
        yield f"| {name} | {' | '.join(map(str, numbers))} |"


def _split(tables: Iterable[Table]) -> tuple[list[Table], list[Table]]:
    listed = list(tables)
    return [each for each in listed if not each.held_out], [each for each in listed if each.held_out]


def worst() -> Iterator[str]:
    """What was picked otherwise, and the tables that are read otherwise, of those that may be looked at."""
    texts: list[Text] = [each for each in scoring.texts() if not each.held_out]
    for text in texts:
        found = [point.sentence.text for point in summary(text.text, scoring.POINTS)]
        yield from (f"{text.id}: not picked by a person: {each}" for each in found if each not in text.picked)
    for table in _split(scoring.tables())[0]:
        if scoring.of_tables([table]) < 1:
            yield f"{table.id}: {scoring.read(table)}"


def main() -> None:
    before = PAGE.read_text(encoding="utf-8")
    after = _MEASURED.sub(lambda _: measured(), before)
    if "--check" in sys.argv:
        if after != before:
            sys.exit("docs/packs/office-quality.md has other numbers: run python bench/office.py")
        return
    PAGE.write_text(after, encoding="utf-8")
    print(measured())
    print("\n".join(worst()))


if __name__ == "__main__":
    main()
