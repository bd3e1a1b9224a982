"""A story of the kill campaign: some lives of Bascule on one state folder, in which it pays and is killed.

In each life payments with keys are sent; all lives but the last end by SIGKILL, at a crash point or at any moment.
Whatever was not answered is sent again, and some of what was: to the next life, or to a second process on the same
folder. What a key gets then follows from how far its call had come. All is drawn from the seed of the story; which
call comes first is up to the machine.
"""

import asyncio
import contextlib
import json
import random
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway import WITHIN_S, Bascule

from soak.lives import Bank, Life
from soak.payments import SETTLED, Heard, Kind, Payment, client_of, send
from soak.records import ends_of, fault_of_chain, is_whole

# How often a life ends where. From outside: CP4 when the server has paid and has not answered, "any" moment, and
# "bare", any moment of a process without a launcher.
POINTS: Final = {
    "CP0": 3,
    "CP1": 4,
    "CP2": 5,
    "CP3": 5,
    "CP4": 5,
    "CP5": 5,
    "CP6": 5,
    "CP7": 5,
    "TX": 5,
    "any": 7,
    "bare": 1,
}
SETTINGS: Final = {"modern http": 5, "plain http": 2, "modern stdio": 2, "plain stdio": 2}
NEW_PAYMENTS: Final = (3, 6)  # in each life, at one time
DIES_WITHIN_S: Final = 0.5  # after the last answer, if it was meant to die by itself

# The table of crash points, word by word: what the call that was killed there gets, and how often it was executed.
TABLE: Final[dict[str, Kind]] = {
    **dict.fromkeys(("CP0", "CP1"), "result"),
    **dict.fromkeys(("CP2", "CP3", "CP4", "CP5"), "unknown"),
    **dict.fromkeys(("CP6", "CP7"), "replay"),
}
EXECUTED: Final = {
    "CP2": 0,
    "CP4": 1,
    "CP5": 1,
}  # if it is not run again; CP3 too, but a server on a pipe may die first
# A moment passes between the decision to die and death: a call that had come further by then was not killed there.
# How the audit says that such a call has ended: by its next life, or by the old one if that wrote it in time.
RECOVERED: Final = {
    **{point: {("outcome_recovered", "unknown")} for point in ("CP2", "CP3", "CP4", "CP5")},
    "CP6": {("outcome_recovered", "completed")},
    "CP7": {("outcome_recovered", "completed"), ("call", "answered")},
}
AT: Final = {"CP3": "started", "CP4": "started", "CP7": "replied"}


@dataclass
class Findings:
    """What a campaign has seen."""

    kills: Counter[str] = field(default_factory=Counter)  # by point
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # of the call killed there
    payments: dict[str, Payment] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    double: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    broken_chain: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.double or self.lost or self.broken_chain or self.wrong)


