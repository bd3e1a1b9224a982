"""Equal calls of a tool without a side effect are one call, and nobody gets what was answered to somebody else."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bascule.call import Call, Caller, Forward, Question, Result, Target
from bascule.contract.model import CachePolicy, Contract
from bascule.errors import TimedOut, Unavailable
from bascule.pipeline.cache import Cache, Results, Sharing, is_cached
from bascule.pipeline.chain import compose
from bascule.policy.scopes import Authority
from bascule.store.journal import Yes
from bascule.upstream.base import Upstream
from bascule.upstream.http import HttpOptions, HttpUpstream
from bascule.wire import jsonrpc
from bascule.wire.wishes import Wishes
from pipeline.calls import MODERN, Standing, settled

ROOM = 1_000_000
READS = frozenset({"crm:read"})


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Server:
    """Answers each call with a number of its own, or with what it was given; when held, once it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self.running = 0
        self.members: dict[str, Any] = {}
        self.fails: Callable[[int], Exception | None] = lambda _: None
        self.cost_usd: float | None = None
        self.refused = False
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, call: Call) -> Result:
        self.calls += 1
        number = self.calls
        self.running += 1
        try:
            await self.open.wait()
        finally:
            self.running -= 1
        error = self.fails(number)
        if error is not None:
            raise error
        value = {"content": [{"type": "text", "text": str(number)}], **self.members}
        return Result(jsonrpc.encode(value), refused=self.refused, warnings=("of one call",), cost_usd=self.cost_usd)

    def hold(self) -> None:
        self.open.clear()

    def let_go(self) -> None:
        self.open.set()


class World:
    def __init__(self, max_bytes: int = ROOM) -> None:
        self.clock = Clock()
        self.results = Results(max_bytes, self.clock)
        self.server = Server()
        self.upstream: Upstream = HttpUpstream("crm", HttpOptions(url="http://127.0.0.1:9/mcp"))

    def chain(self, contract: Contract | None = None, *, sharing: Sharing = "shared", **more: Any) -> Forward:
        stage = Cache(contract or tool(), "crm", self.results, sharing=sharing, **more)
        return compose([stage], self.server)

    def call(
        self,
        arguments: Any = None,
        *,
        caller: str = "me",
        scopes: frozenset[str] = READS,
        proof: str = "key",
        method: str = "tools/call",
        view: str = "",
        session: str = "",
        wishes: Wishes | None = None,
        **params: Any,
    ) -> Call:
        named = {"uri": "file:///a"} if method == "resources/read" else {"name": "find", "arguments": arguments or {}}
        said = {name: jsonrpc.encode(value) for name, value in {**named, **params}.items()}
        standing = Standing(session, caller)
        return Call(
            caller=Caller(caller, Authority(scopes), proof=proof),
            client=standing,
            revision=standing.revision if session else MODERN,
            method=method,
            params=said,
            session=standing if session else None,
            view=view,
            target=Target(self.upstream, said),
            wishes=wishes or Wishes(),
        )


def tool(ttl_s: int = 60, *fields: str, **members: Any) -> Contract:
    policy = CachePolicy(ttl_seconds=ttl_s, cache_key_fields=fields)
    common = {"id": "crm/find", "version": "1.0.0", "side_effect": False, "cache_policy": policy}
    return Contract(**{**common, **members})


def text_of(result: Result) -> str:
    found: str = jsonrpc.decode(result.value)["content"][0]["text"]
    return found


async def answered(forward: Forward, *calls: Call) -> list[str]:
    return [text_of(await forward(each)) for each in calls]


# ---- what is given again


async def test_an_equal_call_gets_the_same_bytes_without_a_call_until_the_time_is_over() -> None:
    world = World()
    forward = world.chain(tool(60))
    first = await forward(world.call({"a": 1, "b": 2}))
    again = world.call({"b": 2, "a": 1})
    second = await forward(again)
    assert bytes(second.value) == bytes(first.value)
    assert (world.server.calls, again.trip.cached) == (1, True)
    world.clock.now_s += 59.9
    assert await answered(forward, world.call({"a": 1, "b": 2})) == ["1"]
    world.clock.now_s += 0.1
    late = world.call({"a": 1, "b": 2})
    assert await answered(forward, late) == ["2"]
    assert not late.trip.cached


async def test_what_is_given_again_costs_nothing_and_brings_no_warning_of_another_call() -> None:
    world = World()
    world.server.cost_usd = 0.5
    forward = world.chain()
    first, second = await forward(world.call()), await forward(world.call())
    assert (first.cost_usd, first.warnings) == (0.5, ("of one call",))
    assert (second.cost_usd, second.warnings) == (0.0, ())
    world.server.cost_usd = None
    await forward(world.call({"x": 1}))
    assert (await forward(world.call({"x": 1}))).cost_usd is None


