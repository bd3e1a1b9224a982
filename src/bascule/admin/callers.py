"""Who calls: what the configuration says of each caller, what it may call, and what is spent of its budget.

For the console and REST. Knows neither; keys are in admin/keys.py.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bascule.admin import catalog, keys
from bascule.config import allowances_of, identifies, tells_apart
from bascule.pipeline.whose import window_key
from bascule.policy import fit
from bascule.policy.allowances import Allowance
from bascule.policy.keys import KeyRecord
from bascule.policy.scopes import UNLIMITED, Access, Authority
from bascule.policy.spending import usd_of, window_of
from bascule.store.usage import DAY, Usage

if TYPE_CHECKING:
    from bascule.app import Gateway

DAYS: Final = 30  # of use
PAGE: Final = 50
MOST_OTHERS: Final = 50  # that have called most
MOST_LISTED: Final = 500
_WARN_FROM: Final = 0.8  # of a budget


# ---- who there is --------------------------------------------------------------------------------


async def list_(
    gateway: "Gateway", *, q: str = "", page: int = 1, size: int = PAGE, now_s: float | None = None
) -> dict[str, Any]:
    """A page of the callers of the configuration, and those that have called without being in it.

    *q*: letters that are in their names. Raises Unavailable.
    """
    at_s = time.time() if now_s is None else now_s
    used = await _used(gateway, at_s)
    configured, wanted = gateway.config.callers, q.casefold()
    records = await asyncio.to_thread(keys.list_, gateway.keys) if configured else ()
    found = [name for name in configured if wanted in name.casefold()]
    others = [name for name in used if name and name not in configured and wanted in name.casefold()]
    pages = max(1, -(-len(found) // size))
    page = min(page, pages)
    return {
        "callers": [
            await _report(gateway, name, used, records, at_s) for name in found[(page - 1) * size : page * size]
        ],
        "total": len(found),
        "all": len(configured),
        "page": page,
        "pages": pages,
        "others": [{"caller": name, "usage": used[name]} for name in others[:MOST_OTHERS]],
        "all_others": len(others),
        "days": DAYS,
        "identified": identifies(gateway.config),
    }


async def show(gateway: "Gateway", name: str, now_s: float | None = None) -> dict[str, Any] | None:
    """One caller of the configuration, with its keys and with each tool that it sees; None if there is none."""
    if name not in gateway.config.callers:
        return None
    at_s = time.time() if now_s is None else now_s
    records = await asyncio.to_thread(keys.list_, gateway.keys)
    said = await _report(gateway, name, await _used(gateway, at_s), records, at_s)
    mine = [keys.report(each, at_s) for each in reversed(records) if each.caller == name]
    mine.sort(key=lambda each: each["state"] != "active")
    return {
        **said,
        "keys_made": mine[:PAGE],
        "keys_all": len(mine),
        "sees": _sees(gateway, authority_of(gateway, name)),
    }


def authority_of(gateway: "Gateway", name: str) -> Authority:
    """What a caller may do by a key of its own that is bound to nothing less."""
    config = gateway.config
    if not tells_apart(config):
        return UNLIMITED
    return Authority(fit.scopes_of(config.callers[name], config.roles))


async def _report(
    gateway: "Gateway", name: str, used: Mapping[str, Any], records: Sequence[KeyRecord], now_s: float
) -> dict[str, Any]:
    options, config = gateway.config.callers[name], gateway.config
    found = _sees(gateway, authority_of(gateway, name))
    made = [keys.report(each, now_s) for each in records if each.caller == name]
    return {
        "caller": name,
        "roles": list(options.roles),
        "scopes": sorted(fit.scopes_of(options, config.roles)),
        "attributes": sorted(options.attributes),
        "certificate": options.certificate,
        "keys_configured": len(options.keys),
        "keys_active": sum(each["state"] == "active" for each in made),
        "last_used": max((each["last_used"] for each in made if each["last_used"]), default=None),
        "limits": _limits(allowances_of(config).of(name)),
        "own_limits": options.limits is not None,
        "budget": await budget(gateway, name, now_s),
        "tools": sum(each["allowed"] for each in found),
        "usage": used.get(name),
    }


def _limits(allowance: Allowance) -> dict[str, Any]:
    session = allowance.session_budget
    return {
        "rate": None if allowance.rate is None else str(allowance.rate),
        "concurrent": allowance.concurrent,
        "session_usd": None if session is None else usd_of(session),
    }


def _sees(gateway: "Gateway", authority: Authority) -> list[dict[str, Any]]:
    """The tools that somebody knows of, and whether they may call them as they are."""
    found = catalog.entries(gateway)
    return [
        {"tool": each.id, "scopes": list(each.way.scopes), "allowed": _access(each, authority) is Access.ALLOWED}
        for each in found
        if not each.way.withheld and _access(each, authority) is not Access.HIDDEN
    ]


def _access(entry: catalog.Entry, authority: Authority) -> Access:
    return authority.access(entry.way.scopes)


async def _used(gateway: "Gateway", now_s: float) -> dict[str, dict[str, Any]]:
    counted = catalog.usage_of(gateway)
    return {} if counted is None else await asyncio.to_thread(_by_caller, counted, now_s - DAYS * DAY, now_s)


def _by_caller(counted: Usage, since_s: float, until_s: float) -> dict[str, dict[str, Any]]:
    found = counted.sums(("caller",), since_s, until_s)
    return {
        name: {
            "calls": each.calls,
            "errors": each.calls - each.categories.get("ok", 0),
            "cost_usd": usd_of(each.cost_nano_usd),
        }
        for (name,), each in sorted(found.items(), key=lambda each: -each[1].calls)
    }


# ---- budgets -------------------------------------------------------------------------------------


async def budget(gateway: "Gateway", name: str, now_s: float) -> dict[str, Any] | None:
    """What a caller may spend in the present window, and has; None where it may spend what it wants."""
    allowance = allowances_of(gateway.config).of(name)
    if allowance.budget_per is None:
        return None
    window = window_of(allowance.budget_per, now_s)
    (spent,) = await gateway.parts.state.used([window_key(window.name, name)])
    share = spent / allowance.budget
    return {
        "caller": name,
        "per": allowance.budget_per,
        "limit_usd": usd_of(allowance.budget),
        "spent_usd": usd_of(spent),
        "left_usd": usd_of(max(0, allowance.budget - spent)),
        "share": round(share, 4),
        "state": "spent" if share >= 1 else "nearly" if share >= _WARN_FROM else "ok",
        "renews": window.end,
    }


async def budgets(gateway: "Gateway", others: Iterable[str] = (), now_s: float | None = None) -> list[dict[str, Any]]:
    """The budgets of all callers of the configuration, and of *others*; those first that are nearest to their end."""
    at_s = time.time() if now_s is None else now_s
    names = dict.fromkeys([*gateway.config.callers, *others])
    found = [await budget(gateway, name, at_s) for name in names]
    return sorted((each for each in found if each is not None), key=lambda each: (-each["share"], each["caller"]))
