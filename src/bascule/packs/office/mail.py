"""The tools for mail: drafts as files, and sending them once."""

import asyncio
import hashlib
import itertools
import mimetypes
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from bascule.packs.deeds import Deeds, OutcomeUnknown
from bascule.packs.office.addresses import Mailbox, check_allowed, mailbox, mailboxes, subject_of
from bascule.packs.office.letter import Attachment, Draft, Envelope, Letter, draft_of, envelope, sealed, written
from bascule.packs.office.options import OfficeOptions, SmtpOptions
from bascule.packs.office.smtp import NotSent, Post, Unreachable
from bascule.packs.office.template import fields_of, filled
from bascule.packs.pack import Asked, Pack, ToolFailed
from bascule.packs.rooted import Root

CREATE_DRAFT: Final = "email/create_draft"
SEND: Final = "email/send"
SEND_BATCH: Final = "email/send_personalized_batch"
DRAFTS: Final = "drafts"
SENT: Final = "sent"
MAX_ATTACHMENTS_BYTES: Final = 10 * 1024 * 1024
MAX_DRAFT_BYTES: Final = 16 * 1024 * 1024
NOWHERE: Final = "bascule.invalid"  # RFC 2606: what mail without a sender is named after

Clock = Callable[[], datetime]


class CreateDraft(msgspec.Struct, frozen=True):
    to: list[str]
    subject: str
    body: str
    cc: list[str] = []
    bcc: list[str] = []
    attachments: list[str] = []


class SendMail(msgspec.Struct, frozen=True):
    to: list[str]
    subject: str
    body: str | None = None
    draft_id: str | None = None
    cc: list[str] = []
    bcc: list[str] = []


class SendBatch(msgspec.Struct, frozen=True):
    subject: str
    body: str
    rows: list[dict[str, str]]  # each with `to`, and the fields of the template


