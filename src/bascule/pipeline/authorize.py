"""`authorize`: whether this caller may, decided by the same function that filters the lists.

What a caller may not call looks like what does not exist, unless it could get the scopes by asking.
Source: MCP 2026-07-28, Authorization, "Scope Challenge Handling"; docs/security.md.
"""

from bascule.call import Call, Forward, Result
from bascule.contract.model import Contract
from bascule.errors import (
    BasculeError,
    DefinitionChanged,
    Gone,
    InvalidParams,
    PromptNotFound,
    ResourceNotFound,
    ScopeDenied,
    ToolNotFound,
    Unavailable,
)
from bascule.policy.scopes import Access
from bascule.registry.judge import Unapproved
from bascule.wire import jsonrpc


def not_found(kind: str, name: str | None) -> InvalidParams:
    """The one answer for what does not exist and for what this caller must not know of."""
    match kind:
        case "tool":
            return ToolNotFound(f"no tool {name!r}", name=name)
        case "prompt":
            return PromptNotFound(f"no prompt {name!r}", name=name)
        case _:
            return ResourceNotFound(f"no resource {name!r}", uri=name)


def as_asked(call: Call, kind: str) -> BasculeError:
    """`not_found`, under the name that the client used."""
    params = jsonrpc.members(call.params["ref"]) if "ref" in call.params else call.params
    return not_found(kind, jsonrpc.text(params.get("uri" if kind == "resource" else "name")) or "")


class Authorize:
    """Refuses who lacks a scope, and everybody once the thing is withdrawn, or is not what was approved."""

    def __init__(
        self,
        contract: Contract,
        scopes: tuple[str, ...],
        withheld: str = "",
        unapproved: Unapproved | None = None,
        unready: str = "",
    ) -> None:
        """*withheld*: why nobody may call it, "" if it is not. *unapproved*: the same, of what was not approved.
        *unready*: the server that has to say first what answers for it."""
        self._contract = contract
        self._scopes = scopes
        self._changed = unapproved if unapproved is not None and unapproved.told else None
        self._withheld = withheld
        self._unready = unready
        self._is_hidden = bool(withheld) and self._changed is None and not unready

    async def __call__(self, call: Call, forward: Forward) -> Result:
        access = call.caller.authority.access(self._scopes)
        if access is Access.HIDDEN or self._is_hidden:
            raise as_asked(call, self._contract.kind)
        if access is Access.LACKING:
            raise ScopeDenied(f"{self._contract.id} needs the scope {' '.join(self._scopes)}", self._scopes)
        if self._changed is not None:
            raise DefinitionChanged(
                f"{self._contract.id} must not be called: {self._changed.told}",
                review=self._changed.id,
                changed=list(self._changed.changed),
            )
        if self._unready:
            raise Unavailable(self._withheld).at(self._unready)
        if self._contract.status == "gone":
            raise _gone(self._contract)
        return await forward(call)


def _gone(contract: Contract) -> Gone:
    said = contract.deprecation
    return Gone(f"{contract.named} has been withdrawn{said.advice if said else ''}")
