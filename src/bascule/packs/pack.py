"""What a pack is made of: contracts, the functions that keep them, resources and prompts. Knows nothing of the wire.

A tool's contract document is the one place that says its name, its schemas and whether it changes anything; the
function is given arguments that fit the schema. What it raises as ToolFailed is told to the model, in its words.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, get_type_hints
from urllib.parse import urlsplit

import msgspec

from bascule import documents
from bascule.contract.model import Document
from bascule.contract.validation.schema import Validator, compile_schema
from bascule.errors import ConfigInvalid
from bascule.options import Options
from bascule.options_sandbox import SandboxOptions

# Options of a pack that are folders: the one of the documents that it works on, and the one of its own records.
RECORDS: Final = "folder"
FOLDERS: Final = ("root", RECORDS)
SEPARATOR: Final = "__"  # between namespace and name, where a tool's namespace is not the pack's own


class PackOptions(Options, frozen=True):
    """Base of what can be set of a pack. Plain values: they cross to its process as JSON."""

    def placed(self, base: Path) -> Self:
        """Itself with its folders where they are meant: relative ones below *base*, `~` being the home folder."""
        said = {name: getattr(self, name, None) for name in FOLDERS}
        found = {name: str(base / Path(path).expanduser()) for name, path in said.items() if path is not None}
        return msgspec.structs.replace(self, **found)

    @property
    def deduplicates(self) -> bool:
        """Whether its tools do one thing once for one idempotency key, so that the key is given to them."""
        return False

    def sandbox(self) -> SandboxOptions:
        """What its process needs of the machine, and nothing else."""
        return SandboxOptions(network="none")

    def check(self) -> None:
        """Raises ConfigInvalid, with the `field`, for values that do not go together."""


class ToolFailed(Exception):
    """The tool cannot do it: what failed, and what to do about it, each a sentence for a model to act on."""

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(f"{what} {do}".strip())


class Asked(msgspec.Struct, frozen=True):
    """What came with a call besides its arguments."""

    key: str | None = None  # the idempotency key: the same key is the same deed, however often it is asked for


# Arguments as the function's own struct, and what came with them; the result is an object (a struct or a mapping).
Run: TypeAlias = Callable[[Any, Asked], Awaitable[object]]


class Tool(msgspec.Struct, frozen=True):
    name: str  # on its own wire: `search_contacts`, or `invoice__process_payment` for another namespace
    document: Document
    takes: type
    run: Run
    arguments: Validator


class Resource(msgspec.Struct, frozen=True):
    """*read* gives its text; *uri* may be a template of RFC 6570 with simple expressions, whose values it is given."""

    uri: str
    name: str
    description: str
    mime_type: str
    read: Callable[[Mapping[str, str]], Awaitable[str]]

    @property
    def is_template(self) -> bool:
        return "{" in self.uri


class Argument(msgspec.Struct, frozen=True):
    name: str
    description: str
    required: bool = True


class Prompt(msgspec.Struct, frozen=True):
    """*write* makes the text that a user sends to the model."""

    name: str
    description: str
    arguments: Sequence[Argument]
    write: Callable[[Mapping[str, str]], str]


class Pack:
    """One pack while it is put together, and afterwards."""

    def __init__(self, name: str, *, title: str, version: str, instructions: str, contracts: Path) -> None:
        """*contracts*: the folder with its documents. Raises ConfigInvalid for what is wrong with them."""
        self.name = name
        self.title = title
        self.version = version
        self.instructions = instructions
        self.tools: dict[str, Tool] = {}
        self.resources: dict[str, Resource] = {}
        self.prompts: dict[str, Prompt] = {}
        self._documents = {document.id: document for _, document in documents.documents(contracts)}
        self._closing: list[Callable[[], Awaitable[None]]] = []

    def tool(self, id: str, run: Run) -> None:
        """Have *run* keep the contract of the tool *id*. Its first parameter's type is what the arguments become."""
        document = self._documents.pop(id, None)
        if document is None or document.kind != "tool":
            raise ConfigInvalid(f"pack {self.name}: there is no contract of the tool {id!r}")
        if document.input_schema is msgspec.UNSET or document.description is msgspec.UNSET:
            raise ConfigInvalid(f"pack {self.name}: the contract of {id!r} lacks a description or an input_schema")
        first = next(iter(inspect.signature(run).parameters))
        takes = get_type_hints(run)[first]
        name = own_name(self.name, id)
        self.tools[name] = Tool(name, document, takes, run, compile_schema(document.input_schema))

    def resource(self, resource: Resource) -> None:
        self.resources[resource.uri] = resource

    def prompt(self, prompt: Prompt) -> None:
        self.prompts[prompt.name] = prompt

    def closing(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have *close* called when the server ends."""
        self._closing.append(close)

    async def close(self) -> None:
        for close in reversed(self._closing):
            await close()

    def finished(self) -> "Pack":
        """Itself, if every tool that it has a contract of is there. Raises ConfigInvalid."""
        if left := [id for id, document in self._documents.items() if document.kind == "tool"]:
            raise ConfigInvalid(f"pack {self.name}: nothing keeps the contract of {', '.join(left)}")
        return self


def port_of(url: str) -> int:
    """The TCP port of *url*, for the walls of a process that calls it; whether it is a URL, `check` has to say."""
    try:
        parts = urlsplit(url)
        return parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return 443


def own_name(pack: str, id: str) -> str:
    """What the server of *pack* calls the tool *id* itself.

    >>> own_name("crm", "crm/search_contacts"), own_name("finance", "invoice/process_payment")
    ('search_contacts', 'invoice__process_payment')
    """
    namespace, _, name = id.partition("/")
    return name if namespace == pack else f"{namespace}{SEPARATOR}{name}"
