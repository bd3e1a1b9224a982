"""Mail on its way out: one connection to the mail server of the settings, in a thread, with an honest end.

What goes wrong before the last line of a mail is given to the server is told as "nothing was sent", what goes wrong
after it as unknown: RFC 5321, 4.5.3.2.6 and 4.1.1.4, a server may have taken it although its answer was never heard.
What smtplib raises of its own is an OSError, too.
"""

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import msgspec

from bascule.packs.deeds import OutcomeUnknown
from bascule.packs.office.letter import Envelope
from bascule.packs.office.options import SmtpOptions
from bascule.packs.pack import ToolFailed

_OWN_NAME: Final = "[127.0.0.1]"  # an address literal: our host name is nobody's business
_TOLD_CHARS: Final = 200
_TRANSIENT: Final = range(400, 500)

Parameters = ParamSpec("Parameters")
Found = TypeVar("Found")


class Refused(msgspec.Struct, frozen=True):
    """A recipient that the server does not take mail for."""

    address: str
    reason: str


class NotSent(ToolFailed):
    """The server has not taken it, that is certain; *broken* if the connection is of no more use."""

    def __init__(self, what: str, do: str, *, broken: bool = False) -> None:
        super().__init__(f"Nothing was sent: {what}", do)
        self.broken = broken


class Unreachable(NotSent):
    """There is no connection to be had."""


class Post:
    """A connection that delivers one mail after another; it is made when the first is."""

    def __init__(self, options: SmtpOptions) -> None:
        self._options = options
        self._smtp: smtplib.SMTP | None = None
        self._turn = asyncio.Lock()

    async def deliver(self, envelope: Envelope) -> tuple[Refused, ...]:
        """Give *envelope* to the server; the recipients that it does not take, who are never all of them.

        Raises NotSent, OutcomeUnknown.
        """
        async with self._turn:
            return await asyncio.to_thread(self._deliver, envelope)

    async def close(self) -> None:
        async with self._turn:
            await asyncio.to_thread(self._drop)

    def _deliver(self, envelope: Envelope) -> tuple[Refused, ...]:
        smtp = self._smtp = self._smtp or self._opened()
        try:
            return _deliver(smtp, envelope)
        except NotSent as error:
            if error.broken:
                self._drop()
            raise
        except OutcomeUnknown:
            self._drop()
            raise

    def _opened(self) -> smtplib.SMTP:
        """Raises Unreachable."""
        said, where = self._options, f"the mail server {self._options.host}:{self._options.port}"
        try:
            context = ssl.create_default_context(cafile=said.ca_file)
            smtp = _connected(said, context)
            if said.tls == "starttls":
                _within(smtp, lambda: smtp.starttls(context=context))
            if said.user is not None:
                _within(smtp, lambda: smtp.login(said.user or "", said.password or ""))
        except smtplib.SMTPAuthenticationError as error:
            what = f"{where} does not take the user and password of the settings ({error.smtp_code})."
            raise Unreachable(
                what, "Tell the person who runs this server to look at smtp.user and smtp.password."
            ) from error
        except smtplib.SMTPNotSupportedError as error:
            what = f"{where} does not offer what the settings ask for (smtp.tls: {said.tls}, smtp.user)."
            raise Unreachable(
                what, "Tell the person who runs this server to look at smtp.tls and smtp.port."
            ) from error
        except ssl.SSLError as error:
            what = (
                f"the certificate of {where} is not good, or it speaks no TLS there ({error.reason or 'TLS failed'})."
            )
            raise Unreachable(
                what, "Tell the person who runs this server to look at smtp.tls, smtp.host, smtp.ca_file."
            ) from error
        except smtplib.SMTPResponseException as error:
            what = f"{where} answered {error.smtp_code} {_told(error.smtp_error)}."
            raise Unreachable(what, "Try again in some minutes.") from error
        except OSError as error:
            what = f"{where} cannot be reached ({type(error).__name__})."
            raise Unreachable(what, "Try again in some minutes; then tell the person who runs this server.") from error
        return smtp

    def _drop(self) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            try:
                smtp.quit()
            except OSError:
                smtp.close()  # gone already


def _connected(said: SmtpOptions, context: ssl.SSLContext) -> smtplib.SMTP:
    if said.tls == "implicit":
        return smtplib.SMTP_SSL(said.host, said.port, _OWN_NAME, timeout=said.timeout_s, context=context)
    return smtplib.SMTP(said.host, said.port, _OWN_NAME, timeout=said.timeout_s)


def _within(smtp: smtplib.SMTP, step: Callable[[], object]) -> None:
    try:
        step()
    except OSError:
        smtp.close()
        raise


def _deliver(smtp: smtplib.SMTP, envelope: Envelope) -> tuple[Refused, ...]:
    try:
        refused = _announced(smtp, envelope)
        lines = envelope.content if envelope.content.endswith(b"\r\n") else envelope.content + b"\r\n"
        smtp.send(lines.replace(b"\r\n.", b"\r\n.."))  # the first line is a header, and begins with no dot
    except OSError as error:
        what = f"the connection to the mail server was lost ({type(error).__name__})."
        raise NotSent(what, "Try again in some minutes.", broken=True) from error
    try:
        smtp.send(b".\r\n")
        code, said = smtp.getreply()
    except OSError as error:
        raise OutcomeUnknown(
            "It is not known whether the mail was sent: all of it was given to the mail server, and then the connection"
            f" was lost ({type(error).__name__}).",
            f"It is not sent again with this key. Look for {envelope.message_id} at a recipient or in the server's log;"
            " only if it is not there, send it with a new key.",
        ) from error
    if code != 250:
        raise _declined("the mail", code, said)
    return refused


def _announced(smtp: smtplib.SMTP, envelope: Envelope) -> tuple[Refused, ...]:
    """Tell the server of all recipients, up to where the mail itself follows; those that it refuses."""
    smtp.ehlo_or_helo_if_needed()
    size = [f"SIZE={len(envelope.content)}"] if smtp.has_extn("size") else []
    code, said = smtp.mail(envelope.sender, size)
    if code != 250:
        raise _declined(f"mail from {envelope.sender}", code, said)
    answers = [(each, *smtp.rcpt(each)) for each in envelope.recipients]
    refused = tuple(Refused(each, f"{code} {_told(said)}") for each, code, said in answers if code not in (250, 251))
    if len(refused) == len(answers):
        smtp.rset()
        reasons = "; ".join(f"{each.address} ({each.reason})" for each in refused[:5])
        raise NotSent(f"the mail server takes no mail for {reasons}.", "Look at the addresses.")
    code, said = smtp.docmd("DATA")
    if code != 354:
        raise _declined("the mail", code, said)
    return refused


def _declined(what: str, code: int, said: bytes) -> NotSent:
    do = "Try again in some minutes." if code in _TRANSIENT else "Change it before you send it again."
    # What a server may say next in a dialogue that went wrong is not waited for.
    return NotSent(f"the mail server does not take {what}: {code} {_told(said)}.", do, broken=True)


def _told(said: bytes | str) -> str:
    """What a server said, in visible characters."""
    text = said if isinstance(said, str) else said.decode("ascii", "replace")
    return "".join(each if each.isascii() and each.isprintable() else " " for each in text)[:_TOLD_CHARS].strip(" .")
