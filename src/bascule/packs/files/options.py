"""What can be set of the files, and what their process needs of the machine."""

from typing import Annotated

import msgspec

from bascule.errors import ConfigInvalid
from bascule.options_sandbox import SandboxOptions
from bascule.packs.pack import PackOptions

# As text and as structured content an answer holds it twice, and a message has its own limit.
MAX_MAX_BYTES = 1024 * 1024


class FilesOptions(PackOptions, frozen=True):
    root: str  # the folder; nothing outside of it is read or written
    read_only: bool = False  # only the tools that look
    hidden: bool = False  # whether files and folders whose names begin with a dot are served
    trash: bool = True  # whether a deleted file is kept, in the folder .trash below the root
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_MAX_BYTES)] = 256 * 1024  # read or written by one call

    @property
    def deduplicates(self) -> bool:
        return True

    def sandbox(self) -> SandboxOptions:
        own = (self.root,)
        return SandboxOptions(read=own if self.read_only else (), write=() if self.read_only else own, network="none")

    def check(self) -> None:
        if not self.root.strip():
            raise ConfigInvalid("name the folder that is served", field="settings.root")


OPTIONS = FilesOptions
