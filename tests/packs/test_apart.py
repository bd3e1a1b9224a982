"""What is read apart can do nothing but read, and is gone afterwards; readers.py does what hostile files would want."""

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Any, Final

import pytest

from bascule import landlock, seccomp
from bascule.packs import apart
from bascule.packs.apart import Limits
from bascule.packs.pack import ToolFailed
from packs import readers

READERS: Final = frozenset(f"packs.readers:{name}" for name in vars(readers))
MIB: Final = 1 << 20

walled = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")


async def made(name: str, source: int | bytes = b"", limits: Limits = apart.LIMITS, **arguments: Any) -> Any:
    return await apart.run(READERS, f"packs.readers:{name}", source, arguments, limits=limits)


async def refusal(name: str, source: int | bytes = b"", limits: Limits = apart.LIMITS, **arguments: Any) -> str:
    with pytest.raises(ToolFailed) as failed:
        await made(name, source, limits, **arguments)
    return str(failed.value)


async def test_the_reader_gets_the_bytes_and_the_arguments() -> None:
    assert await made("text", "chữ".encode()) == "chữ"
    assert await made("said", deep={"a": [1, None, "ữ"]}) == {"deep": {"a": [1, None, "ữ"]}}


async def test_a_descriptor_is_read_from_its_start_and_left_open(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("from the start")
    with (tmp_path / "note.txt").open("rb") as file:
        file.seek(5)
        assert await made("text", file.fileno()) == "from the start"
        assert await made("text", file.fileno()) == "from the start"


async def test_the_file_that_is_made_is_written_and_no_longer_than_it_may_be(tmp_path: Path) -> None:
    for written_bytes, expected in ((6, "abcabc"), (5, None)):
        with (tmp_path / "made").open("wb") as into:
            limits = Limits(written_bytes=written_bytes)
            act = apart.run(READERS, "packs.readers:copied", b"abc", {"times": 2}, limits=limits, into=into.fileno())
            if expected is not None:
                assert await act == 6
                assert (tmp_path / "made").read_text() == expected
                continue
            with pytest.raises(ToolFailed, match="too large"):
                await act


async def test_only_readers_that_are_named_beforehand_run() -> None:
    with pytest.raises(ValueError, match="no reader 'os:getpid'"):
        await apart.run(READERS, "os:getpid", b"", {})


async def test_what_a_reader_refuses_is_said_in_its_words() -> None:
    assert await refusal("refusing") == "It is no poem. Send a poem."


async def test_a_reader_that_breaks_tells_the_operator_and_not_the_model(capfd: pytest.CaptureFixture[str]) -> None:
    said = await refusal("breaking")
    assert said == "The file could not be read. It is damaged, or of another kind than its name says."
    assert "nothing of this is for a model to see" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["crashing"])
async def test_a_crash_is_a_refusal(name: str) -> None:
    assert (await refusal(name)).startswith("The file could not be read.")


async def test_more_memory_than_it_may_have_is_refused() -> None:
    limits = Limits(memory_bytes=128 * MIB)
    assert await made("hoarding", limits=limits, size_bytes=16 * MIB) == 16 * MIB
    assert "more memory than it may" in await refusal("hoarding", limits=limits, size_bytes=512 * MIB)


async def test_endless_work_is_ended_by_its_processor_time() -> None:
    assert "took too long" in await refusal("spinning", limits=Limits(cpu_s=1, wall_s=60))


async def test_endless_waiting_is_ended_by_the_clock() -> None:
    begun_s = time.monotonic()
    assert "took too long" in await refusal("sleeping", limits=Limits(wall_s=0.5))
    assert time.monotonic() - begun_s < 5


@pytest.mark.parametrize("name", ["chattering", "flooding"])
async def test_a_long_answer_is_not_taken(name: str) -> None:
    arguments = {"size_bytes": 2 * MIB} if name == "chattering" else {}
    assert "too large" in await refusal(name, limits=Limits(result_bytes=MIB), **arguments)


async def test_a_reader_that_floods_is_gone_at_once_and_the_next_has_its_place() -> None:
    async with asyncio.timeout(30):
        for result_bytes in (1, 1000, MIB, 1, 1000, MIB):  # more often than there are places
            assert "too large" in await refusal("flooding", limits=Limits(result_bytes=result_bytes, wall_s=20))
    assert await made("text", b"next") == "next"


async def test_a_flood_of_complaints_is_let_go_by() -> None:
    assert await made("complaining") == "done"


async def test_endless_nesting_is_refused() -> None:
    assert "nested too deep" in await refusal("sinking")


async def test_half_a_character_does_not_break_the_answer() -> None:
    assert await made("half") == "a?b"


async def test_a_file_that_is_too_large_or_none_is_not_even_begun(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("w+b") as file:
        file.truncate(1 << 30)
        assert "has 1073741824 bytes; at most 67108864" in await refusal("text", file.fileno())
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert "no regular file" in await refusal("text", folder)
    finally:
        os.close(folder)


@walled
async def test_no_other_file_is_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    assert await made("opening", path=str(tmp_path / "secret")) == "PermissionError"
    assert await made("opening", path="/etc/passwd") == "PermissionError"
    assert await made("writing", path=str(tmp_path / "new")) == "PermissionError"
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(landlock.abi() < landlock.NETWORK_ABI, reason="this kernel's Landlock has no rules for ports")
async def test_no_connection_is_made() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert await made("calling", port=listener.getsockname()[1]) == "PermissionError"


@pytest.mark.skipif(not seccomp.can_filter(), reason="this kernel takes no filters of system calls")
@pytest.mark.parametrize(
    ("family", "kind", "protocol"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM, 0),
        (socket.AF_INET6, socket.SOCK_DGRAM, 0),
        (socket.AF_INET, socket.SOCK_STREAM, 262),  # multipath TCP, which Landlock's rules for ports do not see
        (socket.AF_UNIX, socket.SOCK_STREAM, 0),
        (socket.AF_UNIX, socket.SOCK_DGRAM, 0),
    ],
)
async def test_no_other_socket_is_to_be_had_either(family: int, kind: int, protocol: int) -> None:
    assert await made("asking_for", family=int(family), kind=int(kind), protocol=protocol) == "PermissionError"


@walled
async def test_no_program_is_run_and_nobody_is_sent_a_signal() -> None:
    assert await made("executing") == "PermissionError"
    if landlock.abi() >= landlock.SCOPE_ABI:
        assert await made("killing") == "PermissionError"


async def test_few_descriptors_are_open_at_a_time() -> None:
    assert await made("hogging") == "OSError"


async def test_it_knows_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "canary")
    assert "canary" not in str(await made("environment"))


async def test_every_file_has_a_child_of_its_own() -> None:
    pids = await asyncio.gather(*(made("process") for _ in range(8)))
    assert len({*pids, os.getpid()}) == 9


async def test_a_call_that_is_cancelled_leaves_no_child(tmp_path: Path) -> None:
    with (tmp_path / "pid").open("w+b") as into:
        limits = Limits(written_bytes=100)
        act = apart.run(READERS, "packs.readers:announcing", b"", {}, limits=limits, into=into.fileno())
        running = asyncio.ensure_future(act)
        async with asyncio.timeout(10):
            while not (tmp_path / "pid").read_text():  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)
