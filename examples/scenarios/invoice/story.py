"""One payment from its contract to its record: key, scope, a yes for each, a no above 10,000, and never twice."""

from agent import Agent, Json

CALLERS = ("agent", "auditor", "controller")
PAY = "invoice/process_payment"


async def story(agent: Agent) -> None:
    agent.user("Thanh toán các hoá đơn sắp đến hạn giúp tôi.")
    await agent.tools(PAY)
    due = {each["invoice_id"]: each for each in (await agent.call("invoice/list_invoices", {}))["invoices"]}
    hosting, machines = due["INV-456"], due["INV-458"]

    agent.reason("Without a key two tries could be two payments, so the gateway does not even ask anybody.")
    await agent.refused(PAY, payment(hosting), "invalid_params")
    agent.reason("The auditor's agent can see invoices. For it there is nothing that pays them.")
    await agent.refused(PAY, payment(hosting), "tool_not_found", key="invoice-2026-INV-456", by="auditor")

    key = "invoice-2026-INV-456"
    paid = await agent.confirm(PAY, payment(hosting), person="controller", note="ordered by IT", key=key)
    agent.reason("Was that answered in time? I send it once more: the key says that it is the same payment.")
    again = await agent.call(PAY, payment(hosting), key=key)
    agent.see("one payment id", again["payment_id"] == paid["payment_id"])

    agent.reason("A new key would make it a new payment. A person might say yes; the ledger does not.")
    other = "invoice-2026-INV-456-b"
    said = await agent.confirm(PAY, payment(hosting), person="controller", note="sure?", key=other, then="failed")
    agent.reason(f"That is final and not for a retry: {said.message.partition('.')[0]}.")

    agent.reason(f"{machines['amount']} is above 10,000. The rule is not mine, and neither is the answer.")
    key = "invoice-2026-INV-458"
    await agent.confirm(PAY, payment(machines), person="controller", note="not delivered yet", key=key, yes=False)
    left = await agent.call("invoice/list_invoices", {"status": "paid"})
    agent.see("INV-456 is paid, and INV-458 is not", "INV-458" not in str(left) and "INV-456" in str(left))


def payment(invoice: Json) -> Json:
    return {"invoice_id": invoice["invoice_id"], "amount": invoice["amount"], "payment_method": "bank_transfer"}
