"""What can be set of the CRM, and what its process needs of the machine."""

import datetime as dt
from pathlib import Path
from typing import Annotated, Final

import msgspec

from bascule.errors import ConfigInvalid
from bascule.options import Options, Seconds
from bascule.options_sandbox import SandboxOptions
from bascule.packs.pack import PackOptions, port_of

_DNS: Final = 53  # an answer that is too long for UDP comes over TCP


class RestOptions(Options, frozen=True):
    """A CRM that speaks the paths of docs/packs/crm.md."""

    url: Annotated[str, msgspec.Meta(min_length=1)]
    token: str  # sent as `Authorization: Bearer`
    timeout_s: Seconds = 10.0
    honours_keys: bool = False  # it does one thing once for one Idempotency-Key, so that a call may be sent again

    def __repr__(self) -> str:
        return f"RestOptions(url={self.url!r}, token='***')"


class CrmOptions(PackOptions, frozen=True):
    folder: str | None = None  # of the store of its own, which is made there with sample data on first use
    rest: RestOptions | None = None
    today: dt.date | None = None  # the day that it is taken to be, for demonstrations; default: the real one

    @property
    def deduplicates(self) -> bool:
        return self.rest is None or self.rest.honours_keys

    @property
    def file(self) -> Path:
        """The database of the store of its own."""
        assert self.folder is not None
        return Path(self.folder).expanduser().absolute() / "crm.sqlite"

    def sandbox(self) -> SandboxOptions:
        if self.rest is not None:
            return SandboxOptions(network=(_DNS, port_of(self.rest.url)))
        return SandboxOptions(write=(str(self.file.parent),), network="none")

    def check(self) -> None:
        if (self.folder is None) == (self.rest is None):
            raise ConfigInvalid("name one: `folder: PATH` or `rest: {url, token}`", field="settings")
        if self.rest is not None:
            # Only who asks for it needs what reaches out.
            from bascule import egress

            if reason := egress.acceptable(self.rest.url, origin_host=egress.host_of(self.rest.url)):
                raise ConfigInvalid(reason, field="settings.rest.url")


OPTIONS = CrmOptions
