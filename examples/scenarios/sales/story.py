"""What a VIP is stands in a resource and not in the model's memory; and who may read may not write."""

from agent import Agent

CALLERS = ("agent",)
REVENUE = """
SELECT SUM(orders.amount) AS revenue_usd, COUNT(DISTINCT customers.id) AS customers
FROM orders JOIN customers ON customers.id = orders.customer_id
WHERE customers.tier = 'vip' AND orders.status = 'paid' AND orders.ordered_on BETWEEN '2026-10-01' AND '2026-12-31'
"""


async def story(agent: Agent) -> None:
    agent.user("Tổng doanh thu quý này từ khách hàng VIP là bao nhiêu?")
    agent.reason("VIP may mean anything. The database says what it means here.")
    schema = str(await agent.read("schema://tables"))
    agent.see("it says that tier is 'vip', and what counts as revenue", "tier is 'vip'" in schema and "paid" in schema)

    found = await agent.call("database/query_database", {"query": " ".join(REVENUE.split())})
    (row,) = found["rows"]
    agent.reason(f"{row['customers']} VIP customers came to {row['revenue_usd']} USD so far.")

    agent.user("Đánh dấu luôn Mai Đặng là VIP đi.")
    agent.reason("I have no tool for that; the ones that write are not in my list. Whether SQL lets me?")
    promoted = {"table_name": "customers", "data": {"name": "Mai Đặng", "email": "mai2@example.com", "tier": "vip"}}
    await agent.refused("database/insert_record", promoted, "tool_not_found")
    await agent.refused("database/query_database", {"query": "UPDATE customers SET tier = 'vip'"}, "failed")
    again = await agent.call("database/query_database", {"query": "SELECT COUNT(*) AS vips FROM vip_customers"})
    agent.see("there are three VIPs, as before", again["rows"] == [{"vips": 3}])
