"""The audit by REST: found page by page, opened by trace, verified one look at a time, while it is written."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from gateway import Bascule, Headers, Json, gateway, local
from governed import credentials

from auditing import call, hands, recorded, rows
from bascule.admin import audit
from bascule.admin.audit import Filters, Log, Part, SearchTooLong
from bascule.admin.verification import Verification
from bascule.store import anchor

LENGTH = 120


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """Every third call was refused, every fourth is of another tool; one has begun and not ended."""
    folder = tmp_path / "state"
    records = [
        call(
            number,
            decision="deny" if number % 3 == 0 else "allow",
            thing="hr/list" if number % 4 == 0 else "crm/create_lead",
            note='it says "decision":"deny", and is none' if number % 3 else "",
        )
        for number in range(1, LENGTH)
    ]
    await recorded(folder, [*records, call(LENGTH, kind="intent", outcome="", decision="")])
    return folder


def part(state: Path, most: int = 10, *, intents: bool = False, longest_s: float = 15.0, **said: Any) -> Part:
    cursor = {name: said.pop(name) for name in ("before", "after") if name in said}
    with Log(state) as log:
        return log.part(Filters(**said), most, intents=intents, longest_s=longest_s, **cursor)


def numbers(found: Part) -> list[int]:
    return [each.seq for each in found.entries]


# ---- page by page


def test_pages_follow_each_other_without_a_gap_both_ways(state: Path) -> None:
    seen: list[int] = []
    found = part(state, 50)
    assert not found.has_newer
    while True:
        seen += numbers(found)
        if not found.has_older:
            break
        found = part(state, 50, before=seen[-1])
        assert found.has_newer
    assert seen == list(range(LENGTH, 0, -1))
    back = part(state, 50, after=20)
    assert (numbers(back), back.has_newer, back.has_older) == (list(range(70, 20, -1)), True, True)
    assert numbers(part(state, 50, after=100)) == numbers(part(state, 50)), "near the end, the newest"


def test_a_filter_finds_all_that_fits_and_nothing_else(state: Path) -> None:
    denied = part(state, LENGTH, decision="deny")
    assert numbers(denied) == [number for number in range(LENGTH, 0, -1) if number % 3 == 0 and number < LENGTH]
    assert numbers(part(state, LENGTH, thing="hr/*"))[0] == LENGTH - 4
    both = part(state, 5, decision="deny", thing="hr/list")
    assert (numbers(both), both.has_older) == ([108, 96, 84, 72, 60], True)
    assert numbers(part(state, trace=f"{7:032x}")) == [7]


async def test_intents_of_calls_that_have_ended_stand_aside_until_they_are_wanted(tmp_path: Path) -> None:
    begun = [call(number, kind="intent", outcome="", decision="") for number in (1, 2)]
    await recorded(tmp_path / "s", [*begun, call(1)])
    assert numbers(part(tmp_path / "s")) == [3, 2]
    assert numbers(part(tmp_path / "s", intents=True)) == [3, 2, 1]


def test_a_search_that_takes_too_long_ends_and_says_what_to_do(state: Path) -> None:
    for number in range(7):  # so that SQLite looks at the clock at least once
        hands(state, f"INSERT INTO audit SELECT seq + {LENGTH * 2**number}, at_us, kind, trace_id, call, caller, thing,"
                     " outcome, entry, hash FROM audit")  # fmt: skip
    with pytest.raises(SearchTooLong, match="shorter time"):
        part(state, outcome="nothing", longest_s=-1)


def test_a_state_folder_without_an_audit_is_empty(tmp_path: Path) -> None:
    assert part(tmp_path) == Part([], has_newer=False, has_older=False)


@pytest.mark.parametrize(
    ("said", "seconds"), [("2h", 1_000_000 - 7200), ("1970-01-02T00:00Z", 86_400), ("1970-01-02", 86_400)]
)
def test_times_are_how_long_ago_or_a_date(said: str, seconds: int) -> None:
    assert audit.moment_us(said, 1_000_000.0) == seconds * 1_000_000


@pytest.mark.parametrize("said", ["soon", "2026-13-01", "-1h", "9" * 9 + "w" * 2])
def test_what_is_no_time_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="such as 2h"):
        audit.moment_us(said, 0.0)


# ---- one look at a time


async def test_who_asks_while_a_look_goes_on_gets_that_one(state: Path) -> None:
    verification = Verification(state, state / anchor.FILE)
    assert verification.report()["state"] == "never"
    look = verification.begin("ann")
    assert verification.begin("bob") is look
    await verification.ended(look)
    report = verification.report()
    assert (report["state"], report["by"], report["entries"], report["of"]) == ("done", "ann", LENGTH, LENGTH)
    assert report["verdict"]["ok"]
    again = verification.begin("bob")
    assert again is not look
    await verification.ended(again)


async def test_a_look_that_cannot_be_taken_says_why(state: Path) -> None:
    (state / anchor.FILE).unlink()
    (state / anchor.FILE).mkdir()
    verification = Verification(state, state / anchor.FILE)
    await verification.ended(verification.begin("ann"))
    report = verification.report()
    assert (report["state"], report["verdict"]) == ("failed", None)
    assert anchor.FILE in report["error"]


# ---- by REST


async def asked(bascule: Bascule, path: str, body: Json | None = None, shown: Headers | None = None) -> tuple[int, Any]:
    """(status, JSON): a POST where there is a *body*."""
    if body is None:
        return await bascule.get(path, shown)
    async with bascule.http.post(bascule.url + path, json=body, headers=dict(shown or {})) as response:  # type: ignore[arg-type]  # none of them is None
        return response.status, await response.json()


async def written(bascule: Bascule, count: int) -> None:
    """*count* calls are on record."""
    for _ in range(count):
        await bascule.modern("/servers/plain/mcp").call("echo", text="hello")

    async def looked() -> int:
        return len((await asked(bascule, "/api/audit?kind=call&tool=plain/echo"))[1]["entries"])

    while await looked() < count:  # noqa: ASYNC110 - it is written within a fifth of a second
        await asyncio.sleep(0.02)


async def test_entries_are_found_opened_and_followed_along_their_trace() -> None:
    async with gateway({"plain": local("plain")}) as bascule:
        await bascule.up("plain")
        await written(bascule, 5)
        status, found = await asked(bascule, "/api/audit?tool=plain/*&kind=call&most=2")
        assert (status, len(found["entries"]), found["newer"]) == (200, 2, None)
        newest = found["entries"][0]
        assert newest["seq"] > found["entries"][1]["seq"] == found["older"]
        _, older = await asked(bascule, f"/api/audit?tool=plain/*&kind=call&most=2&before={found['older']}")
        assert older["newer"] == older["entries"][0]["seq"] < found["older"]
        status, one = await asked(bascule, f"/api/audit/entries/{newest['seq']}")
        assert (status, one) == (200, newest)
        trace = newest["entry"]["trace_id"]
        status, whole = await asked(bascule, f"/api/audit/trace/{trace}")
        assert (status, [each["seq"] for each in whole["entries"]]) == (200, [newest["seq"]])
        assert (await asked(bascule, "/api/audit/entries/999999"))[0] == 404
        assert (await asked(bascule, "/api/audit/entries/abc"))[0] == 404
        assert (await asked(bascule, f"/api/audit/trace/{'0' * 32}"))[0] == 404


@pytest.mark.parametrize(
    "query", ["since=soon", "decision=perhaps", "kind=odd", "before=0", "most=0", "before=x", "after=-1", "more=1"]
)
async def test_what_is_no_search_is_refused(query: str) -> None:
    async with gateway({}) as bascule:
        status, _ = await asked(bascule, f"/api/audit?{query}")
        assert status == 400


async def test_the_audit_is_verified_by_rest_and_what_somebody_changed_is_named() -> None:
    async with gateway({"plain": local("plain")}) as bascule:
        await bascule.up("plain")
        await written(bascule, 3)
        assert (await asked(bascule, "/api/audit/verify"))[1]["state"] == "never"
        status, report = await asked(bascule, "/api/audit/verify", {"wait": True})
        assert (status, report["state"], report["verdict"]["ok"]) == (200, "done", True)
        assert bascule.gateway is not None
        assert bascule.gateway.records is not None
        state = bascule.gateway.records.state
        (seq,) = rows(state, "SELECT max(seq) FROM audit WHERE kind = 'call'")[0]
        text = "CAST(entry AS TEXT)"
        hands(
            state, f"UPDATE audit SET entry = CAST(replace({text}, 'answered', 'elsewise') AS BLOB) WHERE seq = {seq}"
        )
        _, report = await asked(bascule, "/api/audit/verify", {"wait": True})
        assert (report["verdict"]["problem"]["seq"], report["verdict"]["problem"]["fault"]) == (seq, "changed")
        assert (await asked(bascule, "/api/audit/verify"))[1]["verdict"] == report["verdict"]


async def test_only_who_may_read_the_audit_sees_any_of_it() -> None:
    known = credentials("agent", "auditor")
    callers = known.configured(
        agent={"scopes": ["plain", "bascule.status:read"]}, auditor={"scopes": ["bascule.audit"]}
    )
    async with gateway({}, callers=callers, environ=known.environ) as bascule:
        for path in ("/api/audit", "/api/audit/entries/1", f"/api/audit/trace/{'0' * 32}", "/api/audit/verify"):
            assert (await asked(bascule, path, shown=known.of("agent")))[0] == 403
            assert (await asked(bascule, path, shown=known.of("auditor")))[0] in (200, 404)
        assert (await asked(bascule, "/api/audit/verify", {}, shown=known.of("agent")))[0] == 403


async def test_calls_go_on_while_the_chain_is_looked_at(tmp_path: Path) -> None:
    """A look takes turns with everything else: a call waits for it no longer than for another call."""
    folder = tmp_path / "state"
    await recorded(folder, [call(number) for number in range(1, 20_000)])
    async with gateway({"plain": local("plain")}, state_dir=str(folder)) as bascule:
        await bascule.up("plain")
        client = bascule.modern("/servers/plain/mcp")
        await client.call("echo", text="warm")
        await asked(bascule, "/api/audit/verify", {})
        took = []
        while (await asked(bascule, "/api/audit/verify"))[1]["state"] == "running":
            began = time.perf_counter()
            await client.call("echo", text="meanwhile")
            took.append(time.perf_counter() - began)
        report = (await asked(bascule, "/api/audit/verify"))[1]
        assert report["verdict"]["ok"], report
        assert len(took) > 3
        assert max(took) < 1.0
