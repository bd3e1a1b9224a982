"""API keys that were made and are not looked after."""

from collections.abc import Iterator, Sequence
from typing import Final

from bascule.admin.doctor.finding import Finding, finding, plural
from bascule.admin.doctor.setup import Setup
from bascule.policy.keys import KeyRecord, state_of
from bascule.store.files import FILE, is_newest
from bascule.store.keys import KeyStore

_DAY_S: Final = 86_400.0
UNUSED_S: Final = 90 * _DAY_S
SOON_S: Final = 14 * _DAY_S


def findings(setup: Setup) -> Iterator[Finding]:
    """Raises ConfigInvalid if the folder cannot be used."""
    if is_newest(setup.state / FILE):  # another one would be changed by looking at it
        with KeyStore(setup.state, lambda: setup.now_s) as store:
            yield from of_keys(store.list(), setup)


def of_keys(keys: Sequence[KeyRecord], setup: Setup) -> Iterator[Finding]:
    at = str(setup.state / FILE)
    for key in keys:
        if state_of(key, setup.now_s) != "active":
            continue
        name, config = f"key {key.id} of {key.caller}", f"-c {setup.path}"
        away, ends_at_s = f"bascule keys revoke {key.id} {config}", key.expires_at_s
        if key.caller not in setup.config.callers:
            yield finding("key-of-nobody", at, f"{name}: there is no such caller any more", away)
            continue
        if ends_at_s is None and key.replaced_by is None:
            fix = f"bascule keys create {key.caller} --expires 90d {config}   # hand it over, then revoke {key.id}"
            yield finding("key-unlimited", at, f"{name}: it never ends", fix)
        elif ends_at_s is not None and ends_at_s - setup.now_s < SOON_S and key.replaced_by is None:
            days = int((ends_at_s - setup.now_s) // _DAY_S)
            fix = f"bascule keys create {key.caller} --expires 90d {config}"
            yield finding("key-ends-soon", at, f"{name}: it ends in {plural(days, 'day')}", fix)
        idle_s = setup.now_s - (key.last_used_at_s or key.created_at_s)
        if idle_s > UNUSED_S:
            since = "has not been used" if key.last_used_at_s else "was never used"
            yield finding("key-unused", at, f"{name}: it {since} for {plural(int(idle_s // _DAY_S), 'day')}", away)
