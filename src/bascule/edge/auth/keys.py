"""Who holds this API key: a frozen snapshot of all keys, asked with each request. PURE.

Knows the keys that were made (policy/keys.py says what one is) and those that the configuration lists. Must
not know clocks, databases or HTTP. Why a key is refused is for our log; its sender hears the same for all.
"""

import hmac
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, TypeAlias

import msgspec

from bascule.policy.addresses import Network, address_of, network_of
from bascule.policy.keys import PREFIX, KeyRecord, KeySnapshot, digest, parse, state_of
from bascule.policy.scopes import Scopes


class Reason(Enum):
    """Why a token is not taken for a key."""

    NOT_A_KEY = "not an API key"  # it may be a token of another sort
    MISTYPED = "mistyped, or cut off"
    OTHER_ENVIRONMENT = "made for another environment"
    UNKNOWN = "there is no key of that id"
    WRONG_SECRET = "the secret does not belong to that id"
    REVOKED = "revoked"
    EXPIRED = "expired"
    WRONG_ADDRESS = "used from an address that is not in its list"


class Found(msgspec.Struct, frozen=True):
    """Whose key it is, and what it is good for."""

    caller: str
    key_id: str = ""  # "" for a key of the configuration
    scopes: Scopes | None = None  # no more than these of the caller's; None: all of them
    expires_at_s: float | None = None


class Rejected(msgspec.Struct, frozen=True):
    reason: Reason
    key_id: str = ""  # as its sender wrote it; it says nothing of whether there is such a key


Verdict: TypeAlias = Found | Rejected


class _Entry(msgspec.Struct, frozen=True):
    record: KeyRecord
    found: Found
    networks: tuple[Network, ...] | None  # None: its list cannot be read, so there is no address for it


# Stands in for the record of an unknown id, so that it costs what a wrong secret costs.
_NOBODY: Final = _Entry(KeyRecord(id="", caller="", environment="", digest=bytes(32), pepper_id=""), Found(""), None)
_NOT_A_KEY: Final = Rejected(Reason.NOT_A_KEY)
_MISTYPED: Final = Rejected(Reason.MISTYPED)


class KeyBook:
    """All keys at one moment; a later moment has a book of its own.

    *static* are the keys of the configuration, which has been checked: secrets by the name of their caller.
    """

    def __init__(self, keys: KeySnapshot, environment: str, static: Mapping[str, Sequence[str]] | None = None) -> None:
        self.generation = keys.generation
        self._pepper = keys.pepper
        self._environment = environment
        self._entries = {record.id: _entry(record) for record in keys.records}
        self._static = _by_digest(keys.pepper, static or {})
        self._longest = max((len(secret) for secrets in (static or {}).values() for secret in secrets), default=0)

    def __len__(self) -> int:
        return len(self._entries) + len(self._static)

    def find(self, token: str, ip: str, now_s: float) -> Verdict:
        """Whose key *token* is, used from *ip* at *now_s* seconds since 1970."""
        # Found by digest: how long the lookup takes says nothing of the secrets, for want of the pepper.
        if len(token) <= self._longest and token.isascii():
            found = self._static.get(digest(self._pepper, token))
            if found is not None:
                return found
        parts = parse(token)
        if parts is None:
            return _MISTYPED if token.startswith(PREFIX) else _NOT_A_KEY
        entry = self._entries.get(parts.id, _NOBODY)
        is_right = hmac.compare_digest(digest(self._pepper, parts.secret), entry.record.digest)
        if parts.environment != self._environment:
            return Rejected(Reason.OTHER_ENVIRONMENT, parts.id)
        if entry is _NOBODY or not is_right:
            return Rejected(Reason.UNKNOWN if entry is _NOBODY else Reason.WRONG_SECRET, parts.id)
        why = self._why_not(entry, ip, now_s)
        return entry.found if why is None else Rejected(why, parts.id)

    def _why_not(self, entry: _Entry, ip: str, now_s: float) -> Reason | None:
        """Why the key of *entry*, whose secret was right, cannot be used here and now."""
        # The environment in the text is the sender's word; the record's is ours.
        if entry.record.environment != self._environment:
            return Reason.OTHER_ENVIRONMENT
        state = state_of(entry.record, now_s)
        if state != "active":
            return Reason.REVOKED if state == "revoked" else Reason.EXPIRED
        return None if _is_allowed(entry.networks, ip) else Reason.WRONG_ADDRESS


def _entry(record: KeyRecord) -> _Entry:
    networks: tuple[Network, ...] | None
    try:
        networks = tuple(network_of(each) for each in record.networks)
    except ValueError:
        networks = None
    return _Entry(record, Found(record.caller, record.id, record.scopes, record.expires_at_s), networks)


def _is_allowed(networks: tuple[Network, ...] | None, ip: str) -> bool:
    if networks is None:
        return False
    address = address_of(ip) if networks else None
    return not networks or (address is not None and any(address in network for network in networks))


def _by_digest(pepper: bytes, static: Mapping[str, Sequence[str]]) -> dict[bytes, Found]:
    return {digest(pepper, secret): Found(caller) for caller, secrets in static.items() for secret in secrets}
