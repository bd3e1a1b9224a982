"""What of group P (docs/security.md) no file of cases can say: full disks, clocks that jump, damaged records."""

import asyncio
import json
import random
import resource
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import pytest
from foreign import ECHO, Asked, Foreign, far
from gateway import SOON, Bascule, Json, Modern, failure_of, gateway, remote, running, serving, text_of

from bascule import config as configuration
from bascule.app import Gateway
from bascule.errors import BasculeError
from bascule.store.files import FILE

DAY_S: Final = 86_400.0
KEY: Final = "payment-0123456789abcdef"
READS: Final[Json] = {**ECHO, "name": "look", "annotations": {"readOnlyHint": True}}


async def keyed(bascule: Bascule, text: str = "pay", *, key: str = KEY, tool: str = "echo") -> Json:
    """The whole answer to a call with *key*, or without one if that is empty."""
    client = Modern(bascule, "/servers/far/mcp", {})
    headers = {"idempotency-key": key} if key else {}
    async with client.open("tools/call", {"name": tool, "arguments": {"text": text}}, headers=headers) as exchange:
        return {
            "status": exchange.status,
            "replayed": exchange.headers.get("idempotent-replayed"),
            **await exchange.last(),
        }


def executed(foreign: Foreign) -> int:
    return len(foreign.asked("tools/call"))


# ---- P16: the disk is full -----------------------------------------------------------------------