async def test_arguments_tell_calls_apart_to_the_last_digit() -> None:
    world = World()
    forward = world.chain()
    different = [{}, {"a": None}, {"a": 1}, {"a": "1"}, {"a": [1]}, {"a": 9007199254740992}, {"a": 9007199254740993}]
    assert await answered(forward, *(world.call(each) for each in different)) == list("1234567")


async def test_declared_fields_alone_tell_calls_apart_and_a_missing_one_is_no_null() -> None:
    world = World()
    forward = world.chain(tool(60, "email", "filter.region"))
    calls = [
        {"email": "a", "filter": {"region": "eu"}, "verbose": True},
        {"email": "a", "filter": {"region": "eu", "x": 1}},
        {"email": "a", "filter": {"region": "us"}},
        {"email": "b", "filter": {"region": "eu"}},
        {"email": "a", "filter": {"region": None}},
        {"email": "a", "filter": {}},
        {"email": "a", "filter": None},
        {"email": "a"},
        {"filter": {"region": "eu"}},
        {"email": "a", "filter": [{"region": "eu"}]},
        {"email": "a", "filter": [{"region": "us"}]},
        {"email": "a", "filter.region": "eu"},
    ]
    seen = await answered(forward, *(world.call(each) for each in calls))
    assert seen == ["1", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "7"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([READS, frozenset({"crm"}), frozenset({"crm:read", "hr"})]),
            st.sampled_from(["key", "token", "anonymous"]),
            st.sampled_from(["", "crm"]),
            st.dictionaries(
                st.sampled_from(["a", "b", "a.b"]), st.none() | st.integers(0, 2) | st.sampled_from(["0", ""])
            ),
        ),
        max_size=30,
    )
)
async def test_two_calls_share_a_result_only_if_all_that_matters_is_the_same(asked: list[Any]) -> None:
    world = World()
    forward = world.chain()
    first: dict[str, str] = {}
    for scopes, proof, view, arguments in asked:
        mark = repr((sorted(scopes), proof, view, sorted(arguments.items())))
        got = text_of(await forward(world.call(arguments, scopes=scopes, proof=proof, view=view)))
        assert first.setdefault(mark, got) == got
    assert len(set(first.values())) == len(first) == world.server.calls


# ---- who shares


async def test_callers_of_the_same_scopes_share_and_those_of_other_scopes_never_do() -> None:
    world = World()
    forward = world.chain()
    wide = frozenset({"crm:read", "crm:write"})
    assert await answered(forward, world.call(caller="a"), world.call(caller="b")) == ["1", "1"]
    assert await answered(forward, world.call(caller="b", scopes=wide), world.call(caller="a")) == ["2", "1"]
    bound = world.call(caller="b", scopes=wide)
    held = Authority(wide, bound=READS)
    bound = msgspec.structs.replace(bound, caller=Caller("b", held, proof="key"))
    assert await answered(forward, bound) == ["1"]  # what it comes to is the same
    assert await answered(forward, world.call(proof="anonymous")) == ["3"]


@pytest.mark.parametrize("sharing", ["per_caller", "per_session"])
async def test_where_a_process_is_not_for_everybody_nor_are_its_results(sharing: Sharing) -> None:
    world = World()
    forward = world.chain(sharing=sharing)
    assert await answered(forward, *(world.call(caller=who) for who in "abab")) == ["1", "2", "1", "2"]
    sessions = await answered(forward, *(world.call(caller="a", session=each) for each in "stst"))
    assert sessions == (["3", "4", "3", "4"] if sharing == "per_session" else ["3", "3", "3", "3"])


async def test_what_its_server_calls_private_is_for_its_caller_alone() -> None:
    world = World()
    world.server.members = {"cacheScope": "private", "ttlMs": 60_000}
    forward = world.chain()
    assert await answered(forward, *(world.call(caller=who) for who in "abab")) == ["1", "2", "1", "2"]


async def test_of_calls_at_one_time_too_nobody_gets_what_is_private_to_another() -> None:
    world = World()
    world.server.members = {"cacheScope": "private"}
    world.server.hold()
    forward = world.chain()
    tasks = [asyncio.ensure_future(forward(world.call(caller=who))) for who in "aabbcc"]
    await settled()
    assert world.server.calls == 1
    world.server.let_go()
    texts = [text_of(each) for each in await asyncio.gather(*tasks)]
    assert texts[0] == texts[1]
    assert texts[2] == texts[3]
    assert len(set(texts)) == world.server.calls == 3


