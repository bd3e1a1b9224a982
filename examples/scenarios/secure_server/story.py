"""An admin's key, a read-only key, and what neither can do: injection, wild arguments, too many calls."""

from agent import Agent

CALLERS = ("admin", "readonly")
FOLDERS = ("crm", "database")
COUNT = {"query": "SELECT COUNT(*) AS customers FROM customers"}


async def story(agent: Agent) -> None:
    agent.user("Two assistants share this endpoint. Show me what each of them can do.")
    before = await agent.call("database/query_database", COUNT, by="admin")
    await agent.call("crm/search_contacts", {"query": "Jonas", "limit": 10}, by="readonly")

    agent.reason("The read-only key wants the database as well. For it there is none, in the list or by name.")
    seen = await agent.tools(by="readonly")
    agent.see("it sees nothing of the database", not any(id.startswith("database/") for id in seen))
    await agent.refused("database/query_database", COUNT, "tool_not_found", by="readonly")

    agent.reason("Even the admin's key brings no second statement through.")
    injected = {"query": "SELECT * FROM customers; DROP TABLE customers;"}
    await agent.refused("database/query_database", injected, "failed", by="admin")
    after = await agent.call("database/query_database", COUNT, by="admin")
    agent.see("all customers are still there", after["rows"] == before["rows"])

    agent.reason("A limit of a million, and then one call too many in this minute.")
    await agent.refused("crm/search_contacts", {"query": "", "limit": 1000000}, "invalid_argument", by="readonly")
    await agent.call("crm/search_contacts", {"query": "'; --", "limit": 10}, by="readonly")
    await agent.refused("crm/search_contacts", {"query": "Anh"}, "rate_limited", by="readonly")
