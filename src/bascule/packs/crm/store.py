"""What a CRM can do, whichever it is. *key* makes one deed of all calls that carry it."""

from typing import Protocol

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


class Store(Protocol):
    """Everything raises ToolFailed, in the words of model.py where there are some."""

    async def search(self, wanted: SearchContacts) -> Contacts:
        """By name, the first few of them."""

    async def contact(self, contact_id: str) -> ContactDetails: ...

    async def create_opportunity(self, wanted: CreateOpportunity, key: str | None) -> Opportunity: ...

    async def update_notes(self, wanted: UpdateContactNotes, key: str | None) -> Notes: ...

    async def create_lead(self, wanted: CreateLead, key: str | None) -> Lead: ...

    async def sales(self, month: str) -> Sales: ...

    async def update_status(self, wanted: UpdateStatus, key: str | None) -> StatusRecord: ...

    async def create_order(self, wanted: CreateOrder, key: str | None) -> Order: ...