async def test_a_legacy_clients_resource_is_for_its_caller_alone_because_its_hints_are_lost() -> None:
    world = World()
    forward = world.chain(tool(kind="resource"))
    asked = [world.call(caller=who, session="s", method="resources/read") for who in "abab"]
    assert await answered(forward, *asked) == ["1", "2", "1", "2"]


# ---- what ends a result


async def test_a_server_may_say_less_time_but_not_more_and_hears_of_what_is_left() -> None:
    world = World()
    forward = world.chain(tool(10))
    world.server.members = {"ttlMs": 5000, "cacheScope": "public"}
    await forward(world.call())
    world.clock.now_s += 2
    kept = jsonrpc.decode((await forward(world.call())).value)
    assert (kept["ttlMs"], kept["cacheScope"]) == (3000, "public")
    world.clock.now_s += 3
    world.server.members = {"ttlMs": 99_000}
    assert await answered(forward, world.call()) == ["2"]
    world.clock.now_s += 10
    assert await answered(forward, world.call()) == ["3"]


@pytest.mark.parametrize(
    "changed",
    [
        tool(version="1.0.1"),
        tool(input_schema={"type": "object"}),
        tool(description="It does something else now."),
        tool(30),
        tool(60, "a"),
        tool(security_scope=("crm:read",)),
    ],
)
async def test_another_version_definition_or_policy_begins_anew(changed: Contract) -> None:
    world = World()
    assert await answered(world.chain(), world.call()) == ["1"]
    assert await answered(world.chain(changed), world.call()) == ["2"]
    assert await answered(world.chain(), world.call()) == ["1"]


async def test_a_server_that_takes_the_place_of_another_of_its_name_begins_anew() -> None:
    world = World()
    forward = world.chain()
    await forward(world.call())
    world.upstream = HttpUpstream("crm", HttpOptions(url="http://127.0.0.1:9/other"))
    assert await answered(forward, world.call(), world.call()) == ["2", "2"]


async def test_cleared_is_what_was_named_and_nothing_else() -> None:
    world = World()
    find, list_ = world.chain(), world.chain(tool(id="crm/list"))
    other = compose([Cache(tool(id="hr/find"), "hr", world.results)], world.server)
    chains = (find, list_, other)

    async def all_of_them() -> list[str]:
        return [text_of(await each(world.call())) for each in chains]

    assert await all_of_them() == ["1", "2", "3"]
    assert world.results.clear(tool="crm/list") == 1
    assert await all_of_them() == ["1", "4", "3"]
    assert world.results.clear(server="crm") == 2
    assert await all_of_them() == ["5", "6", "3"]
    assert world.results.clear(server="crm", tool="hr/find") == 0
    assert world.results.clear() == 3
    assert world.results.report()["entries"] == world.results.report()["bytes"] == 0


async def test_what_was_under_way_when_it_was_cleared_is_neither_kept_nor_shared_from_then_on() -> None:
    world = World()
    world.server.hold()
    forward = world.chain()
    before = asyncio.ensure_future(forward(world.call()))
    await settled()
    world.results.clear(server="crm")
    after = asyncio.ensure_future(forward(world.call()))
    await settled()
    assert world.server.calls == 2
    world.server.let_go()
    assert [text_of(await each) for each in (before, after)] == ["1", "2"]
    assert await answered(forward, world.call()) == ["2"]


# ---- what is never kept


@pytest.mark.parametrize(
    "members",
    [
        {"isError": True},
        {"resultType": "input_required", "inputRequests": {}},
        {"resultType": "task"},
        {"ttlMs": 0},
        {"ttlMs": -5},
        {"ttlMs": "60000"},
        {"isError": "yes"},
    ],
)
async def test_errors_questions_and_what_says_so_itself_are_never_kept(members: dict[str, Any]) -> None:
    world = World()
    world.server.members = members
    forward = world.chain()
    assert await answered(forward, world.call(), world.call()) == ["1", "2"]
    world.server.members = {}
    assert await answered(forward, world.call(), world.call()) == ["3", "3"]


async def test_a_json_rpc_error_and_an_error_of_ours_are_never_kept() -> None:
    world = World()
    forward = world.chain()
    world.server.refused = True
    assert (await forward(world.call())).refused
    world.server.refused = False
    world.server.fails = lambda number: Unavailable("is down") if number == 2 else None
    with pytest.raises(Unavailable):
        await forward(world.call())
    assert await answered(forward, world.call(), world.call()) == ["3", "3"]


