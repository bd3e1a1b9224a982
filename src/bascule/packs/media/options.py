"""What can be set of the images, and what their process needs of the machine."""

from typing import Annotated

import msgspec

from bascule.errors import ConfigInvalid
from bascule.options import Bytes
from bascule.options_sandbox import SandboxOptions
from bascule.packs.pack import PackOptions


class MediaOptions(PackOptions, frozen=True):
    root: str  # the folder with the images; nothing outside of it is read or written
    hidden: bool = False  # whether files and folders whose names begin with a dot are served
    # Each is four bytes in memory, several times over. A telephone takes up to 50.
    max_megapixels: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    max_file_bytes: Bytes = 32 * 1024 * 1024
    max_seconds: Annotated[float, msgspec.Meta(ge=1, le=120)] = 4.5  # for one image

    def sandbox(self) -> SandboxOptions:
        return SandboxOptions(write=(self.root,), network="none")

    def check(self) -> None:
        if not self.root.strip():
            raise ConfigInvalid("name the folder with the images", field="settings.root")


OPTIONS = MediaOptions
