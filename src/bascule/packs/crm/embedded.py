"""A CRM in a file of SQLite. Each call is one transaction, and a deed shares it with its idempotency key."""

import asyncio
import datetime as dt
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from bascule.packs.crm import model, sample
from bascule.packs.crm.model import (
    PROBABILITY,
    Contact,
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
from bascule.packs.pack import ToolFailed

T = TypeVar("T")
Did = TypeVar("Did", bound=msgspec.Struct)
Clock = Callable[[], dt.datetime]

MAX_NOTES_CHARS: Final = 20_000
_BUSY_S: Final = 5.0
_CONTACT: Final = "id, name, email, company, status, last_contact"
_SCHEMA: Final = """
CREATE TABLE contacts (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE, phone TEXT NOT NULL, company TEXT NOT NULL,
  position TEXT NOT NULL, status TEXT NOT NULL, created_date TEXT NOT NULL, last_contact TEXT NOT NULL,
  notes TEXT NOT NULL
);
CREATE TABLE opportunities (
  id TEXT PRIMARY KEY, contact_id TEXT NOT NULL REFERENCES contacts (id), title TEXT NOT NULL, value REAL NOT NULL,
  stage TEXT NOT NULL, created_date TEXT NOT NULL
);
CREATE TABLE leads (
  number INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, source TEXT NOT NULL, name TEXT NOT NULL,
  company TEXT NOT NULL, value REAL NOT NULL, created_at TEXT NOT NULL
);
CREATE TABLE customers (id TEXT PRIMARY KEY, name TEXT NOT NULL, status TEXT, score REAL);
CREATE TABLE status_records (
  number INTEGER PRIMARY KEY, customer_id TEXT NOT NULL REFERENCES customers (id), status TEXT NOT NULL, score REAL,
  updated_at TEXT NOT NULL
);
CREATE TABLE orders (
  number INTEGER PRIMARY KEY, customer_id TEXT NOT NULL REFERENCES customers (id), product TEXT NOT NULL,
  quantity INTEGER NOT NULL, amount REAL NOT NULL, created_at TEXT NOT NULL
);
CREATE TABLE sales (month TEXT PRIMARY KEY, actual REAL NOT NULL, target REAL NOT NULL);
CREATE TABLE keys (key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, result BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


class EmbeddedStore:
    def __init__(self, file: Path, now: Clock) -> None:
        self._file = file
        self._now = now
        self._one_at_a_time = asyncio.Lock()

    async def search(self, wanted: SearchContacts) -> Contacts:
        return await self._in(lambda connection: _search(connection, wanted, self._now().date()))

    async def contact(self, contact_id: str) -> ContactDetails:
        return await self._in(lambda connection: _contact(connection, contact_id))

    async def sales(self, month: str) -> Sales:
        return await self._in(lambda connection: _sales(connection, month))

    async def create_opportunity(self, wanted: CreateOpportunity, key: str | None) -> Opportunity:
        return await self._once("create_opportunity", wanted, key, _create_opportunity, Opportunity)

    async def update_notes(self, wanted: UpdateContactNotes, key: str | None) -> Notes:
        return await self._once("update_contact_notes", wanted, key, _update_notes, Notes)

    async def create_lead(self, wanted: CreateLead, key: str | None) -> Lead:
        return await self._once("create_lead", wanted, key, _create_lead, Lead)

    async def update_status(self, wanted: UpdateStatus, key: str | None) -> StatusRecord:
        return await self._once("update_status", wanted, key, _update_status, StatusRecord)

    async def create_order(self, wanted: CreateOrder, key: str | None) -> Order:
        return await self._once("create_order", wanted, key, _create_order, Order)

    async def _once(
        self,
        tool: str,
        wanted: msgspec.Struct,
        key: str | None,
        do: Callable[[sqlite3.Connection, T, dt.datetime], Did],
        kind: type[Did],
    ) -> Did:
        mark = model.fingerprint(tool, wanted)

        def act(connection: sqlite3.Connection) -> Did:
            known = connection.execute("SELECT fingerprint, result FROM keys WHERE key = ?", (key,)).fetchone()
            if known is not None:
                if known[0] != mark:
                    raise model.other_deed()
                return msgspec.json.decode(known[1], type=kind)
            done = do(connection, wanted, self._now())  # type: ignore[arg-type]  # *do* takes what *wanted* is
            if key is not None:
                connection.execute("INSERT INTO keys VALUES (?, ?, ?)", (key, mark, msgspec.json.encode(done)))
            return done

        return await self._in(act)

    async def _in(self, act: Callable[[sqlite3.Connection], T]) -> T:
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._transaction, act)

    def _transaction(self, act: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = _opened(self._file)
            try:
                connection.execute("BEGIN IMMEDIATE")
                if connection.execute("PRAGMA user_version").fetchone() == (0,):
                    _make(connection, self._now().date())
                found = act(connection)
                connection.execute("COMMIT")
            finally:
                connection.close()  # which rolls back what is not committed
        except (OSError, sqlite3.Error) as error:
            raise ToolFailed(
                f"The CRM's store cannot be used: {error}.", "Nothing has changed; tell its operator."
            ) from error
        return found


def _opened(file: Path) -> sqlite3.Connection:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    connection = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.create_function("folded", 1, model.folded, deterministic=True)
    return connection


def _make(connection: sqlite3.Connection, today: dt.date) -> None:
    for statement in _SCHEMA.split(";\n"):
        connection.execute(statement)
    sample.fill(connection, today)


# ---- reading


def _search(connection: sqlite3.Connection, wanted: SearchContacts, today: dt.date) -> Contacts:
    """Who has each word of the query in the name, the company or the address."""
    conditions, values = ["TRUE"], list[object]()
    for word in model.folded(wanted.query).split():
        conditions.append("instr(folded(name || char(10) || company || char(10) || email), ?) > 0")
        values.append(word)
    if wanted.status is not None:
        conditions.append("status = ?")
        values.append(wanted.status)
    if wanted.not_contacted_for_days is not None:
        conditions.append("last_contact < ?")
        values.append((today - dt.timedelta(days=wanted.not_contacted_for_days)).isoformat())
    where = " AND ".join(conditions)
    (total,) = connection.execute(f"SELECT count(*) FROM contacts WHERE {where}", values).fetchone()
    query = f"SELECT {_CONTACT} FROM contacts WHERE {where} ORDER BY folded(name), id LIMIT ?"
    return Contacts([Contact(*row) for row in connection.execute(query, [*values, wanted.limit])], total)


def _contact(connection: sqlite3.Connection, contact_id: str) -> ContactDetails:
    query = f"SELECT {_CONTACT}, phone, position, created_date, notes FROM contacts WHERE id = ?"
    row = connection.execute(query, (contact_id,)).fetchone()
    if row is None:
        raise model.no_contact(contact_id)
    query = "SELECT id, contact_id, title, value, stage, created_date FROM opportunities WHERE contact_id = ? LIMIT 500"
    opportunities = [_opportunity(*each) for each in connection.execute(query, (contact_id,))]
    return msgspec.structs.replace(ContactDetails(*row), opportunities=opportunities)


def _opportunity(id: str, contact_id: str, title: str, value: float, stage: model.Stage, created: str) -> Opportunity:
    return Opportunity(id, contact_id, title, value, stage, PROBABILITY[stage], created)


def _sales(connection: sqlite3.Connection, month: str) -> Sales:
    row = connection.execute("SELECT month, actual, target FROM sales WHERE month = ?", (month,)).fetchone()
    if row is None:
        raise model.no_sales(month)
    return Sales(*row)


def _check_there(connection: sqlite3.Connection, table: str, id: str, otherwise: Callable[[str], ToolFailed]) -> None:
    if connection.execute(f"SELECT 1 FROM {table} WHERE id = ?", (id,)).fetchone() is None:
        raise otherwise(id)


# ---- deeds


def _create_opportunity(connection: sqlite3.Connection, wanted: CreateOpportunity, now: dt.datetime) -> Opportunity:
    _check_there(connection, "contacts", wanted.contact_id, model.no_contact)
    same = connection.execute(
        "SELECT 1 FROM opportunities WHERE contact_id = ? AND folded(title) = ? AND stage NOT IN ('won', 'lost')",
        (wanted.contact_id, model.folded(wanted.title)),
    )
    if same.fetchone() is not None:
        raise model.opportunity_exists(wanted.title)
    (number,) = connection.execute("SELECT count(*) + 1 FROM opportunities").fetchone()
    row = (f"opp_{number}", wanted.contact_id, wanted.title, wanted.value, wanted.stage, now.date().isoformat())
    connection.execute("INSERT INTO opportunities VALUES (?, ?, ?, ?, ?, ?)", row)
    return _opportunity(*row)


def _update_notes(connection: sqlite3.Connection, wanted: UpdateContactNotes, now: dt.datetime) -> Notes:
    _check_there(connection, "contacts", wanted.contact_id, model.no_contact)
    (old,) = connection.execute("SELECT notes FROM contacts WHERE id = ?", (wanted.contact_id,)).fetchone()
    notes = f"{old}\n{wanted.notes}".strip() if wanted.append else wanted.notes
    if len(notes) > MAX_NOTES_CHARS:
        raise ToolFailed(
            f"The notes would be longer than {MAX_NOTES_CHARS} characters.", "Replace them with a summary."
        )
    connection.execute("UPDATE contacts SET notes = ? WHERE id = ?", (notes, wanted.contact_id))
    return Notes(wanted.contact_id, notes, _stamp(now))


def _create_lead(connection: sqlite3.Connection, wanted: CreateLead, now: dt.datetime) -> Lead:
    taken = "SELECT 1 FROM leads WHERE email = ?"
    if connection.execute(taken, (wanted.email,)).fetchone() is not None:
        raise model.lead_exists(wanted.email)
    number = connection.execute(
        "INSERT INTO leads (email, source, name, company, value, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (wanted.email, wanted.source, wanted.name, wanted.company, wanted.value, _stamp(now)),
    ).lastrowid
    return Lead(f"LD-{number:05d}", "created", wanted.email)


def _update_status(connection: sqlite3.Connection, wanted: UpdateStatus, now: dt.datetime) -> StatusRecord:
    _check_there(connection, "customers", wanted.customer_id, model.no_customer)
    connection.execute(
        "UPDATE customers SET status = ?, score = ? WHERE id = ?", (wanted.status, wanted.score, wanted.customer_id)
    )
    number = connection.execute(
        "INSERT INTO status_records (customer_id, status, score, updated_at) VALUES (?, ?, ?, ?)",
        (wanted.customer_id, wanted.status, wanted.score, _stamp(now)),
    ).lastrowid
    return StatusRecord(f"CRM-{number:04d}", wanted.customer_id, wanted.status, wanted.score, _stamp(now))


def _create_order(connection: sqlite3.Connection, wanted: CreateOrder, now: dt.datetime) -> Order:
    _check_there(connection, "customers", wanted.customer_id, model.no_customer)
    number = connection.execute(
        "INSERT INTO orders (customer_id, product, quantity, amount, created_at) VALUES (?, ?, ?, ?, ?)",
        (wanted.customer_id, wanted.product, wanted.quantity, wanted.amount, _stamp(now)),
    ).lastrowid
    id = f"ORD-{number:05d}"
    return Order(id, wanted.customer_id, wanted.product, wanted.quantity, wanted.amount, _stamp(now))


def _stamp(now: dt.datetime) -> str:
    return now.isoformat(timespec="seconds")
