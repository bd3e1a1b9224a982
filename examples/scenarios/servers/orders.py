"""Orders of customers: lines of $WORK/orders.txt. Each call makes a new order, and takes its time to say so."""

import os
import time
from pathlib import Path
from typing import Any

from tiny import Server

server = Server("crm")
ORDERS = Path(os.environ["WORK"]) / "orders.txt"
SLOW_S = 0.6  # from the order to the answer


@server.tool
def create_order(customer: str, product: str, quantity: int) -> dict[str, Any]:
    """Orders a product for a customer. SIDE EFFECT."""
    with ORDERS.open("a", encoding="utf-8") as lines:
        print(customer, product, quantity, sep="\t", file=lines)
    time.sleep(SLOW_S)
    return {"order_id": f"ORDER-{len(ORDERS.read_text(encoding='utf-8').splitlines()):05}"}


server.run()
