"""All processes that belong to one child: found by a mark in their environment, and ended with us, however we end.

Run as a program it is the warden: a small process in a session of its own that reads what children there are, and when
its input ends, because Bascule has ended in whatever way, ends those that are left. Imports nothing of ours.
"""

import os
import signal
import sys
import time
from typing import Final

MARK: Final = "BASCULE_CHILD"  # in a child's environment: whatever it starts can be found again
_OWN_END_S: Final = 2.0  # for children to notice that their input has ended
_LOOK_EVERY_S: Final = 0.1
_PASSES: Final = 3  # of killing: one that forks just then has a child that was not seen

Family = set[tuple[int, str]]


def marked(mark: str) -> Family:
    """(pid, start time) of every process that carries *mark* in its environment. Linux; elsewhere empty.

    Group and session are not enough: a helper that daemonised itself would outlive its server, and
    once its parent is dead only what it inherited tells whose it is.
    """
    sought = f"{MARK}={mark}".encode()
    family = set()
    for entry in os.listdir("/proc") if mark and os.path.isdir("/proc") else ():
        if entry.isdigit() and sought in _environment(entry) and (started := _started(int(entry))):
            family.add((int(entry), started))
    return family


def deliver(family: Family, leader: int, number: signal.Signals) -> None:
    """Send *number* to the leader's group, and to each of *family* that is still the same process."""
    try:
        if leader:
            os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        pass  # the group is gone
    for pid, started in family:
        if _started(pid) == started:  # the pid was not given to a stranger meanwhile
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                pass  # it ended between the look and the signal


def _environment(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""  # ended meanwhile, or not ours


def _started(pid: int) -> str | None:
    """When a live process started, in the kernel's ticks; with the pid it names one process for ever."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


# ---- our side of the warden


class Warden:
    """Tells the warden of each child. It is there as long as there is one."""

    def __init__(self) -> None:
        self._pid = 0
        self._to = -1
        self._leaders: dict[str, int] = {}  # by mark

    def watch(self, mark: str, leader: int = 0) -> None:
        """From now on children of *mark* end with us. Said before the start, and again when their *leader* is known."""
        self._leaders[mark] = leader
        if self._to < 0:
            self._start()
            for each in self._leaders:
                self._say(f"+ {each} {self._leaders[each]}\n")
        else:
            self._say(f"+ {mark} {leader}\n")

    def forget(self, mark: str) -> None:
        """None of them is left."""
        self._leaders.pop(mark, None)
        self._say(f"- {mark} 0\n")
        if not self._leaders:
            self._dismiss()

    def _say(self, line: str) -> None:
        if self._to >= 0:
            try:
                os.write(self._to, line.encode())
            except OSError:
                self._dismiss()  # it was killed; the next child starts another

    def _start(self) -> None:
        if not sys.executable or not hasattr(os, "posix_spawn"):
            return  # then children have to notice the end of their input
        theirs, self._to = os.pipe()
        os.set_blocking(self._to, False)
        actions = [
            (os.POSIX_SPAWN_DUP2, theirs, 0),
            *((os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)),
        ]
        try:
            # -I -S: no path, no site, nothing of the user's; it starts in milliseconds and needs little memory.
            self._pid = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", __file__], {}, file_actions=actions)
        except OSError:
            os.close(self._to)
            self._to = -1
        finally:
            os.close(theirs)

    def _dismiss(self) -> None:
        """End it: there is nobody to watch, or it does not listen."""
        if self._to >= 0:
            os.close(self._to)
            self._to = -1
            try:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass  # somebody else has waited for it


WARDEN: Final = Warden()  # one for all children of this process


# ---- the warden itself


def _keep_watch() -> None:
    """Read until the end of the input, then end whoever is left."""
    os.setsid()  # the signals of a terminal are not for us
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # who ends everything in sight still needs us to the last
    os.chdir("/")
    leaders: dict[str, int] = {}
    for line in sys.stdin:
        sign, mark, leader = line.split()
        if sign == "-":
            leaders.pop(mark, None)
        else:
            leaders[mark] = int(leader)
    until = time.monotonic() + _OWN_END_S
    while time.monotonic() < until and (not os.path.isdir("/proc") or any(marked(mark) for mark in leaders)):
        time.sleep(_LOOK_EVERY_S)
    for _ in range(_PASSES):
        for mark, leader in leaders.items():
            deliver(marked(mark), leader, signal.SIGKILL)
        time.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    _keep_watch()
