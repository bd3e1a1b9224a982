"""Group L: a file that is a bomb is refused in a sentence, in time, and harms nobody (docs/security.md)."""

import logging
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from corpus.ground_bombs import MIB, Case, Ground, ground, read, rss_bytes

CASES: Final = read("l_bombs.yaml")
LEAST: Final = 50
GROWTH_BYTES: Final = 64 * MIB  # of the gateway, and of the pack

pytest.importorskip("pdfplumber", reason="bascule[office] is not installed")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with ground(tmp_path_factory.mktemp("bombs")) as found:
        assert await found.good()
        yield found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
async def test_a_bomb_has_its_one_outcome_and_harms_nobody(
    case: Case, place: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pids = await place.pids()
    with place.laid(case):
        own, before = rss_bytes("self"), [rss_bytes(pid) for pid in pids]
        began = time.monotonic()
        result = await place.ask(case)
        took_s = time.monotonic() - began
    text = result["content"][0]["text"]
    assert "Traceback" not in text
    if case.expect.says:
        assert result.get("isError") is True, text[:500]
        assert case.expect.says in text
        assert "dev.bascule/error" not in result.get("_meta", {}), text  # the tool said it: nothing broke
    else:
        assert not result.get("isError"), text
        assert (case.expect.result or {}).items() <= result["structuredContent"].items(), text[:500]
    assert took_s < case.within_s, took_s
    assert await place.pids() == pids
    assert await place.alone()
    assert rss_bytes("self") - own < GROWTH_BYTES
    assert all(rss_bytes(pid) - size < GROWTH_BYTES for pid, size in zip(pids, before, strict=True))
    assert await place.good()
    assert "Traceback" not in caplog.text


def test_there_are_as_many_cases_as_there_were() -> None:
    assert len(CASES) >= LEAST
    assert len({case.id for case in CASES}) == len(CASES)
