"""Hostile input, case by case: one outcome each is allowed, and nothing of ours may show or break (docs/security.md).

The cases are in the YAML files beside this one; cases.py says what they may hold.
"""

import asyncio
import json
import logging
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import pytest
import pytest_asyncio
from gateway import until

from corpus.cases import Behind, Case, Expected, Round, Transport, built, groups, spread
from corpus.forge import Token
from corpus.grounds import (
    AGENT_KEY,
    BEARER,
    CONFIGURATIONS,
    MISBEHAVIOUR,
    SECRETS,
    TIMERS,
    Configuration,
    Ground,
    answers_still,
    bridged,
    ground,
    hurried,
    tried,
)
from corpus.wire import Answer

MIB: Final = 1 << 20
GROWTH_BYTES: Final = 64 * MIB  # that a whole group may cost
LEAST: Final = 850  # cases, and not counted by transport

# Signs of our inside in what a client, or a reader of the log, sees.
_INSIDE: Final = re.compile(rb'Traceback \(most recent|File "[^"]*\.py"|site-packages|msgspec\.|RecursionError')

_TRACE: Final = re.compile(rb'"trace_id":"([0-9a-f]{32})"')
_AUDITED: Final = "mnp"  # groups of which each call has to have its one record

CASES: Final = groups()
SPREAD: Final = list(spread(CASES))


@dataclass
class Grounds:
    """The Bascules that many cases share, started when the first of them comes."""

    stack: AsyncExitStack
    open: dict[str, Ground] = field(default_factory=dict)
    began_at_bytes: dict[str, int] = field(default_factory=dict)  # what a group began with

    async def for_case(self, case: Case, transport: Transport, alone: AsyncExitStack) -> Ground:
        """The ground for *case*; one of its own ends with *alone*."""
        configuration = CONFIGURATIONS[case.against]
        if case.alone:
            behind = case.upstream or Behind()
            found = await alone.enter_async_context(ground(configuration, behind, case.config))
        else:
            found = await self._shared(case, configuration)
        if transport == "stdio" and found.bridge is None:
            await (alone if case.alone else self.stack).enter_async_context(bridged(found))
        return found

    async def _shared(self, case: Case, configuration: Configuration) -> Ground:
        # Only what runs in this process has timers that can be changed.
        name = f"{case.against}, here" if case.timers else case.against
        if name not in self.open:
            new = ground(configuration, Behind() if case.timers else None)
            self.open[name] = await self.stack.enter_async_context(new)
        return self.open[name]

    def growth_bytes(self, group: str, place: Ground) -> int:
        """How much larger the processes are than they were when *group* began."""
        return place.rss_bytes - self.began_at_bytes.setdefault(group, place.rss_bytes)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grounds() -> AsyncIterator[Grounds]:
    async with AsyncExitStack() as stack:
        yield Grounds(stack)


