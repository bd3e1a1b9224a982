"""What probes of orchestrators and balancers ask, and the pages for operators beside it.

Whoever asks a probe shows no credential, so that it hears no names where callers say who they are.
"""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import bascule
from bascule.admin import status
from bascule.config import identifies

if TYPE_CHECKING:
    from bascule.app import Gateway

Page: TypeAlias = Callable[[], tuple[int, bytes]]  # -> (HTTP status, JSON)


class Probes:
    """The pages of one gateway."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._has_started = False

    @property
    def pages(self) -> Mapping[str, Page]:
        """By path. All under `/health` and `/ready` are for everybody."""
        return {
            "/status": self.report,
            "/mcp-status": self.report,
            "/health": self.live,
            "/health/live": self.live,
            "/health/ready": self.ready,
            "/ready": self.ready,
            "/health/startup": self.started,
        }

    def report(self) -> tuple[int, bytes]:
        return 200, _json(status.report(self._gateway))

    def live(self) -> tuple[int, bytes]:
        """Who can answer this lives."""
        return 200, _json({"status": "live", "version": bascule.__version__})

    def ready(self) -> tuple[int, bytes]:
        """Whether traffic may come now: not while a required server is away, nor once the process is about to end."""
        return self._told("ready", "not ready", status.not_ready(self._gateway))

    def started(self) -> tuple[int, bytes]:
        """Whether it has been ready once: until then nobody should take it for dead because it is slow."""
        reasons = [] if self._has_started else status.not_ready(self._gateway)
        self._has_started = not reasons
        return self._told("started", "starting", reasons)

    def _told(self, good: str, bad: str, reasons: list[str]) -> tuple[int, bytes]:
        if not reasons:
            return 200, _json({"status": good})
        told = {} if identifies(self._gateway.config) else {"reasons": reasons}
        return 503, _json({"status": bad, **told})


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
