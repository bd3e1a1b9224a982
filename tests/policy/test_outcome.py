"""Every outcome that a record can have falls into one of nine categories."""

from collections.abc import Iterator

import pytest

from bascule import errors
from bascule.policy.outcome import CATEGORIES, UNTIMED, category_of


def kinds(error: type[errors.BasculeError] = errors.BasculeError) -> Iterator[type[errors.BasculeError]]:
    for narrower in error.__subclasses__():
        if hasattr(narrower, "kind") and hasattr(narrower, "category"):
            yield narrower
        yield from kinds(narrower)


@pytest.mark.parametrize("error", [each for each in kinds() if each.__module__ == "bascule.errors"])
def test_an_error_falls_into_its_own_category(error: type[errors.BasculeError]) -> None:
    wanted = {"cancelled": "cancelled", "config_invalid": "internal"}.get(error.kind, error.category)
    assert category_of(error.kind) == wanted


@pytest.mark.parametrize(
    ("outcome", "category"),
    [("answered", "ok"), ("failed", "failed"), ("refused", "refused"), ("cancelled", "cancelled")],
)
def test_what_is_no_error_of_ours_has_a_category_too(outcome: str, category: str) -> None:
    assert category_of(outcome) == category


def test_what_nobody_knows_is_a_fault_of_ours() -> None:
    assert category_of("made_up") == "internal"


def test_what_is_not_timed_is_a_category() -> None:
    assert set(CATEGORIES) > UNTIMED
