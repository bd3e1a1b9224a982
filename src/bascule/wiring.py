"""From a configuration to each of the parts that a gateway is put together from (app.py). Nothing here runs yet."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bascule.call import Forward
from bascule.config import (
    Config,
    ServerOptions,
    allowances_of,
    audit_of,
    is_loopback,
    naming_of,
    seal_key,
    sources_of,
    tells_apart,
)
from bascule.contract.versions import NOTHING_REGISTERED, Registered
from bascule.crossing.bilingual import Bilingual
from bascule.crossing.parking import Parking
from bascule.edge.auth import metadata
from bascule.edge.auth.callers import Callers
from bascule.edge.auth.keys import KeyBook
from bascule.edge.door import LOOPBACK, Rules, hostname
from bascule.edge.tls import Tls
from bascule.errors import ConfigInvalid
from bascule.observe.instruments import Instruments
from bascule.pipeline.build import StageBuilder
from bascule.pipeline.observe import Observe
from bascule.pipeline.parts import Parts
from bascule.pipeline.ways import Ways
from bascule.policy.keys import PEPPER_BYTES, KeySnapshot
from bascule.registry.judge import Judge, Standing, standing_of
from bascule.store.keys import KeyStore
from bascule.store.records import Records
from bascule.upstream.base import Upstream
from bascule.upstream.http import HttpUpstream
from bascule.upstream.stdio import StdioOptions, StdioUpstream
from bascule.wire.seal import KEY_BYTES, KeyRing

if TYPE_CHECKING:
    from bascule.edge.auth.issuers import Issuers


def upstream_for(name: str, options: ServerOptions, parking: Parking, hidden: Sequence[Path] = ()) -> Upstream:
    """The server called *name*, for clients of either era. *hidden*: what no server in a sandbox ever sees."""
    if isinstance(options, StdioOptions):
        return Bilingual(StdioUpstream(name, options, hidden=hidden), parking)
    return Bilingual(HttpUpstream(name, options), parking)


def observe_of(records: Records | None, instruments: Instruments) -> Observe:
    return Observe(
        None if records is None else records.audit,
        metrics=instruments.metrics,
        log=instruments.log,
        tracing=instruments.tracing,
    )


def records_of(config: Config) -> Records | None:
    """What is kept of calls; None for a configuration that names no folder for it."""
    if not config.state_dir:
        return None
    return Records(Path(config.state_dir), audit_of(config), config.journal, config.approvals)


def standings_of(config: Config) -> Mapping[str, Standing]:
    """How far each server is trusted."""
    return {name: standing_of(options) for name, options in config.servers.items()}


def ways_of(
    config: Config,
    parts: Parts,
    last: Forward,
    clock: Callable[[], float] = time.time,
    *,
    registered: Registered = NOTHING_REGISTERED,
    today: str = "",
    judge: Judge | None = None,
) -> Ways:
    """The way of each thing under *config* and what is *registered*, down to *last*."""
    sources, build = sources_of(config, registered, today), builder_of(config, parts, registered, clock)
    return Ways(sources, build, last, private=tells_apart(config), judge=judge, naming=naming_of(config))


def builder_of(
    config: Config,
    parts: Parts,
    registered: Registered = NOTHING_REGISTERED,
    clock: Callable[[], float] = time.time,
) -> StageBuilder:
    """What makes the stages of each contract under *config*."""
    sources = sources_of(config, registered)
    return StageBuilder(
        config.limits,
        allowances_of(config),
        parts,
        config.servers,
        scoped=tells_apart(config),
        counting=sources.look_at("session"),
        deepening=sources.look_at("depth"),
        audit=audit_of(config).mode,
        clock=clock,
    )


def issuers_of(config: Config) -> "Issuers | None":
    if not config.auth.issuers:
        return None
    from bascule.edge.auth.issuers import Issuers  # with what checks signatures, which others need not load

    return Issuers(config.auth.issuers)


def key_book_of(config: Config, keys: KeyStore | None) -> KeyBook:
    """All keys of now: those of the configuration, and those that were made."""
    static = {name: caller.keys for name, caller in config.callers.items()}
    # Without callers there is nobody whose key it could be, and the folder need not even be there.
    made = keys.snapshot() if keys and config.callers else KeySnapshot(secrets.token_bytes(PEPPER_BYTES))
    return KeyBook(made, config.auth.key_environment, static)


def rehearse(config: Config) -> None:
    """Make what can be made of *config* without starting anything. Raises ConfigInvalid, as a Gateway would."""
    check_public_url(config)
    if config.http.tls is not None:
        Tls(config.http.tls)
    issuers_of(config)
    Callers(config.auth, config.roles, config.callers)


def check_public_url(config: Config) -> None:
    try:
        metadata.resource_of(config.http.public_url or "http://localhost", metadata.ROOT_STANDS_FOR)
    except ValueError as error:
        raise ConfigInvalid(str(error), field="http.public_url") from error


def ring_of(config: Config) -> KeyRing:
    """The keys of the configuration; without any, one that ends with this process."""
    return KeyRing([seal_key(key) for key in config.seal.keys] or [secrets.token_bytes(KEY_BYTES)])


def rules_of(config: Config) -> Rules:
    listen = config.http
    local = is_loopback(listen.host)
    hosts = {host.lower() for host in listen.allowed_hosts} | {listen.host.lower()}
    if listen.public_url is not None:
        hosts.add(hostname(urlsplit(listen.public_url).netloc))
    return Rules(
        hosts=frozenset(hosts | LOOPBACK if local or listen.host in ("0.0.0.0", "::") else hosts),
        origins=frozenset(listen.allowed_origins),
        loopback_origins=local,
        max_body_bytes=listen.max_body_bytes,
    )


def timeouts_of(config: Config) -> Mapping[str, float]:
    return {name: options.call_timeout_s for name, options in config.servers.items()}
