"""How many calls may run at one time, at several gates at once; who finds one full waits there in line.

A call passes all of its gates at the same moment: while it waits for one it holds no place at another, so a
slow server keeps nobody from the others. It waits in the line of one full gate only; when that one has room
and another has not, it goes over to the other's line. Nobody waits at a gate that has room, and a new call
passes none in line.
A line is first come, first served within each caller, and callers take turns: a ticket has a round, one
later than that of the caller's ticket before it (start-time fair queueing; Goyal, Vin, Cheng 1996). When a
line is too long the last one is put out, which is one of whoever has most in it.
In this process only: places are given back by whoever took them, and dead replicas give nothing back.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from bascule.errors import Overloaded
from bascule.pipeline.whose import kind_of, whose

Wanted: TypeAlias = Sequence[tuple[str, int]]  # keys of gates, and how many places each has
Reason: TypeAlias = Literal["queue_full", "queue_timeout"]

_IDLE_KEPT: Final = 1000  # gates; most come back soon
_RETRY_AFTER_S: Final = 1.0  # when places come free nobody knows; a second is short for people and long for calls


class Gate:
    """So many places, and the line in front of them."""

    __slots__ = ("key", "line", "places", "taken", "users")

    def __init__(self, key: str, places: int) -> None:
        self.key = key
        self.places = places
        self.taken = 0
        self.users = 0  # calls that hold a place or want one: before it is 0 the gate cannot be forgotten
        self.line: deque[_Ticket] = deque()


class _Ticket:
    """One call that waits."""

    __slots__ = ("at", "gates", "number", "owner", "passed", "round", "turn")

    def __init__(
        self, owner: str, gates: Sequence[Gate], number: int, turn: "asyncio.Future[Overloaded | None]"
    ) -> None:
        self.owner = owner
        self.gates = gates
        self.number = number  # the older, the less
        self.round = 0  # in the line where it waits
        self.turn = turn  # None: it has passed
        self.at: Gate | None = None  # where it waits
        self.passed = False

    @property
    def rank(self) -> tuple[int, int]:
        return self.round, self.number


class Gates:
    """All gates of this process. *queued* calls may wait at each, for *timeout_s*; both may be changed."""

    def __init__(self, queued: int, timeout_s: float) -> None:
        self.queued = queued
        self.timeout_s = timeout_s
        self._gates: dict[str, Gate] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._gates)

    async def enter(self, owner: str, wanted: Wanted) -> Sequence[Gate]:
        """Take a place at each gate, all at one moment. Give them to `leave` afterwards.

        *owner* is the caller. *wanted* begins with the gate that fewest callers share. Raises Overloaded,
        with a reason in its details, when a line is full or too slow.
        """
        gates = self._join(wanted)
        for gate in gates:
            if gate.taken >= gate.places:
                await self._wait(owner, gates, gate)
                return gates
        for gate in gates:
            gate.taken += 1
        return gates

    def leave(self, gates: Sequence[Gate]) -> None:
        """Give back what `enter` took, to whoever has waited longest: first where most callers wait."""
        for gate in gates:
            gate.taken -= 1
        for gate in reversed(gates):
            if gate.line:
                self._serve(gate)
        self._part(gates)

    def full(self, wanted: Wanted) -> str | None:
        """The key of the first gate without room, if there is one; nothing is taken."""
        for key, places in wanted:
            gate = self._gates.get(key)
            if gate is not None and gate.taken >= places:
                return key
        return None

    # ---- gates

    def _join(self, wanted: Wanted) -> Sequence[Gate]:
        known = self._gates
        gates = []
        for key, places in wanted:
            gate = known.get(key)
            if gate is None:
                gate = known[key] = Gate(key, places)
            elif gate.places != places:  # the configuration has changed
                gate.places = places
                self._serve(gate)
            gate.users += 1
            gates.append(gate)
        return gates

    def _part(self, gates: Sequence[Gate]) -> None:
        """Take back a `_join`."""
        for gate in gates:
            gate.users -= 1
            if not gate.users and len(self._gates) > _IDLE_KEPT:
                del self._gates[gate.key]

    # ---- lines

    async def _wait(self, owner: str, gates: Sequence[Gate], full: Gate) -> None:
        loop = asyncio.get_running_loop()
        ticket = _Ticket(owner, gates, next(self._numbers), loop.create_future())
        timer = loop.call_later(self.timeout_s, self._give_up, ticket)
        self._line_up(ticket, full)
        entered = False
        try:
            refusal = await ticket.turn
            if refusal is not None:
                raise refusal
            entered = True
        finally:
            timer.cancel()
            if not entered:
                self._withdraw(ticket)

    def _serve(self, gate: Gate) -> None:
        """Let in as many as there is room for; who finds another gate full goes over to its line."""
        while gate.line and gate.taken < gate.places:
            ticket = gate.line.popleft()
            ticket.at = None
            if ticket.turn.done():
                continue  # cancelled, but it has not run since
            full = next((each for each in ticket.gates if each.taken >= each.places), None)
            if full is not None:
                self._line_up(ticket, full)
                continue
            for each in ticket.gates:
                each.taken += 1
            ticket.passed = True
            ticket.turn.set_result(None)

    def _line_up(self, ticket: _Ticket, gate: Gate) -> None:
        """Put *ticket* into the line, in the round after that of its caller's last older one."""
        line = gate.line
        older = [each.round + 1 for each in line if each.owner == ticket.owner and each.number < ticket.number]
        ticket.round = older[-1] if older else line[0].round if line else 0
        ticket.at = gate
        place = len(line)
        while place and line[place - 1].rank > ticket.rank:
            place -= 1
        line.insert(place, ticket)
        if len(line) > self.queued:
            _refuse(line.pop(), gate, "queue_full", "and too many calls wait for one")

    def _give_up(self, ticket: _Ticket) -> None:
        if ticket.at is not None and not ticket.turn.done():
            gate = ticket.at
            gate.line.remove(ticket)
            _refuse(ticket, gate, "queue_timeout", "and none came free in time")

    def _withdraw(self, ticket: _Ticket) -> None:
        """*ticket* was refused or cancelled; its place, if it came at the same moment, goes to the next."""
        if ticket.passed:
            self.leave(ticket.gates)
            return
        if ticket.at is not None:
            ticket.at.line.remove(ticket)
        self._part(ticket.gates)


def _refuse(ticket: _Ticket, gate: Gate, reason: Reason, why: str) -> None:
    ticket.at = None
    if not ticket.turn.done():  # else it was cancelled, and will hear of that
        message = f"{whose(gate.key)} has at most {gate.places} calls at one time: all places are taken, {why}"
        refusal = Overloaded(message, limit=kind_of(gate.key), concurrent=gate.places, reason=reason)
        refusal.retry_after_s = _RETRY_AFTER_S
        ticket.turn.set_result(refusal)