# ---- the cases -----------------------------------------------------------------------------------


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("group", "case", "transport"), SPREAD, ids=[f"{case.id}-{transport}" for _, case, transport in SPREAD]
)
async def test_a_hostile_input_has_its_one_outcome(
    group: str, case: Case, transport: Transport, grounds: Grounds, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with AsyncExitStack() as alone:
        place = await grounds.for_case(case, transport, alone)
        own = case.alone
        usual = not own or place.journal is not None or bool(case.upstream and case.upstream.calls)
        await answers_still(place, transport, usual=usual)
        costs = f"{group} {case.against} {place.bridge is not None}"
        if not own:
            grounds.growth_bytes(costs, place)
        place.server.seen.clear()
        place.heard.clear()
        place.tokens.clear()
        place.traces.clear()
        caplog.clear()
        # A key of its own, or the next case, or the next transport, would be answered by this one's call.
        place = replace(place, words={**place.words, "<KEY>": f"{case.id}-{transport}-{secrets.token_hex(8)}"})

        with hurried(case.timers):
            steps: list[Round | Case] = [*case.before, case]
            for step in steps:
                await _take(place, case, step, transport)
        await answers_still(place, transport, usual=usual)
        assert len(place.calls) == case.expect.upstream_calls, f"the server was asked {place.calls}"
        await _counts(place, case.expect)
        if group[0] in _AUDITED and case.alone:
            await _recorded(place)
        for each in place.server.seen:
            reached = repr(each.headers).encode() + each.body
            for text in (BEARER, AGENT_KEY, *place.tokens, *case.expect.upstream_lacks):
                assert text.encode() not in reached, f"{text!r} reached the server"
        assert not place.fetches, f"something was fetched: {place.fetches}"
        # Pytest listens to the server library's access log, too, which Bascule has turned off.
        records = [record for record in caplog.records if record.name != "uvicorn.access"]
        said = "\n".join([*map(_whole, records), *place.heard]).encode()
        nothing_shows(said, (*place.tokens, *case.expect.log_lacks))
        place.check_alive()
        if not own:
            grown = grounds.growth_bytes(costs, place)
            assert grown < GROWTH_BYTES, f"{costs} has cost {grown / MIB:.0f} MiB"


async def _take(place: Ground, case: Case, step: Round | Case, transport: Transport) -> None:
    """One request of *case*, and what comes of it."""
    within_s = step.expect.within_s
    one = msgspec.structs.replace(case, send=step.send, expect=step.expect)
    answers = await asyncio.gather(*(tried(place, one, transport) for _ in range(step.send.at_once)))
    for answer in answers:
        nothing_shows(answer.body + repr(answer.headers).encode(), place.tokens)
        place.traces.extend(found.decode() for found in _TRACE.findall(answer.raw))
    if step.expect.tally:
        assert Counter(map(_outcome, answers)) == step.expect.tally
        assert max(answer.took_s for answer in answers) < within_s
    else:
        for answer in answers:
            judge(answer, step.expect, transport)


def _outcome(answer: Answer) -> str:
    message = answer.only_message
    if "error" in message:
        return str(message["error"]["data"]["kind"])
    if message["result"].get("isError"):
        return str(message["result"]["_meta"]["dev.bascule/error"]["kind"])
    return "result"


async def _recorded(place: Ground) -> None:
    """Fail unless the audit has, or soon has, one record for every request that was answered.

    Who is turned away at the door leaves a record without a trace.
    """

    async def look() -> tuple[list[int], int]:
        traces, turned_away = place.recorded()
        times = [traces.count(trace) for trace in place.traces]
        return sorted(times), turned_away

    await until(look, lambda found: set(found[0]) <= {0, 1} and found[0].count(0) == found[1], 3)


async def _counts(place: Ground, expected: Expected) -> None:
    """Fail unless /status says, or soon says, of the server what is *expected*."""
    if not expected.dropped and not expected.server:
        return
    members = {**expected.server, **({"dropped": expected.dropped} if expected.dropped else {})}
    await place.bascule.until("far", lambda said: all(said[name] == value for name, value in members.items()), 10)


def _whole(record: logging.LogRecord) -> str:
    return logging.Formatter("%(name)s %(levelname)s %(message)s").format(record)


def nothing_shows(said: bytes, lacks: Any = ()) -> None:
    """Fail if *said*, a body or a log, holds a secret, a stack trace, or what the case forbids."""
    assert not (found := _INSIDE.search(said)), said[max(0, found.start() - 200) :][:2000]
    for secret in (*SECRETS, *lacks):
        assert secret.encode() not in said, f"{secret!r} shows"


def judge(answer: Answer, expected: Expected, transport: Transport) -> None:
    """Fail unless *answer* is what is *expected*."""
    seen = f"{answer.status} {answer.body[:600]!r} after {answer.took_s:.2f} s"
    nothing_shows(answer.body + repr(answer.headers).encode(), expected.body_lacks)
    assert answer.took_s < expected.within_s, seen
    assert answer.closed == bool(expected.closed), seen
    if transport != "stdio" and not expected.closed:
        # Over SSE a POST that was taken is acknowledged, and its answer is on the stream.
        taken = transport == "sse" and expected.status == 200
        assert answer.status == (202 if taken else expected.status), seen
    for name, value in expected.headers.items():
        assert answer.header(name) == value, f"{name}: {answer.header(name)!r}"
    for name, value in expected.header_has.items():
        assert value in (answer.header(name) or ""), f"{name}: {answer.header(name)!r}"
    for name, value in expected.header_lacks.items():
        assert value not in (answer.header(name) or ""), f"{name}: {answer.header(name)!r}"
    assert expected.body_has.encode() in answer.body, seen
    assert expected.body_bytes_at_most is None or len(answer.body) <= expected.body_bytes_at_most, len(answer.body)
    if expected.silent:
        assert answer.body == b"", seen
    elif expected.result is not None:
        _is_result(answer.only_message, expected, seen)
    elif expected.code is not None or expected.kind is not None:
        _is_refusal(answer.only_message, expected, seen)
    if expected.id is not None:
        found = re.search(rb'"id":("[^"]*"|-?[0-9]+)', answer.raw)
        assert (found[1].decode() if found else "") == expected.id, seen


def _is_result(message: Any, expected: Expected, seen: str) -> None:
    assert isinstance(message, dict), seen
    assert "result" in message, seen
    assert expected.result is not None
    if not (expected.result.get("isError")):
        assert not message["result"].get("isError"), seen
    for name, value in expected.result.items():
        assert message["result"].get(name) == value, seen
    if expected.listed is not None:
        assert [tool["name"] for tool in message["result"]["tools"]] == list(expected.listed), seen


def _is_refusal(message: Any, expected: Expected, seen: str) -> None:
    assert isinstance(message, dict), seen
    if expected.code is not None:
        assert message.get("error", {}).get("code") == expected.code, seen
        said = message["error"].get("data", {})
    else:
        assert message.get("result", {}).get("isError") is True, seen
        said = message["result"].get("_meta", {}).get("dev.bascule/error", {})
    if expected.kind is not None:
        assert said.get("kind") == expected.kind, seen
    if expected.upstream_calls == 0:  # else the error may be the server's own
        assert {"code", "kind", "category", "retryable", "trace_id", "source"} <= set(said), seen


# ---- the files themselves ------------------------------------------------------------------------


def test_there_are_enough_cases_and_no_id_stands_twice() -> None:
    ids = [case.id for cases in CASES.values() for case in cases]
    assert len(ids) == len(set(ids))
    assert len(ids) >= LEAST


@pytest.mark.parametrize("case", [case for cases in CASES.values() for case in cases], ids=lambda case: case.id)
def test_a_case_says_what_it_is_about_and_can_be_built(case: Case) -> None:
    assert case.title.strip()
    assert case.why.strip()
    assert case.against in CONFIGURATIONS
    assert set(case.timers) <= set(TIMERS)
    assert case.upstream is None or case.upstream.does in MISBEHAVIOUR
    for piece in (case.send.body, case.send.raw):
        assert piece is None or built(piece) is not None
    assert case.send.token is None or msgspec.convert(case.send.token, Token)


@pytest.mark.parametrize(
    "outcome",
    [
        {"status": 200},
        {"status": [200, 400], "code": -32600},
        {"code": -32600, "result": {}},
        {"result": {}, "closed": True},
        {"status": 400, "result": {}},
        {"silent": True, "kind": "timeout"},
        {"status": 400, "code": -32600, "or": 1},
    ],
)
def test_an_outcome_that_leaves_a_choice_is_no_outcome(outcome: dict[str, Any]) -> None:
    with pytest.raises((msgspec.ValidationError, ValueError)):
        msgspec.convert(json.loads(json.dumps(outcome)), Expected)
