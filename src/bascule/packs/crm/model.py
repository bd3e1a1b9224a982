"""What a CRM is about, and what is asked of it. PURE. Money is in USD; days are YYYY-MM-DD."""

import datetime as dt
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from bascule.packs.pack import ToolFailed

Stage: TypeAlias = Literal["prospecting", "qualification", "proposal", "negotiation", "won", "lost"]
ContactStatus: TypeAlias = Literal["active", "prospect", "inactive"]

PROBABILITY: Final[dict[Stage, int]] = {
    "prospecting": 25, "qualification": 50, "proposal": 75, "negotiation": 90, "won": 100, "lost": 0,
}  # fmt: skip

# ---- what is asked


class SearchContacts(msgspec.Struct, frozen=True):
    query: str = ""
    limit: int = 10
    status: ContactStatus | None = None
    not_contacted_for_days: int | None = None


class GetContactDetails(msgspec.Struct, frozen=True):
    contact_id: str


class CreateOpportunity(msgspec.Struct, frozen=True):
    contact_id: str
    title: str
    value: float
    stage: Stage = "prospecting"


class UpdateContactNotes(msgspec.Struct, frozen=True):
    contact_id: str
    notes: str
    append: bool = False


class CreateLead(msgspec.Struct, frozen=True):
    email: str
    source: str
    name: str = ""
    company: str = ""
    value: float = 0


class GetSalesData(msgspec.Struct, frozen=True):
    period: str = "last_month"


class UpdateStatus(msgspec.Struct, frozen=True):
    customer_id: str
    status: str
    score: float | None = None


class CreateOrder(msgspec.Struct, frozen=True):
    customer_id: str
    product: str
    amount: float
    quantity: int = 1


# ---- what is said


class Contact(msgspec.Struct, frozen=True):
    id: str
    name: str
    email: str
    company: str
    status: str
    last_contact: str | None = None


class Contacts(msgspec.Struct, frozen=True):
    contacts: Sequence[Contact]
    total_found: int  # of which `contacts` may be the first few


class Opportunity(msgspec.Struct, frozen=True):
    id: str
    contact_id: str
    title: str
    value: float
    stage: str
    probability: int  # percent
    created_date: str


class ContactDetails(msgspec.Struct, frozen=True):
    id: str
    name: str
    email: str
    company: str
    status: str
    last_contact: str | None = None
    phone: str = ""
    position: str = ""
    created_date: str | None = None
    notes: str = ""
    opportunities: Sequence[Opportunity] = ()


class Notes(msgspec.Struct, frozen=True):
    contact_id: str
    notes: str
    updated_at: str


class Lead(msgspec.Struct, frozen=True):
    lead_id: str
    status: str
    email: str


class Sales(msgspec.Struct, frozen=True):
    period: str  # YYYY-MM
    actual: float
    target: float


class StatusRecord(msgspec.Struct, frozen=True):
    record_id: str
    customer_id: str
    status: str
    score: float | None
    updated_at: str


class Order(msgspec.Struct, frozen=True):
    order_id: str
    customer_id: str
    product: str
    quantity: int
    amount: float
    created_at: str


# ---- decisions

_EMAIL: Final = re.compile(r"[^\s@<>,;:\"()\[\]\\]{1,64}@(?:[\w-]{1,63}\.)+[\w-]{2,63}")
_MONTH: Final = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])")


def month(period: str, today: dt.date) -> str:
    """The month, YYYY-MM, that *period* means. Raises ToolFailed.

    >>> month("last_month", dt.date(2026, 1, 15))
    '2025-12'
    """
    if period == "this_month":
        return f"{today:%Y-%m}"
    if period == "last_month":
        return f"{today.replace(day=1) - dt.timedelta(days=1):%Y-%m}"
    if _MONTH.fullmatch(period):
        return period
    raise ToolFailed(f"{period!r} is no period.", "Say last_month, this_month, or a month such as 2026-10.")


def email(text: str) -> str:
    """*text* as an address in small letters. Raises ToolFailed if it is none."""
    plain = text.strip().lower()
    if not _EMAIL.fullmatch(plain) or len(plain) > 254:
        raise ToolFailed(f"{text[:100]!r} is no e-mail address.", "Give one address, such as an@example.com.")
    return plain


def required(name: str, text: str) -> str:
    """*text* without blanks around it. Raises ToolFailed if nothing is left."""
    if not text.strip():
        raise ToolFailed(f"`{name}` is blank.", "Give a text.")
    return text.strip()


def folded(text: str) -> str:
    """*text* for comparing as people search: without case and without marks, Vietnamese ones too.

    >>> folded("Nguyễn Đức ÁNH")
    'nguyen duc anh'
    """
    plain = "".join(each for each in unicodedata.normalize("NFD", text) if unicodedata.category(each) != "Mn")
    return plain.casefold().replace("đ", "d")


def fingerprint(tool: str, wanted: msgspec.Struct) -> str:
    """The same for the same deed; a key stands for one of them."""
    return hashlib.sha256(msgspec.json.encode([tool, wanted], order="sorted")).hexdigest()


# ---- what cannot be done, the same words whatever store it is


def no_contact(contact_id: str) -> ToolFailed:
    return ToolFailed(f"There is no contact {contact_id!r}.", "search_contacts finds the ids.")


def no_customer(customer_id: str) -> ToolFailed:
    return ToolFailed(f"There is no customer {customer_id!r}.", "Check the id; it looks like CUST-456.")


def no_sales(period: str) -> ToolFailed:
    return ToolFailed(f"There are no sales figures for {period}.", "Ask for another month, YYYY-MM.")


def lead_exists(address: str) -> ToolFailed:
    return ToolFailed(f"There is a lead with the e-mail {address} already.", "Nothing was created; use that one.")


def opportunity_exists(title: str) -> ToolFailed:
    what = f"The contact has an open opportunity {title!r} already."
    return ToolFailed(what, "Nothing was created; get_contact_details shows it.")


def other_deed() -> ToolFailed:
    return ToolFailed("This idempotency key has done something else.", "Use a new key; nothing has changed.")
