"""What an answer to the probe says of a server's era (MCP 2026-07-28, "Backward Compatibility")."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bascule.call import Result
from bascule.errors import Unavailable
from bascule.upstream.verdict import era_told_by
from bascule.wire import jsonrpc, modern
from bascule.wire.versions import LEGACY_VERSIONS, MODERN_VERSIONS, Era


def offering(versions: Any) -> Result:
    return Result(jsonrpc.encode({"supportedVersions": versions, "capabilities": {}}))


def refusing(code: int, message: str = "no", **facts: Any) -> Result:
    return Result(jsonrpc.encode({"code": code, "message": message, "data": facts}), refused=True)


@pytest.mark.parametrize("also", [[], ["2025-11-25"], ["2099-01-01", 7, None, {}]])
def test_a_discovery_that_names_our_version_is_modern_whatever_else_it_names(also: list[Any]) -> None:
    assert era_told_by(offering([*also, MODERN_VERSIONS[0]])) is Era.MODERN


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
def test_a_discovery_of_old_versions_alone_asks_for_the_handshake(version: str) -> None:
    assert era_told_by(offering([version, "2024-01-01"])) is Era.LEGACY


@pytest.mark.parametrize("versions", [None, "2026-07-28", [], {}, 7])
def test_a_result_without_versions_is_no_discovery(versions: Any) -> None:
    assert era_told_by(offering(versions)) is Era.LEGACY


def test_a_result_that_python_cannot_hold_is_no_discovery() -> None:
    assert era_told_by(Result(Raw(b'{"supportedVersions":[1e999999]}'))) is Era.LEGACY


@pytest.mark.parametrize("answer", [offering(["2099-01-01"]), refusing(-32022, supported=["2099-01-01"])])
def test_a_modern_server_without_a_version_of_ours_is_out_of_reach_and_says_why(answer: Result) -> None:
    with pytest.raises(Unavailable, match="2099-01-01"):
        era_told_by(answer)


@pytest.mark.parametrize("facts", [{}, {"supported": None}, {"supported": "2026-07-28"}, {"supported": []}])
def test_a_refused_version_without_an_alternative_is_no_reason_for_a_handshake(facts: dict[str, Any]) -> None:
    with pytest.raises(Unavailable):
        era_told_by(refusing(-32022, **facts))


def test_the_versions_that_a_refusal_names_decide() -> None:
    assert era_told_by(refusing(-32022, supported=["2099-01-01", MODERN_VERSIONS[0]])) is Era.MODERN
    assert era_told_by(refusing(-32022, supported=list(LEGACY_VERSIONS))) is Era.LEGACY


@pytest.mark.parametrize("code", [-32020, -32021])
def test_only_a_modern_server_knows_these_errors(code: int) -> None:
    assert era_told_by(refusing(code)) is Era.MODERN


@given(st.integers(-40_000, 40_000).filter(lambda code: code not in modern.ERROR_CODES), st.text())
def test_any_other_error_asks_for_the_handshake_whatever_it_says(code: int, message: str) -> None:
    assert era_told_by(refusing(code, message)) is Era.LEGACY
