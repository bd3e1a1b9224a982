"""Sales are compared with a target that is a resource; above it a report is written, and never over another unasked."""

from agent import Agent

CALLERS = ("agent",)
FOLDERS = ("crm", "office")
DIALOG = True
WRITE = "report/write_markdown"


async def story(agent: Agent) -> None:
    agent.user("Lấy doanh số tháng trước, so với mục tiêu; nếu trên 90 % thì xuất báo cáo Markdown.")
    sales = await agent.call("crm/get_sales_data", {"period": "last_month"})
    target = await agent.read("config://sales_target")
    agent.see("the target says when it was changed last", bool(target["last_updated"]))
    share = sales["actual"] / sales["target"]
    agent.reason(f"{share:.0%} of the target, and {target['threshold']:.0%} is the threshold: a report is due.")

    report = f"# Sales of {sales['period']}\n\n{sales['actual']} USD of {sales['target']} USD: {share:.0%}.\n"
    path = f"report_{share * 100:.0f}_percent.md"
    await agent.call(WRITE, {"path": path, "content": report})
    agent.reason("On second thoughts it could be more cheerful.")
    cheerful = {"path": path, "content": f"{report}\nWell done!\n"}
    await agent.refused(WRITE, cheerful, "failed")
    await agent.call(WRITE, {**cheerful, "overwrite": True})
    written = (agent.work / "office" / path).read_text(encoding="utf-8")
    agent.see("it was replaced after the yes", written.endswith("Well done!\n"))
    again = await agent.call("crm/get_sales_data", {"period": "last_month"})
    agent.see("the figures are the same, from the cache", again == sales)
