"""What of a list may be called: taken, put before a reviewer, or withheld, and how that is remembered."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from bascule.errors import Unavailable
from bascule.registry.catalog import Item, Listing, items
from bascule.registry.judge import MAX_DEFINITION, MOST_THINGS, Judge, Key, Standing, Trust, Unapproved, standing_of
from bascule.store.definitions import FIRST_SIGHT, MOST_PENDING, TRUST, Definitions
from bascule.store.generations import Generations
from bascule.store.options import ApprovalOptions, AuditOptions, JournalOptions
from bascule.store.records import Records
from bascule.upstream.http import HttpOptions
from bascule.upstream.stdio import StdioOptions

KEY: Final[Key] = ("tool", "pay")


def raw(name: str, description: str = "Pays.", **members: Any) -> Raw:
    return Raw(json.dumps({"name": name, "description": description, **members}).encode())


def tools(*raws: Raw) -> Listing:
    return Listing(tools=items("tools/list", raws))


def judge(trust: Trust = "pin", definitions: Definitions | None = None, source: str = "s") -> Judge:
    found = Judge(definitions)
    found.adopt({"bank": Standing(trust, source)})
    return found


class Shelves:
    """A state folder."""

    def __init__(self, folder: Path) -> None:
        self.records = Records(folder, AuditOptions(), JournalOptions(), ApprovalOptions())
        self.definitions = Definitions(self.records.writer, self.records.audit)

    def judge(self, trust: Trust = "pin", source: str = "s") -> Judge:
        """As a process would have it that starts now."""
        found = Judge(self.definitions, Generations(self.records.writer))
        found.adopt({"bank": Standing(trust, source)})
        return found

    def rows(self) -> list[tuple[str, str, str]]:
        return [(each.name, each.state, each.decided_by) for each in self.definitions.list_(None, most=100_000)]


@pytest.fixture
async def shelves(tmp_path: Path) -> AsyncIterator[Shelves]:
    found = Shelves(tmp_path / "state")
    await found.records.start()
    yield found
    await found.records.close()


# ---- first sight and changes


def test_the_first_wording_is_taken_and_the_next_one_waits() -> None:
    mine = judge()
    assert mine.judge("bank", [tools(raw("pay"), raw("look"))]) == {}
    found = mine.judge("bank", [tools(raw("pay", "Pays!"), raw("look"))])
    assert found.keys() == {KEY}
    assert (found[KEY].state, found[KEY].changed) == ("changed", ("description",))
    assert mine.pending("bank") == 1
    assert mine.judge("bank", [tools(raw("pay"), raw("look"))]) == {}
    assert mine.pending("bank") == 0


def test_under_review_the_first_wording_waits_too_and_callers_are_told_nothing() -> None:
    found = judge("review").judge("bank", [tools(raw("pay"))])
    assert (found[KEY].state, found[KEY].told) == ("new", "")


def test_a_trusted_server_changes_what_it_likes() -> None:
    mine = judge("auto")
    for description in ("a", "b", "a", "c"):
        assert mine.judge("bank", [tools(raw("pay", description))]) == {}
    assert not mine.pins("bank")


def test_prompts_and_templates_are_pinned_and_plain_resources_are_not() -> None:
    def listing(said: str) -> Listing:
        prompt = Raw(json.dumps({"name": "ask", "arguments": [{"name": said}]}).encode())
        template = Raw(json.dumps({"uriTemplate": "a://{b}", "name": said}).encode())
        resource = Raw(json.dumps({"uri": "a://b", "name": said}).encode())
        return Listing(
            prompts=items("prompts/list", [prompt]),
            templates=items("resources/templates/list", [template]),
            resources=items("resources/list", [resource]),
        )

    mine = judge()
    assert mine.judge("bank", [listing("x")]) == {}
    assert mine.judge("bank", [listing("y")]).keys() == {("prompt", "ask"), ("resource", "a://{b}")}


def test_one_wording_has_to_hold_in_both_eras() -> None:
    mine = judge()
    assert mine.judge("bank", [tools(raw("pay")), tools(raw("pay"))]) == {}
    assert mine.judge("bank", [tools(raw("pay")), tools(raw("pay", "Pays!"))]).keys() == {KEY}


def test_of_two_wordings_of_one_name_in_one_list_nothing_is_let_through() -> None:
    assert judge().judge("bank", [tools(raw("pay"), raw("pay", "Pays!"))]).keys() == {KEY}


def test_what_has_no_one_meaning_is_withheld() -> None:
    twice = Raw(b'{"name": "pay", "inputSchema": {"type": "object", "type": "string"}}')
    found = judge().judge("bank", [tools(twice)])
    assert "cannot be pinned" in found[KEY].reason
    assert judge("auto").judge("bank", [tools(twice)]) == {}


def test_a_change_of_the_configuration_is_another_server_or_another_trust() -> None:
    mine = judge("review")
    assert mine.judge("bank", [tools(raw("pay"))])
    mine.adopt({"bank": Standing("pin", "s")})
    assert mine.judge("bank", [tools(raw("pay"))]) == {}
    mine.adopt({"bank": Standing("pin", "t")})
    assert mine.judge("bank", [tools(raw("pay", "Pays!"))]) == {}
    mine.adopt({})
    assert mine.judge("bank", [tools(raw("pay", "Pays?"))]) == {}


def test_the_source_of_a_server_is_its_command_or_its_address() -> None:
    command, address = StdioOptions(command="a", args=("b",)), HttpOptions(url="http://a", trust="review", trusted=True)
    assert standing_of(command).trust == "pin"
    assert standing_of(command).source != standing_of(StdioOptions(command="a")).source
    assert standing_of(address) == standing_of(HttpOptions(url="http://a", trust="review", trusted=True, era="modern"))
    assert (standing_of(address).trust, standing_of(address).trusted) == ("review", True)


# ---- what clients are shown of a server's own list


def test_a_live_list_may_say_less_than_was_approved_but_nothing_else() -> None:
    mine = judge()
    listing = tools(raw("pay", title="Pay"))
    mine.judge("bank", [listing])
    (item,) = listing.tools
    less = {key: value for key, value in item.members.items() if key != "title"}
    assert mine.fits("bank", "tool", item, less)
    assert mine.fits("bank", "tool", item, {**item.members, "name": Raw(b'"bank__pay"')})
    for other in ({**item.members, "description": Raw(b'"Pays!"')}, {**less, "annotations": Raw(b"{}")}):
        assert not mine.fits("bank", "tool", item, other)
    assert not mine.fits("bank", "tool", None, _one(raw("fresh")).members)
    assert mine.fits("bank", "resource", None, {"uri": Raw(b'"a://b"')})


def _one(each: Raw) -> Item:
    (item,) = items("tools/list", [each])
    return item


# ---- bounds


def test_a_server_that_never_stops_making_up_wordings_is_bounded() -> None:
    mine = judge()
    mine.judge("bank", [tools(raw("pay"))])
    for number in range(10 * MOST_PENDING):
        assert mine.judge("bank", [tools(raw("pay", str(number)))])
    (shelf,) = mine._shelves.values()
    assert len(shelf.things["tool", "pay"]) == MOST_PENDING + 1
    assert mine.judge("bank", [tools(raw("pay"))]) == {}


def test_a_server_that_never_stops_making_up_names_is_bounded_and_loses_no_pin() -> None:
    mine = judge()
    for start in range(0, MOST_THINGS, 1000):
        mine.judge("bank", [tools(*(raw(f"n{number}") for number in range(start, start + 1000)))])
    found = mine.judge("bank", [tools(raw("late"), raw("n0", "Pays!"), raw("n1"))])
    assert found.keys() == {("tool", "late"), ("tool", "n0")}
    assert "more than" in found["tool", "late"].reason


def test_names_that_nobody_ever_decided_of_are_forgotten_under_review() -> None:
    mine = judge("review")
    for start in range(0, 3 * MOST_THINGS, 1000):
        mine.judge("bank", [tools(*(raw(f"n{number}") for number in range(start, start + 1000)))])
    (shelf,) = mine._shelves.values()
    assert len(shelf.things) < MOST_THINGS


def test_a_definition_that_nobody_could_read_is_withheld() -> None:
    assert "bytes" in judge().judge("bank", [tools(raw("pay", "x" * MAX_DEFINITION))])[KEY].reason


# ---- records


async def test_what_was_taken_and_what_waits_is_known_after_a_restart(shelves: Shelves) -> None:
    first = shelves.judge()
    first.judge("bank", [tools(raw("pay"), raw("look"))])
    first.judge("bank", [tools(raw("pay", "Pays!"), raw("look"))])
    await first.flush()
    assert sorted(shelves.rows()) == [
        ("look", "approved", FIRST_SIGHT),
        ("pay", "approved", FIRST_SIGHT),
        ("pay", "pending", ""),
    ]
    second = shelves.judge()
    found = second.judge("bank", [tools(raw("pay", "Pays!"), raw("look"))])
    assert found[KEY].id == shelves.definitions.list_("pending")[0].id
    assert f"bascule review show {found[KEY].id}" in found[KEY].told
    assert second.judge("bank", [tools(raw("pay"), raw("look"))]) == {}


async def test_a_decision_counts_when_the_judge_looks_and_lists_are_learnt_again(shelves: Shelves) -> None:
    mine, learnt = shelves.judge(), []

    async def relearn() -> None:
        learnt.append(dict(mine.judge("bank", listing)))

    mine.relearn = relearn
    listing = [tools(raw("pay"))]
    mine.judge("bank", listing)
    listing = [tools(raw("pay", "Pays!"))]
    id = mine.judge("bank", listing)[KEY].id
    assert await mine.look()
    assert learnt == []
    await shelves.definitions.decide(id, approve=True, by="cli:kim")
    assert await mine.look()
    assert learnt == [{}]
    await shelves.definitions.decide(id, approve=False, by="cli:kim")
    assert await mine.look()
    assert learnt[1][KEY].state == "denied"
    assert mine.pending("bank") == 0


async def test_a_decision_elsewhere_is_noticed_within_a_second(shelves: Shelves, tmp_path: Path) -> None:
    mine, again = shelves.judge("review"), asyncio.Event()

    async def relearn() -> None:
        again.set()

    mine.relearn = relearn
    mine.judge("bank", [tools(raw("pay"))])
    running = asyncio.ensure_future(mine.run())
    elsewhere = Shelves(tmp_path / "state")
    await elsewhere.records.start()
    try:
        async with asyncio.timeout(10):
            while not (waits := elsewhere.definitions.list_()):  # noqa: ASYNC110 - a table has no event
                await asyncio.sleep(0.01)
            await elsewhere.definitions.decide(waits[0].id, approve=True, by="cli:kim")
            await again.wait()
        assert mine.judge("bank", [tools(raw("pay"))]) == {}
    finally:
        running.cancel()
        await elsewhere.records.close()


async def test_of_two_processes_that_see_another_wording_first_one_is_corrected(shelves: Shelves) -> None:
    one, other = shelves.judge(), shelves.judge()
    assert one.judge("bank", [tools(raw("pay"))]) == {}
    assert other.judge("bank", [tools(raw("pay", "Pays!"))]) == {}
    await one.look()
    await other.look()
    assert other.judge("bank", [tools(raw("pay", "Pays!"))])[KEY].state == "changed"
    assert sorted(shelves.rows()) == [("pay", "approved", FIRST_SIGHT), ("pay", "pending", "")]


async def test_what_a_person_denied_no_trust_lets_through(shelves: Shelves) -> None:
    mine = shelves.judge()
    mine.judge("bank", [tools(raw("pay"))])
    await mine.flush()
    (row,) = shelves.definitions.list_(None)
    await shelves.definitions.decide(row.id, approve=False, by="cli:kim")
    trusting = shelves.judge("auto")
    assert trusting.judge("bank", [tools(raw("pay"))])[KEY].state == "denied"
    assert trusting.judge("bank", [tools(raw("pay", "Pays!"))]) == {}
    # Under a pin another wording of it is no first sight: somebody has looked at it before.
    assert shelves.judge().judge("bank", [tools(raw("pay", "Pays?"))])[KEY].state == "new"


async def test_what_waited_is_taken_once_its_server_is_trusted_further(shelves: Shelves) -> None:
    first = shelves.judge("review")
    first.judge("bank", [tools(raw("pay"))])
    await first.flush()
    assert shelves.rows() == [("pay", "pending", "")]
    then = shelves.judge("auto")
    assert then.judge("bank", [tools(raw("pay"))]) == {}
    await then.flush()
    assert shelves.rows() == [("pay", "approved", TRUST)]


async def test_what_cannot_be_read_is_withheld_until_it_can_be(shelves: Shelves) -> None:
    class Broken(Definitions):
        works = False

        def known(self, server: str, source: str) -> Any:
            if not self.works:
                raise Unavailable("the disk says no")
            return super().known(server, source)

    broken = Broken(shelves.records.writer, None)
    mine = judge(definitions=broken)
    found = mine.judge("bank", [tools(raw("pay"))])
    assert (found[KEY].state, found[KEY].told) == ("new", "")
    assert "cannot be read" in found[KEY].reason
    broken.works = True
    assert await mine.look()
    assert mine.judge("bank", [tools(raw("pay"))]) == {}


async def test_what_cannot_be_written_is_written_later(shelves: Shelves) -> None:
    class Full(Definitions):
        async def see(self, wordings: Any) -> Any:
            raise Unavailable("the disk is full")

    mine = judge(definitions=Full(shelves.records.writer, None))
    mine.judge("bank", [tools(raw("pay"))])
    assert not await mine.look()
    mine._definitions = shelves.definitions
    assert await mine.look()
    assert shelves.rows() == [("pay", "approved", FIRST_SIGHT)]


def test_an_unapproved_thing_is_the_same_as_long_as_nothing_about_it_changes() -> None:
    mine = judge()
    mine.judge("bank", [tools(raw("pay"))])
    first = mine.judge("bank", [tools(raw("pay", "Pays!"))])
    again: Unapproved = mine.judge("bank", [tools(raw("pay", "Pays!"))])[KEY]
    assert again == first[KEY]


# ---- any order of events

STEPS: Final = st.lists(
    st.tuples(st.sampled_from(["list", "list", "list", "approve", "deny", "restart", "other"]), st.integers(0, 3)),
    max_size=25,
)


class Model:
    """What must hold under `pin`, in as few words as possible."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    def listed(self, wording: str) -> bool:
        """Whether it may be called."""
        if wording not in self.states:
            is_first = not any(state != "pending" for state in self.states.values())
            self.states[wording] = "approved" if is_first else "pending"
        return self.states[wording] == "approved"

    def decided(self, wording: str, state: str) -> None:
        if wording in self.states:
            self.states[wording] = state


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_in_any_order_of_events_only_what_was_approved_may_be_called(steps: list[tuple[str, int]]) -> None:
    with TemporaryDirectory(prefix="bascule-") as folder:
        asyncio.run(_held(Path(folder), steps))


async def _held(folder: Path, steps: list[tuple[str, int]]) -> None:
    shelves, model = Shelves(folder / "state"), Model()
    await shelves.records.start()
    mine, other, last = shelves.judge(), shelves.judge(), ""
    try:
        for step, number in steps:
            wording = f"says {number}"
            match step:
                case "list":
                    last = wording
                    assert (not mine.judge("bank", [tools(raw("pay", wording))])) == model.listed(wording)
                case "approve" | "deny":
                    await _decided(shelves, wording, approve=step == "approve")
                    model.decided(wording, "approved" if step == "approve" else "denied")
                case "restart":
                    await mine.flush()
                    mine = shelves.judge()
                case _:  # another process, which looks at the same time
                    await other.look()
                    assert (not other.judge("bank", [tools(raw("pay", wording))])) == model.listed(wording)
                    await other.look()
            await mine.look()
            if last:
                assert (not mine.judge("bank", [tools(raw("pay", last))])) == model.listed(last)
    finally:
        await shelves.records.close()


async def _decided(shelves: Shelves, wording: str, *, approve: bool) -> None:
    for row in shelves.definitions.list_(None):
        if json.loads(row.definition)["description"] == wording:
            await shelves.definitions.decide(row.id, approve=approve, by="cli:kim")
