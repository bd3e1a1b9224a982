"""A keyed call that may have run at its server is never made at another one, whatever lets it run again."""

import pytest
from foreign import Asked
from gateway import Json, gateway, remote
from governed import Known, tool, wide
from test_idempotency import KEY, said

HINTS: Json = {"idempotentHint": True, "readOnlyHint": False, "destructiveHint": False}


@pytest.mark.parametrize("why", ["its server deduplicates", "it is idempotent"])
async def test_a_call_of_unknown_outcome_goes_to_no_stand_in(why: str) -> None:
    more: Json = {"deduplicates": True} if why == "its server deduplicates" else {"trusted": True}
    pay = tool("pay", annotations=HINTS)
    async with (
        wide(modern=True, tools=[pay]) as first,
        wide(modern=True, tools=[pay]) as second,
        gateway({"a": remote(first.url, fallback="b", **more), "b": remote(second.url, **more)}) as bascule,
    ):

        async def runs_and_is_lost(asked: Asked) -> None:
            await asked.reply(503, b"no", "text/plain")

        first.on["tools/call"] = runs_and_is_lost
        client = Known(bascule)
        for _ in range(6):  # after five failures its circuit is open, and nothing is sent to it any more
            await said(client, {"name": "a__pay", "arguments": {"text": "ten", "amount": 10}}, key=KEY)
        assert (await bascule.status())["servers"]["a"]["circuit"]["state"] == "open"
        assert len(second.asked("tools/call")) == 0


@pytest.mark.parametrize("why", ["its server deduplicates", "it is idempotent"])
async def test_what_may_run_again_begins_at_no_stand_in(why: str) -> None:
    """The other schedule: a stand-in runs it and is lost, and the next try finds the first server back."""
    more: Json = {"deduplicates": True} if why == "its server deduplicates" else {"trusted": True}
    pay = tool("pay", annotations=HINTS)
    async with (
        wide(modern=True, tools=[pay]) as first,
        wide(modern=True, tools=[pay]) as second,
        gateway({"a": remote(first.url, fallback="b", **more), "b": remote(second.url, **more)}) as bascule,
    ):

        async def not_now(asked: Asked) -> None:
            await asked.reply(429, b"no", "text/plain")  # it has not looked at the request

        async def runs_and_is_lost(asked: Asked) -> None:
            await asked.reply(503, b"no", "text/plain")

        first.on["tools/call"], second.on["tools/call"] = not_now, runs_and_is_lost
        client = Known(bascule)
        await said(client, {"name": "a__pay", "arguments": {"text": "ten", "amount": 10}}, key=KEY)
        del first.on["tools/call"]
        await said(client, {"name": "a__pay", "arguments": {"text": "ten", "amount": 10}}, key=KEY)
        assert (len(first.calls("pay")) > 0) + (len(second.asked("tools/call")) > 0) == 1
