"""Summaries and tables are as good as docs/packs/office-quality.md says, and better than what is easy."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from packs.office import scoring
from packs.office.scoring import Table, Text

ROOT: Final = Path(__file__).parents[3]
LEAST_TEXTS: Final = 12
LEAST_TABLES: Final = 24


def held_out(each: Text | Table) -> bool:
    return each.held_out


def tuned_on(each: Text | Table) -> bool:
    return not each.held_out


@pytest.mark.parametrize(
    ("which", "language", "least_f1", "least_rouge"),
    [
        (tuned_on, "en", 0.70, 0.78),
        (tuned_on, "vi", 0.70, 0.78),
        (held_out, "en", 0.66, 0.75),
        (held_out, "vi", 0.40, 0.60),
    ],
)
def test_summaries_are_near_to_what_a_person_picked(
    which: Callable[[Text | Table], bool], language: str, least_f1: float, least_rouge: float
) -> None:
    score = scoring.of_summaries(each for each in scoring.texts() if which(each) and each.language == language)
    assert score.f1 >= least_f1
    assert score.rouge >= least_rouge
    assert score.f1 > score.first_f1
    assert score.rouge > score.first_rouge


@pytest.mark.parametrize("format", ["csv", "tsv", "markdown", "html", "text", "xlsx", "pdf", "docx"])
def test_tables_are_read_as_a_person_reads_them(format: str) -> None:
    of_format = [each for each in scoring.tables() if each.format == format]
    assert scoring.of_tables(filter(tuned_on, of_format)) >= 0.95
    assert scoring.of_tables(filter(held_out, of_format)) >= (0.6 if format == "text" else 0.95)


def test_the_set_is_as_large_as_it_is_said_to_be_and_a_third_is_held_out() -> None:
    for kind, least in ((scoring.texts(), LEAST_TEXTS), (scoring.tables(), LEAST_TABLES)):
        assert len(kind) >= least
        assert len({each.id for each in kind}) == len(kind)
        assert sum(map(held_out, kind)) >= len(kind) // 3
    assert {each.language for each in scoring.texts()} == {"en", "vi"}
    assert all(len(each.picked) == scoring.POINTS for each in scoring.texts())


def test_the_measures_measure() -> None:
    assert scoring.overlap(["a b", "c"], ["a b", "d"]) == 0.5
    assert scoring.rouge(["one two three"], ["two three four"]) == pytest.approx(2 / 3)
    assert scoring.overlap([], ["a"]) == 0


def test_the_page_has_the_numbers_that_are_measured() -> None:
    command = [sys.executable, str(ROOT / "bench" / "office.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (ROOT / "docs" / "packs" / "office-quality.md").read_text(encoding="utf-8")
    assert re.search(r"\| English \| .* \| [01]\.\d\d \|", page)
