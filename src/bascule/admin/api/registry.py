"""The registry: contracts on their way through review and use, and which version calls go to."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from bascule.admin import registry
from bascule.admin.actions import Operation, Said, Takes
from bascule.admin.registry import Shelf
from bascule.call import Caller
from bascule.contract.orphans import REVIEW_DAYS
from bascule.errors import ScopeDenied, Unavailable
from bascule.policy.scopes import covers
from bascule.store.contracts import By, Key

if TYPE_CHECKING:
    from bascule.app import Gateway

Step: TypeAlias = Callable[..., Awaitable[dict[str, Any]]]

READ: Final = ("bascule.registry:read",)
WRITE: Final = ("bascule.registry:write",)
PROMOTE: Final = ("bascule.registry:promote",)
REVIEW: Final = "bascule.reviews:write"  # and the aspect behind it

_TOOL: Final = Takes(about="its logical id, such as crm/create_lead", needed=True)
_KIND: Final = Takes(
    about="what it is, where things of several kinds have the same name", choices=tuple(registry.KINDS)
)
_VERSION: Final = Takes(about="which of its versions; only to look at, the newest if it is not said")
_NOTE: Final = Takes(about="why; it goes into the audit")
_ONE: Final = {"tool": _TOOL, "version": _VERSION, "kind": _KIND}
_STEP: Final = {**_ONE, "note": _NOTE}


def operations(gateway: "Gateway") -> Sequence[Operation]:
    area = _Registry(gateway)
    return [*_looks(area), *_publishing(area), *_steps(area), *_routes(area)]


def _looks(area: "_Registry") -> Sequence[Operation]:
    return [
        _look(
            "registry.list",
            "/api/registry",
            area.list_,
            "All versions of all contracts in the registry.",
            {
                "status": Takes(about="only those in it", choices=tuple(registry.STATUSES)),
                "kind": _KIND,
                "team": Takes(about="only those that this owner_team answers for"),
            },
        ),
        _look(
            "registry.show",
            "/api/registry/contract",
            area.show,
            "One version of a contract, with its sign-offs, and what changed since the one before.",
            _ONE,
        ),
        _look(
            "registry.orphans",
            "/api/registry/orphans",
            area.orphans,
            "What nobody looks after: without an owner, a recent review, a contract or a tool.",
            {"days": Takes("integer", f"how old a security review may be; {REVIEW_DAYS} if it is not said")},
        ),
        _look("routes.list", "/api/registry/routes", area.routes, "Which versions calls go to that name none.", {}),
    ]


def _publishing(area: "_Registry") -> Sequence[Operation]:
    return [
        _change(
            "registry.publish",
            "publish",
            area.publish,
            "Publishes a version of a contract, as a draft; says what became of it, or would.",
            WRITE,
            {
                "contract": Takes("object", "the contract document", needed=True),
                "dry_run": Takes("boolean", "true: only say what would become of it"),
                "note": _NOTE,
            },
        ),
        _change(
            "registry.sign",
            "sign",
            area.sign,
            "Signs a version in review off, or refuses to; needs bascule.reviews:write:ASPECT, by that name.",
            READ,
            {
                **_STEP,
                "aspect": Takes(about="what was looked at", choices=registry.ASPECTS, needed=True),
                "decision": Takes(about="what came of it", choices=tuple(registry.DECISIONS), needed=True),
            },
        ),
    ]


def _steps(area: "_Registry") -> Sequence[Operation]:
    end = {
        "sunset": Takes(about="the day on which it goes, YYYY-MM-DD"),
        "replaced_by": Takes(about="what to use instead, such as crm/create_lead@2"),
        "migration": Takes(about="what callers have to change"),
    }
    percent = {
        "percent": Takes("integer", "how many callers get it as a canary; all, if it is not said", least=0),
    }
    table: Sequence[tuple[str, Step, str, tuple[str, ...], Mapping[str, Takes]]] = (
        ("submit", registry.submit, "Asks for the review of a draft.", WRITE, {}),
        ("withdraw", registry.withdraw, "Takes a version back from review, to change it.", WRITE, {}),
        ("discard", registry.discard, "Throws a draft away.", WRITE, {}),
        ("promote", registry.promote, "Makes a version active, for which all has to be there.", PROMOTE, percent),
        ("deprecate", registry.deprecate, "Announces the end of a version, in each of its results.", PROMOTE, end),
        ("retire", registry.retire, "Ends a deprecated version: its calls are refused.", PROMOTE, {}),
    )
    return [
        _change(f"registry.{name}", name, partial(area.step, step), about, scopes, {**_STEP, **more})
        for name, step, about, scopes, more in table
    ]


def _routes(area: "_Registry") -> Sequence[Operation]:
    tool, note = {"tool": _TOOL}, {"note": _NOTE}
    version = Takes(about="the version; nothing for the highest that is active")
    share = {
        "version": Takes(about="the version that some get"),
        "percent": Takes("integer", "how many of the callers; 0 ends it", needed=True, least=0),
    }
    return [
        _change(
            "routes.set",
            "routes",
            area.route,
            "Sends calls to a version.",
            PROMOTE,
            {**tool, "version": version, **note},
        ),
        _change(
            "routes.canary",
            "routes/canary",
            area.canary,
            "Sends some callers to another version.",
            PROMOTE,
            {**tool, **share, **note},
        ),
        _change(
            "routes.rollback", "routes/rollback", area.rollback, "Undoes the last roll-out.", PROMOTE, {**tool, **note}
        ),
    ]


def _look(name: str, path: str, run: Any, about: str, takes: Mapping[str, Takes]) -> Operation:
    return Operation(name=name, method="GET", path=path, run=run, about=about, scopes=READ, takes=takes)


def _change(
    name: str, path: str, run: Any, about: str, scopes: tuple[str, ...], takes: Mapping[str, Takes]
) -> Operation:
    # By name: an agent that may call every tool must not loosen the contracts that hold it.
    return Operation(
        name=name,
        method="POST",
        path=f"/api/registry/{path}",
        run=run,
        about=about,
        scopes=scopes,
        takes=takes,
        named=True,
        recorded=True,
    )


class _Registry:
    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway

    @property
    def _shelf(self) -> Shelf:
        shelf = registry.shelf_of(self._gateway, datetime.now(UTC).date())
        if shelf is None:
            raise Unavailable("there is no registry here: the operator has to set state_dir")
        return shelf

    async def list_(self, _: Caller, said: Said) -> Any:
        return {"contracts": registry.list_(self._shelf, **said)}

    async def show(self, _: Caller, said: Said) -> Any:
        return registry.show(self._shelf, said["tool"], version=said.get("version", ""), kind=said.get("kind"))

    async def orphans(self, _: Caller, said: Said) -> Any:
        listed = registry.listed_at(self._gateway)
        return {"orphans": registry.orphaned(self._shelf, listed, days=said.get("days", REVIEW_DAYS))}

    async def publish(self, caller: Caller, said: Said) -> Any:
        document = registry.document_of(said["contract"])
        return await registry.publish(
            *(self._shelf, document, _by(caller)), note=said.get("note", ""), dry_run=said.get("dry_run", False)
        )

    async def step(self, step: Step, caller: Caller, said: Said) -> Any:
        shelf = self._shelf
        more = {name: value for name, value in said.items() if name not in _ONE}
        return await self._felt(step(shelf, _key(shelf, said), _by(caller), **more))

    async def _felt(self, change: Awaitable[Any]) -> Any:
        """What *change* comes to; calls go by it when it is answered."""
        done = await change
        try:
            await self._gateway.relearn()
        except Unavailable:
            pass  # it is done, and whoever follows the registry tries again, and says so
        return done

    async def sign(self, caller: Caller, said: Said) -> Any:
        wanted = f"{REVIEW}:{said['aspect']}"
        resource = wanted.partition(":")[0]
        if not any(mine.partition(":")[0] == resource and covers(mine, wanted) for mine in caller.authority.held):
            raise ScopeDenied(f"this needs the scope {wanted}, granted by that name", [wanted])
        shelf = self._shelf
        return await registry.sign(
            *(shelf, _key(shelf, said), said["aspect"], said["decision"], _by(caller)), note=said.get("note", "")
        )

    async def routes(self, _: Caller, __: Said) -> Any:
        return {"routes": registry.routes(self._shelf)}

    async def route(self, caller: Caller, said: Said) -> Any:
        return await self._felt(
            registry.route(
                *(self._shelf, said["tool"], said.get("version", ""), _by(caller)), note=said.get("note", "")
            )
        )

    async def canary(self, caller: Caller, said: Said) -> Any:
        version, percent = said.get("version", ""), said["percent"]
        return await self._felt(
            registry.canary(*(self._shelf, said["tool"], version, percent, _by(caller)), note=said.get("note", ""))
        )

    async def rollback(self, caller: Caller, said: Said) -> Any:
        return await self._felt(registry.rollback(self._shelf, said["tool"], _by(caller), note=said.get("note", "")))


def _key(shelf: Shelf, said: Said) -> Key:
    return registry.key_of(shelf, said["tool"], version=said.get("version", ""), kind=said.get("kind"), exact=True)


def _by(caller: Caller) -> By:
    return By(caller.name, caller.proof)
