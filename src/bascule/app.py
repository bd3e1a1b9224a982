"""The composition root: the only place that knows all the parts. Builds them from a configuration."""

import asyncio
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bascule.admin.actions import Actions
from bascule.admin.api.table import operations
from bascule.admin.doubts import doubts
from bascule.admin.probes import Probes
from bascule.admin.slo import Budgets, contracts_in
from bascule.call import Forward
from bascule.config import (
    Config,
    ServerOptions,
    audit_of,
)
from bascule.contract.versions import NOTHING_REGISTERED
from bascule.crossing.parking import Parking
from bascule.edge.auth.attempts import Attempts
from bascule.edge.auth.follow import KeyFollower
from bascule.edge.auth.identify import identify_of
from bascule.edge.auth.reception import Login, Reception
from bascule.edge.http import Application, HttpEdge
from bascule.edge.metrics_listener import MetricsListener
from bascule.edge.official import OfficialApi
from bascule.edge.rim import Rim
from bascule.edge.tls import Tls
from bascule.errors import BasculeError, ConfigInvalid
from bascule.follow import follow_registry, today
from bascule.observe import gauges, logs
from bascule.observe.instruments import Instruments
from bascule.pipeline import build_chain, build_inner, build_last
from bascule.pipeline.cache import Results
from bascule.pipeline.confirm import Asking
from bascule.pipeline.deadline import Deadline
from bascule.pipeline.fallback import Listed
from bascule.pipeline.gates import Gates
from bascule.pipeline.govern import Govern
from bascule.pipeline.health import Health
from bascule.pipeline.open import Open
from bascule.pipeline.parts import Parts
from bascule.pipeline.recall import Recall
from bascule.pipeline.resolve import Resolve
from bascule.pipeline.ways import Ways
from bascule.registry.aggregate import Aggregate
from bascule.registry.judge import Judge
from bascule.registry.official import Official
from bascule.registry.sync import Registry
from bascule.store.generations import Generations
from bascule.store.keys import KeyStore
from bascule.store.shared import MemoryState
from bascule.store.switches import Switch
from bascule.upstream.base import Upstream
from bascule.upstream.off import SwitchedOff
from bascule.upstream.stdio import StdioOptions
from bascule.wiring import (
    builder_of,
    check_public_url,
    issuers_of,
    key_book_of,
    observe_of,
    records_of,
    ring_of,
    rules_of,
    standings_of,
    timeouts_of,
    upstream_for,
    ways_of,
)

if TYPE_CHECKING:
    from bascule.edge.auth.issuers import Issuers

log = logging.getLogger("bascule")

_DRAIN_S: Final = 30.0  # how long calls of a server that leaves the configuration may still run


