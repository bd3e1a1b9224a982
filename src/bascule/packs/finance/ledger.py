"""The ledger of payments and orders: SQLite in a folder. What is written with a key is written once.

A deed and its key are one row, so that there is no moment at which one is there without the other.
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from bascule.errors import ConfigInvalid
from bascule.packs.finance.market import SampleInvoice, sample
from bascule.packs.pack import ToolFailed

FILE: Final = "finance.sqlite"
_BUSY_S: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS invoices (
  invoice_id TEXT PRIMARY KEY, vendor TEXT NOT NULL, amount TEXT NOT NULL, currency TEXT NOT NULL, due TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS payments (
  payment_id TEXT PRIMARY KEY, invoice_id TEXT NOT NULL UNIQUE, key TEXT UNIQUE, amount TEXT NOT NULL,
  currency TEXT NOT NULL, payment_method TEXT NOT NULL, paid_at TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS orders (
  order_id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, portfolio_id TEXT NOT NULL, ticker TEXT NOT NULL,
  side TEXT NOT NULL, quantity INTEGER NOT NULL, price TEXT NOT NULL, currency TEXT NOT NULL, limit_price TEXT,
  risk_score TEXT NOT NULL, placed_at TEXT NOT NULL
) STRICT;
"""

Status: TypeAlias = Literal["open", "paid"]


class Invoice(msgspec.Struct, frozen=True):
    invoice_id: str
    vendor: str
    amount: Decimal
    currency: str
    due: str
    status: Status
    payment_id: str | None = None


class Payment(msgspec.Struct, frozen=True):
    payment_id: str
    invoice_id: str
    key: str | None
    amount: Decimal
    currency: str
    payment_method: str
    paid_at: str


class Order(msgspec.Struct, frozen=True):
    order_id: str
    key: str
    portfolio_id: str
    ticker: str
    side: str
    quantity: int
    price: Decimal
    currency: str
    limit_price: Decimal | None
    risk_score: Decimal
    placed_at: str


class Ledger:
    """Its calls are short and block; all of one call happens, or nothing of it."""

    def __init__(self, folder: str) -> None:
        """Raises ConfigInvalid if *folder* is none that can be written to."""
        path = Path(folder).expanduser() / FILE
        try:
            # The file is this user's alone before anything is in it.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600))
            self._base = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            self._base.executescript(_SCHEMA)
            self._begin_with(sample().invoices)
        except (OSError, sqlite3.Error) as error:
            raise ConfigInvalid(f"the ledger cannot be kept in {folder}: {error}", field="settings.folder") from error

    async def close(self) -> None:
        self._base.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that nobody else writes in. Raises ToolFailed if the ledger cannot be written."""
        try:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._base.execute("COMMIT")
            finally:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise ToolFailed(
                "The ledger cannot be written, so nothing was done.", "Try again later, with the same key."
            ) from error

    def invoices(self) -> Sequence[Invoice]:
        rows = self._rows(
            "SELECT i.invoice_id, vendor, i.amount, i.currency, due, payment_id"
            " FROM invoices i LEFT JOIN payments p ON p.invoice_id = i.invoice_id ORDER BY due, i.invoice_id"
        )
        return [
            Invoice(id, vendor, Decimal(amount), currency, due, "open" if payment is None else "paid", payment)
            for id, vendor, amount, currency, due, payment in rows
        ]

    def invoice(self, invoice_id: str) -> Invoice | None:
        return next((each for each in self.invoices() if each.invoice_id == invoice_id), None)

    def payment(self, *, key: str | None = None, invoice_id: str | None = None) -> Payment | None:
        """The one that was made with *key*, or of an invoice."""
        for row in self._rows("SELECT * FROM payments WHERE key = ? OR invoice_id = ?", key, invoice_id):
            return msgspec.convert(dict(zip(Payment.__struct_fields__, row, strict=True)), Payment)
        return None

    def add_payment(self, payment: Payment) -> None:
        values = msgspec.structs.astuple(payment)
        self._base.execute("INSERT INTO payments VALUES (?, ?, ?, ?, ?, ?, ?)", [_stored(each) for each in values])

    def orders(self, *, key: str | None = None, portfolio_id: str | None = None) -> Sequence[Order]:
        rows = self._rows(
            "SELECT * FROM orders WHERE key = ? OR portfolio_id = ? ORDER BY placed_at, order_id", key, portfolio_id
        )
        return [msgspec.convert(dict(zip(Order.__struct_fields__, row, strict=True)), Order) for row in rows]

    def add_order(self, order: Order) -> None:
        values = msgspec.structs.astuple(order)
        marks = ", ".join("?" * len(values))
        self._base.execute(f"INSERT INTO orders VALUES ({marks})", [_stored(each) for each in values])

    def _rows(self, query: str, *values: str | None) -> list[tuple[Any, ...]]:
        try:
            return self._base.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise ToolFailed("The ledger cannot be read.", "Try again later.") from error

    def _begin_with(self, invoices: Sequence[SampleInvoice]) -> None:
        with self.writing():
            for each in invoices:
                row = (each.invoice_id, each.vendor, str(each.amount), each.currency, each.due)
                self._base.execute("INSERT OR IGNORE INTO invoices VALUES (?, ?, ?, ?, ?)", row)
                if each.paid:
                    paid = (f"PAY-{each.invoice_id}", each.invoice_id, None, str(each.amount), each.currency)
                    self._base.execute(
                        "INSERT OR IGNORE INTO payments VALUES (?, ?, ?, ?, ?, 'bank_transfer', ?)",
                        (*paid, f"{each.due}T00:00:00+00:00"),
                    )


def _stored(value: object) -> object:
    return str(value) if isinstance(value, Decimal) else value
