"""The audit verified while its gateway runs: one look along the whole chain at a time, beside everything else."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from bascule.admin import audit
from bascule.errors import BasculeError
from bascule.store.chain import Verdict

_BREATH_S: Final = 0.0005  # for calls that run in this process, each time that some entries were looked at
_LOOK_S: Final = 0.02


class Look(msgspec.Struct):
    """One look along the chain, which may go on yet."""

    by: str
    began_s: float  # Unix time
    entries: int = 0  # that were looked at
    of: int = 0  # that there were when it began
    ended_s: float | None = None
    verdict: Verdict | None = None
    error: str = ""  # why there is no verdict


class Verification:
    """At most one look at a time; what came of the last one is kept as long as the process lives."""

    def __init__(self, state: Path, anchored: Path) -> None:
        self._state = state
        self._anchored = anchored
        self._look: Look | None = None

    def begin(self, by: str) -> Look:
        """The look that goes on, or a new one in the name of *by*."""
        if self._look is None or self._look.ended_s is not None:
            self._look = Look(by, time.time())
            # Nothing waits for this thread when the process ends: it only reads.
            threading.Thread(target=self._run, args=(self._look,), name="bascule-verify", daemon=True).start()
        return self._look

    async def ended(self, look: Look) -> None:
        """Wait until *look* has ended."""
        while look.ended_s is None:  # noqa: ASYNC110 - threads have no event that can be awaited
            await asyncio.sleep(_LOOK_S)

    def report(self) -> dict[str, Any]:
        """How far it has come, or what came of it, in JSON. Times are RFC 3339, in UTC."""
        look = self._look
        if look is None:
            return {"state": "never", "verdict": None, "error": None}
        state = "running" if look.ended_s is None else "failed" if look.verdict is None else "done"
        return {
            "state": state,
            "by": look.by,
            "began": audit.date_of(look.began_s * 1_000_000),
            "ended": None if look.ended_s is None else audit.date_of(look.ended_s * 1_000_000),
            "took_s": round((look.ended_s or time.time()) - look.began_s, 3),
            "entries": look.entries,
            "of": max(look.of, look.entries),
            "verdict": None if look.verdict is None else audit.verdict_report(look.verdict),
            "error": look.error or None,
        }

    def _run(self, look: Look) -> None:
        def looked(count: int) -> None:
            look.entries = count
            time.sleep(_BREATH_S)

        try:
            with audit.Log(self._state) as log:
                look.of = log.last()
                look.verdict = log.verify(self._anchored, audit.keys_of(self._state), looked=looked)
                look.entries = look.verdict.entries
        except BasculeError as error:
            look.error = error.message
        finally:
            look.error = look.error or ("" if look.verdict else "it failed, by a fault of Bascule's; its log says more")
            look.ended_s = time.time()
