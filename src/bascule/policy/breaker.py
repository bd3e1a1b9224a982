"""When a server is left alone: a circuit that is closed, open or half open. PURE.

closed     calls pass. So many failures one after the other open it, or a share of the calls of the last seconds.
open       no call passes until `until_s`; each time that it opens again without having closed, twice as long
half open  one probe at a time; so many in a row that are answered close it, and one that fails opens it again

Whoever enters is told the circuit's `epoch`, and says it again with the outcome: what began before the circuit
changed says nothing of the time after. What counts as a failure is not decided here (pipeline/health.py).
Source: M. Nygard, "Release It!"; docs/reliability.md.
"""

from typing import Final, Literal, TypeAlias, assert_never

import msgspec

Mode: TypeAlias = Literal["closed", "open", "half_open"]
Held: TypeAlias = Literal["open", "closed"]  # by an operator, whatever happens
Admission: TypeAlias = Literal["pass", "probe", "refuse"]

_MOST_DOUBLINGS: Final = 32  # far beyond any longest wait; a float has room for it


class Rules(msgspec.Struct, frozen=True):
    """Times in seconds."""

    in_a_row: int = 5
    window_s: int = 10
    least: int = 20  # calls in the window: of fewer a share says nothing
    share: float = 0.5
    open_s: float = 30.0
    longest_s: float = 300.0
    jitter: float = 0.2  # so that gateways which met the same outage do not come back together
    to_close: int = 2


RULES: Final = Rules()


class Second(msgspec.Struct, frozen=True):
    """The calls that ended in one second of the clock."""

    at: int
    answered: int = 0
    failed: int = 0


class Circuit(msgspec.Struct, frozen=True):
    """Everything that is known of one. Times are those of the caller's clock, which does not step back."""

    mode: Mode = "closed"
    epoch: int = 0  # one more with each change of mode
    since_s: float = 0.0
    in_a_row: int = 0  # failures since the last answer
    seconds: tuple[Second, ...] = ()  # closed: the window, oldest first
    openings: int = 0  # since it was closed
    until_s: float = 0.0  # open: when the first probe may go
    probing: bool = False  # half open: a probe is under way
    successes: int = 0  # half open: probes that were answered
    held: Held | None = None


class Answered(msgspec.Struct, frozen=True):
    """*calls* were answered, in one second: whatever the answer is, the server is there."""

    epoch: int
    calls: int = 1


class Failed(msgspec.Struct, frozen=True):
    """A call got no answer, or nonsense."""

    epoch: int


class Began(msgspec.Struct, frozen=True):
    """A probe goes out, as `admission` allowed."""


class Withdrawn(msgspec.Struct, frozen=True):
    """A probe has ended without telling anything."""

    epoch: int


class Hold(msgspec.Struct, frozen=True):
    """An operator keeps it open, or closed; None gives it back to itself, closed."""

    as_: Held | None


Event: TypeAlias = Answered | Failed | Began | Withdrawn | Hold


def step(circuit: Circuit, event: Event, now_s: float, jitter: float = 0.0, rules: Rules = RULES) -> Circuit:
    """The circuit after *event* at *now_s*; *jitter*, from -1 to 1, is drawn anew for each event."""
    if isinstance(event, Hold):
        return Circuit(epoch=circuit.epoch + 1, since_s=now_s, held=event.as_)
    if circuit.held is not None:
        return circuit
    if isinstance(event, Began):
        return _probed(circuit, now_s)
    if event.epoch != circuit.epoch or circuit.mode == "open":
        return circuit
    if circuit.mode == "half_open":
        return _tried(circuit, event, now_s, jitter, rules) if circuit.probing else circuit
    match event:
        case Answered(calls=calls):
            counted = msgspec.structs.replace(circuit, in_a_row=0, seconds=_with(circuit, now_s, calls, 0, rules))
        case Failed():
            seconds = _with(circuit, now_s, 0, 1, rules)
            counted = msgspec.structs.replace(circuit, in_a_row=circuit.in_a_row + 1, seconds=seconds)
        case Withdrawn():
            return circuit
        case _:
            assert_never(event)
    return _opened(counted, now_s, jitter, rules) if _fails(counted, rules) else counted


def admission(circuit: Circuit, now_s: float) -> Admission:
    """Whether a call passes, may pass as a probe, or is refused."""
    if circuit.held is not None:
        return "pass" if circuit.held == "closed" else "refuse"
    match circuit.mode:
        case "closed":
            return "pass"
        case "open":
            return "probe" if now_s >= circuit.until_s else "refuse"
        case "half_open":
            return "refuse" if circuit.probing else "probe"
        case _:
            assert_never(circuit.mode)


def is_calm(circuit: Circuit) -> bool:
    """Whether nothing but counting comes of an answer, so that answers may be counted together."""
    return circuit.mode == "closed" and not circuit.in_a_row and not any(second.failed for second in circuit.seconds)


def counted(circuit: Circuit) -> tuple[int, int]:
    """(calls, failures) in the window."""
    failures = sum(second.failed for second in circuit.seconds)
    return sum(second.answered for second in circuit.seconds) + failures, failures


def _with(circuit: Circuit, now_s: float, answered: int, failed: int, rules: Rules) -> tuple[Second, ...]:
    """The window with these calls in it, and without what is too old."""
    last = circuit.seconds[-1] if circuit.seconds else Second(int(now_s))
    at = max(int(now_s), last.at)  # answers that were counted together are told of afterwards
    same = last if last.at == at else Second(at)
    kept = tuple(each for each in circuit.seconds if at - rules.window_s < each.at < at)
    return (*kept, Second(at, same.answered + answered, same.failed + failed))


def _fails(circuit: Circuit, rules: Rules) -> bool:
    calls, failures = counted(circuit)
    return circuit.in_a_row >= rules.in_a_row or (calls >= rules.least and failures >= rules.share * calls)


def _opened(circuit: Circuit, now_s: float, jitter: float, rules: Rules) -> Circuit:
    wait_s = min(rules.longest_s, rules.open_s * 2.0 ** min(circuit.openings, _MOST_DOUBLINGS))
    return Circuit(
        mode="open",
        epoch=circuit.epoch + 1,
        since_s=now_s,
        in_a_row=circuit.in_a_row,
        openings=circuit.openings + 1,
        until_s=now_s + wait_s * (1 + rules.jitter * jitter),
    )


def _probed(circuit: Circuit, now_s: float) -> Circuit:
    if admission(circuit, now_s) != "probe":
        return circuit
    if circuit.mode == "half_open":
        return msgspec.structs.replace(circuit, probing=True)
    half = msgspec.structs.replace(circuit, mode="half_open", epoch=circuit.epoch + 1, since_s=now_s)
    return msgspec.structs.replace(half, probing=True, successes=0)


def _tried(
    circuit: Circuit, event: Answered | Failed | Withdrawn, now_s: float, jitter: float, rules: Rules
) -> Circuit:
    """What the probe comes to."""
    if isinstance(event, Withdrawn):
        return msgspec.structs.replace(circuit, probing=False)
    if isinstance(event, Failed):
        failed = msgspec.structs.replace(circuit, in_a_row=circuit.in_a_row + 1)
        return _opened(failed, now_s, jitter, rules)
    if circuit.successes + 1 >= rules.to_close:
        return Circuit(epoch=circuit.epoch + 1, since_s=now_s)
    return msgspec.structs.replace(circuit, probing=False, successes=circuit.successes + 1, in_a_row=0)
