"""Group G: no path leads out of the folder of a pack, with any tool, and nothing of ours shows (docs/security.md)."""

import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from gateway import Json

from corpus.cases import built
from corpus.ground_paths import ALL, CANARY, OUTSIDE, ROUND, USES, Case, Expected, Ground, ground, read

CASES: Final = read("g_paths.yaml")
LEAST: Final = 80
WITHIN_S: Final = 2.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with ground(tmp_path_factory.mktemp("paths")) as found:
        yield found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
async def test_a_path_has_its_one_outcome_with_every_tool(
    case: Case, place: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pids = await place.pids()
    with place.laid(case):
        before = place.trees()
        for what, answer, took_s in [each async for each in tried(case, place)]:
            judge(what, answer, case, place)
            assert took_s < WITHIN_S, what
        assert place.trees() == before
    good = await place.call("read_file", {"path": "a.txt"})
    assert good["result"]["structuredContent"]["content"] == "inside"
    assert await place.pids() == pids
    assert CANARY not in caplog.text
    assert "Traceback" not in caplog.text


async def tried(case: Case, place: Ground) -> AsyncIterator[tuple[str, Json, float]]:
    """(what was tried, the answer, how long it took) for every use that *case* has of its path."""
    if case.uri or case.tool:
        began = time.monotonic()
        uri = place.worded(case.uri)
        yield "", await (place.read(uri) if uri else place.call(case.tool, {})), time.monotonic() - began
        return
    path = place.worded(built(case.path).decode("utf-8", "surrogatepass"))
    for use in ROUND if "round" in case.over else case.over:
        tool, arguments = USES[use]
        said = {
            name: value.replace("<PATH>", path) if isinstance(value, str) else value
            for name, value in arguments.items()
        }
        began = time.monotonic()
        yield use, await place.call(tool, said), time.monotonic() - began


def judge(use: str, answer: Json, case: Case, place: Ground) -> None:
    """Fail unless *answer* is the one outcome of *case*."""
    seen = f"{use}: {json.dumps(answer, ensure_ascii=False)[:2000]}"
    assert CANARY not in seen
    assert str(place.top) not in seen.replace(place.worded(case.uri or str(case.path)), ""), seen
    if case.expect.code is not None:
        assert answer["error"]["code"] == case.expect.code, seen
        return
    result = answer["result"]
    if use == "list" and "round" in case.over:
        assert "is no folder" in result["content"][0]["text"], seen
    elif case.expect.result is not None:
        assert not result.get("isError"), seen
        _holds(result["structuredContent"], case)
    else:
        assert result.get("isError") is True, seen
        kind = result["_meta"].get("dev.bascule/error", {}).get("kind", "")
        assert kind == case.expect.kind, seen
        said = OUTSIDE if case.expect.says == "outside" else case.expect.says
        assert said in result["content"][0]["text"], seen


def _holds(result: Any, case: Case) -> None:
    assert case.expect.result is not None
    path = case.expect.result["path"]
    assert path in (result["path"], result.get("moved_to"))


def test_there_are_enough_cases_and_each_says_what_it_is_about() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= LEAST
    assert all(case.title.strip() and case.why.strip() for case in CASES)
    assert set(ALL) <= {use for case in CASES for use in case.over}


@pytest.mark.parametrize("outcome", [{}, {"says": "x", "kind": "y"}, {"result": {}, "code": 1}])
def test_an_outcome_that_leaves_a_choice_is_no_outcome(outcome: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one of"):
        Expected(**outcome)
