"""A stage that makes a call wait has a span for that, and none for what comes after it."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from bascule.call import Call, Forward, Result
from bascule.errors import Overloaded
from bascule.observe.traces import CallSpan, Span, Tracing
from bascule.pipeline.chain import compose
from bascule.pipeline.trace import Begin, Waits, traced
from pipeline.calls import ANSWER, Server, call

LONG_NS = 5_000_000


class Told:
    """Hears of spans, of times that a test says."""

    lost = 0

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.now_ns = 1_000
        self.tracing = Tracing(self, sample=1.0, clock=lambda: self.now_ns)

    def __call__(self, spans: Sequence[Span]) -> None:
        self.spans += spans

    def call(self, *, sampled: bool = True) -> Call:
        made = call()
        made.trip.span = CallSpan("ab" * 16, None, self.now_ns, sampled=sampled)
        return made


class Waiting:
    """A stage that takes so long, and then lets the call go, refuses it, or answers itself."""

    def __init__(self, hears: Told, nanoseconds: int, then: str = "go") -> None:
        self.hears = hears
        self.nanoseconds = nanoseconds
        self.then = then

    async def __call__(self, call: Call, forward: Forward) -> Result:
        self.hears.now_ns += self.nanoseconds
        if self.then == "refuse":
            raise Overloaded("no place")
        return ANSWER if self.then == "answer" else await forward(call)


async def spans_of(nanoseconds: int, then: str = "go", *, sampled: bool = True) -> list[Span]:
    hears = Told()

    async def server(call: Call) -> Result:
        hears.now_ns += 100 * LONG_NS
        return ANSWER

    try:
        await compose([Waits(Waiting(hears, nanoseconds, then), "queue", hears.tracing)], server)(
            hears.call(sampled=sampled)
        )
    except Overloaded:
        assert then == "refuse"
    hears.tracing.close()
    return hears.spans


async def test_a_wait_is_a_span_up_to_the_moment_when_the_call_may_go() -> None:
    (span,) = await spans_of(LONG_NS)
    assert (span.name, span.kind, span.error) == ("queue", "internal", "")
    assert span.ended_ns - span.began_ns == LONG_NS


@pytest.mark.parametrize(("then", "error"), [("refuse", "overloaded"), ("answer", "")])
async def test_a_call_that_goes_no_further_has_waited_too(then: str, error: str) -> None:
    (span,) = await spans_of(LONG_NS, then)
    assert span.error == error


async def test_a_call_that_did_not_wait_has_no_span_for_it() -> None:
    assert await spans_of(999_999) == []


async def test_nor_has_one_that_nobody_keeps() -> None:
    assert await spans_of(LONG_NS, sampled=False) == []


async def test_a_call_that_its_client_gave_up_while_it_waited_says_so() -> None:
    hears, held = Told(), asyncio.Event()

    async def holding(call: Call, forward: Forward) -> Result:
        hears.now_ns += LONG_NS
        await held.wait()
        return ANSWER

    task = asyncio.ensure_future(compose([Waits(holding, "confirm", hears.tracing)], Server())(hears.call()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hears.tracing.close()
    assert [span.error for span in hears.spans] == ["cancelled"]


async def test_a_call_has_its_span_before_anything_happens_to_it() -> None:
    hears = Told()
    seen: list[object] = []

    async def look(call: Call, forward: Forward) -> Result:
        seen.append(call.trip.span)
        return await forward(call)

    await compose([Begin(hears.tracing), look], Server())(replace(call(), trace_id="ab" * 16))
    assert isinstance(seen[0], CallSpan)
    hears.tracing.close()


def test_stages_that_do_not_wait_stay_as_they_are() -> None:
    hears = Told()
    stage = Waiting(hears, 0)
    assert traced([stage], hears.tracing) == [stage]
