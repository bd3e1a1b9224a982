"""A stream delivers each event once and in order, to whoever carries it now, within its bound."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bascule.edge import streams
from bascule.edge.streams import Stream, parse_event_id
from bascule.wire.sse import Event, Parser


class Client:
    """The receiving end of one connection. While it is *slow*, a body waits to be taken."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.waiting = asyncio.Event()  # a body is there and is not taken
        self.bodies: list[bytes] = []

    async def send(self, message: MutableMapping[str, Any]) -> None:
        assert message["more_body"]
        if not self.ready.is_set():
            self.waiting.set()
            await self.ready.wait()
        self.bodies.append(message["body"])

    @property
    def events(self) -> list[Event]:
        return list(Parser(10**9).feed(b"".join(self.bodies)))

    @property
    def texts(self) -> list[str]:
        return [event.data.decode() for event in self.events]


def stream(*messages: str, number: int = 3, resumable: bool = True) -> Stream:
    made = Stream(number, resumable=resumable)
    for message in messages:
        made.put(message.encode())
    return made


async def carried(made: Stream, after: int | None = None) -> Client:
    """A client that took everything there was, once the stream is closed."""
    client = Client()
    made.close()
    async with asyncio.timeout(5):
        await made.pump(client.send, after)
    return client


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(5):
        await event.wait()


@pytest.mark.parametrize("resumable", [True, False])
async def test_events_come_in_the_order_they_were_put(resumable: bool) -> None:
    made = stream("a", "b", "c", resumable=resumable)
    assert (await carried(made)).texts == ["a", "b", "c"]
    assert not made.carried


async def test_only_a_stream_that_can_be_resumed_numbers_its_events() -> None:
    assert [event.id for event in (await carried(stream("a", "b"))).events] == ["3-1", "3-2"]
    assert [event.id for event in (await carried(stream("a", resumable=False))).events] == [""]


async def test_a_primed_stream_starts_with_an_empty_event_that_can_be_resumed_from() -> None:
    made = Stream(3, resumable=True)
    made.prime()
    made.put(b"a")
    assert (await carried(made)).events == [
        Event(b"", id="3-1", retry_ms=streams.RETRY_MS),
        Event(b"a", id="3-2", retry_ms=streams.RETRY_MS),
    ]


@pytest.mark.parametrize("after", range(5))
async def test_a_client_resumes_after_the_last_event_that_it_has(after: int) -> None:
    made = stream("1", "2", "3", "4")
    await carried(made)
    assert (await carried(made, after)).texts == ["1", "2", "3", "4"][after:]


async def test_a_number_from_the_future_hides_no_event_that_comes_later() -> None:
    made, client = stream("1"), Client()
    pump = asyncio.ensure_future(made.pump(client.send, after=1000))
    await asyncio.sleep(0)
    made.put(b"2")
    made.close()
    await pump
    assert client.texts == ["2"]


async def test_a_new_carrier_continues_where_the_last_one_stopped() -> None:
    made, first = stream("1"), Client()
    pump = asyncio.ensure_future(made.pump(first.send))
    await asyncio.sleep(0)
    made.detach()
    await pump
    assert first.texts == ["1"]
    made.put(b"2")
    assert (await carried(made)).texts == ["2"]


async def test_a_second_carrier_takes_over_and_the_first_one_ends() -> None:
    made, first, second = stream("1"), Client(), Client()
    former = asyncio.ensure_future(made.pump(first.send))
    await asyncio.sleep(0)
    later = asyncio.ensure_future(made.pump(second.send))
    async with asyncio.timeout(5):
        await former
    made.put(b"2")
    made.close()
    async with asyncio.timeout(5):
        await later
    assert (first.texts, second.texts) == (["1"], ["2"])


async def test_a_carrier_that_was_replaced_cannot_detach_its_successor() -> None:
    made, first, second = stream(), Client(), Client()
    senders = first.send, second.send
    pumps = [asyncio.ensure_future(made.pump(send)) for send in senders]
    await asyncio.sleep(0)
    made.detach(senders[0])
    made.put(b"1")
    made.close()
    async with asyncio.timeout(5):
        await asyncio.wait(pumps)
    assert (first.texts, second.texts) == ([], ["1"])


async def test_an_event_that_a_dead_carrier_never_delivered_goes_to_the_next() -> None:
    made, dead = stream("1", "2"), Client()
    dead.ready.clear()
    former = asyncio.ensure_future(made.pump(dead.send))
    await until(dead.waiting)
    assert (await carried(made)).texts == ["1", "2"]
    dead.ready.set()
    async with asyncio.timeout(5):
        await former
    assert dead.texts == ["1"]


