"""A bank that lends to small firms: `bank.py finance|risk|policy|crm|email`, each a server of its own.

Reports are PDFs in $WORK/reports, the customers' files $WORK/customers.json, mails lines of $WORK/mails.txt.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from tiny import Failed, Server

WORK = Path(os.environ["WORK"])
CUSTOMERS = WORK / "customers.json"

server = Server(sys.argv[1])


def get_report(customer_id: str) -> dict[str, Any]:
    """Finds the last financial report of a customer."""
    path = WORK / "reports" / f"{customer_id}.pdf"
    if not path.is_file():
        raise Failed(f"There is no report of {customer_id}. Ask for another customer.")
    return {"report_path": f"reports/{customer_id}.pdf", "size_bytes": path.stat().st_size}


def analyze_pdf(report_path: str) -> dict[str, Any]:
    """Reads a report and scores its risk from 0 to 100."""
    text = " ".join(re.findall(r"\((.*?)\) Tj", (WORK / report_path).read_text(encoding="ascii")))
    assets, debts, equity = (amount(name, text) for name in ("Current assets", "Current liabilities", "Equity"))
    liquidity = assets / debts
    score = round(max(0.0, min(100.0, 125 - 40 * liquidity - 60 * equity / assets)))
    return {"risk_score": score, "liquidity_ratio": round(liquidity, 2)}


def amount(name: str, text: str) -> float:
    found = re.search(rf"{name}: ([0-9]+)", text)
    if not found:
        raise Failed(f"The report does not say {name}. Have it made again.")
    return float(found[1])


def risk_thresholds() -> dict[str, Any]:
    return {"low_risk_max": 50, "high_risk_min": 80, "last_updated": "2026-11-01"}


def update_status(customer_id: str, status: str, score: int) -> dict[str, Any]:
    """Writes a decision into a customer's file. SIDE EFFECT."""
    return changed(customer_id, status=status, score=score)


def update_loan_amount(customer_id: str, amount_usd: float) -> dict[str, Any]:
    """Changes how much a customer may borrow. SIDE EFFECT."""
    return changed(customer_id, loan_usd=amount_usd)


def changed(customer_id: str, **facts: Any) -> dict[str, Any]:
    customers = json.loads(CUSTOMERS.read_text(encoding="utf-8")) if CUSTOMERS.exists() else {}
    customers[customer_id] = customers.get(customer_id, {}) | facts
    CUSTOMERS.write_text(json.dumps(customers), encoding="utf-8")
    return {"record_id": f"CRM-{customer_id}", **customers[customer_id]}


def send_notification(recipient: str, subject: str, body: str) -> dict[str, Any]:
    """Mails a notification. SIDE EFFECT."""
    with (WORK / "mails.txt").open("a", encoding="utf-8") as lines:
        print(recipient, subject, body, sep="\t", file=lines)
    return {"message_id": "N-0001"}


TOOLS: dict[str, list[Any]] = {
    "finance": [get_report],
    "risk": [analyze_pdf],
    "policy": [],
    "crm": [update_status, update_loan_amount],
    "email": [send_notification],
}
for tool in TOOLS[sys.argv[1]]:
    server.tool(tool)
if sys.argv[1] == "policy":
    server.resource("policy://risk_thresholds")(risk_thresholds)
server.run()
