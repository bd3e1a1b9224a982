"""What packs remember of their deeds: one key is one deed, whoever dies or goes away meanwhile."""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bascule.errors import ConfigInvalid
from bascule.packs.deeds import KEPT_S, Deeds, OutcomeUnknown
from bascule.packs.pack import ToolFailed

TOOL = "email/send"


class Deed:
    """Something that is done, counted; *fails* is what it raises."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.times = 0
        self.fails = fails

    async def __call__(self) -> dict[str, Any]:
        self.times += 1
        if self.fails is not None:
            raise self.fails
        return {"number": self.times, "tiếng": "Việt"}


async def refusal(begun: Awaitable[Any]) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await begun
    return caught.value


async def test_a_deed_is_done_once_and_says_the_same_again_also_to_another_process(tmp_path: Path) -> None:
    deed = Deed()
    first, second = Deeds(tmp_path, "office"), Deeds(tmp_path, "office")
    assert await first.once(TOOL, "key", {"a": 1}, deed) == ({"number": 1, "tiếng": "Việt"}, False)
    for deeds in (first, second):
        assert await deeds.once(TOOL, "key", {"a": 1}, deed) == ({"number": 1, "tiếng": "Việt"}, True)
    await first.close()
    await second.close()
    third = Deeds(tmp_path, "office")
    assert (await third.once(TOOL, "key", {"a": 1}, deed))[1]
    assert (await third.once("another/tool", "key", {"a": 1}, deed))[0]["number"] == 2
    await third.close()


async def test_a_key_belongs_to_what_it_was_first_used_for(tmp_path: Path) -> None:
    deed, deeds = Deed(), Deeds(tmp_path, "office")
    await deeds.once(TOOL, "key", {"a": 1, "b": 2}, deed)
    assert (await deeds.once(TOOL, "key", {"b": 2, "a": 1}, deed))[1]
    assert "something else" in str(await refusal(deeds.once(TOOL, "key", {"a": 1}, deed)))
    assert deed.times == 1
    await deeds.close()


async def test_what_surely_failed_may_be_asked_for_again(tmp_path: Path) -> None:
    deed, deeds = Deed(ToolFailed("Nothing was sent.")), Deeds(tmp_path, "office")
    assert str(await refusal(deeds.once(TOOL, "key", 1, deed))) == "Nothing was sent."
    deed.fails = None
    assert not (await deeds.once(TOOL, "key", 1, deed))[1]
    assert deed.times == 2
    await deeds.close()


@pytest.mark.parametrize("fails", [OutcomeUnknown("Nobody knows."), KeyError("a mistake of ours")])
async def test_what_may_have_been_done_is_not_done_again_by_itself(tmp_path: Path, fails: Exception) -> None:
    deed = Deed(fails)
    deeds = Deeds(tmp_path, "office")
    with pytest.raises(type(fails)):
        await deeds.once(TOOL, "key", 1, deed)
    await deeds.close()
    deeds = Deeds(tmp_path, "office")
    said = await refusal(deeds.once(TOOL, "key", 1, deed))
    assert isinstance(said, OutcomeUnknown)
    assert "Nobody knows." in str(said) or "It is not known" in str(said)
    assert deed.times == 1
    assert (await refusal(deeds.once(TOOL, "key", 2, deed))).args[0].startswith("This idempotency key")
    deed.fails = None
    assert not (await deeds.once(TOOL, "key", 1, deed, again=True))[1]  # where twice does no harm
    assert (await deeds.once(TOOL, "key", 1, deed))[1]
    await deeds.close()


async def test_a_deed_goes_on_when_its_caller_has_gone(tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> dict[str, Any]:
        begun.set()
        await go_on.wait()
        return {"done": True}

    deeds = Deeds(tmp_path, "office")
    call = asyncio.ensure_future(deeds.once(TOOL, "key", 1, slow))
    await asyncio.wait_for(begun.wait(), 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert "right now" in str(await refusal(deeds.once(TOOL, "key", 1, slow)))
    go_on.set()
    await deeds.close()  # waits for it
    deeds = Deeds(tmp_path, "office")
    assert await deeds.once(TOOL, "key", 1, slow) == ({"done": True}, True)
    await deeds.close()


async def test_of_many_calls_at_once_one_is_carried_out(tmp_path: Path) -> None:
    deed = Deed()

    async def slow() -> dict[str, Any]:
        await asyncio.sleep(0)
        return await deed()

    first, second = Deeds(tmp_path, "office"), Deeds(tmp_path, "office")
    calls = [deeds.once(TOOL, "key", 1, slow) for deeds in (first, second) * 25]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert deed.times == 1
    assert all(isinstance(each, tuple | ToolFailed) for each in answers)
    assert sum(isinstance(each, tuple) and not each[1] for each in answers) == 1
    await first.close()
    await second.close()


@pytest.mark.parametrize("key", ["", "x" * 601])
async def test_a_key_that_is_none_is_refused(key: str) -> None:
    deed, deeds = Deed(), Deeds(None, "office")
    assert "idempotency key" in str(await refusal(deeds.once(TOOL, key, 1, deed)))
    assert deed.times == 0
    await deeds.close()


async def test_old_deeds_are_forgotten(tmp_path: Path) -> None:
    deed = Deed()
    for now_s, times in ((0.0, 1), (KEPT_S, 1), (KEPT_S + 1, 2)):
        deeds = Deeds(tmp_path, "office", clock=lambda now_s=now_s: now_s)  # type: ignore[misc]  # a default binds it
        await deeds.once(TOOL, "key", 1, deed)
        await deeds.close()
        assert deed.times == times


async def test_the_record_is_for_the_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        deeds = Deeds(tmp_path, "office")
        await deeds.once(TOOL, "key", "a secret text", Deed())
        await deeds.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / ".bascule").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / ".bascule/office.sqlite").stat().st_mode) == 0o600
    assert b"secret" not in (tmp_path / ".bascule/office.sqlite").read_bytes()


def a_link(place: Path, elsewhere: Path) -> None:
    elsewhere.mkdir()
    place.symlink_to(elsewhere)


def a_link_inside(place: Path, elsewhere: Path) -> None:
    place.mkdir()
    (place / "office.sqlite").symlink_to(elsewhere)


def a_file(place: Path, elsewhere: Path) -> None:
    del elsewhere
    place.write_text("")


def no_database(place: Path, elsewhere: Path) -> None:
    del elsewhere
    place.mkdir()
    (place / "office.sqlite").write_text("not a database, and long enough to be seen as none" * 20)


@pytest.mark.parametrize("lay", [a_link, a_link_inside, a_file, no_database])
def test_a_place_that_is_no_good_is_refused(tmp_path: Path, lay: Callable[[Path, Path], None]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    lay(root / ".bascule", tmp_path / "elsewhere")
    with pytest.raises(ConfigInvalid) as caught:
        Deeds(root, "office")
    assert caught.value.field == "settings.root"
    assert not (tmp_path / "elsewhere").is_file()


async def test_without_a_record_nothing_is_done(tmp_path: Path) -> None:
    deed, deeds = Deed(), Deeds(tmp_path, "office")
    other = Deeds(tmp_path, "office")
    other._base.execute("BEGIN EXCLUSIVE")  # another process that writes, and hangs
    assert "nothing was done" in str(await refusal(deeds.once(TOOL, "key", 1, deed)))
    assert deed.times == 0
    other._base.execute("ROLLBACK")
    await other.close()
    await deeds.close()


outcomes = st.sampled_from(["done", "failed", "unknown", "mistake"])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("ab"), outcomes), max_size=12))
def test_no_key_is_ever_carried_out_again_after_it_may_have_been(steps: list[tuple[str, str]]) -> None:
    async def all_of_them() -> None:
        deeds, carried_out = Deeds(None, "office"), dict.fromkeys("ab", 0)
        raised = {"failed": ToolFailed("no"), "unknown": OutcomeUnknown("?"), "mistake": KeyError("x"), "done": None}
        for key, outcome in steps:

            async def act(key: str = key, outcome: str = outcome) -> dict[str, Any]:
                assert carried_out[key] == 0
                carried_out[key] += outcome != "failed"
                if (error := raised[outcome]) is not None:
                    raise error
                return {}

            try:
                _, before = await deeds.once(TOOL, key, key, act)
                assert before or outcome == "done"
            except (ToolFailed, KeyError):
                pass  # told to the caller
        await deeds.close()

    asyncio.run(all_of_them())
