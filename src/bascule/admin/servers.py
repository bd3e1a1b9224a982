"""What can be done with the servers behind a gateway: started anew, switched off and on.

Which servers there are the configuration alone says: nothing here adds one, or changes a command.
"""

from typing import TYPE_CHECKING, Any

from bascule.admin.keys import date_of
from bascule.admin.status import server_report
from bascule.errors import InvalidParams, InvalidRequest, Unavailable

if TYPE_CHECKING:
    from bascule.app import Gateway
    from bascule.store.switches import Switches


class NoSuchServer(InvalidParams):
    """The configuration names no server so."""

    http = 404


class IsOff(InvalidRequest):
    """It has to be enabled first."""

    http = 409


def list_(gateway: "Gateway") -> dict[str, Any]:
    """Every server, by name, as it is now."""
    return {name: show(gateway, name) for name in gateway.config.servers}


def show(gateway: "Gateway", name: str) -> dict[str, Any]:
    """One of them. Raises NoSuchServer."""
    _check(gateway, name)
    return {**server_report(gateway, gateway.upstreams[name].status()), "off": _off(gateway, name)}


async def restart(gateway: "Gateway", name: str) -> dict[str, Any]:
    """The server after it was started anew; its calls may end first. Raises NoSuchServer, IsOff."""
    _check(gateway, name)
    if _off(gateway, name) is not None:
        raise IsOff(f"{name} is switched off: bascule servers enable {name}")
    await gateway.restart(name)
    return show(gateway, name)


async def disable(gateway: "Gateway", name: str, *, by: str, note: str = "") -> dict[str, Any]:
    """The server after it was switched off: in all processes of the state folder, until somebody enables it."""
    _check(gateway, name)
    await _switches(gateway).off(name, by, note)
    await gateway.relearn()
    return show(gateway, name)


async def enable(gateway: "Gateway", name: str) -> dict[str, Any]:
    """The server after it was switched on again."""
    _check(gateway, name)
    await _switches(gateway).on(name)
    await gateway.relearn()
    return show(gateway, name)


def _check(gateway: "Gateway", name: str) -> None:
    if name not in gateway.config.servers:
        known = ", ".join(gateway.config.servers) or "none"
        raise NoSuchServer(f"there is no server {name[:64]!r}; there are {known}")


def _switches(gateway: "Gateway") -> "Switches":
    if gateway.records is None:
        raise Unavailable("what is switched off is not kept here: the operator has to set state_dir")
    return gateway.records.switches


def _off(gateway: "Gateway", name: str) -> dict[str, Any] | None:
    """Who has switched it off, and why; None while it is on."""
    found = gateway.off.get(name)
    return None if found is None else {"at": date_of(found.at_s), "by": found.by, "note": found.note}
