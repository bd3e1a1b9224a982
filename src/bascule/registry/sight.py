"""What callers may see, as far as the catalog is concerned. The pipeline knows it (pipeline/ways.py).

One thing decides what is in a list and what may be called, so that the two cannot disagree.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from bascule.contract.model import Kind
from bascule.policy.scopes import Authority
from bascule.registry.catalog import Listing
from bascule.wire.jsonrpc import Params
from bascule.wire.names import Naming

# The lists, and the kind of what is in them.
LISTED: Final[Mapping[str, Kind]] = {
    "tools/list": "tool",
    "prompts/list": "prompt",
    "resources/list": "resource",
    "resources/templates/list": "resource",
}


# The members of a Listing, and the kind of what is in them.
KINDS: Final[tuple[tuple[str, Kind], ...]] = (
    *(("tools", "tool"), ("prompts", "prompt"), ("resources", "resource"), ("templates", "resource")),
)


class Sight(Protocol):
    """Who may know of what."""

    private: bool  # callers see different things
    naming: Naming  # what things are called

    def learn(self, server: str, listings: Sequence[Listing]) -> bool:
        """Take note of what *server* lists, in each era; called before anybody is shown it.

        Whether what is to be seen of other servers has changed with it.
        """
        ...

    def forget(self, server: str) -> None: ...

    def allows(self, authority: Authority, kind: Kind, server: str, name: str) -> bool:
        """Whether a caller may have what *server* calls *name*."""
        ...

    def sees(self, authority: Authority, kind: Kind, server: str, name: str) -> bool:
        """Whether a caller may know of what *server* calls *name*."""
        ...

    def opens(self, authority: Authority, server: str) -> bool:
        """Whether a caller may know of the server at all."""
        ...

    def withholds(self, kind: Kind, server: str, name: str) -> bool:
        """Whether nobody may know of it."""
        ...

    def entry(self, kind: Kind, server: str, name: str, members: Params) -> Params | None:
        """What clients see of a listed entry; None if they see nothing of it."""
        ...
