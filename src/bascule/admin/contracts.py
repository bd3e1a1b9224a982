"""What can be done with contracts: begin one, look for its faults, compare two, see what holds.

What the command line, REST and the console share: knows files and servers, and nothing of terminals.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from bascule import documents
from bascule.admin.inspect import Peer
from bascule.contract import diff as differing
from bascule.contract import lint as linting
from bascule.contract.derive import DERIVED, Definition, Sources, definition_of
from bascule.contract.diff import Verdict
from bascule.contract.lint import Finding, Subject
from bascule.contract.model import Contract, Kind, Schema
from bascule.contract.template import template
from bascule.errors import ConfigInvalid, PromptNotFound, ResourceNotFound, ToolNotFound
from bascule.wire import jsonrpc
from bascule.wire.jsonrpc import Params
from bascule.wire.names import PREFIXED, Naming

KINDS: Final[Sequence[Kind]] = ("tool", "prompt", "resource")
SERVER: Final = "server"  # as a source: what it lists
DECLARED: Final = "server's contract"  # and what it says of its contract beside that
_LISTS: Final[Sequence[tuple[str, str, Kind, str]]] = (  # method, member, kind, what names an entry
    ("tools/list", "tools", "tool", "name"),
    ("prompts/list", "prompts", "prompt", "name"),
    ("resources/list", "resources", "resource", "uri"),
    ("resources/templates/list", "resourceTemplates", "resource", "uriTemplate"),
)
_UNKNOWN: Final = {"tool": ToolNotFound, "prompt": PromptNotFound, "resource": ResourceNotFound}


class Listed(msgspec.Struct, frozen=True):
    """One thing that a server lists."""

    kind: Kind
    id: str  # `namespace/name`
    definition: Definition


class Line(msgspec.Struct, frozen=True):
    """One field of an effective contract: what holds, and who says so."""

    field: str
    value: Any
    source: str


async def listed(peer: Peer, server: str, naming: Naming = PREFIXED) -> list[Listed]:
    """All that the server called *server* lists, with the ids that *naming* gives it."""
    found = []
    for method, member, kind, key in _LISTS:
        for raw in jsonrpc.items(jsonrpc.members(await peer.list(method))[member]):
            members = jsonrpc.members(raw)
            if (name := jsonrpc.text(members.get(key))) is not None:
                found.append(Listed(kind, naming.id(server, name), _definition(kind, members)))
    return found


def _definition(kind: Kind, members: Params) -> Definition:
    found = definition_of(members)
    arguments = jsonrpc.value_of(members.get("arguments"), list)
    if kind != "prompt" or arguments is None:
        return found
    return msgspec.structs.replace(
        found, input_schema=_as_schema([each for each in arguments if isinstance(each, dict)])
    )


def _as_schema(arguments: Sequence[Mapping[str, Any]]) -> Schema:
    """The arguments of a prompt, which MCP lists in a way of their own: they are all text."""
    return {
        "type": "object",
        "properties": {
            str(each.get("name")): {"type": "string", "description": str(each.get("description") or "")}
            for each in arguments
        },
        "required": [str(each.get("name")) for each in arguments if each.get("required") is True],
    }


def one(things: Iterable[Listed], kind: Kind, id: str) -> Listed:
    """The one called *id*. Raises ToolNotFound, PromptNotFound or ResourceNotFound."""
    for each in things:
        if (each.kind, each.id) == (kind, id):
            return each
    namespace, _, name = id.partition("/")
    raise _UNKNOWN[kind](f"no {kind} {name!r}").at(namespace)


# ---- the four commands ---------------------------------------------------------------------------


def new(kind: Kind, id: str, definition: Definition | None = None) -> str:
    """The text of a contract to begin with. Raises ConfigInvalid when *id* is not namespace/name."""
    namespace, found, name = id.partition("/")
    if not (namespace and found and name):
        raise ConfigInvalid(f"{id!r} is not namespace/name, such as crm/create_lead")
    return template(kind, id, definition)


def lint_files(paths: Iterable[Path], today: date) -> list[Finding]:
    """What is to be said of the contracts in files and folders. Raises ConfigInvalid for what is no contract."""
    return linting.lint(
        [
            Subject(
                Sources([(each.place, each.document)]).effective(each.document.kind, each.document.id, None), each.at
            )
            for each in documents.read(*paths)
        ],
        today,
    )


def lint_listed(things: Sequence[Listed], sources: Sources, today: date) -> list[Finding]:
    """What is to be said of what servers list, together with what *sources* say of it."""
    subjects, found = [], list(_orphans(things, sources))
    for each in things:
        try:
            contract = sources.effective(each.kind, each.id, each.definition)
        except ValueError as error:  # a trusted server's contract that is none
            found.append(linting.finding("contract-wrong", each.id, SERVER, str(error)))
            continue
        governed = sources.document(each.kind, each.id) is not None or DECLARED in contract.sources.values()
        subjects.append(Subject(contract, partial(_place, contract), governed=governed))
    return found + linting.lint(subjects, today)


def _orphans(things: Sequence[Listed], sources: Sources) -> Iterator[Finding]:
    """Contracts for what a server that was asked does not list."""
    asked = {each.id.partition("/")[0] for each in things}
    known = {(each.kind, each.id) for each in things}
    for kind in KINDS:
        for id in sources.ids(kind):
            found = sources.document(kind, id)
            if found is not None and (kind, id) not in known and id.partition("/")[0] in asked:
                message = f"the server lists no such {kind}"
                yield linting.finding("contract-orphan", id, found[0], message)


def _place(contract: Contract, field: str) -> str:
    source = contract.sources.get(field.partition(".")[0], SERVER)
    return f"{SERVER} {contract.namespace}" if source in (SERVER, DERIVED) else source


def diff_files(before: Path, after: Path) -> list[Verdict]:
    """What became of each contract from one file or folder to the other. Raises ConfigInvalid."""
    return differing.verdicts(_contracts(before), _contracts(after))


def _contracts(path: Path) -> list[Contract]:
    return [
        Sources([(place, document)]).effective(document.kind, document.id, None)
        for place, document in documents.documents(path)
    ]


def show(sources: Sources, kind: Kind, id: str, definition: Definition | None) -> list[Line]:
    """Each field of the contract that holds for *id*, and where it comes from; what nobody says is the default.

    Raises ConfigInvalid for a trusted server's contract that is none.
    """
    try:
        contract = sources.effective(kind, id, definition)
    except ValueError as error:
        raise ConfigInvalid(str(error), place=SERVER) from error
    return [
        Line(name, _value(contract, name), contract.sources.get(name, "default"))
        for name in Contract.__struct_fields__
        if name not in ("id", "kind", "sources")
    ]


def _value(contract: Contract, field: str) -> Any:
    value = msgspec.to_builtins(getattr(contract, field))
    return [_said(guardrail) for guardrail in value] if field == "guardrails" else value


def _said(guardrail: dict[str, Any]) -> dict[str, Any]:
    """*guardrail* as somebody would write it: `effect` is for ready rules, a condition in CEL has its own."""
    idle = {"message"} if not guardrail["message"] else set()
    idle |= {"effect"} if any(guardrail[effect] is not None for effect in ("deny", "ask", "warn")) else set()
    return {name: value for name, value in guardrail.items() if value is not None and name not in idle}


def kind_of(sources: Sources, id: str) -> Kind:
    """The kind of thing that there is a contract document for; a tool, if there is none."""
    return next((kind for kind in KINDS if sources.document(kind, id)), "tool")
