"""The connection breaks after the order was made: sent again with its key, it is answered and not ordered twice."""

from agent import Agent

CALLERS = ("agent",)
ORDER = {"customer": "X", "product": "Y", "quantity": 3}
KEY = "ORDER-REQ-2026-12345"


async def story(agent: Agent) -> None:
    orders = agent.work / "orders.txt"
    agent.user("Tạo đơn hàng mới cho khách X: ba cái Y.")
    agent.reason(f"An order is to be made once, so it gets a key: {KEY}.")
    await agent.lost("crm/create_order", ORDER, key=KEY, once=orders.exists)
    agent.see("the order is in the books, though nobody heard so", len(lines(orders.read_text())) == 1)

    agent.reason("No answer: it may have run. The same call with the same key does no harm.")
    made = await agent.call("crm/create_order", ORDER, key=KEY)
    agent.see(f"{made['order_id']} is the only order", len(lines(orders.read_text())) == 1)

    agent.reason("The same key for four of them would be another order: that is a slip of mine.")
    await agent.refused("crm/create_order", {**ORDER, "quantity": 4}, "key_mismatch", key=KEY)


def lines(text: str) -> list[str]:
    return text.splitlines()
