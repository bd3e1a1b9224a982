"""A CRM behind REST, as docs/packs/crm.md describes it. Nothing is sent twice from here.

What a model says becomes a segment of a path, a value of a query or of a body, each quoted whole, and never anything
else of a request. What the server says is decoded into what it should be; the words of its refusals are passed on.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec

from bascule import egress
from bascule.packs.crm import model
from bascule.packs.crm.model import (
    ContactDetails,
    Contacts,
    CreateLead,
    CreateOpportunity,
    CreateOrder,
    Lead,
    Notes,
    Opportunity,
    Order,
    Sales,
    SearchContacts,
    StatusRecord,
    UpdateContactNotes,
    UpdateStatus,
)
from bascule.packs.crm.options import RestOptions
from bascule.packs.pack import ToolFailed

T = TypeVar("T")

MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_SAID_CHARS: Final = 300  # of what the server says is wrong
_LATER: Final = "Try again later, with the same idempotency key."


class Refusal(msgspec.Struct, frozen=True):
    """What the body of an answer of 4xx may hold."""

    message: str = ""
    error: str = ""  # `key_mismatch`: the key has done something else


Whys = Mapping[int, Callable[[], ToolFailed]]  # what a status means for one operation


class RestStore:
    def __init__(self, options: RestOptions, today: Callable[[], dt.date]) -> None:
        self._options = options
        self._today = today

    async def search(self, wanted: SearchContacts) -> Contacts:
        query: dict[str, str | int] = {"query": wanted.query, "limit": wanted.limit}
        if wanted.status is not None:
            query["status"] = wanted.status
        if wanted.not_contacted_for_days is not None:
            before = self._today() - dt.timedelta(days=wanted.not_contacted_for_days)
            query["last_contact_before"] = before.isoformat()
        found = await self._ask(Contacts, "GET", "contacts", query=query)
        return Contacts(found.contacts[: wanted.limit], found.total_found)

    async def contact(self, contact_id: str) -> ContactDetails:
        whys = {404: lambda: model.no_contact(contact_id)}
        return await self._ask(ContactDetails, "GET", "contacts", contact_id, whys=whys)

    async def create_opportunity(self, wanted: CreateOpportunity, key: str | None) -> Opportunity:
        whys: Whys = {
            404: lambda: model.no_contact(wanted.contact_id),
            409: lambda: model.opportunity_exists(wanted.title),
        }
        path = ("contacts", wanted.contact_id, "opportunities")
        body = {"title": wanted.title, "value": wanted.value, "stage": wanted.stage}
        return await self._ask(Opportunity, "POST", *path, body=body, key=key, whys=whys)

    async def update_notes(self, wanted: UpdateContactNotes, key: str | None) -> Notes:
        whys = {404: lambda: model.no_contact(wanted.contact_id)}
        body = {"notes": wanted.notes, "append": wanted.append}
        return await self._ask(Notes, "PUT", "contacts", wanted.contact_id, "notes", body=body, key=key, whys=whys)

    async def create_lead(self, wanted: CreateLead, key: str | None) -> Lead:
        whys = {409: lambda: model.lead_exists(wanted.email)}
        return await self._ask(Lead, "POST", "leads", body=wanted, key=key, whys=whys)

    async def sales(self, month: str) -> Sales:
        return await self._ask(Sales, "GET", "sales", month, whys={404: lambda: model.no_sales(month)})

    async def update_status(self, wanted: UpdateStatus, key: str | None) -> StatusRecord:
        whys = {404: lambda: model.no_customer(wanted.customer_id)}
        path, body = ("customers", wanted.customer_id, "status"), {"status": wanted.status, "score": wanted.score}
        return await self._ask(StatusRecord, "PUT", *path, body=body, key=key, whys=whys)

    async def create_order(self, wanted: CreateOrder, key: str | None) -> Order:
        whys = {404: lambda: model.no_customer(wanted.customer_id)}
        return await self._ask(Order, "POST", "orders", body=wanted, key=key, whys=whys)

    async def _ask(
        self,
        kind: type[T],
        method: str,
        *path: str,
        query: Mapping[str, str | int] | None = None,
        body: object = None,
        key: str | None = None,
        whys: Whys | None = None,
    ) -> T:
        headers = {"authorization": f"Bearer {self._options.token}"}
        if key is not None:
            headers["idempotency-key"] = key
        try:
            url = egress.below(self._options.url, *path, query=query)
        except egress.FetchFailed as error:
            raise ToolFailed("The id cannot be one.", "Give it as the CRM does, such as contact_1.") from error
        try:
            answer = await egress.ask(
                method,
                url,
                base=self._options.url,
                json=body,
                headers=headers,
                limit_bytes=MAX_ANSWER_BYTES,
                timeout_s=self._options.timeout_s,
            )
        except egress.FetchFailed as error:
            raise _unanswered(error, changes=method != "GET") from error
        if answer.status not in (200, 201):
            raise _refused(answer, whys or {}, changes=method != "GET")
        try:
            return msgspec.json.decode(answer.body, type=kind, strict=False)
        except msgspec.DecodeError as error:
            raise ToolFailed(
                "The CRM's answer is not what it should be.", _afterwards(changes=method != "GET")
            ) from error


def _unanswered(error: egress.FetchFailed, *, changes: bool) -> ToolFailed:
    if getattr(error, "unsent", False) or not changes:
        return ToolFailed("The CRM cannot be reached.", _LATER)
    return ToolFailed("The CRM did not answer.", _afterwards(changes=changes))


def _afterwards(*, changes: bool) -> str:
    """What to do when a request was sent and nothing is known of what came of it."""
    if not changes:
        return "Tell its operator."
    return "It is not known whether it was done: look it up before you ask again, or ask with the same idempotency key."


def _refused(answer: egress.Answer, whys: Whys, *, changes: bool) -> ToolFailed:
    """The sentence for an answer that is none."""
    status = answer.status
    try:
        said = msgspec.json.decode(answer.body, type=Refusal)
    except msgspec.DecodeError:
        said = Refusal()
    if said.error == "key_mismatch":
        return model.other_deed()
    if status in whys:
        return whys[status]()
    if status in (401, 403):
        return ToolFailed("The CRM does not let this server do that.", "Its operator has to look at the token.")
    if status == 429 or status == 503:
        return ToolFailed("The CRM is busy.", _LATER)
    if status >= 500:
        return ToolFailed(f"The CRM failed (HTTP {status}).", _afterwards(changes=changes))
    words = " ".join(said.message.split())[:MAX_SAID_CHARS]
    return ToolFailed(f"The CRM refuses it (HTTP {status}){': ' + words.rstrip('.') if words else ''}.", "Correct it.")