class Gateway:
    """A running Bascule, without its socket."""

    def __init__(self, config: Config, *, sole: str | None = None) -> None:
        """*sole* names the server that `/mcp` stands for, unprefixed (`bascule run -- CMD`)."""
        self.config = config
        self._address = (config.http.host, config.http.port)  # as long as the process lives
        self.config_error: str | None = None
        self.config_loaded_at = time.time()
        self.ring = ring_of(config)
        self.parking = Parking(
            lambda: self.ring, ttl_s=config.parking.ttl_s, max_per_caller=config.parking.max_per_caller
        )
        self.records = records_of(config)
        self.off: Mapping[str, Switch] = {} if self.records is None else self.records.switches.all()
        self.upstreams = {name: self._upstream(name, options) for name, options in config.servers.items()}
        self.judge = self._judge(config)
        self.registry = Registry(self.upstreams, config.aliases, config.patience_s)
        self.aggregate = Aggregate(self.registry)
        self.instruments = self._instruments(config)
        self.metrics_listener: MetricsListener | None = None
        self.observe = observe_of(self.records, self.instruments)
        self._timeouts = timeouts_of(config)
        deadline, reaching = Deadline(lambda: self._timeouts), Open(self.aggregate)
        self._last = build_last(reaching, self.instruments.tracing)
        self.parts = self._parts(config, deadline)
        self.registered = NOTHING_REGISTERED
        self.govern = Govern(self._ways(config), self.registry)
        self.registry.sight = self.aggregate.sight = self.govern.ways
        self.forward = self._chain(deadline)
        self.keys = KeyStore(Path(config.state_dir))
        self.attempts = Attempts()
        self.tls = None if config.http.tls is None else Tls(config.http.tls)
        self.issuers = issuers_of(config)
        self.budgets = None if self.records is None else Budgets(self.records.usage, lambda: contracts_in(self))
        self.actions = Actions(operations(self), None if self.records is None else self.records.audit)
        self.rim = Rim(
            forward=self.forward, registry=self.registry, aggregate=self.aggregate, refused=self.observe.refused
        )
        self.edge = self._edge(config, sole)
        self._tasks: list[asyncio.Task[None]] = []
        self._pages: Application | None = None

    def _chain(self, deadline: Deadline) -> Forward:
        """What every call goes through, down to its own way."""
        tracing = self.instruments.tracing
        inner = build_inner(Recall(self.registry), deadline, self._last)
        resolve = Resolve(self.registry, self.aggregate)
        return build_chain(self.observe, deadline, resolve, self.govern, inner, tracing)

    def _edge(self, config: Config, sole: str | None) -> HttpEdge:
        return HttpEdge(
            rules=rules_of(config),
            reception=self._reception(config, self.keys, self.issuers),
            sight=lambda: self.govern.ways,
            rim=self.rim,
            registry=self.registry,
            ring=self.ring,
            pages=Probes(self).pages,
            scrape=self.scrape if config.metrics.enabled and config.metrics.listen is None else None,
            sole=sole,
            turned_away=self.observe.turned_away,
            directory=OfficialApi(Official(self.registry)),
            console=self._console,
            actions=self.actions,
            max_sessions=config.http.max_sessions,
            session_idle_s=config.http.session_idle_s,
            session_max_s=config.http.session_max_s,
        )

    async def _console(self) -> Application | None:
        """The pages for people, unless there are none. What they are made with is loaded when the first one comes."""
        if not self.config.console.enabled:
            return None
        if self._pages is None:
            await asyncio.to_thread(import_module, "bascule.console.app")
            from bascule.console.app import console_of

            self._pages = self._pages or console_of(self)
        return self._pages

    def _upstream(self, name: str, options: ServerOptions) -> Upstream:
        """The server, or what stands in its place while it is switched off."""
        if (off := self.off.get(name)) is not None:
            kind = "stdio" if isinstance(options, StdioOptions) else "http"
            return SwitchedOff(name, kind, f"by {off.by}" + (f": {off.note}" if off.note else ""))
        return upstream_for(name, options, self.parking, (Path(self.config.state_dir),))

    def _judge(self, config: Config) -> Judge:
        judge = Judge(
            None if self.records is None else self.records.definitions,
            None if self.records is None else Generations(self.records.writer),
            relearn=lambda: self._adopt_ways(self.govern.ways),
        )
        judge.adopt(standings_of(config))
        return judge

    def _instruments(self, config: Config) -> Instruments:
        return Instruments(
            *(config.metrics, config.tracing, config.logs),
            trusts=lambda server: server in self.config.servers and self.config.servers[server].trusted,
            stream=sys.stderr,
        )

    def _reception(self, config: Config, keys: KeyStore, issuers: "Issuers | None") -> Reception:
        identify = identify_of(config, key_book_of(config, keys), issuers, attempts=self.attempts)
        urls = [issuer.issuer for issuer in config.auth.issuers.values()]
        check_public_url(config)
        return Reception(
            identify, Login(config.http.public_url, urls, config.auth.required_scopes, identify.callers.requested())
        )

    def _followed_keys(self) -> KeyFollower:
        return KeyFollower(
            lambda: self.keys if self.config.callers else None,
            lambda: self.edge.reception.identify,
            lambda store: key_book_of(self.config, store),
        )

    def _parts(self, config: Config, deadline: Deadline) -> Parts:
        """What the stages work with; it outlives a change of the configuration."""
        health = Health()
        health.adopt(self.upstreams)
        return Parts(
            state=MemoryState(),
            gates=Gates(config.limits.queued, config.limits.queue_timeout_s),
            records=self.records,
            health=health,
            asking=Asking(
                None if self.records is None else self.records.approvals,
                ring=lambda: self.ring,
                public_url=lambda: self.config.http.public_url,
                round_ttl_s=lambda: self.parking.ttl_s,
            ),
            results=Results(config.cache.max_bytes),
            deadline=deadline,
            tracing=self.instruments.tracing,
            others=Listed(
                lambda: self.govern.ways,
                lambda: self.upstreams,
                lambda contract, server: builder_of(self.config, self.parts, self.registered).standing_in(
                    contract, server
                ),
                self._last,
            ),
        )

    @property
    def cache(self) -> Results:
        return self.parts.results

    def _ways(self, config: Config) -> Ways:
        return ways_of(config, self.parts, self._last, registered=self.registered, today=today(), judge=self.judge)

    async def start(self) -> None:
        """Bring everything up in the background; returns at once, so that a slow server delays nobody."""
        if self.records is not None:
            await self.records.start()
            await self.relearn()
            self._tasks.append(asyncio.ensure_future(follow_registry(self)))
        for doubt in doubts(self.config):
            log.warning("%s", doubt)
        for upstream in self.upstreams.values():
            await self._bring_up(upstream, self.config.servers[upstream.name])
        self._tasks.append(asyncio.ensure_future(self.edge.sessions.expire()))
        self._tasks.append(asyncio.ensure_future(self._followed_keys().run()))
        self._tasks.append(asyncio.ensure_future(self.judge.run()))
        for task in self._tasks:
            task.add_done_callback(_say_why_it_ended)
        if self.issuers is not None:
            self._tasks.append(asyncio.ensure_future(self.issuers.warm()))
        if (address := self.config.metrics.address) is not None:
            self.metrics_listener = MetricsListener(*address, self.scrape)
            await self.metrics_listener.start()

    async def scrape(self, accept: str) -> tuple[str, bytes]:
        """(content type, body) of /metrics, in the format that the header Accept asks for."""
        parts = self.instruments
        slos = () if self.budgets is None else await asyncio.to_thread(self.budgets.gauges)
        return await parts.scrape(gauges.read(self, slos=slos, call_log=parts.calls, tracing=parts.tracing), accept)

    async def _bring_up(self, upstream: Upstream, options: ServerOptions) -> None:
        await upstream.start()
        if not (isinstance(options, StdioOptions) and options.start == "lazy"):
            self.registry.start(upstream)

    async def stop(self) -> None:
        """End sessions, followers, servers and their processes, in this order."""
        self.edge.drain()
        for task in self._tasks:
            task.cancel()
        await self.edge.sessions.end_all()
        await self.registry.stop()
        await self._flush_definitions()
        await self.parking.close()
        await self.parts.unfinished.end()
        self.parts.health.stop()
        await asyncio.gather(*(upstream.stop() for upstream in self.upstreams.values()))
        if self.issuers is not None:
            await self.issuers.close()
        self.keys.close()
        if self.metrics_listener is not None:
            await self.metrics_listener.stop()
        await asyncio.to_thread(self.instruments.close)
        if self.records is not None:
            await self.records.close()

    async def _flush_definitions(self) -> None:
        try:
            await self.judge.flush()
        except BasculeError as error:
            log.error("what servers list was not written down: %s", error)  # it is seen for the first time once more

    async def reload(self, config: Config) -> str:
        """Adopt *config* without dropping a call; returns what changed, in words.

        Servers whose options are the same stay as they are, process and all. The address that we
        listen on cannot change in a running process. Raises what is wrong with *config*; then nothing has changed.
        """
        old = self.config
        if config.bare_folders and not old.bare_folders:
            # Perhaps it is being written just now; its guardrails must not go in between.
            raise ConfigInvalid("there is no contract in it any more", place=str(config.bare_folders[0][1]))
        # All that can fail comes first: a configuration is adopted as a whole or not at all.
        issuers = self.issuers if config.auth.issuers == old.auth.issuers else issuers_of(config)
        keys = self.keys if config.state_dir == old.state_dir else KeyStore(Path(config.state_dir))
        reception = self._reception(config, keys, issuers)
        ways = self._ways(config)
        kept = {name: up for name, up in self.upstreams.items() if config.servers.get(name) == old.servers[name]}
        fresh = {n: self._upstream(n, o) for n, o in config.servers.items() if n not in kept}
        leaving = [upstream for name, upstream in self.upstreams.items() if name not in kept]
        if self.tls is not None and config.http.tls is not None:
            self.tls.adopt(config.http.tls)
        self.upstreams = {name: kept.get(name) or fresh[name] for name in config.servers}
        self.parts.health.adopt(self.upstreams)
        self.config, self.config_error, self.config_loaded_at = config, None, time.time()
        self._timeouts = timeouts_of(config)
        if config.seal != old.seal:
            self.ring = ring_of(config)
        self.parking.ttl_s, self.parking.max_per_caller = config.parking.ttl_s, config.parking.max_per_caller
        self._change_credentials(keys, issuers)
        self.parts.gates.queued, self.parts.gates.timeout_s = config.limits.queued, config.limits.queue_timeout_s
        self._change_records(config)
        self.instruments.calls.options = config.logs
        self.observe.listen(self.instruments.log)
        logs.adopt(config.logs)
        self.edge.adopt(
            rules_of(config),
            reception,
            self.ring,
            max_sessions=config.http.max_sessions,
            session_idle_s=config.http.session_idle_s,
            session_max_s=config.http.session_max_s,
        )
        self.judge.adopt(standings_of(config))
        await self._adopt_ways(ways)
        await self._exchange(fresh, leaving)
        said = [f"servers: {len(fresh)} started or changed, {len(leaving)} stopped or changed, {len(kept)} untouched"]
        parts = [field for field in Config.__struct_fields__ if field != "servers"]
        said += [f"{part} changed" for part in parts if getattr(old, part) != getattr(config, part)]
        if self.records is not None and self.records.state != Path(config.state_dir):
            said.append("state_dir needs a restart, for the journal and the audit")
        if audit_of(config) != audit_of(old):
            said.append("of audit, all but the mode of side effects needs a restart")
        if (config.metrics, config.tracing) != (old.metrics, old.tracing):
            said.append("metrics and tracing need a restart")
        if self._address != (config.http.host, config.http.port):
            said.append("http.host and http.port need a restart")
        if (config.http.tls is None) != (self.tls is None):
            said.append("to turn TLS on or off needs a restart")
        return "; ".join(said)

    async def _exchange(self, fresh: Mapping[str, Upstream], leaving: Iterable[Upstream]) -> None:
        """Bring up the servers that are new, and let those end that were there before."""
        for upstream in fresh.values():
            await self._bring_up(upstream, self.config.servers[upstream.name])
        for upstream in leaving:
            self._tasks.append(asyncio.ensure_future(_retire(upstream)))

    async def _replace(self, names: Iterable[str]) -> None:
        """Put new servers in the place of those of *names*; calls that run there may end."""
        leaving = [self.upstreams[name] for name in names]
        fresh = {each.name: self._upstream(each.name, self.config.servers[each.name]) for each in leaving}
        self.upstreams = {**self.upstreams, **fresh}
        self.parts.health.adopt(self.upstreams)
        await self._adopt_ways(self.govern.ways)
        await self._exchange(fresh, leaving)

    async def restart(self, name: str) -> None:
        """Start a server anew."""
        await self._replace([name])

    async def _adopt_ways(self, ways: Ways) -> None:
        """From now on calls go these *ways*, and lists show what is on them."""
        self.govern.ways = self.aggregate.sight = ways
        await self.registry.adopt(self.upstreams, self.config.aliases, self.config.patience_s, ways)

    async def relearn(self) -> None:
        """Adopt what the registry says by now, and what day it is. Raises Unavailable when that cannot be read."""
        if self.records is not None:
            self.registered = self.records.registered()
            before, self.off = self.off, self.records.switches.all()
            if switched := [name for name in self.upstreams if (name in before) != (name in self.off)]:
                await self._replace(switched)
        await self._adopt_ways(self._ways(self.config))

    def _change_records(self, config: Config) -> None:
        self.parts.results.adopt(config.cache.max_bytes)
        if self.records is not None:
            self.records.journal.options = config.journal
            self.records.approvals.options = config.approvals

    def _change_credentials(self, keys: KeyStore, issuers: "Issuers | None") -> None:
        if keys is not self.keys:
            self.keys.close()
        if self.issuers is not None and issuers is not self.issuers:
            self._tasks.append(asyncio.ensure_future(self.issuers.close()))
        self.keys, self.issuers = keys, issuers


def _say_why_it_ended(task: "asyncio.Task[None]") -> None:
    """Work that goes on as long as the process must not end in silence."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a part of Bascule has stopped working; restart it", exc_info=error)


async def _retire(upstream: Upstream) -> None:
    """Let the calls of a server that left the configuration end, then stop it."""
    deadline = time.monotonic() + _DRAIN_S
    while upstream.status().in_flight and time.monotonic() < deadline:  # noqa: ASYNC110 - in_flight has no event
        await asyncio.sleep(0.1)
    try:
        await upstream.stop()
    except BasculeError as error:
        log.warning("%s did not stop cleanly: %s", upstream.name, error)
