"""Group F: a tool that reads does nothing else, on either engine, and the answer comes in time (docs/security.md)."""

import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
import pytest_asyncio

from corpus.cases import built
from corpus.ground_sql import RSS_AT_MOST_BYTES, Case, Engine, Expected, Ground, ground, read, rss_bytes
from packs.database.postgres import Postgres, is_installed, postgres

CASES: Final = read("f_sql.yaml")
SPREAD: Final = [(case, engine) for case in CASES for engine in case.expect]
LEAST: Final = 130


@contextmanager
def _server() -> Iterator[Postgres | None]:
    if not is_installed():
        yield None
        return
    with postgres() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    with _server() as server:
        async with ground(tmp_path_factory.mktemp("sql"), server) as found:
            yield found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("case", "engine"), SPREAD, ids=[f"{case.id}-{engine}" for case, engine in SPREAD])
async def test_a_statement_has_its_one_outcome_and_changes_nothing(
    case: Case, engine: Engine, place: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    if engine != "sqlite" and place.server is None:
        pytest.skip("PostgreSQL is not installed here (Debian: apt-get install postgresql)")
    caplog.set_level(logging.INFO)
    before, pids = await place.digest(engine), await place.pids(engine) if engine != "bare" else []
    query = built(case.query).decode()
    began = time.monotonic()
    result = await place.ask(engine, query)
    took_s = time.monotonic() - began
    judge(result, case.expect[engine], f"{engine}: {json.dumps(result, ensure_ascii=False)[:1500]}")
    assert took_s < case.within_s, took_s
    assert await place.digest(engine) == before
    good = await place.ask(engine, "SELECT count(*) AS n FROM customers WHERE tier = 'vip'")
    assert good["structuredContent"]["row_count"] == 1
    if engine != "bare":
        assert await place.pids(engine) == pids
        assert all(rss_bytes(pid) < RSS_AT_MOST_BYTES for pid in pids)
    assert "Traceback" not in caplog.text


def judge(result: Any, expected: Expected, seen: str) -> None:
    """Fail unless *result* is what is *expected*."""
    if expected.says or expected.kind:
        assert result.get("isError") is True, seen
        kind = result.get("_meta", {}).get("dev.bascule/error", {}).get("kind", "")
        assert kind == expected.kind, seen
        text = result["content"][0]["text"]
        assert expected.says in text, seen
        assert "Traceback" not in text, seen
        return
    assert not result.get("isError"), seen
    found = result["structuredContent"]
    assert found["truncated"] == expected.truncated, seen
    assert bool(found["note"]) == expected.truncated, seen
    if expected.rows is not None:
        assert found["rows"] == expected.rows, seen
    else:
        assert found["row_count"] == len(found["rows"]) == expected.row_count, seen


def test_there_are_enough_cases_and_each_says_what_it_is_about() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    assert len(SPREAD) >= LEAST
    assert all(case.title.strip() and case.why.strip() and case.expect for case in CASES)


@pytest.mark.parametrize("outcome", [{}, {"says": "x", "kind": "y"}, {"rows": [], "row_count": 1}])
def test_an_outcome_that_leaves_a_choice_is_no_outcome(outcome: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one of"):
        Expected(**outcome)