async def test_on_a_full_disk_what_has_to_be_on_record_is_refused_and_what_only_reads_is_answered(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bascule.json"
    async with far(modern=True) as foreign:
        foreign.tools = [ECHO, READS]
        members = {"servers": {"far": remote(foreign.url, trusted=True)}, "drain": SOON, "audit": "strict"}
        path.write_text(json.dumps(members))
        async with serving(path) as bascule:
            await bascule.up("far")
            assert bascule.process
            assert text_of((await keyed(bascule, "before"))["result"]) == "before"
            unlimited = resource.prlimit(bascule.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            for key, text in ((f"{KEY}-{n}", f"{n}") for n in range(5)):
                assert "kind" in refusal_of(await keyed(bascule, text, key=key))
            assert refusal_of(await keyed(bascule, "no key", key=""))["kind"] == "unavailable"
            assert executed(foreign) == 1
            for number in range(20):
                assert text_of((await keyed(bascule, f"{number}", key="", tool="look"))["result"]) == f"{number}"
            again = await keyed(bascule, "before")  # what is on record can be read
            assert (again["replayed"], text_of(again["result"])) == ("true", "before")

            resource.prlimit(bascule.process.pid, resource.RLIMIT_FSIZE, unlimited)
            after = await until_answered(bascule, f"{KEY}-0", "0")
            assert (after["replayed"], text_of(after["result"])) == (None, "0")
            assert (await keyed(bascule, "0", key=f"{KEY}-0"))["replayed"] == "true"
            assert executed(foreign) == 22


def refusal_of(answer: Json) -> Json:
    """The error's data, however it came."""
    found: Json = answer["error"]["data"] if "error" in answer else failure_of(answer["result"])
    return found


async def until_answered(bascule: Bascule, key: str, text: str) -> Json:
    """The answer of a keyed call, once there is room again."""
    async with asyncio.timeout(10):
        while True:
            answer = await keyed(bascule, text, key=key)
            if "result" in answer and not answer["result"].get("isError"):
                return answer
            await asyncio.sleep(0.1)


# ---- P17: the clock jumps ------------------------------------------------------------------------


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    real = time.time

    def jumped(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + seconds)

    return jumped


@pytest.mark.parametrize("seconds", [DAY_S, -DAY_S, 31 * DAY_S, -31 * DAY_S, 3601.0, -3601.0])
async def test_a_clock_that_jumps_lets_no_key_expire(seconds: float, jump: Callable[[float], None]) -> None:
    async with far(modern=True) as foreign, gateway({"far": remote(foreign.url)}, journal={"keep_s": 3600}) as bascule:
        await bascule.up("far")
        assert text_of((await keyed(bascule))["result"]) == "pay"

        async def lost(asked: Asked) -> None:
            asked.reset()

        foreign.on["tools/call"] = lost
        assert refusal_of(await keyed(bascule, key=f"{KEY}-lost"))["kind"] == "upstream_protocol"
        foreign.on.clear()
        held, release = asyncio.Event(), asyncio.Event()

        async def slow(asked: Asked) -> None:
            held.set()
            await release.wait()
            await foreign.answer(asked)

        foreign.on["tools/call"] = slow
        running_call = asyncio.ensure_future(keyed(bascule, key=f"{KEY}-slow"))
        await held.wait()

        jump(seconds)
        again = await keyed(bascule)
        assert (again["replayed"], text_of(again["result"])) == ("true", "pay")
        assert refusal_of(await keyed(bascule, key=f"{KEY}-lost"))["kind"] == "outcome_unknown"
        assert refusal_of(await keyed(bascule, key=f"{KEY}-slow"))["kind"] == "in_flight"
        release.set()
        assert text_of((await running_call)["result"]) == "pay"
        assert (await keyed(bascule, key=f"{KEY}-slow"))["replayed"] == "true"
        assert executed(foreign) == 3


# ---- P18: damaged records ------------------------------------------------------------------------


@asynccontextmanager
async def with_one_call(folder: Path, foreign: Foreign) -> AsyncIterator[Bascule]:
    """A Bascule that keeps its records in *folder*."""
    async with running(gateway_in(folder, foreign)) as bascule:
        await bascule.up("far")
        yield bascule


def gateway_in(folder: Path, foreign: Foreign) -> Gateway:
    path = folder / "bascule.json"
    members = {"servers": {"far": remote(foreign.url)}, "drain": SOON, "state_dir": str(folder / "state")}
    path.write_text(json.dumps(members))
    return Gateway(configuration.load(path, {}))


def flipped(value: Any, chance: random.Random) -> Any:
    """*value* with one bit changed."""
    if isinstance(value, int):
        return value ^ 1
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    at = chance.randrange(len(raw) * 8)
    raw[at // 8] ^= 1 << at % 8
    return bytes(raw).decode("latin-1") if isinstance(value, str) else bytes(raw)


@pytest.mark.parametrize(
    ("column", "times"),
    [("result", 300), ("result_hash", 100), ("fingerprint", 100), ("state", 100), ("era", 60), ("refused", 1)],
)
async def test_a_row_with_one_bit_changed_gives_the_result_of_the_call_or_none(
    column: str, times: int, tmp_path: Path
) -> None:
    chance = random.Random(column)
    async with far(modern=True) as foreign, with_one_call(tmp_path, foreign) as bascule:
        assert text_of((await keyed(bascule))["result"]) == "pay"
        with closing(sqlite3.connect(tmp_path / "state" / FILE, isolation_level=None, timeout=10)) as store:
            (good,) = store.execute(f"SELECT {column} FROM journal").fetchone()
            for _ in range(times):
                store.execute(f"UPDATE journal SET {column} = ?", (flipped(good, chance),))
                answer = await keyed(bascule)
                if "error" not in answer and not answer["result"].get("isError"):
                    assert column == "era", answer  # in which shape it is kept; what it says stays
                    assert text_of(answer["result"]) == "pay"
            assert executed(foreign) == 1  # whatever was wrong, nothing was made again
            store.execute(f"UPDATE journal SET {column} = ?", (good,))
        again = await keyed(bascule)
        assert (again["replayed"], text_of(again["result"])) == ("true", "pay")


@pytest.mark.parametrize("seed", range(40))
async def test_a_file_with_bits_changed_never_gives_a_wrong_result(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    async with far(modern=True) as foreign:
        async with with_one_call(tmp_path, foreign) as bascule:
            assert text_of((await keyed(bascule, "secret pay"))["result"]) == "secret pay"
        store = tmp_path / "state" / FILE
        whole = bytearray(store.read_bytes())
        written = [at for at, byte in enumerate(whole) if byte]
        for at in chance.sample(written, 1 + seed % 8):
            whole[at] ^= 1 << chance.randrange(8)
        store.write_bytes(whole)
        try:
            async with with_one_call(tmp_path, foreign) as bascule:
                answer = await keyed(bascule, "secret pay")
        except BasculeError:
            return  # it refuses to start, and says why
        if "error" not in answer and not answer["result"].get("isError"):
            assert text_of(answer["result"]) == "secret pay"