class Story:
    """Some lives of Bascule on one state folder."""

    def __init__(self, seed: int, kills: int, folder: Path, bank: Bank, found: Findings) -> None:
        self.seed = seed
        self._kills = kills
        self._dice = random.Random(seed)
        self._folder = folder
        self._bank = bank
        self._found = found
        self._payments: dict[str, Payment] = {}
        self._dead: list[tuple[str, str]] = []  # (crash point, id in the journal)
        self._state = folder / "state"
        self._setting = self._draw(SETTINGS)

    def _draw(self, weights: dict[str, int]) -> str:
        return self._dice.choices(list(weights), list(weights.values()))[0]

    async def run(self) -> None:
        (self._folder / "bascule.json").write_text(json.dumps(self._bank.config(self._setting, self._state)))
        for number in range(self._kills):
            # The first kill of so many seeds one after the other is at each point once.
            point = list(POINTS)[self.seed % len(POINTS)] if number == 0 else self._draw(POINTS)
            await self._life(number, point)
        if self._dice.random() < 0.15:
            await self._stopping_life()
        await self._last_life()
        self._check_ends()
        self._found.payments |= self._payments

    def wrong(self, what: str) -> None:
        self._found.wrong.append(f"seed {self.seed} ({self._setting}): {what}")

    # ---- a life that ends by SIGKILL

    async def _life(self, number: int, point: str) -> None:
        fresh = [self._payment(number, n, point) for n in range(self._dice.randint(*NEW_PAYMENTS))]
        again = self._again()
        self._payments |= {each.key: each for each in fresh}
        life = Life(str(number), self._folder)
        nth = self._dice.randint(1, len(fresh) * (3 if point == "TX" else 1))
        if point == "CP4":
            self._kill_after_execution(life, self._dice.choice(fresh))
        async with contextlib.AsyncExitStack() as stack:
            other = await stack.enter_async_context(self._other(number)) if self._dice.random() < 0.2 else None
            async with client_of(await life.start(point, nth)) as bascule:
                await self._check_chain(bascule)
                old = [self._settle(bascule, each) for each in again]
                new = [self._send_first(bascule, other or bascule, each) for each in fresh]
                await self._killed(life, point, asyncio.gather(*old, *new))
            self._follow(life)
            if point == "bare":
                for each in fresh + again:
                    each.phase, each.killed_at = each.phase if each.settled else "unseen", ""
            if other is not None:
                await asyncio.gather(*(self._settle(other, each) for each in self._again()))
        if other is not None:
            self._follow(Life(f"{number}-other", self._folder))

    @contextlib.asynccontextmanager
    async def _other(self, number: int) -> AsyncIterator[Bascule]:
        """A second process on the same folder, which lives on."""
        life = Life(f"{number}-other", self._folder)
        async with client_of(await life.start("", 0)) as bascule:
            yield bascule
        await self._stopped(life)

    def _payment(self, life: int, number: int, point: str) -> Payment:
        return Payment(
            key=f"kill-{self.seed}.{life}.{number}-{self._dice.getrandbits(40):010x}",
            tool="pay_idempotent" if self._dice.random() < 0.15 else "pay",
            amount=self._dice.randint(1, 1000),
            in_header=self._dice.random() < 0.5,
            twin_waits_s=self._dice.choice((None, None, 0, 5)),
            # Then no answer comes before the kill that waits for the kernel to have the bytes.
            before_s=0.15 if point == "CP3" else 0.0,
        )

    def _again(self) -> list[Payment]:
        """What has to be sent again: all that was not answered, and some of what was."""
        settled = [each for each in self._payments.values() if each.settled]
        unsettled = [each for each in self._payments.values() if not each.settled]
        return unsettled + self._dice.sample(settled, min(2, len(settled)))

    def _kill_after_execution(self, life: Life, payment: Payment) -> None:
        def kill() -> None:
            life.mark(payment.key, "killed CP4")
            life.signal(signal.SIGKILL)

        payment.after_s = 1.0
        self._bank.when(f"executed {payment.key}", kill)

    async def _killed(self, life: Life, point: str, sending: "asyncio.Future[list[None]]") -> None:
        """Wait for the end that is planned, or make one."""
        dying = asyncio.ensure_future(life.ended())
        if point in ("any", "bare"):
            await asyncio.wait({dying}, timeout=self._dice.random() * 0.08)
        else:
            both: list[asyncio.Future[Any]] = [dying, sending]
            await asyncio.wait(both, timeout=WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({dying}, timeout=DIES_WITHIN_S)
        if not dying.done():
            life.signal(signal.SIGKILL)
            point = point if point == "bare" else "any"
        if (status := await dying) == -signal.SIGKILL:
            self._found.kills[point] += 1
        else:
            self.wrong(f"Bascule ended by itself with {status}")
        await sending

    def _follow(self, life: Life) -> None:
        """Take note of how far each call had come."""
        for key, mark in life.marks():
            payment = self._payments.get(key)
            if payment is None:
                continue
            word, _, point = mark.partition(" ")
            if word == "killed":
                payment.killed_at = point if payment.phase == AT.get(point, payment.phase) else ""
                if payment.killed_at and not payment.repeatable:
                    self._dead.append((point, payment.row))
            elif payment.take(mark):
                payment.killed_at = ""  # that was in another life

    # ---- a life that ends by SIGTERM while it pays

    async def _stopping_life(self) -> None:
        """Whatever had come as far as the journal is answered before the process ends; the rest was never run."""
        life = Life("stopping", self._folder)
        fresh = [self._payment(self._kills, number, "stopping") for number in range(NEW_PAYMENTS[1])]
        for each in fresh:
            each.before_s = self._dice.random() * 0.3
        self._payments |= {each.key: each for each in fresh}
        async with client_of(await life.start("", 0)) as bascule:
            await self._check_chain(bascule)
            sending = asyncio.gather(*(self._settle(bascule, each, {"result", "draining"}) for each in fresh))
            await asyncio.wait({sending}, timeout=self._dice.random() * 0.2)
            life.terminate()
            await sending
        await self._stopped(life)
        self._follow(life)
        for each in fresh:
            if not each.settled and each.phase:
                self.wrong(f"{each.key} had come to {each.phase!r} when the process was told to stop; it got no answer")
        self._found.counts["stopped while they paid"] += 1

    # ---- the last life

    async def _last_life(self) -> None:
        life = Life("last", self._folder)
        everything = list(self._payments.values())
        async with client_of(await life.start("", 0)) as bascule:
            await self._check_chain(bascule)
            for _ in range(2):  # what runs again in the first turn is replayed in the second
                await asyncio.gather(*(self._settle(bascule, each) for each in everything))
        await self._stopped(life)
        for each in everything:
            if not each.settled:
                self.wrong(f"{each.key} got no answer in the last life")

    async def _stopped(self, life: Life) -> None:
        life.terminate()
        if (status := await life.ended(WITHIN_S * 2)) != 0:
            self.wrong(f"Bascule was told to stop and ended with {status}")

    # ---- the audit

    async def _check_chain(self, bascule: Bascule) -> None:
        """After a start, what the last life left behind has been looked after."""
        if bascule.url and (fault := await asyncio.to_thread(fault_of_chain, self._state)) is not None:
            self._found.broken_chain.append(fault)
            self.wrong(f"the chain is broken: {fault}")

    def _check_ends(self) -> None:
        """Every call that was announced has one end, and those that were killed have the right one."""
        if (fault := fault_of_chain(self._state)) is not None:
            self._found.broken_chain.append(fault)
            self.wrong(f"the chain is broken at the end: {fault}")
        if not is_whole(self._state):
            self.wrong("the database is damaged")
        ends = ends_of(self._state)
        for each in ends.faults:
            self.wrong(each)
        for point, row in self._dead:
            if point not in RECOVERED:
                continue
            found = ends.by_row.get(row, [])
            if not RECOVERED[point] & set(found):
                self.wrong(f"{row} was killed at {point}; the audit says of its end {found}")
            self._found.counts[f"{point} recovered"] += any(kind == "outcome_recovered" for kind, _ in found)

    # ---- judging

    async def _send_first(self, bascule: Bascule, other: Bascule, payment: Payment) -> None:
        """Send it for the first time; some are sent twice at the same moment."""
        if payment.twin_waits_s is None:
            await self._settle(bascule, payment, {"result"})
            return
        possible: set[Kind] = {"result", "replay", "in flight", "unknown"}  # unknown: when the process of the twin died
        await asyncio.gather(
            self._settle(bascule, payment, possible),
            self._settle(other, payment, possible, wait_s=payment.twin_waits_s),
        )

    async def _settle(
        self, bascule: Bascule, payment: Payment, possible: Iterable[Kind] | None = None, wait_s: int = 0
    ) -> None:
        """Send *payment*, and judge what it gets by what is known of it, unless *possible* says what it may get."""
        expected = payment.expected() if possible is None else frozenset(possible)
        heard = await send(bascule, payment, wait_s) if bascule.url else Heard("nothing")
        if heard.kind == "nothing":
            return
        if heard.kind not in expected:
            self._judge_surprise(payment, heard, expected)
        if heard.kind in ("result", "replay"):
            self._judge_result(payment, heard)
        self._judge_by_table(payment, heard)
        if heard.kind in SETTLED:
            payment.phase, payment.settled = SETTLED[heard.kind], True

    def _judge_surprise(self, payment: Payment, heard: Heard, expected: frozenset[Kind]) -> None:
        said = f"{payment.key} had come to {payment.phase!r}, got {heard.kind!r} and not {set(expected)}"
        self.wrong(f"{said}: {heard.text[:600]}")
        if "replay" in expected and len(expected) == 1:
            self._found.lost.append(payment.key)

    def _judge_result(self, payment: Payment, heard: Heard) -> None:
        if payment.told is not None and payment.told != heard.text:
            self._found.lost.append(payment.key)
            self.wrong(f"{payment.key} was told {payment.told} and now {heard.text}")
        payment.told = heard.text

    def _judge_by_table(self, payment: Payment, heard: Heard) -> None:
        point, payment.killed_at = payment.killed_at, ""
        if not point:
            return
        self._found.outcomes[point][f"{heard.kind}, repeatable" if payment.repeatable else heard.kind] += 1
        if payment.repeatable:
            return
        if heard.kind == "replay" and point in ("CP0", "CP1") and payment.twin_waits_s is not None:
            return  # it had not been sent, and its twin, at the other process, has been
        if heard.kind != TABLE[point]:
            self.wrong(f"{payment.key} was killed at {point} and then got {heard.kind}: {heard.text[:300]}")
        if heard.kind == "unknown":
            payment.executed = EXECUTED.get(point)


def judge_executions(found: Findings, counted: Counter[str]) -> None:
    """What the servers have counted, against what is known of each payment."""
    for key, payment in found.payments.items():
        times, seed = counted[key], key.split("-")[1].split(".")[0]
        if times > 1 and not payment.repeatable:
            found.double.append(key)
            found.wrong.append(f"seed {seed}: {key} was executed {times} times")
        elif times == 0 and payment.told is not None:
            found.wrong.append(f"seed {seed}: {key} has a result, but was never executed")
        elif payment.executed not in (None, times):
            found.wrong.append(f"seed {seed}: {key} was executed {times} times, and not {payment.executed}")
