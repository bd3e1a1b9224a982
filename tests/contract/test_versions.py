"""Which version a call goes to: ranges, routes, canaries, and what is no version."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.contract.derive import Sources
from bascule.contract.model import Deprecation, Document
from bascule.contract.semver import Version, parse
from bascule.contract.versions import Choice, Registered, Route, choice_of, range_of, share_of
from bascule.errors import VersionNotFound

ID = "crm/create_lead"
NO_ROUTE = Route()
VERSIONS = st.builds(Version, *[st.integers(0, 30)] * 3)


def holds(text: str, version: str) -> bool:
    return all(span.holds(parse(version)) for span in range_of(text))


def documents(*versions: str, **statuses: str) -> list[Document]:
    """One for each version; *statuses* by version, `v1_0_0="gone"`."""
    said: Any = {f"{name[1:].replace('_', '.')}": status for name, status in statuses.items()}
    return [Document(tool=ID, version=version, status=said.get(version, "active")) for version in versions]


def choice(*each: Document, route: Route = NO_ROUTE, today: str = "2026-11-21") -> Choice:
    found = choice_of(ID, each, route, today)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("1", "1.9.9", "2.0.0"),
        ("v1", "1.0.0", "0.9.9"),
        ("1.2", "1.2.9", "1.3.0"),
        ("1.2.3", "1.2.3", "1.2.4"),
        ("=1.2.3", "1.2.3", "1.2.2"),
        ("1.x", "1.7.0", "2.0.0"),
        ("^1.2", "1.9.0", "1.1.9"),
        ("^0.2", "0.2.9", "0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("~1.2.3", "1.2.9", "1.3.0"),
        (">=1.2 <2", "1.2.0", "2.0.0"),
        (">1", "2.0.0", "1.5.0"),
        ("<=1", "1.9.9", "2.0.0"),
    ],
)
def test_a_range_holds_what_it_says_and_nothing_else(text: str, inside: str, outside: str) -> None:
    assert holds(text, inside)
    assert not holds(text, outside)


@pytest.mark.parametrize(
    "text", ["", " ", "one", "1.2.3.4", "1.2-beta", "@1", "1" * 11, ">=1 and <2", "1\n" * 200, "*1"]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no version"):
        range_of(text)


@given(VERSIONS, VERSIONS)
def test_the_ends_of_a_range_are_where_semver_has_them(one: Version, other: Version) -> None:
    assert holds(f">={one}", str(other)) == (other >= one)
    assert holds(f"<{one}", str(other)) == (other < one)
    assert holds(str(one), str(other)) == (one == other)
    assert holds(str(one.major), str(other)) == (one.major == other.major)
    assert holds("latest", str(other))


def test_the_highest_active_version_goes_without_being_named() -> None:
    found = choice(*documents("1.0.0", "2.0.0", "3.0.0", "4.0.0", v3_0_0="deprecated", v4_0_0="draft"))
    assert str(found.pick("", "ann").version) == "2.0.0"
    assert found.said == ["1.0.0", "2.0.0", "3.0.0"], "a draft is none of them"


def test_a_range_gets_the_highest_active_one_in_it_and_a_deprecated_one_only_if_there_is_no_other() -> None:
    found = choice(*documents("1.0.0", "1.1.0", "2.0.0", v1_1_0="deprecated"))
    assert str(found.pick("1", "ann").version) == "1.0.0"
    assert str(found.pick("1.1", "ann").version) == "1.1.0"
    assert str(found.pick("latest", "ann").version) == "2.0.0"


@pytest.mark.parametrize("wanted", ["3", "1.0.1", "nonsense", "4.0.0"])
def test_a_version_that_is_not_there_is_an_error_and_never_another_one(wanted: str) -> None:
    with pytest.raises(VersionNotFound) as refused:
        choice(*documents("1.0.0", "2.0.0", "4.0.0", v4_0_0="draft")).pick(wanted, "ann")
    assert refused.value.details["versions"] == ["1.0.0", "2.0.0"]


def test_a_version_that_is_gone_can_still_be_asked_for_and_says_so_by_its_status() -> None:
    assert choice(*documents("1.0.0", "2.0.0", v1_0_0="gone")).pick("1", "ann").status == "gone"


def test_a_deprecated_version_is_gone_on_the_day_of_its_sunset() -> None:
    old = Document(tool=ID, version="1.0.0", status="deprecated", deprecation=Deprecation(sunset="2027-05-01"))
    new = Document(tool=ID, version="2.0.0")
    for today, status in (("2027-04-30", "deprecated"), ("2027-05-01", "gone"), ("", "deprecated")):
        assert choice(old, new, today=today).pick("1", "ann").status == status
        assert Sources([("a", old)], today=today).effective("tool", ID, None).status == status


def test_a_route_says_what_goes_without_being_named_and_a_wrong_one_counts_as_none() -> None:
    both = documents("1.0.0", "2.0.0", "0.5.0", v0_5_0="gone")
    assert str(choice(*both, route=Route("1.0.0")).pick("", "ann").version) == "1.0.0"
    for wrong in ("9.0.0", "0.5.0"):
        assert str(choice(*both, route=Route(wrong)).pick("", "ann").version) == "2.0.0"


def test_a_canary_gets_its_share_of_callers_and_each_of_them_always() -> None:
    found = choice(*documents("1.0.0", "1.1.0"), route=Route("1.0.0", "1.1.0", 20))
    callers = [f"caller-{number}" for number in range(2000)]
    trying = [caller for caller in callers if str(found.pick("", caller).version) == "1.1.0"]
    assert 300 < len(trying) < 500
    assert all(str(found.pick("", caller).version) == "1.1.0" for caller in trying)
    assert all(share_of(ID, caller) < 20 for caller in trying)
    assert str(found.pick("1.0", trying[0]).version) == "1.0.0", "who asks for one gets it"


@pytest.mark.parametrize(("percent", "expected"), [(0, {"1.0.0"}), (100, {"1.1.0"})])
def test_no_share_is_nobody_and_all_of_it_is_everybody(percent: int, expected: set[str]) -> None:
    found = choice(*documents("1.0.0", "1.1.0"), route=Route("1.0.0", "1.1.0", percent))
    assert {str(found.pick("", f"c{number}").version) for number in range(200)} == expected


def test_of_one_version_in_the_registry_and_in_the_configuration_the_configuration_has_its_way() -> None:
    registered = Registered((("registry", Document(tool=ID, version="1.0.0", owner_team="registry")),))
    ours = [("file", Document(tool=ID, version="1.0.0", owner_team="file"))]
    assert Sources(ours, registered=registered).effective("tool", ID, None).owner_team == "file"


def test_each_version_has_the_terms_of_its_own_document() -> None:
    said = [(f"v{n}", Document(tool=ID, version=f"{n}.0.0", owner_team=f"team {n}")) for n in (2, 1)]
    sources = Sources(said)
    assert sources.effective("tool", ID, None).owner_team == "team 2"
    assert sources.effective("tool", ID, None, version="1.0.0").owner_team == "team 1"


def test_where_there_is_one_document_there_is_nothing_to_choose() -> None:
    assert choice_of(ID, documents("1.0.0"), Route(), "") is None
    assert choice_of(ID, [Document(tool=ID)], Route(), "") is None
    assert choice_of(ID, [Document(tool=ID, version="1.0.0", served_by="crm2/make")], Route(), "") is not None


@pytest.mark.parametrize("wrong", ["crm", "crm/", "/x"])
def test_served_by_names_a_server_and_a_tool(wrong: str) -> None:
    with pytest.raises(ValueError, match="served_by"):
        Document(tool=ID, version="1.0.0", served_by=wrong)
