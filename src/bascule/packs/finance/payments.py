"""Invoices: which there are, and paying one of them once. No money moves: the ledger is all there is to it."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from bascule.packs.finance.ledger import Invoice, Ledger, Payment
from bascule.packs.finance.market import sample
from bascule.packs.finance.numbers import decimal_of, number
from bascule.packs.pack import Asked, ToolFailed

SOURCE: Final = "sample ledger of Bascule: no money moves"


class ListInvoices(msgspec.Struct, frozen=True):
    status: Literal["open", "paid", "all"] = "open"
    limit: int = 20


class ProcessPayment(msgspec.Struct, frozen=True):
    invoice_id: str
    amount: float
    payment_method: Literal["bank_transfer", "card", "direct_debit"]
    idempotency_key: str | None = None


class Payments:
    """The two tools of invoices."""

    def __init__(self, ledger: Ledger | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._ledger = ledger
        self._now = now

    async def list_invoices(self, wanted: ListInvoices, asked: Asked) -> dict[str, Any]:
        del asked
        known = self._invoices()
        found = [each for each in known if wanted.status in ("all", each.status)]
        shown = [_shown(each) for each in found[: wanted.limit]]
        return {"invoices": shown, "total": len(found), "truncated": len(found) > len(shown), "source": SOURCE}

    async def process_payment(self, wanted: ProcessPayment, asked: Asked) -> dict[str, Any]:
        if self._ledger is None:
            raise ToolFailed(
                "Payments are off: no folder is set for their ledger.", "Tell the person who runs this server."
            )
        key = key_of(wanted.idempotency_key, asked)
        amount = decimal_of(wanted.amount, "amount", places=2)
        with self._ledger.writing():
            if (before := self._ledger.payment(key=key)) is not None:
                return _receipt(_same(before, wanted, amount), replayed=True)
            payment = self._payment(self._payable(self._ledger, wanted, amount), wanted, key)
            self._ledger.add_payment(payment)
        return _receipt(payment, replayed=False)

    def _invoices(self) -> list[Invoice]:
        if self._ledger is not None:
            return list(self._ledger.invoices())
        return [
            Invoice(each.invoice_id, each.vendor, each.amount, each.currency, each.due, "paid" if each.paid else "open")
            for each in sample().invoices
        ]

    @staticmethod
    def _payable(ledger: Ledger, wanted: ProcessPayment, amount: Decimal) -> Invoice:
        """The invoice, if it is open and for this amount. Raises ToolFailed."""
        invoice = ledger.invoice(wanted.invoice_id)
        if invoice is None:
            raise ToolFailed(f"There is no invoice {wanted.invoice_id}.", "Look it up with invoice/list_invoices.")
        if (paid := ledger.payment(invoice_id=invoice.invoice_id)) is not None:
            raise ToolFailed(
                f"409 Conflict: the invoice {invoice.invoice_id} was paid at {paid.paid_at} with {paid.payment_id}.",
                "Nothing was paid again. Do not try again: tell the user.",
            )
        if amount != invoice.amount:
            raise ToolFailed(
                f"The amount {amount} is not the {invoice.amount} {invoice.currency} of {invoice.invoice_id}.",
                "Nothing was paid. Pay the exact amount, or ask the user.",
            )
        return invoice

    def _payment(self, invoice: Invoice, wanted: ProcessPayment, key: str) -> Payment:
        return Payment(
            payment_id=deed_id("PAY", key),
            invoice_id=invoice.invoice_id,
            key=key,
            amount=invoice.amount,
            currency=invoice.currency,
            payment_method=wanted.payment_method,
            paid_at=self._now().isoformat(timespec="seconds"),
        )


def key_of(said: str | None, asked: Asked) -> str:
    """The key of a deed: the argument, or what came with the call. Raises ToolFailed if there is neither."""
    if said is not None:
        return f"argument:{said}"
    if asked.key is not None:
        return f"call:{asked.key}"
    raise ToolFailed(
        "There is no idempotency key, so nothing was done.",
        "Send one with the call, or as idempotency_key: made once for this deed, and the same with every try.",
    )


def deed_id(kind: str, key: str) -> str:
    """A short id of what is done with *key*, always the same for it."""
    return f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:12].upper()}"


def different_deed() -> ToolFailed:
    return ToolFailed(
        "This idempotency key was used for something else.", "Nothing was done. Use a new key for a new deed."
    )


def _same(before: Payment, wanted: ProcessPayment, amount: Decimal) -> Payment:
    if (before.invoice_id, before.payment_method, before.amount) != (wanted.invoice_id, wanted.payment_method, amount):
        raise different_deed()
    return before


def _receipt(payment: Payment, *, replayed: bool) -> dict[str, Any]:
    return {
        "status": "paid",
        "payment_id": payment.payment_id,
        "invoice_id": payment.invoice_id,
        "amount": number(payment.amount, 2),
        "currency": payment.currency,
        "payment_method": payment.payment_method,
        "paid_at": payment.paid_at,
        "replayed": replayed,
        "simulated": True,
        "source": SOURCE,
    }


def _shown(invoice: Invoice) -> dict[str, Any]:
    return {**msgspec.structs.asdict(invoice), "amount": number(invoice.amount, 2)}