class Mail:
    """The tools, and what they share."""

    def __init__(self, options: OfficeOptions, root: Root, deeds: Deeds, now: Clock) -> None:
        self._options = options
        self._root = root
        self._deeds = deeds
        self._now = now
        self._turn = asyncio.Lock()  # of drafts: none is sent by two calls at once
        self._sender = None if options.smtp is None else mailbox(options.smtp.sender)

    # ---- drafts

    async def create_draft(self, wanted: CreateDraft, asked: Asked) -> dict[str, Any]:
        """The same draft for the same key, or without one for the same mail until it is sent."""
        letter = self._letter(wanted.to, wanted.cc, wanted.bcc, wanted.subject, wanted.body)

        async def draft() -> dict[str, Any]:
            return await asyncio.to_thread(self._put_draft, letter, wanted.attachments, asked.key)

        if asked.key is None:
            return await draft()
        made, _ = await self._deeds.once(CREATE_DRAFT, asked.key, wanted, draft, again=True)
        found: dict[str, Any] = made
        return found

    def _put_draft(self, letter: Letter, attachments: Sequence[str], key: str | None) -> dict[str, Any]:
        letter = msgspec.structs.replace(letter, attachments=self._attached(attachments))
        id = self._id_of(letter) if key is None else _id(key)
        path = f"{DRAFTS}/{id}.eml"
        if not _is_there(self._root, path):  # else it is this very draft, which a person may have edited
            message_id = self._message_id(secrets.token_hex(16))
            content = written(letter, message_id=message_id, at=self._now(), sender=self._sender, draft=True)
            self._root.write(path, content, make_folders=True)
        return {
            "draft_id": id,
            "path": path,
            "status": "pending_user_review",
            "to": [str(each) for each in letter.to],
            "subject": letter.subject,
            "recipients": len(letter.recipients),
            "attachments": [each.name for each in letter.attachments],
        }

    def _id_of(self, letter: Letter) -> str:
        """Of one that was sent there is a next one, or the same reminder could never go out again."""
        digest = _digest(letter)  # once: it may have attachments of many megabytes
        ids = (_id(digest if turn == 0 else f"{digest} {turn}") for turn in itertools.count())
        return next(id for id in ids if not _is_there(self._root, f"{SENT}/{id}.eml"))

    def _attached(self, paths: Sequence[str]) -> tuple[Attachment, ...]:
        found, left = [], MAX_ATTACHMENTS_BYTES
        for path in paths:
            content = self._root.read(path, left)
            left -= len(content)
            found.append(Attachment(path.rpartition("/")[2], content, _type_of(path)))
        return tuple(found)

    # ---- to send one

    async def send_one(self, wanted: SendMail, asked: Asked) -> dict[str, Any]:
        """Once for a key; a draft is a key of its own."""
        smtp, sender = self._server()
        if (wanted.draft_id is None) == (wanted.body is None):
            raise ToolFailed("A mail has either a draft_id or a body.", "Give one of the two.")
        key = asked.key or (wanted.draft_id and f"draft:{wanted.draft_id}")
        if not key:
            raise _no_key("To send without one, create a draft, and send it by its draft_id.")
        done, before = await self._deeds.once(SEND, key, wanted, lambda: self._send(wanted, key, smtp, sender))
        return {**done, "status": "already_sent"} if before else done

    async def _send(self, wanted: SendMail, key: str, smtp: SmtpOptions, sender: Mailbox) -> dict[str, Any]:
        letter = self._letter(wanted.to, wanted.cc, wanted.bcc, wanted.subject, wanted.body or "")
        check_allowed(letter.recipients, self._options.allowed_recipients)
        message_id = self._message_id(_digest(key)[:32])
        if wanted.draft_id is None:
            return await _posted(smtp, envelope(letter, message_id=message_id, at=self._now(), sender=sender))
        async with self._turn:
            draft = await asyncio.to_thread(self._draft, wanted.draft_id)
            _check_same(draft, letter)
            sent = await _posted(smtp, sealed(draft, message_id=message_id, at=self._now(), sender=sender))
            await asyncio.to_thread(self._file_away, wanted.draft_id)
        return sent

    def _draft(self, id: str) -> Draft:
        path = f"{DRAFTS}/{id}.eml"
        if not _is_there(self._root, path):
            raise ToolFailed(f"There is no draft {id}.", "It was sent or deleted, or never made: create a draft first.")
        return draft_of(self._root.read(path, MAX_DRAFT_BYTES))

    def _file_away(self, id: str) -> None:
        """Put a draft that is sent among those that are, so that nobody sends it again with another key."""
        for name in (f"{SENT}/{id}.eml", f"{SENT}/{id}-{secrets.token_hex(4)}.eml"):
            try:
                self._root.move(f"{DRAFTS}/{id}.eml", name, make_folders=True)
            except ToolFailed:
                continue  # one of that name was sent before; the mail is sent, whatever becomes of its file
            return

    # ---- to send many

    async def send_batch(self, wanted: SendBatch, asked: Asked) -> dict[str, Any]:
        """Each row once for a key: the same key goes on with those that were not sent."""
        smtp, sender = self._server()
        if asked.key is None:
            raise _no_key("")
        letters = self._letters(wanted)
        post = Post(smtp)
        results: list[dict[str, Any]] = []
        unreachable: Unreachable | None = None
        try:
            for letter in letters:
                if unreachable is not None:
                    results.append(_told(letter, "not_sent", str(unreachable)))
                    continue
                try:
                    results.append(await self._send_row(letter, asked.key, post, sender))
                except NotSent as error:
                    results.append(_told(letter, "not_sent", str(error)))
                    unreachable = error if isinstance(error, Unreachable) else None
        finally:
            await post.close()
        if unreachable is not None and all(each["status"] == "not_sent" for each in results):
            raise unreachable
        sent = sum(each["status"] in ("sent", "already_sent") for each in results)
        return {"status": "sent" if sent == len(results) else "partly_sent", "sent": sent, "results": results}

    async def _send_row(self, letter: Letter, key: str, post: Post, sender: Mailbox) -> dict[str, Any]:
        """Raises NotSent."""
        own_key = f"{key}/{letter.to[0].identity}"
        message_id = self._message_id(_digest(own_key)[:32])

        async def deliver() -> dict[str, Any]:
            await post.deliver(envelope(letter, message_id=message_id, at=self._now(), sender=sender))
            return _told(letter, "sent", message_id=message_id)

        said = (str(letter.to[0]), letter.subject, letter.body)
        try:
            done, before = await self._deeds.once(SEND_BATCH, own_key, said, deliver)
        except NotSent:
            raise
        except OutcomeUnknown as error:
            return _told(letter, "unknown", str(error), message_id)
        except ToolFailed as error:
            return _told(letter, "not_sent", str(error))
        return {**done, "status": "already_sent"} if before else done

    def _letters(self, wanted: SendBatch) -> list[Letter]:
        """All of them, or none: a row that does not go is told before anything is sent. Raises ToolFailed."""
        if len(wanted.rows) > self._options.max_batch:
            raise ToolFailed(
                f"{len(wanted.rows)} mails are more than the {self._options.max_batch} of one batch.",
                "Nothing was sent. Send them in several batches, each with a key of its own.",
            )
        needed = fields_of(wanted.subject) | fields_of(wanted.body)
        letters: dict[str, Letter] = {}
        for number, row in enumerate(wanted.rows, start=1):
            try:
                letter = self._filled(wanted, row, needed)
            except ToolFailed as error:
                raise ToolFailed(f"Nothing was sent: row {number} does not go. {error}") from error
            if letters.setdefault(letter.to[0].identity, letter) is not letter:
                raise ToolFailed(
                    f"{letter.to[0].address} stands twice.", "Nothing was sent. Give each recipient one row."
                )
        check_allowed([each.to[0] for each in letters.values()], self._options.allowed_recipients)
        return list(letters.values())

    def _filled(self, wanted: SendBatch, row: Mapping[str, str], needed: frozenset[str]) -> Letter:
        if unused := sorted(row.keys() - needed - {"to"}):
            raise ToolFailed(f"The template has no {{{unused[0]}}}.", "Give the fields that are in the template.")
        subject, body = (filled(text, row) for text in (wanted.subject, wanted.body))
        letter = self._letter([row["to"]], (), (), subject, body)
        # So that nothing fails for its form once others are sent.
        written(letter, message_id=self._message_id("0"), at=self._now(), sender=self._sender, draft=False)
        return letter

    # ---- what all need

    def _letter(self, to: Sequence[str], cc: Sequence[str], bcc: Sequence[str], subject: str, body: str) -> Letter:
        letter = Letter(to=mailboxes(to), cc=mailboxes(cc), bcc=mailboxes(bcc), subject=subject_of(subject), body=body)
        if not letter.to:
            raise ToolFailed("The mail goes to nobody.", "Name at least one recipient in `to`.")
        if len(letter.recipients) > self._options.max_recipients:
            raise ToolFailed(
                f"{len(letter.recipients)} recipients are more than the {self._options.max_recipients} of one mail.",
                "Leave some out, or write to a list of the mail server.",
            )
        return letter

    def _server(self) -> tuple[SmtpOptions, Mailbox]:
        if self._options.smtp is None or self._sender is None:
            raise ToolFailed(
                "Mail is not sent here: the setting `smtp` of the office pack is missing.",
                "Create a draft instead, or tell the person who runs this server.",
            )
        return self._options.smtp, self._sender

    def _message_id(self, token: str) -> str:
        domain = self._sender.address.rpartition("@")[2] if self._sender is not None else NOWHERE
        return f"<{token}@{domain}>"


