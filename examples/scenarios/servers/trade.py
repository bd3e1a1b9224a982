"""A trading desk: `trade.py risk|compliance|trading`.

Risk checks are kept in $WORK/checks.json, orders are lines of $WORK/orders.txt.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from tiny import Failed, Server

WORK = Path(os.environ["WORK"])
CHECKS = WORK / "checks.json"
WORTH_USD = {"P-1": 2_000_000.0, "P-2": 1_000_000.0}  # of the portfolios

server = Server(sys.argv[1])


def calculate_risk(portfolio_id: str, order_value_usd: float) -> dict[str, Any]:
    """Says how much of its portfolio an order puts at risk, from 0 to 1."""
    if portfolio_id not in WORTH_USD:
        raise Failed(f"There is no portfolio {portfolio_id}; there are {', '.join(WORTH_USD)}.")
    score = round(min(1.0, order_value_usd / WORTH_USD[portfolio_id]), 2)
    checks = known()
    checks.append({"portfolio_id": portfolio_id, "order_value_usd": order_value_usd, "risk_score": score})
    CHECKS.write_text(json.dumps(checks), encoding="utf-8")
    return {"risk_check": len(checks), "risk_score": score}


def request_approval(risk_score: float, trader_id: str) -> dict[str, Any]:
    """Asks compliance about a risky order."""
    approved = trader_id == "senior"
    return {"approved": approved, "reason": "within the desk's limit" if approved else "not for this trader"}


def execute_order(
    portfolio_id: str, order_value_usd: float, risk_check: int, risk_score: float, compliance: str
) -> dict[str, Any]:
    """Executes an order whose risk was checked. SIDE EFFECT."""
    said = {"portfolio_id": portfolio_id, "order_value_usd": order_value_usd, "risk_score": risk_score}
    checks = known()
    if not 0 < risk_check <= len(checks) or checks[risk_check - 1] != said:
        raise Failed(f"Risk check {risk_check} was of another order, or came to another score. Check the risk again.")
    with (WORK / "orders.txt").open("a", encoding="utf-8") as lines:
        print(portfolio_id, order_value_usd, compliance, file=lines)
    return {"order_id": f"T-{risk_check:04}", "executed": True}


def known() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(CHECKS.read_text(encoding="utf-8")) if CHECKS.exists() else []
    return found


TOOLS: dict[str, list[Any]] = {"risk": [calculate_risk], "compliance": [request_approval], "trading": [execute_order]}
for tool in TOOLS[sys.argv[1]]:
    server.tool(tool)
server.run()
