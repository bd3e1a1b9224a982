"""What can be set of the office, and what its process needs of the machine."""

import ipaddress
from typing import Annotated, Literal

import msgspec

from bascule.errors import ConfigInvalid
from bascule.options import Options, Seconds
from bascule.options_sandbox import Port, SandboxOptions
from bascule.packs.apart import Limits
from bascule.packs.pack import PackOptions, ToolFailed


class SmtpOptions(Options, frozen=True):
    """The server that mail is sent by."""

    host: str
    sender: str  # who all mail is from: `office@company.test`, or `The Office <office@company.test>`
    port: Port = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"  # implicit is what port 465 speaks
    user: str | None = None
    password: str | None = None
    ca_file: str | None = None  # certificates to trust instead of the system's
    timeout_s: Seconds = 20.0

    def __repr__(self) -> str:
        return f"SmtpOptions(host={self.host!r}, port={self.port!r}, tls={self.tls!r})"


class OfficeOptions(PackOptions, frozen=True):
    root: str  # the folder with the documents; nothing outside of it is read or written
    reading: Limits = Limits()  # what reading one file may take
    smtp: SmtpOptions | None = None  # without it, mail is drafted and never sent
    allowed_recipients: tuple[str, ...] = ()  # `*@company.test`, `ann@partner.test`; none: everybody
    max_recipients: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20  # of one mail
    max_batch: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100  # mails of one personalized batch

    @property
    def deduplicates(self) -> bool:
        return True

    def sandbox(self) -> SandboxOptions:
        if self.smtp is None:
            return SandboxOptions(write=(self.root,), network="none")
        read = () if self.smtp.ca_file is None else (self.smtp.ca_file,)
        return SandboxOptions(write=(self.root,), read=read, network=(self.smtp.port,))

    def check(self) -> None:
        from bascule.packs.office.addresses import is_pattern

        for number, pattern in enumerate(self.allowed_recipients):
            if not is_pattern(pattern):
                raise ConfigInvalid(
                    f"{pattern!r} is no pattern of addresses such as *@company.test",
                    field=f"settings.allowed_recipients.{number}",
                )
        if self.smtp is not None:
            _check(self.smtp)


def _check(smtp: SmtpOptions) -> None:
    from bascule.packs.office.addresses import mailbox

    try:
        mailbox(smtp.sender)
    except ToolFailed as error:
        raise ConfigInvalid(str(error), field="settings.smtp.sender") from error
    if (smtp.user is None) != (smtp.password is None):
        raise ConfigInvalid("user and password go together", field="settings.smtp.user")
    if smtp.password is not None and smtp.tls == "none" and not _is_loopback(smtp.host):
        raise ConfigInvalid("the password would cross the network for all to read; use TLS", field="settings.smtp.tls")
    for field, text in (("host", smtp.host), ("user", smtp.user or "-"), ("password", smtp.password or "-")):
        if not text or not text.isprintable():
            raise ConfigInvalid("is empty, or holds control characters", field=f"settings.smtp.{field}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


OPTIONS = OfficeOptions
