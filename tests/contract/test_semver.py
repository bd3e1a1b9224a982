"""Versions and the steps between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.contract.semver import Step, Version, parse, step_between

NUMBER = st.integers(0, 20)
VERSIONS = st.builds(Version, NUMBER, NUMBER, NUMBER)


@given(VERSIONS)
def test_a_version_is_read_as_it_is_written(version: Version) -> None:
    assert parse(str(version)) == version


@pytest.mark.parametrize("text", ["1", "1.2", "v1.2.3", "01.2.3", "1.2.3-rc.1", "1.2.3+build", " 1.2.3", "1.2.3\n", ""])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not MAJOR"):
        parse(text)


@given(VERSIONS, st.sampled_from(Step))
def test_the_least_version_that_follows_is_newer_and_says_the_step(version: Version, step: Step) -> None:
    after = version.after(step)
    assert after > version
    said = step_between(version, after)
    assert said == step or (version.major == 0 and said == max(step - 1, Step.PATCH))


@pytest.mark.parametrize(
    ("before", "step", "after"),
    [
        ("1.2.3", Step.PATCH, "1.2.4"),
        ("1.2.3", Step.MINOR, "1.3.0"),
        ("1.2.3", Step.MAJOR, "2.0.0"),
        ("0.2.3", Step.MAJOR, "0.3.0"),
        ("0.2.3", Step.MINOR, "0.2.4"),
        ("9.9.9", Step.MAJOR, "10.0.0"),
    ],
)
def test_the_next_version(before: str, step: Step, after: str) -> None:
    assert str(parse(before).after(step)) == after


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [
        ("1.0.0", "1.0.0", None),
        ("1.0.1", "1.0.0", None),
        ("1.0.0", "1.0.1", Step.PATCH),
        ("1.0.9", "1.1.0", Step.MINOR),
        ("1.9.0", "10.0.0", Step.MAJOR),
    ],
)
def test_the_step_that_two_versions_say(before: str, after: str, step: Step | None) -> None:
    assert step_between(parse(before), parse(after)) is step
