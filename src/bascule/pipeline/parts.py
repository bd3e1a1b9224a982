"""What the stages of all tools have in common, and what outlives a change of the configuration."""

from dataclasses import dataclass, field

from bascule.observe.traces import Tracing
from bascule.pipeline.cache import Results
from bascule.pipeline.confirm import NOBODY, Asking
from bascule.pipeline.deadline import Deadline
from bascule.pipeline.fallback import Others
from bascule.pipeline.gates import Gates
from bascule.pipeline.health import Health
from bascule.pipeline.reserve import Unfinished
from bascule.store.records import Records
from bascule.store.shared import SharedState


class _None:
    """Nobody stands in for anybody."""

    def find(self, server: str, tool: str) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a gateway that its stages work with; what is left out is there and does nothing."""

    state: SharedState
    gates: Gates
    records: Records | None = None  # None where none are kept
    unfinished: Unfinished = field(default_factory=Unfinished)
    health: Health = field(default_factory=Health)
    asking: Asking = NOBODY
    results: Results = field(default_factory=lambda: Results(1))
    deadline: Deadline = field(default_factory=lambda: Deadline(dict))
    others: Others = field(default_factory=_None)
    tracing: Tracing | None = None  # None where calls are not traced
