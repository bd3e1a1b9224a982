"""The composition root: the only place that knows all the parts. Builds them from a configuration."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import bascule
from bascule.admin import status
from bascule.config import Config, ServerOptions, is_loopback, seal_key
from bascule.crossing.bilingual import Bilingual
from bascule.crossing.parking import Parking
from bascule.edge.door import LOOPBACK, Rules
from bascule.edge.http import HttpEdge
from bascule.edge.rim import Rim
from bascule.errors import BasculeError, ConfigInvalid
from bascule.pipeline import build
from bascule.pipeline.deadline import Deadline
from bascule.pipeline.observe import Observe
from bascule.pipeline.recall import Recall
from bascule.pipeline.resolve import Resolve
from bascule.registry.aggregate import Aggregate
from bascule.registry.sync import Registry
from bascule.upstream.base import Upstream
from bascule.upstream.http import HttpUpstream
from bascule.upstream.stdio import StdioOptions, StdioUpstream
from bascule.wire.seal import KEY_BYTES, KeyRing

log = logging.getLogger("bascule")

_DRAIN_S: Final = 30.0  # how long calls of a server that leaves the configuration may still run


def upstream_for(name: str, options: ServerOptions, parking: Parking) -> Upstream:
    """The server called *name*, for clients of either era."""
    server = StdioUpstream(name, options) if isinstance(options, StdioOptions) else HttpUpstream(name, options)
    return Bilingual(server, parking)


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
        self.upstreams: dict[str, Upstream] = {
            name: upstream_for(name, options, self.parking) for name, options in config.servers.items()
        }
        self.registry = Registry(self.upstreams, config.aliases, config.patience_s)
        self.aggregate = Aggregate(self.registry)
        self.observe = Observe()
        forward = build(
            self.observe,
            Recall(self.registry),
            Resolve(self.registry, self.aggregate),
            Deadline(lambda: self._timeouts),
        )
        self._timeouts = _timeouts(config)
        self.forward = forward
        self.edge = HttpEdge(
            rules=rules_of(config),
            rim=Rim(forward=forward, registry=self.registry, aggregate=self.aggregate),
            registry=self.registry,
            ring=self.ring,
            pages={
                "/status": lambda: (200, _json(status.report(self))),
                "/mcp-status": lambda: (200, _json(status.report(self))),
                "/health/live": lambda: (200, _json({"status": "live", "version": bascule.__version__})),
                "/health/ready": lambda: _ready(self),
            },
            sole=sole,
            max_sessions=config.http.max_sessions,
            session_idle_s=config.http.session_idle_s,
            session_max_s=config.http.session_max_s,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bring everything up in the background; returns at once, so that a slow server delays nobody."""
        for upstream in self.upstreams.values():
            await self._bring_up(upstream, self.config.servers[upstream.name])
        self._tasks.append(asyncio.ensure_future(self.edge.sessions.expire()))

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
        await self.parking.close()
        await asyncio.gather(*(upstream.stop() for upstream in self.upstreams.values()))

    async def cut_off(self) -> None:
        """End every server now, so that the calls which still wait for one get an answer."""
        self.edge.sessions.stop_asking()
        await self.parking.close()
        await asyncio.gather(*(upstream.stop() for upstream in self.upstreams.values()))

    async def reload(self, config: Config) -> str:
        """Adopt *config* without dropping a call; returns what changed, in words.

        Servers whose options are the same stay as they are, process and all. The address that we
        listen on cannot change in a running process.
        """
        old = self.config
        kept = {name: up for name, up in self.upstreams.items() if config.servers.get(name) == old.servers[name]}
        fresh = {n: upstream_for(n, o, self.parking) for n, o in config.servers.items() if n not in kept}
        leaving = [upstream for name, upstream in self.upstreams.items() if name not in kept]
        self.upstreams = {name: kept.get(name) or fresh[name] for name in config.servers}
        self.config, self.config_error, self.config_loaded_at = config, None, time.time()
        self._timeouts = _timeouts(config)
        if config.seal != old.seal:
            self.ring = ring_of(config)
        self.parking.ttl_s, self.parking.max_per_caller = config.parking.ttl_s, config.parking.max_per_caller
        self.edge.adopt(
            rules_of(config),
            self.ring,
            max_sessions=config.http.max_sessions,
            session_idle_s=config.http.session_idle_s,
            session_max_s=config.http.session_max_s,
        )
        await self.registry.adopt(self.upstreams, config.aliases, config.patience_s)
        for upstream in fresh.values():
            await self._bring_up(upstream, config.servers[upstream.name])
        for upstream in leaving:
            self._tasks.append(asyncio.ensure_future(_retire(upstream)))
        said = [f"servers: {len(fresh)} started or changed, {len(leaving)} stopped or changed, {len(kept)} untouched"]
        parts = ("aliases", "http", "parking", "patience_s", "replicas", "seal")
        said += [f"{part} changed" for part in parts if getattr(old, part) != getattr(config, part)]
        if self._address != (config.http.host, config.http.port):
            said.append("http.host and http.port need a restart")
        return "; ".join(said)

    async def watch(self, load: "Any", path: Path, *, every_s: float = 1.0) -> None:
        """Reload when *path* changes. A broken edit keeps the old configuration running and says why."""
        seen = _stamp(path)
        while True:
            await asyncio.sleep(every_s)
            stamp = _stamp(path)
            if stamp == seen:
                continue
            seen = stamp
            if stamp is None:
                log.warning("%s is gone; the old configuration keeps running", path)
            else:
                await self.try_reload(load)

    async def try_reload(self, load: "Any") -> None:
        try:
            config = load()
        except ConfigInvalid as error:
            self.config_error = str(error)
            log.error("the configuration was changed but not adopted, the old one keeps running: %s", error)
            return
        if config != self.config or list(config.servers) != list(self.config.servers):
            log.info("configuration reloaded: %s", await self.reload(config))
        elif self.config_error is not None:
            log.info("the configuration is whole again")
        self.config_error = None


async def _retire(upstream: Upstream) -> None:
    """Let the calls of a server that left the configuration end, then stop it."""
    deadline = time.monotonic() + _DRAIN_S
    while upstream.status().in_flight and time.monotonic() < deadline:  # noqa: ASYNC110 - in_flight has no event
        await asyncio.sleep(0.1)
    try:
        await upstream.stop()
    except BasculeError as error:
        log.warning("%s did not stop cleanly: %s", upstream.name, error)


def ring_of(config: Config) -> KeyRing:
    """The keys of the configuration; without any, one that ends with this process."""
    return KeyRing([seal_key(key) for key in config.seal.keys] or [secrets.token_bytes(KEY_BYTES)])


def rules_of(config: Config) -> Rules:
    listen = config.http
    local = is_loopback(listen.host)
    hosts = {host.lower() for host in listen.allowed_hosts} | {listen.host.lower()}
    return Rules(
        hosts=frozenset(hosts | LOOPBACK if local or listen.host in ("0.0.0.0", "::") else hosts),
        origins=frozenset(listen.allowed_origins),
        loopback_origins=local,
        token=listen.bearer,
        max_body_bytes=listen.max_body_bytes,
    )


def _timeouts(config: Config) -> Mapping[str, float]:
    return {name: options.call_timeout_s for name, options in config.servers.items()}


def _ready(gateway: Gateway) -> tuple[int, bytes]:
    reasons = status.not_ready(gateway)
    return (503, _json({"status": "not ready", "reasons": reasons})) if reasons else (200, _json({"status": "ready"}))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file does, also when it is replaced by a rename or a symlink swap."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
