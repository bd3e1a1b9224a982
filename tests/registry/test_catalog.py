"""The catalog is one snapshot of all servers: ordered, exact, and honest about what it withholds."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bascule.registry import catalog
from bascule.registry.catalog import LISTS, Catalog, Item, Listing, Place, Template
from bascule.wire import jsonrpc
from bascule.wire.headers import MirroredParam
from bascule.wire.versions import Era

KEYS = {"tools": "name", "prompts": "name", "resources": "uri", "templates": "uriTemplate"}


def item(kind: str, key: str, **members: Any) -> Item:
    return Item(key, {name: jsonrpc.encode(value) for name, value in {KEYS[kind]: key, **members}.items()})


def listing(capabilities: Mapping[str, Any] | None = None, **kinds: Sequence[str]) -> Listing:
    tools, prompts, resources, templates = ([item(kind, key) for key in kinds.get(kind, ())] for kind in KEYS)
    return Listing(
        tools=tools, prompts=prompts, resources=resources, templates=templates, capabilities=capabilities or {}
    )


def legacy(listings: Mapping[str, Listing], aliases: Mapping[str, str] | None = None) -> Catalog:
    return Catalog(Era.LEGACY, listings, aliases or {})


def page(found: Catalog, method: str) -> Any:
    return jsonrpc.decode(found.page(method))


def names_in(found: Catalog, method: str = "tools/list", key: str = "name") -> list[str]:
    return [entry[key] for entry in page(found, method)[LISTS[method][0]]]


# ---- reading lists


def test_listed_entries_keep_their_bytes_and_are_known_by_their_key() -> None:
    (found,) = catalog.items("resources/list", [Raw(b'{"x": 1.0,"uri":"a:b","name":null}')])
    assert found.key == "a:b"
    assert {key: bytes(raw) for key, raw in found.members.items()} == {"x": b"1.0", "uri": b'"a:b"', "name": b"null"}


@pytest.mark.parametrize(
    "entry", [b"null", b"1", b"[]", b'"a"', b"{}", b'{"name":null}', b'{"name":7}', b'{"name":1e400}']
)
def test_an_entry_that_nobody_could_call_is_left_out_and_spoils_no_other(entry: bytes) -> None:
    assert [each.key for each in catalog.items("tools/list", [Raw(entry), Raw(b'{"name":"a"}')])] == ["a"]


def test_tools_know_which_arguments_are_mirrored_and_a_broken_annotation_mirrors_none() -> None:
    good = {"properties": {"r": {"type": "string", "x-mcp-header": "R"}}}
    bad = {"properties": {"r": {"type": "number", "x-mcp-header": "R"}}}
    raws = [jsonrpc.encode({"name": name, "inputSchema": schema}) for name, schema in (("g", good), ("b", bad))]
    assert [list(each.mirrored) for each in catalog.items("tools/list", raws)] == [
        [MirroredParam(("r",), "mcp-param-r")],
        [],
    ]
    assert [list(each.mirrored) for each in catalog.items("prompts/list", raws)] == [[], []]


# ---- aggregation


def test_lists_keep_the_order_of_servers_and_of_their_own_lists() -> None:
    found = legacy({"b": listing(tools=["z", "a"]), "a": listing(tools=["z"])})
    assert names_in(found) == ["b__z", "b__a", "a__z"]
    assert found.tools.find("a__z") == Place("a", "z") == found.tools.find("a/z")


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from(["x", "y.z", "y_z"])), max_size=3))
def test_equal_listings_make_equal_pages_and_every_listed_name_is_callable(tools: dict[str, list[str]]) -> None:
    listings = {server: listing(tools=keys) for server, keys in tools.items()}
    one, other = legacy(listings), legacy(dict(listings))
    assert all(one.page(method) == other.page(method) for method in LISTS)
    wires = names_in(one)
    assert len(set(wires)) == len(wires)
    assert all(one.tools.find(wire) is not None for wire in wires)
    assert len(wires) + len(one.clashes) == sum(map(len, tools.values()))


def test_only_the_name_of_a_listed_tool_changes() -> None:
    members = jsonrpc.members(b'{"x": {"b":1.0,"a":null},"name":"t","inputSchema":{"type":"object"}}')
    found = legacy({"s": Listing(tools=[Item("t", members)])})
    assert found.page("tools/list") == Raw(
        b'{"tools":[{"x":{"b":1.0,"a":null},"name":"s__t","inputSchema":{"type":"object"}}]}'
    )


def test_names_that_collide_are_withheld_and_reported() -> None:
    found = legacy({"s": listing(tools=["a.b", "a_b", "a_b"], prompts=["p!", "p?"])})
    assert names_in(found) == ["s__a_b"]
    assert found.tools.find("s__a_b") == Place("s", "a.b")
    assert [(clash.kept, clash.withheld) for clash in found.clashes] == [
        ("s/a.b", "s/a_b"),
        ("s/a.b", "s/a_b"),
        ("s/p!", "s/p?"),
    ]


def test_of_two_tools_under_one_name_the_listed_one_is_the_first() -> None:
    twice = [item("tools", "t", description="first"), item("tools", "t", description="second")]
    found = legacy({"s": Listing(tools=twice)})
    assert [tool["description"] for tool in page(found, "tools/list")["tools"]] == ["first"]
    assert len(found.clashes) == 1


def test_an_alias_names_a_tool_and_a_prompt_of_the_same_id() -> None:
    found = legacy({"s": listing(tools=["t"], prompts=["t"])}, {"s/t": "mine"})
    assert names_in(found) == names_in(found, "prompts/list") == ["mine"]


def test_ten_thousand_tools_are_joined_in_a_second() -> None:
    many = listing(tools=[f"t{i}" for i in range(10_000)])
    started = time.monotonic()
    assert len(names_in(legacy({"s": many}))) == 10_000
    assert time.monotonic() - started < 1


# ---- resources


def test_of_two_servers_with_one_resource_the_first_serves_it_and_the_second_is_reported() -> None:
    found = legacy({"a": listing(resources=["x:1", "x:2"]), "b": listing(resources=["x:2", "x:3"])})
    assert names_in(found, "resources/list", "uri") == ["x:1", "x:2", "x:3"]
    assert [found.owner_of(uri) for uri in ("x:1", "x:2", "x:3", "x:4")] == ["a", "a", "b", None]
    assert found.shadowed == ["x:2 of 'b' is shadowed by 'a'"]


def test_a_listed_resource_wins_over_a_template_and_templates_stand_in_order() -> None:
    found = legacy(
        {"a": listing(templates=["x:{id}"]), "b": listing(resources=["x:1"], templates=["x:{other}", "y:{id}"])}
    )
    assert [found.owner_of(uri) for uri in ("x:1", "x:2", "y:2", "x:{other}")] == ["b", "a", "b", "b"]
    assert names_in(found, "resources/templates/list", "uriTemplate") == ["x:{id}", "x:{other}", "y:{id}"]


def test_a_resource_that_nobody_listed_may_be_asked_of_servers_that_have_resources() -> None:
    found = legacy({"a": listing({"tools": {}}), "b": listing({"resources": {}}), "c": listing({"resources": None})})
    assert found.readers() == ["b", "c"]


@pytest.mark.parametrize(
    ("template", "matching", "others"),
    [
        ("file:///{name}", ["file:///a", "file:///a.b"], ["file:///", "file:///a/b", "file:///a?b", "xfile:///a"]),
        ("file:///{+path}", ["file:///a/b?c#d", "file:///"], ["file://"]),
        ("x:{#at}", ["x:#a/b", "x:"], ["y:"]),
        ("x:{id}/y", ["x:1/y"], ["x:/y", "x:1/2/y", "x:1/y/"]),
        ("x:{a}.json", ["x:b.json", "x:b.json.json"], ["x:.json", "x:b.jsonx"]),
        ("x:{a}-{b}", ["x:1-2", "x:1-2-3"], ["x:-2", "x:1-", "x:12"]),
        ("x:a{/b}", ["x:a/b", "x:a/"], ["x:a", "x:a/b/c"]),
        ("x:a{/b*}", ["x:a/b/c", "x:a"], ["x:b"]),
        ("x:a{.b}", ["x:a.b"], ["x:ab"]),
        ("x:a{;b}", ["x:a;b=1"], ["x:a"]),
        ("x:a{?q,r}", ["x:a", "x:a?q=1&r=/2"], ["x:a?q#f", "x:aq"]),
        ("x:a?f=1{&q}", ["x:a?f=1", "x:a?f=1&q=2"], ["x:a?f=12"]),
        ("x:(.*)[a]", ["x:(.*)[a]"], ["x:abca"]),
        ("x:\n{a}", ["x:\nb", "x:\n\n"], ["x:b"]),
        ("", [""], ["x"]),
    ],
)
def test_a_template_matches_its_expansions(template: str, matching: list[str], others: list[str]) -> None:
    assert [uri for uri in [*matching, *others] if Template(template).matches(uri)] == matching


class _Reference:
    """The same rules as a regular expression: easy to read, and slow on hostile templates."""

    EXPRESSION = re.compile(r"\{([+#./;?&]?)([^{}]*)\}")

    def __init__(self, template: str) -> None:
        pattern, at = "", 0
        for match in self.EXPRESSION.finditer(template):
            pattern += re.escape(template[at : match.start()]) + self.expansion(
                match[1], explode=match[2].endswith("*")
            )
            at = match.end()
        self.pattern = re.compile(pattern + re.escape(template[at:]), re.DOTALL)

    @staticmethod
    def expansion(operator: str, *, explode: bool) -> str:
        if operator in ("+", "#") or explode:
            return ".*"
        if operator in ("?", "&"):
            return r"(?:[?&][^#]*)?"
        return re.escape(operator) + r"[^/?#]*" if operator else r"[^/?#]+"


parts = st.sampled_from(["{a}", "{+a}", "{/a}", "{.a}", "{?a}", "{&a}", "{;a*}", "{#a}", "a", "/", ".", "?", "#", "-"])


@given(st.lists(parts, max_size=5).map("".join), st.text("a/.?&#;-", max_size=10))
def test_templates_match_what_the_plain_expression_matches(template: str, uri: str) -> None:
    assert Template(template).matches(uri) == (_Reference(template).pattern.fullmatch(uri) is not None)


@pytest.mark.parametrize("template", ["{+a}" * 32 + "z", "{a}" * 32 + "/z", "{a*}-" * 30, "{?a}" * 30, "{+a}" * 50_000])
def test_a_hostile_template_is_answered_at_once(template: str) -> None:
    hostile = Template(template)
    started = time.monotonic()
    assert not hostile.matches("a" * 4000)
    assert not hostile.matches("a" * 1_000_000)
    assert time.monotonic() - started < 0.5


# ---- what the whole offers


@pytest.mark.parametrize(
    ("declared", "merged"),
    [
        ([], {}),
        ([{"tools": {}}], {}),
        ([{"prompts": {}}], {"prompts": {"listChanged": True}}),
        ([{"resources": {}}], {"resources": {"listChanged": True, "subscribe": False}}),
        (
            [{"resources": {}}, {"resources": {"subscribe": True}}],
            {"resources": {"listChanged": True, "subscribe": True}},
        ),
        ([{"resources": None}], {}),
        ([{"logging": {}}, {"completions": {}}], {"completions": {}, "logging": {}}),
        ([{"experimental": {"x": {}}, "tasks": {}, "extensions": {"e": {}}}], {}),
    ],
)
def test_capabilities_are_those_of_some_server_that_bascule_carries(
    declared: list[dict[str, Any]], merged: dict[str, Any]
) -> None:
    found = legacy({f"s{i}": listing(each) for i, each in enumerate(declared)})
    assert found.capabilities == {"tools": {"listChanged": True}, **merged}


def test_instructions_of_all_servers_stand_under_their_names() -> None:
    found = legacy({"a": Listing(instructions="Do."), "b": Listing(), "c": Listing(instructions="Do not.")})
    assert found.instructions(lambda server: True) == "## a\nDo.\n\n## c\nDo not."


@pytest.mark.parametrize(
    ("hints", "ttl_ms", "scope"),
    [
        ([], 0, "private"),
        ([(5000, True)], 5000, "public"),
        ([(5000, True), (300, True)], 300, "public"),
        ([(5000, True), (9000, False)], 5000, "private"),
        ([(5000, True), (0, True)], 0, "public"),
    ],
)
def test_a_modern_page_carries_the_shortest_and_most_private_hint(
    hints: list[tuple[int, bool]], ttl_ms: int, scope: str
) -> None:
    listings = {f"s{i}": Listing(ttl_ms=ttl, shared=shared) for i, (ttl, shared) in enumerate(hints)}
    found = Catalog(Era.MODERN, listings, {})
    for method, (member, _) in LISTS.items():
        expected = {"resultType": "complete", member: [], "ttlMs": ttl_ms, "cacheScope": scope}
        assert page(found, method) == expected


@pytest.mark.parametrize(("method", "member"), [(method, member) for method, (member, _) in LISTS.items()])
def test_a_legacy_page_is_only_its_list(method: str, member: str) -> None:
    assert page(legacy({}), method) == {member: []}