async def test_events_that_come_while_nobody_is_there_wait_for_the_next_carrier() -> None:
    made = stream()
    assert not made.carried
    made.put(b"1")
    assert (await carried(made)).texts == ["1"]


@pytest.mark.parametrize("resumable", [True, False])
async def test_the_last_words_before_the_end_reach_a_slow_client(resumable: bool) -> None:
    made, client = stream("1", resumable=resumable), Client()
    client.ready.clear()
    pump = asyncio.ensure_future(made.pump(client.send))
    await until(client.waiting)
    made.put(b"2")
    made.close()
    client.ready.set()
    async with asyncio.timeout(5):
        await pump
    assert client.texts == ["1", "2"]


async def test_an_event_wakes_a_carrier_that_waits() -> None:
    made, client = stream(), Client()
    pump = asyncio.ensure_future(made.pump(client.send))
    for message in (b"1", b"2"):
        await asyncio.sleep(0)
        made.put(message)
    made.close()
    async with asyncio.timeout(5):
        await pump
    assert client.texts == ["1", "2"]


# ---- the bound

BIG = "x" * (streams.MAX_KEPT_BYTES // 4)


async def test_the_oldest_events_give_way_and_what_was_never_sent_counts_as_lost() -> None:
    made = stream(*(f"{i}{BIG}" for i in range(6)))
    assert made.lost
    assert [text[0] for text in (await carried(made)).texts] == ["3", "4", "5"]


async def test_events_that_were_sent_give_way_without_a_loss() -> None:
    made, client = stream(), Client()
    pump = asyncio.ensure_future(made.pump(client.send))
    for i in range(6):
        made.put(f"{i}{BIG}".encode())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    made.close()
    await pump
    assert not made.lost
    assert [text[0] for text in client.texts] == list("012345")


async def test_one_event_larger_than_the_bound_is_still_delivered() -> None:
    assert [len(text) for text in (await carried(stream("a", BIG * 5))).texts] == [len(BIG) * 5]


@pytest.mark.parametrize("resumable", [True, False])
async def test_a_client_that_stops_reading_costs_no_more_than_the_bound_and_no_later_event(resumable: bool) -> None:
    made, client = stream("first", resumable=resumable), Client()
    client.ready.clear()
    pump = asyncio.ensure_future(made.pump(client.send))
    await until(client.waiting)
    for i in range(9):
        made.put(f"{i}{BIG}".encode())
    assert made._size <= streams.MAX_KEPT_BYTES
    assert made.lost
    client.ready.set()
    await asyncio.sleep(0)
    made.put(b"last")
    made.close()
    async with asyncio.timeout(5):
        await pump
    assert [text[:5] for text in client.texts] == ["first", "6xxxx", "7xxxx", "8xxxx", "last"]


async def test_a_stream_that_nobody_can_resume_keeps_nothing_that_was_sent() -> None:
    made = stream("1", "2", resumable=False)
    await carried(made)
    assert made._size == 0
    assert (await carried(made, after=0)).texts == []


@given(st.lists(st.sampled_from(["put", "take", "slow", "drop", "resume"]), max_size=30))
async def test_whatever_happens_to_its_connections_a_client_that_resumes_misses_nothing(steps: list[str]) -> None:
    made, client = stream(), Client()
    have: list[int] = []  # numbers of the events that the client has
    put = 0

    def collect() -> None:
        have.extend(int(event.id.split("-")[1]) for event in client.events)
        client.bodies.clear()

    pump = asyncio.ensure_future(made.pump(client.send))
    for step in [*steps, "drop", "resume"]:
        match step:
            case "put":
                put += 1
                made.put(b"%d" % put)
            case "take":
                client.ready.set()
            case "slow":
                client.ready.clear()
            case "drop":
                collect()
                made.detach()
                pump.cancel()
            case "resume":
                collect()
                client = Client()
                pump.cancel()
                pump = asyncio.ensure_future(made.pump(client.send, after=have[-1] if have else 0))
        await asyncio.sleep(0)
    made.close()
    client.ready.set()
    async with asyncio.timeout(5):
        await asyncio.wait([pump])
    collect()
    assert have == list(range(1, put + 1))


# ---- ids


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_our_event_ids_read_back(number: int, event: int) -> None:
    assert parse_event_id(Stream(number, resumable=True)._id(event)) == (number, event)


@pytest.mark.parametrize(
    "id",
    [
        "",
        "-",
        "1",
        "1-",
        "-1",
        "1-2-3",
        "a-1",
        "1-+2",
        "1- 2",
        "1-\u0663",
        "1_0-1",
        "1-" + "9" * 5000,
        "9" * 5000 + "-1",
    ],
)
def test_other_event_ids_are_nobodys(id: str) -> None:
    assert parse_event_id(id) is None
