"""The CRM as a pack: eight tools over one store."""

import datetime as dt
from pathlib import Path
from typing import Final

import msgspec

from bascule.packs.crm import model
from bascule.packs.crm.embedded import EmbeddedStore
from bascule.packs.crm.model import (
    ContactDetails,
    Contacts,
    CreateLead,
    CreateOpportunity,
    CreateOrder,
    GetContactDetails,
    GetSalesData,
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
from bascule.packs.crm.options import CrmOptions
from bascule.packs.crm.store import Store
from bascule.packs.pack import Asked, Pack

CONTRACTS: Final = Path(__file__).parent / "contracts"


class Clock:
    """The time it is; the day that it is taken to be, if the operator says one."""

    def __init__(self, today: dt.date | None) -> None:
        self._today = today

    def now(self) -> dt.datetime:
        now = dt.datetime.now(dt.UTC)
        return now if self._today is None else dt.datetime.combine(self._today, now.timetz())

    def today(self) -> dt.date:
        return self.now().date()


class CrmTools:
    """What every store is spared: texts are trimmed, addresses and periods are understood."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def search_contacts(self, wanted: SearchContacts, asked: Asked) -> Contacts:
        del asked
        return await self._store.search(wanted)

    async def get_contact_details(self, wanted: GetContactDetails, asked: Asked) -> dict[str, ContactDetails]:
        del asked
        return {"contact": await self._store.contact(wanted.contact_id)}

    async def create_opportunity(self, wanted: CreateOpportunity, asked: Asked) -> dict[str, Opportunity]:
        plain = msgspec.structs.replace(wanted, title=model.required("title", wanted.title))
        return {"opportunity": await self._store.create_opportunity(plain, asked.key)}

    async def update_contact_notes(self, wanted: UpdateContactNotes, asked: Asked) -> Notes:
        return await self._store.update_notes(wanted, asked.key)

    async def create_lead(self, wanted: CreateLead, asked: Asked) -> Lead:
        source = model.required("source", wanted.source)
        plain = msgspec.structs.replace(wanted, email=model.email(wanted.email), source=source)
        return await self._store.create_lead(plain, asked.key)

    async def get_sales_data(self, wanted: GetSalesData, asked: Asked) -> Sales:
        del asked
        return await self._store.sales(model.month(wanted.period, self._clock.today()))

    async def update_status(self, wanted: UpdateStatus, asked: Asked) -> StatusRecord:
        plain = msgspec.structs.replace(wanted, status=model.required("status", wanted.status))
        return await self._store.update_status(plain, asked.key)

    async def create_order(self, wanted: CreateOrder, asked: Asked) -> Order:
        plain = msgspec.structs.replace(wanted, product=model.required("product", wanted.product))
        return await self._store.create_order(plain, asked.key)


def build(options: CrmOptions) -> Pack:
    clock = Clock(options.today)
    tools = CrmTools(_store(options, clock), clock)
    pack = Pack(
        "crm",
        title="CRM",
        version="1.0.0",
        instructions=(
            "Contacts with their opportunities, leads, customers and sales. search_contacts finds ids; what creates or "
            "changes something takes an idempotency key, so that it is done once."
        ),
        contracts=CONTRACTS,
    )
    for name in (
        *("search_contacts", "get_contact_details", "create_opportunity", "update_contact_notes", "create_lead"),
        *("get_sales_data", "update_status", "create_order"),
    ):
        pack.tool(f"crm/{name}", getattr(tools, name))
    return pack


def _store(options: CrmOptions, clock: Clock) -> Store:
    if options.rest is None:
        return EmbeddedStore(options.file, clock.now)
    # What reaches out takes time to import, and is not needed for a store of one's own.
    from bascule.packs.crm.rest import RestStore

    return RestStore(options.rest, clock.today)
