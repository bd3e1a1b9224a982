"""Real processes for tests: started in a group of their own, awaited with a deadline, never left behind."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).parent.parent
SERVERS: Final = ROOT / "tests" / "servers"
START_WITHIN_S: Final = 30.0
STOP_WITHIN_S: Final = 10.0

BRIDGE: Final = ("run", "--port", "0", "--")  # followed by the command of one stdio server


def server(name: str, *options: str) -> list[str]:
    """The command that runs tests/servers/{name}.py."""
    return [sys.executable, str(SERVERS / f"{name}.py"), *options]


@contextlib.contextmanager
def running_bascule(*args: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """`bascule args…`, which must serve and print its URL first, with a home of its own; gives the URL.

    What it wrote to stderr is shown when it does not start or when the body fails.
    """
    with tempfile.TemporaryDirectory(prefix="bascule-") as home:
        command = [sys.executable, "-m", "bascule", *args]
        isolated = {"HOME": home, "XDG_STATE_HOME": f"{home}/state", "XDG_CONFIG_HOME": f"{home}/config"}
        # As a person ends it: SIGTERM would have it serve on, until balancers have noticed.
        with running(command, {**os.environ, **isolated, **(env or {})}, signal.SIGINT) as first_line:
            yield first_line.split()[0]


@contextlib.contextmanager
def running(
    command: Sequence[str], env: Mapping[str, str] | None = None, end: signal.Signals = signal.SIGTERM
) -> Iterator[str]:
    """The process of *command*, once it has written its first line, which is what this gives."""
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=env,
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            yield _first_line(process)
        except BaseException:
            stderr.seek(0)
            said = stderr.read().decode(errors="replace")
            sys.stderr.write(f"--- stderr of {' '.join(command)}\n{said}\n")
            raise
        finally:
            _stop(process, end)


def _first_line(process: subprocess.Popen[bytes]) -> str:
    """The first line of stdout; what follows is read and dropped, so that the process never blocks on it."""
    assert process.stdout
    first: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_drain, args=[process.stdout, first], daemon=True).start()
    try:
        line = first.get(timeout=START_WITHIN_S)
    except queue.Empty:
        raise TimeoutError(f"no line on stdout within {START_WITHIN_S} s") from None
    if not line:
        raise RuntimeError(f"exited with {process.wait(STOP_WITHIN_S)} before its first line")
    return line.decode().strip()


def _drain(stdout: IO[bytes], first: queue.SimpleQueue[bytes]) -> None:
    with stdout:
        first.put(stdout.readline())
        while stdout.read1(65_536):  # type: ignore[attr-defined]  # a BufferedReader, though typed as IO
            pass


def _stop(process: subprocess.Popen[bytes], end: signal.Signals) -> None:
    """The signal to the process, a moment to clean up, then SIGKILL to whatever is left of its group."""
    process.send_signal(end)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_WITHIN_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
