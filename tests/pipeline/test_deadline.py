"""Limits of time, on the clock of a loop that is moved by hand: nothing here waits."""

import asyncio
import json
import timeit
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from bascule.call import Call, Forward, Result, Target
from bascule.contract.model import Contract
from bascule.errors import BasculeError, TimedOut
from bascule.pipeline.chain import compose
from bascule.pipeline.deadline import HARDEST_S, Deadline
from bascule.wire.wishes import DEADLINE_META, Wishes
from pipeline.calls import ANSWER, call


class Skipping(asyncio.SelectorEventLoop):
    """A loop whose clock goes on to the next timer as soon as nothing else is left to do."""

    def __init__(self) -> None:
        super().__init__()
        self._skipped_s = 0.0

    def time(self) -> float:
        return getattr(self, "_skipped_s", 0.0)

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]  # asyncio's own, which typeshed leaves out
            self._skipped_s = max(self._skipped_s, self._scheduled[0].when())  # type: ignore[attr-defined]  # as above
        super()._run_once()  # type: ignore[misc]  # as above


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    def run(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=Skipping) as runner:
            runner.run(work)

    return run


class Person:
    """A client that thinks for *thinks_s* over each question."""

    def __init__(self, thinks_s: float = 0.0) -> None:
        self.thinks_s = thinks_s
        self.heard: list[str] = []

    def notify(self, method: str, params: Any) -> None:
        self.heard.append(method)

    async def ask(self, method: str, params: Any) -> Result:
        await asyncio.sleep(self.thinks_s)
        return ANSWER


class Upstream:
    name = "it"


def contract(max_timeout_seconds: float | None) -> Contract:
    return Contract(id="it/work", max_timeout_seconds=max_timeout_seconds)


def made(
    client: Any = None, *, max_timeout_seconds: float | None = None, wish_s: float | None = None, meta: Any = None
) -> Call:
    params = {"name": Raw(b'"work"'), "extra": Raw(b"1.0")}
    if meta is not None:
        params["_meta"] = Raw(json.dumps(meta).encode())
    return msgspec.structs.replace(
        call(contract=contract(max_timeout_seconds)),
        client=client or Person(),
        params=params,
        target=Target(Upstream(), params),  # type: ignore[arg-type]  # its name is all that is looked at
        wishes=Wishes(deadline_s=wish_s),
    )


def limited(server: Forward, idle_s: float = 60.0, before: float = 0.0) -> Forward:
    """Both stages around *server*, and a queue of *before* seconds between them."""
    deadline = Deadline(lambda: {"it": idle_s})

    async def queue(call: Call, forward: Forward) -> Result:
        await asyncio.sleep(before)
        return await forward(call)

    return compose([deadline.whole, queue, deadline], server)


async def silence(call: Call) -> Result:
    await asyncio.sleep(1e6)
    return ANSWER


async def outcome(forward: Forward, call: Call) -> tuple[float, TimedOut | Result]:
    """After how long the call ended, and how."""
    began = asyncio.get_running_loop().time()
    try:
        found: Any = await forward(call)
    except TimedOut as error:
        found = error
    return round(asyncio.get_running_loop().time() - began, 1), found


def working(for_s: float, every_s: float) -> Forward:
    """A server that reports progress as often, and answers at the end."""

    async def work(call: Call) -> Result:
        loop = asyncio.get_running_loop()
        until = loop.time() + for_s
        while loop.time() < until - 0.01:
            await asyncio.sleep(every_s)
            call.client.notify("notifications/progress", {})
        return ANSWER

    return work


def test_a_silent_server_is_given_up_after_its_time(run: Any) -> None:
    async def main() -> None:
        took_s, error = await outcome(limited(silence, idle_s=60), made())
        assert 60 <= took_s < 60.3
        assert isinstance(error, TimedOut)
        assert error.details == {"limit": "server", "seconds": 60}
        assert "servers.it.call_timeout_s" in error.message
        assert error.source == "it"
        assert not error.retryable

    run(main())


def test_progress_begins_the_time_anew_and_reaches_the_client(run: Any) -> None:
    async def main() -> None:
        client = Person()
        took_s, found = await outcome(limited(working(300, every_s=50)), made(client))
        assert (took_s, found) == (300, ANSWER)
        assert client.heard == ["notifications/progress"] * 6

    run(main())


def test_a_drip_of_progress_does_not_move_the_hard_limit(run: Any) -> None:
    async def main() -> None:
        took_s, error = await outcome(limited(working(1e6, every_s=50)), made())
        assert HARDEST_S <= took_s < HARDEST_S + 0.3
        assert isinstance(error, TimedOut)
        assert error.details["limit"] == "hardest"

    run(main())


def test_the_limit_of_the_contract_holds_despite_progress(run: Any) -> None:
    async def main() -> None:
        took_s, error = await outcome(limited(working(1e6, every_s=5)), made(max_timeout_seconds=30))
        assert 30 <= took_s < 30.3
        assert isinstance(error, TimedOut)
        assert error.details == {"limit": "contract", "seconds": 30}
        assert "max_timeout_seconds" in error.message

    run(main())


