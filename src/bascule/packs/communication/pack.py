"""Communication as a pack."""

from pathlib import Path
from typing import Final

from bascule.packs.communication import projects, slack
from bascule.packs.communication.options import CommunicationOptions
from bascule.packs.deeds import Deeds
from bascule.packs.pack import Pack
from bascule.packs.rooted import Root

CONTRACTS: Final = Path(__file__).parent / "contracts"


def build(options: CommunicationOptions) -> Pack:
    """Raises ConfigInvalid if the folder of the settings is none."""
    root = None if options.root is None else Root(options.root)
    deeds = Deeds(None if root is None else root.path, "communication")
    pack = Pack(
        "communication",
        title="Communication",
        version="1.0.0",
        instructions="How projects stand, and messages to the team. Look before you post; a message is read by people.",
        contracts=CONTRACTS,
    )
    slack.add(pack, options, deeds)
    projects.add(pack, root, options.projects)
    pack.closing(deeds.close)
    return pack
