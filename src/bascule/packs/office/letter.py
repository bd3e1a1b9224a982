"""A mail as bytes: written from its parts, and read again before anybody may rely on it. PURE.

Source: RFC 5322 (the form), RFC 2047 (words that are not ASCII), RFC 2045 (parts), RFC 5321, 4.5.2 (lines).
"""

import re
from collections.abc import Sequence
from datetime import datetime
from email import policy
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.utils import format_datetime
from typing import Final

import msgspec

from bascule.packs.office.addresses import Mailbox, mailbox, subject_of
from bascule.packs.pack import ToolFailed

MAX_LINE_BYTES: Final = 998
_POLICY: Final = policy.SMTP.clone(cte_type="7bit")
_NO_BODY: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_OURS: Final = frozenset({
    *("from", "to", "cc", "bcc", "subject", "date", "message-id", "mime-version", "x-unsent"),
    *("content-type", "content-transfer-encoding", "content-language", "content-disposition"),
})  # fmt: skip
_MADE_ANEW: Final = ("from", "date", "bcc", "x-unsent")  # when it is sent


class Attachment(msgspec.Struct, frozen=True):
    name: str
    content: bytes
    mime_type: str = "application/octet-stream"


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """What one mail says, and to whom."""

    to: tuple[Mailbox, ...]
    subject: str
    body: str
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    @property
    def recipients(self) -> tuple[Mailbox, ...]:
        """Everybody who gets it, each once."""
        return tuple({each.identity: each for each in (*self.to, *self.cc, *self.bcc)}.values())


class Envelope(msgspec.Struct, frozen=True):
    """A mail that is on its way: what is told to the server, and what is given to it."""

    sender: str
    recipients: tuple[str, ...]
    message_id: str
    content: bytes


class Draft(msgspec.Struct, frozen=True):
    """What the head of a draft says, and all of it."""

    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    bcc: tuple[Mailbox, ...]
    subject: str
    message_id: str
    content: bytes

    @property
    def recipients(self) -> tuple[Mailbox, ...]:
        return tuple({each.identity: each for each in (*self.to, *self.cc, *self.bcc)}.values())


def written(letter: Letter, *, message_id: str, at: datetime, sender: Mailbox | None, draft: bool) -> bytes:
    """*letter* as a message in seven bits with CRLF; as a *draft* it names hidden recipients, too.

    Raises ToolFailed where it would not be read as it is meant.
    """
    message = EmailMessage(policy=_POLICY)
    if sender is not None:
        message["From"] = _address(sender)
    for name, all_of_them in (("To", letter.to), ("Cc", letter.cc), ("Bcc", letter.bcc if draft else ())):
        if all_of_them:
            message[name] = [_address(each) for each in all_of_them]
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(at)
    message["Message-ID"] = message_id
    if draft:
        message["X-Unsent"] = "1"  # mail programs open it as something to be edited
    _check_body(letter.body)
    message.set_content(letter.body, charset="utf-8")
    for each in letter.attachments:
        kind, _, detail = each.mime_type.partition("/")
        message.add_attachment(each.content, maintype=kind, subtype=detail, filename=each.name)
    content = message.as_bytes()
    _check_read(content, letter, draft)
    return content


def envelope(letter: Letter, *, message_id: str, at: datetime, sender: Mailbox) -> Envelope:
    """*letter* ready to be sent. Raises ToolFailed."""
    content = written(letter, message_id=message_id, at=at, sender=sender, draft=False)
    return Envelope(sender.address, tuple(each.address for each in letter.recipients), message_id, content)


def draft_of(content: bytes) -> Draft:
    """What *content*, the file of a draft, which a person may have edited, says. Raises ToolFailed."""
    head, _, _ = canonical(content).partition(b"\r\n\r\n")
    # What is parsed is small, whatever the file is; and its headers are ours, each once.
    names = [line.partition(b":")[0].strip().lower() for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
    odd = [name for name in names if name.decode("latin-1") not in _OURS]
    if len(head) > 64 * 1024 or odd or len(set(names)) < len(names):
        shown = odd[0].decode("latin-1")[:60] if odd else "one twice, or too many"
        raise ToolFailed(f"The head of the draft is not one that is sent: {shown!r}.", "Create the draft anew.")
    try:
        parsed = BytesHeaderParser(policy=_POLICY).parsebytes(head + b"\r\n\r\n")
        to, cc, bcc = (tuple(map(mailbox, _listed(parsed, name))) for name in ("to", "cc", "bcc"))
        subject = subject_of(str(parsed.get("subject", "")))
    except (MessageError, ValueError, IndexError) as error:
        raise ToolFailed("The head of the draft cannot be read.", "Create the draft anew.") from error
    return Draft(to, cc, bcc, subject, str(parsed.get("message-id", "")).strip(), canonical(content))


def sealed(draft: Draft, *, message_id: str, at: datetime, sender: Mailbox) -> Envelope:
    """*draft* as it is sent: without its hidden recipients, from *sender*, of now. Raises ToolFailed."""
    head, _, body = draft.content.partition(b"\r\n\r\n")
    kept, keeps = [], True
    for line in head.split(b"\r\n"):
        if line[:1] not in (b" ", b"\t"):
            name = line.partition(b":")[0].strip().lower().decode("latin-1")
            keeps = name not in (*_MADE_ANEW, "message-id")
        if keeps:
            kept.append(line)
    top = EmailMessage(policy=_POLICY)
    top["From"] = _address(sender)
    top["Date"] = format_datetime(at)
    top["Message-ID"] = message_id
    content = top.as_bytes().rstrip(b"\r\n") + b"\r\n" + b"\r\n".join(kept) + b"\r\n\r\n" + body
    if not content.isascii() or max(map(len, content.split(b"\r\n"))) > MAX_LINE_BYTES:
        raise ToolFailed("The draft has lines that mail servers do not take.", "Create the draft anew.")
    return Envelope(sender.address, tuple(each.address for each in draft.recipients), message_id, content)


def canonical(content: bytes) -> bytes:
    """*content* with CRLF at the end of each line: no server finds an end in it where another finds none."""
    return _LINE_END.sub(b"\r\n", content)


def _address(each: Mailbox) -> Address:
    return Address(each.name, addr_spec=each.address)


def _check_body(body: str) -> None:
    if _NO_BODY.search(body):
        raise ToolFailed("The body has control characters.", "Write plain text; lines end in a line feed.")


def _check_read(content: bytes, letter: Letter, draft: bool) -> None:
    """Raises ToolFailed unless another reader finds in *content* what *letter* says, and no more."""
    read = draft_of(content)
    meant = (letter.to, letter.cc, letter.bcc if draft else (), letter.subject)
    if (read.to, read.cc, read.bcc, read.subject) != meant:
        raise ToolFailed(
            "Mail programs would not read this mail as it is meant.",
            "Write plainer names of people, or a plainer subject.",
        )


def _listed(parsed: EmailMessage, name: str) -> Sequence[str]:
    header = parsed.get(name)
    if header is None:
        return ()
    if header.defects:
        raise ToolFailed(f"The {name} of the draft cannot be read.", "Create the draft anew.")
    return [str(Mailbox(each.addr_spec, each.display_name)) for each in header.addresses]