def test_a_person_may_think_longer_than_a_server_may_be_silent(run: Any) -> None:
    async def main() -> None:
        async def asking(call: Call) -> Result:
            return await call.client.ask("elicitation/create", {})

        took_s, found = await outcome(limited(asking, idle_s=60), made(Person(180)))
        assert (took_s, found) == (180, ANSWER)
        took_s, error = await outcome(limited(asking, idle_s=60), made(Person(1000)))
        assert isinstance(error, TimedOut)
        assert error.details["limit"] == "hardest"

    run(main())


def test_after_the_answer_the_server_has_its_time_again(run: Any) -> None:
    async def main() -> None:
        async def asking(call: Call) -> Result:
            await call.client.ask("elicitation/create", {})
            return await silence(call)

        took_s, error = await outcome(limited(asking, idle_s=60), made(Person(180)))
        assert 240 <= took_s < 240.3
        assert isinstance(error, TimedOut)

    run(main())


def test_waiting_in_a_queue_counts_for_the_caller_alone(run: Any) -> None:
    async def main() -> None:
        took_s, found = await outcome(limited(working(50, every_s=50), idle_s=60, before=100), made())
        assert (took_s, found) == (150, ANSWER)
        took_s, error = await outcome(limited(working(50, every_s=50), before=100), made(wish_s=120))
        assert 120 <= took_s < 120.3
        assert isinstance(error, TimedOut)
        assert error.details == {"limit": "caller", "seconds": 120}

    run(main())


def test_the_callers_time_runs_from_the_arrival(run: Any) -> None:
    async def main() -> None:
        late = made(wish_s=20)
        late.trip.due = asyncio.get_running_loop().time() + 5  # the rim says when it came
        took_s, error = await outcome(limited(silence), late)
        assert 5 <= took_s < 5.3
        assert isinstance(error, TimedOut)

    run(main())


def test_a_server_is_told_what_is_left_of_what_the_caller_gave(run: Any) -> None:
    async def main() -> None:
        seen: list[Call] = []

        async def server(call: Call) -> Result:
            seen.append(call)
            return ANSWER

        asked = made(wish_s=20, meta={"dev.example/x": [1, None]})
        await limited(server, before=5)(asked)
        assert seen[0].target
        params = {name: json.loads(bytes(raw)) for name, raw in seen[0].target.params.items()}
        assert params == {"name": "work", "extra": 1.0, "_meta": {"dev.example/x": [1, None], DEADLINE_META: 14950}}
        assert seen[0].trip.due is not None

        await limited(server, before=5)(made(wish_s=500, max_timeout_seconds=30))
        assert seen[1].target
        assert json.loads(bytes(seen[1].target.params["_meta"])) == {DEADLINE_META: 29950}

        plain = made()
        await limited(server)(plain)
        assert seen[2].target is plain.target, "who said nothing is passed on as it came"

    run(main())


def test_the_trip_says_until_when_attempts_make_sense(run: Any) -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        due: list[float | None] = []

        async def server(call: Call) -> Result:
            due.append(call.trip.due and call.trip.due - now())
            return ANSWER

        for each in (made(), made(max_timeout_seconds=30), made(wish_s=20, max_timeout_seconds=30)):
            await limited(server)(each)
        assert due == [HARDEST_S, 30, 20]

    run(main())


def test_only_the_servers_own_time_is_its_failure(run: Any) -> None:
    async def main() -> None:
        for asked, overdue in ((made(), True), (made(max_timeout_seconds=30), True), (made(wish_s=20), False)):
            await outcome(limited(silence), asked)
            assert asked.trip.overdue is overdue

    run(main())


def test_a_client_that_gives_up_is_not_told_that_time_is_over(run: Any) -> None:
    async def main() -> None:
        async def stubborn(call: Call) -> Result:
            try:
                await asyncio.sleep(1e6)
            finally:
                await asyncio.sleep(1)  # it takes a while to end, and is cancelled from elsewhere meanwhile
            return ANSWER

        task = asyncio.ensure_future(limited(stubborn, idle_s=10)(made()))
        await asyncio.sleep(10.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_both_limits_at_once_are_the_callers(run: Any) -> None:
    async def main() -> None:
        took_s, error = await outcome(limited(silence, idle_s=30), made(wish_s=30))
        assert 30 <= took_s < 30.3
        assert isinstance(error, BasculeError)

    run(main())


def test_a_call_without_any_limit_of_its_own_pays_microseconds(run: Any) -> None:
    async def main() -> None:
        async def server(call: Call) -> Result:
            return ANSWER

        asked = made()
        bare, whole = server, limited(server)

        async def cost_us(forward: Forward) -> float:
            began = timeit.default_timer()
            for _ in range(100):
                await forward(asked)
            return (timeit.default_timer() - began) / 100 * 1e6

        least = min([await cost_us(whole) for _ in range(100)]) - min([await cost_us(bare) for _ in range(100)])
        assert least < 15, f"{least:.2f} µs"  # a few; the bound is wide, because a test machine is busy

    run(main())
