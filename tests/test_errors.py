"""The taxonomy is closed: every error is in the drawing, has a code of its own and one shape."""

import re
from collections.abc import Iterator

import pytest
from msgspec import Raw

from bascule import errors
from bascule.errors import (
    BasculeError,
    ConfigInvalid,
    InvalidArgument,
    Misused,
    ProtocolError,
    Refusal,
    ScopeDenied,
    Transient,
    UnsupportedVersion,
)
from bascule.wire import jsonrpc

RESERVED = range(-32768, -31999)  # JSON-RPC 2.0, and MCP 2026-07-28, "Error Codes"


def descendants(kind: type[BasculeError]) -> Iterator[type[BasculeError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from descendants(child)


ALL = list(descendants(BasculeError))
LEAVES = [each for each in ALL if hasattr(each, "kind")]  # the others only group
GROUPS = [each for each in ALL if not hasattr(each, "kind")]


OWN_DETAILS: dict[type[BasculeError], dict[str, object]] = {
    InvalidArgument: {"problems": []},
    ScopeDenied: {"scopes": []},
}


def made(leaf: type[BasculeError], message: str = "it went wrong") -> BasculeError:
    if leaf is UnsupportedVersion:
        return UnsupportedVersion(message, requested="1", supported=("2", "3"))
    return leaf(message)


def drawn() -> list[tuple[str, str]]:
    """(name, parent) of each line of the tree in the docstring."""
    assert errors.__doc__
    tree: list[tuple[int, str]] = []
    found: list[tuple[str, str]] = []
    for line in errors.__doc__.splitlines():
        if match := re.match(r"((?:│   |    )*)[├└]── (\w+)", line):
            depth, name = len(match[1]) // 4 + 1, match[2]
            tree = [(d, n) for d, n in tree if d < depth]
            found.append((name, tree[-1][1] if tree else "BasculeError"))
            tree.append((depth, name))
    return found


def test_the_drawing_shows_each_error_once_under_its_parent() -> None:
    assert sorted(drawn()) == sorted((each.__name__, each.__base__.__name__ if each.__base__ else "") for each in ALL)


def test_groups_are_never_raised_themselves() -> None:
    assert set(GROUPS) == {ProtocolError, Misused, Transient, Refusal}


@pytest.mark.parametrize("fact", ["kind", "code"])
def test_no_two_errors_share(fact: str) -> None:
    values = [getattr(leaf, fact) for leaf in LEAVES]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("leaf", LEAVES)
def test_codes_of_our_own_stay_outside_the_reserved_range(leaf: type[BasculeError]) -> None:
    if issubclass(leaf, ProtocolError):
        assert leaf.family in RESERVED
        assert leaf.code == leaf.family or leaf.code not in RESERVED
    else:
        assert leaf.code not in RESERVED
        # A fault of ours is what JSON-RPC calls an internal error (design §6).
        assert leaf.family not in RESERVED or leaf.family == -32603


@pytest.mark.parametrize("leaf", LEAVES)
def test_the_family_says_who_must_act(leaf: type[BasculeError]) -> None:
    families = {
        "protocol": range(-32768, -31999),
        "client": range(-19999, -10000),
        "transient": range(-29999, -20000),
        "security": range(-39999, -30000),
        "internal": range(-32603, -32602),
        "operator": range(-32603, -32602),
    }
    assert leaf.family in families[leaf.category]
    assert not leaf.retryable or leaf.category == "transient"


@pytest.mark.parametrize("leaf", LEAVES)
def test_words_of_an_error_are_for_programs(leaf: type[BasculeError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", leaf.kind)
    assert 200 <= leaf.http <= 599


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf not in (UnsupportedVersion, ConfigInvalid)])
def test_every_error_has_one_shape(leaf: type[BasculeError]) -> None:
    error = leaf("it went wrong", tool="x").at("crm")
    assert errors.to_data(error, "trace") == {
        "code": leaf.code,
        "kind": leaf.kind,
        "category": leaf.category,
        "retryable": leaf.retryable,
        "trace_id": "trace",
        "source": "crm",
        "details": {"tool": "x"} | OWN_DETAILS.get(leaf, {}),
    }


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_error_goes_on_the_wire(leaf: type[BasculeError]) -> None:
    error = made(leaf)
    assert jsonrpc.decode(Raw(jsonrpc.encode(errors.to_data(error, "t"))))["kind"] == leaf.kind
    assert error.message == str(error) or isinstance(error, ConfigInvalid)
    assert error.source == "bascule"


def test_a_wait_is_told_in_whole_milliseconds() -> None:
    error = errors.Overloaded("full")
    error.retry_after_s = 1.2345
    assert errors.to_data(error, "t")["retry_after_ms"] == 1234


def test_the_data_of_an_unsupported_version_is_also_what_the_specification_fixes() -> None:
    data = errors.to_data(made(UnsupportedVersion), "t")
    assert (data["requested"], data["supported"]) == ("1", ["2", "3"])
    assert data["kind"] == "unsupported_version"


@pytest.mark.parametrize(
    ("place", "field", "shown"),
    [
        ("b.yaml:3", "http.port", "b.yaml:3: http.port: no"),
        ("b.yaml", "", "b.yaml: no"),
        ("", "http.port", "http.port: no"),
        ("", "", "no"),
    ],
)
def test_an_invalid_configuration_names_its_place(place: str, field: str, shown: str) -> None:
    assert str(ConfigInvalid("no", place=place, field=field)) == shown