@pytest.mark.parametrize(
    "said",
    [
        {"requestState": "abc"},
        {"inputResponses": {}},
        {"task": {"ttl": 1000}},
        {"anything": 1},
        {"wishes": Wishes(key="k" * 16)},
        {"wishes": Wishes(token="t")},
        {"method": "completion/complete"},
        {"method": "resources/subscribe", "uri": "file:///a"},
    ],
)
async def test_continuations_and_calls_of_their_own_kind_are_always_made(said: dict[str, Any]) -> None:
    world = World()
    forward = world.chain()
    assert await answered(forward, world.call(**said), world.call(**said)) == ["1", "2"]
    assert await answered(forward, world.call()) == ["3"]
    assert world.results.report()["entries"] == 1


async def test_what_the_check_of_results_holds_back_is_not_kept() -> None:
    world = World()
    forward = world.chain(is_sound=lambda result: text_of(result) != "1")
    assert await answered(forward, *(world.call() for _ in range(3))) == ["1", "2", "2"]


async def test_what_a_server_might_read_in_meta_tells_calls_apart_and_traces_do_not() -> None:
    world = World()
    forward = world.chain()

    def stamped(**meta: Any) -> Call:
        return world.call(_meta=meta)

    trace = {"traceparent": "00-1-2-01", "io.modelcontextprotocol/clientInfo": {}, "progressToken": 7}
    assert await answered(forward, world.call(), stamped(**trace), stamped(tenant="a")) == ["1", "1", "2"]
    assert await answered(forward, stamped(tenant="b"), stamped(tenant="a", **trace)) == ["3", "2"]


async def test_arguments_that_python_cannot_read_are_the_servers_business() -> None:
    world = World()
    forward = world.chain()
    call = world.call()
    odd = msgspec.structs.replace(call, params={**call.params, "arguments": Raw(b'{"a":1e400}')})
    assert await answered(forward, odd, odd) == ["1", "2"]


async def test_a_call_that_a_person_is_asked_about_neither_gets_nor_leaves_a_result() -> None:
    world = World()
    forward = world.chain()
    asked = msgspec.structs.replace(world.call(), question=Question("confirm_gate", "Really?"))
    said = msgspec.structs.replace(world.call(), yes=Yes(id="y", caller="me", thing="", pin=b"", fingerprint=b""))
    assert await answered(forward, asked, world.call(), asked, said, world.call()) == ["1", "2", "3", "4", "2"]


def test_only_what_has_a_policy_and_no_side_effect_is_cached() -> None:
    assert is_cached(tool())
    assert not is_cached(tool(cache_policy=None))
    assert not is_cached(tool(side_effect=True))
    assert not is_cached(tool(require_key=True))


# ---- one call for all


async def test_a_hundred_equal_calls_at_one_time_are_one_call() -> None:
    world = World()
    world.server.hold()
    forward = world.chain()
    calls = [world.call(caller=f"caller-{number % 7}") for number in range(100)]
    tasks = [asyncio.ensure_future(forward(each)) for each in calls]
    await settled()
    assert (world.server.calls, world.server.running) == (1, 1)
    world.server.let_go()
    assert {text_of(each) for each in await asyncio.gather(*tasks)} == {"1"}
    assert [each.trip.cached for each in calls] == [False, *[True] * 99]
    report = world.results.report()
    assert (report["misses"], report["shared"], report["hits"]) == (1, 99, 0)
    assert world.results.flights == {}


async def test_when_the_one_that_makes_the_call_goes_away_the_next_takes_over() -> None:
    world = World()
    world.server.hold()
    forward = world.chain()
    tasks = [asyncio.ensure_future(forward(world.call())) for _ in range(10)]
    await settled()
    for leader in range(3):
        tasks[leader].cancel()
        await settled()
        assert world.server.calls == leader + 2
        assert world.server.running == 1
    world.server.let_go()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in results[:3]] == [asyncio.CancelledError] * 3
    assert {text_of(each) for each in results[3:] if isinstance(each, Result)} == {"4"}


async def test_who_waits_may_leave_and_disturbs_nobody() -> None:
    world = World()
    world.server.hold()
    forward = world.chain()
    tasks = [asyncio.ensure_future(forward(world.call())) for _ in range(4)]
    await settled()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await forward(world.call())
    tasks[2].cancel()
    await settled()
    assert world.server.running == 1
    world.server.let_go()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [text_of(each) for each in results if isinstance(each, Result)] == ["1", "1", "1"]


async def test_a_failure_is_its_own_callers_and_the_others_get_an_answer() -> None:
    world = World()
    world.server.hold()
    world.server.fails = lambda number: TimedOut("no answer") if number == 1 else None
    forward = world.chain()
    tasks = [asyncio.ensure_future(forward(world.call())) for _ in range(10)]
    await settled()
    world.server.let_go()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], TimedOut)
    assert {text_of(each) for each in results[1:] if isinstance(each, Result)} == {"2"}


