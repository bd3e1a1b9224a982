"""A server that an operator has switched off: it stands in its place, and nothing of it runs or is asked."""

from collections.abc import Collection, Mapping, Sequence

from bascule.call import Call, Result, Session
from bascule.upstream.base import State, Status
from bascule.upstream.untried import Untried
from bascule.wire import headers
from bascule.wire.jsonrpc import Params
from bascule.wire.versions import Era


class SwitchedOff:
    """An upstream (`upstream.base.Upstream`) that refuses."""

    spare = None

    def __init__(self, name: str, kind: str, why: str) -> None:
        """*why*: who has switched it off, and what they said, in words."""
        self.name = name
        self._kind = kind
        self._why = why

    async def start(self) -> None:
        """There is nothing to start."""

    async def stop(self) -> None:
        """There is nothing to stop."""

    async def eras(self) -> Collection[Era]:
        raise self._refusal()

    async def send(self, call: Call) -> Result:
        raise self._refusal()

    async def tell(self, session: Session, method: str, params: Params) -> None:
        raise self._refusal()

    async def watch(self, session: Session) -> None:
        raise self._refusal()

    async def forget(self, session: Session) -> None:
        """It knows no session."""

    def learn(self, mirrored: Mapping[str, Sequence[headers.MirroredParam]]) -> None:
        """Nobody lists anything."""

    def status(self) -> Status:
        return Status(name=self.name, kind=self._kind, state=State.OFF, last_error=self._why)

    def _refusal(self) -> Untried:
        refusal = Untried(f"it is switched off: {self._why}")
        refusal.source = self.name
        return refusal
