"""API keys: made, rotated, revoked. The store waits for the disk, so it works in threads."""

import asyncio
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from bascule.admin import keys
from bascule.admin.actions import Operation, Said, Takes
from bascule.admin.keys import IssuedKey
from bascule.call import Caller
from bascule.errors import ConfigInvalid, InvalidParams

if TYPE_CHECKING:
    from bascule.app import Gateway

WRITE: Final = ("bascule.keys:write",)
OVERLAP: Final = "24h"
_SPAN: Final = re.compile(r"(\d{1,6})\s*(s|m|h|d|w)")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_S: Final = 36_525 * 86_400  # no calendar has room for much more
_NOTE: Final = Takes(about="why; one line, which is kept with it")


class NoSuchKey(InvalidParams):
    """There is no key of that id."""

    http = 404


def operations(gateway: "Gateway") -> Sequence[Operation]:
    area = _Keys(gateway)
    path = "/api/keys/{id}"
    return [
        Operation(
            name="keys.list",
            method="GET",
            path="/api/keys",
            run=area.list_,
            about="All API keys that were ever made, without what only their holders know.",
            takes={"caller": Takes(about="only those of this caller")},
        ),
        Operation(
            name="keys.create",
            method="POST",
            path="/api/keys",
            run=area.create,
            about="Makes a key for a caller of the configuration. It is in the answer, and nowhere else ever again.",
            scopes=WRITE,
            takes={
                "caller": Takes(about="its name in the configuration", needed=True),
                "scopes": Takes("array", "no more than these of the caller's; all of them, if it is not said"),
                "expires": Takes(about="after how long, such as 90d, or on which day; never, if it is not said"),
                "networks": Takes("array", "where it may be used from, such as 10.0.0.0/8"),
                "note": _NOTE,
            },
            named=True,
        ),
        Operation(
            name="keys.rotate",
            method="POST",
            path=f"{path}/rotate",
            run=area.rotate,
            about="Makes a key with the rights of an old one, which is good for a while longer.",
            scopes=WRITE,
            takes={"overlap": Takes(about=f"how long both are good, such as {OVERLAP}; 0s ends the old one now")},
            named=True,
        ),
        Operation(
            name="keys.revoke",
            method="POST",
            path=f"{path}/revoke",
            run=area.revoke,
            about="Ends a key; gateways refuse it within seconds.",
            scopes=WRITE,
            takes={"note": Takes(about="why; it goes into the audit")},
            named=True,
        ),
    ]


class _Keys:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    async def list_(self, _: Caller, said: Said) -> Any:
        found = await asyncio.to_thread(keys.list_, self._gateway.keys)
        wanted, now_s = said.get("caller"), time.time()
        return {"keys": [keys.report(each, now_s) for each in found if wanted in (None, each.caller)]}

    async def create(self, _: Caller, said: Said) -> Any:
        expires = said.get("expires", "")
        issued = await _asked(
            keys.create,
            *(self._gateway.keys, self._gateway.config, said["caller"]),
            scopes=_texts(said, "scopes"),
            expires_at_s=moment_of(expires, time.time()) if expires else None,
            networks=_texts(said, "networks"),
            note=said.get("note", ""),
        )
        return _issued(issued)

    async def rotate(self, _: Caller, said: Said) -> Any:
        overlap_s = seconds_of(said.get("overlap", OVERLAP))
        await self._known(said["id"])
        gateway = self._gateway
        issued = await _asked(keys.rotate, gateway.keys, gateway.config, said["id"], overlap_s)
        old = await _asked(gateway.keys.get, said["id"])
        return {**_issued(issued), "replaced": keys.report(old, time.time())}

    async def revoke(self, _: Caller, said: Said) -> Any:
        await self._known(said["id"])
        return keys.report(await _asked(keys.revoke, self._gateway.keys, said["id"]), time.time())

    async def _known(self, id: str) -> None:
        found = await asyncio.to_thread(keys.list_, self._gateway.keys)
        if all(each.id != id for each in found):
            raise NoSuchKey(f"there is no key {id!r}")


async def _asked(function: Any, *arguments: Any, **more: Any) -> Any:
    """What *function* answers in a thread. What it finds wrong is the client's to mend here: no file is at fault."""
    try:
        return await asyncio.to_thread(function, *arguments, **more)
    except ConfigInvalid as error:
        raise InvalidParams(str(error)) from error


def _issued(issued: IssuedKey) -> dict[str, Any]:
    return {
        **keys.report(issued.record, time.time()),
        "key": issued.key,
        "good_for": sorted(issued.scopes),
        "idle": sorted(issued.idle),
    }


def _texts(said: Said, name: str) -> list[str]:
    found = said.get(name, [])
    if not all(isinstance(each, str) for each in found):
        raise InvalidParams(f"`{name}` is a list of texts")
    return list(found)


def seconds_of(text: str) -> float:
    """How long `24h` is. Raises InvalidParams."""
    found = _SPAN.fullmatch(text.strip())
    seconds = int(found[1]) * _UNITS_S[found[2]] if found is not None else _LONGEST_S + 1
    if seconds > _LONGEST_S:
        raise InvalidParams(f"{text[:40]!r} is no span of time up to 100 years: write it as 30m, 24h or 90d")
    return float(seconds)


def moment_of(text: str, now_s: float) -> float:
    """When `90d` is over, or a day (UTC) or a time comes. Raises InvalidParams."""
    if _SPAN.fullmatch(text.strip()):
        return now_s + seconds_of(text)
    try:
        found = datetime.fromisoformat(text.strip())
        at_s = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidParams(f"{text[:40]!r} is no time: write 90d, 2027-01-31 or 2027-01-31T08:00Z") from error
    if at_s - now_s > _LONGEST_S:
        raise InvalidParams(f"{text[:40]!r} is more than 100 years from now: leave it out for no end")
    return at_s
