"""Wire names fit every client and lead to exactly one thing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.wire import names
from bascule.wire.names import Clash, Naming, Table

LEGAL = re.compile(r"[A-Za-z0-9_-]{1,64}")
text = st.text(st.characters(exclude_categories=["Cs"]))
spaces = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
entries = st.lists(
    st.tuples(spaces, st.one_of(st.sampled_from(["a", "a.b", "a_b", "é", "è", "x" * 80]), text)), max_size=12
)


def table(pairs: list[tuple[str, str]], aliases: dict[str, str] | None = None) -> Table[int]:
    """Targets are the places of the entries in *pairs*."""
    return Table(((space, name, place) for place, (space, name) in enumerate(pairs)), aliases or {})


@given(spaces, text)
def test_a_wire_name_is_legal_whatever_the_tool_is_called(space: str, name: str) -> None:
    assert LEGAL.fullmatch(names.wire_name(space, name))


@given(text)
def test_a_slug_is_made_of_legal_characters_and_of_nothing_twice(name: str) -> None:
    slug = names.slug(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]*", slug)
    assert names.slug(slug) == slug


def test_a_short_name_is_the_namespace_two_underscores_and_the_name() -> None:
    assert names.wire_name("crm", "create.lead") == "crm__create_lead"


def test_long_names_that_share_their_start_stay_distinct() -> None:
    start = "x" * 100
    found = {names.wire_name("s", start + end) for end in ("", "a", "b", "é", "è")}
    assert len(found) == 5
    assert all(len(name) == 64 for name in found)


def test_a_name_of_exactly_64_is_not_shortened() -> None:
    assert names.wire_name("s", "x" * 61) == "s__" + "x" * 61
    assert names.wire_name("s", "x" * 62) != "s__" + "x" * 62


@given(entries)
def test_every_entry_is_listed_under_one_name_or_reported_as_withheld(pairs: list[tuple[str, str]]) -> None:
    found = table(pairs)
    wires = [wire for wire, _ in found.listed]
    assert len(set(wires)) == len(wires)
    assert len(found.listed) + len(found.clashes) == len(pairs)
    for wire, place in found.listed:
        assert found.find(wire) == place
        assert found.find(names.logical(*pairs[place])) == place
    for clash in found.clashes:
        assert clash.wire in wires


@given(entries)
def test_the_list_keeps_the_order_given_and_the_first_of_two_keeps_the_name(pairs: list[tuple[str, str]]) -> None:
    found = table(pairs)
    places = [place for _, place in found.listed]
    assert places == sorted(places)
    first: dict[str, int] = {}
    for place, pair in enumerate(pairs):
        first.setdefault(names.wire_name(*pair), place)
    assert sorted(first.values()) == places


@given(entries, text)
def test_nothing_but_a_listed_name_or_id_is_found(pairs: list[tuple[str, str]], asked: str) -> None:
    found = table(pairs)
    known = {wire for wire, _ in found.listed} | {names.logical(*pairs[place]) for _, place in found.listed}
    assert (found.find(asked) is not None) == (asked in known)


def test_an_alias_wins_over_a_made_up_name_that_came_first() -> None:
    found = table([("a", "x"), ("b", "y")], {"b/y": "a__x"})
    assert found.listed == [("a__x", 1)]
    assert found.clashes == [Clash("a__x", "b/y", "a/x")]
    assert found.find("a/x") is None


def test_an_alias_replaces_the_made_up_name_and_keeps_the_place_in_the_list() -> None:
    found = table([("a", "x"), ("b", "y")], {"a/x": "shiny"})
    assert found.listed == [("shiny", 0), ("b__y", 1)]
    assert found.find("a__x") is None
    assert found.find("a/x") == 0


def test_a_clash_says_who_lost_to_whom_and_what_to_do() -> None:
    (clash,) = table([("a", "x.y"), ("a", "x_y")]).clashes
    assert str(clash) == "'a/x_y' is withheld: its name 'a__x_y' belongs to 'a/x.y'; give it an alias"


def test_a_tool_that_its_server_lists_twice_is_listed_once_and_reported() -> None:
    found = table([("a", "x"), ("a", "x")])
    assert found.listed == [("a__x", 0)]
    assert [str(clash) for clash in found.clashes] == ["'a/x' is listed twice; the second one is withheld"]


@pytest.mark.parametrize("asked", ["a__X", "A__x", "a_x", "x", "a/x/", "/x", "", "a__x "])
def test_names_are_exact(asked: str) -> None:
    assert table([("a", "x")]).find(asked) is None


# ---- servers whose tools bring their namespaces

OWN = Naming(frozenset({"office"}))


def test_a_tool_brings_its_namespace_where_its_server_may_do_that() -> None:
    assert OWN.id("office", "document__compare") == "document/compare"
    assert OWN.wire("office", "document__compare") == "document__compare"
    assert OWN.id("crm", "document__compare") == "crm/document__compare"


@pytest.mark.parametrize("name", ["compare", "__compare", "document__", "a/b__c", "file://a__b/c", "é__x", "_a__b"])
def test_what_names_no_namespace_is_prefixed_all_the_same(name: str) -> None:
    assert OWN.id("office", name) == f"office/{name}"


@given(spaces, text)
def test_the_places_of_an_id_hold_the_one_that_it_comes_from(server: str, name: str) -> None:
    for naming in (Naming(), Naming(frozenset({server}))):
        assert (server, name) in naming.places(naming.id(server, name), ["other", server])


def test_two_servers_that_bring_the_same_name_clash() -> None:
    both = Naming(frozenset({"a", "b"}))
    found = Table((("a", "doc__x", 1), ("b", "doc__x", 2)), {}, both)
    assert found.find("doc/x") == found.find("doc__x") == 1
    assert [(each.wire, each.withheld) for each in found.clashes] == [("doc__x", "doc/x")]


# ---- and would put themselves in the place of another

PACKS = Naming(
    own=frozenset({"office", "free"}),
    servers=frozenset({"office", "crm", "free"}),
    packs=frozenset({"office"}),
    promised={"document/compare": "office", "crm/promised": "office"},
)


@pytest.mark.parametrize(
    ("server", "name", "id"),
    [
        ("office", "document__compare", "document/compare"),
        ("office", "document__other", "office/document__other"),  # nobody has promised it
        ("office", "crm__search", "office/crm__search"),  # of another server
        ("office", "crm__promised", "crm/promised"),  # by the installation, which is believed
        ("office", "office__x", "office/office__x"),
        ("free", "document__compare", "free/document__compare"),  # promised by another
        ("free", "document__other", "document/other"),
        ("free", "crm__search", "free/crm__search"),
        ("free", "free__x", "free/x"),
        ("crm", "document__compare", "crm/document__compare"),
    ],
)
def test_a_server_brings_no_namespace_that_is_of_another(server: str, name: str, id: str) -> None:
    assert PACKS.id(server, name) == id
    assert PACKS.wire(server, name) == id.replace("/", "__")
    assert (server, name) in PACKS.places(id, PACKS.servers) or name == "free__x"


def test_nothing_is_looked_for_where_it_may_not_be_brought() -> None:
    assert PACKS.places("document/compare", ["crm", "free", "office"]) == [("office", "document__compare")]
    assert PACKS.places("crm/search", ["crm", "free", "office"]) == [("crm", "search")]


@given(spaces, text, st.sampled_from(sorted(PACKS.servers)))
def test_no_name_of_one_server_is_that_of_another(space: str, name: str, server: str) -> None:
    id = PACKS.id(server, f"{space}__{name}")
    owner = id.partition("/")[0]
    assert owner == server or PACKS.promised.get(id, server if owner not in PACKS.servers else owner) == server