async def test_nobody_stands_in_line_behind_failure_after_failure() -> None:
    world = World()
    world.server.fails = lambda _: TimedOut("no answer")
    forward = world.chain()
    most = 0

    async def watched(call: Call) -> Result:
        nonlocal most
        most = max(most, world.server.running)
        return await forward(call)

    world.server.hold()
    tasks = [asyncio.ensure_future(watched(world.call())) for _ in range(10)]
    rounds = 0
    while not all(each.done() for each in tasks):
        rounds += 1
        world.server.open.set()
        world.server.open.clear()
        await settled()
    assert rounds <= 4
    assert world.server.calls == 10


async def test_an_answer_that_cannot_be_shared_sends_all_others_on_their_way_at_once() -> None:
    world = World()
    world.server.members = {"isError": True}
    world.server.hold()
    forward = world.chain()
    tasks = [asyncio.ensure_future(forward(world.call())) for _ in range(10)]
    await settled()
    world.server.open.set()
    world.server.open.clear()
    await settled()
    assert world.server.running == 9
    world.server.let_go()
    assert len({text_of(each) for each in await asyncio.gather(*tasks)}) == 10


async def test_a_client_that_wants_progress_waits_for_no_other_call_but_may_have_what_is_kept() -> None:
    world = World()
    world.server.hold()
    forward = world.chain()
    tasks = [asyncio.ensure_future(forward(world.call(_meta={"progressToken": n}))) for n in range(3)]
    await settled()
    assert world.server.running == 3
    world.server.let_go()
    assert [text_of(each) for each in await asyncio.gather(*tasks)] == ["1", "2", "3"]
    assert await answered(forward, world.call(_meta={"progressToken": 9})) == ["1"]


# ---- room


async def test_what_was_used_least_of_late_makes_room_and_is_counted() -> None:
    world = World(max_bytes=20_000)
    world.server.members = {"filling": "x" * 1200}
    forward = world.chain()
    await answered(forward, *(world.call({"n": number}) for number in range(10)))
    assert await answered(forward, world.call({"n": 0})) == ["1"]
    await forward(world.call({"n": 10}))
    report = world.results.report()
    assert report["bytes"] <= report["max_bytes"] == 20_000
    assert report["evictions"] == 11 - report["entries"] > 0
    assert await answered(forward, world.call({"n": 0})) == ["1"]
    assert await answered(forward, world.call({"n": 1})) == ["12"]
    assert report["tools"] == [{**report["tools"][0], "tool": "crm/find", "server": "crm", "bytes": report["bytes"]}]


async def test_no_single_result_takes_the_room_of_all_others() -> None:
    world = World(max_bytes=20_000)
    forward = world.chain()
    await forward(world.call())
    world.server.members = {"filling": "x" * 2500}
    assert await answered(forward, world.call({"n": 1}), world.call({"n": 1})) == ["2", "3"]
    assert world.results.report()["entries"] == 1


async def test_counters_of_names_that_callers_make_up_are_bounded_too() -> None:
    world = World(max_bytes=20_000)
    for number in range(10_100):
        await compose([Cache(tool(id=f"crm/{number}"), "crm", world.results)], world.server)(world.call())
    report = world.results.report()
    assert len(report["tools"]) <= 10_000
    assert sum(each["entries"] for each in report["tools"]) == report["entries"] > 0


async def test_what_is_over_takes_no_room() -> None:
    world = World()
    forward = world.chain(tool(5))
    await answered(forward, *(world.call({"n": number}) for number in range(5)))
    assert world.results.report()["entries"] == 5
    world.clock.now_s += 5
    report = world.results.report()
    assert (report["entries"], report["bytes"], report["evictions"]) == (0, 0, 0)


async def test_room_can_be_made_smaller_and_larger_while_it_is_used() -> None:
    world = World(max_bytes=200_000)
    world.server.members = {"filling": "x" * 1000}
    forward = world.chain()
    await answered(forward, *(world.call({"n": number}) for number in range(50)))
    before = world.results.report()
    world.results.adopt(20_000)
    after = world.results.report()
    assert (before["entries"], after["max_bytes"]) == (50, 20_000)
    assert 0 < after["entries"] < 50
    assert after["bytes"] <= 20_000
    assert after["evictions"] == 50 - after["entries"]
    world.results.adopt(200_000)
    assert world.results.report()["entries"] == after["entries"]
    assert world.results.report()["bytes"] == after["bytes"]
