"""Meeting preparation: who they are, what is open, an opportunity that a person approves, and a brief."""

from agent import Agent

CALLERS = ("agent", "sales_lead")
FOLDERS = ("crm", "notes")


async def story(agent: Agent) -> None:
    agent.user("Chuẩn bị cuộc họp về tư vấn AI với khách tiềm năng: tên có 'Anh' hoặc công ty có 'Tech'.")
    found = {}
    for word in ("Anh", "Tech"):
        for each in (await agent.call("crm/search_contacts", {"query": word}))["contacts"]:
            found[each["id"]] = each
    details = [(await agent.call("crm/get_contact_details", {"contact_id": id}))["contact"] for id in found]
    new = next(each for each in details if not each["opportunities"])
    agent.reason(f"{new['name']} of {new['company']} has no opportunity yet; the others are in talks already.")

    wanted = {"contact_id": new["id"], "title": "AI Strategy Consulting", "value": 75000}
    key = "opportunity-2026-11-nordwerk"
    made = await agent.confirm("crm/create_opportunity", wanted, person="sales_lead", note="agreed", key=key)
    opportunity = made["opportunity"]

    agent.reason("The brief holds what the tools said, and what I make of it under a heading of its own.")
    brief = "\n".join(
        [
            f"# {new['name']}, {new['company']}",
            f"- {new['position']}, last contact {new['last_contact']}; notes: {new['notes']}",
            f"- {opportunity['title']}: {opportunity['value']} USD, {opportunity['stage']}",
            "## What I would do (the model's words)",
            "- Bring two references; they asked for them.",
        ]
    )
    await agent.call("files/write_file", {"path": "meeting.md", "content": brief}, key="brief-2026-11-nordwerk")
    agent.see("the brief is there", "75000" in (agent.work / "notes" / "meeting.md").read_text(encoding="utf-8"))
