"""What a gateway is watched with, made from its configuration and closed with it."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

from bascule.errors import Unavailable
from bascule.observe.gauges import Gauges
from bascule.observe.logs import CallLog
from bascule.observe.metrics import CallMetrics
from bascule.observe.options import LogsOptions, MetricsOptions, TracingOptions
from bascule.observe.traces import tracing_of

if TYPE_CHECKING:
    from bascule.observe.exposition import Exposition


class Instruments:
    """Metrics, traces and the log of calls."""

    def __init__(
        self,
        metrics: MetricsOptions,
        tracing: TracingOptions,
        logs: LogsOptions,
        *,
        trusts: Callable[[str], bool],
        stream: TextIO,
    ) -> None:
        """*trusts* tells whether a server is trusted; the log is written to *stream*."""
        self.metrics = CallMetrics() if metrics.enabled else None
        self.tracing = tracing_of(tracing, trusts)
        self.calls = CallLog(logs, stream)  # those that are over
        self._exposition: Exposition | None = None

    @property
    def log(self) -> CallLog | None:
        """Who hears of calls for the log; None where nobody does."""
        return None if self.calls.options.calls == "off" else self.calls

    async def scrape(self, gauges: Gauges, accept: str) -> tuple[str, bytes]:
        """(content type, body) of the page for Prometheus. Raises Unavailable where nothing is counted."""
        if self.metrics is None:
            raise Unavailable("metrics are turned off: metrics.enabled")
        if self._exposition is None:
            # With prometheus_client, which who is never scraped need not load, and no call has to wait for.
            await asyncio.to_thread(import_module, "bascule.observe.exposition")
            from bascule.observe.exposition import Exposition

            self._exposition = self._exposition or Exposition()
        return await self._exposition.page(self.metrics.read(), gauges, accept)

    def close(self) -> None:
        """Write what waits. Blocks for some seconds at most."""
        self.calls.close()
        if self.tracing is not None:
            self.tracing.close()
