"""Which session ids are good, where and how long: before and after a restart, and for whom."""

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bascule.call import Caller
from bascule.edge.capsule import MAX_HELLO_BYTES, Capsule, opened, reduced, sealed
from bascule.edge.session import ClientSession
from bascule.edge.sessions import Ended, Sessions
from bascule.errors import Overloaded
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params
from bascule.wire.seal import KeyRing
from bascule.wire.versions import BY_VERSION, LEGACY

KEY = bytes(range(32))
NONCE = bytes(12)
ME, OTHER = Caller("me"), Caller("other")
VIEW = "it"

hellos = st.fixed_dictionaries(
    {"protocolVersion": st.text(max_size=20)},
    optional={
        "capabilities": st.dictionaries(st.text(max_size=10), st.dictionaries(st.text(max_size=3), st.none())),
        "clientInfo": st.dictionaries(st.text(max_size=10), st.text(max_size=1500)),
        "_meta": st.text(max_size=10),
    },
)


def params(hello: Mapping[str, Any]) -> Params:
    return jsonrpc.members(jsonrpc.encode(hello))


HELLO = params({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t"}})


async def forget(session: ClientSession) -> None:
    pass


def process(key: bytes = KEY, *, limit: int = 100, max_s: float = 3600.0) -> Sessions:
    """The sessions of one Bascule."""
    return Sessions(ring=KeyRing([key]), limit=limit, idle_s=1800.0, max_s=max_s, forget=forget)


async def begun(sessions: Sessions, hello: Params = HELLO, version: str = "2025-11-25") -> ClientSession:
    session = ClientSession(ME, VIEW, BY_VERSION[version], hello)
    await sessions.add(session)
    session.agree(BY_VERSION[version])
    sessions.seal(session)
    return session


async def test_a_session_is_found_by_its_capsule_by_its_caller_at_its_endpoint() -> None:
    here = process()
    session = await begun(here)
    assert here.find(session.capsule, ME, VIEW) is session
    for caller, view in ((OTHER, VIEW), (ME, ""), (ME, "other")):
        assert here.find(session.capsule, caller, view) is None
        assert await here.restore(session.capsule, caller, view) is None
    assert here.find(session.id, ME, VIEW) is None


@pytest.mark.parametrize("version", [revision.version for revision in LEGACY])
async def test_a_capsule_opens_the_same_session_in_another_process(version: str) -> None:
    session = await begun(process(), version=version)
    there = process()
    again = await there.restore(session.capsule, ME, VIEW)
    assert again is not None
    assert (again.id, again.caller, again.view) == (session.id, ME, VIEW)
    assert (again.revision, again.agreed) == (session.revision, True)
    assert {name: bytes(raw) for name, raw in again.hello.items()} == {n: bytes(raw) for n, raw in HELLO.items()}
    assert again.capabilities == {"elicitation": {}}
    assert there.find(session.capsule, ME, VIEW) is again
    assert len(there) == 1


async def test_a_capsule_is_nothing_to_a_stranger_to_another_endpoint_or_under_another_key() -> None:
    capsule = (await begun(process())).capsule
    assert await process().restore(capsule, OTHER, VIEW) is None
    assert await process().restore(capsule, ME, "") is None
    assert await process(bytes(32)).restore(capsule, ME, VIEW) is None
    assert await process().restore(capsule[:-1], ME, VIEW) is None
    assert await process().restore("", ME, VIEW) is None


async def test_what_has_ended_stays_dead() -> None:
    here, there = process(), process()
    capsule = (await begun(here)).capsule
    again = await there.restore(capsule, ME, VIEW)
    assert again is not None
    await there.end(again)
    assert there.find(capsule, ME, VIEW) is None
    assert await there.restore(capsule, ME, VIEW) is None


async def test_the_life_of_a_session_counts_from_its_beginning_wherever_it_goes_on() -> None:
    ring = KeyRing([KEY])
    held = Capsule(
        id="old", caller="me", view=VIEW, version="2025-11-25", issued_s=time.time() - 100, hello=reduced(HELLO)
    )
    capsule = sealed(ring, held, NONCE)
    assert await process(max_s=99).restore(capsule, ME, VIEW) is None
    there = process(max_s=200)
    assert await there.restore(capsule, ME, VIEW) is not None
    there.max_s = 99.0
    assert there.find(capsule, ME, VIEW) is None


async def test_a_session_of_a_clock_that_is_ahead_is_no_older_than_new() -> None:
    held = Capsule(
        id="x", caller="me", view=VIEW, version="2025-06-18", issued_s=time.time() + 500, hello=reduced(HELLO)
    )
    assert await process().restore(sealed(KeyRing([KEY]), held, NONCE), ME, VIEW) is not None


async def test_a_session_whose_greeting_was_too_large_ends_with_its_process() -> None:
    large = {**HELLO, "clientInfo": jsonrpc.encode({"name": "t" * MAX_HELLO_BYTES})}
    here = process()
    session = await begun(here, large)
    assert here.find(session.capsule, ME, VIEW) is session
    assert len(session.capsule) < 1000
    assert await process().restore(session.capsule, ME, VIEW) is None


@pytest.mark.parametrize("version", ["2026-07-28", "2099-01-01", ""])
async def test_a_capsule_of_no_legacy_revision_is_none(version: str) -> None:
    held = Capsule(id="x", caller="me", view=VIEW, version=version, issued_s=time.time(), hello=reduced(HELLO))
    assert await process().restore(sealed(KeyRing([KEY]), held, NONCE), ME, VIEW) is None


async def test_a_restored_session_counts_and_pushes_out_an_idle_one_only() -> None:
    capsule = (await begun(process())).capsule
    full = process(limit=1)
    idle = await begun(full)
    assert await full.restore(capsule, ME, VIEW) is not None
    assert full.find(idle.capsule, ME, VIEW) is None
    assert len(full) == 1

    busy = process(limit=1)
    (await begun(busy)).in_flight[b"1"] = None  # type: ignore[assignment]  # all that is looked at is that there is one
    with pytest.raises(Overloaded):
        await busy.restore(capsule, ME, VIEW)


async def test_streams_of_another_life_are_not_taken_for_those_of_this_one() -> None:
    session = await begun(process())
    before = [session.open_stream().number for _ in range(3)]
    again = await process().restore(session.capsule, ME, VIEW)
    assert again is not None
    assert not {again.open_stream().number, again.standing.number} & {*before, session.standing.number}
    assert again.stream(session.standing.number) is again.standing
    assert [again.stream(number) for number in before] == [None] * 3


# ---- what is remembered of the dead


def capsule_of(id: str, issued_s: float) -> Capsule:
    return Capsule(id=id, caller="me", view="", version="2025-11-25", issued_s=issued_s, hello=Raw(b"{}"))


@given(st.lists(st.integers(0, 50), max_size=30, unique=True), st.integers(1, 5), st.integers(0, 50))
def test_however_little_is_remembered_no_dead_session_lives_again(issued: list[int], limit: int, cut: int) -> None:
    ended = Ended(limit)
    for at in issued:
        ended.add(f"session {at}", float(at))
    ended.drop_before(float(cut))
    assert all(ended.holds(capsule_of(f"session {at}", float(at))) for at in issued)
    assert not ended.holds(capsule_of("a new one", 51.0))


# ---- what a capsule holds


@given(hellos, st.text(max_size=40), st.text(max_size=40), st.floats(0, 2**40))
def test_a_capsule_keeps_what_it_was_given(hello: dict[str, Any], caller: str, view: str, issued_s: float) -> None:
    ring = KeyRing([KEY])
    held = Capsule(
        id="i", caller=caller, view=view, version="2025-11-25", issued_s=issued_s, hello=reduced(params(hello))
    )
    found = opened(ring, sealed(ring, held, NONCE))
    assert found is not None
    assert msgspec.structs.astuple(found)[:-1] == msgspec.structs.astuple(held)[:-1]
    kept = {name: hello[name] for name in ("protocolVersion", "capabilities", "clientInfo") if name in hello}
    assert jsonrpc.decode(found.hello) in (kept, None)


@given(st.binary(max_size=100))
def test_sealed_content_of_another_shape_is_no_capsule(content: bytes) -> None:
    ring = KeyRing([KEY])
    assert opened(ring, ring.seal("session", b"\xff" + content, NONCE)) is None
    assert opened(ring, ring.seal("session", b'{"id":"x"}', NONCE)) is None


def test_the_bound_on_what_is_remembered_is_a_bound() -> None:
    ended = Ended(10)
    for at in range(1000):
        ended.add(str(at), float(at))
    assert len(ended) == 10
