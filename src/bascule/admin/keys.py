"""What can be done with API keys, for the command line and whatever else comes to offer it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from bascule.config import Config
from bascule.errors import ConfigInvalid
from bascule.policy import fit
from bascule.policy.keys import KeyRecord, state_of
from bascule.policy.scopes import Scopes, common
from bascule.store.keys import KeyStore


class IssuedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A new key, for the one moment in which it can be shown."""

    key: str
    record: KeyRecord
    scopes: Scopes  # what it is good for, as the configuration is now
    idle: Scopes = frozenset()  # scopes that it names and its caller does not have

    def __repr__(self) -> str:
        return f"IssuedKey({self.record!r})"


def create(
    store: KeyStore,
    config: Config,
    caller: str,
    *,
    scopes: Sequence[str] = (),
    expires_at_s: float | None = None,
    networks: Sequence[str] = (),
    note: str = "",
) -> IssuedKey:
    """A new key for *caller*, with all of its scopes, or no more than *scopes* of them.

    Raises ConfigInvalid if there is no such caller, or what was asked for makes no sense.
    """
    _check_caller(config, caller)
    record, key = store.create(
        caller,
        config.auth.key_environment,
        scopes=frozenset(scopes) or None,
        expires_at_s=expires_at_s,
        networks=networks,
        note=note,
    )
    return _issued(config, record, key)


def rotate(store: KeyStore, config: Config, id: str, overlap_s: float) -> IssuedKey:
    """A new key with the rights of key *id*, which is good for *overlap_s* more seconds. Raises ConfigInvalid."""
    _check_caller(config, store.get(id).caller)
    record, key = store.rotate(id, overlap_s)
    return _issued(config, record, key)


def revoke(store: KeyStore, id: str) -> KeyRecord:
    """Key *id*, which gateways refuse within seconds. Raises ConfigInvalid if there is none."""
    return store.revoke(id)


def list_(store: KeyStore) -> Sequence[KeyRecord]:
    """All keys, the oldest first, those of no more use too."""
    return store.list()


def report(record: KeyRecord, now_s: float) -> dict[str, Any]:
    """What may be known of a key, in JSON. Times are RFC 3339, in UTC."""
    return {
        "id": record.id,
        "caller": record.caller,
        "environment": record.environment,
        "state": state_of(record, now_s),
        "scopes": None if record.scopes is None else sorted(record.scopes),
        "networks": list(record.networks),
        "note": record.note,
        "created": date_of(record.created_at_s),
        "expires": date_of(record.expires_at_s),
        "revoked": date_of(record.revoked_at_s),
        "last_used": date_of(record.last_used_at_s),
        "replaced_by": record.replaced_by,
    }


def date_of(at_s: float | None) -> str | None:
    return None if at_s is None else datetime.fromtimestamp(int(at_s), UTC).isoformat().replace("+00:00", "Z")


def _check_caller(config: Config, caller: str) -> None:
    if caller not in config.callers:
        known = ", ".join(sorted(config.callers))
        instead = f"there are {known}" if known else "the configuration names none"
        raise ConfigInvalid(f"there is no caller {caller!r}; {instead}", field="callers")


def _issued(config: Config, record: KeyRecord, key: str) -> IssuedKey:
    granted = fit.scopes_of(config.callers[record.caller], config.roles)
    if record.scopes is None:
        return IssuedKey(key=key, record=record, scopes=granted)
    shared = {scope: {both for have in granted if (both := common(have, scope))} for scope in record.scopes}
    idle = frozenset(scope for scope, found in shared.items() if not found)
    return IssuedKey(key=key, record=record, scopes=frozenset().union(*shared.values()), idle=idle)
