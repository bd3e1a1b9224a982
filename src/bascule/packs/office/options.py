"""What can be set of the office, and what its process needs of the machine."""

from bascule.options_sandbox import SandboxOptions
from bascule.packs.pack import PackOptions


class OfficeOptions(PackOptions, frozen=True):
    root: str  # the folder with the documents; nothing outside of it is read or written

    def sandbox(self) -> SandboxOptions:
        return SandboxOptions(write=(self.root,), network="none")


OPTIONS = OfficeOptions
