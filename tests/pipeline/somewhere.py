"""An upstream in memory, and the health of it, for the tests of the stages that deal with failures."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
from msgspec import Raw

from bascule.call import Call, Result, Session, Target
from bascule.contract.model import Contract
from bascule.errors import BasculeError
from bascule.pipeline.health import Health, ServerHealth
from bascule.policy.breaker import Rules
from bascule.upstream.base import State, Status
from bascule.wire import headers
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import Era
from bascule.wire.wishes import Wishes
from pipeline.calls import ANSWER, call

READ, WRITE = Contract(id="crm/find", side_effect=False), Contract(id="crm/send")
UPSERT = Contract(id="crm/put", idempotent=True)
QUICK = Rules(open_s=0.05, longest_s=0.2, jitter=0.0)

Outcomes = Sequence[BasculeError | Result]


class Somewhere:
    """Answers what it is told to, one after the other, and the last one from then on."""

    spare = None

    def __init__(self, name: str = "crm", *outcomes: BasculeError | Result, era: Era = Era.MODERN) -> None:
        self.name = name
        self.outcomes: list[BasculeError | Result] = list(outcomes) or [ANSWER]
        self.calls: list[Call] = []
        self.open = asyncio.Event()  # nothing is answered while it is clear
        self.open.set()
        self.era = era
        self.forgotten = 0

    @property
    def methods(self) -> list[str]:
        return [each.method for each in self.calls]

    async def send(self, call: Call) -> Result:
        self.calls.append(call)
        await self.open.wait()
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, BasculeError):
            raise outcome
        if call.method == "server/discover":
            return Result(Raw(b'{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{}}'))
        return outcome

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def eras(self) -> Collection[Era]:
        return {self.era}

    async def tell(self, session: Session, method: str, params: Params) -> None: ...

    async def watch(self, session: Session) -> None: ...

    async def forget(self, session: Session) -> None:
        self.forgotten += 1

    def learn(self, mirrored: Mapping[str, Sequence[headers.MirroredParam]]) -> None: ...

    def status(self) -> Status:
        return Status(name=self.name, kind="http", state=State.READY)


def call_to(upstream: Somewhere, contract: Contract = WRITE, *, key: str = "", **more: object) -> Call:
    made = msgspec.structs.replace(call(contract=contract), target=Target(upstream, {}), **more)
    return msgspec.structs.replace(made, wishes=Wishes(key=key)) if key else made


def health_of(
    *upstreams: Somewhere, rules: Rules = QUICK, clock: Callable[[], float] | None = None
) -> tuple[Health, ServerHealth]:
    """The health of all, and of the first."""
    health = Health(rules=rules, chance=lambda: 0.5, **({} if clock is None else {"clock": clock}))
    health.adopt({upstream.name: upstream for upstream in upstreams})
    first = health.of(upstreams[0])
    assert first is not None
    return health, first


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - a circuit has no event
            await asyncio.sleep(0.005)
