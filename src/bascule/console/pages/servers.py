"""Servers: how each of them is, what it said last, and what can be done about it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from bascule.admin.api.servers import WRITE
from bascule.admin.servers import NoSuchServer
from bascule.console.page import ROOT, Missing, Page, View, get, post
from bascule.console.paging import address
from bascule.upstream.base import State

if TYPE_CHECKING:
    from bascule.app import Gateway

_HERE: Final = f"{ROOT}/servers"
_LONGEST_ERROR: Final = 300  # characters of it in a table; all of it stands on the server's own page
# What needs somebody comes first.
_ORDER: Final = ("failed", "down", "starting", "ready", "idle", "stopped", "off")
MARKS: Final[Mapping[str, str]] = {
    "failed": "bad",
    "down": "bad",
    "starting": "wait",
    "ready": "ok",
    "idle": "off",
    "stopped": "off",
    "off": "off",
}
WORDS: Final[Mapping[str, str]] = {
    "failed": "failed",
    "down": "down, is tried again",
    "starting": "starting",
    "ready": "ready",
    "idle": "waits for a call",
    "stopped": "stopped",
    "off": "switched off",
}
VERBS: Final = {
    "restart": ("Restart", "is being started anew"),
    "disable": ("Switch off", "is switched off"),
    "enable": ("Switch on", "is switched on again"),
}


async def list_(view: View) -> Response:
    found: Mapping[str, Any] = (await view.perform("servers.list"))["servers"]
    asked = {name: view.query.get(name, "").strip() for name in ("q", "state")}
    shown = [
        _row(view, name, each)
        for name, each in sorted(found.items(), key=lambda item: (_place(item[1]["state"]), item[0]))
        if asked["q"].lower() in name.lower() and asked["state"] in ("", each["state"])
    ]
    said: dict[str, Any] = {
        "servers": shown,
        "tiles": _tiles(view.gateway, found),
        "asked": asked,
        "is_empty": not found,
        "states": [("", "any"), *WORDS.items()],
        "may_write": view.may(*WRITE),
        "address": address(_HERE, asked),
    }
    if view.is_part:
        return view.part("servers_list.html", **said)
    return view.page("servers.html", **said)


def _place(state: str) -> int:
    return _ORDER.index(state) if state in _ORDER else 0


def _row(view: View, name: str, found: Mapping[str, Any]) -> Mapping[str, Any]:
    error = found["last_error"] or ""
    return {
        **found,
        "name": name,
        "mark": MARKS.get(found["state"], "bad"),
        "word": WORDS.get(found["state"], found["state"]),
        "error": error if len(error) <= _LONGEST_ERROR else f"{error[:_LONGEST_ERROR]}… ({len(error)} characters)",
        "circuit_word": _circuit(found["circuit"]),
        "pending": view.gateway.judge.pending(name),
        "verbs": _verbs(found),
    }


def _circuit(circuit: Mapping[str, Any] | None) -> tuple[str, str]:
    """(the word, how bad) of the state that calls find; ("", "") where there is none."""
    if circuit is None:
        return "", ""
    state = str(circuit["state"]).replace("_", " ")
    return state, {"closed": "ok", "held closed": "warn", "half open": "wait"}.get(state, "bad")


def _verbs(found: Mapping[str, Any]) -> Sequence[str]:
    """What can be done with a server as it is."""
    return ("enable",) if found["off"] is not None or found["state"] == State.OFF.value else ("restart", "disable")


def _tiles(gateway: "Gateway", found: Mapping[str, Any]) -> Mapping[str, int]:
    states = [each["state"] for each in found.values()]
    return {
        "all": len(states),
        "broken": sum(state in ("failed", "down") for state in states),
        "off": states.count("off"),
        "in_flight": sum(each["in_flight"] for each in found.values()),
        "pending": sum(gateway.judge.pending(name) for name in found),
    }


async def show(view: View) -> Response:
    name = view.path["name"]
    said: dict[str, Any] = {"server": await _found(view, name), "may_write": view.may(*WRITE)}
    if view.is_part:
        return view.part("servers_one.html", **said)
    return view.page("servers_show.html", title=name, **said)


async def _found(view: View, name: str) -> Mapping[str, Any]:
    try:
        return _row(view, name, await view.perform("servers.show", server=name))
    except NoSuchServer as error:
        raise Missing(error.message) from None


async def ask(view: View) -> Response:
    """What will happen, before it does."""
    name, verb = view.path["name"], view.path["verb"]
    if verb not in VERBS:
        raise Missing("there is no such page")
    server = await _found(view, name)
    label, _ = VERBS[verb]
    return view.page("servers_ask.html", title=f"{label} {name}?", server=server, verb=verb, label=label)


async def change(view: View) -> Response:
    name, verb = view.path["name"], view.path["verb"]
    if verb not in VERBS:
        raise Missing("there is no such page")
    await view.perform(f"servers.{verb}", server=name, note=view.form.get("note", "").strip())
    return view.back(f"/servers/{name}", f"{name} {VERBS[verb][1]}.")


def _pulse(gateway: "Gateway") -> Any:
    return [_glance(gateway, name) for name in gateway.upstreams]


def _glance(gateway: "Gateway", name: str) -> Sequence[Any]:
    status = gateway.upstreams[name].status()
    said = tuple(status.stderr)[-3:]
    return name, status.state.value, tuple(status.pids), status.restarts, status.in_flight, status.last_error, said


def _badge(gateway: "Gateway") -> int:
    return sum(each.status().state in (State.FAILED, State.DOWN) for each in gateway.upstreams.values())


PAGE: Final = Page(
    name="servers",
    title="Servers",
    icon="servers",
    routes=(
        get("/servers", list_),
        get("/servers/{name}", show),
        get("/servers/{name}/{verb}", ask, WRITE),
        post("/servers/{name}/{verb}", change, WRITE),
    ),
    pulse=_pulse,
    badge=_badge,
)