def add(pack: Pack, options: OfficeOptions, root: Root, deeds: Deeds, now: Clock = lambda: datetime.now(UTC)) -> None:
    """Have *pack* keep the contracts for mail."""
    mail = Mail(options, root, deeds, now)
    pack.tool(CREATE_DRAFT, mail.create_draft)
    pack.tool(SEND, mail.send_one)
    pack.tool(SEND_BATCH, mail.send_batch)


async def _posted(smtp: SmtpOptions, mail: Envelope) -> dict[str, Any]:
    """What became of *mail*. Raises NotSent, OutcomeUnknown."""
    post = Post(smtp)
    try:
        refused = await post.deliver(mail)
    finally:
        await post.close()
    gone = {each.address for each in refused}
    return {
        "status": "partly_sent" if refused else "sent",
        "message_id": mail.message_id,
        "accepted": [each for each in mail.recipients if each not in gone],
        "refused": [msgspec.to_builtins(each) for each in refused],
    }


def _check_same(draft: Draft, letter: Letter) -> None:
    """Raises ToolFailed unless *draft* is what was asked for: whoever said yes has seen only what was asked for."""
    if {each.identity for each in draft.recipients} != {each.identity for each in letter.recipients}:
        names = ", ".join(str(each) for each in draft.recipients[:10])
        raise ToolFailed(
            f"The draft goes to {names}, and not to whom you say.", "Nothing was sent. Name its recipients."
        )
    if draft.subject != letter.subject:
        raise ToolFailed(
            f"The subject of the draft is {draft.subject!r}.", "Nothing was sent. Give the subject it has."
        )


def _told(letter: Letter, status: str, reason: str = "", message_id: str = "") -> dict[str, Any]:
    said: Mapping[str, str] = {"to": letter.to[0].address, "status": status, "reason": reason, "message_id": message_id}
    return {name: value for name, value in said.items() if value}


def _id(made_of: object) -> str:
    return f"DRAFT-{_digest(made_of)[:16]}"


def _no_key(do: str) -> ToolFailed:
    what = 'Mail is sent once for an idempotency key, and this call has none: _meta["dev.bascule/idempotencyKey"].'
    return ToolFailed(f"Nothing was sent. {what}", do)


def _is_there(root: Root, path: str) -> bool:
    try:
        return root.stat(path).kind == "file"
    except ToolFailed:
        return False


def _type_of(path: str) -> str:
    """The media type that the ending of *path* stands for, unless it is one that mail programs treat as mail."""
    kind, coding = mimetypes.guess_type(path, strict=True)
    main = (kind or "").partition("/")[0]
    is_plain = coding is None and main in ("text", "image", "application")
    return kind if kind is not None and is_plain else "application/octet-stream"


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
