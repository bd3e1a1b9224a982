"""What can be set of the communication pack, and what its process needs of the machine."""

import re
from typing import Final
from urllib.parse import urlsplit

from bascule.errors import ConfigInvalid
from bascule.options import Seconds
from bascule.options_sandbox import SandboxOptions
from bascule.packs.pack import PackOptions

CHANNEL: Final = re.compile(r"[#@]?[\w.-]{1,80}")


class CommunicationOptions(PackOptions, frozen=True):
    root: str | None = None  # where it remembers what it sent, and reads projects; None: nothing outlives the process
    projects: str | None = None  # a file below root, YAML or JSON; None: a sample
    webhook_url: str | None = None  # an incoming webhook of Slack or one of its kind; the whole URL is a secret
    channels: tuple[str, ...] = ()  # that a message may name; none: the webhook posts to its own
    timeout_s: Seconds = 10.0

    def __repr__(self) -> str:
        return f"CommunicationOptions(root={self.root!r}, projects={self.projects!r}, channels={self.channels!r})"

    @property
    def deduplicates(self) -> bool:
        return self.root is not None

    def sandbox(self) -> SandboxOptions:
        write = () if self.root is None else (self.root,)
        if self.webhook_url is None:
            return SandboxOptions(write=write, network="none")
        url = urlsplit(self.webhook_url)
        return SandboxOptions(write=write, network=(url.port or (80 if url.scheme == "http" else 443),))

    def check(self) -> None:
        from bascule import egress

        if self.projects is not None and self.root is None:
            raise ConfigInvalid("a file of projects needs `root`, the folder that it is in", field="settings.root")
        for number, channel in enumerate(self.channels):
            if not CHANNEL.fullmatch(channel):
                raise ConfigInvalid("is no channel such as #alerts", field=f"settings.channels.{number}")
        if self.webhook_url is not None:
            reason = egress.acceptable(self.webhook_url, origin_host=egress.host_of(self.webhook_url))
            if reason is not None:
                raise ConfigInvalid(reason, field="settings.webhook_url")


OPTIONS = CommunicationOptions
