"""Pipeline analysis: the prospects and their worth by tools, the advice by the model, and last month's report stays."""

import asyncio

from agent import Agent

CALLERS = ("agent",)
FOLDERS = ("crm", "reports")
DIALOG = True
OLD = "# Pipeline of October\n"


async def story(agent: Agent) -> None:
    old = agent.work / "reports" / "pipeline.md"
    old.write_text(OLD, encoding="utf-8")
    agent.user("Phân tích pipeline: các prospect, tổng giá trị tiềm năng, và nên làm gì để họ thành khách hàng.")
    prospects = (await agent.call("crm/search_contacts", {"status": "prospect"}))["contacts"]
    agent.reason(f"{len(prospects)} prospects. Their details do not depend on each other: all at once.")
    asked = (agent.call("crm/get_contact_details", {"contact_id": each["id"]}) for each in prospects)
    details = [each["contact"] for each in await asyncio.gather(*asked)]
    worth = sum(deal["value"] for each in details for deal in each["opportunities"])
    idle = [each["name"] for each in details if not each["opportunities"]]
    agent.reason(f"Together {worth:.0f} USD; nothing is open for {', '.join(idle)}. I would call them first.")

    agent.reason("An opportunity for them would lift the sum. To make one is not my part: I only read here.")
    wish = {"contact_id": prospects[0]["id"], "title": "Something", "value": 5000}
    await agent.refused("crm/create_opportunity", wish, "tool_not_found", key="pipeline-2026-11-wish")

    report = f"# Pipeline of November\n{worth:.0f} USD from {len(prospects)} prospects.\n"
    agent.says_yes = False
    replacing = {"path": "pipeline.md", "content": report, "overwrite": True}
    await agent.refused("files/write_file", replacing, "confirmation_denied")
    agent.reason("The report of October is to stay. Then under another name, which nobody has to be asked about.")
    await agent.call("files/write_file", {"path": "pipeline-2026-11.md", "content": report})
    kept = old.read_text(encoding="utf-8") == OLD
    agent.see("both reports are there", kept and (agent.work / "reports" / "pipeline-2026-11.md").is_file())
